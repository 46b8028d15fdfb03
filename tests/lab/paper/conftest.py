"""The smoke runs of the studies."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from studies import SmokeRun, quiet

from vicinal.lab.paper import reproduce
from vicinal.lab.paper.store import JobFolder


@pytest.fixture(scope="session")
def smoke(one_at_a_time: Callable[[str], AbstractContextManager[Path]]) -> Callable[[str], SmokeRun]:
    """`smoke("toy")`: a study at its smallest, run once, with its table."""
    done: dict[str, SmokeRun] = {}

    def run(name: str) -> SmokeRun:
        if name not in done:
            torch.set_num_threads(1)  # as in the workers; this may come before the fixture of every test
            # of a study, a second process finds all jobs done
            with one_at_a_time(f"study-{name}") as own, pytest.MonkeyPatch.context() as quick:
                quick.setattr("vicinal.lab.paper.intrusion.RESAMPLED", 50)
                folder = JobFolder(own.parent / "reproduce", reproduce.find(name), "smoke")
                done[name] = folder, reproduce.conclude(folder, reproduce.run(folder, "the command", 1, quiet))
        return done[name]

    return run
