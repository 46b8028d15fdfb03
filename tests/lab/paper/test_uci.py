"""Table 4, against models trained alone."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from studies import SmokeRun

import vicinal as v
from vicinal.lab.data import synthetic
from vicinal.lab.data.encoded_splits import stack_all
from vicinal.lab.data.encoder import TableEncoder
from vicinal.lab.data.splits import split
from vicinal.lab.models.mlp import MLP
from vicinal.lab.paper import uci
from vicinal.lab.training import stacked_mlp


def test_the_table_of_uci_is_that_of_models_trained_alone(
    smoke: Callable[[str], SmokeRun],
) -> None:
    """Against the plain loop of `stacked_mlp`'s first lines, model by model."""
    values = {row.name: row.values for row in smoke("uci")[1]}
    table = uci.load("htru2", "smoke")
    for name, vicinity in (("Htru2, ERM", v.ERM()), ("Htru2, mixup alpha = 0.4", v.Mixup(0.4))):
        for seed in range(2):
            rows = split(table, seed)
            encoding = TableEncoder.fit(table, rows.train)
            x, y = torch.from_numpy(encoding.transform(table)), torch.from_numpy(encoding.transform_target(table))
            first = stacked_mlp.StackedMLP.initial([seed], x.shape[1], (128, 128), 3, torch.float32)
            model = MLP(x.shape[1], outputs=3)
            model.load_state_dict(first.state_dict(0))
            adam, step = torch.optim.Adam(model.parameters()), 0
            train = torch.from_numpy(rows.train)
            for epoch in range(2):
                for batch in torch.from_numpy(stacked_mlp.order(seed, epoch, len(train))).split(16):
                    inputs, target = x[train[batch]], y[train[batch]]
                    plan = vicinity.plan(len(batch), target, inputs, step=step, seed=seed, rank=0, worker=0)
                    adam.zero_grad()
                    F.cross_entropy(model(plan(inputs)), plan.target(target)).backward()
                    adam.step()
                    step += 1
            test = torch.from_numpy(rows.test)
            wrong = model(x[test]).argmax(1) != y[test]
            assert values[name][seed] == pytest.approx(100 * float(wrong.double().mean()))


def test_inputs_as_they_are_and_half_for_testing() -> None:
    table = synthetic.table("t", 2, rows=40)
    train, validation, test = stack_all([uci.Variant("x", test=0.5, scaled=False).encode_split(table, 3)])
    rows = split(table, 3, validation=0.2, test=0.5)
    assert (train.targets.shape[1], validation.targets.shape[1], test.targets.shape[1]) == (12, 8, 20)
    np.testing.assert_array_equal(test.inputs[0].numpy(), table.numeric[rows.test].astype(np.float32))
    np.testing.assert_array_equal(test.targets[0].numpy(), table.target[rows.test])
    scaled, _, _ = stack_all([uci.Variant("").encode_split(table, 3)])
    torch.testing.assert_close(scaled.inputs[0].mean(0), torch.zeros(4), atol=1e-5, rtol=0)


def test_alpha_is_chosen_on_validation_rows() -> None:
    def scores(validation: tuple[float, float], test: float) -> uci.SeedScores:
        return uci.SeedScores({"error": validation[0], "nll": validation[1]}, {"error": test, "nll": 1.0})

    part = uci.StackedScores(
        seeds=[0, 1],
        rows=[60, 20, 20],
        epochs=10,
        methods={
            "ERM": [scores((0.0, 0.0), 0.9)] * 2,
            "mixup 0.1": [scores((0.2, 1.0), 0.11), scores((0.1, 2.0), 0.12)],
            "mixup 0.2": [scores((0.1, 1.0), 0.21), scores((0.1, 1.0), 0.22)],
            "mixup 0.4": [scores((0.3, 1.0), 0.01), scores((0.1, math.nan), 0.02)],
            "mixup 1": [scores((0.1, 1.5), 0.02), scores((0.2, 0.1), 0.01)],
        },
    )
    errors, note = uci._chosen([part])
    assert errors == (21.0, 22.0)
    assert note == "alpha chosen on validation rows: 0.1 in 0, 0.2 in 2, 0.4 in 0, 1 in 0"
