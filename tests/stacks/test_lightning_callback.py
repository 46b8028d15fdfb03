"""Lightning's callback: what the plain loop gives, to the last bit; resumed, in processes, with its own accuracy."""

import functools
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

import vicinal

L = pytest.importorskip("lightning", reason="needs lightning: pip install lightning")
from lightning.pytorch.callbacks import LearningRateFinder, WeightAveraging  # noqa: E402
from torchmetrics.classification import MulticlassAccuracy  # noqa: E402

from stacks.programs import printed  # noqa: E402
from vicinal.integrations.lightning import MixedAccuracy, VicinalCallback  # noqa: E402
from vicinal.keyed import Key  # noqa: E402

ROWS, BATCH, CLASSES = 40, 8, 3
QUIET = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "accelerator": "cpu",
    "num_sanity_val_steps": 0,
}


def data():
    random = torch.from_numpy(Key(0, 0, 0, 0).generator().normal(size=(ROWS, 4))).float()
    return TensorDataset(random, torch.arange(ROWS) % CLASSES)


def mixup():
    return vicinal.Mixup(1.0, seed=5)


class Module(L.LightningModule):
    def __init__(self, form=list, optimizer=torch.optim.SGD, **settings):
        super().__init__()
        self.net = torch.nn.Linear(4, CLASSES)
        with torch.no_grad():
            self.net.weight.copy_(torch.linspace(-1, 1, 12).view(CLASSES, 4))
            self.net.bias.zero_()
        self.form, self.optimizer, self.settings = form, optimizer, {"lr": 0.1, **settings}
        self.seen, self.validated = [], []

    def training_step(self, batch, batch_idx):
        x, y = (batch["image"], batch["label"]) if self.form is dict else batch
        self.seen.append((x.clone(), y))
        return F.cross_entropy(self.net(x), y)

    def validation_step(self, batch, batch_idx):
        x, y = (batch["image"], batch["label"]) if self.form is dict else batch
        self.validated.append((x, y))

    def configure_optimizers(self):
        return self.optimizer(self.parameters(), **self.settings)


def loader(form=list, batch=BATCH):
    rows = data()
    source = [{"image": x, "label": y} for x, y in rows] if form is dict else rows
    return DataLoader(source, batch)


def fit(module, vicinity, epochs=2, form=list, callbacks=(), ckpt_path=None, **settings):
    callbacks = [*([] if vicinity is None else [VicinalCallback(vicinity)]), *callbacks]
    trainer = L.Trainer(max_epochs=epochs, callbacks=callbacks, **{**QUIET, **settings})
    trainer.fit(module, loader(form), loader(form), ckpt_path=ckpt_path)
    return module


def plain(vicinity, epochs=2, accumulate=1):
    """Train by hand: the weights, and the draws."""
    net, seen = Module().net, []
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for epoch in range(epochs):
        for i, (x, y) in enumerate(loader()):
            step = epoch * (ROWS // BATCH) + i
            plan = vicinity.plan(len(y), y, x, step=step, epoch=epoch)
            seen.append((plan(x), plan.target(y)))
            (F.cross_entropy(net(seen[-1][0]), seen[-1][1]) / accumulate).backward()
            if (i + 1) % accumulate == 0 or i + 1 == ROWS // BATCH:
                optimizer.step()
                optimizer.zero_grad()
    return net, seen


def same(batches, expected):
    return len(batches) == len(expected) and all(
        torch.equal(x, x0) and torch.equal(y.dense(CLASSES), y0.dense(CLASSES))
        for (x, y), (x0, y0) in zip(batches, expected, strict=True)
    )


@pytest.mark.parametrize("form", [list, dict])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_it_is_the_plain_loop_to_the_last_bit(form, accumulate):
    module = fit(Module(form), mixup(), form=form, accumulate_grad_batches=accumulate)
    net, seen = plain(mixup(), accumulate=accumulate)
    assert same(module.seen, seen)
    assert torch.equal(module.net.weight, net.weight)
    assert torch.equal(module.net.bias, net.bias)
    assert all(torch.equal(y, y0) for (_, y), (_, y0) in zip(module.validated, list(loader()) * 2, strict=False))
    assert all(type(y) is torch.Tensor for _, y in module.validated)
    assert "training_step" not in vars(module)


@pytest.mark.parametrize("vicinity", [None, vicinal.ERM(), vicinal.Mixup(1.0)])
def test_without_mixing_it_changes_nothing(vicinity):
    if isinstance(vicinity, vicinal.Mixup):
        vicinity.off()
    module, (net, _) = fit(Module(), vicinity), plain(vicinal.ERM())
    assert torch.equal(module.net.weight, net.weight)


def test_a_schedule_follows_the_trainers_epochs():
    scheduled = vicinal.Scheduled(vicinal.Mixup(1.0), start=1, seed=5)
    module = fit(Module(), scheduled, epochs=3)
    assert same(module.seen, plain(scheduled, epochs=3)[1])
    x, _ = data().tensors
    first = torch.cat([x for x, _ in module.seen[: ROWS // BATCH]])
    assert torch.equal(first, x)


@pytest.mark.parametrize(("every", "steps"), [({"every_n_epochs": 1}, 5), ({"every_n_train_steps": 3}, 3)])
@pytest.mark.parametrize("seed", [5, None])
def test_a_resumed_run_goes_on_with_the_draws_it_would_have_had(tmp_path, every, steps, seed):
    checkpoint = L.pytorch.callbacks.ModelCheckpoint(tmp_path, save_top_k=-1, **every)
    whole = fit(Module(), vicinal.Mixup(1.0, seed=seed), callbacks=[checkpoint], enable_checkpointing=True)
    (path,) = [p for p in tmp_path.iterdir() if f"step={steps}." in p.name]
    resumed = fit(Module(), vicinal.Mixup(1.0, seed=seed), ckpt_path=path)
    draws = [[y.weight.flatten().tolist() for _, y in module.seen] for module in (whole, resumed)]
    assert draws[1] == draws[0][steps:]
    if "every_n_epochs" in every:  # within an epoch Lightning begins a plain DataLoader's rows anew
        assert same(resumed.seen, whole.seen[steps:])
        assert torch.equal(resumed.net.weight, whole.net.weight)


class SharesItsStep(Module):
    def validation_step(self, batch, batch_idx):
        return self.training_step(batch, batch_idx)


def test_a_step_that_validation_shares_is_mixed_in_training_alone():
    module = fit(SharesItsStep(), mixup())
    per_epoch = ROWS // BATCH
    kinds = [type(y) is vicinal.MixedTarget for _, y in module.seen]
    assert kinds == ([True] * per_epoch + [False] * per_epoch) * 2


def test_a_search_of_the_learning_rate_sees_mixed_batches_and_moves_no_draw(tmp_path):
    module = Module()
    module.lr = 0.1
    finder = LearningRateFinder(num_training_steps=4, early_stop_threshold=None, update_attr=False)
    fit(module, mixup(), callbacks=[finder], enable_checkpointing=True, default_root_dir=tmp_path)
    _, expected = plain(mixup())
    assert same(module.seen[:4], expected[:4])
    assert same(module.seen[4:], expected)


def test_averaged_weights_and_manual_optimization():
    class ByHand(Module):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.optimizers().zero_grad()
            self.manual_backward(loss)
            self.optimizers().step()

    net, seen = plain(mixup())
    by_hand = fit(ByHand(), mixup())
    averaged = fit(Module(), mixup(), callbacks=[WeightAveraging()])  # which copies the module, its step included
    assert same(by_hand.seen, seen)
    assert same(averaged.seen, seen)
    assert torch.equal(by_hand.net.weight, net.weight)
    assert "training_step" not in vars(averaged)


def test_all_evaluations_of_a_closure_see_one_draw():
    module = fit(Module(optimizer=torch.optim.LBFGS, lr=0.5, max_iter=4), mixup(), epochs=1)
    weights = [float(y.weight[0, 0]) for _, y in module.seen]
    assert len(weights) > ROWS // BATCH
    expected = [float(y.weight[0, 0]) for _, y in plain(mixup(), epochs=1)[1]]
    assert list(dict.fromkeys(weights)) == expected


def test_a_module_is_left_as_it_was_after_an_error():
    class Stops(L.Callback):
        def on_train_batch_end(self, *given):
            raise KeyboardInterrupt

    module = Module()
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(module, mixup(), callbacks=[Stops()])
    assert "training_step" not in vars(module)


def test_a_step_of_the_module_alone_is_put_back():
    """torch.compile of a LightningModule leaves its compiled step on the object."""
    module = Module()
    inner = module.training_step

    @functools.wraps(inner)
    def compiled(*given):
        return inner(*given)

    module.training_step = compiled
    fit(module, mixup(), epochs=1)
    assert same(module.seen, plain(mixup(), epochs=1)[1])
    assert vars(module)["training_step"] is compiled


class Unseen(Module):
    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self.net(x), y)


def test_a_compiled_module_is_given_the_same_draws_as_a_plain_one():
    """Ten epochs, which is longer than one block of draws; the draw stays outside of the graph."""
    module = Unseen()
    compiled = torch.compile(module, backend="aot_eager")
    fit(compiled, mixup(), epochs=10)
    expected, _ = plain(mixup(), epochs=10)
    torch.testing.assert_close(module.net.weight, expected.weight, rtol=1e-6, atol=1e-6)
    assert not torch.equal(module.net.weight, Unseen().net.weight)


OLD_NAME = """
import sys

if "alone" in sys.argv:

    class Hidden:
        def find_spec(self, name, path=None, target=None):
            if name == "lightning":
                raise ModuleNotFoundError(name)

    import importlib.util

    found = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *of: None if name == "lightning" else found(name, *of)
    sys.meta_path.insert(0, Hidden())

import pytorch_lightning
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

import vicinal
from vicinal.integrations.lightning import VicinalCallback

seen = []


class Module(pytorch_lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(2, 3)

    def training_step(self, batch, batch_idx):
        x, y = batch
        seen.append(x)
        return F.cross_entropy(self.net(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


x, y = torch.arange(16.0).view(8, 2), torch.arange(8) % 3
mixup = vicinal.Mixup(1.0, seed=5)
trainer = pytorch_lightning.Trainer(
    max_epochs=1, callbacks=[VicinalCallback(mixup)], logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
)
trainer.fit(Module(), DataLoader(TensorDataset(x, y), 4))
for step in range(2):
    assert torch.equal(seen[step], mixup.plan(4, y[4 * step :][:4], step=step)(x[4 * step :][:4]))
assert ("alone" in sys.argv) == ("lightning" not in sys.modules)
print(len(seen), "batches")
"""


@pytest.mark.parametrize("installed", ["both", "alone"])
def test_pytorch_lightning_by_its_older_name(installed, tmp_path):
    assert printed(["-c", OLD_NAME, installed], tmp_path).endswith("2 batches\n")


def test_what_cannot_be_mixed_is_refused():
    class Fetches(Module):
        def training_step(self, dataloader_iter):
            raise AssertionError

    with pytest.raises(TypeError, match="fetches its batches itself"):
        fit(Fetches(), mixup())
    with pytest.raises(TypeError, match=r"vicinal\.Mixup\(0\.2\)"):
        VicinalCallback(0.2)


# -- the accuracy of training on mixed batches ---------------------------------------------------------------------------


@pytest.mark.parametrize("topk", [1, 2])
def test_mixed_accuracy_is_the_mean_share_of_all_rows(topk):
    metric, hits, rows = MixedAccuracy(topk), 0.0, 0
    for step, size in enumerate((8, 5, 3)):  # batches of different sizes count by their rows
        random = Key(1, 0, 0, step).generator()
        logits, y = torch.from_numpy(random.normal(size=(size, 4))), torch.from_numpy(random.integers(0, 4, size))
        target = vicinal.Mixup(1.0, seed=step).plan(size, y, step=0).target(y)
        metric.update(logits, target)
        best = logits.topk(topk, dim=1).indices
        dense = target.dense(4, dtype=torch.float64)
        hits += sum(float(dense[i, best[i]].sum()) for i in range(size))
        rows += size
    assert float(metric.compute()) == pytest.approx(hits / rows, abs=1e-6)


def test_mixed_accuracy_of_plain_class_indices_is_accuracy():
    random = Key(2, 0, 0, 0).generator()
    logits, y = torch.from_numpy(random.normal(size=(30, 4))), torch.from_numpy(random.integers(0, 4, 30))
    mixed, accuracy = MixedAccuracy(), MulticlassAccuracy(4, average="micro")
    for metric in (mixed, accuracy):
        metric.update(logits[:20], y[:20])
        metric.update(logits[20:], y[20:])
    assert float(mixed.compute()) == pytest.approx(float(accuracy.compute()))


def test_accuracy_of_torchmetrics_on_mixed_labels_names_the_one_that_is_meant():
    _, y = plain(mixup(), epochs=1)[1][0]
    with pytest.raises(TypeError, match="mixed_accuracy"):
        MulticlassAccuracy(CLASSES)(torch.zeros(BATCH, CLASSES), y)


def test_the_module_of_the_page_trains():
    page = Path(__file__).parents[2] / "docs" / "integrations" / "lightning.md"
    (code,) = re.findall(r"```py\n(.*?)```", page.read_text(), re.DOTALL)
    names = {"L": L, "torch": torch, "F": F, "MixedAccuracy": MixedAccuracy}
    exec(code, names)
    trainer = L.Trainer(max_epochs=1, callbacks=[VicinalCallback(mixup())], **QUIET)
    trainer.fit(names["Classifier"](), loader())
    assert 0 <= float(trainer.callback_metrics["train/mixed_accuracy"]) <= 1


# -- processes ---------------------------------------------------------------------------------------------------------


class Reports(Module):
    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.accuracy = MixedAccuracy()
        self.plain = []

    def on_after_batch_transfer(self, batch, dataloader_idx):
        self.plain.append(batch)
        return batch

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.accuracy.update(self.net(self.seen[-1][0]).detach(), self.seen[-1][1])
        return loss

    def on_fit_end(self):
        parts = [(x, y.dense(CLASSES)) for x, y in self.seen]
        torch.save((self.plain, parts, self.accuracy.compute()), self.folder / f"{self.global_rank}.pt")


def test_two_processes_draw_their_own_and_see_every_row_once(tmp_path):
    trainer = L.Trainer(
        max_epochs=1,
        callbacks=[VicinalCallback(mixup())],
        strategy="ddp_spawn",
        devices=2,
        **QUIET,
    )
    trainer.fit(Reports(tmp_path), loader(batch=5))
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for rank, (plain_batches, mixed_batches, accuracy) in enumerate(found):
        assert len(plain_batches) == len(mixed_batches) == ROWS // 5 // 2
        assert torch.equal(accuracy, found[0][2])
        for step, ((x, y), (mixed, dense)) in enumerate(zip(plain_batches, mixed_batches, strict=True)):
            plan = mixup().plan(5, y, x, step=step, rank=rank)
            assert torch.equal(mixed, plan(x))
            assert torch.equal(dense, plan.target(y).dense(CLASSES))
    seen = torch.cat([x for plain_batches, _, _ in found for x, _ in plain_batches])
    assert torch.equal(seen.sort(0).values, data().tensors[0].sort(0).values)
