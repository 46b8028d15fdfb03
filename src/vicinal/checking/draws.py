"""One run of a pipeline on marked rows, read: who is in each mixed row, and what its label says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from vicinal.checking import labels
from vicinal.checking.labels import LabelReading, one_hot
from vicinal.checking.marks import LeafSpec, Marks
from vicinal.checking.pipelines import Content, Fed, Pipeline
from vicinal.checking.recover import Recovered

MIXED = 2e-3  # a share that is taken for one
_MOST_ROWS = 16


@dataclass
class Draw:
    """What one run of a pipeline showed.

    Args:
        fed: the run.
        rows: for each leaf of inputs, what its rows are made of.
        readings: for each label, what it says.

    """

    fed: Fed
    rows: dict[str, list[Recovered]] = field(default_factory=dict)
    readings: dict[str, LabelReading] = field(default_factory=dict)

    def own(self, i: int) -> int | None:
        """Return the place of row i among the candidates; None where rows that came out are not those that went in."""
        ids, candidates = self.fed.ids, self.fed.candidates
        return candidates.index(ids[i]) if i < len(ids) and ids[i] in candidates else None

    def main(self) -> list[Recovered] | None:
        """Return the rows of the first leaf that is known and mixed; of the first that is known, if none is mixed."""
        known = [rows for rows in self.rows.values() if rows and sum(row.is_known for row in rows) >= 0.7 * len(rows)]
        mixed = [rows for rows in known if any(is_mixed(row) for row in rows if row.is_known)]
        return mixed[0] if mixed else known[0] if known else None

    def lambdas(self) -> list[float]:
        """Return the share that each mixed row keeps of itself."""
        found = []
        for i, row in enumerate(self.main() or []):
            own = self.own(i)
            if row.is_known and own is not None and is_mixed(row):
                found.append(float(row.share[own]))
        return found

    def partners(self) -> list[tuple[int, int]]:
        """Return (row, its largest partner) of each mixed row, by their numbers."""
        found = []
        for i, row in enumerate(self.main() or []):
            own = self.own(i)
            others = [j for j in row.main() if j != own]
            if row.is_known and others and own is not None:
                found.append((self.fed.candidates[own], self.fed.candidates[others[0]]))
        return found

    def is_mixed(self) -> bool:
        """Return whether any row that is known holds more than one."""
        return any(is_mixed(row) for rows in self.rows.values() for row in rows if row.is_known)

    def signature(self) -> list[float]:
        """Return the shares of this draw, rounded: two draws with equal ones are one draw."""
        rows = self.main()
        if rows is None:
            return label_signature(self.readings)
        return [round(float(share), 5) for row in rows for share in row.share]


def is_mixed(row: Recovered) -> bool:
    """Return whether a row holds more than one candidate."""
    return int((np.abs(row.share) > max(MIXED, 2 * row.error)).sum()) > 1


def label_signature(readings: dict[str, LabelReading]) -> list[float]:
    """Return the shares in a batch's labels that are neither 0 nor 1, in order."""
    found: list[float] = []
    for reading in readings.values():
        if reading.shares is not None and reading.shares.ndim == 2:
            inner = reading.shares[(reading.shares > MIXED) & (reading.shares < 1 - MIXED)]
            found.extend(round(float(share), 5) for share in inner)
    return found


def draw(pipeline: Pipeline, contents: Sequence[Content], ids: Sequence[int], fed: Fed | None = None) -> Draw:
    """Run a pipeline on rows and read what comes out."""
    fed = pipeline.feed(ids) if fed is None else fed
    result = Draw(fed)
    for content in contents:
        leaf = fed.inputs.get(content.name)
        if leaf is None or content.how in ("random", "constant"):
            continue
        result.rows[content.name] = rows_of(pipeline, content, leaf, fed)
    if fed.labels is not None:
        result.readings = read_labels(pipeline.marks, fed)
    return result


def rows_of(pipeline: Pipeline, content: Content, leaf: Tensor, fed: Fed) -> list[Recovered]:
    """Return what each row of a leaf is made of."""
    rows = content.candidates(pipeline, fed.candidates)
    if rows.rows.shape[1] != leaf[:1].numel():
        return []
    found = []
    for i, row in enumerate(leaf[:_MOST_ROWS]):
        own = fed.candidates.index(fed.ids[i]) if len(leaf) == len(fed.ids) and fed.ids[i] in fed.candidates else None
        made = rows.recover(row, own)
        total = float(made.share.sum())
        if content.how == "pure" and 0.5 < total < 2:  # a batch that is standardized as a whole has another scale
            made = replace(made, share=made.share / total, error=max(made.error, 0.004))
        if content.how == "pure" and made.found <= 0.97:  # no noise explains the rest: it is not a sum of these rows
            made = replace(made, error=1.0)
        found.append(made)
    return found


def rows_before(pipeline: Pipeline, content: Content, run: Draw, count: int) -> list[Recovered]:
    """Return what the first rows of a leaf are made of, mixed before the transform that makes the leaf.

    Of each partner and lambda the transform of that mixture is compared with what came out.

    Args:
        pipeline: what was run.
        content: the leaf, known by batches of copies.
        run: the run.
        count: how many rows are looked at.

    """
    leaf, fed = run.fed.inputs[content.name], run.fed
    found = []
    for i in range(min(count, len(leaf))):
        own = run.own(i)
        if own is None:
            return []
        target = leaf[i].double()
        plain = content.rows(pipeline, [fed.candidates[own]])[0].double()
        size = float((plain - plain.mean()).abs().mean()) or 1.0

        def off(j: int, weight: float, own: int = own, target: Tensor = target, size: float = size) -> float:
            number = pipeline.marks.blend(fed.candidates[own], fed.candidates[j], weight)
            made = pipeline.pure(number)[content.name][0].double()
            return float((made - target).abs().mean()) / size if made.shape == target.shape else np.inf

        others = [j for j in range(len(fed.candidates)) if j != own]
        tries = [(off(j, weight), j, weight) for j in others for weight in (0.1, 0.4, 0.7, 0.95)]
        best, partner, weight = min(tries)
        low, high = max(0.0, weight - 0.3), min(1.0, weight + 0.3)
        for _ in range(14):
            a, b = low + 0.382 * (high - low), low + 0.618 * (high - low)
            low, high = (low, b) if off(partner, a) < off(partner, b) else (a, high)
        weight = (low + high) / 2
        best = off(partner, weight)
        share = np.zeros(len(fed.candidates))
        share[own], share[partner] = weight, 1 - weight
        found.append(Recovered(share, 0.01 if best < 0.02 else 1.0, 1.0 if best < 0.02 else 0.0))
        if not found[0].is_known:
            return found  # the next rows cost as much to be found unknown
    return found


def read_labels(marks: Marks, fed: Fed) -> dict[str, LabelReading]:
    """Return what the labels of a batch say, for each label of an example."""
    specs = marks.labels
    m = max((len(t) for t in fed.inputs.values()), default=len(fed.ids))
    if len(specs) == 1:
        return {specs[0].name: labels.read(fed.labels, specs[0], m)}
    by_key = labels.by_name(fed.labels, specs)
    return {spec.name: labels.read(by_key[spec.name], spec, m) for spec in specs if spec.name in by_key}


def expected(
    marks: Marks, spec: LeafSpec, row: Recovered, candidates: Sequence[int], shape: Sequence[int]
) -> np.ndarray | None:
    """Return what the label of a row should say, by who is in its input.

    Args:
        marks: the rows.
        spec: the label.
        row: what the input is made of.
        candidates: which rows its shares are of.
        shape: of the input, without rows; places of a map are found by it.

    Returns:
        float64 [classes] or [classes, ...] of a map, nan at places that are not known; of numbers, the numbers. None where
        it cannot be said.

    """
    used = [j for j in range(len(candidates)) if row.share[j] != 0 or row.mixtures is not None]
    if not used:
        return None  # none of the rows is in it
    values = np.stack([marks.leaf(spec.name, candidates[j]).double().numpy() for j in used])
    total = row.share.sum()
    share = row.share[used] / (total if abs(total) > 0.5 else 1.0)
    if spec.role in ("values", "multi-hot"):
        if row.pieces is None or row.mixtures is None or values.ndim < 3:
            return np.tensordot(share, values, 1)
        places = _places(row.pieces, shape, values.shape[-2:])  # maps of numbers, cut as the input
        if places is None:
            return None
        maps = values.reshape(len(used), -1, *values.shape[-2:])
        cut = np.einsum("hwk,kchw->chw", row.mixtures[:, used][places], maps)
        return np.where(places < 0, np.nan, cut).reshape(values.shape[1:])
    if spec.role == "one-hot":
        return share @ values
    if spec.role == "indices":
        return share @ one_hot(values.reshape(len(used)), spec.classes)
    dense = one_hot(values, spec.classes)  # [k, classes, ...]
    if row.pieces is None:
        return np.tensordot(share, dense, 1)
    places = _places(row.pieces, shape, values.shape[1:])
    if places is None or row.mixtures is None:
        return None
    table = row.mixtures[:, used]
    by_place = table[places]  # [..., k]
    return np.where(places < 0, np.nan, np.einsum("...k,kc...->c...", by_place, dense))


def _places(pieces: np.ndarray, shape: Sequence[int], map_shape: Sequence[int]) -> np.ndarray | None:
    """Return which piece each place of a map belongs to, from the pieces of a whole input."""
    whole = pieces.reshape(tuple(shape))
    d = len(map_shape)
    if tuple(shape[-d:]) == tuple(map_shape):
        channels = whole.reshape(-1, *map_shape)
    elif tuple(shape[:d]) == tuple(map_shape):
        channels = np.moveaxis(whole.reshape(*map_shape, -1), -1, 0)
    else:
        return None
    return np.where(
        (channels == channels[0]).all(axis=0), channels[0], -1
    )  # two rows may agree in one channel by chance
