"""the published datasets: which there are, fetch one, check one

Fetch published datasets from their publishers, with checks, into the folder that VICINAL_DATA names.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace

from vicinal.lab.cli.arguments import counting
from vicinal.lab.errors import UserError

_NO_ROOT = "set VICINAL_DATA to the folder that holds your datasets"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("action", choices=("list", "fetch", "verify"))
    parser.add_argument("name", metavar="NAME", nargs="?", help="a name of `vicinal data list`")


def run(args: Namespace) -> int:
    """List, fetch or verify."""
    root = os.environ.get("VICINAL_DATA")
    if args.action == "list":
        _list(root)
        return 0
    if args.name is None:
        raise UserError(f"vicinal data {args.action} needs a name; vicinal data list shows them")
    if root is None:
        raise UserError(_NO_ROOT)
    from vicinal.lab.data import download

    if args.action == "verify":
        print(download.verify(args.name, root))
        return 0
    with counting(f"fetching {args.name}") as progress:
        print(download.fetch(args.name, root, progress=progress))
    return 0


def _list(root: str | None) -> None:
    from vicinal.lab.data import download

    for name, source in download.DATASETS.items():
        size = "" if source.size is None else f"{source.size / 2**20:,.0f} MB"
        here = ""
        if root is not None:
            here = "not there" if download.missing(source, os.path.expanduser(root)) else "there"
        print(f"{name:22s}{source.title:26s}{size:>12s}   {here}".rstrip())
    print(f"\nlooked for in {root}" if root else f"\n{_NO_ROOT}")
