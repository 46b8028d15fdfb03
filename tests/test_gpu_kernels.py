"""The hand-written kernels against the plain definition, by Triton's interpreter; without Triton, that this is said.

Triton is no part of the development environment (it takes a gigabyte): `make test-kernels` fetches it for these tests.
"""

import importlib
import importlib.util
import os
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from vicinal import mixing

if importlib.util.find_spec("triton") is not None and not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # is read when a kernel is defined
INSTALLED = importlib.util.find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not INSTALLED, reason="Triton is not installed: make test-kernels")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SHAPES = [(5, 3, 4, 6), (4, 3, 20, 19), (6, 7), (3, 2, 1050)]  # the second and last: more than one block a row


def draw(shape: tuple[int, ...], seed: int = 0) -> tuple[np.random.Generator, Tensor, Tensor]:
    generator = np.random.Generator(np.random.Philox(seed))
    partner = torch.from_numpy(generator.permutation(shape[0])).to(DEVICE)
    weight = torch.from_numpy(generator.random(shape[0], dtype="float32")).to(DEVICE)
    weight[:2] = torch.tensor([0.0, 1.0])
    return generator, partner, weight


def layouts(x: Tensor) -> list[Tensor]:
    return [x, x.contiguous(memory_format=torch.channels_last)] if x.ndim == 4 else [x]


def shares(weight: Tensor) -> Tensor:
    return torch.stack([weight, 1 - weight], 1)


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pairs_equal_plain(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    from bench.gpu import by_hand

    generator, partner, weight = draw(shape)
    values = torch.from_numpy(generator.standard_normal(shape)).to(DEVICE, dtype)
    eps = torch.finfo(dtype).eps
    for x in layouts(values):
        exact = mixing.plain(x, partner[:, None], shares(weight))
        before, buffer = x.clone(), torch.empty_like(x)
        got = by_hand.mix_pairs(x, partner, weight)
        assert by_hand.mix_pairs(x, partner, weight, out=buffer) is buffer
        torch.testing.assert_close(got, exact, rtol=eps, atol=eps)
        assert torch.equal(got, buffer)
        assert got.stride() == x.stride()
        assert torch.equal(x, before)
        assert torch.equal(got[0], x[partner[0]])  # a share of 0 and one of 1: the rows to the bit
        assert torch.equal(got[1], x[1])


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(5, 3, 4, 6), (4, 3, 20, 19), (6, 7)], ids=str)
def test_bytes_to_normalised_numbers_equal_plain(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    from bench.gpu import by_hand

    generator, partner, weight = draw(shape, 1)
    mean = tuple(generator.uniform(0.3, 0.6, shape[1]).tolist())
    std = tuple(generator.uniform(0.1, 0.3, shape[1]).tolist())
    values = torch.from_numpy(generator.integers(0, 256, shape, dtype=np.uint8)).to(DEVICE)
    beside = (1, -1, *(1,) * (len(shape) - 2))
    for x in layouts(values):
        m, s = (torch.tensor(t, dtype=torch.float64, device=DEVICE).view(beside) for t in (mean, std))
        exact = mixing.plain((x.double() / 255 - m) / s, partner[:, None], shares(weight.double()))
        got = by_hand.normalized_pairs(x, partner, weight, mean, std, dtype)
        assert got.dtype == dtype
        assert got.stride() == x.stride()
        rounding = torch.finfo(dtype).eps
        torch.testing.assert_close(got.double(), exact, rtol=rounding, atol=4e-6)


@needs_triton
def test_what_it_refuses() -> None:
    from bench.gpu import by_hand

    _, partner, weight = draw((4, 3, 2, 2))
    x = torch.zeros(4, 3, 2, 2, device=DEVICE)
    for what, call in {
        "mixes float32, bfloat16 and float16": lambda: by_hand.mix_pairs(x.double(), partner, weight),
        "contiguous or channels_last": lambda: by_hand.mix_pairs(x.transpose(1, 2), partner, weight),
        "not mix in place": lambda: by_hand.mix_pairs(x, partner, weight, out=x),
        r"partner is int64 \[4\]": lambda: by_hand.mix_pairs(x, partner[:3], weight),
        "out must be": lambda: by_hand.mix_pairs(x, partner, weight, out=torch.zeros(4, 3, 2, 3, device=DEVICE)),
        "takes uint8": lambda: by_hand.normalized_pairs(x, partner, weight, (0, 0, 0), (1, 1, 1)),
        "one for each channel": lambda: by_hand.normalized_pairs(x.byte(), partner, weight, (0,), (1,)),
    }.items():
        with pytest.raises((TypeError, ValueError), match=what):
            call()


def test_without_triton_it_says_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "bench.gpu.by_hand", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"needs Triton.*compiled=True"):
        importlib.import_module("bench.gpu.by_hand")
