"""What Lightning, Hugging Face and Keras need around a step: their own loop, loaders, and calls that a recording sees."""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import inspect
import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vicinal.checking import trees
from vicinal.checking.sources import sample

# -- Lightning ----------------------------------------------------------------------------------------------------------


def lightning_of(module: nn.Module) -> str | None:
    """Return the package that a module is a LightningModule of, by either of its names; None for all other modules."""
    for base in type(module).__mro__:
        package = base.__module__.partition(".core.")[0]
        if base.__name__ == "LightningModule" and package in ("lightning.pytorch", "pytorch_lightning"):
            return package
    return None


@contextmanager
def apart(module: nn.Module) -> Iterator[nn.Module]:
    """Return a copy of a module within the block; of one that cannot be copied itself, which is put back afterwards."""
    try:
        copied = copy.deepcopy(module)
    except Exception:  # whatever its own copying raises, as a tensor with a graph does
        copied = None
    if copied is not None:
        yield copied
        return
    attributes = {part: dict(vars(part)) for part in module.modules()}
    values = [(t, t.detach().clone()) for t in (*module.parameters(), *module.buffers())]
    grads = [(p, None if p.grad is None else p.grad.detach().clone()) for p in module.parameters()]
    try:
        yield module
    finally:
        for part, kept in attributes.items():
            vars(part).clear()
            vars(part).update(kept)
        with torch.no_grad():
            for tensor, value in values:
                if tensor.device == value.device:
                    tensor.copy_(value)
                else:  # it was moved to the CPU meanwhile
                    tensor.data = value
        for parameter, grad in grads:
            parameter.grad = grad


class _OneBatch:
    """A loader of one batch, whatever it is."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch

    def __iter__(self) -> Iterator[Any]:
        yield self.batch

    def __len__(self) -> int:
        return 1


class LightningLoop:
    """A LightningModule in the loop of a Trainer of its own, on the CPU, batch by batch.

    Epoch 0 goes on for as long as batches are given, and the count of batches with it. Nothing is logged or saved, no
    schedule of the learning rate steps but those that the module itself steps.

    Args:
        module: the module; it is changed.
        package: as `lightning_of` returns it.
        callbacks: of the trainer.
        datamodule: whose hooks take part; it is changed. None: there is none.

    """

    def __init__(self, module: Any, package: str, callbacks: list[Any], datamodule: Any = None) -> None:
        pytorch, loggers = importlib.import_module(package), importlib.import_module(f"{package}.loggers.logger")
        self.module, self.datamodule = module, datamodule
        self.count, self.returned = itertools.count(), None

        def on_train_start(_: Any, trainer: Any, pl_module: Any) -> None:
            if pl_module.automatic_optimization:  # one that watches a metric of validation would ask for it
                trainer.strategy.lr_scheduler_configs = []

        def on_train_batch_end(_: Any, trainer: Any, *others: Any) -> None:
            trainer.should_stop = True

        hooks = {"on_train_start": on_train_start, "on_train_batch_end": on_train_batch_end}
        quiet = {
            "logger": loggers.DummyLogger(),  # takes what a module logs by itself
            **dict.fromkeys(("enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False),
        }
        on = {"accelerator": "cpu", "devices": 1, "inference_mode": False, "num_sanity_val_steps": 0}
        own = type("OneBatchAtATime", (pytorch.Callback,), hooks)()
        with _silent():
            self.trainer = pytorch.Trainer(
                **on, **quiet, max_epochs=100, limit_val_batches=0, callbacks=[*callbacks, own]
            )
            self.validator = pytorch.Trainer(**on, **quiet, callbacks=callbacks)
        self._watch()

    def _watch(self) -> None:
        """Keep what the module's steps return, number the batches on, and prepare and set up once."""
        module = self.module
        inner = module.training_step
        names = list(inspect.signature(inner).parameters)
        place = names.index("batch_idx") if "batch_idx" in names else len(names)

        @functools.wraps(inner)
        def training_step(*args: Any, **kwargs: Any) -> Any:
            args = (*args[:place], self.number, *args[place + 1 :]) if place < len(args) else args
            self.returned = inner(*args, **kwargs)
            return self.returned

        module.training_step = training_step
        for owner in (module, self.datamodule):
            if owner is not None:
                owner.prepare_data = functools.cache(owner.prepare_data)
                owner.setup = functools.cache(owner.setup)

    def train(self, batch: Any) -> Any:
        """Fit the module to one batch more; return what its step returned."""
        self.number, self.returned = next(self.count), None
        with _silent():
            self.trainer.fit(self.module, **self._given("train_dataloader", "train_dataloaders", batch))
        self.trainer.fit_loop.epoch_progress.current.reset()
        return self.returned

    def validate(self, batch: Any) -> None:
        """Validate the module on one batch."""
        with _silent():
            self.validator.validate(self.module, **self._given("val_dataloader", "dataloaders", batch), verbose=False)

    def _given(self, method: str, argument: str, batch: Any) -> dict[str, Any]:
        """Return the arguments by which a Trainer is given a batch."""
        if self.datamodule is None:
            return {argument: _OneBatch(batch)}
        setattr(self.datamodule, method, lambda: _OneBatch(batch))
        return {"datamodule": self.datamodule}


def callbacks_of(module: Any) -> list[Any]:
    """Return copies of the callbacks that somebody wrote, of the Trainer that a module is attached to."""
    trainer = getattr(module, "_trainer", None)
    own = ("lightning.pytorch.", "pytorch_lightning.")
    return [copy.deepcopy(c) for c in getattr(trainer, "callbacks", []) if not type(c).__module__.startswith(own)]


def loader_of(module: Any, name: str) -> Any:
    """Return a loader of a module or datamodule, which is set up for training if it must be; None if it has none."""
    for prepare in (False, True):
        with contextlib.suppress(Exception):  # what a module without data raises is its own
            if prepare:
                module.prepare_data()
                module.setup("fit")
            made = getattr(module, name)()
            return made[0] if isinstance(made, list | tuple) and made else made or None
    return None


_LOGS = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric", "lightning")


@contextmanager
def _silent() -> Iterator[None]:
    """Keep Lightning from printing what hardware there is, each time."""
    levels = {log: log.level for log in map(logging.getLogger, _LOGS)}
    for log in levels:
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for log, level in levels.items():
            log.setLevel(level)


# -- Hugging Face -------------------------------------------------------------------------------------------------------


@contextmanager
def ready(trainer: Any) -> Iterator[None]:
    """Make a Trainer's steps callable in the block: it has counted no batches yet, and forgets loaders made here."""
    name = "current_gradient_accumulation_steps"  # an attribute that `train()` makes
    lacks = not hasattr(trainer, name)
    prepared = getattr(trainer.accelerator, "_dataloaders", [])
    count = len(prepared)
    if lacks:
        setattr(trainer, name, trainer.args.gradient_accumulation_steps)
    try:
        yield
    finally:
        del prepared[count:]
        if lacks:
            delattr(trainer, name)


def training_of(trainer: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """Return examples of a Trainer's training loader, and its collate function."""
    loader = trainer.get_train_dataloader()
    dataset = loader.dataset
    if hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
        return sample(dataset), loader.collate_fn
    return list(itertools.islice(iter(dataset), 24)), loader.collate_fn


def evaluation_of(trainer: Any) -> Callable[[list[Any]], Any] | None:
    """Return the collate function of a Trainer's evaluation; None if it has no rows to evaluate on."""
    return None if trainer.eval_dataset is None else trainer.get_eval_dataloader().collate_fn


# -- Keras --------------------------------------------------------------------------------------------------------------


class _KerasCall(nn.Module):
    """A Keras model as a module of PyTorch, so that its calls are seen; its weights are the model's."""

    def __init__(self, model: Any, call: Callable[..., Any]) -> None:
        super().__init__()
        self.model, self._call = model, call

    def forward(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return self._call(self.model, inputs, *args, **kwargs)


@contextmanager
def calls_shown(model: Any) -> Iterator[None]:
    """Show a recording the calls of Keras models within the block, and nothing else of Keras.

    A model that ends in probabilities is called for its logits, and they become probabilities afterwards: what stands in
    for outputs are logits. Hidden are layers that train nothing, whose seeds are parameters to PyTorch, and calls for
    shapes alone.
    """
    layer = next(base for base in type(model).__mro__ if base.__module__.endswith("layers.layer"))
    original: Callable[..., Any] = layer.__call__
    unrecorded = nn.Module.__call__
    shown: dict[int, _KerasCall] = {}
    depth = 0

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal depth
        if depth:
            return original(self, *args, **kwargs)
        leaves = [leaf for _, leaf in trees.leaves([args, kwargs]) if isinstance(leaf, Tensor)]
        real = bool(leaves) and all(leaf.device.type != "meta" for leaf in leaves)
        recorded = nn.Module.__call__
        depth += 1
        try:
            if not (args and real and self.built and self.trainable_weights):
                nn.Module.__call__ = unrecorded  # pyright: ignore
                return original(self, *args, **kwargs)
            if id(self) not in shown:
                for part in self.modules():  # Keras makes weights parameters of PyTorch when it is asked for them
                    list(part.parameters())
                shown[id(self)] = _KerasCall(self, original)
            with _logits(self) as activation:
                return activation(shown[id(self)](*args, **kwargs))
        finally:
            depth -= 1
            nn.Module.__call__ = recorded  # pyright: ignore

    layer.__call__ = call
    try:
        yield
    finally:
        layer.__call__ = original


@contextmanager
def _logits(model: Any) -> Iterator[Callable[[Any], Any]]:
    """Return what makes probabilities of logits; within the block a model returns logits."""
    layers: list[Any] = getattr(model, "layers", None) or [None]
    activation: Any = getattr(layers[-1], "activation", None)
    if getattr(activation, "__name__", "") not in ("softmax", "sigmoid"):
        yield lambda out: out
        return
    layers[-1].activation = lambda x: x
    try:
        yield activation
    finally:
        layers[-1].activation = activation


@contextmanager
def keras_kept(model: Any) -> Iterator[None]:
    """Put the variables of a Keras model, its metrics and its optimizer back at the end of this block."""

    def variables() -> list[Any]:
        optimizer = getattr(model, "optimizer", None)
        return [*model.variables, *model.metrics_variables, *(optimizer.variables if optimizer is not None else [])]

    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and not optimizer.built:
        optimizer.build(model.trainable_variables)
    kept = {id(variable): np.array(variable.numpy()) for variable in variables()}
    training = {part: part.training for part in model.modules()}
    try:
        yield
    finally:
        for variable in variables():
            if id(variable) in kept:
                variable.assign(kept[id(variable)])
        for part, was in training.items():
            part.training = was


def examples_for(model: Any) -> list[Any]:
    """Return examples that fit a built Keras model of one input and one output; none where that is not known.

    Labels are class indices where the loss is sparse, and one-hot otherwise: one that does not fit would decide for good
    what "accuracy" means to the model.
    """
    given, made = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    if not (isinstance(given, tuple) and isinstance(made, tuple) and len(made) == 2 and len(given) > 1):
        return []
    if any(not isinstance(size, int) for size in given[1:]):
        return []
    loss: Any = getattr(model, "loss", None)
    sparse = "sparse" in str(getattr(loss, "name", None) or getattr(loss, "__name__", loss))
    x, classes = torch.zeros(given[1:]), made[1]
    if classes == 1:
        return [(x, torch.tensor([float(i)])) for i in range(2)]
    return [(x, torch.tensor(i)) for i in range(classes)] if sparse else [(x, row) for row in torch.eye(classes)]
