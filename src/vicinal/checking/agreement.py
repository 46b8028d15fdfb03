"""Is the share of each row in the mixed input also its share in the label? The question that most faults fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from vicinal.checking.draws import MIXED, Draw, is_mixed
from vicinal.checking.labeled_rows import AGREE, LabeledRow, label_alone, padded, rows, smoothing_of
from vicinal.checking.labels import LabelReading, one_hot
from vicinal.checking.marks import LeafSpec
from vicinal.checking.pipelines import Content, Pipeline, Step
from vicinal.checking.recover import tolerance
from vicinal.checking.report import Fault


def findings(
    pipeline: Pipeline, contents: Sequence[Content], draws: Sequence[Draw], declared_smoothing: float | None
) -> Iterator[Fault]:
    """Return how inputs and labels of the draws disagree."""
    several = len(pipeline.marks.labels) > 1
    for spec in pipeline.marks.labels:
        where = f"label {spec.name}" if several else ""
        readings = [draw.readings[spec.name] for draw in draws if spec.name in draw.readings]
        problems = {code: seen for reading in readings for code, seen in reversed(reading.problems)}
        for code, seen in problems.items():
            yield Fault(code, seen, where)
        kinds = {reading.kind for reading in readings if reading.kind}
        if len(kinds) > 1:
            shown = " or ".join(sorted(_kind(kind) for kind in kinds))
            yield Fault("VIC013", f"in {len(readings)} batches the label was {shown}.", where)
        found = rows(pipeline, draws, spec)
        smoothing = smoothing_of(found, spec)
        if smoothing is not None:
            for row in found:
                row.says = smoothing.removed(row.says)
            declared = declared_smoothing is not None and (
                abs(smoothing.amount - declared_smoothing) < 0.02 * max(1, declared_smoothing)
                or abs(smoothing.floor * (smoothing.classes - 1) - declared_smoothing) < 0.005
            )
            if not declared:
                asked = "" if declared_smoothing is None else f"; {declared_smoothing:g} was declared"
                yield Fault(
                    "VIC012",
                    f"a class that is not in a row has the share {smoothing.floor:.4f}, as with label smoothing "
                    f"{smoothing.amount:.3g} over {smoothing.classes} classes{asked}.",
                    where,
                )
        if spec.unknown is not None and spec.role in ("values", "multi-hot"):
            yield from _unknown_entries(found, pipeline, spec, where)
            continue
        if "VIC007" in problems:
            continue  # what does not sum to 1 agrees with nothing
        yield from _verdict(pipeline, found, readings, spec, where)
    yield from _inputs(pipeline, contents, draws)


def _kind(kind: tuple[object, ...]) -> str:
    return f"{kind[0]} {list(kind[-1]) if isinstance(kind[-1], tuple) else ''}".strip()


def _verdict(
    pipeline: Pipeline,
    found: list[LabeledRow],
    readings: Sequence[LabelReading],
    spec: LeafSpec,
    where: str,
) -> Iterator[Fault]:
    telling = [row for row in found if _tells(row)]
    wrong = [row for row in telling if not row.agrees]
    if len(wrong) <= 0.02 * len(telling):
        return
    worst = max(wrong, key=lambda row: row.off)
    typical = sorted(wrong, key=lambda row: row.off)[len(wrong) // 2]
    of = f"{len(wrong)} of {len(telling)} rows"
    inputs_mixed = [row for row in wrong if is_mixed(row.made)]
    several = len(pipeline.marks.labels) > 1
    if (
        spec.role == "map"
        and any(reading.hard for reading in readings)
        and typical.made.pieces is None
        and not all(_same(r.says, r.own, r.scale) for r in wrong)
    ):
        yield Fault(
            "VIC011",
            f"{of}: maps of labels hold one class per place where the input is mixed of two ({_numbers(typical)}).",
            where,
        )
        return
    hard = all(reading.hard for reading in readings)
    if hard and spec.role == "values" and any(np.abs(r.says - np.trunc(r.should)).max() < 1e-6 for r in wrong):
        cut = next(r for r in wrong if np.abs(r.says - np.trunc(r.should)).max() < 1e-6)
        yield Fault("VIC011", f"{of}: a target that should be {_short(cut.should)} is {_short(cut.says)}.", where)
        return
    if (
        inputs_mixed
        and all(_same(row.says, row.own, row.scale) for row in wrong if row.own is not None)
        and wrong[0].own is not None
    ):
        code = "VIC004" if several and _other_labels_mixed(pipeline, found, spec) else "VIC002"
        yield Fault(code, f"{of} hold other rows, and their labels are still their own: {_numbers(typical)}.", where)
        return
    if not inputs_mixed:
        yield Fault("VIC003", f"{of} came out as they went in, and their labels are mixed: {_numbers(typical)}.", where)
        return
    if spec.role in ("indices", "map") and _most(wrong, lambda row: _rounded(row)):
        yield Fault("VIC015", f"{of}: class indices came out as their neighbors: {_numbers(typical)}.", where)
        return
    if spec.role == "indices" and _most(wrong, lambda row: _cut(row)):
        yield Fault(
            "VIC011",
            f"{of}: the label is the mean of both class indices, cut to a whole number: {_numbers(typical)}.",
            where,
        )
        return
    if hard and spec.role != "values" and all(_same(row.says, np.trunc(row.should + 1e-6)) for row in wrong):
        yield Fault(
            "VIC011", f"{of}: what is left of the label is {_short(typical.says)} ({_numbers(typical)}).", where
        )
        return
    if hard and all(_same(row.says, _largest(row.should)) or row.agrees for row in wrong) and spec.role != "values":
        yield Fault(
            "VIC011", f"{of}: the label names only the class of the largest share ({_numbers(typical)}).", where
        )
        return
    boxes = [row for row in wrong if row.made.pieces is not None]
    which = f"{of}, all of them boxes" if len(boxes) == len(wrong) and len(boxes) < len(telling) else of
    yield Fault("VIC001", f"{which}: {_numbers(worst)}. {_likeness(wrong)}".strip(), where)


def _rounded(row: LabeledRow) -> bool:
    """Return whether a label holds the right shares of class indices that went through half precision."""
    if row.should.ndim != 1:
        return False
    classes = torch.arange(len(row.should)).float()
    for dtype in (torch.float16, torch.bfloat16):
        moved = np.zeros_like(row.should)
        np.add.at(moved, classes.to(dtype).long().clamp(max=len(moved) - 1).numpy(), row.should)
        if _same(row.says, moved):
            return True
    return False


def _cut(row: LabeledRow) -> bool:
    """Return whether a label is the class that the mean of the class indices falls into."""
    if row.says.ndim != 1 or row.says.max() < 0.98 or not is_mixed(row.made):
        return row.says.ndim == 1 and row.says.max() > 0.98 and not row.agrees
    mean = float(row.should @ np.arange(len(row.should)))
    return int(row.says.argmax()) in (int(mean + 1e-6), int(mean - 1e-6), round(mean))


def _unknown_entries(found: Sequence[LabeledRow], pipeline: Pipeline, spec: LeafSpec, where: str) -> Iterator[Fault]:
    """Return whether entries that are unknown in one of two rows enter the mean."""
    assert spec.unknown is not None
    spread = total = 0
    example = ""
    for row in found:
        main = row.made.main()[:2]
        place = row.draw.own(row.i)
        if len(main) < 2 or place not in main or not is_mixed(row.made):
            continue
        candidates = row.draw.fed.candidates
        other = main[0] if main[1] == place else main[1]
        own, theirs = (pipeline.marks.leaf(spec.name, candidates[j]).double().numpy() for j in (place, other))
        own_unknown, other_unknown = (
            np.isnan(v) if np.isnan(spec.unknown) else v == spec.unknown for v in (own, theirs)
        )
        one = own_unknown ^ other_unknown
        if not one.any():
            continue
        total += int(one.sum())
        if np.isnan(spec.unknown):
            lost = np.isnan(row.says) & one & ~own_unknown
            example = (
                example or f"with {row.made.share[other]:.3f} of a row whose entry is nan, a known entry becomes nan"
            )
        else:
            mean = row.made.share[place] * own + row.made.share[other] * theirs
            lost = (np.abs(row.says - mean) < 1e-4) & one
            if lost.any() and not example:
                at = tuple(np.argwhere(lost)[0])
                shares = row.made.share[[place, other]]
                example = f"{shares[0]:.2f} * {own[at]:g} + {shares[1]:.2f} * {theirs[at]:g}"
        spread += int(lost.sum())
    if spread > 0.2 * max(1, total):
        yield Fault(
            "VIC014", f"{spread} of {total} entries that one of two rows does not know were averaged: {example}.", where
        )


def _tells(row: LabeledRow) -> bool:
    """Return whether a row can tell right from wrong: it is mixed by input or by label."""
    return is_mixed(row.made) or not row.agrees


def _other_labels_mixed(pipeline: Pipeline, found: Sequence[LabeledRow], spec: LeafSpec) -> bool:
    for row in found:
        for name, reading in row.draw.readings.items():
            if name == spec.name or reading.shares is None or row.i >= len(reading.shares):
                continue
            other = pipeline.marks.specs[name]
            place = row.draw.own(row.i)
            if place is not None and is_mixed(row.made):
                own = padded(label_alone(pipeline, row.draw, other, place), reading.shares[row.i])
                if own.shape == reading.shares[row.i].shape and not _same(reading.shares[row.i], own):
                    return True
    return False


def _same(a: np.ndarray, b: np.ndarray | None, scale: float = 1.0) -> bool:
    return b is not None and a.shape == b.shape and float(np.abs(a - b).max()) <= AGREE * scale


def _largest(shares: np.ndarray) -> np.ndarray:
    best = shares.argmax(axis=0)
    return one_hot(best[None], shares.shape[0])[0]


def _likeness(wrong: Sequence[LabeledRow]) -> str:
    """Return which known mistake explains the labels, as a sentence; "" if none does."""
    mixed = [row for row in wrong if is_mixed(row.made)]
    if not mixed:
        return ""
    if _most(mixed, lambda row: _same(row.says, row.swapped, row.scale)):
        return "The labels are right with lambda and 1 - lambda exchanged."
    if (shared := _shared(mixed)) is not None:
        return f"All labels of a batch have one lambda ({shared:.3f} in one of them), while each input has its own."
    if _most(mixed, lambda row: row.own is not None and _own_share_agrees(row)):
        return "The share of the row itself is right; the rest belongs to another row than the partner in its input."
    if _most(mixed, lambda row: _squared(row)):
        return "The labels look as if they had been mixed twice."
    return ""


def _most(found: Sequence[LabeledRow], holds: Callable[[LabeledRow], bool | None]) -> bool:
    """Return whether an explanation holds for most rows of those that it can be told of."""
    answers = [answer for row in found if (answer := holds(row)) is not None]
    return len(answers) > 0 and sum(answers) >= 0.8 * len(answers)


def _shared(mixed: Sequence[LabeledRow]) -> float | None:
    """Return the lambda that all labels of a batch have, where inputs have one each; None if that is not so."""
    batches: dict[int, list[tuple[float, float]]] = {}
    for row in mixed:
        place = row.draw.own(row.i)
        if row.own is None or place is None or row.should.ndim != 1 or row.says.shape != row.own.shape:
            continue
        at = int(row.own.argmax())
        if abs(row.should[at] - row.made.share[place]) < 0.01:  # the partner is of another class
            batches.setdefault(id(row.draw), []).append((float(row.made.share[place]), float(row.says[at])))
    several = [np.array(rows) for rows in batches.values() if len(rows) >= 3]
    telling = [rows for rows in several if np.ptp(rows[:, 0]) > 0.1]
    if not telling or sum(np.ptp(rows[:, 1]) < 0.03 for rows in telling) < 0.8 * len(telling):
        return None
    return float(np.median(telling[0][:, 1]))


def _own_share_agrees(row: LabeledRow) -> bool:
    assert row.own is not None
    at = row.own > 0.5
    return at.shape == row.says.shape and bool(at.any()) and float(np.abs(row.says[at] - row.should[at]).max()) <= AGREE


def _squared(row: LabeledRow) -> bool:
    place = row.draw.own(row.i)
    if row.own is None or place is None or row.should.ndim != 1:
        return False
    share, at = float(row.made.share[place]), int(row.own.argmax())
    return abs(row.says[at] - share**2) < AGREE or abs(row.says[at] - (share**2 + (1 - share) ** 2)) < AGREE


def _numbers(row: LabeledRow) -> str:
    """Return what a row's input holds and what its label says, as "row 3 is 0.72 of itself + ..."."""
    candidates, place = row.draw.fed.candidates, row.draw.own(row.i)
    parts = []
    for j in row.made.main()[:3]:
        who = "itself" if j == place else f"row {candidates[j]}"
        parts.append(f"{row.made.share[j]:.3f} of {who}")
    return f"row {row.i} is {' + '.join(parts)}; its label should be {_short(row.should)} and is {_short(row.says)}"


def _short(shares: np.ndarray) -> str:
    """Return a label in words."""
    if shares.ndim == 0:
        return f"{float(shares):.3f}"
    if shares.ndim >= 2:
        flat = shares.reshape(shares.shape[0], -1)
        return f"{_short(flat[:, 0])} at its first place"
    if shares.min() >= -1e-6 and abs(shares.sum() - 1) < 0.05:
        main = [int(c) for c in np.argsort(-shares)[:3] if shares[c] > MIXED]
        return " + ".join(f"{shares[c]:.3f} of class {c}" for c in main) or "nothing"
    return "[" + ", ".join(f"{v:.3f}" for v in shares[:6]) + (", ..." if len(shares) > 6 else "") + "]"


def _inputs(pipeline: Pipeline, contents: Sequence[Content], draws: Sequence[Draw]) -> Iterator[Fault]:
    """Return what is wrong with inputs by themselves, and between several of them."""
    for name in dict.fromkeys(name for draw in draws for name in draw.rows):
        rows = [row for draw in draws for row in draw.rows.get(name, []) if row.is_known]
        bad = [
            row
            for row in rows
            if abs(row.share.sum() - 1) > 0.02 + 6 * row.error or row.share.min() < -0.02 - 6 * row.error
        ]
        if len(bad) > 0.02 * len(rows):
            worst = max(bad, key=lambda row: abs(row.share.sum() - 1) + max(0.0, -float(row.share.min())))
            shown = ", ".join(f"{worst.share[j]:.3f}" for j in worst.main()[:3])
            yield Fault(
                "VIC006", f"{len(bad)} of {len(rows)} rows: weights {shown} sum to {worst.share.sum():.3f}.", name
            )
    yield from _apart(pipeline, contents, draws)


def _apart(pipeline: Pipeline, contents: Sequence[Content], draws: Sequence[Draw]) -> Iterator[Fault]:
    """Return leaves of the inputs that are not what the shares of the first make of them."""
    known = [content for content in contents if content.how in ("direct", "pure")]
    if isinstance(pipeline, Step):  # several calls may be given other things, a teacher plain rows
        known = [content for content in known if not content.name.startswith("call ")]
    mixed = {c.name: sum(is_mixed(r) for d in draws for r in d.rows.get(c.name, []) if r.is_known) for c in known}
    first = max(known, key=lambda content: mixed[content.name], default=None)
    if first is None or not mixed[first.name]:
        return
    for content in known:
        if content is first:
            continue
        differ = own = total = 0
        for draw in draws:
            for i, (made, row) in enumerate(
                zip(draw.rows.get(first.name, []), draw.fed.inputs[content.name], strict=False)
            ):
                place = draw.own(i)
                if not made.is_known or not is_mixed(made) or place is None or made.pieces is not None:
                    continue
                rows = content.rows(pipeline, draw.fed.candidates).double().numpy()
                should = np.tensordot(made.share, rows, 1)
                near = tolerance(row.dtype, float(np.abs(rows).max())) + (0.02 + 3 * made.error) * float(rows.std())
                if row.shape != should.shape or np.abs(should - rows[place]).max() < 2 * near:
                    continue
                total += 1
                differ += float(np.abs(row.double().numpy() - should).max()) > near
                own += float(np.abs(row.double().numpy() - rows[place]).max()) <= near
        if total and differ > 0.05 * total:
            how = "stays unmixed" if own >= differ else "is mixed by other shares or partners"
            seen = f"{content.name} {how} in {differ} of {total} rows in which {first.name} is mixed."
            yield Fault("VIC004", seen, f"input {content.name}")
