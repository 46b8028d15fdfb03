"""`vicinal check` and `vicinal explain`: what they hand to the check, what they print and write, and how they end."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import vicinal
from vicinal.checking.codes import CODES
from vicinal.checking.report import Fault, Report, ordered
from vicinal.lab import cli
from vicinal.lab.cli import check as command
from vicinal.testing import MixingFault

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start where nothing is, and forget what was imported from there."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("COLUMNS", "FORCE_COLOR", "PYTHONWARNINGS"):
        monkeypatch.delenv(name, raising=False)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """`code, out, err = run("train.py:step")`, in this process; out and err are all that reaches the two files."""

    def run(*argv: str, name: str = "check") -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.main([name, *argv])
        out, err = capfd.readouterr()
        return code, out, err

    return run


class Engine:
    """Stands in for the check: calls the target, finds what `found` says, and remembers what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, dict[str, Any]]] = []
        self.found: list[str] = []
        self.raises: Exception | None = None
        self.call = False

    def check(self, target: Any, example: Any = None, **options: Any) -> Report:
        self.calls.append((target, options if example is None else {"example": example, **options}))
        if self.raises is not None:
            raise self.raises
        if self.call:
            target()
        findings, ignored = ordered((Fault(name, "Seen.") for name in self.found), options.get("ignore", ()))
        return Report("something", findings, ignored, facts={"kind": "a step"}, seconds=0.25)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    one = Engine()
    module = ModuleType("vicinal.checking.check")
    module.check = one.check  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vicinal.checking.check", module)
    return one


PROGRAM = """\
def train_step(x, y):
    return x

def eval_step(x, y):
    return x

batch = ([1.0], [0])
"""


@pytest.fixture
def program() -> Path:
    path = Path("train.py")
    path.write_text(PROGRAM)
    return path


# -- what is handed on, and exit codes ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("program")
def test_nothing_found(run: Run, engine: Engine):
    assert run("train.py:train_step") == (
        0,
        "train.py:train_step: nothing found (0.2 s)\n\nseen otherwise:\n  kind: a step\n",
        "",
    )
    ((target, options),) = engine.calls
    assert (target.__name__, target.__module__, options) == ("train_step", "train", {})


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize(("found", "code"), [("VIC011", 1), ("VIC012", 1), ("VIC033", 0)])
def test_exit_codes(run: Run, engine: Engine, found: str, code: int):
    engine.found = [found]
    got, out, err = run("train:train_step")
    assert got == code
    assert out.startswith(f"train:train_step: 1 {CODES[found].severity} (0.2 s)\n\n{found} {CODES[found].severity}: ")
    assert err == f"vicinal: `vicinal explain {found}` says more\n"


@pytest.mark.usefixtures("program")
def test_options(run: Run, engine: Engine):
    engine.found = ["VIC011", "VIC012"]
    Path("other.py").write_text("def loader(): ...\n\nclass Mix:\n    def off(self): ...\n")
    words = "train.py --example batch --eval eval_step --off other.py:Mix.off --plain other.py --alpha 0.2 --p .5"
    words += " --smoothing 0.1 --kind step --draws 8 --ignore vic012,VIC031 --ignore VIC11"
    code, _, err = run(*words.split())
    assert (code, err) == (2, "vicinal: there is no code 'VIC11'; did you mean 'VIC011'?\n")
    code, out, err = run(*words.replace("VIC11", "VIC011").split())
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "ignored: VIC011, VIC012"
    ((target, options),) = engine.calls
    other, train = sys.modules["other"], sys.modules["train"]
    assert target is train.train_step
    assert options == {
        "example": ([1.0], [0]),
        "evaluate": train.eval_step,
        "off": other.Mix.off,
        "plain": other.loader,
        "alpha": 0.2,
        "p": 0.5,
        "smoothing": 0.1,
        "kind": "step",
        "draws": 8,
        "ignore": ("VIC012", "VIC031", "VIC011"),
    }


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("train.py:train_stp", "there is no 'train_stp' in train.py; did you mean 'train_step'?"),
        ("train.py --example bach", "there is no 'bach' in train.py; did you mean 'batch'?"),
        ("train.py --example data.py:x", "there is no file 'data.py'; did you mean 'train.py'?"),
        ("train.py --alpha 0", "--alpha must be above 0, got 0"),
        ("train.py --alpha inf", "--alpha must be above 0, got inf"),
        ("train.py --alpha nan", "--alpha must be above 0, got nan"),
        ("train.py --alpha big", "--alpha takes a number, got 'big'"),
        ("train.py --p 1.5", "--p must be from 0 to 1, got 1.5"),
        ("train.py --smoothing 1", "--smoothing must be from 0 to below 1, got 1"),
        ("train.py --draws 0", "--draws must be 1 or more, got 0"),
        ("train.py --draws 1.5", "--draws takes a whole number, got '1.5'"),
        ("train.py --ignore VIC999", "there is no code 'VIC999'; did you mean "),
        ("train.py --json --sarif -", "--json and --sarif - both want stdout: give --sarif a file"),
        ("train.py --sarif .", "--sarif . is a folder: give the name of a file in it"),
        ("train.py --sarif none/x.sarif", "--sarif none/x.sarif: there is no folder 'none'; make it first"),
        ("train.py --write-test -", "--write-test - is a file of Python: let its name end in .py"),
        ("train.py --write-test train.py", "--write-test train.py exists and was not written by this command"),
    ],
)  # fmt: skip
def test_what_is_refused_before_anything_runs(run: Run, engine: Engine, words: str, says: str):
    code, out, err = run(*words.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"vicinal: {says}")
    assert err.count("\n") == 1
    assert engine.calls == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "the following arguments are required: TARGET"),
        ("train.py --kind mixup", "argument --kind: invalid choice: 'mixup'"),
        ("train.py extra", "unrecognized arguments: extra"),
    ],
)
def test_what_argparse_refuses(run: Run, engine: Engine, capfd: pytest.CaptureFixture[str], words: str, says: str):
    with pytest.raises(SystemExit) as end:
        run(*words.split())
    assert end.value.code == 2
    assert f"vicinal check: error: {says}" in capfd.readouterr().err
    assert engine.calls == []


# -- programs that fail, print, end and loiter -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import sys\n\ndef step():\n    sys.exit(4)\n", "train.py:4: SystemExit: 4: it ends the program when it is called"),
        ("def step():\n    return {}['k']\n", "train.py:2: KeyError: 'k'"),
        ("import torch\ndef step():\n    return torch.ones(2) @ torch.ones(3)\n",
         "train.py:3: RuntimeError: inconsistent tensor size, expected tensor [2] and src [3] to have the same number of "
         "elements, but got 2 and 3 elements respectively"),
        ("def step():\n    raise MemoryError\n", "train.py:2: MemoryError"),
        ("import os\ndef step(", "train.py:2: SyntaxError: '(' was never closed"),
    ],
)  # fmt: skip
def test_programs_that_fail(run: Run, engine: Engine, text: str, says: str):
    engine.call = True
    Path("train.py").write_text(text)
    assert run("train.py:step", "--json") == (2, "", f"vicinal: {says}\n")


@pytest.mark.parametrize("text", ["raise KeyboardInterrupt\n", "def step():\n    raise KeyboardInterrupt\n"])
def test_ctrl_c(run: Run, engine: Engine, text: str):
    engine.call = True
    Path("train.py").write_text(text)
    assert run("train.py:step") == (130, "", "vicinal: stopped\n")


def raising(text: str, file: Path) -> Callable[[], None]:
    """Return a function that raises, as if it stood in a file."""
    names: dict[str, Any] = {}
    exec(compile(f"def fail(*args, **options):\n    raise {text}\n", str(file), "exec"), names)
    return names["fail"]


@pytest.mark.usefixtures("program")
def test_errors_of_the_check(run: Run, monkeypatch: pytest.MonkeyPatch):
    module = ModuleType("vicinal.checking.check")
    monkeypatch.setitem(sys.modules, "vicinal.checking.check", module)
    home, installed = Path(vicinal.__file__).parent, Path(pytest.__file__)

    def end(text: str, file: Path) -> tuple[int, str, str]:
        module.check = raising(text, file)  # type: ignore[attr-defined]
        return run("train.py:train_step")

    said = end("TypeError('batch is a tuple of 3: give --example')", home / "checking/batches.py")
    assert said == (2, "", "vicinal: batch is a tuple of 3: give --example\n")
    for text, file in (("KeyError('k')", home / "checking/batches.py"), ("ValueError('k')", installed)):
        code, out, err = end(text, file)
        assert (code, out) == (2, "")  # 1 would be taken for faults of the pipeline
        assert err.startswith("Traceback (most recent call last):")
        name = text.partition("(")[0]
        assert err.splitlines()[-1] == (
            f"vicinal: train.py:train_step could not be checked ({name}, see above); if its own code does not explain "
            "that, it is a fault of this command"
        )


PRINTS = """\
import os, subprocess, sys
print("while imported")
keep = sys.stdout

def step():
    print("when called")
    keep.write("kept\\n")
    sys.__stdout__.write("underneath\\n")
    os.write(1, b"by number\\n")
    subprocess.run(["echo", "by another process"], check=True)
"""


@pytest.mark.parametrize("options", [("--json",), ("--sarif", "-"), ()])
def test_prints_of_the_program_go_to_stderr(run: Run, engine: Engine, options: tuple[str, ...]):
    engine.call, engine.found = True, ["VIC033"]
    Path("train.py").write_text(PRINTS)
    code, out, err = run("train.py:step", *options)
    assert code == 0
    if options:
        value = json.loads(out)
        assert "findings" in value or "runs" in value
    else:
        assert out.startswith("train.py:step: 1 note")
    lines = err.splitlines()
    printed = ["while imported", "when called", "kept", "underneath", "by number", "by another process"]
    assert sorted(lines) == sorted([*printed, *([] if options else ["vicinal: `vicinal explain VIC033` says more"])])
    print("stdout is back")
    assert run("VIC033", name="explain")[1]


def test_a_program_that_changes_the_folder(run: Run, engine: Engine):
    Path("elsewhere").mkdir()
    Path("train.py").write_text("import os\nos.chdir('elsewhere')\n\ndef step(): ...\n")
    code, out, _ = run("train.py:step", "--json", "--sarif", "out.sarif", "--write-test", "test_it.py")
    assert code == 0
    assert (json.loads(out)["file"], json.loads(out)["line"]) == ("train.py", 4)
    assert Path("out.sarif").exists()
    assert Path("test_it.py").exists()


def test_an_import_that_takes_long_is_told_while_it_runs(run: Run, engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(command, "SLOW", 0.05)
    Path("train.py").write_text("import time\ntime.sleep(0.3)\n\ndef step(): ...\n")
    code, _, err = run("train.py:step")
    assert (code, err) == (
        0,
        "vicinal: importing train.py:step has taken 0.05 s so far; if it trains while it is imported, put that under "
        '`if __name__ == "__main__":`\n',
    )
    time.sleep(0.1)
    Path("fast.py").write_text("def step(): ...\n")
    monkeypatch.setattr(command, "SLOW", 5)
    assert run("fast.py:step")[2] == ""


def test_the_program_does_not_see_the_arguments_of_the_command(run: Run, engine: Engine):
    engine.call = True
    Path("train.py").write_text(
        "import argparse\n\ndef step():\n    p = argparse.ArgumentParser()\n    p.add_argument('--lr', default=1)\n"
        "    assert p.parse_args().lr == 1\n"
    )
    assert run("train.py:step", "--alpha", "0.2")[0] == 0


# -- output ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("program")
def test_json(run: Run, engine: Engine):
    engine.found = ["VIC011", "VIC012"]
    code, out, err = run("train.py:eval_step", "--json", "--ignore", "VIC012")
    assert (code, err) == (1, "")
    report = json.loads(out)
    kinds = [(f["code"], f["severity"]) for name in ("findings", "ignored") for f in report.pop(name)]
    assert kinds == [("VIC011", "error"), ("VIC012", "warning")]
    assert report == {
        "target": "train.py:eval_step",
        "file": "train.py",
        "line": 4,
        "passed": False,
        "seconds": 0.25,
        "facts": {"kind": "a step"},
        "skipped": {},
    }


@pytest.mark.usefixtures("program")
def test_sarif(run: Run, engine: Engine):
    engine.found = ["VIC011", "VIC012"]
    code, out, _ = run("train.py:eval_step", "--sarif", "check.sarif", "--ignore", "VIC012", "--json")
    assert (code, json.loads(out)["passed"]) == (1, False)
    log = json.loads(Path("check.sarif").read_text())
    first, second = log["runs"][0]["results"]
    assert first["locations"][0]["physicalLocation"]["region"]["startLine"] == 4
    assert (first["ruleId"], second["suppressions"][0]["kind"]) == ("VIC011", "external")
    code, out, err = run("train.py:eval_step", "--sarif", "-", "--ignore", "VIC012")
    assert (code, json.loads(out), err) == (1, log, "")


@pytest.mark.usefixtures("program")
def test_a_file_that_cannot_be_written(run: Run, engine: Engine):
    Path("shut").mkdir()
    Path("shut").chmod(0o500)
    code, out, err = run("train.py:train_step", "--sarif", "/dev/full/x")
    assert (code, out, err) == (2, "", "vicinal: --sarif /dev/full/x: there is no folder '/dev/full'; make it first\n")
    code, _, err = run("train.py:train_step", "--sarif", "/proc/x")
    assert code == 2
    assert err.startswith("vicinal: --sarif: /proc/")
    assert "cannot be written" in err


WRITTEN = """\
# Written by `vicinal check --write-test`, which replaces this file if this line stays.
from pathlib import Path

from vicinal.testing import check_mixing, load_target

ROOT = Path(__file__).resolve().parent / ".."


def test_train_step_mixes_what_its_labels_say():
    check_mixing(
        load_target("train.py:train_step", ROOT),
        example=load_target("train.py:batch", ROOT),
        evaluate=load_target("my data.py:loader", ROOT),
        kind="step",
        alpha=0.2,
        ignore=[
            "VIC031",
        ],
        expected_failed={{
            "VIC011": "found on {today} by vicinal {version}",
            "VIC012": "found on {today} by vicinal {version}",
        }},
    )
"""


@pytest.mark.usefixtures("program")
def test_the_test_that_is_written_passes_at_once_and_fails_later(
    run: Run, engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    engine.found = ["VIC011", "VIC012", "VIC031", "VIC033"]
    Path("tests").mkdir()
    Path("my data.py").write_text("loader = [1]\n")
    words = ["train.py", "--example", "batch", "--eval", "my data.py:loader", "--alpha", "0.2", "--kind", "step"]
    words += ["--ignore", "VIC031", "--write-test", "tests/test_mixing.py"]
    before = date.today()
    assert run(*words)[0] == 1
    page = Path("tests/test_mixing.py").read_text()
    assert page in {WRITTEN.format(today=d, version=vicinal.__version__) for d in (before, date.today())}
    for width in ("88", "120"):
        ruff = [str(Path(sys.executable).with_name("ruff"))]
        for what in (["format", "--check", "--line-length", width], ["check", "--select", "E,F,I,UP,B,SIM,PT,RUF"]):
            done = subprocess.run(
                [*ruff, *what, "--isolated", "tests/test_mixing.py"], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr

    absolute = Path("tests/test_mixing.py").resolve()
    monkeypatch.chdir(tmp_path)  # the test runs from anywhere
    test = runpy.run_path(str(absolute))["test_train_step_mixes_what_its_labels_say"]
    engine.calls.clear()
    test()
    ((target, options),) = engine.calls
    assert target is sys.modules["train"].train_step
    assert options == {
        "example": ([1.0], [0]), "evaluate": [1], "kind": "step", "alpha": 0.2, "ignore": ["VIC031"],
    }  # fmt: skip
    engine.found = ["VIC011", "VIC012", "VIC020"]
    with pytest.raises(MixingFault, match="VIC020 was found"):
        test()
    engine.found = ["VIC011"]
    with pytest.raises(MixingFault, match="VIC012 is expected to be found"):
        test()


@pytest.mark.usefixtures("program")
def test_a_test_is_written_again_but_never_over_another_file(run: Run, engine: Engine):
    engine.found = ["VIC011"]
    assert run("train.py:train_step", "--write-test", "test_mixing.py")[0] == 1
    assert "VIC011" in Path("test_mixing.py").read_text()
    engine.found = []
    assert run("train.py:train_step", "--write-test", "test_mixing.py")[0] == 0
    page = Path("test_mixing.py").read_text()
    assert page.endswith(
        "ROOT = Path(__file__).resolve().parent\n\n\ndef test_train_step_mixes_what_its_labels_say():\n"
        '    check_mixing(\n        load_target("train.py:train_step", ROOT),\n    )\n'
    )
    Path("test_mixing.py").write_text(page.partition("\n")[2])
    code, _, err = run("train.py:train_step", "--write-test", "test_mixing.py")
    assert code == 2
    assert "exists and was not written by this command" in err


# -- explain -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["VIC011", "vic011", " Vic011 "])
def test_explain(run: Run, name: str):
    assert run(name, name="explain") == (0, CODES["VIC011"].card().rstrip() + "\n", "")


def test_explain_all(run: Run):
    code, out, err = run(name="explain")
    lines = out.splitlines()
    assert (code, err, len(lines)) == (0, "", len(CODES))
    assert lines[0] == "VIC001  error    the shares of input and label disagree"
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("VIC11", "; did you mean 'VIC011'?"),
        ("11", "; did you mean 'VIC011'?"),
        ("VIC-011", "; did you mean 'VIC011'?"),
        ("VIC0111", "; did you mean 'VIC011'?"),
        ("mixup", ": `vicinal explain` lists them"),
        ("", ": `vicinal explain` lists them"),
    ],
)
def test_explain_what_is_no_code(run: Run, name: str, says: str):
    assert run(name, name="explain") == (2, "", f"vicinal: there is no code {name!r}{says}\n")


# -- as a process of its own -------------------------------------------------------------------------------------------

PROCESS = """
import sys
from types import ModuleType
from vicinal.checking.report import Report
module = ModuleType("vicinal.checking.check")
module.check = lambda target, **options: target() or Report("it")
sys.modules["vicinal.checking.check"] = module
from vicinal.lab import cli
sys.exit(cli.main(["check", *sys.argv[1:]]))
"""


def process(*argv: str, shell: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROCESS, *argv]
    if shell:
        command = ["sh", "-c", f"{shlex.join(command)} {shell}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_is_printed_while_python_exits_is_not_in_the_report():
    Path("train.py").write_text("import atexit, os\n\ndef step():\n    atexit.register(print, 'bye')\n"
                                "    atexit.register(os.system, 'echo by number')\n")  # fmt: skip
    done = process("train.py:step", "--json")
    assert (done.returncode, json.loads(done.stdout)["passed"]) == (0, True)
    assert done.stderr.split("\n") == ["by number", "bye", ""]


@pytest.mark.parametrize(("shell", "code"), [(">&-", 0), ("2>&-", 0), ("| head -c 1", 0)])
def test_without_stdout_or_stderr_or_a_reader(shell: str, code: int):
    Path("train.py").write_text("def step():\n    print('from the step')\n")
    done = process("train.py:step", "--json", "--sarif", "x.sarif", shell=shell)
    assert (done.returncode, done.stderr.replace("from the step\n", "")) == (code, "")
    assert json.loads(Path("x.sarif").read_text())["version"] == "2.1.0"


# -- what it needs -----------------------------------------------------------------------------------------------------

ALONE = """
import sys
from pathlib import Path
from types import ModuleType
from vicinal.checking.report import Report
module = ModuleType("vicinal.checking.check")
module.check = lambda target, **options: Report("it")
sys.modules["vicinal.checking.check"] = module
from vicinal.lab import cli
Path("train.py").write_text("def step(): ...\\n")
assert cli.main(["check", "train.py:step", "--sarif", "x.sarif", "--write-test", "test_x.py"]) == 0
names = {name.partition(".")[0] for name in sys.modules}
assert not names & {"polars", "scipy", "sklearn", "matplotlib", "PIL", "rich", "jinja2", "joblib", "safetensors", "pooch"}
print(sorted(names - set(sys.stdlib_module_names) - {"__mp_main__"}))
"""


def test_it_needs_no_package_that_the_program_does_not_import():
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = done.stdout.splitlines()[-1]
    assert "'train', 'vicinal'" in names
    assert "torch" not in names


# -- the page ----------------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[3] / "docs/check/ci.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def fields(title: str) -> list[str]:
    """Return the names in the first column of a table."""
    rows = PAGE.partition(f"| {title} | |\n|---|---|\n")[2].partition("\n\n")[0].splitlines()
    return [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]


def test_the_page_names_every_field():
    report = Report("it", [Fault("VIC011", "Seen.")]).to_dict()
    assert sorted(fields("field")) == sorted(report)
    assert sorted(fields("field of a finding")) == sorted(report["findings"][0])


def test_the_commands_of_the_page_are_understood(engine: Engine, run: Run):
    Path("train.py").write_text("def make_loader(): ...\n")
    Path("tests").mkdir()
    lines = re.findall(r"(?:^ {4}|run: |entry: )vicinal (.+)$", PAGE, re.MULTILINE)
    assert len(lines) == 5
    for line in lines:
        name, *words = line.split()
        assert run(*words, name=name)[0] == 0, line
    assert [options for _, options in engine.calls] == [{"alpha": 0.2}] * 4
    assert Path("mixing.sarif").exists()


def test_the_workflow_and_the_hook_are_yaml():
    workflow, hook = (yaml.safe_load(text) for text in blocks("yaml"))
    assert workflow["permissions"]["security-events"] == "write"
    *_, check, upload = workflow["jobs"]["check"]["steps"]
    assert upload["with"]["sarif_file"] == check["run"].split()[-1]
    ((entry,),) = (repo["hooks"] for repo in hook["repos"])
    assert (entry["language"], entry["pass_filenames"]) == ("system", False)
    assert re.match(entry["files"], "train.py")


@pytest.mark.usefixtures("engine")
def test_the_tests_of_the_page(monkeypatch: pytest.MonkeyPatch, engine: Engine):
    Path("train.py").write_text("def make_loader(): ...\n")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    names: dict[str, Any] = {}
    for text in blocks("python"):
        exec(text, names)
    names["test_the_loader_mixes_what_its_labels_say"]()
    with pytest.raises(MixingFault, match="VIC012 is expected"):
        names["test_with_a_fault_that_is_known"]()
    engine.found = ["VIC012"]
    names["test_with_a_fault_that_is_known"]()
    (mark,) = names["test_mixing"].pytestmark
    assert {"train-VIC020", "train-VIC012"} <= {case.id for case in mark.args[1]}
    del sys.modules["train"]
