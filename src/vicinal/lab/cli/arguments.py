"""What several commands share: options made of fields, columns of a table, and an end that says what is kept."""

from __future__ import annotations

import csv
import errno
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace, _ActionsContainer
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from vicinal.lab import atomic, memory
from vicinal.lab.cli import interrupts
from vicinal.lab.errors import UserError
from vicinal.lab.option import read
from vicinal.lab.terminal import OutputLost, printable

if TYPE_CHECKING:
    from vicinal.lab.data.table import Table

RESUME = "rerun the same command to resume"


class Exit(Exception):
    """The end of a command with a sentence and an exit code of its own."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def add_fields(parser: _ActionsContainer, settings: type, **flags: str) -> None:
    """Add the options that set fields of `settings`: type, default and help are the fields'.

    An option that is not given is not in the arguments either, so that its default stands at the field alone.

    Args:
        parser: of the command.
        settings: a dataclass with fields made by `vicinal.lab.option.option`.
        flags: for each field its option, as `alphas="--alpha"`.

    """
    hints = get_type_hints(settings)
    for field in fields(settings):
        if field.name not in flags:
            continue
        flag, kind, about = flags[field.name], hints[field.name], field.metadata["help"]
        more: dict[str, Any] = {"dest": field.name, "default": SUPPRESS, "help": about}
        if kind is bool:
            parser.add_argument(flag, action="store_true", **more)
        elif kind == tuple[str, ...]:
            more["help"] = f"{about}; repeatable"
            parser.add_argument(flag, action="append", metavar=field.metadata["metavar"], **more)
        else:
            more["help"] = about if field.default is None else f"{about} (default: {_shown(field.default)})"
            parser.add_argument(flag, type=partial(read, flag, kind=kind), metavar=field.metadata["metavar"], **more)


def _shown(default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(map(_shown, default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def given(args: Namespace, settings: type) -> dict[str, Any]:
    """Return the fields of `settings` that the command line sets."""
    values = {field.name: getattr(args, field.name) for field in fields(settings) if hasattr(args, field.name)}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def add_table(parser: ArgumentParser) -> None:
    """Add what says how a table is read."""
    parser.add_argument("--target", metavar="COLUMN", help="the column to predict; needed for a file")
    parser.add_argument(
        "--task", choices=("classification", "regression"), help="where the column alone would be read differently"
    )
    parser.add_argument(
        "--drop", metavar="COLUMN[,COLUMN]", action="append", default=[], help="columns to leave out; repeatable"
    )
    parser.add_argument("--group", metavar="COLUMN", help="rows of one value belong together; no input")
    parser.add_argument("--time", metavar="COLUMN", help="numbers or dates that order the rows; no input")
    parser.add_argument("--test", metavar="FILE", help="another file with the same columns: its rows are for testing")
    files = parser.add_argument_group("how a table's file is read")
    for name, (metavar, about) in _LISTS.items():
        files.add_argument(f"--{name}", metavar=f"{metavar}[,{metavar}]", action="append", default=[], help=about)
    files.add_argument("--dates", choices=("dmy", "mdy"), help="order of dates such as 03/04/2020, for --parse")
    add_text_file(files)
    files.add_argument("--no-header", action="store_true", help="the first line is a row: names are 'column 1', ...")
    files.add_argument("--drop-missing-target", action="store_true", help="leave out rows without a target")
    files.add_argument(
        "--min-class",
        metavar="N",
        type=partial(read, "--min-class", kind=int),
        default=0,
        help="leave out classes of fewer rows",
    )


def add_text_file(parser: _ActionsContainer) -> None:
    """Add how a table's file is written."""
    parser.add_argument("--decimal", choices=(".", ","), help="mark in numbers (default: a point; with ; either)")
    parser.add_argument("--separator", metavar="CHARACTER", help="between cells: one character, or tab or space")
    parser.add_argument("--encoding", metavar="NAME", help="of a text file, such as cp1252 (default: UTF-8)")
    parser.add_argument("--sheet", metavar="NAME", help="of an Excel workbook that has several")


def text_file(args: Namespace) -> dict[str, Any]:
    """Return the fields of `ReadOptions` that the arguments of `add_text_file` give.

    Raises:
        UserError: the separator is more than one character.

    """
    separator = {"tab": "\t", "\\t": "\t", "space": " "}.get(args.separator, args.separator)
    if separator is not None and (len(separator) != 1 or separator in '"\r\n'):
        raise UserError(f"--separator is one character, or tab or space, got {args.separator!r}")
    return {"decimal": args.decimal, "separator": separator, "encoding": args.encoding, "sheet": args.sheet}


_LISTS = {
    "missing": ("WORD", "further words that stand for a missing cell; repeatable"),
    "categorical": ("COLUMN", "columns to read as categories, whatever they spell; repeatable"),
    "numeric": ("COLUMN", "columns to read as numbers where a file stores text (Parquet, ARFF); repeatable"),
    "parse": ("COLUMN", "columns of percents, money, thousands, units or dates to read as numbers; repeatable"),
}
_TABLE_FLAGS = ("target", "task", "drop", *_LISTS, "dates", "decimal", "separator", "encoding", "sheet", "no_header")
_TABLE_FLAGS = (*_TABLE_FLAGS, "drop_missing_target", "min_class", "group", "time", "test")


def load_table(args: Namespace) -> Table:
    """Read the table that the arguments of `add_table` describe."""
    from vicinal.lab.data import tables
    from vicinal.lab.data.read_options import ReadOptions

    if args.min_class < 0:
        raise UserError(f"--min-class must be 0 or more, got {args.min_class}")
    reading = ReadOptions(
        **{name: _words(getattr(args, name)) for name in _LISTS},
        dates=args.dates,
        header=not args.no_header,
        **text_file(args),
    )
    return tables.load(
        args.data,
        target=args.target,
        task=args.task,
        drop=args.drop,
        reading=reading,
        drop_missing_target=args.drop_missing_target,
        min_class=args.min_class,
        group=args.group,
        time=args.time,
        test=args.test,
    )


def note_columns(table: Table) -> None:
    """Print on stderr how the columns of a file were read, and what was noted."""
    from vicinal.lab.data.column_reading import lines

    for line in (*lines(table.columns), *table.notes):
        note(f"vicinal: {line}")


def refuse_table_options(args: Namespace, what: str) -> None:
    """Refuse the options of `add_table` where no table is read."""
    if wrong := [name for name in _TABLE_FLAGS if getattr(args, name)]:
        raise UserError(f"--{wrong[0].replace('_', '-')} is for tables; {what}")


def _words(given: Sequence[str]) -> tuple[str, ...]:
    """Return the words of comma lists; one in double quotes may hold a comma."""
    return tuple(word.strip() for text in given for word in next(csv.reader([text]), []))


def add_jobs(parser: ArgumentParser, default: str) -> None:
    """Add where jobs run: the number of processes, or a cluster."""
    parser.add_argument("--jobs", metavar="N", type=_jobs, help=f"processes (default: {default})")
    add_cluster(parser, "instead of processes")


def add_cluster(parser: ArgumentParser, what: str) -> None:
    """Add the cluster that submitit's scheduler hands jobs to."""
    about = f"{what}: local, or slurm:slurm_partition=gpu,timeout_min=600,... (submitit's parameters)"
    parser.add_argument("--cluster", metavar="NAME[:KEY=VALUE,...]", help=about)


def check_jobs(args: Namespace) -> None:
    """Refuse processes and a cluster at once, and a cluster that cannot be used."""
    if args.cluster is None:
        return
    if args.jobs is not None:
        raise UserError("--jobs counts processes of this command, and --cluster runs jobs elsewhere; give one of them")
    from vicinal.lab import executor

    interrupts.begin()
    executor.check_cluster(args.cluster)


def note_cluster(cluster: str, folder: Path) -> None:
    """Print whose jobs are waited for."""
    name = cluster.partition(":")[0]
    note(f"vicinal: what is missing runs as jobs of submitit ({name}); logs in {folder / 'jobs'}; Ctrl-C cancels them")


def _jobs(text: str) -> int:
    jobs = read("--jobs", text, int)
    if jobs < 1:
        raise UserError(f"--jobs must be 1 or more, got {jobs}")
    return jobs


def note(line: str) -> None:
    """Print a line about the work on stderr."""
    print(printable(line), file=sys.stderr, flush=True)


def because(error: OSError) -> str:
    """Return the reason that the system gives for an error."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "the disk is full" if full else (error.strerror or str(error)).lower()


def unwritten(error: OSError, folder: Path) -> str:
    """Describe what cannot be written, the file that was to be replaced or else the folder, and why."""
    return f"{error.filename2 or folder} cannot be written ({because(error)})"


@contextmanager
def resumable(folder: Path, kept: Callable[[], str], cluster: str | None = None) -> Iterator[None]:
    """End with a sentence about what is kept: when a signal stops it, a worker dies, memory is short or the disk fails.

    Raises:
        Exit: one of these happened.

    """
    from vicinal.lab.executor import JobFailed, WorkerDied

    def end(says: str, code: int, more: str = "") -> Exit:
        return Exit(f"{says}; {_of_kept(kept)}; {RESUME}{more}", code)

    interrupts.begin()
    try:
        yield
    except KeyboardInterrupt as error:
        number = getattr(error, "number", interrupts.SIGINT)
        raise end(f"{interrupts.told(number)}{', jobs canceled' if cluster else ''}", 128 + number) from error
    except (Exit, UserError, OutputLost):
        raise
    except Exception as error:
        if (number := interrupts.heard()) is not None:  # what it broke needs no words
            raise end(interrupts.told(number), 128 + number) from error
        if isinstance(error, JobFailed):
            raise end(str(error), 1) from error
        if isinstance(error, WorkerDied):
            figures = memory.figures(error.__cause__)
            raise end(f"{error} ({figures})", 1, ", with fewer --jobs to need less memory") from error
        if memory.is_short(error):
            raise end(memory.sentence(error), 1) from error
        if isinstance(error, OSError):
            raise end(unwritten(error, folder), 2) from error
        raise


def _of_kept(kept: Callable[[], str]) -> str:
    """Return what is kept, read from a folder that may be gone by now."""
    try:
        return kept()
    except OSError as error:
        return f"what is kept cannot be read ({because(error)})"


@contextmanager
def claimed(path: Path, flag: str = "--out") -> Iterator[None]:
    """Keep other commands from writing the same file, or into the same folder, while the `with` lasts.

    A lock beside the file, or in the folder, says so; the system frees it when the process ends, however it ends.

    Raises:
        UserError: another command has it, or nothing can be written there.

    """
    interrupts.begin()
    lock = path / ".lock" if path.is_dir() else path.with_name(f".{path.name}.lock")
    with ExitStack() as stack:
        try:
            mine = stack.enter_context(atomic.locked(lock))
        except OSError as error:
            raise UserError(f"{flag} {path} cannot be written ({because(error)}); choose another {flag}") from error
        if not mine:
            raise UserError(f"another command writes {path} now: wait for it, or choose another {flag}")
        try:
            yield
        finally:
            with suppress(OSError):  # it is held, and not in the way
                lock.unlink()


@contextmanager
def counting(doing: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show on a terminal how much is done: yields a function of what is done and, if known, of how much there is."""
    from vicinal.lab.console import Console, TerminalProgress

    interrupts.begin()  # a terminal's cursor is hidden meanwhile
    with TerminalProgress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
