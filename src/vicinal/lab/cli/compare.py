"""does mixup help on this data, with which alpha, and is it more than luck?

Train with and without mixup over many seeds, and report whether mixup helps, with which alpha, and whether that is more
than luck. Writes a folder with results.json, report.html and the best model. Ctrl-C keeps what is done; rerun the same
command to resume.

Examples:
  vicinal compare iris                                   data that comes with scikit-learn: iris, wine, breast_cancer, digits
  vicinal compare patients.csv --target outcome          your own table: .csv, .parquet, .xlsx, .arff, ...
  zcat rows.gz | vicinal compare - --target outcome      the same, from standard input
  vicinal compare wine --with "InputMixup(alpha=0.4)"    another vicinity next to mixup
  vicinal compare digits --label-noise 0.4               with 40 % of the training labels replaced by random ones
  vicinal compare photos                                 a folder with one sub-folder of images, or audio, per class
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vicinal.lab.cli import interrupts
from vicinal.lab.cli.arguments import (
    add_fields,
    add_jobs,
    add_table,
    check_jobs,
    counting,
    given,
    load_table,
    note,
    note_cluster,
    note_columns,
    refuse_table_options,
    resumable,
)
from vicinal.lab.compare.settings import FOLDER_OPTIONS, OPTIONS, FolderSettings, Settings, TableSettings
from vicinal.lab.errors import UserError
from vicinal.lab.format import counted
from vicinal.lab.option import read

if TYPE_CHECKING:
    from vicinal.lab.compare.comparison import Comparison
    from vicinal.lab.compare.runner import RunFolder

_LONG = 600  # seconds
_LARGE, _FEW_SEEDS = 50_000, 5  # a table of more rows is compared with fewer seeds: its rows suffice
_FOLDERS = ("model", "size", "augment", "seconds", "classes", "skip_broken")  # options for folders alone


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "data",
        metavar="DATA",
        help="a table file, a folder of its parts, or - for standard input; a folder with one sub-folder of images or "
        "audio per class; or a name: iris, wine, breast_cancer, digits, diabetes, a UCI dataset",
    )
    add_table(parser)
    add_fields(parser, Settings, **OPTIONS)
    folders = parser.add_argument_group("for a folder")
    add_fields(folders, FolderSettings, **FOLDER_OPTIONS)
    folders.add_argument(
        "--size",
        metavar="N",
        type=partial(read, "--size", kind=int),
        help="pixels per side (default: 32); frequency bands (default: 40)",
    )
    folders.add_argument(
        "--seconds",
        metavar="S",
        type=partial(read, "--seconds", kind=float),
        help="of each audio clip, from its beginning (default: 1)",
    )
    folders.add_argument(
        "--classes",
        choices=("outer", "inner"),
        help="which folders are the classes, where that is not clear: DATA's own, or those within them",
    )
    folders.add_argument("--skip-broken", action="store_true", help="leave out files that cannot be read")
    parser.add_argument("--out", metavar="FOLDER", help="default: vicinal-runs/NAME-DIGEST")
    add_jobs(parser, "one per core")


def run(args: Namespace) -> int:
    """Run the comparison."""
    check_jobs(args)
    from vicinal.lab.compare import runner

    if args.out is not None and not args.out.strip():
        raise UserError("--out is empty: give a folder, or leave it out")
    comparison = _comparison(args)
    comparison.check()
    out = Path(f"vicinal-runs/{comparison.name}-{comparison.fingerprint()[:6]}" if args.out is None else args.out)
    folder = runner.RunFolder(out)
    interrupts.begin()
    with folder.held():
        return _run_in(folder, comparison, args)


def _run_in(folder: RunFolder, comparison: Comparison[Any, Any], args: Namespace) -> int:
    from vicinal.lab import executor
    from vicinal.lab.compare import runner
    from vicinal.lab.compare.console import ComparisonProgress, print_results

    folder.open(comparison)
    if comparison.kind == "table":
        note_columns(comparison.data)
    for line in (*comparison.idle(), *folder.notes(comparison)):
        note(f"vicinal: {line}")
    jobs, out = args.jobs or executor.cores(), folder.path
    total = len(comparison.runs)

    def kept() -> str:
        return f"{total - len(folder.missing(comparison))} of {total} runs are kept in {out}"

    with resumable(out, kept, args.cluster):
        if args.cluster is None:
            announce(comparison, len(folder.missing(comparison)), jobs)
        else:
            note_cluster(args.cluster, out)
        methods = [method.name for method in comparison.methods]
        with ComparisonProgress(f"compare {comparison.name}", methods, comparison.measure.name) as progress:
            results = runner.run(comparison, folder, args.line, jobs, progress, args.cluster)
    print_results(results)
    model = results.model
    saved = f"{folder.model} ({model.method}, {model.chosen})" if model else f"none: {results.no_model}"
    print(f"\nreport  {folder.report}\nfigures {folder.results}\nmodel   {saved}")
    sys.stdout.flush()
    return 0


def _comparison(args: Namespace) -> Comparison[Any, Any]:
    """Read the data, and return the comparison that was asked for."""
    from vicinal.lab.data import tables

    if tables.is_table(args.data):
        from vicinal.lab.compare.table_comparison import TableComparison

        if wrong := [name for name in _FOLDERS if getattr(args, name, None) not in (None, False)]:
            raise UserError(
                f"--{wrong[0].replace('_', '-')} is for folders of images or audio; leave it out for a table"
            )
        table, chosen = load_table(args), given(args, TableSettings)
        if len(table) > _LARGE and "seeds" not in chosen:
            chosen["seeds"] = _FEW_SEEDS
            note(f"vicinal: {_FEW_SEEDS} seeds, for the table has {len(table)} rows; --seeds asks for more")
        return TableComparison(table, TableSettings(**chosen))

    if args.cluster is None:
        from vicinal.lab import executor

        interrupts.begin()
        executor.start()  # workers will be needed; their server imports PyTorch while this reads files

    from vicinal.lab.compare.folder_comparison import FolderComparison
    from vicinal.lab.data import class_folder

    refuse_table_options(
        args, "the classes of a folder are its sub-folders, unless it holds the parts of a table alone"
    )
    settings = FolderSettings(**given(args, FolderSettings))
    with counting("reading files") as progress:
        data = class_folder.read(
            args.data,
            size=args.size,
            seconds=args.seconds,
            classes=args.classes,
            skip_broken=args.skip_broken,
            progress=progress,
        )
    for line in data.notes:
        note(f"vicinal: {line}")
    return FolderComparison(data, settings)


def announce(comparison: Comparison[Any, Any], runs: int, jobs: int) -> None:
    """Estimate how long it takes, where that is not known to be short, before anything is begun."""
    from vicinal.lab.console import duration

    seconds = comparison.estimate_seconds(runs, jobs) if runs else None
    if seconds is None:
        return
    processes = min(jobs, runs)
    work = f"{counted(runs, 'run')} of {counted(comparison.epochs, 'epoch')} {'take' if runs > 1 else 'takes'}"
    on = f"{processes} processes" if processes > 1 else "1 process"
    advice = "; fewer --seeds or --epochs, or a smaller --size, take less, and Ctrl-C keeps the finished runs"
    note(
        f"vicinal: {work} about {duration(seconds)} on {on}, by the speed of the first steps"
        f"{advice if seconds > _LONG else ''}"
    )
