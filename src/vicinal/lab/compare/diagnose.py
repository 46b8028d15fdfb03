"""Manifold intrusion of a table, in words: `vicinal diagnose`. The measure is `vicinal.lab.intrusion`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vicinal.lab import intrusion
from vicinal.lab.data.encoder import TableEncoder
from vicinal.lab.data.table import Table
from vicinal.lab.errors import UserError
from vicinal.lab.format import NumberFormat, counted
from vicinal.lab.intrusion import ALPHAS, DRAWS, HEADLINE, ROWS, Diagnosis
from vicinal.lab.statistics import Interval

ALIKE = 10  # sets whose conflict lies nearest, for the sentence about what was measured


def diagnose(
    table: Table, alphas: Sequence[float] = ALPHAS, *, seed: int = 0, rows: int = ROWS, draws: int = DRAWS
) -> Diagnosis:
    """Measure the indicator on the inputs of `vicinal compare`: numbers standardized by all rows, categories one-hot.

    Raises:
        UserError: for regression, and as of `intrusion.measure`, which says what the arguments are.

    """
    if table.task != "classification":
        raise UserError(
            f"{table.name} is regression, and what neighbors tell was measured for classes alone; vicinal compare "
            "finds out by training"
        )
    inputs = TableEncoder.fit(table, np.arange(len(table))).transform(table)
    return intrusion.measure(inputs, table.target, alphas, name=table.name, seed=seed, rows=rows, draws=draws)


def in_words(table: Table, found: Diagnosis) -> str:
    """Write what was found, what it means, and how far to believe it."""
    if any(mixed.alpha == HEADLINE for mixed in found.mixed):
        belief = _believed(found.at(HEADLINE).conflict.mean)
    else:
        belief = [f"How well this foretells what mixup does is known at alpha {HEADLINE:g} only: add it to --alpha."]
    return "\n".join([*_table(table, found), "", *_meaning(found), "", *belief])


def _table(table: Table, found: Diagnosis) -> list[str]:
    used = f"{found.rows} of {len(table)} rows, drawn at random" if found.rows < len(table) else f"{len(table)} rows"
    lines = [
        f"{table.name}: {used}; {counted(found.inputs, 'input')}, {len(table.classes)} classes; {found.draws} mixed points "
        "per alpha. [...] are 95 % intervals over the draws. Nothing was trained.",
        "",
        f"{'alpha':8s}{'conflict':>26s}{'third class, %':>24s}{'distance':>11s}{'floor':>8s}",
    ]
    for mixed in found.mixed:
        conflict, third = _spelled(mixed.conflict, NumberFormat()), _spelled(mixed.third_class, NumberFormat(100.0, 1))
        lines.append(f"{mixed.alpha:<8g}{conflict:>26s}{third:>24s}{mixed.distance.mean:11.3f}{mixed.floor.mean:8.3f}")
    return lines


def _spelled(of: Interval, written: NumberFormat) -> str:
    return f"{written.text(of.mean)} {written.interval(of.low, of.high)}"


def _meaning(found: Diagnosis) -> list[str]:
    told = max(found.mixed, key=lambda mixed: mixed.alpha)
    return [
        f"Of the points mixed with alpha {told.alpha:g}, {100 * told.third_class.mean:.1f} % lie nearest to a row that is "
        "of neither of their two classes.",
        f"Their {found.neighbors} nearest rows contradict the mixed label by {told.distance.mean:.3f}, where neighbors "
        f"of one class could not do with less than {told.floor.mean:.3f}, and rows as they are contradict their "
        f"neighbors by {found.unmixed.mean:.3f}. What is left is the conflict, {told.conflict.mean:+.3f}.",
    ]


def _believed(conflict: float) -> list[str]:
    """Write how the conflict went with the effect where both were measured, and what mixup did on sets like this one."""
    record = intrusion.evidence()
    alike = sorted(record["sets"], key=lambda one: abs(one["conflict"] - conflict))[:ALIKE]
    low, high = (end(one["conflict"] for one in alike) for end in (min, max))
    counts = {kind: sum(one["verdict"] == kind for one in alike) for kind in ("harm", "help", "unclear")}

    def rank(name: str, what: str) -> str:
        of = record["rank"][name]
        noise = ", within sampling noise" if of["low"] <= 0 <= of["high"] else ""
        return f"{of['rho']:.2f} [{of['low']:.2f}, {of['high']:.2f}] over {of['n']} {what}{noise}"

    return [
        f"How well this foretells: where small models were trained ({record['date']}, {record['seeds']} seeds per set), the "
        f"rank correlation of the conflict at alpha {HEADLINE:g} with what mixup at alpha {HEADLINE:g} added to the test "
        f"error was {rank('toy', 'toy sets, most of them made to go wrong')}; {rank('real', 'real tables')}; "
        f"{rank('all', 'in all')}.",
        f"Of the {len(alike)} sets whose conflict is nearest to this one ({low:+.3f} to {high:+.3f}), mixup at alpha "
        f"{HEADLINE:g} clearly harmed {counts['harm']}, clearly helped {counts['help']}, and the rest was within sampling "
        "noise.",
        f"{in_words_of_the_atlas(record['atlas'], conflict)} vicinal compare finds out for this table.",
    ]


def in_words_of_the_atlas(atlas: dict[str, Any], conflict: float | None = None) -> str:
    """Write what the conflict foretold on tables that had no part in its threshold; the claim itself only if it held.

    Args:
        atlas: as `intrusion.evidence` has it.
        conflict: of a table, to say on which side of the threshold it lies.

    """
    test = atlas["held_out"][0]
    harmed, others = test["hits"] + test["missed"], test["alarms"] + test["quiet"]
    told = (
        f"of {harmed + others} real tables held out of {atlas['tables']}, mixup at alpha {HEADLINE:g} harmed the "
        f"{test['harm']} of {harmed} when training was stopped early, and the conflict told these from the others with an "
        f"area under the ROC curve of {_area(test['area'])}"
    )
    if not test["kept"]:
        return f"On real tables it is not shown to foretell harm: {told}, where {atlas['asked']:g} was asked for beforehand."
    whole = atlas["all_rows"]
    side = "" if conflict is None else f"; this table is {'above' if conflict > whole['threshold'] else 'not above'} it"
    return (
        f"On real tables it foretold harm: {told}. Measured on all rows, as here, a threshold of {whole['threshold']:+.3f}, "
        f"fitted on the other tables, had {whole['hits']} of the {harmed} harmed above it and {whole['alarms']} of the "
        f"{others} others{side}. {_at_chosen_alpha(atlas)}"
    )


def _at_chosen_alpha(atlas: dict[str, Any]) -> str:
    test = next(one for one in atlas["held_out"] if one["mode"] == "early" and one["method"] != f"mixup {HEADLINE:g}")
    harmed, others = test["hits"] + test["missed"], test["alarms"] + test["quiet"]
    found = "it foretold harm too" if test["kept"] else "it is not shown to"
    of = f"{harmed} of the {harmed + others} were harmed, area {_area(test['area'])}"
    return f"With alpha chosen on validation rows {found}: {of}."


def _area(area: dict[str, float]) -> str:
    known = all(area[part] is not None for part in ("area", "low", "high"))
    return f"{area['area']:.2f} [{area['low']:.2f}, {area['high']:.2f}]" if known else "no value"
