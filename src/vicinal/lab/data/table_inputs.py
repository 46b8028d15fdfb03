"""Inputs of models whose one-hot columns are kept as codes until rows are taken, so that memory is that of the data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class TableInputs:
    """Numbers, and categories that `dense` makes one-hot columns of, for rows of any leading shape.

    Args:
        numbers: [..., n, p].
        codes: int32 [..., n, q], the position of each category among its column's levels, -1 where missing; None where
            there are no categories.
        levels: number of levels of each of the q columns.

    """

    numbers: Tensor
    codes: Tensor | None = None
    levels: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        """The number of dense columns D."""
        return self.numbers.shape[-1] + sum(self.levels)

    @property
    def rows(self) -> int:
        """The number of rows n."""
        return self.numbers.shape[-2]

    @property
    def dtype(self) -> torch.dtype:
        """Of the dense columns."""
        return self.numbers.dtype

    @property
    def device(self) -> torch.device:
        """Of the numbers and the codes."""
        return self.numbers.device

    def __getitem__(self, at: int | slice | Tensor | tuple[int | slice, ...]) -> TableInputs:
        """Return some of the rows, by indices of the leading dimensions alone."""
        return TableInputs(self.numbers[at], None if self.codes is None else self.codes[at], self.levels)

    def flatten(self) -> TableInputs:
        """Return all rows in one dimension: numbers [N, p]."""
        codes = None if self.codes is None else self.codes.flatten(0, -2)
        return TableInputs(self.numbers.flatten(0, -2), codes, self.levels)

    def take(self, rows: Tensor) -> Tensor:
        """Return the dense inputs [..., D] of rows [...], for inputs that are `flatten`."""
        numbers = self.numbers.index_select(0, rows.flatten()).view(*rows.shape, -1)
        if self.codes is None:
            return numbers
        return _one_hot(numbers, self.codes.index_select(0, rows.flatten()).view(*rows.shape, -1), self.levels)

    def dense(self) -> Tensor:
        """Return the inputs [..., n, D]: the numbers, then each category one-hot, all zeros where missing."""
        return self.numbers if self.codes is None else _one_hot(self.numbers, self.codes, self.levels)

    def blocks(self, rows: int) -> Iterator[Tensor]:
        """Yield the dense inputs, `rows` rows at a time; one empty block where there are none."""
        for start in range(0, max(1, self.rows), rows):
            at = (..., slice(start, start + rows), slice(None))
            codes = None if self.codes is None else self.codes[at]
            yield TableInputs(self.numbers[at], codes, self.levels).dense()

    @staticmethod
    def stack(parts: Sequence[TableInputs]) -> TableInputs:
        """Stack inputs of one shape and of the same levels along a new first dimension."""
        codes = [part.codes for part in parts if part.codes is not None]
        return TableInputs(
            torch.stack([part.numbers for part in parts]), torch.stack(codes) if codes else None, parts[0].levels
        )


def _one_hot(numbers: Tensor, codes: Tensor, levels: Sequence[int]) -> Tensor:
    p = numbers.shape[-1]
    dense = numbers.new_zeros(*numbers.shape[:-1], p + sum(levels))
    dense[..., :p] = numbers
    firsts = [p + sum(levels[:j]) for j in range(len(levels))]
    # each column has places of its own; a missing category writes a zero at the first of them
    places = codes.clamp(min=0).to(torch.int64) + torch.tensor(firsts, device=codes.device)
    return dense.scatter_(-1, places, (codes >= 0).to(dense.dtype))
