"""Fast paths of `formula.mix`, the definition that all of them are tested against.

On a CPU the time goes into moving memory, so they differ in how often they touch it (results/bench/README.md has the
figures):

- small rows: gather the partners, then interpolate in the same buffer (3 reads, 2 writes); without the gather where
  all partners are equally far away (2 reads, 1 write);
- large rows: one row at a time (2 reads, 1 write), and in place row by row along the cycles of the pairing, so that
  only one row per cycle is ever copied;
- bytes to normalized numbers: each row is converted once, in cache.

Inputs are never changed unless they are given as `out`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from vicinal.formula import HALF, as_rows, check_mixable, from_rows, is_narrow, narrow, wide

_LARGE_ROW = 32 * 1024  # bytes; from here on a call for each row costs less than the memory traffic it saves,
_LARGE_BATCH = 32 * 1024**2  # if the batch does not stay in cache anyhow
_SMALL = 256 * 1024  # elements
_FEW_THREADS = 4  # with more, two parallel passes beat one pass of a single thread


def mix(x: Tensor, partner: Tensor, weight: Tensor, out: Tensor | None = None, compiled: bool = False) -> Tensor:
    """Mix rows, see `formula.mix`.

    Args:
        x: [n, ...], float16, bfloat16, float32, float64, complex or uint8. Half precisions and uint8 are mixed in
            float32 and rounded once at the end (uint8 to the nearest level, half to even: no bias). Values are taken to
            be finite, and below half of the largest number (of float16: up to it): where the row or its partner holds inf
            or nan, nan may come out, whatever the weight. To look would cost a third of the time; `FiniteCheck` looks.
        partner: int64 [n, m]; m = 0 gives x itself back.
        weight: float32 or float64 [n, m + 1], rows sum to 1.
        out: where the result goes, of x's shape and dtype; x itself for in place. None: a new tensor.
        compiled: by `torch.compile`, as one fused kernel (on a GPU above all); the first call takes seconds, and needs a
            compiler at run time.

    Returns:
        `out`, or a new tensor of x's shape, dtype, device and memory format (for m = 0: x).

    Raises:
        TypeError: x has an integer or boolean dtype other than uint8.
        ValueError: out has another shape, dtype or device, overlaps x in part, or x requires grad.

    """
    check_mixable(x)
    _check_learned(x, weight, out)
    if out is not None:
        check_out(x, out)
    if partner.shape[1] == 0:
        return x if out is None or out is x else out.copy_(x)
    partner, weight = partner.to(x.device), weight.to(x.device)
    if compiled:
        mixed = _compiled(_fusible)(x, partner, weight)
    elif partner.shape[1] == 1:
        return _mix_pairs(x, partner[:, 0], weight[:, 0], out)
    else:
        exact = wide(x)
        mixed = narrow(_weighted_sum(exact, partner, weight.to(exact.dtype)), x)
    return mixed if out is None else out.copy_(mixed)


def mix_pairs(x: Tensor, partner: Tensor, weight: Tensor, out: Tensor | None = None, compiled: bool = False) -> Tensor:
    """Mix pairs: `mix` for one partner per row, partner int64 [n] and weight [n], the row's own share."""
    if (
        out is None
        and not compiled
        and x.dtype == weight.dtype
        and x.is_cpu
        and weight.is_cpu
        and x.numel() < _SMALL
        and x.is_contiguous()
    ):
        own = weight.unsqueeze(1) if x.ndim == 2 else weight.view(-1, *(1,) * (x.ndim - 1))
        return x.index_select(0, partner).lerp_(x, own)  # every line of Python counts here
    if compiled:
        return mix(x, partner[:, None], torch.stack([weight, 1 - weight], dim=1), out, compiled)
    check_mixable(x)
    _check_learned(x, weight, out)
    if out is not None:
        check_out(x, out)
    return _mix_pairs(x, partner.to(x.device), weight.to(x.device), out)


def _mix_pairs(x: Tensor, partner: Tensor, weight: Tensor, out: Tensor | None) -> Tensor:
    if _row_by_row(x, weight, out):
        return _mix_rows(x, partner, weight, out)
    by_one_number = x.dtype in HALF and x.is_cpu and not torch.compiler.is_compiling() and not _is_learned(weight)
    if by_one_number and _is_one(weight) and x.is_contiguous():
        # by a number, torch's lerp computes half precisions in float32 and rounds once
        own = float(weight[0])
        other = x.index_select(0, partner)
        return other.lerp_(x, own) if out is None else torch.lerp(other, x, own, out=out)
    if is_narrow(x):
        mixed = narrow(_mix_batch(wide(x), partner, weight, None), x)
        return mixed if out is None else out.copy_(mixed)
    return _mix_batch(x, partner, weight, out)


def _mix_batch(x: Tensor, partner: Tensor, weight: Tensor, out: Tensor | None) -> Tensor:
    """Mix all rows by a gather and an interpolation of the whole batch."""
    flat, order = as_rows(x)
    own = weight.to(x.dtype)[:, None]
    # whether out can be written row by row as it lies
    into = as_rows(out)[0] if out is not None and _is_view(x, flat) and out.stride() == x.stride() else None
    if out is not x and (shift := _shift(x, partner, weight)):
        mixed = _interpolate_shifted(flat, own, shift, torch.empty_like(flat) if into is None else into)
    elif into is None:
        mixed = flat.index_select(0, partner).lerp_(flat, own)
    elif out is x:
        mixed = torch.lerp(flat.index_select(0, partner), flat, own, out=flat)
    else:
        mixed = torch.index_select(flat, 0, partner, out=into).lerp_(flat, own)
    if out is None:
        return from_rows(mixed, x, order)
    return out if into is not None else out.copy_(from_rows(mixed, x, order))


def _interpolate_shifted(flat: Tensor, own: Tensor, shift: int, into: Tensor) -> Tensor:
    stay = len(flat) - shift
    torch.lerp(flat[shift:], flat[:stay], own[:stay], out=into[:stay])
    torch.lerp(flat[:shift], flat[stay:], own[stay:], out=into[stay:])
    return into


def _shift(x: Tensor, partner: Tensor, weight: Tensor) -> int:
    """Return s if every row's partner is the row s places on, circularly (`pairing.Roll`), else 0.

    Two pieces of memory are then mixed with two others, without a gather. Found in the partners themselves, which for
    all but tiny batches costs nothing beside the mixing.
    """
    if (
        torch.compiler.is_compiling()
        or not x.is_cpu
        or x.numel() < _SMALL
        or (x.requires_grad and torch.is_grad_enabled())
        or _is_learned(weight)
    ):
        return 0
    n = len(partner)
    shift, following = partner[:2].tolist() if n > 1 else (0, 0)
    if following != (shift + 1) % n:  # what a random pairing is known by
        return 0
    return shift if torch.equal(partner, torch.arange(shift, shift + n, device="cpu").remainder_(n)) else 0


def _weighted_sum(x: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    """Mix rows of several partners."""
    flat, order = as_rows(x)
    mixed = flat * weight[:, :1]
    for j in range(partner.shape[1]):
        mixed = mixed.addcmul_(flat.index_select(0, partner[:, j]), weight[:, j + 1, None])
    return from_rows(mixed, x, order)


def _is_one(weight: Tensor) -> bool:
    """Return whether all rows have the same weight."""
    return weight.numel() > 0 and bool((weight == weight[0]).all())


def _is_learned(weight: Tensor) -> bool:
    """Return whether a gradient is to reach the weights, which no path does that reads them as numbers of Python."""
    return weight.requires_grad and torch.is_grad_enabled()


def _check_learned(x: Tensor, weight: Tensor, out: Tensor | None) -> None:
    if not _is_learned(weight):
        return
    if x.dtype == torch.uint8:
        raise TypeError("bytes carry no gradient to the weights that mix them: convert the images with .float() first")
    if out is not None:
        raise ValueError("out is for data: with weights that require grad, the mix goes into a new tensor")


def _row_by_row(x: Tensor, weight: Tensor, out: Tensor | None, element_size: int | None = None) -> bool:
    """Return whether to mix one row at a time.

    That is: large rows of a batch larger than caches, each in one piece of memory, on a CPU of few threads, without
    autograd. `element_size` is that of the result, in bytes, where it is not x's.
    """
    rows = x.shape[0]
    size = (element_size or x.element_size()) * x.numel()
    return (
        size >= _LARGE_BATCH
        and size >= rows * _LARGE_ROW
        and rows > 0
        and not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and not x.is_complex()
        and not (x.requires_grad and torch.is_grad_enabled())
        and not _is_learned(weight)
        and torch.get_num_threads() <= _FEW_THREADS
        and _is_view(x, as_rows(x)[0])
        and (out is None or out.stride() == x.stride())
    )


def _mix_rows(x: Tensor, partner: Tensor, weight: Tensor, out: Tensor | None) -> Tensor:
    """Mix one row at a time, in the order that in-place work needs."""
    result = torch.empty_like(x) if out is None else out
    own, into = as_rows(x)[0].unbind(), as_rows(result)[0].unbind()
    partners, weights = partner.tolist(), weight.tolist()
    with _one_thread():
        blend = _blend_bytes(own[0].numel()) if x.dtype == torch.uint8 else _blend
        if result is not x:
            for i, j in enumerate(partners):
                blend(into[i], own[i], own[j], weights[i])
        elif x.dtype == torch.uint8:
            for i, other in _in_place(own, partners):
                blend(own[i], own[i], other, weights[i])
        else:
            rows = list(_in_place(own, partners))
            # one call for all rows; the CPU takes them in this order (a test holds it to that)
            ends = [1 - weights[i] for i, _ in rows]
            torch._foreach_lerp_([own[i] for i, _ in rows], [other for _, other in rows], ends)
    return result


def _blend(target: Tensor, mine: Tensor, other: Tensor, w: float) -> None:
    torch.lerp(other, mine, w, out=target)


def _blend_bytes(size: int) -> Callable[[Tensor, Tensor, Tensor, float], None]:
    a, b = (torch.empty(size, dtype=torch.float32, device="cpu") for _ in range(2))

    def blend(target: Tensor, mine: Tensor, other: Tensor, w: float) -> None:
        target.copy_(torch.lerp(b.copy_(other), a.copy_(mine), w, out=a).round_())

    return blend


def _in_place(rows: Sequence[Tensor], partners: list[int]) -> Iterator[tuple[int, Tensor]]:
    """Order the rows so that each meets its partner as it was: a row is overwritten after all that refer to it.

    Rows that nobody refers to come first; what remains are cycles, and of each cycle one row is copied aside.
    Yields (row, its partner's old values).
    """
    waiting = [0] * len(partners)  # how many rows still refer to this one; a row's own reference does not count
    for i, j in enumerate(partners):
        waiting[j] += i != j
    free = [i for i, count in enumerate(waiting) if count == 0]
    done = [False] * len(partners)
    while free:
        i = free.pop()
        done[i] = True
        j = partners[i]
        yield i, rows[j]
        if i != j:
            waiting[j] -= 1
            if waiting[j] == 0:
                free.append(j)
    for first in range(len(partners)):
        if done[first]:
            continue
        saved = rows[first].clone()
        i = first
        while not done[i]:
            done[i] = True
            j = partners[i]
            yield i, saved if j == first else rows[j]
            i = j


def normalized(
    x: Tensor,
    partner: Tensor,
    weight: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype = torch.float32,
    out: Tensor | None = None,
    compiled: bool = False,
) -> Tensor:
    """Mix bytes and normalize them in one pass: (mix(x) / 255 - mean) / std, without rounding in between.

    Args:
        x: uint8 [n, c, ...], as a loader decodes images.
        partner: int64 [n, m].
        weight: float32 or float64 [n, m + 1], rows sum to 1.
        mean: for each channel, of values in [0, 1].
        std: for each channel, of values in [0, 1].
        dtype: of the result: float32, bfloat16 or float16.
        out: where the result goes, [n, c, ...] of `dtype`. None: a new tensor in x's memory format.
        compiled: as of `mix`.

    Returns:
        `out`, or a new tensor of x's shape, device and memory format.

    Raises:
        TypeError: x is not uint8.
        ValueError: mean and std do not fit the channels, or out has another shape, dtype or device.

    """
    if x.dtype != torch.uint8:
        raise TypeError(f"normalized takes the bytes of images, uint8, got {x.dtype}")
    if x.ndim < 2 or not len(mean) == len(std) == x.shape[1]:
        raise ValueError(
            f"mean and std hold one number per channel of [n, channels, ...], got {len(mean)} and {len(std)} for "
            f"{list(x.shape)}"
        )
    if out is not None and (out.shape, out.dtype, out.device) != (x.shape, dtype, x.device):
        raise ValueError(
            f"out must be {dtype} {list(x.shape)} on {x.device}, got {out.dtype} {list(out.shape)} {out.device}"
        )
    scale, shift = _scale_and_shift(tuple(mean), tuple(std), x.device)
    partner, weight = partner.to(x.device), weight.to(x.device)
    if compiled:
        mixed = _compiled(_fusible_bytes)(x, partner, weight, scale, shift, dtype)
        return mixed if out is None else out.copy_(mixed)
    result = torch.empty_like(x, dtype=dtype) if out is None else out
    same_layout = dtype == torch.float32 and result.stride() == x.stride()
    if partner.shape[1] == 1 and same_layout and _row_by_row(x, weight, None, 4):
        return _normalize_rows(x, partner[:, 0], weight[:, 0], scale, shift, result)
    channels = (1, -1, *(1,) * (x.ndim - 2))
    numbers = x.to(torch.float32).mul_(scale.view(channels)).add_(shift.view(channels))
    if _is_learned(weight):
        _check_learned(numbers, weight, out)
        return mix(numbers, partner, weight).to(dtype)
    if dtype == torch.float32:
        return mix(numbers, partner, weight, result)
    return result.copy_(mix(numbers, partner, weight))


@functools.cache
def _scale_and_shift(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return a and b of (x / 255 - mean) / std = a * x + b."""
    scale = torch.tensor([1 / (255 * s) for s in std], dtype=torch.float32, device=device)
    shift = [-m / s for m, s in zip(mean, std, strict=True)]
    return scale, torch.tensor(shift, dtype=torch.float32, device=device)


def _normalize_rows(x: Tensor, partner: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, result: Tensor) -> Tensor:
    """Convert and normalize each row in cache, once for a permutation: a row's partner is the next row it needs."""
    flat, order = as_rows(x)
    own, into = flat.unbind(), as_rows(result)[0].unbind()
    shape = [x.shape[d] for d in order[1:]] if order else list(x.shape[1:])
    channel = order.index(1) - 1 if order else 0
    # the channel outermost: one number per plane; innermost: a whole row of numbers, so that no loop is 3 long
    beside = [-1 if d == channel else 1 for d in range(len(shape))]
    per_row = [t.view(beside) if channel == 0 else t.view(beside).expand(shape).contiguous() for t in (scale, shift)]

    def convert(row: Tensor, into: Tensor) -> Tensor:
        into.copy_(row)
        into.view(shape).mul_(per_row[0]).add_(per_row[1])
        return into

    partners, weights = partner.tolist(), weight.tolist()
    with _one_thread():
        first, mine, other = (torch.empty(flat.shape[1], dtype=torch.float32, device="cpu") for _ in range(3))
        done = [False] * len(partners)
        for start in range(len(partners)):
            if done[start]:
                continue
            convert(own[start], first)
            now, i = first, start
            while not done[i]:  # along the pairing, until a row that is done: for a permutation, the start of the cycle
                done[i] = True
                j = partners[i]
                then = first if j == start else convert(own[j], other)
                torch.lerp(then, now, weights[i], out=into[i])
                if then is other:  # the next conversion must not fall on it
                    mine, other = other, mine
                now, i = then, j
    return result


def _fusible(x: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    """Return `formula.mix`, without its checks."""
    exact = wide(x)
    shares = weight.to(exact.dtype).reshape(*weight.shape, *(1,) * (x.ndim - 1))
    mixed = exact * shares[:, 0]
    for j in range(partner.shape[1]):
        mixed = mixed + exact.index_select(0, partner[:, j]) * shares[:, j + 1]
    return narrow(mixed, x)


def _fusible_bytes(
    x: Tensor, partner: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, dtype: torch.dtype
) -> Tensor:
    numbers = x.to(torch.float32) * scale.view(1, -1, *(1,) * (x.ndim - 2)) + shift.view(1, -1, *(1,) * (x.ndim - 2))
    return _fusible(numbers, partner, weight).to(dtype)


@functools.cache
def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return torch.compile(function, fullgraph=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run many small operations without starting threads for each, which on a busy machine costs far more than it saves."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def check_out(x: Tensor, out: Tensor) -> None:
    """Refuse a buffer that does not fit x, or shares a part of its memory."""
    if (out.shape, out.dtype, out.device) != (x.shape, x.dtype, x.device):
        raise ValueError(
            f"out must be {x.dtype} {list(x.shape)} on {x.device}, got {out.dtype} {list(out.shape)} on {out.device}"
        )
    if torch.is_grad_enabled() and (x.requires_grad or out.requires_grad):
        raise ValueError("out is for data: a tensor that requires grad is mixed into a new one")
    if out is not x and out.untyped_storage().data_ptr() == x.untyped_storage().data_ptr() and x.numel():
        raise ValueError("out shares memory with the input: give the input itself for in place, or another buffer")


def _is_view(x: Tensor, flat: Tensor) -> bool:
    """Return whether `as_rows` could look at x without copying it."""
    return flat.data_ptr() == x.data_ptr() and flat.stride(-1) == 1
