"""From the results of a comparison to its page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from vicinal.lab import atomic, pages
from vicinal.lab.compare import figures
from vicinal.lab.format import ABSENT, MINUS, NumberFormat, is_finite, p_value, significant

LEVEL = 0.05
CLASSES_SHOWN = 12


@dataclass(frozen=True)
class Cell:
    """One cell of the main table: a number, its interval, and whether a test supports it."""

    text: str
    interval: str = ""
    supported: bool = False


@dataclass(frozen=True)
class Row:
    """One method's row; kind is ``erm``, ``primary`` or ``plain``."""

    name: str
    kind: str
    cells: list[Cell]


@dataclass(frozen=True)
class Fact:
    """A name and what belongs to it."""

    name: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class Image:
    """A drawn image; its keys are pairs of a line style's name and what it stands for."""

    svgs: list[Markup]
    title: str
    caption: str
    keys: list[tuple[str, str]]


def render(results: dict[str, Any]) -> str:
    """Return the whole report as one HTML document; the same results give the same text."""
    protocol, data = results["protocol"], results["data"]
    verdict = results["verdict"]
    return pages.template(__package__ or "vicinal.lab.compare", "report.html.j2").render(
        style=pages.style(),
        title=f"{_title(data)}: {verdict['kind']}",
        results=results,
        data=data,
        protocol=protocol,
        verdict=verdict,
        tone={"helps": "good", "harms": "bad"}.get(verdict["kind"], "open"),
        created=_date(results["created"]),
        facts=_facts(results),
        columns=_columns(results),
        rows=_rows(results),
        images=_images(results),
        measured=_measured(results),
        statistics=results["protocol"]["statistics"],
        not_done=results["protocol"]["not_done"],
        versions=", ".join(f"{name} {version}" for name, version in results["versions"].items()),
        machine=_machine(results["machine"]),
        examples=results.get("examples"),
        usage=(results.get("model") or {}).get("usage"),
        file=(results.get("model") or {}).get("file"),
    )


def write(results: dict[str, Any], path: Path) -> None:
    """Write the report to path: a reader finds the old file or the whole new one, never a part."""
    atomic.write(Path(path), render(results).encode("utf-8", "replace"))


# the verdict's numbers


def _title(data: dict[str, Any]) -> str:
    return f"Does mixup help on {data['name']}?"


def _primary(results: dict[str, Any]) -> dict[str, Any] | None:
    """Give the comparison that the verdict is about."""
    told = results["verdict"]["method"]
    return next((c for c in results["comparisons"] if c["method"] == told), None)


def _facts(results: dict[str, Any]) -> list[Fact]:
    scale, measure = figures.main_scale(results), results["protocol"]["measure"]
    unit, points = ("\N{NO-BREAK SPACE}%", " points") if measure == "error" else ("", "")
    noun = "Test error" if measure == "error" else "Test RMSE"
    primary, erm = _primary(results), figures.erm_name(results)
    facts: list[Fact] = []
    if primary:
        ends = [scale.text(primary[end], sign=True) for end in ("low", "high")]
        value = f"{scale.text(primary['difference'], sign=True)}{points}"
        facts.append(Fact("Difference to ERM", value, f"95\N{NO-BREAK SPACE}% interval {ends[0]} to {ends[1]}"))
        seeds = _count(results["protocol"]["seeds"], "seed")
        facts.append(Fact("p value, Holm", p_value(primary["p_holm"]), f"paired over {seeds}"))
    for name in (erm, primary["method"] if primary else None):
        if name is not None and name in results["summary"]:
            own = results["summary"][name]["test"][measure]
            ends = [scale.text(own[end]) for end in ("low", "high")]
            facts.append(
                Fact(f"{noun}, {_short(results, name)}", f"{scale.text(own['mean'])}{unit}", " to ".join(ends))
            )
    return facts


def _short(results: dict[str, Any], name: str) -> str:
    """Shorten the name of the method whose alpha was chosen per seed to its family's; the table has the full one."""
    known = any(method["name"] == name for method in results["methods"])
    return name if known else name.removesuffix(", alpha chosen on validation")


# the main table

_NAMES = {
    "nll": "NLL",
    "brier": "Brier",
    "ece": "ECE, %",
    "mae": "MAE",
    "r2": "R\N{SUPERSCRIPT TWO}",
}


def _extras(results: dict[str, Any]) -> list[str]:
    return ["nll", "brier", "ece"] if results["protocol"]["measure"] == "error" else ["mae", "r2"]


def _columns(results: dict[str, Any]) -> list[str]:
    perturb = results["protocol"]["perturb"]
    classification = results["protocol"]["measure"] == "error"
    perturbed = "Error on perturbed inputs, %" if classification else "RMSE on perturbed inputs"
    return [
        "Method",
        figures.main_title(results, "Test"),
        "Difference to ERM, points" if classification else "Difference to ERM",
        "p,\N{NO-BREAK SPACE}Holm",
        *([perturbed] if perturb is not None else []),
        *(_NAMES[name] for name in _extras(results)),
        figures.main_title(results, "Training"),
        "Seconds per run",
    ]


def _scale_of(results: dict[str, Any], name: str) -> NumberFormat:
    if name == "ece":
        return NumberFormat(100.0, 2, MINUS)
    if name == "r2":
        return NumberFormat(1.0, 3, MINUS)
    means = [entry["test"][name]["mean"] for entry in results["summary"].values() if name in entry["test"]]
    return significant(means, 4, minus=MINUS) if name == "mae" else significant(means, 3, 3, MINUS)


def _rows(results: dict[str, Any]) -> list[Row]:
    measure, perturb = results["protocol"]["measure"], results["protocol"]["perturb"]
    summary, erm, primary = results["summary"], figures.erm_name(results), _primary(results)
    comparisons = {comparison["method"]: comparison for comparison in results["comparisons"]}
    names = [method["name"] for method in results["methods"]]
    if primary and primary["method"] not in names:
        names.insert(1 if erm in names[:1] else 0, primary["method"])
    main = figures.main_scale(results)
    scales = {name: _scale_of(results, name) for name in _extras(results)}
    clock = _clock([summary[name]["seconds"] for name in names])
    rows: list[Row] = []
    for name in names:
        own = summary[name]
        cells = [_estimate(own["test"], measure, main), *_compared(comparisons.get(name), main)]
        if perturb is not None:
            cells.append(_estimate(own.get("perturbed"), measure, main))
        cells.extend(_estimate(own["test"], extra, scale) for extra, scale in scales.items())
        cells.append(Cell(_estimate(own["train"], measure, main).text))
        cells.append(Cell(clock.text(own["seconds"])))
        kind = "erm" if name == erm else "primary" if primary and name == primary["method"] else "plain"
        rows.append(Row(name, kind, cells))
    return rows


def _clock(values: list[Any]) -> NumberFormat:
    largest = max((value for value in values if is_finite(value)), default=0.0)
    return NumberFormat(1.0, 2 if largest < 10.0 else 1 if largest < 100.0 else 0)


def _estimate(metrics: dict[str, Any] | None, name: str, scale: NumberFormat) -> Cell:
    estimate = (metrics or {}).get(name)
    if not estimate:
        return Cell(ABSENT)
    return Cell(scale.text(estimate["mean"]), scale.interval(estimate["low"], estimate["high"]))


def _compared(comparison: dict[str, Any] | None, scale: NumberFormat) -> list[Cell]:
    if comparison is None:
        return [Cell(ABSENT), Cell(ABSENT)]
    holm = comparison["p_holm"]
    supported = is_finite(holm) and holm < LEVEL
    difference = scale.text(comparison["difference"], sign=True)
    interval = scale.interval(comparison["low"], comparison["high"], sign=True)
    return [Cell(difference, interval, supported), Cell(p_value(holm), "", supported)]


# images and what stands beneath them


def _images(results: dict[str, Any]) -> list[Image]:
    erm, shown = figures.erm_name(results), figures.shown_name(results)
    front = [name for name in (erm, shown) if name]
    families = {method["name"]: method["family"] for method in results["methods"]}
    tone = {"erm": "erm", "named": "other"}
    lines = [(tone.get(families[name], "mix"), name) for name in front]
    seeds = results["protocol"]["seeds"]
    images = [
        Image(
            [Markup(figures.differences(results))],
            "Does it differ from ERM?",
            "Each dot is one seed: the method\N{RIGHT SINGLE QUOTATION MARK}s test "
            f"{'error' if results['protocol']['measure'] == 'error' else 'RMSE'} minus "
            f"ERM\N{RIGHT SINGLE QUOTATION MARK}s, on the same {_noun(results)}. The diamond is the mean over {seeds} "
            "seeds, the bar its 95\N{NO-BREAK SPACE}% interval. An interval across zero leaves the sign open.",
            [],
        ),
        Image(
            [Markup(figures.by_alpha(results))],
            "Which alpha?",
            "Mean over seeds with 95\N{NO-BREAK SPACE}% intervals. These intervals hold the spread "
            "between seeds that a paired difference removes, so they may overlap where the image of "
            "differences is clear.",
            [("mix", (results.get("choice") or {}).get("family") or "mixup"), *([("band", erm)] if erm else [])],
        ),
        Image(
            [Markup(figures.reliability(results, name)) for name in front],
            "Can its confidence be believed?",
            f"Test predictions of all {seeds} seeds in 15 bins by confidence. On the dashed line a model is right as "
            "often as it claims; below it, it claims too much. Hollow: fewer than 20 predictions.",
            [],
        ),
        Image(
            [
                Markup(figures.learning(results, key))
                for key in ("validation_nll", "validation_error", "validation_rmse")
                if any(key in run["curve"] for run in results["runs"])
            ],
            "How does it learn?",
            "Median over seeds; the shade spans the quartiles. The first epochs may leave the frame.",
            lines + ([("faint", "other methods")] if len(results["methods"]) > len(front) else []),
        ),
    ]
    drawn = ([svg for svg in image.svgs if svg] for image in images)
    return [
        Image(svgs, image.title, image.caption, image.keys) for image, svgs in zip(images, drawn, strict=True) if svgs
    ]


# how it was measured


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}".replace(",", "\N{NARROW NO-BREAK SPACE}") + ("" if number == 1 else "s")


def _measured(results: dict[str, Any]) -> list[Fact]:
    data, protocol = results["data"], results["protocol"]
    noun = _noun(results)
    facts = [
        Fact("Data", f"{data['name']} ({data['source']})", f"SHA-256 {data['sha256']}"),
        *(_of_table(data) if noun == "rows" else _of_folder(data, noun)),
        Fact("Target", f"{data['target']}, {_classes(data, noun)}" if data.get("classes") else str(data["target"])),
        Fact(
            f"{noun.capitalize()} of each seed",
            f"{protocol['train_rows']} for training, {protocol['validation_rows']} for validation, "
            f"{protocol['test_rows']} for testing",
        ),
        Fact("Model", _model(protocol)),
        Fact(
            "Training",
            f"{protocol['optimizer']}, learning rate {protocol['learning_rate']:g}"
            f"{', falling to 0 along a half cosine' if 'model' in protocol else ''}; "
            f"{_count(protocol['steps'], 'step')} ({_count(protocol['epochs'], 'epoch')}) "
            f"in batches of {protocol['batch']}",
        ),
    ]
    if protocol.get("augment"):
        shifted = "shifted at random" + " and mirrored" * (protocol["augment"] == "flip")
        facts.append(Fact("Augmentation", f"training images {shifted}, the same for every method"))
    if protocol["noise"]:
        facts.append(
            Fact(
                "Noise",
                f"{protocol['noise']:g} of the training and validation targets replaced by random ones; test targets stay",
            )
        )
    if protocol["perturb"] is not None:
        facts.append(
            Fact(
                "Perturbed inputs",
                f"the test {noun} once more, with Gaussian noise of {protocol['perturb']:g} standard deviations on inputs",
            )
        )
    counts = (results.get("choice") or {}).get("counts") or {}
    if counts:
        chosen = ", ".join(
            f"{alpha} in {_count(count, 'seed')}" for alpha, count in sorted(counts.items(), key=_number) if count
        )
        facts.append(Fact("Alpha chosen on validation", chosen))
    return facts


def _noun(results: dict[str, Any]) -> str:
    """Give what the examples are called."""
    kind = results["data"].get("kind", "table")
    return "rows" if kind == "table" else kind


def _of_table(data: dict[str, Any]) -> list[Fact]:
    columns = [_count(data["numbers"], "number column")]
    if data["categories"]:
        columns.append(_count(data["categories"], "category column"))
    missing = _count(data["missing_cells"], "missing cell") if data["missing_cells"] else "no missing cells"
    inputs = _count(data["inputs"], "input")
    return [Fact("Table", f"{_count(data['rows'], 'row')}; {' and '.join(columns)}, {inputs} to the model; {missing}")]


def _of_folder(data: dict[str, Any], noun: str) -> list[Fact]:
    _, height, width = data["shape"]
    how = (
        f"the central square of each, {height} x {width} pixels"
        if noun == "images"
        else f"spectrograms of the first second, {height} frequency bands x {width} frames"
    )
    size = Fact(noun.capitalize(), f"{_count(data['rows'], noun.removesuffix('s'))}; {how}")
    return [size, *([Fact("To note", " ".join(data["notes"]))] if data["notes"] else [])]


def _model(protocol: dict[str, Any]) -> str:
    if "model" in protocol:
        return f"{protocol['model']}, {_count(protocol['parameters'], 'parameter')}"
    return f"fully connected, hidden layers of {', '.join(str(width) for width in protocol['hidden'])} units"


def _number(item: tuple[str, int]) -> float:
    return float(item[0])


def _classes(data: dict[str, Any], noun: str) -> str:
    classes, counts = data["classes"], data["class_counts"]
    named = ", ".join(f"{name} ({count})" for name, count in list(zip(classes, counts, strict=True))[:CLASSES_SHOWN])
    more = len(classes) - CLASSES_SHOWN
    of = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    rest = f" and {more} more, of {of} {noun}" if more > 0 else ""
    return f"{_count(len(classes), 'class').replace('classs', 'classes')}: {named}{rest}"


def _date(created: str) -> str:
    try:
        return datetime.fromisoformat(created).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return created


def _machine(machine: dict[str, Any]) -> str:
    return ", ".join(_count(value, "core") if key == "cores" else str(value) for key, value in machine.items())
