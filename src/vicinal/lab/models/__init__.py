"""The paper's models, one file each, and any other by the name of what builds it: `build("wrn-28-10", 100)`."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vicinal.lab.errors import UserError
from vicinal.lab.models.densenet import DenseNet
from vicinal.lab.models.preact_resnet import PreActResNet18
from vicinal.lab.models.resnet import CifarResNet, ResNet
from vicinal.lab.models.small import SmallCNN
from vicinal.lab.models.speech import VGG11, LeNet
from vicinal.lab.models.wide_resnet import WideResNet

Factory = Callable[..., nn.Module]

MODELS: dict[str, Factory] = {
    "preact-resnet-18": PreActResNet18,
    "preact-resnet-18-narrow": partial(PreActResNet18, width=8),  # for a CPU, as the other narrow one
    "wrn-28-10": WideResNet,
    "densenet-bc-190-40": DenseNet,
    "resnet-20": CifarResNet,
    "small": SmallCNN,
    "small-half": partial(SmallCNN, width=16),
    "small-eighth": partial(SmallCNN, width=4),
    "resnet-50": ResNet,
    "resnet-101": partial(ResNet, blocks=(3, 4, 23, 3)),
    "resnext-101-32x4d": partial(ResNet, blocks=(3, 4, 23, 3), groups=32, group_width=4),
    "resnext-101-64x4d": partial(ResNet, blocks=(3, 4, 23, 3), groups=64, group_width=4),
    "lenet": LeNet,
    "vgg-11": VGG11,
    "vgg-11-narrow": partial(VGG11, first=8),
}


def build(
    name_or_path: str | Factory, num_classes: int, shape: tuple[int, ...] | None = None, **options: Any
) -> nn.Module:
    """Build a model by name, or by `package.module:factory`: a function or class that takes `num_classes`.

    >>> build("lenet", 4, shape=(1, 80, 50)).__class__.__name__
    'LeNet'

    Args:
        name_or_path: one of `MODELS`, or what `module:factory` names, or that function or class itself. The module is
            imported, so its code runs.
        num_classes: width of the output.
        shape: of an input: channels, height, width; a factory that has the arguments `channels` or `size` gets the first
            number of it, or the others.
        options: further arguments of the model, such as `dropout=0.5`.

    Raises:
        UserError: nothing has that name, the module cannot be imported, the arguments do not fit, or what is built is not
            a torch.nn.Module.

    """
    factory = _factory(name_or_path)
    if num_classes < 1:
        raise UserError(f"a model has 1 class or more, found num_classes={num_classes}")
    try:
        signature = inspect.signature(factory)
    except ValueError as error:  # of code that is not Python
        raise UserError(f"{name_or_path!r} has no readable arguments; wrap it in a Python function") from error
    if shape is not None:
        known = {"channels": shape[0], "size": shape[1:]}
        options |= {name: value for name, value in known.items() if name in signature.parameters}
    try:
        signature.bind(num_classes=num_classes, **options)
    except TypeError as error:
        takes = ", ".join(signature.parameters) or "nothing"
        given = ", ".join(["num_classes", *options])
        raise UserError(f"{name_or_path!r} is called with {given}, but it takes {takes} ({error})") from error
    try:
        model = factory(num_classes=num_classes, **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name_or_path!r}: {error}") from error
    if not isinstance(model, nn.Module):
        raise UserError(f"{name_or_path!r} gave a {type(model).__name__}; it must give a torch.nn.Module")
    return model


def build_empty(name_or_path: str | Factory, num_classes: int, shape: tuple[int, ...] | None = None) -> nn.Module:
    """Build a model as `build` does, whose weights have shapes and no memory, however large they are."""
    with torch.device("meta"), _Undrawn():
        return build(name_or_path, num_classes, shape)


class _Undrawn(TorchFunctionMode):
    """Leaves weights without memory undrawn: to draw them loads PyTorch's compiler, which makes a folder of its own."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensor = args[0] if args else kwargs.get("tensor")  # as nn.init calls it
        if getattr(func, "__name__", "") in ("normal_", "uniform_") and isinstance(tensor, Tensor) and tensor.is_meta:
            return tensor
        return func(*args, **kwargs)


def _factory(name_or_path: str | Factory) -> Factory:
    if not isinstance(name_or_path, str):
        return name_or_path
    return _imported(name_or_path) if ":" in name_or_path else _named(name_or_path)


def _named(name: str) -> Callable[..., nn.Module]:
    if name in MODELS:
        return MODELS[name]
    close = difflib.get_close_matches(name.lower().replace("_", "-"), MODELS, n=1)
    hint = (
        f"did you mean {close[0]!r}?"
        if close
        else f"the models are {', '.join(MODELS)}, and any package.module:factory"
    )
    raise UserError(f"there is no model {name!r}; {hint}")


def _imported(path: str) -> Callable[..., Any]:
    name, _, attribute = path.partition(":")
    parts = [*name.split("."), *attribute.split(".")]
    if not all(part.isidentifier() for part in parts):
        raise UserError(f"{path!r} names no model; write package.module:factory, as Python imports it")
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a module's code may raise anything
        lacking = error.name if isinstance(error, ModuleNotFoundError) and error.name else ""
        if lacking and f"{name}.".startswith(f"{lacking}."):  # this module or its package, not one that it imports
            raise UserError(
                f"there is no module {lacking!r}, which {path!r} names; install it, or set PYTHONPATH to its folder"
            ) from error
        raise UserError(f"importing {name!r} failed ({type(error).__name__}: {error})") from error
    try:
        factory = attrgetter(attribute)(module)
    except AttributeError as error:
        close = difflib.get_close_matches(attribute, [k for k in vars(module) if not k.startswith("_")], n=1)
        hint = f"; did you mean {name}:{close[0]}?" if close else ""
        raise UserError(f"the module {name!r} has no {attribute!r}{hint}") from error
    if not callable(factory):
        raise UserError(f"{path!r} is a {type(factory).__name__}; it must be a function or class that builds a model")
    return factory
