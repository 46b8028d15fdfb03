"""timm's arguments: images and labels are timm's where partners and lambda are the same; what differs is refused."""

import math
import pickle
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import vicinal
from vicinal.integrations.timm import Mixup
from vicinal.keyed import Key

CLASSES = 6


def batch(n=8):
    random = Key(0, 0, 0, 0).generator()
    return torch.from_numpy(random.normal(size=(n, 3, 6, 6))).float(), torch.from_numpy(random.integers(0, CLASSES, n))


def timm_labels(y, partner, share, smoothing):
    """What timm computes: smoothed one-hot labels, mixed; in float64, entry by entry."""
    off = smoothing / CLASSES
    on = 1 - smoothing + off
    labels = np.full((len(y), CLASSES), off)
    for i, j in enumerate(partner):
        labels[i, y[i]] += share[i] * (on - off)
        labels[i, y[j]] += (1 - share[i]) * (on - off)
    return labels


@pytest.mark.parametrize("n", [8, 5])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mode", ["batch", "elem"])
def test_mixup_is_timms_formula(mode, smoothing, n):
    x, y = batch(n)
    before = x.clone()
    mixed, labels = Mixup(0.8, mode=mode, label_smoothing=smoothing, num_classes=CLASSES, seed=3)(x, y)
    per = "example" if mode == "elem" else "batch"
    plan = vicinal.Mixup(vicinal.Beta(0.8, per=per), seed=3).plan(n, y, x, step=0)
    share = plan.weight.double().numpy()
    for i, j in enumerate(plan.partner):
        expected = share[i] * x[i].double() + (1 - share[i]) * x[j].double()
        np.testing.assert_allclose(mixed[i], expected, atol=1e-6)
    np.testing.assert_allclose(labels, timm_labels(y, plan.partner, share, smoothing), atol=1e-6)
    assert labels.dtype == torch.float32
    assert torch.equal(x, before)


def test_labels_of_cutmix_are_mixed_by_the_area():
    x, y = batch()
    x = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 6, 6)  # each pixel says whose it is
    mixed, labels = Mixup(0.0, 1.0, label_smoothing=0.0, num_classes=CLASSES, seed=3)(x, y)
    for i in range(8):
        pixels = Counter(int(value) for value in mixed[i, 0].flatten())
        expected = torch.zeros(CLASSES)
        for row, count in pixels.items():
            expected[y[row]] += count / 36
        torch.testing.assert_close(labels[i], expected, atol=1e-6, rtol=0)
    assert any(len(set(mixed[i, 0].flatten().tolist())) == 2 for i in range(8))


def kinds(mixup_fn, batches):
    """Which of mixup, CutMix and nothing each batch had."""
    found = Counter()
    x = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 16, 16).contiguous()
    for _ in range(batches):
        mixed, _ = mixup_fn(x, torch.arange(4))
        whole = all(len(set(mixed[i].flatten().tolist())) == 1 for i in range(4))
        found["nothing" if torch.equal(mixed, x) else "mixup" if whole else "CutMix"] += 1
    return found


@pytest.mark.parametrize(
    ("prob", "switch", "expected"),
    [(1.0, 0.5, {"mixup": 0.5, "CutMix": 0.5}), (0.6, 0.25, {"mixup": 0.45, "CutMix": 0.15, "nothing": 0.4})],
)
def test_the_shares_of_mixup_and_cutmix(prob, switch, expected):
    n, alpha = 1500, 20.0  # at which mixup and CutMix are hardly ever invisible
    found = kinds(Mixup(alpha, alpha, prob=prob, switch_prob=switch, num_classes=4, seed=1), n)
    for kind, share in expected.items():
        # a permutation of four leaves all rows with themselves once in 24: then nothing is seen
        seen = share * 23 / 24 if kind != "nothing" else share + (1 - share) / 24
        assert abs(found[kind] / n - seen) < 4 * math.sqrt(seen * (1 - seen) / n)
    assert set(found) <= {*expected, "nothing"}


@pytest.mark.parametrize("switch", [0.0, 1.0])
def test_a_switch_that_is_certain(switch):
    found = kinds(Mixup(20.0, 20.0, switch_prob=switch, num_classes=4, seed=1), 60)
    assert set(found) <= {"CutMix" if switch else "mixup", "nothing"}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_several_labels_per_image_are_smoothed_toward_a_half_and_mixed(smoothing):
    x, y = batch()
    several = F.one_hot(y, CLASSES) + F.one_hot((y + 2) % CLASSES, CLASSES)
    mixup_fn = Mixup(0.8, label_smoothing=smoothing, num_classes=CLASSES, multi_label=True, seed=3)
    mixed, labels = mixup_fn(x, several)
    plan = vicinal.Mixup(0.8, seed=3).plan(8, y, x, step=0)
    smooth = several.double().numpy() * (1 - smoothing) + smoothing / 2
    for i, (j, share) in enumerate(zip(plan.partner, plan.weight.double().numpy(), strict=True)):
        np.testing.assert_allclose(labels[i], share * smooth[i] + (1 - share) * smooth[j], atol=1e-6)
    assert torch.equal(mixed, plan(x))
    mixup_fn.mixup_enabled = False
    np.testing.assert_allclose(mixup_fn(x, several)[1], smooth, atol=1e-7)


def test_a_step_decides_the_draw_and_nothing_is_counted():
    x, y = batch()
    mixup_fn = Mixup(0.8, num_classes=CLASSES, seed=3)
    seventh = mixup_fn(x, y, step=7)
    counted = [mixup_fn(x, y) for _ in range(8)]
    for ours, theirs in zip(seventh, counted[7], strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(seventh[1], counted[0][1])


def test_disabled_it_smooths_and_does_not_mix():
    x, y = batch()
    mixup_fn = Mixup(label_smoothing=0.1, num_classes=CLASSES)
    assert mixup_fn.mixup_enabled
    mixup_fn.mixup_enabled = False
    mixed, labels = mixup_fn(x, y)
    assert torch.equal(mixed, x)
    torch.testing.assert_close(labels, F.one_hot(y, CLASSES) * 0.9 + 0.1 / CLASSES)
    mixup_fn.mixup_enabled = True
    assert not torch.equal(mixup_fn(x, y)[0], x)


def test_a_seed_decides_and_it_can_be_sent_to_workers():
    x, y = batch()
    first, second = (Mixup(seed=5, num_classes=CLASSES) for _ in range(2))
    assert torch.equal(first(x, y)[0], second(x, y)[0])
    sent = pickle.loads(pickle.dumps(first))
    assert torch.equal(sent(x, y)[1], first(x, y)[1])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"mixup_alpha": 0.0}, "is above 0, got 0.0 and 0.0"),
        ({"mixup_alpha": -1.0}, "is above 0"),
        ({"prob": 1.5}, "prob is a probability"),
        ({"switch_prob": -0.1}, "switch_prob is a probability"),
        ({"cutmix_minmax": (0.2, 0.8)}, "cutmix_minmax is not supported"),
        ({"correct_lam": False}, "correct_lam=False is not supported"),
        ({"mode": "pair"}, 'mode is "batch" or "elem"'),
        ({"mode": "elem", "cutmix_alpha": 1.0}, 'mode="elem" goes with one'),
        ({"mode": "elem", "prob": 0.5}, 'mode="elem" goes with one'),
    ],
)
def test_what_would_differ_is_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        Mixup(**wrong)


def test_targets_of_another_form_are_refused():
    x, y = batch()
    with pytest.raises(ValueError, match="ids lie in"):
        Mixup(num_classes=2)(x, y)
    for target in (
        F.one_hot(y, CLASSES),
        F.one_hot(y, CLASSES).float(),
        y.float(),
    ):  # timm makes [48, 6] of the first two
        with pytest.raises(ValueError, match="target holds class indices"):
            Mixup(num_classes=CLASSES)(x, target)
    with pytest.raises(ValueError, match=r"with multi_label, target is \[n, 6\], got \[8\]"):
        Mixup(num_classes=CLASSES, multi_label=True)(x, y)


def test_arguments_and_inputs_of_other_kinds_are_refused():
    with pytest.raises(ValueError, match="num_classes counts the columns of labels"):
        Mixup(num_classes=0)
    with pytest.raises(TypeError, match="mixup_alpha"):
        Mixup(mixup_alpha="a")
    x, y = batch()
    with pytest.raises(TypeError, match="are tensors, got ndarray and ndarray"):
        Mixup(num_classes=CLASSES)(x.numpy(), y.numpy())
