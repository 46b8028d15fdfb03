"""What reaches a model in somebody's training step, and what the loss makes of its outputs; nothing is edited.

While a recording lasts, `nn.Module.__call__` passes through here: inputs of outermost calls are kept, and the outputs that
the loss compares with labels are replaced by a tensor of our choice, whose gradient is then read. Weights, buffers,
optimizers and generators are put back afterwards.
"""

from __future__ import annotations

import copy
import inspect
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode

from vicinal.checking import generators, trees

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
        outputs: what stood for its outputs, with their gradients if they were taken.

    """

    module: nn.Module
    inputs: dict[str, Tensor]
    training: bool
    grad: bool
    seconds: float
    arguments: dict[str, Any]
    feeds: bool = False
    outputs: list[Tensor] = field(default_factory=list)

    @property
    def gradients(self) -> list[Tensor]:
        """The gradients of the loss with respect to its outputs, as far as they were taken."""
        return [z.grad.detach().cpu() for z in self.outputs if z.grad is not None]


@dataclass
class LossCall:
    """One call of a loss function of PyTorch.

    Args:
        name: of the function.
        target_dtype: dtype of what it was given as the target; None: no tensor.
        target_ndim: its number of dimensions.
        weight: class weights; of binary cross-entropy, what a positive entry counts beside a negative one, on average.
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
        updates: at each step of an optimizer, the sizes of the gradients of vectors of parameters, by length.
        taps: of models that compute their loss themselves, the inner module that makes the logits.
        equalities: pairs of whole-number tensors that were compared, as [n] each.
        hidden: outputs of all inner modules, by (name, occurrence), if they were asked for.

    """

    calls: list[ModelCall] = field(default_factory=list)
    losses: list[LossCall] = field(default_factory=list)
    updates: list[dict[int, float]] = field(default_factory=list)
    taps: dict[int, nn.Module] = field(default_factory=dict)
    equalities: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    hidden: dict[tuple[str, int], Tensor] = field(default_factory=dict)


Stand = Callable[[Tensor], Tensor]


class Recorder:
    """Record what reaches models and losses while a function runs.

    Args:
        stand_in: makes of the outputs of a model what stands in for them; None: they stay.
        hidden: whether inputs and outputs of inner modules are kept.
        features: which outermost calls, by number, feed later ones: their outputs stay.
        classes: numbers of classes of the labels; of several outputs those of such a width are replaced.
        taps: of models that compute their loss themselves, the inner module that makes the logits, by the model's identity.

    """

    def __init__(
        self,
        stand_in: Stand | None = None,
        hidden: bool = False,
        features: frozenset[int] = frozenset(),
        classes: frozenset[int] = frozenset(),
        taps: dict[int, nn.Module] | None = None,
    ) -> None:
        self.classes, self.taps = classes, taps or {}
        self._made: list[tuple[nn.Module, Tensor]] = []
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
        hook = register_optimizer_step_pre_hook(self._before_update)
        try:
            with _Functions(self), _eagerly():
                yield self.recording
        finally:
            hook.remove()
            nn.Module.__call__ = original  # pyright: ignore
            self._restore()

    def _before_update(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        sizes: dict[int, float] = {}
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.ndim == 1:
                    sizes[len(parameter)] = float(parameter.grad.double().abs().sum())
        self.recording.updates.append(sizes)

    def _call(self, original: Any, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        module = getattr(module, "_orig_mod", module)  # of a compiled module, which would compile this recording too
        inside = self._depth > 0
        if not inside and not _is_model(module):
            return original(module, *args, **kwargs)
        if not inside:
            self._keep(module)
            self._root, self._names = module, {id(part): name for name, part in module.named_modules()}
            named = _bound(module, args, kwargs)
            parts = [part for name, value in named.items() for part in trees.leaves(value, name)]
            inputs = {name: tensor for name, leaf in parts if (tensor := trees.as_tensor(leaf)) is not None}
            given = [leaf for _, leaf in parts if isinstance(leaf, Tensor)]
            for made, earlier in zip(self._outputs, self.recording.calls, strict=True):
                earlier.feeds = earlier.feeds or _leads_to(made, given)
            seconds = time.perf_counter() - self._start
            call = ModelCall(module, inputs, module.training, torch.is_grad_enabled(), seconds, named)
            self.recording.calls.append(call)
        calm = isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd)
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
        if inside and self.stand_in is None and isinstance(out, Tensor):
            self._made.append((module, out))
        if not inside:
            self._outputs.append(out)  # kept, so that its identity stays its own
            self._find_tap(module, out)
        return out

    def _find_tap(self, root: nn.Module, out: Any) -> None:
        """Find the inner module that makes the logits, of a model that computes its loss itself."""
        leaves = [leaf for _, leaf in trees.leaves(out) if isinstance(leaf, Tensor)]
        leaves += [leaf for leaf in vars(out).values() if isinstance(leaf, Tensor)] if hasattr(out, "__dict__") else []
        has_loss = any(leaf.requires_grad and leaf.ndim == 0 for leaf in leaves)
        if has_loss and self.stand_in is None:
            outputs = {id(leaf) for leaf in leaves}
            given = [module for module, made in self._made if id(made) in outputs]
            wide = [module for module, made in self._made if made.ndim >= 2 and made.shape[1] in self.classes]
            found = given or wide
            if found:
                self.recording.taps[id(root)] = found[0] if given else found[-1]
        self._made.clear()

    def _replaced(self, module: nn.Module, out: Any, inside: bool) -> Any:
        """Return the outputs with the logits replaced, where this call makes them."""
        root = self._root
        assert root is not None
        tap = self.taps.get(id(root))
        if inside and (tap is None or module is not tap):
            return out
        if not inside and tap is not None:
            return out
        if inside and not isinstance(out, Tensor):
            return out
        return self._with_logits(out)

    def _with_logits(self, out: Any) -> Any:
        """Return the outputs of a model with what is compared with labels replaced."""
        leaves = [(name, leaf) for name, leaf in trees.leaves(out) if _is_output(leaf)]
        leaves = [(name, leaf) for name, leaf in leaves if leaf.requires_grad] or leaves  # labels may come out too
        names = {name for name, leaf in leaves if leaf.ndim >= 2 and leaf.shape[1] in self.classes}
        if not names or isinstance(out, Tensor):
            names = {name for name, _ in leaves if name.endswith("['logits']")} or {name for name, _ in leaves[:1]}
        if not leaves:
            logits: Any = getattr(out, "logits", None)  # an object of a class of its own
            if _is_output(logits):
                out.logits = self._stand(logits)  # pyright: ignore
            return out
        return trees.rebuilt(out, lambda name, leaf: self._stand(leaf) if name in names else leaf)

    def _stand(self, out: Tensor) -> Tensor:
        assert self.stand_in is not None
        if not out.requires_grad:
            return out  # of a teacher or a frozen part: not what is trained
        leaf = self.stand_in(out.detach()).detach().requires_grad_()
        self.recording.calls[-1].outputs.append(leaf)
        return leaf + (out - out.detach())  # the graph stays, so that parameters get their gradients

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


def _eagerly() -> AbstractContextManager[Any]:
    """Return what runs compiled functions as they are written; the compiler is not imported for it."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def _state(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, value) for name, value in (*module.named_parameters(), *module.named_buffers()) if not value.is_meta]


def _is_model(module: nn.Module) -> bool:
    return next(iter(module.parameters()), None) is not None


def _leads_to(made: Any, given: list[Tensor]) -> bool:
    """Return whether tensors were computed of an earlier output, by the graph of their gradients."""
    wanted = {
        id(leaf.grad_fn) for _, leaf in trees.leaves(made) if isinstance(leaf, Tensor) and leaf.grad_fn is not None
    }
    waiting: list[Any] = [tensor.grad_fn for tensor in given if tensor.grad_fn is not None]
    seen: dict[int, Any] = {}
    while waiting and len(seen) < 10_000:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen[id(node)] = node  # kept, so that its identity stays its own
        waiting.extend(parent for parent, _ in node.next_functions if parent is not None)
    return bool(wanted & set(seen))


def _bound(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name, as far as the signature names them."""
    try:
        signature = inspect.signature(module.forward)
        found = dict(signature.bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        return {f"argument {i}": value for i, value in enumerate(args)} | kwargs
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            found |= found.pop(parameter.name, {})
    return found


def _is_output(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.ndim >= 1


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
    if name == "binary_cross_entropy_with_logits":
        positive = kwargs.get("pos_weight")
        if isinstance(positive, Tensor):
            weight = (positive + 1) / 2 if weight is None else weight * (positive + 1) / 2
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
    """Put back at the end of this block what a check moves, as far as it is found beside or in what is checked.

    That is the global generators, generators of one's own, optimizers, schedulers, modes of modules, counters, and
    tensors in dicts and lists, such as averaged weights.

    Args:
        owners: functions or objects, among whose globals, closures and attributes they are looked for.

    """
    states = [(thing, copy.deepcopy(thing.state_dict())) for thing in held(owners, _STATEFUL)]
    modes = [(part, part.training) for module in held(owners, nn.Module) for part in module.modules()]
    slopes = [
        (p, None if p.grad is None else p.grad.detach().clone())
        for m in held(owners, nn.Module)
        for p in m.parameters()
    ]
    drawn = [(generator, generators.state_of(generator)) for generator in held(owners, generators.kinds())]
    places = [(place, {k: v for k, v in place.items() if type(v) in _PLAIN}) for place in _places(owners)]
    tensors = [
        (t, t.detach().clone()) for place in _places(owners) for v in list(place.values()) for t in _tensors_in(v)
    ]
    try:
        with generators.kept():
            yield
    finally:
        for thing, state in states:
            if isinstance(thing, torch.optim.Optimizer):
                thing.state.clear()
            thing.load_state_dict(state)
        for part, mode in modes:
            part.training = mode
        for parameter, slope in slopes:
            parameter.grad = slope
        for generator, state in drawn:
            generators.set_state(generator, state)
        for place, values in places:
            place.update(values)
        with torch.no_grad():
            for tensor, before in tensors:
                tensor.copy_(before)


_STATEFUL = (torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
_PLAIN = (int, float, bool)


def _tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in a dict or list, unless they are many: data is not copied."""
    parts = list(value.values()) if type(value) is dict else value if type(value) is list else []
    found = [
        part for part in parts[:2000] if isinstance(part, Tensor) and not part.is_meta and part.is_floating_point()
    ]
    return found if sum(part.numel() for part in found) < 1 << 26 else []


def _places(owners: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Return the globals of functions and the attributes of objects; of a method, those of its object too."""
    found: dict[int, dict[str, Any]] = {}
    for owner in owners:
        function = getattr(owner, "__func__", owner)
        for holder in (owner, getattr(owner, "__self__", None)):
            attributes = getattr(holder, "__dict__", None)
            if isinstance(attributes, dict) and not isinstance(holder, type | ModuleType):
                found[id(attributes)] = attributes
        scope = getattr(function, "__globals__", None)
        if scope is not None and not scope.get("__name__", "").startswith(("vicinal.", "torch.")):
            found[id(scope)] = scope
    return list(found.values())


def held(owners: tuple[Any, ...], kinds: type | tuple[type, ...]) -> list[Any]:
    """Return the objects of some kinds among the globals, closures and attributes of functions and objects."""
    found: dict[int, Any] = {}
    for owner in owners:
        cells = getattr(getattr(owner, "__func__", owner), "__closure__", None) or ()
        values = [_content(cell) for cell in cells]
        for value in [owner, *values, *(v for place in _places((owner,)) for v in list(place.values()))]:
            if isinstance(value, kinds):
                found[id(value)] = value
    return list(found.values())


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None
