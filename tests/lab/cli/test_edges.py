"""The command where the system says no; torture/edges.py has it all, at length."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vicinal.lab import cli
from vicinal.lab.cli import arguments, interrupts
from vicinal.lab.cli.arguments import Exit, resumable
from vicinal.lab.errors import UserError
from vicinal.lab.executor import WorkerDied

COMMAND = [str(Path(sys.executable).with_name("vicinal"))]
SCORES = "method,seed,score\n" + "".join(f"{m},{s},{s + i}\n" for i, m in enumerate(("ERM", "mix")) for s in range(4))
EVIL = "\x1b[2J\x9b31m\u202e"
SHOWN = "\\x1b[2J\\x9b31m\\u202e"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.csv").write_text(SCORES)


@pytest.fixture
def vicinal(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(argv)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def finished(*argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run([*COMMAND, *argv], text=True, timeout=60, **options)


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [
        ("compare", f"{EVIL}.csv"),
        ("predict", EVIL, "s.csv"),
        ("judge", f"{EVIL}.csv"),
        ("explain", EVIL),
        ("train", EVIL),
        ("reproduce", EVIL),
        ("check", f"{EVIL}.py"),
        ("interpolate", EVIL, EVIL),
    ],
)
def test_a_name_of_control_characters_is_shown_escaped(
    vicinal: Callable[..., tuple[int, str, str]], argv: tuple[str, ...]
) -> None:
    code, out, err = vicinal(*argv)
    assert (code, out) == (2, "")
    assert err.isprintable() or set(err) - {"\n"} == {c for c in err if c.isprintable()}
    assert re.search(r"\\(x1b|x1B)\[2J", err)


def test_argparse_shows_it_escaped_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["compare", "x", f"--{EVIL}"])
    assert f"unrecognized arguments: --{SHOWN}\n" in capsys.readouterr().err


def test_results_on_stdout_are_escaped(vicinal: Callable[..., tuple[int, str, str]]) -> None:
    Path("s.csv").write_text(SCORES.replace("mix", f"mix{EVIL}"), encoding="utf-8")
    code, out, _ = vicinal("judge", "s.csv", "--independent")
    assert code == 0
    assert f"mix{SHOWN}" in out
    assert "\x1b" not in out


def test_a_terminal_gets_no_sequence_of_a_name() -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen([*COMMAND, "explain", EVIL], stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    assert process.wait(60) == 2
    said = os.read(master, 65536).decode()
    os.close(master)
    assert "\\x1b[2J" in said
    assert "\x1b" not in said


# -- streams -----------------------------------------------------------------------------------------------------------


def test_a_reader_that_leaves_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    end = finished("explain", stdout=writer)
    os.close(writer)
    assert (end.returncode, end.stderr) == (0, "")


def test_a_full_disk_behind_stdout_is_a_sentence() -> None:
    with open("/dev/full", "w") as full:
        end = finished("explain", stdout=full)
        assert (end.returncode, end.stderr) == (
            2,
            "vicinal: the output cannot be written to stdout (no space left on device)\n",
        )
        assert finished("explain", "none", stderr=full).returncode == 2


@pytest.mark.parametrize(("closed", "code"), [(0, 0), (1, 2), (2, 0)])
def test_a_stream_that_is_closed(closed: int, code: int) -> None:
    end = finished("explain", preexec_fn=lambda: os.close(closed))
    assert end.returncode == code
    assert ("VIC001" in end.stdout) == (closed != 1)
    assert end.stderr == ("vicinal: the output cannot be written to stdout (bad file descriptor)\n" * (closed == 1))


def test_a_current_folder_that_is_gone(tmp_path: Path) -> None:
    (folder := tmp_path / "gone").mkdir()
    end = finished("data", "list", cwd=folder, preexec_fn=lambda: os.rmdir(folder))
    assert end.returncode == 2
    assert end.stderr == (
        "vicinal: the current folder cannot be used (no such file or directory): change to one that is there\n"
    )


# -- signals -----------------------------------------------------------------------------------------------------------

# as the installed command is, but its reader says when its first line runs
HEARD = (
    "import signal; signal.signal({0}, {0} == 2 and signal.default_int_handler or signal.SIG_DFL); "  # despite nohup
)
STARTED = "import os, sys; from vicinal.lab.cli import interrupts, main; h = interrupts.Interrupts.__enter__\n"
STARTED += "interrupts.Interrupts.__enter__ = lambda self: (h(self), os.write(2, b'+'))[0]; sys.exit(main())"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_at_any_moment_of_the_imports(number: signal.Signals) -> None:
    for delay in (0.0, 0.02, 0.1, 0.3, 0.6):
        process = subprocess.Popen(
            [sys.executable, "-c", HEARD.format(int(number)) + STARTED, "judge", "s.csv", "--independent"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stderr is not None
        assert process.stderr.read(1) == b"+"
        time.sleep(delay)
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=60)
        by = "" if number == signal.SIGINT else f" by {number.name}"
        ends = (128 + number, f"vicinal: stopped{by}\n"), (0, "")
        assert (process.returncode, err.decode()) in ends


# a signal that comes when a module is looked for
WHILE_IMPORTING = """
import os, sys
class Finder:
    def find_spec(self, name, *_):
        if name == {module!r} and self in sys.meta_path:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Finder())
from vicinal.lab.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("module", ["vicinal.lab.cli.commands", "argparse", "polars", "numpy"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_while_a_module_is_imported(number: signal.Signals, module: str) -> None:
    code = HEARD.format(int(number)) + WHILE_IMPORTING.format(module=module, number=int(number))
    end = subprocess.run(
        [sys.executable, "-c", code, "judge", "s.csv", "--independent"], capture_output=True, text=True, timeout=300
    )
    by = "" if number == signal.SIGINT else f" by {number.name}"
    assert (end.returncode, end.stdout, end.stderr) == (128 + number, "", f"vicinal: stopped{by}\n")


def test_nothing_that_takes_long_is_imported_before_signals_are_heard() -> None:
    code = (
        "import os, sys; before = set(sys.modules); import vicinal.lab.cli; print(*sorted(set(sys.modules) - before))"
    )
    run = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, env={"PYTHONPATH": _path()}
    )
    assert set(run.stdout.split()) <= {
        *("__future__", "_thread", "_signal", "atexit", "time"),
        *("vicinal", "vicinal.lab", "vicinal.lab.cli", "vicinal.lab.cli.interrupts"),
    }


def _path() -> str:
    return str(Path(cli.__file__).parents[3])


def test_a_signal_within_an_import_is_delivered_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    again = []
    monkeypatch.setattr(interrupts._thread, "interrupt_main", again.append)
    monkeypatch.setattr(interrupts, "_importing", lambda frame: True)
    heard = interrupts.Interrupts(program=True)
    heard.entered = heard.begun = True
    heard(signal.SIGINT, None)
    while not again:
        time.sleep(0.01)
    monkeypatch.setattr(interrupts, "_importing", lambda frame: False)
    with pytest.raises(KeyboardInterrupt):
        heard(signal.SIGINT, None)
    assert again == [signal.SIGINT]


def test_what_a_signal_broke_is_told_as_the_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "heard", lambda: signal.SIGTERM)
    for broken in (ImportError("numpy"), WorkerDied("a worker"), OSError(5, "Input/output error")):
        with (
            pytest.raises(Exit, match=r"^stopped by SIGTERM; 3 runs are kept; rerun") as end,
            resumable(Path("run"), lambda: "3 runs are kept"),
        ):
            raise broken
        assert end.value.code == 143


# -- files and locks ---------------------------------------------------------------------------------------------------


def test_a_second_command_on_one_file_refuses_and_a_dead_one_does_not_matter(
    vicinal: Callable[..., tuple[int, str, str]],
) -> None:
    argv = ("judge", "s.csv", "--independent", "--out", "j.json")
    with open(".j.json.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert vicinal(*argv) == (
            *(2, ""),
            "vicinal: another command writes j.json now: wait for it, or choose another --out\n",
        )
    assert vicinal(*argv)[0] == 0  # the lock file of a command that was killed is there, and nobody holds it
    assert sorted(os.listdir()) == ["j.json", "s.csv"]


def test_a_lock_for_a_folder_is_in_it() -> None:
    Path("out").mkdir()
    refused = pytest.raises(UserError, match="another command writes out now")
    with arguments.claimed(Path("out")), refused, arguments.claimed(Path("out")):
        pass
    assert os.listdir("out") == []


@pytest.mark.parametrize("kind", ["device", "loop", "pipe", "dangling"])
def test_what_is_no_file_is_not_replaced(vicinal: Callable[..., tuple[int, str, str]], kind: str) -> None:
    out = Path("j.json")
    if kind == "pipe":
        os.mkfifo(out)
    else:
        out.symlink_to({"device": "/dev/null", "loop": "j.json", "dangling": "nowhere/j.json"}[kind])
    code, _, err = vicinal("judge", "s.csv", "--independent", "--out", "j.json")
    assert code == 2
    assert re.fullmatch(r"vicinal: j\.json cannot be written \(.+\); choose another --out\n", err)
    assert sorted(os.listdir()) == ["j.json", "s.csv"]
    assert out.is_symlink() or out.is_fifo()
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (OSError(13, "Permission denied", "secret\x1b"), 2, r"secret\\x1b cannot be used \(permission denied\)"),
        (
            RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes. Error code 12"
            ),
            *(1, r"there is not enough memory \(8\.0 GiB were asked for at once, .*; give less at once: .*"),
        ),
        (ImportError("x.so: failed to map segment from shared object"), 1, "there is not enough memory .*"),
    ],
    ids=["system", "memory", "library"],
)
def test_an_error_of_the_system_is_one_sentence(
    vicinal: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: int,
    says: str,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    for command, argv in (
        ("judge", ("s.csv",)),
        ("compare", ("iris",)),
        ("predict", ("m", "s.csv")),
        ("diagnose", ("iris",)),
        ("train", ("x",)),
        ("reproduce", ("x",)),
        ("interpolate", ("a", "b")),
    ):
        monkeypatch.setattr(f"vicinal.lab.cli.{command}.run", fail)
        ended, out, err = vicinal(command, *argv)
        assert (ended, out) == (code, "")
        assert re.fullmatch(rf"vicinal: {says}\n", err)


def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("vicinal.lab.cli.explain.run", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["explain"])


# -- one process of several --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("several", [False, True])
def test_one_process_of_several_does_not_take_python_apart(several: bool):
    """PyTorch's threads would abort the process, now and then, while Python takes itself apart."""
    program = (
        "import atexit, os, sys; from vicinal.lab import cli; from vicinal.lab.training import distributed\n"
        "class Late:\n    def __del__(self, write=os.write): write(1, b'taken apart\\n')\n"
        f"late = Late(); distributed.has_joined = {several}; atexit.register(print, 'exit functions')\n"
        "sys.argv = ['vicinal', 'train', 'no-such-recipe']; sys.exit(cli.main())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("vicinal: there is no recipe 'no-such-recipe'")
    assert done.stdout.splitlines() == ["exit functions"] + ["taken apart"] * (not several)
