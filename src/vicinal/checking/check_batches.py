"""Pipelines of batches: transforms, collate functions, loaders, streams, and what makes loaders for ranks and epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import nn
from torch.utils.data import DataLoader, IterableDataset, default_collate

from vicinal.checking import generators, handling, loaders, targets, trees
from vicinal.checking.draws import draw
from vicinal.checking.labels import read
from vicinal.checking.marks import Marks
from vicinal.checking.pipelines import Collation, Pipeline, Transform, Wrapped, contents, deep_copied
from vicinal.checking.report import Fault
from vicinal.checking.session import MakeBatch, Session, size_for
from vicinal.checking.sources import gives_same_memory, of_examples
from vicinal.checking.targets import CannotCheck


def transform(session: Session, target: Any, example: Any, evaluate: Any) -> None:
    """Check a function of batches."""
    function = deep_copied(target)

    def build(examples: list[Any], n: int, make_batch: MakeBatch) -> Transform:
        made = Transform(function, Marks(examples), n, make_batch)
        made.feed(list(range(n)))
        return made

    pipeline = session.fitting(target, example, build)
    if isinstance(target, nn.Module) and not target.training:
        session.facts["mode"] = "the module is in eval mode"
    session.runs(pipeline, 24)
    session.findings += handling.sizes(pipeline, session.contents, pipeline.n)
    if any(content.how != "random" for content in session.contents):
        session.findings += handling.memory_format(pipeline, session.contents)
        if changed := handling.other_dtypes(pipeline, session.contents):
            session.facts["other dtypes"] = changed
        fact, finding = handling.cost(pipeline)
        session.facts["cost"] = fact
        session.findings += [finding] if finding else []


def collate(session: Session, target: Any, example: Any, evaluate: Any) -> None:
    """Check a collate function."""
    function = deep_copied(target)

    def build(examples: list[Any], n: int, make_batch: MakeBatch) -> Collation:
        made = Collation(function, of_examples(Marks(examples)), n)
        made.feed(list(range(n)))
        return made

    pipeline = session.fitting(target, example, build)
    pipeline.source.rows.keeps = True
    session.findings += handling.overwrites(pipeline)
    pipeline.source.rows.keeps = False
    session.runs(pipeline, 16)
    session.findings += handling.sizes(pipeline, session.contents, pipeline.n)


def loader(session: Session, target: Any, example: Any, evaluate: Any) -> None:
    """Check a loader whose dataset has rows."""
    found = loaders.inner(target)
    assert found is not None
    if not loaders.has_rows(found):
        return batches(session, target, example, evaluate)
    size = found.batch_size or getattr(found.batch_sampler, "batch_size", None) or 8
    function = deep_copied(found.collate_fn or default_collate)
    if len(found.dataset) == 0:  # pyright: ignore
        raise CannotCheck("the loader's dataset is empty")
    if found.drop_last and len(found.dataset) < size:  # pyright: ignore
        raise CannotCheck(f"an epoch has no batch: {len(found.dataset)} rows, batches of {size} and drop_last=True")  # pyright: ignore
    pipeline = session.over_marked(found.dataset, function, int(size), session.plain, _around(target, found))
    _overwritten(session, pipeline, found.dataset)
    session.runs(pipeline, 16)
    session.findings += loaders.fixed_partners(pipeline)
    _last_batch(session, found, pipeline)
    if any(finding.code == "VIC036" for finding in session.findings):
        session.skipped["epochs"] = "the last batch of an epoch fails"
    elif session.any_mixed:
        session.findings += loaders.findings(loaders.Epochs(target, pipeline, session.contents))
        _switched_off(session, target, found, pipeline)
    elif found.num_workers:
        session.skipped["workers"] = "nothing is mixed"
    session.evaluation(evaluate)


def _switched_off(session: Session, target: Any, loader: DataLoader[Any], pipeline: Collation) -> None:
    """See whether mixing that is switched off stops in persistent workers; the switch is put back."""
    off, on = _switch(loader, session.off)
    if off is None or not loader.num_workers or not loader.persistent_workers:
        return
    try:
        # the switch itself: a copy of one in shared memory would not be shared
        session.findings += loaders.switched_off(loaders.Epochs(target, pipeline, session.contents, copies=False), off)
    finally:
        on()


def _overwritten(session: Session, pipeline: Collation, dataset: Any) -> None:
    """See whether the dataset is overwritten, where it returns the same memory each time."""
    original = pipeline.source.rows.original
    original = dataset if original is None else original
    if not gives_same_memory(original):
        return
    pipeline.source.rows.keeps = True
    session.findings += handling.overwrites(pipeline)
    pipeline.source.rows.keeps = False


def _last_batch(session: Session, loader: DataLoader[Any], pipeline: Collation) -> None:
    total, size = len(loader.dataset), loader.batch_size  # pyright: ignore
    if size is None or loader.drop_last or total % size == 0:
        return
    try:
        run = draw(pipeline, session.contents, list(range(total % size)))
    except Exception as error:  # what the user would see at the end of the epoch
        trees.raise_if_ours(error)
        text = f"{type(error).__name__}: {handling.first_line(error)}"
        session.findings.append(Fault("VIC036", f"the last batch of an epoch has {total % size} rows: {text}"))
        return
    if total % size == 1 and not run.is_mixed() and session.any_mixed:
        session.findings.append(Fault("VIC037", "the last batch of an epoch has 1 row, and it came out as it went in."))


def batches(session: Session, target: Any, example: Any, evaluate: Any) -> None:
    """Check what can be seen of batches whose dataset cannot be marked: streams, and iterables of other libraries."""
    found = loaders.inner(target)
    stream = found.dataset if found is not None else None
    if isinstance(stream, IterableDataset):
        return _stream(session, target, found, stream, evaluate)
    batches = [batch for batch, _ in zip(iter(target), range(16), strict=False)]
    if not batches:
        raise CannotCheck("the loader has no batches")
    marks = Marks(targets.unbatched(batches[0]))
    session.skipped["shares of the inputs"] = (
        "the rows behind the batches cannot be marked; check the collate function or the transform instead"
    )
    _labels_alone(session, batches, marks)
    session.evaluation(evaluate)


def _around(target: Any, found: Any) -> Callable[[Iterator[Any]], Any] | None:
    """Return what makes of loaders the object that holds them; None if the target is the loader itself."""
    if target is not found:
        return lambda given: loaders.replaced(target, lambda _: next(given))
    if type(found).__iter__ is DataLoader.__iter__:
        return None
    return lambda given: loaders.refilled(found, next(given))  # a class of its own, which changes batches


def _stream(session: Session, target: Any, loader: Any, stream: Any, evaluate: Any) -> None:
    examples = [example for example, _ in zip(iter(stream), range(24), strict=False)]
    if not examples:
        raise CannotCheck("the stream has no examples")
    n = size_for(loader.batch_size)
    function = deep_copied(loader.collate_fn or default_collate)
    source, around = of_examples(Marks(examples)), _around(target, loader)
    pipeline = Collation(function, source, n) if around is None else Wrapped(around, function, source, n)
    session.runs(pipeline, 16)
    session.evaluation(evaluate)


def _labels_alone(session: Session, batches: Sequence[Any], marks: Marks) -> None:
    pipeline = Pipeline(marks, 1)
    for spec in marks.labels:
        kinds, problems = set(), dict[str, str]()
        for batch in batches:
            _, found = pipeline.split(batch)
            reading = read(found, spec, trees.rows(batch) or 0)
            kinds.add(reading.kind)
            problems |= dict(reading.problems)
        session.findings += [Fault(code, seen) for code, seen in problems.items()]


def shares(session: Session, made: Any) -> list[list[float]]:
    """Return the shares of the first epoch of a loader, its generators as they are."""
    made = loaders.of_training(made)
    found = loaders.inner(made)
    if found is None:
        return []
    with generators.kept():
        pipeline = session.over_marked(
            found.dataset, deep_copied(found.collate_fn or default_collate), found.batch_size or 8, None
        )
        of = session.contents or contents(pipeline, pipeline.feed(list(range(pipeline.n))))
    return loaders.Epochs(made, pipeline, of).epoch()


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
