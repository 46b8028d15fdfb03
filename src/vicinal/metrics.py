"""How good predictions are: accuracy on mixed batches under its own name, and proper scores for probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vicinal._shapes import spread
from vicinal.target import MixedTarget


def mixed_accuracy(logits: Tensor, y: MixedTarget | Tensor, topk: int = 1) -> Tensor:
    """Compute the lambda-weighted accuracy: the mean share of the label that the prediction agrees with.

    This is training accuracy while mixing; it is bounded by the labels' own shares (a row of 0.6 cat and 0.4 dog gives
    at most 0.6 at topk = 1), so never compare it with accuracy on plain examples. For plain class indices it is plain
    accuracy. Where examples are weighted (`y.weighted(w)`), it is the weighted mean.

    Args:
        logits: [n, num_classes, ...], floating point.
        y: a `MixedTarget` of shape [n, ...], or int64 [n, ...].
        topk: a class index counts as agreed with when it is among the `topk` largest logits.

    Convention:
        dimension 0: the rows of the batch, of predictions and targets alike.
        lambda: that of the target; a hit on a label counts by its share.
        one draw: nothing is drawn.

    Returns:
        float32 scalar in [0, 1].

    Raises:
        ValueError: shapes do not fit, or there are fewer than topk classes.

    Examples:
        >>> import torch
        >>> from vicinal import MixedTarget
        >>> y = MixedTarget(torch.tensor([[0, 1], [1, 0]]), torch.tensor([[0.7, 0.7], [0.3, 0.3]]))
        >>> mixed_accuracy(torch.tensor([[2.0, 0.0], [2.0, 0.0]]), y)
        tensor(0.5000)

    """
    if logits.ndim < 2 or (*logits.shape[:1], *logits.shape[2:]) != tuple(y.shape):
        raise ValueError(
            f"logits [n, num_classes, ...] go with class indices [n, ...], got {list(logits.shape)} and {list(y.shape)}"
        )
    if not 1 <= topk <= logits.shape[1]:
        raise ValueError(f"topk must lie in [1, {logits.shape[1]}], got {topk}")
    best = logits.topk(topk, dim=1).indices
    hits = torch.stack([torch.eq(column, y).to(torch.float32) for column in best.unbind(1)]).sum(0)  # pyright: ignore
    if not isinstance(y, MixedTarget):
        return hits.mean()
    return hits.sum() / spread(y.weight, y.ids).sum(dtype=torch.float32)


def nll(probabilities: Tensor, y: Tensor) -> Tensor:
    """Compute the mean negative log-likelihood in nats of class indices y [..., n] under probabilities [..., n, classes].

    Examples:
        >>> import torch
        >>> nll(torch.tensor([[0.8, 0.2], [0.5, 0.5]]), torch.tensor([0, 1]))
        tensor(0.4581)

    """
    _check(probabilities, y)
    return -probabilities.gather(-1, y[..., None]).squeeze(-1).log().mean(-1)


def brier(probabilities: Tensor, y: Tensor) -> Tensor:
    """Compute the Brier score (Brier 1950): the mean squared distance to the one-hot label, in [0, 2].

    Args:
        probabilities: [..., n, classes].
        y: int64 [..., n].

    Examples:
        >>> import torch
        >>> brier(torch.tensor([[0.8, 0.2], [0.5, 0.5]]), torch.tensor([0, 1]))
        tensor(0.2900)

    """
    _check(probabilities, y)
    y = y[..., None]
    gap = probabilities.scatter_add(-1, y, -torch.ones_like(y, dtype=probabilities.dtype))
    return gap.square().sum(-1).mean(-1)


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability diagram: per bin of confidence, float64 [..., bins] each; nan where a bin is empty.

    Args:
        count: number of predictions in the bin.
        confidence: their mean confidence.
        accuracy: the share of them that is right.

    Examples:
        >>> import torch
        >>> reliability(torch.tensor([[0.8, 0.2], [0.6, 0.4]]), torch.tensor([0, 1]), bins=2).count
        tensor([0., 2.], dtype=torch.float64)

    """

    count: Tensor
    confidence: Tensor
    accuracy: Tensor

    @property
    def ece(self) -> Tensor:
        """Expected calibration error [...]: the mean of `|accuracy - confidence|` over examples, in [0, 1]."""
        gap = (self.accuracy - self.confidence).abs() * self.count
        return torch.where(self.count == 0, 0.0, gap).sum(-1) / self.count.sum(-1)


def reliability(probabilities: Tensor, y: Tensor, bins: int = 15) -> Reliability:
    """Bin predictions by their confidence, in `bins` equal intervals of (0, 1] (Guo et al. 2017).

    A confidence on a border, in the precision it comes in, belongs to the interval below.

    Args:
        probabilities: [..., n, classes].
        y: int64 [..., n].
        bins: number of intervals.

    Examples:
        >>> import torch
        >>> found = reliability(torch.tensor([[0.8, 0.2], [0.6, 0.4]]), torch.tensor([0, 1]), bins=2)
        >>> found.confidence[1], found.accuracy[1]  # both lie in (0.5, 1]
        (tensor(0.7000, dtype=torch.float64), tensor(0.5000, dtype=torch.float64))

    """
    _check(probabilities, y)
    confidence, predicted = probabilities.max(-1)
    borders = torch.arange(1, bins, dtype=torch.float64, device=confidence.device) / bins
    where = torch.bucketize(confidence, borders.to(confidence.dtype))
    confidence = confidence.to(torch.float64)
    empty = torch.zeros(*confidence.shape[:-1], bins, dtype=torch.float64, device=probabilities.device)
    count = empty.scatter_add(-1, where, torch.ones_like(confidence))
    total = empty.scatter_add(-1, where, confidence)
    hits = empty.scatter_add(-1, where, (predicted == y).to(torch.float64))
    return Reliability(count, total / count, hits / count)


def ece(probabilities: Tensor, y: Tensor, bins: int = 15) -> Tensor:
    """Compute the expected calibration error [...] of probabilities [..., n, classes] for class indices y int64 [..., n].

    Examples:
        >>> import torch
        >>> ece(torch.tensor([[0.8, 0.2], [0.6, 0.4]]), torch.tensor([0, 1]), bins=2)
        tensor(0.2000, dtype=torch.float64)

    """
    return reliability(probabilities, y, bins).ece


def _check(probabilities: Tensor, y: Tensor) -> None:
    """Refuse ids of another shape, of which `gather` would quietly score a part."""
    if not isinstance(y, Tensor) or y.shape != probabilities.shape[:-1]:
        raise ValueError(
            f"probabilities [..., n, classes] go with plain class indices [..., n], got {list(probabilities.shape)} and "
            f"{type(y).__name__} {list(y.shape)}"
        )
