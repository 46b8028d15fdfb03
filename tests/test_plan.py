"""A plan as a value: what it accepts, refuses, shows, and does to targets of every kind."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import vicinal as v
from vicinal.mix_plan import Noise, identity
from vicinal.plan import PlanChain
from vicinities import CLASSES, GRID, content, ids, images, noise

N = 4
PARTNER = torch.tensor([2, 0, 3, 3])
WEIGHT = torch.tensor([0.75, 0.5, 1.0, 0.25])
PAIRS = v.MixPlan(PARTNER, WEIGHT)
BOX = torch.tensor([[[0, 3], [1, 4]], [[2, 6], [0, 5]], [[1, 1], [0, 5]], [[0, 6], [0, 5]]])
AREA = 1 - (BOX[..., 1] - BOX[..., 0]).prod(1) / 30
CUT = v.MixPlan(PARTNER, AREA, box=BOX, grid=GRID)


def inside(i):
    mask = torch.zeros(GRID, dtype=torch.bool)
    (a, b), (c, d) = BOX[i].tolist()
    mask[a:b, c:d] = True
    return mask


# -- inputs ------------------------------------------------------------------------------------------------------------


def test_rows_by_hand():
    x = torch.tensor([[1.0], [2.0], [4.0], [8.0]])
    assert PAIRS(x).tolist() == [[1.75], [1.5], [4.0], [8.0]]
    assert PAIRS(x[:, 0]).tolist() == [1.75, 1.5, 4.0, 8.0]
    assert v.MixPlan(torch.tensor([[1, 2]] * 4), torch.tensor([[0.5, 0.25, 0.25]] * 4))(x[:, 0]).tolist() == [
        2,
        2.5,
        3.5,
        5.5,
    ]


def test_boxes_by_hand():
    x = images(N)
    got = CUT(x)
    for i in range(N):
        assert torch.equal(got[i], torch.where(inside(i), x[PARTNER[i]], x[i]))


def test_what_lies_on_the_grid_is_cut_and_vectors_follow_the_area():
    x, depth, age, code = images(N), noise(N, *GRID, seed=1), noise(N, seed=2), noise(N, 7, seed=3)
    got = CUT({"image": x, "depth": depth, "meta": [age, code], "bytes": images(N, torch.uint8)})
    assert torch.equal(got["image"], CUT(x))
    for i in range(N):
        assert torch.equal(got["depth"][i], torch.where(inside(i), depth[PARTNER[i]], depth[i]))
    pairs = v.MixPlan(PARTNER, AREA)
    assert torch.equal(got["meta"][0], pairs(age))
    assert torch.equal(got["meta"][1], pairs(code))
    assert torch.equal(got["bytes"], CUT(images(N, torch.uint8)))


def test_on_a_line_no_vector_is_cut_for_its_length():
    plan = v.MixPlan(torch.tensor([1, 0]), torch.tensor([0.6, 0.6]), box=torch.tensor([[[1, 3]], [[1, 3]]]), grid=(5,))
    pairs = v.MixPlan(torch.tensor([1, 0]), torch.tensor([0.6, 0.6]))
    wave, features, soft = noise(2, 1, 5), noise(2, 5, seed=1), noise(2, 5, seed=2).softmax(1)
    got = plan({"wave": wave, "features": features})
    assert torch.equal(got["wave"][:, :, 1:3], wave.flip(0)[:, :, 1:3])
    assert torch.equal(got["features"], pairs(features))
    assert torch.equal(plan.target(soft), pairs.target(soft))
    moments = torch.arange(10).view(2, 5)  # a class for each moment
    assert plan.target(moments).ids.tolist() == [[[0, 6, 7, 3, 4], [5, 1, 2, 8, 9]]]
    assert torch.equal(dataclasses.replace(plan, vectors=True)(features)[:, 1:3], features.flip(0)[:, 1:3])


@pytest.mark.parametrize("shape", [(N, 3, 5, 6), (N, 3, 12, 10), (N, 3, 30), (N, *GRID, 3)])
def test_a_map_off_the_grid_is_refused(shape):
    with pytest.raises(ValueError, match=r"does not lie on the grid \[6, 5\] .* bring it to that size"):
        CUT(noise(*shape))


def test_a_nest_is_not_changed():
    nest = {"a": noise(N, 2), "b": [noise(N), None]}
    before = content(nest)
    got = PAIRS(nest)
    assert content(nest) == before
    assert got["a"] is not nest["a"]


class Rows:
    pass


REFUSED_NESTS = [
    (
        {"path": ["a.png"], "image": images(N)},
        TypeError,
        r"input\['path'\]\[0\] is a str, .*convert it, or leave it out",
    ),
    ([images(N), 3], TypeError, r"input\[1\] is an int, and only tensors can be mixed"),
    (np.zeros((N, 2)), TypeError, "input is a ndarray, and only tensors can be mixed"),
    (Rows(), TypeError, "input is a Rows"),
    ({}, TypeError, "there is no tensor to mix in this input: {}"),
    ([], TypeError, r"there is no tensor to mix in this input: \[\]"),
    (
        images(N - 1),
        ValueError,
        r"input has shape \[3, 3, 6, 5\], but the plan was drawn for 4 rows: dimension 0 must be",
    ),
    (
        {"a": images(N), "b": noise(N + 1)},
        ValueError,
        r"input\['b'\] has shape \[5\], but the plan was drawn for 4 rows",
    ),
    (torch.tensor(1.0), ValueError, r"input has shape \[\], but the plan was drawn for 4 rows"),
    ({"image": images(N), "id": ids(N)}, TypeError, r"a torch.int64 input cannot be mixed"),
    (torch.ones(N, 2, dtype=torch.bool), TypeError, r"a torch.bool input cannot be mixed"),
    ((images(N), PAIRS.target(ids(N))), TypeError, r"a MixedTarget is a target, not an input: mix it with plan.target"),
]


@pytest.mark.parametrize(("nest", "error", "sentence"), REFUSED_NESTS)
def test_what_cannot_be_mixed_is_refused(nest, error, sentence):
    with pytest.raises(error, match=sentence):
        PAIRS(nest)


def test_the_refusal_names_the_place():
    with pytest.raises(TypeError) as caught:
        PAIRS({"image": images(N), "meta": {"id": ids(N)}})
    assert caught.value.__notes__ == ["(at input['meta']['id'])"]


# -- targets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_class_ids_of_any_integer_type(dtype):
    got = PAIRS.target(torch.tensor([0, 1, 2, 1], dtype=dtype))
    assert isinstance(got, v.MixedTarget)
    assert got.ids.dtype == torch.int64
    assert got.ids.tolist() == [[0, 1, 2, 1], [2, 0, 1, 1]]
    assert got.weight.T.tolist() == [[0.75, 0.25], [0.5, 0.5], [1.0, 0.0], [0.25, 0.75]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(N,), (N, 1), (N, 5), (N, 2, 3)])
def test_numbers_stay_numbers_of_their_shape(shape, dtype):
    y = noise(*shape, dtype=dtype)
    got = PAIRS.target(y)
    assert (got.dtype, got.shape) == (y.dtype, y.shape)
    assert torch.equal(got, PAIRS(y))


def test_a_column_of_ids_is_ids():
    got = PAIRS.target(ids(N)[:, None])
    assert got.shape == (N, 1)
    assert torch.equal(got.ids[1], ids(N)[PARTNER][:, None])


def test_maps_of_ids_follow_the_weight_without_a_box():
    y = torch.arange(N * 30).reshape(N, *GRID) % CLASSES
    got = PAIRS.target(y)
    assert torch.equal(got.ids, torch.stack([y, y[PARTNER]]))
    assert torch.equal(got.weight, torch.stack([WEIGHT, 1 - WEIGHT]))


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.int32])
@pytest.mark.parametrize("shape", [(N, *GRID), (N, 1, *GRID)])
def test_maps_of_ids_are_cut_by_the_box(shape, dtype):
    y = (torch.arange(N * 30).reshape(shape) % CLASSES).to(dtype)
    got = CUT.target(y)
    assert isinstance(got, v.MixedTarget)
    assert got.weight.eq(1).all()
    for i in range(N):
        assert torch.equal(got.ids[0, i], torch.where(inside(i), y[PARTNER[i]], y[i]).long())
    logits = noise(N, CLASSES, *shape[1:])
    assert torch.equal(F.cross_entropy(logits, got), F.cross_entropy(logits, got.ids[0]))


def test_maps_of_numbers_are_cut_by_the_box():
    for y in (noise(N, *GRID), noise(N, 2, *GRID)):
        got = CUT.target(y)
        for i in range(N):
            assert torch.equal(got[i], torch.where(inside(i), y[PARTNER[i]], y[i]))


def test_ids_and_vectors_beside_boxes_follow_the_area():
    got = CUT.target({"class": ids(N), "mask": torch.zeros(N, *GRID, dtype=torch.int64), "age": noise(N, 1)})
    assert torch.equal(got["class"].weight[0], AREA)
    assert got["mask"].weight.shape == (1, N)
    assert torch.equal(got["age"], v.MixPlan(PARTNER, AREA).target(noise(N, 1)))


def test_maps_that_are_whole_can_be_cut_after_other_plans():
    y = torch.arange(N * 30).reshape(N, *GRID) % CLASSES
    smooth = identity(N, smoothing=0.25)
    for first in (identity(N), CUT, smooth):
        got = PlanChain((first, CUT)).target(y)
        once = first.target(y).ids[0]
        for i in range(N):
            assert torch.equal(got.ids[0, i], torch.where(inside(i), once[PARTNER[i]], once[i]))
        assert got.smoothing == first.smoothing
    with pytest.raises(TypeError, match="cut by box only before they are mixed: put CutMix first"):
        PlanChain((PAIRS, CUT)).target(y)


REFUSED_TARGETS = [
    (
        torch.ones(N, dtype=torch.bool),
        TypeError,
        r"pass \.float\(\) for multi-label .* or \.long\(\) for class indices",
    ),
    ({"a": ["x"]}, TypeError, r"target\['a'\]\[0\] is a str"),
    (ids(N + 1), ValueError, r"target has shape \[5\], but the plan was drawn for 4 rows"),
    (torch.tensor(3), TypeError, r"the target is one label, 3, but a batch \[n\] of them was expected: mix after"),
    ([0, 1, 2, 1], TypeError, r"target is a list of numbers, .* torch.tensor\(target\)"),
    ({}, TypeError, "there is no tensor to mix in this target"),
]


@pytest.mark.parametrize(("y", "error", "sentence"), REFUSED_TARGETS)
def test_what_is_no_target_is_refused(y, error, sentence):
    with pytest.raises(error, match=sentence):
        PAIRS.target(y)


def test_ids_off_the_grid_are_refused():
    for shape in ((N, 5, 6), (N, *GRID, 2)):
        with pytest.raises(ValueError, match=r"a target of shape .* does not lie on the grid \[6, 5\]"):
            CUT.target(torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize("heads", [1, 6, 7])
def test_class_indices_of_several_heads_follow_the_area(heads):
    y = torch.arange(N * heads).view(N, heads)
    mixed = CUT.target(y)
    assert torch.equal(mixed.ids, torch.stack([y, y[PARTNER]]))
    assert torch.equal(mixed.weight, torch.stack([AREA, 1 - AREA]))


def test_no_target_is_no_target():
    assert PAIRS.target(None) is None
    got = PAIRS.target({"a": None, "b": ids(N)})
    assert got["a"] is None


# -- smoothing ---------------------------------------------------------------------------------------------------------


def test_smoothing_of_ids_and_soft_labels_agree():
    plan, y = identity(N, smoothing=0.3), ids(N)
    soft = F.one_hot(y, CLASSES).float()
    expected = 0.7 * soft + 0.1
    torch.testing.assert_close(plan.target(soft), expected)
    torch.testing.assert_close(plan.target(y).dense(CLASSES), expected)
    spatial = soft[:, :, None].expand(N, CLASSES, 5)
    torch.testing.assert_close(plan.target(spatial), 0.7 * spatial + 0.1)


@pytest.mark.parametrize("y", [noise(N), noise(N, 3), torch.ones(N, 3)])
def test_smoothing_of_other_numbers_is_refused(y):
    with pytest.raises(ValueError, match="label smoothing has a meaning for class indices and for soft labels"):
        identity(N, smoothing=0.1).target(y)
    assert torch.equal(identity(N).target(y), y)


# -- the value ---------------------------------------------------------------------------------------------------------


def test_repr_shows_every_row():
    assert repr(PAIRS) == "Plan(4 rows; 0: 0.75 + 0.25 of 2; 1: 0.5 + 0.5 of 0; 2: 1 + 0 of 3; 3: 0.25 + 0.75 of 3)"
    assert repr(identity(2)) == "Plan(2 rows; 0: 1; 1: 1)"
    assert "0: 0.5 + 0.25 of 1 + 0.25 of 2" in repr(
        v.MixPlan(torch.tensor([[1, 2]]), torch.tensor([[0.5, 0.25, 0.25]]))
    )
    assert "box=[[[0, 3], [1, 4]]" in repr(CUT)
    assert "smoothing=0.1" in repr(identity(1, smoothing=0.1))
    assert "noise=Noise(sigma=0.5" in repr(identity(1, noise=Noise(0.5, v.Key(0, 0, 0, 0))))
    assert "targets=nearer" in repr(v.MixPlan(PARTNER, WEIGHT, target_weight=WEIGHT.round()))
    assert "PlanChain(plans=(Plan(4 rows" in repr(PlanChain((PAIRS, CUT)))


@pytest.mark.parametrize(("n", "shown"), [(16, 16), (17, 17), (18, 16), (5000, 16)])
def test_repr_of_many_rows_is_short(n, shown):
    text = repr(identity(n))
    assert text.count(": 1") == shown
    assert (f"... {n - 16} more" in text) == (n > 17)


def test_a_plan_is_frozen():
    with pytest.raises(AttributeError):
        PAIRS.weight = WEIGHT  # type: ignore[misc]
    assert len({PAIRS, CUT, PAIRS}) == 2


I64, F32 = torch.int64, torch.float32
INCONSISTENT = [
    ((PARTNER.int(), WEIGHT), {}, r"partner must be int64 \[n\] or \[n, m\], got torch.int32 \[4\]"),
    ((PARTNER[None, None], WEIGHT), {}, r"partner must be int64 .* got torch.int64 \[1, 1, 4\]"),
    (
        (PARTNER, WEIGHT[:3]),
        {},
        r"weight must be float32 or float64 \[4\] beside partner \[4\], got torch.float32 \[3\]",
    ),
    ((PARTNER, WEIGHT.half()), {}, "weight must be float32 or float64"),
    ((PARTNER, WEIGHT[:, None]), {}, r"weight must be .* \[4\] beside partner \[4\], got torch.float32 \[4, 1\]"),
    ((PARTNER[:, None], WEIGHT[:, None]), {}, r"weight must be .* \[4, 2\] beside partner \[4, 1\]"),
    ((PARTNER, WEIGHT), {"target_weight": WEIGHT[:2]}, r"target_weight must be .* \[4\]"),
    ((PARTNER, WEIGHT), {"box": BOX}, r"box must be int64 \[n, d, 2\] .* grid \[\]"),
    ((PARTNER, WEIGHT), {"box": BOX[:2], "grid": GRID}, r"box must be .* got torch.int64 \[2, 2, 2\]"),
    ((PARTNER, WEIGHT), {"box": BOX.float(), "grid": GRID}, r"box must be int64"),
    ((PARTNER[:, None], torch.ones(4, 2)), {"box": BOX, "grid": GRID}, r"box must be .* beside partner \[4, 1\]"),
]


@pytest.mark.parametrize(("parts", "more", "sentence"), INCONSISTENT)
def test_inconsistent_shapes_are_refused(parts, more, sentence):
    with pytest.raises(ValueError, match=sentence):
        v.MixPlan(*parts, **more)


def test_a_chain_needs_plans_of_one_length():
    with pytest.raises(ValueError, match=r"a chain needs plans of one length, got lengths \[4, 3\]"):
        PlanChain((PAIRS, identity(3)))
    with pytest.raises(ValueError, match=r"got lengths \[\]"):
        PlanChain(())


def test_dicts_hold_plain_values_only():
    noisy = identity(
        2, noise=Noise(np.float64(0.5), v.Key(np.int64(2**40), 0, 0, np.int64(1))), smoothing=np.float32(0.5)
    )
    assert b"numpy" not in pickle.dumps(PlanChain((identity(2), noisy)).to_dict())
    assert v.plan_from_dict(noisy.to_dict()).noise == Noise(0.5, v.Key(2**40, 0, 0, 1))


def test_seeds_of_64_bits_survive_the_dict(tmp_path):
    plan = v.GaussianNoise(0.1, seed=2**64 - 1).plan(3, step=2**63)
    torch.save(plan.to_dict(), tmp_path / "plan.pt")
    again = v.plan_from_dict(torch.load(tmp_path / "plan.pt", weights_only=True))
    assert torch.equal(again(images(3)), plan(images(3)))


@pytest.mark.parametrize(
    "values", [{}, {"partner": PARTNER, "weight": WEIGHT}, {"on": True, "epoch": None, "steps": []}]
)
def test_other_dicts_are_refused(values):
    with pytest.raises(ValueError, match=r"this is not what to_dict of a plan gave: \[.*\] missing"):
        v.plan_from_dict(values)


def test_a_plan_moves_with_its_tensors():
    moved = CUT.to("meta")
    assert {moved.partner.device.type, moved.weight.device.type, moved.box.device.type} == {"meta"}
    assert moved.grid == GRID
    chain = PlanChain((CUT, PAIRS)).to("meta")
    assert {part.weight.device.type for part in chain.plans} == {"meta"}
    assert CUT(torch.empty(N, 3, *GRID, device="meta")).device.type == "meta"
    target = PAIRS.target(torch.empty(N, dtype=torch.int64, device="meta"))
    assert {target.ids.device.type, target.weight.device.type} == {"meta"}


# -- noise -------------------------------------------------------------------------------------------------------------


def test_noise_differs_between_leaves_and_is_the_same_for_every_layout_and_dtype():
    plan = identity(N, noise=Noise(1.0, v.Key(0, 0, 0, 0)))
    zero = torch.zeros(N, 3, *GRID)
    first, second = plan([zero, zero])
    assert not torch.equal(first, second)
    assert abs(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]) < 0.2
    assert torch.equal(plan(zero.to(memory_format=torch.channels_last)), first)
    assert torch.equal(plan(zero.double()), first.double())
    assert torch.equal(plan(zero.bfloat16()), first.bfloat16())


def test_noise_of_a_nest_of_many_tensors():
    plan = identity(2, noise=Noise(1.0, v.Key(0, 0, 0, 0)))
    assert len({t.sum().item() for t in plan([torch.zeros(2)] * 200)}) == 200
    assert len(PAIRS([torch.zeros(N)] * 200)) == 200


@pytest.mark.parametrize("dtype", [torch.uint8, torch.complex64])
def test_noise_needs_floats(dtype):
    with pytest.raises(
        TypeError, match=f"Gaussian noise needs floating-point inputs, got {dtype}: convert with .float"
    ):
        identity(N, noise=Noise(1.0, v.Key(0, 0, 0, 0)))(images(N, dtype))
