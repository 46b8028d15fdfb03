"""Loaders: draws over epochs, workers and ranks, the switch, partners, and which rows an epoch sees."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from vicinal.checking import draws as reading
from vicinal.checking import trees, variety
from vicinal.checking.draws import label_signature, read_labels
from vicinal.checking.pipelines import Collation, Content, Fed, deep_copied
from vicinal.checking.recover import NARROW, Candidates, cells
from vicinal.checking.report import Fault
from vicinal.checking.sources import Source, indices_of

_BATCHES = 8  # per epoch that are looked at
_CELLS = 2048  # of a row that are looked at
_NUMBERS = 3e7  # in an epoch's batches, about, that marked rows are made for


def marked(loader: Any, source: Source, copies: bool = True) -> Any:
    """Return a copy of a loader over marked rows; a loader inside of another object is replaced in a copy of that.

    Args:
        loader: a `DataLoader`, or an object that holds one.
        source: the marked dataset.
        copies: whether its collate function, with what it counts and draws from, is copied too.

    """

    def over_marked_rows(found: DataLoader[Any]) -> DataLoader[Any]:
        changed = copy.copy(found)
        changed.__dict__["dataset"] = source.dataset
        changed.__dict__["_iterator"] = None
        if copies:
            changed.__dict__["collate_fn"] = deep_copied(found.collate_fn)
        return changed

    return replaced(loader, over_marked_rows)


def replaced(loader: Any, change: Callable[[DataLoader[Any]], DataLoader[Any]]) -> Any:
    """Return a loader, or a copy of what holds some, with each `DataLoader` changed."""
    if isinstance(loader, DataLoader):
        return change(loader)
    changed = copy.copy(loader)
    for key, value in vars(loader).items():
        if inner(value) is not None:
            object.__setattr__(changed, key, replaced(value, change))
    return changed


def refilled(loader: DataLoader[Any], other: DataLoader[Any]) -> DataLoader[Any]:
    """Return a copy of a loader that reads what another reads."""
    changed = copy.copy(loader)
    changed.__dict__.update({**loader.__dict__, **other.__dict__})
    return changed


def inner(loader: Any, depth: int = 0) -> DataLoader[Any] | None:
    """Return the `DataLoader` in a loader; None if there is none."""
    if isinstance(loader, DataLoader):
        return loader
    if depth > 3 or not hasattr(loader, "__dict__") or not hasattr(loader, "__iter__"):
        return None
    for value in vars(loader).values():
        if value is not loader and (isinstance(value, DataLoader) or hasattr(value, "__iter__")):
            found = inner(value, depth + 1) if hasattr(value, "__dict__") else None
            if found is not None:
                return found
    return None


def has_rows(loader: Any) -> bool:
    """Return whether a loader takes rows of a dataset by number, so that marked ones can take their place."""
    found = inner(loader)
    return found is not None and not isinstance(found.dataset, IterableDataset) and found.batch_sampler is not None


def of_training(made: Any) -> Any:
    """Return the loader of the training among what a function made: the first of several."""
    parts = list(made) if isinstance(made, tuple | list) else []
    return parts[0] if parts and inner(parts[0]) is not None else made


class Epochs:
    """A loader over marked rows, read epoch by epoch.

    Args:
        loader: the user's.
        pipeline: its collate function over the marked dataset.
        contents: how rows look in what comes out.
        copies: as of `marked`.

    """

    def __init__(self, loader: Any, pipeline: Collation, contents: Sequence[Content], copies: bool = True) -> None:
        self.pipeline, self.contents = pipeline, contents
        self.loader = marked(loader, pipeline.source, copies)
        found = inner(self.loader)
        assert found is not None
        self.inner = found
        size = getattr(found.batch_sampler, "batch_size", None) or found.batch_size or 1
        tensors = [trees.as_tensor(spec.like) for spec in pipeline.marks.inputs]
        self.numbers = int(size) * sum(t.numel() for t in tensors if t is not None)  # of a batch
        self.workers = found.num_workers
        self.persistent = bool(found.persistent_workers)
        self.pairs: list[set[tuple[int, int]]] = []
        self._before: set[int] = set()  # rows that were asked for before the present batch

    def epoch(self) -> list[list[float]]:
        """Run an epoch, or its first batches; return the shares of each batch that are neither 0 nor 1."""
        batches: list[list[float]] = []
        pairs: set[tuple[int, int]] = set()
        self._before = set()
        with self.pipeline.source.watched() as fetched:
            iterator = iter(self.loader)
            limit = max(2, min(_BATCHES, int(_NUMBERS / max(1, self.numbers))), 3 * self.workers)
            for batch in iterator:
                batches.append(self._shares(batch, fetched, pairs))
                if len(batches) >= limit:
                    break
            if self.persistent:  # the workers end their epoch before the next
                for _ in iterator:
                    pass
            del iterator
        self.pairs.append(pairs)
        return batches

    def _shares(self, batch: Any, fetched: Callable[[], list[int]], pairs: set[tuple[int, int]]) -> list[float]:
        inputs, found = self.pipeline.split(batch)
        fed = Fed([], [], inputs, found)
        shares = label_signature(read_labels(self.pipeline.marks, fed))
        content = next((c for c in self.contents if c.how == "direct"), None)
        if content is None or content.name not in inputs:
            return shares
        known = fetched()
        candidates = known if self.workers else sorted(set(known) - self._before) or known
        self._before = set(known)
        narrow = inputs[content.name][0].numel() < NARROW  # all pairs are compared there
        if len(candidates) > (300 if narrow else 4096) or content.spec is None:
            return shares
        # a part of the cells: whether two draws are the same shows there as well
        at = torch.from_numpy(cells(inputs[content.name][0].numel(), _CELLS))
        rows = Candidates(
            torch.stack([self.pipeline.marks.leaf(content.spec.name, i).reshape(-1)[at] for i in candidates])
        )
        seen: list[float] = []
        for row in inputs[content.name][:6]:
            made = rows.recover(row.reshape(-1)[at])
            if made.is_known:
                seen.extend(round(float(s), 5) for s in made.share if reading.MIXED < s < 1 - reading.MIXED)
                main = sorted(candidates[j] for j in made.main()[:2])
                if len(main) == 2:
                    pairs.add((main[0], main[1]))
        return shares or seen


def findings(epochs: Epochs) -> Iterator[Fault]:
    """Return how draws repeat in workers and epochs, and partners from epoch to epoch."""
    first = epochs.epoch()
    if not any(first):
        return
    by_worker = [first[w :: epochs.workers] for w in range(epochs.workers)]
    copies = [
        w
        for w in range(1, epochs.workers)
        if variety.repeated(by_worker[0], by_worker[w]) and (variety.varies(by_worker[0]) or len(by_worker[0]) == 1)
    ]
    same = len({tuple(variety.smaller_parts(batch)) for batch in first if batch}) == 1 and len(first) > 3
    if copies and not same:
        yield Fault(
            "VIC023",
            f"the batches of workers 0 and {copies[0]} of {epochs.workers} were mixed by the same shares, one after the "
            f"other: {few(by_worker[0])}.",
        )
    second = epochs.epoch()
    if variety.repeated(first, second) and variety.varies(first):
        yield Fault(
            "VIC022", f"the first {len(first)} batches of two epochs were mixed by the same shares: {few(first)}."
        )
    elif variety.repeated(first, second) and not variety.varies(first) and len(first) > 3:
        yield Fault("VIC021", f"all batches of two epochs had the same shares: {few(first[:1])}.")
    together = [a & b for a, b in zip(epochs.pairs[:1], epochs.pairs[1:2], strict=True)]
    if together and len(epochs.pairs[0]) >= 3 and len(together[0]) >= 0.9 * len(epochs.pairs[0]):
        i, j = sorted(epochs.pairs[0])[0]
        yield Fault(
            "VIC026",
            f"{len(together[0])} of {len(epochs.pairs[0])} pairs of an epoch came again in the next, as rows {i} and {j}.",
        )


def switched_off(epochs: Epochs, off: Callable[[], Any]) -> Iterator[Fault]:
    """Return whether an epoch of persistent workers is mixed after mixing was switched off."""
    epochs.epoch()
    off()
    after = epochs.epoch()
    mixed = sum(bool(batch) for batch in after)
    if mixed > 0.2 * len(after):
        yield Fault(
            "VIC041", f"after it was switched off, {mixed} of {len(after)} batches of the next epoch were mixed."
        )


def few(batches: Sequence[Sequence[float]]) -> str:
    """Return the first share of some batches, as text."""
    shown = [f"{min(batch[0], 1 - batch[0]):.4f}" for batch in batches[:4] if batch]
    return ", ".join(shown) + (", ..." if len(batches) > 4 else "")


def fixed_partners(pipeline: Collation) -> Iterator[Fault]:
    """Return whether a dataset that mixes inside pairs each row with the same one, or with rows that are not its own."""
    if pipeline.source.depth == 0:
        return
    pairs: dict[int, set[int]] = {}
    for i in range(min(8, len(pipeline.source.dataset))):
        for _ in range(6):
            with pipeline.source.watched() as fetched:
                pipeline.source.dataset[i]
            rows = fetched()
            if len(rows) == 2:
                pairs.setdefault(i, set()).update(rows)
    fixed = [i for i, rows in pairs.items() if len(rows) == 2]
    if len(pairs) >= 4 and len(fixed) == len(pairs):
        i, j = sorted(pairs[fixed[0]])
        yield Fault(
            "VIC026", f"{len(fixed)} of {len(pairs)} rows met the same partner 6 times of 6, as rows {i} and {j}."
        )
    yield from _outside(pipeline)


def _outside(pipeline: Collation) -> Iterator[Fault]:
    """Return whether rows that belong to no example of the dataset are in its mixtures: it is a part of a larger one."""
    dataset, total = pipeline.source.dataset, len(pipeline.source.rows)
    n = len(dataset)
    if n >= total or n > 4000:
        return
    met: list[set[int]] = []
    for i in range(n):
        with pipeline.source.watched() as fetched:
            dataset[i]
        met.append(set(fetched()))
    if pipeline.source.indices is None:
        return
    indices = set(pipeline.source.indices)
    outside = set().union(*met) - indices
    if outside:
        yield Fault(
            "VIC028",
            f"{len(outside)} rows that are not among the {len(indices)} of this part were mixed into it, such as row "
            f"{min(outside)} of {total}.",
        )


# -- ranks and resumes --------------------------------------------------------------------------------------------------


def rows_of_epoch(loader: Any) -> list[int] | None:
    """Return which rows an epoch of a loader reads, by its sampler; None where it has no sampler of rows."""
    found = inner(loader)
    if found is None or isinstance(found.dataset, IterableDataset) or getattr(found.sampler, "replacement", False):
        return None
    batches: Any = found.batch_sampler
    if batches is None:
        return None
    rows: list[int] = []
    for batch in batches:
        rows.extend(int(i) for i in batch)
        if len(rows) > 1_000_000:
            return None
    part = indices_of(found.dataset)
    return rows if part is None else [part[i] for i in rows]


def size_of_whole(dataset: Any) -> int:
    """Return the number of rows of the dataset that a part belongs to."""
    indices = indices_of(dataset)
    if indices is None:
        return len(dataset)
    held = [value for value in vars(dataset).values() if hasattr(value, "__len__") and hasattr(value, "__getitem__")]
    larger = [size_of_whole(value) for value in held if isinstance(value, Dataset)]
    return max([len(dataset), max(indices) + 1, *larger])


def over_ranks(per_rank: Sequence[list[int]], total: int, batch_size: int) -> Iterator[Fault]:
    """Return whether the rows of all ranks are each row once, but for padding and the last batches.

    Args:
        per_rank: rows of an epoch, of each rank.
        total: number of rows.
        batch_size: of each rank.

    """
    world = len(per_rank)
    counts = np.zeros(total, dtype=int)
    for rows in per_rank:
        np.add.at(counts, [i for i in rows if i < total], 1)
    twice, never = int((counts > 1).sum()), int((counts == 0).sum())
    if twice > world or never > world * batch_size:
        read = ", ".join(str(len(rows)) for rows in per_rank)
        yield Fault(
            "VIC043", f"{world} ranks read {read} of {total} rows: {twice} rows are read more than once, {never} never."
        )
