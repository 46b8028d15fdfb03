"""The silent mistakes of mixup implementations, by number; each has a test that it is not made here.

No error is raised when one of these happens, and training goes on, wrongly: so each has its own test, here or, where a
law says more than the trap asks, in the file that the table names.
"""

import importlib
import re

import pytest
import torch
import torch.nn.functional as F

import vicinal as v
from vicinities import CASES, CLASSES, GRID, content, flat_plans, ids, images, noise

N = 5
LOGITS = noise(N, CLASSES, seed=30).float()
Y = torch.arange(N) % CLASSES
PLAN = v.Mixup(v.Beta(1.0, per="example"), v.RandomPairs(self_pairs=False)).plan(N, step=0)
WHOLE = v.MixPlan(PLAN.partner, torch.ones(N))  # lambda = 1
WEIGHT = torch.tensor([0.2, 1.0, 5.0])

# trap: the test elsewhere that shows its absence
ELSEWHERE = {
    3: "test_workers.test_persistent_workers_hear_off_on_and_the_epoch",  # off does nothing in persistent workers
    17: "test_mixing.test_uint8_is_rounded_without_bias",  # truncation darkens every mix
    19: "test_laws.test_dtype_is_kept_and_rounded_once",  # half becomes float32
    20: "test_vicinity.test_choice_has_the_frequencies_it_was_given",  # p is applied twice
    23: "test_vicinity.test_cutmix_shares_are_those_of_the_cells",  # lambda of a clipped box is not corrected
    24: "test_vicinity.test_boxes_have_the_law_they_say",  # boxes lose a row or a column
    25: "test_workers.test_draws_are_those_of_their_worker_and_step",  # workers and epochs repeat each other
    27: "test_ranks.test_ranks_draw_apart_by_default",  # ranks repeat each other
    28: "test_laws.test_global_generators_are_neither_moved_nor_read",  # seeding one generator is not enough
    30: "test_laws.test_inputs_and_targets_are_byte_identical_after_the_call",  # the batch of the caller is mutated
    32: "test_vicinity.test_one_row_alone_warns_once_at_the_line_of_the_user",  # one example is silently not mixed
    33: "test_pairing.test_no_self_pairs_means_none",  # pairs with oneself cannot be avoided
    41: "test_vicinity.test_arguments_are_copied",  # arguments are mutated
}


def test_every_trap_has_its_test():
    here = [int(m[1]) for name in globals() if (m := re.match(r"test_trap_(\d\d)_", name))]
    assert sorted([*here, *ELSEWHERE]) == list(range(1, 45))
    for where in ELSEWHERE.values():
        module, _, name = where.partition(".")
        assert callable(getattr(importlib.import_module(module), name))


def test_trap_01_labels_before_the_image():
    x, twin = images(N), images(N) + 1
    for nest in ({"labels": twin, "image": x}, {"image": x, "labels": twin}):
        got = PLAN(nest)
        assert torch.equal(got["image"], PLAN(x))
        assert torch.equal(got["labels"], PLAN(twin))
    with pytest.raises(TypeError, match="labels and masks as the target"):  # ids among the inputs are not passed over
        PLAN({"labels": Y, "image": x})


def test_trap_02_later_tensors_pass_unmixed():
    first, second, third = torch.eye(N), torch.eye(N).double(), noise(N, 2)
    got = PLAN((first, [second], {"third": third}))
    assert torch.equal(got[0].double(), got[1][0].float().double())
    torch.testing.assert_close(got[2]["third"], got[1][0] @ third, rtol=0, atol=1e-6)
    assert (got[0].diagonal() < 1).all()


def test_trap_04_cutmix_labels_are_the_partners():
    x = torch.arange(N).reshape(N, 1, 1, 1).expand(N, 1, *GRID).float()
    for per in ("batch", "example"):
        for step in range(10):
            plan = v.CutMix(1.0, per=per, pairing=v.RandomPairs(self_pairs=False)).plan(N, None, x, step=step)
            own = (plan(x) == x).flatten(1).float().mean(1)
            torch.testing.assert_close(plan.target(Y).weight[0], own)


def _per_row(y, **options):
    """Return lambda * loss(y_a) + (1 - lambda) * loss(y_b), row by row in Python."""
    rows = []
    for i, parts in enumerate(PLAN.shares.tolist()):
        sources = (i, int(PLAN.partner[i]))
        each = [F.cross_entropy(LOGITS[i : i + 1], y[j : j + 1], reduction="none", **options) for j in sources]
        rows.append(parts[0] * each[0] + parts[1] * each[1])
    return torch.cat(rows)


def test_trap_05_shares_of_rows_times_a_reduced_loss():
    rows, mixed = _per_row(Y), PLAN.target(Y)
    assert PLAN.weight.unique().numel() == N
    torch.testing.assert_close(F.cross_entropy(LOGITS, mixed, reduction="none"), rows)
    torch.testing.assert_close(F.cross_entropy(LOGITS, mixed, reduction="sum"), rows.sum())
    torch.testing.assert_close(F.cross_entropy(LOGITS, mixed), rows.mean())


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_trap_06_class_weights_change_the_scale(reduction):
    plain = F.cross_entropy(LOGITS, Y, weight=WEIGHT, reduction=reduction)
    torch.testing.assert_close(F.cross_entropy(LOGITS, WHOLE.target(Y), weight=WEIGHT, reduction=reduction), plain)
    if reduction == "none":
        mixed = F.cross_entropy(LOGITS, PLAN.target(Y), weight=WEIGHT, reduction="none")
        torch.testing.assert_close(mixed, _per_row(Y, weight=WEIGHT))


@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_trap_07_ignored_rows_change_the_scale(weight):
    y = Y.clone()
    y[[0, 3]] = -100
    plain = F.cross_entropy(LOGITS, y, weight=weight)
    torch.testing.assert_close(F.cross_entropy(LOGITS, WHOLE.target(y), weight=weight), plain)
    w = torch.ones(CLASSES) if weight is None else weight
    kept = sum(
        share * w[y[j]] if y[j] >= 0 else 0.0
        for i, parts in enumerate(PLAN.shares)
        for share, j in zip(parts, (i, int(PLAN.partner[i])), strict=True)
    )
    mixed = F.cross_entropy(LOGITS, PLAN.target(y), weight=weight)
    torch.testing.assert_close(mixed, _per_row(y, weight=weight).sum() / kept)


def test_trap_08_smoothing_that_nobody_asked_for():
    for case in CASES:
        if "LabelSmoothing" in repr(case.vicinity):
            continue
        target = case.plan(N).target(Y)
        assert target.smoothing == 0
        absent = torch.ones(len(target), CLASSES, dtype=torch.bool)
        for row in target.ids:
            absent[torch.arange(len(target)), row] = False
        assert not target.dense(CLASSES)[absent].any()


def test_trap_09_soft_labels_and_masks_are_reshaped():
    for y in (noise(N, CLASSES).softmax(1), noise(N, CLASSES, *GRID).softmax(1)):
        got = PLAN.target(y)
        assert got.shape == y.shape
        torch.testing.assert_close(got.sum(1), torch.ones_like(got.sum(1)), rtol=0, atol=1e-6)
    mask = torch.zeros(N, *GRID, dtype=torch.int64)
    assert PLAN.target(mask).shape == mask.shape


def test_trap_10_regression_targets_become_class_ids():
    y = torch.tensor([0.25, 1.5, -2.75, 3.0, 7.5])
    expected = [PLAN.shares[i, 0] * y[i] + PLAN.shares[i, 1] * y[PLAN.partner[i]] for i in range(N)]
    for shape in ((N,), (N, 1)):
        torch.testing.assert_close(PLAN.target(y.reshape(shape)), torch.stack(expected).reshape(shape))


def test_trap_11_class_ids_are_interpolated():
    far = torch.tensor([0, 1000, 7, 7, 500])
    got = PLAN.target(far)
    assert torch.equal(got.ids, torch.stack([far, far[PLAN.partner]]))
    assert torch.equal(got.weight, PLAN.shares.T)


def test_trap_12_labels_broadcast_to_a_square():
    assert PLAN.target(Y).shape == (N,)
    assert PLAN.target(noise(N)).shape == (N,)
    assert F.cross_entropy(LOGITS, PLAN.target(Y), reduction="none").shape == (N,)


def test_trap_13_masks_are_gathered_from_the_flattened_array():
    mask = noise(N, *GRID)
    assert torch.equal(PLAN.target(mask), PLAN(mask[:, None])[:, 0])


def test_trap_14_boxes_and_labels_part_company():
    boxes, labels = noise(N, 4, 4), torch.arange(N * 4).reshape(N, 4) % CLASSES
    with pytest.raises(
        TypeError, match=r"target\['boxes'\] holds boxes .* the average of two boxes lies in neither image"
    ):
        PLAN.target({"boxes": boxes, "labels": labels})
    got = PLAN.target({"sizes": boxes, "labels": labels})
    assert got["sizes"].shape == boxes.shape
    assert got["labels"].shape == labels.shape
    assert torch.equal(got["labels"].ids[1], labels[PLAN.partner])


def test_trap_15_integer_masks_are_truncated():
    mask = torch.arange(N * 30).reshape(N, *GRID) % 4
    got = PLAN.target(mask)
    assert set(got.ids.unique().tolist()) == {0, 1, 2, 3}
    shares = PLAN.shares[:, 0, None, None] * (mask == 3) + PLAN.shares[:, 1, None, None] * (mask[PLAN.partner] == 3)
    torch.testing.assert_close(got.dense(4)[:, 3], shares)


def test_trap_16_uint8_images_round_lambda():
    x = torch.eye(N).mul(255).to(torch.uint8)
    got, y = PLAN(x), PLAN.target(Y)
    assert got.dtype == torch.uint8
    assert (got.diagonal() / 255.0 - PLAN.weight).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(y.weight[0], PLAN.weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_trap_18_half_precision_rounds_the_labels(dtype):
    mixup = v.Mixup(v.Dirichlet(1.0, k=3, per="example"))
    y = torch.arange(300, 300 + N)  # ids that bfloat16 cannot tell apart
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x, target = mixup(images(N, dtype), y)
    assert x.dtype == dtype
    assert target.weight.dtype == torch.float32
    assert (target.weight.double().sum(0) - 1).abs().max() < 1e-6
    assert torch.equal(target.ids[0], y)


def test_trap_21_two_conventions_of_lambda():
    """The weight is the share of the row itself, in every vicinity, for inputs and labels alike."""
    eye = torch.eye(N).reshape(N, N, 1, 1).expand(N, N, *GRID)
    for case in CASES:
        if any(name in repr(case.vicinity) for name in ("Chain", "Gaussian", "ColumnMix")):  # its cells are channels
            continue
        (plan,) = flat_plans(case.plan(N, eye.double()))
        got = plan(eye).mean((2, 3))  # cells of whom
        held = plan.shares[:, 0] + (plan.partners == torch.arange(N)[:, None]).mul(plan.shares[:, 1:]).sum(1)
        torch.testing.assert_close(got.diagonal(), held)


def test_trap_22_labels_and_pixels_disagree():
    eye = torch.eye(N).reshape(N, N, 1, 1).expand(N, N, *GRID)
    y = torch.arange(N)  # each row its own class
    both = [v.Mixup(v.Beta(1.0, per="example")), v.CutMix(1.0, per="example")]
    for vicinity in (*both, v.Choice(both), v.Chain(both), v.Chain(both[::-1]), v.Mixup(v.Dirichlet(1.0, k=3))):
        for step in range(10):
            plan = vicinity.plan(N, y, eye, step=step)
            torch.testing.assert_close(plan(eye).mean((2, 3)), plan.target(y).dense(N))


def test_trap_26_a_generator_seeded_anew_each_epoch():
    seen = []
    mixup = v.Mixup(1.0)
    with torch.random.fork_rng():
        for _ in range(4):
            torch.random.manual_seed(7)
            seen.append(mixup(images(N), Y)[1].weight[0, 0].item())
            seen.append(v.Mixup(1.0)(images(N), Y)[1].weight[0, 0].item())
    assert len(set(seen)) == 8


def test_trap_29_arrays_of_the_data_set_are_overwritten():
    array = images(N, torch.uint8).numpy()
    before = array.tobytes()
    rows = torch.from_numpy(array)  # the same memory
    for case in CASES:
        if case.numbers or case.floats or "Gaussian" in repr(case.vicinity):
            continue
        case.fresh()(rows, Y)
    assert array.tobytes() == before


@pytest.mark.parametrize("shape", [(), (2,), (2, 16), (2, 3, 4), (2, 3, 4, 5)])
def test_trap_31_some_ranks_are_not_mixed(shape):
    x = noise(N, *shape)
    got = PLAN(x)
    assert got.shape == x.shape
    for i in range(N):
        own, other = PLAN.shares[i].double()
        torch.testing.assert_close(got[i], own * x[i] + other * x[PLAN.partner[i]], rtol=0, atol=1e-6)


def test_trap_34_batches_that_are_left_alone_look_different():
    choice = v.Choice([v.ERM(), v.Mixup(1.0), v.InputMixup(1.0), v.CutMix(1.0)])
    for y in (Y, noise(N, CLASSES).softmax(1).half(), noise(N, 1)):
        seen = set()
        for _ in range(40):
            x, target = choice(images(N), y)
            seen.add((x.dtype, x.shape, type(target), target.dtype, target.shape))
        assert len(seen) == 1


def test_trap_35_three_things_are_taken_for_a_mixed_target():
    y, logits = torch.tensor([0, 1, 2]), LOGITS[:3]
    assert F.cross_entropy(logits, y) == torch.nn.CrossEntropyLoss()(logits, y)
    mixed = v.Mixup()(torch.eye(3), y)[1]
    assert len(mixed) == 3
    assert mixed.shape == (3,)
    triple = PLAN.target((Y, Y + 0, noise(N)))
    assert isinstance(triple, tuple)
    assert len(triple) == 3


@pytest.mark.parametrize("at", ["", "0", "1", "2"])
def test_trap_36_the_mix_is_dropped_at_a_layer(at):
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2)).double()
    x = noise(N, 4)
    with v.LatentMixing(net, at)(PLAN):
        got = net(x)
    hidden = x
    for i, layer in enumerate(net):
        hidden = layer(PLAN(hidden) if i == int(at or 0) else hidden)
    assert torch.equal(got, hidden)
    assert not torch.equal(got, net(x))


def test_trap_37_labels_are_mixed_by_another_permutation():
    y = torch.arange(N)
    for case in CASES:
        if case.numbers or any(name in repr(case.vicinity) for name in ("Chain", "Input", "ColumnMix")):
            continue
        x = torch.eye(N).reshape(N, N, 1, 1).expand(N, N, *GRID).double()
        plan = case.plan(N, x, step=1)
        if has_smoothing_or_noise(plan):
            continue
        mixed = plan.target({"ids": y, "soft": torch.eye(N), "more": [torch.eye(N).double(), y]})
        share = plan(x).mean((2, 3)).float()
        for target in (mixed["ids"].dense(N), mixed["soft"], mixed["more"][0].float(), mixed["more"][1].dense(N)):
            torch.testing.assert_close(target, share)


def has_smoothing_or_noise(plan):
    return any(part.smoothing or part.noise for part in flat_plans(plan))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_trap_38_token_ids_are_averaged(dtype):
    with pytest.raises(TypeError, match=r"tokens after their embedding with vicinal\.LatentMixing"):
        v.Mixup()({"input_ids": torch.ones(N, 7, dtype=dtype)}, Y)


def test_trap_39_one_criterion_for_plain_and_mixed():
    for criterion in (F.cross_entropy, torch.nn.CrossEntropyLoss(label_smoothing=0.1, weight=WEIGHT)):
        plain = criterion(LOGITS, Y)
        for vicinity in (v.ERM(), v.Mixup(), v.CutMix()):
            vicinity.off()
            torch.testing.assert_close(criterion(LOGITS, vicinity(images(N), Y)[1]), plain)
            vicinity.on()
            assert criterion(LOGITS, vicinity(images(N), Y)[1]).isfinite()


def test_trap_40_validation_is_mixed():
    """Nothing is mixed that is not handed over: no hook stays on, and a network outside the block is itself."""
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2)).double()
    x = noise(N, 4)
    before = net(x)
    latent = v.LatentMixing(net, "1")
    with latent(PLAN):
        assert not torch.equal(net(x), before)
    assert torch.equal(net(x), before)


def test_trap_42_integer_columns_are_truncated():
    columns = torch.tensor([[0, 1], [1, 0], [0, 0], [1, 1], [1, 0]])
    smote = v.InputMixup(1.0, v.Nearest(k=2))
    with pytest.raises(ValueError, match="needs floating-point inputs"):
        smote(columns, Y)
    with pytest.raises(TypeError, match="cannot be mixed"):
        v.InputMixup(1.0)(columns, Y)
    mixed = v.InputMixup(1.0)(columns.double(), Y)[0]
    assert ((mixed > 0) & (mixed < 1)).any()
    assert mixed.mean().item() == pytest.approx(0.5, abs=1e-6)  # a permutation keeps the mean


def test_trap_43_the_pairing_never_varies():
    for pairing in (v.RandomPairs(), v.RandomPairs(self_pairs=False), v.SameClass(), v.OtherClass(), v.Nearest(k=5)):
        plans = [v.Mixup(1.0, pairing).plan(12, ids(12), images(12), step=step) for step in range(8)]
        assert len({tuple(plan.partner.tolist()) for plan in plans}) >= 7
        other = [v.Mixup(1.0, pairing, seed=1).plan(12, ids(12), images(12), step=step) for step in range(8)]
        assert content([plan.partner for plan in plans]) != content([plan.partner for plan in other])


def test_trap_44_thresholds_make_two_hard_positives():
    soft = PLAN.target(Y).dense(CLASSES)
    torch.testing.assert_close(soft.sum(1), torch.ones(N))
    different = Y[PLAN.partner] != Y
    assert torch.equal(soft[different].max(1).values, PLAN.shares[different].max(1).values)
    with pytest.raises(TypeError, match="dense"):  # a target of ids is never turned into positives behind one's back
        F.binary_cross_entropy_with_logits(LOGITS, PLAN.target(Y))
