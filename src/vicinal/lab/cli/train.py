"""train one of the paper's models by its protocol

Train by a recipe. Rerun the command of a run that was killed at any instant to resume it, to the same weights. For several
processes start it by torchrun: torchrun --nproc-per-node=2 -m vicinal.lab.cli train ...
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from vicinal.lab import orphans
from vicinal.lab.cli import interrupts
from vicinal.lab.cli.arguments import RESUME, add_cluster, add_fields, given, note, note_cluster, resumable
from vicinal.lab.errors import UserError
from vicinal.lab.training.settings import RunSettings

if TYPE_CHECKING:
    from vicinal.lab.recipe import Recipe
    from vicinal.lab.training.runs import RunResults


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add("recipe", metavar="RECIPE", nargs="?", help="a name of --list")
    add("changes", metavar="FIELD=VALUE", nargs="*", help='e.g. epochs=3 "vicinity=CutMix(alpha=1.0)"')
    add("--list", action="store_true", help="print the recipes with the paper's figures and exit")
    add("--quick", action="store_true", help="a look in about a minute: 3 short epochs; FIELD=VALUE takes precedence")
    add("--out", metavar="FOLDER", help="default: vicinal-runs/RECIPE-DIGEST")
    add_fields(parser, RunSettings, save_every="--save-every", timeout="--timeout", tensorboard="--tensorboard")
    add(
        "--grid",
        metavar="FIELD=V1,V2",
        action="append",
        default=[],
        help="one run per value; repeatable: one per combination",
    )
    add_cluster(parser, "of a grid (default: local)")


def run(args: Namespace) -> int:
    """Train one run, or a grid of runs."""
    orphans.end_with_parent()
    settings = RunSettings(**given(args, RunSettings))
    if args.list:
        return _list_recipes()
    if args.recipe is None:
        raise UserError("name a recipe; vicinal train --list shows them")

    from vicinal.lab.recipe import with_overrides
    from vicinal.lab.training import quick, recipes

    recipe = recipes.find(args.recipe)
    recipe = quick.shortened(recipe, args.changes) if args.quick else with_overrides(recipe, args.changes)
    if args.grid or args.cluster:
        return _run_grid(args, recipe)
    return _run_one(args, recipe, settings)


def _list_recipes() -> int:
    from vicinal.lab.training import recipes

    for name, function in recipes.all_recipes().items():
        print(f"{name:38s}{(function.__doc__ or '').strip()}")
    return 0


def _run_one(args: Namespace, recipe: Recipe, settings: RunSettings) -> int:
    from vicinal.lab.training import distributed, loop, recipes
    from vicinal.lab.training.quick import describe_changes

    out = Path(args.out or Path("vicinal-runs", f"{args.recipe}-{recipe.fingerprint()[:6]}"))

    def kept() -> str:
        return f"{out} holds the last checkpoint" if [*out.glob("step-*.ckpt")] else "nothing was trained yet"

    try:
        with resumable(out, kept), distributed.job(settings.timeout) as job:
            if args.quick and job.rank == 0:
                note(f"a quick look: {describe_changes(recipes.find(args.recipe), recipe)}")
            results = loop.train(recipe, out, job, settings)
    except distributed.WorkerLost as error:
        note(f"vicinal: {error}; {kept()}; {RESUME}")
        sys.stdout.flush()
        # the usual way out closes the connections, which waits for the lost process, if it is only halted
        os._exit(1)
    if job.rank == 0:
        _print_results(args.recipe, results, out)
    return 0


def _print_results(name: str, results: RunResults, out: Path) -> None:
    error, last = results.test_error, min(10, len(results.epochs))
    median = f"median of the last {last} epochs; " if last > 1 else ""
    print(
        f"{name}: test error {100 * error.median_of_last_10:.2f} % ({median}"
        f"best {100 * error.best:.2f} %, last {100 * error.last:.2f} %)\nfigures {out / 'results.json'}"
    )
    if len(results.stretches) > 1:
        parts = (
            f"{each.processes} process(es) and PyTorch {each.torch} from step {each.step}" for each in results.stretches
        )
        print(f"not trained alike throughout: {', '.join(parts)}")


def _run_grid(args: Namespace, recipe: Recipe) -> int:
    from vicinal.lab import executor
    from vicinal.lab.training import grid

    if not args.grid:
        raise UserError('--cluster spreads the runs of a grid; add --grid, e.g. --grid "seed=0,1,2"')
    out = Path(args.out or Path("vicinal-runs", f"{args.recipe}-grid-{recipe.fingerprint()[:6]}")).absolute()
    points = grid.points(recipe, args.grid, out)
    words = [sys.executable, "-m", "vicinal.lab.cli", "train", args.recipe, *args.changes]
    words += [
        flag for flag, wanted in (("--quick", args.quick), ("--tensorboard", hasattr(args, "tensorboard"))) if wanted
    ]
    if hasattr(args, "save_every"):
        words += ["--save-every", str(args.save_every)]
    cluster = args.cluster or "local"
    interrupts.begin()
    executor.check_cluster(cluster)
    with resumable(out, lambda: f"the runs are in {out}", cluster):
        note_cluster(cluster, out)
        rows = grid.run(points, words, cluster, out, note)
    for row in rows:
        error = row.get("test_error")
        figure = row["failed"] if error is None else f"{100 * error['median_of_last_10']:6.2f} %"
        print(f"{figure}  {' '.join(row['changes'])}")
    print(f"figures {out / 'grid.json'}")
    return 1 if any("failed" in row for row in rows) else 0
