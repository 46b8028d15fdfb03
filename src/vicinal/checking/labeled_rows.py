"""Rows beside their labels: what the label of each should say by its input, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from vicinal.checking.draws import Draw, expected
from vicinal.checking.labels import LabelReading, one_hot
from vicinal.checking.marks import LeafSpec
from vicinal.checking.pipelines import Pipeline
from vicinal.checking.recorder import LossCall
from vicinal.checking.recover import Recovered

AGREE = 0.012  # shares that differ by less agree: rounding of bytes and half precision
_SMOOTHED = 2e-4


@dataclass
class LabeledRow:
    """One row: what its input is made of, what the label should say and what it says.

    Args:
        draw: the run it comes from.
        i: its place in the batch.
        made: of its input.
        should: float64 [classes, ...], by the input.
        says: the same by the label.
        own: the label it had before.
        swapped: by the input with the largest two shares exchanged.
        scale: how far apart labels can be: 1 for shares.

    """

    draw: Draw
    i: int
    made: Recovered
    should: np.ndarray
    says: np.ndarray
    own: np.ndarray | None
    swapped: np.ndarray
    scale: float = 1.0

    @property
    def off(self) -> float:
        """How far they disagree."""
        apart = np.abs(self.should - self.says)
        # of a map, but for a few places, whose owner may be taken for another by chance
        return float(apart.max() if apart.ndim < 2 else np.quantile(apart.max(axis=0), 0.997))

    @property
    def allowed(self) -> float:
        """How far they may, as far as the input is known."""
        return (AGREE + 3 * self.made.error) * self.scale

    @property
    def agrees(self) -> bool:
        """True if they do."""
        return self.off <= self.allowed


@dataclass(frozen=True)
class Smoothing:
    """Label smoothing as it was seen: each class that is not in a row has this share."""

    floor: float
    classes: int

    @property
    def amount(self) -> float:
        """The smoothing: (1 - amount) * label + amount / classes."""
        return self.floor * self.classes

    def removed(self, shares: np.ndarray) -> np.ndarray:
        """Return shares as they were before."""
        left = 1 - self.amount
        return (shares - self.floor) / left if left > 1e-9 else shares


def gradient_reading(
    gradient: Tensor, spec: LeafSpec, losses: Sequence[LossCall], loss: float | None
) -> LabelReading | None:
    """Read what a loss holds for the label off its gradient at outputs of 0.

    All outputs are equal there, so that a class that has no share has the largest slope, and each other lies below it by
    its share times the same factor: for cross-entropy, two of them mixed, binary cross-entropy and squared error alike.
    """
    g = gradient.double().numpy()
    if g.ndim >= 3 and g.shape[1] != spec.classes and g.shape[-1] == spec.classes:
        g = np.moveaxis(g, -1, 1)
    if g.ndim < 2 or g.shape[1] < max(2, spec.classes):
        return None
    base = g.max(axis=1, keepdims=True)
    shares = base - g
    binary = any(call.name.startswith("binary_cross_entropy") for call in losses)
    weights = [call.weight for call in losses if call.weight is not None and call.weight.numel() == g.shape[1]]
    if weights and any(call.smoothing > 0 for call in losses):
        read = _weighted_and_smoothed(g, weights[0].double().numpy())
        if read is None:
            return None
        shares = read
    elif weights:
        shares = shares / weights[0].double().numpy().reshape(1, -1, *(1,) * (g.ndim - 2)).clip(1e-12)
    elif binary and spec.role != "multi-hot" and g.ndim == 2 and base.min() > 0:
        sums = (shares / (2 * base)).sum(axis=1)  # a slope of +1/2 for each absent class, of -1/2 for one wholly there
        if sums.max() > 1.05:
            over = int((sums > 1.05).sum())
            seen = f"in {over} of {len(sums)} rows the classes that the loss holds for present sum to {sums.max():.2f}."
            return LabelReading("the gradient of the loss", None, [("VIC007", seen)])
    total = shares.sum(axis=1, keepdims=True)
    floor = 0.0 if weights or loss is None or g.ndim != 2 else _floor(float(total.mean()), loss, g.shape, losses)
    nothing = total <= 1e-12 * max(1e-30, float(np.abs(g).max()))
    shares = np.where(nothing, np.nan, shares / np.where(nothing, 1, total))
    shares = shares * (1 - g.shape[1] * floor) + floor
    return LabelReading("the gradient of the loss", shares)


def _floor(total: float, loss: float, shape: tuple[int, ...], losses: Sequence[LossCall]) -> float:
    """Return the share of a class that is in no row, of labels that were smoothed before the loss; 0 where it is not known.

    At outputs of 0 cross-entropy is the logarithm of the number of classes, whatever the labels: so the scale of the loss
    is known, and what the slopes lack beside it.
    """
    names = {call.name for call in losses}
    if any(call.smoothing for call in losses) or not names <= {"cross_entropy", "log_softmax"} or not names:
        return 0.0
    n, classes = shape
    scale = loss / np.log(classes) / n
    floor = (1 - total / scale) / classes if scale > 0 else 0.0
    return float(floor) if 1e-3 / classes < floor < 0.5 / classes else 0.0


def _weighted_and_smoothed(g: np.ndarray, weight: np.ndarray) -> np.ndarray | None:
    """Return shares of class-weighted cross-entropy with label smoothing, less what smoothing adds; None: too few classes.

    The slope of a class that is not in a row is a straight function of its weight: what it adds is the weight times the
    smoothing's share of each class.
    """
    if g.ndim != 2 or g.shape[1] < 5:
        return None
    shares = np.zeros_like(g)
    for i, row in enumerate(g):
        absent = np.argsort((row.max() - row) / weight.clip(1e-12))[:-2]
        basis = np.stack([np.ones(len(absent)), -weight[absent]], 1)
        (level, floor), *_ = np.linalg.lstsq(basis, row[absent], rcond=None)
        shares[i] = ((level - row) / weight.clip(1e-12) - floor).clip(0)
    return shares


def rows(pipeline: Pipeline, draws: Sequence[Draw], spec: LeafSpec) -> list[LabeledRow]:
    """Return all rows of which input and label are known."""
    found: list[LabeledRow] = []
    scale = spec.high - spec.low if spec.role == "values" else 1.0
    for draw in draws:
        made = draw.main()
        reading = draw.readings.get(spec.name)
        if made is None or reading is None or reading.shares is None:
            continue
        name = next(name for name, of in draw.rows.items() if of is made)
        shape = tuple(draw.fed.inputs[name].shape[1:])
        for i, row in enumerate(made):
            if i >= len(reading.shares) or not row.is_known:
                continue
            should = expected(pipeline.marks, spec, row, draw.fed.candidates, shape)
            says = reading.shares[i]
            if should is None or (np.isnan(says).any() and spec.unknown is None):
                continue
            if spec.role == "map" and spec.unknown is not None and should.shape == says.shape:
                lost = np.isnan(says).any(0) | (
                    np.abs(should.sum(0) - 1) > 1e-3
                )  # places that one of the rows leaves open
                should, says = np.where(lost, 0.0, should), np.where(lost, 0.0, says)
            should = padded(should, says)
            if should.shape == says.shape and np.isnan(should).any() and spec.unknown is None:  # places not known
                says, should = np.where(np.isnan(should), 0.0, says), np.nan_to_num(should)
            if reading.ignored is not None and should[reading.ignored].max() > 0:
                continue
            if should.shape != says.shape:
                continue
            place = draw.own(i)
            own = None if place is None else padded(label_alone(pipeline, draw, spec, place), says)
            swapped = expected(pipeline.marks, spec, swapped_shares(row), draw.fed.candidates, shape)
            found.append(
                LabeledRow(draw, i, row, should, says, own, padded(should if swapped is None else swapped, says), scale)
            )
    return found


def padded(should: np.ndarray, says: np.ndarray) -> np.ndarray:
    """Return what a label should say with zeros for classes that no example has, of which the label has places."""
    if (
        should.ndim >= 1
        and should.ndim == says.ndim
        and should.shape[0] < says.shape[0]
        and should.shape[1:] == says.shape[1:]
    ):
        wide = np.zeros_like(says)
        wide[: len(should)] = should
        return wide
    return should


def label_alone(pipeline: Pipeline, draw: Draw, spec: LeafSpec, place: int) -> np.ndarray:
    """Return the label of the row at a place among the candidates of a run, before any mixing: [classes, ...] or numbers."""
    values = pipeline.marks.leaf(spec.name, draw.fed.candidates[place]).double().numpy()
    if spec.role in ("values", "multi-hot", "one-hot"):
        return values
    return one_hot(values.reshape(1, *(values.shape if spec.role == "map" else ())), spec.classes)[0]


def swapped_shares(row: Recovered) -> Recovered:
    """Return what a row is made of with its two largest shares exchanged."""
    main = row.main()[:2]
    share = row.share.copy()
    if len(main) == 2:
        share[main[0]], share[main[1]] = share[main[1]], share[main[0]]
    return Recovered(share, row.error, row.found)


def smoothing_of(found: Sequence[LabeledRow], spec: LeafSpec) -> Smoothing | None:
    """Return the label smoothing that all rows show; None if there is none."""
    if spec.role in ("values", "multi-hot") or not found:
        return None
    floors = []
    for row in found:
        absent = row.should < 1e-6
        if not absent.any():
            continue
        floors.append(np.median(row.says[absent]))
    if not floors:
        return None
    floor = float(np.median(floors))
    if floor < _SMOOTHED or np.mean(np.abs(np.array(floors) - floor) < 0.1 * floor + 1e-4) < 0.9:
        return None
    return Smoothing(floor, found[0].says.shape[0])
