"""Functions and operators of PyTorch that have a meaning for a MixedTarget, the losses apart: see `_cross_entropy.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal import _refusals, _shapes
from vicinal._mixed_target import MixedTarget

_ATTRIBUTES = (
    "is_cuda is_cpu is_meta is_mps is_xpu is_sparse is_sparse_csr is_quantized is_nested is_mkldnn layout itemsize"
)
_JOINS = "cat concat concatenate stack hstack vstack dstack row_stack column_stack"
_LIKE = "zeros_like ones_like empty_like full_like"
_NEW = "new_zeros new_ones new_empty new_full new_tensor"
# questions that the plain class indices answer
_QUESTIONS = "is_floating_point is_complex is_signed is_conj is_neg is_inference get_device element_size is_contiguous"


def _refused(name: str) -> Callable[..., NoReturn]:
    def refuse(self: MixedTarget, *args: Any, **kwargs: Any) -> NoReturn:
        _refusals.refuse(name)

    return refuse


# Python looks operators up on the class, past __getattr__; __array__ is what numpy and scikit-learn ask for
for _operators in (
    "add radd iadd sub rsub isub mul rmul imul truediv rtruediv floordiv rfloordiv mod rmod pow rpow matmul rmatmul",
    "and rand or ror xor rxor invert neg pos abs lt le gt ge setitem array int float lshift rshift",
):
    for _name in _operators.split():
        setattr(MixedTarget, f"__{_name}__", _refused(f"__{_name}__"))


def _one_hot(target: MixedTarget, num_classes: int = -1) -> Tensor:
    _refusals.refuse_metrics("F.one_hot")
    if num_classes < 1:
        raise ValueError("F.one_hot of a MixedTarget needs num_classes: a batch need not hold every class")
    return target.dense(num_classes).movedim(min(1, target.ndim), -1)


def _by_method(name: str) -> Callable[..., Any]:
    return lambda input, *args, **kwargs: getattr(input, name)(*args, **kwargs)


def _of_first(function: Callable[..., Any]) -> Callable[..., Any]:
    def ask(input: MixedTarget, *args: Any, **kwargs: Any) -> Any:
        return function(input.ids[0], *args, **kwargs)

    ask.__doc__ = f"Return what `{function.__name__}` of the plain class indices returns."
    return ask


def _joined(function: Callable[..., Tensor]) -> Callable[..., MixedTarget]:
    return lambda tensors, *args, **kwargs: _shapes.join(function, tensors, args, kwargs)


def _to(input: Tensor, other: MixedTarget, *args: Any, **kwargs: Any) -> Tensor:
    return input.to(other.device, other.dtype, *args, **kwargs)


def _attribute(name: str) -> property:
    return property(lambda self: getattr(self.ids, name), doc=f"`Tensor.{name}` of the class indices.")


for _name in _ATTRIBUTES.split():
    setattr(MixedTarget, _name, _attribute(_name))
for _name in (*_QUESTIONS.split(), *_NEW.split()):
    setattr(MixedTarget, _name, _of_first(getattr(Tensor, _name)))
_shapes.install(MixedTarget)

MixedTarget.rules |= {
    F.one_hot: _one_hot,
    F.pad: _shapes.pad,
    Tensor.to: _to,
    Tensor.type_as: _to,
    Tensor.view_as: lambda input, other: input.view(other.shape),
    Tensor.reshape_as: lambda input, other: input.reshape(other.shape),
    Tensor.expand_as: lambda input, other: input.expand(other.shape),
    **{getattr(torch, name): _joined(getattr(torch, name)) for name in _JOINS.split()},
    **{getattr(torch, name): _of_first(getattr(torch, name)) for name in _LIKE.split()},
    **{getattr(torch, name): _by_method(name) for name in ("clone", "detach", "numel", "masked_fill")},
    **{getattr(torch, name): _by_method(name) for name in ("is_floating_point", "is_complex", "is_signed")},
}
