"""Checks as tests: what fails, what is expected to fail, and how often a pipeline is checked."""

from __future__ import annotations

import functools
import subprocess
import sys
import unittest
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import vicinal
from vicinal import testing
from vicinal.checking.codes import CODES
from vicinal.checking.report import Fault, Report, ordered
from vicinal.testing import MixingFault, check_mixing, parametrize_with_checks

FAILING = [name for name, kind in CODES.items() if kind.severity != "note"]


class Engine:
    """Stands in for the check: finds in a target the codes that `found` says, and remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, dict[str, Any]]] = []
        self.found: Callable[[Any], list[str]] = lambda target: []
        self.skipped: dict[str, str] = {}

    def check(self, target: Any, example: Any = None, **options: Any) -> Report:
        self.calls.append((target, example, options))
        findings = [Fault(name, f"{name} was seen.") for name in self.found(target)]
        kept, ignored = ordered(findings, options.get("ignore", ()))
        return Report("the target", kept, ignored, skipped=self.skipped)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    one = Engine()
    module = ModuleType("vicinal.checking.check")
    module.check = one.check
    monkeypatch.setitem(sys.modules, "vicinal.checking.check", module)
    return one


def mix(x: Any, y: Any) -> Any:
    return x, y


# -- check_mixing ------------------------------------------------------------------------------------------------------


def test_nothing_found(engine: Engine):
    report = check_mixing(mix, ([1.0], [0]), alpha=0.2, ignore=("VIC012",))
    assert isinstance(report, Report)
    assert engine.calls == [(mix, ([1.0], [0]), {"alpha": 0.2, "ignore": ("VIC012",)})]


@pytest.mark.parametrize("name", CODES)
def test_errors_and_warnings_fail_and_notes_do_not(engine: Engine, name: str):
    engine.found = lambda target: [name]
    if CODES[name].severity == "note":
        assert check_mixing(mix).codes == [name]
        return
    with pytest.raises(AssertionError) as raised:
        check_mixing(mix)
    assert isinstance(raised.value, MixingFault)
    assert str(raised.value).startswith(f"the target: {name} was found\n\nthe target: 1 {CODES[name].severity} (")
    assert f"{name} was seen." in str(raised.value)


def test_expected_findings(engine: Engine):
    engine.found = lambda target: ["VIC011", "VIC012", "VIC033"]
    assert check_mixing(mix, expected_failed={"VIC011": "known", "vic012": "meant", "VIC033": "a note"}).codes
    with pytest.raises(MixingFault, match="the target: VIC012 was found"):
        check_mixing(mix, expected_failed={"VIC011": "known"})
    with pytest.raises(MixingFault) as raised:
        check_mixing(mix, expected_failed={"VIC011": "known", "VIC020": "old alpha", "VIC037": "small"})
    assert str(raised.value).splitlines()[0] == (
        "the target: VIC012 was found; "
        "VIC020 is expected to be found (old alpha) but was not: remove it from expected_failed; "
        "VIC037 is expected to be found (small) but was not: remove it from expected_failed"
    )


def test_what_is_expected_must_be_a_code_that_counts(engine: Engine):
    with pytest.raises(ValueError, match="there is no code 'VIC999'"):
        check_mixing(mix, expected_failed={"VIC999": "typo"})
    with pytest.raises(ValueError, match="VIC012 is ignored, so it cannot be expected"):
        check_mixing(mix, expected_failed={"VIC012": "meant"}, ignore=["vic012"])
    assert engine.calls == []


def test_with_unittest(engine: Engine):
    engine.found = lambda target: ["VIC011"] if target == "bad" else []

    class Pipelines(unittest.TestCase):
        def test_good(self) -> None:
            check_mixing("good")

        def test_bad(self) -> None:
            check_mixing("bad")

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Pipelines).run(result)
    assert (result.testsRun, len(result.failures), len(result.errors)) == (2, 1, 0)
    assert "VIC011" in result.failures[0][1]


def test_targets_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "named_by_a_test.py").write_text("def collate(rows):\n    return rows\n")
    assert testing.load_target("named_by_a_test.py:collate", tmp_path)([1]) == [1]
    assert testing.load_target("named_by_a_test:collate", str(tmp_path))([2]) == [2]
    with pytest.raises(ValueError, match="did you mean 'collate'"):
        testing.load_target("named_by_a_test.py:colate", tmp_path)
    del sys.modules["named_by_a_test"]


def test_it_is_a_module_of_the_package():
    assert vicinal.testing is testing


# -- parametrize_with_checks -------------------------------------------------------------------------------------------


def cases(*args: Any, **options: Any) -> list[Any]:
    def test(target: Any, check: Any) -> None: ...

    decorated = parametrize_with_checks(*args, **options)(test)
    (mark,) = decorated.pytestmark
    assert mark.args[0] == ("target", "check")
    return list(mark.args[1])


def run(case: Any) -> str:
    target, check = case.values
    try:
        check(target)
    except MixingFault as error:
        return f"fault: {error}"
    except pytest.skip.Exception as skipped:
        return f"skipped: {skipped}"
    return "passed"


def test_one_test_for_each_target_and_code(engine: Engine):
    class Loader:
        pass

    targets = [mix, Loader(), functools.partial(mix, 1), lambda x: x]
    found = cases(targets)
    assert [case.id for case in found[:2]] == ["mix-VIC001", "mix-VIC002"]
    assert [case.id for case in found] == [
        f"{name}-{code}" for name in ("mix", "Loader", "mix_2", "lambda") for code in FAILING
    ]
    assert engine.calls == []  # nothing runs while tests are collected
    assert {run(case) for case in found} == {"passed"}
    assert [call[0] for call in engine.calls] == targets  # once each, in order


def test_findings_fail_their_own_tests_alone(engine: Engine):
    engine.found = lambda target: ["VIC011", "VIC012", "VIC033"]
    engine.skipped = {"VIC040": "there is no evaluation loader", "memory": "no device"}
    got = {case.id: run(case) for case in cases({"train": mix}, p=0.5)}
    assert engine.calls == [(mix, None, {"p": 0.5})]
    assert {name: said.partition(":")[0] for name, said in got.items() if said != "passed"} == {
        "train-VIC011": "fault",
        "train-VIC012": "fault",
        "train-VIC040": "skipped",
    }
    assert "VIC011 was seen." in got["train-VIC011"]
    assert "VIC012" not in got["train-VIC011"]
    assert got["train-VIC040"] == "skipped: there is no evaluation loader"


def test_expected_ones_are_strict(engine: Engine):
    marked = {case.id: case.marks for case in cases([mix], expected_failed={"VIC012": "meant", "VIC033": "a note"})}
    assert set(marked) == {f"mix-{name}" for name in FAILING} | {"mix-VIC033"}
    (mark,) = marked["mix-VIC012"]
    assert (mark.name, mark.kwargs) == ("xfail", {"reason": "meant", "strict": True, "raises": MixingFault})
    assert [name for name, marks in marked.items() if marks] == ["mix-VIC012", "mix-VIC033"]


def test_what_is_expected_may_depend_on_the_target(engine: Engine):
    found = cases({"a": 1, "b": 2}, expected_failed=lambda target: {"VIC020": "old"} if target == 2 else {})
    assert [case.id for case in found if case.marks] == ["b-VIC020"]
    with pytest.raises(ValueError, match="there is no code"):
        cases([mix], expected_failed={"VIC12": "typo"})


def test_an_engine_that_fails_is_told_once(engine: Engine):
    def broken(target: Any) -> list[str]:
        raise RuntimeError("no batch")

    engine.found = broken
    first, second, *_ = cases([mix])
    with pytest.raises(RuntimeError, match="no batch"):
        run(first)
    assert run(second) == "skipped: the check failed in an earlier test: RuntimeError: no batch"
    assert len(engine.calls) == 1


def test_without_pytest(monkeypatch: pytest.MonkeyPatch, engine: Engine):
    monkeypatch.setitem(sys.modules, "pytest", None)
    with pytest.raises(ImportError, match="needs pytest: pip install pytest; check_mixing works without"):
        parametrize_with_checks([mix])
    assert check_mixing(mix).passed


PAGE = """
import sys
from types import ModuleType
from vicinal.checking.report import Fault, Report
from vicinal.testing import parametrize_with_checks

calls = []
def check(target, example=None, **options):
    calls.append(target)
    return Report("it", [Fault("VIC011", "Seen."), Fault("VIC012", "Seen.")], skipped={"VIC040": "no loader"})
module = ModuleType("vicinal.checking.check")
module.check = check
sys.modules["vicinal.checking.check"] = module

@parametrize_with_checks({"train": 1}, expected_failed={"VIC012": "meant", "VIC020": "gone"})
def test_mixing(target, check):
    check(target)

def test_once():
    assert calls == [1]
"""


def test_as_pytest_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In a process of its own, which needs no PyTorch."""
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "test_page.py").write_text(PAGE)
    command = [sys.executable, "-m", "pytest", "-q", "-rfEsxX", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), "test_page.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    said = done.stdout.splitlines()
    lines = sorted(line for line in said if line.startswith(("FAILED", "XFAIL", "SKIPPED", "ERROR")))
    assert lines[:3] == [
        "FAILED test_page.py::test_mixing[train-VIC011] - vicinal.testing.MixingFault: VIC011 was found",
        "FAILED test_page.py::test_mixing[train-VIC020] - [XPASS(strict)] gone",
        f"SKIPPED [1] {lines[2].split()[2]} no loader",
    ], done.stdout
    assert lines[3:] == ["XFAIL test_page.py::test_mixing[train-VIC012] - meant"]
    assert said[-1].startswith(f"2 failed, {len(FAILING) - 4 + 1} passed, 1 skipped, 1 xfailed")
