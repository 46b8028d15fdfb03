"""A CUDA device that is not there: tensors that say they are on one, and refuse what a device would refuse.

Inside `PretendCuda()`, `.to("cuda")` and `device="cuda"` give tensors of the CPU that say they are on a GPU. An operation
that mixes them with tensors that are not (other than single numbers) raises `TwoDevices`, and reading a value of one, for
which a program would wait for its device, raises `Waits` (unless `reads`). What comes out is computed, so it can be
compared. It knows nothing of waiting for copies to a device, nor of operations that wait by themselves.
"""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from vicinal.target import MixedTarget

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
_READS = {"item", "tolist", "numpy", "cpu", "nonzero", "__bool__", "__int__", "__float__", "__index__", "__array__"}
_OWN = {"grad", "is_leaf", "requires_grad", "requires_grad_", "__hash__"}  # of the tensor itself, not of a view of it


class TwoDevices(Exception):
    pass


class Waits(Exception):
    pass


class _There(Tensor):
    pass


def _is_cuda(device: Any) -> bool:
    return isinstance(device, (str, torch.device)) and str(device).startswith("cuda")


def here(x: Tensor) -> Tensor:
    """The values, for a comparison."""
    with torch._C.DisableTorchFunctionSubclass():
        return x.detach().as_subclass(Tensor)


class PretendCuda(TorchFunctionMode):
    def __init__(self, reads: bool = False) -> None:
        super().__init__()
        self.reads = reads  # whether values may be read

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in ("__get__", "__set__"):
            name = func.__self__.__name__  # of the attribute
        leaves = pytree.tree_leaves((args, kwargs), is_leaf=lambda t: isinstance(t, MixedTarget))
        there = [t for t in leaves if isinstance(t, _There)]
        if name in ("device", "is_cpu", "is_cuda"):
            return {"device": CUDA if there else CPU, "is_cpu": not there, "is_cuda": bool(there)}[name]
        if name == "_has_compatible_shallow_copy_type":
            return False  # a module that moves gets new parameters
        if there and name in _OWN:
            with torch._C.DisableTorchFunctionSubclass():
                out = func(*args, **kwargs)
                return out.as_subclass(_There) if name == "grad" and isinstance(out, Tensor) else out
        if any(isinstance(leaf, MixedTarget) for leaf in leaves):
            with self:
                return MixedTarget.rules[func](*args, **kwargs)
        if name == "__iter__":
            with self:
                return iter(args[0].unbind(0))
        if there and name in _READS and not self.reads:
            raise Waits(name)
        moved = _is_cuda(kwargs.get("device")) or (name == "to" and any(map(_is_cuda, args[1:])))
        if not moved and there:
            for t in leaves:
                if isinstance(t, Tensor) and not isinstance(t, _There) and t.ndim:
                    raise TwoDevices(f"{name}: {list(t.shape)} is not on the GPU")
        if not (there or moved):
            return func(*args, **kwargs)
        out = func(*pytree.tree_map(_on_cpu, args), **pytree.tree_map(_on_cpu, kwargs))
        if name in _READS or isinstance(out, torch.Size):
            return out
        return pytree.tree_map(lambda t: _put(t, moved) if isinstance(t, Tensor) else t, out)


def _put(t: Tensor, moved: bool) -> Tensor:
    return (t.detach().clone() if moved else t).as_subclass(_There)  # what was moved is another memory


def _on_cpu(leaf: Any) -> Any:
    if isinstance(leaf, _There):
        with torch._C.DisableTorchFunctionSubclass():
            return leaf.as_subclass(Tensor)
    return CPU if _is_cuda(leaf) else leaf
