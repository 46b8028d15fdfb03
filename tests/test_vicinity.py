"""The vicinal distributions: what they draw, by statistics, and what they refuse."""

import math
import pickle
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

import vicinal as v
from vicinal import keyed
from vicinities import CASES, CLASSES, GRID, content, flat_plans, ids, images, noise

X, Y = images(7), ids(7)


# -- Mixup and InputMixup ----------------------------------------------------------------------------------------------


def test_mixup_is_the_paper():
    """One lambda ~ Beta(alpha, alpha) and one random permutation for the batch; inputs and labels share them."""
    plan = v.Mixup(alpha=0.2).plan(7, Y, step=3)
    assert plan.weight.unique().numel() == 1
    assert sorted(plan.partner.tolist()) == list(range(7))
    lam = plan.weight[0].item()
    eye = torch.eye(7)
    torch.testing.assert_close(plan(eye), lam * eye + (1 - lam) * eye[plan.partner])
    target = plan.target(Y)
    assert torch.equal(target.ids, torch.stack([Y, Y[plan.partner]]))
    assert torch.equal(target.weight, plan.shares.T)


def test_input_mixup_gives_the_label_of_the_larger_share():
    for alpha in (v.Beta(1.0, per="example"), v.Dirichlet(1.0, k=3, per="example"), 1.0):
        plan = v.InputMixup(alpha, seed=0).plan(50, ids(50), step=1)
        assert torch.equal(plan.target_shares.sum(1), torch.ones(50))
        assert torch.equal(plan.target_shares.argmax(1), plan.shares.argmax(1))
        assert torch.equal(plan.target_shares.unique(), torch.tensor([0.0, 1.0]))
    same = v.Mixup(alpha, seed=0).plan(50, ids(50), step=1)
    assert content([same.partner, same.weight]) == content([plan.partner, plan.weight])


def test_input_mixup_mixes_inputs_and_not_numbers():
    plan = v.InputMixup(1.0).plan(7, step=1)
    y = noise(7)
    nearer = torch.where(plan.weight >= 0.5, y, y[plan.partner])
    assert torch.equal(plan.target(y), nearer)


# -- CutMix ------------------------------------------------------------------------------------------------------------


def areas(plan):
    return (plan.box[..., 1] - plan.box[..., 0]).prod(-1)


@pytest.mark.parametrize("per", ["batch", "example"])
@pytest.mark.parametrize("grid", [(6, 5), (7,), (2, 3, 4), (1, 9), (32, 32)])
def test_cutmix_shares_are_those_of_the_cells(grid, per):
    n, cells = 5, math.prod(grid)
    x = torch.arange(n).reshape(n, *(1,) * (len(grid) + 1)).expand(n, 2, *grid).double()  # every cell says whose it is
    boxes = []
    for step in range(30):
        plan = v.CutMix(1.0, per=per, pairing=v.RandomPairs(self_pairs=False), dims=len(grid)).plan(
            n, None, x, step=step
        )
        got = plan(x)
        for i in range(n):
            own = (got[i, 0] == i).sum().item()
            assert ((got[i, 0] == i) | (got[i, 0] == plan.partner[i])).all()
            assert plan.weight[i].item() == pytest.approx(own / cells, abs=1e-7)
        boxes.append(len(plan.box.unique(dim=0)))
    assert (max(boxes) == 1) == (per == "batch")


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("grid", [(9, 14), (16,), (4, 5, 6)])
def test_boxes_have_the_law_they_say(grid, alpha):
    """Side = round((1 - lambda)**(1/d) * size) around a uniform center, clipped; exactly, for every draw."""
    x = torch.empty(1, 1, *grid).expand(4000, 1, *grid)
    vicinity = v.CutMix(alpha, per="example", dims=len(grid), seed=0)
    box = vicinity.plan(4000, None, x, step=0).box
    lam = v.Key(0, 0, 0, 0).generator().beta(alpha, alpha, 4000)  # the first thing that is drawn
    for d, size in enumerate(grid):
        side = torch.from_numpy(np.rint((1 - lam) ** (1 / len(grid)) * size)).long()
        start, stop = box[:, d].unbind(1)
        assert ((start >= 0) & (start <= stop) & (stop <= size)).all()
        clipped = (start == 0) | (stop == size)
        assert ((stop - start == side) | (clipped & (stop - start < side))).all()
        for s in range(1, size - 2):  # boxes that are not clipped start everywhere equally often
            counts = torch.bincount(start[(side == s) & ~clipped], minlength=size)[1 : size - s]
            assert counts.sum() < 50 or stats.chisquare(counts).pvalue > 1e-3


def test_expected_area_of_boxes():
    """The mean share against a double sum over all lambdas and centers."""
    h, w, n = 8, 6, 20_000
    plan = v.CutMix(1.0, per="example").plan(n, None, torch.empty(1, 3, h, w).expand(n, 3, h, w), step=0)

    def covered(size, side):
        starts = np.floor(np.arange(0.25, size, 0.5) - (side - 1) / 2)  # centers in either half of a cell
        return (np.clip(starts + side, 0, size) - np.clip(starts, 0, size)).mean()

    grid = (np.arange(5000) + 0.5) / 5000  # lambda is uniform at alpha = 1
    root = np.sqrt(1 - grid)
    mean = np.mean([covered(h, int(np.rint(r * h))) * covered(w, int(np.rint(r * w))) for r in root]) / (h * w)
    assert (1 - plan.weight).double().mean().item() == pytest.approx(mean, abs=4 * 0.3 / math.sqrt(n))


@pytest.mark.parametrize("size", [4, 5])
def test_every_cell_can_be_covered_and_can_stay(size):
    n = 20_000
    plan = v.CutMix(1.0, per="example").plan(n, None, torch.empty(1, 1, size, size).expand(n, 1, size, size), step=0)
    at = torch.arange(size)
    (top, left), (bottom, right) = plan.box[..., 0].unbind(1), plan.box[..., 1].unbind(1)
    rows = (at >= top[:, None]) & (at < bottom[:, None])
    columns = (at >= left[:, None]) & (at < right[:, None])
    share = (rows[:, :, None] & columns[:, None, :]).double().mean(0)
    assert share.min() > 0.1
    assert share.max() < 0.9
    for mirrored in (share.T, share.flip(0), share.flip(1)):  # boxes lean to no side
        assert (share - mirrored).abs().max() < 4.5 * (0.5 / n) ** 0.5


def test_cutmix_looks_at_the_picture_among_the_inputs():
    x = {"code": noise(5, 40), "image": images(5), "age": noise(5)}
    plan = v.CutMix(1.0).plan(5, ids(5), x, step=0, seed=0)
    assert plan.grid == GRID
    got, y = v.CutMix(1.0, seed=0)(x, {"class": ids(5), "mask": torch.zeros(5, *GRID, dtype=torch.uint8)})
    assert torch.equal(got["image"], plan(x["image"]))
    assert torch.equal(y["class"].weight[0], plan.weight)
    assert y["mask"].shape == (5, *GRID)


def test_cutmix_of_signals_and_volumes():
    for shape, dims in (((5, 2, 11), None), ((5, 1, 3, 4, 5), 3)):
        x = noise(*shape)
        got, y = v.CutMix(1.0, dims=dims)(x, ids(5))
        assert got.shape == x.shape
        assert y.weight.shape == (2, 5)


@pytest.mark.parametrize("shape", [(5,), (5, 3, 0, 4), (5, 3, 0)])
def test_cutmix_needs_a_grid(shape):
    with pytest.raises(ValueError, match=r"CutMix needs .*to cut boxes from, got (inputs )?\[5"):
        v.CutMix().plan(5, None, torch.zeros(shape), step=0)


def test_cutmix_needs_inputs():
    with pytest.raises(ValueError, match=r"CutMix looks at the shape of the inputs: give them to plan\(n, y, x\)"):
        v.CutMix().plan(5, ids(5), step=0)


# -- GaussianNoise and LabelSmoothing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.05, 2.0])
def test_noise_has_the_moments_of_a_normal(sigma):
    x = noise(200, 500)
    drawn = (v.GaussianNoise(sigma)(x, ids(200))[0] - x).flatten() / sigma
    n = drawn.numel()
    assert abs(drawn.mean()) < 4 / n**0.5
    assert abs(drawn.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs((drawn**3).mean()) < 4 * (15 / n) ** 0.5
    assert stats.kstest(drawn.numpy(), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 4 / n**0.5


def test_noise_of_nothing_is_nothing():
    assert torch.equal(v.GaussianNoise(0.0)(X, Y)[0], X)


def test_noise_and_smoothing_leave_the_other_side_alone():
    x, y = v.GaussianNoise(1.0)(X, Y)
    assert torch.equal(y.dense(CLASSES), torch.nn.functional.one_hot(Y, CLASSES).float())
    x, y = v.LabelSmoothing(0.3)(X, Y)
    assert x is X
    torch.testing.assert_close(y.dense(CLASSES), torch.nn.functional.one_hot(Y, CLASSES) * 0.7 + 0.1)


# -- compositions ------------------------------------------------------------------------------------------------------


def test_a_chain_applies_its_parts_in_order():
    chain = v.Chain([v.Mixup(1.0), v.CutMix(1.0), v.LabelSmoothing(0.2)])
    plan = chain.plan(7, Y, X, step=4)
    first, second, third = flat_plans(plan)
    assert torch.equal(plan(X), second(first(X)))
    torch.testing.assert_close(
        plan.target(Y).dense(CLASSES), 0.8 * second.target(first.target(Y)).dense(CLASSES) + 0.2 / CLASSES
    )
    assert third.smoothing == 0.2


def test_the_parts_of_a_composition_draw_apart():
    chain = v.Chain([v.Mixup(1.0), v.Mixup(1.0), v.Chain([v.Mixup(1.0), v.Mixup(1.0)])])
    plans = flat_plans(chain.plan(7, Y, X, step=0))
    assert len(plans) == 4
    assert len({plan.weight[0].item() for plan in plans}) == 4
    assert len({tuple(plan.partner.tolist()) for plan in plans}) == 4


@pytest.mark.parametrize("p", [None, [0.5, 0.5], (0.2, 0.8), [1, 0], np.array([0.9, 0.1])])
def test_choice_has_the_frequencies_it_was_given(p):
    choice = v.Choice([v.ERM(), v.Mixup(1.0, v.RandomPairs(self_pairs=False))], p=p)
    steps = 4000
    mixed = sum(choice.plan(4, step=step).partners.shape[1] for step in range(steps)) / steps
    expected = 0.5 if p is None else p[1]
    assert abs(mixed - expected) <= 4 * (expected * (1 - expected) / steps) ** 0.5


def test_choice_does_not_shift_the_law_of_its_parts():
    choice = v.Choice([v.Mixup(0.4), v.Mixup(0.4, v.RandomPairs(self_pairs=False))])
    lam = [choice.plan(4, step=step).weight[0].item() for step in range(3000)]
    assert stats.kstest(lam, stats.beta(0.4, 0.4).cdf).pvalue > 1e-3


def test_choice_takes_probabilities_as_people_write_them():
    choice = v.Choice([v.Mixup(0.1), v.Mixup(0.2), v.Mixup(0.3)], p=[0.3333333, 0.3333333, 0.3333333])
    choice.plan(4, step=0)
    assert sum(choice.p) == pytest.approx(1, abs=1e-12)
    assert v.Choice([v.ERM(), v.Mixup()], p=[0.5, 0.5]).p == (0.5, 0.5)


def test_arguments_are_copied():
    parts, p = [v.ERM(), v.Mixup()], [0.5, 0.5]
    choice, chain = v.Choice(parts, p), v.Chain(parts)
    parts.append(v.CutMix())
    p[0] = 9
    assert (len(choice.parts), choice.p, len(chain.parts)) == (2, (0.5, 0.5), 2)


def test_a_schedule_is_on_in_its_epochs_and_off_in_others():
    whole = v.Scheduled(v.Mixup(1.0), start=2, stop=4)
    on = [whole.plan(7, step=0, epoch=epoch).partners.shape[1] for epoch in range(6)]
    assert on == [0, 0, 1, 1, 0, 0]
    assert [v.Scheduled(v.Mixup(), 1).plan(7, step=0, epoch=e).partners.shape[1] for e in (0, 1, 10**6)] == [0, 1, 1]
    inside = v.Chain([v.LabelSmoothing(0.1), v.Scheduled(v.Mixup(), 1)])
    inside.set_epoch(0)
    assert torch.equal(inside(X, Y)[0], X)
    inside.set_epoch(1)
    assert not torch.equal(inside(X, Y)[0], X)


def test_a_schedule_without_an_epoch_is_refused():
    schedule = v.Scheduled(v.Mixup())
    for use in (lambda: schedule(X, Y), lambda: schedule.plan(7, step=0), lambda: v.Chain([schedule])(X, Y)):
        with pytest.raises(ValueError, match=r"Scheduled needs the epoch: call set_epoch\(epoch\) .* or give plan"):
            use()


# -- the warning for a batch of one ------------------------------------------------------------------------------------

ALONE = [case for case in CASES if "mix" in case.name or case.name in ("smote", "choice", "scheduled-on")]
NOT_ALONE = [case for case in CASES if case.name in ("erm", "noise", "smoothing", "scheduled-off")]


def one_row(case):
    x = X[:1]
    y = noise(1) if case.numbers else Y[:1]
    vicinity = case.fresh()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        vicinity(x, y), vicinity.plan(1, y, x, step=0, epoch=case.epoch)
    line = one_row.__code__.co_firstlineno + 6
    return [(w.filename, w.lineno, str(w.message)) for w in caught], (__file__, line)


@pytest.mark.parametrize("case", ALONE, ids=str)
def test_one_row_alone_warns_once_at_the_line_of_the_user(case):
    caught, here = one_row(case)
    assert [w[:2] for w in caught] == [here]
    assert "a batch of one example has nobody to mix with" in caught[0][2]


@pytest.mark.parametrize("case", NOT_ALONE, ids=str)
def test_what_mixes_nothing_does_not_warn(case):
    assert one_row(case)[0] == []


def test_a_loop_warns_once():
    mixup = v.Mixup()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(5):
            mixup(X[:1], Y[:1])
        mixup.off()
        mixup(X[:1], Y[:1])
    assert len(caught) == 1


# -- the one line ------------------------------------------------------------------------------------------------------


def test_inputs_that_are_no_batch_are_refused():
    for x in (None, {}, [None], torch.tensor(1.0)):
        with pytest.raises(TypeError, match=r"a batch is a tensor \[n, ...\] or a pytree of them, got \w+ without any"):
            v.Mixup()(x, Y)
    for x in (np.zeros((3, 2)), [[1.0, 2.0]], "x"):
        with pytest.raises(TypeError, match=r"input.* is a \w+.*, and only tensors can be mixed"):
            v.Mixup()(x, Y)


def test_inputs_and_targets_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"target has shape \[6\], but the plan was drawn for 7 rows"):
        v.Mixup()(X, Y[:6])
    with pytest.raises(ValueError, match=r"input\['b'\] has shape \[6, 3, 6, 5\], but the plan was drawn for 7 rows"):
        v.Mixup()({"a": X, "b": X[:6]}, Y)


def test_no_targets():
    x, y = v.Mixup()(X, None)
    assert y is None
    assert not torch.equal(x, X)


@pytest.mark.parametrize("n", [X, -1, 3.0, "7", None])
def test_n_is_a_number_of_rows(n):
    with pytest.raises(ValueError, match=r"n is the number of rows, len\(x\), an integer >= 0, got"):
        v.Mixup().plan(n, Y, step=0)


@pytest.mark.parametrize("make", [case.vicinity.__class__ for case in CASES[:3]] + [v.CutMix, v.GaussianNoise])
@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "a"])
def test_seeds_out_of_range_are_refused_at_once(make, seed):
    with pytest.raises(ValueError, match=r"seed must be an integer in \[0, 2\*\*64\), got"):
        make(seed=seed)


def test_seeds_of_every_vicinity_are_checked():
    for case in CASES:
        fields = {
            f: getattr(case.vicinity, f) for f in case.vicinity.__dataclass_fields__ if f not in ("seed", "_state")
        }
        with pytest.raises(ValueError, match="seed must be"):
            type(case.vicinity)(**fields, seed=-1)


@pytest.mark.parametrize("step", [-1, 2**64, 0.5, None])
def test_steps_out_of_range_are_refused(step):
    with pytest.raises(ValueError, match=r"step must be an integer in \[0, 2\*\*64\)"):
        v.Mixup().plan(4, step=step)


REFUSED = [
    (lambda: v.GaussianNoise(-0.1), ValueError, "sigma is a standard deviation and must be finite and >= 0, got -0.1"),
    (lambda: v.GaussianNoise(float("nan")), ValueError, "sigma is a standard deviation .* got nan"),
    (lambda: v.GaussianNoise(float("inf")), ValueError, "sigma is a standard deviation .* got inf"),
    (lambda: v.GaussianNoise("a"), TypeError, "sigma must be a number, got 'a'"),
    (lambda: v.LabelSmoothing(-0.1), ValueError, r"eps is a share of the label and must lie in \[0, 1\], got -0.1"),
    (lambda: v.LabelSmoothing(1.1), ValueError, "eps is a share .* got 1.1"),
    (lambda: v.LabelSmoothing(float("nan")), ValueError, "eps is a share .* got nan"),
    (lambda: v.LabelSmoothing(None), TypeError, "eps must be a number, got None"),
    (lambda: v.CutMix(v.Beta(1.0)), TypeError, "alpha must be a number, got Beta"),
    (lambda: v.Mixup(v.Mixup()), TypeError, "alpha must be a number, got Mixup"),
    (lambda: v.Chain([]), TypeError, r"a composition needs one or more vicinities, got \[\]"),
    (lambda: v.Chain(v.Mixup()), TypeError, "a composition needs one or more vicinities, got Mixup"),
    (lambda: v.Chain([v.Mixup(), 0.3]), TypeError, "a composition needs one or more vicinities, got"),
    (lambda: v.Choice([]), TypeError, "a composition needs one or more vicinities"),
    (lambda: v.Scheduled(0.4), TypeError, "a composition needs one or more vicinities"),
    (
        lambda: v.Chain([v.Mixup(seed=3)]),
        ValueError,
        "the seed belongs to the outermost vicinity: take it out of Mixup",
    ),
    (lambda: v.Choice([v.ERM(), v.CutMix(seed=3)]), ValueError, "the seed belongs to the outermost vicinity"),
    (lambda: v.Scheduled(v.Mixup(seed=3)), ValueError, "the seed belongs to the outermost vicinity"),
    (
        lambda: v.Choice([v.ERM(), v.Mixup()], p=[1.0]),
        ValueError,
        r"p must hold 2 probabilities that sum to 1, got \[1.0\]",
    ),
    (lambda: v.Choice([v.ERM(), v.Mixup()], p=[0.5, 0.6]), ValueError, "p must hold 2 probabilities"),
    (lambda: v.Choice([v.ERM(), v.Mixup()], p=[-0.5, 1.5]), ValueError, "p must hold 2 probabilities"),
    (lambda: v.Choice([v.ERM(), v.Mixup()], p=[float("nan"), 1]), ValueError, "p must hold 2 probabilities"),
    (lambda: v.Choice([v.ERM(), v.Mixup()], p=0.5), ValueError, "p must hold 2 probabilities that sum to 1, got 0.5"),
    (lambda: v.Choice([v.ERM(), v.Mixup()], p=["a", "b"]), ValueError, "p must hold 2 probabilities"),
    (
        lambda: v.Scheduled(v.Mixup(), start=-1),
        ValueError,
        "epochs are integers and count from 0, got -1",
    ),
    (lambda: v.Scheduled(v.Mixup(), 5, 3), ValueError, "epochs run from start to stop >= start, got 5 to 3"),
    (lambda: v.Mixup().set_epoch(-1), ValueError, "epochs are integers and count from 0, got -1"),
]


@pytest.mark.parametrize(("act", "error", "sentence"), REFUSED)
def test_bad_input_is_refused(act, error, sentence):
    with pytest.raises(error, match=sentence) as caught:
        act()
    assert "\n" not in str(caught.value)


def test_a_failed_state_changes_nothing():
    mixup = v.Mixup()
    mixup.set_epoch(2)
    mixup(X, Y)
    before = mixup.state_dict()
    good = {"seed": 2**63 + 5, "on": False, "epoch": 7, "steps": [9]}
    for bad in ({}, {"on": True}, {**good, "steps": [-1]}, {**good, "steps": [0] * 5000}, {**good, "epoch": -3}):
        with pytest.raises(ValueError, match=r"not the state of a vicinity|steps must be up to|and count from 0"):
            mixup.load_state_dict(bad)
        assert mixup.state_dict() == before
    mixup.load_state_dict(good)
    assert mixup.state.numbers() == good


# -- one's own vicinity ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Neighbors(v.Vicinity):
    """Half of oneself and half of the next row."""

    share: float = 0.5

    def draw(self, key, n, y, x, epoch):
        return v.MixPlan((torch.arange(n) + 1) % max(n, 1), torch.full((n,), self.share))


def test_a_new_vicinity_is_one_small_class():
    own = Neighbors(0.75, seed=3)
    x, y = own(torch.eye(3), torch.tensor([0, 1, 2]))
    assert x.tolist() == [[0.75, 0.25, 0], [0, 0.75, 0.25], [0.25, 0, 0.75]]
    assert torch.equal(y.dense(3), x)
    assert pickle.loads(pickle.dumps(own)) == own
    v.Chain([Neighbors(), v.Mixup()])(torch.eye(3), torch.tensor([0, 1, 2]))


def test_drawing_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        v.Vicinity()


# -- real use ----------------------------------------------------------------------------------------------------------


def test_plans_of_huge_batches():
    n = 50_000
    y = ids(n)
    for pairing in (v.RandomPairs(), v.RandomPairs(False), v.SameClass(), v.OtherClass()):
        plan = v.Mixup(v.Beta(0.4, per="example"), pairing).plan(n, y, step=0)
        assert len(plan) == n
        assert len(repr(plan)) < 2000


def test_every_part_of_a_batch_loop():
    """Twenty steps of a real loop: a loss, a step, an accuracy, and no example is forgotten."""
    x, y = noise(40, 5).float(), ids(40)
    x = x + torch.nn.functional.one_hot(y, 5) * 3
    net = torch.nn.Linear(5, CLASSES)
    with torch.no_grad():
        net.weight.zero_(), net.bias.zero_()
    mixup = v.Mixup(0.4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    losses = []
    for _ in range(20):
        mixed_x, mixed_y = mixup(x, y)
        loss = torch.nn.functional.cross_entropy(net(mixed_x), mixed_y)
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(CLASSES), abs=1e-6)
    assert (net(x).argmax(1) == y).float().mean() > 0.9
    assert mixup.state.numbers() == {"seed": mixup.state.seed, "on": True, "epoch": None, "steps": [20]}


def test_counters_of_two_vicinities_are_apart():
    a, b = v.Mixup(), v.Mixup()
    a(X, Y), a(X, Y), b(X, Y)
    assert a == b
    assert (a.state_dict()["steps"], b.state_dict()["steps"]) == ([2], [1])


def test_all_lambdas_of_a_run_differ():
    mixup = v.Mixup(1.0)
    seen = Counter(mixup(X, Y)[1].weight[0, 0].item() for _ in range(300))
    assert len(seen) == 300


def test_this_file_is_the_line_that_is_named():
    assert Path(__file__).name == "test_vicinity.py"


PAIRS = [
    v.Mixup(0.3, seed=5),
    v.Mixup(2.0, pairing=v.RandomPairs(self_pairs=False)),
    v.Mixup(v.Beta(1.0)),
    v.Mixup(v.Beta(1.0, folded=True)),
    v.Mixup(1.0, v.Roll()),
    v.ERM(),
]


@pytest.mark.parametrize("vicinity", PAIRS, ids=str)
def test_plans_drawn_together_are_those_drawn_one_by_one(vicinity):
    keys = [keyed.Key(seed, 0, worker, step) for seed in (0, 9) for worker in (0, 2) for step in (0, 1, 40)]
    pairs = vicinity.draw_pairs(keys, 7)
    assert pairs is not None
    for key, partner, own in zip(keys, *pairs, strict=True):
        plan = vicinity.plan(7, step=key.step, seed=key.seed, rank=0, worker=key.worker)
        x = noise(7, 3, seed=1)
        mixed = torch.lerp(x[torch.from_numpy(partner)], x, torch.tensor(own, dtype=x.dtype))
        assert torch.equal(plan(x), mixed)


@pytest.mark.parametrize(
    "vicinity",
    [v.Mixup(v.Beta(1.0, per="example")), v.Mixup(v.Dirichlet(1.0)), v.Mixup(pairing=v.SameClass()), v.InputMixup(1.0)],
    ids=str,
)
def test_what_is_no_pair_by_one_weight_is_not_drawn_together(vicinity):
    assert vicinity.draw_pairs([keyed.Key(0, 0, 0, 0)], 4) is None


def test_the_one_line_draws_ahead_without_a_trace(monkeypatch):
    """Sizes that change, a rank that appears, a resume: every batch gets the plan of its own key."""
    mixup = v.Mixup(0.5, seed=3)
    x, y = noise(9, 4, seed=2), ids(9)
    sizes = [9] * 40 + [5] + [9] * 3 + [5, 5, 5, 9, 1] + [9] * 70
    for step, n in enumerate(sizes):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the batch of one
            mixed, target = mixup(x[:n], y[:n])
            plan = mixup.plan(n, step=step)
        assert torch.equal(mixed, plan(x[:n]))
        assert torch.equal(target.weight, plan.target(y[:n]).weight)
        assert torch.equal(target.ids, plan.target(y[:n]).ids)
    monkeypatch.setenv("RANK", "3")
    assert torch.equal(mixup(x, y)[0], mixup.plan(9, step=len(sizes), rank=3)(x))
    mixup.load_state_dict({"on": True, "epoch": None, "steps": [2]})
    for step in range(2, 50):
        assert torch.equal(mixup(x, y)[0], mixup.plan(9, step=step, rank=3)(x))


def test_a_block_of_plans_lets_no_wrong_key_through():
    mixup = v.Mixup(0.5)
    for step in range(3):
        mixup.plan(5, step=step)
    for wrong in ({"step": 2.0}, {"step": 2, "seed": 0.0}, {"step": 2, "rank": 0.0}, {"step": 2, "worker": 0.0}):
        with pytest.raises(ValueError, match="must be an integer in"):
            mixup.plan(5, **wrong)


def test_several_plans_are_plans():
    partner = torch.stack([torch.randperm(6, generator=torch.Generator().manual_seed(i)) for i in range(3)])
    weight = torch.tensor([0.25, 1.0, 0.0])
    x, y = noise(6, 2, seed=3), ids(6)
    for plan, p, w in zip(v.MixPlan.of_batches(partner, weight, [None] * 3), partner, weight, strict=True):
        alone = v.MixPlan(p, w.expand(6).clone())
        assert repr(plan) == repr(alone)
        assert torch.equal(plan(x), alone(x))
        logits = noise(6, CLASSES, seed=4)
        loss = torch.nn.functional.cross_entropy
        assert torch.equal(loss(logits, plan.target(y)), loss(logits, alone.target(y)))
        saved = {k: t for k, t in plan.to_dict().items() if isinstance(t, torch.Tensor)}
        assert saved.keys() == {"partner", "weight"}
        assert torch.equal(pickle.loads(pickle.dumps(plan)).to("cpu")(x), alone(x))
