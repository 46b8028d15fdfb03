"""Manifold Mixup: a plan applied at a hidden layer of any network.

The paper's mix of "latent representations" (section 3.8), published as Manifold Mixup by Verma et al. (2019), who draw
the layer anew for each batch.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from vicinal._residual import Mixed, Watch
from vicinal._warn import warn
from vicinal.plan import MixPlan, Plan, PlanChain

# The plan of each open block, by the id of its place. They are not attributes, because torch.compile takes the sizes of
# tensors that it reaches through a module as fixed, and would compile anew for every size of batch.
_PLANS: dict[int, Plan] = {}

_LAYER = 62  # of the key of a plan: the stream that draws the layer
_LOOKS = 4  # blocks in which it is asked whether something flows past the mix; without gradients there is no answer

# Parameters that are no representation, by the words of their names: masks, what is added to attention scores, rotary
# tables, states of recurrent networks, caches, counts
_NEVER = re.compile(
    r"mask|masks|bias|biases|pos|position|positions|rotary|rope|freqs|cos|sin|rel|relative|hx|h0|c0|hc|cx|state|states|cache"
    r"|past|num|scores"
)


class LatentMixing:
    """Manifold Mixup: mix the hidden states that go into a module of a network (Verma et al. 2019; paper, section 3.8).

    Build it once, before `torch.compile` sees the network; then give it a plan for each batch:

        latent = LatentMixing(net, "layer3")
        with latent(mixup.plan(len(x), y, step=step)) as plan:
            loss = F.cross_entropy(net(x), plan.target(y))

    *What is mixed*: the first floating-point tensor with the batch dimension, in the order of the parameters of the
    module's `forward`, and nothing else. Masks, position tables, biases, states and caches are never interpolated, and
    tensors without the batch dimension pass. `inputs` names others where they are representations too. What mixed rows
    contain of padded sequences, `plan.union(mask)` says: give it to the network with them.

    Outside the `with` nothing is mixed; `remove` takes the hooks off. Copies of the network (an average of its weights,
    say) carry the hooks, too, and are never mixed. A block is for one forward pass; where activation checkpointing runs the
    module again for the backward pass, call `backward` inside the block too. On leaving the block it is an error if
    nothing was mixed: labels that are mixed while nothing else is would go unnoticed.

    Args:
        net: any module.
        at: the name of a module inside, as in `net.named_modules()`; the mix happens before it. "" is the whole
            network. Of several names one is drawn for each plan, uniformly, by the plan's key: a replay draws the same.
        inputs: which parameters of the module's `forward` are mixed, by name or position; all tensors in them that have
            the batch dimension.
        dim: the batch dimension of what is mixed; None: 0, for modules that do not say otherwise.

    Raises:
        ValueError: there is no module of that name, or a module is time-major (`batch_first=False`) and `dim` is not given.

    Warns:
        UserWarning: once, if something flows past the mix (inside a residual branch), or another input looks like a
            representation and stays unmixed.

    """

    def __init__(
        self,
        net: nn.Module,
        at: str | Sequence[str],
        *,
        inputs: str | int | Sequence[str | int] | None = None,
        dim: int | None = None,
    ) -> None:
        modules = dict(net.named_modules(remove_duplicate=False))
        names = [at] if isinstance(at, str) else list(at)
        if not names or len(set(names)) < len(names):
            raise ValueError(f"at is the name of a module, or several different ones, got {at!r}")
        for name in names:
            if name not in modules:
                raise ValueError(f"the network has no module {name!r}; it has {[name for name in modules if name]}")
            if dim is None and _is_time_major(name, modules):
                raise ValueError(
                    f"the module {name!r} is time-major (batch_first=False), or holds one that is: say dim=1 if its inputs "
                    "are [time, batch, ...], dim=0 if they are [batch, ...]"
                )
        wanted = None if inputs is None else [inputs] if isinstance(inputs, (str, int)) else list(inputs)
        self._places = {name: _Place(net, modules[name], name, wanted, dim or 0) for name in names}
        self.at = names[0]  # of the last block

    @contextmanager
    def __call__(self, plan: Plan, at: str | None = None) -> Iterator[Plan]:
        """Mix by `plan` within the block.

        Args:
            plan: drawn for the rows of the batch.
            at: which of several modules, instead of drawing one.

        Raises:
            RuntimeError: blocks are nested, or the module ran not once inside the block.
            TypeError: no input of the module is a floating-point tensor that can be mixed.
            ValueError: an input has another number of rows than the plan, or a layer is to be drawn by a plan without key.

        """
        if any(id(place) in _PLANS for place in self._places.values()):
            raise RuntimeError(f"{self.at!r} is being mixed by another plan already: leave its block first")
        self.at = self._chosen(plan) if at is None else at
        if self.at not in self._places:
            raise ValueError(f"{at!r} is not among the modules given, {list(self._places)}")
        place = self._places[self.at]
        _PLANS[id(place)] = plan
        place.open()
        try:
            yield plan
            place.close()
            if not place.reached:
                raise RuntimeError(
                    f"the module {place.name!r} did not run inside the block, so nothing was mixed; if the network is "
                    "compiled, build LatentMixing before its first call, and call torch._dynamo.reset() if another network "
                    "of this class was compiled before: PyTorch reuses what it compiled, hooks or not"
                )
        finally:
            del _PLANS[id(place)]

    def remove(self) -> None:
        """Take the hooks off the network."""
        for place in self._places.values():
            place.handle.remove()
            place.watch.remove()

    def _chosen(self, plan: Plan) -> str:
        names = list(self._places)
        if len(names) == 1 or not _mixes(plan):
            return names[0]
        if plan.key is None:
            raise ValueError(
                f"a plan made by hand has no key to draw a layer by: say which, latent(plan, at={names[0]!r})"
            )
        return names[int(plan.key.fold(_LAYER).generator().integers(len(names)))]


class _Place:
    """One module, and what a block does to its inputs."""

    def __init__(self, net: nn.Module, module: nn.Module, name: str, wanted: list[str | int] | None, dim: int) -> None:
        self.name = name
        self.wanted = wanted
        self.dim = dim
        self.reached = False
        self.compiled = False
        self.looks = 0
        self.told = False
        self.watch = Watch(net, name)
        parameters = [p.name for p in inspect.signature(module.forward).parameters.values() if p.kind in (0, 1, 3)]
        self.parameters = parameters
        self.order = {parameter: i for i, parameter in enumerate(parameters)}
        if wanted is not None:
            self._check_wanted(wanted, module)
        self.handle = module.register_forward_pre_hook(self._hook, with_kwargs=True)

    def open(self) -> None:
        """Begin a block."""
        self.reached = False
        if self.looks < _LOOKS:
            self.watch.begin()

    def close(self) -> None:
        """End a block in which nothing went wrong."""
        if self.looks >= _LOOKS:
            return
        saw, around = self.watch.end()
        self.looks = _LOOKS if saw else self.looks + 1
        if around is not None:
            self._warn_of_what_flows_past(around)
        if self.looks == _LOOKS and not self.compiled:
            self.watch.remove()

    def _check_wanted(self, wanted: list[str | int], module: nn.Module) -> None:
        kinds = {p.kind for p in inspect.signature(module.forward).parameters.values()}
        for one in wanted:
            known = (
                (one in self.order or 4 in kinds)
                if isinstance(one, str)
                else 0 <= one < len(self.parameters) or 2 in kinds
            )
            if not known:
                raise ValueError(f"the module {self.name!r} has no input {one!r}; it has {self.parameters}")

    def _hook(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        plan = _PLANS.get(id(self))
        if plan is None:
            if not torch.compiler.is_compiling() and self.reached:
                self.reached = _in_backward()
                if self.reached:
                    raise RuntimeError(
                        f"activation checkpointing runs the module {self.name!r} again for the backward pass, where it must "
                        "be mixed again: call backward inside the block"
                    )
            return None
        if self.reached and not _in_backward():
            raise RuntimeError(
                f"the module {self.name!r} ran twice inside the block, and would be mixed twice while the labels are mixed "
                "once: give each forward pass a block of its own, at a module that runs once in it"
            )
        named = self._named(args, kwargs)
        chosen = self._first(named, len(plan)) if self.wanted is None else self._wanted(named, len(plan))
        if torch.compiler.is_compiling():
            self.compiled = True
        elif not self.told:
            self.told = True
            self._look(named, chosen, len(plan))
        self.reached = True
        mixed = [self._mix(plan, tensor, i) for i, tensor in enumerate(chosen)]
        if not torch.compiler.is_compiling() and not _in_backward() and mixed[0] is not chosen[0]:
            node = mixed[0].grad_fn
            self.watch.mixed = None if node is None else Mixed(node, mixed[0].shape)

        def replaced(leaf: Any) -> Any:
            for old, new in zip(chosen, mixed, strict=True):
                if leaf is old:  # wherever it goes in: query, key and value of self-attention are one tensor
                    return new
            return leaf

        return pytree.tree_map(replaced, args), pytree.tree_map(replaced, kwargs)

    def _named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, Any]]:
        """Return the inputs by their names, in the order of the parameters."""
        given = len(self.parameters)
        named = [(self.parameters[i] if i < given else f"input {i}", arg) for i, arg in enumerate(args)]
        return named + sorted(kwargs.items(), key=lambda item: self.order.get(item[0], given))

    def _first(self, named: list[tuple[str, Any]], n: int) -> list[Tensor]:
        """Return the hidden states."""
        for name, value in named:
            if isinstance(value, PackedSequence):
                raise TypeError(
                    f"the input {name!r} of the module {self.name!r} is a packed sequence, whose rows are no rows of the "
                    "batch: pad it, mix it by plan(x), and pack it again by plan.longest(lengths)"
                )
            for tensor in _tensors(value):
                if self._has_rows(tensor, n) and not _is_never(name):
                    return [tensor]
        floating = [tensor for name, value in named for tensor in _tensors(value) if not _is_never(name)]
        if not floating:
            raise TypeError(
                f"the inputs of the module {self.name!r} hold no floating-point tensor that could be mixed: choose a later "
                "one, after the embedding"
            )
        raise ValueError(
            f"a representation of shape {list(floating[0].shape)} cannot be mixed by a plan of {n} rows: dimension "
            f"{self.dim} must be the batch"
        )

    def _wanted(self, named: list[tuple[str, Any]], n: int) -> list[Tensor]:
        """Return the tensors that the user named."""
        assert self.wanted is not None
        chosen: list[Tensor] = []
        for one in self.wanted:
            name = (
                one if isinstance(one, str) else self.parameters[one] if one < len(self.parameters) else f"input {one}"
            )
            found = [t for given, value in named if given == name for t in _tensors(value) if self._has_rows(t, n)]
            if not found:
                raise TypeError(
                    f"the input {name!r} of the module {self.name!r} holds no floating-point tensor of {n} rows; it was "
                    f"given {[given for given, _ in named]}"
                )
            chosen += [tensor for tensor in found if not any(tensor is other for other in chosen)]
        return chosen

    def _has_rows(self, tensor: Tensor, n: int) -> bool:
        return tensor.ndim > self.dim and tensor.shape[self.dim] == n

    def _mix(self, plan: Plan, tensor: Tensor, i: int) -> Tensor:
        if self.dim == 0:
            return plan.tensor(tensor, i)
        return plan.tensor(tensor.movedim(self.dim, 0), i).movedim(0, self.dim)

    def _look(self, named: list[tuple[str, Any]], chosen: list[Tensor], n: int) -> None:
        """On the first pass, refuse a mask under another name, and warn of a second representation."""
        first = chosen[0]
        if (
            first.is_floating_point()
            and first.numel()
            and float(first.detach().amin()) <= torch.finfo(first.dtype).min / 2
        ):
            raise ValueError(
                f"the first floating-point input of the module {self.name!r} holds {float(first.detach().amin()):.3g}, as "
                f"masks do that are added to attention scores: say inputs= (of {self.parameters})"
            )
        if self.wanted is not None:
            return
        for name, value in named:
            for tensor in _tensors(value):
                alike = tensor.ndim == first.ndim and tensor.ndim > 1 and tensor.shape[-1] == first.shape[-1]
                if alike and self._has_rows(tensor, n) and tensor is not first and not _is_never(name):
                    warn(
                        f"the input {name!r} of the module {self.name!r} looks like a representation, too, and stays "
                        f"unmixed: say inputs= to mix it, or to leave it out on purpose (of {self.parameters})"
                    )
                    return

    def _warn_of_what_flows_past(self, around: str) -> None:
        """Warn that only a part of the representation is mixed."""
        where = f"{around!r}: mix before the whole of it, LatentMixing(net, {around!r})" if around else "the network"
        warn(
            f"what flows past the module {self.name!r} is not mixed, while the labels are: it is inside a residual branch "
            f"of {where}"
        )


def _tensors(value: Any) -> list[Tensor]:
    """Return the floating-point tensors of one input."""
    leaves = [value] if isinstance(value, Tensor) else pytree.tree_leaves(value)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex())]


def _is_never(name: str) -> bool:
    """Whether a parameter of this name is no representation; hidden and query states are one."""
    words = name.lower().split("_")
    if words[-1] in ("states", "state") and len(words) > 1:
        words = words[:-1]
    return any(_NEVER.fullmatch(word) for word in words)


def _is_time_major(name: str, modules: dict[str, nn.Module]) -> bool:
    """Whether a module, a part of it, or one of PyTorch's sequence modules around it has `batch_first=False`."""

    def says_so(module: nn.Module) -> bool:
        return any(getattr(part, "batch_first", None) is False for part in module.modules())

    around = [modules[name.rsplit(".", i)[0]] for i in range(1, name.count(".") + 1)]
    if name:
        around.append(modules[""])
    ours = (module for module in around if type(module).__module__.startswith("torch.nn"))
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    return says_so(modules[name]) or any(says_so(module) for module in ours if not isinstance(module, containers))


def _mixes(plan: Plan) -> bool:
    if isinstance(plan, PlanChain):
        return any(_mixes(part) for part in plan.plans)
    return not isinstance(plan, MixPlan) or plan.partners.shape[1] > 0 or plan.noise is not None


def _in_backward() -> bool:
    """Whether a backward pass is running, in which activation checkpointing runs modules again."""
    return torch._C._current_graph_task_id() != -1
