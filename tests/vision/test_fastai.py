"""fastai by a callback of eight lines: its losses against a loop by hand; what its own MixUp does with the same losses."""

import math
import re
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

import vicinal

pytest.importorskip("fastai", reason="needs fastai: make test-vision")
from fastai.vision.all import (
    SGD,
    Callback,
    CrossEntropyLossFlat,
    DataLoader,
    DataLoaders,
    FocalLossFlat,
    LabelSmoothingCrossEntropyFlat,
    Learner,
    MixUp,
    accuracy,
)

from stacks.programs import FOLDER, printed_by
from vicinal.keyed import Key

sys.path.insert(0, str(FOLDER))
from with_fastai import Vicinal  # the callback that the page shows

ROWS, BATCH, CLASSES = 32, 8, 3
RANDOM = Key(0, 0, 0, 0).generator()
X, Y = torch.from_numpy(RANDOM.normal(size=(ROWS, 4))).float(), torch.arange(ROWS) % CLASSES
WEIGHT = torch.tensor([1.0, 2.0, 0.5])
ALL_THREE = torch.full((CLASSES,), 3.0)


def test_the_program(tmp_path):
    (shown,) = re.findall(r"test accuracy (\S+)", printed_by("with_fastai", tmp_path))
    assert float(shown) > 0.93


class Seen(Callback):
    """Keeps what each batch of training was: predictions, target, loss and number."""

    run_valid, order = False, 100

    def __init__(self):
        self.batches = []

    def after_loss(self):
        self.batches.append((self.pred.detach(), *self.yb, self.loss.item(), self.train_iter))


def linear():
    net = nn.Linear(4, CLASSES)
    with torch.no_grad():
        net.weight.copy_(torch.linspace(-1, 1, 4 * CLASSES).view(CLASSES, 4))
        net.bias.zero_()
    return net


def learner(loss, *callbacks, rows=ROWS, **more):
    training = DataLoader(TensorDataset(X[:rows], Y[:rows]), bs=BATCH, shuffle=False)
    validation = DataLoader(TensorDataset(X, Y), bs=ROWS)
    return Learner(DataLoaders(training, validation), linear(), loss_func=loss, cbs=[*callbacks, Seen()], **more)


def fit(learn, epochs=1, lr=0.1):
    with learn.no_bar(), learn.no_logging():
        learn.fit(epochs, lr)
    return learn


def mixup():
    return vicinal.Mixup(1.0, seed=5)


def cross_entropy(pred, rows, y, weight=None, smoothing=0.0):
    """The loss of the paper, with weights as PyTorch has them for class indices, by a float64 loop over the rows."""
    log_p = pred.double().log_softmax(1)
    total = divisor = spread = 0.0
    for i, (own, other, share) in enumerate(rows):
        for label, part in ((y[own], share), (y[other], 1 - share)):
            counts = part * (1.0 if weight is None else float(weight[label]))
            total -= counts * float(log_p[i, label])
            divisor += counts
        spread -= float(log_p[i].mean()) / len(rows)
    return (1 - smoothing) * total / divisor + smoothing * spread


def drawn(step, n=BATCH):
    """Who is mixed with whom in a batch, by the vicinity itself."""
    plan = mixup().plan(n, step=step)
    first = step * BATCH
    return [
        (first + i, first + int(j), float(w)) for i, (j, w) in enumerate(zip(plan.partner, plan.weight, strict=True))
    ]


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (CrossEntropyLossFlat(), {}),
        (nn.CrossEntropyLoss(), {}),
        (F.cross_entropy, {}),
        (CrossEntropyLossFlat(weight=WEIGHT), {"weight": WEIGHT}),
        (nn.CrossEntropyLoss(weight=WEIGHT), {"weight": WEIGHT}),
        (CrossEntropyLossFlat(weight=ALL_THREE), {}),
        (LabelSmoothingCrossEntropyFlat(eps=0.1), {"smoothing": 0.1}),
    ],
    ids=["flat", "module", "function", "flat weighted", "module weighted", "threefold", "smoothed"],
)
def test_its_losses_are_those_of_a_loop_by_hand(loss, options):
    learn = fit(learner(loss, Vicinal(mixup())))
    assert len(learn.seen.batches) == ROWS // BATCH
    for step, (pred, _, value, _) in enumerate(learn.seen.batches):
        assert value == pytest.approx(cross_entropy(pred, drawn(step), Y, **options), abs=1e-6)


def test_the_weights_are_those_of_a_loop_by_hand_to_the_last_bit():
    learn = fit(learner(CrossEntropyLossFlat(), Vicinal(mixup()), opt_func=SGD, wd=0.0), epochs=2)
    net, vicinity = linear(), mixup()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(2):
        for x, y in zip(X.split(BATCH), Y.split(BATCH), strict=True):
            mixed, target = vicinity(x, y)
            optimizer.zero_grad()
            F.cross_entropy(net(mixed), target).backward()
            optimizer.step()
    assert torch.equal(learn.model.weight, net.weight)


class OfSeveral(Vicinal):
    def before_batch(self):
        self.learn.xb, self.learn.yb = self.vicinity(self.xb, self.yb)


def test_tuples_of_inputs_and_targets_are_mixed_by_one_draw():
    runs = [fit(learner(CrossEntropyLossFlat(), kind(mixup()))) for kind in (Vicinal, OfSeveral)]
    assert torch.equal(runs[0].model.weight, runs[1].model.weight)


def test_off_it_is_the_run_without_it():
    still = mixup()
    still.off()
    runs = [fit(learner(CrossEntropyLossFlat(), *callbacks)) for callbacks in ([Vicinal(still)], [])]
    assert torch.equal(runs[0].model.weight, runs[1].model.weight)


def focal(log_p, label):
    ce = -float(log_p[label])
    return (1 - math.exp(-ce)) ** 2 * ce


def test_its_focal_loss_is_a_third_thing_and_mixed_makes_it_right():
    as_it_is, mixed = (
        fit(learner(loss, Vicinal(mixup()))) for loss in (FocalLossFlat(), vicinal.losses.mixed(FocalLossFlat()))
    )
    for step, (pred, _, value, _) in enumerate(mixed.seen.batches):
        rows = [(pred[i].double().log_softmax(0), *row) for i, row in enumerate(drawn(step))]
        by_hand = [share * focal(p, Y[own]) + (1 - share) * focal(p, Y[other]) for p, own, other, share in rows]
        assert value == pytest.approx(sum(by_hand) / BATCH, abs=1e-6)
    pred, _, value, _ = as_it_is.seen.batches[0]
    rows = [(pred[i].double().log_softmax(0), *row) for i, row in enumerate(drawn(0))]
    of_the_mixture = [-share * p[Y[own]] - (1 - share) * p[Y[other]] for p, own, other, share in rows]
    third = [(1 - math.exp(-ce)) ** 2 * float(ce) for ce in of_the_mixture]
    assert value == pytest.approx(sum(third) / BATCH, abs=1e-6)
    assert (round(value, 3), round(mixed.seen.batches[0][2], 3)) == (0.779, 0.866)  # those of the page
    torch.testing.assert_close(
        mixed.validate()[0], mixed.loss_func.criterion(*mixed.get_preds(act=nn.Identity())).item()
    )


def test_fine_tuning_is_two_fits_whose_draws_go_on():
    learn = learner(CrossEntropyLossFlat(), Vicinal(mixup()))
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(2)
    shares = [float(target.weight[0, 0]) for _, target, _, _ in learn.seen.batches]
    assert shares == [float(mixup().plan(BATCH, step=step).weight[0]) for step in range(3 * ROWS // BATCH)]
    assert len(set(shares)) == len(shares)
    numbers = [number for *_, number in learn.seen.batches]  # fastai's own count begins anew with each fit
    assert numbers == [*range(ROWS // BATCH), *range(2 * ROWS // BATCH)]


def test_validation_and_prediction_are_plain():
    vicinity = mixup()
    learn = fit(learner(CrossEntropyLossFlat(), Vicinal(vicinity), metrics=accuracy))
    logits = learn.model(X)
    expected = [F.cross_entropy(logits, Y).item(), (logits.argmax(1) == Y).float().mean().item()]
    assert list(learn.validate()) == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(learn.get_preds()[0], logits.softmax(1))
    assert vicinity.state_dict()["steps"] == [ROWS // BATCH]


def test_its_metrics_refuse_mixed_batches_and_say_what_to_use():
    learn = learner(CrossEntropyLossFlat(), Vicinal(mixup()), metrics=accuracy)
    learn.recorder.train_metrics = True
    with pytest.raises(TypeError, match=r"y\.largest\(\).*vicinal\.metrics\.mixed_accuracy"):
        fit(learn)


class Theirs(MixUp):
    """fastai's MixUp with lambda 1, so that nothing is mixed and the loss should be the plain one."""

    def __init__(self):
        super().__init__(1.0)
        self.distrib = torch.distributions.Uniform(1.0, 1.0 + 1e-7)


def test_what_its_own_mixup_does_with_the_same_losses():
    plain = F.cross_entropy(linear()(X[:BATCH]), Y[:BATCH], weight=ALL_THREE).item()
    assert fit(learner(CrossEntropyLossFlat(weight=ALL_THREE))).seen.batches[0][2] == pytest.approx(plain, rel=1e-6)
    threefold = fit(learner(CrossEntropyLossFlat(weight=ALL_THREE), Theirs())).seen.batches[0][2]
    assert threefold == pytest.approx(3 * plain, rel=1e-5)
    for loss in (nn.CrossEntropyLoss(), F.cross_entropy):
        with pytest.raises(RuntimeError, match="expected dtype long int"):
            fit(learner(loss, MixUp(1.0)))
    with pytest.raises(IndexError, match="Dimension out of range"):
        fit(learner(CrossEntropyLossFlat(), MixUp(1.0), rows=BATCH + 1))
    with pytest.warns(UserWarning, match="nobody to mix with"):
        fit(learner(CrossEntropyLossFlat(), Vicinal(mixup()), rows=BATCH + 1))
