"""What reaches a model in somebody's training step, and what the loss makes of its outputs. Nothing of the program is edited.

While a recording lasts, `nn.Module.__call__` passes through here: inputs of outermost calls are kept, and the outputs that
the loss compares with labels are replaced by a tensor of our choice, whose gradient is then read. Weights, buffers,
optimizers and generators are put back afterwards.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vicinal.checking import trees

_LOSSES = {
    *("cross_entropy", "nll_loss", "nll_loss_nd", "binary_cross_entropy", "binary_cross_entropy_with_logits"),
    *("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div", "log_softmax", "softmax", "logsigmoid"),
}


@dataclass
class ModelCall:
    """One outermost call of a module with parameters.

    Args:
        module: the module.
        inputs: its tensor arguments by name, copied before the call.
        training: whether it was in training mode.
        grad: whether gradients were recorded.
        seconds: when it began, after the recording began.
        arguments: what it was given, by name, as it was given.
        feeds: whether its output goes into a later call, as features into a classifier.

    """

    module: nn.Module
    inputs: dict[str, Tensor]
    training: bool
    grad: bool
    seconds: float
    arguments: dict[str, Any]
    feeds: bool = False


@dataclass
class LossCall:
    """One call of a loss function of PyTorch.

    Args:
        name: of the function.
        target_dtype: dtype of what it was given as the target; None: no tensor.
        target_ndim: its number of dimensions.
        weight: class weights.
        ignore_index: of cross-entropy.
        smoothing: label smoothing of cross-entropy.
        reduction: "mean", "sum" or "none".

    """

    name: str
    target_dtype: torch.dtype | None
    target_ndim: int
    weight: Tensor | None
    ignore_index: int
    smoothing: float
    reduction: str


@dataclass
class Recording:
    """What a run showed.

    Args:
        calls: of models, in order.
        losses: of loss functions, in order.
        equalities: pairs of whole-number tensors that were compared, as [n] each.
        logits: what stood for the outputs of the model, with its gradient if one was taken.
        hidden: outputs of all inner modules, by (name, occurrence), if they were asked for.

    """

    calls: list[ModelCall] = field(default_factory=list)
    losses: list[LossCall] = field(default_factory=list)
    equalities: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)
    hidden: dict[tuple[str, int], Tensor] = field(default_factory=dict)


Stand = Callable[[Tensor], Tensor]


class Recorder:
    """Record what reaches models and losses while a function runs.

    Args:
        stand_in: makes of the outputs of a model what stands in for them; None: they stay.
        hidden: whether outputs of inner modules are kept, with batch norm and dropout as in evaluation.
        features: which outermost calls, by number, feed later ones: their outputs stay.

    """

    def __init__(
        self, stand_in: Stand | None = None, hidden: bool = False, features: frozenset[int] = frozenset()
    ) -> None:
        self.stand_in, self.hidden, self.features = stand_in, hidden, features
        self.recording = Recording()
        self._outputs: list[Any] = []
        self._start = time.perf_counter()
        self._depth = 0
        self._kept: dict[int, tuple[nn.Module, dict[str, Any], list[Any], dict[int, bool], Any]] = {}
        self._seen: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._root: nn.Module | None = None

    @contextmanager
    def recording_of(self) -> Iterator[Recording]:
        """Record in this block."""
        original = nn.Module.__call__
        recorder = self

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            return recorder._call(original, module, args, kwargs)

        nn.Module.__call__ = call  # pyright: ignore
        try:
            with _Functions(self):
                yield self.recording
        finally:
            nn.Module.__call__ = original  # pyright: ignore
            self._restore()

    def _call(self, original: Any, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inside = self._depth > 0
        if not inside and not _is_model(module):
            return original(module, *args, **kwargs)
        if not inside:
            self._keep(module)
            self._root, self._names = module, {id(part): name for name, part in module.named_modules()}
            inputs = {
                name: tensor for name, leaf in _arguments(args, kwargs) if (tensor := trees.as_tensor(leaf)) is not None
            }
            given = {id(leaf) for _, leaf in _arguments(args, kwargs)}
            for made, earlier in zip(self._outputs, self.recording.calls, strict=True):
                earlier.feeds |= id(made) in given
            seconds = time.perf_counter() - self._start
            call = ModelCall(module, inputs, module.training, torch.is_grad_enabled(), seconds, dict(kwargs))
            self.recording.calls.append(call)
        calm = self.hidden and isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd)
        training = module.training
        if calm:
            module.training = False
        self._depth += 1
        try:
            out = original(module, *args, **kwargs)
        finally:
            self._depth -= 1
            if calm:
                module.training = training
        if self.hidden and inside:
            name = self._names.get(id(module), "")
            count = self._seen[name] = self._seen.get(name, -1) + 1
            for part, value in (("input", args[0] if args else None), ("output", out)):
                if isinstance(value, Tensor) and value.ndim >= 2 and value.is_floating_point():
                    self.recording.hidden[f"{part} of {name}", count] = value.detach().clone()
        if self.stand_in is not None and len(self._outputs) not in self.features:
            out = self._replaced(module, out, inside)
        if not inside:
            self._outputs.append(out)  # kept, so that its identity stays its own
        return out

    def _replaced(self, module: nn.Module, out: Any, inside: bool) -> Any:
        """Return the outputs with the logits replaced, where this call makes them."""
        root = self._root
        assert root is not None and self.stand_in is not None
        tap = _tap(root)
        if inside and (tap is None or module is not tap):
            return out
        if not inside and tap is not None:
            return out
        if inside and not isinstance(out, Tensor):
            return out
        return _with_logits(out, self._stand)

    def _stand(self, out: Tensor) -> Tensor:
        assert self.stand_in is not None
        stand = self.stand_in(out.detach())
        if out.requires_grad:
            leaf = stand.detach().requires_grad_()
            self.recording.logits.append(leaf)
            return leaf + out * 0.0  # the graph stays, so that optimizers and scalers find gradients
        return stand

    def _keep(self, module: nn.Module) -> None:
        if id(module) in self._kept:
            return
        state = {name: value.detach().clone() for name, value in _state(module)}
        grads = [None if p.grad is None else p.grad.detach().clone() for p in module.parameters()]
        config = getattr(module, "config", None)
        problem = getattr(config, "problem_type", None)
        self._kept[id(module)] = module, state, grads, {id(m): m.training for m in module.modules()}, problem

    def _restore(self) -> None:
        for module, state, grads, training, problem in self._kept.values():
            with torch.no_grad():
                for name, value in _state(module):
                    if name in state and value.shape == state[name].shape:
                        value.copy_(state[name])
            for parameter, grad in zip(module.parameters(), grads, strict=True):
                parameter.grad = grad
            for part in module.modules():
                part.training = training.get(id(part), part.training)
            config = getattr(module, "config", None)
            if config is not None and hasattr(config, "problem_type") and config.problem_type != problem:
                config.problem_type = problem  # Hugging Face's models write it at the first batch


def _state(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


def _is_model(module: nn.Module) -> bool:
    return next(iter(module.parameters()), None) is not None


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for i, value in enumerate(args):
        yield from trees.leaves(value, f"argument {i}" if len(args) > 1 else "input")
    for name, value in kwargs.items():
        yield from trees.leaves(value, name)


def _with_logits(out: Any, stand: Stand) -> Any:
    """Return the outputs of a model with their logits replaced."""
    if isinstance(out, Tensor):
        return stand(out) if out.is_floating_point() and out.ndim >= 1 else out
    if isinstance(out, Mapping) and "logits" in out:
        out["logits"] = stand(out["logits"])  # pyright: ignore
        return out
    if isinstance(out, tuple | list):
        at = next((i for i, part in enumerate(out) if isinstance(part, Tensor) and part.ndim >= 1), None)
        if at is not None and out[at].is_floating_point():
            parts = list(out)
            parts[at] = stand(out[at])
            return type(out)(parts) if not hasattr(out, "_fields") else type(out)(*parts)  # pyright: ignore
    if isinstance(out, Mapping):
        parts = {
            key: stand(v) if isinstance(v, Tensor) and v.ndim >= 1 and v.is_floating_point() else v
            for key, v in out.items()
        }
        return parts
    return out


_TAPS = {"classifier", "score", "lm_head", "head", "fc", "logits", "output", "out_proj", "classification_head"}


def _tap(root: nn.Module) -> nn.Module | None:
    """Return the inner module that makes the logits, of a model that computes its loss itself; None for all others."""
    if not hasattr(root, "config"):
        return None
    children = dict(root.named_children())
    found = [module for name, module in children.items() if name in _TAPS]
    return found[-1] if found else None


class _Functions(TorchFunctionMode):
    """Keep calls of losses and comparisons."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _LOSSES:
            self.recorder.recording.losses.append(_loss_call(name, args, kwargs))
        elif name in ("__eq__", "eq") and len(args) == 2:
            self._compare(*args)
        return func(*args, **kwargs)

    def _compare(self, a: Any, b: Any) -> None:
        if isinstance(a, Tensor) and isinstance(b, Tensor) and not a.is_floating_point() and a.numel() == b.numel():
            kept = self.recorder.recording.equalities
            if len(kept) < 64 and a.numel() < 100_000:
                kept.append((a.detach().reshape(-1).cpu().clone(), b.detach().reshape(-1).cpu().clone()))


def _loss_call(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> LossCall:
    target = kwargs.get("target", args[1] if len(args) > 1 else None)
    tensor = target if isinstance(target, Tensor) else None
    weight = kwargs.get("weight", args[2] if len(args) > 2 else None)
    weight = weight if isinstance(weight, Tensor) else None
    ignore = kwargs.get("ignore_index", -100)
    return LossCall(
        name,
        None if tensor is None else tensor.dtype,
        0 if tensor is None else tensor.ndim,
        None if weight is None else weight.detach().cpu(),
        ignore if isinstance(ignore, int) else -100,
        float(kwargs.get("label_smoothing", 0.0) or 0.0),
        str(kwargs.get("reduction", "mean")),
    )


@contextmanager
def put_back(*owners: Any) -> Iterator[None]:
    """Put the global generators, and the state of optimizers and models found in `owners`, back at the end.

    Args:
        owners: functions or objects, among whose globals, closures and attributes optimizers are looked for.

    """
    states = torch.random.get_rng_state(), np.random.get_state(), random.getstate()
    kept = [(opt, copy.deepcopy(opt.state_dict())) for opt in _held(owners, torch.optim.Optimizer)]
    try:
        yield
    finally:
        torch.random.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        for optimizer, state in kept:
            optimizer.state.clear()
            optimizer.load_state_dict(state)


def _held(owners: tuple[Any, ...], kind: type) -> list[Any]:
    found: dict[int, Any] = {}
    for owner in owners:
        function = getattr(owner, "__func__", owner)
        places = [getattr(function, "__globals__", {}), getattr(owner, "__dict__", {})]
        cells = getattr(function, "__closure__", None) or ()
        places.append({str(i): _content(cell) for i, cell in enumerate(cells)})
        for place in places:
            for value in list(place.values()):
                if isinstance(value, kind):
                    found[id(value)] = value
    return list(found.values())


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def seed_all(n: int) -> None:
    """Set the three global generators that pipelines draw from."""
    torch.default_generator.manual_seed(n)
    np.random.set_state(np.random.MT19937(n).state)
    random.seed(n)
