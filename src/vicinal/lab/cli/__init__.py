"""The command line: one module per command, with its arguments beside their use; each imports what it needs when it runs."""

from __future__ import annotations

import io
import os
import shlex
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence

from vicinal import __version__
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
from vicinal.lab.cli.arguments import Exit
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit code: 0; 1 if a worker process died or a check found faults; 2 for a problem with what was given or with
        the disk; 130 after Ctrl-C, of which the first counts.

    """
    argv = sys.argv[1:] if argv is None else list(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that this terminal cannot show
    with interrupts.once():
        return _run(argv)


def _run(argv: Sequence[str]) -> int:
    try:
        args = parse(argv)
        if args.command is None:
            parser().print_help()
            return 2
        return COMMANDS[args.command].run(args)
    except UserError as error:
        return _fail(str(error), 2)
    except Exit as error:
        return _fail(str(error), error.code)
    except KeyboardInterrupt:
        return _fail("stopped", 130)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        return _fail("there is not enough memory for these data; give fewer rows or columns, or a smaller --size", 1)


def _fail(message: str, code: int) -> int:
    print(f"vicinal: {message}", file=sys.stderr)
    return code
