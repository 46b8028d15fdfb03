"""Does something flow past a mixed representation? Read off the autograd graph of one forward pass.

Mixed before a module inside a residual branch, `x + b(x)` at "b", only half of what goes on is mixed, while the labels
are wholly. A module is inside such a branch if the output of a module around it depends on that module's input by a path
that does not go through the mix.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge
from torch.utils import _pytree as pytree


class Mixed(NamedTuple):
    """What came out of a mix: its place in the graph, and its shape."""

    node: Node
    shape: torch.Size


class Watch:
    """Looks at the modules around one during a forward pass.

    Of a module inside the network it asks whether its output depends on its input past the mix; of the network, whose
    input is data, whether its output so depends on what one of its parts made before. Its hooks are there before anything
    is compiled, since compiled code is made anew when hooks come or go.

    Args:
        net: the network.
        at: the name of the module before which it is mixed.

    """

    def __init__(self, net: nn.Module, at: str) -> None:
        around = [at.rsplit(".", i)[0] for i in range(at.count("."), 0, -1)] if at else []
        self.mixed: Mixed | None = None  # in a pass, once it has happened
        self._open = False
        self._before: dict[str, list[Tensor]] = {name: [] for name in ["", *around]}  # the mix, by the module around it
        self._found: list[str] = []
        self._handles = [net.register_forward_hook(partial(self._after, ""))]
        for child in net.children():
            self._handles.append(child.register_forward_hook(partial(self._between, "")))
        for name in around:
            module = net.get_submodule(name)
            before = module.register_forward_pre_hook(partial(self._enter, name), with_kwargs=True, prepend=True)
            self._handles += [before, module.register_forward_hook(partial(self._after, name))]

    def begin(self) -> None:
        """Look at the next pass."""
        self.end()
        self._open = True

    def end(self) -> tuple[bool, str | None]:
        """Stop, and return whether there was anything to see, and the innermost module that something flows through."""
        saw, found = self.mixed is not None, max(self._found, key=len, default=None)
        self._open, self.mixed, self._found = False, None, []
        for tensors in self._before.values():
            tensors.clear()
        return saw, found

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def _enter(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not torch.compiler.is_compiling():
            self._keep(name, (args, kwargs))

    def _between(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        if not torch.compiler.is_compiling():
            self._keep(name, output)

    def _keep(self, name: str, tree: Any) -> None:
        tensor = _first_with_gradient(tree) if self._open and self.mixed is None else None
        if tensor is not None:
            self._before[name].append(tensor)

    def _after(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        if torch.compiler.is_compiling() or not self._open or self.mixed is None:
            return
        result = _first_with_gradient(output)
        if result is None:
            return
        ends = [t for t in self._before[name] if name or _is_alike(t, self.mixed.shape)]
        nodes = [get_gradient_edge(t).node for t in ends]
        if _reaches(get_gradient_edge(result).node, nodes, self.mixed.node):
            self._found.append(name)


def _is_alike(tensor: Tensor, shape: torch.Size) -> bool:
    """Whether a part's output may be a representation as the mixed one is; biases and conditions are not."""
    return tensor.ndim == len(shape) and tensor.shape[0] == shape[0]


def _first_with_gradient(tree: Any) -> Tensor | None:
    """Return the first tensor of a nest that a gradient goes through: of inputs and outputs, the representation."""
    tensors = (leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.is_floating_point())
    first = next(tensors, None)
    return first if first is not None and first.requires_grad else None


def _reaches(start: Node, ends: list[Node], closed: Node) -> bool:
    """Whether a path of the graph leads from start to one of the ends without going through `closed`."""
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
