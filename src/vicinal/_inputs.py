"""What goes into a module: its inputs by name, and which of them may be a representation."""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

# Parameters that are no representation, by the words of their names: masks, what is added to attention scores, rotary
# tables, states of recurrent networks, caches, counts
_NEVER = re.compile(
    r"\w*masks?|\w*bias|biases|alibi|pad|padding|pos|positions?|rotary|rope|freqs|cos|sin|sinusoid(s|al)?|rel|relative|scores"
    r"|hx|h0|c0|hc|cx|states?|mems|\w*cache|past|num"
)
# of them, those that elsewhere name a representation: the state of a game, numbers of a table, positions of points
_PERHAPS = re.compile(r"pos|positions?|cos|sin|rel|relative|scores|states?|past|num")
_WORDS = re.compile(r"_+|(?<=[a-z0-9])(?=[A-Z])")  # what lies between the words of keyPaddingMask and key_padding_mask

Named = list[tuple[str, Any]]  # inputs by their names, in the order of the parameters


class Inputs:
    """The parameters of a module's `forward`, without self."""

    def __init__(self, module: nn.Module) -> None:
        parameters = inspect.signature(module.forward).parameters.values()
        self.names = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        self._kinds = {p.kind for p in parameters}

    def can_have(self, which: str | int) -> bool:
        """Return True if a call can have an input of this name or position."""
        if isinstance(which, str):
            return which in self.names or inspect.Parameter.VAR_KEYWORD in self._kinds
        return which >= 0 and (which < len(self.names) or inspect.Parameter.VAR_POSITIONAL in self._kinds)

    def name(self, which: str | int) -> str:
        """Return the name of an input by its name or position."""
        if isinstance(which, str):
            return which
        return self.names[which] if which < len(self.names) else f"input {which}"

    def named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Named:
        """Return the inputs of a call by their names."""
        order = [*self.names, *kwargs]
        by_name = sorted(kwargs.items(), key=lambda item: order.index(item[0]))
        return [(self.name(i), arg) for i, arg in enumerate(args)] + by_name


def floating(value: Any) -> list[Tensor]:
    """Return the floating-point tensors of one input."""
    leaves = [value] if isinstance(value, Tensor) else pytree.tree_leaves(value)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex())]


def _words_of(name: str) -> list[str]:
    words = [word.lower() for word in _WORDS.split(name)]
    return words[:-1] if words[-1] in ("states", "state") and len(words) > 1 else words  # `hidden_states` are one


def is_never(name: str) -> bool:
    """Return True if an input of this name is not a representation."""
    return any(_NEVER.fullmatch(word) for word in _words_of(name))


def is_perhaps(name: str) -> bool:
    """Return True if an input that is not one by its name might still be a representation."""
    never = [word for word in _words_of(name) if _NEVER.fullmatch(word)]
    return bool(never) and all(_PERHAPS.fullmatch(word) for word in never)


def opened(named: Named) -> Named:
    """Return the inputs with dicts taken apart: by their keys, what has most dimensions first, then by name."""
    flat: Named = []
    for name, value in named:
        if not isinstance(value, dict):
            flat.append((name, value))
            continue
        parts = opened([(str(key), part) for key, part in value.items()])
        flat += sorted(parts, key=lambda part: (-part[1].ndim if isinstance(part[1], Tensor) else 1, part[0]))
    return flat


def representation(named: Named) -> Tensor | None:
    """Return the first input that may be one, whatever its size; None where token ids come before it, as of a model."""
    leaves = (leaf for name, value in opened(named) if not is_never(name) for leaf in pytree.tree_leaves(value))
    first = next((leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.ndim > 1), None)
    return next(iter(floating(first)), None)


def replaced(
    args: tuple[Any, ...], kwargs: dict[str, Any], old: list[Tensor], new: list[Tensor]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the inputs of a call with new tensors for old ones, wherever they go in: query, key and value may be one.

    An input without any of them stays the object that it is: a cache, for one, is written to.
    """

    def of_leaf(leaf: Any) -> Any:
        return next((b for a, b in zip(old, new, strict=True) if leaf is a), leaf)

    def of_input(value: Any) -> Any:
        is_there = any(leaf is tensor for leaf in pytree.tree_leaves(value) for tensor in old)
        return pytree.tree_map(of_leaf, value) if is_there else value

    return tuple(of_input(arg) for arg in args), {name: of_input(value) for name, value in kwargs.items()}


def is_additive_mask(tensor: Tensor) -> bool:
    """Return True if a tensor holds -inf, or what stands for it, as masks added to attention scores do."""
    if not tensor.is_floating_point() or not tensor.numel():
        return False
    low, high = (float(end) for end in tensor.detach().aminmax())
    if low <= torch.finfo(tensor.dtype).min / 2:
        return True
    return low <= -1000 and high <= 0 and bool(((tensor == 0) | (tensor == low)).all())
