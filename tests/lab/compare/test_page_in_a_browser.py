"""The page in a real browser: names in the data are shown, and do nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_runs import answers, study_of
from made_runs import results_of as made_results
from torture import pages

import browser as browsers
from vicinal.lab import terminal
from vicinal.lab.compare import report
from vicinal.lab.compare.results import Results
from vicinal.lab.data.table import make_table


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browsers.Browser]:
    if browsers.CHROMIUM is None:
        pytest.skip("no Chromium or Chrome was found on PATH")
    opened = browsers.Browser(tmp_path_factory.mktemp("browser") / "profile")
    yield opened
    opened.close()


def hostile_results() -> Results:
    """Results of a table whose columns, target, classes and source have such names, and so has all that is told of it."""
    study = study_of(seeds=2, alphas=(0.4,))
    names = pages.NAMES
    rows = len(study.data)
    columns: dict[str, Any] = {name: [float(i % 7) for i in range(rows)] for name in names[1:]}
    columns |= {pages.LONG: [names[i % 3] for i in range(rows)], names[0]: [names[2 + i % 2] for i in range(rows)]}
    table = make_table(columns, names[0], name=names[2], source=names[3])
    study = replace(study, data=table)
    results = made_results(
        study, answers(study, {"ERM": lambda rows: rows % 3 == 0, "mixup 0.4": lambda rows: rows < 0})
    )
    return replace(
        results,
        command=" ".join(names),
        created=names[1],
        versions={names[1]: names[2]},
        machine={"processor": names[3], "cores": names[4]},
        no_model=names[1],
        verdict=replace(results.verdict, advice=" ".join(names)),
    )


def test_names_are_shown_and_do_nothing(browser: browsers.Browser, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    report.write(hostile_results(), page)
    assert pages.faults(browser, page, list(map(terminal.printable, pages.NAMES))) == []


def test_what_breaks_out_is_found(browser: browsers.Browser, tmp_path: Path) -> None:
    """The test above would fail if names were not escaped, or the page were not closed to scripts."""
    page = tmp_path / "report.html"
    report.write(hostile_results(), page)
    good = page.read_text()
    wide = "<div style='width:3000px'>wide</div>"
    for bad, says in (
        (good.replace("</main>", "<b onclick='1'></b></main>"), "1 elements or attributes came out of names (hover)"),
        (good.replace("</main>", "<script>1</script></main>"), "1 elements or attributes came out of names (made)"),
        (good.replace("Content-Security-Policy", "x").replace("</main>", f"<script>{pages.CANARY}</script>"), "ran"),
        (good.replace("</main>", f"{wide}</main>"), "pixels wide on 390, and 1 elements reach out"),
        (good.replace("</main>", "<a href='javascript:1'>x</a></main>"), "it leads to 'javascript:1'"),
        (
            good.replace("Content-Security-Policy", "x").replace("</main>", "<img src='http://127.0.0.1:9/a'></main>"),
            "it asks for http://127.0.0.1:9/a",
        ),
        (good, "it does not show 'no such name'"),
    ):
        page.write_text(bad)
        assert any(says in fault for fault in pages.faults(browser, page, ["no such name"], ["phone"], ["light"])), says
