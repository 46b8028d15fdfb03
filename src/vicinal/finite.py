"""Inf and nan, found at the step where they appear: which tensor, which rows, and the batch saved.

    check = FiniteCheck(model, "faults")
    for step, (x, y) in enumerate(loader):
        plan = mixup.plan(len(x), y, step=step)
        output = model(plan(x))
        loss = F.cross_entropy(output, plan.target(y))
        loss.backward()
        check(x, y, step=step, output=output, loss=loss, plan=plan)  # before the optimizer spreads them
        optimizer.step()

What is asked of each tensor is whether its sum, or for the gradients their norm, is finite: one pass over memory on a
CPU, and on an accelerator one number for all of them together, read once per step. Only where it is not finite are the
elements looked at.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo  # torch.compiler.disable, without importing the compiler before it is needed
from torch.nn.utils import get_total_norm

from vicinal import _state
from vicinal.plan import Plan
from vicinal.target import MixedTarget

FORMAT = 1  # of the saved file
_DEPTH = 16  # of nests
_SHOWN = 8  # rows, and parameters, that a sentence lists
_ADVICE = {
    "input": "leave these rows out, or mend them where they are read",
    "target": "leave these rows out, or mend them where they are read",
    "parameter": "an earlier step wrote it: check every step, or lower the learning rate",
    "buffer": "an earlier step wrote it: check every step, and look at what its module averages",
    "output": "parameters and inputs are finite, so the model overflows: compute in float32, or lower the learning rate",
    "loss": "the outputs are finite, so the loss is at fault: look for a logarithm, a root or a division",
    "gradient": "the loss is finite: run the saved batch under torch.autograd.set_detect_anomaly(True)",
}


@dataclass(frozen=True)
class NonFinite:
    """What is not finite.

    Args:
        what: "input", "target", "parameter", "buffer", "output", "loss" or "gradient": the first of them, in this order.
        name: the tensor: a parameter as the model names it, "input['image']" in a nest.
        value: "nan" or "inf"; nan where it holds both.
        rows: of an input, a target, an output or losses by row: the rows that hold it; of others none.
        size: number of rows of that tensor.
        others: further tensors of the same kind that hold inf or nan, by name.

    Examples:
        >>> print(NonFinite("input", "input", "nan", rows=(1,), size=2))
        the input holds nan in 1 of 2 rows (1)

    """

    what: str
    name: str
    value: str
    rows: tuple[int, ...] = ()
    size: int = 0
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the finding in words."""
        tensor = self.name if self.what not in ("parameter", "buffer", "gradient") else repr(self.name)
        where = {"parameter": "parameter ", "buffer": "buffer ", "gradient": "the gradient of "}.get(self.what, "the ")
        listed = ", ".join(map(str, self.rows[:_SHOWN])) + (", ..." if len(self.rows) > _SHOWN else "")
        rows = f" in {len(self.rows)} of {self.size} rows ({listed})" if self.rows else ""
        more = ", ".join(map(repr, self.others[:_SHOWN])) + (", ..." if len(self.others) > _SHOWN else "")
        also = f", and {len(self.others)} more ({more})" if self.others else ""
        return f"{where}{tensor} holds {self.value}{rows}{also}"


class FiniteCheck:
    """Stop at the step where inf or nan appear, say where, and save the batch.

    Call it after `backward` and before the optimizer's step, which would spread them to every weight. On an accelerator a
    call waits for the device once.

    Args:
        model: whose gradients are looked at, and, where something is found, whose parameters and buffers; or None.
        folder: where the batch is saved, made if it is not there; None: nothing is saved.
        gradients: whether gradients are looked at. False with `torch.amp.GradScaler`, which finds those that overflow and
            skips the step by itself.

    Of several processes each looks at its own batch; gradients that are averaged (DistributedDataParallel) spread nan and
    inf, so that all processes stop at the same step.

    Examples:
        >>> import torch
        >>> check = FiniteCheck()
        >>> check(torch.ones(3, 2), torch.tensor([0, 1, 0]), step=0, loss=torch.tensor(0.7))
        >>> try:
        ...     check(torch.tensor([[1.0], [torch.nan]]), step=1)
        ... except FloatingPointError as error:
        ...     print(error)
        at step 1 the input holds nan in 1 of 2 rows (1): leave these rows out, or mend them where they are read

    """

    def __init__(
        self, model: nn.Module | None = None, folder: str | os.PathLike[str] | None = None, *, gradients: bool = True
    ) -> None:
        if model is not None and not isinstance(model, nn.Module):
            raise TypeError(f"model is a torch.nn.Module whose gradients are looked at, or None, not {model!r}")
        self.model = model
        self.folder = None if folder is None else Path(folder)
        self.gradients = gradients

    @_disable_dynamo
    def __call__(
        self,
        x: Any = None,
        y: Any = None,
        *,
        step: int,
        output: Any = None,
        loss: Any = None,
        plan: Plan | None = None,
        also: Mapping[str, Any] | None = None,
    ) -> None:
        """Check one step.

        Args:
            x: the inputs, a tensor or a nest; as they were before mixing, if there is a plan.
            y: the targets, likewise; a `MixedTarget` is one.
            step: number of the batch.
            output: what the model returned, a tensor or a nest.
            loss: the loss, or losses by row.
            plan: what mixed the batch, to be saved with it.
            also: what else to save: plain numbers, strings, tensors, and nests of them.

        Raises:
            FloatingPointError: something is not finite; the sentence says what, and where the batch is saved.

        """
        found = self.find(x, y, output=output, loss=loss)
        if found is None:
            return
        sentence = f"at step {step} {found}: {_ADVICE[found.what]}"
        if self.folder is None:
            raise FloatingPointError(sentence)
        try:
            path = self.save(found, x, y, step=step, output=output, loss=loss, plan=plan, also=also)
        except OSError as error:
            raise FloatingPointError(
                f"{sentence}; the batch could not be saved in {os.fspath(self.folder)!r}: {error.strerror or error}"
            ) from error
        raise FloatingPointError(f"{sentence}; the batch is saved in {os.fspath(path)!r}")

    def find(self, x: Any = None, y: Any = None, *, output: Any = None, loss: Any = None) -> NonFinite | None:
        """Return what is not finite, without an error; None if all is. For the arguments, see calling the check."""
        batch = {"input": x, "target": y, "output": output, "loss": loss}
        leaves = {what: list(_leaves(tree, what)) for what, tree in batch.items()}
        gradients = list(self._gradients())
        if _all_finite((t for of in leaves.values() for _, t in of), [t for _, t in gradients]):
            return None
        kinds: dict[str, Iterable[tuple[str, Tensor]]] = {
            "input": leaves["input"],
            "target": leaves["target"],
            "parameter": [] if self.model is None else self.model.named_parameters(),
            "buffer": [] if self.model is None else self.model.named_buffers(),
            "output": leaves["output"],
            "loss": leaves["loss"],
            "gradient": gradients,
        }
        for what, tensors in kinds.items():
            bad = [(name, t) for name, t in tensors if not bool(_values(t).isfinite().all())]
            if bad:
                name, tensor = bad[0]
                by_row = what in batch and tensor.ndim > 0 and tensor.layout is torch.strided and not tensor.is_nested
                hit = (~tensor.detach().isfinite()).flatten(1).any(1) if by_row and tensor.ndim > 1 else None
                if by_row and tensor.ndim == 1:
                    hit = ~tensor.detach().isfinite()
                rows = () if hit is None else tuple(hit.nonzero()[:, 0].tolist())
                value = "nan" if bool(_values(tensor).isnan().any()) else "inf"
                others = tuple(name for name, _ in bad[1:])
                return NonFinite(what, name, value, rows, len(tensor) if by_row else 0, others)
        return None  # finite numbers whose sum is not

    def save(
        self,
        found: NonFinite,
        x: Any = None,
        y: Any = None,
        *,
        step: int,
        output: Any = None,
        loss: Any = None,
        plan: Plan | None = None,
        also: Mapping[str, Any] | None = None,
    ) -> Path:
        """Save a batch as calling the check does, and return the file; `torch.load(path, weights_only=True)` reads it.

        It holds a dict of "format", "found" (the fields of `NonFinite`), "step", "rank", "x", "y", "output", "loss",
        "plan" (as `to_dict` returns it, for `vicinal.plan_from_dict`; None without one) and "also". Tensors are copied to
        the CPU; a MixedTarget is saved as a dict of its parts, and any other value as a string that names its type.

        Raises:
            ValueError: there is no folder to save to.
            OSError: it cannot be written; nothing is left half written.

        """
        if self.folder is None:
            raise ValueError("FiniteCheck was made without a folder, so there is no place to save a batch")
        self.folder.mkdir(parents=True, exist_ok=True)
        rank = _state.rank()
        values = {
            "format": FORMAT,
            "found": _plain(dataclasses.asdict(found)),
            "step": int(step),
            "rank": rank,
            **{name: _plain(tree) for name, tree in (("x", x), ("y", y), ("output", output), ("loss", loss))},
            "plan": None if plan is None else _plain(plan.to("cpu").to_dict()),
            "also": _plain(also),
        }
        path = self.folder / f"nonfinite-step{int(step)}-rank{rank}.pt"
        _save_whole(path, values)
        return path

    def _gradients(self) -> Iterator[tuple[str, Tensor]]:
        if self.model is None or not self.gradients:
            return
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None:
                yield name, _local(parameter.grad)


def _all_finite(tensors: Iterable[Tensor], gradients: Sequence[Tensor]) -> bool:
    """Return whether all sums and norms are finite: then all elements are. Not the other way: sums may overflow."""
    numbers: dict[torch.device, list[Tensor]] = {}
    for t in tensors:
        values = _values(t)
        if values.numel():
            exact = torch.float64 if values.dtype == torch.float64 else torch.float32
            numbers.setdefault(values.device, []).append(values.sum(dtype=exact))
    by_device: dict[torch.device, list[Tensor]] = {}
    for t in gradients:
        values = _values(t)
        if values.numel():
            by_device.setdefault(values.device, []).append(values)
    for device, group in by_device.items():
        numbers.setdefault(device, []).append(get_total_norm(group))
    for device, group in numbers.items():
        if device.type == "cpu":
            if not all(math.isfinite(number.item()) for number in group):
                return False
        elif not bool(torch.stack([number.to(torch.float32) for number in group]).isfinite().all()):  # the one wait
            return False
    return True


def _leaves(tree: Any, name: str, depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Return the floating-point tensors of a nest by name; whatever holds no numbers with inf and nan is passed over."""
    if depth > _DEPTH:
        raise TypeError(f"this {name.partition('[')[0]} is nested more than {_DEPTH} levels deep, or holds itself")
    if isinstance(tree, Tensor):
        if tree.is_floating_point() or tree.is_complex():
            yield name, _local(tree)
    elif isinstance(tree, MixedTarget):
        yield name, tree.weight.movedim(0, -1)  # rows first
    elif isinstance(tree, (float, np.floating)):
        yield name, torch.tensor(float(tree), dtype=torch.float64, device="cpu")
    elif isinstance(tree, np.ndarray):
        if tree.dtype.kind in "fc":
            yield name, torch.tensor(tree, device="cpu")
    else:
        for key, part in _parts(tree):
            yield from _leaves(part, f"{name}[{key!r}]", depth + 1)


def _parts(tree: Any) -> Iterable[tuple[Any, Any]]:
    """Return the parts of a container with their keys; none of anything else."""
    if isinstance(tree, Mapping):
        return tree.items()
    if isinstance(tree, Sequence) and not isinstance(tree, (str, bytes, bytearray)):
        return enumerate(tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [(f.name, getattr(tree, f.name)) for f in dataclasses.fields(tree)]
    return ()


def _local(t: Tensor) -> Tensor:
    """Return this process's part of a tensor that several processes share (DTensor), else the tensor."""
    to_local = getattr(t, "to_local", None)
    return t if to_local is None else to_local()


def _values(t: Tensor) -> Tensor:
    """Return the elements that a tensor stores, as real numbers that sums are defined for; none where it has no memory."""
    t = t.detach()
    if t.device.type == "meta":
        return torch.empty(0, dtype=torch.float32, device="cpu")
    if t.layout is torch.sparse_coo:
        t = t.coalesce().values()
    elif t.layout is not torch.strided or t.is_nested:
        t = t.values()
    if t.is_complex():
        return torch.view_as_real(t.resolve_conj())
    return t if not t.is_floating_point() or t.dtype.itemsize > 1 else t.to(torch.float32)


def _plain(value: Any, depth: int = 0) -> Any:
    """Return a nest of plain values and of CPU tensors with memory of their own, as weights_only=True reads them."""
    if depth > _DEPTH:
        return "(nested too deeply)"
    if isinstance(value, Tensor):
        value = _local(value.detach())
        return value.cpu().clone().as_subclass(Tensor)  # a view would bring all of its storage along
    if isinstance(value, MixedTarget):
        parts = {"ids": value.ids, "weight": value.weight, "smoothing": float(value.smoothing)}
        return {name: _plain(part, depth + 1) for name, part in parts.items()}
    if value is None or isinstance(value, (bool, str)):
        return value if value is None or isinstance(value, bool) else str(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return torch.tensor(value, device="cpu")
    if isinstance(value, Mapping):
        return {
            key if isinstance(key, (str, int)) else str(key): _plain(part, depth + 1) for key, part in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [_plain(part, depth + 1) for part in value]
    parts = dict(_parts(value))
    return _plain(parts, depth + 1) if parts else f"({type(value).__name__}, not saved)"


def _save_whole(path: Path, values: dict[str, Any]) -> None:
    """Write a file that appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(temporary, "wb") as file:
            torch.save(values, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):  # the first error is the one to tell
            temporary.unlink(missing_ok=True)
        if isinstance(error, RuntimeError):  # what PyTorch makes of a full disk
            raise OSError(str(error)) from error
        raise
