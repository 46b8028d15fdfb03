"""run a table or figure of the paper again, and set it next to what was printed

Run what the paper ran, and set the results next to the published numbers. What is done is kept; rerun the same command to
resume.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from vicinal.lab.cli.arguments import add_jobs, check_jobs, note, note_cluster, resumable, unwritten
from vicinal.lab.errors import UserError

if TYPE_CHECKING:
    from vicinal.lab.paper.store import JobFolder


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add("name", metavar="NAME", nargs="?", help="a study of --list, or all")
    add("--list", action="store_true", help="print the studies with what each needs, and exit")
    add("--scale", choices=("smoke", "small", "paper"), help="default: small, for 2 CPU cores")
    add("--report", action="store_true", help="write one page of all studies, from what is there")
    add("--report-dir", metavar="FOLDER", help="where --report writes (default: next to the results)")
    add("--out", metavar="FOLDER", help="of the results (default: vicinal-runs/reproduce)")
    add_jobs(parser, "one per core; with a GPU, 1")


def run(args: Namespace) -> int:
    """Run studies, or write the report."""
    _check(args)
    from vicinal.lab.paper import reproduce
    from vicinal.lab.paper.console import print_requirements

    if args.list:
        print_requirements(reproduce.STUDIES)
        return 0
    root = Path(args.out) if args.out else reproduce.DEFAULT
    return _report(args, root) if args.report else _studies(args, root)


def _check(args: Namespace) -> None:
    check_jobs(args)
    if args.list:
        return
    if args.out and os.path.exists(args.out) and not os.path.isdir(args.out):
        raise UserError(f"--out {args.out} is a file; give a folder")
    if args.report and args.name is not None:
        raise UserError("--report is of all studies; leave the name out")
    if args.report_dir is not None and not args.report:
        raise UserError("--report-dir is where --report writes; give both")
    if args.name is None and not args.report:
        raise UserError("name a study; vicinal reproduce --list shows them")


def _report(args: Namespace, root: Path) -> int:
    from vicinal.lab.paper import report

    if not root.exists():
        raise UserError(f"there is no folder {root}: vicinal reproduce NAME makes it; give another one by --out")
    into = Path(args.report_dir) if args.report_dir else None
    try:
        for path in report.write(root, args.scale, args.line, into):
            print(f"report  {path}")
    except OSError as error:
        raise UserError(unwritten(error, into or root)) from error
    return 0


def _studies(args: Namespace, root: Path) -> int:
    import torch

    from vicinal.lab import executor
    from vicinal.lab.paper import reproduce, store

    jobs = args.jobs or (1 if torch.cuda.is_available() else executor.cores())
    failed = 0
    for study in reproduce.STUDIES if args.name == "all" else (reproduce.find(args.name),):
        try:
            _run_study(args, store.JobFolder(root, study, args.scale or "small"), jobs)
        except UserError as error:  # of data that are not there, say: the other studies can run
            note(f"vicinal: {study.name}: {error}")
            failed = 2
    return failed


def _run_study(args: Namespace, folder: JobFolder, jobs: int) -> None:
    from vicinal.lab.paper import reproduce
    from vicinal.lab.paper.claims import judge
    from vicinal.lab.paper.console import print_claims, print_table

    def kept() -> str:
        return f"{len(folder.done())} of {len(folder.study.jobs(folder.scale))} jobs are kept in {folder.path}"

    with resumable(folder.path, kept, args.cluster):
        if args.cluster is not None:
            note_cluster(args.cluster, folder.path)
        done = reproduce.run(folder, args.line, jobs, note, args.cluster)
        rows = reproduce.conclude(folder, done)
    print_table(folder.study, folder.scale, rows)
    if folder.scale != "smoke":  # whose figures mean nothing
        print_claims(judge(folder.study.claims(folder.scale, done)))
    print(f"\ntable   {folder.path / 'table.json'}")
    if any(folder.path.glob("*.svg")):
        print(f"figures {folder.path}")
    sys.stdout.flush()
