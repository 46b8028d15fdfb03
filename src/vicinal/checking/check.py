"""Check a pipeline: feed it rows that say who they are, and report how inputs, labels and draws do not fit together."""

from __future__ import annotations

import contextlib
import inspect
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, default_collate

from vicinal.checking import agreement, criteria, handling, loaders, steps, targets, trees, variety
from vicinal.checking.draws import Draw, draw
from vicinal.checking.labels import read
from vicinal.checking.marks import Marks
from vicinal.checking.pipelines import Collation, Content, Pipeline, Step, Transform, contents, deep_copied
from vicinal.checking.recorder import Recorder, put_back, seed_all
from vicinal.checking.report import Fault, Report, ordered
from vicinal.checking.sources import candidates, gives_same_memory, of_examples
from vicinal.checking.targets import Call, Kind, TargetError, kind_of
from vicinal.compose import Chain, Choice, Scheduled
from vicinal.vicinities import ERM, GaussianNoise, InputMixup, LabelSmoothing
from vicinal.vicinity import Vicinity

_MANY = 160  # draws that a distribution is judged by
_SECONDS = 1.5  # that they may take
_EVALUATIONS = ("eval_step", "validation_step", "val_step", "test_step", "evaluate")


def check(
    target: Any,
    example: Any = None,
    *,
    kind: Kind | None = None,
    evaluate: Any = None,
    alpha: float | None = None,
    p: float | None = None,
    smoothing: float | None = None,
    plain: Any = None,
    off: Callable[[], Any] | None = None,
    ignore: Iterable[str] = (),
    draws: int | None = None,
) -> Report:
    """Check whether a training pipeline mixes what its labels say.

    Rows whose content says who they are go through the pipeline, and the share of each row in the mixed input is compared
    with its share in the label, or in the gradient of the loss. Nothing is edited or trained: weights, optimizers and
    generators are put back. It takes seconds.

    Args:
        target: a `DataLoader`, a collate function, a transform of batches `(x, y) -> (x, y)`, a training step that returns
            the loss or takes the backward step itself, a Lightning module, a Hugging Face Trainer, a Keras layer or model,
            a loss, or a function without arguments that returns one of these, or training and evaluation loaders.
        example: a batch, a loader or a dataset, whose structure, shapes, dtypes and classes marked rows get; None: those of
            the target's own dataset, of its model, or images [3, 32, 32] of 10 classes.
        kind: what the target is, where it is not clear: "transform", "collate", "loader", "step", "loss", "lightning",
            "trainer", "keras", "factory", "run".
        evaluate: the loader or step of evaluation, which should see plain rows.
        alpha: declared: lambda ~ Beta(alpha, alpha).
        p: declared: the probability that a batch is mixed.
        smoothing: declared: label smoothing.
        plain: the dataset before mixing, for a dataset that mixes and holds it where it cannot be found.
        off: switches mixing off; None: `off()` or `mixup_enabled = False` of the collate function or dataset.
        ignore: codes that do not count.
        draws: how often the pipeline is run on the same rows; None: as often as its kind needs.

    Returns:
        The report: findings with their codes, numbers, meaning and fix.

    Raises:
        TargetError: the target, or the example, cannot be checked as it is.
        ValueError: a name in `ignore` is not a code.

    Example:
        >>> import torch
        >>> def transform(x, y):
        ...     lam, other = 0.7, torch.randperm(len(x))
        ...     return lam * x + (1 - lam) * x[other], y  # the labels stay
        >>> check(transform).codes
        ['VIC002']

    Source: section 2 of the paper: inputs and labels are mixed by one lambda and one partner.

    """
    start = time.perf_counter()
    ordered((), ignore)  # refuses unknown codes before anything runs
    run = _Check(alpha, p, smoothing, off, draws)
    report = Report(describe(target))
    report.file, report.line = place_of(target)
    with put_back(target, evaluate), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        seed_all(20181)
        run.target(target, example, kind, evaluate, plain)
    seen = dict.fromkeys(run.findings)
    report.findings, report.ignored = ordered(seen, ignore)
    report.facts, report.skipped = run.facts, run.skipped
    report.seconds = time.perf_counter() - start
    return report


def describe(target: Any) -> str:
    """Return a target in words."""
    name = getattr(target, "__qualname__", None) or type(target).__qualname__
    module = getattr(target, "__module__", None) or type(target).__module__
    return name if module in ("__main__", "builtins") else f"{module}.{name}"


def place_of(target: Any) -> tuple[str | None, int | None]:
    """Return file and line of a target's source; None where it has none."""
    thing = target if inspect.isroutine(target) or inspect.isclass(target) else type(target)
    try:
        return inspect.getsourcefile(thing), inspect.getsourcelines(thing)[1]
    except (TypeError, OSError):
        return None, None


class _Check:
    """One check in the making."""

    def __init__(
        self,
        alpha: float | None,
        p: float | None,
        smoothing: float | None,
        off: Callable[[], Any] | None,
        count: int | None,
    ) -> None:
        self.alpha, self.p, self.smoothing, self.off, self.count = alpha, p, smoothing, off, count
        self.findings: list[Fault] = []
        self.facts: dict[str, str] = {}
        self.skipped: dict[str, str] = {}
        self.mixes = True  # what is meant
        self.inputs_alone = False
        self.any_mixed = False
        self.contents: list[Content] = []
        self._failed: Exception | None = None

    # -- kinds of targets

    def target(self, target: Any, example: Any, kind: Kind | None, evaluate: Any, plain: Any) -> None:
        """Check a target of any kind."""
        kind = kind or kind_of(target)
        if kind == "factory":
            return self._factory(target, example, evaluate, plain)
        if isinstance(target, tuple | list) and len(target) == 2 and loaders.inner(target[0]) is not None:
            target, evaluate, kind = target[0], evaluate or target[1], "loader"
        self._declared_by(target)
        if kind == "unknown":
            return self._function(target, example, evaluate)
        check = {
            "loader": self._loader,
            "transform": self._transform,
            "collate": self._collate,
            "step": self._step,
            "run": self._run,
            "loss": self._loss,
            "lightning": self._lightning,
            "trainer": self._trainer,
            "keras": self._keras,
            "batches": self._batches,
        }[kind]
        return check(target, example, evaluate, plain)

    def _declared_by(self, target: Any) -> None:
        """Take what our own objects say of themselves for declared."""
        held = [target, getattr(target, "vicinity", None), getattr(target, "collate_fn", None)]
        held.append(getattr(held[-1], "vicinity", None))
        parts = [part for vicinity in held if isinstance(vicinity, Vicinity) for part in _parts(vicinity)]
        if not parts:
            return
        amounts = [part.eps for part in parts if isinstance(part, LabelSmoothing)]
        if amounts and self.smoothing is None:
            self.smoothing = max(amounts)
        self.mixes = any(not isinstance(part, ERM | LabelSmoothing | GaussianNoise) for part in parts)
        self.inputs_alone = any(isinstance(part, InputMixup) for part in parts)

    def _factory(self, target: Any, example: Any, evaluate: Any, plain: Any) -> None:
        names = targets.names_of(target)
        if {"rank", "world_size"} <= set(names):
            return self._ranks(target, example, evaluate, plain)
        if "epoch" in names:
            return self._resumed(target, example, evaluate, plain)
        made = target()
        if isinstance(made, dict) and {"train"} <= set(made):
            made, evaluate = (
                made["train"],
                evaluate or next((made[k] for k in ("val", "valid", "eval", "test") if k in made), None),
            )
        if made is None:
            raise TargetError(f"{describe(target)}() returned None: give what returns a loader, a transform or a step")
        return self.target(made, example, None, evaluate, plain)

    def _function(self, target: Any, example: Any, evaluate: Any) -> None:
        """Check a function that is a transform or a step: what it returns tells."""
        call = Call(target)
        if call.fixed or len(call.open) not in (1, 2) or call.counters:
            return self._step(target, example, evaluate, None)
        for examples, n in self._examples(target, example):
            marks = Marks(examples)
            batch = trees.stacked([marks.fresh(i) for i in range(n)])
            try:
                with Recorder().recording_of() as recording:
                    out = Transform(target, marks, n).call(batch) if len(call.open) == 2 else target(batch)
            except TargetError:
                raise
            except Exception as error:  # an example that does not fit: the next one
                self._failed = error
                continue
            is_step = bool(recording.calls) or out is None or targets_loss(out)
            return (self._step if is_step else self._transform)(target, examples, evaluate, None)
        raise self._cannot(target, example)

    def _cannot(self, target: Any, example: Any) -> TargetError:
        error = self._failed
        why = "" if error is None else f" ({type(error).__name__}: {handling.first_line(error)})"
        what = "the example that was given" if example is not None else "examples of images, or of its model's sizes"
        return TargetError(f"{describe(target)} failed on {what}{why}: give a batch that it takes as example=")

    def _examples(self, target: Any, example: Any) -> list[tuple[list[Any], int]]:
        """Return lists of examples to try, each with a batch size."""
        if example is not None:
            given = example
            if (
                callable(given)
                and not isinstance(given, nn.Module)
                and not targets.required(given)
                and not hasattr(given, "__getitem__")
            ):
                given = given()
            examples = given if _is_examples(given) else targets.examples_of(given)
            n = targets.size_of_batch(given) if not _is_examples(given) else None
            return [(examples, _size(n))]
        scope = getattr(getattr(target, "__func__", target), "__globals__", {})
        for name in (
            "example",
            "example_batch",
            "loader",
            "train_loader",
            "dataloader",
            "make_loader",
            "dataset",
            "train_set",
        ):
            if name in scope and scope[name] is not target:
                with contextlib.suppress(TargetError):
                    return [(targets.examples_of(scope[name]), _size(targets.size_of_batch(scope[name])))]
        return [(examples, 8) for examples in [*targets.guessed(target), *targets.default_examples()]]

    # -- kinds of pipelines

    def _transform(self, target: Any, example: Any, evaluate: Any, plain: Any) -> None:
        function = deep_copied(target)
        for examples, n in self._examples(target, example):
            pipeline = Transform(function, Marks(examples), n)
            try:
                pipeline.feed(list(range(n)))
            except Exception as error:  # an example that does not fit: the next one
                self._failed = error
                continue
            if isinstance(target, nn.Module) and not target.training:
                self.facts["mode"] = "the module is in eval mode"
            self._runs(pipeline, 24)
            self.findings += handling.sizes(pipeline, self.contents, n, self.any_mixed)
            if any(content.how != "random" for content in self.contents):
                fact, finding = handling.cost(pipeline)
                self.facts["cost"] = fact
                self.findings += [finding] if finding else []
            return
        raise self._cannot(target, example)

    def _collate(self, target: Any, example: Any, evaluate: Any, plain: Any) -> None:
        function = deep_copied(target)
        for examples, n in self._examples(target, example):
            pipeline = Collation(function, of_examples(Marks(examples)), n)
            try:
                pipeline.feed(list(range(n)))
            except Exception as error:  # as above
                self._failed = error
                continue
            pipeline.source.rows.keeps = True
            self.findings += handling.overwrites(pipeline)
            pipeline.source.rows.keeps = False
            self._runs(pipeline, 16)
            self.findings += handling.sizes(pipeline, self.contents, n, self.any_mixed)
            return
        raise self._cannot(target, example)

    def _loader(self, target: Any, example: Any, evaluate: Any, plain: Any) -> None:
        found = loaders.inner(target)
        assert found is not None
        if isinstance(found.dataset, IterableDataset) or found.batch_sampler is None:
            return self._batches(target, example, evaluate, plain)
        n = _size(found.batch_size or getattr(found.batch_sampler, "batch_size", None))
        n = min(n, len(found.dataset))  # pyright: ignore
        function = deep_copied(found.collate_fn or default_collate)
        pipeline = self._over_marked(found.dataset, function, n, plain)
        self._keep_rows(pipeline, found.dataset)
        self._runs(pipeline, 16)
        self.findings += loaders.fixed_partners(pipeline)
        self._last_batch(found, pipeline)
        if self.any_mixed:
            off, on = _switch(found, self.off)
            try:
                self.findings += loaders.findings(loaders.Epochs(target, pipeline, self.contents), off)
            finally:
                on()
        elif found.num_workers:
            self.skipped["workers"] = "nothing is mixed"
        self._evaluation(evaluate)

    def _over_marked(self, dataset: Any, function: Callable[[list[Any]], Any], n: int, plain: Any) -> Collation:
        """Return a collate function over the dataset, marked as deep as its rows are still known in what comes out."""
        ways = candidates(dataset)
        if plain is not None:
            ways = [way for way in ways if way.rows.original is plain] or ways
        labels_needed = bool(ways[-1].marks.labels)
        for source in ways:
            if labels_needed and not source.marks.labels:
                continue
            pipeline = Collation(function, source, n)
            try:
                fed = pipeline.feed(list(range(n)))
                found = contents(pipeline, fed)
            except Exception:  # marked there, the dataset fails: a layer further out is tried, the last one may fail
                if source is ways[-1]:
                    raise
                continue
            if source is ways[-1] or _known(pipeline, found, fed):
                return pipeline
        raise AssertionError

    def _keep_rows(self, pipeline: Collation, dataset: Any) -> None:
        """See whether the dataset is overwritten, where it returns the same memory each time."""
        original = pipeline.source.rows.original
        original = dataset if original is None else original
        if not gives_same_memory(original):
            return
        pipeline.source.rows.keeps = True
        self.findings += handling.overwrites(pipeline)
        pipeline.source.rows.keeps = False

    def _last_batch(self, loader: DataLoader[Any], pipeline: Collation) -> None:
        total, size = len(loader.dataset), loader.batch_size  # pyright: ignore
        if size is None or loader.drop_last or total % size == 0:
            return
        try:
            run = draw(pipeline, self.contents, list(range(total % size)))
        except Exception as error:  # what the user would see at the end of the epoch
            text = f"{type(error).__name__}: {handling.first_line(error)}"
            self.findings.append(Fault("VIC036", f"the last batch of an epoch has {total % size} rows: {text}"))
            return
        if total % size == 1 and not run.is_mixed() and self.any_mixed:
            self.findings.append(
                Fault("VIC037", "the last batch of an epoch has 1 row, and it came out as it went in.")
            )

    def _batches(self, target: Any, example: Any, evaluate: Any, plain: Any) -> None:
        """Check what can be seen of batches whose dataset cannot be marked: streams, and iterables of other libraries."""
        found = loaders.inner(target)
        stream = found.dataset if found is not None else None
        if isinstance(stream, IterableDataset):
            return self._stream(target, found, stream, evaluate)
        batches = [batch for batch, _ in zip(iter(target), range(16), strict=False)]
        if not batches:
            raise TargetError("the loader has no batches")
        marks = Marks(targets.unbatched(batches[0]))
        self.skipped["shares of the inputs"] = (
            "the rows behind the batches cannot be marked; check the collate function or the transform instead"
        )
        self._labels_alone(batches, marks)
        self._evaluation(evaluate)

    def _stream(self, target: Any, loader: Any, stream: Any, evaluate: Any) -> None:
        examples = [example for example, _ in zip(iter(stream), range(24), strict=False)]
        if not examples:
            raise TargetError("the stream has no examples")
        n = _size(loader.batch_size)
        function = deep_copied(loader.collate_fn or default_collate)
        pipeline = Collation(function, of_examples(Marks(examples)), n)
        self._runs(pipeline, 16)
        self._evaluation(evaluate)

    def _labels_alone(self, batches: Sequence[Any], marks: Marks) -> None:
        pipeline = Pipeline(marks, 1)
        for spec in marks.labels:
            kinds, problems = set(), dict[str, str]()
            for batch in batches:
                _, found = pipeline._split(batch)
                reading = read(found, spec, _rows_in(batch))
                kinds.add(reading.kind)
                problems |= dict(reading.problems)
            self.findings += [Fault(code, seen) for code, seen in problems.items()]

    def _step(self, target: Any, example: Any, evaluate: Any, plain: Any) -> None:
        call = Call(target)
        if set(call.open) & targets._BATCHES:
            return self._accumulating(target, call, example)
        for examples, n in self._examples(target, example):
            step = Step(call, Marks(examples), n)
            try:
                step.feed(list(range(n)))
            except TargetError:
                raise
            except Exception as error:  # an example that does not fit: the next one
                self._failed = error
                continue
            self._watch(step)
            scope = getattr(getattr(target, "__func__", target), "__globals__", {})
            named = next((scope[name] for name in _EVALUATIONS if name in scope and scope[name] is not target), None)
            self._evaluation_step(evaluate or named, step)
            return
        raise self._cannot(target, example)

    def _watch(self, step: Step) -> None:
        """Check a training step that runs on its examples."""
        runs = self._runs(step, 8, steps.draws)
        if not runs or not runs[0].fed.inputs:
            self.skipped["what reaches the model"] = "no call of a module with parameters was seen"
            return
        if runs[0].fed.gradient is None:
            self.skipped["what the loss holds for the labels"] = (
                "the step returned no loss with a gradient and took no backward step"
            )
            return
        self.findings += steps.numbers(step, runs)
        codes = {finding.code for finding in self.findings}
        if not codes & {"VIC001", "VIC002", "VIC003"}:
            self.findings += steps.loss(step, self.contents, runs)
        self.findings += steps.around(step, runs)
        calls = runs[0].fed.recording.calls if runs[0].fed.recording is not None else []
        if calls:
            self.facts["before the model"] = (
                f"{1e3 * calls[0].seconds:.2f} ms of a step pass before the model is called"
            )

    def _accumulating(self, target: Any, call: Call, example: Any) -> None:
        """Check a step of several micro-batches: the update must not depend on how rows are divided."""
        for examples, _ in self._examples(target, example):
            marks = Marks(examples)

            def divided(parts: int, marks: Marks = marks) -> Callable[[list[Any]], Any]:
                def make(rows: list[Any]) -> list[Any]:
                    size = len(rows) // parts
                    return [trees.stacked(rows[i * size : (i + 1) * size]) for i in range(parts)]

                return make

            try:
                sizes = {}
                for parts in (1, 2, 4):
                    step = Step(call, marks, 16, divided(parts))
                    sizes[parts] = steps.update_size(step)
            except TargetError:
                raise
            except Exception as error:  # an example that does not fit: the next one
                self._failed = error
                continue
            self._accumulation(sizes)
            step = Step(call, marks, 16, divided(1))
            self._watch(step)
            return
        raise self._cannot(target, example)

    def _accumulation(self, sizes: dict[int, float]) -> None:
        known = {parts: size for parts, size in sizes.items() if size > 0}
        if len(known) > 1 and max(known.values()) > 1.02 * min(known.values()):
            base = known[min(known)]
            shown = ", ".join(
                f"{parts} micro-batches {size / base:.2f} times" for parts, size in known.items() if size is not base
            )
            self.findings.append(Fault("VIC054", f"the gradient of the same 16 rows is, in {shown} that of one batch."))

    def _run(self, target: Any, example: Any, evaluate: Any, plain: Any) -> None:
        """Check a function that is given a loader and trains with it."""
        call = Call(target)
        for examples, n in self._examples(target, example):
            marks = Marks(examples)
            rows = of_examples(marks, 6 * n).rows
            loader = DataLoader(rows, batch_size=n)
            step = Step(lambda _, loader=loader: call(loader), marks, n, lambda rows: rows)
            try:
                runs = steps.runs_of_loop(step, 6)
            except TargetError:
                raise
            except Exception as error:  # as above
                self._failed = error
                continue
            self._judge(step, runs)
            return
        raise self._cannot(target, example)

    def _loss(self, target: Any, example: Any, evaluate: Any, plain: Any) -> None:
        weight = getattr(target, "weight", None)
        classes = len(weight) if isinstance(weight, torch.Tensor) and weight.ndim == 1 else 5
        try:
            self.findings += criteria.findings(target, classes)
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            raise TargetError(
                f"{describe(target)} failed on logits [6, {classes}] and class indices ({error})"
            ) from error
        taken = criteria.takes(target, classes)
        self.facts["mixed labels"] = (
            f"it takes {' and '.join(taken) or 'class indices only: mix its losses, lam * f(z, a) + (1 - lam) * f(z, b)'}"
        )

    def _lightning(self, target: Any, example: Any, evaluate: Any, plain: Any) -> None:
        if example is None:
            with contextlib.suppress(Exception):  # what a module without data raises is its own
                example = target.train_dataloader()
        counts = iter(range(10**9))

        def stage(name: str) -> Callable[[Any], Any]:
            method = getattr(target, name)
            takes = len(targets.names_of(method))

            def run(batch: Any) -> Any:
                for hook in ("on_before_batch_transfer", "on_after_batch_transfer"):
                    batch = getattr(target, hook)(batch, 0)
                return method(batch, next(counts)) if takes >= 2 else method(batch)

            return run

        self._model_steps(
            target,
            stage("training_step"),
            stage("validation_step") if hasattr(target, "validation_step") else None,
            example,
        )

    def _model_steps(
        self, target: Any, train: Callable[[Any], Any], valid: Callable[[Any], Any] | None, example: Any
    ) -> None:
        for examples, n in self._examples(target, example):
            step = Step(train, Marks(examples), n)
            target.train()
            try:
                step.feed(list(range(n)))
            except Exception as error:  # an example that does not fit: the next one
                self._failed = error
                continue
            self._watch(step)
            if valid is not None:
                target.eval()
                self._evaluation_step(valid, step)
            target.train()
            return
        raise self._cannot(target, example)

    def _trainer(self, target: Any, example: Any, evaluate: Any, plain: Any) -> None:
        dataset = target.train_dataset
        if dataset is None:
            raise TargetError("the Trainer has no train_dataset: make it with one")
        from vicinal.checking.sources import sample

        marks, collate = Marks(sample(dataset)), target.data_collator
        n = _size(target.args.per_device_train_batch_size)

        def train(batch: Any) -> Any:
            return target.training_step(target.model, dict(batch))

        def valid(batch: Any) -> Any:
            return target.prediction_step(target.model, dict(batch), prediction_loss_only=False)

        step = Step(train, marks, n, collate)
        self._watch(step)
        target.model.eval()
        self._evaluation_step(valid, step)
        target.model.train()
        sizes = {parts: steps.accumulated(target, marks, collate, parts) for parts in (1, 2, 4)}
        self._accumulation(sizes)

    def _keras(self, target: Any, example: Any, evaluate: Any, plain: Any) -> None:
        def train(batch: Any) -> Any:
            return target.train_on_batch(*batch) if isinstance(batch, tuple | list) else target.train_on_batch(batch)

        def valid(batch: Any) -> Any:
            return target.test_on_batch(*batch) if isinstance(batch, tuple | list) else target.test_on_batch(batch)

        self._model_steps(target, train, valid, example)

    # -- what all of them are asked

    def _runs(
        self, pipeline: Any, count: int, run: Callable[[Any, Sequence[Content], int], list[Draw]] | None = None
    ) -> list[Draw]:
        """Run a pipeline several times on the same rows and judge what comes out."""
        count = self.count or count
        if self.p is not None and 0 < self.p < 0.5:
            count = max(count, min(200, int(14 / self.p)))
        ids = list(range(pipeline.n))
        fed = pipeline.feed(ids)
        self.contents = contents(pipeline, fed)
        runs = (
            run(pipeline, self.contents, count) if run else [draw(pipeline, self.contents, ids) for _ in range(count)]
        )
        self._judge(pipeline, runs)
        return runs

    def _judge(self, pipeline: Any, runs: list[Draw]) -> None:
        found = list(agreement.findings(pipeline, runs, self.smoothing))
        if self.inputs_alone:
            meant = {"VIC001", "VIC002", "VIC004", "VIC011"}
            self.facts["labels"] = (
                "InputMixup mixes inputs alone, on purpose (the ablations of the paper's section 3.8)"
            )
            found = [finding for finding in found if finding.code not in meant]
        self.findings += found
        self.findings += handling.findings(pipeline, self.contents, runs)
        self.any_mixed = any(run.is_mixed() for run in runs)
        unknown = [content.name for content in self.contents if content.how == "random"]
        if unknown and len(unknown) == len([c for c in self.contents if c.how != "constant"]):
            self._unknown(pipeline, runs, unknown)
        labels_mixed = any(run.readings and variety_of_labels(run) for run in runs)
        nothing = not self.any_mixed and not labels_mixed and not unknown and not found
        if nothing and self.mixes and self.alpha != 0 and self.p != 0 and runs[0].rows:
            self.findings.append(
                Fault("VIC005", f"in {len(runs)} batches of {pipeline.n} rows every row came out as it went in.")
            )
        lambdas, rates = self._many(pipeline) if self.alpha is not None or self.p is not None else ([], [])
        self.findings += variety.findings(runs, self.alpha, self.p, rates, lambdas, pipeline.marks.first_class)
        self._facts(pipeline, runs)

    def _unknown(self, pipeline: Any, runs: list[Draw], names: list[str]) -> None:
        self.skipped["shares of the inputs"] = (
            f"{', '.join(names)}: what comes out differs from run to run even for copies of one row, so that who is in a row "
            "cannot be read; switch random augmentation off for the check"
        )
        if not any(run.readings for run in runs):
            self.skipped["labels"] = "no labels came out"

    def _many(self, pipeline: Any) -> tuple[list[float], list[bool]]:
        """Run a pipeline many times; return one lambda of each batch that is a weighted sum, and which are mixed at all."""
        ids, lambdas, rates = list(range(pipeline.n)), list[float](), list[bool]()
        start = time.perf_counter()
        while len(rates) < _MANY and time.perf_counter() - start < _SECONDS:
            one = draw(pipeline, self.contents[:1], ids)
            if one.main() is None:
                if not one.readings:
                    break
                rates.append(bool(variety_of_labels(one)))
                continue
            rates.append(one.is_mixed())
            rows = [row for row in one.main() or [] if row.pieces is not None]
            if not rows:
                lambdas += one.lambdas()[:1]
        return lambdas, rates

    def _facts(self, pipeline: Any, runs: list[Draw]) -> None:
        mixed = [run for run in runs if run.is_mixed()]
        lams = [lam for run in mixed for lam in run.lambdas()]
        if mixed:
            self.facts["mixed"] = f"{len(mixed)} of {len(runs)} batches of {pipeline.n} rows"
        if lams:
            per_row = any(max(values) - min(values) > 1e-3 for run in mixed if len(values := run.lambdas()) > 1)
            self.facts["lambda"] = (
                f"{'one per row' if per_row else 'one per batch'}, mean {np.mean(lams):.2f}, from {min(lams):.3f} to {max(lams):.3f}"
            )
        boxes = sum(row.pieces is not None for run in mixed for row in run.main() or [])
        sums = sum(row.pieces is None for run in mixed for row in run.main() or [])
        if boxes and mixed:
            self.facts["how"] = f"{sums} rows as weighted sums, {boxes} as boxes or masks"
        steps_of = {(j - i) % pipeline.n for run in mixed for i, j in run.partners()}
        if len(steps_of) == 1 and len(mixed) > 2:
            self.facts["partners"] = f"always the row {steps_of.pop()} further on"

    # -- evaluation

    def _evaluation(self, evaluate: Any) -> None:
        """Check a loader of evaluation."""
        if evaluate is None:
            return
        if callable(evaluate) and not targets.required(evaluate) and loaders.inner(evaluate) is None:
            evaluate = evaluate()
        found = loaders.inner(evaluate)
        if found is None or isinstance(found.dataset, IterableDataset):
            self.skipped["evaluation"] = "its rows cannot be marked"
            return
        n = min(_size(found.batch_size), len(found.dataset))  # pyright: ignore
        pipeline = self._over_marked(found.dataset, deep_copied(found.collate_fn or default_collate), n, None)
        ids = list(range(n))
        of = contents(pipeline, pipeline.feed(ids))
        runs = [draw(pipeline, of, ids) for _ in range(8)]
        mixed = [run for run in runs if run.is_mixed() or variety_of_labels(run)]
        if mixed:
            self.findings.append(
                Fault(
                    "VIC040", f"{len(mixed)} of {len(runs)} batches of the evaluation loader are mixed.", "evaluation"
                )
            )
        else:
            self.facts["evaluation"] = f"{len(runs)} batches came out as they went in"

    def _evaluation_step(self, evaluate: Any, step: Step) -> None:
        """Check a step of evaluation: what reaches the model there must be the rows themselves."""
        if evaluate is None:
            return
        if loaders.inner(evaluate) is not None:
            return self._evaluation(evaluate)
        call = (
            evaluate
            if not inspect.isfunction(evaluate) or evaluate.__name__ == "run" or evaluate.__qualname__.count("<locals>")
            else Call(evaluate)
        )
        watched = Step(call, step.marks, step.n, step.make_batch)
        ids = list(range(step.n))
        try:
            fed = watched.step([step.marks.fresh(i) for i in ids], ids, None)
            of = contents(watched, fed)
            runs = [
                draw(watched, of, ids, watched.step([step.marks.fresh(i) for i in ids], ids, None)) for _ in range(6)
            ]
        except Exception as error:  # an evaluation that is called in another way is told, not guessed
            self.skipped["evaluation"] = (
                f"it failed on the training step's batch ({type(error).__name__}: {handling.first_line(error)})"
            )
            return
        mixed = [run for run in runs if run.is_mixed()]
        if mixed:
            self.findings.append(
                Fault("VIC040", f"in {len(mixed)} of {len(runs)} batches mixed rows reached the model.", "evaluation")
            )
        else:
            self.facts["evaluation"] = f"in {len(runs)} batches plain rows reached the model"

    # -- factories

    def _ranks(self, target: Any, example: Any, evaluate: Any, plain: Any) -> None:
        made = []
        for rank in range(2):
            with loaders.as_new_process(rank, rank, 2):
                made.append((target(rank=rank, world_size=2), torch.random.get_rng_state()))
        first = made[0][0]
        self.target(first, example, None, evaluate, plain)
        loader = loaders.inner(first)
        if loader is None or isinstance(loader.dataset, IterableDataset):
            self.skipped["ranks"] = "what was made is not a loader of rows"
            return
        rows = [loaders.rows_of_epoch(of) for of, _ in made]
        if all(of is not None for of in rows):
            known = [of for of in rows if of is not None]
            self.findings += loaders.over_ranks(known, len(loader.dataset), loader.batch_size or 1)  # pyright: ignore
        shares = []
        for rank in range(2):
            with loaders.as_new_process(rank, rank, 2):
                shares.append(self._shares(target(rank=rank, world_size=2)))
        if variety.repeated(*shares):
            self.findings.append(Fault("VIC024", f"ranks 0 and 1 drew the same shares: {loaders._few(shares[0])}."))

    def _shares(self, made: Any) -> list[list[float]]:
        """Return the shares of the first epoch of a loader, its generators as they are."""
        if isinstance(made, tuple | list) and made and loaders.inner(made[0]) is not None:
            made = made[0]
        found = loaders.inner(made)
        if found is None:
            return []
        state = torch.random.get_rng_state(), np.random.get_state()
        import random

        python = random.getstate()
        n = min(_size(found.batch_size), len(found.dataset))  # pyright: ignore
        pipeline = self._over_marked(found.dataset, found.collate_fn or default_collate, n, None)
        of = contents(pipeline, pipeline.feed(list(range(n)))) if not self.contents else self.contents
        torch.random.set_rng_state(state[0])
        np.random.set_state(state[1])
        random.setstate(python)
        return loaders.Epochs(made, pipeline, of).epoch()

    def _resumed(self, target: Any, example: Any, evaluate: Any, plain: Any) -> None:
        """Check a factory of an epoch's loader: in a new process, epoch 1 must not draw what epoch 0 drew."""
        with loaders.as_new_process(0):
            first = target(epoch=0)
        self.target(first, example, None, evaluate, plain)
        shares = []
        for epoch in range(2):
            with loaders.as_new_process(epoch):
                shares.append(self._shares(target(epoch=epoch)))
        if variety.repeated(*shares):
            self.findings.append(
                Fault(
                    "VIC025", f"in a new process epoch 1 begins with the shares of epoch 0: {loaders._few(shares[0])}."
                )
            )


def _parts(vicinity: Vicinity) -> Iterator[Vicinity]:
    """Return what a vicinity is made of."""
    if isinstance(vicinity, Chain | Choice):
        for part in vicinity.parts:
            yield from _parts(part)
    elif isinstance(vicinity, Scheduled):
        for part in vicinity.__dict__.values():
            for one in part.values() if isinstance(part, dict) else part if isinstance(part, tuple | list) else (part,):
                if isinstance(one, Vicinity):
                    yield from _parts(one)
    else:
        yield vicinity


def _is_examples(given: Any) -> bool:
    """Return whether a list is one of examples rather than a batch."""
    return isinstance(given, list) and len(given) > 0 and isinstance(given[0], tuple | dict)


def _size(n: int | None) -> int:
    return 8 if n is None else max(2, min(int(n), 16))


def _rows_in(batch: Any) -> int:
    sizes = [len(t) for _, leaf in trees.leaves(batch) if (t := trees.as_tensor(leaf)) is not None and t.ndim >= 1]
    return sizes[0] if sizes else 0


def _known(pipeline: Collation, found: Sequence[Content], fed: Any) -> bool:
    """Return whether rows marked where they are now can be read in what comes out."""
    if not any(content.how in ("direct", "pure") for content in found):
        return False
    main = draw(pipeline, found, fed.ids, fed).main()
    return main is not None


def targets_loss(out: Any) -> bool:
    """Return whether a function returned a loss: one number, alone, named, or first of several."""
    if isinstance(out, dict):
        return "loss" in out
    if isinstance(out, tuple | list):
        return bool(out) and targets_loss(out[0])
    return isinstance(out, int | float) or (isinstance(out, torch.Tensor) and out.ndim == 0)


def variety_of_labels(run: Draw) -> bool:
    """Return whether labels of a run name two classes in a row, smoothing apart."""
    for reading in run.readings.values():
        shares = reading.shares
        if shares is None or shares.ndim < 2 or reading.hard or shares.shape[1] < 2:
            continue
        top = np.sort(np.nan_to_num(shares), axis=1)
        second, third = top[:, -2], top[:, -3] if shares.shape[1] > 2 else 0.0
        if bool((second - third > 0.02).any()):
            return True
    return False


def _switch(loader: Any, off: Callable[[], Any] | None) -> tuple[Callable[[], Any] | None, Callable[[], Any]]:
    """Return what switches the mixing of a loader off, None if nothing is known to, and what puts it back."""
    if off is not None:
        return off, lambda: None
    for holder in (loader.collate_fn, loader.dataset, getattr(loader.collate_fn, "vicinity", None)):
        if holder is None or (not hasattr(holder, "__dict__") and not hasattr(holder, "off")):
            continue
        for name in ("mixup_enabled", "enabled", "mix_enabled", "active", "mixing", "use_mixup"):
            if isinstance(getattr(holder, name, None), bool) and getattr(holder, name):
                return (lambda h=holder, n=name: setattr(h, n, False)), (lambda h=holder, n=name: setattr(h, n, True))
        if callable(getattr(holder, "off", None)):
            return holder.off, getattr(holder, "on", lambda: None)
    return None, lambda: None
