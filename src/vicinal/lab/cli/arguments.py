"""What several commands share: options made of fields, columns of a table, and an end that says what is kept."""

from __future__ import annotations

import errno
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace, _ActionsContainer
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

from vicinal.lab.errors import UserError
from vicinal.lab.option import read

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
        "--drop", metavar="COLUMN", action="append", default=[], help="a column to leave out; repeatable"
    )


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
    print(line, file=sys.stderr, flush=True)


def unwritten(error: OSError, folder: Path) -> str:
    """Describe what cannot be written, the file that was to be replaced or else the folder, and why."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = "the disk is full" if full else (error.strerror or str(error)).lower()
    return f"{error.filename2 or folder} cannot be written ({reason})"


@contextmanager
def resumable(folder: Path, kept: Callable[[], str], cluster: str | None = None) -> Iterator[None]:
    """End with a sentence about what is kept: at Ctrl-C, when a worker dies, or when the disk fails.

    Raises:
        Exit: one of these happened.

    """
    from vicinal.lab.executor import JobFailed, WorkerDied

    try:
        yield
    except KeyboardInterrupt as error:
        raise Exit(f"stopped{', jobs canceled' if cluster else ''}; {kept()}; {RESUME}", 130) from error
    except JobFailed as error:
        raise Exit(f"{error}; {kept()}; {RESUME}", 1) from error
    except WorkerDied as error:
        raise Exit(f"{error}; {kept()}; {RESUME}, with fewer --jobs to need less memory", 1) from error
    except BrokenPipeError:  # of our output
        raise
    except OSError as error:
        raise Exit(f"{unwritten(error, folder)}; {kept()}; {RESUME}", 2) from error


@contextmanager
def counting(doing: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show on a terminal how much is done: yields a function of what is done and, if known, of how much there is."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
