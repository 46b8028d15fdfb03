"""What a MixedTarget has in common with a tensor, but for its shape and device: sizes, dtype, moves and copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from vicinal._refusals import refuse


class TensorLike:
    """Attributes and moves of a plain target [n, d1, ...], by class indices [k, n, d1, ...] and their weights.

    `dtype` stays int64: other dtypes are refused.
    """

    __slots__ = ("ids", "weight")
    ids: Tensor
    weight: Tensor

    if TYPE_CHECKING:

        @property
        def shape(self) -> torch.Size: ...
        @property
        def device(self) -> torch.device: ...

    def _each(self, move: Callable[[Tensor], Tensor]) -> Self:
        """Apply what changes no value to the class indices and weights."""
        raise NotImplementedError

    @property
    def ndim(self) -> int:
        """Number of dimensions of the plain target."""
        return self.ids.ndim - 1

    @property
    def dtype(self) -> torch.dtype:
        """torch.int64: these are class indices."""
        return self.ids.dtype

    @property
    def requires_grad(self) -> bool:
        """True if the weights have a gradient, as of a learned lambda."""
        return self.weight.requires_grad

    @property
    def grad(self) -> None:
        """None: class indices have no gradient; that of the shares is `weight.grad`."""
        return

    @property
    def nbytes(self) -> int:
        """Bytes of the class indices and shares."""
        return self.ids.nbytes + self.weight.nbytes

    def size(self, dim: int | None = None) -> Any:
        """Return the shape, or the size of one dimension, of the plain target."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        """Return the number of dimensions of the plain target."""
        return self.ndim

    ndimension = dim

    def numel(self) -> int:
        """Return the number of entries of the plain target."""
        return self.shape.numel()

    nelement = numel

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move to a device, with the arguments of `Tensor.to`; the class indices stay int64.

        Raises:
            TypeError: another dtype is asked for.

        """
        other = [arg for arg in args if isinstance(arg, TensorLike)]
        if other:
            return self.to(other[0].device, *args[1:], **kwargs)
        probe = torch.empty(0, dtype=self.dtype, device=self.device).to(*args, **kwargs)
        if probe.dtype != self.dtype:
            refuse(f"conversion to {probe.dtype}")
        moves = {k: v for k, v in kwargs.items() if k in ("non_blocking", "copy")}
        flags = [arg for arg in args if isinstance(arg, bool)]
        moves.update(zip(("non_blocking", "copy")[: len(flags)], flags, strict=True))
        return self._each(lambda t: t.to(probe.device, **moves))

    def type(self, dtype: Any = None, non_blocking: bool = False) -> Any:
        """Return the name of the tensors' type, or itself where the type asked for is that of class indices."""
        if dtype is None:
            return self.ids.type()
        probe = torch.empty(0, dtype=self.dtype, device=self.device).type(dtype)
        if probe.dtype != self.dtype:
            refuse(f"conversion to {dtype}")
        return self.to(probe.device, non_blocking=non_blocking)

    def cuda(self, device: Any = None, non_blocking: bool = False) -> Self:
        """Move to a CUDA device."""
        return self._each(lambda t: t.cuda(device, non_blocking=non_blocking))

    def cpu(self) -> Self:
        """Move to the host."""
        return self._each(Tensor.cpu)

    def pin_memory(self, device: Any = None) -> Self:
        """Pin the memory, as a DataLoader with pin_memory=True asks for."""
        return self._each(Tensor.pin_memory)

    def is_pinned(self, device: Any = None) -> bool:
        """Return True if class indices and weights lie in pinned memory."""
        return self.ids.is_pinned() and self.weight.is_pinned()

    def share_memory_(self) -> Self:
        """Move class indices and shares into shared memory, and return itself."""
        self.ids.share_memory_()
        self.weight.share_memory_()
        return self

    def is_shared(self) -> bool:
        """Return True if class indices and weights lie in shared memory."""
        return self.ids.is_shared() and self.weight.is_shared()

    def record_stream(self, stream: Any) -> None:
        """Mark the class indices and shares as used by a stream, for the allocator."""
        self.ids.record_stream(stream)
        self.weight.record_stream(stream)

    def clone(self, *, memory_format: torch.memory_format | None = None) -> Self:
        """Return a copy; the shares keep their gradient."""
        return self._each(Tensor.clone)

    def contiguous(self, memory_format: torch.memory_format | None = None) -> Self:
        """Return a target of contiguous class indices and shares."""
        return self._each(Tensor.contiguous)

    def detach(self) -> Self:
        """Return a target whose shares have no gradient; itself where they have none."""
        return self._each(Tensor.detach) if self.weight.requires_grad else self

    @property
    def data(self) -> Self:
        """The target without the gradient of its shares."""
        return self.detach()

    def long(self) -> Self:
        """Return itself: class indices are int64."""
        return self
