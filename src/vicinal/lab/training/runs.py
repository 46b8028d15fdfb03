"""What was trained: the model of a run folder, and what it says of examples."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from vicinal.lab import models
from vicinal.lab.data.loading import Data
from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe, from_json

_BATCH = 500


def load_recipe(folder: Path) -> Recipe:
    """Give the recipe of a run folder of `vicinal train`.

    Raises:
        UserError: it is none, of a version with other fields, or has values that no recipe has.

    """
    path = folder / "recipe.json"
    try:
        values = json.loads(path.read_bytes())["recipe"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is no run of vicinal train: it has no recipe.json that can be read") from error
    try:
        return from_json(values)
    except UserError as error:
        raise UserError(f"{path} is of no run that can be used: {error}; train again into another folder") from error


def load_model(folder: Path, classes: int, device: torch.device | None = None) -> nn.Module:
    """Give the model of a finished run, in evaluation mode.

    Raises:
        UserError: the run is not finished, its weights are damaged, or they do not fit its recipe.

    """
    recipe = load_recipe(folder)
    options = {"dropout": recipe.dropout} if recipe.dropout else {}
    model = models.build(recipe.model, classes, **options)
    path = folder / "weights.pt"
    if not path.exists():
        raise UserError(f"{folder} is not finished: there is no weights.pt; the command that began it goes on")
    weights = _weights(path)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"the weights in {path} do not fit the model {recipe.model!r} of its recipe") from error
    return model.to(device or torch.device("cpu")).eval()


def _weights(path: Path) -> dict[str, Tensor]:
    """Read a file of weights; runs no code."""
    damaged = f"{path} is damaged: remove {path.parent} and train that run again"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({(error.strerror or str(error)).lower()})") from error
    try:
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # damage shows as an error of any type: of zip, of pickle, of what they hold
        raise UserError(damaged) from error
    if not (isinstance(weights, dict) and all(isinstance(value, Tensor) for value in weights.values())):
        raise UserError(damaged)
    return weights


@torch.inference_mode()
def misclassified(model: nn.Module, data: Data) -> Tensor:
    """Say of each example, as it is, whether the model's answer is not its label: bool [n]."""
    found = []
    for rows in torch.arange(len(data), device=data.labels.device).split(_BATCH):
        x, y = data.batch(rows, None)
        found.append(model(x).argmax(1) != y)
    return torch.cat(found).cpu()
