"""Partners among the nearest of all training examples, not of the batch alone: the paper's KNN rows (section 3.8)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vicinal.keyed import Key
from vicinal.lab.data.dataset import Data
from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe
from vicinal.mix_plan import MixPlan
from vicinal.plan import Plan

WORKER = 1  # of the key that augments the partners: augmentation does not look at a key's stream, and the loop's is 0
_DRAW = 60  # the choice among neighbors
_BLOCK = 500  # examples whose distances are computed at once


@dataclass(frozen=True, eq=False)
class KNNPartners:
    """The nearest other examples of each: int64 [n, k], as near as `distance` found them, nearest first."""

    rows: Tensor

    def draw(self, rows: Tensor, key: Key) -> Tensor:
        """Draw one neighbor, uniformly, per row of `rows`, int64 [m] on their device."""
        picks = key.fold(_DRAW).generator().integers(0, self.rows.shape[1], len(rows))
        return self.rows[rows.to(self.rows.device), torch.from_numpy(picks).to(self.rows.device)].to(rows.device)


def find(data: Data, recipe: Recipe) -> KNNPartners:
    """Find the neighbors of every example by the Euclidean distance of its inputs, normalized and not augmented.

    Raises:
        UserError: there are fewer other examples, of the class where neighbors are of one class, than neighbors.

    """
    k, n = recipe.knn, len(data)
    same = recipe.knn_scope == "class"
    most = (int(torch.bincount(data.labels).min()) if same else n) - 1
    if k > most:
        raise UserError(f"knn={k}, but an example has {most} others to choose from: give a smaller number")
    everything = torch.cat([data.batch(rows, None)[0].flatten(1) for rows in _blocks(data)])
    everything -= everything.mean(0)
    squares = everything.square().sum(1)
    found = []
    for rows in _blocks(data):
        mine = everything[rows]
        distance = squares - 2 * mine @ everything.T  # the row's own square orders nothing
        distance[torch.arange(len(rows), device=rows.device), rows] = torch.inf
        if same:
            distance.masked_fill_(data.labels[rows][:, None] != data.labels, torch.inf)
        found.append(distance.topk(k, dim=1, largest=False).indices)
    return KNNPartners(torch.cat(found))


def _blocks(data: Data) -> tuple[Tensor, ...]:
    return torch.arange(len(data), device=data.labels.device).split(_BLOCK)


def with_partners(
    own: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], plan: Plan
) -> tuple[Tensor, Tensor, MixPlan]:
    """Append partners to a batch of n rows: return inputs, labels and plan of 2 n rows, the batch first.

    The plan keeps its weights; its partners become the appended rows.

    Raises:
        UserError: the plan does not mix pairs.

    """
    if not isinstance(plan, MixPlan) or plan.partner.ndim != 1 or plan.is_cut or plan.smoothing:
        raise UserError("neighbors are mixed in pairs: take Mixup or InputMixup as the vicinity")
    n = len(plan)
    ones = torch.ones_like(plan.weight)
    nearer = None if plan.target_weight is None else torch.cat([plan.target_weight, ones])
    partner = torch.arange(n, 2 * n)
    doubled = MixPlan(torch.cat([partner, partner]), torch.cat([plan.weight, ones]), target_weight=nearer)
    return torch.cat([own[0], other[0]]), torch.cat([own[1], other[1]]), doubled
