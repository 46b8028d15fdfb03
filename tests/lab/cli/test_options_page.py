"""The page of `vicinal compare` names every option of the command."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from pathlib import Path

from vicinal.lab.cli import compare
from vicinal.lab.data import table_files

PAGE = (Path(__file__).parents[3] / "docs/how-to/compare.md").read_text()


def test_every_option_has_a_row() -> None:
    parser = ArgumentParser(add_help=False)
    compare.add_arguments(parser)
    options = {flag for action in parser._actions for flag in action.option_strings}
    table = PAGE.partition("\n## Options\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(--[a-z-]+)", table))
    assert (options - named, named - options) == (set(), set())
    assert {"--missing", "--sheet", "--min-class"} <= options


def test_every_ending_is_listed() -> None:
    table = PAGE.partition("\n### Formats\n")[2].partition("\n## ")[0]
    endings = {ending for suffix in table_files.SUFFIXES for ending in re.findall(r"\.[a-z0-9]+", suffix)}
    assert [ending for ending in sorted(endings) if f"{ending}," not in table and f"{ending} " not in table] == []
