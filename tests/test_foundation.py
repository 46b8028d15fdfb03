"""What holds the project together: a quick command, one version, a whole wheel, a reference and a map that are complete."""

import argparse
import inspect
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import vicinal
from test_readme import PAGES, blocks
from vicinal.lab import cli

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "vicinal"

# -- the command -------------------------------------------------------------------------------------------------------

HEAVY = ("torch", "numpy", "scipy", "sklearn", "polars", "matplotlib", "rich", "jinja2")
AFTER = f"print(*(name for name in {HEAVY} if name in sys.modules))"
CALL = """
import sys
from importlib.metadata import entry_points
sys.argv = ["vicinal", *{argv}]
(command,) = entry_points(group="console_scripts", name="vicinal")
try:
    command.load()()
except SystemExit:
    pass
"""


def loaded(code: str) -> list[str]:
    """Run code in a fresh interpreter and return the words of its last line."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()


@pytest.mark.parametrize(
    "argv",
    [
        *(["--help"], ["compare", "--help"], ["--version"], []),
        *(["nonsense"], ["compare"], ["compare", "a.csv", "--seeds", "many"], ["data", "fetch"], ["train", "--help"]),
        *(
            ["compare", "a.csv", "--jobs", "0"],
            ["diagnose", "a.csv", "--alpha", "a"],
            ["judge", "a.csv", "--rope", "a"],
            ["predict", "--help"],
            ["train", "x", "--timeout", "-1"],
        ),
        *(["check", "--help"], ["check"], ["check", "a.py:b"], ["check", "a.py:b", "--alpha", "a"], ["explain"]),
        *(["reproduce"], ["reproduce", "--report", "toy"], ["reproduce", "toy", "--report-dir", "a"]),
    ],
    ids=" ".join,
)
def test_help_and_wrong_arguments_import_nothing_heavy(argv: list[str]):
    # each of these takes seconds to import, and the answer needs none
    assert loaded(CALL.format(argv=argv) + AFTER) == []


def test_the_test_above_would_notice():
    assert loaded(f"import sys, sklearn\n{AFTER}") == ["numpy", "scipy", "sklearn"]


def options(parser: argparse.ArgumentParser) -> dict[str, set[str]]:
    found = {parser.prog: {name for action in parser._actions for name in action.option_strings or [action.dest]}}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                found |= options(command)
    return found


TABLE = {
    *(
        "-h",
        "--help",
        "data",
        "--target",
        "--task",
        "--drop",
        "--group",
        "--time",
        "--test",
        "--missing",
        "--categorical",
    ),
    *("--numeric", "--parse", "--dates", "--decimal", "--separator", "--encoding", "--no-header"),
    *("--drop-missing-target", "--min-class", "--sheet"),
}


def test_options_change_only_on_purpose():
    # An option is a promise. What belongs to a method, a model or a recipe is a value in Python, not an option here.
    assert options(cli.parser()) == {
        "vicinal": {"-h", "--help", "--version", "command"},
        "vicinal compare": {
            *TABLE,
            *("--model", "--size", "--augment", "--metric", "--erm-decays", "--to-the-end"),
            *("--seconds", "--classes", "--skip-broken"),
            *("--alpha", "--with", "--seeds", "--epochs", "--learning-rate", "--weight-decay", "--patience"),
            *("--label-noise", "--input-noise", "--out", "--jobs", "--cluster"),
        },
        "vicinal predict": {
            *("-h", "--help", "model", "data", "--out", "--model"),
            *("--separator", "--decimal", "--encoding", "--sheet", "--header", "--no-header"),
        },
        "vicinal diagnose": {*TABLE, "--alpha"},
        "vicinal check": {
            *("-h", "--help", "target", "--example", "--eval", "--off", "--plain", "--alpha", "--p", "--smoothing"),
            *("--kind", "--ignore", "--draws", "--json", "--sarif", "--write-test"),
        },
        "vicinal explain": {"-h", "--help", "code"},
        "vicinal judge": {
            *("-h", "--help", "scores", "--baseline", "--test-share", "--independent", "--higher-is-better"),
            *("--rope", "--out", "--decimal", "--separator", "--encoding", "--sheet"),
        },
        "vicinal train": {
            *("-h", "--help", "recipe", "changes", "--list", "--quick", "--out"),
            *("--save-every", "--timeout", "--tensorboard", "--grid", "--cluster"),
        },
        "vicinal reproduce": {
            *("-h", "--help", "name", "--list", "--scale", "--report", "--report-dir", "--out", "--jobs", "--cluster")
        },
        "vicinal interpolate": {"-h", "--help", "a", "b", "--model", "--out"},
        "vicinal data": {"-h", "--help", "action", "name"},
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_documentation_exist(page: Path):
    text = page.read_text()
    shown = [line for block in blocks(text) if block.language in ("", "sh", "bash") for line in block.body.splitlines()]
    shown += re.findall(r"`(vicinal [^`]+)`", text) + re.findall(r"^    (vicinal .+)$", text, re.MULTILINE)
    for line in shown:
        if len(line.split()) > 2 and line.startswith("vicinal ") and "--help" not in line:
            cli.parse(shlex.split(line, comments=True)[1:])


# -- the version -------------------------------------------------------------------------------------------------------


def test_there_is_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert ROOT / project["tool"]["hatch"]["version"]["path"] == SOURCE / "__init__.py"
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    changes = re.findall(r"^## \[(\d\S*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation is not None
    assert citation[1] == changes[0] == vicinal.__version__


# -- the wheel ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"vicinal-{vicinal.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    about = f"vicinal-{vicinal.__version__}.dist-info"
    assert {name for name in names if not name.startswith(f"{about}/")} == {f"vicinal/{name}" for name in files()}
    assert {
        "vicinal/py.typed",
        "vicinal/lab/compare/report.html.j2",
        "vicinal/lab/style.css",
        f"{about}/licenses/LICENSE",
    } <= names
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    with zipfile.ZipFile(wheel) as archive:
        assert f"vicinal = {scripts['vicinal']}" in archive.read(f"{about}/entry_points.txt").decode()


# -- the reference and the map -----------------------------------------------------------------------------------------


def files() -> set[str]:
    """Name every file of the package."""
    found = {file.relative_to(SOURCE).as_posix() for file in SOURCE.rglob("*") if file.is_file()}
    return {name for name in found if "__pycache__" not in name and not name.endswith(".partial")}


def test_the_reference_names_everything_public():
    text = (ROOT / "docs" / "reference" / "index.md").read_text()
    public = [name for name in vicinal.__all__ if not inspect.ismodule(getattr(vicinal, name))]
    metrics = [
        name
        for name, value in vars(vicinal.metrics).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == "vicinal.metrics"
    ]
    assert len(public) > 20
    assert len(metrics) > 4
    assert [name for name in public + metrics if not re.search(rf"`(\w+\()?{name}\b", text)] == []


def mapped(text: str, root: str) -> set[str]:
    """Read the files out of an annotated tree: names are indented by their depth, folders end in a slash."""
    found, folders = set(), []
    for line in text.splitlines():
        name = line.split()[0] if line.strip() else ""
        depth = (len(line) - len(line.lstrip())) // 4
        folders[depth:] = [name] if name.endswith("/") else []
        path = "".join(folders) + ("" if name.endswith("/") else name)
        if path.startswith(root) and not path.endswith("/"):
            found.add(path.removeprefix(root))
    return found


def test_the_architecture_maps_every_source_file():
    text = (ROOT / "docs" / "development" / "architecture.md").read_text()
    (tree,) = [block.body for block in blocks(text) if block.body.startswith("src/vicinal/")]
    told = {name for name in files() if not name.endswith("/__init__.py") and not name.startswith("checking/cards/")}
    assert "        cards/ " in tree  # one file for each code
    assert mapped(tree, "src/vicinal/") == told


def test_the_readme_is_read_in_one_sitting():
    assert (ROOT / "README.md").read_text().count("\n") <= 180


def test_the_map_is_read_as_it_is_meant():
    tree = "src/vicinal/\n    a.py  one\n    lab/  two\n        b.py\n    c.py\ntests/  three\n"
    assert mapped(tree, "src/vicinal/") == {"a.py", "lab/b.py", "c.py"}
