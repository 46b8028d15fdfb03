"""No program of examples/stacks is without a test that runs it."""

import re
from pathlib import Path

from stacks.programs import FOLDER


def test_every_program_is_run():
    tests = "\n".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    run = set(re.findall(r'printed_by\(\s*"(\w+)"', tests))
    assert {file.stem for file in FOLDER.glob("*.py")} == run
