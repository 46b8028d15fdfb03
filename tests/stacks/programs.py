"""Programs under examples/stacks, run as a user runs them: by Python, in a folder of their own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "examples" / "stacks"
LONGEST = 40  # lines


def printed_by(name: str, folder: Path, *launcher: str, timeout: float = 240) -> str:
    """Run a program of examples/stacks and return what it prints; `launcher` stands between Python and the program."""
    program = FOLDER / f"{name}.py"
    assert len(program.read_text().splitlines()) < LONGEST
    return printed([*launcher, str(program)], folder, timeout)


def printed(arguments: Sequence[str], folder: Path, timeout: float = 240, **environment: str) -> str:
    """Run Python in a folder, offline and on one thread, and return what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stdout
