"""Programs under examples/stacks, run as a user runs them: by Python, in a folder of their own."""

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "examples" / "stacks"
LONGEST = 40  # lines


def printed_by(name: str, folder: Path, *launcher: str, timeout: float = 240) -> str:
    """Run a program of examples/stacks and return what it prints; `launcher` stands between Python and the program."""
    program = FOLDER / f"{name}.py"
    assert len(program.read_text().splitlines()) < LONGEST
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *launcher, str(program)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stdout
