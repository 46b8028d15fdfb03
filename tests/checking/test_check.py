"""`vicinal.check` of each kind of target: one that is right and one that is wrong; what it refuses; what it leaves alone."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import vicinal as v
from vicinal.checking import criteria
from vicinal.checking.report import Report
from vicinal.checking.targets import CannotCheck, kind_of
from vicinal.keyed import Key

CLASSES = 5
X = torch.from_numpy(Key(61, 0, 0, 0).generator().random((40, 3, 8, 8))).float()
Y = torch.arange(40) % CLASSES
EXAMPLE = (X[:8], Y[:8])


def drawn(n: int) -> tuple[Tensor, Tensor]:
    return torch.distributions.Beta(1.0, 1.0).sample(), torch.randperm(n)


def mix(x: Tensor, y: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    lam, other = drawn(len(x))
    return lam * x + (1 - lam) * x[other], (y, y[other], lam)


def mix_dense(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    mixed, (a, b, lam) = mix(x, y)
    eye = torch.eye(CLASSES)
    return mixed, lam * eye[a] + (1 - lam) * eye[b]


def mix_inputs(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return mix(x, y)[0], y


def swapped(x: Tensor, y: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    mixed, (a, b, lam) = mix(x, y)
    return mixed, (b, a, lam)


def stacked(examples: list[Any]) -> tuple[Tensor, Tensor]:
    return torch.stack([torch.as_tensor(x) for x, _ in examples]), torch.tensor([int(y) for _, y in examples])


def collate(examples: list[Any]) -> Any:
    return mix_dense(*stacked(examples))


def collate_inputs(examples: list[Any]) -> Any:
    return mix_inputs(*stacked(examples))


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 16), nn.ReLU(), nn.Linear(16, CLASSES))


def mixed_loss(z: Tensor, target: Any) -> Tensor:
    a, b, lam = target
    return lam * F.cross_entropy(z, a) + (1 - lam) * F.cross_entropy(z, b)


NETWORK = network()


def returning_step(x: Tensor, y: Tensor) -> Tensor:
    x, target = mix(x, y)
    return mixed_loss(NETWORK(x), target)


def wrong_step(x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(NETWORK(mix(x, y)[0]), y)


def plain_step(x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(NETWORK(x), y)


def backward_step(batch: Any, batch_idx: int) -> None:
    x, target = mix(*batch)
    mixed_loss(NETWORK(x), target).backward()


def wrong_backward_step(batch: Any, batch_idx: int) -> None:
    x, target = swapped(*batch)
    mixed_loss(NETWORK(x), target).backward()


def dict_step(batch: Any) -> dict[str, Any]:
    x, target = mix(batch["image"], batch["label"])
    return {"loss": mixed_loss(NETWORK(x), target), "lr": 0.1}


def wrong_dict_step(batch: Any) -> dict[str, Any]:
    x, target = swapped(batch["image"], batch["label"])
    return {"loss": mixed_loss(NETWORK(x), target)}


class Lit(nn.Module):
    """Has the steps and hooks of a Lightning module."""

    def __init__(self, transform: Callable[[Tensor, Tensor], Any], mixes_validation: bool = False) -> None:
        super().__init__()
        self.net, self.transform, self.mixes_validation = network(), transform, mixes_validation

    def on_before_batch_transfer(self, batch: Any, index: int) -> Any:
        return batch

    on_after_batch_transfer = on_before_batch_transfer

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, target = self.transform(*batch)
        z = self.net(x)
        return mixed_loss(z, target) if isinstance(target, tuple) else F.cross_entropy(z, target)

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        if self.mixes_validation:
            x = mix(x, y)[0]
        return F.cross_entropy(self.net(x), y)


class Arguments:
    per_device_train_batch_size, gradient_accumulation_steps, device = 8, 1, "cpu"


class Trained:
    """Has what a check asks of a Hugging Face Trainer."""

    def __init__(self, transform: Callable[[Tensor, Tensor], Any], rows: Any) -> None:
        self.model, self.transform, self.train_dataset, self.args = network(), transform, rows, Arguments()

    def data_collator(self, examples: list[Any]) -> dict[str, Any]:
        x, y = stacked([(of["pixel_values"], of["labels"]) for of in examples])
        return {"pixel_values": x, "labels": y}

    def compute_loss(self, model: nn.Module, inputs: Any) -> Tensor:
        x, y = self.transform(inputs["pixel_values"], inputs["labels"])
        return F.cross_entropy(model(x), y)

    def get_train_dataloader(self) -> Any:
        return DataLoader(self.train_dataset, batch_size=8, collate_fn=self.data_collator)

    def training_step(self, model: nn.Module, inputs: Any, count: Any = None) -> Tensor:
        loss = self.compute_loss(model, inputs) / self.args.gradient_accumulation_steps
        loss.backward()
        return loss.detach()

    def prediction_step(self, model: nn.Module, inputs: Any, prediction_loss_only: bool) -> Any:
        with torch.no_grad():
            return None, model(inputs["pixel_values"]), inputs["labels"]

    def get_batch_samples(self, batches: Any, count: int, device: Any) -> Any:
        return [next(batches) for _ in range(count)], None


class Rows(Dataset[Any]):
    """Rows that are mixed inside, of tensors that it holds."""

    def __init__(self, right: bool = True) -> None:
        self.x, self.y, self.right = X, Y, right

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Any:
        lam, j = float(drawn(1)[0]), int(torch.randint(len(self.x), ()))
        eye = torch.eye(CLASSES)
        own, other = eye[int(self.y[i])], eye[int(self.y[j])]
        return lam * self.x[i] + (1 - lam) * self.x[j], lam * own + (1 - lam) * other if self.right else own


class Stream(IterableDataset[Any]):
    def __init__(self, n: int = 40) -> None:
        self.n = n

    def __iter__(self) -> Any:
        return iter([(X[i], int(Y[i])) for i in range(self.n)])


class HalfMixed:
    """A mixing object that is called, with a switch."""

    def __init__(self, right: bool) -> None:
        self.right = right

    def __call__(self, x: Tensor, y: Tensor) -> Any:
        return mix_dense(x, y) if self.right else mix_inputs(x, y)

    def method(self, x: Tensor, y: Tensor) -> Any:
        return self(x, y)


class Layer(nn.Module):
    def __init__(self, right: bool) -> None:
        super().__init__()
        self.right = right

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return HalfMixed(self.right)(x, y)


def over(function: Any, **options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(X, Y), batch_size=8, collate_fn=function, **options)


def loop(loader: Any) -> None:
    for x, y in loader:
        x, target = mix(x, y)
        mixed_loss(NETWORK(x), target).backward()


def wrong_loop(loader: Any) -> None:
    for x, y in loader:
        F.cross_entropy(NETWORK(mix(x, y)[0]), y).backward()


def accumulating(batches: Any) -> None:
    for x, y in batches:
        x, target = mix(x, y)
        (mixed_loss(NETWORK(x), target) / len(batches)).backward()


def wrong_accumulating(batches: Any) -> None:
    for x, y in batches:
        x, target = mix(x, y)
        mixed_loss(NETWORK(x), target).backward()


def soft_loss(logits: Tensor, target: Tensor) -> Tensor:
    if target.ndim == 1:
        return F.cross_entropy(logits, target)
    return -(target * F.log_softmax(logits, 1)).sum(1).mean()


def wrong_loss(logits: Tensor, target: Tensor) -> Tensor:
    if target.ndim == 1:
        return F.cross_entropy(logits, target)
    return F.binary_cross_entropy_with_logits(logits, target)


def loss_of_the_largest(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits, target if target.ndim == 1 else target.argmax(1))


def of_rank(rank: int, world_size: int) -> DataLoader[Any]:
    part = Subset(TensorDataset(X, Y), range(rank, 40, world_size))
    seed = Key(1, rank, 0, 0).generator().integers(2**31)
    return DataLoader(part, batch_size=8, collate_fn=Drawing(int(seed)))


def of_every_rank(rank: int, world_size: int) -> DataLoader[Any]:
    part = Subset(TensorDataset(X, Y), range(rank, 40, world_size))
    return DataLoader(part, batch_size=8, collate_fn=Drawing(5))


def of_epoch(epoch: int) -> DataLoader[Any]:
    return over(Drawing(100 + epoch))


def of_any_epoch(epoch: int) -> DataLoader[Any]:
    return over(Drawing(100))


class Drawing:
    """A collate function with a generator of its own."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, examples: list[Any]) -> Any:
        x, y = stacked(examples)
        lam = torch.rand((), generator=self.generator)
        other = torch.randperm(len(x), generator=self.generator)
        eye = torch.eye(CLASSES)
        return lam * x + (1 - lam) * x[other], lam * eye[y] + (1 - lam) * eye[y[other]]


class Holder:
    """Holds a loader and mixes what comes out of it, as prefetchers do."""

    def __init__(self, loader: Any, transform: Any) -> None:
        self.loader, self.transform = loader, transform

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Any:
        return (self.transform(*batch) for batch in self.loader)


as_dict = {"image": X[:8], "label": Y[:8]}
hf_rows = [{"pixel_values": X[i], "labels": int(Y[i])} for i in range(24)]

# kind of target: what is right, what is wrong, the codes of the latter, and further arguments
KINDS: dict[str, tuple[Any, Any, list[str], dict[str, Any]]] = {
    "transform": (mix, mix_inputs, ["VIC002"], {"example": EXAMPLE}),
    "transform of a batch": (
        lambda batch: mix(*batch),
        lambda batch: mix_inputs(*batch),
        ["VIC002"],
        {"example": EXAMPLE},
    ),
    "transform with lambdas exchanged": (mix_dense, swapped, ["VIC001"], {"example": EXAMPLE}),
    "lambda expression": (lambda x, y: mix(x, y), lambda x, y: (mix(x, y)[0], y), ["VIC002"], {"example": EXAMPLE}),
    "partial": (
        functools.partial(lambda scale, x, y: mix(x * scale, y), 1.0),
        functools.partial(lambda scale, x, y: mix_inputs(x * scale, y), 1.0),
        ["VIC002"],
        {"example": EXAMPLE},
    ),
    "callable object": (HalfMixed(True), HalfMixed(False), ["VIC002"], {"example": EXAMPLE}),
    "bound method": (HalfMixed(True).method, HalfMixed(False).method, ["VIC002"], {"example": EXAMPLE}),
    "module": (Layer(True), Layer(False), ["VIC002"], {"example": EXAMPLE}),
    "our own": (v.Mixup(1.0), mix_inputs, ["VIC002"], {"example": EXAMPLE}),
    "collate function": (collate, collate_inputs, ["VIC002"], {"example": EXAMPLE}),
    "loader": (over(collate), over(collate_inputs), ["VIC002"], {}),
    "loader with workers": (over(collate, num_workers=2), over(collate_inputs, num_workers=2), ["VIC002"], {}),
    "dataset that mixes": (DataLoader(Rows(), batch_size=8), DataLoader(Rows(False), batch_size=8), ["VIC002"], {}),
    "stream": (
        DataLoader(Stream(), batch_size=8, collate_fn=collate),
        DataLoader(Stream(), batch_size=8, collate_fn=collate_inputs),
        ["VIC002"],
        {},
    ),
    "holder of a loader": (Holder(over(None), mix_dense), Holder(over(None), mix_inputs), ["VIC002"], {}),
    "step": (returning_step, wrong_step, ["VIC002"], {"example": EXAMPLE}),
    "step with a backward step": (backward_step, wrong_backward_step, ["VIC001"], {"example": EXAMPLE}),
    "step of a mapping": (dict_step, wrong_dict_step, ["VIC001"], {"example": as_dict}),
    "loop": (loop, wrong_loop, ["VIC002"], {"example": EXAMPLE}),
    "micro-batches": (accumulating, wrong_accumulating, ["VIC054"], {"example": EXAMPLE}),
    "loss": (soft_loss, wrong_loss, ["VIC053"], {}),
    "module of a loss": (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(weight=torch.arange(1.0, 6.0)), ["VIC051"], {}),
    "Lightning module": (Lit(mix), Lit(mix_inputs), ["VIC002"], {"example": EXAMPLE}),
    "factory of a loader": (lambda: over(collate), lambda: over(collate_inputs), ["VIC002"], {}),
    "factory of a transform": (lambda: mix, lambda: mix_inputs, ["VIC002"], {"example": EXAMPLE}),
    "factory of two": (lambda: (over(collate), over(None)), lambda: (over(collate), over(collate)), ["VIC040"], {}),
    "factory of a mapping": (
        lambda: {"train": over(collate), "val": over(None)},
        lambda: {"train": over(collate), "val": over(collate)},
        ["VIC040"],
        {},
    ),
    "ranks": (of_rank, of_every_rank, ["VIC024"], {}),
    "epochs": (of_epoch, of_any_epoch, ["VIC025"], {}),
}


def checked(target: Any, options: dict[str, Any]) -> Report:
    options = dict(options)
    return v.check(target, options.pop("example", None), **options)


def state_of(target: Any) -> Any:
    """Return what a check must put back."""
    models = [NETWORK, getattr(target, "net", None), getattr(target, "model", None), target]
    models = [model for model in models if isinstance(model, nn.Module)]
    weights = [value.clone() for model in models for value in model.state_dict().values()]
    modes = [module.training for model in models for module in model.modules()]
    gradients = [p.grad for model in models for p in model.parameters()]
    numbers = np.random.get_state()[1].tolist()  # noqa: NPY002
    rows = [X.clone(), Y.clone(), torch.get_rng_state()]
    return weights + rows, [modes, gradients, numbers, random.getstate(), nn.Module.__call__]


def assert_found(kind: str, which: int) -> Report:
    """Check a target; see that all is as it was."""
    target, options = KINDS[kind][which], KINDS[kind][3]
    tensors, others = state_of(target)
    report = checked(target, options)
    after, others_after = state_of(target)
    assert all(torch.equal(a, b) for a, b in zip(tensors, after, strict=True))
    assert others == others_after
    assert report.codes == ([], KINDS[kind][2])[which]
    return report


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_found_in_what_is_right(kind):
    report = assert_found(kind, 0)
    assert report.passed
    report.raise_if_failed()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_wrong_is_found(kind):
    report = assert_found(kind, 1)
    assert not report.passed
    with pytest.raises(AssertionError, match=report.codes[0]):
        report.raise_if_failed()


def test_a_loss_of_the_largest_share_is_wrong_for_any_number_of_classes():
    assert all({"VIC050"} == {of.code for of in criteria.findings(loss_of_the_largest, n)} for n in range(4, 24))


@pytest.mark.parametrize("kind", ["transform", "loader", "step", "loss"])
def test_a_report_repeats_exactly(kind):
    _, target, _, options = KINDS[kind]
    torch.rand(5)
    first = checked(target, options).to_dict()
    torch.rand(3), np.random.random(), random.random()  # noqa: NPY002
    second = checked(target, options).to_dict()
    for report in (first, second):  # what depends on the machine
        report.pop("seconds")
        for name in ("cost", "before the model"):
            report["facts"].pop(name, None)
    assert first == second


# -- evaluation --------------------------------------------------------------------------------------------------------


def test_evaluation_that_is_given():
    assert "plain" in v.check(over(collate), evaluate=over(None)).facts["evaluation"]
    report = v.check(over(collate), evaluate=over(collate))
    assert report.codes == ["VIC040"]
    assert "of 8 batches of the evaluation loader are mixed" in report.findings[0].seen

    assert "plain" in v.check(returning_step, EXAMPLE, evaluate=plain_step).facts["evaluation"]
    assert v.check(returning_step, EXAMPLE, evaluate=wrong_step).codes == ["VIC040"]
    assert v.check(Lit(mix, mixes_validation=True), EXAMPLE).codes == ["VIC040"]
    assert "plain" in v.check(Lit(mix), EXAMPLE).facts["evaluation"]


def test_evaluation_in_a_function():
    def valid(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(NETWORK(x), y)

    assert "plain" in v.check(returning_step, EXAMPLE, evaluate=valid).facts["evaluation"]


MODULE = """
import torch, torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

model = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
optimizer = torch.optim.Adam(model.parameters())
criterion = nn.CrossEntropyLoss()

def mix(x, y):
    lam, other = torch.rand(()), torch.randperm(len(x))
    return lam * x + (1 - lam) * x[other], y, y[other], lam

def train_step(model, x, y, optimizer, criterion):
    x, a, b, lam = mix(x, y)
    z = model(x)
    loss = lam * criterion(z, a) + (1 - lam) * criterion(z, b)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()

def wrong_step(model, x, y, optimizer, criterion):
    x, a, b, lam = mix(x, y)
    loss = criterion(model(x), a)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
"""


def module(code: str = "") -> dict[str, Any]:
    scope: dict[str, Any] = {"__name__": "a_training_program"}
    exec(MODULE + code, scope)
    return scope


def test_models_and_examples_of_a_module():
    scope = module("example = torch.rand(8, 3, 4, 4), torch.arange(8) % 5")
    assert v.check(scope["train_step"]).codes == []
    assert v.check(scope["wrong_step"]).codes == ["VIC002"]
    assert scope["optimizer"].state_dict()["state"] == {}


@pytest.mark.parametrize(
    "code",
    [
        "loader = DataLoader(TensorDataset(torch.rand(16, 3, 4, 4), torch.arange(16) % 5), batch_size=8)",
        "def make_loader():\n"
        "    return DataLoader(TensorDataset(torch.rand(16, 3, 4, 4), torch.arange(16) % 5), batch_size=8)",
        "dataset = TensorDataset(torch.rand(16, 3, 4, 4), torch.arange(16) % 5)",
        "",  # the model's first layer takes 48 numbers
    ],
    ids=["loader", "make_loader", "dataset", "model"],
)
def test_examples_by_name(code):
    scope = module(code)
    assert v.check(scope["train_step"]).codes == []
    assert v.check(scope["wrong_step"]).codes == ["VIC002"]


@pytest.mark.parametrize("name", ["eval_step", "validation_step", "val_step", "evaluate"])
def test_evaluation_by_name(name):
    code = "example = torch.rand(8, 3, 4, 4), torch.arange(8) % 5\n" + f"def {name}(model, x, y, criterion):\n"
    right = module(code + "    return criterion(model(x), y)")
    assert "plain" in v.check(right["train_step"]).facts["evaluation"]
    wrong = module(code + "    return criterion(model(mix(x, y)[0]), y)")
    assert v.check(wrong["train_step"]).codes == ["VIC040"]


@pytest.mark.parametrize("name", ["eval_loader", "val_loader", "make_eval_loader"])
def test_evaluation_loaders_by_name(name):
    made = "DataLoader(TensorDataset(torch.rand(16, 3, 4, 4), torch.arange(16) % 5), batch_size=8, collate_fn=collate)"
    code = f"""
def collate(examples):
    x, y = torch.stack([x for x, _ in examples]), torch.stack([y for _, y in examples])
    x, a, b, lam = mix(x, y)
    return x, (a, b, lam)
{f"def {name}(): return {made}" if name.startswith("make") else f"{name} = {made}"}
def make_loader():
    return {made}
"""
    assert v.check(module(code)["make_loader"]).codes == ["VIC040"]


# -- what is declared --------------------------------------------------------------------------------------------------


def smoothed(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    x, shares = mix_dense(x, y)
    return x, 0.9 * shares + 0.1 / CLASSES


def half_of_the_time(x: Tensor, y: Tensor) -> Any:
    return mix_dense(x, y) if torch.rand(()) < 0.5 else (x, torch.eye(CLASSES)[y])


def test_declared_values():
    assert v.check(mix, EXAMPLE, alpha=1.0).codes == []
    report = v.check(mix, EXAMPLE, alpha=0.1)
    assert report.codes == ["VIC020"]
    assert "Beta(0.1, 0.1) has 0.500" in report.findings[0].seen
    assert v.check(mix, EXAMPLE, p=1.0).codes == []
    assert v.check(half_of_the_time, EXAMPLE, p=0.5).codes == []
    assert v.check(half_of_the_time, EXAMPLE, p=1.0).codes == ["VIC029"]
    assert v.check(smoothed, EXAMPLE, smoothing=0.1).codes == []
    report = v.check(smoothed, EXAMPLE)
    assert report.codes == ["VIC012"]
    assert "smoothing 0.1 over 5 classes" in report.findings[0].seen
    assert v.check(smoothed, EXAMPLE, smoothing=0.2).codes == ["VIC012"]


def plain(x: Tensor, y: Tensor) -> Any:
    return x.clone(), y


def test_nothing_is_meant_to_be_mixed():
    assert v.check(plain, EXAMPLE).codes == ["VIC005"]
    assert v.check(plain, EXAMPLE, alpha=0).codes == []


def test_a_probability_of_0():
    assert v.check(plain, EXAMPLE, p=0).codes == []


def test_codes_that_are_ignored():
    report = v.check(mix_inputs, EXAMPLE, ignore=("vic002",))
    assert report.codes == []
    assert [finding.code for finding in report.ignored] == ["VIC002"]
    assert report.passed
    assert "ignored: VIC002" in str(report)
    with pytest.raises(ValueError, match="there is no code 'VIC999'"):
        v.check(mix_inputs, EXAMPLE, ignore=("VIC999",))


def test_kinds_that_are_declared():
    def unclear(a: Tensor, b: Tensor) -> Any:
        return mix_dense(a, b)

    assert v.check(unclear, EXAMPLE, kind="transform").codes == []
    assert v.check(lambda rows: collate(rows), EXAMPLE, kind="collate").codes == []


def test_numbers_of_draws():
    seen: list[int] = []

    def counted(x: Tensor, y: Tensor) -> Any:
        seen.append(len(x))
        return mix(x, y)

    facts = v.check(counted, EXAMPLE, draws=5).facts
    assert facts["mixed"].endswith("of 5 batches of 8 rows")


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        (mix, "unknown"),
        (lambda examples: 0, "collate"),
        (lambda features: 0, "collate"),
        (collate, "collate"),
        (over(collate), "loader"),
        ([EXAMPLE], "batches"),
        (soft_loss, "loss"),
        (nn.CrossEntropyLoss(), "loss"),
        (Layer(True), "transform"),
        (Lit(mix), "lightning"),
        (Trained(mix, hf_rows), "trainer"),
        (lambda: 0, "factory"),
        (Layer, "factory"),
        (loop, "run"),
        (accumulating, "step"),
        (of_rank, "factory"),
        (of_epoch, "factory"),
        (HalfMixed(True), "unknown"),
    ],
)
def test_what_a_target_is_taken_for(target, kind):
    assert kind_of(target) == kind


# -- what cannot be checked --------------------------------------------------------------------------------------------


def raising(x: Tensor, y: Tensor) -> Any:
    raise RuntimeError("sizes do not match\nand more")


def silent(x: Tensor, y: Tensor) -> str:
    return "nothing"


def unclear_step(a: Tensor, b: Tensor, c: Tensor) -> Any:
    return a


no_rows = TensorDataset(X[:0], Y[:0])


@pytest.mark.parametrize(
    ("target", "options", "sentence"),
    [
        (12, {}, "a int cannot be checked: give a loader, a collate function"),
        (mix, {"example": EXAMPLE, "off": 3}, "off must be what switches mixing off when it is called, got 3"),
        (mix, {"example": object()}, "a object is not an example: give a batch"),
        (mix, {"example": (1.0, 2)}, "the example holds no tensor with rows"),
        (raising, {"example": EXAMPLE}, r"failed on the example that was given \(RuntimeError: sizes do not match\)"),
        (raising, {}, "raising failed on examples of images, or of its model's sizes"),
        (silent, {"example": EXAMPLE}, "nothing that came out could be read"),
        (unclear_step, {"example": EXAMPLE}, r"unclear_step\(a, b, c\): it is not clear what to give for a, b, c"),
        (lambda a, b: a, {"kind": "factory"}, "needs a, b: give what it makes"),
        (lambda: None, {}, r"returned None: give what returns a loader"),
        (DataLoader(no_rows, batch_size=8), {}, "the loader's dataset is empty"),
        (
            DataLoader(TensorDataset(X[:5], Y[:5]), batch_size=8, drop_last=True),
            {},
            "an epoch has no batch: 5 rows, batches of 8 and drop_last=True",
        ),
        ([], {}, "the loader has no batches"),
        (DataLoader(Stream(0), batch_size=8), {}, "the stream has no examples"),
        (Trained(mix_dense, None), {}, "the Trainer has no train_dataset"),
    ],
)
def test_what_cannot_be_checked(target, options, sentence):
    with pytest.raises(CannotCheck, match=sentence):
        checked(target, options)


def test_a_loss_that_takes_nothing_cannot_be_checked():
    def broken_loss(logits: Tensor, target: Tensor) -> Tensor:
        raise TypeError("not this")

    with pytest.raises(CannotCheck, match="the loss failed on logits"):
        v.check(broken_loss)


# -- the user's objects are left as they are ---------------------------------------------------------------------------


def test_a_collate_functions_own_generator_is_not_drawn_from():
    own = Drawing(7)
    for target in (own, over(own), over(own, num_workers=1)):
        before = own.generator.get_state()
        v.check(target, EXAMPLE if target is own else None)
        assert torch.equal(own.generator.get_state(), before)


@pytest.mark.parametrize(
    "target_of",
    [
        lambda ours: ours,
        lambda ours: v.Collate(ours),
        lambda ours: over(v.Collate(ours)),
        lambda ours: over(v.Collate(ours), num_workers=2),
    ],
    ids=["itself", "collate", "loader", "workers"],
)
def test_a_vicinity_counts_no_step(target_of):
    ours, untouched = v.Mixup(1.0, seed=3), v.Mixup(1.0, seed=3)
    target = target_of(ours)
    v.check(target, None if isinstance(target, DataLoader) else EXAMPLE)
    torch.testing.assert_close(ours(*EXAMPLE)[0], untouched(*EXAMPLE)[0], rtol=0, atol=0)


def test_a_transforms_own_generator_is_not_drawn_from():
    class Transform:
        def __init__(self) -> None:
            self.generator = torch.Generator().manual_seed(7)

        def __call__(self, x: Tensor, y: Tensor) -> Any:
            lam, other = torch.rand((), generator=self.generator), torch.randperm(len(x), generator=self.generator)
            return lam * x + (1 - lam) * x[other], (y, y[other], lam)

    own = Transform()
    before = own.generator.get_state()
    assert v.check(own, EXAMPLE).codes == []
    assert torch.equal(own.generator.get_state(), before)


@pytest.mark.parametrize("kind", ["loader", "dataset that mixes"])
def test_datasets_are_byte_for_byte_as_they_were(kind):
    before = X.clone(), Y.clone()
    _, target, _, _ = KINDS[kind]
    attributes = {key: id(value) for key, value in vars(target).items()}
    inner = {key: id(value) for key, value in vars(target.dataset).items()}
    v.check(target)
    assert torch.equal(X, before[0])
    assert torch.equal(Y, before[1])
    assert {key: id(value) for key, value in vars(target).items()} == attributes
    assert {key: id(value) for key, value in vars(target.dataset).items()} == inner


def test_a_collate_function_that_writes_leaves_the_dataset_alone():
    array = X.numpy().copy()
    rows = [(array[i], int(Y[i])) for i in range(40)]

    def overwriting(examples: list[Any]) -> Any:
        lam, other = drawn(len(examples))
        first = [np.copy(examples[int(j)][0]) for j in other]
        for (x, _), second in zip(examples, first, strict=True):
            x *= float(lam)
            x += (1 - float(lam)) * second
        x, y = stacked(examples)
        eye = torch.eye(CLASSES)
        return x, lam * eye[y] + (1 - lam) * eye[y[other]]

    report = v.check(DataLoader(rows, batch_size=8, collate_fn=overwriting))  # pyright: ignore
    assert report.codes == ["VIC030"]
    np.testing.assert_array_equal(array, X.numpy())


def test_a_check_that_fails_leaves_everything_alone():
    before = torch.get_rng_state(), nn.Module.__call__

    def step(x: Tensor, y: Tensor) -> Tensor:
        NETWORK(x)
        raise ZeroDivisionError

    with pytest.raises(CannotCheck, match="ZeroDivisionError"):
        v.check(step, EXAMPLE)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert nn.Module.__call__ is before[1]


def test_the_example_is_left_alone():
    x, y = EXAMPLE[0].clone(), EXAMPLE[1].clone()

    def in_place(x: Tensor, y: Tensor) -> Any:
        lam, other = drawn(len(x))
        x.mul_(lam).add_((1 - lam) * x[other] / lam)
        return x, (y, y[other], lam)

    assert "VIC031" in v.check(in_place, (x, y)).codes
    assert torch.equal(x, EXAMPLE[0])
    assert torch.equal(y, EXAMPLE[1])


# -- a report ----------------------------------------------------------------------------------------------------------


def test_a_report_says_where_the_target_is():
    report = v.check(mix_inputs, EXAMPLE)
    assert report.target.endswith("mix_inputs")
    assert report.file is not None
    assert report.file.endswith("test_check.py")
    lines = Path(report.file).read_text(encoding="utf-8").splitlines()
    assert report.line is not None
    assert lines[report.line - 1].startswith("def mix_inputs")
    assert 0 < report.seconds < 60


# -- content that is scaled before it is mixed -------------------------------------------------------------------------


def normalized(x: Tensor, y: Tensor) -> Any:
    return mix((x - 0.13) / 0.31, y)


def normalized_step(x: Tensor, y: Tensor) -> Tensor:
    x, target = mix((x - 0.13) / 0.31, y)
    return mixed_loss(NETWORK(x), target)


def too_much(x: Tensor, y: Tensor) -> Any:
    lam, other = drawn(len(x))
    return lam * x + x[other], (y, y[other], lam)


def too_much_or_too_little(x: Tensor, y: Tensor) -> Any:
    lam, other = drawn(len(x))
    return lam * x + 0.5 * x[other], (y, y[other], lam)


@pytest.mark.parametrize("target", [normalized, normalized_step])
def test_rows_may_be_normalized(target):
    assert v.check(target, EXAMPLE).codes == []


@pytest.mark.parametrize("target", [too_much, too_much_or_too_little])
def test_weights_that_do_not_sum_to_1(target):
    report = v.check(target, EXAMPLE)
    assert "VIC006" in report.codes
    assert "VIC002" not in report.codes


class MixesOneOfTwo(Dataset[tuple[Tensor, int]]):
    def __init__(self) -> None:
        self.rows = TensorDataset(X, Y)
        self.others = TensorDataset(X, Y)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]


def test_plain_names_one_of_the_datasets_that_are_held_and_no_other():
    dataset = MixesOneOfTwo()
    loader = DataLoader(dataset, batch_size=8, collate_fn=collate)
    assert v.check(loader, plain=dataset.rows).codes == v.check(loader).codes == []
    with pytest.raises(CannotCheck, match="plain is not a dataset that the loader's dataset holds"):
        v.check(loader, plain=TensorDataset(X, Y))


@pytest.mark.parametrize("target", [mix, collate, Stream()])
def test_plain_is_refused_where_there_is_no_dataset_to_choose(target):
    target = DataLoader(target, batch_size=8) if isinstance(target, IterableDataset) else target
    with pytest.raises(CannotCheck, match="plain chooses among the datasets that a loader's dataset holds"):
        v.check(target, plain=TensorDataset(X, Y), example=EXAMPLE)
