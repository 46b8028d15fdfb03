"""The page and what it holds, of comparisons that were really run: every number is compared with the predictions kept."""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_iris

from vicinal.keyed import Key
from vicinal.lab import pages
from vicinal.lab.cli import main
from vicinal.lab.compare import classwise, consistency, export, figures, measures, report, sections, temperature
from vicinal.lab.compare.predictions import RunPredictions
from vicinal.lab.compare.results import ERM, Results
from vicinal.lab.compare.view import View
from vicinal.lab.compare.words import direction
from vicinal.lab.data.column_reading import ColumnSummary
from vicinal.lab.format import ABSENT, MINUS
from vicinal.lab.statistics import Interval, Paired, Posterior


@dataclass(frozen=True)
class Made:
    """A comparison that was run: its folder and results."""

    folder: Path

    @property
    def results(self) -> Results:
        return consistency.read(self.folder / "results.json")

    @property
    def html(self) -> str:
        return (self.folder / "report.html").read_text()

    @property
    def page(self) -> Page:
        return Page(self.html)

    def rows(self, method: str) -> pl.DataFrame:
        """Return the test predictions of a method, of its chosen runs where it is a choice."""
        frame = pl.concat([pl.read_parquet(path) for path in sorted((self.folder / "predictions").glob("*.parquet"))])
        results = self.results
        names = results.chosen.get(method, [method] * results.protocol.seeds)
        return pl.concat([frame.filter(method=name, seed=seed) for seed, name in enumerate(names)])


class Page(HTMLParser):
    """What tests ask of a page: tables as rows of texts, headings in order, texts by tag, and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.headings: list[str] = []
        self.titles: list[str] = []
        self.labels: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        of = dict(attrs)
        self.titles += [of["title"] or ""] if "title" in of else []
        self.labels += [of["aria-label"] or ""] if "aria-label" in of else []
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag == "h2":
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += f" {data}" if "i" in self.open else data
        if "h2" in self.open:
            self.headings[-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def table(self, first: str) -> list[list[str]]:
        """Return the table whose first cell is `first`."""
        return next(table for table in self.tables if table[0][0] == first)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    base = tmp_path_factory.mktemp("compared")
    for name in ("iris", "diabetes"):
        out = str(base / name)
        assert main(["compare", name, "--seeds", "5", "--epochs", "3", "--alpha", "0.4,1", "--out", out]) == 0
    return {name: Made(base / name) for name in ("iris", "diabetes")}


@pytest.fixture(scope="session")
def iris(made: dict[str, Made]) -> Made:
    return made["iris"]


@pytest.fixture(scope="session")
def diabetes(made: dict[str, Made]) -> Made:
    return made["diabetes"]


def labels() -> list[int]:
    """Return the classes of iris, as scikit-learn has them."""
    return [int(y) for y in np.asarray(load_iris(return_X_y=True)[1])]


# -- classes -------------------------------------------------------------------------------------------------------------


def test_answers_are_those_of_the_predictions(iris: Made):
    answers = iris.results.answers
    assert answers is not None
    assert answers.methods == [ERM, iris.results.verdict.method]
    names, truth = iris.results.data.classes, labels()
    for method in answers.methods:
        expected = [[0] * 3 for _ in range(3)]
        frame = iris.rows(method)
        assert len(frame) == 150  # five folds
        for row in frame.iter_rows(named=True):
            p = [row[f"p_{name}"] for name in names]
            expected[truth[row["row"]]][p.index(max(p))] += 1
        assert answers.confusion[method] == expected
        for i, one in enumerate(answers.classes):
            assert (one.name, one.tested) == (names[i], 50)
            assert one.recall[method] == expected[i][i] / 50
            answered = sum(row[i] for row in expected)
            assert (
                math.isnan(one.precision[method])
                if not answered
                else one.precision[method] == expected[i][i] / answered
            )
    assert answers.confused == []


def test_the_matrices_and_the_classes_are_on_the_page(iris: Made):
    answers, page = iris.results.answers, iris.page
    assert answers is not None
    shown = [table for table in page.tables if table[0][0] == "True class"]
    assert [table[0][1:] for table in shown] == [iris.results.data.classes] * 2
    for table, method in zip(shown, answers.methods, strict=True):
        expected = [[f"{100 * n / sum(row):.1f} {n}" for n in row] for row in answers.confusion[method]]
        assert [row[1:] for row in table[1:]] == expected
    erm, told = answers.methods

    def change(one: Mapping[str, float]) -> list[str]:
        if any(math.isnan(one[name]) for name in (erm, told)):
            return [ABSENT if math.isnan(one[name]) else f"{100 * one[name]:.1f}" for name in (erm, told)] + [ABSENT]
        points = f"{100 * (one[told] - one[erm]):+.1f}"
        points = points[1:] if float(points) == 0 else points.replace("-", MINUS)
        return [f"{100 * one[erm]:.1f}", f"{100 * one[told]:.1f}", points]

    rows = page.table("Class")[2:]
    assert rows == [[one.name, "50", *change(one.recall), *change(one.precision)] for one in answers.classes]


def palettes() -> list[dict[str, tuple[float, ...]]]:
    """Return the colors of the light and of the dark mode."""
    found: list[dict[str, tuple[float, ...]]] = []
    for block in re.findall(r":root \{(.*?)\}", pages.style(), re.DOTALL):
        pairs = re.findall(r"--(\w+): #([0-9a-f]{6})", block)
        found.append({name: tuple(int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)) for name, code in pairs})
    return found


def contrast(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Return the contrast of two colors as WCAG 2 defines it."""

    def luminance(color: tuple[float, ...]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize(("right", "color"), [(True, "mix"), (False, "other")])
def test_numbers_are_legible_on_every_cell_of_a_matrix(mode: int, right: bool, color: str):
    of = palettes()[mode]
    for share in np.linspace(0, 1, 11).tolist():
        tint = sections.MatrixCell(1, share, "", right).tint / 100
        ground = tuple(tint * a + (1 - tint) * b for a, b in zip(of[color], of["paper"], strict=True))
        assert contrast(of["ink"], ground) >= 4.5


def many(seeds: int = 2, classes: int = 40) -> tuple[dict[str, list[measures.Tested]], list[str]]:
    """Return predictions of two methods for many classes; class 3 is taken for 4 by both, class 7 for 9 by one."""
    target = np.repeat(np.arange(classes), 5)

    def answers(wrong: Mapping[int, int]) -> list[measures.Tested]:
        found = np.array([wrong.get(y, y) for y in target.tolist()])
        p = np.eye(classes, dtype=np.float32)[found]
        return [measures.Tested(RunPredictions(np.arange(len(target)), p, 1 - p[:, 0]), target, classes)] * seeds

    return {ERM: answers({3: 4}), "mixup": answers({3: 4, 7: 9})}, [f"class {i}" for i in range(classes)]


def test_of_many_classes_the_most_confused_pairs_are_listed():
    tested, names = many()
    answers = classwise.answers(tested, names)
    assert answers.confusion == {}
    assert [(one.true, one.answer, one.tested, one.counts) for one in answers.confused] == [
        ("class 3", "class 4", 10, {ERM: 10, "mixup": 10}),
        ("class 7", "class 9", 10, {ERM: 0, "mixup": 10}),
    ]
    assert answers.classes[7].recall == {ERM: 1.0, "mixup": 0.0}
    assert answers.classes[9].precision == {ERM: 1.0, "mixup": 0.5}
    assert math.isnan(answers.classes[3].precision[ERM])  # never answered


def test_of_many_classes_the_page_has_pairs_and_those_that_differ_most(iris: Made):
    tested, names = many()
    results = iris.results
    answers = classwise.answers({ERM: tested[ERM], results.verdict.method: tested["mixup"]}, names)
    data = replace(results.data, classes=names, class_counts=[5] * 40)
    page = Page(report.render(replace(results, data=data, answers=answers)))
    pairs = page.table("True class")
    assert [row[:2] for row in pairs[1:]] == [["class 3", "class 4"], ["class 7", "class 9"]]
    assert [row[2:] for row in pairs[1:]] == [["100.0 10", "100.0 10"], ["0.0 0", "100.0 10"]]
    rows = page.table("Class")[2:]
    assert len(rows) == sections.CLASSES_LISTED
    assert rows[0] == ["class 7", "5", "100.0", "0.0", f"{MINUS}100.0", "100.0", ABSENT, ABSENT]
    assert "The 30 of 40 classes whose recall differs most" in page.text


# -- temperature ---------------------------------------------------------------------------------------------------------


def smoothed_loss(logits: np.ndarray, target: np.ndarray, temperature: float) -> float:
    """Return the cross-entropy with labels smoothed by 1 / (n + 1), in a plain loop."""
    share, total = 1 / (len(logits) + 1), 0.0
    for z, y in zip(logits.tolist(), target.tolist(), strict=True):
        logs = [value / temperature for value in z]
        most = max(logs)
        norm = most + math.log(sum(math.exp(value - most) for value in logs))
        total += (1 - share) * (norm - logs[y]) + share * (norm - sum(logs) / len(logs))
    return total / len(logits)


@pytest.mark.parametrize("scale", [0.2, 1.0, 6.0])
@pytest.mark.parametrize("right", [0.6, 1.0])
def test_the_temperature_is_the_best_one(scale: float, right: float):
    rng = Key(8, 0, 0, 0).generator()
    target = rng.integers(0, 4, 60)
    seen = np.where(rng.random(60) < right, target, rng.integers(0, 4, 60))
    logits = scale * (2 * np.eye(4)[seen] + rng.normal(0, 0.3, (60, 4)))
    found = temperature.fitted(logits, target)
    least = smoothed_loss(logits, target, found)
    grid = np.geomspace(temperature.LOWEST, temperature.HIGHEST, 400)
    assert least <= min(smoothed_loss(logits, target, t) for t in grid) + 1e-12
    assert temperature.LOWEST * 1.5 < found < temperature.HIGHEST / 1.5  # also where all are right


def test_a_temperature_follows_the_scale_of_the_logits():
    rng = Key(3, 0, 0, 0).generator()
    logits, target = rng.normal(0, 1, (50, 3)), rng.integers(0, 3, 50)
    logits[np.arange(50), target] += 1.0
    assert temperature.fitted(5 * logits, target) == pytest.approx(5 * temperature.fitted(logits, target), rel=1e-4)


def test_there_is_no_temperature_of_a_run_that_diverged():
    assert math.isnan(temperature.fitted(np.array([[0.0, math.nan], [1.0, 2.0]]), np.array([0, 1])))


@pytest.mark.parametrize("t", [0.5, 1.0, 3.0])
def test_scaled_predictions_are_those_of_scaled_logits(t: float):
    rng = Key(5, 0, 0, 0).generator()
    logits, target = rng.normal(0, 6, (200, 5)), rng.integers(0, 5, 200)

    def log_softmax(z: np.ndarray) -> np.ndarray:
        return z - np.log(np.exp(z - z.max(1, keepdims=True)).sum(1, keepdims=True)) - z.max(1, keepdims=True)

    def predictions(z: np.ndarray) -> RunPredictions:
        log_p = log_softmax(z)
        nll = -log_p[np.arange(200), target]
        return RunPredictions(np.arange(200), np.exp(log_p).astype(np.float32), nll.astype(np.float32))

    found, expected = temperature.scaled(predictions(logits), target, t), predictions(logits / t)
    assert expected.nll is not None
    np.testing.assert_allclose(found.outputs, expected.outputs, atol=2e-6)
    assert found.nll is not None
    np.testing.assert_allclose(found.nll, expected.nll, rtol=1e-5, atol=2e-6)


def test_a_true_class_whose_probability_is_zero_in_float32_keeps_its_logarithm():
    p = np.array([[1.0, 0.0]], dtype=np.float32)
    found = temperature.scaled(
        RunPredictions(np.array([0]), p, np.array([400.0], dtype=np.float32)), np.array([1]), 2.0
    )
    assert found.nll is not None
    assert found.nll[0] == pytest.approx(200.0)


def test_levels_before_are_those_of_the_table_and_after_those_of_the_predictions(iris: Made):
    results, names, truth = iris.results, iris.results.data.classes, labels()
    scaling = results.scaling
    assert scaling is not None
    for method in (ERM, results.verdict.method):
        for measure in ("nll", "ece"):
            assert scaling.before[method][measure] == results.summary[method].test[measure]
        chosen = results.chosen[method]
        own = [next(r for r in results.runs if r.key == (name, seed)) for seed, name in enumerate(chosen)]
        assert scaling.temperatures[method] == [run.temperature for run in own]
        logs, sure, right = [], [], []
        for row in iris.rows(method).iter_rows(named=True):
            t = scaling.temperatures[method][row["seed"]]
            p = np.array([row[f"p_{name}"] for name in names], dtype=np.float64) ** (1 / t)
            p /= p.sum()
            true = truth[row["row"]]
            logs.append(-math.log(p[true]))
            sure.append(p.max())
            right.append(float(p.argmax() == true))
        assert scaling.after[method]["nll"].mean == pytest.approx(np.mean(logs), rel=1e-5)
        bins = np.minimum((np.array(sure) * 15).astype(int), 14)
        gap = sum(abs(np.sum((np.array(sure) - right)[bins == b])) for b in range(15)) / len(sure)
        assert scaling.after[method]["ece"].mean == pytest.approx(gap, rel=1e-5)


def test_temperatures_before_and_after_are_on_the_page(iris: Made):
    scaling, page = iris.results.scaling, iris.page
    assert scaling is not None
    assert scaling.sentence in page.text
    claim = next(one for one in iris.results.beside if one.measure == "nll")
    raw = scaling.changes["raw"]
    assert (raw.difference, raw.low, raw.high, raw.p) == (claim.difference, claim.low, claim.high, claim.p_holm)
    nll = View(iris.results, MINUS)
    for row, method in zip(page.table("Method")[1:], nll.rows, strict=True):
        assert row[0] == method
    table = next(t for t in page.tables if t[0][1].startswith("Temperature"))
    for row, method in zip(table[2:], scaling.temperatures, strict=True):
        assert float(row[1].split()[0]) == pytest.approx(np.median(scaling.temperatures[method]), abs=0.005)
        levels = [part[method][name] for name in ("nll", "ece") for part in (scaling.before, scaling.after)]
        for cell, level, factor in zip(row[2:], levels, (1, 1, 100, 100), strict=True):
            assert float(cell.split()[0]) == pytest.approx(factor * level.mean, abs=0.006)


def changes(
    raw: float, alone: float, both: float, erm_gain: float, gain: float, error: float = 0.01
) -> dict[str, Paired]:
    """Return changes that are clear where they are not 0."""
    values = {"raw": raw, "erm_scaled": alone, "both_scaled": both, "erm_gain": erm_gain, "gain": gain}
    return {name: Paired(v, v - error, v + error, 0.001 if v else 0.7) for name, v in values.items()}


@pytest.mark.parametrize(
    ("found", "beginning"),
    [
        (changes(-0.2, 0, 0, -0.2, 0), "Temperature scaling does to likelihood what mixup does"),
        (changes(-0.2, 0.1, 0, -0.3, 0), "Temperature scaling does to likelihood what mixup does"),
        (
            changes(-0.2, -0.2, 0, 0, 0),
            "Whether a temperature explains the difference in likelihood is open: mixup is better",
        ),
        (changes(-0.2, -0.1, 0, -0.1, 0), "Whether a temperature explains"),
        (changes(-0.2, -0.1, -0.1, -0.1, 0), "A temperature does not explain that"),
        (changes(0.2, 0.2, 0, 0, -0.2), "A temperature makes up for what mixup costs"),
        (changes(0.2, 0, 0, 0.2, -0.1), "Whether a temperature explains"),  # ERM got worse: nothing was made up for
        (
            changes(0.2, 0.2, 0.2, 0, 0),
            "A temperature does not explain that: with both scaled the likelihood of mixup is worse",
        ),
        (changes(0, 0, -0.1, 0, -0.1), "With a temperature for both, the likelihood of mixup is clearly better"),
        (changes(-0.2, 0, 0.1, -0.3, -0.1), "With a temperature for both, the likelihood of mixup is clearly worse"),
        (changes(0, 0, 0, 0, 0), "Likelihoods of mixup and ERM differ clearly neither before"),
    ],
)
def test_what_is_said_of_a_temperature(found: dict[str, Paired], beginning: str):
    sentence = temperature._sentence("mixup", found)
    assert sentence.startswith(beginning)
    assert sentence.endswith("For ERM, scaling makes likelihood worse.") == (found["erm_gain"].difference > 0)


def test_overconfident_erm_is_what_a_temperature_mends():
    """ERM is three times too sure, the other method is not: its advantage is a temperature."""
    rng = Key(11, 0, 0, 0).generator()
    target = rng.integers(0, 3, 400)
    logits = rng.normal(0, 1, (400, 3))
    logits[np.arange(400), target] += 1.2

    def tested(scale: float) -> list[measures.Tested]:
        z = scale * logits
        log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
        nll = -log_p[np.arange(400), target]
        of = RunPredictions(np.arange(400), np.exp(log_p).astype(np.float32), nll.astype(np.float32))
        return [measures.Tested(of, target, 3)] * 2

    fits = {name: temperature.fitted(scale * logits, target) for name, scale in ((ERM, 3.0), ("mixup", 1.0))}
    found = temperature.compare(
        [np.arange(400)] * 2,
        {ERM: tested(3.0), "mixup": tested(1.0)},
        {name: [fit, fit] for name, fit in fits.items()},
        "mixup",
        0.001,
    )
    assert found is not None
    assert found.changes["raw"].p == 0.001
    assert found.sentence.startswith("Temperature scaling does to likelihood what mixup does")
    assert found.changes["both_scaled"].difference == pytest.approx(0.0, abs=1e-4)
    assert found.after[ERM]["nll"].mean < found.before[ERM]["nll"].mean - 0.1


def test_without_a_temperature_the_page_says_why(iris: Made):
    assert "training diverged for at least one seed" in Page(report.render(replace(iris.results, scaling=None))).text


def test_numbers_have_neither_classes_nor_temperatures(diabetes: Made):
    assert diabetes.results.answers is None
    assert diabetes.results.scaling is None
    assert all(math.isnan(run.temperature) for run in diabetes.results.runs)
    assert not {"Class by class", "With a temperature"} & set(diabetes.page.headings)


# -- the verdict ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_limits_come_first(made: dict[str, Made], name: str):
    page, results = made[name].page, made[name].results
    assert page.headings[:3] == ["How probable each answer is", "What else answers", "What this comparison cannot tell"]
    for line in results.protocol.limitations:
        assert page.text.count(" ".join(line.split())) == 1


@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_facts_are_the_told_difference(made: dict[str, Made], name: str):
    results, text = made[name].results, made[name].page.text
    view = View(results, MINUS)
    told = next(one for one in results.comparisons if one.method == results.verdict.method)
    points = " points" if name == "iris" else ""
    assert f"Difference to ERM {view.main.text(told.difference, sign=True)}{points} 95 % interval" in text.replace(
        "\xa0", " "
    )
    assert f"Smallest it could have shown {view.main.text(told.detectable)}{points} in 4 of 5 cases" in text
    assert f"p value, strictest {told.p_strict:.2g} 5 seeds alone are the units; uncorrected" in text
    for one, part in zip(sections.chances(view), told.chances, strict=True):
        assert one.share == pytest.approx(100 * part)
        assert f"{100 * part:.0f} % {one.name}" in text.replace("\xa0", " ")


def test_where_all_seeds_test_the_same_rows_there_is_no_strictest_p(iris: Made):
    results = iris.results
    same = replace(results, comparisons=[replace(one, p_strict=None) for one in results.comparisons])
    assert f"p value, strictest {ABSENT} none: all seeds test the same rows" in Page(report.render(same)).text


@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_claims_are_the_primary_differences_and_those_beside(made: dict[str, Made], name: str):
    results = made[name].results
    head, *rows = made[name].page.table("Measure")
    table = [head, *(row for row in rows if len(row) > 1)]  # not the rows that are a method's name
    assert [row[0] for row in rows if len(row) == 1] == [
        one.method.split(",")[0] for one in results.comparisons if one.primary
    ]
    primary = [one for one in results.comparisons if one.primary]
    expected = [one for main in primary for one in (main, *(b for b in results.beside if b.method == main.method))]
    assert len(table) - 1 == len(expected) == {"iris": 3, "diabetes": 2}[name]
    at = {title: i for i, title in enumerate(table[0])}
    word = next(title for title in at if title.startswith("With"))
    for row, one in zip(table[1:], expected, strict=True):
        factor = 100 if one.measure in ("error", "ece") else 1
        numbers = [float(x) for x in re.findall(r"[-+]?\d+\.\d+", row[at["Difference"]].replace(MINUS, "-"))]
        wanted = [factor * x for x in (one.difference, one.low, one.high)]
        assert numbers == pytest.approx(wanted, abs=0.006)
        assert float(row[at["ERM"]]) == pytest.approx(factor * results.summary[ERM].test[one.measure].mean, abs=0.006)
        assert row[at[word]] == direction(one)


def test_intervals_are_cut_to_what_a_measure_can_be(iris: Made):
    results = _with_levels(iris.results, {ERM: 0.002})
    text = Page(report.render(results)).text.replace("\xa0", " ")
    assert "Test error, ERM 0.20 % 0.00 to 0.70" in text


@pytest.mark.parametrize(
    ("p", "chances", "word"),
    [
        (0.01, (0.99, 0.01, 0.0), "better"),
        (0.01, (0.0, 0.01, 0.99), "worse"),
        (0.3, (0.01, 0.98, 0.01), "practically the same"),
        (0.3, (0.4, 0.3, 0.3), "not clear"),
        (0.05, (0.9, 0.1, 0.0), "not clear"),
        (1.0, (math.nan, math.nan, math.nan), "not clear"),
    ],
)
def test_directions(iris: Made, p: float, chances: tuple[float, float, float], word: str):
    lower = -0.01 if word == "better" else 0.01  # the sign tells the direction of what is found
    one = replace(iris.results.comparisons[0], difference=lower, p_holm=p, chances=Posterior(*chances))
    assert direction(one) == word


@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_what_else_answers(made: dict[str, Made], name: str):
    results = made[name].results
    view = View(results, MINUS)
    shown = ["constant answer", "linear model", "gradient-boosted trees", ERM, results.verdict.method]
    assert sections.rivals(view) == shown
    label = next(label for label in made[name].page.labels if label.startswith("Mean") and "its interval" in label)
    for method in shown:
        assert f"{method} {view.main.text(results.summary[method].test[view.measure.name].mean)}" in label


def test_a_method_far_off_is_an_arrow_and_does_not_squeeze_the_others(iris: Made):
    results = iris.results
    levels = {"constant answer": 0.9, "linear model": 0.02, "gradient-boosted trees": 0.03, ERM: 0.03}
    view = View(_with_levels(results, levels), MINUS)
    svg = figures.rivals(view, list(levels))
    assert ">90.00<" in svg  # written beside its arrow
    assert max(map(float, re.findall(r">(\d+(?:\.\d)?)</text>", svg))) < 5  # of the ticks, in percent


def _with_levels(results: Results, levels: Mapping[str, float]) -> Results:
    def at(name: str, mean: float) -> Any:
        of = results.summary[name]
        return replace(of, test={**of.test, "error": Interval(mean, mean - 0.005, mean + 0.005)})

    return replace(results, summary={**results.summary, **{name: at(name, mean) for name, mean in levels.items()}})


def test_nothing_is_drawn_of_levels_that_are_not_numbers(iris: Made):
    results = iris.results
    nan = Interval(math.nan, math.nan, math.nan)
    summary = {name: replace(of, test=dict.fromkeys(of.test, nan)) for name, of in results.summary.items()}
    assert figures.rivals(View(replace(results, summary=summary), MINUS), list(summary)) == ""


# -- the table as read, names, and the file ------------------------------------------------------------------------------


def test_columns_stand_as_they_were_read(iris: Made):
    results = iris.results
    assert iris.page.table("Column")[1] == ["sepal length (cm)", "input", "number", "0", "4.3 to 7.9"]
    assert iris.page.table("Column")[-1] == [
        "species",
        "target",
        "categories",
        "0",
        "3 categories: setosa, versicolor, virginica",
    ]
    assert results.data.table is not None
    columns = [
        ColumnSummary("color", "input", "categories", 3, {"": 1, "N/A": 2}, 9, frequent=["red", "<blue>"]),
        ColumnSummary("id", "none", "dropped"),
    ]
    page = Page(
        report.render(replace(results, data=replace(results.data, table=replace(results.data.table, columns=columns))))
    )
    assert page.table("Column") == [
        ["Column", "Role", "Kind", "Missing", "Contents"],
        ["color", "input", "categories", "3 (2 'N/A')", "9 categories: red, <blue>, ..."],
        ["id", "none", "dropped", "0", ABSENT],
    ]
    bare = replace(results.data, table=replace(results.data.table, columns=[]))
    assert "Columns as read" not in Page(report.render(replace(results, data=bare))).headings


def test_long_names_are_cut_and_whole_in_a_title(iris: Made):
    results = iris.results
    long = "a species whose name goes on & on <b>" + "x" * 300
    assert results.answers is not None
    answers = replace(results.answers, classes=[replace(one, name=long) for one in results.answers.classes])
    text = report.render(replace(results, answers=answers))
    page = Page(text)
    assert "<b>x" not in text
    assert long in page.titles
    cell = page.table("Class")[2][0]
    assert len(cell) <= 40
    assert cell.endswith("\N{HORIZONTAL ELLIPSIS}")


@pytest.mark.parametrize(("epochs", "words"), [(1, "for 1 epoch,"), (2, "for 2 epochs,")])
def test_plurals(iris: Made, epochs: int, words: str):
    results = iris.results
    assert results.model is not None
    text = Page(report.render(replace(results, model=replace(results.model, epochs=epochs)))).text
    assert words in text
    assert "1 epochs" not in text.replace("11 epochs", "")


@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_the_page_is_one_small_file_without_scripts(made: dict[str, Made], name: str):
    html = made[name].html
    assert len(html.encode()) < 250_000
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in html
    assert not {"script", "link", "iframe", "object"} & made[name].page.tags
    assert "http:" not in html
    assert "https:" not in html


@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_every_wide_table_scrolls_in_a_region_of_its_own(made: dict[str, Made], name: str):
    html = made[name].html
    regions = re.findall(r'<div class="scroll" role="region" aria-[a-z]+="[^"]+" tabindex="0">\s*<table', html)
    assert len(regions) == html.count("<table")


def test_ids_on_the_page_are_unique(iris: Made):
    ids = re.findall(r' id="([^"]+)"', iris.html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'aria-labelledby="([^"]+)"', iris.html)) <= set(ids)


def test_the_same_results_make_the_same_page(iris: Made):
    assert report.render(iris.results) == iris.html


# -- the table for a text ------------------------------------------------------------------------------------------------


def page_rows(made: Made) -> list[list[str]]:
    return [[" ".join(cell.split()) for cell in row] for row in made.page.table("Method")]


def from_markdown(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\) \| ", line.removeprefix("| ").removesuffix(" |")) for line in lines]
    plain = [[re.sub(r"\\(.)", r"\1", cell.replace("**", "")) for cell in row] for row in cells]
    return [plain[0], *plain[2:]]


def from_latex(text: str) -> list[list[str]]:
    body = text.split("\\toprule\n")[1].split("\\bottomrule")[0].replace("\\midrule\n", "")
    for tex, plain in (
        ("\\textless{}", "<"), ("\\textsuperscript{2}", "\N{SUPERSCRIPT TWO}"), ("$-$", MINUS), ("--", ABSENT), ("~", " "),
        ("{[}", "["), ("{]}", "]"), ("\\%", "%"),
    ):  # fmt: skip
        body = body.replace(tex, plain)
    body = re.sub(r"\\textbf\{([^}]*)\}", r"\1", body)
    return [line.removesuffix(" \\\\").split(" & ") for line in body.splitlines()]


@pytest.mark.parametrize("name", ["iris", "diabetes"])
@pytest.mark.parametrize(("file", "read"), [("table.md", from_markdown), ("table.tex", from_latex)])
def test_the_exported_table_is_that_of_the_page(
    made: dict[str, Made], name: str, file: str, read: Callable[[str], list[list[str]]]
):
    text = (made[name].folder / file).read_text()
    rows = [[" ".join(cell.split()) for cell in row] for row in read(text)]
    assert rows == page_rows(made[name])
    assert len(rows) > 8
    sentence = made[name].results.verdict.sentence
    unescaped = re.sub(r"\\([%_*\[\]<>|#$&])", r"\1", text)
    assert sentence in unescaped


def test_latex_has_no_character_of_its_syntax_left(iris: Made):
    results = iris.results
    name = r"50%_of a&b #1 $x$ {y} ~ ^ \input{secret} [z]"
    sentence = f"No difference on {name}."
    text = export.latex(replace(results, verdict=replace(results.verdict, sentence=sentence)))
    caption = next(line for line in text.splitlines() if line.startswith("\\caption"))
    assert (
        r"50\%\_of a\&b \#1 \$x\$ \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}input\{secret\} {[}z{]}."
        in caption
    )


def test_markdown_takes_names_as_they_are(iris: Made):
    results = iris.results
    sentence = "No difference on a|b *c* [d](e) <i> `f`\n# g."
    first = export.markdown(replace(results, verdict=replace(results.verdict, sentence=sentence))).splitlines()[0]
    assert first == r"**No difference on a\|b \*c\* \[d\](e) \<i\> \`f\` \# g.**"


# -- worker processes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", measures.NAMES)
def test_a_measure_goes_to_another_process(name: str):
    classes = 0 if name in ("rmse", "mae", "r2") else 2
    measure = measures.find(name, classes)
    assert pickle.loads(pickle.dumps(measure)) is measure
