"""One check in the making: what was declared, what was found, and the questions that every kind of pipeline is asked."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from torch.utils.data import IterableDataset, default_collate

from vicinal.checking import agreement, handling, loaders, targets, trees, variety
from vicinal.checking.draws import Draw, draw, is_mixed, rows_before
from vicinal.checking.marks import Marks
from vicinal.checking.pipelines import Collation, Content, Step, Wrapped, contents, deep_copied
from vicinal.checking.report import Fault
from vicinal.checking.sources import candidates, is_random
from vicinal.checking.targets import Call, CannotCheck
from vicinal.compose import Chain, Choice, Scheduled
from vicinal.vicinities import ERM, GaussianNoise, InputMixup, LabelSmoothing
from vicinal.vicinity import Vicinity

_EXAMPLES = (  # names beside a target that are taken for its example
    *("example", "example_batch", "loader", "train_loader", "dataloader", "make_loader", "dataset", "train_set"),
)
_MANY = 160  # draws that a distribution is judged by
_SECONDS = 1.5  # that they may take


MakeBatch = Callable[[list[Any]], Any]
Built = TypeVar("Built")


class Session:
    """One check in the making.

    Args:
        alpha: declared parameter of Beta(alpha, alpha).
        p: declared probability of mixing.
        smoothing: declared label smoothing.
        off: what switches mixing off.
        count: how often a pipeline is run on the same rows; None: as often as its kind needs.
        plain: the one of the datasets in a loader's that is marked; None: as deep as rows can be read.

    """

    def __init__(
        self,
        alpha: float | None,
        p: float | None,
        smoothing: float | None,
        off: Callable[[], Any] | None,
        count: int | None,
        plain: Any = None,
    ) -> None:
        self.alpha, self.p, self.smoothing, self.off, self.count = alpha, p, smoothing, off, count
        self.plain = plain
        self.findings: list[Fault] = []
        self.facts: dict[str, str] = {}
        self.skipped: dict[str, str] = {}
        self.mixes = True  # what is meant
        self.inputs_alone = False
        self.before = False  # mixing comes before a nonlinear transform
        self.any_mixed = False
        self.is_read = False  # whether anything that came out could be read
        self.contents: list[Content] = []
        self.failed: Exception | None = None

    def declared_by(self, target: Any) -> None:
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

    def cannot(self, target: Any, example: Any) -> CannotCheck:
        """Return the error that says on what examples a target failed."""
        error = self.failed
        why = "" if error is None else f" ({type(error).__name__}: {handling.first_line(error)})"
        what = "the example that was given" if example is not None else "examples of images, or of its model's sizes"
        return CannotCheck(f"{targets.describe(target)} failed on {what}{why}: give a batch that it takes as example=")

    def examples(self, target: Any, example: Any) -> list[tuple[list[Any], int, MakeBatch]]:
        """Return lists of examples to try, each with a batch size and what makes a batch of them."""
        if example is not None:
            return [_tried(example)]
        scope = targets.scope_of(target)
        for name in _EXAMPLES:
            if name in scope and scope[name] is not target:
                with contextlib.suppress(CannotCheck):
                    return [_tried(scope[name])]
        usual = targets.default_examples()
        if type(target).__module__.startswith("keras"):  # whose images have their channels last
            usual.reverse()
        return [(examples, 8, trees.stacked) for examples in [*targets.guessed(target), *usual]]

    def fitting(
        self, target: Any, example: Any, build: Callable[[list[Any], int, MakeBatch], Built], more: Sequence[Any] = ()
    ) -> Built:
        """Return what a function builds of the first examples that the target takes.

        Args:
            target: what is checked.
            example: what was given for it.
            build: of examples, a batch size and what makes a batch, builds a pipeline and runs it once.
            more: lists of examples to be tried before those that are usual.

        Raises:
            CannotCheck: the target failed on all of them.

        """
        tries = self.examples(target, example)
        if example is None and len(tries) > 1:  # nothing was found beside it
            tries = [*((examples, 8, trees.stacked) for examples in more), *tries]
        for examples, n, make_batch in tries:
            try:
                return build(examples, n, make_batch)
            except CannotCheck:
                raise
            except Exception as error:  # an example that does not fit: the next one
                trees.raise_if_ours(error)
                self.failed = self.failed or error  # of the most natural one
        raise self.cannot(target, example)

    def runs(
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
        self._before(pipeline, runs)
        self.judge(pipeline, runs)
        return runs

    def _before(self, pipeline: Any, runs: list[Draw]) -> None:
        """Look for rows that were mixed before a nonlinear transform, where they are no sums of what it made of each."""
        for content in self.contents:
            known = [row.is_known for run in runs for row in run.rows.get(content.name, [])]
            if content.how != "pure" or not known or sum(known) > 0.7 * len(known) or any(run.main() for run in runs):
                continue
            found = [rows_before(pipeline, content, run, 2) for run in runs[:2]]
            if sum(row.is_known for rows in found for row in rows) < 0.5 * sum(map(len, found)):
                self.skipped[f"shares of {content.name}"] = (
                    "its rows are neither sums of what comes out of single rows, nor what comes out of sums of two"
                )
                continue
            for run, rows in zip(runs, found, strict=False):
                run.rows[content.name] = rows
            del runs[len(found) :]
            self.facts["order"] = "rows are mixed before a nonlinear transform"
            self.before = True

    def judge(self, pipeline: Any, runs: list[Draw], is_loop: bool = False) -> None:
        """Judge several runs of a pipeline, of whatever kind; of a whole loop they are all there is."""
        found = list(agreement.findings(pipeline, self.contents, runs, self.smoothing))
        self.is_read |= any(run.main() is not None or run.readings for run in runs)
        for name, reading in runs[0].readings.items() if runs else ():
            if reading.shares is None and not reading.problems:
                self.skipped[f"label {name}"] = reading.form
        if not any(content.how != "constant" for content in self.contents):
            self.skipped["shares of the inputs"] = "nothing came out that depends on the rows that went in"
        if self.inputs_alone:
            meant = {"VIC001", "VIC002", "VIC004", "VIC011"}
            self.facts["labels"] = (
                "InputMixup mixes inputs alone, on purpose (the ablations of the paper's section 3.8)"
            )
            found = [finding for finding in found if finding.code not in meant]
        self.findings += found
        self.findings += handling.findings(pipeline, [] if self.before else self.contents, runs)
        self.any_mixed = any(run.is_mixed() for run in runs)
        unknown = [content.name for content in self.contents if content.how == "random"]
        if unknown and len(unknown) == len([c for c in self.contents if c.how != "constant"]):
            self._unknown(runs, unknown)
        labels_mixed = any(run.readings and labels_are_mixed(run, pipeline.marks) for run in runs)
        elsewhere = isinstance(pipeline, Step) and pipeline.with_gradients > 1 and any(pipeline.changed)
        nothing = not self.any_mixed and not elsewhere and not labels_mixed and not unknown and not found
        inside = (
            isinstance(pipeline, Collation) and pipeline.source.depth == 0 and is_random(pipeline.source.rows.original)
        )
        if nothing and inside:
            self.skipped["mixing inside of the dataset"] = (
                "its rows differ each time they are asked for, and what it makes them of was not found in its attributes"
            )
        elif nothing and self.mixes and self.alpha != 0 and self.p != 0 and any(run.main() is not None for run in runs):
            self.findings.append(
                Fault("VIC005", f"in {len(runs)} batches of {pipeline.n} rows every row came out as it went in.")
            )
        lambdas, rates = list[float](), list[float]()
        if self.alpha is not None or self.p is not None:
            lambdas, rates = _of_runs(runs) if is_loop else self._many(pipeline)
        self.findings += variety.findings(runs, self.alpha, self.p, rates, lambdas, pipeline.marks.first_class)
        self._facts(pipeline, runs)

    def _unknown(self, runs: list[Draw], names: list[str]) -> None:
        self.skipped["shares of the inputs"] = (
            f"{', '.join(names)}: what comes out differs from run to run even for copies of one row, so that who is in a "
            "row cannot be read; switch random augmentation off for the check"
        )
        if not any(run.readings for run in runs):
            self.skipped["labels"] = "no labels came out"

    def _many(self, pipeline: Any) -> tuple[list[float], list[float]]:
        """Run a pipeline many times; return different lambdas of weighted sums, and the part of mixed rows of each batch."""
        ids, found = list(range(pipeline.n)), list[Draw]()
        start = time.perf_counter()
        while len(found) < _MANY and time.perf_counter() - start < _SECONDS:
            found.append(draw(pipeline, self.contents[:1], ids))
            if found[-1].main() is None:
                break
        return _of_runs(found)

    def _facts(self, pipeline: Any, runs: list[Draw]) -> None:
        mixed = [run for run in runs if run.is_mixed()]
        lams = [lam for run in mixed for lam in run.lambdas()]
        if mixed:
            self.facts["mixed"] = f"{len(mixed)} of {len(runs)} batches of {pipeline.n} rows"
        if lams:
            per_row = any(max(values) - min(values) > 1e-3 for run in mixed if len(values := run.lambdas()) > 1)
            per = "row" if per_row else "batch"
            self.facts["lambda"] = f"one per {per}, mean {np.mean(lams):.2f}, from {min(lams):.3f} to {max(lams):.3f}"
        boxes = sum(row.pieces is not None for run in mixed for row in run.main() or [])
        sums = sum(row.pieces is None for run in mixed for row in run.main() or [])
        if boxes and mixed:
            self.facts["how"] = f"{sums} rows as weighted sums, {boxes} as boxes or masks"
        steps_of = {(j - i) % pipeline.n for run in mixed for i, j in run.partners()}
        if len(steps_of) == 1 and len(mixed) > 2:
            self.facts["partners"] = f"always the row {steps_of.pop()} further on"

    def evaluation(self, evaluate: Any) -> None:
        """Check a loader of evaluation."""
        if evaluate is None:
            return
        if callable(evaluate) and not targets.required(evaluate) and loaders.inner(evaluate) is None:
            evaluate = evaluate()
        found = loaders.inner(evaluate)
        if found is None or isinstance(found.dataset, IterableDataset):
            self.skipped["evaluation"] = "its rows cannot be marked"
            return
        pipeline = self.over_marked(
            found.dataset, deep_copied(found.collate_fn or default_collate), found.batch_size or 8, None
        )
        ids = list(range(pipeline.n))
        of = contents(pipeline, pipeline.feed(ids))
        runs = [draw(pipeline, of, ids) for _ in range(8)]
        mixed = [run for run in runs if run.is_mixed() or labels_are_mixed(run, pipeline.marks)]
        if mixed:
            self.findings.append(
                Fault(
                    "VIC040", f"{len(mixed)} of {len(runs)} batches of the evaluation loader are mixed.", "evaluation"
                )
            )
        else:
            self.facts["evaluation"] = f"all of {len(runs)} batches were plain, as they should be"

    def evaluation_step(self, evaluate: Any, step: Step) -> None:
        """Check a step of evaluation: what reaches the model there must be the rows themselves."""
        if evaluate is None:
            return
        if loaders.inner(evaluate) is not None:
            return self.evaluation(evaluate)
        ours = getattr(evaluate, "__module__", "").startswith(
            "vicinal.checking"
        )  # of a module or a Trainer: of a batch
        call = evaluate if ours else Call(evaluate)
        watched = Step(call, step.marks, step.n, step.make_batch)
        ids = list(range(step.n))
        try:
            fed = watched.step([step.marks.fresh(i) for i in ids], ids, None)
            of = contents(watched, fed)
            runs = [
                draw(watched, of, ids, watched.step([step.marks.fresh(i) for i in ids], ids, None)) for _ in range(6)
            ]
        except Exception as error:  # an evaluation that is called in another way is told, not guessed
            trees.raise_if_ours(error)
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
            self.facts["evaluation"] = f"in all of {len(runs)} batches plain rows reached the model, as they should"

    def over_marked(
        self,
        dataset: Any,
        function: MakeBatch,
        n: int,
        plain: Any,
        wrapper: Callable[[Iterator[Any]], Any] | None = None,
    ) -> Collation:
        """Return a collate function over the dataset, marked as deep as its rows are still known in what comes out.

        Args:
            dataset: of the loader.
            function: its collate function.
            n: its batch size.
            plain: the dataset before mixing, if it was given.
            wrapper: makes of a loader the object that holds it; None: there is none.

        Raises:
            CannotCheck: plain is none of the datasets that were found in the dataset.

        """
        n, size = min(size_for(n), len(dataset)), min(n, len(dataset))
        ways = candidates(dataset)
        if plain is not None:
            ways = [way for way in ways if way.rows.original is plain]
            if not ways:
                raise CannotCheck("plain is not a dataset that the loader's dataset holds in its attributes")
        labels_needed = bool(ways[-1].marks.labels)
        for source in ways:
            if labels_needed and not source.marks.labels:
                continue
            for rows in dict.fromkeys((n, size)):  # fewer rows, or as many as the loader has, if only these are taken
                pipeline = (
                    Collation(function, source, rows) if wrapper is None else Wrapped(wrapper, function, source, rows)
                )
                try:
                    fed = pipeline.feed(list(range(rows)))
                    found = contents(pipeline, fed)
                    break
                except Exception as error:  # marked there, the dataset fails: a layer further out is tried
                    trees.raise_if_ours(error)
                    if source is ways[-1] and rows == size:
                        raise
            else:
                continue
            if source is ways[-1] or _known(pipeline, found, fed):
                return pipeline
        raise AssertionError


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


def _tried(example: Any) -> tuple[list[Any], int, MakeBatch]:
    """Return the examples of what was given or found, the batch size, and what makes a batch of them."""
    given = targets.made(example)
    n = None if is_examples(given) else targets.size_of_batch(given)
    return targets.examples_of(given), size_for(n), targets.collation_of(given)


def is_examples(given: Any) -> bool:
    """Return whether a list is one of examples rather than a batch."""
    return isinstance(given, list) and len(given) > 0 and isinstance(given[0], tuple | dict)


def size_for(n: int | None) -> int:
    """Return how many rows a batch of a check has, for batches of n; None: as many as are usual."""
    return 8 if n is None else max(1, min(int(n), 16))


def _known(pipeline: Collation, found: Sequence[Content], fed: Any) -> bool:
    """Return whether rows marked where they are now can be read in what comes out."""
    if not any(content.how in ("direct", "pure") for content in found):
        return False
    main = draw(pipeline, found, fed.ids, fed).main()
    return main is not None


def _of_runs(runs: Sequence[Draw]) -> tuple[list[float], list[float]]:
    """Return the different lambdas of weighted sums, and the part of mixed rows of each run."""
    lambdas, rates = list[float](), list[float]()
    for run in runs:
        main = run.main()
        if not main:
            continue
        rates.append(sum(is_mixed(row) for row in main) / len(main))
        if not any(row.pieces is not None and is_mixed(row) for row in main):
            exact = max(row.error for row in main) < 1e-3  # otherwise one lambda looks like several
            lambdas += list({round(lam, 4): lam for lam in run.lambdas()}.values())[: None if exact else 1]
    return lambdas, rates


def labels_are_mixed(run: Draw, marks: Marks) -> bool:
    """Return whether labels of a run that named one class name two in a row, smoothing apart."""
    for name, reading in run.readings.items():
        spec = marks.specs[name]
        if spec.role not in ("indices", "one-hot", "map") or spec.is_soft:
            continue
        shares = reading.shares
        if shares is None or shares.ndim < 2 or reading.hard or shares.shape[1] < 2:
            continue
        top = np.sort(np.nan_to_num(shares), axis=1)
        second, third = top[:, -2], top[:, -3] if shares.shape[1] > 2 else 0.0
        if bool((second - third > 0.02).any()):
            return True
    return False
