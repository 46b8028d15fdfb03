"""The museum: historical mixing bugs as minimal pipelines (faults/), and correct ones of many shapes (correct/).

Each file is a module as a user might have it. Its docstring says what it is and where the bug was reported, and has two
lines that are read by machine: what is given to `vicinal check`, and which code must be found. Codes were decided from
their meaning, before the checker had seen a pipeline.
"""

from __future__ import annotations

import ast
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
FAULTS, CORRECT = "faults", "correct"


@dataclass(frozen=True)
class Exhibit:
    """One pipeline of the museum, read from its file without running it.

    Args:
        file: its path.
        about: what it is, and what is wrong with it.
        source: the repository and thread, or the code, it was written after.
        target: the name in the file that is checked.
        options: of `vicinal check`.
        finds: the codes of which one must be found; empty for a correct pipeline.

    """

    file: Path
    about: str
    source: str
    target: str
    options: tuple[str, ...]
    finds: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its folder and file, as faults/deit_criterion."""
        return f"{self.file.parent.name}/{self.file.stem}"

    @property
    def is_correct(self) -> bool:
        """Whether nothing is wrong with it."""
        return self.file.parent.name == CORRECT


def read(file: Path) -> Exhibit:
    """Return the pipeline of a file.

    Raises:
        ValueError: its docstring lacks one of the parts.

    """
    doc = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    parts = {}
    for name, pattern in (
        ("about", r"\A(.+?)\n\n"),
        ("source", r"^Source: (.+?)\n\n"),
        ("check", r"^ +check: (.+?)$"),
        ("finds", r"^ +finds: (.+?)$"),
    ):
        found = re.search(pattern, doc, re.MULTILINE | re.DOTALL)
        if found is None:
            raise ValueError(f"{file}: the docstring has no {name!r}")
        parts[name] = " ".join(found[1].split())
    target, *options = shlex.split(parts["check"])
    finds = () if parts["finds"] == "nothing" else tuple(parts["finds"].split(" or "))
    return Exhibit(file, parts["about"], parts["source"], target, tuple(options), finds)


def exhibits() -> list[Exhibit]:
    """Return all pipelines, the faulty ones first."""
    return [read(file) for folder in (FAULTS, CORRECT) for file in sorted((FOLDER / folder).glob("*.py"))]
