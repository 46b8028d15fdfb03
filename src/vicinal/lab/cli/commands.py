"""All commands, their parser, and what any of them may end with."""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence

from vicinal import __version__
from vicinal.lab import memory, terminal
from vicinal.lab.cli import (
    check,
    compare,
    data,
    diagnose,
    explain,
    interpolate,
    interrupts,
    judge,
    predict,
    reproduce,
    train,
)
from vicinal.lab.cli.arguments import Exit, because, note
from vicinal.lab.errors import UserError

COMMANDS = {
    "check": check,
    "explain": explain,
    "compare": compare,
    "predict": predict,
    "diagnose": diagnose,
    "judge": judge,
    "train": train,
    "reproduce": reproduce,
    "interpolate": interpolate,
    "data": data,
}

# what the extra of that name installs, as it is imported
OF_LAB = frozenset(
    ("sklearn", "joblib", "scipy", "polars", "matplotlib", "PIL", "jinja2", "rich", "safetensors", "pooch")
)

# bytes of address space that the libraries of a command take, of PyTorch's CPU build on Linux; the data come on top
_ROOM = {"judge": 450 * 2**20, "check": 700 * 2**20} | dict.fromkeys(
    ("compare", "predict", "diagnose", "train", "reproduce", "interpolate"), 1300 * 2**20
)


def parser() -> ArgumentParser:
    """Return the parser of all commands; the docstring of a command's module is its help."""
    top = ArgumentParser(prog="vicinal", description="mixup, whole: does it help on your data?")
    top.add_argument("--version", action="version", version=f"vicinal {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    for name, module in COMMANDS.items():
        about = (module.__doc__ or "").strip()
        command = commands.add_parser(
            name, help=about.splitlines()[0], description=about, formatter_class=RawDescriptionHelpFormatter
        )
        module.add_arguments(command)
        command.set_defaults(fail=command.error)  # with the usage of this command
    return top


def parse(argv: Sequence[str]) -> Namespace:
    """Read the arguments; FIELD=VALUE may follow an option, which argparse alone calls unrecognized."""
    top = parser()
    args, rest = top.parse_known_args(argv)
    if rest and (args.command != "train" or any(word.startswith("-") for word in rest)):
        getattr(args, "fail", top.error)(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        args.changes += rest
    args.line = shlex.join(["vicinal", *argv])
    return args


def run(argv: Sequence[str] | None) -> int:
    """Run a command, and write out what it printed; see `vicinal.lab.cli.main`."""
    # polars goes on without its library where memory is too short to load it, and fails at its first use
    warnings.filterwarnings("error", message="Polars binary is missing")
    with terminal.streams(for_good=argv is None):
        code: int | None = None
        try:
            code = _run(sys.argv[1:] if argv is None else list(argv))
        except SystemExit:  # of argparse, after it has printed
            if (code := _written()) != 0:
                return code
            raise
        return _written() or code


def _run(argv: Sequence[str]) -> int:
    try:
        interrupts.enter()
        args = parse(argv)
        if args.command is None:
            parser().print_help()
            return 2
        _check_folder()
        memory.check_limit(_ROOM.get(args.command, 0))
        return COMMANDS[args.command].run(args)
    except Exit as error:
        return _fail(str(error), error.code)
    except KeyboardInterrupt as error:
        number = getattr(error, "number", interrupts.SIGINT)
        return _fail(interrupts.told(number), 128 + number)
    except Exception as error:
        if (number := interrupts.heard()) is not None:  # what it broke needs no words
            return _fail(interrupts.told(number), 128 + number)
        if isinstance(error, UserError | terminal.OutputLost):
            return _fail(str(error), 2)
        if memory.is_short(error):
            return _fail(memory.sentence(error), 1)
        if isinstance(error, OSError):
            return _fail(_of_the_system(error), 2)
        if isinstance(error, ModuleNotFoundError) and (name := (error.name or "").partition(".")[0]) in OF_LAB:
            return _fail(f"this command needs {name}, which is not installed: pip install 'vicinal[lab]'", 2)
        raise
    except SystemExit:
        raise
    except BaseException as error:  # of polars, in Rust
        if memory.is_short(error):
            return _fail(memory.sentence(error), 1)
        raise
    finally:
        interrupts.leave()


def _check_folder() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(f"the current folder cannot be used ({because(error)}): change to one that is there") from error


def _of_the_system(error: OSError) -> str:
    """Describe an error of the system that no command has expected."""
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    return f"{names[-1] if names else 'a file or a process'} cannot be used ({because(error)})"


def _written() -> int:
    """Write out what stdout still holds; return the exit code if that fails, and else 0."""
    try:
        sys.stdout.flush()
    except terminal.OutputLost as error:
        return _fail(str(error), 2)
    return 0


def _fail(message: str, code: int) -> int:
    note(f"vicinal: {message}")
    return code
