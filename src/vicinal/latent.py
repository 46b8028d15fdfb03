"""Manifold Mixup: a plan applied at a hidden layer of any model.

The paper's mix of "latent representations" (section 3.8), published as Manifold Mixup by Verma et al. (2019), who draw
the layer anew for each batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo  # torch.compiler.disable, without importing the compiler
from torch.nn.utils.rnn import PackedSequence

from vicinal._inputs import Inputs, Named, floating, is_additive_mask, is_never, is_perhaps, opened, replaced
from vicinal._residual import Watch, in_backward
from vicinal._warn import warn
from vicinal.keyed import Key
from vicinal.mix_plan import MixPlan
from vicinal.plan import Plan, PlanChain

# The plan of each open block, by the id of its place. They are not attributes, because torch.compile takes the sizes of
# tensors that it reaches through a module as fixed, and would compile anew for every size of batch.
_PLANS: dict[int, Plan] = {}

# PyTorch's modules whose parts have the batch where they have it
_ENCODERS = (nn.TransformerEncoder, nn.TransformerEncoderLayer)
_DECODERS = (nn.TransformerDecoder, nn.TransformerDecoderLayer)
_SEQUENCE = (nn.Transformer, *_ENCODERS, *_DECODERS, nn.MultiheadAttention, nn.RNNBase)
_LAYER = 62  # of the key of a plan: the stream that draws the layer
_LOOKS = 4  # blocks in which a flow past the mix is looked for; without gradients it cannot be seen


class LatentMixing:
    """Manifold Mixup: mix the hidden states that go into a module of a model (Verma et al. 2019).

    The paper's ablation mixes at one fixed layer (Zhang et al. 2018, section 3.8); Manifold Mixup draws it for each batch.

    Build it once, before `torch.compile` sees the model; then call it with a plan for each batch, in a `with` around the
    forward pass.

    *What is mixed*: the first floating-point tensor with the batch dimension, in the order of the parameters of the
    module's `forward`, and nothing else. Masks, position tables, biases, states and caches are never interpolated, and
    tensors without the batch dimension pass. `inputs` names others where they are representations too. What mixed rows
    contain of padded sequences is `plan.union(mask)`: pass it to the model with them.

    Outside the `with` nothing is mixed; `remove` takes the hooks off, which `torch.jit.script` cannot read. Copies of the
    model (an average of its weights, say) and files of it carry the hooks, too, and are never mixed. A block is for one
    forward pass; where activation checkpointing runs the module again for the backward pass, call `backward` inside the
    block too. On leaving the block it is an error if nothing was mixed: labels that are mixed while nothing else is would
    go unnoticed.

    Args:
        net: any module.
        at: the name of a module inside, as in `net.named_modules()`; the mix happens before it. "" is the whole
            model. Of several names one is drawn per plan, uniformly, by the plan's key: a replay draws the same. The
            attribute `at` holds its name.
        inputs: which parameters of the module's `forward` are mixed, by name or position; all tensors in them that have
            the batch dimension.
        dim: the batch dimension of what is mixed; None: 0, for modules that do not say otherwise.

    Convention:
        dimension 0: the rows of the batch, unless `dim` says otherwise.
        lambda: that of the plan, for hidden states and targets alike.
        one draw: that of the plan; one layer per plan.

    Raises:
        ValueError: there is no module of that name, or no input; a module is named twice; it is a list of modules, which
            is never called; it is time-major (`batch_first=False`) and `dim` is not given.

    Warns:
        UserWarning: in the first pass with gradients, if something flows past the mix (inside a residual branch), or
            another input is or looks like a representation and stays unmixed.

    Examples:
        >>> import torch, torch.nn.functional as F, vicinal
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> x, y = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
        >>> latent, mixup = LatentMixing(model, ["0", "2"]), vicinal.Mixup(alpha=1.0)  # "0" is the input itself
        >>> with latent(mixup.plan(len(x), y, step=0)) as plan:
        ...     loss = F.cross_entropy(model(x), plan.target(y))
        >>> latent.at in ("0", "2")
        True

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
                raise ValueError(f"the model has no module {name!r}; it has {[name for name in modules if name]}")
            if getattr(modules[name].forward, "__func__", None) is nn.Module.forward:
                parts = [f"{name}.{part}" if name else part for part, _ in modules[name].named_children()]
                raise ValueError(f"{name!r} only holds modules and is never called itself: name one of {parts}")
            if dim is None and _is_time_major(name, modules):
                raise ValueError(
                    f"the module {name!r} is, holds, or is part of one that is time-major (batch_first=False): say dim=1 "
                    "if its inputs are [time, batch, ...], dim=0 if they are [batch, ...]"
                )
        first: dict[nn.Module, str] = {}
        for name in names:
            if (same := first.setdefault(modules[name], name)) != name:
                raise ValueError(f"{same!r} and {name!r} are one module: name it once")
        wanted = None if inputs is None else [inputs] if isinstance(inputs, (str, int)) else list(inputs)
        known = {name: Inputs(modules[name]) for name in names}
        for name in names:
            for one in wanted or ():
                if not known[name].can_have(one):
                    raise ValueError(f"the module {name!r} has no input {one!r}; it has {known[name].names}")
        self._places = {name: _Place(net, name, known[name], wanted, dim or 0) for name in names}
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
        if plan.rows_out != len(plan):
            raise ValueError(
                "Beside makes more rows than the model was given, and belongs at the input: x, y = mixup(x, y)"
            )
        if at is not None and at not in self._places:
            raise ValueError(f"{at!r} is not among the modules given, {list(self._places)}")
        self.at = self._chosen(plan) if at is None else at
        place = self._places[self.at]
        place.open(plan)
        try:
            yield plan
            place.check()
        finally:
            place.close()

    def remove(self) -> None:
        """Take the hooks off the model."""
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
        draw = _drawn_outside if torch.compiler.is_compiling() else _drawn
        return names[draw(plan.key, len(names))]


def _drawn(key: Key, n: int) -> int:
    return int(key.fold(_LAYER).generator().integers(n))


_drawn_outside = _disable_dynamo(_drawn)  # as of a plan, a break of the graph


class _Place:
    """One module, and what a block does with its inputs."""

    def __init__(self, net: nn.Module, name: str, inputs: Inputs, wanted: list[str | int] | None, dim: int) -> None:
        self.name = name
        self.dim = dim
        self.reached = False
        self.compiled = False
        self.looks = 0
        self.checked = False
        self.inputs = inputs
        self.wanted = None if wanted is None else [inputs.name(one) for one in wanted]
        self.handle = net.get_submodule(name).register_forward_pre_hook(self._hook, with_kwargs=True)
        self.watch = Watch(net, name)

    def open(self, plan: Plan) -> None:
        """Begin a block."""
        _PLANS[id(self)] = plan
        self.reached = False
        if self.looks < _LOOKS:
            self.watch.begin()

    def check(self) -> None:
        """Look back on a block in which nothing went wrong."""
        if not self.reached:
            raise RuntimeError(
                f"the module {self.name!r} did not run inside the block, so nothing was mixed; if the model is compiled, "
                "build LatentMixing before its first call, and call torch._dynamo.reset() if another model of this class "
                "was compiled before: PyTorch reuses what it compiled, hooks or not"
            )
        if self.looks == _LOOKS:
            return
        self.looks = _LOOKS if self.watch.saw else self.looks + 1
        if (around := self.watch.found) is not None:
            before = f"of {around!r}: mix before the whole of it, LatentMixing(net, {around!r})"
            warn(
                f"what flows past the module {self.name!r} is not mixed, while the labels are: it is inside a residual "
                f"branch {before if around else 'of the model'}"
            )
        if self.looks == _LOOKS and not self.compiled:  # compiled code would be made anew without the hooks
            self.watch.remove()

    def close(self) -> None:
        """End a block."""
        del _PLANS[id(self)]
        self.watch.end()

    def _hook(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        plan = _PLANS.get(id(self))
        if plan is None:
            if not torch.compiler.is_compiling() and self.reached:
                self.reached = in_backward()
                if self.reached:
                    raise RuntimeError(
                        f"activation checkpointing runs the module {self.name!r} again for the backward pass, where it must "
                        "be mixed again: call backward inside the block"
                    )
            return None
        if self.reached and not in_backward():
            raise RuntimeError(
                f"the module {self.name!r} ran twice inside the block, and would be mixed twice while the labels are mixed "
                "once: give each forward pass a block of its own, at a module that runs once in it"
            )
        named = self.inputs.named(args, kwargs)
        chosen = self._first(named, len(plan)) if self.wanted is None else self._wanted(self.wanted, named, len(plan))
        if torch.compiler.is_compiling():
            self.compiled = True
        elif not self.checked and not torch._C._are_functorch_transforms_active():  # which no value can be read in
            self._check(named, chosen, len(plan))
            self.checked = True
        self.reached = True
        mixed = [self._mix(plan, tensor, i) for i, tensor in enumerate(chosen)]
        if mixed[0] is not chosen[0]:
            self.watch.at_the_mix(mixed)
        return replaced(args, kwargs, chosen, mixed)

    def _first(self, named: Named, n: int) -> list[Tensor]:
        """Return the hidden states."""
        named = opened(named)
        for name, value in named:
            self._refuse_packed(name, value)
            for tensor in floating(value):
                if self._has_rows(tensor, n) and not is_never(name):
                    return [tensor]
        sizes = [list(tensor.shape) for name, value in named if not is_never(name) for tensor in floating(value)]
        if sizes:
            raise ValueError(
                f"a representation of shape {sizes[0]} cannot be mixed by a plan of {n} rows: dimension {self.dim} must be "
                "the batch, or dim= another one"
            )
        for name in [name for name, value in named if floating(value)]:
            raise TypeError(
                f"by its name, {name!r} of the module {self.name!r} is a mask, a table, or a state, which are not "
                f"mixed; if it is a representation, say inputs={name!r}"
            )
        raise TypeError(
            f"the inputs of the module {self.name!r} hold no floating-point tensor that could be mixed: choose a later one, "
            "after the embedding"
        )

    def _wanted(self, wanted: list[str], named: Named, n: int) -> list[Tensor]:
        """Return the tensors that the user named."""
        chosen: list[Tensor] = []
        for name in wanted:
            values = [value for given, value in named if given == name]
            for value in values:
                self._refuse_packed(name, value)
            found = [tensor for value in values for tensor in floating(value) if self._has_rows(tensor, n)]
            if not found:
                raise TypeError(
                    f"the input {name!r} of the module {self.name!r} holds no floating-point tensor of {n} rows; it was "
                    f"given {[given for given, _ in named]}"
                )
            chosen += [tensor for tensor in found if not any(tensor is other for other in chosen)]
        return chosen

    def _refuse_packed(self, name: str, value: Any) -> None:
        if isinstance(value, PackedSequence):
            raise TypeError(
                f"the input {name!r} of the module {self.name!r} is a packed sequence, whose rows are no rows of the batch: "
                "pad it, mix it by plan(x), and pack it again by plan.longest(lengths)"
            )

    def _has_rows(self, tensor: Tensor, n: int) -> bool:
        return -tensor.ndim <= self.dim < tensor.ndim and tensor.shape[self.dim] == n

    def _mix(self, plan: Plan, tensor: Tensor, i: int) -> Tensor:
        if self.dim == 0:
            return plan.mix_input(tensor, i)
        return plan.mix_input(tensor.movedim(self.dim, 0), i).movedim(0, self.dim)

    def _check(self, named: Named, chosen: list[Tensor], n: int) -> None:
        """On the first pass, refuse a mask under another name, and warn of a second representation."""
        names = self.inputs.names or [name for name, _ in named]
        for tensor in filter(is_additive_mask, chosen):
            name = next(name for name, value in named if any(tensor is other for other in floating(value)))
            raise ValueError(
                f"the input {name!r} of the module {self.name!r} holds {float(tensor.detach().amin()):.3g}, as masks do "
                f"that are added to attention scores, and masks are not mixed: say inputs= (of {names})"
            )
        if self.wanted is None and (doubt := self._doubt(opened(named), chosen[0], n, f"(of {names})")) is not None:
            warn(doubt)

    def _doubt(self, named: Named, first: Tensor, n: int, of: str) -> str | None:
        """Return what speaks for another input than the first that can be mixed: one before it, or one like it."""
        for name, value in named:
            if any(leaf is first for leaf in floating(value)):
                break
            if is_perhaps(name) and any(t.ndim > 1 and self._has_rows(t, n) for t in floating(value)):
                return (
                    f"by its name, {name!r} of the module {self.name!r} is a table or a state and stays unmixed, while a "
                    f"later input is mixed: say inputs= {of} which are representations"
                )
            is_number = isinstance(value, Tensor) and not value.dtype.is_floating_point and value.dtype != torch.bool
            if is_number and value.ndim > 1 and self._has_rows(value, n) and not is_never(name):
                return (
                    f"{name!r} of the module {self.name!r} holds integers, which are not mixed, while a later input is: "
                    f"choose a later module, after the embedding, or say inputs= {of}"
                )
        for name, tensor in [(name, tensor) for name, value in named for tensor in floating(value)]:
            alike = tensor.ndim == first.ndim and tensor.ndim > 1 and tensor.shape[-1] == first.shape[-1]
            if alike and self._has_rows(tensor, n) and tensor is not first and not is_never(name):
                return (
                    f"the input {name!r} of the module {self.name!r} looks like a representation, too, and stays "
                    f"unmixed: say inputs= to mix it, or to leave it out on purpose {of}"
                )
        return None


def _is_time_major(name: str, modules: dict[str, nn.Module]) -> bool:
    """Return True if a module, a part of it, or a sequence module of PyTorch around it has `batch_first=False`."""

    def says_so(module: nn.Module) -> bool:
        return any(getattr(part, "batch_first", None) is False for part in module.modules())

    around = [modules[name.rsplit(".", i)[0]] for i in range(1, name.count(".") + 1)]
    if name:
        around.append(modules[""])
    return says_so(modules[name]) or any(says_so(module) for module in around if isinstance(module, _SEQUENCE))


def _mixes(plan: Plan) -> bool:
    if isinstance(plan, PlanChain):
        return any(_mixes(part) for part in plan.plans)
    return not isinstance(plan, MixPlan) or plan.partners.shape[1] > 0 or plan.noise is not None
