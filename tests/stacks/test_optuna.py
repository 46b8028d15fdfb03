"""Optuna: a vicinity as a parameter; trials in threads draw what they draw alone."""

import re
import threading

import pytest
import torch
import torch.nn.functional as F

import vicinal
from stacks.programs import printed_by
from vicinal.keyed import Key

optuna = pytest.importorskip("optuna", reason="needs optuna: pip install optuna")

ROWS, CLASSES, STEPS = 16, 3, 20
RANDOM = Key(0, 0, 0, 0).generator()
X = torch.from_numpy(RANDOM.normal(size=(ROWS, 4))).float()
Y = torch.arange(ROWS) % CLASSES
ALPHAS = [0.0, 0.2, 0.5, 1.0, 2.0, 4.0]


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def vicinity_of(alpha):
    return vicinal.Mixup(alpha, seed=7) if alpha else vicinal.ERM()


def trained(alpha, meet=lambda: None):
    """Return the loss on plain rows after training by the one-line form, which counts its batches."""
    vicinity, weight = vicinity_of(alpha), torch.zeros(4, CLASSES, requires_grad=True)
    optimizer = torch.optim.SGD([weight], 0.1)
    for _ in range(STEPS):
        meet()
        x, y = vicinity(X, Y)
        optimizer.zero_grad()
        F.cross_entropy(x @ weight, y).backward()
        optimizer.step()
    return F.cross_entropy(X @ weight, Y).item()


def studied(jobs, objective):
    study = optuna.create_study(sampler=optuna.samplers.GridSampler({"alpha": ALPHAS}, seed=0))
    study.optimize(objective, n_trials=len(ALPHAS), n_jobs=jobs)
    return {trial.params["alpha"]: trial.value for trial in study.trials}


def test_the_program(tmp_path):
    printed = printed_by("with_optuna", tmp_path)
    found = re.fullmatch(r"alpha (\S+): validation accuracy (\S+), test accuracy (\S+)\n", printed)
    assert float(found[1]) in (0.0, 0.1, 0.2, 0.4, 1.0)
    assert float(found[2]) > 0.93
    assert float(found[3]) > 0.94


def test_trials_in_threads_draw_what_they_draw_alone():
    alone = {alpha: trained(alpha) for alpha in ALPHAS}
    assert len(set(alone.values())) == len(ALPHAS)
    assert studied(1, lambda trial: trained(trial.suggest_float("alpha", 0, 4))) == alone
    meeting = threading.Barrier(2)  # both trials are at the same step, always

    def objective(trial):
        return trained(trial.suggest_float("alpha", 0, 4), lambda: meeting.wait(60))

    assert studied(2, objective) == alone


def test_a_vicinity_without_a_seed_draws_anew_in_each_trial():
    weights = []

    def objective(trial):
        _, y = vicinal.Mixup(trial.suggest_float("alpha", 0.5, 1.0))(X, Y)
        weights.append(float(y.weight[0, 0]))
        return 0.0

    optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).optimize(objective, n_trials=6)
    assert len(set(weights)) == 6


def test_a_trial_keeps_the_vicinity_as_text():
    """A categorical choice and a user attribute hold plain values; repr is what makes the vicinity again."""
    names = {name: getattr(vicinal, name) for name in vicinal.__all__}
    choices = [repr(vicinal.ERM(seed=1)), repr(vicinal.Mixup(0.2, seed=1)), repr(vicinal.CutMix(1.0, seed=1))]

    def objective(trial):
        made = eval(trial.suggest_categorical("vicinity", choices), names)
        trial.set_user_attr("vicinity", repr(made))
        return float(isinstance(made, vicinal.CutMix))

    study = optuna.create_study(sampler=optuna.samplers.GridSampler({"vicinity": choices}, seed=0))
    study.optimize(objective, n_trials=3)
    assert study.best_value == 0.0
    assert all(trial.user_attrs["vicinity"] == trial.params["vicinity"] for trial in study.trials)
    assert {trial.params["vicinity"] for trial in study.trials} == set(choices)
