"""Write plans, states and mixed targets as this version writes them, for `test_stored.py`, which holds later ones to them.

    python tests/make_golden_plans.py tests/golden_plans/formatN    # plans.pt, targets.pt, states.json

Each plan stands beside what it made of one batch. Once for each format: what is written stays as it is; cases that came into
the table since then are added to the newest. `format0` is of the
version before there were formats, `format2` the first that names the version of its draws.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import vicinal
from vicinities import CASES, CLASSES, Case, images

ROWS, STEP = 4, 7


def batch(case: Case) -> tuple[Tensor, Tensor]:
    """Return inputs and targets of a case."""
    return images(ROWS, torch.float32), case.y(ROWS).float() if case.numbers else case.y(ROWS)


def replayed(plan: vicinal.Plan, case: Case) -> dict[str, Tensor]:
    """Return what a plan makes of the batch of a case, a few numbers of it."""
    x, y = batch(case)
    mixed = plan.target(y)
    return {"x": plan(x)[:, :1].clone(), "y": mixed if isinstance(mixed, Tensor) else mixed.dense(CLASSES)}


def used(case: Case) -> vicinal.Vicinity:
    """Return a vicinity that has mixed three batches."""
    vicinity = case.fresh()
    for _ in range(3):
        vicinity(*batch(case))
    return vicinity


def main(folder: Path) -> None:
    """Write the files."""
    plans: dict[str, dict[str, Any]] = {}
    targets: dict[str, Any] = {}
    states: dict[str, Any] = {}
    if folder.exists():
        plans = torch.load(folder / "plans.pt", weights_only=True)
        targets = torch.load(folder / "targets.pt", weights_only=True)
        states = json.loads((folder / "states.json").read_text())
    folder.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        if case.name in plans:
            continue
        x, y = batch(case)
        plan = case.vicinity.plan(ROWS, y, x, step=STEP, epoch=case.epoch)
        plans[case.name] = {"plan": plan.to_dict(), "made": replayed(plan, case)}
        if not case.numbers:
            targets[case.name] = {"target": plan.target(y), "dense": plan.target(y).dense(CLASSES)}
        states[case.name] = used(case).state_dict()
    torch.save(plans, folder / "plans.pt")
    torch.save(targets, folder / "targets.pt")
    (folder / "states.json").write_text(json.dumps(states, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
