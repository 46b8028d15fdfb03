"""The folder of a run: who may write there, what is written at the end, and how it is read again.

recipe.json       what is trained; another recipe is refused this folder
metrics.jsonl     one line per epoch, for whoever watches; made anew when a run resumes
step-*.ckpt       the last two checkpoints, until the run is done
nonfinite-*.pt    the batch of a step at which inf or nan appeared
tensorboard/      the lines of metrics.jsonl once more, where asked for
results.json      the figures of a finished run, and the SHA-256 of its weights
weights.pt        the weights of a finished run, for torch.load(weights_only=True)
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import vicinal
from vicinal.lab import atomic, limits, models, records, stored
from vicinal.lab.data.dataset import Data
from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe, RecipeMismatch, from_json
from vicinal.lab.training import checkpoint, weights

FORMAT = 3  # of a run folder: it goes up when names or meanings change
METRICS, RESULTS = "metrics.jsonl", "results.json"
_RECIPE, _WEIGHTS, _LOCK = "recipe.json", "weights.pt", ".lock"
_LAST = 10  # epochs whose median test error is the paper's figure
_BATCH = 500


@dataclass(frozen=True)
class ErrorSummary:
    """Test errors of a run, as fractions."""

    median_of_last_10: float
    best: float
    last: float


@dataclass(frozen=True)
class Stretch:
    """Steps that were trained under the same circumstances: from `step` (0: the first) to the next stretch.

    With another number of processes, what these draw differs, and so do the weights of the run.
    """

    step: int
    processes: int
    torch: str  # version of PyTorch


@dataclass(frozen=True, kw_only=True)
class _EpochFigures:
    """A line of metrics.jsonl; a number that is none is null."""

    epoch: int  # from 1
    step: int  # taken so far
    learning_rate: float  # of its last step
    train_mixed_loss: float
    train_mixed_accuracy: float
    examples_per_second: float | None
    test_error: float
    test_nll: float
    test_top5_error: float | None = None
    test_ema_error: float | None = None
    test_ema_nll: float | None = None
    test_ema_top5_error: float | None = None


@dataclass(frozen=True)
class RunResults:
    """What results.json holds: the figures of a finished run, with the lines of metrics.jsonl, and where it was trained."""

    recipe: Recipe
    test_error: ErrorSummary
    epochs: list[dict[str, Any]]
    processes: int  # of the last stretch
    device: str
    versions: dict[str, str]
    stretches: list[Stretch]  # more than one where the run went on under other circumstances
    weights_sha256: str  # of weights.pt


def check_epochs(epochs: Sequence[dict[str, Any]]) -> None:
    """Check lines of metrics.jsonl: epochs from 1 on, each after more steps than the one before.

    Raises:
        records.Mismatch: they are not these.

    """
    before = 0
    for i, line in enumerate(epochs):
        at = f"epochs[{i}]"
        figures = records.from_json(_EpochFigures, line, at)
        _check(figures.epoch == i + 1, f"{at}.epoch must be {i + 1}, found {figures.epoch}")
        _check(figures.step > before, f"{at}.step must be more than {before}, found {figures.step}")
        before = figures.step
        for name in ("train_mixed_accuracy", "test_error", "test_top5_error", "test_ema_error", "test_ema_top5_error"):
            value = getattr(figures, name)
            # sums of shares: 1 may become a little more
            _check(value is None or -1e-9 <= value <= 1 + 1e-9, f"{at}.{name} must lie in [0, 1], found {value!r}")


def check_stretches(stretches: Sequence[Stretch], step: int) -> None:
    """Check that stretches lead from the first step to `step`.

    Raises:
        records.Mismatch: they do not.

    """
    steps = [stretch.step for stretch in stretches]
    _check(steps[:1] == [0] and steps == sorted(steps), "stretches must begin at step 0, one after the other")
    _check(steps[-1] <= step, f"stretches must begin at step {step} or before, found {steps[-1]}")
    for i, stretch in enumerate(stretches):
        _check(1 <= stretch.processes < 2**32, f"stretches[{i}].processes must be 1 or more, found {stretch.processes}")


def _check(right: bool, reason: str) -> None:
    if not right:
        raise records.Mismatch(reason)


# -- while it is trained -----------------------------------------------------------------------------------------------


def holds_run(folder: Path, recipe: Recipe) -> bool:
    """Return whether the folder holds a run of this recipe; False where there is nothing yet.

    Raises:
        UserError: it holds something else.

    """
    path = folder / _RECIPE
    try:
        limits.check_kept(folder, (_RECIPE, METRICS, RESULTS, _WEIGHTS))
    except OSError as error:
        found = error.filename or folder
        raise UserError(
            f"{found} cannot be used ({(error.strerror or str(error)).lower()}): {_advice(folder)}"
        ) from error
    if path.exists():
        record = _read_recipe(path)
        if record.vicinal != vicinal.__version__:
            raise UserError(
                f"{folder} holds a run of vicinal {record.vicinal[:40]!r}, and this is {vicinal.__version__}: go on with "
                "that version, or choose another --out"
            )
        if record.fingerprint != recipe.fingerprint():
            raise UserError(f"{folder} holds a run of another recipe; choose another --out, or remove that folder")
        return True
    # a run that was killed at its very beginning leaves no more than these
    if folder.exists() and any(found.name != _LOCK and not atomic.is_partial(found) for found in folder.iterdir()):
        raise UserError(f"{folder} is there already and is not a run; choose another --out")
    return False


def read_results(folder: Path, recipe: Recipe) -> RunResults | None:
    """Return the results of a run; None if it is not done.

    Raises:
        UserError: they, or the weights that they are of, are damaged, or of something else.

    """
    if not holds_run(folder, recipe) or not (folder / RESULTS).exists():
        return None
    results = load_results(folder)
    if results.recipe != recipe:
        raise UserError(f"{folder / RESULTS} is of another recipe than {_RECIPE} beside it: {_advice(folder)}")
    _read_weights(folder, results)
    checkpoint.remove_all(folder)
    return results


@contextmanager
def acquired(folder: Path, recipe: Recipe) -> Iterator[None]:
    """Make the folder, or take up the run in it; nobody else trains there while the `with` lasts.

    Raises:
        UserError: another process trains there, or the folder holds something else.

    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic.locked(folder / _LOCK) as ours:
        if not ours:
            raise UserError(
                f"another process trains in {folder}; wait for it, or end it (a killed torchrun may leave its processes)"
            )
        if not holds_run(folder, recipe):
            write_recipe(folder, recipe)
        checkpoint.remove_partial(folder)
        yield


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Write what is trained in a folder."""
    record = _RecipeRecord(recipe.fingerprint(), vicinal.__version__, asdict(recipe))
    stored.write(folder / _RECIPE, records.to_json(record), FORMAT, indent=1)


def write_results(
    folder: Path,
    recipe: Recipe,
    model: nn.Module,
    epochs: Sequence[dict[str, Any]],
    stretches: Sequence[Stretch],
    device: str,
) -> RunResults:
    """Write the weights and the figures of a finished run; return the figures.

    Args:
        folder: of the run.
        recipe: of the run.
        model: as trained.
        epochs: the lines of metrics.jsonl.
        stretches: of the training.
        device: that it used.

    """
    errors = [line["test_error"] for line in epochs]
    summary = ErrorSummary(statistics.median(errors[-_LAST:]), min(errors), errors[-1])
    versions = {"vicinal": vicinal.__version__, "torch": str(torch.__version__)}
    content = weights.dump(model)
    digest = hashlib.sha256(content).hexdigest()
    results = RunResults(
        recipe, summary, [*epochs], stretches[-1].processes, device, versions, [*stretches], weights_sha256=digest
    )
    atomic.write(folder / _WEIGHTS, content)
    stored.write(folder / RESULTS, records.to_json(results), FORMAT, indent=1)
    checkpoint.remove_all(folder)
    return results


# -- when it is done ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _RecipeRecord:
    """What recipe.json holds."""

    fingerprint: str
    vicinal: str  # version
    recipe: dict[str, Any]


def load_recipe(folder: Path) -> Recipe:
    """Return the recipe of a run folder.

    Raises:
        UserError: the folder is not a run of this version, or its recipe has values that no recipe has.

    """
    path = folder / _RECIPE
    try:
        return from_json(_read_recipe(path).recipe)
    except RecipeMismatch as error:
        raise UserError(f"{path} cannot be used: {error}; train again into another folder") from error


def _read_recipe(path: Path) -> _RecipeRecord:
    try:
        return stored.read_as(_RecipeRecord, path, FORMAT, "choose another folder, or train again")
    except FileNotFoundError as error:
        raise UserError(f"{path.parent} is not a run of vicinal train: it has no {_RECIPE}") from error


def load_results(folder: Path) -> RunResults:
    """Return the results of a finished run.

    Raises:
        UserError: the run is not finished, or its results are damaged.

    """
    path, advice = folder / RESULTS, _advice(folder)
    try:
        record = stored.read(path, FORMAT, advice)
    except FileNotFoundError as error:
        raise UserError(f"{folder} is not finished: it has no {RESULTS}; {_FINISH}") from error
    try:
        recipe = from_json(record.pop("recipe", None))
        record["recipe"] = asdict(recipe) | {"milestones": [*recipe.milestones]}
        results = records.from_json(RunResults, record)
        check_epochs(results.epochs)
        _check(len(results.epochs) == recipe.epochs, f"epochs must be {recipe.epochs}, found {len(results.epochs)}")
        check_stretches(results.stretches, results.epochs[-1]["step"])
        summary = results.test_error
        _check(all(0 <= each <= 1 for each in asdict(summary).values()), "test_error must lie in [0, 1]")
    except (records.Mismatch, RecipeMismatch) as error:
        raise UserError(f"{path} cannot be used: {error}; {advice}") from error
    return results


def _advice(folder: Path) -> str:
    return f"remove {folder} and train that run again"


_FINISH = "rerun the command that began it to resume"


def load_model(
    folder: Path,
    classes: int,
    device: torch.device | None = None,
    model: str | Callable[..., nn.Module] | Sequence[str] | None = None,
) -> nn.Module:
    """Return the model of a finished run, in evaluation mode; no code in the folder, or named in it, is run.

    Args:
        folder: of the run.
        classes: of its data.
        device: where the model is to be.
        model: for one that was built by `package.module:factory`, that factory, or this text where importing it is meant;
            or several such texts, of which the run needs one.

    Raises:
        UserError: the run is not finished, its weights are damaged, or they do not fit its recipe; or it needs `model`.

    """
    recipe = load_recipe(folder)
    factory = check_model(folder, recipe, model)
    results = load_results(folder)
    if results.recipe != recipe:
        raise UserError(f"{folder / RESULTS} is of another recipe than {_RECIPE} beside it: {_advice(folder)}")
    found = _read_weights(folder, results)
    built = _build(factory, recipe, classes)
    try:
        weights.load_into(built, found)
    except (records.Mismatch, RuntimeError) as error:
        reason = error if isinstance(error, records.Mismatch) else str(error).split("\n")[0]
        raise UserError(
            f"the weights in {folder / _WEIGHTS} do not fit the model {recipe.model!r} of its recipe ({reason}): "
            f"{_advice(folder)}"
        ) from error
    return built.to(device or torch.device("cpu")).eval()


def check_model(
    folder: Path, recipe: Recipe, model: str | Callable[..., nn.Module] | Sequence[str] | None
) -> str | Callable[..., nn.Module]:
    """Return what builds the model of a run: code of the user's only where the user names it, not a file alone.

    Raises:
        UserError: a file alone names it.

    """
    if callable(model):
        return model
    named = [model] if isinstance(model, str) else [*(model or ())]
    if recipe.model in models.MODELS or recipe.model in named:
        return recipe.model
    if ":" not in recipe.model:
        raise UserError(f"{folder / _RECIPE} names the model {recipe.model!r}, which this version does not have")
    instead = f", not by {' or '.join(map(repr, named))}" if named else ""
    raise UserError(
        f"{folder} was trained with a model built by {recipe.model!r}{instead}: no code is imported because a file names "
        f"it; if you trust it, give it as --model {recipe.model} (in Python, load_model(..., model={recipe.model!r}))"
    )


def build_model(recipe: Recipe, classes: int) -> nn.Module:
    """Return a new model of a recipe that the user gave: the factory that it may name is imported."""
    return _build(recipe.model, recipe, classes)


def _build(factory: str | Callable[..., nn.Module], recipe: Recipe, classes: int) -> nn.Module:
    options: dict[str, Any] = {"dropout": recipe.dropout} if recipe.dropout else {}
    return models.build(factory, classes, **options)


def _read_weights(folder: Path, results: RunResults) -> dict[str, Tensor]:
    """Read the weights of a run without running code."""
    path = folder / _WEIGHTS
    try:
        content = limits.read_bytes(path)
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no {_WEIGHTS}: {_advice(folder)}") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"{path} cannot be read ({reason}): {_advice(folder)}") from error
    if hashlib.sha256(content).hexdigest() != results.weights_sha256:
        raise UserError(f"{path} is not as it was written: its SHA-256 is not that in {RESULTS}; {_advice(folder)}")
    try:
        return weights.parse(content)
    except weights.Unreadable as error:
        raise UserError(f"{path} cannot be used: {error}; {_advice(folder)}") from error


@torch.inference_mode()
def misclassified(model: nn.Module, data: Data) -> Tensor:
    """Return for each example, not augmented, whether the prediction differs from the label: bool [n]."""
    found = []
    for rows in torch.arange(len(data), device=data.labels.device).split(_BATCH):
        x, y = data.batch(rows, None)
        found.append(model(x).argmax(1) != y)
    return torch.cat(found).cpu()
