"""Where the draws of a vicinity without a seed come from, and what goes on where it stood."""

import copy
import dataclasses
import json
import pickle
import subprocess
import sys

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate

import vicinal as v
from vicinal import _state, methods
from vicinities import CASES, content, ids, images, noise

X, Y = noise(8, 4, seed=1), ids(8)
IMAGES = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 1, 9, 9).contiguous()
NAMES = {name: getattr(module, name) for module in (v, methods) for name in module.__all__}


def drawn(vicinity, steps=4):
    return content([vicinity(X, Y) for _ in range(steps)])


def distinct(things):
    return len({str(content(thing)) for thing in things})


# -- made anew ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: v.Mixup(1.0), X),
        (lambda: v.InputMixup(v.Beta(1.0, per="example")), X),
        (lambda: v.CutMix(1.0, per="example"), IMAGES),
        (lambda: v.GaussianNoise(1.0), X),
        (lambda: v.Chain([v.Mixup(1.0), v.GaussianNoise(0.1)]), X),
        (lambda: v.Choice([v.Mixup(1.0), v.Mixup(2.0)]), X),
        (lambda: v.Scheduled(v.Mixup(1.0)), X),
    ],
)
def test_made_in_the_loop_it_draws_anew_each_time(make, x):
    assert distinct([make()(x, Y, epoch=0) for _ in range(60)]) == 60


@pytest.mark.parametrize("workers", [0, 2])
def test_made_in_a_collate_function_it_draws_anew(workers):
    def collate(rows):
        return v.Mixup(1.0)(*default_collate(rows))

    data = TensorDataset(torch.randn(64, 4), torch.arange(64) % 3)
    context = "fork" if workers else None  # a local function reaches no other worker
    loader = DataLoader(data, 8, num_workers=workers, collate_fn=collate, multiprocessing_context=context)
    assert len({float(y.weight[0, 0]) for _ in range(3) for _, y in loader}) == 24


def test_made_each_epoch_it_draws_anew():
    epochs = [drawn(v.Mixup(0.4)) for _ in range(3)]
    assert distinct(epochs) == 3


def test_two_objects_never_share_draws():
    a, b, c = v.Mixup(1.0), v.Mixup(1.0), v.Mixup(0.2)
    plans = [[m.plan(16, step=s) for s in range(300)] for m in (a, b, c)]
    same = sum(torch.equal(p.partner, q.partner) for p, q in zip(plans[0], plans[1], strict=True))
    assert same == 0
    weights = torch.tensor([[float(p.weight[0]) for p in of] for of in plans])
    correlation = torch.corrcoef(weights) - torch.eye(3)
    assert correlation.abs().max() < 4 / 300**0.5


def test_seeds_are_spread_and_never_repeat():
    seeds = torch.tensor([_state.fresh_seed() >> 1 for _ in range(20_000)])
    assert len(seeds.unique()) == len(seeds)
    for bit in range(63):
        assert abs(float(((seeds >> bit) & 1).double().mean()) - 0.5) < 4.5 * 0.5 / 20_000**0.5


RUN = """
import torch, vicinal
{seed}
before = torch.get_rng_state()
mixup = vicinal.Mixup(1.0)
x, y = torch.eye(6), torch.arange(6)
print([mixup(x, y)[1].weight[0, 0].item() for _ in range(5)])
assert torch.equal(torch.get_rng_state(), before)
"""


@pytest.mark.slow
def test_the_seed_of_torch_decides_the_run(run_fresh):
    def run(seed):
        return run_fresh(RUN.format(seed=f"torch.random.manual_seed({seed})"))

    one, unseeded = run(1), RUN.format(seed="")
    assert run(1) == one
    # PyTorch's seed is that of its process, which forks share
    alone = subprocess.run([sys.executable, "-c", unseeded], capture_output=True, text=True, check=True).stdout
    assert distinct([one, run(2), run_fresh(unseeded), alone]) == 4


def test_an_integer_is_the_pure_key():
    torch.random.manual_seed(1)
    first = drawn(v.Mixup(0.4, seed=9))
    torch.random.manual_seed(2)
    assert drawn(v.Mixup(0.4, seed=9)) == first
    plan = v.Mixup(0.4, seed=9).plan(8, step=0)
    generator = v.Key(9, 0, 0, 0).generator()
    assert float(plan.weight[0]) == pytest.approx(generator.beta(0.4, 0.4), abs=2**-25)
    assert plan.partner.tolist() == generator.permutation(8).tolist()


# -- what goes on ------------------------------------------------------------------------------------------------------


def test_a_resume_is_exact_without_a_seed():
    whole = v.Mixup(0.4)
    drawn(whole, 5)
    saved = json.loads(json.dumps(whole.state_dict()))
    rest = drawn(whole, 40)
    resumed = v.Mixup(0.4)
    assert resumed.state_dict()["seed"] != saved["seed"]
    resumed.load_state_dict(saved)
    assert drawn(resumed, 40) == rest


def test_a_state_of_another_given_seed_is_refused():
    saved = v.Mixup(0.4, seed=1).state_dict()
    mixup = v.Mixup(0.4, seed=2)
    before = mixup.state_dict()
    with pytest.raises(ValueError, match="this state was saved with seed=1, but the vicinity was made with seed=2"):
        mixup.load_state_dict(saved)
    assert mixup.state_dict() == before
    v.Mixup(0.4, seed=1).load_state_dict(saved)


@pytest.mark.parametrize(
    "bad",
    [
        *({"seed": -1}, {"seed": 2**64}, {"seed": 1.5}, {"epoch": 1.5}, {"epoch": "3"}, {"epoch": True}),
        *({"steps": [1.5]}, {"steps": []}, {"steps": "1"}, {"on": 1}, {"on": None}),
    ],
    ids=str,
)
def test_damaged_states_are_refused(bad):
    mixup = v.Mixup(0.4)
    good = mixup.state_dict()
    with pytest.raises(ValueError, match=r"must be|integers and count from 0"):
        mixup.load_state_dict({**good, **bad})
    assert mixup.state_dict() == good


@pytest.mark.parametrize("seed", [None, 0, 2**64 - 1])
def test_replace_keeps_the_count_and_the_seed(seed):
    mixup = v.Mixup(1.0, seed=seed)
    drawn(mixup, 3)
    mixup.set_epoch(4)
    annealed = dataclasses.replace(mixup, alpha=0.2)
    assert annealed.state.numbers() == {**mixup.state.numbers(), "epoch": 4, "steps": [3]}
    assert drawn(dataclasses.replace(mixup, alpha=1.0)) == drawn(mixup)
    mixup(X, Y)
    assert annealed.state_dict()["steps"] == [3]  # a state of its own


def test_replace_takes_another_seed():
    mixup = v.Mixup(1.0, seed=5)
    drawn(mixup, 3)
    other = dataclasses.replace(mixup, seed=6)
    assert (other.state_dict()["seed"], other.state_dict()["steps"]) == (6, [3])
    free = dataclasses.replace(mixup, seed=None)
    assert free.state_dict()["seed"] not in (5, 6)
    assert free.state_dict()["steps"] == [3]


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_go_on_alike(again):
    for seed in (None, 3):
        mixup = v.Mixup(0.4, seed=seed)
        drawn(mixup, 2)
        assert drawn(again(mixup)) == drawn(again(mixup)) == drawn(mixup)


# -- a vicinity is plain data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_vicinity_is_its_arguments_alone(case):
    fields = {f.name for f in dataclasses.fields(case.vicinity)}
    assert "state" not in fields
    values = dataclasses.asdict(case.vicinity)
    assert values.keys() == fields
    assert isinstance(json.dumps(values), str)
    assert eval(repr(case.vicinity), NAMES) == case.vicinity  # what a log keeps can be read back
    again = copy.deepcopy(case.vicinity)
    assert again == case.vicinity
    assert hash(again) == hash(case.vicinity)
    assert dataclasses.replace(case.vicinity) == case.vicinity


def test_a_subclass_checks_itself_as_any_dataclass_does():
    checked = []

    @dataclasses.dataclass(frozen=True)
    class Checked(v.Mixup):
        limit: float = 1.0

        def __post_init__(self):
            super().__post_init__()
            checked.append(self.limit)

    vicinity = Checked(0.4, limit=2.0)
    drawn(vicinity, 2)
    assert dataclasses.replace(vicinity, limit=3.0).state_dict() == vicinity.state_dict()
    assert checked == [2.0, 3.0]
    with pytest.raises(ValueError, match="alpha must be a finite number"):
        Checked(-1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        vicinity.limit = 1.0


# -- the step from outside ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_with_a_step_nothing_is_counted(case):
    vicinity = case.fresh()
    x, y = images(7), case.y(7)
    before = vicinity.state_dict()
    got = [vicinity(x, y, step=step) for step in (5, 5, 0)]
    assert vicinity.state_dict() == before
    plans = [case.plan(7, x, step=step) for step in (5, 5, 0)]
    assert content(got) == content([(plan(x), plan.target(y)) for plan in plans])
    vicinity.off()
    mixed, target = vicinity(x, y, step=5)
    assert mixed is x
    assert content(target) == content(v.ERM().plan(7, step=0).target(y))


def test_the_epoch_may_come_with_the_step():
    scheduled = v.Scheduled(v.Mixup(1.0, v.RandomPairs(False)), start=2)
    assert scheduled(X, Y, step=0, epoch=1)[0] is X
    assert not torch.equal(scheduled(X, Y, step=0, epoch=2)[0], X)
    scheduled.set_epoch(2)
    assert scheduled(X, Y, step=0, epoch=0)[0] is X
    assert scheduled.state_dict()["epoch"] == 2


def test_a_closure_sees_one_draw():
    """LBFGS and SAM evaluate a batch several times."""
    torch.random.manual_seed(0)
    x, y = torch.randn(32, 4), torch.randint(0, 3, (32,))
    net, mixup, losses = torch.nn.Linear(4, 3), v.Mixup(1.0), []
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=8, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        mixed, target = mixup(x, y, step=7)
        loss = torch.nn.functional.cross_entropy(net(mixed), target)
        loss.backward()
        losses.append(loss.item())
        return loss

    optimizer.step(closure)
    assert len(losses) > 8
    assert losses[-1] < losses[0]
    mixed, target = v.Mixup(1.0, seed=mixup.state.seed).plan(32, step=7)(x), mixup.plan(32, step=7).target(y)
    assert torch.nn.functional.cross_entropy(net(mixed), target).item() <= losses[0]


# -- values by epoch ---------------------------------------------------------------------------------------------------


def test_alpha_by_epoch():
    scheduled = v.Scheduled(v.Mixup(1.0), values={"alpha": {5: 0.1, 2: 8.0}}, seed=3)
    for epoch, alpha in ((0, 1.0), (1, 1.0), (2, 8.0), (4, 8.0), (5, 0.1), (90, 0.1)):
        expected = v.Scheduled(v.Mixup(alpha), seed=3).plan(8, step=epoch, epoch=epoch)
        assert content(scheduled.plan(8, step=epoch, epoch=epoch)) == content(expected)


def test_values_by_a_function():
    scheduled = v.Scheduled(v.GaussianNoise(1.0), values={"sigma": lambda epoch: 0.5**epoch}, start=1, stop=9, seed=3)
    for epoch in (1, 3, 8):
        assert scheduled.plan(8, step=0, epoch=epoch).noise.sigma == 0.5**epoch
    assert scheduled.plan(8, step=0, epoch=0).noise is None
    assert scheduled.plan(8, step=0, epoch=9).noise is None


def test_schedules_move_with_set_epoch_and_pickle():
    scheduled = v.Scheduled(v.Mixup(1.0), values={"alpha": {1: 0.01}}, seed=3)
    scheduled.set_epoch(0)
    scheduled(X, Y)
    scheduled.set_epoch(1)
    again = pickle.loads(pickle.dumps(scheduled))
    assert content(again(X, Y)) == content(scheduled(X, Y))
    assert again.at(1) == v.Mixup(0.01)


@pytest.mark.parametrize(
    ("values", "error", "sentence"),
    [
        ({"beta": {0: 1.0}}, ValueError, r"Mixup has no argument 'beta'; it has \['alpha', 'pairing'\]"),
        ({"seed": {0: 1}}, ValueError, "has no argument 'seed'"),
        ({"alpha": 0.4}, TypeError, r"alpha by epoch is \{epoch: value\} or a function of the epoch, got 0.4"),
        ({"alpha": {0: -1.0}}, ValueError, "alpha must be a finite number > 0"),
        ({"alpha": {-1: 1.0}}, ValueError, "epochs are integers and count from 0, got -1"),
        ({"alpha": {0.5: 1.0}}, ValueError, "epochs are integers and count from 0, got 0.5"),
    ],
)
def test_schedules_that_make_no_sense(values, error, sentence):
    with pytest.raises(error, match=sentence):
        v.Scheduled(v.Mixup(1.0), values=values)


@pytest.mark.parametrize("epoch", [1.5, torch.tensor(2), None, "1", True, -1])
def test_an_epoch_is_an_integer(epoch):
    with pytest.raises(ValueError, match="epochs are integers and count from 0"):
        v.Mixup().set_epoch(epoch)
    if epoch is not None:
        with pytest.raises(ValueError, match="epochs are integers and count from 0"):
            v.Scheduled(v.Mixup(), start=epoch)


# -- weights -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighting", [v.Beta(0.3), v.Beta(0.3, per="example"), v.Dirichlet(0.3, k=5, per="example")])
def test_weights_are_the_nearest_multiples(weighting):
    shares = v.Mixup(weighting, seed=2).plan(400, step=1).shares.double()
    exact = torch.from_numpy(weighting.draw(v.Key(2, 0, 0, 1).generator(), 400).copy())
    units = shares * 2.0**24
    assert torch.equal(units, units.round())
    assert torch.equal(shares.sum(1), torch.ones(400, dtype=torch.float64))
    assert (shares >= 0).all()
    worst = 0.5 if shares.shape[1] == 2 else 0.5 * shares.shape[1]
    gap = (shares - exact).abs() * 2.0**24
    assert gap.max() <= worst
    assert (gap <= 0.5).double().mean() > 0.75  # only the largest share of a row takes what rounding leaves
    if weighting.per == "example":
        assert abs(float(((shares - exact)[:, 0] * 2.0**24).mean())) < 0.1  # to neither side


@pytest.mark.parametrize("per", ["batch", "example"])
def test_folded_weights_are_the_larger_halves(per):
    plain = v.Mixup(v.Beta(0.7, per=per), seed=4)
    folded = v.Mixup(v.Beta(0.7, per=per, folded=True), seed=4)
    for step in range(40):
        a, b = plain.plan(9, step=step), folded.plan(9, step=step)
        assert torch.equal(b.weight, torch.maximum(a.weight, 1 - a.weight))
        assert torch.equal(a.partner, b.partner)
    with pytest.raises(TypeError, match="folded must be True or False, got 1"):
        v.Beta(0.7, folded=1)
