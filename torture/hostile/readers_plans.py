"""Readers of plans, states and mixed targets, for hostile input: what is accepted must be in range, too."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Mapping
from typing import Any

import torch

import vicinal
from torture.hostile.engine import Reader, of_values
from vicinal import _stored
from vicinal.plan import Plan, PlanChain

_ROWS = 5
_GRID = (6, 5)


def _vicinities() -> list[vicinal.Vicinity]:
    v = vicinal
    return [
        v.ERM(seed=0),
        v.Mixup(0.4, seed=0),
        v.Mixup(v.Beta(0.4, per="example"), seed=0),
        v.Mixup(v.Dirichlet(0.5, k=4, per="example"), seed=0),
        v.Mixup(1.0, v.OtherClass(), seed=0),
        v.InputMixup(1.0, seed=0),
        v.InputMixup(v.Dirichlet(1.0, k=3), seed=0),
        v.CutMix(1.0, per="example", seed=0),
        v.GaussianNoise(0.1, seed=2**64 - 1),
        v.LabelSmoothing(0.1, seed=0),
        v.Chain([v.GaussianNoise(0.1), v.CutMix(1.0), v.Chain([v.Mixup(0.4), v.LabelSmoothing(0.1)])], seed=0),
        v.Choice([v.Mixup(0.2), v.CutMix(1.0)], seed=0),
        v.Scheduled(v.Mixup(1.0), seed=0),
    ]


def _plans() -> list[dict[str, Any]]:
    """Return plans of every kind, as `to_dict` writes them."""
    y, x = torch.arange(_ROWS) % 2, torch.zeros(_ROWS, 3, *_GRID)
    return [vicinity.plan(_ROWS, y, x, step=3, epoch=0).to_dict() for vicinity in _vicinities()]


def _unsealed(values: Any) -> Any:
    """Return a dict as earlier versions wrote it, plans in chains too."""
    if not isinstance(values, Mapping):
        return values
    kept = {key: value for key, value in values.items() if key not in (_stored.FORMAT, _stored.CHECKSUM)}
    if isinstance(kept.get("plans"), list):
        kept["plans"] = [_unsealed(part) for part in kept["plans"]]
    return kept


def _resealed(values: Any) -> Any:
    """Return a changed dict with a checksum that fits, as somebody forges one; as it is where none can be made."""
    try:
        if not isinstance(values, dict):
            return values
        values = {**values}
        if isinstance(values.get("plans"), list):
            values["plans"] = [_resealed(part) for part in values["plans"]]
        rest = {key: value for key, value in values.items() if key not in (_stored.FORMAT, _stored.CHECKSUM)}
        return _stored.sealed(rest, 1)
    except (TypeError, ValueError, RuntimeError, AttributeError, RecursionError, OverflowError):
        return values


def _check(plan: Plan) -> None:
    """Raise an AssertionError where a plan that was accepted is not one."""
    if isinstance(plan, PlanChain):
        assert len({len(part) for part in plan.plans}) == 1
        for part in plan.plans:
            _check(part)
        return
    assert isinstance(plan, vicinal.MixPlan)
    n = len(plan)
    assert not plan.partner.numel() or (int(plan.partner.min()) >= 0 and int(plan.partner.max()) < n)
    for shares in (plan.shares, plan.target_shares):
        assert bool(((shares >= 0) & (shares <= 1)).all()), "shares out of range"
        assert bool(((shares.double().sum(1) - 1).abs() < 1e-3).all()), "shares that do not sum to 1"
    assert 0 <= plan.smoothing <= 1
    if plan.box is not None:
        inside = (plan.box >= 0) & (plan.box <= torch.tensor(plan.grid)[:, None])
        assert bool(inside.all()), "a box off its grid"
    if n <= 64 and plan.noise is None:
        x = torch.ones(n, 3, *plan.grid) if plan.grid else torch.ones(n, 3)
        if plan.channels_last and plan.grid:
            x = torch.ones(n, *plan.grid, 3)
        if plan.box is None or len(plan.grid) > 1:
            assert torch.allclose(plan(x), x, atol=1e-3), "a mix of ones that is not one"


def _read_plan(values: Any) -> None:
    _check(vicinal.plan_from_dict(values))


def _read_saved_plan(values: Any) -> None:
    """Read a plan as programs do: from a file that `torch.load` reads."""
    file = io.BytesIO()
    try:
        torch.save(values, file)
    except (RuntimeError, ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return  # PyTorch does not write it
    file.seek(0)
    try:
        loaded = torch.load(file, weights_only=True)
    except Exception as error:
        raise ValueError(f"PyTorch refuses the file: {type(error).__name__}") from error
    _check(vicinal.plan_from_dict(loaded))


def _states() -> list[dict[str, Any]]:
    """Return states at several points, as `state_dict` writes them."""
    states = []
    for vicinity in (vicinal.Mixup(0.4), vicinal.Scheduled(vicinal.CutMix(1.0)), vicinal.Mixup(0.4, seed=2**64 - 1)):
        vicinity.set_epoch(7)
        vicinity(torch.zeros(4, 2), torch.arange(4)) if isinstance(vicinity, vicinal.Mixup) else None
        states.append(vicinity.state_dict())
        vicinity.off()
        states.append(vicinity.state_dict())
    return [*states, {**states[0], "steps": [3] * 510}]


def _into(make: Callable[[vicinal.Vicinity], Any]) -> Callable[[Any], None]:
    """Return a reader of states: one that is refused has changed nothing, one that is accepted draws."""

    def read(values: Any) -> None:
        vicinity = vicinal.Mixup(0.4)
        vicinity(torch.zeros(2, 1), torch.arange(2))
        before = vicinity.state_dict()
        try:
            make(vicinity).load_state_dict(values)
        except (ValueError, TypeError):
            assert vicinity.state_dict() == before, "refused, and changed"
            raise
        after = vicinity.state.numbers()
        assert 0 <= after["seed"] < 2**64
        assert after["epoch"] is None or after["epoch"] >= 0
        assert all(count >= 0 for count in after["steps"])
        assert after["on"] == values["on"]
        assert list(values["steps"]) == [*after["steps"], *[0] * (len(values["steps"]) - len(after["steps"]))]
        vicinity.plan(3, step=1)

    return read


def _targets() -> list[list[Any]]:
    """Return what a MixedTarget is made of, as pickles and `torch.load(weights_only=True)` hand it over."""
    y = torch.arange(_ROWS) % 3
    plans = [
        vicinal.Mixup(0.4, seed=0).plan(_ROWS, step=0),
        vicinal.Mixup(vicinal.Dirichlet(k=3), seed=0).plan(5, step=1),
    ]
    targets = [plan.target(y) for plan in plans]
    maps = vicinal.MixedTarget(torch.zeros(2, 5, 3, dtype=torch.int64), torch.full((2, 5, 1), 0.5), 0.1)
    return [list(target.__reduce__()[1]) for target in (*targets, maps)]


def _read_target(values: Any) -> None:
    target = vicinal.MixedTarget(*values) if isinstance(values, (list, tuple)) else vicinal.MixedTarget(values, values)
    assert bool(((target.weight >= 0) & target.weight.isfinite()).all())
    assert 0 <= target.smoothing <= 1
    assert target.ids.dtype == torch.int64
    if target.numel() <= 1 << 16:
        repr(target)
        target.largest()


def _readers() -> list[Reader]:
    found = [
        of_values("plan", _plans, _read_plan),
        of_values(
            "plan-unsealed", lambda: list(map(_unsealed, _plans())), lambda values: _read_plan(_unsealed(values))
        ),
        of_values("plan-forged", _plans, lambda values: _read_plan(_resealed(values))),
        of_values("plan-file", _plans, _read_saved_plan),
        of_values("state", _states, _into(lambda vicinity: vicinity)),
        of_values("state-unsealed", lambda: list(map(_unsealed, _states())), _into(lambda vicinity: vicinity)),
        of_values("state-forged", _states, lambda values: _into(lambda vicinity: vicinity)(_resealed(values))),
        of_values("target", _targets, _read_target),
    ]
    if importlib.util.find_spec("lightning") or importlib.util.find_spec("pytorch_lightning"):
        from vicinal.integrations.lightning import VicinalCallback

        found.append(of_values("lightning-state", _states, _into(VicinalCallback)))
    return found


READERS: list[Reader] = _readers()
