"""A plan is a value: whatever mode it is drawn in, whoever changes it, whatever it is applied to."""

import copy
import dataclasses
import warnings

import pytest
import torch
import torch.nn.functional as F

import vicinal as v
from vicinities import CASES, CLASSES, content, flat_plans, ids, images, noise

N = 8
every = pytest.mark.parametrize("case", CASES, ids=str)


# -- modes -------------------------------------------------------------------------------------------------------------


def _drawn(case):
    return content([case.plan(N, images(N), step=step) for step in range(5)])


@every
def test_plans_do_not_depend_on_modes_and_defaults(case):
    expected = _drawn(case)
    fresh = dataclasses.replace(case, vicinity=copy.deepcopy(case.vicinity))
    with torch.inference_mode():
        assert _drawn(fresh) == expected
    x, y = images(N), case.y(N)

    class Rewritten:
        vicinity = copy.deepcopy(case.vicinity)

        def plans(self):
            return content([self.vicinity.plan(N, y, x, step=step, epoch=case.epoch) for step in range(5)])

    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        assert Rewritten().plans() == expected
    finally:
        torch.set_default_dtype(before)
    with torch.device("meta"):
        assert Rewritten().plans() == expected
        assert content(copy.deepcopy(case.vicinity).state_dict()) == content(case.vicinity.state_dict())


@every
def test_plans_drawn_in_inference_mode_train(case):
    vicinity = case.fresh()
    x, y = images(N, torch.float32), case.y(N)
    with torch.inference_mode():
        plans = [vicinity.plan(N, y, x, step=step, epoch=case.epoch) for step in range(4)]
    net = torch.nn.Linear(90, CLASSES)
    for plan in plans:
        hidden = plan(net(x.flatten(1)).view(N, CLASSES, 1, 1).expand(N, CLASSES, 6, 5)).mean((2, 3))
        target = plan.target(y)
        loss = F.mse_loss(hidden[:, 0], target.float()) if case.numbers else F.cross_entropy(hidden, target)
        loss.backward()
    assert net.weight.grad.isfinite().all()


def test_a_vicinity_made_in_inference_mode_counts():
    with torch.inference_mode():
        mixup = v.Mixup(1.0)
        mixup(torch.eye(4), torch.arange(4))
    mixup(torch.eye(4), torch.arange(4))
    mixup.set_epoch(3)
    assert (mixup.state_dict()["steps"], mixup.state_dict()["epoch"]) == ([2], 3)


def test_the_one_line_is_the_same_under_other_defaults():
    x, y = images(N, torch.uint8), ids(N)
    expected = content([v.Mixup(0.4, seed=1)(x, y), v.CutMix(0.4, seed=1)(x, y[:, None, None].expand(N, 6, 5))])
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        assert (
            content([v.Mixup(0.4, seed=1)(x, y), v.CutMix(0.4, seed=1)(x, y[:, None, None].expand(N, 6, 5))])
            == expected
        )
        normalized = v.Mixup(0.4, seed=1).plan(N, step=0).normalized(x, [0.5] * 3, [0.2] * 3)
        assert normalized.dtype == torch.float32
    finally:
        torch.set_default_dtype(before)


# -- changed in place --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", range(12))
def test_inputs_and_labels_follow_a_change_of_the_weights_alike(step):
    mixup = v.Mixup(1.0, seed=0)
    y, logits = torch.arange(N), noise(N, N).float()
    for before in range(step):  # some plans are drawn alone, some ahead
        mixup.plan(N, step=before)
    plan = mixup.plan(N, step=step)
    plan.target(y)
    plan.weight.clamp_(min=0.5)
    assert torch.equal(plan(torch.eye(N)), plan.target(y).dense(N))
    again = v.MixPlan(plan.partner, plan.weight.clone())
    assert F.cross_entropy(logits, plan.target(y)) == F.cross_entropy(logits, again.target(y))
    assert mixup.plan(N, step=step).weight[0] == v.Mixup(1.0, seed=0).plan(N, step=step).weight[0]  # drawn anew


@pytest.mark.parametrize("vicinity", [v.CutMix(1.0), v.InputMixup(1.0)], ids=str)
@pytest.mark.parametrize("part", ["weight", "box", "target_weight", "partner"])
def test_a_changed_plan_whose_parts_belong_together_is_refused(vicinity, part):
    plan = vicinity.plan(N, ids(N), images(N), step=0)
    if getattr(plan, part) is None:
        return
    getattr(plan, part).clamp_(min=1)
    for act in (lambda: plan(images(N)), lambda: plan.target(ids(N))):
        with pytest.raises(RuntimeError, match=r"changed in place.*dataclasses.replace\(plan, weight="):
            act()
    changed = dataclasses.replace(plan, weight=plan.weight.clone())
    assert changed(images(N)).shape == images(N).shape


@pytest.mark.parametrize("vicinity", [v.CutMix(1.0), v.Mixup(1.0), v.Mixup(v.Dirichlet(1.0))], ids=str)
def test_buffers_that_do_not_fit_are_refused_by_every_vicinity(vicinity):
    x = noise(N + 1, 3, 6, 5).float()
    plan = vicinity.plan(N, ids(N), x[:N], step=3)
    for out in (torch.empty(N, 3, 6, 5, dtype=torch.uint8), torch.empty(2, N, 3, 6, 5), x[1:], torch.empty(N, 3, 6, 4)):
        with pytest.raises(ValueError, match=r"out must be|out shares memory"):
            plan(x[:N], out=out)
    with pytest.raises(ValueError, match="out is for data"):
        plan(x[:N].clone().requires_grad_(), out=torch.empty(N, 3, 6, 5))
    expected = plan(x[:N])
    mine = x[:N].clone()
    assert torch.equal(plan(mine, out=mine), expected)


def test_noise_of_a_table_of_many_columns():
    x = {f"c{i:03}": torch.zeros(N) for i in range(200)}
    got = v.GaussianNoise(1.0, seed=1)(x, ids(N))[0]
    rows = torch.stack(list(got.values()))
    assert len(rows.unique(dim=0)) == 200
    assert abs(float(rows.std()) - 1) < 4 / (2 * 200 * N) ** 0.5
    few = v.GaussianNoise(1.0, seed=1)({k: x[k] for k in list(x)[:5]}, ids(N))[0]
    assert torch.equal(few["c003"], got["c003"])


# -- learned weights ---------------------------------------------------------------------------------------------------

SHAPES = [
    ((N, 3, 8, 8), torch.float32),
    ((N, 4), torch.float64),
    ((N, 3, 8, 8), torch.bfloat16),
    ((N, 5), torch.float16),
]
SHAPES += [((64, 3, 224, 224), torch.float32), ((N, 5), torch.complex64)]


@pytest.mark.parametrize("kind", ["pairs", "roll", "three"])
@pytest.mark.parametrize(("shape", "dtype"), SHAPES, ids=str)
def test_gradients_of_learned_weights_are_right_on_every_path(shape, dtype, kind):
    n = shape[0]
    x = (
        noise(*shape, seed=1).to(dtype)
        if not dtype.is_complex
        else torch.complex(noise(*shape), noise(*shape, seed=2)).to(dtype)
    )
    torch.random.manual_seed(0)
    if kind == "three":
        partner, start = torch.stack([torch.randperm(n), torch.randperm(n)], 1), torch.full((n, 3), 1 / 3)
    else:
        partner, start = (torch.arange(n) + 1) % n if kind == "roll" else torch.randperm(n), torch.full((n,), 0.7)
    slope = noise(*shape, seed=3)
    weight = start.clone().requires_grad_()
    mixed = v.MixPlan(partner, weight)(x)
    assert mixed.requires_grad
    real = mixed.real if dtype.is_complex else mixed
    (real.double() * slope).sum().backward()
    exact = start.double().requires_grad_()
    shares = exact if kind == "three" else torch.stack([exact, 1 - exact], 1)
    rows = x.to(torch.complex128 if dtype.is_complex else torch.float64)
    parts = [rows, *(rows[p] for p in (partner.unbind(1) if kind == "three" else (partner,)))]
    total = sum(s.view(n, *(1,) * (len(shape) - 1)) * part for s, part in zip(shares.unbind(1), parts, strict=True))
    ((total.real if dtype.is_complex else total) * slope).sum().backward()
    tolerance = {torch.bfloat16: 2e-2, torch.float16: 3e-3}.get(dtype, 1e-4)  # the precision that the slope comes in
    error = (weight.grad.double() - exact.grad).abs().max() / exact.grad.abs().max()
    assert error < tolerance


def test_the_loss_reaches_a_learned_weight_by_inputs_and_labels():
    x, y, net = noise(N, 6).float(), ids(N), torch.nn.Linear(6, CLASSES)
    partner = torch.arange(N).roll(3)
    for value in (0.7, 1.0, 0.0):
        weight = torch.full((N,), value, requires_grad=True)
        plan = v.MixPlan(partner, weight)
        for _ in range(2):  # a second backward pass through the same plan
            (gradient,) = torch.autograd.grad(F.cross_entropy(net(plan(x)), plan.target(y)), weight)
        exact = torch.full((N,), value, requires_grad=True)
        out = net(exact[:, None] * x + (1 - exact[:, None]) * x[partner])
        both = [F.cross_entropy(out, of, reduction="none") for of in (y, y[partner])]
        (expected,) = torch.autograd.grad((exact * both[0] + (1 - exact) * both[1]).mean(), exact)
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7)


def test_where_no_gradient_can_reach_the_weights_it_is_refused():
    weight = torch.full((N,), 0.7, requires_grad=True)
    plan = v.MixPlan(torch.arange(N).roll(1), weight)
    with pytest.raises(TypeError, match=r"bytes carry no gradient .*\.float\(\) first"):
        plan(images(N, torch.uint8))
    x = noise(N, 4).float()
    with pytest.raises(ValueError, match="with weights that require grad, the mix goes into a new tensor"):
        plan(x, out=torch.empty_like(x))
    cut = dataclasses.replace(v.CutMix(1.0).plan(N, x=images(N), step=0), weight=weight)
    with pytest.raises(ValueError, match="the share of a box has no gradient"):
        cut(images(N))
    with torch.no_grad():
        assert plan(images(N, torch.uint8)).dtype == torch.uint8
        assert plan(x, out=torch.empty_like(x)).shape == x.shape
    got = plan.normalized(images(N, torch.uint8), [0.5] * 3, [0.2] * 3)
    assert got.requires_grad


# -- masks and lengths -------------------------------------------------------------------------------------------------

LENGTHS = torch.tensor([6, 4, 5, 3, 6, 2, 5, 4])
MASK = torch.arange(6)[None] < LENGTHS[:, None]


@every
def test_union_intersection_and_longest_are_those_of_the_rows_in_the_mix(case):
    for step in range(6):
        plan = case.plan(N, step=step)
        union, both, longest = [row.clone() for row in MASK], [row.clone() for row in MASK], LENGTHS.tolist()
        for part in flat_plans(plan):
            a, b, c = list(union), list(both), list(longest)
            for i in range(N):
                for share, j in zip(part.shares[i, 1:].tolist(), part.partners[i].tolist(), strict=True):
                    if share > 0:
                        union[i] = union[i] | a[j]
                        both[i] = both[i] & b[j]
                        longest[i] = max(longest[i], c[j])
        if case.rows == 2:  # the rows as they are stand before the mixed ones
            union, both, longest = [*MASK, *union], [*MASK, *both], [*LENGTHS.tolist(), *longest]
        assert torch.equal(plan.union(MASK), torch.stack(union))
        assert torch.equal(plan.intersection(MASK), torch.stack(both))
        assert plan.longest(LENGTHS).tolist() == longest
        assert torch.equal(plan.union(MASK), ~plan.intersection(~MASK))
        assert torch.equal(plan.union(MASK.long()), plan.union(MASK).long())
        added = torch.where(MASK, 0.0, -torch.inf)[:, None, None]
        assert torch.equal(plan.union(added), torch.where(plan.union(MASK), 0.0, -torch.inf)[:, None, None])


def test_a_partner_without_a_share_adds_nothing():
    plan = v.MixPlan(torch.tensor([1, 0]), torch.tensor([1.0, 0.25]))
    mask = torch.tensor([[True, False], [True, True]])
    assert plan.union(mask).tolist() == [[True, False], [True, True]]
    assert plan.intersection(mask).tolist() == [[True, False], [True, False]]


@pytest.mark.parametrize("mask", [MASK[:5], torch.tensor(True), MASK.tolist()])
def test_masks_of_other_batches_are_refused(mask):
    with pytest.raises(ValueError, match=r"a mask or lengths for this plan are a tensor \[8, ...\], got"):
        v.Mixup(1.0).plan(N, step=0).union(mask)


# -- unknown entries ---------------------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("missing", [-1.0, float("nan")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_unknown_entries_take_their_share_out_of_the_loss(case, missing, dtype):
    """Each entry's loss is the sum over the rows in the mix of share * loss, over the rows that know it."""
    if "Smoothing" in repr(case.vicinity):
        return
    y = (noise(N, 5, seed=4) > 0).to(torch.float64)
    unknown = noise(N, 5, seed=5) > 0.5
    logits = noise(N, 5, seed=6).repeat(case.rows, 1)

    def bce(t):
        return F.binary_cross_entropy_with_logits(logits, t, reduction="none")

    for step in range(4):
        plan = case.plan(N, step=step)
        marked = torch.where(unknown, missing, y).to(dtype)
        t, w = plan.target(marked, missing=missing), plan.known(marked, missing=missing)
        assert t.dtype == dtype
        known, value = [(~unknown).double()[i] for i in range(N)], [(y * ~unknown)[i] for i in range(N)]
        for part in flat_plans(plan):
            mix = [
                (shares[0], i, list(zip(shares[1:], partners, strict=True)))
                for i, (shares, partners) in enumerate(
                    zip(part.target_shares.tolist(), part.partners.tolist(), strict=True)
                )
            ]
            known, value = (
                [own * rows[i] + sum(s * rows[j] for s, j in others) for own, i, others in mix]
                for rows in (known, value)
            )
        if case.rows == 2:  # the rows as they are stand before the mixed ones
            known, value = [*(~unknown).double(), *known], [*(y * ~unknown), *value]
        expected_w, total = torch.stack(known), torch.stack(value)
        torch.testing.assert_close(w.double(), expected_w, rtol=0, atol=1e-6)
        nothing = expected_w == 0
        assert torch.equal(t[nothing].isnan() if missing != missing else t[nothing] == missing, nothing[nothing])
        clean = torch.where(nothing, 0, t.double())
        got = torch.where(nothing, 0, w * bce(clean))
        expected = total * bce(torch.ones_like(total)) + (expected_w - total) * bce(torch.zeros_like(total))
        torch.testing.assert_close(
            got, torch.where(nothing, 0, expected), rtol=0, atol=2e-3 if dtype == torch.float16 else 1e-5
        )


def test_unknown_entries_in_the_one_line_and_in_nests():
    y = {"tox": torch.tensor([[1.0, -1.0], [-1.0, -1.0]]), "level": torch.tensor([[0.5], [-1.0]])}
    mixup = v.Mixup(1.0, v.RandomPairs(False), seed=1)
    _, t = mixup(torch.eye(2), y, missing=-1)
    assert t["tox"].tolist() == [[1.0, -1.0], [1.0, -1.0]]
    assert t["level"].tolist() == [[0.5], [0.5]]
    with pytest.raises(TypeError, match="give ignore_index= to the loss"):
        mixup(torch.eye(2), torch.tensor([0, -1]), missing=-1)


@pytest.mark.parametrize("shape", [(N,), (N, 3), (N, 2, 4, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_nan_among_targets_is_refused(shape, dtype):
    y = noise(*shape).to(dtype)
    v.Mixup(1.0)(noise(N, 2), y)
    y.view(-1)[3] = torch.nan
    with pytest.raises(ValueError, match=r"this target holds nan.*missing=float\('nan'\)"):
        v.Mixup(1.0)(noise(N, 2), y)
    v.ERM()(noise(N, 2), y)  # nothing is mixed, nothing spreads
    infinite = noise(*shape).to(dtype)
    infinite.view(-1)[:2] = torch.tensor([torch.inf, -torch.inf])  # whose sum is nan
    v.MixPlan(torch.arange(N), torch.ones(N)).target(infinite)


def test_nan_in_rows_that_take_no_part_spreads_nowhere():
    y = torch.arange(N).double() + 0.5
    y[2] = torch.nan
    rows = torch.arange(N) != 2
    _, mixed = v.Mixup(1.0, v.RandomPairs(False))(noise(N, 2), y, rows=rows)
    assert mixed.isnan().tolist() == (~rows).tolist()
    with pytest.raises(ValueError, match="this target holds nan"):
        v.Mixup(1.0, v.RandomPairs(False))(noise(N, 2), y, rows=torch.arange(N) != 3)


def test_class_indices_beside_unknown_numbers():
    y = {"class": ids(N), "tags": torch.where(noise(N, 3) > 0.5, -1.0, 1.0)}
    plan = v.Mixup(1.0, seed=1).plan(N, step=0)
    mixed = plan.target(y, missing=-1)
    assert content(mixed["class"]) == content(plan.target(ids(N)))
    assert torch.equal(mixed["tags"], plan.target(y["tags"], missing=-1))


@pytest.mark.parametrize("marker", [-1.0, -100.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_marker_among_numbers_is_told_once(marker, dtype):
    y = torch.tensor([[1.0, 0.0, marker], [0.0, marker, 1.0], [1.0, 1.0, 0.0], [marker, 0.25, 0.0]]).to(dtype)
    with pytest.warns(UserWarning, match=rf"holds {marker:g} beside numbers >= 0.*missing={marker:g}"):
        v.Mixup(1.0)(noise(4, 2), y)
    v.Mixup(1.0)(noise(4, 2), y)


@pytest.mark.parametrize(
    "y",
    [
        [[1.0, -1.0], [-1.0, 1.0]],  # two kinds: a hinge loss has them
        [[0.5, -1.0], [-0.5, 1.0]],
        [[-1.0, -2.0], [0.0, 1.0]],
        [[-0.5, 1.0], [0.25, 2.0]],
        [[-1.0, -1.0], [-1.0, -1.0]],
    ],
)
def test_negative_numbers_are_numbers(y):
    v.Mixup(1.0)(noise(2, 2), torch.tensor(y))


def test_markers_that_were_said_are_not_told():
    v.Mixup(1.0)(noise(3, 2), torch.tensor([[1.0, -1.0], [0.0, 1.0], [-1.0, 0.5]]), missing=-1)


# -- numbers that look like class indices ------------------------------------------------------------------------------

WHOLE = torch.tensor([0.0, 4.0, 2.0, 3.0, 1.0, 4.0, 0.0, 2.0])


@pytest.mark.parametrize(
    "draw",
    [
        lambda y: v.Mixup(1.0)(noise(N, 2), y),
        lambda y: v.CutMix(1.0)(images(N), y),
        lambda y: v.Mixup(v.Dirichlet(1.0))(noise(N, 2), {"class": y}),
        lambda y: v.Chain([v.Mixup(1.0), v.LabelSmoothing(0.0)])(noise(N, 2), y.double()),
        lambda y: v.Mixup(1.0).plan(N, step=0).target(y),
    ],
)
def test_whole_numbers_as_floats_are_told_once(draw):
    with pytest.warns(UserWarning, match=r"whole numbers as floating point.*y\.long\(\)") as told:
        draw(WHOLE)
    assert [w.filename for w in told] == [__file__]
    draw(WHOLE)


@pytest.mark.parametrize(
    "y",
    [WHOLE + 0.5, (WHOLE > 1).float(), WHOLE[:, None], WHOLE - 3, torch.ones(N)],
    ids=["fractions", "binary", "column", "negative", "constant"],
)
def test_other_numbers_are_numbers(y):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        v.Mixup(1.0)(noise(N, 2), y)


def test_a_pairing_by_label_distance_means_numbers():
    v.Mixup(1.0, v.LabelDistance(1.0))(noise(N, 2), WHOLE)


def test_labels_that_this_vicinity_mixed_already_are_told():
    mixup = v.Mixup(1.0)
    _, y = mixup(noise(N, 2), ids(N))
    with pytest.warns(UserWarning, match=r"mixed by this vicinity already.*mixup\(\(features, embeddings\), y\)"):
        mixup(noise(N, 3), y)
    _, y = mixup(noise(N, 2), ids(N))
    v.CutMix(1.0)(images(N), y)  # another one, on purpose
