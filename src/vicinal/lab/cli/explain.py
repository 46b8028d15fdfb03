"""what a code of `vicinal check` means, and what to do

Print what a code stands for: what it does to a training run, how it comes about, and how to mend it. Without a code, list
all codes.

Examples:
  vicinal explain
  vicinal explain VIC011
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from vicinal.lab.errors import UserError


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("code", metavar="CODE", nargs="?", help="such as VIC011; without one, all are listed")


def run(args: Namespace) -> int:
    """Print the card of a code, or the list."""
    from vicinal.checking.codes import CODES

    if args.code is None:
        for kind in CODES.values():
            print(f"{kind.code}  {kind.severity:<7}  {kind.title}")
        return 0
    print(CODES[find(args.code)].card().rstrip())
    return 0


def find(text: str) -> str:
    """Return the code that a text names, in any case.

    Raises:
        UserError: there is none; a near one is proposed.

    """
    from vicinal.checking.codes import CODES
    from vicinal.lab.format import did_you_mean

    name = text.strip().upper()
    if name in CODES:
        return name
    digits = name.removeprefix("VIC").strip("-_ ")
    if digits.isascii() and digits.isdigit():
        name = f"VIC{int(digits):03d}"
    like = f"; did you mean {name!r}?" if name in CODES else did_you_mean(name, CODES)
    raise UserError(f"there is no code {text!r}{like or ': `vicinal explain` lists them'}")
