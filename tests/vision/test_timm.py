"""The installed timm beside ours: given its lambda, partners and box, images and labels agree; what differs, for both."""

import inspect
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, default_collate

import vicinal
from vicinal import losses, metrics
from vicinal.integrations import timm as ours
from vicinal.keyed import Key
from vision.given_key import Given

pytest.importorskip("timm", reason="needs timm: make test-vision")
import timm.loss
from timm.data import FastCollateMixup
from timm.data import Mixup as Theirs
from timm.data import mixup as their_module
from timm.utils import accuracy

N, CLASSES = 8, 6
RANDOM = Key(0, 0, 0, 0).generator()
X = torch.from_numpy(RANDOM.normal(size=(N, 3, 12, 10))).float()
Y = torch.from_numpy(RANDOM.integers(0, CLASSES, N))
SEVERAL = F.one_hot(Y, CLASSES) | F.one_hot((Y + 2) % CLASSES, CLASSES)
LOGITS = torch.from_numpy(RANDOM.normal(size=(N, CLASSES))).float()


class Reversed(vicinal.Pairing):
    """timm's partners: the batch from its end."""

    def draw(self, generator, n, y, x):
        return np.arange(n)[::-1].copy()


def pair(monkeypatch, alphas, target=Y, **options):
    """Return timm's and our images and labels of the same draw: its NumPy is told our lambda, and its box is ours."""
    mixup_fn = ours.Mixup(*alphas, num_classes=CLASSES, seed=3, **options)
    mixup_fn.vicinity = replace(mixup_fn.vicinity, pairing=Reversed())
    plan = mixup_fn.vicinity.plan(N, target if options.get("multi_label") is None else None, X, step=0)
    share = plan.weight.double().numpy()
    monkeypatch.setattr(np.random, "beta", lambda a, b, size=None: share if size else share[0])
    if plan.box is not None:
        boxes = (tuple(int(at) for at in box.flatten()) for box in plan.box)
        monkeypatch.setattr(their_module, "rand_bbox", lambda *args, **more: next(boxes))
    their_images, their_labels = Theirs(*alphas, num_classes=CLASSES, **options)(X.clone(), target)
    images, labels = mixup_fn(X, target)
    assert not torch.equal(images, X)
    return (their_images, their_labels), (images, labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mode", ["batch", "elem"])
@pytest.mark.parametrize("alphas", [(0.8, 0.0), (0.0, 1.0)], ids=["mixup", "cutmix"])
def test_images_and_labels_are_timms(monkeypatch, alphas, mode, smoothing):
    theirs, here = pair(monkeypatch, alphas, mode=mode, label_smoothing=smoothing)
    for of_timm, of_ours in zip(theirs, here, strict=True):
        assert of_timm.dtype == of_ours.dtype == torch.float32
        torch.testing.assert_close(of_ours, of_timm, atol=1e-6, rtol=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("target", [SEVERAL, SEVERAL.float()], ids=["0/1 integers", "floats"])
def test_several_labels_per_image_are_timms(monkeypatch, target, smoothing):
    theirs, here = pair(monkeypatch, (0.8, 0.0), target, label_smoothing=smoothing, multi_label=True)
    for of_timm, of_ours in zip(theirs, here, strict=True):
        torch.testing.assert_close(of_ours, of_timm, atol=1e-6, rtol=0)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.0}, {"multi_label": True}])
def test_disabled_both_smooth_and_do_not_mix(options):
    target = SEVERAL if options.get("multi_label") else Y
    of_both = []
    for kind in (Theirs, ours.Mixup):
        mixup_fn = kind(num_classes=CLASSES, **options)
        mixup_fn.mixup_enabled = False
        of_both.append(mixup_fn(X.clone(), target))
    (their_images, their_labels), (images, labels) = of_both
    assert torch.equal(images, X)
    assert torch.equal(their_images, X)
    torch.testing.assert_close(labels, their_labels, atol=1e-6, rtol=0)


def test_every_argument_is_there_in_its_place_with_its_default():
    theirs, here = (list(inspect.signature(kind).parameters.values()) for kind in (Theirs, ours.Mixup))
    assert [(p.name, p.default) for p in here[: len(theirs)]] == [(p.name, p.default) for p in theirs]
    assert [p.name for p in here[len(theirs) :]] == ["seed"]
    theirs, here = (list(inspect.signature(kind.__call__).parameters) for kind in (Theirs, ours.Mixup))
    assert here[:3] == theirs == ["self", "x", "target"]


# -- what differs --------------------------------------------------------------------------------------------------------


def test_odd_batches():
    with pytest.raises(AssertionError, match="Batch size should be even"):
        Theirs(num_classes=CLASSES)(X[:5].clone(), Y[:5])
    images, labels = ours.Mixup(num_classes=CLASSES, seed=3)(X[:5], Y[:5])
    assert not torch.equal(images, X[:5])
    torch.testing.assert_close(labels.sum(1), torch.ones(5))


def test_the_images_given(monkeypatch):
    monkeypatch.setattr(np.random, "beta", lambda *args: 0.3)
    given = X.clone()
    Theirs(num_classes=CLASSES)(given, Y)
    assert not torch.equal(given, X)
    ours.Mixup(num_classes=CLASSES, seed=3)(given := X.clone(), Y)
    assert torch.equal(given, X)


def test_images_of_bytes():
    """timm rounds its lambda to a byte, so that every label becomes the partner's; ours rounds the image."""
    image = (X * 40 + 120).clamp(0, 255).byte()
    _, labels = Theirs(num_classes=CLASSES, mode="elem", label_smoothing=0.0)(image.clone(), Y)
    assert torch.equal(labels, F.one_hot(Y.flip(0), CLASSES).float())
    mixup_fn = ours.Mixup(num_classes=CLASSES, mode="elem", label_smoothing=0.0, seed=3)
    of_bytes, labels = mixup_fn(image, Y, step=0)
    of_floats, expected = mixup_fn(image.float(), Y, step=0)
    assert torch.equal(labels, expected)
    assert of_bytes.dtype == torch.uint8
    torch.testing.assert_close(of_bytes.float(), of_floats, atol=0.5001, rtol=0)


def test_soft_labels_of_each_image():
    soft = F.one_hot(Y, CLASSES).float()
    assert Theirs(num_classes=CLASSES)(X.clone(), soft)[1].shape == (N * CLASSES, CLASSES)
    with pytest.raises(ValueError, match="target holds class indices"):
        ours.Mixup(num_classes=CLASSES)(X, soft)


@pytest.mark.parametrize(
    ("share", "side_of_timm", "side"), [(0.5, 22, 23), (0.3, 26, 27), (0.9, 10, 10), (0.995, 2, 2)]
)
def test_sides_of_a_box_are_rounded_up_or_down_where_timm_rounds_them_down(monkeypatch, share, side_of_timm, side):
    monkeypatch.setattr(np.random, "randint", lambda low, high, size=None: (low + high) // 2)
    top, bottom, *_ = their_module.rand_bbox((3, 32, 32), share)
    assert bottom - top == side_of_timm == int(32 * (1 - share) ** 0.5)
    plan = vicinal.CutMix(1.0, pairing=Reversed()).draw(Given(share), 2, None, torch.zeros(2, 3, 32, 32), None)
    top, bottom = plan.box[0, 0].tolist()
    assert bottom - top == side == round(32 * (1 - share) ** 0.5)


def test_a_seed_of_pytorch_decides_ours_and_not_timms():
    def drawn(kind):
        torch.default_generator.manual_seed(11)
        return kind(num_classes=CLASSES)(X.clone(), Y)[1]

    np.random.seed(1)  # noqa: NPY002, TID251  # the state that timm draws from
    first = drawn(Theirs)
    assert not torch.equal(first, drawn(Theirs))
    vicinity = [ours.Mixup(num_classes=CLASSES, seed=2)(X, Y)[1] for _ in range(2)]
    assert torch.equal(*vicinity)


class Rows(torch.utils.data.Dataset):
    """Images of bytes, each of one value, as timm's loader collates them."""

    def __len__(self):
        return 2 * N

    def __getitem__(self, i):
        return np.full((1, 4, 4), 10 * i, dtype=np.uint8), i % CLASSES


class Floats(Rows):
    def __getitem__(self, i):
        image, label = super().__getitem__(i)
        return torch.from_numpy(image).float(), label


class Collated:
    """Ours in the place of FastCollateMixup."""

    def __init__(self):
        self.mixup_fn = ours.Mixup(num_classes=CLASSES, label_smoothing=0.0, seed=1)

    def __call__(self, rows):
        return self.mixup_fn(*default_collate(rows))


def mixed_rows(loader):
    return sum(int(((labels > 0).sum(1) > 1).sum()) for _, labels in loader)


def test_switched_off_in_workers_that_stay():
    of_timm, of_ours = FastCollateMixup(num_classes=CLASSES, label_smoothing=0.0), Collated()
    for dataset, collate_fn, switch, after in (
        (Rows(), of_timm, of_timm, True),
        (Floats(), of_ours, of_ours.mixup_fn, False),
    ):
        loader = DataLoader(dataset, batch_size=N, num_workers=1, persistent_workers=True, collate_fn=collate_fn)
        assert mixed_rows(loader) > 0
        switch.mixup_enabled = False
        assert (mixed_rows(loader) > 0) is after  # timm's copy in the worker is not told


# -- timm's losses, on our labels ----------------------------------------------------------------------------------------


def drawn():
    x, y = vicinal.Mixup(1.0, seed=8)(X, Y)
    return x, y, [(int(a), int(b), float(w)) for (a, b), w in zip(y.ids.T, y.weight[0], strict=True)]


def dense(smoothing):
    _, labels = ours.Mixup(1.0, label_smoothing=smoothing, num_classes=CLASSES, seed=8)(X, Y)
    return labels


def by_hand(term, smoothing=0.0):
    """The mean over rows of share * loss(own) + (1 - share) * loss(partner), smoothed labels one by one, in float64."""
    total = 0.0
    for row, (own, other, share) in zip(LOGITS.double(), drawn()[2], strict=True):
        labels = torch.full((CLASSES,), smoothing / CLASSES, dtype=torch.float64)
        labels[own] += share * (1 - smoothing)
        labels[other] += (1 - share) * (1 - smoothing)
        total += float(term(row, labels)) / N
    return total


def cross_entropy(row, labels):
    return -(labels * row.log_softmax(0)).sum()


def binary(row, labels):
    return -(labels * torch.sigmoid(row).log() + (1 - labels) * torch.sigmoid(-row).log()).mean()


def thresholded(row, labels):
    return binary(row, (labels > 0.2).double())


def poly(row, labels):
    return cross_entropy(row, labels) + 2 * (1 - (labels * row.softmax(0)).sum())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(
    ("criterion", "term"),
    [
        (timm.loss.SoftTargetCrossEntropy(), cross_entropy),
        (timm.loss.BinaryCrossEntropy(), binary),
        (timm.loss.BinaryCrossEntropy(target_threshold=0.2), thresholded),
        (timm.loss.PolyCrossEntropy(), poly),
    ],
    ids=["soft", "binary", "threshold", "poly"],
)
def test_losses_that_take_dense_labels(criterion, term, smoothing):
    assert criterion(LOGITS, dense(smoothing)).item() == pytest.approx(by_hand(term, smoothing), abs=1e-6)


def test_a_threshold_makes_two_labels_of_a_mixture():
    """What target_threshold means after mixing, in timm as here: both classes of a row of 0.7 and 0.3 are wholly present."""
    assert ((dense(0.0) > 0.2).sum(1) == 2).any()


def test_poly_takes_a_mixed_target_and_is_right():
    assert timm.loss.PolyCrossEntropy()(LOGITS, drawn()[1]).item() == pytest.approx(by_hand(poly), abs=1e-6)
    smoothed = timm.loss.PolyCrossEntropy(smoothing=0.1)(LOGITS, drawn()[1]).item()
    assert smoothed == pytest.approx(by_hand(poly, 0.1), abs=1e-6)


OTHERS = {
    "SoftTargetCrossEntropy": timm.loss.SoftTargetCrossEntropy(),
    "LabelSmoothingCrossEntropy": timm.loss.LabelSmoothingCrossEntropy(0.1),
    "BinaryCrossEntropy": timm.loss.BinaryCrossEntropy(),
    "AsymmetricLossSingleLabel": timm.loss.AsymmetricLossSingleLabel(),
    "AsymmetricLossMultiLabel": timm.loss.AsymmetricLossMultiLabel(),
    "JsdCrossEntropy": timm.loss.JsdCrossEntropy(num_splits=2),
    "PolyBinaryCrossEntropy": timm.loss.PolyBinaryCrossEntropy(),
    "TwoWayLoss": timm.loss.TwoWayLoss(),
    "ZlprLoss": timm.loss.ZlprLoss(),
    "DistributionBalancedLoss": timm.loss.DistributionBalancedLoss([10] * CLASSES, 10 * CLASSES),
}


def test_every_public_loss_is_looked_at():
    public = {
        name for name, kind in vars(timm.loss).items() if isinstance(kind, type) and issubclass(kind, torch.nn.Module)
    }
    assert public == {*OTHERS, "PolyCrossEntropy"}


@pytest.mark.parametrize("name", OTHERS)
def test_other_losses_refuse_a_mixed_target(name):
    with pytest.raises((TypeError, AttributeError), match=r"before mixing|MixedTarget|class indices"):
        OTHERS[name](LOGITS, drawn()[1])


@pytest.mark.parametrize("name", ["LabelSmoothingCrossEntropy", "AsymmetricLossSingleLabel"])
def test_losses_on_class_indices_are_mixed_by_losses_mixed(name):
    criterion, total = OTHERS[name], 0.0
    for i, (own, other, share) in enumerate(drawn()[2]):
        one, two = (criterion(LOGITS[i : i + 1], torch.tensor([label])).item() for label in (own, other))
        total += (share * one + (1 - share) * two) / N
    assert losses.mixed(criterion)(LOGITS, drawn()[1]).item() == pytest.approx(total, abs=1e-6)


def test_a_loss_per_class_is_not_mixed_and_takes_dense_labels():
    with pytest.raises(ValueError, match="must return one per entry"):
        losses.mixed(timm.loss.BinaryCrossEntropy())(LOGITS, drawn()[1])


def test_accuracy_is_the_share_that_agrees():
    y = drawn()[1]
    ranked = LOGITS.argsort(1, descending=True)
    for k, found in zip((1, 5), accuracy(LOGITS, y, topk=(1, 5)), strict=True):
        hits = [
            share * (own in ranked[i, :k]) + (1 - share) * (other in ranked[i, :k])
            for i, (own, other, share) in enumerate(drawn()[2])
        ]
        assert found.item() == pytest.approx(100 * sum(hits) / N, abs=1e-4)
        assert found.item() == pytest.approx(100 * metrics.mixed_accuracy(LOGITS, y, topk=k).item(), abs=1e-4)
    plain = accuracy(LOGITS, y.largest(), topk=(1,))[0].item()
    assert plain == 100 * (LOGITS.argmax(1) == y.largest()).float().mean().item()


def test_labels_of_every_mode_sum_to_one():
    for mode, alphas in itertools.product(("batch", "elem"), ((0.8, 0.0), (0.0, 1.0))):
        _, labels = ours.Mixup(*alphas, mode=mode, num_classes=CLASSES, seed=2)(X, Y)
        torch.testing.assert_close(labels.sum(1), torch.ones(N))
