"""The one operation against a plain loop in double precision."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vicinal import Key, _mixing, formula
from vicinities import images, noise

DTYPES = [
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
    torch.uint8,
]


def loop(x, partner, weight):
    """Return the definition, in double precision."""
    exact = torch.complex128 if x.is_complex() else torch.float64
    out = torch.zeros(x.shape, dtype=exact)
    for i in range(len(x)):
        out[i] = weight[i, 0].item() * x[i].to(exact)
        for j in range(partner.shape[1]):
            out[i] += weight[i, j + 1].item() * x[int(partner[i, j])].to(exact)
    return out


def shares(n, m, seed=0):
    """Return shares float32 [n, m + 1] that sum to 1."""
    return noise(n, m + 1, seed=seed).mul(3).softmax(1).float()


def partners(n, m, seed=0):
    """Return any rows int64 [n, m], no permutation."""
    return (noise(n, m, seed=seed + 50).abs() * 1000).long() % max(n, 1)


@given(
    st.sampled_from(DTYPES),
    st.integers(0, 5),
    st.integers(1, 3),
    st.lists(st.integers(0, 4), max_size=3),
    st.permutations(range(3)),
    st.integers(0, 10**6),
)
def test_mix_is_the_loop(dtype, n, m, shape, order, seed):
    """Any dtype, number of partners, shape and order of the axes in memory."""
    x = noise(n, *shape, seed=seed).mul(50)
    x = x.abs().to(dtype) if dtype == torch.uint8 else x.to(dtype)
    axes = [1 + d for d in order if d < len(shape)]
    x = x.permute(0, *axes).contiguous().permute([0, *[1 + axes.index(d + 1) for d in range(len(shape))]])
    weight, partner = shares(n, m, seed), partners(n, m, seed)
    got, exact = _mixing.mix(x, partner, weight), loop(x, partner, weight)
    assert got.dtype == dtype
    assert got.shape == x.shape
    if x.numel() == 0:
        return
    error = (got.to(exact.dtype) - exact).abs().max()
    if dtype == torch.uint8:
        assert error <= 0.5 + 1e-4
    else:
        assert error <= exact.abs().max() * (torch.finfo(dtype).eps * 0.51 + 5e-7)


@pytest.mark.parametrize("dtype", DTYPES[:4], ids=str)
@pytest.mark.parametrize("m", [1, 2])
def test_one_rounding_only(dtype, m):
    x, weight, partner = images(32, dtype), shares(32, m), partners(32, m)
    got, exact = _mixing.mix(x, partner, weight).double(), loop(x, partner, weight)
    if dtype in (torch.float16, torch.bfloat16):  # all but the ties that float32 decides the other way
        assert (got == exact.to(dtype).double()).double().mean() > 0.999
    else:
        assert (got - exact).abs().max() < 1e-6


@given(st.integers(0, 3), st.floats(0, 1, width=32), st.booleans())
def test_every_value_lies_between_its_rows(case, lam, half):
    x = noise(8, 40, seed=case).float()
    x = x.half() if half else x
    partner = partners(8, 1)
    got = _mixing.mix(x, partner, torch.tensor([[lam, 1 - lam]]).expand(8, 2))
    low, high = torch.minimum(x, x[partner[:, 0]]), torch.maximum(x, x[partner[:, 0]])
    slack = 0 if half else 1e-6
    assert ((got >= low - slack) & (got <= high + slack)).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lam", [0.0, 0.1, 0.5, 0.9999, 1.0])
def test_a_row_mixed_with_itself_stays_as_it_is(dtype, lam):
    x = images(4, dtype)
    weight = torch.tensor([lam, 1 - lam]).expand(4, 2)
    assert torch.equal(_mixing.mix(x, torch.arange(4)[:, None], weight), x)


@pytest.mark.parametrize("lam", [0.5, 0.25, 0.3, 0.7])
def test_uint8_is_rounded_without_bias(lam):
    x = torch.from_numpy(Key(0, 0, 0, 0).generator().integers(0, 256, (64, 20_000))).to(torch.uint8)
    weight, partner = torch.tensor([lam, 1 - lam]).expand(64, 2), partners(64, 1)
    exact = lam * x.double() + (1 - lam) * x[partner[:, 0]].double()
    error = _mixing.mix(x, partner, weight).double() - exact
    assert error.abs().max() <= 0.5 + 1e-4
    assert abs(error.mean().item()) < 0.01


def test_uint8_uses_its_whole_range():
    x = torch.tensor([[0, 255, 255], [255, 255, 0]], dtype=torch.uint8)
    got = _mixing.mix(x, torch.tensor([[1], [0]]), torch.tensor([[0.2, 0.8], [1.0, 0.0]]))
    assert got.tolist() == [[204, 255, 51], [255, 255, 0]]


def test_nothing_to_mix_gives_the_tensor_itself():
    x = images(3)
    assert _mixing.mix(x, torch.empty(3, 0, dtype=torch.int64), torch.ones(3, 1)) is x
    x[0, 0, 0, 0], x[1, 0, 0, 0] = torch.nan, torch.inf
    assert _mixing.mix(x, torch.empty(3, 0, dtype=torch.int64), torch.ones(3, 1)).isnan().sum() == 1


def test_what_is_not_finite_stays_in_its_rows_and_cells():
    x = noise(4, 3)
    x[0, 1] = torch.nan
    got = _mixing.mix(x, torch.tensor([[1], [2], [0], [1]]), torch.tensor([[0.6, 0.4]] * 4))
    bad = torch.zeros(4, 3, dtype=torch.bool)
    bad[0, 1] = bad[2, 1] = True  # the row itself, and the one that has it for a partner
    assert torch.equal(~got.isfinite(), bad)


@pytest.mark.parametrize("m", [1, 2])
def test_the_result_is_memory_of_its_own(m):
    x = noise(1, 6).expand(4, 6)
    got = _mixing.mix(x, partners(4, m), shares(4, m))
    got.zero_()  # an expanded result would refuse, a view would write through
    assert x.abs().min() > 0


def test_weights_in_double_precision_are_used_as_such():
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    third = torch.tensor([[2 / 3, 1 / 3]] * 2, dtype=torch.float64)
    assert _mixing.mix(x, torch.tensor([[1], [0]]), third)[0, 0].item() == pytest.approx(1 / 3, abs=1e-15)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64, torch.bool])
def test_integers_are_names(dtype):
    with pytest.raises(
        TypeError, match=rf"a {dtype} input cannot be mixed: integers are names .* \.float\(\).*target y"
    ):
        _mixing.mix(torch.zeros(3, 2, dtype=dtype), partners(3, 1), shares(3, 1))


def test_a_plan_follows_its_tensor_to_another_device():
    x = torch.empty(4, 3, 6, 5, device="meta")
    for m in (1, 2):
        got = _mixing.mix(x, partners(4, m), shares(4, m))
        assert (got.device.type, got.shape) == ("meta", x.shape)
    box = torch.tensor([[[0, 2], [1, 3]]] * 4)
    assert formula.cut(x, partners(4, 1)[:, 0], box).device.type == "meta"


def test_a_huge_batch():
    n = 300_000
    x = torch.arange(n, dtype=torch.float64)[:, None]
    partner = torch.arange(n).flip(0)[:, None]
    got = _mixing.mix(x, partner, torch.tensor([[0.75, 0.25]]).expand(n, 2))
    assert torch.equal(got, 0.75 * x + 0.25 * x.flip(0))


# -- boxes -------------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.integers(0, 2),
    st.integers(0, 4),
    st.sampled_from([*DTYPES, torch.int64, torch.bool]),
    st.integers(0, 10**6),
)
def test_cut_is_the_loop(grid, channels, n, dtype, seed):
    """Any grid of up to three axes, with any number of axes before it, and any dtype."""
    shape = (n, *[2] * channels, *grid)
    x = noise(*shape, seed=seed).mul(50).abs().to(dtype)
    edges = noise(n, len(grid), 2, seed=seed + 1).mul(1000).abs().long() % torch.tensor([s + 1 for s in grid])[:, None]
    box, partner = edges.sort(dim=2).values, partners(n, 1, seed)[:, 0]
    got = formula.cut(x, partner, box)
    expected = x.clone()
    for i in range(n):
        inside = (slice(None),) * channels + tuple(slice(a, b) for a, b in box[i].tolist())
        expected[i][inside] = x[int(partner[i])][inside]
    assert got.dtype == dtype
    assert torch.equal(got, expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_cut_keeps_the_layout_and_the_gradient(layout):
    x = images(3).to(memory_format=layout).requires_grad_()
    box, partner = torch.tensor([[[1, 4], [0, 2]]] * 3), torch.tensor([1, 2, 0])
    got = formula.cut(x, partner, box)
    assert got.is_contiguous(memory_format=layout)
    got[0].sum().backward()
    inside = torch.zeros(6, 5)
    inside[1:4, 0:2] = 1
    assert torch.equal(x.grad[1], inside.double().expand(3, 6, 5))
    assert torch.equal(x.grad[0], 1 - x.grad[1])
    assert not x.grad[2].any()
