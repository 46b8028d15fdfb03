"""Every benchmark runs, at tiny sizes, and writes results that the page can show."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from joblib import parallel_config

from bench import page, sklearn_estimators, sklearn_search

PROGRAMS = {
    "mixing": "mixing",
    "vicinities": "vicinities",
    "loss": "loss",
    "step": "step",
    "loop": "loop",
    "decode": "decode",
    "fleet": "fleet",
    "gpu.kernels": "gpu-kernels",
    "gpu.throughput": "gpu-throughput",
    "gpu.cifar": "gpu-cifar",
}


@pytest.fixture
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.torture
@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("name", PROGRAMS)
def test_program_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = importlib.import_module(f"bench.{name}")
    options = ["--runs", str(tmp_path / "runs")] if name == "gpu.cifar" else []
    monkeypatch.setattr(
        "os.cpu_count", lambda: 1
    )  # each worker of joblib and of the fleet imports PyTorch, for seconds
    monkeypatch.setattr(sys, "argv", [program.__file__, "--quick", "--out", str(tmp_path), *options])
    program.main()
    (path,) = tmp_path.glob("*.json")
    record = json.loads(path.read_text())
    assert path.stem.removesuffix("-packages") == PROGRAMS[name]
    assert record["command"].startswith(f"python -m bench.{name} --quick")
    assert all(rows for rows in record["tables"].values())
    shown = page.section(path, *page.SECTIONS[path.stem])
    assert all(f"| {row} |" in shown for rows in record["tables"].values() for row in rows)


@pytest.mark.slow
@pytest.mark.usefixtures("_threads")
def test_estimators_of_scikit_learn_are_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(sklearn_estimators.__file__), "wine", "diabetes", "--quick"])
    sklearn_estimators.main()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["wine"] * 16 + ["diabetes"] * 8  # 4 estimators, 2 settings, 2 measures or 1
    for row in rows:
        change, low, high = (float(word.strip("[],")) for word in row[5].split())
        assert low <= change <= high
        shown = "" if low <= 0 <= high else "better" if change < 0 else "**worse**"
        assert row[6] == shown


@pytest.mark.slow
@pytest.mark.usefixtures("_threads")
def test_searches_for_alpha_are_compared(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [str(sklearn_search.__file__), "wine", "--quick"])
    with parallel_config("multiprocessing"):  # forked: a process that starts afresh imports PyTorch for seconds
        sklearn_search.main()
    cells = [cell.strip() for cell in capsys.readouterr().out.splitlines()[2].split("|")[1:-1]]
    assert cells[:2] == ["wine", "178"]
    assert cells[4] == cells[5]  # the same alpha
    assert float(cells[6]) < 1e-4


def test_every_program_is_tested() -> None:
    root = Path(page.__file__).parent
    programs = {path for path in root.rglob("*.py") if "def main()" in path.read_text()}
    names = {".".join(path.relative_to(root).with_suffix("").parts) for path in programs}
    assert names == PROGRAMS.keys() | {"page", "curves", "sklearn_estimators", "sklearn_search"}
