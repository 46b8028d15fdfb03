"""No program of examples/stacks is without a test that runs it."""

import re
from pathlib import Path

from stacks.programs import FOLDER


def test_every_program_is_run():
    folders = [Path(__file__).parents[1] / name for name in ("stacks", "vision")]
    tests = "\n".join(file.read_text() for folder in folders for file in folder.glob("test_*.py"))
    run = set(re.findall(r'printed_by\(\s*"(\w+)"', tests))
    assert {file.stem for file in FOLDER.glob("*.py")} == run
