"""What somebody gives to be checked: which kind of pipeline it is, and with which arguments it is called."""

from __future__ import annotations

import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from vicinal.checking import trees
from vicinal.checking.loaders import inner
from vicinal.checking.recorder import held
from vicinal.checking.sources import sample

Kind = Literal[
    "transform",
    "collate",
    "loader",
    "batches",
    "step",
    "loss",
    "lightning",
    "trainer",
    "keras",
    "factory",
    "run",
    "unknown",
]
KINDS = tuple(kind for kind in get_args(Kind) if kind not in ("unknown", "batches"))

_EXAMPLES = {
    "examples",
    "samples",
    "features",
    "items",
    "batch_list",
    "instances",
    "rows",
    "list_of_examples",
    "data_list",
    "examples_list",
}
LOADERS = {"loader", "dataloader", "train_loader", "train_dataloader", "data_loader", "dl", "train_dl"}
_LOGITS = {
    "logits",
    "pred",
    "preds",
    "prediction",
    "predictions",
    "output",
    "outputs",
    "y_pred",
    "out",
    "scores",
    "y_hat",
}
_TARGETS = {"y", "target", "targets", "label", "labels", "yb", "y_true"}
BATCHES = {"batches", "micro_batches", "microbatches"}
_DATA = {*_TARGETS, "x", "xb", "X", "batch", "data", "inputs", "input", "images", "image", "features", "tokens"}
_COUNTERS = {
    "batch_idx",
    "step",
    "i",
    "it",
    "iteration",
    "global_step",
    "batch_index",
    "idx",
    "epoch",
    "dataloader_idx",
}


class CannotCheck(ValueError):
    """What was given cannot be checked as it is: the message says what was found and what to give."""


def describe(target: Any) -> str:
    """Return a target in words."""
    name = getattr(target, "__qualname__", None) or type(target).__qualname__
    module = getattr(target, "__module__", None) or type(target).__module__
    return name if module in ("__main__", "builtins") else f"{module}.{name}"


def place_of(target: Any) -> tuple[str | None, int | None]:
    """Return file and line of a target's source; None where it has none."""
    thing = target if inspect.isroutine(target) or inspect.isclass(target) else type(target)
    try:
        return inspect.getsourcefile(thing), inspect.getsourcelines(thing)[1]
    except (TypeError, OSError):
        return None, None


def required(function: Any) -> list[inspect.Parameter]:
    """Return the parameters without a default that a function is called with, `self` apart."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def scope_of(target: Any) -> dict[str, Any]:
    """Return the names beside a target in its module: of a function or of an object's class."""
    function = getattr(target, "__func__", target)
    if hasattr(function, "__globals__"):
        return function.__globals__
    module = sys.modules.get(type(target).__module__)
    own = module is not None and not type(target).__module__.startswith(("torch.", "vicinal.", "builtins"))
    return vars(module) if own and module is not None else {}


def names_of(function: Any) -> list[str]:
    """Return the names of all parameters of a function."""
    try:
        return [p.name for p in inspect.signature(function).parameters.values()]
    except (TypeError, ValueError):
        return []


def kind_of(target: Any) -> Kind:
    """Return what a target is; "unknown" where only a call can tell a transform from a step."""
    module = type(target).__module__.partition(".")[0]
    if isinstance(target, type):
        return "factory"
    if inner(target) is not None and not isinstance(target, nn.Module):
        return "loader" if not hasattr(target, "compute_loss") else "trainer"
    if hasattr(target, "compute_loss") and hasattr(target, "get_train_dataloader"):
        return "trainer"
    if isinstance(target, nn.Module) and hasattr(target, "training_step"):
        return "lightning"
    if module == "keras" or any(base.__module__.startswith("keras.") for base in type(target).__mro__):
        return "keras" if hasattr(target, "train_on_batch") else "transform"
    if isinstance(target, nn.Module):
        named = re.search(r"(loss|entropy|criterion)$", type(target).__name__, re.I)
        is_loss = isinstance(target, nn.modules.loss._Loss) or named is not None
        return "loss" if is_loss else "transform"
    if callable(target):
        return _kind_of_function(target)
    if isinstance(target, Dataset | Iterable):
        return "batches"
    raise CannotCheck(
        f"a {type(target).__name__} cannot be checked: give a loader, a collate function, a transform of batches, a "
        "training step, a Lightning module, a Trainer or a loss, or a function without arguments that returns one"
    )


def _kind_of_function(target: Any) -> Kind:
    needed, names = [p.name for p in required(target)], names_of(target)
    if {"rank", "world_size"} <= set(names) or needed == ["epoch"] or names == ["epoch"]:
        return "factory"
    if not needed and (inspect.isfunction(target) or inspect.ismethod(target)) and not _takes_any(target):
        return "factory"
    if len(needed) == 1 and needed[0] in _EXAMPLES:
        return "collate"
    if set(needed) & LOADERS:
        return "run"
    if set(needed) & BATCHES:
        return "step"
    if "collate" in str(getattr(target, "__name__", type(target).__name__)).lower():
        return "collate"
    if len(needed) == 2 and needed[0] in _LOGITS and needed[1] in _TARGETS:
        return "loss"
    named = re.search(r"(loss|criterion)$", str(getattr(target, "__name__", "")), re.I)
    if len(needed) == 2 and named and needed[0] not in _DATA - {"input"} and "model" not in needed:
        return "loss"
    return "unknown"


def _takes_any(function: Any) -> bool:
    return any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(function).parameters.values())


# -- arguments of a step ------------------------------------------------------------------------------------------------


class Call:
    """A function as a function of a batch: its other arguments are found by their names.

    Args:
        function: of inputs and labels, or of a batch, and of models, optimizers and the like.

    Raises:
        CannotCheck: an argument is not known.

    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.count = itertools.count()
        scope = getattr(getattr(function, "__func__", function), "__globals__", {})
        self.fixed: dict[str, Any] = {}
        self.open: list[str] = []
        self.counters: list[str] = []
        for parameter in required(function):
            name = parameter.name
            if name in _COUNTERS:
                self.counters.append(name)
            elif name == "device":
                self.fixed[name] = scope.get("device", torch.device("cpu"))
            elif name in scope and name not in _DATA | LOADERS and not isinstance(scope[name], Tensor | type):
                self.fixed[name] = scope[name]
            else:
                self.open.append(name)
        if not self.open and not required(function):
            self.open = [name for name in names_of(function)[:1]]
        self.by_position = [p.name for p in required(function)]

    def __call__(self, batch: Any) -> Any:
        """Call the function on a batch."""
        given = dict(self.fixed)
        given |= {name: next(self.count) for name in self.counters}
        given |= self._spread(batch)
        return (
            self.function(**given)
            if self._all_by_name()
            else self.function(*[given[name] for name in self.by_position])
        )

    def _all_by_name(self) -> bool:
        return all(p.kind is not p.POSITIONAL_ONLY for p in required(self.function))

    def _spread(self, batch: Any) -> dict[str, Any]:
        if len(self.open) == 1:
            return {self.open[0]: batch}
        if isinstance(batch, Mapping):
            if set(self.open) <= set(batch):
                return {name: batch[name] for name in self.open}
        elif isinstance(batch, tuple | list) and len(batch) == len(self.open):
            return dict(zip(self.open, batch, strict=True))
        name = getattr(self.function, "__name__", "the function")
        raise CannotCheck(
            f"{name}({', '.join(self.by_position)}): it is not clear what to give for {', '.join(self.open)}, where a batch "
            f"is {_described(batch)}; give a function of (x, y) or of a batch"
        )


def _described(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return f"a mapping with {', '.join(map(str, batch))}"
    return f"{len(batch)} parts" if isinstance(batch, tuple | list) else f"a {type(batch).__name__}"


# -- examples -----------------------------------------------------------------------------------------------------------


def made(what: Any) -> Any:
    """Return what a function without arguments makes, called once; anything else as it is."""
    return what() if callable(what) and not isinstance(what, nn.Module | Dataset) and not required(what) else what


def examples_of(given: Any) -> list[Any]:
    """Return single examples of a batch, a loader or a dataset.

    Raises:
        CannotCheck: there is none in it.

    """
    if isinstance(given, list) and given and isinstance(given[0], tuple | Mapping):
        return given  # a list of examples, not a batch
    if isinstance(given, tuple | list) and given and inner(given[0]) is not None:
        given = given[0]  # loaders of training and evaluation
    found = inner(given)
    if found is not None:
        return _examples_of_loader(found)
    if isinstance(given, Dataset) and not isinstance(given, IterableDataset):
        return sample(given)
    if isinstance(given, Tensor | tuple | list | Mapping):
        return unbatched(given)
    if hasattr(given, "__iter__"):
        first = next(iter(given), None)
        if first is not None:
            return unbatched(first)
    if hasattr(given, "keys"):
        return unbatched(dict(given))
    raise CannotCheck(f"a {type(given).__name__} is not an example: give a batch (x, y), a loader or a dataset")


def _examples_of_loader(loader: Any) -> list[Any]:
    if not isinstance(loader.dataset, IterableDataset):
        return sample(loader.dataset)
    return list(itertools.islice(iter(loader.dataset), 24))


def unbatched(batch: Any) -> list[Any]:
    """Return the rows of a batch as examples, at most 24."""
    n = trees.rows(batch)
    if n is None:
        raise CannotCheck("the example holds no tensor with rows: give a batch (x, y) of several rows")

    def row(i: int) -> Any:
        def take(_: str, leaf: Any) -> Any:
            if isinstance(leaf, str) or not hasattr(leaf, "__len__") or getattr(leaf, "ndim", 1) == 0 or len(leaf) != n:
                return leaf
            return leaf[i]

        return trees.rebuilt(batch, take)

    return [row(i) for i in range(min(n, 24))]


def collation_of(given: Any) -> Callable[[list[Any]], Any]:
    """Return what makes a batch of examples of what somebody gave: a loader's collate function, or stacking."""
    parts = list(given) if isinstance(given, tuple | list) else []
    found = inner(parts[0] if parts else given)
    return trees.stacked if found is None or found.collate_fn is None else found.collate_fn


def size_of_batch(given: Any) -> int | None:
    """Return the number of rows of an example batch, or of a loader's batches; None where it is neither."""
    found = inner(given[0] if isinstance(given, tuple | list) and given else given)
    if found is not None:
        return found.batch_size
    if isinstance(given, tuple | list | Mapping):
        return trees.rows(given)
    return None


def guessed(function: Any) -> list[list[Any]]:
    """Return examples that fit the models a step uses: those among its globals, closure and attributes."""
    found: list[list[Any]] = []
    for model in held((function, getattr(function, "__self__", None)), nn.Module):
        layers = [m for m in model.modules() if next(iter(m.parameters(recurse=False)), None) is not None]
        if not layers:
            continue
        classes = next((m.out_features for m in reversed(layers) if isinstance(m, nn.Linear)), 10)
        found += [_labeled(x, classes) for x in _inputs_of(layers[0])]
    return found


def default_examples() -> list[list[Any]]:
    """Return examples for functions of which nothing is known: images of three channels, 10 classes."""
    image = torch.zeros(3, 32, 32)
    whole = _labeled(image, 10)
    dense = [(x, torch.eye(10)[y]) for x, y in whole]
    return [
        whole,
        dense,
        [{"image": x, "label": y} for x, y in whole],
        [{"images": x, "labels": y} for x, y in dense],
        [{"images": x.permute(1, 2, 0).contiguous(), "labels": y} for x, y in dense],
    ]


def _labeled(x: Tensor, classes: int) -> list[Any]:
    if classes == 1:
        return [(x, torch.tensor([float(i)])) for i in range(4)]
    return [(x, torch.tensor(i)) for i in range(classes)]


def _inputs_of(layer: nn.Module) -> Sequence[Tensor]:
    if isinstance(layer, nn.Conv2d):
        return [torch.zeros(layer.in_channels, size, size) for size in (32, 28, 64, 224)]
    if isinstance(layer, nn.Conv1d):
        return [torch.zeros(layer.in_channels, size) for size in (128, 1024, 16000)]
    if isinstance(layer, nn.Linear):
        n = layer.in_features
        side = round(n**0.5)
        images = [torch.zeros(1, side, side)] if side * side == n and side >= 8 else []
        images += [torch.zeros(3, s, s)] if 3 * (s := round((n / 3) ** 0.5)) ** 2 == n and s >= 8 else []
        return [torch.zeros(n), *images]
    if isinstance(layer, nn.Embedding):
        return [torch.arange(12) % layer.num_embeddings]
    return []
