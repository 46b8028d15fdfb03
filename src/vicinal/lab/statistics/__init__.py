"""Is a difference more than sampling noise? Intervals, tests and posteriors for differences between methods.

`rows_paired` takes rows and seeds for the units, and is what a verdict should rest on where the loss of each row is known;
`resampled` takes the seeds, for those who have one score per seed. Both return an `Effect`: its `paired` is difference,
interval and p-value, and `posterior`, `equivalence` and `detectable` follow from it. Lower scores are better.
"""

from vicinal.lab.statistics.correction import auroc, holm
from vicinal.lab.statistics.effect import Effect, Interval, Paired, Posterior, detectable
from vicinal.lab.statistics.rows import FACTOR, rows_paired
from vicinal.lab.statistics.seeds import five_by_two, five_by_two_t, interval, paired, posterior, resampled

__all__ = [
    "FACTOR",
    "Effect",
    "Interval",
    "Paired",
    "Posterior",
    "auroc",
    "detectable",
    "five_by_two",
    "five_by_two_t",
    "holm",
    "interval",
    "paired",
    "posterior",
    "resampled",
    "rows_paired",
]
