"""What is installed, what is given away, and what is asked of the network: locks, licenses, the wheel, no connections."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, requires
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import vicinal
from vicinal.lab import cli
from vicinal.lab.cli import commands

ROOT = Path(__file__).parent.parent
REQUIREMENTS = ROOT / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("lab", "torch-cpu", "torch", "cuda", "dev")


@pytest.fixture(scope="module")
def sbom() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(REQUIREMENTS)
        return importlib.import_module("sbom")


# -- locked versions ---------------------------------------------------------------------------------------------------


def locked(*names: str) -> dict[str, list[Requirement]]:
    """Return what some locks pin, by package; several where Pythons differ."""
    found: dict[str, list[Requirement]] = {}
    for name in names:
        text = (REQUIREMENTS / f"{name}.lock").read_text().replace("\\\n", " ")
        for line in text.splitlines():
            if line.strip() and not line.startswith("#"):
                requirement = Requirement(line.partition(" --hash")[0])
                found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def version(requirement: Requirement) -> str:
    (pin,) = requirement.specifier
    assert pin.operator == "=="
    return pin.version


def asked() -> list[Requirement]:
    """Return what pyproject.toml asks for in the environment of the checks: the library, the lab, the groups."""
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    extras = project["optional-dependencies"]
    waiting, found = [*project["dependencies"], *groups["build"], *groups["dev"]], []
    while waiting:
        text = waiting.pop()
        if isinstance(text, dict):
            waiting += groups[text["include-group"]]
            continue
        requirement = Requirement(text)
        if requirement.name == "vicinal":
            waiting += [each for extra in requirement.extras for each in extras[extra]]
        else:
            found.append(requirement)
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_each_package_of_a_lock_has_one_version_and_hashes(name: str) -> None:
    text = (REQUIREMENTS / f"{name}.lock").read_text()
    blocks = [block for block in re.split(r"\n(?=\w)", text) if not block.startswith("#")]
    assert len(blocks) == sum(len(each) for each in locked(name).values()) > 0
    for block in blocks:
        assert re.match(r"[a-z0-9][a-z0-9.-]*==\S+( ; [^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\s*$", block), (
            block[:80]
        )


def test_the_locks_hold_what_the_project_asks_for() -> None:
    pins = locked("lab", "torch", "dev")
    assert len(asked()) > 25
    for requirement in asked():
        for pin in pins[canonicalize_name(requirement.name)]:
            assert requirement.specifier.contains(version(pin)), requirement


def test_the_locks_hold_the_versions_of_the_constraints() -> None:
    pins = locked("lab", "torch", "dev")
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    constraints = {canonicalize_name(each.name): version(each) for each in map(Requirement, lines)}
    shared = constraints.keys() & pins.keys()
    assert len(shared) > 25
    assert {name: {version(pin) for pin in pins[name]} for name in shared} == {
        name: {constraints[name]} for name in shared
    }
    # others are of the optional environments, and nothing that the project itself asks for is without
    assert {canonicalize_name(each.name) for each in asked()} <= constraints.keys()


def test_a_command_without_its_extra_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of = packages_distributions()
    extra = {canonicalize_name(Requirement(text).name) for text in PROJECT["project"]["optional-dependencies"]["lab"]}
    assert {canonicalize_name(of[name][0]) for name in commands.OF_LAB} == extra

    def run(args: object) -> int:
        raise ModuleNotFoundError(f"No module named {lacking!r}", name=lacking)

    monkeypatch.setattr(commands.COMMANDS["compare"], "run", run)
    lacking = "scipy.stats"
    assert cli.main(["compare", "iris"]) == 2
    said = capsys.readouterr().err
    assert said == "vicinal: this command needs scipy, which is not installed: pip install 'vicinal[lab]'\n"
    lacking = "vicinal.nonsense"  # a fault of ours is a traceback
    with pytest.raises(ModuleNotFoundError):
        cli.main(["compare", "iris"])


def test_the_builds_of_pytorch_are_of_one_version() -> None:
    (cpu,), (any_,) = locked("torch-cpu")["torch"], locked("torch")["torch"]
    assert version(cpu) == f"{version(any_)}+cpu"


def test_no_package_is_in_two_locks() -> None:
    names = [name for lock in ("lab", "torch", "cuda", "dev") for name in locked(lock)]
    assert len(names) == len(set(names))


def test_the_locks_lack_nothing_that_a_package_needs_here() -> None:
    pins = locked("lab", "torch", "dev")
    for name in pins:
        try:
            needs = requires(name) or []
        except PackageNotFoundError:  # of another system
            assert all(pin.marker is not None and not pin.marker.evaluate() for pin in pins[name]), name
            continue
        for need in map(Requirement, needs):
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                assert canonicalize_name(need.name) in pins, f"{name} needs {need}"


def test_what_is_installed_is_what_is_locked() -> None:
    pins = locked("lab", "torch", "dev")
    for name, each in pins.items():
        wanted = {version(pin) for pin in each if pin.marker is None or pin.marker.evaluate()}
        if wanted:
            assert distribution(name).version.partition("+")[0] in wanted, (
                f"{name}: make brings the environment up to date"
            )


def test_the_makefile_installs_by_hashes_only() -> None:
    text = (ROOT / "Makefile").read_text()
    first = text[text.index(".make/lab:") : text.index("# uv resolves")]
    assert "--require-hashes" in text.split("LOCKED =")[1].splitlines()[0]
    installs = [line for line in first.splitlines() if "PIP_INSTALL" in line or "LOCKED" in line or "TORCH" in line]
    unlocked = [line for line in installs if "LOCKED" not in line and "TORCH" not in line]
    assert len(installs) >= 4
    assert [line.split("-e ")[0].strip() for line in unlocked] == [
        "@$(VENV)/$(PIP_INSTALL) --no-deps --no-build-isolation"
    ]


# -- licenses ----------------------------------------------------------------------------------------------------------


def test_what_is_needed_at_run_time_is_under_licenses_that_are_allowed(sbom: ModuleType) -> None:
    packages = sbom.runtime()
    assert {"torch", "numpy", "polars", "jinja2"} <= packages.keys()
    assert {"torch", "numpy"} <= sbom.library().keys() < packages.keys()
    odd = {name: sbom.license_of(each) for name, each in packages.items() if sbom.refused(sbom.license_of(each))}
    assert odd == {}


def test_a_license_that_is_not_allowed_is_told(sbom: ModuleType) -> None:
    assert sbom.refused("GPL-3.0-only") == {"GPL-3.0-only"}
    assert sbom.refused("MIT AND LGPL-2.1-or-later") == {"LGPL-2.1-or-later"}
    assert sbom.refused("GPL-2.0-only OR MIT") == set()
    assert sbom.refused("unknown") == {"unknown"}
    assert sbom.license_of(distribution("codespell")) == "GPL-2.0-only"  # a tool of the checks, not needed at run time


def test_the_page_of_licenses_is_what_the_packages_say(sbom: ModuleType) -> None:
    assert (ROOT / "docs" / "reference" / "licenses.md").read_text() == sbom.table(), "make sbom writes it"


# -- the wheel ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_wheel_is_built_to_the_same_bytes_and_listed(tmp_path: Path, sbom: ModuleType) -> None:
    env = os.environ | {"SOURCE_DATE_EPOCH": "1700000000"}
    wheels = []
    for name in ("a", "b"):
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / name)]
        subprocess.run(build, cwd=ROOT, check=True, capture_output=True, env=env)
        wheels += (tmp_path / name).glob("*.whl")
    first, second = wheels
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        names = archive.namelist()
        license_ = archive.read(f"vicinal-{vicinal.__version__}.dist-info/licenses/LICENSE")
    assert license_ == (ROOT / "LICENSE").read_bytes()
    kinds = {Path(name).suffix for name in names if not re.match(r"[^/]+\.dist-info/", name)}
    assert kinds <= {".py", ".typed", ".j2", ".css", ".json", ".md"}  # no data, nothing compiled
    assert not [name for name in names if "test" in name and name != "vicinal/testing.py"]
    assert not [name for name in names if name.startswith("/") or ".." in name]

    listed = json.loads(sbom.bill(first))  # which checks it against the schema of CycloneDX
    assert listed == json.loads(sbom.bill(second))
    about = listed["metadata"]["component"]
    assert (about["name"], about["version"]) == ("vicinal", vicinal.__version__)
    pins = locked("lab", "torch")
    assert {each["name"] for each in listed["components"]} <= pins.keys()
    for each in listed["components"]:
        assert each["version"] in {version(pin) for pin in pins[each["name"]]}
        assert each["licenses"]
    required = {each["name"] for each in listed["components"] if each["scope"] == "required"}
    assert required == set(sbom.library())
    (needs,) = (each["dependsOn"] for each in listed["dependencies"] if each["ref"] == "pypi/vicinal")
    assert {"pypi/torch", "pypi/numpy", "pypi/polars"} <= set(needs)


# -- the network -------------------------------------------------------------------------------------------------------

WATCH = ROOT / "torture" / "watch"
COMMANDS = """
import sys
import vicinal, vicinal.testing
from vicinal.lab import cli

model = ["cifar10-small-erm", "dataset=synthetic-images", "model=small-eighth", "epochs=1", "batch_size=40"]
short = ["--seeds", "2", "--epochs", "1", "--alpha", "0.4", "--jobs", "1"]
for words in (
    ["explain", "VIC001"],
    ["compare", "iris", *short, "--out", "compared"],
    ["predict", "compared", "new.csv"],
    ["judge", "scores.csv", "--test-share", "0.25", "--baseline", "a"],
    ["train", *model, "--out", "trained"],
    ["reproduce", "toy", "--scale", "smoke", "--jobs", "1"],
    ["check", "pipeline.py:mixup"],
):
    code = cli.main(words)
    if code:
        sys.exit(f"{words} ended with {code}")
"""


def watched(code: str, folder: Path) -> tuple[int, str, list[str]]:
    """Run a program where its calls to the network are written down."""
    calls = folder / "calls.jsonl"
    env = os.environ | {"PYTHONPATH": str(WATCH), "VICINAL_WATCH": str(calls), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr, calls.read_text().splitlines() if calls.exists() else []


@pytest.mark.slow
def test_commands_ask_nothing_of_the_network(tmp_path: Path) -> None:
    names = ",".join(f"{part} {side} (cm)" for part in ("sepal", "petal") for side in ("length", "width"))
    (tmp_path / "new.csv").write_text(f"{names}\n5.1,3.5,1.4,0.2\n")
    lines = [f"{name},{i},{(7 * i + k) % 5}" for k, name in enumerate("ab") for i in range(10)]
    (tmp_path / "scores.csv").write_text("\n".join(["method,seed,score", *lines]) + "\n")
    (tmp_path / "pipeline.py").write_text("import vicinal\n\nmixup = vicinal.Mixup(0.4)\n")
    code, said, calls = watched(COMMANDS, tmp_path)
    assert code == 0, said[-2000:]
    assert calls == []


@pytest.mark.parametrize(
    "call",
    [
        "s.connect(('192.0.2.1', 9))",
        "s.sendto(b'', ('198.51.100.1', 9))",
        "s.bind(('0.0.0.0', 0))",
        "socket.getaddrinfo('example.invalid', 80)",
        "urllib.request.urlopen('ftp://example.invalid/x')",
    ],
)
def test_the_watch_would_notice(call: str, tmp_path: Path) -> None:
    code = (
        f"import socket, urllib.request\ns = socket.socket(type=socket.SOCK_DGRAM)\ntry: {call}\nexcept OSError: pass"
    )
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}], check=True)"
    status, said, calls = watched(child, tmp_path)
    assert (status, said) == (0, "")
    assert calls != []


def test_this_machine_is_not_the_network(tmp_path: Path) -> None:
    code = "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())"
    assert watched(code, tmp_path)[::2] == (0, [])


# -- versions and systems ----------------------------------------------------------------------------------------------

WORKFLOW = ROOT / ".github" / "workflows" / "tests.yml"
TRIED = [
    json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "results" / "versions").glob("*.json"))
]


def test_python_versions_that_are_supported_are_those_that_were_tried() -> None:
    supported = SpecifierSet(PROJECT["project"]["requires-python"])
    assert supported.contains("3.11")
    assert not supported.contains("3.10")
    classifiers = PROJECT["project"]["classifiers"]
    named = {text.split(" :: ")[-1] for text in classifiers if re.search(r"Python :: 3\.\d+$", text)}
    assert {".".join(each["python"].split(".")[:2]) for each in TRIED} >= named
    assert all(supported.contains(f"{python}.0") for python in named)
    systems = {text.split(" :: ")[-1] for text in classifiers if text.startswith("Operating System ::")}
    assert systems <= {each["system"].split()[0] for each in TRIED}


def test_the_table_of_versions_is_that_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REQUIREMENTS)
    matrix = importlib.import_module("matrix")
    text = matrix.PAGE.read_text(encoding="utf-8")
    assert matrix.page(text) == text, "make versions writes it"
    assert len(TRIED) >= 4
    assert len(matrix.table().splitlines()) > 6
    assert not [
        path for path in matrix.RESULTS.glob("*.json") if re.search(r"/(work|tmp|root|home)/", path.read_text())
    ]


def test_the_oldest_versions_are_all_of_what_the_package_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REQUIREMENTS)
    old = importlib.import_module("oldest")
    found = old.oldest(PROJECT["project"])
    assert {"torch": found["torch"], "numpy": found["numpy"]} == {"torch": "2.6", "numpy": "1.26"}
    assert len(found) > 12
    with pytest.raises(SystemExit, match="names no oldest version"):
        old.oldest({"dependencies": ["torch"], "optional-dependencies": dict.fromkeys(old.EXTRAS, ())})


def targets_of(workflow: dict[str, Any]) -> set[str]:
    """Return the targets that the jobs of a workflow make."""
    found = set()
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            for target in re.findall(r"(?m)^make ([\w-]+|\$\{\{ matrix\.target \}\})", step.get("run", "")):
                found |= set(job["strategy"]["matrix"]["target"]) if target.startswith("$") else {target}
    return found


def test_the_workflow_makes_targets_that_there_are() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    made = set(re.findall(r"(?m)^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    assert {"test", "test-oldest", "test-newest", "package", "docs"} <= targets_of(workflow) <= made
    assert workflow["permissions"] == {"contents": "read"}
    assert not [job for job in workflow["jobs"].values() if "permissions" in job]
    used = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert len(used) >= 6
    assert [use for use in used if not re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", use)] == []
    matrix = workflow["jobs"]["newest"]["strategy"]["matrix"]
    classifiers = PROJECT["project"]["classifiers"]
    assert [f"Programming Language :: Python :: {python}" in classifiers for python in matrix["python"]] == [True] * 4
    assert matrix["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
