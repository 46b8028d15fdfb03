"""Two batches as one: what `Vicinity.between` mixes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal import _tree
from vicinal.pairing import Pairing
from vicinal.target import MixedTarget


@dataclass(frozen=True)
class Across(Pairing):
    """Partners of the first `n` rows among the rows after them, which themselves stay alone.

    Args:
        pairing: what draws them, by `across`.
        n: number of rows that are given a partner.

    """

    pairing: Pairing
    n: int

    def draw(self, generator: np.random.Generator, n: int, y: Tensor | None, x: Tensor | None) -> np.ndarray:
        """Draw the partners of all rows, int64 [n]."""
        partner = np.arange(n)
        theirs = self.pairing.across(generator, self.n, n - self.n, y, x)
        partner[: self.n] = np.where(theirs >= 0, theirs + self.n, partner[: self.n])
        return partner


def rows_of(batch: Any) -> int:
    """Return the number of rows of a batch (x, y)."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise TypeError(f"between mixes two batches (x, y), got a {type(batch).__name__}: between((x1, y1), (x2, y2))")
    return _tree.rows(*batch)


def joined(batch: Any, n: int, others: Any, m: int) -> tuple[Any, Any]:
    """Return the inputs and the targets of both batches, of n and m rows, one after the other along dimension 0."""
    return _join_trees(batch[0], n, others[0], m, "input"), _join_trees(batch[1], n, others[1], m, "target")


def sliced(tree: Any, rows: int, n: int, what: str) -> Any:
    """Return the first n of `rows` rows of each tensor."""
    leaves, build = _tree.flatten(tree, what, rows)
    return build(leaf[:n] if isinstance(leaf, (Tensor, MixedTarget)) else leaf for _, leaf in leaves)


def _join_trees(first: Any, n: int, second: Any, m: int, what: str) -> Any:
    leaves, build = _tree.flatten(first, what, n)
    more, _ = _tree.flatten(second, what, m)
    names, others = [name for name, _ in leaves], [name for name, _ in more]
    if names != others:
        raise ValueError(f"the {what}s of the two batches must have one structure, got {names} and {others}")
    if any(isinstance(leaf, _tree.Examples) for _, leaf in (*leaves, *more)):
        raise TypeError("between takes batches: stack a list of examples, torch.stack(x)")
    return build(_join(a, b, what) for (_, a), (_, b) in zip(leaves, more, strict=True))


def _join(first: Any, second: Any, what: str) -> Tensor | None:
    if first is None and second is None:
        return None
    if what == "target":
        first, second = _alike(first, second)
    if not isinstance(first, Tensor) or not isinstance(second, Tensor):
        raise TypeError(
            f"the {what}s of the two batches must be tensors, got {type(first).__name__} and {type(second).__name__}"
        )
    if first.ndim == 0 or first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"the {what}s of the two batches must agree but for the number of rows, got {list(first.shape)} and "
            f"{list(second.shape)}"
        )
    if what == "input" and first.dtype != second.dtype:
        raise ValueError(
            f"the inputs of the two batches have dtypes {first.dtype} and {second.dtype}: convert one of them"
        )
    return torch.cat([first, second])


def _alike(first: Any, second: Any) -> tuple[Tensor, Tensor]:
    """Return two targets, class indices as soft labels where the others are that."""
    if first is None or second is None:
        raise ValueError("one batch has targets and the other None: give both (pseudo-labels, say), or None for both")
    if isinstance(first, MixedTarget) or isinstance(second, MixedTarget):
        raise TypeError(
            "between takes plain targets, and one of these is mixed already: mix it afterwards, by plan.target(y)"
        )
    if _is_indices(first) == _is_indices(second):
        return first, second
    return (_soft(first, second), second) if _is_indices(first) else (first, _soft(second, first))


def _soft(indices: Tensor, beside: Tensor) -> Tensor:
    """Return class indices [n] as soft labels [n, num_classes] like those of the other batch."""
    if indices.ndim != 1 or beside.ndim != 2:
        raise ValueError(
            f"class indices [n] join soft labels [m, num_classes], got {list(indices.shape)} and {list(beside.shape)}"
        )
    return F.one_hot(indices.long(), beside.shape[1]).to(beside.dtype)


def _is_indices(y: Tensor) -> bool:
    return not (y.is_floating_point() or y.is_complex())
