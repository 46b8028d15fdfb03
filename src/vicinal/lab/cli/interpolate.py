"""what two trained models predict between their training points (the paper's figure 2)

Evaluate two models, trained on the same examples, on interpolations of pairs of these: how often is the prediction neither
of the two labels, how long is the gradient, and how far is the prediction from the line between those at the two examples?
Writes a folder with interpolation.json and three figures.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from vicinal.lab.cli.arguments import claimed, note, unwritten
from vicinal.lab.errors import UserError


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("a", metavar="RUN_A", help="a run folder of vicinal train, as of ERM")
    parser.add_argument("b", metavar="RUN_B", help="another, as of mixup")
    about = "a model of your own that a run was trained with, imported only if you name it here; repeatable"
    parser.add_argument("--model", metavar="PACKAGE.MODULE:FACTORY", action="append", default=[], help=about)
    parser.add_argument("--out", metavar="FOLDER", help="default: vicinal-runs/interpolation")


def run(args: Namespace) -> int:
    """Measure, write and print."""
    import vicinal
    from vicinal.lab import atomic
    from vicinal.lab.paper import interpolation

    folders = {"A": Path(args.a), "B": Path(args.b)}
    out = Path(args.out or Path("vicinal-runs", "interpolation"))
    pair = interpolation.load(folders["A"], folders["B"], args.model)
    with _writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with claimed(out):
        curves = dict(zip("AB", interpolation.compare(pair, on_progress=note), strict=True))
        record = {
            "command": args.line,
            "vicinal": vicinal.__version__,
            "pairs": interpolation.PAIRS,
            "lambda": interpolation.LAMBDAS,
            "models": {letter: {"folder": str(folders[letter]), **asdict(curve)} for letter, curve in curves.items()},
        }
        colors = {"A": "erm", "B": "mix"}
        named = [(f"{letter}: {folders[letter].resolve().name}", colors[letter], curves[letter]) for letter in "AB"]
        with _writing(out):
            atomic.write(out / "interpolation.json", json.dumps(record, indent=1))
            for letter, svg in interpolation.figure(named).items():
                atomic.write(out / f"figure2{letter}.svg", svg)
    print(f"A: {args.a}\nB: {args.b}\n{interpolation.PAIRS} pairs of training points\n")
    print("lambda  misses A, %  misses B, %  gradient A  gradient B  departure A  departure B")
    for i, share in enumerate(interpolation.LAMBDAS):
        misses = "".join(f"{100 * curve.misses[i]:13.2f}" for curve in curves.values())
        gradients = "".join(f"{curve.gradient[i]:12.4f}" for curve in curves.values())
        print(f"{share:6.2f}{misses}{gradients}" + "".join(f"{curve.departure[i]:13.4f}" for curve in curves.values()))
    print("\ndeparture from linearity: |f(x) - (lambda f(x_i) + (1 - lambda) f(x_j))|_1, where f is the softmax")
    print(f"\nfigures {out}")
    return 0


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{unwritten(error, out)}; choose another --out") from error
