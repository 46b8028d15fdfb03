"""What was trained: the network of a run folder, and what it says of examples."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor, nn

from vicinal.lab import models
from vicinal.lab.errors import UserError
from vicinal.lab.train.examples import Data
from vicinal.lab.train.recipe import Recipe

_BATCH = 500


def recipe_of(folder: Path) -> Recipe:
    """Give the recipe of a run folder of `vicinal train`.

    Raises:
        UserError: it is none, or of a version with other fields.

    """
    try:
        values = json.loads((folder / "recipe.json").read_bytes())["recipe"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is no run of vicinal train: it has no recipe.json that can be read") from error
    odd = sorted(set(values) ^ {field.name for field in fields(Recipe)})
    if odd:
        raise UserError(f"{folder} was trained by another version: its recipe and this one's differ in {odd[0]!r}")
    values["drops"] = tuple(values["drops"])
    return Recipe(**values)


def network_of(folder: Path, classes: int, device: torch.device | None = None) -> nn.Module:
    """Give the network of a finished run, in evaluation mode.

    Raises:
        UserError: the run is not finished, or its weights do not fit its recipe.

    """
    recipe = recipe_of(folder)
    options = {"dropout": recipe.dropout} if recipe.dropout else {}
    network = models.build(recipe.network, classes, **options)
    path = folder / "weights.pt"
    if not path.exists():
        raise UserError(f"{folder} is not finished: there is no weights.pt; the command that began it goes on")
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except RuntimeError as error:
        raise UserError(f"the weights in {path} do not fit the network {recipe.network!r} of its recipe") from error
    return network.to(device or torch.device("cpu")).eval()


@torch.inference_mode()
def wrong(network: nn.Module, data: Data) -> Tensor:
    """Say of each example, as it is, whether the network's answer is not its label: bool [n]."""
    found = []
    for rows in torch.arange(len(data), device=data.labels.device).split(_BATCH):
        x, y = data.batch(rows, None)
        found.append(network(x).argmax(1) != y)
    return torch.cat(found).cpu()
