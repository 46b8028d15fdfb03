"""The fleet is the plain training loop, run for run."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import vicinal as v
from vicinal.lab.data.encoded_splits import StackedSplit
from vicinal.lab.data.table_inputs import TableInputs
from vicinal.lab.models.mlp import MLP
from vicinal.lab.training import stacked_mlp

CLASSES, WIDTH, ROWS = 3, 5, 37  # 37 = 2 batches of 16 and a short one of 5

VICINITIES = [
    v.ERM(),
    v.Mixup(0.3),
    v.Mixup(v.Beta(1.0, per="example")),
    v.Mixup(v.Dirichlet(1.0, k=3)),
    v.Mixup(1.0, v.SameClass()),
    v.InputMixup(1.0, v.Nearest(4)),
    v.GaussianNoise(0.2),
    v.LabelSmoothing(0.1),
    v.Chain([v.InputMixup(1.0), v.LabelSmoothing(0.2)]),
    v.Choice([v.Mixup(0.2), v.GaussianNoise(0.1)]),
    v.Scheduled(v.Mixup(1.0), start=1),
    v.methods.Beside(v.Mixup(10.0)),  # of twice as many rows
    v.methods.Unmixed(v.Mixup(1.0, v.OtherClass())),
    v.methods.ColumnMix(),
]


def table(splits: int, classes: int, dtype: torch.dtype = torch.float64) -> StackedSplit:
    rng = np.random.Generator(np.random.Philox(7))
    x = torch.from_numpy(rng.standard_normal((splits, ROWS, WIDTH))).to(dtype)
    if classes:
        return StackedSplit(TableInputs(x), torch.from_numpy(rng.integers(0, classes, (splits, ROWS))))
    return StackedSplit(TableInputs(x), torch.from_numpy(rng.standard_normal((splits, ROWS))).to(dtype))


def plain_loop(run: stacked_mlp.MLPRun, data: StackedSplit, classes: int, training: stacked_mlp.MLPTraining) -> MLP:
    """Train one model as anybody would, with the library's one line and PyTorch's own modules and optimizer."""
    x, y = data.inputs[run.split].dense(), data.targets[run.split]
    model = MLP(WIDTH, training.hidden, classes or 1).to(x.dtype)
    start = stacked_mlp.StackedMLP.initial([run.seed], WIDTH, training.hidden, classes or 1, x.dtype)
    model.load_state_dict(start.state_dict(0))
    adam = torch.optim.AdamW(model.parameters(), lr=training.learning_rate, weight_decay=run.weight_decay)
    best, best_epoch, best_state = math.inf, 0, model.state_dict()
    step = 0
    for epoch in range(training.epochs):
        for rows in torch.from_numpy(stacked_mlp.order(run.seed, epoch, len(x))).split(training.batch_size):
            plan = run.vicinity.plan(
                len(rows), y[rows], x[rows], step=step, epoch=epoch, seed=run.seed, rank=0, worker=0
            )
            out, target = model(plan(x[rows])), plan.target(y[rows])
            loss = F.cross_entropy(out, target) if classes else F.mse_loss(out[:, 0], target)
            adam.zero_grad()
            loss.backward()
            adam.step()
            step += 1
        if training.patience is not None:
            score = validation_score(model, x, y)
            if score < best:
                best, best_epoch = score, epoch + 1
                best_state = {name: value.clone() for name, value in model.state_dict().items()}
            elif epoch + 1 - best_epoch >= training.patience:
                break
    if training.patience is not None:
        model.load_state_dict(best_state)
    return model


def validation_score(model: MLP, x: torch.Tensor, y: torch.Tensor) -> float:
    """Score an odd thing that goes up and down: how far the mean output is from a fixed number."""
    with torch.no_grad():
        return float((model(x)[:, 0].mean() - 0.05).abs())


def fleet_score(data: StackedSplit):
    def score(models: stacked_mlp.StackedMLP, runs) -> list[float]:
        out = models.outputs(data.inputs.dense()[[run.split for run in runs]])
        return (out[:, :, 0].mean(1) - 0.05).abs().tolist()

    return score


def largest_difference(models: stacked_mlp.StackedMLP, run: int, plain: MLP) -> float:
    ours = models.state_dict(run)
    return max(float((ours[name] - value).abs().max()) for name, value in plain.state_dict().items())


def test_classification_equals_the_plain_loop_run_for_run() -> None:
    data, training = table(2, CLASSES), stacked_mlp.MLPTraining(epochs=3, hidden=(16, 8))
    runs = [stacked_mlp.MLPRun(split, seed, vicinity) for split, seed in ((0, 11), (1, 12)) for vicinity in VICINITIES]
    models = stacked_mlp.train(runs, data, CLASSES, training).models
    for i, run in enumerate(runs):
        assert largest_difference(models, i, plain_loop(run, data, CLASSES, training)) < 1e-12, run


def test_fast_path_of_pairs_equals_the_plain_loop() -> None:
    # with no other plan in the fleet, batches are mixed as one stack
    data, training = table(1, CLASSES), stacked_mlp.MLPTraining(epochs=4, hidden=(16, 8))
    runs = [stacked_mlp.MLPRun(0, seed, vicinity) for seed in (1, 2) for vicinity in VICINITIES[:3]]
    models = stacked_mlp.train(runs, data, CLASSES, training).models
    for i, run in enumerate(runs):
        assert largest_difference(models, i, plain_loop(run, data, CLASSES, training)) < 1e-12, run


def test_regression_equals_the_plain_loop() -> None:
    data, training = table(2, 0), stacked_mlp.MLPTraining(epochs=3, hidden=(16, 8))
    vicinities = [v.ERM(), v.Mixup(0.4), v.Mixup(0.4, v.LabelDistance(0.5)), v.GaussianNoise(0.1)]
    runs = [stacked_mlp.MLPRun(split, 3 + split, vicinity) for split in (0, 1) for vicinity in vicinities]
    models = stacked_mlp.train(runs, data, 0, training).models
    for i, run in enumerate(runs):
        assert largest_difference(models, i, plain_loop(run, data, 0, training)) < 1e-12, run


def test_learning_rate_and_weight_decay_are_those_of_adamw() -> None:
    data = table(1, CLASSES)
    training = stacked_mlp.MLPTraining(epochs=3, hidden=(16, 8), learning_rate=1e-2)
    runs = [
        stacked_mlp.MLPRun(0, 1, vicinity, decay) for vicinity in (v.ERM(), v.Mixup(1.0)) for decay in (0.0, 0.1, 5.0)
    ]
    models = stacked_mlp.train(runs, data, CLASSES, training).models
    for i, run in enumerate(runs):
        assert largest_difference(models, i, plain_loop(run, data, CLASSES, training)) < 1e-12, run


def test_early_stopping_equals_the_plain_loop_though_runs_leave_at_different_epochs() -> None:
    data = table(2, CLASSES)
    training = stacked_mlp.MLPTraining(epochs=12, hidden=(16, 8), learning_rate=5e-3, patience=2)
    runs = [stacked_mlp.MLPRun(s % 2, s, vicinity, s / 2) for s in range(6) for vicinity in (v.ERM(), v.Mixup(1.0))]
    lengths: dict[int, int] = {}

    def after(epoch: int, models: stacked_mlp.StackedMLP, active: list[int]) -> None:
        assert len(models) == len(active)
        lengths.update(dict.fromkeys(active, epoch))

    trained = stacked_mlp.train(runs, data, CLASSES, training, after, fleet_score(data))
    assert len(set(lengths.values())) > 2  # they did leave at different epochs
    for i, run in enumerate(runs):
        plain = plain_loop(run, data, CLASSES, training)
        assert largest_difference(trained.models, i, plain) < 1e-12, run
        assert lengths[i] == min(12, trained.epochs[i] + 2)


def test_patience_needs_a_score() -> None:
    with pytest.raises(ValueError, match="come together"):
        stacked_mlp.train(
            [stacked_mlp.MLPRun(0, 1, v.ERM())], table(1, CLASSES), CLASSES, stacked_mlp.MLPTraining(patience=3)
        )


def test_a_run_does_not_depend_on_its_company() -> None:
    data, training = table(1, CLASSES), stacked_mlp.MLPTraining(epochs=2)
    run = stacked_mlp.MLPRun(0, 5, v.Mixup(0.4))
    alone = stacked_mlp.train([run], data, CLASSES, training).models.state_dict(0)
    company = [stacked_mlp.MLPRun(0, 5, v.ERM()), run, stacked_mlp.MLPRun(0, 6, v.GaussianNoise(1.0))]
    among = stacked_mlp.train(company, data, CLASSES, training).models
    for name, value in among.state_dict(1).items():
        torch.testing.assert_close(value, alone[name], rtol=0, atol=1e-12)


def test_methods_of_one_seed_start_equal_and_end_different() -> None:
    data = table(1, CLASSES)
    runs = [
        stacked_mlp.MLPRun(0, 5, v.ERM()),
        stacked_mlp.MLPRun(0, 5, v.Mixup(1.0)),
        stacked_mlp.MLPRun(0, 6, v.ERM()),
    ]
    start = stacked_mlp.StackedMLP.initial([run.seed for run in runs], WIDTH, (8,), CLASSES, torch.float32)
    assert torch.equal(start.weights[0][0], start.weights[0][1])
    assert not torch.equal(start.weights[0][0], start.weights[0][2])
    end = stacked_mlp.train(runs, data, CLASSES, stacked_mlp.MLPTraining(epochs=1, hidden=(8,))).models
    assert not torch.equal(end.weights[0][0], end.weights[0][1])


def test_initial_weights_are_uniform_as_of_linear() -> None:
    models = stacked_mlp.StackedMLP.initial(range(20), 64, (128, 128), 10, torch.float64)
    for weight, bias, (fan_in, fan_out) in zip(
        models.weights, models.biases, pairwise([64, 128, 128, 10]), strict=True
    ):
        bound = 1 / math.sqrt(fan_in)
        assert weight.shape == (20, fan_in, fan_out)
        assert bias.shape == (20, 1, fan_out)
        for drawn in (weight, bias):
            assert float(drawn.abs().max()) <= bound
            n = drawn.numel()
            # a uniform law on [-b, b] has variance b**2 / 3; five standard errors
            assert abs(float(drawn.mean())) < 5 * bound / math.sqrt(3 * n)
            assert abs(float(drawn.var()) - bound**2 / 3) < 5 * bound**2 * math.sqrt(4 / 45 / n)


def test_order_is_a_permutation_that_changes_with_epoch_and_seed() -> None:
    orders = [stacked_mlp.order(seed, epoch, 50) for seed in (0, 1) for epoch in (0, 1)]
    for one in orders:
        assert sorted(one.tolist()) == list(range(50))
    assert len({tuple(one.tolist()) for one in orders}) == 4
    np.testing.assert_array_equal(stacked_mlp.order(0, 1, 50), orders[1])


def test_after_epoch_sees_each_epoch_once() -> None:
    seen: list[int] = []
    data = table(1, CLASSES)
    one = [stacked_mlp.MLPRun(0, 1, v.ERM())]
    stacked_mlp.train(
        one, data, CLASSES, stacked_mlp.MLPTraining(epochs=3), lambda epoch, models, active: seen.append(epoch)
    )
    assert seen == [1, 2, 3]


@pytest.mark.parametrize(("rows", "steps"), [(16, 10), (17, 20), (1, 10)])
def test_steps_count_the_short_batch(rows: int, steps: int) -> None:
    assert stacked_mlp.MLPTraining(epochs=10).steps(rows) == steps


def test_training_leaves_its_data_alone() -> None:
    data = table(1, CLASSES)
    x, y = data.inputs.dense().clone(), data.targets.clone()
    stacked_mlp.train([stacked_mlp.MLPRun(0, 1, v.Mixup(1.0))], data, CLASSES, stacked_mlp.MLPTraining(epochs=1))
    assert torch.equal(data.inputs.dense(), x)
    assert torch.equal(data.targets, y)


def test_a_run_that_diverges_at_once_keeps_its_last_weights_and_stops() -> None:
    """Not its first ones, which would hide that it diverged."""
    data, training = table(1, 0), stacked_mlp.MLPTraining(epochs=5, hidden=(8,), patience=2)
    runs = [stacked_mlp.MLPRun(0, 1, v.GaussianNoise(1e200)), stacked_mlp.MLPRun(0, 1, v.ERM())]

    def score(models: stacked_mlp.StackedMLP, mine: object) -> list[float]:
        return models.weights[0].sum((1, 2)).mul(0).sub(1).div(len(models)).tolist()  # nan, or less with fewer models

    models, epochs = stacked_mlp.train(runs, data, 0, training, score=score)
    assert epochs[0] == 2
    assert not models.weights[0][0].isfinite().all()
    assert models.weights[0][1].isfinite().all()
