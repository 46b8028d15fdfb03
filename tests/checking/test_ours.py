"""Nothing is found in what is ours: every vicinity, on every kind of batch, in every place where it can mix."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import vicinal as v
from vicinal.checking.report import Report
from vicinal.checking.targets import CannotCheck
from vicinal.keyed import Key
from vicinities import CASES

N, CLASSES = 8, 5


def content(*shape: int, key: int = 0) -> Tensor:
    return torch.from_numpy(Key(71, 0, 0, key).generator().random(shape)).float()


IMAGES, IDS = content(N, 3, 12, 12), torch.arange(N) % CLASSES
BATCHES: dict[str, tuple[Tensor, Tensor]] = {
    "images": (IMAGES, IDS),
    "soft labels": (IMAGES, torch.eye(CLASSES)[IDS]),
    "tables": (content(N, 6), IDS),
    "waveforms": (2 * content(N, 1, 200) - 1, IDS),
    "bytes": ((255 * IMAGES).byte(), IDS),
    "half": (IMAGES.half(), IDS),
    "bfloat16": (IMAGES.bfloat16(), IDS),
    "maps": (IMAGES, (torch.arange(N * 144).reshape(N, 12, 12) * 7) % CLASSES),
    "numbers": (content(N, 6), 10 * content(N, key=1)),
    "points": (content(N, 6), 10 * content(N, 3, key=1)),
    "several labels": (IMAGES, (content(N, 6, key=2) < 0.4).float()),
    "three columns": (content(N, 3), IDS),
}
WHOLE_TABLE = ("images", "three columns")
SOME = ("erm", "mixup", "mixup-per-example", "input-mixup", "cutmix", "smoothing", "choice", "noise")
OFF = ("erm", "smoothing", "scheduled-off", "mixup-rare")  # mix nothing, or next to nothing
UNREAD = ("noise", "chain-of-all")  # noise on every cell
COLUMNS = ("column-mix", "feat-mix")  # of tables alone
BY_DESIGN = {
    "selective-unmixed": {"VIC005"},  # resampled, and mixed by nothing
    "remix": {"VIC001"},  # the label goes to the rarer class
    "column-mix": {"VIC027"},  # of three columns a row often gives or takes all
    "feat-mix": {"VIC001", "VIC027"},  # and the label goes by the importance of columns
}


def assert_nothing(report: Report, name: str) -> None:
    """Assert that neither an error nor a warning was found, and that this was no wonder."""
    if name in ("scheduled-off", "mixup-rare"):
        assert set(report.codes) <= {"VIC005"}  # which is true: of this epoch, of lambdas of Beta(0.01, 0.01)
        return
    assert set(report.codes) <= BY_DESIGN.get(name, set())
    if name in UNREAD:
        assert "switch random augmentation off" in report.skipped["shares of the inputs"]
    elif name not in (*OFF, "selective-unmixed"):
        assert "mixed" in report.facts


def cases() -> list[Any]:
    found = []
    for kind, case in itertools.product(BATCHES, CASES):
        if (case.numbers and kind != "numbers") or (kind not in WHOLE_TABLE and case.name not in SOME):
            continue
        if (case.name in COLUMNS) != (kind == "three columns"):
            continue
        found.append(pytest.param(kind, case, id=f"{kind}-{case.name}"))
    return found


@pytest.mark.parametrize(("kind", "case"), cases())
def test_calls(kind, case):
    if refuses(case, kind):
        with pytest.raises(CannotCheck, match="failed on the example that was given"):
            v.check(case.fresh(), BATCHES[kind])
        return
    report = v.check(case.fresh(), BATCHES[kind], draws=24 if case.name == "mixup-rare" else 6)
    assert_nothing(report, case.name)


def refuses(case: Any, kind: str) -> bool:
    """Return whether a vicinity takes no such batch without any check either."""
    try:
        case.fresh()(*BATCHES[kind])
    except (TypeError, ValueError):
        return True
    return False


@pytest.mark.parametrize("case", [case for case in CASES if not case.numbers], ids=str)
def test_collate_functions(case):
    batch = BATCHES["three columns" if case.name in COLUMNS else "images"]
    assert_nothing(v.check(v.Collate(case.fresh()), batch, draws=8), case.name)


REPRESENTATIVES = {
    "mixup": v.Mixup(0.4, seed=0),
    "per-example": v.Mixup(v.Beta(1.0, per="example"), seed=0),
    "cutmix": v.CutMix(1.0, seed=0),
    "choice": v.Choice([v.Mixup(0.4), v.CutMix(1.0)], seed=0),
    "input-mixup": v.InputMixup(1.0, seed=0),
    "smoothed": v.Chain([v.Mixup(0.4), v.LabelSmoothing(0.1)], seed=0),
    "erm": v.ERM(),
}
each = pytest.mark.parametrize("name", REPRESENTATIVES)
ROWS = TensorDataset(content(103, 3, 12, 12), torch.arange(103) % CLASSES)


@pytest.mark.parametrize(
    ("name", "workers"), [*((name, 0) for name in REPRESENTATIVES), *((name, 2) for name in ("mixup", "choice", "erm"))]
)
def test_loaders(name, workers):
    loader = DataLoader(
        ROWS,
        batch_size=16,
        shuffle=True,
        collate_fn=v.Collate(REPRESENTATIVES[name]),
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    report = v.check(loader, evaluate=DataLoader(ROWS, batch_size=16))
    assert_nothing(report, name)
    assert "plain" in report.facts["evaluation"]


@pytest.mark.parametrize(
    "kind",
    [
        "images",
        "several labels",
        "points",
    ],
)
def test_plain_evaluation(kind):
    x, y = BATCHES[kind]
    rows = TensorDataset(x.repeat(4, *(1,) * (x.ndim - 1)), y.repeat(4, *(1,) * (y.ndim - 1)))
    report = v.check(DataLoader(rows, batch_size=8, collate_fn=v.Collate(v.Mixup(1.0))), evaluate=DataLoader(rows, 8))
    assert report.codes == []


# -- steps -------------------------------------------------------------------------------------------------------------


def network(inputs: int = 432, classes: int = CLASSES) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, classes))


NETWORK = network()
CRITERIA: dict[str, nn.Module] = {
    "plain": nn.CrossEntropyLoss(),
    "weights": nn.CrossEntropyLoss(weight=torch.arange(1.0, 6.0)),
    "smoothing": nn.CrossEntropyLoss(label_smoothing=0.1),
    "ignored": nn.CrossEntropyLoss(ignore_index=255),
    "ignored class": nn.CrossEntropyLoss(ignore_index=2),
}


@each
def test_steps(name):
    vicinity = REPRESENTATIVES[name]

    def step(x: Tensor, y: Tensor) -> Tensor:
        x, target = vicinity(x, y)
        return F.cross_entropy(NETWORK(x), target)

    report = v.check(step, BATCHES["images"], smoothing=0.1 if name == "smoothed" else None)
    if name == "erm":
        assert report.codes == ["VIC005"]  # a step does not say that it means to mix nothing
    elif name == "input-mixup":
        assert {"VIC001", "VIC011"} & set(report.codes)  # nor that labels are those of the nearer row, on purpose
    else:
        assert_nothing(report, name)


@pytest.mark.parametrize("criterion", list(CRITERIA), ids=str)
def test_losses_of_mixed_targets(criterion):
    mixed = v.losses.mixed(CRITERIA[criterion])
    assert v.check(mixed, kind="loss").codes == []

    def step(x: Tensor, y: Tensor) -> Tensor:
        x, target = REPRESENTATIVES["mixup"](x, y)
        return mixed(NETWORK(x), target)

    report = v.check(step, BATCHES["images"], smoothing=0.1 if criterion == "smoothing" else None)
    assert_nothing(report, "mixup")


def test_binary_losses():
    net = network(classes=6)

    def step(x: Tensor, y: Tensor) -> Tensor:
        x, target = REPRESENTATIVES["mixup"](x, y)
        return F.binary_cross_entropy_with_logits(net(x), target)

    assert_nothing(v.check(step, BATCHES["several labels"]), "mixup")


def test_numbers_to_predict():
    net = network(6, 3)

    def step(x: Tensor, y: Tensor) -> Tensor:
        x, target = REPRESENTATIVES["mixup"](x, y)
        return F.mse_loss(net(x), target)

    assert_nothing(v.check(step, BATCHES["points"]), "mixup")


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_maps_of_classes(name):
    net = nn.Conv2d(3, CLASSES, 3, padding=1)

    def step(x: Tensor, y: Tensor) -> Tensor:
        x, target = REPRESENTATIVES[name](x, y)
        return v.losses.mixed(nn.CrossEntropyLoss())(net(x), target)

    assert_nothing(v.check(step, BATCHES["maps"]), name)


@pytest.mark.parametrize("places", [["1"], ["3"], ["1", "3"], ["0", "1", "3"]], ids=str)
def test_latent_mixing(places):
    net = network()
    latent, mixup, count = v.LatentMixing(net, places), v.Mixup(1.0), itertools.count()

    def step(x: Tensor, y: Tensor) -> Tensor:
        with latent(mixup.plan(len(x), y, step=next(count))) as plan:
            return F.cross_entropy(net(x), plan.target(y))

    assert_nothing(v.check(step, BATCHES["images"]), "mixup")


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        seen = mask[..., None].to(x)
        return self.head((x * seen).sum(1) / seen.sum(1))


@pytest.mark.parametrize("united", [True, False])
def test_embedded_tokens_with_masks(united):
    embedding, reader, mixup, count = nn.Embedding(50, 16), Reader(), v.Mixup(1.0), itertools.count()
    batch = {
        "input_ids": (torch.arange(N * 12).reshape(N, 12) * 17) % 50,
        "attention_mask": torch.ones(N, 12, dtype=torch.long),
        "label": IDS,
    }

    def step(batch: dict[str, Tensor]) -> Tensor:
        plan = mixup.plan(N, batch["label"], step=next(count))
        mask = plan.union(batch["attention_mask"]) if united else batch["attention_mask"]
        return F.cross_entropy(reader(plan(embedding(batch["input_ids"])), mask), plan.target(batch["label"]))

    report = v.check(step, batch)
    assert report.codes == ([] if united else ["VIC042"])
    assert "mixed" in report.facts


@pytest.mark.parametrize(("alpha", "codes"), [(0.4, []), (4.0, ["VIC020"])])
def test_declared_distributions(alpha, codes):
    assert v.check(v.Mixup(0.4), BATCHES["images"], alpha=alpha).codes == codes
