"""What the paper says of capacity, of training time and of alpha, and what the conditions of the diagram say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from vicinal.lab.paper.claims import Claim, Evidence, Expected
from vicinal.lab.paper.phases.conditions import FACTORS, MEASURES, TRAIN_ERROR, Measured, Of, differences, mean_by_seed
from vicinal.lab.paper.phases.runs import Grid, mixup
from vicinal.lab.paper.rows import ERM


def make(families: Mapping[str, Grid], measured: Measured) -> tuple[Claim, ...]:
    """Return the claims with their evidence."""
    limits = "networks that a CPU trains in seconds, without early stopping"
    return (
        Claim(
            "in a larger model the training error is less sensitive to a large alpha, so that mixup gains more",
            "5",
            tuple(
                _contrasted(measured, family, noisy, "width", grid.widths, what)
                for family, grid in families.items()
                for noisy in (False, True)
                for what in ("training error", "test error")
            ),
            limits,
        ),
        Claim(
            "mixup gains more with longer training",
            "3.1",
            tuple(
                _contrasted(measured, family, noisy, "epochs", grid.epochs, "test error")
                for family, grid in families.items()
                for noisy in (False, True)
            ),
            limits,
        ),
        Claim(
            "as alpha grows, the training error on real data rises, and the gap to the test error falls",
            "5",
            tuple(
                _along_alpha(measured, family, noisy, smaller, larger, what)
                for family, grid in families.items()
                for noisy in (False, True)
                for smaller, larger in _neighbors(grid)
                for what in ("training error", "gap")
            ),
            limits,
        ),
    )


_OF: dict[str, tuple[Of, Expected]] = {  # what is measured, and which way alpha is to move it
    "training error": (TRAIN_ERROR, "higher"),
    "test error": (MEASURES["test error"][1], "lower"),
    "gap": (lambda scores: scores.gap, "lower"),
}


def _contrasted(
    measured: Measured, family: str, noisy: bool, factor: str, levels: Sequence[float], what: str
) -> Evidence:
    """Return how much lower what alpha = 1 adds to an error is at the highest level of a factor than at the lowest."""
    low, high = (
        mean_by_seed(
            [
                differences(_OF[what][0], 100.0, methods[mixup(1.0)], methods[ERM])
                for condition, methods in _some(measured, family, noisy).items()
                if FACTORS[factor][0](condition) == level
            ]
        )
        for level in (levels[0], levels[-1])
    )
    title = FACTORS[factor][2]
    return Evidence(
        f"{_regime(family, noisy)}: what {mixup(1.0)} adds to the {what}, {title.format(levels[-1])} against "
        f"{title.format(levels[0])}",
        "points",
        tuple(b - a for a, b in zip(low, high, strict=False)),
        "lower",
        contrast=noisy,
    )


def _along_alpha(measured: Measured, family: str, noisy: bool, smaller: str, larger: str, what: str) -> Evidence:
    """Return how much an error grows from one method to the next."""
    of, expected = _OF[what]
    found = [
        differences(of, 100.0, methods[larger], methods[smaller]) for methods in _some(measured, family, noisy).values()
    ]
    about = f"{_regime(family, noisy)}: {what}, {larger} against {smaller}"
    return Evidence(about, "points", mean_by_seed(found), expected, contrast=noisy)


def _neighbors(grid: Grid) -> list[tuple[str, str]]:
    """Return pairs of methods whose alphas follow each other; ERM is alpha = 0."""
    methods = [ERM, *(mixup(alpha) for alpha in sorted(grid.alphas))]
    return list(pairwise(methods))


def _some(measured: Measured, family: str, noisy: bool) -> Measured:
    return {c: methods for c, methods in measured.items() if c.family == family and (c.noise > 0) == noisy}


def _regime(family: str, noisy: bool) -> str:
    return f"{family}, {'label noise' if noisy else 'clean labels'}"
