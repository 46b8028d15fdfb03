"""Pipelines as one thing: marked rows go in, by number, and what comes out is inputs and labels.

A transform is given a batch, a collate function a list of examples, a loader's dataset is replaced by one of marked rows,
and a training step is watched by what reaches its model and its loss.
"""

from __future__ import annotations

import copy
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from vicinal.checking import labels, trees
from vicinal.checking.marks import LABEL_NAME, LeafSpec, Marks
from vicinal.checking.recorder import ModelCall, Recorder, Recording
from vicinal.checking.recover import Candidates
from vicinal.checking.sources import Source


@dataclass
class Fed:
    """What came out of a pipeline for rows that went in.

    Args:
        ids: the rows, in order.
        candidates: rows that can be in what came out.
        inputs: leaves that have as many rows as came out, by name.
        labels: what came out as labels, a pytree; None: not seen.
        gradients: of the loss, with respect to outputs of the model that were 0; [m, ...] each, the last call's.
        recording: of a step.
        loss: of a step, if it returned one.

    """

    ids: list[int]
    candidates: list[int]
    inputs: dict[str, Tensor]
    labels: Any = None
    gradients: list[Tensor] = field(default_factory=list)
    recording: Recording | None = None
    loss: float | None = None
    before: dict[str, Tensor] = field(default_factory=dict)
    after: dict[str, Tensor] = field(default_factory=dict)

    @property
    def gradient(self) -> Tensor | None:
        """The first of the gradients; None if there is none."""
        return self.gradients[0] if self.gradients else None


class Pipeline:
    """What all pipelines share.

    Args:
        marks: the rows that go in.
        n: how many at a time.

    """

    def __init__(self, marks: Marks, n: int) -> None:
        self.marks, self.n = marks, n

    def feed(self, ids: Sequence[int]) -> Fed:
        """Run the pipeline on rows."""
        raise NotImplementedError

    def pure(self, i: int, label_of: int | None = None) -> dict[str, Tensor]:
        """Return what comes out of a batch of copies of row i: mixing it with itself changes nothing.

        Args:
            i: the row.
            label_of: whose label they have; None: their own. Only steps are given other labels.

        """
        return self.feed([i] * self.n).inputs

    def split(self, batch: Any) -> tuple[dict[str, Tensor], Any]:
        """Split a batch that came out into its inputs, by name, and its labels."""
        label_names = {spec.name for spec in self.marks.labels}
        inputs, found = labels.split(batch, self.marks.like, label_names)
        tensors = {name or "inputs": t for name, t in trees.tensors(inputs).items()}
        numbers = {spec.name for spec in self.marks.inputs}
        single = {name for name, t in tensors.items() if name in numbers and t.is_floating_point()}
        return {name: t for name, t in tensors.items() if t.ndim >= 2 or "mask" in name or name in single}, found


class Transform(Pipeline):
    """A function of a batch.

    Args:
        function: of inputs and labels, or of a batch.
        marks: as of all.
        n: as of all.
        make_batch: makes a batch of examples.

    """

    def __init__(
        self,
        function: Callable[..., Any],
        marks: Marks,
        n: int,
        make_batch: Callable[[list[Any]], Any] = trees.stacked,
    ) -> None:
        super().__init__(marks, n)
        self.function, self.make_batch = function, make_batch
        self.apart = takes_two(function) and isinstance(marks.like, tuple | list) and len(marks.like) >= 2

    def batch(self, ids: Sequence[int]) -> Any:
        """Return the stacked rows."""
        return self.make_batch([self.marks.fresh(i) for i in ids])

    def call(self, batch: Any) -> Any:
        """Call the function on a batch."""
        return self.function(*batch) if self.apart else self.function(batch)

    def feed(self, ids: Sequence[int]) -> Fed:
        """Run the pipeline on rows."""
        batch = self.batch(ids)
        before = trees.tensors(batch)
        out = self.call(batch)
        inputs, found = self.split(out)
        return Fed(list(ids), sorted(set(ids)), inputs, found, before=before, after=trees.tensors(batch))


def takes_two(function: Callable[..., Any]) -> bool:
    """Return whether a function is given inputs and labels as two arguments."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return True
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len([p for p in positional if p.default is p.empty]) >= 2:
        return True
    if any(p.kind is p.VAR_POSITIONAL for p in parameters) and not positional:
        return True
    return len(positional) >= 2 and positional[1].name in ("y", "target", "targets", "label", "labels")


class Collation(Pipeline):
    """A collate function, and the dataset that its examples come from.

    Args:
        function: of a list of examples.
        source: the dataset whose rows are marked.
        n: as of all.

    """

    def __init__(self, function: Callable[[list[Any]], Any], source: Source, n: int) -> None:
        super().__init__(source.marks, n)
        self.function, self.source = function, source

    def batch(self, ids: Sequence[int]) -> Any:
        """Return what comes out for rows of the dataset."""
        return self.function([self.source.dataset[i] for i in ids])

    def feed(self, ids: Sequence[int]) -> Fed:
        """Run the pipeline on rows."""
        with self.source.watched() as fetched:
            out = self.batch(ids)
        inputs, found = self.split(out)
        own = [self.source.own(i) for i in ids]
        return Fed(own, sorted({*own, *fetched()}), inputs, found)

    def pure(self, i: int, label_of: int | None = None) -> dict[str, Tensor]:
        """Return what comes out where all rows of the dataset are row i."""
        with self.source.all_of(i):
            return self.feed(list(range(self.n))).inputs


class Wrapped(Collation):
    """A loader inside of another object that mixes, fed by a loader of our own in its place.

    Args:
        wrapper: makes of loaders the object around them.
        function: the collate function of the loader inside.
        source: as of collations.
        n: as of all.

    """

    def __init__(
        self,
        wrapper: Callable[[Iterator[DataLoader[Any]]], Any],
        function: Callable[[list[Any]], Any],
        source: Source,
        n: int,
    ) -> None:
        super().__init__(function, source, n)
        self.wrapper = wrapper

    def _loaders(self, ids: Sequence[int]) -> Iterator[DataLoader[Any]]:
        """Return a loader of the rows, and further ones of other rows for objects that hold several."""
        total = len(self.source.dataset)
        for k in itertools.count():
            rows = [(i + 1000 * k) % total for i in ids]
            yield DataLoader(self.source.dataset, batch_sampler=[rows], collate_fn=self.function)

    def batch(self, ids: Sequence[int]) -> Any:
        """Return what comes out for rows of the dataset: one batch of them is all that the loader inside has."""
        return next(iter(self.wrapper(self._loaders(ids))))


Stand = Callable[[Tensor], Tensor]


class Step(Pipeline):
    """A training step, watched.

    Args:
        run: runs the step on a batch and returns what it returns.
        marks: as of all.
        n: as of all.
        make_batch: makes a batch of examples.

    """

    def __init__(
        self,
        run: Callable[[Any], Any],
        marks: Marks,
        n: int,
        make_batch: Callable[[list[Any]], Any] = trees.stacked,
    ) -> None:
        super().__init__(marks, n)
        self.run, self.make_batch = run, make_batch
        self.taps: dict[int, Any] = {}
        self.features: frozenset[int] | None = None
        self.is_unsure = False  # whether rows may be mixed inside of the model where they cannot be read
        self.has_labels = True  # whether labels enter what is watched
        self.watched_at: int | None = None  # how many calls with gradients come after the one that is watched
        self.with_gradients = 0  # how many calls have gradients
        self.changed: list[bool] = []  # of these, the last first, which are given other tensors than those of the batch

    @property
    def classes(self) -> frozenset[int]:
        """The numbers of classes of the labels."""
        return frozenset(spec.classes for spec in self.marks.labels if spec.classes > 1)

    def feed(self, ids: Sequence[int]) -> Fed:
        """Run the step on rows; the outputs of the model are taken for 0."""
        return self.step([self.marks.fresh(i) for i in ids], ids, torch.zeros_like)

    def pure(self, i: int, label_of: int | None = None) -> dict[str, Tensor]:
        """Return what reaches the model of a batch of copies of row i."""
        return self.step([self.marks.fresh(i, label_of) for _ in range(self.n)], [i] * self.n, torch.zeros_like).inputs

    def step(self, examples: list[Any], ids: Sequence[int], stand: Stand | None, hidden: bool = False) -> Fed:
        """Run the step on examples.

        Args:
            examples: a list of them.
            ids: the rows they are.
            stand: makes of the outputs of the model what stands for them.
            hidden: whether outputs of inner modules are kept.

        """
        if self.features is None:
            self.features = frozenset()
            with Recorder(classes=self.classes).recording_of() as dry:
                self.run(self.make_batch([self.marks.fresh(i) for i in ids]))
            self.features, self.taps = frozenset(i for i, call in enumerate(dry.calls) if call.feeds), dry.taps
        batch = self.make_batch(examples)
        before = trees.tensors(batch)
        with Recorder(stand, hidden, self.features, self.classes, self.taps).recording_of() as recording:
            returned = self.run(batch)
            loss = loss_of(returned)
            watched = None if stand is None else self._watched(_calls_with_gradients(loss, recording), before)
        inputs = {} if watched is None else content_of(watched)
        for k, call in enumerate(recording.calls):
            if watched is None or (call.feeds and call is not watched):
                inputs |= {f"call {k + 1}: {name}" if inputs else name: t for name, t in content_of(call).items()}
        fed = Fed(
            list(ids),
            sorted(set(ids)),
            inputs,
            None,
            [] if watched is None else watched.gradients,
            recording,
            None if loss is None else float(loss.detach()),
        )
        fed.before, fed.after = before, trees.tensors(batch)
        return fed

    def _watched(self, calls: list[ModelCall], batch: dict[str, Tensor]) -> ModelCall | None:
        """Return the call whose outputs are compared with mixed labels; None if no call has gradients.

        It is the last that is given other tensors than those of the batch; without one, the last. It stays the same one:
        a batch of copies is not changed by mixing.
        """
        if not calls:
            return None
        self.with_gradients = len(calls)
        if self.watched_at is None or self.watched_at >= len(calls):
            self.changed = [not any(_is_of(t, batch) for t in content_of(call).values()) for call in reversed(calls)]
            self.watched_at = self.changed.index(True) if True in self.changed else 0
        return calls[-1 - self.watched_at]


def loss_of(returned: Any) -> Tensor | None:
    """Return the loss among what a step returns; None if there is none."""
    if isinstance(returned, Tensor):
        return returned if returned.numel() == 1 else None
    if isinstance(returned, int | float):
        return torch.tensor(float(returned))
    if isinstance(returned, Mapping):
        return loss_of(returned.get("loss"))
    if isinstance(returned, tuple | list) and returned:
        return next((found for part in returned if (found := loss_of(part)) is not None), None)
    loss = getattr(returned, "loss", None)
    return None if loss is None else loss_of(loss)


def content_of(call: ModelCall) -> dict[str, Tensor]:
    """Return what a model was given, but for labels."""
    return {
        name: tensor
        for name, tensor in call.inputs.items()
        if tensor.ndim >= 1 and len(tensor) > 0 and not LABEL_NAME.search(name)
    }


def _calls_with_gradients(loss: Tensor | None, recording: Recording) -> list[ModelCall]:
    """Return the calls whose outputs have gradients of the loss, taken by the step or here."""
    outputs = [z for call in recording.calls for z in call.outputs]
    if outputs and all(z.grad is None for z in outputs) and loss is not None and loss.requires_grad:
        grads = torch.autograd.grad(loss, outputs, allow_unused=True, retain_graph=True)
        for z, grad in zip(outputs, grads, strict=True):
            z.grad = grad
    return [call for call in recording.calls if call.gradients]


def _is_of(tensor: Tensor, batch: dict[str, Tensor]) -> bool:
    """Return whether a tensor of floating-point numbers is one of a batch."""
    return tensor.is_floating_point() and any(
        t.shape == tensor.shape and torch.equal(t, tensor) for t in batch.values()
    )


# -- leaves that came out, and the rows that they are made of -----------------------------------------------------------


@dataclass
class Content:
    """A leaf of inputs that came out, and how rows look there.

    Args:
        name: of the leaf.
        spec: the leaf of an example that it is, where rows come out as they went in.
        how: "direct", rows come out as they went in but for mixing; "pure", they are known by what comes out of batches of
            copies; "random", they differ from run to run; "constant", they do not depend on the rows.

    """

    name: str
    how: str
    spec: LeafSpec | None = None
    _rows: dict[int, Tensor] = field(default_factory=dict)
    _candidates: dict[tuple[int, ...], Candidates] = field(default_factory=dict)

    def candidates(self, pipeline: Pipeline, ids: Sequence[int]) -> Candidates:
        """Return rows as candidates for what came out."""
        key = tuple(ids)
        if key not in self._candidates:
            if len(self._candidates) > 4:  # each batch of a dataset that mixes inside has others
                self._candidates.clear()
            self._candidates[key] = Candidates(self.rows(pipeline, ids))
        return self._candidates[key]

    def rows(self, pipeline: Pipeline, ids: Sequence[int]) -> Tensor:
        """Return rows as they come out unmixed, [k, ...]."""
        if self.how == "direct":
            assert self.spec is not None
            return pipeline.marks.rows(self.spec.name, ids)
        for i in ids:
            if i not in self._rows:
                self._rows[i] = pipeline.pure(i)[self.name][0]
        return torch.stack([self._rows[i] for i in ids])


def contents(pipeline: Pipeline, fed: Fed) -> list[Content]:
    """Return how rows look in each leaf that came out."""
    found: list[Content] = []
    for name, leaf in fed.inputs.items():
        if leaf.dtype == torch.bool or "mask" in name.lower():
            continue
        direct = None
        for spec in pipeline.marks.inputs:
            if tuple(leaf.shape[1:]) != tuple(trees_shape(spec)):
                continue
            rows = Candidates(pipeline.marks.rows(spec.name, fed.candidates))
            known = [
                rows.recover(row, _at(fed.candidates, fed.ids, i, len(leaf))).is_known for i, row in enumerate(leaf[:6])
            ]
            if sum(known) >= 0.6 * len(known):
                direct = Content(name, "direct", spec)
                break
        content = _as_they_come(pipeline, name, direct)
        if content.how != "random" or leaf.is_floating_point():  # not a permutation that is handed on
            found.append(content)
    return found


def _as_they_come(pipeline: Pipeline, name: str, direct: Content | None) -> Content:
    """Return how rows look in a leaf: as they went in, if copies of one row come out so.

    If they do not, they may be transformed, the same each time; or changed at random, as in augmentation; or be sums whose
    weights do not sum to 1. The weights of a batch are one or all above 1 then, while random gains differ from row to row.
    """
    if direct is None or direct.spec is None:
        return _indirect(pipeline, name)
    rows = Candidates(pipeline.marks.rows(direct.spec.name, [0, 1]))
    runs = [[rows.recover(row, 0) for row in pipeline.pure(0).get(name, torch.empty(0))[:4]] for _ in range(3)]
    copies = [made for run in runs for made in run]
    if all(abs(made.share[0] - 1) < 0.03 + 3 * made.error and made.error < 0.1 for made in copies):
        return direct
    transformed = _indirect(pipeline, name)
    if transformed.how == "pure":
        return transformed
    exact = all(made.found > 0.97 for made in copies)
    one_gain = all(np.ptp([made.share[0] for made in run]) < 0.01 for run in runs if run)
    return direct if exact and (one_gain or min(made.share[0] for made in copies) > 1.2) else transformed


def _at(candidates: list[int], ids: list[int], i: int, m: int) -> int | None:
    return candidates.index(ids[i]) if m == len(ids) and ids[i] in candidates else None


def trees_shape(spec: LeafSpec) -> tuple[int, ...]:
    """Return the shape of a leaf of an example."""
    tensor = trees.as_tensor(spec.like)
    return () if tensor is None else tuple(tensor.shape)


def _indirect(pipeline: Pipeline, name: str) -> Content:
    first, again, other = pipeline.pure(0), pipeline.pure(0), pipeline.pure(1, label_of=0)
    leaf = first.get(name)
    if leaf is None or name not in again or name not in other or again[name].shape != leaf.shape:
        return Content(name, "random")
    size = float(leaf.double().abs().max())
    near = 1e-4 * max(size, 1e-6)
    if float((leaf.double() - again[name].double()).abs().max()) > near:
        return Content(name, "random")
    if float((leaf.double() - leaf[:1].double()).abs().max()) > near:
        return Content(name, "random")
    if other[name].shape == leaf.shape and float((leaf.double() - other[name].double()).abs().max()) <= near:
        return Content(name, "constant")
    return Content(name, "pure")


def deep_copied(value: Any) -> Any:
    """Return a copy of what a check would otherwise change (counters, generators); the value itself if it has none."""
    try:
        return copy.deepcopy(value)
    except Exception:  # whatever its own copying raises: the value itself is used
        return value
