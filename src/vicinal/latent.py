"""A plan applied at a hidden layer of any network: the paper's "mix labels and latent representations" (section 3.8)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from vicinal.plan import Plan


class LatentMixing:
    """Mix what goes into one module of a network, whatever the network is.

    Build it once, before `torch.compile` sees the network; then give it a plan for each batch:

        latent = LatentMixing(net, "layer3")
        with latent(mixup.plan(len(x), y, step=step)) as plan:
            loss = F.cross_entropy(net(x), plan.target(y))

    Outside the `with` the network is what it was. Every floating-point tensor among the module's inputs is mixed (keyword
    inputs too); other inputs (masks, None, sizes) pass. On leaving the block it is an error if the module was never
    reached: labels that are mixed while nothing else is would go unnoticed.

    Args:
        net: any module.
        at: the name of a module inside, as in `net.named_modules()`; the mix happens before it. "" is the whole network.

    Raises:
        ValueError: there is no module of that name.

    """

    def __init__(self, net: nn.Module, at: str) -> None:
        modules = dict(net.named_modules())
        if at not in modules:
            raise ValueError(f"the network has no module {at!r}; it has {[name for name in modules if name]}")
        self.at = at
        self._plan: Plan | None = None
        self._reached = False
        self._handle = modules[at].register_forward_pre_hook(self._hook, with_kwargs=True)

    @contextmanager
    def __call__(self, plan: Plan) -> Iterator[Plan]:
        """Mix by `plan` within the block.

        Raises:
            RuntimeError: blocks are nested, or the block ended without the module having run.

        """
        if self._plan is not None:
            raise RuntimeError(f"{self.at!r} is being mixed by another plan already")
        self._plan, self._reached = plan, False
        try:
            yield plan
            if not self._reached:
                raise RuntimeError(
                    f"the module {self.at!r} did not run inside the block, so nothing was mixed; if the network is "
                    "compiled, build LatentMixing before its first call"
                )
        finally:
            self._plan = None

    def remove(self) -> None:
        """Take the hook off the network."""
        self._handle.remove()

    def _hook(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        plan = self._plan
        if plan is None:
            return None
        self._reached = True
        return pytree.tree_map(lambda leaf: _mix(plan, leaf), (args, kwargs))


def _mix(plan: Plan, leaf: Any) -> Any:
    if not isinstance(leaf, Tensor) or not (leaf.is_floating_point() or leaf.is_complex()):
        return leaf
    if leaf.ndim == 0 or len(leaf) != len(plan):
        raise ValueError(
            f"a representation of shape {list(leaf.shape)} cannot be mixed by a plan of {len(plan)} rows: dimension 0 "
            "must be the batch"
        )
    return plan(leaf)


