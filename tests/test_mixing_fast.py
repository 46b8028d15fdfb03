"""Every fast path of the mix against its plain definition: equal to the bit, or within one rounding."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import vicinal as v
from vicinal import _mixing, formula

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8]
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3),
    "sliced rows": lambda x: x[::2],
    "sliced columns": lambda x: x[:, :, 1:],
}


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def batch(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    if dtype == torch.uint8:
        return torch.from_numpy(generator(seed).integers(0, 256, shape, dtype="uint8"))
    return torch.from_numpy(generator(seed).standard_normal(shape)).to(dtype)


def draw(n: int, per: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    own = generator(seed).random(n if per == "example" else 1, dtype="float32").repeat(1 if per == "example" else n)
    shares = torch.from_numpy(np.stack([own, 1 - own], axis=1))
    return torch.from_numpy(generator(seed + 1).permutation(n))[:, None], shares


def assert_within_one_rounding(got: Tensor, exact: Tensor) -> None:
    assert got.dtype == exact.dtype
    assert got.shape == exact.shape
    if got.dtype == torch.uint8:
        difference = (got.to(torch.int16) - exact.to(torch.int16)).abs()
        assert int(difference.max()) <= 1
        assert float((difference > 0).double().mean()) < 0.001  # only where rounding decides a tie
    else:
        eps = torch.finfo(got.dtype).eps
        torch.testing.assert_close(got, exact, rtol=eps, atol=eps)


@pytest.fixture(params=[True, False], ids=["large rows", "small rows"])
def row_by_row(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Take both paths with the same small batches."""
    monkeypatch.setattr(_mixing, "_LARGE_ROW", 0 if request.param else 10**12)
    monkeypatch.setattr(_mixing, "_LARGE_BATCH", 0)
    return request.param


@pytest.mark.parametrize("per", ["batch", "example"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_new_tensor_buffer_and_in_place_equal_plain(
    dtype: torch.dtype, layout: str, per: str, row_by_row: bool
) -> None:
    x = LAYOUTS[layout](batch((10, 3, 6, 5), dtype))
    partner, weight = draw(len(x), per)
    exact = formula.mix(x, partner, weight)
    before = x.clone()
    got = _mixing.mix(x, partner, weight)
    assert_within_one_rounding(got, exact)
    assert got.stride() == torch.empty_like(x).stride()
    for buffer in (torch.empty_like(x), torch.empty(x.shape, dtype=dtype)):  # of x's layout, and of another
        assert _mixing.mix(x, partner, weight, out=buffer) is buffer
        assert_within_one_rounding(buffer, exact)
    assert torch.equal(x, before)
    own = x.clone()
    assert _mixing.mix(own, partner, weight, out=own) is own
    assert_within_one_rounding(own, exact)


def test_the_row_path_is_taken_for_large_rows_of_large_batches_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_mixing, "_LARGE_BATCH", 4 * 8192 * 4)
    seen = []
    monkeypatch.setattr(_mixing, "_mix_rows", lambda x, *rest: seen.append(x.shape) or x)
    torch_threads = torch.get_num_threads()
    assert torch_threads <= _mixing._FEW_THREADS
    for shape in ((4, 8192), (5, 8191), (3, 8192)):  # rows of 32 KiB, of 4 bytes less, and a smaller batch
        _mixing.mix(torch.zeros(shape), *draw(shape[0], "batch"))
    assert seen == [(4, 8192)]


@settings(deadline=None, max_examples=60)
@given(partner=st.integers(1, 12).flatmap(lambda n: st.lists(st.integers(0, n - 1), min_size=n, max_size=n)))
def test_in_place_is_right_for_any_pairing(partner: list[int]) -> None:
    # not only permutations: rows that many refer to, chains, loops of one
    n = len(partner)
    x = batch((n, 7), torch.float64)
    partners, weight = torch.tensor(partner)[:, None], draw(n, "example")[1]
    own = x.clone()
    for i, other in _mixing._in_place(own.unbind(), partner):
        own[i] = own[i] * weight[i, 0].double() + other * weight[i, 1].double()
    torch.testing.assert_close(own, formula.mix(x, partners, weight), rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("pairing", [v.RandomPairs(), v.OtherClass(), v.SameClass()])
def test_in_place_by_one_call_equals_plain_on_large_rows(pairing: v.Pairing, monkeypatch: pytest.MonkeyPatch) -> None:
    # holds PyTorch's list operation to taking the rows in order
    monkeypatch.setattr(_mixing, "_LARGE_BATCH", 0)
    x, y = batch((40, 3, 64, 64), torch.float32), torch.arange(40) % 3
    plan = v.Mixup(1.0, pairing).plan(40, y, step=3)
    assert isinstance(plan, v.MixPlan)
    exact = formula.mix(x, plan.partners, plan.shares)
    assert_within_one_rounding(plan(x, out=x), exact)


def test_in_place_copies_one_row_a_cycle() -> None:
    copied = []

    class Row:
        def __init__(self, i: int) -> None:
            self.i = i

        def clone(self) -> "Row":
            copied.append(self.i)
            return Row(self.i)

    partner = [1, 2, 0, 4, 3, 5]  # cycles of 3, 2 and 1
    assert len(list(_mixing._in_place([Row(i) for i in range(6)], partner))) == 6  # type: ignore[arg-type]
    assert copied == [0, 3]  # a row paired with itself is overwritten by itself


def test_threads_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_mixing, "_LARGE_BATCH", 0)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        _mixing.mix(batch((4, 10_000), torch.float32), *draw(4, "batch"))
        assert torch.get_num_threads() == 2
        with pytest.raises(RuntimeError), _mixing._one_thread():
            raise RuntimeError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_nests_and_chains_take_buffers() -> None:
    x = {"a": batch((6, 4), torch.float32), "b": [batch((6, 2, 3), torch.float64, 1), None]}
    chain = v.Chain([v.Mixup(1.0), v.GaussianNoise(0.5), v.Mixup(0.5)]).plan(6, step=0)
    exact = chain(x)
    out = {"a": torch.empty(6, 4), "b": [torch.empty(6, 2, 3, dtype=torch.float64), None]}
    got = chain(x, out=out)
    assert got["a"] is out["a"]
    torch.testing.assert_close(got, exact, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(chain(x, out=x), exact, rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="another structure"):
        chain(x, out=[out["a"]])


@pytest.mark.parametrize("vicinity", [v.ERM(), v.CutMix(1.0), v.GaussianNoise(1.0), v.InputMixup(1.0)])
def test_every_vicinity_takes_a_buffer(vicinity: v.Vicinity) -> None:
    x = batch((5, 3, 8, 8), torch.float32)
    plan = vicinity.plan(5, None, x, step=1)
    exact, before, out = plan(x), x.clone(), torch.empty_like(x)
    assert plan(x, out=out) is out
    assert torch.equal(x, before)
    torch.testing.assert_close(out, exact, rtol=1e-6, atol=1e-6)
    assert plan(x, out=x) is x
    torch.testing.assert_close(x, exact, rtol=1e-6, atol=1e-6)


def test_one_line_takes_a_buffer() -> None:
    x, y, out = batch((6, 4), torch.float32), torch.arange(6) % 2, torch.empty(6, 4)
    mixed, _ = v.Mixup(1.0, seed=3)(x, y, out=out)
    assert mixed is out
    assert torch.equal(out, v.Mixup(1.0, seed=3)(x, y)[0])


@pytest.mark.parametrize(
    ("out", "words"),
    [
        (torch.empty(4, 5), "out must be"),
        (torch.empty(4, 4, dtype=torch.float64), "out must be"),
        ("view", "shares memory"),
        ("gradient", "requires grad"),
    ],
)
def test_a_buffer_that_does_not_fit_is_refused(out: Tensor | str, words: str) -> None:
    x = torch.zeros(4, 4)
    if out == "view":
        out = x.view(4, 4)
    if out == "gradient":
        out = torch.zeros(4, 4, requires_grad=True)
    with pytest.raises(ValueError, match=words):
        v.Mixup(1.0).plan(4, step=0)(x, out=out)


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def usual(x: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    """Convert, normalize, mix, in float64."""
    mean, std = (torch.tensor(t, dtype=torch.float64).view(1, 3, 1, 1) for t in (MEAN, STD))
    return formula.mix((x.double() / 255 - mean) / std, partner, weight)


@pytest.mark.parametrize("per", ["batch", "example"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_normalized_equals_the_usual_way(dtype: torch.dtype, layout: str, per: str, row_by_row: bool) -> None:
    x = LAYOUTS[layout](batch((10, 3, 6, 5), torch.uint8))
    partner, weight = draw(len(x), per)
    exact = usual(x, partner, weight)
    tolerance = {"rtol": 0, "atol": max(1e-6, 4 * torch.finfo(dtype).eps)}  # values lie within +-2.7
    before = x.clone()
    got = _mixing.normalized(x, partner, weight, MEAN, STD, dtype)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), exact, **tolerance)
    out = torch.empty(x.shape, dtype=dtype)
    assert _mixing.normalized(x, partner, weight, MEAN, STD, dtype, out=out) is out
    torch.testing.assert_close(out.double(), exact, **tolerance)
    assert torch.equal(x, before)


@settings(deadline=None, max_examples=40)
@given(partner=st.integers(1, 12).flatmap(lambda n: st.lists(st.integers(0, n - 1), min_size=n, max_size=n)))
def test_normalized_rows_are_right_for_any_pairing(partner: list[int]) -> None:
    x = batch((len(partner), 3, 2, 2), torch.uint8)
    partners, weight = torch.tensor(partner)[:, None], draw(len(partner), "example")[1]
    scale = 1 / (255 * torch.tensor(STD))
    shift = -torch.tensor(MEAN) / torch.tensor(STD)
    got = _mixing._normalize_rows(x, partners[:, 0], weight[:, 0], scale, shift, torch.empty(x.shape))
    torch.testing.assert_close(got.double(), usual(x, partners, weight), rtol=0, atol=1e-6)


def test_normalized_without_partners_and_with_three() -> None:
    x = batch((6, 3, 4, 4), torch.uint8)
    for vicinity in (v.ERM(), v.Mixup(v.Dirichlet(1.0, k=3)), v.InputMixup(1.0)):
        plan = vicinity.plan(6, step=0)
        assert isinstance(plan, v.MixPlan)
        got = plan.normalized(x, MEAN, STD)
        torch.testing.assert_close(got.double(), usual(x, plan.partners, plan.shares), rtol=0, atol=1e-6)


def test_normalized_refuses_what_it_has_no_path_for() -> None:
    x = batch((6, 3, 4, 4), torch.uint8)
    plan = v.Mixup(1.0).plan(6, step=0)
    assert isinstance(plan, v.MixPlan)
    with pytest.raises(TypeError, match="uint8"):
        plan.normalized(x.float(), MEAN, STD)
    with pytest.raises(ValueError, match="per channel"):
        plan.normalized(x, (0.5,), (0.5,))
    with pytest.raises(ValueError, match="out must be"):
        plan.normalized(x, MEAN, STD, out=torch.empty(6, 3, 4, 5))
    cut = v.CutMix(1.0).plan(6, None, x, step=0)
    assert isinstance(cut, v.MixPlan)
    with pytest.raises(ValueError, match="no path for boxes"):
        cut.normalized(x, MEAN, STD)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch's own compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8], ids=str)
def test_compiled_equals_plain(dtype: torch.dtype) -> None:
    # the kernel that torch.compile makes of the definition; on a GPU it is the same definition, in Triton
    torch._dynamo.reset()
    x = batch((8, 3, 6, 5), dtype)
    partner, weight = draw(8, "example")
    exact = formula.mix(x, partner, weight)
    plan = v.MixPlan(partner[:, 0], weight[:, 0].clone())
    assert_within_one_rounding(plan(x, compiled=True), exact)
    assert_within_one_rounding(plan(x, out=x.clone(), compiled=True), exact)
    if dtype == torch.uint8:
        got = plan.normalized(x, MEAN, STD, compiled=True)
        torch.testing.assert_close(got.double(), usual(x, partner, weight), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shift", [1, 5, 11])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.uint8])
def test_a_roll_takes_two_pieces_and_equals_plain(shift, layout, dtype, monkeypatch):
    x = (100 * torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))).to(dtype).to(memory_format=layout)
    partner = (torch.arange(12) + shift) % 12
    weight = torch.rand(12, generator=torch.Generator().manual_seed(1))
    expected = formula.mix(x, partner[:, None], torch.stack([weight, 1 - weight], 1))
    monkeypatch.setattr(_mixing, "_SMALL", 1)
    gathers = []
    monkeypatch.setattr(torch.Tensor, "index_select", lambda *args: gathers.append(args))
    mixed = _mixing.mix_pairs(x, partner, weight)
    assert torch.equal(mixed, expected)
    assert mixed.is_contiguous(memory_format=layout)
    out = torch.empty_like(x)
    assert _mixing.mix_pairs(x, partner, weight, out) is out
    assert torch.equal(out, expected)
    assert not gathers


def test_a_roll_has_its_gradient_and_almost_a_roll_is_none(monkeypatch):
    monkeypatch.setattr(_mixing, "_SMALL", 1)
    x = torch.rand(6, 4, generator=torch.Generator().manual_seed(2))
    weight = torch.full((6,), 0.25)
    roll, other = (torch.arange(6) + 2) % 6, torch.tensor([2, 3, 4, 5, 1, 0])
    for partner in (roll, other):
        expected = torch.lerp(x[partner], x, weight[:, None])
        assert torch.equal(_mixing.mix_pairs(x, partner, weight), expected)
        assert torch.equal(_mixing.mix_pairs(x.clone(), partner, weight, out=x.clone()), expected)
    y = x.clone().requires_grad_()
    _mixing.mix_pairs(y, roll, weight).sum().backward()
    assert torch.allclose(y.grad, torch.ones_like(x))


def test_a_roll_into_memory_that_is_no_row_of_its_own(monkeypatch):
    """Slices of larger tensors: their rows cannot be looked at as one piece, and must be written all the same."""
    monkeypatch.setattr(_mixing, "_SMALL", 1)
    x = torch.rand(6, 5, 4, generator=torch.Generator().manual_seed(3))[:, :3, 1:]
    out = torch.zeros(6, 5, 4)[:, :3, 1:]
    assert out.stride() == x.stride()
    partner, weight = (torch.arange(6) + 2) % 6, torch.full((6,), 0.25)
    assert _mixing.mix_pairs(x, partner, weight, out) is out
    assert torch.equal(out, torch.lerp(x[partner], x, torch.tensor(0.25)))
