"""The loss of a training step: with class weights, linear in the labels, and with labels that are ignored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal.checking import trees
from vicinal.checking.draws import Draw, draw
from vicinal.checking.marks import LeafSpec
from vicinal.checking.pipelines import Content, Fed, Step
from vicinal.checking.report import Fault
from vicinal.checking.steps import losses_of


def loss(step: Step, contents: Sequence[Content], runs: Sequence[Draw], shares_agree: bool) -> Iterator[Fault]:
    """Return what is wrong with the loss of mixed labels, for labels that are classes.

    Args:
        step: the step.
        contents: how rows look in what reaches its model.
        runs: of the step.
        shares_agree: whether the loss holds the right shares: without them, slopes are others as well.

    """
    yield from _ignored(step, runs)
    specs = [spec for spec in step.marks.labels if spec.role in ("indices", "one-hot")]
    if not specs or runs[0].fed.gradient is None or runs[0].fed.gradient.ndim != 2:
        return
    spec = specs[0]
    classes = runs[0].fed.gradient.shape[1]
    if classes < 2:
        return
    if any(0 <= call.ignore_index < classes for run in runs for call in losses_of(run)):
        return  # a class that does not count
    a, b = _two_classes(step, spec)
    outputs = _Outputs(classes, step.marks.class_of(spec, a))
    pure = {c: _run(step, outputs, [c] * step.n) for c in (a, b)}
    calls = [call for run in runs for call in losses_of(run)]
    weights = [call.weight for call in calls if call.weight is not None and call.weight.numel() == classes]
    weighted = bool(weights) and float(weights[0].max() - weights[0].min()) > 1e-6
    if weighted:
        yield from _class_weights(step, spec, pure, outputs, weights[0], calls)
    elif shares_agree:
        yield from _linear(step, contents, outputs, pure, (a, b))


class _Outputs:
    """Outputs that are the same for each row, and far apart for one class and the others."""

    def __init__(self, classes: int, high: int) -> None:
        self.row = torch.linspace(-0.5, 0.5, classes)
        self.row[high] = 2.5

    def __call__(self, out: Tensor) -> Tensor:
        if out.ndim >= 2 and out.shape[1] == len(self.row):
            return self.row.to(out).reshape(1, -1, *(1,) * (out.ndim - 2)).expand(out.shape).clone()
        if out.ndim < 1 or out.shape[-1] != len(self.row):
            return torch.zeros_like(out)
        return self.row.to(out).expand(out.shape).clone()


def _two_classes(step: Step, spec: LeafSpec) -> tuple[int, int]:
    """Return two examples of different classes, by number."""
    first = step.marks.class_of(spec, 0)
    return 0, next(i for i in range(1, 10_000) if step.marks.class_of(spec, i) != first)


def _run(step: Step, stand: Any, labels_of: Sequence[int]) -> Fed:
    """Run a step on its usual rows, with the labels of others."""
    ids = list(range(step.n))
    return step.step([step.marks.fresh(i, label_of=of) for i, of in zip(ids, labels_of, strict=True)], ids, stand)


def _class_weights(
    step: Step, spec: LeafSpec, pure: dict[int, Fed], outputs: _Outputs, weight: Tensor, calls: Sequence[Any]
) -> Iterator[Fault]:
    """Compare batches of one class with PyTorch's weighted mean, which class weights do not change there."""
    smoothing = next((call.smoothing for call in calls if call.smoothing), 0.0)
    ratios = {}
    for of, fed in pure.items():
        if fed.loss is None:
            return
        c = step.marks.class_of(spec, of)
        plain = F.cross_entropy(outputs.row[None], torch.tensor([c]), weight=weight.float(), label_smoothing=smoothing)
        ratios[c] = fed.loss / float(plain)
    low, high = min(ratios.values()), max(ratios.values())
    if high > 1.02 * low:
        shown = ", and ".join(
            f"of class {c} (weight {float(weight[c]):.2f}) {r:.2f} times it" for c, r in ratios.items()
        )
        yield Fault(
            "VIC051",
            f"a batch of one class should have the plain loss, since mixing changes no label; it has, {shown}.",
        )


def _linear(
    step: Step,
    contents: Sequence[Content],
    outputs: _Outputs,
    pure: dict[int, Fed],
    pair: tuple[int, int],
) -> Iterator[Fault]:
    """Compare slopes of mixed rows with the mixture of the slopes of both labels."""
    a, b = pair
    if any(fed.gradient is None for fed in pure.values()):
        return
    slopes = {of: _row_slopes(fed).sum(0) for of, fed in pure.items()}
    if np.abs(slopes[a] - slopes[b]).max() < 0.05 * np.abs(slopes[a]).max():
        return  # the labels do not enter: a contrastive loss, or one of a teacher's outputs
    ids = list(range(step.n))
    labels_of = [a if i % 2 == 0 else b for i in ids]
    worst, shown, count = 0.0, "", 0
    for _ in range(6):
        fed = _run(step, outputs, labels_of)
        run = draw(step, contents, ids, fed)
        made = run.main()
        if made is None or fed.gradient is None or len(fed.gradient) != len(made):
            continue
        g = _row_slopes(fed)
        if (np.abs(g).max(axis=1) < 1e-9 * np.abs(g).max()).any():
            return  # a loss of some rows of a batch, such as the hardest
        for i, row in enumerate(made):
            if not row.is_known or abs(row.share.sum() - 1) > 0.02 or len(made) != len(ids):
                continue
            share = float(sum(row.share[run.fed.candidates.index(j)] for j in ids if labels_of[j] == a))
            if not 0.1 < share < 0.9:
                continue
            count += 1
            right = share * slopes[a] + (1 - share) * slopes[b]
            off = float(np.abs(g[i] * len(g) - right).max() / np.abs(right).max())
            if off > worst:
                worst = off
                shown = f"a row that is {share:.2f} of one class and {1 - share:.2f} of another"
    if count and worst > 0.05:
        yield Fault(
            "VIC050",
            f"of {shown} the slope of the loss is {100 * worst:.0f} % off the mixture of both classes' slopes.",
        )


def _row_slopes(fed: Fed) -> np.ndarray:
    assert fed.gradient is not None
    return fed.gradient.double().numpy()


def _ignored(step: Step, runs: Sequence[Draw]) -> Iterator[Fault]:
    """Compare a batch with ignored labels with one without: all others are of one class, so the mean is the same."""
    calls = [call for call in losses_of(runs[0]) if call.name in ("cross_entropy", "nll_loss", "nll_loss_nd")]
    specs = [spec for spec in step.marks.labels if spec.role in ("indices", "map")]
    if not specs or not calls:
        return
    named = [call.ignore_index for call in calls if call.ignore_index != -100]
    seen = specs[0].unknown
    if not named and (seen is None or np.isnan(seen)):
        return
    ignore = named[0] if named else int(seen or 0)
    outputs = _Outputs(max(specs[0].classes, 2), 0)
    ids = list(range(step.n))

    def labeled(part: float) -> Callable[[int], Callable[[LeafSpec], Any]]:
        """Return what makes labels of class 0, of which a part is ignored: every other row, or half of a map."""
        return lambda i: lambda spec: trees.rebuilt(spec.like, lambda _, leaf: _filled(spec, leaf, i, part, ignore))

    losses = []
    for part in (0.0, 0.5):
        examples = [step.marks.fresh(i, label_value=labeled(part)(i)) for i in ids]
        try:
            losses.append(step.step(examples, ids, outputs).loss)
        except Exception as error:  # the pipeline takes no ignored labels, loudly: no finding
            trees.raise_if_ours(error)
            return
    whole, half = losses
    if whole is None or half is None or not np.isfinite(half):
        return
    if abs(half - whole) > 0.02 * abs(whole):
        yield Fault(
            "VIC052",
            f"with half of the labels {ignore} (ignored) and all others of one class the loss is {half:.3f}; with all of "
            f"that class it is {whole:.3f}, and the mean over what counts is the same.",
        )


def _filled(spec: LeafSpec, leaf: Any, i: int, part: float, ignore: int) -> Any:
    tensor = trees.as_tensor(leaf)
    assert tensor is not None
    values = torch.zeros_like(tensor)
    if spec.role == "map":
        flat = values.reshape(-1)
        flat[: int(part * len(flat))] = ignore
    elif part and i % 2:
        values.fill_(ignore)
    if isinstance(leaf, Tensor):
        return values
    return values.numpy().astype(leaf.dtype) if isinstance(leaf, np.ndarray) else type(leaf)(values.item())
