"""Mixup in skorch: `class Net(VicinalMixin, NeuralNetClassifier)`, then `Net(module, vicinity=Mixup(0.2))`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils import _pytree as pytree

from vicinal.target import MixedTarget
from vicinal.vicinity import Vicinity, check_vicinity

try:
    from skorch import NeuralNet  # pyright: ignore[reportMissingImports]
    from skorch.callbacks.scoring import ScoringBase  # pyright: ignore[reportMissingImports]
    from skorch.dataset import unpack_data  # pyright: ignore[reportMissingImports]
    from skorch.utils import to_tensor  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise ImportError("this module needs skorch: pip install 'vicinal[skorch]'") from error


_Base = NeuralNet if TYPE_CHECKING else object  # a mixin calls what the class beside it has


class VicinalMixin(_Base):
    """Mix what a skorch net trains on, and nothing else; put it before skorch's class.

    Each training batch is mixed on the net's device. The draw is decided by the number of the batch in the net's history, so
    that `partial_fit`, a pickle and, with a seed, a checkpoint with its history go on with the draws that there would have
    been. It is a parameter as any: `GridSearchCV(net, {"vicinity": [ERM(), Mixup(0.2), Mixup(1.0)]})`.

    Args:
        args: of skorch's class.
        vicinity: what to mix by, as `Mixup(0.2)`; give it a seed where fits are to be repeated.
        kwargs: of skorch's class.

    Convention:
        dimension 0: the rows of the batch.
        lambda: that of the vicinity.
        one draw: one plan per training batch; decided by the count of batches in the history.

    Raises:
        TypeError: `vicinity` is not a vicinity; from `fit`: inputs cannot be mixed.
        ValueError: from `fit`: a callback scores the predictions made in training (`on_train=True` with `use_caching=True`):
            they are of mixed inputs, and it would compare them with labels that are not.

    Examples:
        >>> import numpy as np, torch, vicinal
        >>> from skorch import NeuralNetClassifier
        >>> class Net(VicinalMixin, NeuralNetClassifier):
        ...     pass
        >>> x, y = np.eye(20, 3, dtype=np.float32), np.arange(20) % 2
        >>> mixup = vicinal.Mixup(alpha=0.2)
        >>> net = Net(torch.nn.Linear, vicinity=mixup, module__in_features=3, module__out_features=2,
        ...           criterion=torch.nn.CrossEntropyLoss, verbose=0).fit(x, y)
        >>> net.predict_proba(x).shape
        (20, 2)

    Source: Zhang et al. 2018, section 2, equation 2; the rows of each batch are mixed with one another.

    """

    def __init__(self, *args: Any, vicinity: Vicinity, **kwargs: Any) -> None:
        check_vicinity(vicinity)
        super().__init__(*args, **kwargs)
        self.vicinity = vicinity

    def on_train_begin(self, net: Any, *args: Any, **kwargs: Any) -> None:
        """Refuse callbacks that would compare predictions on mixed inputs with plain labels."""
        for name, callback in self.callbacks_:
            cached = isinstance(callback, ScoringBase) and callback.on_train and callback.use_caching
            if cached and self.use_caching in ("auto", True):
                raise ValueError(
                    f"the callback {name!r} scores what was predicted in training, on mixed inputs, against labels that are "
                    "not mixed: give it use_caching=False"
                )
        super().on_train_begin(net, *args, **kwargs)

    def train_step_single(self, batch: Any, **fit_params: Any) -> Any:
        """Mix a batch, then train on it."""
        x, y = (to_tensor(part, device=self.device) for part in unpack_data(batch))
        mixed = self.vicinity(x, y, step=self._batches_before(), epoch=len(self.history) - 1)
        return super().train_step_single(mixed, **fit_params)

    def get_loss(self, y_pred: Any, y_true: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the loss; mixed labels reach the criterion as they are."""
        target = pytree.tree_map(
            lambda part: _Converted(part) if isinstance(part, MixedTarget) else part,
            y_true,
            is_leaf=lambda part: isinstance(part, MixedTarget),
        )
        return super().get_loss(y_pred, target, *args, **kwargs)

    def _batches_before(self) -> int:
        """Return the number of training batches before this one; a closure sees the same number at every evaluation."""
        *finished, current = self.history
        return sum(epoch["train_batch_count"] for epoch in finished) + len(current["batches"]) - 1


class _Converted:
    """Mixed labels on their way through skorch, which makes tensors of labels, but for what converts itself."""

    def __init__(self, target: MixedTarget) -> None:
        self.target = target

    def convert_to_tensors(self, kind: str) -> MixedTarget:
        """Return the mixed labels."""
        return self.target
