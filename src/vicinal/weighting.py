"""How much of itself an example keeps: the law of the mixing weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from vicinal._checks import Per, check_alpha, check_count, check_per
from vicinal._value import Value


class Weighting(Value, ABC):
    """Draws the shares of a row and of its partners.

    Convention:
        dimension 0: the rows of the batch.
        lambda: the first column, the share that a row keeps of itself; the other columns are its partners' shares.
        one draw: the shares of all rows of a batch.

    Examples:
        >>> import numpy as np
        >>> class Half(Weighting):
        ...     def draw(self, generator, n):
        ...         return np.full((n, 2), 0.5)
        >>> from vicinal import Mixup
        >>> Mixup(Half(), seed=2).plan(3, step=0)
        Plan(3 rows; 0: 0.5 + 0.5 of 0; 1: 0.5 + 0.5 of 1; 2: 0.5 + 0.5 of 2)

    """

    @abstractmethod
    def draw(self, generator: np.random.Generator, n: int) -> np.ndarray:
        """Draw float64 [n, k] for k examples in the mix: non-negative, rows sum to 1, the row's own share first."""


@dataclass(frozen=True)
class Beta(Weighting):
    """lambda ~ Beta(alpha, alpha), the law of mixup (Zhang et al. 2018, section 2).

    Args:
        alpha: > 0; towards 0 no mixing, 1 uniform, towards infinity always one half.
        per: one lambda for the whole batch (the paper's figure 1a) or one per example.
        folded: max(lambda, 1 - lambda) instead of lambda, so that each row stays the larger part of its mix, as MixMatch
            has it (Berthelot et al. 2019, equation 9).

    Convention:
        dimension 0: the rows of the batch.
        lambda: the first column, the share that a row keeps of itself; the other columns are its partners' shares.
        one draw: one lambda per batch, or per example with `per="example"`.

    Raises:
        TypeError: folded is neither True nor False.
        ValueError: alpha is not a finite number > 0, or per is neither of the two.

    Examples:
        >>> from vicinal import Mixup
        >>> Mixup(Beta(0.4, per="example"), seed=1).plan(2, step=0)
        Plan(2 rows; 0: 0.0711 + 0.929 of 1; 1: 0.983 + 0.0174 of 0)

    """

    alpha: float = 1.0
    per: Per = "batch"
    folded: bool = False

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        check_per(self.per)
        if not isinstance(self.folded, bool):
            raise TypeError(f"folded must be True or False, got {self.folded!r}")

    def draw(self, generator: np.random.Generator, n: int) -> np.ndarray:
        """Draw float64 [n, 2]: lambda and 1 - lambda."""
        shares = np.empty((n, 2))
        lam = generator.beta(self.alpha, self.alpha, size=1 if self.per == "batch" else n)
        shares[:, 0] = np.maximum(lam, 1 - lam) if self.folded else lam
        np.subtract(1, shares[:, 0], out=shares[:, 1])
        return shares


@dataclass(frozen=True)
class Dirichlet(Weighting):
    """Shares ~ Dirichlet(alpha, ..., alpha) of `k` examples: mixup of three or more (Zhang et al. 2018, section 2).

    Args:
        alpha: > 0.
        k: how many examples are mixed into one, the row itself included; >= 2. For k = 2 this is Beta(alpha).
        per: one draw for the whole batch or one per example.

    Convention:
        dimension 0: the rows of the batch.
        lambda: the first column, the share that a row keeps of itself; the other columns are its partners' shares.
        one draw: one lambda per batch, or per example with `per="example"`.

    Raises:
        ValueError: alpha is not a finite number > 0, k < 2, or per is neither of the two.

    Examples:
        >>> from vicinal import Mixup
        >>> plan = Mixup(Dirichlet(1.0, k=3), seed=2).plan(3, step=0)
        >>> plan.weight[0]
        tensor([0.4323, 0.0934, 0.4743])

    """

    alpha: float = 1.0
    k: int = 3
    per: Per = "batch"

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        check_per(self.per)
        check_count("k", self.k, 2, "the examples mixed into one")

    def draw(self, generator: np.random.Generator, n: int) -> np.ndarray:
        """Draw float64 [n, k]."""
        shares = generator.dirichlet([self.alpha] * self.k, size=1 if self.per == "batch" else n)
        return np.broadcast_to(shares, (n, self.k))
