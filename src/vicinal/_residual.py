"""A look for what flows past a mixed representation, in one forward pass.

Mixed before a module inside a residual branch, `x + b(x)` at "b", only half of what goes on is mixed, while the labels
are wholly. A module is inside such a branch if the output of a module around it depends on that module's input by a path
that does not go through the mix: a path of the autograd graph, or, where the input is data, of which the graph knows
nothing, one of the functions of PyTorch that were called. Nothing is changed in the pass that is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils.weak import WeakTensorKeyDictionary

from vicinal._inputs import Inputs, floating, representation

_Node = tuple[Node, torch.Size]  # of a tensor in the graph, and its shape


class _Trace(TorchFunctionMode):
    """A trace of what is computed from some data. Comparisons, and what only takes sizes, are not computed of its values."""

    def __init__(self, data: Tensor) -> None:
        super().__init__()
        self.made = WeakTensorKeyDictionary({data: True})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if not name.startswith("new_") and not name.endswith("_like"):
            given = (leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
            if any(leaf in self.made for leaf in given):
                self.made.update({leaf: True for leaf in floating(out)})
        return out


@dataclass
class _Pass:
    """Observations of one forward pass."""

    mixed: _Node | None = None  # once it has happened, if gradients go through it
    is_mixed: bool = False
    trace: _Trace | None = None  # while a module runs whose input is data: of the outermost one
    traced: list[str] = field(default_factory=list)  # the modules whose input is data
    before: dict[str, list[Node]] = field(default_factory=dict)  # what went into the modules around, before the mix
    made: list[_Node] = field(default_factory=list)  # by the parts of the model, before the mix
    found: list[str] = field(default_factory=list)  # modules around, past whose part something flows


class Watch:
    """A look at the modules around one during a forward pass.

    It finds those whose output depends on their input past the mix, the model included; of the model, whose input may be
    token ids, also a dependence on what one of its parts made before.

    The hooks are there before anything is compiled, since compiled code is made anew when hooks come or go.

    Args:
        net: the model.
        at: the name of the module before which it is mixed.

    """

    def __init__(self, net: nn.Module, at: str) -> None:
        around = ["", *(at.rsplit(".", i)[0] for i in range(at.count("."), 0, -1))] if at else []
        self._pass: _Pass | None = None
        self._handles = []
        for name in around:
            module = net.get_submodule(name)
            if isinstance(module, torch.jit.ScriptModule):  # takes no hooks
                continue
            enter = partial(self._enter, name, Inputs(module))
            self._handles.append(module.register_forward_pre_hook(enter, with_kwargs=True, prepend=True))
            self._handles.append(module.register_forward_hook(partial(self._leave, name)))
        for child in net.children() if at else ():
            if not isinstance(child, torch.jit.ScriptModule):
                self._handles.append(child.register_forward_hook(self._between))

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy of the model copies: not the graph, which cannot be copied."""
        return {**self.__dict__, "_pass": None}

    @property
    def saw(self) -> bool:
        """True if there was anything to see in the pass."""
        now = self._pass
        return now is not None and now.is_mixed and (now.mixed is not None or bool(now.traced))

    @property
    def found(self) -> str | None:
        """Innermost module, by name, around in which something flows past the mix."""
        return None if self._pass is None else max(self._pass.found, key=len, default=None)

    def begin(self) -> None:
        """Look at the next pass."""
        self._pass = _Pass()

    def end(self) -> None:
        """Stop, and forget the graph."""
        if self._pass is not None and self._pass.trace is not None:  # the pass was broken off
            self._pass.trace.__exit__(None, None, None)
        self._pass = None

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def at_the_mix(self, mixed: list[Tensor]) -> None:
        """Note what came out of the mix."""
        now = self._now()
        if now is None:
            return
        now.is_mixed = True
        if mixed[0].grad_fn is not None:
            now.mixed = mixed[0].grad_fn, mixed[0].shape
        for tensor in mixed if now.trace is not None else ():
            now.trace.made.pop(tensor, None)  # pyright: ignore[reportOptionalMemberAccess]

    def _now(self) -> _Pass | None:
        """Return the pass that is looked at, if this is a moment of it that can be looked at."""
        if torch.compiler.is_compiling() or self._pass is None or in_backward() or not torch.is_grad_enabled():
            return None
        return None if torch._C._are_functorch_transforms_active() else self._pass

    def _enter(
        self, name: str, inputs: Inputs, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        now = self._now()
        x = None if now is None or now.is_mixed else representation(inputs.named(args, kwargs))
        if now is None or x is None:
            return
        if x.requires_grad:
            now.before.setdefault(name, []).append(get_gradient_edge(x).node)
        elif not _is_partly_compiled(module):
            now.traced.append(name)
            if now.trace is None:
                now.trace = _Trace(x)
                now.trace.__enter__()

    def _between(self, module: nn.Module, args: Any, output: Any) -> None:
        now = self._now()
        result = None if now is None or now.is_mixed else _result(output)
        if now is not None and result is not None and not _is_of_no_row(result):
            now.made.append((get_gradient_edge(result).node, result.shape))

    def _leave(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        now = self._now()
        if now is None:
            return
        if name in now.traced and now.trace is not None:
            if now.is_mixed and any(first in now.trace.made for first in floating(output)[:1]):
                now.found.append(name)
            if name == now.traced[0]:
                now.trace.__exit__(None, None, None)
                now.trace = None
        result = None if now.mixed is None else _result(output)
        if now.mixed is None or result is None:
            return
        mixed, like = now.mixed
        ends = list(now.before.get(name, ()))
        if not name:  # biases and conditions, made of other data, are no representation as the mixed one is
            ends += [node for node, shape in now.made if len(shape) == len(like) and shape[0] == like[0]]
        if _reaches(get_gradient_edge(result).node, ends, mixed):
            now.found.append(name)


def in_backward() -> bool:
    """Return True if a backward pass is running, in which activation checkpointing runs modules again."""
    return torch._C._current_graph_task_id() != -1


def _is_partly_compiled(module: nn.Module) -> bool:
    """Return True if a part of a module is compiled, which another mode around it would make anew."""
    return any(
        type(part).__name__ == "OptimizedModule" or getattr(part, "_compiled_call_impl", None) is not None
        for part in module.modules()
    )


def _is_of_no_row(made: Tensor) -> bool:
    """Return True if all rows are the same: a table of positions, say, that was made as large as the batch."""
    return made.ndim > 0 and len(made) > 1 and bool((made.detach() == made.detach()[:1]).all())


def _result(output: Any) -> Tensor | None:
    """Return the first tensor of an output, if gradients go through it."""
    return next((first for first in floating(output)[:1] if first.requires_grad), None)


def _reaches(start: Node, ends: list[Node], closed: Node) -> bool:
    """Return True if a path of the graph leads from start to one of the ends without going through `closed`."""
    seen, waiting = {closed}, [start]
    while waiting:
        node = waiting.pop()
        if node in ends:
            return True
        if node in seen:
            continue
        seen.add(node)
        waiting.extend(following for following, _ in node.next_functions if following is not None)
    return False
