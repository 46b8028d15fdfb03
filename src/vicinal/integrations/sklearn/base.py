"""What MixupClassifier and MixupRegressor share: arguments, training, early stopping and the outputs of the model."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from vicinal._checks import check_count, check_number
from vicinal.integrations.sklearn.arguments import ALPHA, TABLE, refuse_categories, seed_of, vicinity_of
from vicinal.integrations.sklearn.mlp import HELD_OUT, ROWS, MLPTrainer, batches, initial_mlp
from vicinal.integrations.sklearn.rows import WeightedRows
from vicinal.keyed import Key
from vicinal.vicinity import Vicinity

_STEPS, _FEWEST, _MOST = 1500, 20, 200  # steps of a fit with epochs=None, and the bounds of its epochs
_BLOCK = 2**16  # rows predicted at once


class CheckedTable(NamedTuple):
    """A table that was checked.

    `X` float64 [n, inputs]; `target` class indices int64 [n], or numbers float64 [n] or [n, columns]; `weight` float64 [n]
    of the rows; `outputs`, how many the model has.
    """

    X: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    outputs: int


@dataclass(frozen=True)
class Fit:
    """What a fit trains on, and for how long: nothing of it depends on how rows are mixed.

    Args:
        x: standardized inputs, float32 [n, inputs].
        learned: class indices int64 [n], or standardized targets float32 [n, outputs].
        class_weight: weights of the classes in the loss, float32 [classes]; None: all 1.
        rows: that are trained on.
        held: rows that are held out, if training may stop early.
        seed: of all draws.
        epochs: of the fit, at most.
        rate: learning rate of a step.

    """

    x: Tensor
    learned: Tensor
    class_weight: Tensor | None
    rows: WeightedRows
    held: WeightedRows | None
    seed: int
    epochs: int
    rate: Callable[[int], float]

    def drawn(self, epoch: int) -> np.ndarray:
        """Draw the rows of an epoch."""
        return _drawn(self.rows, self.seed, epoch)


class MixupMLP(BaseEstimator, ABC):
    """An MLP that trains with mixup; a `target` is class indices int64 [n], or numbers float64 [n] or [n, outputs]."""

    _least_held_out: int  # rows, of each class
    _loss: Callable[..., Tensor]  # of outputs and mixed targets, the mean over the batch

    def __init__(
        self,
        alpha: float = ALPHA,
        *,
        vicinity: Vicinity | None = None,
        hidden: int | tuple[int, ...] = (128, 128),
        epochs: int | None = None,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        device: str | torch.device = "auto",
        random_state: Any = None,
    ) -> None:
        self.alpha = alpha
        self.vicinity = vicinity
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.device = device
        self.random_state = random_state

    @abstractmethod
    def _examples(self, X: Any, y: Any, sample_weight: Any) -> CheckedTable:
        """Check the table of a new fit."""

    @abstractmethod
    def _scale_target(self, target: np.ndarray) -> None:
        """Choose the scale of the target by rows in the proportions of their weights."""

    @abstractmethod
    def _learned(self, target: np.ndarray) -> np.ndarray:
        """Return what the model learns: class indices int64 [n], or scaled numbers float32 [n, outputs]."""

    @abstractmethod
    def _classes_of(self, target: np.ndarray) -> np.ndarray | None:
        """Return class indices int64 [n] by which rows are held out, or None."""

    @abstractmethod
    def _loss_weight(self, drawn: np.ndarray) -> Tensor | None:
        """Return weights of the classes in the loss; `drawn` are targets in the proportions of their rows' weights."""

    @abstractmethod
    def _score(self, outputs: np.ndarray, learned: np.ndarray, weight: np.ndarray) -> float:
        """Return the validation score of outputs, higher is better."""

    # -- training --------------------------------------------------------------------------------------------------

    def _fit(self, examples: CheckedTable, seed: int) -> Self:
        """Train a new model for all epochs, or until the validation score stops to rise."""
        vicinity = vicinity_of(self.alpha, self.vicinity, seed, "batch")
        fit, best = self._begin(examples, seed), BestWeights()
        loss = self._weighted_loss(fit.class_weight)
        for epoch in range(fit.epochs):
            drawn = fit.drawn(epoch)
            mean = self._trainer.epoch(fit.x, fit.learned, drawn, self.batch_size, vicinity, loss, fit.rate)
            if not self._after_epoch(mean, fit, best):
                break
        self._end(fit, best)
        return self

    def _begin(self, examples: CheckedTable, seed: int) -> Fit:
        """Hold rows out, choose the scales and draw the first weights: all that comes before rows are mixed."""
        self._check_arguments()
        X, target, weight, outputs = examples
        rows, held = WeightedRows.of(X, target, weight), None
        if self.early_stopping:
            key = Key(seed, 0, 0, 0, HELD_OUT)
            rows, held = rows.split(self.validation_fraction, self._least_held_out, self._classes_of(target), key)
        self._start(X, target, rows, outputs, seed)
        self._trainer.to(self._torch_device())
        x, learned = self._tensors(X, target)
        class_weight = self._loss_weight(target[_drawn(rows, seed, 0)])
        steps = len(batches(np.arange(len(rows)), self.batch_size))
        epochs = self.epochs or min(_MOST, max(_FEWEST, round(_STEPS / steps)))
        rate = partial(_cosine, start=self.learning_rate, steps=epochs * steps)
        return Fit(x, learned, class_weight, rows, held, seed, epochs, rate)

    def _after_epoch(self, mean: float, fit: Fit, best: BestWeights) -> bool:
        """Record an epoch and its mean loss, and return whether training goes on."""
        self.loss_curve_.append(mean)
        if fit.held is None:
            return True
        module = self._trainer.module
        best.update(self._validation_score(module, fit.x, fit.learned, fit.held), module)
        return best.waited < self.n_iter_no_change

    def _end(self, fit: Fit, best: BestWeights) -> None:
        if fit.held is not None:
            self.validation_scores_, self.best_validation_score_ = best.scores, best.score
            self._trainer.module.load_state_dict(best.weights)
        self._finish()

    def _partial_fit(self, examples: CheckedTable, first: bool) -> Self:
        """Train for one more epoch, over these rows."""
        self._check_arguments()
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True, which holds rows of a whole table out")
        X, target, weight, outputs = examples
        rows = WeightedRows.of(X, target, weight)
        if first:
            self._start(X, target, rows, outputs, seed_of(self.random_state))
        trainer = self._trainer.to(self._torch_device())
        vicinity = vicinity_of(self.alpha, self.vicinity, trainer.seed, "batch")
        x, learned = self._tensors(X, target)
        drawn = _drawn(rows, trainer.seed, trainer.epochs)
        loss = self._weighted_loss(self._loss_weight(target[drawn]))
        mean = trainer.epoch(x, learned, drawn, self.batch_size, vicinity, loss, lambda step: self.learning_rate)
        self.loss_curve_.append(mean)
        self._finish()
        return self

    def _start(self, X: np.ndarray, target: np.ndarray, rows: WeightedRows, outputs: int, seed: int) -> None:
        """Choose the scales, and draw the first weights of the model; a fit that fails leaves no model behind."""
        vars(self).pop("module_", None)
        drawn = _drawn(rows, seed, 0)
        self.scaler_ = StandardScaler().fit(X[drawn])
        self._scale_target(target[drawn])
        widths = [X.shape[1], *_widths(self.hidden), outputs]
        self._trainer = MLPTrainer(initial_mlp(widths, seed), seed, self.weight_decay)
        self.loss_curve_: list[float] = []
        self.validation_scores_: list[float] | None = None
        self.best_validation_score_: float | None = None

    def _finish(self) -> None:
        self._trainer.to("cpu")  # so that it can be pickled, and read where there is no accelerator
        self.module_ = self._trainer.module
        self.n_iter_ = len(self.loss_curve_)

    def _weighted_loss(self, class_weight: Tensor | None) -> Callable[..., Tensor]:
        return self._loss if class_weight is None else partial(self._loss, weight=class_weight)

    def _tensors(self, X: np.ndarray, target: np.ndarray) -> tuple[Tensor, Tensor]:
        device = self._torch_device()
        x = torch.from_numpy(np.asarray(self.scaler_.transform(X), dtype=np.float32))
        return x.to(device), torch.from_numpy(self._learned(target)).to(device)

    def _validation_score(self, module: nn.Module, x: Tensor, learned: Tensor, held: WeightedRows) -> float:
        rows, weight = held.counted()
        chosen = torch.from_numpy(rows).to(x.device)
        with torch.inference_mode():
            outputs = module(x[chosen]).cpu().numpy()
        return float(self._score(outputs, learned[chosen].cpu().numpy(), weight))

    def _torch_device(self) -> torch.device:
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)

    def _check_arguments(self) -> None:
        for width in _widths(self.hidden):
            check_count("hidden", width, 1, "the units of each hidden layer")
        if self.epochs is not None:
            check_count("epochs", self.epochs, 1, "passes over the rows")
        check_count("batch_size", self.batch_size, 2, "the rows of a step, mixed with one another,")
        check_count("n_iter_no_change", self.n_iter_no_change, 1, "epochs without a better validation score")
        for name, least in (("learning_rate", "> 0"), ("weight_decay", ">= 0")):
            value = getattr(self, name)
            check_number(name, value)
            if not (math.isfinite(value) and (value > 0 or (value == 0 and least == ">= 0"))):
                raise ValueError(f"{name} must be a finite number {least}, got {value!r}")
        check_number("validation_fraction", self.validation_fraction)
        if not 0 < self.validation_fraction < 1:
            raise ValueError(f"validation_fraction must lie between 0 and 1, got {self.validation_fraction!r}")

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether there is a trained model."""
        return hasattr(self, "module_")

    # -- prediction ------------------------------------------------------------------------------------------------

    def _outputs(self, X: Any) -> np.ndarray:
        """Compute outputs float64 [n, outputs], in float64: then they do not depend on which rows stand together."""
        check_is_fitted(self)
        refuse_categories(X)
        X = validate_data(self, X, reset=False, **TABLE)
        module = copy.deepcopy(self.module_).double()
        with torch.inference_mode():
            x = torch.from_numpy(self.scaler_.transform(X))
            return torch.cat([module(block) for block in x.split(_BLOCK)]).numpy()


class BestWeights:
    """The weights of the epoch with the highest validation score, the first of several."""

    def __init__(self) -> None:
        self.scores: list[float] = []
        self.score, self.waited = -math.inf, 0
        self.weights: dict[str, Tensor] = {}

    def update(self, score: float, module: nn.Module) -> None:
        """Record an epoch's score, and keep its weights if it is the best."""
        self.scores.append(score)
        self.waited += 1
        if score > self.score:
            self.score, self.waited = score, 0
            self.weights = {name: value.detach().clone() for name, value in module.state_dict().items()}


def _cosine(step: int, start: float, steps: int) -> float:
    """Return the learning rate of a step: from `start` to 0 along half a cosine."""
    return start * (1 + math.cos(math.pi * step / steps)) / 2


def _drawn(rows: WeightedRows, seed: int, epoch: int) -> np.ndarray:
    """Draw the rows of an epoch; they are also what means, scales and counts of classes are taken from."""
    return rows.draw(Key(seed, 0, 0, epoch, ROWS).generator())


def _widths(hidden: int | tuple[int, ...]) -> tuple[int, ...]:
    return (hidden,) if isinstance(hidden, int | np.integer) else tuple(hidden)
