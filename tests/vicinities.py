"""The table of all vicinities: every law of `test_laws.py` runs over it, so a new vicinity needs one row here."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import vicinal as v
from vicinal.methods import Beside, ColumnMix, FMix, Remix, Selective, SKMixup, Transport, Unmixed
from vicinal.plan import PlanBeside

CLASSES = 3
GRID = (6, 5)


@dataclass(frozen=True)
class Case:
    """A vicinity, and what it must be told.

    Args:
        name: of the row.
        vicinity: never called as it stands, so that its counter stays at 0; see `fresh`.
        numbers: whether it needs regression targets instead of class indices.
        floats: whether it looks at the values of the inputs, which are then floating point.
        rows: how many rows it makes of each.
        epoch: the epoch it is asked for.
        draws: whether anything is drawn; False for those that do the same to every batch.

    """

    name: str
    vicinity: v.Vicinity
    numbers: bool = False
    epoch: int | None = None
    draws: bool = True
    floats: bool = False
    rows: int = 1

    def fresh(self) -> v.Vicinity:
        """Return a vicinity that has counted no step."""
        vicinity = copy.deepcopy(self.vicinity)
        if self.epoch is not None:
            vicinity.set_epoch(self.epoch)
        return vicinity

    def y(self, n: int) -> Tensor:
        """Return targets [n] that this vicinity can look at."""
        return noise(n, seed=90) if self.numbers else ids(n)

    def plan(self, n: int, x: Tensor | None = None, *, step: int = 0, **key: int) -> v.Plan:
        """Draw a plan for `images(n)`, or for `x`."""
        x = images(n) if x is None else x
        return self.vicinity.plan(n, self.y(n), x, step=step, epoch=self.epoch, **key)

    def __str__(self) -> str:
        return self.name


CASES = [
    Case("erm", v.ERM(seed=0), draws=False),
    Case("mixup", v.Mixup(0.4, seed=0)),
    Case("mixup-rare", v.Mixup(0.01, seed=0)),
    Case("mixup-per-example", v.Mixup(v.Beta(0.4, per="example"), seed=0)),
    Case("mixup-of-3", v.Mixup(v.Dirichlet(1.0, k=3), seed=0)),
    Case("mixup-of-4-per-example", v.Mixup(v.Dirichlet(0.5, k=4, per="example"), seed=0)),
    Case("mixup-no-self-pairs", v.Mixup(1.0, v.RandomPairs(self_pairs=False), seed=0)),
    Case("mixup-same-class", v.Mixup(1.0, v.SameClass(), seed=0)),
    Case("mixup-roll", v.Mixup(1.0, v.Roll(), seed=0)),
    Case("mixup-other-class", v.Mixup(1.0, v.OtherClass(), seed=0)),
    Case("mixup-nearest", v.Mixup(1.0, v.Nearest(k=2), seed=0), floats=True),
    Case("mixup-label-distance", v.Mixup(1.0, v.LabelDistance(0.5), seed=0), numbers=True),
    Case("input-mixup", v.InputMixup(1.0, seed=0)),
    Case("input-mixup-of-3", v.InputMixup(v.Dirichlet(1.0, k=3, per="example"), seed=0)),
    Case("mixup-folded", v.Mixup(v.Beta(0.4, folded=True), seed=0)),
    Case("smote", v.InputMixup(1.0, v.Nearest(k=2, same_class=True), seed=0), floats=True),
    Case("cutmix", v.CutMix(1.0, seed=0)),
    Case("cutmix-declared", v.CutMix(1.0, dims=2, seed=0)),
    Case("cutmix-per-example", v.CutMix(1.0, per="example", pairing=v.OtherClass(), seed=0)),
    Case("noise", v.GaussianNoise(0.1, seed=0)),
    Case("smoothing", v.LabelSmoothing(0.1, seed=0), draws=False),
    Case("chain-ablation", v.Chain([v.InputMixup(1.0), v.LabelSmoothing(0.1)], seed=0)),
    Case("chain-of-all", v.Chain([v.GaussianNoise(0.1), v.CutMix(1.0), v.Mixup(0.4), v.LabelSmoothing(0.1)], seed=0)),
    Case("choice", v.Choice([v.Mixup(0.2), v.CutMix(1.0)], p=[0.4, 0.6], seed=0)),
    Case("choice-or-not", v.Choice([v.ERM(), v.Mixup(v.Beta(1.0, per="example"))], seed=0)),
    Case("scheduled-on", v.Scheduled(v.Mixup(1.0), start=2, stop=4, seed=0), epoch=3),
    Case("scheduled-alpha", v.Scheduled(v.Mixup(1.0), values={"alpha": {0: 0.5, 3: 4.0}}, seed=0), epoch=3),
    Case("scheduled-off", v.Scheduled(v.Mixup(1.0), start=2, stop=4, seed=0), epoch=4, draws=False),
    # methods of the family
    Case("k-mixup", v.Mixup(1.0, Transport(k=3), seed=0), floats=True),
    Case("selective", v.Mixup(2.0, Selective("other", "any"), seed=0)),
    Case("selective-unmixed", Unmixed(v.Mixup(2.0, Selective("other", "any")), seed=0)),
    Case("regmixup", Beside(v.Mixup(10.0), seed=0), rows=2),
    Case("regmixup-last", v.Chain([v.LabelSmoothing(0.1), Beside(v.CutMix(1.0))], seed=0), rows=2),
    Case("remix", Remix(1.0, counts=(90, 40, 10, 5, 1), seed=0)),
    Case("sk-mixup", SKMixup(seed=0), floats=True),
    Case("fmix", FMix(seed=0)),
    Case("column-mix", ColumnMix(seed=0)),
    Case("feat-mix", ColumnMix(importance=(3.0, 1.0), features=(0, 1, 1), seed=0)),
]


def ids(n: int) -> Tensor:
    """Return class indices int64 [n], in which every class occurs as soon as n allows it."""
    return torch.arange(n) * 2 % CLASSES


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return standard normal numbers, by key."""
    return torch.from_numpy(v.Key(seed, 0, 0, 0).generator().standard_normal(shape)).to(dtype)


def images(n: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return [n, 3, 6, 5]; levels 0 to 255 for uint8."""
    if dtype == torch.uint8:
        return torch.from_numpy(v.Key(0, 0, 0, 0).generator().integers(0, 256, (n, 3, *GRID))).to(dtype)
    if dtype.is_complex:
        return torch.complex(noise(n, 3, *GRID), noise(n, 3, *GRID, seed=1)).to(dtype)
    return noise(n, 3, *GRID, dtype=dtype)


def flat_plans(plan: v.Plan) -> list[v.MixPlan]:
    """Return the plans in the order in which they are applied."""
    if isinstance(plan, v.MixPlan):
        return [plan]
    if isinstance(plan, PlanBeside):
        return flat_plans(plan.plan)
    return [part for each in plan.plans for part in flat_plans(each)]  # type: ignore[attr-defined]


def expected_rows(plan: v.Plan, x: Tensor) -> Tensor:
    """Apply a plan to [n, c, h, w] as its definition reads, row by row and cell by cell, in double precision."""
    exact = torch.complex128 if x.is_complex() else torch.float64
    if isinstance(plan, PlanBeside):
        return torch.cat([x.to(exact), expected_rows(plan.plan, x)])
    if not isinstance(plan, v.MixPlan) and any(part.rows_out != len(part) for part in plan.plans):  # type: ignore[attr-defined]
        for part in plan.plans:  # type: ignore[attr-defined]
            x = expected_rows(part, x)
        return x
    rows = [row.to(exact) for row in x]
    for part in flat_plans(plan):
        mixed = []
        for i, row in enumerate(rows):
            partners = [rows[j] for j in part.partners[i].tolist()]
            shares = part.shares[i].tolist()
            if part.mask is not None:
                out = row.clone()
                for place in part.mask[i].nonzero().tolist():  # [column], or [h, w] below all channels
                    cell = tuple(place) if not part.grid else (slice(None), *place)
                    out[cell] = partners[0][cell]
            elif part.box is None:
                out = shares[0] * row
                for share, partner in zip(shares[1:], partners, strict=True):
                    out = out + share * partner
            else:
                (top, bottom), (left, right) = part.box[i].tolist()
                out = row.clone()
                for h in range(row.shape[1]):
                    for w in range(row.shape[2]):
                        if top <= h < bottom and left <= w < right:
                            out[:, h, w] = partners[0][:, h, w]
            mixed.append(out)
        if part.noise is not None:
            drawn = part.noise.key.fold(0).generator().standard_normal(tuple(x.shape), dtype="float32")
            mixed = [out + part.noise.sigma * torch.from_numpy(drawn[i]).to(exact) for i, out in enumerate(mixed)]
        rows = mixed
    return torch.stack(rows) if rows else x.to(exact)


def expected_labels(plan: v.Plan, y: Tensor) -> Tensor:
    """Apply a plan to class indices [n]: soft labels float64 [n, CLASSES], row by row."""
    return _expected_labels(plan, [[float(c == i) for c in range(CLASSES)] for i in y.tolist()])


def _expected_labels(plan: v.Plan, rows: list[list[float]]) -> Tensor:
    if isinstance(plan, PlanBeside):
        plain = torch.tensor(rows, dtype=torch.float64).reshape(len(rows), CLASSES)
        return torch.cat([plain, _expected_labels(plan.plan, rows)])
    if not isinstance(plan, v.MixPlan) and any(part.rows_out != len(part) for part in plan.plans):  # type: ignore[attr-defined]
        for part in plan.plans:  # type: ignore[attr-defined]
            rows = _expected_labels(part, rows).tolist()
        return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), CLASSES)
    for part in flat_plans(plan):
        mixed = []
        for i, row in enumerate(rows):
            shares = part.target_shares[i].tolist()
            out = [shares[0] * p for p in row]
            for share, j in zip(shares[1:], part.partners[i].tolist(), strict=True):
                out = [p + share * q for p, q in zip(out, rows[j], strict=True)]
            mixed.append([(1 - part.smoothing) * p + part.smoothing / CLASSES for p in out])
        rows = mixed
    return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), CLASSES)


def content(value: Any) -> Any:
    """Return what a plan, a target or a nest of tensors holds, as plain Python that `==` compares exactly."""
    if isinstance(value, v.Plan):
        return content(value.to_dict())
    if isinstance(value, v.MixedTarget):
        return content([value.ids, value.weight, value.smoothing])
    if isinstance(value, Tensor):
        return (str(value.dtype), tuple(value.shape), value.tolist())
    if isinstance(value, dict):
        return {key: content(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [content(item) for item in value]
    return value
