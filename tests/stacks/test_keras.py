"""Keras on PyTorch: `fit` is the loop by hand; weights of rows; loaders, processes; class indices never pass in silence."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

import vicinal
from stacks.programs import printed_by

os.environ["KERAS_BACKEND"] = "torch"
keras = pytest.importorskip("keras", reason="needs keras: pip install keras")

from vicinal.keyed import Key  # noqa: E402

ROWS, BATCH, CLASSES = 40, 8, 3
BATCHES = ROWS // BATCH
X = Key(0, 0, 0, 0).generator().normal(size=(ROWS, 4)).astype(np.float32)
IDS = np.arange(ROWS) % CLASSES
Y = np.eye(CLASSES, dtype=np.float32)[IDS]
PAGE = Path(__file__).parents[2] / "docs" / "integrations" / "keras.md"
SPARSE, DENSE = keras.losses.SparseCategoricalCrossentropy, keras.losses.CategoricalCrossentropy


def of_the_page():
    names = {"keras": keras, "vicinal": vicinal}
    for code in re.findall(r"```py\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(code, names)
    return names


def mixup():
    return vicinal.Mixup(1.0, seed=5)


def model(vicinity=None, loss=DENSE, lr=0.1, metrics=("accuracy",)):
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(CLASSES)(inputs)
    made = (keras.Model if vicinity is None else of_the_page()["MixupModel"])(inputs, outputs)
    if vicinity is not None:
        made.mixup = vicinity
    made.set_weights([np.linspace(-1, 1, 4 * CLASSES, dtype=np.float32).reshape(4, CLASSES), np.zeros(CLASSES)])
    made.compile(keras.optimizers.SGD(lr), loss(from_logits=True), metrics=list(metrics))
    return made


def fit(made, x=X, y=Y, epochs=2, **more):
    options = {} if y is None else {"batch_size": BATCH, "shuffle": False}
    return made.fit(x, y, epochs=epochs, verbose=0, **{**options, **more})


def batches(epochs):
    for step in range(epochs * BATCHES):
        rows = slice(step % BATCHES * BATCH, (step % BATCHES + 1) * BATCH)
        yield step, torch.from_numpy(X[rows]), torch.from_numpy(IDS[rows]), rows


def plain(draw, epochs=2, first=0, of_rows=None):
    """Train by hand on the plans that `draw(step)` returns: the weights after it."""
    weight = torch.linspace(-1, 1, 4 * CLASSES).view(4, CLASSES).requires_grad_()
    bias = torch.zeros(CLASSES, requires_grad=True)
    optimizer = torch.optim.SGD([weight, bias], 0.1)
    for step, x, y, rows in batches(epochs):
        plan = draw(step + first)
        target = plan.target(y) if of_rows is None else plan.target(y).weighted(of_rows[rows])
        optimizer.zero_grad()
        (F.cross_entropy(plan(x) @ weight + bias, target, reduction="sum") / BATCH).backward()
        optimizer.step()
    return [weight.detach().numpy(), bias.detach().numpy()]


def draw(vicinity):
    return lambda step: vicinity.plan(BATCH, step=step)


def check(made, expected):
    for got, wanted in zip(made.get_weights(), expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6, rtol=0)


def test_the_program(tmp_path):
    printed = printed_by("with_keras", tmp_path)
    assert float(re.fullmatch(r"test accuracy (\S+)\n", printed)[1]) > 0.94


# -- a train_step that mixes -------------------------------------------------------------------------------------------


def test_fit_is_the_loop_by_hand():
    made = model(mixup())
    fit(made)
    check(made, plain(draw(mixup())))
    assert np.abs(made.get_weights()[0] - plain(draw(vicinal.ERM()))[0]).max() > 0.01


@pytest.mark.parametrize("vicinity", [vicinal.ERM(), vicinal.Mixup(1.0)])
def test_without_mixing_it_changes_nothing(vicinity):
    vicinity.off()
    mixed, erm = model(vicinity), model()
    fit(mixed)
    fit(erm)
    assert all(np.array_equal(a, b) for a, b in zip(mixed.get_weights(), erm.get_weights(), strict=True))


def test_validation_is_plain():
    made = model(mixup())
    history = fit(made, validation_data=(X, Y)).history
    weight, bias = (torch.from_numpy(part) for part in made.get_weights())
    logits = torch.from_numpy(X) @ weight + bias
    assert history["val_loss"][-1] == pytest.approx(F.cross_entropy(logits, torch.from_numpy(IDS)).item(), abs=1e-6)
    assert history["val_accuracy"][-1] == pytest.approx(np.mean(logits.argmax(1).numpy() == IDS))
    assert made.mixup.state_dict()["steps"] == [0]  # the optimizer counts


def test_accuracy_of_training_is_of_the_class_with_the_largest_share():
    made = model(mixup(), lr=0.0)
    shown = fit(made, epochs=1).history["accuracy"][0]
    weight, bias = (torch.from_numpy(part) for part in made.get_weights())
    plans = [(mixup().plan(BATCH, step=step), x, y) for step, x, y, _ in batches(1)]
    hits = [(plan(x) @ weight + bias).argmax(1) == plan.target(y).largest() for plan, x, y in plans]
    assert shown == pytest.approx(torch.cat(hits).float().mean().item())


def test_a_model_that_is_saved_goes_on_with_the_draws_it_would_have_had(tmp_path):
    whole, half = model(mixup()), model(mixup())
    fit(whole, epochs=4)
    fit(half)
    half.save(tmp_path / "half.keras")
    again = keras.models.load_model(tmp_path / "half.keras", custom_objects={"MixupModel": of_the_page()["MixupModel"]})
    again.mixup = mixup()
    fit(again)
    assert all(np.array_equal(a, b) for a, b in zip(whole.get_weights(), again.get_weights(), strict=True))


OF_CLASS = {0: 1.0, 1: 3.0, 2: 0.0}


@pytest.mark.parametrize("by", ["sample_weight", "class_weight"])
def test_weights_go_with_their_rows_into_the_mixes(by):
    of_rows = torch.tensor([OF_CLASS[i] for i in IDS])
    made = model(mixup())
    fit(made, **{by: of_rows.numpy() if by == "sample_weight" else OF_CLASS})
    check(made, plain(draw(mixup()), of_rows=of_rows))


@pytest.mark.parametrize(
    "loss",
    [keras.losses.BinaryCrossentropy(), keras.losses.MeanSquaredError(), DENSE(from_logits=True, label_smoothing=0.1)],
)
def test_weights_of_rows_are_refused_where_a_label_cannot_carry_them(loss):
    made = model(vicinal.ERM())
    made.compile(keras.optimizers.SGD(0.1), loss)
    with pytest.raises(ValueError, match="for CategoricalCrossentropy without smoothing alone"):
        fit(made, sample_weight=np.ones(ROWS))
    fit(made)  # without weights any loss is fine


# -- loaders and processes ---------------------------------------------------------------------------------------------


def test_a_loader_that_mixes_is_the_loop_by_hand():
    plans = []

    def collate(rows):
        x, y = torch.utils.data.default_collate(rows)
        plans.append(mixup().plan(len(y), step=len(plans)))
        return plans[-1](x), plans[-1].target(y).dense(CLASSES)

    made = model()
    loader = DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(IDS)), BATCH, collate_fn=collate)
    fit(made, loader, None)
    first = len(plans) - 2 * BATCHES  # Keras looks at the first batch or two before it begins
    check(made, plain(lambda step: plans[step], first=first))
    with pytest.raises(ValueError, match="`class_weight` is not supported for torch DataLoader"):
        fit(made, loader, None, class_weight=OF_CLASS)


@pytest.mark.parametrize("workers", [{}, {"workers": 2, "use_multiprocessing": True}], ids=["here", "2 processes"])
def test_batches_keyed_by_their_index_draw_anew_in_every_epoch(workers):
    seen = []

    class Sees(keras.Model):
        def train_step(self, data):
            seen.append([part.detach().clone() for part in data])
            return super().train_step(data)

    inputs = keras.Input((4,))
    made = Sees(inputs, keras.layers.Dense(CLASSES)(inputs))
    made.compile(keras.optimizers.SGD(0.1), DENSE(from_logits=True))
    mixed = of_the_page()["MixedBatches"](
        torch.from_numpy(X), torch.from_numpy(IDS), mixup(), CLASSES, BATCH, **workers
    )
    fit(made, mixed, None, epochs=3, shuffle=False)
    drawn = [(mixup().plan(BATCH, step=step), x, ids) for step, x, ids, _ in batches(5)]
    found = [[step for step, (plan, x, _) in enumerate(drawn) if torch.equal(plan(x), got)] for got, _ in seen]
    assert all(len(steps) == 1 for steps in found)
    steps = [step for (step,) in found]
    assert len(set(steps)) == 3 * BATCHES  # Keras may begin with batches that it fetched before the first epoch
    for (_, y), step in zip(seen, steps, strict=True):
        plan, _, ids = drawn[step]
        assert torch.equal(y, plan.target(ids).dense(CLASSES))


def test_class_weights_of_batches_that_are_mixed_already_are_those_of_the_largest_share():
    """Why the page says to weight the labels before they are mixed: Keras knows no better here."""
    made = model(lr=0.0, metrics=())
    mixed = of_the_page()["MixedBatches"](torch.from_numpy(X), torch.from_numpy(IDS), mixup(), CLASSES, BATCH)
    shown = fit(made, mixed, None, epochs=1, shuffle=False, class_weight=OF_CLASS).history["loss"][0]
    weight, bias = (torch.from_numpy(part) for part in made.get_weights())
    of_class = torch.tensor([*OF_CLASS.values()])
    largest, right = [], []
    for step, x, y, _ in batches(1):
        plan = mixup().plan(BATCH, step=(mixed.epoch - 1) * BATCHES + step)
        target, logits = plan.target(y), plan(x) @ weight + bias
        largest.append((F.cross_entropy(logits, target, reduction="none") * of_class[target.largest()]).mean())
        right.append(F.cross_entropy(logits, target, of_class, reduction="sum") / BATCH)
    assert shown == pytest.approx(float(sum(largest)) / BATCHES, abs=1e-5)
    assert abs(shown - float(sum(right)) / BATCHES) > 1e-3


# -- class indices -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [SPARSE, DENSE, lambda from_logits: keras.losses.MeanSquaredError()])
def test_mixed_class_indices_are_refused_by_every_loss(loss):
    data = TensorDataset(torch.from_numpy(X), torch.from_numpy(IDS))
    loader = DataLoader(data, BATCH, collate_fn=vicinal.Collate(mixup()))
    with pytest.raises(ValueError, match="different structures"):
        fit(model(loss=loss), loader, None)


@pytest.mark.parametrize(
    "ids", [IDS, IDS[:, None], IDS.astype(np.uint8), IDS.astype(np.int32)], ids=lambda a: str(a.dtype)
)
@pytest.mark.parametrize("loss", [SPARSE, DENSE])
def test_class_indices_are_refused_in_the_train_step(ids, loss):
    with pytest.raises(ValueError, match=r"different structures|must have the same shape"):
        fit(model(mixup(), loss), y=ids)


def test_dense_labels_are_refused_by_a_loss_of_class_indices():
    with pytest.raises(ValueError, match="must have the same shape"):
        fit(model(mixup(), SPARSE))


def test_class_indices_as_floating_point_are_warned_of():
    with pytest.warns(UserWarning, match="if they are class indices"):
        fit(model(mixup(), SPARSE), y=IDS.astype(np.float32), epochs=1)


def test_metrics_refuse_a_mixed_target_and_name_what_is_meant():
    target = mixup().plan(ROWS, step=0).target(torch.from_numpy(IDS))
    for metric in (keras.metrics.SparseCategoricalAccuracy(), keras.metrics.CategoricalAccuracy()):
        with pytest.raises(TypeError, match=r"y\.largest\(\)"):
            metric(target, torch.zeros(ROWS, CLASSES))


def test_keras_own_layer_makes_a_square_of_class_indices():
    batch = {"images": np.zeros((8, 4, 4, 1), np.float32), "labels": np.arange(8)}
    assert keras.layers.MixUp(seed=0)(batch)["labels"].shape == (8, 8)
