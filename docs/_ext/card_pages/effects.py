"""What a vicinity was measured to do, and what it costs: from results/reproduce and results/bench."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from card_pages import markdown as md
from card_pages import paper
from card_pages.paper import Reproduction
from vicinal.lab.format import MINUS
from vicinal.lab.paper.intrusions import atlas
from vicinal.lab.paper.study import Row, format_ours
from vicinal.lab.statistics import paired

_METHODS = {atlas.FIXED: "alpha 1", atlas.CHOSEN: "alpha chosen"}
_MODES = {"end": "to the end", "early": "stopped early"}
_MEASURES = {"error": ("error, points", 100, 2), "nll": ("NLL, nats", 1, 3), "ece": ("ECE, points", 100, 2)}
_BENCH = md.ROOT / "results" / "bench" / "vicinities.json"


def of_atlas() -> str:
    """Return what mixup did on the atlas's tables, pooled."""
    intrusion = paper.find("intrusion")
    tables = atlas.read({name: record.results for name, record in intrusion.records.items()})
    rows = []
    for outcome, one in atlas.pooled(tables).items():
        name, unit, digits = _MEASURES[outcome.measure]
        mean, low, high = (f"{unit * value:+.{digits}f}".replace("-", MINUS) for value in one.mean)
        rows.append(
            (
                _METHODS[outcome.method],
                _MODES[outcome.mode],
                name,
                f"{mean} [{low}, {high}]",
                f"{one.better} / {one.worse}",
                f"{one.below} / {one.above}",
            )
        )
    head = ("mixup", "trained", "measure", "mean effect", "better / worse", "below / above 0")
    text = (
        f"Mixup minus ERM on the {len(tables)} tables of [the atlas](../../paper/atlas.md); below 0 mixup is better. The "
        "mean over tables with its 95 % interval; on how many it is better and worse after correction (Holm); on how many "
        f"the uncorrected interval lies below and above 0. By `{intrusion.command}`."
    )
    return f"{md.wrap(text)}\n\n{md.table(head, rows)}"


def of_studies(rows: Iterable[Sequence[str]]) -> str:
    """Return differences to the row of ERM, for rows given by study and name; nothing where none was run.

    Raises:
        KeyError: a study has no row of that name.

    """
    shown = [line for study, name in rows if (line := _difference(paper.find(study), name))]
    if not shown:
        return ""
    commands = dict.fromkeys(command for _, command in shown)
    text = (
        "Means over n runs; the difference to ERM is paired by run, with a 95 % interval that is not corrected for the "
        f"number of rows. Each at the scale that its card tells; by {', '.join(f'`{command}`' for command in commands)}."
    )
    head = ("of the paper", "", "ERM", "this", "difference", "n")
    return f"{md.table(head, [line for line, _ in shown])}\n\n{md.wrap(text)}"


def _difference(one: Reproduction, name: str) -> tuple[tuple[str, ...], str] | None:
    by_name = {row.name: row for row in one.rows}
    row: Row = by_name[name]
    erm = by_name[row.against or ""]
    differences = [mine - other for mine, other in zip(row.values, erm.values, strict=False)]
    if len(differences) < 2:
        return None
    effect = paired(differences, row.test_share)
    mean, low, high = (f"{value:+.2f}".replace("-", MINUS) for value in effect[:3])
    place = f"[{one.place}](../paper/{one.study.name}.md)"
    line = (place, name, format_ours(erm), format_ours(row), f"{mean} [{low}, {high}]", str(len(differences)))
    return line, one.command


def of_comparison(folder: str) -> str:
    """Return what `vicinal compare` concluded, from the folder of its results."""
    record = json.loads((md.ROOT / "results" / folder / "results.json").read_text())
    verdict = record["verdict"]
    return md.wrap(f"By `{record['command']}`: {verdict['sentence']} {verdict['advice']}")


def of_pair(erm: str, other: str) -> str:
    """Return the errors of two single runs of `vicinal train`, from their folders."""
    runs = [json.loads((md.ROOT / "results" / folder / "results.json").read_text()) for folder in (erm, other)]
    errors = [f"{run['recipe']['vicinity']} {100 * run['test_error']['median_of_last_10']:.1f} %" for run in runs]
    recipe = runs[0]["recipe"]
    return md.wrap(
        f"One run each, so without an interval: test error on {recipe['dataset']}, model {recipe['model']}, "
        f"{recipe['epochs']} epochs, median of the last ten: {', '.join(errors)} ([commands](../../how-to/training.md), "
        f"`results/{other}`)."
    )


def cost(name: str) -> str:
    """Return what one batch costs beside a copy of it; nothing where that was not measured."""
    if not _BENCH.exists():
        return ""
    record: dict[str, Any] = json.loads(_BENCH.read_text())
    rows = []
    for batch, measured in record["tables"].items():
        if name in measured:
            one, copy = measured[name], next(iter(measured.values()))
            low, median, high = one["ratio"]
            times = f"{median:,.1f} ({low:,.1f} to {high:,.1f})"
            shown = (f"{batch} (a copy: {_ms(copy)})", _ms(one), times, f"{one['new_memory']:.1f}")
            rows.append(shown)
    if not rows:
        return ""
    head = ("batch, float32", "time of the one line", "in copies of the batch", "new memory at its most, in batches")
    machine = record["machine"]
    text = (
        f"Draw, inputs and labels, into a new tensor; medians with quartiles of {record['rounds']} rounds, "
        f"{record['clock']} of {record['threads']} thread; memory of tensors, what is returned included. By "
        f"`{record['command']}`; {machine['processor']}, {machine['cores']} cores, which other programs used at the same "
        f"time; torch {record['versions']['torch']}; {record['created'][:10]}. More: [speed](../../how-to/speed.md)."
    )
    return f"{md.table(head, rows)}\n\n{md.wrap(text)}"


def _ms(row: Mapping[str, Sequence[float]]) -> str:
    return f"{row['ms'][1]:.2g} ms"
