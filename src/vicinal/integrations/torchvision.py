"""torchvision's `v2.MixUp` and `v2.CutMix` by one changed import: `from vicinal.integrations.torchvision import MixUp`.

They need nothing of torchvision. What is not as there: partners are a random permutation of the batch, where torchvision
takes each row's predecessor; a draw depends on the seed, the rank and the number of the batch, and on no global generator.
With the same partners and lambda, images and labels are torchvision's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from vicinal import vicinities
from vicinal._batch import SplitBatch, split_batch
from vicinal._checks import check_count
from vicinal.target import MixedTarget
from vicinal.vicinity import Vicinity

LabelsGetter = Callable[[Any], Tensor] | Literal["default"] | None


class _BatchTransform(torch.nn.Module):
    """What both transforms do with a batch."""

    def __init__(self, vicinity: Vicinity, alpha: float, num_classes: int | None, labels_getter: LabelsGetter) -> None:
        super().__init__()
        if not (labels_getter in ("default", None) or callable(labels_getter)):
            raise ValueError(f'labels_getter is a function, "default" or None, got {labels_getter!r}')
        if num_classes is not None:
            check_count("num_classes", num_classes, 1, "the columns of labels")
        self.vicinity, self.alpha = vicinity, alpha
        self.num_classes, self.labels_getter = num_classes, labels_getter

    def forward(self, *inputs: Any) -> Any:
        """Mix a batch: images and labels, as `transform(images, labels)`, or one mapping or sequence that holds them.

        Args:
            inputs: images [n, ...]; labels int64 [n], or [n, num_classes], soft or of 0 and 1, of any dtype; or class maps
                int64 [n, height, width].

        Returns:
            The batch in its type; images mixed, torchvision's `Image` and `Video` as such; labels float [n, num_classes],
            of float32 if they were integers; of class maps [n, num_classes, height, width].

        Raises:
            ValueError: it is not clear what the labels are, they have another form, or `num_classes` was not given for class
                indices.

        """
        (batch,) = inputs if len(inputs) == 1 else (inputs,)
        x, y, join = self._split(batch)
        mixed, target = self.vicinity(x, self._labels(y))
        if isinstance(target, MixedTarget) and self.num_classes is not None:
            target = target.dense(self.num_classes)
        return join(pytree.tree_map(_typed_as, mixed, x), target)

    def extra_repr(self) -> str:
        """Return the arguments, as torchvision shows them."""
        return f"alpha={self.alpha}, num_classes={self.num_classes}"

    def _labels(self, y: Any) -> Tensor:
        """Return labels as torchvision understands them: [n, num_classes] are numbers, of whatever dtype."""
        if not isinstance(y, Tensor) or (y.ndim == 1 and y.is_floating_point()):
            raise ValueError(
                f"labels are class indices [n] or numbers [n, num_classes], got {y.dtype if isinstance(y, Tensor) else y!r}"
            )
        if y.ndim == 2:
            if self.num_classes not in (None, y.shape[1]):
                raise ValueError(
                    f"labels [n, num_classes] have {y.shape[1]} classes, and num_classes={self.num_classes}"
                )
            return y if y.is_floating_point() else y.float()
        if self.num_classes is None and not y.is_floating_point():
            raise ValueError("labels are class indices: num_classes must be given")
        return y

    def _split(self, batch: Any) -> SplitBatch:
        if not callable(self.labels_getter):
            try:
                return split_batch(batch)
            except ValueError as error:
                found = list(batch.keys()) if hasattr(batch, "keys") else f"{len(batch)} parts"
                raise ValueError(
                    f"where are the labels of a batch of {found}? labels_getter=lambda batch: batch[...] returns them"
                ) from error
        labels = self.labels_getter(batch)
        leaves, spec = pytree.tree_flatten(batch)
        place = [i for i, leaf in enumerate(leaves) if leaf is labels]
        if len(place) != 1:
            raise ValueError("labels_getter returns one of the tensors of the batch, as it is there")
        (at,) = place

        def join(inputs: Any, target: Any) -> Any:
            return pytree.tree_unflatten([*inputs[:at], target, *inputs[at:]], spec)

        return SplitBatch([leaf for leaf in leaves if leaf is not labels], labels, join)


def _typed_as(mixed: Any, given: Any) -> Any:
    """Return an image in the class of torchvision that it came in: each operation makes a plain tensor of one."""
    kept = isinstance(given, Tensor) and type(given).__module__.startswith("torchvision.")
    return mixed.as_subclass(type(given)) if kept else mixed


class MixUp(_BatchTransform):
    """Mix the images of a batch and their labels, as `torchvision.transforms.v2.MixUp` is called.

    Args:
        alpha: of the Beta distribution of lambda, > 0.
        num_classes: width of the labels; needed where they are class indices.
        labels_getter: a function from the batch to its labels. "default" or None: the second of two, or the one of the keys
            "label", "labels", "target", "targets", "y" that a mapping has.
        seed: of the draws; None: it follows `torch.manual_seed`.

    Convention:
        dimension 0: the rows of the batch, of inputs and targets alike.
        lambda: the share that a row keeps of itself; its partner has 1 - lambda; the labels have the same.
        one draw: one lambda per batch; one partner per row; shared by every tensor of a nest.

    Raises:
        ValueError: `alpha` is not above 0; `labels_getter` is something else.

    Examples:
        >>> import torch
        >>> transform = MixUp(alpha=0.4, num_classes=10, seed=0)
        >>> images, labels = transform(torch.rand(4, 3, 8, 8), torch.arange(4))
        >>> labels.shape, labels.sum(1)
        (torch.Size([4, 10]), tensor([1., 1., 1., 1.]))

    Source: Zhang et al. 2018, section 2, equation 2.

    """

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        num_classes: int | None = None,
        labels_getter: LabelsGetter = "default",
        seed: int | None = None,
    ) -> None:
        super().__init__(vicinities.Mixup(alpha, seed=seed), alpha, num_classes, labels_getter)


class BatchCutMix(_BatchTransform):
    """Paste a box of another image into each image, as `torchvision.transforms.v2.CutMix` is called.

    Labels are mixed by the area of the box (Yun et al. 2019).

    Args:
        alpha: of the Beta distribution of the area that is kept, > 0.
        num_classes: width of the labels; needed where they are class indices.
        labels_getter: as of `MixUp`.
        seed: of the draws; None: it follows `torch.manual_seed`.

    Convention:
        dimension 0: the rows of the batch, of inputs and targets alike.
        lambda: the share of cells that a row keeps, counted after the box is clipped; the labels have the same.
        one draw: one box per batch; one partner per row; shared by every tensor of a nest.

    Raises:
        ValueError: `alpha` is not above 0; `labels_getter` is something else.

    Examples:
        >>> import torch
        >>> images, labels = BatchCutMix(num_classes=10, seed=0)(torch.rand(4, 3, 8, 8), torch.arange(4))
        >>> labels.sum(1)
        tensor([1., 1., 1., 1.])

    Source: Yun et al. 2019; a vicinal distribution in the sense of Zhang et al. 2018, section 2.

    """

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        num_classes: int | None = None,
        labels_getter: LabelsGetter = "default",
        seed: int | None = None,
    ) -> None:
        super().__init__(vicinities.CutMix(alpha, seed=seed), alpha, num_classes, labels_getter)


CutMix = BatchCutMix  # torchvision's name
