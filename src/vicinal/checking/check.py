"""Check a pipeline: feed it rows that say who they are, and report how inputs, labels and draws do not fit together."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from torch.utils.data import IterableDataset

from vicinal.checking import check_batches, check_models, generators, loaders, targets, variety
from vicinal.checking.recorder import put_back
from vicinal.checking.report import Fault, Report, ordered
from vicinal.checking.session import Session
from vicinal.checking.targets import CannotCheck, Kind, kind_of


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
        plain: the dataset before mixing, where the loader's dataset holds several: the one whose rows are marked; refused
            where there is no such loader.
        off: switches mixing off; None: `off()` or `mixup_enabled = False` of the collate function or dataset.
        ignore: codes that do not count.
        draws: how often the pipeline is run on the same rows; None: as often as its kind needs.

    Returns:
        The report, which holds the findings with their codes, numbers, meaning and fix.

    Raises:
        CannotCheck: the target, or the example, cannot be checked as it is.
        ValueError: a name in `ignore` is not a code.

    Examples:
        >>> import torch
        >>> def transform(x, y):
        ...     lam, other = 0.7, torch.randperm(len(x))
        ...     return lam * x + (1 - lam) * x[other], y  # the labels stay
        >>> check(transform).codes
        ['VIC002']

    Source: Zhang et al. 2018, section 2: inputs and labels are mixed by one lambda and one partner.

    """
    start = time.perf_counter()
    if off is not None and not callable(off):
        raise CannotCheck(f"off must be what switches mixing off when it is called, got {off!r}")
    ordered((), ignore)  # refuses unknown codes before anything runs
    session = Session(alpha, p, smoothing, off, draws, plain)
    report = Report(targets.describe(target))
    report.file, report.line = targets.place_of(target)
    with put_back(target, evaluate), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        generators.seed_all(20181)
        _target(session, target, example, kind, evaluate)
    if not (session.is_read or session.findings or session.facts):
        raise CannotCheck(
            "nothing that came out could be read"
            + "".join(f"; {name}: {reason}" for name, reason in session.skipped.items())
        )
    seen = dict.fromkeys(session.findings)
    report.findings, report.ignored = ordered(seen, ignore)
    report.facts, report.skipped = session.facts, session.skipped
    report.seconds = time.perf_counter() - start
    return report


def _target(session: Session, target: Any, example: Any, kind: Kind | None, evaluate: Any) -> None:
    """Check a target of any kind."""
    kind = kind or kind_of(target)
    if kind == "factory":
        return _factory(session, target, example, evaluate)
    if isinstance(target, tuple | list) and len(target) == 2 and loaders.inner(target[0]) is not None:
        target, evaluate, kind = target[0], evaluate or target[1], "loader"
    if session.plain is not None and (kind != "loader" or not loaders.has_rows(target)):
        raise CannotCheck(
            "plain chooses among the datasets that a loader's dataset holds, and this has none: leave it out"
        )
    session.declared_by(target)
    return _KINDS[kind](session, target, example, evaluate)


_EVALUATION_LOADERS = ("eval_loader", "val_loader", "valid_loader", "make_eval_loader", "make_val_loader")
_KINDS: dict[str, Callable[[Session, Any, Any, Any], None]] = {
    "loader": check_batches.loader,
    "transform": check_batches.transform,
    "collate": check_batches.collate,
    "batches": check_batches.batches,
    "step": check_models.step,
    "run": check_models.run,
    "loss": check_models.loss,
    "lightning": check_models.lightning,
    "trainer": check_models.trainer,
    "keras": check_models.keras,
    "unknown": check_models.function,
}


# -- functions that make what is checked


def _factory(session: Session, target: Any, example: Any, evaluate: Any) -> None:
    names = targets.names_of(target)
    if {"rank", "world_size"} <= set(names):
        return _ranks(session, target, example, evaluate)
    if "epoch" in names:
        return _resumed(session, target, example, evaluate)
    if missing := [parameter.name for parameter in targets.required(target)]:
        raise CannotCheck(
            f"{targets.describe(target)} needs {', '.join(missing)}: give what it makes, or a function without arguments"
        )
    made = target()
    if isinstance(made, dict) and "train" in made:
        evaluate = evaluate or next((made[k] for k in ("val", "valid", "eval", "test") if k in made), None)
        made = made["train"]
    if evaluate is None and loaders.inner(loaders.of_training(made)) is not None and not isinstance(made, tuple | list):
        scope = targets.scope_of(target)
        evaluate = next((scope[name] for name in _EVALUATION_LOADERS if name in scope), None)
    if made is None:
        raise CannotCheck(
            f"{targets.describe(target)}() returned None: give what returns a loader, a transform or a step"
        )
    return _target(session, made, example, None, evaluate)


def _ranks(session: Session, target: Any, example: Any, evaluate: Any) -> None:
    made = []
    for rank in range(2):
        with generators.as_new_process(rank, rank, 2):
            made.append(target(rank=rank, world_size=2))
    first = made[0]
    _target(session, first, example, None, evaluate)
    loader = loaders.inner(loaders.of_training(first))
    if loader is None or isinstance(loader.dataset, IterableDataset):
        session.skipped["ranks"] = "what was made is not a loader of rows"
        return
    rows = [loaders.rows_of_epoch(loaders.of_training(of)) for of in made]
    if all(of is not None for of in rows):
        known = [of for of in rows if of is not None]
        session.findings += loaders.over_ranks(known, loaders.size_of_whole(loader.dataset), loader.batch_size or 1)
    shares = []
    for rank in range(2):
        with generators.as_new_process(rank, rank, 2):
            shares.append(check_batches.shares(session, target(rank=rank, world_size=2)))
    if variety.repeated(*shares):
        session.findings.append(Fault("VIC024", f"ranks 0 and 1 drew the same shares: {loaders.few(shares[0])}."))


def _resumed(session: Session, target: Any, example: Any, evaluate: Any) -> None:
    """Check a factory of an epoch's loader: in a new process, epoch 1 must not draw what epoch 0 drew."""
    with generators.as_new_process(0):
        first = target(epoch=0)
    _target(session, first, example, None, evaluate)
    shares = []
    for epoch in range(2):
        with generators.as_new_process(epoch):
            shares.append(check_batches.shares(session, target(epoch=epoch)))
    if variety.repeated(*shares):
        session.findings.append(
            Fault("VIC025", f"in a new process epoch 1 begins with the shares of epoch 0: {loaders.few(shares[0])}.")
        )
