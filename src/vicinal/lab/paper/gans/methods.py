"""What the discriminator of a GAN minimizes and its generator maximizes: plain, mixed, or with smoothed labels.

All losses are the binary cross-entropy l of a logit with a label between 0 and 1; real points have the label 1. Every
method plays the paper's game, in which the generator maximizes what the discriminator minimizes. (A generator that
minimizes l(d(g(z)), 1) instead is common, and another game.)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal import Beta

Discriminator = Callable[[Tensor], Tensor]  # logits [n, 1] of points [n, 2]


class GanMethod(ABC):
    """A game between discriminator and generator."""

    batches: int = 1  # how many batches of real and of generated points a step of the discriminator takes

    @abstractmethod
    def loss(self, d: Discriminator, real: Tensor, fake: Tensor, generator: np.random.Generator) -> Tensor:
        """Return what the discriminator minimizes, a number.

        Args:
            d: the discriminator.
            real: points of the data, [batches * n, 2].
            fake: generated points, [batches * n, 2].
            generator: for whatever else is random.

        """

    def generator_objective(
        self, d: Discriminator, real: Tensor, fake: Tensor, generator: np.random.Generator
    ) -> Tensor:
        """Return what the generator maximizes, for one batch: l(d(g(z)), 0), all of the plain game that depends on it."""
        return cross_entropy(d(fake), 0.0)


@dataclass(frozen=True)
class PlainGan(GanMethod):
    """The GAN without mixing, "ERM" in figure 5: max_g min_d E l(d(x), 1) + l(d(g(z)), 0)."""

    epsilon = 0.0

    def loss(self, d: Discriminator, real: Tensor, fake: Tensor, generator: np.random.Generator) -> Tensor:
        """Return the sum of the means over real and over generated points."""
        logit = d(torch.cat([real, fake]))
        return cross_entropy(logit[: len(real)], 1 - self.epsilon) + cross_entropy(logit[len(real) :], 0.0)


@dataclass(frozen=True)
class SmoothedGan(PlainGan):
    """One-sided label smoothing (Salimans et al. 2016): real points have the label 1 - epsilon, generated ones 0."""

    epsilon: float = 0.1


@dataclass(frozen=True)
class MixupGan(GanMethod):
    """Mixup by the paper's formula: max_g min_d E l(d(lambda x + (1 - lambda) g(z)), lambda), lambda ~ Beta(alpha, alpha).

    Each triple (x, z, lambda) is a draw of the expectation, so lambda is drawn for each example.

    Args:
        alpha: > 0.
        both: the generator maximizes this loss too, through the mixing, as the formula has it. False: it plays the plain
            game, as in the author's demo, and only the discriminator sees mixed points.

    """

    alpha: float = 0.2
    both: bool = True

    def loss(self, d: Discriminator, real: Tensor, fake: Tensor, generator: np.random.Generator) -> Tensor:
        """Return the mean over the mixed points."""
        share = torch.from_numpy(Beta(self.alpha, per="example").draw(generator, len(real))[:, :1]).to(real)
        return cross_entropy(d(torch.lerp(fake, real, share)), share)

    def generator_objective(
        self, d: Discriminator, real: Tensor, fake: Tensor, generator: np.random.Generator
    ) -> Tensor:
        """Return the same loss, or the plain one."""
        return (
            self.loss(d, real, fake, generator) if self.both else super().generator_objective(d, real, fake, generator)
        )


@dataclass(frozen=True)
class BatchMixupGan(GanMethod):
    """Mixup as in the author's demo, which is not the formula.

    Two batches, each of n real and n generated points, are mixed in random order, so that pairs of two real and of two
    generated points occur too; the first has the share lambda ~ U(0, bound) for each example, the second the rest. The
    generator plays the plain game. Figure 5's "alpha = 0.2" may be this bound.
    """

    bound: float = 0.2
    batches = 2

    def loss(self, d: Discriminator, real: Tensor, fake: Tensor, generator: np.random.Generator) -> Tensor:
        """Return the mean over the 2 n mixed points."""
        points = torch.cat([real.unflatten(0, (2, -1)), fake.unflatten(0, (2, -1))], dim=1)  # [2, 2 n, 2]
        n = len(real) // 2
        label = torch.cat([real.new_ones(n, 1), real.new_zeros(n, 1)])
        # a shuffled batch beside one in order: to shuffle both would change the order of the pairs, not the pairs
        order = torch.from_numpy(generator.permutation(2 * n))
        share = torch.from_numpy(generator.uniform(0, self.bound, (2 * n, 1))).to(real)
        return cross_entropy(d(torch.lerp(points[1][order], points[0], share)), torch.lerp(label[order], label, share))


def cross_entropy(logit: Tensor, label: Tensor | float) -> Tensor:
    """Return the mean binary cross-entropy of logits [n, 1] with labels of the same shape, or one for all."""
    if not isinstance(label, Tensor):
        label = torch.full_like(logit, label)
    return F.binary_cross_entropy_with_logits(logit, label)
