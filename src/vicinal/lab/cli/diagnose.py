"""where would mixed examples of this data land? a look before any training

Mix rows of a table as mixup does, and compare the mixed labels with those of the nearest rows. Nothing is trained.
Reports what was found, and how well such findings predicted what mixup did where models were trained.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial

from vicinal.lab.cli.arguments import add_table, load_table, note_columns
from vicinal.lab.option import read


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("data", metavar="DATA", help="as for compare; classification")
    add_table(parser)
    parser.add_argument(
        "--alpha",
        metavar="A[,A...]",
        type=partial(read, "--alpha", kind=tuple[float, ...]),
        help="mixup's alphas (default: 0.1,0.4,1)",
    )


def run(args: Namespace) -> int:
    """Measure and print."""
    from vicinal.lab.compare import diagnose

    data = load_table(args)
    alphas = diagnose.ALPHAS if args.alpha is None else args.alpha
    found = diagnose.diagnose(data, alphas)
    note_columns(data)
    print(diagnose.in_words(data, found))
    return 0
