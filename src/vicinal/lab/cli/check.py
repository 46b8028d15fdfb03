"""does a pipeline mix what its labels say?

Check a training pipeline that mixes examples (mixup, CutMix and their like), of any library or none: a loader, a collate
function, a transform, a training step, a loss, a Lightning module, a Trainer, or a function that returns one of these. Rows
that say who they are go in, and the share that each has in the mixed input and in the label is read off what comes out.
Nothing is trained and no file is changed.

TARGET is FILE.py:NAME or package.module:NAME; NAME may have dots (Class.method). A file alone will do where one name in it
is obvious, such as make_loader or train_step. The program is imported, not run as a script.

Exit code: 0 if nothing but notes was found, 1 for errors or warnings, 2 if it cannot be checked.

Examples:
  vicinal check train.py:make_loader
  vicinal check train.py:train_step --example train_loader --alpha 0.2
  vicinal check my_package.data:collate --ignore VIC012 --json
  vicinal check train.py --sarif check.sarif --write-test tests/test_mixing.py
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vicinal import __version__
from vicinal.lab.cli import interrupts
from vicinal.lab.cli.arguments import Exit, note, unwritten
from vicinal.lab.cli.explain import find
from vicinal.lab.errors import UserError
from vicinal.lab.option import read
from vicinal.lab.terminal import json_printable, plain, write_data

if TYPE_CHECKING:
    from vicinal.checking.importing import NamedTarget
    from vicinal.checking.report import Report

KINDS = ("transform", "collate", "loader", "step", "loss", "lightning", "trainer", "keras", "factory")
SLOW = 10.0  # seconds of an import after which a note says that it runs
# the first line of a test that --write-test wrote, which alone lets it replace the file
HEADER = "# Written by `vicinal check --write-test`, which replaces this file if this line stays."

_OBJECTS = ("example", "evaluate", "off", "plain")
_VALUES = ("kind", "alpha", "p", "smoothing", "draws")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    number = partial(partial, read, kind=float)
    parser.add_argument("target", metavar="TARGET", help="FILE.py:NAME or package.module:NAME")
    objects = parser.add_argument_group("objects of the program", "each is a NAME in TARGET's file, or FILE.py:NAME")
    objects.add_argument("--example", metavar="NAME", help="a batch, or a loader, for shapes, dtypes and classes")
    objects.add_argument("--eval", dest="evaluate", metavar="NAME", help="evaluation loader or step: must not mix")
    objects.add_argument("--off", metavar="NAME", help="a function that switches mixing off")
    objects.add_argument("--plain", metavar="NAME", help="of the datasets that TARGET's holds, the one before mixing")
    declared = parser.add_argument_group("what is declared")
    declared.add_argument("--alpha", metavar="A", type=number("--alpha"), help="lambda is drawn from Beta(A, A)")
    declared.add_argument("--p", metavar="P", type=number("--p"), help="probability that a batch is mixed")
    declared.add_argument("--smoothing", metavar="S", type=number("--smoothing"), help="label smoothing that is meant")
    declared.add_argument("--kind", choices=KINDS, help="what TARGET is, where it is taken for something else")
    declared.add_argument("--ignore", metavar="CODE[,CODE]", action="append", default=[], help="codes; repeatable")
    declared.add_argument(
        "--draws", metavar="N", type=partial(read, "--draws", kind=int), help="batches to draw; more find less"
    )
    out = parser.add_argument_group("output")
    out.add_argument("--json", action="store_true", help="print the report as JSON, and nothing else, on stdout")
    out.add_argument("--sarif", metavar="FILE", help="write the report as SARIF 2.1.0; - for stdout alone")
    out.add_argument("--write-test", metavar="FILE", help="write a pytest file that makes the same check")


def run(args: Namespace) -> int:
    """Check and print."""
    ignore = tuple(find(word) for text in args.ignore for word in text.split(",") if word.strip())
    _check_numbers(args)
    _check_outputs(args)
    interrupts.begin()  # the program may write files while it is imported
    with _apart():
        target, options = _load(args)
        report = _report(target, {**options, "ignore": ignore} if ignore else options)
    if args.json or args.sarif == "-":
        atexit.register(_hand_over)  # it runs before what the program has registered
    report.target, (report.file, report.line) = target.spelled, target.place()
    _print(report, args)
    if args.write_test is not None:
        _write(Path(args.write_test), _test(target, args, ignore, report), "--write-test")
    return 0 if report.passed else 1


def _check_numbers(args: Namespace) -> None:
    ranges = {
        "alpha": (lambda v: 0 < v < float("inf"), "above 0"),
        "p": (lambda v: 0 <= v <= 1, "from 0 to 1"),
        "smoothing": (lambda v: 0 <= v < 1, "from 0 to below 1"),
        "draws": (lambda v: v >= 1, "1 or more"),
    }
    for name, (holds, words) in ranges.items():
        value = getattr(args, name)
        if value is not None and not holds(value):
            raise UserError(f"--{name} must be {words}, got {value:g}")


def _check_outputs(args: Namespace) -> None:
    """Refuse what could not be written, before anything runs."""
    if args.json and args.sarif == "-":
        raise UserError("--json and --sarif - both want stdout: give --sarif a file")
    for flag, name in (("--sarif", args.sarif), ("--write-test", args.write_test)):
        if name is None or (name == "-" and flag == "--sarif"):
            continue
        path = Path(name)
        if not name.strip() or path.is_dir():
            raise UserError(f"{flag} {name} is a folder: give the name of a file in it" if name.strip() else _no(flag))
        if not path.parent.is_dir():
            raise UserError(f"{flag} {name}: there is no folder {str(path.parent)!r}; make it first")
    if args.write_test is None:
        return
    path = Path(args.write_test)
    if path.suffix != ".py":
        raise UserError(f"--write-test {path} is a file of Python: let its name end in .py")
    if path.exists() and not path.read_bytes().startswith(HEADER.encode()):
        raise UserError(f"--write-test {path} exists and was not written by this command: choose another name")


def _no(flag: str) -> str:
    return f"{flag} names no file: give a name, or leave it out"


# -- the user's program ------------------------------------------------------------------------------------------------


@contextmanager
def _apart() -> Iterator[None]:
    """Send what the program and its worker processes print to stderr, and undo a change of the current folder.

    So stdout has the report alone, and files are written where they were asked for.
    """
    folder = os.getcwd()
    _flush()
    kept = None
    if sys.__stdout__ is not None:  # in a process without stdout, 1 is another file
        with suppress(OSError):
            kept = os.dup(1)
            os.dup2(2, 1)
    try:
        # the program's own output is its own affair, and may be meant for a terminal
        with redirect_stdout(plain(sys.stderr)), redirect_stderr(plain(sys.stderr)):
            yield
    finally:
        os.chdir(folder)
        _flush()
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)


def _hand_over() -> None:
    """Send to stderr what the program prints while Python exits."""
    _flush()
    sys.stdout = sys.stderr = plain(sys.stderr)
    with suppress(OSError):
        os.dup2(2, 1)


def _flush() -> None:
    for stream in (sys.stdout, sys.__stdout__, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def _load(args: Namespace) -> tuple[NamedTarget, dict[str, Any]]:
    """Return the target and the options of the check."""
    from vicinal.checking import importing

    timer = threading.Timer(SLOW, note, [_slow(args.target)])
    timer.daemon = True
    timer.start()
    try:
        target = importing.load(args.target)
        objects = {
            name: importing.load_beside(getattr(args, name), target).value
            for name in _OBJECTS
            if getattr(args, name) is not None
        }
    except importing.TargetError as error:
        raise UserError(str(error)) from error
    finally:
        timer.cancel()
    values = {name: getattr(args, name) for name in _VALUES if getattr(args, name) is not None}
    return target, objects | values


def _slow(target: str) -> str:
    return (
        f"vicinal: importing {target} has taken {SLOW:g} s so far; if it trains while it is imported, put that under "
        '`if __name__ == "__main__":`'
    )


def _report(target: NamedTarget, options: dict[str, Any]) -> Report:
    """Check, and turn what the program raises into a sentence that names its line.

    Raises:
        UserError: the program fails, or what was given cannot be checked.
        Exit: something else fails.

    """
    from vicinal.checking import importing
    from vicinal.checking.check import check

    file = getattr(target.module, "__file__", None) or target.spelled
    try:
        with importing.as_program(Path(file)):
            return check(target.value, **options)
    except SystemExit as error:
        raise UserError(f"{importing.told(error, target.spelled)}: it ends the program when it is called") from error
    except Exception as error:
        if isinstance(error, ValueError | TypeError) and importing.comes_from_the_check(error):  # of what it was given
            raise UserError(str(error)) from error
        if importing.comes_from_user(error):
            raise UserError(importing.told(error, target.spelled)) from error
        traceback.print_exc()
        told = f"{target.spelled} could not be checked ({type(error).__name__}, see above)"
        raise Exit(f"{told}; if its own code does not explain that, it is a fault of this command", 2) from error


# -- output ------------------------------------------------------------------------------------------------------------


def _print(report: Report, args: Namespace) -> None:
    if args.sarif is not None:
        from vicinal.checking.sarif import to_sarif

        text = json.dumps(to_sarif(report), indent=1, ensure_ascii=False)
        if args.sarif == "-":
            write_data(text + "\n", json_printable)
            return
        _write(Path(args.sarif), text + "\n", "--sarif")
    if args.json:
        write_data(report.to_json() + "\n", json_printable)
    else:
        print(report)
    if report.findings and not args.json:
        note(f"vicinal: `vicinal explain {report.findings[0].code}` says more")


def _write(path: Path, text: str, flag: str) -> None:
    from vicinal.lab import atomic

    try:
        atomic.write(path, text, through_links=True)
    except OSError as error:
        raise UserError(f"{flag}: {unwritten(error, path)}") from error


def _test(target: NamedTarget, args: Namespace, ignore: tuple[str, ...], report: Report) -> str:
    """Return a test that makes the same check, formatted as ruff would; it passes with what is found now."""
    from vicinal.checking.codes import CODES

    folder = Path.cwd().resolve()
    try:
        to_it = os.path.relpath(folder, Path(args.write_test).resolve().parent).replace(os.sep, "/")
    except ValueError:  # on another drive
        to_it = folder.as_posix()
    root = "Path(__file__).resolve().parent" + ("" if to_it == "." else f" / {_string(to_it)}")
    given = [f"        load_target({_string(target.spelled)}, ROOT),"]
    for name in _OBJECTS:
        if getattr(args, name) is not None:
            given.append(f"        {name}=load_target({_string(_beside(getattr(args, name), target))}, ROOT),")
    for name in _VALUES:
        if (value := getattr(args, name)) is not None:
            given.append(f"        {name}={_string(value) if isinstance(value, str) else repr(value)},")
    if ignore:
        given += ["        ignore=[", *(f"            {_string(name)}," for name in ignore), "        ],"]
    found = [name for name in report.codes if CODES[name].severity != "note"]
    if found:
        reason = _string(f"found on {date.today().isoformat()} by vicinal {__version__}")
        given += ["        expected_failed={", *(f"            {_string(n)}: {reason}," for n in found), "        },"]
    name = "".join(char if char.isascii() and char.isalnum() else "_" for char in target.name.lower())
    lines = [
        HEADER,
        "from pathlib import Path",
        "",
        "from vicinal.testing import check_mixing, load_target",
        "",
        f"ROOT = {root}",
        "",
        "",
        f"def test_{name}_mixes_what_its_labels_say():",
        "    check_mixing(",
        *given,
        "    )",
    ]
    return "\n".join(lines) + "\n"


def _beside(text: str, target: NamedTarget) -> str:
    """Return a name with the file or module that it stands in."""
    alone = ":" not in text and not text.endswith(".py")
    return f"{target.spelled.removesuffix(f':{target.name}')}:{text}" if alone else text


def _string(text: str) -> str:
    """Return a string as source, in the quotes that formatters choose."""
    return json.dumps(text, ensure_ascii=False) if '"' not in text else repr(text)
