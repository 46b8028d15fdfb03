"""What was trained: the network of a run folder, and what it says of examples."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from vicinal.lab import models
from vicinal.lab.data.loading import Data
from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe, of_values

_BATCH = 500


def recipe_of(folder: Path) -> Recipe:
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
        return of_values(values)
    except UserError as error:
        raise UserError(f"{path} is of no run that can be used: {error}; train again into another folder") from error


def network_of(folder: Path, classes: int, device: torch.device | None = None) -> nn.Module:
    """Give the network of a finished run, in evaluation mode.

    Raises:
        UserError: the run is not finished, its weights are damaged, or they do not fit its recipe.

    """
    recipe = recipe_of(folder)
    options = {"dropout": recipe.dropout} if recipe.dropout else {}
    network = models.build(recipe.network, classes, **options)
    path = folder / "weights.pt"
    if not path.exists():
        raise UserError(f"{folder} is not finished: there is no weights.pt; the command that began it goes on")
    weights = _weights(path)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"the weights in {path} do not fit the network {recipe.network!r} of its recipe") from error
    return network.to(device or torch.device("cpu")).eval()


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
def wrong(network: nn.Module, data: Data) -> Tensor:
    """Say of each example, as it is, whether the network's answer is not its label: bool [n]."""
    found = []
    for rows in torch.arange(len(data), device=data.labels.device).split(_BATCH):
        x, y = data.batch(rows, None)
        found.append(network(x).argmax(1) != y)
    return torch.cat(found).cpu()
