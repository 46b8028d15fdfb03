"""Pipelines around a model: training steps, whole loops, losses, and what Lightning, Hugging Face and Keras make of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader

from vicinal.checking import check_batches, criteria, handling, loaders, stacks, step_losses, steps, targets, trees
from vicinal.checking.draws import Draw
from vicinal.checking.marks import Marks
from vicinal.checking.pipelines import Content, Step, Transform, deep_copied
from vicinal.checking.recorder import Recorder
from vicinal.checking.report import Fault
from vicinal.checking.session import MakeBatch, Session, size_for
from vicinal.checking.sources import of_examples
from vicinal.checking.targets import Call, CannotCheck

_EVALUATIONS = ("eval_step", "validation_step", "val_step", "test_step", "evaluate")


def function(session: Session, target: Any, example: Any, evaluate: Any) -> None:
    """Check a function that is a transform or a step: what it returns tells."""
    call = Call(target)
    if call.fixed or len(call.open) not in (1, 2) or call.counters:
        return step(session, target, example, evaluate)

    def is_step(examples: list[Any], n: int, make_batch: MakeBatch) -> bool:
        marks = Marks(examples)
        batch = make_batch([marks.fresh(i) for i in range(n)])
        with Recorder().recording_of() as recording:
            out = Transform(deep_copied(target), marks, n, make_batch).call(batch)
        return bool(recording.calls) or out is None or _is_loss(out)

    check = step if session.fitting(target, example, is_step) else check_batches.transform
    return check(session, target, example, evaluate)


def step(session: Session, target: Any, example: Any, evaluate: Any) -> None:
    """Check a training step."""
    call = Call(target)
    if set(call.open) & targets.BATCHES:
        return _accumulating(session, target, call, example)
    watched = session.fitting(target, example, _running(call))
    _watch(session, watched)
    scope = targets.scope_of(target)
    named = next((scope[name] for name in _EVALUATIONS if name in scope and scope[name] is not target), None)
    session.evaluation_step(evaluate or named, watched)


def _running(run: Callable[[Any], Any], before: Callable[[], Any] = lambda: None) -> Callable[..., Step]:
    """Return what builds a step of examples, and runs it once; what is to be done before is done first."""

    def build(examples: list[Any], n: int, make_batch: MakeBatch) -> Step:
        made = Step(run, Marks(examples), n, make_batch)
        before()
        made.feed(list(range(n)))
        return made

    return build


def _watch(session: Session, step: Step) -> None:
    """Check a training step that runs on its examples."""
    step.feed(list(range(step.n)))
    step.has_labels = not step.marks.labels or not step.with_gradients or steps.watch_labels(step)
    if not step.has_labels:
        session.skipped["labels"] = "the loss of what is mixed does not depend on the batch's labels"
    runs = session.runs(step, 8, steps.draws)
    if not runs or not runs[0].fed.inputs:
        session.skipped["what reaches the model"] = "no call of a module with parameters was seen"
        return
    if runs[0].fed.gradient is None:
        session.skipped["what the loss holds for the labels"] = (
            "the step returned no loss with a gradient and took no backward step"
        )
        return
    if step.is_unsure:
        session.skipped["labels"] = (
            "labels are mixed, and whether rows are mixed inside of the model could not be read there"
        )
        return
    if not step.has_labels:
        return
    session.findings += steps.numbers(step, runs)
    codes = {finding.code for finding in session.findings}
    session.findings += step_losses.loss(step, session.contents, runs, not codes & {"VIC001", "VIC002", "VIC003"})
    session.findings += steps.around(step, runs)
    calls = runs[0].fed.recording.calls if runs[0].fed.recording is not None else []
    if calls:
        session.facts["before the model"] = f"{1e3 * calls[0].seconds:.2f} ms of a step pass before the model is called"


def _accumulating(session: Session, target: Any, call: Call, example: Any) -> None:
    """Check a step of several micro-batches: the update must not depend on how rows are divided."""

    def build(examples: list[Any], n: int, make_batch: MakeBatch) -> tuple[Step, dict[int, float]]:
        marks = Marks(examples)

        def divided(parts: int) -> MakeBatch:
            def make(rows: list[Any]) -> list[Any]:
                size = len(rows) // parts
                return [make_batch(rows[i * size : (i + 1) * size]) for i in range(parts)]

            return make

        made = {parts: Step(call, marks, 16, divided(parts)) for parts in (1, 2, 4)}
        return made[1], {parts: steps.update_size(of) for parts, of in made.items()}

    whole, sizes = session.fitting(target, example, build)
    _accumulation(session, sizes)
    _watch(session, whole)


def _accumulation(session: Session, sizes: dict[int, float], accumulates: bool = True) -> None:
    """Judge the sizes of updates of the same rows, by the number of micro-batches; without accumulation it is a fact."""
    known = {parts: size for parts, size in sizes.items() if size > 0}
    if len(known) > 1 and max(known.values()) > 1.02 * min(known.values()):
        base = known[min(known)]
        shown = ", ".join(
            f"{parts} micro-batches {size / base:.2f} times" for parts, size in known.items() if size is not base
        )
        seen = f"the gradient of the same 16 rows is, in {shown} that of one batch."
        if accumulates:
            session.findings.append(Fault("VIC054", seen))
        else:
            session.facts["accumulation"] = f"none is asked for; with it, {seen}"


def run(session: Session, target: Any, example: Any, evaluate: Any) -> None:
    """Check a function that is given a loader and trains with it."""
    call = _with_loader(target)

    def build(examples: list[Any], n: int, make_batch: MakeBatch) -> tuple[Step, list[Draw]]:
        marks = Marks(examples)
        rows = of_examples(marks, 6 * n).rows
        loader = DataLoader(rows, batch_size=n, collate_fn=None if make_batch is trees.stacked else make_batch)
        whole = Step(lambda _: call(loader), marks, n, lambda rows: rows)
        return whole, steps.runs_of_loop(whole, 6)

    whole, runs = session.fitting(target, example, build)
    if not runs:
        session.skipped["what reaches the model"] = "no call of a module with parameters, with gradients, was seen"
        return
    session.contents = [Content(name, "direct", whole.marks.inputs[0]) for name in runs[0].rows]
    if not session.contents:
        session.skipped["shares of the inputs"] = "what reaches the model has another shape than the loader's rows"
    session.judge(whole, runs, is_loop=True)
    session.findings += steps.numbers(whole, runs)
    session.evaluation(evaluate)


def _with_loader(target: Any) -> Callable[[Any], Any]:
    """Return a loop as a function of the loader it trains with; other loaders that nothing is known of are that one too.

    A loader of that name beside it, as most programs have, is not meant: the loop is given marked rows.
    """
    call = Call(target)
    first = next(name for name in call.by_position if name in targets.LOADERS)
    others = [name for name in call.open if name != first and re.search(r"loader|_dl$", name)]
    call.open = [first, *(name for name in call.open if name != first and name not in others)]
    call.fixed.pop(first, None)

    def run(loader: Any) -> Any:
        call.fixed |= dict.fromkeys(others, loader)
        return call(loader)

    return run


def loss(session: Session, target: Any, example: Any, evaluate: Any) -> None:
    """Check a loss."""
    given = targets.scope_of(target).get("example") if example is None else example
    logits, labels = given if isinstance(given, tuple) and len(given) == 2 else (None, None)
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        logits, labels = None, None  # an example of a step
    classes = criteria.classes_of(target) if logits is None else logits.shape[1]
    ignored = None
    if isinstance(labels, torch.Tensor) and labels.ndim == 1 and int(labels.min()) < 0:
        ignored = int(labels.min())
    session.findings += criteria.findings(target, classes, ignored)
    taken = criteria.takes(target, classes)
    session.facts["mixed labels"] = (
        f"it takes {' and '.join(taken)}"
        if taken
        else "it takes class indices only: mix its losses, lam * f(z, a) + (1 - lam) * f(z, b)"
    )


def lightning(session: Session, target: Any, example: Any, evaluate: Any) -> None:
    """Check a Lightning module by its training and validation steps, in a Trainer where it is one of Lightning's."""
    module = getattr(target, "_orig_mod", target)
    package = stacks.lightning_of(module)
    datamodule = deep_copied(example) if hasattr(example, "train_dataloader") else None
    with stacks.apart(module) as copied:
        if package is None:
            train, valid = _stage(copied, "training_step"), _stage(copied, "validation_step")
        else:
            loop = stacks.LightningLoop(copied, package, stacks.callbacks_of(module), datamodule)
            train, valid = loop.train, loop.validate
        if not hasattr(copied, "validation_step") or (package and not _is_own(copied, "validation_step", package)):
            valid = None
        source = copied if datamodule is None else datamodule
        if example is None or datamodule is not None:
            example = stacks.loader_of(source, "train_dataloader")
        held_out = stacks.loader_of(source, "val_dataloader")
        _model_steps(session, target, copied, train, valid, (example, evaluate, held_out))
    session.facts.pop("before the model", None)  # most of it is the Trainer's


def _is_own(module: Any, name: str, package: str) -> bool:
    """Return whether somebody wrote this method of a LightningModule, rather than Lightning."""
    return not getattr(module, name).__module__.startswith((f"{package}.", "lightning.pytorch."))


def _stage(module: Any, name: str) -> Callable[[Any], Any] | None:
    """Return a step of a module as a function of a batch."""
    method = getattr(module, name, None)
    if method is None:
        return None
    takes, counts = len(targets.names_of(method)), itertools.count()

    def run(batch: Any) -> Any:
        for hook in ("on_before_batch_transfer", "on_after_batch_transfer"):
            batch = getattr(module, hook, lambda batch, _: batch)(batch, 0)
        return method(batch, next(counts)) if takes >= 2 else method(batch)

    return run


def _model_steps(
    session: Session,
    target: Any,
    module: Any,
    train: Callable[[Any], Any] | None,
    valid: Callable[[Any], Any] | None,
    data: tuple[Any, Any, Any],
) -> None:
    """Check what trains and evaluates a module.

    Args:
        session: the check.
        target: what was given.
        module: the module that is trained: the target, or a copy of it.
        train: trains it on a batch.
        valid: evaluates it on a batch; None: it has no evaluation.
        data: the example, the evaluation that was given, and the module's own loader of evaluation; None: there is none.

    """
    example, evaluate, held_out = data
    assert train is not None
    watched = session.fitting(target, example, _running(train, module.train), targets.guessed(train))
    _watch(session, watched)
    if evaluate is not None:
        session.evaluation_step(evaluate, watched)
    if valid is not None:
        module.eval()
        session.evaluation_step(valid, Step(valid, watched.marks, watched.n, _of_evaluation(watched, held_out)))
    module.train()


def _of_evaluation(step: Step, held_out: Any) -> MakeBatch:
    """Return what makes the batches of evaluation: what its loader does, or training does, unless it draws at random."""
    found = loaders.inner(held_out)
    if found is not None:
        return found.collate_fn or trees.stacked
    made = [dict(trees.leaves(step.make_batch([step.marks.fresh(i) for i in range(step.n)]))) for _ in range(4)]
    same = all(
        a is None or b is None or torch.equal(a, b)
        for other in made[1:]
        for name in made[0]
        for a, b in [(trees.as_tensor(made[0][name]), trees.as_tensor(other.get(name)))]
    )
    return step.make_batch if same else trees.stacked


def trainer(session: Session, target: Any, example: Any, evaluate: Any) -> None:
    """Check a Hugging Face Trainer by its collator and steps."""
    if target.train_dataset is None:
        raise CannotCheck("the Trainer has no train_dataset: make it with one")
    if session.smoothing is None and target.args.label_smoothing_factor:
        session.smoothing = target.args.label_smoothing_factor
    with stacks.ready(target):
        examples, collate = stacks.training_of(target)
        marks, n = Marks(examples), size_for(target.args.per_device_train_batch_size)

        def train(batch: Any) -> Any:
            return target.training_step(target.model, dict(batch))

        def valid(batch: Any) -> Any:
            return target.prediction_step(target.model, dict(batch), prediction_loss_only=False)

        step = Step(train, marks, n, collate)
        try:
            step.feed(list(range(n)))
        except Exception as error:  # what `train()` would raise at its first batch
            text = f"{type(error).__name__}: {handling.first_line(error)}"
            raise CannotCheck(f"the Trainer's training_step failed on a batch of its own loader ({text})") from error
        _watch(session, step)
        held_out = stacks.evaluation_of(target)
        if held_out is None:
            session.skipped["evaluation"] = "the Trainer has no eval_dataset"
        else:
            training = target.model.training
            target.model.eval()
            session.evaluation_step(valid, Step(valid, marks, n, held_out))
            target.model.train(training)
        sizes = {parts: steps.accumulated(target, marks, collate, parts) for parts in (1, 2, 4)}
        _accumulation(session, sizes, target.args.gradient_accumulation_steps > 1)


def keras(session: Session, target: Any, example: Any, evaluate: Any) -> None:
    """Check a Keras model by `train_on_batch` and `test_on_batch`."""
    if not getattr(target, "compiled", True):
        raise CannotCheck("the Keras model is not compiled: call compile() before the check")
    if example is None and len(session.examples(target, None)) > 1:  # nothing was found beside it
        example = stacks.examples_for(target) if target.built else None
        if not example:
            raise CannotCheck("the Keras model's shapes are not known: build it, or give a batch as example=")

    def train(batch: Any) -> Any:
        return target.train_on_batch(*batch) if isinstance(batch, tuple | list) else target.train_on_batch(batch)

    def valid(batch: Any) -> Any:
        return target.test_on_batch(*batch) if isinstance(batch, tuple | list) else target.test_on_batch(batch)

    def build(examples: list[Any], n: int, make_batch: MakeBatch) -> Step:
        made = Step(train, Marks(examples), n, make_batch)
        if not target.built:
            valid(make_batch([made.marks.fresh(i) for i in range(n)]))
            session.facts["weights"] = "the model was not built: it is now, and its weights are the first ones"
        with stacks.keras_kept(target), stacks.calls_shown(target):
            made.feed(list(range(n)))
        return made

    watched = session.fitting(target, example, build)
    with stacks.keras_kept(target), stacks.calls_shown(target):
        _watch(session, watched)
        if evaluate is not None:
            session.evaluation_step(evaluate, watched)
        session.evaluation_step(valid, Step(valid, watched.marks, watched.n, _of_evaluation(watched, None)))


def _is_loss(out: Any) -> bool:
    """Return whether a function returned a loss: one number, alone, named, or first of several."""
    if isinstance(out, dict):
        return "loss" in out
    if isinstance(out, tuple | list):
        return bool(out) and _is_loss(out[0])
    return isinstance(out, int | float) or (isinstance(out, torch.Tensor) and out.ndim == 0)
