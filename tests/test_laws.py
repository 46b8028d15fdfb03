"""What every vicinity owes, over the one table of all of them."""

import copy
import dataclasses
import io
import pickle
import random
import re
import warnings
from typing import NamedTuple

import numpy as np
import pytest
import torch

import installed
import vicinal as v
from vicinities import CASES, CLASSES, GRID, Case, content, expected_labels, expected_rows, flat_plans, images, noise

pytestmark = pytest.mark.usefixtures("alone_is_fine")
every = pytest.mark.parametrize("case", CASES, ids=str)
SIZES = (0, 1, 2, 3, 7)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
DTYPES = (*FLOATS, torch.complex64, torch.uint8)


def has_noise(case: Case) -> bool:
    return "noise" in repr(case.vicinity).lower()


# -- the table ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [v.Vicinity, v.Pairing, v.Weighting])
def test_every_public_class_is_in_the_table(kind):
    named = {**vars(v), **{name: getattr(v.methods, name) for name in v.methods.__all__}}
    public = {n for n, c in named.items() if isinstance(c, type) and issubclass(c, kind) and c is not kind}
    shown = " ".join(repr(case.vicinity) for case in CASES) + " Beta("  # a bare alpha means Beta
    assert public
    assert {name for name in public if f"{name}(" not in shown} == set()


def test_names_in_the_table_are_unique():
    assert len({case.name for case in CASES}) == len(CASES)


# -- the formula -------------------------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("n", SIZES)
def test_rows_follow_the_formula(case, n):
    for step in range(4):
        plan = case.plan(n, step=step)
        x = images(n)
        assert len(plan) == n
        torch.testing.assert_close(plan(x), expected_rows(plan, x), rtol=0, atol=1e-6)


@every
@pytest.mark.parametrize("n", SIZES)
def test_labels_follow_the_formula(case, n):
    plan = case.plan(n, step=1)
    y = torch.arange(n) % CLASSES
    mixed = plan.target(y)
    assert isinstance(mixed, v.MixedTarget)
    assert mixed.weight.dtype == torch.float32
    torch.testing.assert_close(mixed.dense(CLASSES, torch.float64), expected_labels(plan, y), rtol=0, atol=1e-6)


@every
def test_soft_labels_are_mixed_as_ids_are(case):
    plan = case.plan(7, step=2)
    y = torch.arange(7) % CLASSES
    soft = plan.target(torch.nn.functional.one_hot(y, CLASSES).double())
    torch.testing.assert_close(soft, plan.target(y).dense(CLASSES, torch.float64), rtol=0, atol=1e-6)


@every
@pytest.mark.parametrize("n", SIZES)
def test_shares_are_convex(case, n):
    for step in range(20):
        for part in flat_plans(case.plan(n, step=step)):
            for shares in (part.shares, part.target_shares):
                assert shares.shape == (n, part.partners.shape[1] + 1)
                assert shares.dtype == torch.float32
                assert ((shares >= 0) & (shares <= 1)).all()
                assert (shares.double().sum(1) - 1).abs().le(1e-6).all()
            assert ((part.partners >= 0) & (part.partners < n)).all()


# -- what goes in and what comes out -----------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtype_is_kept_and_rounded_once(case, dtype):
    if has_noise(case) and dtype not in FLOATS:
        with pytest.raises(TypeError, match="floating-point inputs"):
            case.plan(5)(images(5, dtype))
        return
    if case.floats and dtype not in FLOATS:
        plan = case.plan(5)  # drawn for floats, applied to the rest
    else:
        plan = case.plan(5, images(5, dtype))
    x = images(5, dtype)
    got, exact = plan(x), expected_rows(plan, x)
    assert got.dtype == dtype
    if dtype == torch.uint8:
        steps = len(flat_plans(plan))
        assert (got.double() - exact).abs().max() <= 0.5 * steps + 1e-3
    else:
        steps = len(flat_plans(plan))
        unit = torch.finfo(dtype).eps / 2
        bound = 1e-6 * exact.abs().max() + steps * 1.01 * unit * exact.abs().max()
        assert (got.to(exact.dtype) - exact).abs().max() <= bound


def _layouts():
    n = 3
    base = images(n)
    yield "contiguous", base, torch.contiguous_format
    yield "channels_last", base.to(memory_format=torch.channels_last), torch.channels_last
    yield "slice", torch.zeros(n, 3, 12, 7, dtype=base.dtype)[:, :, ::2, 1:6].copy_(base), None
    yield "rows", torch.zeros(2 * n, 3, *GRID, dtype=base.dtype)[::2].copy_(base), torch.contiguous_format
    yield "transposed", base.transpose(2, 3).contiguous().transpose(2, 3), None
    yield "batch_last", base.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2), None
    yield "expanded_batch", base[:1].expand(n, 3, *GRID), None
    yield "expanded_channels", base[:, :1].expand(n, 3, *GRID), None


LAYOUTS = list(_layouts())


@every
@pytest.mark.parametrize(("x", "layout"), [row[1:] for row in LAYOUTS], ids=[row[0] for row in LAYOUTS])
def test_layout_changes_nothing_and_is_kept(case, x, layout):
    plan = case.plan(3, x, step=1)
    strides, version, before = x.stride(), x._version, x.clone()
    got = plan(x)
    assert torch.equal(got, plan(x.contiguous()))
    assert (x.stride(), x._version) == (strides, version)
    assert torch.equal(x, before)
    if layout is not None and got is not x:
        assert got.is_contiguous(memory_format=layout)


@every
def test_channels_last_3d_is_kept(case):
    x = noise(3, 3, 3, 4, 5).to(memory_format=torch.channels_last_3d)
    if any(f"{who}(" in repr(case.vicinity) for who in ("CutMix", "FMix")) and "dims=2" not in repr(case.vicinity):
        step = next(s for s in range(20) if re.search("box|mask", repr(case.plan(3, step=s))))  # a choice comes to it
        with pytest.raises(ValueError, match=r"may be volumes .* or videos"):
            case.plan(3, x, step=step)
        return
    plan = case.plan(3, x)
    got = plan(x)
    assert got.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(got, plan(x.contiguous()))


@every
def test_inputs_and_targets_are_byte_identical_after_the_call(case):
    x, y, soft = images(7), case.y(7), noise(7, CLASSES).softmax(1)
    held = [t.clone() for t in (x, y, soft)]
    one_line = case.fresh()
    one_line(x, y)
    plan = case.plan(7)
    plan(x)
    plan.target((y, soft))
    assert [t.numpy().tobytes() for t in (x, y, soft)] == [t.numpy().tobytes() for t in held]


@every
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_lambda_of_one_changes_no_bit(case, dtype):
    x = images(5, dtype)
    for part in flat_plans(case.plan(5)):
        weight = torch.zeros_like(part.weight)
        weight[..., 0] = 1
        whole = torch.ones_like(weight) if weight.ndim == 1 else weight
        box = None if part.box is None else torch.zeros_like(part.box)
        mask = None if part.mask is None else torch.zeros_like(part.mask)
        changes = {"weight": whole, "target_weight": None, "box": box, "mask": mask, "noise": None, "smoothing": 0.0}
        plan = dataclasses.replace(part, **changes)
        assert torch.equal(plan(x), x)
        y = plan.target(torch.arange(5) % CLASSES)
        assert torch.equal(y.dense(CLASSES).argmax(1), torch.arange(5) % CLASSES)
        assert y.dense(CLASSES).max(1).values.eq(1).all()


# -- a plan is a value -------------------------------------------------------------------------------------------------


@every
def test_a_plan_replays(case):
    plan = case.plan(7, step=3)
    x, y = images(7), case.y(7)
    first = content([plan(x), plan.target(y)])
    assert content([plan(x), plan.target(y)]) == first
    file = io.BytesIO()
    torch.save(plan.to_dict(), file)
    file.seek(0)
    again = v.plan_from_dict(torch.load(file, weights_only=True))
    assert content([again(x), again.target(y)]) == first
    assert repr(again) == repr(plan)


@every
def test_a_plan_pickles_copies_and_moves(case):
    plan = case.plan(5, step=1)
    for again in (pickle.loads(pickle.dumps(plan)), copy.deepcopy(plan), plan.to("cpu"), plan.to(torch.device("cpu"))):
        assert content(again) == content(plan)
        assert type(again) is type(plan)


# -- draws -------------------------------------------------------------------------------------------------------------


def _draws(case, steps=8, **key):
    return content([case.plan(7, step=step, **key) for step in range(steps)])


@every
def test_equal_keys_give_equal_draws(case):
    assert _draws(case, seed=5, rank=2, worker=3) == _draws(case, seed=5, rank=2, worker=3)


@every
def test_every_part_of_the_key_counts(case):
    base = {"seed": 1, "rank": 1, "worker": 1}
    draws = [_draws(case, **base)] + [_draws(case, **{**base, part: 2}) for part in base]
    draws.append(content([case.plan(7, step=100 + step, **base) for step in range(8)]))
    distinct = [draw for i, draw in enumerate(draws) if draw not in draws[:i]]
    assert len(distinct) == (len(draws) if case.draws else 1)


@every
def test_the_seed_of_the_vicinity_is_the_seed_of_the_draw(case):
    seeded = dataclasses.replace(case.vicinity, seed=77)
    plans = [seeded.plan(7, case.y(7), images(7), step=step, epoch=case.epoch) for step in range(8)]
    assert content(plans) == _draws(case, seed=77)


@every
def test_global_generators_are_neither_moved_nor_read(case):
    def states():
        return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002

    def run():
        vicinity = case.fresh()
        return content([vicinity(images(7), case.y(7)) for _ in range(3)])

    python, torchs = random.getstate(), torch.get_rng_state()
    numpys = np.random.get_state()  # noqa: NPY002
    try:
        before = states()
        first = run()
        assert states() == before
        random.seed(99)
        np.random.set_state(np.random.RandomState(99).get_state())  # noqa: NPY002
        torch.set_rng_state(torch.Generator().manual_seed(99).get_state())
        assert run() == first
    finally:
        random.setstate(python)
        np.random.set_state(numpys)  # noqa: NPY002
        torch.set_rng_state(torchs)


# -- the one line ------------------------------------------------------------------------------------------------------


@every
def test_the_one_line_is_the_plan_of_its_step(case):
    vicinity = case.fresh()
    x, y = images(7), case.y(7)
    for step in range(3):
        plan = case.plan(7, step=step)
        assert content(vicinity(x, y)) == content([plan(x), plan.target(y)])
    assert vicinity.state_dict()["steps"] == [3]


@every
def test_a_resume_in_mid_epoch_goes_on_where_it_was(case):
    x, y = images(7), case.y(7)
    first = case.fresh()
    for _ in range(3):
        first(x, y)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    expected = content([first(x, y) for _ in range(3)])
    file.seek(0)
    second = copy.deepcopy(case.vicinity)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert content([second(x, y) for _ in range(3)]) == expected


@every
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))], ids=["copy", "pickle"])
def test_copies_are_equal_and_go_their_own_way(case, duplicate):
    x, y = images(7), case.y(7)
    vicinity = case.fresh()
    vicinity(x, y)
    other = duplicate(vicinity)
    assert other == vicinity
    assert hash(other) == hash(vicinity)
    assert repr(other) == repr(vicinity)
    assert other.state_dict() == vicinity.state_dict()
    assert content(other(x, y)) == content(vicinity(x, y))
    other(x, y)
    other.off()
    assert vicinity.state.numbers() == {**other.state.numbers(), "steps": [2], "on": True}


@every
def test_vicinities_are_frozen_values(case):
    for field in dataclasses.fields(case.vicinity):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(case.vicinity, field.name, getattr(case.vicinity, field.name))
    assert case.vicinity != dataclasses.replace(case.vicinity, seed=1)
    assert len({c.vicinity for c in CASES}) == len(CASES) - 1  # one of them stands in the table for two epochs


@every
def test_off_gives_the_data_and_on_the_same_draws_as_ever(case):
    x, y = images(7), case.y(7)
    vicinity = case.fresh()
    kind = type(vicinity(x, y)[1])
    vicinity.off()
    clean_x, clean_y = vicinity(x, y)
    assert torch.equal(clean_x, x)
    assert type(clean_y) is kind
    if isinstance(clean_y, v.MixedTarget):
        assert torch.equal(clean_y.dense(CLASSES), torch.nn.functional.one_hot(y, CLASSES).float())
    else:
        assert torch.equal(clean_y, y)
    vicinity.on()
    plan = case.plan(7, step=2)
    assert content(vicinity(x, y)) == content([plan(x), plan.target(y)])


# -- nests -------------------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor | None


@every
def test_a_nest_is_mixed_with_one_draw(case):
    n = 7
    plan = case.plan(n, step=1)
    vector, code, grid = noise(n, seed=2), noise(n, 4, seed=3), noise(n, *GRID, seed=4)
    if "ColumnMix(" in repr(case.vicinity):  # tables have columns: what lacks them is refused (test_methods.py)
        vector, code, grid = noise(n, 3, seed=2), noise(n, 3, seed=3), noise(n, 3, *GRID, seed=4)
    leaves = [images(n), vector, code, grid, images(n, torch.float32)]
    nest = {"a": leaves[0], "b": [leaves[1], (leaves[2], None)], "c": {"d": Pair(leaves[3], None)}, "e": (leaves[4],)}
    got = plan(nest)
    assert type(got["c"]["d"]) is Pair
    assert got["b"][1][1] is None
    assert got["c"]["d"].right is None
    assert isinstance(got["b"][1], tuple)
    flat = [got["a"], got["b"][0], got["b"][1][0], got["c"]["d"].left, got["e"][0]]
    for leaf, mixed in zip(leaves, flat, strict=True):
        assert mixed.dtype == leaf.dtype
        if not has_noise(case):
            assert torch.equal(mixed, plan(leaf))
        elif leaf.ndim == 4:
            assert (mixed - leaf).abs().max() > 0


@every
def test_the_order_of_a_dict_does_not_matter(case):
    n = 5
    items = {"image": images(n), "twin": noise(n, 3, *GRID, seed=8), "code": noise(n, 4)}
    y = {"second": torch.arange(n) % CLASSES, "first": noise(n, CLASSES).softmax(1)}
    looks_at_labels = any(who in repr(case.vicinity) for who in ("Class", "same_class", "Selective", "Remix"))
    y = case.y(n) if case.numbers or looks_at_labels else y
    if "ColumnMix(" in repr(case.vicinity):
        items["code"] = noise(n, 3)
    results = []
    for flip in (False, True):
        ordered = dict(reversed(items.items())) if flip else items
        labels = dict(reversed(y.items())) if flip and isinstance(y, dict) else y
        mixed, target = case.fresh()(ordered, labels)
        assert list(mixed) == list(ordered)
        results.append(content([mixed, target]))  # dicts are equal in any order
    assert results[0] == results[1]


# -- autograd, compile -------------------------------------------------------------------------------------------------


@every
def test_the_gradient_flows_through_the_mix(case):
    plan = case.plan(3, noise(3, 3, 2, 2), step=1)
    x = noise(3, 3, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(plan, (x,))
    torch.testing.assert_close(
        torch.autograd.grad(plan(x).sum(), x)[0].sum().item(), float(case.rows * x.numel()), rtol=1e-6, atol=0
    )  # rows sum to 1, so the mass of the gradient is kept, once for each row that is made


@every
def test_modes_of_autograd(case):
    plan = case.plan(3)
    plain = plan(images(3))
    with torch.no_grad():
        assert torch.equal(plan(images(3).requires_grad_()), plain)
    with torch.inference_mode():
        assert torch.equal(plan(images(3)), plain)


@installed.traces_targets
@every
@pytest.mark.slow
def test_a_plan_compiles_in_one_graph(case):
    x = images(7, torch.float32)
    plan = case.plan(7, step=1)
    # noise is drawn on the host by numpy, where a graph has to break
    fullgraph = not has_noise(case)
    torch.compiler.reset()
    compiled = torch.compile(lambda plan, x: plan(x), fullgraph=fullgraph, backend="eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if not fullgraph else "error")
        warnings.filterwarnings("ignore", "Guards may run slower on Python 3.13.0")  # as pyproject.toml says
        got = compiled(plan, {"x": x})["x"]
    torch.testing.assert_close(got, plan({"x": x})["x"], rtol=0, atol=0)
