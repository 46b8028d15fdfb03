"""The command line: reads arguments, nothing else; each command imports what it needs when it runs."""

from __future__ import annotations

import argparse
import errno
import io
import os
import shlex
import sys
from collections.abc import Sequence

EXAMPLES = """\
examples:
  vicinal compare iris                                   data that comes with scikit-learn: iris, wine, breast_cancer, digits
  vicinal compare patients.csv --target outcome          your own table: .csv, .parquet or .arff
  vicinal compare wine --with "InputMixup(alpha=0.4)"    another vicinity beside mixup
  vicinal compare digits --noise 0.4                     with 40 % of the training labels replaced by random ones
"""


def parser() -> argparse.ArgumentParser:
    """Give the parser of all commands."""
    top = argparse.ArgumentParser(prog="vicinal", description="mixup, whole: does it help on your data?")
    top.add_argument("--version", action="store_true", help="print the version and stop")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
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
    add("data", metavar="DATA", help="a table file, or a name: iris, wine, breast_cancer, digits, diabetes, a UCI set")
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
    add("--seeds", metavar="N", type=int, default=20, help="runs of each method (default: 20)")
    add("--epochs", metavar="N", type=int, help="default: enough for about 3,000 steps; the paper: 10")
    add("--learning-rate", metavar="RATE", type=float, default=1e-3, help="Adam's (default: 0.001)")
    add("--weight-decay", metavar="DECAY", type=float, default=0.0, help="decoupled, as AdamW's (default: 0)")
    add("--patience", metavar="N", type=int, help="stop a run after N epochs without a better validation score")
    add("--noise", metavar="SHARE", type=float, default=0.0, help="share of training labels replaced by random ones")
    add("--perturb", metavar="SD", type=float, help="also test with noise of this standard deviation on the inputs")
    add("--out", metavar="FOLDER", help="default: vicinal-runs/NAME-DIGEST")
    add("--jobs", metavar="N", type=int, help="processes (default: one a core)")

    train = commands.add_parser(
        "train",
        help="train one of the paper's networks by its protocol",
        description="Train by a recipe. A run that is killed at any instant goes on by the same command, to the same "
        "weights. For several processes start it by torchrun: torchrun --nproc-per-node=2 -m vicinal.lab.cli train ...",
    )
    train.add_argument("recipe", metavar="RECIPE", nargs="?", help="a name of --list")
    train.add_argument("changes", metavar="FIELD=VALUE", nargs="*", help="e.g. epochs=3 examples=2000 for a quick look")
    train.add_argument("--list", action="store_true", help="print the recipes with the paper's figures and stop")
    train.add_argument("--out", metavar="FOLDER", help="default: vicinal-runs/RECIPE-DIGEST")

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
    again.add_argument("--out", metavar="FOLDER", help="default: vicinal-runs/reproduce")
    again.add_argument("--jobs", metavar="N", type=int, help="processes (default: one a core; with a GPU, 1)")

    between = commands.add_parser(
        "between",
        help="what two trained networks say between their training points (the paper's figure 2)",
        description="Ask two networks, trained on the same examples, between pairs of these: how often is the answer "
        "neither of the two labels, and how steep is the loss? Writes a folder with between.json and two figures.",
    )
    between.add_argument("a", metavar="RUN_A", help="a run folder of vicinal train, as of ERM")
    between.add_argument("b", metavar="RUN_B", help="another, as of mixup")
    between.add_argument("--out", metavar="FOLDER", help="default: vicinal-runs/between")

    data = commands.add_parser(
        "data",
        help="the published data sets: which there are, fetch one, check one",
        description="Fetch published data sets from their publishers, with resumption and checks, into the folder that "
        "VICINAL_DATA names.",
    )
    data.add_argument("action", choices=("list", "fetch", "verify"))
    data.add_argument("name", metavar="NAME", nargs="?", help="a name of `vicinal data list`")
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
        from importlib.metadata import version

        print(f"vicinal {version('vicinal')}")
        return 0
    if args.command is None:
        top.print_help()
        return 2
    from vicinal.lab.errors import UserError

    try:
        if args.command == "train":
            return _train(args)
        if args.command == "data":
            return _data(args)
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
        return _say("there is not enough memory for this table; give fewer rows or columns", 1)


def _say(message: str, code: int) -> int:
    print(f"vicinal: {message}", file=sys.stderr)
    return code


def _compare(args: argparse.Namespace, command: str) -> int:
    from vicinal.lab.studies import workers

    workers.start()

    from pathlib import Path

    from vicinal.lab.data import table
    from vicinal.lab.errors import UserError
    from vicinal.lab.studies import compare, runner
    from vicinal.lab.terminal import Display, print_results

    if args.jobs is not None and args.jobs < 1:
        raise UserError(f"--jobs must be 1 or more, got {args.jobs}")
    settings = compare.Settings(
        alphas=compare.ALPHAS if args.alpha is None else _numbers(args.alpha),
        named=tuple(args.named),
        seeds=args.seeds,
        epochs=args.epochs,
        noise=args.noise,
        perturb=args.perturb,
        learning_rate=args.learning_rate,
        weight_decay=args.weight_decay,
        patience=args.patience,
    )
    data = table.load(args.data, target=args.target, task=args.task, drop=args.drop)
    study = compare.Study(data, settings)
    study.check()
    out = args.out or os.path.join("vicinal-runs", f"{data.name}-{study.fingerprint()[:6]}")
    folder = runner.Folder(Path(out))
    folder.claim(study)

    def kept() -> str:
        return f"{len(folder.runs())} of {len(study.methods) * settings.seeds} runs are kept in {out}"

    try:
        with Display(f"compare {data.name}", [m.name for m in study.methods], study.measure) as display:
            results = runner.run(study, folder, command, args.jobs or _cores(), display)
    except KeyboardInterrupt:
        return _say(f"stopped; {kept()}, and the same command goes on", 130)
    except workers.WorkerDied as error:
        return _say(f"{error}; {kept()}, and the same command goes on; fewer --jobs need less memory", 1)
    except OSError as error:
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
        return _say(f"{out} cannot be written ({reason.lower()}); {kept()}, and the same command goes on", 2)
    print_results(results)
    print(f"\nreport  {folder.report}\nfigures {folder.results}\nmodel   {folder.model} ({results['model']['method']})")
    sys.stdout.flush()
    return 0


def _train(args: argparse.Namespace) -> int:
    from pathlib import Path

    from vicinal.lab import recipes
    from vicinal.lab.errors import UserError
    from vicinal.lab.train import distributed, loop
    from vicinal.lab.train.recipe import override

    if args.list:
        for name, function in recipes.all_recipes().items():
            print(f"{name:28s}{(function.__doc__ or '').strip()}")
        return 0
    if args.recipe is None:
        raise UserError("name a recipe; vicinal train --list shows them")
    recipe = override(recipes.find(args.recipe), args.changes)
    out = Path(args.out or os.path.join("vicinal-runs", f"{args.recipe}-{recipe.fingerprint()[:6]}"))
    with distributed.job() as job:
        try:
            results = loop.train(recipe, out, job)
        except KeyboardInterrupt:
            return _say(f"stopped; {out} holds the last checkpoint, and the same command goes on", 130)
        if job.rank == 0:
            error = results["test_error"]
            print(
                f"{args.recipe}: test error {100 * error['median_of_last_10']:.2f} % (median of the last 10 epochs; best "
                f"{100 * error['best']:.2f} %, last {100 * error['last']:.2f} %)\nfigures {out / 'results.json'}"
            )
    return 0


def _reproduce(args: argparse.Namespace, command: str) -> int:
    from pathlib import Path

    import torch

    from vicinal.lab.errors import UserError
    from vicinal.lab.studies import reproduce, workers
    from vicinal.lab.studies.study import Size
    from vicinal.lab.terminal import print_needs, print_table

    if args.list:
        print_needs(reproduce.STUDIES)
        return 0
    if args.jobs is not None and args.jobs < 1:
        raise UserError(f"--jobs must be 1 or more, got {args.jobs}")
    root = Path(args.out) if args.out else reproduce.DEFAULT
    if args.report:
        if args.name is not None:
            raise UserError("--report is of all studies; leave the name out")
        from vicinal.lab.report import reproduction

        for path in reproduction.write(root, args.size, command):
            print(f"report  {path}")
        return 0
    if args.name is None:
        raise UserError("name a study; vicinal reproduce --list shows them")
    size: Size = args.size or "small"
    processes = args.jobs or (1 if torch.cuda.is_available() else _cores())
    chosen = reproduce.STUDIES if args.name == "all" else (reproduce.find(args.name),)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    failed = 0
    for study in chosen:
        folder = reproduce.Folder(root, study, size)
        try:
            rows = reproduce.conclude(folder, reproduce.run(folder, command, processes, say))
        except (KeyboardInterrupt, workers.WorkerDied) as error:
            stopped = isinstance(error, KeyboardInterrupt)
            kept = f"{len(folder.done())} of {len(study.jobs(size))} jobs are kept in {folder.path}"
            return _say(
                f"{'stopped' if stopped else error}; {kept}, and the same command goes on", 130 if stopped else 1
            )
        except UserError as error:  # of data that are not there, say: the other studies can run
            failed = _say(f"{study.name}: {error}", 2)
            continue
        except OSError as error:
            reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
            return _say(f"{folder.path} cannot be written ({reason.lower()}); choose another --out", 2)
        print_table(study, size, rows)
        print(f"\nfigures {folder.path}")
        sys.stdout.flush()
    return failed


def _between(args: argparse.Namespace, command: str) -> int:
    import json
    from pathlib import Path

    import vicinal
    from vicinal.lab import files
    from vicinal.lab.studies import between

    a, b = Path(args.a), Path(args.b)
    courses = between.compare(a, b)
    out = Path(args.out) if args.out else Path("vicinal-runs", "between")
    out.mkdir(parents=True, exist_ok=True)
    measured = {
        str(folder): {"misses": course.misses, "gradient": course.gradient}
        for folder, course in zip((a, b), courses, strict=True)
    }
    record = {"command": command, "vicinal": vicinal.__version__, "pairs": between.PAIRS, "lambda": between.LAMBDAS}
    files.write(out / "between.json", json.dumps(record | {"networks": measured}, indent=1))
    named = [(str(a), "erm", courses[0]), (str(b), "mix", courses[1])]
    for letter, svg in zip("ab", between.figure(named).values(), strict=True):
        files.write(out / f"figure2{letter}.svg", svg)
    print(f"A: {a}\nB: {b}\n{between.PAIRS} pairs of training points\n")
    print("lambda  misses A, %  misses B, %  gradient A  gradient B")
    for i, share in enumerate(between.LAMBDAS):
        misses = "".join(f"{100 * course.misses[i]:13.2f}" for course in courses)
        print(f"{share:6.2f}{misses}" + "".join(f"{course.gradient[i]:12.4f}" for course in courses))
    print(f"\nfigures {out}")
    return 0


def _data(args: argparse.Namespace) -> int:
    from vicinal.lab.data import download
    from vicinal.lab.errors import UserError

    if args.action == "list":
        for name, source in download.SOURCES.items():
            print(f"{name:22s}{source.title}")
        return 0
    if args.name is None:
        raise UserError(f"vicinal data {args.action} needs a name; vicinal data list shows them")
    root = os.environ.get("VICINAL_DATA")
    if root is None:
        raise UserError("set VICINAL_DATA to the folder that holds your data sets")
    if args.action == "verify":
        print(download.verify(args.name, root))
        return 0

    def progress(done: int, total: int | None) -> None:
        if sys.stderr.isatty():
            of = "" if total is None else f" of {total / 2**20:.1f}"
            print(f"\r{done / 2**20:.1f}{of} MB", end="", file=sys.stderr, flush=True)

    print(download.obtain(args.name, root, progress=progress))
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


if __name__ == "__main__":
    sys.exit(main())
