from __future__ import annotations

import copy
import importlib.util
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib
import pytest

from vicinal.lab.compare import figures, report, sections
from vicinal.lab.compare.view import View
from vicinal.lab.format import ABSENT, MINUS


def load_example() -> ModuleType:
    # by path, so that it is found in whichever way pytest imports this file
    spec = importlib.util.spec_from_file_location("report_example", Path(__file__).with_name("report_example.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = load_example()


def render(results: dict[str, Any]) -> str:
    return report.render(example.typed(results))


def view(results: dict[str, Any]) -> View:
    return View(example.typed(results), MINUS)


SHAPES: dict[str, dict[str, Any]] = {
    "classification": {"seeds": 5},
    "regression": {"task": "regression", "seeds": 5, "level": 54.0, "effect": 3.0},
    "perturbed": {"seeds": 4, "perturb": 0.5, "methods": 3},
    "one method beside ERM": {"seeds": 3, "methods": 2},
    "two seeds and classes": {"seeds": 2, "methods": 2, "classes": 2},
    "many classes": {"seeds": 3, "methods": 2, "classes": 1000, "test_rows": 2000},
}


class Page(HTMLParser):
    """Tags, attributes, table rows and visible text of a page."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.tables: list[list[list[str]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in {"td", "th"}:
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += " " + data if "i" in self.open else data

    @property
    def rows(self) -> dict[str, list[str]]:
        """Rows of the table of methods by their first cell."""
        table = next(table for table in self.tables if table[0][-1] == "Seconds per run")
        return {row[0]: row[1:] for row in table}

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self, name: str) -> list[str]:
        return [value for _, own, value in self.attributes if own == name]


@pytest.fixture(scope="module", params=SHAPES)
def results(request: pytest.FixtureRequest) -> dict[str, Any]:
    return example.build(**SHAPES[request.param])


@pytest.fixture(scope="module")
def html(results: dict[str, Any]) -> str:
    return render(results)


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"[-+]?\d+\.\d+", text.replace(MINUS, "-"))]


def three(estimate: dict[str, float], factor: float, middle: str = "mean") -> list[float]:
    return [factor * estimate[key] for key in (middle, "low", "high")]


def level(estimate: dict[str, float], measure: str) -> list[float]:
    """A mean with its interval as it is shown: no share is below 0 or above 1, and no R squared above 1."""
    lowest = -float("inf") if measure == "r2" else 0.0
    highest = 1.0 if measure in ("error", "ece", "r2") else float("inf")
    mean, low, high = three(estimate, 1.0)
    return [
        (100.0 if measure in ("error", "ece") else 1.0) * end for end in (mean, max(low, lowest), min(high, highest))
    ]


def test_it_needs_nothing_but_itself(html: str) -> None:
    lower = html.lower()
    for word in ("http:", "https:", "src=", "<script", "@import", "<link", "javascript:", "<img", "<?xml", "<!--"):
        assert word not in lower
    assert [target for target in re.findall(r"url\(([^)]*)\)", html) if not target.startswith("#")] == []
    assert all(target.startswith("#") for target in Page(html).values("href"))
    assert "default-src &#39;none&#39;" in html or "default-src 'none'" in html


def test_ids_are_unique_and_every_reference_has_one(html: str) -> None:
    parsed = Page(html)
    ids = parsed.values("id")
    assert len(ids) == len(set(ids))
    referred = {target[1:] for target in parsed.values("href")} | set(re.findall(r"url\(#([^)]+)\)", html))
    referred |= set(parsed.values("aria-labelledby"))
    assert referred <= set(ids)


def test_sections_come_in_order_and_the_verdict_first(html: str, results: dict[str, Any]) -> None:
    text = Page(html).text
    places = [
        text.index(words)
        for words in (
            results["verdict"]["sentence"],
            results["verdict"]["advice"],
            "Difference to ERM",
            "How probable each answer is",
            "What else answers",
            *results["protocol"]["limitations"],
            "With the method it is",
            "Every method",
            "Figures",
            "How it was measured",
            "Reproduce",
            results["command"],
        )
    ]
    assert places == sorted(places)


def test_the_verdict_stands_beside_its_interval(html: str, results: dict[str, Any]) -> None:
    primary = results["comparisons"][0]
    factor = 100.0 if results["protocol"]["measure"] == "error" else 1.0
    head = html[html.index("<dl") : html.index("</dl>")]
    shown = numbers(" ".join(re.findall(r'class="(?:value|detail)">([^<]*)', head)))
    assert shown[:3] == pytest.approx(three(primary, factor, "difference"), abs=0.006)
    least = [factor * primary["detectable"]] if primary["detectable"] > 0 else []  # none where no row differs
    shown, rest = shown[3 : 4 + len(least)], shown[4 + len(least) :]
    assert shown == pytest.approx([*least, factor * primary["same"]], abs=0.006)
    assert rest[:2] == pytest.approx([primary["p_holm"], primary["p_strict"]], abs=0.005)
    measure = results["protocol"]["measure"]
    of = [results["summary"][name]["test"][measure] for name in ("ERM", primary["method"])]
    assert rest[2:] == pytest.approx([end for one in of for end in level(one, measure)], abs=0.006)


def test_the_claims_are_those_of_the_primary_methods(html: str, results: dict[str, Any]) -> None:
    table = next(table for table in Page(html).tables if table[0][:2] == ["Measure", "With the method it is"])
    regression = results["data"]["task"] == "regression"
    titles = ["Test RMSE"] if regression else ["Test error, %", "Negative log-likelihood", "Calibration error, %"]
    primary = [one for one in results["comparisons"] if one["primary"]]
    assert [row[0] for row in table[1:]] == [
        title for one in primary for title in (one["method"].removesuffix(", alpha chosen on validation"), *titles)
    ]
    rows = [row for row in table[1:] if len(row) > 1]
    for place, one in enumerate(primary):
        beside = [of for of in results["beside"] if of["method"] == one["method"]]
        for of, row in zip([one, *beside], rows[len(titles) * place :], strict=False):
            factor = 100.0 if of["measure"] in ("error", "ece") else 1.0
            assert numbers(row[2]) == pytest.approx(three(of, factor, "difference"), abs=0.006)
            assert float(row[3]) == pytest.approx(of["p_holm"], abs=0.005)
            found = "better" if of["chances"]["better"] > 0.5 else "worse"
            assert row[1] == (found if of["p_holm"] < 0.05 else "not clear")


def test_the_table_shows_the_numbers_it_was_given(html: str, results: dict[str, Any]) -> None:
    measure, perturb = results["protocol"]["measure"], results["protocol"]["input_noise"]
    factor = 100.0 if measure == "error" else 1.0
    comparisons = {own["method"]: own for own in results["comparisons"]}
    rows = Page(html).rows
    head = rows.pop("Method")
    names = {
        family: [method["name"] for method in results["methods"] if method["family"] in family]
        for family in (("erm",), ("mixup", "named"), ("baseline",))
    }
    decays = [name for name in names["erm",] if name != "ERM"]
    order = ["ERM", example.CHOSEN, example.POLICY, *names["mixup", "named"], *names["baseline",], *decays]
    assert list(rows) == order
    for name, row in rows.items():
        assert len(row) == len(head)
        own = results["summary"][name]
        cells = [numbers(cell) for cell in row]
        assert cells[0] == pytest.approx(level(own["test"][measure], measure), abs=0.0051)
        if name == "ERM":
            assert row[1:3] == [ABSENT] * 2
        else:
            assert cells[1] == pytest.approx(three(comparisons[name], factor, "difference"), abs=0.0051)
            assert float(row[2]) == pytest.approx(comparisons[name]["p_holm"], abs=0.0051)
        rest = cells[3:]
        if perturb is not None:
            assert rest.pop(0) == pytest.approx(level(own["perturbed"][measure], measure), abs=0.0051)
        extras = ("nll", "brier", "ece") if measure == "error" else ("mae", "r2")
        for extra, cell in zip(extras, rest[:-2], strict=True):
            assert cell == pytest.approx(level(own["test"][extra], extra), abs=0.0051)
        assert rest[-2] == pytest.approx([factor * own["train"][measure]["mean"]], abs=0.0051)
        assert rest[-1] == pytest.approx([own["seconds"]], abs=0.0051)


def test_a_column_for_perturbed_inputs_only_when_they_were(html: str, results: dict[str, Any]) -> None:
    assert ("Perturbed test" in html) == (results["protocol"]["input_noise"] is not None)


def test_every_method_is_in_the_images(results: dict[str, Any]) -> None:
    drawn = texts(figures.differences(view(results)))
    for comparison in mixing(results):
        assert any(comparison["method"].startswith(text.removesuffix("\N{HORIZONTAL ELLIPSIS}")) for text in drawn)
    shown = texts(figures.rivals(view(results), sections.rivals(view(results))))
    assert [text for text in shown if re.match("[a-zE]", text)][: len(example.BASELINES) + 2] == [
        *(*example.BASELINES, "ERM", "mixup")
    ]


def texts(svg: str) -> list[str]:
    return [text for text in re.findall(">([^<]+)</text>", svg) if len(text) > 2]


def mixing(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Comparisons of methods that mix, and of choices among them, with ERM."""
    others = [method["name"] for method in results["methods"] if method["family"] in ("erm", "baseline")]
    return [one for one in results["comparisons"] if one["method"] not in others]


def test_images_fit_their_task(html: str, results: dict[str, Any]) -> None:
    labels = re.findall(r'<svg [^>]*aria-label="([^"]*)"', html)
    starts = [label.split()[0] for label in labels]
    if results["data"]["task"] == "regression":
        assert starts == ["Mean", "Difference", "Mean", "Validation"]
        assert "ECE" not in html
    else:
        assert starts == ["Mean", "Difference", "Mean", "Reliability", "Reliability", "Validation", "Validation"]
    assert all(label.endswith(".") and len(label) > 40 for label in labels)
    assert html.count('<svg viewBox="0 0 420') == len(labels) == html.count("<svg ")


def test_images_scale_and_take_the_colors_of_the_page(html: str) -> None:
    known = set(re.findall(r"(--[a-z]+):", html))
    for svg in re.findall(r"<svg .*?</svg>", html, re.S):
        assert re.match(
            r'<svg viewBox="0 0 420 \d+(\.\d+)?" role="img" aria-label="[^"]+" stroke-linejoin="round">', svg
        )
        assert not re.search(r"#[0-9a-f]{3,8}\b[^\"]*;|(?:fill|stroke):#", svg)
        assert "font-family" not in svg
        assert set(re.findall(r"var\((--[a-z]+)\)", svg)) <= known


def test_one_dot_per_seed(results: dict[str, Any]) -> None:
    drawn = figures.differences(view(results))
    seeds, rows = results["protocol"]["seeds"], len(mixing(results))
    dots = re.findall(r'<use href="#differences-\w+" x="[-\d.]+" y="[-\d.]+"', drawn)
    marks = drawn.count("fill:var(--mix)") + drawn.count("fill:var(--other)")
    assert marks >= rows
    # dots and one diamond per row, and the ticks of the axis
    assert seeds * rows + rows <= len(dots) <= seeds * rows + rows + 9


def test_same_results_same_page(html: str, results: dict[str, Any]) -> None:
    before = copy.deepcopy(results)
    assert render(json.loads(json.dumps(results))) == html
    assert results == before


def test_drawing_leaves_matplotlib_as_it_was(results: dict[str, Any]) -> None:
    with matplotlib.rc_context({"font.size": 31.0, "lines.linewidth": 7.0}):
        before = dict(matplotlib.rcParams)
        drawn = figures.differences(view(results))
        assert dict(matplotlib.rcParams) == before
    assert drawn == figures.differences(view(results))


def test_text_is_escaped() -> None:
    given = example.build(seeds=2, methods=3)
    nasty = "<script>alert('x')</script> & \" $a_1$ {{ 7 * 7 }} \u4e2d"
    text = json.dumps(given).replace('"mixup 0.1"', json.dumps(nasty)).replace('"versicolor"', json.dumps(nasty))
    given = json.loads(text)
    for owner, key in (("verdict", "sentence"), ("verdict", "advice"), ("data", "name"), ("data", "source")):
        given[owner][key] = nasty
    given["command"] = given["model"]["usage"] = given["data"]["target"] = nasty
    html = render(given)
    assert "<script" not in html
    parsed = Page(html)
    assert "script" not in parsed.tags
    assert parsed.text.count("alert('x')") > 8
    assert "{{ 7 * 7 }}" in parsed.text


def test_names_that_no_font_and_no_xml_can_hold(tmp_path: Path) -> None:
    given = example.build(seeds=2, methods=3)
    odd = "a\x00b\nc\ud800 \U0001f600 " + "W" * 200
    given = json.loads(json.dumps(given).replace('"mixup 0.1"', json.dumps(odd)))
    assert "\N{HORIZONTAL ELLIPSIS}</text>" in figures.differences(view(given))
    report.write(example.typed(given), tmp_path / "report.html")
    assert "W" * 200 in (tmp_path / "report.html").read_text("utf-8")


@pytest.mark.parametrize(("p", "bold"), [(0.049, True), (0.051, False), (None, False)])
def test_bold_only_where_the_corrected_p_supports_it(p: float | None, bold: bool) -> None:
    given = example.build(seeds=3, methods=3)
    for comparison in given["comparisons"]:
        comparison["p"], comparison["p_holm"] = 0.01, p
    html = render(given)
    start = html.index('<table class="main">')
    table = html[start : html.index("</table>", start)]
    assert table.count("<b>") == (2 * len(given["comparisons"]) if bold else 0)


def test_missing_numbers_are_dashes() -> None:
    given = example.build(seeds=3, methods=3)
    given["summary"]["mixup 0.1"]["test"]["nll"] = {"mean": None, "low": None, "high": None}
    comparison = next(one for one in given["comparisons"] if one["method"] == "mixup 0.1")
    comparison |= {"difference": float("nan"), "low": None, "high": None, "p": None, "p_holm": None}
    comparison["per_seed"][0] = None
    for run in given["runs"]:
        if run["method"] == "mixup 0.1":
            run["curve"]["validation_nll"] = [None] * len(run["curve"]["epoch"])
    rows = Page(render(given)).rows
    assert rows["mixup 0.1"][1:4] == [ABSENT] * 3
    assert numbers(rows["mixup 0.1"][0]) == pytest.approx(
        level(given["summary"]["mixup 0.1"]["test"]["error"], "error"), abs=0.0051
    )


def test_erm_alone_and_no_model() -> None:
    given = example.build(seeds=2, methods=1)
    del given["model"]
    given["choice"] = None
    html = render(given)
    assert "The model" not in html
    assert "No model" not in html
    assert figures.differences(view(given)) == figures.by_alpha(view(given)) == ""
    labels = re.findall(r'<svg [^>]*aria-label="([^"]*)"', html)
    assert [label.split()[0] for label in labels] == ["Mean", "Reliability", "Validation", "Validation"]


def test_the_model_is_loaded_by_the_given_lines() -> None:
    given = example.build(seeds=2, methods=2)
    assert 'best = model.load("model.safetensors")' in Page(render(given)).text
    assert "model.safetensors" in render(given)
    given["model"]["chosen"] = "best on validation rows"
    assert f"{given['model']['method']} (best on validation rows), trained on all rows for" in Page(render(given)).text
    del given["model"]
    given["no_model"] = "training mixup 1 on all rows diverged; <a lower rate> may help"
    assert "No model Training mixup 1 on all rows diverged; <a lower rate> may help." in Page(render(given)).text


def test_many_classes_are_counted_not_listed() -> None:
    text = Page(render(example.build(seeds=2, methods=2, classes=1000, test_rows=2000))).text
    assert "1 000 classes: class 0 (10)" in text
    assert "and 988 more, of 10 rows" in text
    assert "class 12 " not in text


@pytest.mark.slow
def test_a_page_stays_small() -> None:
    assert len(render(example.build(seeds=20, methods=6)).encode()) < 150_000
    largest = example.build(seeds=200, methods=12, perturb=0.1)
    assert len(render(largest).encode()) < 400_000


def test_reliability_pools_seeds_by_their_counts() -> None:
    given = example.build(seeds=2, methods=2, classes=2)
    tables = [run["reliability"] for run in given["runs"] if run["method"] == "ERM"]
    for table, (count, confidence, accuracy) in zip(tables, [(30, 0.9, 0.8), (10, 0.94, 0.4)], strict=True):
        table["count"] = [0] * 13 + [count, 0]
        table["confidence"] = [None] * 13 + [confidence, None]
        table["accuracy"] = [None] * 13 + [accuracy, None]
    table = figures.pooled(view(given), "ERM")
    assert table is not None
    assert table[0][13] == 40
    assert table[1][13] == pytest.approx(0.91)
    assert table[2][13] == pytest.approx(0.7)
    assert "over 40 test predictions" in figures.reliability(view(given), "ERM")


def luminance(color: str) -> float:
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_contrast_in_both_modes() -> None:
    html = render(example.build(seeds=2, methods=2))
    light, dark = re.findall(r":root \{([^}]*--paper[^}]*)\}", html)
    for mode in (light, dark):
        colors = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6});", mode))
        for name in ("ink", "muted", "erm", "mix", "other"):
            for ground in ("paper", "wash"):
                pair = sorted((luminance(colors[name]), luminance(colors[ground])))
                assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (name, ground)


def test_written_file_is_the_page(tmp_path: Path) -> None:
    given = example.build(seeds=2, methods=2)
    path = tmp_path / "report.html"
    report.write(example.typed(given), path)
    assert path.read_text("utf-8") == render(given)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    given = example.build(seeds=2, methods=2)
    path = tmp_path / "report.html"
    path.write_text("old", "utf-8")

    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        report.write(example.typed(given), path)
    assert path.read_text("utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_results_that_cannot_be_shown_touch_no_file(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old", "utf-8")
    given = example.build(seeds=2, methods=2)
    del given["summary"]["ERM"]
    with pytest.raises(KeyError, match="ERM"):
        report.write(example.typed(given), path)
    assert path.read_text("utf-8") == "old"


def test_templates_and_sources_are_ascii() -> None:
    lab = Path(report.__file__).parents[1]
    for name in (
        *("compare/report.py", "compare/figures.py", "paper/plots.py", "paper/report.py", "pages.py"),
        *("compare/report.html.j2", "paper/report.html.j2", "style.css"),
    ):
        assert (lab / name).read_bytes().isascii()
