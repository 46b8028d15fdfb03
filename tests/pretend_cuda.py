"""A CUDA device that is not there: tensors that say they are on one, and refuse what a device would refuse.

Inside `PretendCuda()`, `.to("cuda")` and `device="cuda"` give tensors of the CPU that say they are on a GPU. An operation
that mixes them with tensors that are not (other than single numbers) raises `TwoDevices`, and reading a value of one, for
which a program would wait for its device, raises `Waits`. What comes out is computed, so it can be compared.
"""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from vicinal.target import MixedTarget

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
_READS = {"item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__", "__array__"}
_AS_THEY_ARE = (Tensor.grad.__get__, Tensor.grad.__set__, Tensor.__hash__)  # of the tensor itself, not of a view of it


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
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        leaves = pytree.tree_leaves((args, kwargs))
        there = [t for t in leaves if isinstance(t, _There)]
        if func == Tensor.device.__get__:
            return CUDA if there else CPU
        if func in _AS_THEY_ARE:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if any(isinstance(leaf, MixedTarget) for leaf in leaves):
            with self:
                return MixedTarget.rules[func](*args, **kwargs)
        if name == "__iter__":
            with self:
                return iter(args[0].unbind(0))
        if there and name in _READS:
            raise Waits(name)
        moved = _is_cuda(kwargs.get("device")) or (name == "to" and any(map(_is_cuda, args[1:])))
        if not moved and there:
            for t in leaves:
                if isinstance(t, Tensor) and not isinstance(t, _There) and t.ndim:
                    raise TwoDevices(f"{name}: {list(t.shape)} is not on the GPU")
        out = func(*pytree.tree_map(_on_cpu, args), **pytree.tree_map(_on_cpu, kwargs))
        if not (there or moved):
            return out
        return pytree.tree_map(lambda t: t.as_subclass(_There) if isinstance(t, Tensor) else t, out)


def _on_cpu(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        with torch._C.DisableTorchFunctionSubclass():
            return leaf.as_subclass(Tensor)
    return CPU if _is_cuda(leaf) else leaf
