"""A plan applied at a hidden layer of any network: the paper's mix of "latent representations" (section 3.8)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from vicinal.plan import Plan

# The plan of each open block, by the id of its LatentMixing. They are not attributes, because torch.compile takes the
# sizes of tensors that it reaches through a module as fixed, and would compile anew for every size of batch.
_PLANS: dict[int, Plan] = {}


class LatentMixing:
    """Mix what goes into one module of a network, whatever the network is.

    Build it once, before `torch.compile` sees the network; then give it a plan for each batch:

        latent = LatentMixing(net, "layer3")
        with latent(mixup.plan(len(x), y, step=step)) as plan:
            loss = F.cross_entropy(net(x), plan.target(y))

    Outside the `with` the network is what it was. Every floating-point tensor among the module's inputs is mixed,
    keyword inputs too; other inputs (integer masks, None, sizes) pass. A block is for one forward pass; where activation
    checkpointing runs the module again for the backward pass, call `backward` inside the block too. On leaving the block
    it is an error if nothing was mixed: labels that are mixed while nothing else is would go unnoticed.

    Args:
        net: any module.
        at: the name of a module inside, as in `net.named_modules()`; the mix happens before it. "" is the whole
            network.

    Raises:
        ValueError: there is no module of that name.

    """

    def __init__(self, net: nn.Module, at: str) -> None:
        modules = dict(net.named_modules(remove_duplicate=False))
        if at not in modules:
            raise ValueError(f"the network has no module {at!r}; it has {[name for name in modules if name]}")
        self.at = at
        self._reached = False
        self._handle = modules[at].register_forward_pre_hook(self._hook, with_kwargs=True)

    @contextmanager
    def __call__(self, plan: Plan) -> Iterator[Plan]:
        """Mix by `plan` within the block.

        Raises:
            RuntimeError: blocks are nested, or the module ran not once inside the block.
            TypeError: no input of the module is a floating-point tensor.
            ValueError: an input has another number of rows than the plan.

        """
        if id(self) in _PLANS:
            raise RuntimeError(f"{self.at!r} is being mixed by another plan already: leave its block first")
        _PLANS[id(self)] = plan
        self._reached = False
        try:
            yield plan
            if not self._reached:
                raise RuntimeError(
                    f"the module {self.at!r} did not run inside the block, so nothing was mixed; if the network is "
                    "compiled, build LatentMixing before its first call"
                )
        finally:
            del _PLANS[id(self)]

    def remove(self) -> None:
        """Take the hook off the network."""
        self._handle.remove()

    def _hook(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        plan = _PLANS.get(id(self))
        if plan is None:
            if not torch.compiler.is_compiling() and self._reached:
                self._reached = _in_backward()
                if self._reached:
                    raise RuntimeError(
                        f"activation checkpointing runs the module {self.at!r} again for the backward pass, where it must "
                        "be mixed again: call backward inside the block"
                    )
            return None
        if self._reached and not _in_backward():
            raise RuntimeError(
                f"the module {self.at!r} ran twice inside the block, and would be mixed twice while the labels are mixed "
                "once: give each forward pass a block of its own, at a module that runs once in it"
            )
        leaves, spec = pytree.tree_flatten((args, kwargs))
        floating = [isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex()) for leaf in leaves]
        if not any(floating):
            raise TypeError(
                f"the inputs of the module {self.at!r} hold no floating-point tensor that could be mixed: choose a later "
                "one, after the embedding"
            )
        self._reached = True
        mixed = [_mix(plan, leaf, i) if floating[i] else leaf for i, leaf in enumerate(leaves)]
        return pytree.tree_unflatten(mixed, spec)


def _mix(plan: Plan, leaf: Tensor, i: int) -> Tensor:
    if leaf.ndim == 0 or len(leaf) != len(plan):
        raise ValueError(
            f"a representation of shape {list(leaf.shape)} cannot be mixed by a plan of {len(plan)} rows: dimension 0 "
            "must be the batch"
        )
    return plan.tensor(leaf, i)


def _in_backward() -> bool:
    """Whether a backward pass is running, in which activation checkpointing runs modules again."""
    return torch._C._current_graph_task_id() != -1
