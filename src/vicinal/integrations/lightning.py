"""Mixup in Lightning: `Trainer(callbacks=[VicinalCallback(Mixup(0.2))])`; the LightningModule stays as it is.

It is the same for `import lightning` and for `import pytorch_lightning`.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
from typing import Any

import torch
from torch import Tensor

from vicinal._batch import split_batch
from vicinal._shapes import spread
from vicinal.metrics import mixed_accuracy
from vicinal.target import MixedTarget
from vicinal.vicinity import Vicinity, check_vicinity

try:
    if importlib.util.find_spec("lightning") is not None:
        from lightning.pytorch import Callback, LightningModule, Trainer  # pyright: ignore[reportMissingImports]
    else:  # under its older name
        from pytorch_lightning import Callback, LightningModule, Trainer  # pyright: ignore[reportMissingImports]
    from torchmetrics import Metric
except ImportError as error:
    raise ImportError("this module needs Lightning: pip install 'vicinal[lightning]'") from error


class VicinalCallback(Callback):
    """Mix what `training_step` is given, and nothing else: validation, tests and predictions see plain batches.

    The batch is mixed after it has reached its device, in every process for itself. The draw of a batch is decided by the
    trainer's count of batches, so that a run that resumes from a checkpoint, within an epoch too, goes on with the draws
    that it would have had; the checkpoint holds the seed. The epochs of `Scheduled` are the trainer's.

    Args:
        vicinity: what to mix by, as `Mixup(0.2)`.
        target: key or place of the target in the batch. None: the second of two, or the one of the keys "label", "labels",
            "target", "targets", "y" that a mapping has.

    Convention:
        dimension 0: the rows of the batch that one process trains on.
        lambda: that of the vicinity.
        one draw: one plan per training batch and process; decided by the trainer's count of batches.

    Raises:
        TypeError: `vicinity` is not a vicinity; when training begins: `training_step` fetches its batches itself, by
            `dataloader_iter`; from a batch: it is neither a mapping nor a sequence, or its inputs cannot be mixed.
        ValueError: from a batch: it is not clear which part is the target.

    Examples:
        >>> import lightning, vicinal
        >>> from vicinal.integrations.lightning import VicinalCallback
        >>> trainer = lightning.Trainer(logger=False, callbacks=[VicinalCallback(vicinal.Mixup(alpha=0.2))])
        >>> trainer.fit(module, loader)  # doctest: +SKIP

    Source: Zhang et al. 2018, section 2, equation 2; the rows of each batch are mixed with one another.

    """

    def __init__(self, vicinity: Vicinity, target: int | str | None = None) -> None:
        check_vicinity(vicinity)
        self.vicinity = vicinity
        self.target = target
        self._mixing: Any = None  # what stands before the module's training_step while it is fitted
        self._own: Any = None  # the training_step that the module had of its own, as a compiled one has

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put the mixing before the module's `training_step`, early enough for a search of the learning rate."""
        if stage != "fit":
            return
        inner = pl_module.training_step
        if "dataloader_iter" in inspect.signature(inner).parameters:
            raise TypeError(
                "training_step(dataloader_iter) fetches its batches itself: mix them there, x, y = mixup(x, y)"
            )

        @functools.wraps(inner)
        def training_step(batch: Any, *args: Any, **kwargs: Any) -> Any:
            if not trainer.training:  # a validation_step may call it too
                return inner(batch, *args, **kwargs)
            x, y, join = split_batch(batch, self.target)
            step = trainer.fit_loop.epoch_loop.total_batch_idx  # the same for all evaluations of a closure
            return inner(join(*self.vicinity(x, y, step=step, epoch=trainer.current_epoch)), *args, **kwargs)

        self._own, self._mixing = vars(pl_module).get("training_step"), training_step
        pl_module.training_step = training_step

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the module as it was."""
        self._leave(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the module as it was, where training was broken off."""
        self._leave(pl_module)

    def _leave(self, pl_module: LightningModule) -> None:
        if self._mixing is None or vars(pl_module).get("training_step") is not self._mixing:
            return
        del pl_module.training_step
        if self._own is not None:
            pl_module.training_step = self._own
        self._own = self._mixing = None

    def state_dict(self) -> dict[str, Any]:
        """Return the seed and the switch of the vicinity, for a checkpoint."""
        return self.vicinity.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the seed and the switch of a checkpoint."""
        self.vicinity.load_state_dict(state_dict)


class MixedAccuracy(Metric):
    """Compute the lambda-weighted accuracy of training on mixed batches, over batches and processes.

    It is the mean share of the label that the prediction agrees with; on plain class indices it is accuracy. Log it under
    a name of its own: a mixed row of 0.6 cat and 0.4 dog gives at most 0.6, so that it cannot be compared with accuracy on
    plain examples.

    Args:
        topk: a class index counts as agreed with when it is among the `topk` largest logits.

    Convention:
        dimension 0: the rows of the batch, of predictions and targets alike.
        lambda: that of the target; a hit on a label counts by its share.
        one draw: nothing is drawn.

    Raises:
        ValueError: from `update`: shapes do not fit, or there are fewer than `topk` classes.

    Examples:
        >>> import torch
        >>> from vicinal import MixedTarget
        >>> accuracy = MixedAccuracy()  # in the LightningModule's __init__, as self.mixed_accuracy
        >>> y = MixedTarget(torch.tensor([[0, 1], [1, 0]]), torch.tensor([[0.7, 0.7], [0.3, 0.3]]))
        >>> accuracy(torch.tensor([[2.0, 0.0], [2.0, 0.0]]), y)  # in training_step
        tensor(0.5000)
        >>> self.log("train/mixed_accuracy", self.mixed_accuracy)  # doctest: +SKIP

    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    hits: Tensor
    count: Tensor

    def __init__(self, topk: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.topk = topk
        self.add_state("hits", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: MixedTarget | Tensor) -> None:
        """Count a batch.

        Args:
            preds: logits or probabilities, [n, num_classes, ...].
            target: a `MixedTarget` of shape [n, ...], or int64 [n, ...].

        """
        shares = spread(target.weight, target.ids) if isinstance(target, MixedTarget) else torch.ones_like(target)
        rows = shares.sum(dtype=torch.float64)
        self.hits += mixed_accuracy(preds, target, self.topk).double() * rows
        self.count += rows

    def compute(self) -> Tensor:
        """Return the accuracy of everything counted, in [0, 1]."""
        return (self.hits / self.count).float()
