"""torchvision's transforms of batches: its calls, its formulas, and the batch in the type it came in."""

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import vicinal
from vicinal.integrations.torchvision import CutMix, MixUp
from vicinal.keyed import Key

CLASSES = 6


def batch(n=8):
    random = Key(0, 0, 0, 0).generator()
    return torch.from_numpy(random.normal(size=(n, 3, 6, 6))).float(), torch.from_numpy(random.integers(0, CLASSES, n))


class Pair(NamedTuple):
    image: Any
    label: Any


def test_mixup_is_torchvisions_formula():
    x, y = batch()
    mixed, labels = MixUp(alpha=0.4, num_classes=CLASSES, seed=3)(x, y)
    plan = vicinal.Mixup(0.4, seed=3).plan(8, y, x, step=0)
    hot = F.one_hot(y, CLASSES).double()
    for i, (j, share) in enumerate(zip(plan.partner, plan.weight.double(), strict=True)):
        np.testing.assert_allclose(mixed[i], share * x[i].double() + (1 - share) * x[j].double(), atol=1e-6)
        np.testing.assert_allclose(labels[i], share * hot[i] + (1 - share) * hot[j], atol=1e-6)


def test_labels_of_cutmix_are_mixed_by_the_area():
    _, y = batch()
    x = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 6, 6)
    mixed, labels = CutMix(num_classes=CLASSES, seed=3)(x, y)
    for i in range(8):
        expected = torch.zeros(CLASSES)
        for row, count in Counter(int(value) for value in mixed[i, 0].flatten()).items():
            expected[y[row]] += count / 36
        torch.testing.assert_close(labels[i], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("form", [tuple, list, "two", Pair, "mapping", "getter", "nested"])
def test_the_batch_comes_back_as_it_came(form):
    x, y = batch()
    expected, dense = MixUp(num_classes=CLASSES, seed=3)(x, y)
    if form == "two":
        out = MixUp(num_classes=CLASSES, seed=3)(x, y)
        assert type(out) is tuple
        image, label = out
    elif form in ("mapping", "getter"):
        name = "labels" if form == "mapping" else "classes"
        getter = "default" if form == "mapping" else lambda given: given["classes"]
        out = MixUp(num_classes=CLASSES, labels_getter=getter, seed=3)({"image": x, name: y})
        assert list(out) == ["image", name]
        image, label = out.values()
    elif form == "nested":
        out = MixUp(num_classes=CLASSES, labels_getter=lambda given: given[1]["y"], seed=3)((x, {"y": y, "z": 2 * x}))
        (image, rest), label = out, out[1]["y"]
        torch.testing.assert_close(rest["z"], 2 * expected)
    else:
        given = Pair(x, y) if form is Pair else form((x, y))
        out = MixUp(num_classes=CLASSES, seed=3)(given)
        assert type(out) is form
        image, label = out
    assert torch.equal(image, expected)
    assert torch.equal(label, dense)


def test_soft_labels_need_no_number_of_classes():
    x, y = batch()
    _, labels = MixUp(seed=3)(x, F.one_hot(y, CLASSES).float())
    torch.testing.assert_close(labels, MixUp(num_classes=CLASSES, seed=3)(x, y)[1])


def test_labels_of_every_class_are_numbers_of_whatever_dtype():
    x, y = batch()
    hot = F.one_hot(y, CLASSES)
    expected = MixUp(num_classes=CLASSES, seed=3)(x, y)[1]
    for labels in (hot, hot.int(), hot.bool(), hot.float()):
        for classes in (None, CLASSES):
            torch.testing.assert_close(MixUp(num_classes=classes, seed=3)(x, labels)[1], expected)


def test_maps_of_classes_become_maps_of_shares():
    x, y = batch()
    maps = y.view(8, 1, 1).expand(8, 6, 6)
    _, labels = CutMix(num_classes=CLASSES, seed=3)(x, maps)
    plan = vicinal.CutMix(1.0, seed=3).plan(8, maps, x, step=0)
    torch.testing.assert_close(labels, plan(F.one_hot(maps, CLASSES).movedim(3, 1).float()))


def test_it_shows_its_arguments_as_torchvision_does():
    assert repr(MixUp(alpha=0.2, num_classes=CLASSES)) == "MixUp(alpha=0.2, num_classes=6)"


def test_it_is_a_module_that_others_can_hold():
    chosen = torch.nn.ModuleList([MixUp(num_classes=CLASSES), CutMix(num_classes=CLASSES)])
    assert len(list(chosen.parameters())) == 0


def test_what_is_not_clear_is_refused():
    x, y = batch()
    with pytest.raises(ValueError, match="num_classes must be given"):
        MixUp()(x, y)
    with pytest.raises(ValueError, match="labels are class indices"):
        MixUp(num_classes=CLASSES)(x, y.float())
    with pytest.raises(ValueError, match="labels are class indices"):
        MixUp(num_classes=CLASSES)(x, [0] * 8)
    with pytest.raises(ValueError, match=r"have 6 classes, and num_classes=5"):
        MixUp(num_classes=5)(x, F.one_hot(y, CLASSES))
    with pytest.raises(ValueError, match=r"where are the labels of a batch of 3 parts\? labels_getter="):
        MixUp(num_classes=CLASSES)(x, y, x)
    with pytest.raises(ValueError, match="one of the tensors of the batch"):
        MixUp(num_classes=CLASSES, labels_getter=lambda given: given[1].clone())(x, y)
    with pytest.raises(ValueError, match="labels_getter is a function"):
        MixUp(labels_getter=1)
    with pytest.raises(ValueError, match="alpha"):
        CutMix(alpha=0.0)


def test_labels_of_an_unknown_key_name_the_argument_that_finds_them():
    batch = {"image": torch.rand(4, 3, 8, 8), "my_label": torch.arange(4)}
    with pytest.raises(ValueError, match=r"batch of \['image', 'my_label'\]\? labels_getter="):
        MixUp(num_classes=4)(batch)
    _, labels = MixUp(num_classes=4, labels_getter=lambda of: of["my_label"])(batch).values()
    assert labels.shape == (4, 4)


@pytest.mark.parametrize("num_classes", ["a", 0, 2.5])
def test_a_number_of_classes_that_is_none_is_refused(num_classes):
    with pytest.raises(ValueError, match="num_classes counts the columns of labels"):
        MixUp(num_classes=num_classes)
