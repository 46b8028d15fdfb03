"""The mix of pairs as one hand-written kernel in Triton: two reads and a write, also from bytes to normalized numbers.

It is no part of the library, which needs PyTorch and NumPy alone and whose `compiled=True` is `torch.compile`. It is
here to be measured beside that, so that the better one can be chosen for GPUs. It needs Triton, which comes with
PyTorch's CUDA builds; with TRITON_INTERPRET=1 it runs on a CPU, slowly, for tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

try:
    import triton  # pyright: ignore[reportMissingImports]
    import triton.language as tl  # pyright: ignore[reportMissingImports]
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "bench.gpu.by_hand needs Triton, which comes with PyTorch's CUDA builds: use plan(x) or plan(x, compiled=True)",
        name=error.name,
    ) from error

from vicinal import mixing

_BLOCK = 1024  # values that one program mixes
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@triton.jit
def _lerp(other: Any, own: Any, w: Any) -> Any:
    # as torch.lerp: from the nearer end, so that w = 0 and w = 1 give the ends to the bit
    step = own - other
    return tl.where(w < 0.5, other + w * step, own - step * (1 - w))


@triton.jit
def _pairs(x_ptr: Any, partner_ptr: Any, weight_ptr: Any, out_ptr: Any, size: Any, blocks: Any, BLOCK: tl.constexpr):
    program = tl.program_id(0)
    row = program // blocks
    at = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    partner = tl.load(partner_ptr + row)  # int64, and with it all places
    w = tl.load(weight_ptr + row).to(tl.float32)
    mine = row.to(tl.int64) * size + at
    own = tl.load(x_ptr + mine, mask=inside).to(tl.float32)
    other = tl.load(x_ptr + partner * size + at, mask=inside).to(tl.float32)
    tl.store(out_ptr + mine, _lerp(other, own, w).to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _normalized(
    x_ptr: Any,
    partner_ptr: Any,
    weight_ptr: Any,
    scale_ptr: Any,
    shift_ptr: Any,
    out_ptr: Any,
    size: Any,
    blocks: Any,
    beside: Any,
    channels: Any,
    BLOCK: tl.constexpr,
):
    # `beside`: how many values of one channel lie side by side
    program = tl.program_id(0)
    row = program // blocks
    at = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    partner = tl.load(partner_ptr + row)
    w = tl.load(weight_ptr + row).to(tl.float32)
    mine = row.to(tl.int64) * size + at
    own = tl.load(x_ptr + mine, mask=inside).to(tl.float32)
    other = tl.load(x_ptr + partner * size + at, mask=inside).to(tl.float32)
    channel = (at // beside) % channels
    scale = tl.load(scale_ptr + channel, mask=inside)
    shift = tl.load(shift_ptr + channel, mask=inside)
    # a sum of shares that is 1 passes the normalization: one product for both rows
    mixed = _lerp(other, own, w) * scale + shift
    tl.store(out_ptr + mine, mixed.to(out_ptr.dtype.element_ty), mask=inside)


def mix_pairs(x: Tensor, partner: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
    """Mix pairs, as `mixing.mix_pairs` does, out of place.

    Args:
        x: [n, ...], float32, bfloat16 or float16, contiguous or channels_last.
        partner: int64 [n], on x's device.
        weight: float32 or float64 [n], each row's own share, on x's device.
        out: where the result goes, of x's shape, dtype and layout; not x itself. None: a new tensor.

    Raises:
        TypeError: another dtype.
        ValueError: x is not dense, or the others do not fit it.

    """
    if x.dtype not in _DTYPES:
        raise TypeError(f"the kernel mixes float32, bfloat16 and float16, got {x.dtype}: use mixing.mix_pairs")
    result = torch.empty_like(x) if out is None else out
    size, _, _ = _check(x, partner, weight, result, x.dtype)
    if x.numel():
        blocks = triton.cdiv(size, _BLOCK)
        launch = cast(Any, _pairs)[(len(x) * blocks,)]
        launch(x, partner, weight, result, size, blocks, BLOCK=_BLOCK)
    return result


def normalized_pairs(
    x: Tensor,
    partner: Tensor,
    weight: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype = torch.float32,
    out: Tensor | None = None,
) -> Tensor:
    """Mix bytes and normalize them in one pass, as `mixing.normalized` does for pairs.

    Args:
        x: uint8 [n, c, ...], contiguous or channels_last.
        partner: int64 [n], on x's device.
        weight: float32 or float64 [n], on x's device.
        mean: for each channel, of values in [0, 1].
        std: likewise.
        dtype: of the result: float32, bfloat16 or float16.
        out: where the result goes, of x's shape and layout and of `dtype`. None: a new tensor.

    Raises:
        TypeError: x is not uint8, or dtype is none of the three.
        ValueError: x is not dense, or the others do not fit it.

    """
    if x.dtype != torch.uint8 or dtype not in _DTYPES:
        raise TypeError(f"the kernel takes uint8 to float32, bfloat16 or float16, got {x.dtype} to {dtype}")
    if x.ndim < 2 or not len(mean) == len(std) == x.shape[1]:
        raise ValueError(
            f"mean and std hold {len(mean)} and {len(std)} numbers, x is {list(x.shape)}: one for each channel"
        )
    result = torch.empty_like(x, dtype=dtype) if out is None else out
    size, beside, channels = _check(x, partner, weight, result, dtype)
    if x.numel():
        scale, shift = mixing._scale_and_shift(tuple(mean), tuple(std), x.device)
        blocks = triton.cdiv(size, _BLOCK)
        launch = cast(Any, _normalized)[(len(x) * blocks,)]
        launch(
            x, partner, weight, scale, shift, result, size, blocks, beside, channels, BLOCK=_BLOCK
        )  # fmt: skip
    return result


def _check(x: Tensor, partner: Tensor, weight: Tensor, out: Tensor, dtype: torch.dtype) -> tuple[int, int, int]:
    """Give the values of a row, how many of one channel lie side by side, and the number of channels."""
    n = len(x)
    if (partner.dtype, tuple(partner.shape)) != (torch.int64, (n,)) or tuple(weight.shape) != (n,):
        raise ValueError(
            f"partner is int64 [{n}] and weight [{n}], got {partner.dtype} {list(partner.shape)} and {list(weight.shape)}"
        )
    if {partner.device, weight.device, out.device} != {x.device}:
        raise ValueError(f"all must be on {x.device}, got {partner.device}, {weight.device} and {out.device}")
    if not (partner.is_contiguous() and weight.is_contiguous()):
        raise ValueError("partner and weight must be contiguous")
    if (out.dtype, out.shape) != (dtype, x.shape) or out.stride() != x.stride():
        raise ValueError(
            f"out must be {dtype} {list(x.shape)} with strides {x.stride()}, got {out.dtype} {list(out.shape)} with "
            f"{out.stride()}"
        )
    if out.untyped_storage().data_ptr() == x.untyped_storage().data_ptr() and x.numel():
        raise ValueError("the kernel does not mix in place: another program may still need the row")
    size = x[0].numel() if n else 0
    if x.is_contiguous():
        return size, (x[0, 0].numel() if x.ndim > 1 and size else 1), x.shape[1] if x.ndim > 1 else 1
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return size, 1, x.shape[1]
    raise ValueError(f"x must be contiguous or channels_last, got {list(x.shape)} with strides {x.stride()}")
