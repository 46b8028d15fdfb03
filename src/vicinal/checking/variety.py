"""Do draws vary as they should? Their lambdas, partners and frequency over many runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from vicinal.checking.draws import MIXED, Draw, is_mixed
from vicinal.checking.report import Fault
from vicinal.keyed import Key

_SURE = 1e-6  # a finding that chance would make in one check of a million


def findings(
    draws: Sequence[Draw],
    alpha: float | None,
    p: float | None,
    rates: Sequence[float],
    lambdas: Sequence[float],
    classes: Callable[[int], int],
) -> Iterator[Fault]:
    """Return how the draws of one pipeline do not vary as they should.

    Args:
        draws: runs on the same rows.
        alpha: declared parameter of Beta(alpha, alpha); None: not declared.
        p: declared probability that a batch, or a row, is mixed; None: not declared.
        rates: the fraction of mixed rows in each of many batches.
        lambdas: one per batch of many, the share of a row that is mixed as a weighted sum.
        classes: the class of a row, by its number.

    """
    mixed = [draw for draw in draws if draw.is_mixed()]
    if len(draws) >= 4 and len(mixed) == len(draws) and all(_same_draw(draws[0], draw) for draw in draws[1:]):
        lams = sorted({round(lam, 3) for lam in draws[0].lambdas()})
        shown = ", ".join(f"{lam:.3f}" for lam in lams[:4])
        yield Fault("VIC021", f"{len(draws)} batches had the same shares ({shown}) and the same partners.")
    elif alpha is not None and len(lambdas) >= 8:
        yield from _distribution(np.array(lambdas), alpha)
    yield from _self_pairs(mixed, classes)
    if p is not None and len(rates) >= 20:
        yield from _rate(rates, p, alpha)


def _same_draw(a: Draw, b: Draw) -> bool:
    first, second = a.signature(), b.signature()
    return len(first) == len(second) > 0 and float(np.abs(np.array(first) - np.array(second)).max()) < 1e-4


def _distribution(lambdas: np.ndarray, alpha: float) -> Iterator[Fault]:
    """Compare lambdas with Beta(alpha, alpha) by the two-sample Kolmogorov-Smirnov test.

    Lambdas next to 0 and 1 are left out of both samples: such a batch looks unmixed.
    """
    inner = np.sort(lambdas[(lambdas > MIXED) & (lambdas < 1 - MIXED)])
    if len(inner) < 8:
        return
    if alpha <= 0:
        yield Fault("VIC020", f"alpha = {alpha:g} was declared, which mixes nothing; lambda was {inner[0]:.3f}.")
        return
    drawn = Key(5, 0, 0, 0).generator().beta(alpha, alpha, 40_000)
    drawn = np.sort(drawn[(drawn > MIXED) & (drawn < 1 - MIXED)])
    both = np.concatenate([inner, drawn])
    distance = float(
        np.abs(
            np.searchsorted(inner, both, "right") / len(inner) - np.searchsorted(drawn, both, "right") / len(drawn)
        ).max()
    )
    size = math.sqrt(len(inner) * len(drawn) / (len(inner) + len(drawn)))
    chance = 2 * math.exp(-2 * (size * distance) ** 2)
    if chance < _SURE:
        spread = float(inner.std())
        wanted = float(drawn.std())
        folded = ""
        if inner.min() >= 0.5:
            folded = " None is below 0.5, as if folded to max(lambda, 1 - lambda)."
        elif abs(inner.mean() - 0.5) > 5 * spread / math.sqrt(len(inner)):
            folded = " Its mean is not 0.5, so that it is not symmetric: rows and their partners do not count alike."
        yield Fault(
            "VIC020",
            f"{len(inner)} lambdas have mean {inner.mean():.3f} and standard deviation {spread:.3f}, where Beta({alpha:g}, "
            f"{alpha:g}) has 0.500 and {wanted:.3f} (Kolmogorov-Smirnov distance {distance:.2f}).{folded}",
        )


def _self_pairs(mixed: Sequence[Draw], classes: Callable[[int], int]) -> Iterator[Fault]:
    """Return whether rows stay alone in batches of one lambda more often than a random permutation leaves them."""
    if all(classes(i) == classes(j) for draw in mixed for i, j in draw.partners()):
        return  # partners of one class: a row may have none
    alone = total = batches = 0
    for draw in mixed:
        lams = draw.lambdas()
        rows = [row for row in draw.main() or [] if row.is_known]
        plainly = bool(lams) and min(lams) > 0.1 and max(lams) < 0.9 and max(row.error for row in rows) < 1e-3
        if len(rows) < 4 or len(rows) > len(draw.fed.ids) or not plainly or max(lams) - min(lams) > 1e-3:
            continue
        batches += 1
        total += len(rows)
        alone += sum(not is_mixed(row) for row in rows)
    # a permutation leaves one row of a batch alone on average; the number is Poisson to a good approximation
    if batches and alone > batches + 5 * math.sqrt(batches) + 3:
        yield Fault(
            "VIC027",
            f"{alone} of {total} rows in {batches} mixed batches are alone; a random permutation leaves {batches}.",
        )


def _rate(rates: Sequence[float], p: float, alpha: float | None) -> Iterator[Fault]:
    """Compare how many batches and rows are mixed with p, which may be that of a batch or of a row.

    Rows whose lambda is next to 1, or whose partner they are themselves, look unmixed; so a part of them is allowed for.
    """
    n = len(rates)
    if p == 0 and not any(rates):
        return
    batches = sum(rate > 0 for rate in rates) / n
    rows = float(np.mean([rate for rate in rates if rate > 0] or [0.0]))
    visible = 0.75
    if alpha is not None:
        drawn = Key(5, 0, 0, 1).generator().beta(alpha, alpha, 20_000)
        visible = 0.9 * float(((drawn > MIXED) & (drawn < 1 - MIXED)).mean())
    slack = 5 * math.sqrt(max(p * (1 - p), 0.01) / n)
    of_batches = p * visible - slack <= batches <= p + slack and rows > 0.75 * visible
    of_rows = p * visible * 0.8 - slack <= batches * rows <= p + slack and batches > 0.95
    if not (of_batches or of_rows):
        yield Fault(
            "VIC029",
            f"{batches:.2f} of {n} batches are mixed, and {rows:.2f} of the rows in these, where {p:g} was declared.",
        )


def repeated(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> bool:
    """Return whether two runs of batches have the same draws: their shares agree, batch by batch, and vary within a run.

    Args:
        first: for each batch, shares that are neither 0 nor 1.
        second: the same of another run.

    """
    pairs = [(set(smaller_parts(a)), set(smaller_parts(b))) for a, b in zip(first, second, strict=False) if a and b]
    if not pairs or len(pairs) < 0.5 * min(sum(map(bool, first)), sum(map(bool, second))):
        return False
    # rows of one class show no share, and which rows these are differs between the runs; chance makes no three equal
    alike = [_alike(a, b) for a, b in pairs]
    # boxes have few different sizes: then batches that have nothing to do with one another are as alike
    others = [_alike(a, b) for i, (a, _) in enumerate(pairs) for j, (_, b) in enumerate(pairs) if i != j]
    return sum(alike) >= 0.9 * len(alike) and (not others or sum(others) < 0.5 * len(others))


def _alike(a: set[float], b: set[float]) -> bool:
    return len(a & b) >= min(3, 0.7 * min(len(a), len(b)))


def varies(batches: Sequence[Sequence[float]]) -> bool:
    """Return whether the shares of a run differ from batch to batch."""
    sets = [frozenset(smaller_parts(batch)) for batch in batches if batch]
    return len(sets) > 1 and not frozenset.intersection(*sets)


def smaller_parts(shares: Sequence[float]) -> list[float]:
    """Return each share or what is left of 1, the smaller one, to four digits."""
    return [round(min(s, 1 - s), 4) for s in shares if MIXED < s < 1 - MIXED]
