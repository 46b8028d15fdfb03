"""The folder of a run: who may write there, what is written at the end, and how it is read again.

recipe.json       what is trained; another recipe is refused this folder
metrics.jsonl     one line per epoch
step-*.ckpt       the last two checkpoints, until the run is done
tensorboard/      the lines of metrics.jsonl once more, where asked for
results.json      the figures of a finished run
weights.pt        the weights of a finished run, for torch.load(weights_only=True)
"""

from __future__ import annotations

import io
import json
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import vicinal
from vicinal.lab import atomic, models, records
from vicinal.lab.data.dataset import Data
from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe, from_json
from vicinal.lab.training import checkpoint

FORMAT = 2  # of a run folder: it goes up when names or meanings change
METRICS = "metrics.jsonl"
_RECIPE, _RESULTS, _WEIGHTS, _LOCK = "recipe.json", "results.json", "weights.pt", ".lock"
_LAST = 10  # epochs whose median test error is the paper's figure
_BATCH = 500


@dataclass(frozen=True)
class ErrorSummary:
    """Test errors of a run, as fractions."""

    median_of_last_10: float
    best: float
    last: float


@dataclass(frozen=True)
class RunResults:
    """What results.json holds: the figures of a finished run, with the lines of metrics.jsonl, and where it was trained."""

    recipe: Recipe
    test_error: ErrorSummary
    epochs: list[dict[str, Any]]
    processes: int
    device: str
    versions: dict[str, str]


# -- while it is trained -----------------------------------------------------------------------------------------------


def holds_run(folder: Path, recipe: Recipe) -> bool:
    """Return whether the folder holds a run of this recipe; False where there is nothing yet.

    Raises:
        UserError: it holds something else.

    """
    path = folder / _RECIPE
    if path.exists():
        if _read_record(path).get("fingerprint") != recipe.fingerprint():
            raise UserError(f"{folder} holds a run of another recipe; choose another --out, or remove that folder")
        return True
    # a run that was killed at its very beginning leaves no more than these
    if folder.exists() and any(found.name != _LOCK and not atomic.is_partial(found) for found in folder.iterdir()):
        raise UserError(f"{folder} is there already and is not a run; choose another --out")
    return False


def read_results(folder: Path, recipe: Recipe) -> RunResults | None:
    """Return the results of a run; None if it is not done."""
    path = folder / _RESULTS
    if not holds_run(folder, recipe) or not path.exists():
        return None
    try:
        results = records.from_json(RunResults, json.loads(path.read_text()))
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged; remove {folder} and run it again") from error
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
            record = {"format": FORMAT, "fingerprint": recipe.fingerprint(), "vicinal": vicinal.__version__}
            atomic.write(folder / _RECIPE, json.dumps(record | {"recipe": asdict(recipe)}, indent=1))
        checkpoint.remove_partial(folder)
        yield


def write_results(folder: Path, recipe: Recipe, model: nn.Module, processes: int, device: str) -> RunResults:
    """Write the weights and the figures of a finished run; return the figures.

    Args:
        folder: of the run.
        recipe: of the run.
        model: as trained.
        processes: number of those that trained it.
        device: that they used.

    """
    epochs = atomic.json_lines(folder / METRICS)
    errors = [line["test_error"] for line in epochs]
    summary = ErrorSummary(statistics.median(errors[-_LAST:]), min(errors), errors[-1])
    versions = {"vicinal": vicinal.__version__, "torch": torch.__version__}
    results = RunResults(recipe, summary, epochs, processes, device, versions)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    atomic.write(folder / _WEIGHTS, buffer.getvalue())
    atomic.write(folder / _RESULTS, json.dumps(records.to_json(results), indent=1, allow_nan=False))
    checkpoint.remove_all(folder)
    return results


# -- when it is done ---------------------------------------------------------------------------------------------------


def load_recipe(folder: Path) -> Recipe:
    """Return the recipe of a run folder.

    Raises:
        UserError: the folder is not a run of this version, or its recipe has values that no recipe has.

    """
    path = folder / _RECIPE
    try:
        return from_json(_read_record(path)["recipe"])
    except UserError as error:
        raise UserError(f"{path} cannot be used: {error}; train again into another folder") from error
    except KeyError as error:
        raise UserError(f"{folder} is not a run of vicinal train: its recipe.json has no recipe") from error


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path.parent} is not a run of vicinal train: it has no readable recipe.json") from error
    if record.get("format", 1) != FORMAT:
        raise UserError(
            f"{path} has format {record.get('format', 1)}, of another version of vicinal, and this one reads "
            f"format {FORMAT}: choose another folder"
        )
    return record


def load_model(folder: Path, classes: int, device: torch.device | None = None) -> nn.Module:
    """Return the model of a finished run, in evaluation mode.

    Raises:
        UserError: the run is not finished, its weights are damaged, or they do not fit its recipe.

    """
    recipe = load_recipe(folder)
    model = build_model(recipe, classes)
    path = folder / _WEIGHTS
    if not path.exists():
        raise UserError(f"{folder} is not finished: it has no weights.pt; rerun the command that began it to resume")
    try:
        model.load_state_dict(_read_weights(path))
    except RuntimeError as error:
        raise UserError(f"the weights in {path} do not fit the model {recipe.model!r} of its recipe") from error
    return model.to(device or torch.device("cpu")).eval()


def build_model(recipe: Recipe, classes: int) -> nn.Module:
    """Return a new model of a recipe."""
    options: dict[str, Any] = {"dropout": recipe.dropout} if recipe.dropout else {}
    return models.build(recipe.model, classes, **options)


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Read a file of weights without running code."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({(error.strerror or str(error)).lower()})") from error
    try:
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if not (isinstance(weights, dict) and all(isinstance(value, Tensor) for value in weights.values())):
            raise TypeError("not a table of tensors")
    except MemoryError:
        raise
    except Exception as error:  # damage shows as an error of any type: of zip, of pickle, of what they hold
        raise UserError(f"{path} is damaged: remove {path.parent} and train that run again") from error
    return weights


@torch.inference_mode()
def misclassified(model: nn.Module, data: Data) -> Tensor:
    """Return for each example, not augmented, whether the prediction differs from the label: bool [n]."""
    found = []
    for rows in torch.arange(len(data), device=data.labels.device).split(_BATCH):
        x, y = data.batch(rows, None)
        found.append(model(x).argmax(1) != y)
    return torch.cat(found).cpu()
