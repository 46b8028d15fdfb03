"""MixedTarget as a node of PyTorch's pytrees: its leaves are class indices and weights, rows first."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor
from torch._functorch import pyfunctorch
from torch.utils import _pytree as pytree

from vicinal._mixed_target import MixedTarget
from vicinal._shapes import unsqueeze_like


def _leaves(y: MixedTarget) -> tuple[list[Any], float]:
    """Return class indices [n, d1, ..., k] and shares [n, ..., k]: rows first, whichever dimensions are taken away."""
    return [_last(t) if isinstance(t, Tensor) else t for t in (y.ids, y.weight)], y.smoothing


def _last(t: Tensor) -> Tensor:
    """Return t with dimension 0 at the end.

    torch.func flattens its arguments inside of the transform that they enter and demands tensors from outside: there the
    dimension is moved outside.
    """
    if t.ndim < 2 or not torch._C._are_functorch_transforms_active():
        return t.movedim(0, -1) if t.ndim > 1 else t
    functorch = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    level = functorch.maybe_get_level(t)
    with contextlib.ExitStack() as outside:
        while (transform := functorch.peek_interpreter_stack()) is not None and transform.level() > level:
            outside.enter_context(pyfunctorch.temporarily_pop_interpreter_stack())
        return t.movedim(0, -1)


def _named_leaves(y: MixedTarget) -> tuple[list[tuple[Any, Any]], float]:
    leaves, smoothing = _leaves(y)
    return list(zip(map(pytree.GetAttrKey, ("ids", "weight")), leaves, strict=True)), smoothing


def _of_leaves(leaves: Any, smoothing: float) -> MixedTarget:
    """Return a target of leaves, which may be anything: `tree_map(type, y)` is one of types."""
    ids, weight = (t.movedim(-1, 0) if isinstance(t, Tensor) else t for t in leaves)
    if isinstance(ids, Tensor) and isinstance(weight, Tensor) and weight.ndim < ids.ndim:
        weight = weight if weight.ndim == 2 else unsqueeze_like(weight, ids)
        weight = weight.expand_as(ids) if ids.ndim == 2 else weight
    return MixedTarget._unchecked(ids, weight, smoothing)


pytree.register_pytree_node(
    MixedTarget,
    _leaves,
    _of_leaves,
    serialized_type_name="vicinal.MixedTarget",
    flatten_with_keys_fn=_named_leaves,
)
