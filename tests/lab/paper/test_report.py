"""The page of all studies."""

import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from markupsafe import escape
from studies import Counting, SmokeRun

import vicinal as v
from vicinal.lab import cli
from vicinal.lab.errors import UserError
from vicinal.lab.paper import report, reproduce, store
from vicinal.lab.paper.store import JobFolder, fingerprint


def test_results_of_another_version_are_reported_and_not_added_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting()
    monkeypatch.setattr(reproduce, "STUDIES", (counting,))
    folder = JobFolder(tmp_path, counting, "small")
    jobs = counting.jobs("small")
    monkeypatch.setattr(v, "__version__", "0.0.9")
    monkeypatch.setattr(store, "fingerprint", partial(fingerprint, version="0.0.9"))  # as that version computed it
    folder.run(jobs[0], "command")
    monkeypatch.undo()
    monkeypatch.setattr(reproduce, "STUDIES", (counting,))
    folder.run(jobs[1], "command")
    with pytest.raises(UserError, match="of another version"):
        folder.records()
    _, markdown = (path.read_text() for path in report.write(tmp_path, "small", "command"))
    assert "| small | 2 of 4 jobs |" in markdown
    assert re.search(rf"Versions: vicinal 0\.0\.9, [^;]*; vicinal {re.escape(v.__version__)}, ", markdown)


SOME = ("toy", "cifar", "uci", "gan")  # with figures of three kinds: curves, dots and those of other styles


@pytest.fixture
def root(smoke: Callable[[str], SmokeRun], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of some studies at their smallest, to which the page is limited."""
    folders = [smoke(name)[0] for name in SOME]
    monkeypatch.setattr(reproduce, "STUDIES", tuple(folder.study for folder in folders))
    return folders[0].root


@pytest.mark.slow
def test_the_page_stands_alone_and_leaves_nothing_out(root: Path, smoke: Callable[[str], SmokeRun]) -> None:
    html, markdown = (path.read_text() for path in report.write(root, "smoke", "vicinal reproduce --report"))
    assert not re.search(r"""(src|href)=["'](?!#|data:image/png;base64,)|url\((?!#)|@import|<script""", html)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(ids)
    for study in reproduce.STUDIES:
        assert f"{study.section_title}; scale smoke" in html
        for row in smoke(study.name)[1]:
            assert f"| {row.name} |" in markdown
    assert html.count("<figure>") == sum(len(list(smoke(name)[0].path.glob("*.svg"))) for name in SOME)
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", markdown):
        assert (root / path).exists()


@pytest.mark.slow
def test_the_page_may_lie_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str], root: Path) -> None:
    into = tmp_path / "docs/paper"
    assert cli.main(["reproduce", "--report", "--scale", "smoke", "--out", str(root), "--report-dir", str(into)]) == 0
    assert str(into / "report.html") in capsys.readouterr().out
    figures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (into / "report.md").read_text())
    assert len(figures) == sum(len(list((root / name).glob("smoke/*.svg"))) for name in SOME)
    assert all((into / path).exists() for path in figures)
    assert cli.main(["reproduce", "toy", "--scale", "smoke", "--out", str(root), "--report-dir", str(into)]) == 2
    assert "give both" in capsys.readouterr().err


@pytest.mark.slow
def test_the_page_in_the_documentation_is_made_of_the_results_in_the_repository(tmp_path: Path) -> None:
    repository = Path(__file__).parents[3]
    root, into = tmp_path / "results/reproduce", tmp_path / "docs/paper"
    shutil.copytree(repository / "results/reproduce", root, ignore=shutil.ignore_patterns("runs"))
    before = {path: path.read_bytes() for path in root.rglob("*.svg")}
    report.write(root, "small", "command", into)
    made, kept = ((folder / "report.md").read_text().splitlines() for folder in (into, repository / "docs/paper"))
    assert (into / "report.html").stat().st_size <= 600 * 1024  # it opens at once, on a phone
    assert made[3:] == kept[3:]  # the third line says when
    assert kept[2].endswith(made[2].partition("Of ")[2])
    assert {path: path.read_bytes() for path in root.rglob("*.svg")} == before


def test_the_page_says_in_short_what_was_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting()
    monkeypatch.setattr(reproduce, "STUDIES", (counting,))
    folder = JobFolder(tmp_path, counting, "small")
    for job, done in zip(counting.jobs("small"), ("not run", "1 of 4 jobs", "2 of 4 jobs", "3 of 4 jobs"), strict=True):
        html, markdown = (path.read_text() for path in report.write(tmp_path, "small", "command"))
        assert f"| small | {done} |" in markdown
        assert f">{done}</td>" in html
        folder.run(job, "command")
    _, markdown = (path.read_text() for path in report.write(tmp_path, "small", "command"))
    assert "| small | all |" in markdown


def test_what_was_not_run_says_what_it_needs(tmp_path: Path) -> None:
    html, markdown = (path.read_text() for path in report.write(tmp_path, None, "command"))
    for study in reproduce.STUDIES:
        needs = escape(study.scales["small"].data)
        assert f"vicinal reproduce {study.name} --scale small</code> needs data: {needs}" in html
    claims = [claim for study in reproduce.STUDIES for claim in study.claims("small", {})]
    texts = {claim.text for claim in claims}
    assert f"Of {len(texts)} claims, {len(claims)} verdicts: {len(claims)} not run." in markdown
    assert all(claim.text in markdown for claim in claims)
