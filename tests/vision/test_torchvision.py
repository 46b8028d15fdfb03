"""The installed torchvision beside ours: given its lambda, partners and box, images and labels agree; what differs."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, default_collate

import vicinal
from vicinal.integrations import torchvision as ours
from vicinal.keyed import Key
from vision.given_key import Given

pytest.importorskip("torchvision", reason="needs torchvision: make test-vision")
from torchvision import tv_tensors
from torchvision.transforms import v2

N, CLASSES = 7, 6
RANDOM = Key(0, 0, 0, 0).generator()
X = torch.from_numpy(RANDOM.normal(size=(N, 3, 12, 10))).float()
Y = torch.from_numpy(RANDOM.integers(0, CLASSES, N))
HOT = F.one_hot(Y, CLASSES)
VIDEO = torch.from_numpy(RANDOM.normal(size=(N, 4, 3, 12, 10))).float()
KINDS = {"MixUp": (v2.MixUp, ours.MixUp), "CutMix": (v2.CutMix, ours.CutMix)}
both = pytest.mark.parametrize(("theirs", "here"), KINDS.values(), ids=KINDS)


class Before(vicinal.Pairing):
    """torchvision's partners: each row's predecessor."""

    def draw(self, generator, n, y, x):
        return np.roll(np.arange(n), 1)


def pair(kinds, given, labels=Y, **options):
    """Return torchvision's transform and ours, of which the first is told what the second draws."""
    theirs, here = (kind(num_classes=CLASSES, **options) for kind in kinds)
    here.vicinity = replace(here.vicinity, pairing=Before(), seed=3)
    plan = here.vicinity.plan(N, labels, given, step=0)
    if plan.box is None:
        drawn = {"lam": float(plan.weight[0])}
    else:
        (y1, y2), (x1, x2) = plan.box[0].tolist()
        drawn = {"box": (x1, y1, x2, y2), "lam_adjusted": 1 - (x2 - x1) * (y2 - y1) / (12 * 10)}
    theirs.make_params = lambda flat_inputs: drawn
    return theirs, here


@pytest.mark.parametrize("labels", [Y, HOT, HOT.float(), 0.9 * HOT + 0.1 / CLASSES], ids=["ids", "0/1", "hot", "soft"])
@pytest.mark.parametrize("given", [X, tv_tensors.Image(X), tv_tensors.Video(VIDEO)], ids=["tensor", "Image", "Video"])
@both
def test_images_and_labels_are_torchvisions_in_their_classes(theirs, here, given, labels):
    of_torchvision, of_ours = (transform(given, labels) for transform in pair((theirs, here), given, labels))
    assert not torch.equal(of_ours[0], given)
    for expected, found in zip(of_torchvision, of_ours, strict=True):
        assert type(found) is type(expected)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("keys", [("image", "label"), ("pixel_values", "labels")])
@both
def test_mappings_are_torchvisions(theirs, here, keys):
    batch = dict(zip(keys, (tv_tensors.Image(X), Y), strict=True))
    of_torchvision, of_ours = (transform(batch) for transform in pair((theirs, here), X))
    assert list(of_torchvision) == list(of_ours) == list(keys)
    for key in keys:
        assert type(of_ours[key]) is type(of_torchvision[key])
        torch.testing.assert_close(of_ours[key], of_torchvision[key], atol=1e-6, rtol=0)


@both
def test_labels_that_a_function_finds(theirs, here):
    def getter(batch):
        return batch[1]["class"]

    batch = (X, {"class": Y})
    of_torchvision, of_ours = (t(batch) for t in pair((theirs, here), X, labels_getter=getter))
    torch.testing.assert_close(of_ours[0], of_torchvision[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(of_ours[1]["class"], of_torchvision[1]["class"], atol=1e-6, rtol=0)


@both
def test_every_argument_is_there_with_its_default(theirs, here):
    arguments, more = (inspect.signature(kind).parameters for kind in (theirs, here))
    assert {name: (p.kind, p.default) for name, p in arguments.items()} == {
        name: (p.kind, p.default) for name, p in more.items() if name != "seed"
    }
    assert repr(theirs(alpha=0.2, num_classes=6)) == repr(here(alpha=0.2, num_classes=6)).removeprefix("Batch")


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        (Y, {}),
        (Y.float(), {"num_classes": CLASSES}),
        (HOT, {"num_classes": 5}),
        (Y, {"num_classes": CLASSES, "labels_getter": lambda batch: 3}),
    ],
    ids=["no number of classes", "1-D numbers", "another number of classes", "no tensor"],
)
@both
def test_both_refuse(theirs, here, labels, options):
    for kind in (theirs, here):
        with pytest.raises((ValueError, RuntimeError)):
            kind(**options)(X, labels)
    for kind in (theirs, here):
        with pytest.raises(ValueError):
            kind(num_classes=CLASSES, labels_getter="classes")


def test_boxes_and_masks_are_refused_by_mixup():
    mask = tv_tensors.Mask(torch.zeros(N, 12, 10, dtype=torch.int64))
    boxes = tv_tensors.BoundingBoxes(torch.ones(N, 4), format="XYXY", canvas_size=(12, 10))
    for extra in (mask, boxes):
        batch = {"image": tv_tensors.Image(X), "extra": extra, "labels": Y}
        with pytest.raises(ValueError, match="does not support"):
            v2.MixUp(num_classes=CLASSES)(batch)
        with pytest.raises(TypeError, match="average of two"):
            ours.MixUp(num_classes=CLASSES)(batch)


def test_cutmix_cuts_masks_by_the_box_of_the_images():
    mask = tv_tensors.Mask(Y.view(N, 1, 1).expand(N, 12, 10).clone())
    images = tv_tensors.Image(Y.view(N, 1, 1, 1).expand(N, 3, 12, 10).float())
    out = ours.CutMix(num_classes=CLASSES, seed=3)({"image": images, "mask": mask, "labels": Y})
    assert (type(out["image"]), type(out["mask"])) == (tv_tensors.Image, tv_tensors.Mask)
    assert torch.equal(out["image"][:, 0], out["mask"].float())
    assert not torch.equal(out["mask"], mask)


# -- where people put them -----------------------------------------------------------------------------------------------


def test_in_a_compose_and_in_a_random_choice():
    images, labels = v2.Compose([ours.MixUp(num_classes=CLASSES, seed=3)])(tv_tensors.Image(X), Y)
    expected = ours.MixUp(num_classes=CLASSES, seed=3)(X, Y)
    assert torch.equal(images, expected[0])
    assert torch.equal(labels, expected[1])
    two = [ours.MixUp(alpha=20.0, num_classes=CLASSES, seed=3), ours.CutMix(alpha=20.0, num_classes=CLASSES, seed=4)]
    chosen, x = v2.RandomChoice(two), torch.arange(float(N)).view(N, 1, 1, 1).expand(N, 1, 12, 10)
    whole = [all(row.min() == row.max() for row in chosen(x, Y)[0]) for _ in range(40)]
    assert 8 < sum(whole) < 32  # MixUp's rows are one number all over
    assert [t.vicinity.state_dict()["steps"] for t in two] == [[sum(whole)], [40 - sum(whole)]]


@pytest.mark.parametrize("workers", [0, 2])
def test_in_the_collate_fn_of_a_loader(workers):
    transform = ours.MixUp(alpha=1.0, num_classes=CLASSES, seed=3)
    rows = TensorDataset(tv_tensors.Image(X), Y)
    loader = DataLoader(rows, batch_size=N, num_workers=workers, collate_fn=lambda of: transform(*default_collate(of)))
    batches = [batch for _ in range(3) for batch in loader]
    vicinity = vicinal.Mixup(1.0, seed=3)
    for step, (images, labels) in enumerate(batches):
        plan = vicinity.plan(
            N, Y, X, step=step, worker=min(workers, 1)
        )  # the first worker has the one batch of an epoch
        torch.testing.assert_close(labels, plan.target(Y).dense(CLASSES))
        torch.testing.assert_close(images, plan(X))


# -- what differs --------------------------------------------------------------------------------------------------------


def test_images_behind_their_labels_in_a_mapping():
    """The order of Hugging Face's default_data_collator: torchvision takes the labels for the image, and mixes no image."""
    batch = {"labels": Y, "pixel_values": X}
    their_batch = v2.MixUp(num_classes=CLASSES)(batch)
    assert their_batch["labels"].shape == (N, CLASSES)
    assert torch.equal(their_batch["pixel_values"], X)
    with pytest.raises(TypeError, match="at least two dimensions"):
        v2.CutMix(num_classes=CLASSES)(batch)
    for kind in (ours.MixUp, ours.CutMix):
        out, turned = (
            kind(num_classes=CLASSES, seed=3)(batch),
            kind(num_classes=CLASSES, seed=3)(dict([*batch.items()][::-1])),
        )
        assert list(out) == ["labels", "pixel_values"]
        assert not torch.equal(out["pixel_values"], X)
        assert all(torch.equal(out[key], turned[key]) for key in batch)


def test_a_second_input_is_mixed_by_the_same_draw():
    batch = {"image": X, "heat": X[:, :1].clone(), "labels": Y}
    their_batch = v2.MixUp(num_classes=CLASSES)(batch)
    assert torch.equal(their_batch["heat"], batch["heat"])  # left as it was
    out = ours.MixUp(num_classes=CLASSES, seed=3)(batch)
    assert torch.equal(out["heat"], out["image"][:, :1])


def test_images_of_bytes_are_mixed_and_rounded():
    image = (X * 40 + 120).clamp(0, 255).byte()
    with pytest.raises(RuntimeError, match="Byte"):
        v2.MixUp(num_classes=CLASSES)(image, Y)
    mixed = ours.MixUp(num_classes=CLASSES, seed=3)(image, Y)[0]
    expected = ours.MixUp(num_classes=CLASSES, seed=3)(image.float(), Y)[0]
    assert mixed.dtype == torch.uint8
    torch.testing.assert_close(mixed.float(), expected, atol=0.5001, rtol=0)


@pytest.mark.parametrize(
    ("share", "theirs", "side"), [(0.5, 22, 23), (0.3, 26, 27), (0.9, 10, 10), (0.995, 2, 2), (0.999, 0, 1)]
)
def test_sides_of_a_box_are_rounded_where_torchvision_makes_them_even(monkeypatch, share, theirs, side):
    transform = v2.CutMix(num_classes=CLASSES)
    transform._dist = torch.distributions.Uniform(torch.tensor([share]), torch.tensor([share + 1e-6]))
    monkeypatch.setattr(torch, "randint", lambda high, size: torch.tensor([high // 2]))
    x1, _, x2, _ = transform.make_params([torch.zeros(2, 3, 32, 32)])["box"]
    assert x2 - x1 == theirs == 2 * int(0.5 * 32 * (1 - share) ** 0.5)
    plan = vicinal.CutMix(1.0, pairing=Before()).draw(Given(share), 2, None, torch.zeros(2, 3, 32, 32), None)
    assert int(plan.box[0, 0, 1] - plan.box[0, 0, 0]) == side == round(32 * (1 - share) ** 0.5)


def test_a_batch_of_one():
    images, _ = v2.MixUp(num_classes=CLASSES)(X[:1], Y[:1])
    torch.testing.assert_close(images, X[:1])  # without a word
    with pytest.warns(UserWarning, match="nobody to mix with"):
        ours.MixUp(num_classes=CLASSES)(X[:1], Y[:1])
