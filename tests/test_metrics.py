"""Scores against plain float64 loops, scikit-learn and torchmetrics."""

import contextlib
import math
from fractions import Fraction

import numpy as np
import pytest
import sklearn.metrics
import torch
import torch.nn.functional as F
import torchmetrics
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics import classification
from torchmetrics.classification import MulticlassCalibrationError

import installed
from vicinal import MixedTarget
from vicinal.metrics import Reliability, brier, ece, mixed_accuracy, nll, reliability

CLASSES = 5


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def predictions(seed: int, shape: tuple[int, ...], dtype=torch.float64) -> tuple[Tensor, Tensor]:
    """Probabilities [..., n, classes] of all degrees of confidence, and ids [..., n] that they are often right about."""
    g = generator(seed)
    y = torch.randint(0, CLASSES, shape, generator=g)
    scale = 3 * torch.rand((*shape, 1), generator=g, dtype=torch.float64)
    logits = scale * (torch.randn((*shape, CLASSES), generator=g, dtype=torch.float64) + F.one_hot(y, CLASSES))
    return logits.softmax(-1).to(dtype), y


def assert_value(got: Tensor, expected: float, tolerance: float = 1e-12) -> None:
    assert got.shape == ()
    assert got.item() == pytest.approx(expected, rel=tolerance, abs=tolerance)


# -- accuracy on mixed batches -----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 12), st.integers(1, 3), st.integers(1, CLASSES), st.integers(0, 2**32))
def test_mixed_accuracy_is_the_plain_loop(n, k, topk, seed):
    g = generator(seed)
    logits = torch.randn(n, CLASSES, generator=g)
    ids = torch.randint(0, CLASSES, (k, n), generator=g)
    weight = torch.rand(k, n, generator=g) + 0.01
    weight = weight / weight.sum(0)
    total = 0.0
    for i in range(n):
        best = sorted(range(CLASSES), key=lambda c: -logits[i, c].item())[:topk]
        total += sum(float(weight[j, i]) for j in range(k) if int(ids[j, i]) in best)
    got = mixed_accuracy(logits, MixedTarget(ids, weight), topk)
    assert got.dtype == torch.float32
    assert_value(got, total / n, 1e-6)


@pytest.mark.parametrize("topk", [1, 2, 4])
def test_for_plain_ids_it_is_plain_accuracy(topk):
    probabilities, y = predictions(0, (200,))
    expected = sklearn.metrics.top_k_accuracy_score(y, probabilities, k=topk, labels=np.arange(CLASSES))
    logits = probabilities.log()
    assert mixed_accuracy(logits, y, topk).dtype == torch.float32
    assert_value(mixed_accuracy(logits, y, topk), expected, 1e-6)
    assert_value(mixed_accuracy(logits, MixedTarget(y[None], torch.ones(1, 200)), topk), expected, 1e-6)
    double = MixedTarget(torch.stack([y, y]), torch.full((2, 200), 0.5, dtype=torch.float64))
    assert mixed_accuracy(logits, double, topk).dtype == torch.float32
    assert_value(mixed_accuracy(logits.bfloat16(), double, CLASSES), 1.0)


def test_mixed_accuracy_is_bounded_by_the_shares():
    y = MixedTarget(torch.tensor([[0, 1], [2, 1]]), torch.tensor([[0.6, 0.7], [0.4, 0.3]]))
    logits = torch.tensor([[5.0, 1.0, 3.0], [0.0, 2.0, 1.0]])
    assert_value(mixed_accuracy(logits, y), (0.6 + 1.0) / 2, 1e-6)
    assert_value(mixed_accuracy(logits, y, topk=2), 1.0, 1e-6)
    assert_value(mixed_accuracy(-logits, y), 0.0, 1e-6)


@pytest.mark.parametrize(
    ("logits", "y", "topk", "sentence"),
    [
        (torch.zeros(3, 4), torch.zeros(2, dtype=torch.int64), 1, r"got \[3, 4\] and \[2\]"),
        (torch.zeros(3, 4), torch.zeros(3, 1, dtype=torch.int64), 1, r"got \[3, 4\] and \[3, 1\]"),
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64), 1, r"got \[3\] and \[3\]"),
        (torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64), 5, r"topk must lie in \[1, 4\], got 5"),
        (torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64), 0, r"topk must lie in \[1, 4\], got 0"),
    ],
)
def test_mixed_accuracy_refuses_what_does_not_fit(logits, y, topk, sentence):
    with pytest.raises(ValueError, match=sentence):
        mixed_accuracy(logits, y, topk)


@pytest.mark.parametrize("topk", [1, 3])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 2)], ids=str)
def test_mixed_accuracy_of_maps_is_that_of_their_entries(shape, topk):
    g = generator(9)
    logits = torch.randn(shape[0], CLASSES, *shape[1:], generator=g)
    weight = torch.rand(2, shape[0], generator=g)
    y = MixedTarget(torch.randint(0, CLASSES, (2, *shape), generator=g), weight / weight.sum(0))
    rows = logits.movedim(1, -1).reshape(-1, CLASSES)
    assert_value(mixed_accuracy(logits, y, topk), mixed_accuracy(rows, y.view(-1), topk).item(), 1e-6)
    assert_value(mixed_accuracy(logits, y.ids[0], topk), mixed_accuracy(rows, y.ids[0].flatten(), topk).item(), 1e-6)
    with pytest.raises(ValueError, match="go with class indices"):
        mixed_accuracy(rows, y)


def test_mixed_accuracy_of_weighted_examples_is_a_weighted_mean():
    y = MixedTarget(
        torch.tensor([[0, 1], [2, 1]]), torch.tensor([[0.6, 0.7], [0.4, 0.3]]), rows=torch.tensor([[0, 1], [1, 0]])
    )
    logits = torch.tensor([[5.0, 1.0, 3.0], [0.0, 2.0, 1.0]])
    hits = 0.6 * 3 + (0.7 * 1 + 0.3 * 3)
    assert_value(
        mixed_accuracy(logits, y.weighted(torch.tensor([3.0, 1.0]))), hits / (0.6 * 3 + 0.4 + 0.7 + 0.3 * 3), 1e-6
    )


# -- accuracy as other people's loops have it --------------------------------------------------------------------------


def accuracy_of_pytorch_s_imagenet_example(output, target, topk):
    """Of github.com/pytorch/examples, also in timm with `reshape(1, -1)`."""
    pred = output.topk(max(topk), 1, True, True)[1].t()
    correct = pred.eq(target.view(1, -1).expand_as(pred))
    return [correct[:k].reshape(-1).float().sum(0, keepdim=True).mul_(100.0 / target.size(0)) for k in topk]


def accuracy_of_timm(output, target, topk):
    pred = output.topk(min(max(topk), output.size()[1]), 1, True, True)[1].t()
    correct = pred.eq(target.reshape(1, -1).expand_as(pred))
    return [correct[:k].reshape(-1).float().sum(0) * 100.0 / target.size(0) for k in topk]


def accuracy_of_torchvision_s_references(output, target, topk):
    with torch.inference_mode():
        pred = output.topk(max(topk), 1, True, True)[1].t()
        correct = pred.eq(target[None])
        return [correct[:k].flatten().sum(dtype=torch.float32) * (100.0 / target.size(0)) for k in topk]


def accuracy_of_pytorch_s_mnist_example(output, target, topk):
    pred = output.argmax(dim=1, keepdim=True)
    return [torch.tensor(100.0 * pred.eq(target.view_as(pred)).sum().item() / len(target))] * len(topk)


def accuracy_of_ignite_like_code(output, target, topk):
    assert target.ndimension() + 1 == output.ndimension()
    correct = torch.eq(torch.argmax(output, dim=1), target).view(-1)
    return [100 * correct.sum() / correct.shape[0]] * len(topk)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize(
    ("accuracy", "topk"),
    [
        (accuracy_of_pytorch_s_imagenet_example, (1, 3)),
        (accuracy_of_timm, (1, 3)),
        (accuracy_of_torchvision_s_references, (1, 3)),
        (accuracy_of_pytorch_s_mnist_example, (1,)),
        (accuracy_of_ignite_like_code, (1,)),
    ],
)
def test_accuracy_helpers_give_the_lambda_weighted_accuracy(accuracy, topk, k):
    g = generator(10)
    logits, ids = torch.randn(40, CLASSES, generator=g), torch.randint(0, CLASSES, (k, 40), generator=g)
    weight = torch.rand(k, 40, generator=g)
    weight = weight / weight.sum(0)
    for top, got in zip(topk, accuracy(logits, MixedTarget(ids, weight), topk), strict=True):
        total = 0.0
        for i in range(40):
            best = sorted(range(CLASSES), key=lambda c: -logits[i, c].item())[:top]
            total += sum(float(weight[j, i]) for j in range(k) if int(ids[j, i]) in best)
        assert got.item() == pytest.approx(100 * total / 40, rel=1e-5)


REFUSED = r"y\.largest\(\), or vicinal\.metrics\.mixed_accuracy\(logits, y, topk=1\)"
EVERY = [name for name in vars(classification) if name.startswith(("Multiclass", "Binary", "Multilabel"))]
OPTIONS = [{}, {"average": "micro"}, {"top_k": 3}, {"ignore_index": -100}, {"thresholds": 5}]
NEEDED = {"FBetaScore": {"beta": 1.0}, "PrecisionAtFixedRecall": {"min_recall": 0.5}}
NEEDED |= {"RecallAtFixedPrecision": {"min_precision": 0.5}, "SensitivityAtSpecificity": {"min_specificity": 0.5}}
NEEDED |= {"SpecificityAtSensitivity": {"min_sensitivity": 0.5}}


def every_setting(name: str, sizes: dict, validate_args: bool) -> list[torchmetrics.Metric]:
    """The metric with each option that it has."""
    made = []
    for option in OPTIONS:
        needed = next((needed for end, needed in NEEDED.items() if name.endswith(end)), {})
        with contextlib.suppress(TypeError, ValueError):  # it has no such option
            made.append(getattr(classification, name)(**sizes, **needed, **option, validate_args=validate_args))
    return made


@pytest.mark.parametrize("validate_args", [True, False])
@pytest.mark.parametrize("name", EVERY)
def test_no_metric_of_torchmetrics_runs_to_a_wrong_number(name, validate_args):
    """Shares would be taken for counts; whichever way in is found, the sentence tells of `mixed_accuracy`."""
    g = generator(11)
    probabilities = torch.rand(20, CLASSES, generator=g)
    probabilities = probabilities / probabilities.sum(1, keepdim=True)
    if name.startswith("Binary"):
        sizes, probabilities, shape, classes = {}, probabilities[:, 0], (2, 20), 2
    elif name.startswith("Multilabel"):
        sizes, shape, classes = {"num_labels": CLASSES}, (2, 20, CLASSES), 2
    else:
        sizes, shape, classes = {"num_classes": CLASSES}, (2, 20), CLASSES
    y = MixedTarget(torch.randint(0, classes, shape, generator=g), torch.full((2, 20), 0.5))
    metrics = every_setting(name, sizes, validate_args)
    for metric in metrics:
        with pytest.raises(TypeError, match=REFUSED):
            metric.update(probabilities, y)
    assert metrics or "Fairness" in name or "GroupStatRates" in name  # these take groups too


@pytest.mark.parametrize(
    "score",
    [
        lambda y, p: sklearn.metrics.accuracy_score(y, p.argmax(1)),
        lambda y, p: sklearn.metrics.f1_score(y, p.argmax(1), average="macro"),
        lambda y, p: sklearn.metrics.confusion_matrix(y, p.argmax(1)),
        lambda y, p: sklearn.metrics.log_loss(y, p),
        lambda y, p: torchmetrics.functional.accuracy(p, y, task="multiclass", num_classes=CLASSES),
        lambda y, p: torchmetrics.functional.auroc(p, y, task="multiclass", num_classes=CLASSES),
        lambda y, p: torchmetrics.MeanSquaredError()(p[:, 0], y),
        lambda y, p: torch.bincount(y),
        lambda y, p: np.asarray(y),
    ],
)
def test_scores_that_need_plain_labels_say_where_to_get_them(score):
    probabilities, ids = predictions(12, (20,))
    with pytest.raises(TypeError, match=REFUSED):
        score(MixedTarget(torch.stack([ids, ids.roll(1)]), torch.full((2, 20), 0.5)), probabilities)


def test_plain_labels_of_the_largest_share_go_to_every_metric():
    probabilities, ids = predictions(13, (30,))
    y = MixedTarget(torch.stack([ids, ids.roll(1)]), torch.tensor([[0.75], [0.25]]).expand(2, 30))
    expected = sklearn.metrics.f1_score(ids, probabilities.argmax(1), average="macro", labels=np.arange(CLASSES))
    got = classification.MulticlassF1Score(CLASSES)(probabilities, y.largest())
    assert got.item() == pytest.approx(expected, rel=1e-6)
    mean = torchmetrics.MeanMetric()
    mean.update(mixed_accuracy(probabilities, y))
    assert mean.compute().item() == pytest.approx(mixed_accuracy(probabilities, y).item(), rel=1e-6)


# -- proper scores -----------------------------------------------------------------------------------------------------


@installed.scores_classes
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)], ids=str)
def test_nll_and_brier_are_those_of_scikit_learn(dtype, tolerance):
    probabilities, y = predictions(1, (300,), dtype)
    exact = probabilities.double().numpy()
    assert nll(probabilities, y).dtype == dtype
    assert brier(probabilities, y).dtype == dtype
    exact = exact / exact.sum(1, keepdims=True)
    assert_value(nll(probabilities, y), sklearn.metrics.log_loss(y, exact, labels=np.arange(CLASSES)), tolerance)
    one_hot = F.one_hot(y, CLASSES).double().numpy()
    assert_value(brier(probabilities, y), ((exact - one_hot) ** 2).sum(1).mean(), tolerance)
    expected = sklearn.metrics.brier_score_loss(y, exact, labels=np.arange(CLASSES))
    assert_value(brier(probabilities, y), expected, tolerance)


@installed.scores_classes
def test_brier_of_two_classes_is_twice_that_of_one_probability():
    p, y = torch.tensor([0.9, 0.2, 0.6], dtype=torch.float64), torch.tensor([1, 0, 0])
    expected = 2 * sklearn.metrics.brier_score_loss(y, p, scale_by_half=True)
    assert_value(brier(torch.stack([1 - p, p], 1), y), expected)
    assert_value(brier(torch.stack([1 - p, p], 1), y), 2 * (0.01 + 0.04 + 0.36) / 3)


def test_the_ends_of_the_scale():
    one_hot = torch.eye(3)
    right, wrong = torch.arange(3), torch.tensor([1, 2, 0])
    assert (nll(one_hot, right).item(), nll(one_hot, wrong).item()) == (0.0, math.inf)
    assert (brier(one_hot, right).item(), brier(one_hot, wrong).item()) == (0.0, 2.0)
    assert (ece(one_hot, right).item(), ece(one_hot, wrong).item()) == (0.0, 1.0)
    uniform = torch.full((3, 4), 0.25)
    assert_value(nll(uniform, right), math.log(4), 1e-7)
    assert_value(brier(uniform, right), 0.75, 1e-7)


def test_brier_is_never_negative():
    """Near certainty, where a sum of squares written out would cancel."""
    p = torch.tensor([1 - 2**-k for k in range(1, 25)])
    probabilities = torch.stack([p, 1 - p], 1)
    scores = torch.stack([brier(row[None], torch.tensor([0])) for row in probabilities])
    torch.testing.assert_close(scores.double(), 2 * (1 - p.double()) ** 2, rtol=1e-6, atol=0)


@pytest.mark.parametrize("score", [nll, brier, ece])
def test_leading_dimensions_are_scored_one_by_one(score):
    probabilities, y = predictions(2, (2, 3, 50))
    got = score(probabilities, y)
    assert got.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            assert_value(score(probabilities[i, j], y[i, j]), got[i, j].item(), 1e-12)


def test_the_diagram_keeps_leading_dimensions():
    probabilities, y = predictions(3, (2, 50))
    diagram = reliability(probabilities, y, bins=10)
    for i in range(2):
        alone = reliability(probabilities[i], y[i], bins=10)
        for name in ("count", "confidence", "accuracy"):
            torch.testing.assert_close(getattr(diagram, name)[i], getattr(alone, name), equal_nan=True)


def test_any_memory_layout_will_do():
    probabilities, y = predictions(4, (50, 3))
    turned, ids = probabilities.transpose(0, 1), y.T
    for score in (nll, brier, ece):
        torch.testing.assert_close(score(turned, ids), score(turned.contiguous(), ids.contiguous()))


@pytest.mark.parametrize("score", [nll, brier, ece, reliability])
@pytest.mark.parametrize(
    "y",
    [
        torch.zeros(3, dtype=torch.int64),  # gather would score the first three rows
        torch.zeros(5, 1, dtype=torch.int64),
        torch.zeros(1, 5, dtype=torch.int64),
        MixedTarget(torch.zeros(2, 5, dtype=torch.int64), torch.full((2, 5), 0.5)),
    ],
    ids=["short", "column", "row", "mixed"],
)
def test_scores_are_for_plain_ids_of_the_same_shape(score, y):
    with pytest.raises(
        ValueError, match=r"go with plain class indices \[\.\.\., n\], got \[5, 2\] and (Tensor|MixedTarget) \["
    ):
        score(torch.full((5, 2), 0.5), y)


# -- calibration -------------------------------------------------------------------------------------------------------


def diagram_by_hand(confidence: list[float], hit: list[bool], bins: int) -> list[tuple[int, float, float]]:
    """Bin m of `bins` holds the confidences in (m / bins, (m + 1) / bins], as Guo et al. 2017 have it."""
    table = []
    for m in range(bins):
        inside = [i for i, c in enumerate(confidence) if m / bins < c <= (m + 1) / bins]
        count = len(inside)
        table.append(
            (
                count,
                sum(confidence[i] for i in inside) / count if count else math.nan,
                sum(hit[i] for i in inside) / count if count else math.nan,
            )
        )
    return table


def assert_diagram(diagram: Reliability, table: list[tuple[int, float, float]]) -> None:
    for got, expected in zip(
        (diagram.count, diagram.confidence, diagram.accuracy), torch.tensor(table, dtype=torch.float64).T, strict=True
    ):
        assert got.dtype == torch.float64
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("bins", [1, 2, 10, 15, 40])
def test_reliability_and_ece_are_the_plain_loop(bins):
    probabilities, y = predictions(5, (300,))
    confidence = probabilities.max(1).values.tolist()
    hit = (probabilities.argmax(1) == y).tolist()
    table = diagram_by_hand(confidence, hit, bins)
    diagram = reliability(probabilities, y, bins)
    assert_diagram(diagram, table)
    expected = sum(count * abs(accuracy - mean) for count, mean, accuracy in table if count) / 300
    assert_value(diagram.ece, expected)
    assert_value(ece(probabilities, y, bins), expected)


@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_ece_is_that_of_torchmetrics(dtype, bins):
    """Which has [a, b) for (a, b]: the same wherever no confidence lies on a border."""
    probabilities, y = predictions(6, (400,), dtype)
    expected = MulticlassCalibrationError(CLASSES, n_bins=bins, norm="l1")(probabilities, y)
    assert_value(ece(probabilities, y, bins), expected.item(), 1e-6)


def two_classes(confidence: Tensor) -> Tensor:
    return torch.stack([confidence, 1 - confidence], 1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("bins", [2, 10, 15, 25, 29, 35])
def test_a_confidence_on_a_border_belongs_to_the_bin_below(bins, dtype):
    """In every precision, also where confidence * bins is not a whole number after rounding (7 / 25 * 25 > 7)."""
    wholes = [k for k in range(1, bins + 1) if Fraction(k, bins) >= Fraction(1, 2)]
    confidence = torch.tensor([k / bins for k in wholes], dtype=torch.float64).to(dtype)
    # three classes, so that class 0 is the prediction though its probability may be one half exactly
    probabilities = torch.stack([confidence, (1 - confidence) / 2, (1 - confidence) / 2], 1)
    count = reliability(probabilities, torch.zeros(len(wholes), dtype=torch.int64), bins).count
    expected = torch.zeros(bins, dtype=torch.float64)
    expected[[k - 1 for k in wholes]] = 1
    assert torch.equal(count, expected)
    small = torch.tensor([[k / bins] for k in range(1, bins + 1)], dtype=torch.float64).to(dtype)  # of one class alone
    assert torch.equal(reliability(small, torch.zeros(bins, dtype=torch.int64), bins).count, torch.ones(bins).double())


def test_certainty_and_the_neighbours_of_a_border():
    confidence = torch.tensor([1.0, 0.8, np.nextafter(0.8, 1), np.nextafter(0.8, 0), 0.5], dtype=torch.float64)
    y = torch.tensor([0, 0, 1, 0, 0])
    diagram = reliability(two_classes(confidence), y, bins=5)
    assert_diagram(diagram, diagram_by_hand(confidence.tolist(), (y == 0).tolist(), 5))
    assert diagram.count.tolist() == [0, 0, 1, 2, 2]
    assert diagram.accuracy[2:].tolist() == [1.0, 1.0, 0.5]
    assert diagram.confidence[:2].isnan().all()
    assert_value(diagram.ece, (0.5 + 2 * 0.2 + 2 * 0.4) / 5, 1e-9)


def test_nothing_scored_and_nothing_known_give_nan_not_perfection():
    empty, none = torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)
    for score in (nll, brier, ece):
        assert score(empty, none).isnan()
    broken = torch.full((2, 3), math.nan)
    y = torch.tensor([0, 1])
    for score in (nll, brier, ece):
        assert score(broken, y).isnan()
    half = torch.stack([torch.full((2, 3), 1 / 3), broken])
    assert ece(half, torch.stack([y, y])).isnan().tolist() == [False, True]
