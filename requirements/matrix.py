"""Run the tests under one pair of Python and PyTorch, and write what came of all pairs into the page of versions.

    PYTHON requirements/matrix.py run library compiled check lab    # by the Python of the environment; or some of the parts
    PYTHON requirements/matrix.py again                             # what failed, after a mend
    python requirements/matrix.py table                             # the table in docs/development/versions.md

A run is kept in results/versions, and what fails ends it with exit code 1. The parts are the tests of the library, those of
it that compile by torch.compile or run whole programs, those of `vicinal check`, and those of other commands. Tests of the
checkout itself (locks, rooms, the wheel) do not depend on these versions, and are left out.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS, PAGE = ROOT / "results" / "versions", ROOT / "docs" / "development" / "versions.md"
BEGIN, END = "<!-- begin: python requirements/matrix.py table -->", "<!-- end -->"
LIBRARY = ("tests/integrations", "tests")
ALWAYS = "not torture and not real"
PARTS = {
    "library": (LIBRARY, f"{ALWAYS} and not slow"),
    "compiled": (LIBRARY, f"{ALWAYS} and slow"),
    "check": (("tests/checking",), ALWAYS),
    "lab": (("tests/lab",), ALWAYS),
}
OF_THE_CHECKOUT = ("test_supply.py", "test_structure.py", "test_foundation.py", "test_playground.py")
PACKAGES = ("torch", "numpy", "scikit-learn", "scipy", "joblib", "polars", "matplotlib", "pillow", "jinja2", "rich")
PACKAGES += ("safetensors", "pooch", "tensorboard", "submitit", "pytest")


class Record:
    """What pytest tells of its tests, as a plugin.

    Args:
        folder: of the checkout, which nothing that is kept may name.

    """

    def __init__(self, folder: Path) -> None:
        self.counts: Counter[str] = Counter()
        self.failed: dict[str, str] = {}
        self.skipped: Counter[str] = Counter()
        self._folder = str(folder)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Count a test: passed when called, or failed or skipped anywhere."""
        if report.when == "call" or report.outcome != "passed":
            self.counts[report.outcome] += 1
        if report.failed:
            print(f"\n{report.nodeid}", flush=True)
            crash = getattr(report.longrepr, "reprcrash", None)
            self.failed[report.nodeid] = self._plain(str(report.longrepr) if crash is None else crash.message)
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else "expected to fail"
            self.skipped[self._plain(reason).removeprefix("Skipped: ")] += 1

    def pytest_collectreport(self, report: Any) -> None:
        """Count a file that cannot be imported as one failure."""
        if report.failed:
            self.counts["failed"] += 1
            self.failed[report.nodeid] = self._plain(str(report.longrepr).strip().splitlines()[-1])

    def _plain(self, text: str) -> str:
        """Return the first lines of a message, without the folders of this machine."""
        text = " ".join(text.replace(self._folder, ".").split())[:300]
        return re.sub(r"(?<![\w.])/[\w.+-]+(/[\w.+-]+)+", "FILE", text)


def run(parts: list[str]) -> int:
    """Run the tests by this interpreter, keep what came of it, and return the number of those that failed."""
    found = {}
    for part in parts:
        places, marked = PARTS[part]
        record = tested(["-m", marked, *files(places)])
        found[part] = {
            **{outcome: record.counts[outcome] for outcome in ("passed", "failed", "skipped")},
            "failures": dict(sorted(record.failed.items())),
            "skips": dict(sorted(record.skipped.items())),
        }
    keep(found)
    return sum(each["failed"] for each in found.values())


def again() -> int:
    """Run the tests again that failed before, after a mend; what passes now is counted so."""
    tests = before()
    for part, each in tests.items():
        if each["failures"]:
            record = tested(["-m", PARTS[part][1], *each["failures"]])
            each["passed"] += record.counts["passed"]
            each["skipped"] += record.counts["skipped"]
            each["failed"] = record.counts["failed"]
            each["failures"] = dict(sorted(record.failed.items()))
            each["skips"] = dict(sorted((Counter(each["skips"]) + record.skipped).items()))
    keep(tests)
    return sum(each["failed"] for each in tests.values())


def tested(options: list[str]) -> Record:
    """Run pytest, and return what it tells."""
    import pytest

    sys.path.insert(0, str(ROOT))  # as `python -m pytest` does
    record = Record(ROOT)
    always = ["-q", "-p", "no:cacheprovider", "--tb=short", "--continue-on-collection-errors"]
    code = pytest.main([*always, *options], plugins=[record])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise SystemExit(f"pytest ended with {code!r}: nothing is kept")
    return record


def files(places: tuple[str, ...]) -> list[str]:
    """Return folders of tests, and for the folder of all tests the files in it."""
    found = [ROOT / place for place in places if place != "tests"]
    if "tests" in places:
        found += [path for path in (ROOT / "tests").glob("test_*.py") if path.name not in OF_THE_CHECKOUT]
    return sorted(map(str, found))


def path_of_run() -> Path:
    """Return the file of a run under these versions."""
    python = ".".join(platform.python_version_tuple()[:2])
    torch = (_version("torch") or "").partition("+")[0]
    return RESULTS / f"python{python}-torch{torch}.json"


def before() -> dict[str, Any]:
    """Return what is kept of the parts under these versions."""
    kept = path_of_run()
    return json.loads(kept.read_text(encoding="utf-8"))["tests"] if kept.exists() else {}


def keep(found: dict[str, Any]) -> None:
    """Write what came of some parts; what is kept of others under the same versions stays."""
    content = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": _commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {package: _version(package) for package in PACKAGES if _version(package) is not None},
        "tests": {part: each for part in PARTS if (each := {**before(), **found}.get(part))},
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    path_of_run().write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    if shutil.which("git") is None:
        return None
    told = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or None


# -- the page ----------------------------------------------------------------------------------------------------------


def table() -> str:
    """Return the table of all pairs, oldest first."""
    lines = ["| Python | PyTorch | NumPy | tests | passed | failed | skipped |", "|---|---|---|---|---|---|---|"]
    notes: list[str] = []
    files = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    for each in sorted(files, key=lambda each: (_numbers(each["packages"]["torch"]), _numbers(each["python"]))):
        for part, of in each["tests"].items():
            versions = (each["python"], each["packages"]["torch"].partition("+")[0], each["packages"]["numpy"])
            lines.append(
                "| " + " | ".join((*versions, part, *(str(of[k]) for k in ("passed", "failed", "skipped")))) + " |"
            )
            title = f"Python {versions[0]}, PyTorch {versions[1]}, {part}"
            notes += [f"- {title}: failed: `{test}`: {_cell(why)}" for test, why in of["failures"].items()]
            notes += [f"- {title}: {count} skipped: {_cell(why)}" for why, count in of["skips"].items()]
    return "\n".join([*lines, "", *notes])


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text.partition("+")[0])[:3])


def _cell(text: str) -> str:
    return re.sub(r"([<>|*_`\[\]])", r"\\\1", text)


def page(text: str) -> str:
    """Return the page with the table of the results that are kept."""
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


def main() -> int:
    """Run tests, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run").add_argument("parts", nargs="+", choices=PARTS)
    commands.add_parser("again")
    commands.add_parser("table")
    args = parser.parse_args()
    if args.command == "run":
        return 1 if run(args.parts) else 0
    if args.command == "again":
        return 1 if again() else 0
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
