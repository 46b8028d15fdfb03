"""skorch: the plain loop to the last bit; parameters, pickles, continued fits; the score that would be wrong is refused."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch.utils.data import StackDataset

import vicinal

pytest.importorskip("skorch", reason="needs skorch: pip install skorch")
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import BatchScoring, EpochScoring

from vicinal.integrations.skorch import VicinalMixin
from vicinal.keyed import Key

ROWS, BATCH, CLASSES = 40, 8, 3
RANDOM = Key(0, 0, 0, 0).generator()
X, Y = RANDOM.normal(size=(ROWS, 4)).astype(np.float32), (np.arange(ROWS) % CLASSES).astype(np.int64)


class Net(VicinalMixin, NeuralNetClassifier):
    pass


class VicinalNet(VicinalMixin, NeuralNet):
    pass


class Regressor(VicinalMixin, NeuralNetRegressor):
    pass


class Linear(torch.nn.Module):
    def __init__(self, outputs=CLASSES, softmax=False):
        super().__init__()
        self.linear, self.softmax = torch.nn.Linear(4, outputs), softmax
        with torch.no_grad():
            self.linear.weight.copy_(torch.linspace(-1, 1, 4 * outputs).view(outputs, 4))
            self.linear.bias.zero_()

    def forward(self, x):
        return self.linear(x).softmax(1) if self.softmax else self.linear(x)


def net(vicinity, kind=Net, **more):
    options = {"criterion": torch.nn.CrossEntropyLoss, "lr": 0.1, "max_epochs": 2, "batch_size": BATCH, "verbose": 0}
    return kind(Linear, vicinity=vicinity, **{**options, "train_split": None, **more})


def mixup():
    return vicinal.Mixup(1.0, seed=5)


def plain(vicinity, loss, outputs=CLASSES, epochs=2, y=Y):
    model, step = Linear(outputs), 0
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for epoch in range(epochs):
        for first in range(0, ROWS, BATCH):
            x, target = torch.from_numpy(X[first : first + BATCH]), torch.from_numpy(y[first : first + BATCH])
            plan = vicinity.plan(len(x), target, x, step=step, epoch=epoch)
            optimizer.zero_grad()
            loss(model(plan(x)), plan.target(target)).backward()
            optimizer.step()
            step += 1
    return model.linear.weight.detach()


def weight(net):
    return net.module_.linear.weight.detach()


WEIGHTS = torch.tensor([1.0, 2.0, 0.5])


@pytest.mark.parametrize(
    ("options", "loss"),
    [
        ({}, F.cross_entropy),
        (
            {"criterion__weight": WEIGHTS, "criterion__label_smoothing": 0.1},
            lambda out, y: F.cross_entropy(out, y, WEIGHTS, label_smoothing=0.1),
        ),
    ],
)
def test_it_is_the_plain_loop_to_the_last_bit(options, loss):
    fitted = net(mixup(), **options).fit(X, Y)
    assert torch.equal(weight(fitted), plain(mixup(), loss))
    assert not torch.equal(weight(fitted), plain(vicinal.ERM(), loss))


def test_the_default_loss_of_a_softmax():
    fitted = net(mixup(), criterion=torch.nn.NLLLoss, module__softmax=True).fit(X, Y)
    torch.testing.assert_close(weight(fitted), plain(mixup(), F.cross_entropy), atol=1e-5, rtol=0)


def test_regression():
    y = X[:, :1] - X[:, 1:2]
    fitted = net(mixup(), Regressor, criterion=torch.nn.MSELoss, module__outputs=1).fit(X, y)
    assert torch.equal(weight(fitted), plain(mixup(), F.mse_loss, 1, y=y))


@pytest.mark.parametrize("vicinity", [vicinal.ERM(), vicinal.Mixup(1.0)])
def test_without_mixing_it_changes_nothing(vicinity):
    vicinity.off()
    plain_net = NeuralNetClassifier(
        Linear, criterion=torch.nn.CrossEntropyLoss, lr=0.1, max_epochs=2, batch_size=BATCH, verbose=0, train_split=None
    )
    assert torch.equal(weight(net(vicinity).fit(X, Y)), weight(plain_net.fit(X, Y)))


def test_validation_is_plain_and_counts_no_batch():
    half = net(mixup(), train_split=lambda data, y=None, **more: (data, data)).fit(X, Y)
    assert torch.equal(weight(half), plain(mixup(), F.cross_entropy))
    after = F.cross_entropy(half.module_(torch.from_numpy(X)), torch.from_numpy(Y)).item()
    assert half.history[-1, "valid_loss"] == pytest.approx(after, abs=1e-6)
    assert half.history[-1, "valid_acc"] == pytest.approx((half.predict(X) == Y).mean())


def test_a_fit_that_goes_on_is_the_whole_fit():
    begun = net(mixup(), max_epochs=2).fit(X, Y)
    again = pickle.loads(pickle.dumps(begun))
    for resumed in (begun, again):
        resumed.partial_fit(X, Y)
        assert torch.equal(weight(resumed), plain(mixup(), F.cross_entropy, epochs=4))


def test_a_schedule_follows_the_epochs():
    scheduled = vicinal.Scheduled(vicinal.Mixup(1.0), start=1, seed=5)
    assert torch.equal(weight(net(scheduled).fit(X, Y)), plain(scheduled, F.cross_entropy))


def test_all_evaluations_of_a_closure_see_one_draw():
    seen = []

    class Seen(Net):
        def get_loss(self, y_pred, y_true, *args, **kwargs):
            seen.append(float(y_true.weight[0, 0]))
            return super().get_loss(y_pred, y_true, *args, **kwargs)

    net(mixup(), Seen, optimizer=torch.optim.LBFGS, optimizer__max_iter=3, max_epochs=1).fit(X, Y)
    expected = [float(mixup().plan(BATCH, step=step).weight[0]) for step in range(ROWS // BATCH)]
    assert len(seen) > len(expected)
    assert list(dict.fromkeys(seen)) == pytest.approx(expected)


def test_it_is_a_parameter_as_any():
    made = net(mixup())
    assert made.get_params()["vicinity"] == mixup()
    assert clone(made).vicinity == mixup()
    assert torch.equal(weight(copy.deepcopy(made).fit(X, Y)), plain(mixup(), F.cross_entropy))
    grid = {"vicinity": [vicinal.ERM(), mixup()]}
    scores = [
        GridSearchCV(net(vicinal.ERM()), grid, cv=2, n_jobs=jobs, refit=False).fit(X, Y).cv_results_["mean_test_score"]
        for jobs in (1, 2)
    ]
    assert scores[0].tolist() == scores[1].tolist()


@pytest.mark.parametrize("scoring", [EpochScoring, BatchScoring])
def test_scores_of_what_was_predicted_on_mixed_inputs_are_refused(scoring):
    callbacks = [("train_acc", scoring("accuracy", on_train=True))]
    with pytest.raises(ValueError, match="the callback 'train_acc' scores what was predicted in training"):
        net(mixup(), callbacks=callbacks).fit(X, Y)
    callbacks = [("train_acc", EpochScoring("accuracy", on_train=True, use_caching=False, name="train_acc"))]
    fitted = net(mixup(), callbacks=callbacks).fit(X, Y)
    assert fitted.history[-1, "train_acc"] == pytest.approx((fitted.predict(X) == Y).mean())


class OfTwo(torch.nn.Module):
    """A class and a number, as a tuple or as a mapping."""

    def forward(self, logits, target):
        of_class, number = target.values() if isinstance(target, dict) else target
        return F.cross_entropy(logits, of_class) + F.mse_loss(logits.mean(1), number)


@pytest.mark.parametrize("form", [tuple, dict])
def test_several_targets_are_mixed_with_one_draw(form):
    numbers = X[:, 0].copy()
    y, number = torch.from_numpy(Y), torch.from_numpy(numbers)
    targets = StackDataset(y, number) if form is tuple else StackDataset(**{"class": y, "number": number})
    rows = StackDataset(torch.from_numpy(X), targets)
    fitted = net(mixup(), VicinalNet, criterion=OfTwo).fit(rows, None)
    model, vicinity, loss = Linear(), mixup(), OfTwo()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(2 * ROWS // BATCH):
        part = slice(step * BATCH % ROWS, step * BATCH % ROWS + BATCH)
        x, y, number = (torch.from_numpy(of[part]) for of in (X, Y, numbers))
        plan = vicinity.plan(BATCH, None, x, step=step)
        loss(model(plan(x)), (plan.target(y), plan.target(number))).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert torch.equal(fitted.module_.linear.weight, model.linear.weight)


def test_what_is_not_a_vicinity_is_refused():
    with pytest.raises(TypeError, match=r"vicinal\.Mixup\(0\.2\)"):
        net(0.2)
