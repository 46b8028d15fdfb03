"""Training steps, watched: what reaches the model, what the loss holds for the labels, and that nothing is left changed."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vicinal.checking.pipelines import loss_of
from vicinal.checking.recorder import Recorder, Recording, put_back
from vicinal.keyed import Key

N, CLASSES = 6, 5
X = torch.from_numpy(Key(51, 0, 0, 0).generator().random((N, 8))).float()
Y = torch.tensor([0, 1, 2, 3, 4, 0])
OTHER = torch.tensor([3, 0, 4, 1, 1, 2])
LAM = 0.7
EYE = torch.eye(CLASSES)
SOFT = LAM * EYE[Y] + (1 - LAM) * EYE[OTHER]
WEIGHT = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0])


def linear(out: int = CLASSES, inputs: int = 8) -> nn.Linear:
    layer = nn.Linear(inputs, out)
    with torch.no_grad():
        for i, p in enumerate(layer.parameters()):
            p.copy_(torch.from_numpy(Key(52, 0, i, out).generator().standard_normal(tuple(p.shape))).to(p))
    return layer


def recorded(run: Callable[[], Any], stand: Any = torch.zeros_like, **options: Any) -> tuple[Recording, Any]:
    """Record a step; the gradients of the loss that it returns are taken unless it took them itself."""
    with Recorder(stand, **options).recording_of() as recording:
        out = run()
        loss = loss_of(out)
        outputs = [z for call in recording.calls for z in call.outputs]
        if outputs and loss is not None and loss.requires_grad and all(z.grad is None for z in outputs):
            for z, grad in zip(outputs, torch.autograd.grad(loss, outputs, allow_unused=True), strict=True):
                z.grad = grad
    return recording, out


# -- what reaches the model --------------------------------------------------------------------------------------------


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = linear()

    def forward(self, x: Tensor, mask: Tensor | None = None, **more: Any) -> Tensor:
        return self.layer(x) if mask is None else self.layer(x * mask)


def test_inputs_are_named_by_the_signature():
    model = TwoInputs()
    recording, _ = recorded(lambda: model(X, mask=torch.ones(N, 8), extra={"scale": X[:, 0]}))
    (call,) = recording.calls
    assert sorted(call.inputs) == ["extra['scale']", "mask", "x"]
    assert torch.equal(call.inputs["x"], X)
    assert call.module is model
    assert call.training
    assert call.grad
    with torch.no_grad():
        recording, _ = recorded(lambda: model.eval()(X))
    assert not recording.calls[0].training
    assert not recording.calls[0].grad


def test_inputs_are_copied_before_the_call():
    model = nn.Sequential(nn.ReLU(inplace=True), linear())
    x = X - 0.5
    recording, _ = recorded(lambda: model(x))
    assert torch.equal(recording.calls[0].inputs["input"], X - 0.5)


def test_modules_without_parameters_and_inner_modules_are_no_calls():
    model = nn.Sequential(linear(7), nn.ReLU(), linear(CLASSES, 7))
    recording, _ = recorded(lambda: F.cross_entropy(nn.Softplus()(model(nn.Flatten()(X))), Y))
    assert [call.module for call in recording.calls] == [model]


def test_two_forwards():
    model = linear()
    x2 = X.flip(0)
    recording, _ = recorded(lambda: F.cross_entropy(model(X), Y) + F.cross_entropy(model(x2), OTHER))
    assert [call.feeds for call in recording.calls] == [False, False]
    assert torch.equal(recording.calls[1].inputs["input"], x2)
    for call, labels in zip(recording.calls, (Y, OTHER), strict=True):
        torch.testing.assert_close(call.gradients[0], (1 / CLASSES - EYE[labels]) / N)


def test_features_that_feed_a_later_call():
    backbone, head = linear(7), linear(CLASSES, 7)

    def step() -> Tensor:
        return F.cross_entropy(head(backbone(X).relu()), Y)

    recording, _ = recorded(step, None)
    assert [call.feeds for call in recording.calls] == [True, False]
    recording, _ = recorded(step, features=frozenset({0}))
    torch.testing.assert_close(recording.calls[1].inputs["input"], backbone(X).relu())
    assert recording.calls[0].gradients == []
    torch.testing.assert_close(recording.calls[1].gradients[0], (1 / CLASSES - EYE[Y]) / N)


def test_two_views_through_features():
    backbone, head = linear(7), linear(CLASSES, 7)

    def step() -> Tensor:
        return F.cross_entropy(head(backbone(X).relu()), Y) + F.cross_entropy(head(backbone(X.flip(0)).relu()), OTHER)

    for _ in range(20):
        recording, _ = recorded(step, None)
        assert [call.feeds for call in recording.calls] == [True, False, True, False]


class WithLoss(nn.Module):
    """Computes its loss itself, as Hugging Face's models do, from labels by keyword."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.classifier, self.kind = linear(), kind
        self.config = Config()

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> Any:
        logits = self.classifier(pixel_values)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        if labels is not None and self.config.problem_type is None:
            self.config.problem_type = "single_label_classification"
        if self.kind == "dict":
            return {"loss": loss, "logits": logits}
        if self.kind == "tuple":
            return loss, logits
        return Output(loss, logits)


class Config:
    problem_type: str | None = None


@dataclasses.dataclass
class Output:
    loss: Any
    logits: Tensor


@pytest.mark.parametrize("kind", ["dict", "tuple", "object"])
def test_models_that_compute_their_loss(kind):
    model = WithLoss(kind)
    dry, _ = recorded(lambda: model(pixel_values=X, labels=SOFT), None, classes=frozenset({CLASSES}))
    assert dry.taps == {id(model): model.classifier}
    recording, out = recorded(lambda: model(pixel_values=X, labels=SOFT), taps=dry.taps)
    (call,) = recording.calls
    assert sorted(call.inputs) == ["labels", "pixel_values"]
    torch.testing.assert_close(call.gradients[0], (1 / CLASSES - SOFT) / N)
    loss = out["loss"] if kind == "dict" else out[0] if kind == "tuple" else out.loss
    assert float(loss.detach()) == pytest.approx(float(np.log(CLASSES)))
    assert model.config.problem_type is None


class InNest(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layer, self.kind = linear(), kind

    def forward(self, x: Tensor) -> Any:
        logits = self.layer(x)
        if self.kind == "dict":
            return {"features": x.detach() * 2, "logits": logits}
        return (x.detach() * 2, logits) if self.kind == "tuple" else Output(None, logits)


@pytest.mark.parametrize("kind", ["dict", "tuple", "object"])
def test_logits_in_a_nest(kind):
    model = InNest(kind)

    def step() -> Tensor:
        out = model(X)
        logits = out["logits"] if kind == "dict" else out[1] if kind == "tuple" else out.logits
        return F.cross_entropy(logits, Y)

    recording, loss = recorded(step, classes=frozenset({CLASSES}))
    torch.testing.assert_close(recording.calls[0].gradients[0], (1 / CLASSES - EYE[Y]) / N)
    assert float(loss.detach()) == pytest.approx(float(np.log(CLASSES)))


def test_outputs_of_several_heads():
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = linear(CLASSES), linear(3)

        def forward(self, x: Tensor) -> Any:
            return self.a(x), self.b(x)

    model = Heads()

    def step() -> Tensor:
        a, b = model(X)
        return F.cross_entropy(a, Y) + F.cross_entropy(b, Y % 3)

    recording, _ = recorded(step, classes=frozenset({CLASSES, 3}))
    first, second = recording.calls[0].gradients
    torch.testing.assert_close(first, (1 / CLASSES - EYE[Y]) / N)
    torch.testing.assert_close(second, (1 / 3 - torch.eye(3)[Y % 3]) / N)


@pytest.mark.filterwarnings("ignore")
def test_compiled_modules_are_called_as_they_are():
    model = linear()
    compiled = torch.compile(model, backend="eager")
    recording, _ = recorded(lambda: F.cross_entropy(compiled(X), Y))
    assert [call.module for call in recording.calls] == [model]
    torch.testing.assert_close(recording.calls[0].gradients[0], (1 / CLASSES - EYE[Y]) / N)


def test_outputs_stay_without_a_stand_in():
    model = linear()
    expected = model(X)
    recording, out = recorded(lambda: {"loss": None, "out": model(X)}, None)
    assert torch.equal(out["out"], expected)
    assert recording.calls[0].outputs == []


def test_any_stand_in():
    model = linear()
    stand = 0.1 * torch.arange(CLASSES).float()
    recording, _ = recorded(lambda: F.cross_entropy(model(X), Y), lambda out: stand.expand(out.shape).clone())
    torch.testing.assert_close(recording.calls[0].gradients[0], (stand.softmax(0) - EYE[Y]) / N)


def test_hidden_outputs():
    model = nn.Sequential(linear(7), nn.BatchNorm1d(7), nn.Dropout(0.9), linear(CLASSES, 7))
    recording, _ = recorded(lambda: model(X), hidden=True)
    inner = recording.hidden["output of 0", 0]
    torch.testing.assert_close(inner, model[0](X).detach())
    calm = recording.hidden["output of 2", 0]  # normalization and dropout as in evaluation
    torch.testing.assert_close(calm, inner / (1 + 1e-5) ** 0.5)
    assert model[1].training
    assert model[2].training


# -- the gradient is what the formula says -----------------------------------------------------------------------------

SIGMOID = 0.5 - SOFT
LOSSES: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "soft labels": (lambda z: F.cross_entropy(z, SOFT), (1 / CLASSES - SOFT) / N),
    "two losses": (
        lambda z: LAM * F.cross_entropy(z, Y) + (1 - LAM) * F.cross_entropy(z, OTHER),
        (1 / CLASSES - SOFT) / N,
    ),
    "log_softmax by hand": (lambda z: -(SOFT * F.log_softmax(z, 1)).sum(1).mean(), (1 / CLASSES - SOFT) / N),
    "nll": (lambda z: F.nll_loss(F.log_softmax(z, 1), Y), (1 / CLASSES - EYE[Y]) / N),
    "sum": (lambda z: F.cross_entropy(z, SOFT, reduction="sum"), 1 / CLASSES - SOFT),
    "none": (lambda z: F.cross_entropy(z, SOFT, reduction="none").mean(), (1 / CLASSES - SOFT) / N),
    "smoothing": (
        lambda z: F.cross_entropy(z, Y, label_smoothing=0.1),
        (1 / CLASSES - (0.9 * EYE[Y] + 0.1 / CLASSES)) / N,
    ),
    "class weights": (
        lambda z: F.cross_entropy(z, Y, weight=WEIGHT),
        WEIGHT[Y][:, None] * (1 / CLASSES - EYE[Y]) / WEIGHT[Y].sum(),
    ),
    "binary": (lambda z: F.binary_cross_entropy_with_logits(z, SOFT), SIGMOID / (N * CLASSES)),
    "binary of a sigmoid": (lambda z: F.binary_cross_entropy(z.sigmoid(), SOFT), SIGMOID / (N * CLASSES)),
    "pos_weight": (
        lambda z: F.binary_cross_entropy_with_logits(z, SOFT, pos_weight=WEIGHT),
        (0.5 * (1 - SOFT) - 0.5 * WEIGHT * SOFT) / (N * CLASSES),
    ),
    "squared error": (lambda z: F.mse_loss(z, SOFT), -2 * SOFT / (N * CLASSES)),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("how", ["returns", "backward", "optimizer"])
def test_gradients(name, how):
    loss, expected = LOSSES[name]
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step() -> Any:
        value = loss(model(X))
        if how == "returns":
            return value
        value.backward()
        if how == "optimizer":
            optimizer.step()
            optimizer.zero_grad()
        return value.item()

    recording, _ = recorded(step)
    torch.testing.assert_close(recording.calls[0].gradients[0], expected)
    assert len(recording.updates) == (how == "optimizer")
    if how == "optimizer":
        assert recording.updates[0] == {CLASSES: pytest.approx(float(expected.sum(0).abs().sum()), rel=1e-5)}


@pytest.mark.parametrize(
    ("run", "name", "dtype", "options"),
    [
        (lambda z: F.cross_entropy(z, Y, WEIGHT), "cross_entropy", torch.int64, {"weight": WEIGHT}),
        (lambda z: nn.CrossEntropyLoss(ignore_index=3)(z, Y), "cross_entropy", torch.int64, {"ignore_index": 3}),
        (lambda z: F.cross_entropy(z, SOFT, label_smoothing=0.1), "cross_entropy", torch.float32, {"smoothing": 0.1}),
        (lambda z: F.cross_entropy(z, Y, reduction="none"), "cross_entropy", torch.int64, {"reduction": "none"}),
        (lambda z: nn.MSELoss()(z, SOFT), "mse_loss", torch.float32, {}),
        (
            lambda z: nn.BCEWithLogitsLoss(pos_weight=WEIGHT)(z, SOFT),
            "binary_cross_entropy_with_logits",
            torch.float32,
            {"weight": (WEIGHT + 1) / 2},
        ),
    ],
)
def test_losses_are_told(run, name, dtype, options):
    model = linear()
    recording, _ = recorded(lambda: run(model(X)))
    call = next(call for call in recording.losses if call.name == name)
    expected = {"weight": None, "ignore_index": -100, "smoothing": 0.0, "reduction": "mean"} | options
    assert call.target_dtype == dtype
    for key, value in expected.items():
        found = getattr(call, key)
        assert torch.equal(found, value) if isinstance(value, Tensor) else found == value


def test_comparisons_are_told():
    recording, _ = recorded(lambda: (linear()(X).argmax(1) == Y).sum())
    ((first, second),) = recording.equalities
    assert torch.equal(first, torch.zeros(N, dtype=torch.int64))
    assert torch.equal(second, Y)


# -- nothing is left changed -------------------------------------------------------------------------------------------


class Everything(nn.Module):
    """Has all that a step can change: parameters, statistics, buffers, modes and a configuration."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(linear(7), nn.BatchNorm1d(7), nn.Dropout(0.5))
        self.frozen = nn.BatchNorm1d(7).eval()
        self.head = linear(CLASSES, 7)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.config = Config()

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        self.config.problem_type = "single_label_classification"
        return self.head(self.frozen(self.body(x)))


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    generators = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    return {
        "weights": {name: value.clone() for name, value in model.state_dict().items()},
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "modes": [m.training for m in model.modules()],
        "generators": generators,
        "problem": model.config.problem_type,
        "call": nn.Module.__call__,
    }


def assert_equal_states(a: Any, b: Any, name: str = "") -> None:
    if isinstance(a, dict):
        assert list(a) == list(b), name
        for key in a:
            assert_equal_states(a[key], b[key], f"{name}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), name
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal_states(x, y, f"{name}[{i}]")
    elif isinstance(a, Tensor):
        assert torch.equal(a, b), name
    else:
        assert a == b, name


OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1),
}


@pytest.mark.parametrize("optimizer_name", OPTIMIZERS)
@pytest.mark.parametrize(
    ("warm", "first"),
    [(False, False), (False, True), (True, False), (True, True)],
    ids=["new", "new, cleared first", "trained", "trained, cleared first"],
)
@pytest.mark.parametrize("raises", [False, True], ids=["ends", "raises"])
def test_nothing_is_left_changed(optimizer_name, warm, first, raises):
    model = Everything()
    optimizer = OPTIMIZERS[optimizer_name](model.parameters())
    if warm:
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()
        model.config.problem_type = None

    def step() -> Tensor:
        torch.rand(3), np.random.random(), random.random()  # noqa: NPY002
        if first:
            model.train()
            optimizer.zero_grad(set_to_none=False)
        loss = F.cross_entropy(model(X + torch.rand(())), Y)
        model.train()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.head.eval()
        if raises:
            raise ZeroDivisionError
        return loss

    before = state_of(model, optimizer)
    try:
        with put_back(step), Recorder(torch.zeros_like).recording_of() as recording:
            step()
            step()
    except ZeroDivisionError:
        assert raises
    assert recording.calls
    assert_equal_states(before, state_of(model, optimizer))


def test_an_optimizer_of_an_object_is_put_back():
    class Task:
        def __init__(self) -> None:
            self.model = linear()
            self.optimizer = torch.optim.Adam(self.model.parameters())

        def step(self) -> None:
            F.cross_entropy(self.model(X), Y).backward()
            self.optimizer.step()

    task = Task()
    with put_back(task), Recorder().recording_of():
        task.step()
    assert task.optimizer.state_dict()["state"] == {}
    assert all(p.grad is None for p in task.model.parameters())


def test_a_recording_in_a_recording():
    model = linear()
    original = nn.Module.__call__
    with Recorder().recording_of() as outer:
        with Recorder(torch.zeros_like).recording_of() as inner:
            model(X)
        model(X)
    assert len(inner.calls) == 1
    assert len(outer.calls) == 2
    assert nn.Module.__call__ is original


def test_training_goes_on_as_if_nothing_had_happened():
    def trained(checked: bool) -> Tensor:
        torch.default_generator.manual_seed(3)
        model = linear()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)

        def step() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(X + torch.rand(N, 8)), Y)
            loss.backward()
            optimizer.step()
            return loss

        step()
        if checked:
            with put_back(step), Recorder(torch.zeros_like).recording_of():
                step()
        step()
        return model.weight.detach()

    assert torch.equal(trained(False), trained(True))
