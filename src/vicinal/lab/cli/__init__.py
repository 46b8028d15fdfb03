"""The command line: reads arguments, nothing else; each command imports what it needs when it runs."""

from __future__ import annotations

import argparse
import errno
import io
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vicinal import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from vicinal.lab.compare.comparison import Comparison
    from vicinal.lab.recipe import Recipe

EXAMPLES = """\
examples:
  vicinal compare iris                                   data that comes with scikit-learn: iris, wine, breast_cancer, digits
  vicinal compare patients.csv --target outcome          your own table: .csv, .parquet or .arff
  vicinal compare wine --with "InputMixup(alpha=0.4)"    another vicinity beside mixup
  vicinal compare digits --noise 0.4                     with 40 % of the training labels replaced by random ones
  vicinal compare photos                                 a folder with a sub-folder of images, or audio, a class
"""


class _Parser(argparse.ArgumentParser):
    """Takes FIELD=VALUE after an option too, which argparse alone calls unrecognized."""

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        """As argparse does it; then the words left over are changes, where the command has any."""
        found, rest = super().parse_known_args(args, namespace)
        if "changes" in found:
            found.changes = [*found.changes, *(word for word in rest if not word.startswith("-"))]
            rest = [word for word in rest if word.startswith("-")]
        return found, rest


def parser() -> argparse.ArgumentParser:
    """Give the parser of all commands."""
    top = argparse.ArgumentParser(prog="vicinal", description="mixup, whole: does it help on your data?")
    top.add_argument("--version", action="store_true", help="print the version and stop")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    compare = commands.add_parser(
        "compare",
        help="does mixup help on this data, with which alpha, and is it more than luck?",
        description="Train with and without mixup over many seeds, and say whether mixup helps, with which alpha, and "
        "whether that is more than luck. Writes a folder with results.json, report.html and the best model. Ctrl-C "
        "keeps what is done, and the same command goes on.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = compare.add_argument
    add(
        "data",
        metavar="DATA",
        help="a table file; a folder with a sub-folder of images or audio (.wav, .flac) for each class; or a name: "
        "iris, wine, breast_cancer, digits, diabetes, a UCI set",
    )
    add("--target", metavar="COLUMN", help="the column to predict; needed for a file")
    add("--task", choices=("classification", "regression"), help="where the column alone would be read differently")
    add("--drop", metavar="COLUMN", action="append", default=[], help="a column to leave out; may be repeated")
    add("--alpha", metavar="A[,A...]", help="mixup's alphas (default: 0.1,0.2,0.4,1; '' for none)")
    add(
        "--with",
        metavar="VICINITY",
        dest="named",
        action="append",
        default=[],
        help='e.g. "Mixup(alpha=0.4, pairing=SameClass())"; repeatable',
    )
    add("--seeds", metavar="N", type=int, help="runs of each method (default: 20; for a folder 5)")
    add("--epochs", metavar="N", type=int, help="default: enough for 3,000 steps, for a folder 1,000; the paper: 10")
    add(
        "--model",
        metavar="NAME",
        help="for a folder: a model of vicinal (default: small), or package.module:factory",
    )
    add(
        "--size",
        metavar="N",
        type=int,
        help="for a folder: pixels of a side (default: 32); frequency bands (default: 40)",
    )
    add("--augment", choices=("flip", "shift", "none"), help="of training images (default: flip: shift and mirror)")
    add("--learning-rate", metavar="RATE", type=float, default=1e-3, help="Adam's (default: 0.001)")
    add("--weight-decay", metavar="DECAY", type=float, default=0.0, help="decoupled, as AdamW's (default: 0)")
    add("--patience", metavar="N", type=int, help="stop a run after N epochs without a better validation score")
    add("--noise", metavar="SHARE", type=float, default=0.0, help="share of training labels replaced by random ones")
    add("--perturb", metavar="SD", type=float, help="also test with noise of this standard deviation on the inputs")
    add("--out", metavar="FOLDER", help="default: vicinal-runs/NAME-DIGEST")
    add("--jobs", metavar="N", type=int, help="processes (default: one a core)")

    look = commands.add_parser(
        "diagnose",
        help="where would mixed examples of this data land? a look before any training",
        description="Mix rows of a table as mixup does, and ask the rows that lie nearest whether they agree with the mixed "
        "label. Nothing is trained. Says what it found, and how well that went with what mixup did where models were "
        "trained.",
    )
    look.add_argument("data", metavar="DATA", help="as for compare; classification")
    look.add_argument("--target", metavar="COLUMN", help="the column to predict; needed for a file")
    look.add_argument("--task", choices=("classification", "regression"), help="where the column alone says otherwise")
    look.add_argument("--drop", metavar="COLUMN", action="append", default=[], help="a column to leave out; repeatable")
    look.add_argument("--alpha", metavar="A[,A...]", help="mixup's alphas (default: 0.1,0.4,1)")

    train = commands.add_parser(
        "train",
        help="train one of the paper's models by its protocol",
        description="Train by a recipe. A run that is killed at any instant goes on by the same command, to the same "
        "weights. For several processes start it by torchrun: torchrun --nproc-per-node=2 -m vicinal.lab.cli train ...",
    )
    train.add_argument("recipe", metavar="RECIPE", nargs="?", help="a name of --list")
    add = train.add_argument
    add("changes", metavar="FIELD=VALUE", nargs="*", help='e.g. epochs=3 "vicinity=CutMix(alpha=1.0)"')
    add("--list", action="store_true", help="print the recipes with the paper's figures and stop")
    add(
        "--quick",
        action="store_true",
        help="a look in about a minute: 3 epochs of few steps; FIELD=VALUE takes precedence",
    )
    add("--out", metavar="FOLDER", help="default: vicinal-runs/RECIPE-DIGEST")
    add("--save-every", metavar="SECONDS", type=float, default=60.0, help="checkpoints within an epoch (default: 60)")
    add(
        "--patience",
        metavar="SECONDS",
        type=float,
        default=300.0,
        help="for a process that others wait for (default: 300)",
    )
    add("--tensorboard", action="store_true", help="also write the figures for TensorBoard, into FOLDER/tensorboard")
    add(
        "--grid", metavar="FIELD=V1,V2", action="append", default=[], help="a run for each value; repeatable: all pairs"
    )
    add(
        "--cluster", metavar="NAME[:KEY=VALUE,...]", help="of a grid: local (default), or slurm:slurm_partition=gpu,..."
    )

    again = commands.add_parser(
        "reproduce",
        help="run a table or figure of the paper again, and set it beside what was printed",
        description="Run what the paper ran, and set the results beside the published numbers. What is done is kept; "
        "Ctrl-C stops, and the same command goes on.",
    )
    again.add_argument("name", metavar="NAME", nargs="?", help="a study of --list, or all")
    again.add_argument("--list", action="store_true", help="print the studies with what each needs, and stop")
    again.add_argument("--size", choices=("smoke", "small", "paper"), help="default: small, for 2 CPU cores")
    again.add_argument("--report", action="store_true", help="write one page of all studies, from what is there")
    again.add_argument("--page", metavar="FOLDER", help="where --report writes (default: beside the results)")
    again.add_argument("--out", metavar="FOLDER", help="of the results (default: vicinal-runs/reproduce)")
    again.add_argument("--jobs", metavar="N", type=int, help="processes (default: one a core; with a GPU, 1)")

    between = commands.add_parser(
        "between",
        help="what two trained models say between their training points (the paper's figure 2)",
        description="Ask two models, trained on the same examples, between pairs of these: how often is the answer "
        "neither of the two labels, and how steep is the loss? Writes a folder with between.json and two figures.",
    )
    between.add_argument("a", metavar="RUN_A", help="a run folder of vicinal train, as of ERM")
    between.add_argument("b", metavar="RUN_B", help="another, as of mixup")
    between.add_argument("--out", metavar="FOLDER", help="default: vicinal-runs/between")

    data = commands.add_parser(
        "data",
        help="the published datasets: which there are, fetch one, check one; images into tar shards",
        description="Fetch published datasets from their publishers, with resumption and checks, into the folder that "
        "VICINAL_DATA names. `vicinal data shard FOLDER OUT` copies a folder of images into tar shards.",
    )
    data.add_argument("action", choices=("list", "fetch", "verify", "shard"))
    data.add_argument("name", metavar="NAME", nargs="?", help="a name of `vicinal data list`; for shard: the folder")
    data.add_argument("out", metavar="OUT", nargs="?", help="for shard: the folder to make")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit code: 0; 1 if a worker process died; 2 for a problem with what was given or with the disk; 130 after
        Ctrl-C.

    """
    argv = sys.argv[1:] if argv is None else list(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that this terminal cannot show
    top = parser()
    args = top.parse_args(argv)
    if args.version:
        print(f"vicinal {__version__}")
        return 0
    if args.command is None:
        top.print_help()
        return 2
    from vicinal.lab.errors import UserError

    try:
        _check(args)
        if args.command == "train":
            return _train(args)
        if args.command == "data":
            return _data(args)
        if args.command == "diagnose":
            return _diagnose(args)
        if args.command == "reproduce":
            return _reproduce(args, shlex.join(["vicinal", *argv]))
        if args.command == "between":
            return _between(args, shlex.join(["vicinal", *argv]))
        return _compare(args, shlex.join(["vicinal", *argv]))
    except UserError as error:
        return _say(str(error), 2)
    except KeyboardInterrupt:
        return _say("stopped", 130)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        return _say("there is not enough memory for these data; give fewer rows or columns, or a smaller --size", 1)


def _check(args: argparse.Namespace) -> None:
    """Refuse what is wrong whatever the data are, before anything is imported that takes seconds.

    Raises:
        UserError: says which argument, and what it may be.

    """
    from vicinal.lab.errors import UserError

    jobs, listed = getattr(args, "jobs", None), getattr(args, "list", False)
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs must be 1 or more, got {jobs}")
    if getattr(args, "alpha", None) is not None:
        args.alpha = _numbers(args.alpha)
    if args.command == "train" and not listed:
        if args.recipe is None:
            raise UserError("name a recipe; vicinal train --list shows them")
        if not args.save_every >= 0:
            raise UserError(f"--save-every is seconds and must be 0 or more, got {args.save_every:g}")
        if not 0 < args.patience < 1e6:
            raise UserError(f"--patience is seconds and must be more than 0, got {args.patience:g}")
    if args.command == "reproduce" and not listed:
        if args.out and os.path.exists(args.out) and not os.path.isdir(args.out):
            raise UserError(f"--out {args.out} is a file; give a folder")
        if args.report and args.name is not None:
            raise UserError("--report is of all studies; leave the name out")
        if args.page is not None and not args.report:
            raise UserError("--page says where --report writes; give both")
        if args.name is None and not args.report:
            raise UserError("name a study; vicinal reproduce --list shows them")
    if args.command == "data" and args.action == "shard" and args.out is None:
        raise UserError("vicinal data shard needs a folder of images and a folder to make")


def _tell(line: str) -> None:
    """Say how far it is."""
    print(line, file=sys.stderr, flush=True)


def _say(message: str, code: int) -> int:
    print(f"vicinal: {message}", file=sys.stderr)
    return code


def _compare(args: argparse.Namespace, command: str) -> int:
    from vicinal.lab import executor

    executor.start()

    from pathlib import Path

    from vicinal.lab.compare import runner
    from vicinal.lab.console import Display, print_results

    study = _study(args)
    study.check()
    out = args.out or os.path.join("vicinal-runs", f"{study.name}-{study.fingerprint()[:6]}")
    folder = runner.Folder(Path(out))
    folder.claim(study)

    def kept() -> str:
        return f"{len(folder.runs())} of {len(study.names)} runs are kept in {out}"

    jobs = args.jobs or _cores()
    try:
        _announce(study, len(study.names) - len(folder.runs()), jobs)
        with Display(f"compare {study.name}", [m.name for m in study.methods], study.measure) as display:
            results = runner.run(study, folder, command, jobs, display)
    except KeyboardInterrupt:
        return _say(f"stopped; {kept()}, and the same command goes on", 130)
    except executor.WorkerDied as error:
        return _say(f"{error}; {kept()}, and the same command goes on; fewer --jobs need less memory", 1)
    except OSError as error:
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
        return _say(f"{out} cannot be written ({reason.lower()}); {kept()}, and the same command goes on", 2)
    print_results(results)
    print(f"\nreport  {folder.report}\nfigures {folder.results}\nmodel   {folder.model} ({results['model']['method']})")
    sys.stdout.flush()
    return 0


def _study(args: argparse.Namespace) -> Comparison[Any]:
    """Read the data, and give the comparison that was asked for."""
    from vicinal.lab.compare.settings import ALPHAS, FolderSettings, TableSettings
    from vicinal.lab.data import table
    from vicinal.lab.errors import UserError

    def given(*names: str) -> list[str]:
        return [name for name in names if getattr(args, name) not in (None, [])]

    common: dict[str, Any] = {
        "alphas": ALPHAS if args.alpha is None else args.alpha,
        "named": tuple(args.named),
        **{name: getattr(args, name) for name in ("epochs", "noise", "perturb", "patience")},
        "learning_rate": args.learning_rate,
        "weight_decay": args.weight_decay,
        **{name: getattr(args, name) for name in given("seeds")},
    }
    if table.is_named(args.data) or not os.path.isdir(os.path.expanduser(args.data)):
        from vicinal.lab.compare.table_comparison import TableComparison

        if wrong := given("model", "size", "augment"):
            raise UserError(f"--{wrong[0]} is for folders of images or audio; leave it out for a table")
        settings = TableSettings(**common)
        return TableComparison(table.load(args.data, target=args.target, task=args.task, drop=args.drop), settings)

    from vicinal.lab.compare.folder_comparison import FolderComparison
    from vicinal.lab.data import collection

    if wrong := given("target", "task", "drop"):
        raise UserError(f"--{wrong[0]} is for tables; the classes of a folder are its sub-folders")
    settings = FolderSettings(**common, **{name: getattr(args, name) for name in given("model", "augment")})
    with _Counter("reading") as counter:
        data = collection.read(args.data, size=args.size, progress=counter)
    for note in data.notes:
        print(f"vicinal: {note}", file=sys.stderr)
    return FolderComparison(data, settings)


class _Counter:
    """Says on a terminal how many files are read."""

    def __init__(self, doing: str) -> None:
        self._doing, self._said = doing, False

    def __enter__(self) -> _Counter:
        return self

    def __call__(self, done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{self._doing} {done} of {total} files", end="", file=sys.stderr, flush=True)
            self._said = True

    def __exit__(self, *error: object) -> None:
        if self._said:
            print(file=sys.stderr)


_LONG = 600  # seconds


def _announce(study: Comparison[Any], runs: int, jobs: int) -> None:
    """Say how long it will take, where that is not known to be short, before anything is begun."""
    seconds = study.seconds(runs, jobs) if runs else None
    if seconds is None:
        return
    from vicinal.lab.console import duration

    processes = min(jobs, runs)
    work = f"{runs} runs of {study.epochs} epochs take" if runs > 1 else f"1 run of {study.epochs} epochs takes"
    on = f"{processes} processes" if processes > 1 else "1 process"
    advice = "; fewer --seeds or --epochs, or a smaller --size, take less, and Ctrl-C keeps the finished runs"
    print(
        f"vicinal: {work} about {duration(seconds)} on {on}, by the speed of the first steps"
        f"{advice * (seconds > _LONG)}",
        file=sys.stderr,
        flush=True,
    )


def _train(args: argparse.Namespace) -> int:
    from pathlib import Path

    from vicinal.lab.recipe import describe_changes, quick, with_overrides
    from vicinal.lab.training import distributed, loop, recipes

    if args.list:
        for name, function in recipes.all_recipes().items():
            print(f"{name:38s}{(function.__doc__ or '').strip()}")
        return 0
    recipe = recipes.find(args.recipe)
    recipe = quick(recipe, args.changes) if args.quick else with_overrides(recipe, args.changes)
    if args.grid or args.cluster:
        return _grid(args, recipe)
    out = Path(args.out or os.path.join("vicinal-runs", f"{args.recipe}-{recipe.fingerprint()[:6]}"))
    try:
        with distributed.job(args.patience) as job:
            if args.quick and job.rank == 0:
                print(f"a quick look: {describe_changes(recipes.find(args.recipe), recipe)}", file=sys.stderr)
            results = loop.train(recipe, out, job, args.save_every, args.tensorboard)
            if job.rank == 0:
                error, last = results["test_error"], min(10, len(results["epochs"]))
                median = f"median of the last {last} epochs; " if last > 1 else ""
                print(
                    f"{args.recipe}: test error {100 * error['median_of_last_10']:.2f} % ({median}"
                    f"best {100 * error['best']:.2f} %, last {100 * error['last']:.2f} %)\nfigures {out / 'results.json'}"
                )
    except KeyboardInterrupt:
        return _say(f"stopped; {out} holds the last checkpoint, and the same command goes on", 130)
    except distributed.WorkerLost as error:
        code = _say(f"{error}; {out} holds the last checkpoint, and the same command goes on", 1)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        # the usual way out closes the connections, which waits for the lost process, if it is only halted
        os._exit(code)
    except BrokenPipeError:  # of our output: `main` knows
        raise
    except OSError as error:
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
        return _say(f"{out} cannot be written ({reason.lower()}); the same command goes on", 2)
    return 0


def _grid(args: argparse.Namespace, recipe: Recipe) -> int:
    from pathlib import Path

    from vicinal.lab.errors import UserError
    from vicinal.lab.training import grid

    if not args.grid:
        raise UserError('--cluster spreads the runs of a grid; add --grid, e.g. --grid "seed=0,1,2"')
    name = f"{args.recipe}-grid-{recipe.fingerprint()[:6]}"
    out = Path(args.out or os.path.join("vicinal-runs", name)).absolute()
    points = grid.points(recipe, args.grid, out)
    words = [sys.executable, "-m", "vicinal.lab.cli", "train", args.recipe, *args.changes]
    words += ["--quick"] * args.quick + ["--tensorboard"] * args.tensorboard
    words += ["--save-every", str(args.save_every)]
    try:
        rows = grid.run(points, words, args.cluster or "local", out, lambda line: print(line, file=sys.stderr))
    except KeyboardInterrupt:
        return _say(f"stopped, jobs canceled; the runs in {out} go on by the same command", 130)
    for row in rows:
        error = row.get("test_error")
        figure = row["failed"] if error is None else f"{100 * error['median_of_last_10']:6.2f} %"
        print(f"{figure}  {' '.join(row['changes'])}")
    print(f"figures {out / 'grid.json'}")
    return 1 if any("failed" in row for row in rows) else 0


def _diagnose(args: argparse.Namespace) -> int:
    from vicinal.lab.compare import diagnose
    from vicinal.lab.data import table

    data = table.load(args.data, target=args.target, task=args.task, drop=args.drop)
    alphas = diagnose.ALPHAS if args.alpha is None else args.alpha
    print(diagnose.in_words(data, diagnose.diagnose(data, alphas)))
    return 0


def _reproduce(args: argparse.Namespace, command: str) -> int:
    from pathlib import Path

    import torch

    from vicinal.lab import executor
    from vicinal.lab.console import print_needs, print_table
    from vicinal.lab.errors import UserError
    from vicinal.lab.paper import reproduce
    from vicinal.lab.paper.study import Scale

    if args.list:
        print_needs(reproduce.STUDIES)
        return 0
    root = Path(args.out) if args.out else reproduce.DEFAULT
    if args.report:
        if not root.exists():
            raise UserError(f"there is no folder {root}: vicinal reproduce NAME makes it, and --out names another")
        from vicinal.lab.paper import report

        try:
            for path in report.write(root, args.size, command, Path(args.page) if args.page else None):
                print(f"report  {path}")
        except OSError as error:
            return _say(_unwritten(error, args.page or str(root)), 2)
        return 0
    size: Scale = args.size or "small"
    processes = args.jobs or (1 if torch.cuda.is_available() else _cores())
    chosen = reproduce.STUDIES if args.name == "all" else (reproduce.find(args.name),)

    failed = 0
    for study in chosen:
        folder = reproduce.Folder(root, study, size)
        try:
            rows = reproduce.conclude(folder, reproduce.run(folder, command, processes, _tell))
        except (KeyboardInterrupt, executor.WorkerDied) as error:
            stopped = isinstance(error, KeyboardInterrupt)
            kept = f"{len(folder.done())} of {len(study.jobs(size))} jobs are kept in {folder.path}"
            return _say(
                f"{'stopped' if stopped else error}; {kept}, and the same command goes on", 130 if stopped else 1
            )
        except UserError as error:  # of data that are not there, say: the other studies can run
            failed = _say(f"{study.name}: {error}", 2)
            continue
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return _say(f"the disk of {folder.path} is full; make room, and the same command goes on", 2)
            return _say(f"{_unwritten(error, str(folder.path))}; choose another --out", 2)
        print_table(study, size, rows)
        print(f"\ntable   {folder.path / 'table.json'}")
        if any(folder.path.glob("*.svg")):
            print(f"figures {folder.path}")
        sys.stdout.flush()
    return failed


def _unwritten(error: OSError, folder: str) -> str:
    """Say what could not be written: the file that was to be replaced, or else the folder."""
    return f"{error.filename2 or folder} cannot be written ({(error.strerror or str(error)).lower()})"


def _between(args: argparse.Namespace, command: str) -> int:
    import json
    from pathlib import Path

    import vicinal
    from vicinal.lab import atomic
    from vicinal.lab.paper import interpolation

    a, b = Path(args.a), Path(args.b)

    out = Path(args.out) if args.out else Path("vicinal-runs", "between")
    two = interpolation.load(a, b)
    with _writing(out):
        out.mkdir(parents=True, exist_ok=True)
    courses = interpolation.compare(two, say=_tell)
    measured = {
        letter: {"folder": str(folder), "misses": course.misses, "gradient": course.gradient}
        for letter, folder, course in zip("AB", (a, b), courses, strict=True)
    }
    record = {
        "command": command,
        "vicinal": vicinal.__version__,
        "pairs": interpolation.PAIRS,
        "lambda": interpolation.LAMBDAS,
    }
    named = [(f"A: {a.resolve().name}", "erm", courses[0]), (f"B: {b.resolve().name}", "mix", courses[1])]
    with _writing(out):
        atomic.write(out / "between.json", json.dumps(record | {"models": measured}, indent=1))
        for letter, svg in zip("ab", interpolation.figure(named).values(), strict=True):
            atomic.write(out / f"figure2{letter}.svg", svg)
    print(f"A: {a}\nB: {b}\n{interpolation.PAIRS} pairs of training points\n")
    print("lambda  misses A, %  misses B, %  gradient A  gradient B")
    for i, share in enumerate(interpolation.LAMBDAS):
        misses = "".join(f"{100 * course.misses[i]:13.2f}" for course in courses)
        print(f"{share:6.2f}{misses}" + "".join(f"{course.gradient[i]:12.4f}" for course in courses))
    print(f"\nfigures {out}")
    return 0


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Say in a sentence why a folder cannot be written."""
    from vicinal.lab.errors import UserError

    try:
        yield
    except OSError as error:
        raise UserError(f"{_unwritten(error, str(out))}; choose another --out") from error


def _data(args: argparse.Namespace) -> int:
    from vicinal.lab.data import download
    from vicinal.lab.errors import UserError

    if args.action == "shard":
        return _shard(args)
    if args.out is not None:
        raise UserError(f"vicinal data {args.action} takes one name, got also {args.out!r}")
    root = os.environ.get("VICINAL_DATA")
    if args.action == "list":
        for name, source in download.DATASETS.items():
            size = "" if source.size is None else f"{source.size / 2**20:,.0f} MB"
            here = ""
            if root is not None:
                here = "not there" if download.missing(source, os.path.expanduser(root)) else "there"
            print(f"{name:22s}{source.title:26s}{size:>12s}   {here}".rstrip())
        print(f"\nlooked for in {root}" if root else "\nset VICINAL_DATA to the folder that holds your datasets")
        return 0
    if args.name is None:
        raise UserError(f"vicinal data {args.action} needs a name; vicinal data list shows them")
    if root is None:
        raise UserError("set VICINAL_DATA to the folder that holds your datasets")
    if args.action == "verify":
        print(download.verify(args.name, root))
        return 0

    def progress(done: int, total: int | None) -> None:
        if sys.stderr.isatty():
            of = "" if total is None else f" of {total / 2**20:.1f}"
            print(f"\r{done / 2**20:.1f}{of} MB", end="", file=sys.stderr, flush=True)

    print(download.fetch(args.name, root, progress=progress))
    return 0


def _shard(args: argparse.Namespace) -> int:
    from pathlib import Path

    from vicinal.lab.data import shards

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty() and (done % 1000 == 0 or done == total):
            print(f"\r{done} of {total} images", end="\n" * (done == total), file=sys.stderr, flush=True)

    out = Path(args.out)
    count = shards.write(Path(args.name), out, progress=progress)
    print(f"{count} images in {len(list(out.rglob('*.tar')))} shards: {out}")
    return 0


def _cores() -> int:
    """Give how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _numbers(text: str) -> tuple[float, ...]:
    from vicinal.lab.errors import UserError

    try:
        return tuple(float(part) for part in text.split(",") if text)
    except ValueError as error:
        raise UserError(f"--alpha takes numbers, as 0.1,0.4, got {text!r}") from error
