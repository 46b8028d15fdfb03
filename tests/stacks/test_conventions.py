"""The Convention blocks of integrations whose packages are here: every phrase is measured in a training of theirs."""

import doctest
import importlib
import inspect
import os
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

import vicinal
from conventions import PACKAGE, VOCABULARY, Scores, Subject, block, documented
from vicinal import _state

os.environ["HF_HUB_OFFLINE"] = "1"
ROWS, BATCHES, EPOCHS = 4, 6, 2
X, Y = torch.eye(ROWS * BATCHES), torch.arange(ROWS * BATCHES) % ROWS  # rows that say who they are


def mixup():
    return vicinal.Mixup(1.0, vicinal.RandomPairs(self_pairs=False), seed=5)


class Model(torch.nn.Module):
    """A linear model that keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.linear, self.given = torch.nn.Linear(ROWS * BATCHES, ROWS), []

    def forward(self, x, labels=None):
        if self.training:
            self.given.append((x.clone(), labels))
        logits = self.linear(x)
        return logits if labels is None else {"loss": F.cross_entropy(logits, labels), "logits": logits}


# -- one training each: what the model was given -----------------------------------------------------------------------


def by_lightning(folder):
    lightning = pytest.importorskip("lightning", reason="needs lightning: pip install lightning")
    from vicinal.integrations.lightning import VicinalCallback

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = Model()

        def training_step(self, batch, batch_idx):
            return self.model(*batch)["loss"]

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    module = Module()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        callbacks=[VicinalCallback(mixup())],
        accelerator="cpu",
        enable_checkpointing=False,
        **quiet,
    )
    trainer.fit(module, DataLoader(TensorDataset(X, Y), ROWS))
    return module.model.given


def by_transformers(folder, kind="MixupTrainer"):
    hf = pytest.importorskip("transformers", reason="needs transformers: pip install transformers")
    pytest.importorskip("accelerate", reason="needs accelerate: pip install accelerate")
    from vicinal.integrations.transformers import MixupMixin, MixupTrainer

    class InOrder:
        def _get_train_sampler(self, *given):
            return None

    bases = (InOrder, MixupTrainer) if kind == "MixupTrainer" else (InOrder, MixupMixin, hf.Trainer)
    arguments = hf.TrainingArguments(
        str(folder),
        per_device_train_batch_size=ROWS,
        num_train_epochs=EPOCHS,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        logging_strategy="no",
    )
    model = Model()
    rows = [{"x": x, "labels": y} for x, y in zip(X, Y, strict=True)]
    type("Mine", bases, {})(model, arguments, vicinity=mixup(), train_dataset=rows).train()
    return model.given


def by_skorch(folder):
    skorch = pytest.importorskip("skorch", reason="needs skorch: pip install skorch")
    from vicinal.integrations.skorch import VicinalMixin

    class Criterion(torch.nn.CrossEntropyLoss):
        def forward(self, input, target):
            labels.append(target)
            return super().forward(input, target)

    class Net(VicinalMixin, skorch.NeuralNet):
        pass

    labels = []
    net = Net(
        Model,
        vicinity=mixup(),
        criterion=Criterion,
        max_epochs=EPOCHS,
        batch_size=ROWS,
        train_split=None,
        verbose=0,
        iterator_train__shuffle=False,
    ).fit(X.numpy(), Y.numpy())
    return [(x, y) for (x, _), y in zip(net.module_.given, labels, strict=True)]


TRAININGS = {
    "lightning.VicinalCallback": by_lightning,
    "transformers.MixupTrainer": by_transformers,
    "transformers.MixupMixin": lambda folder: by_transformers(folder, "MixupMixin"),
    "skorch.VicinalMixin": by_skorch,
}


class Trained:
    """What a training gave its model, once as the only process and once as the second of two."""

    def __init__(self, train, folder):
        self.first = train(folder)
        with mock.patch.object(_state, "rank", return_value=1):
            self.second = train(folder)


# -- the phrases -------------------------------------------------------------------------------------------------------


def plan(number, rank=0):
    return mixup().plan(ROWS, step=number, rank=rank)


def rows_of_the_batch(trained):
    assert len(trained.first) == EPOCHS * BATCHES
    for number, (x, y) in enumerate(trained.first):
        own = slice(number % BATCHES * ROWS, (number % BATCHES + 1) * ROWS)
        assert x.shape[0] == len(y) == ROWS
        torch.testing.assert_close(x[:, own].sum(1), torch.ones(ROWS))  # nobody of another batch


def of_the_vicinity(trained):
    for number, (x, y) in enumerate(trained.first):
        own = slice(number % BATCHES * ROWS, (number % BATCHES + 1) * ROWS)
        expected = plan(number)
        assert torch.equal(x, expected(X[own]))
        assert torch.equal(y.dense(ROWS), expected.target(Y[own]).dense(ROWS))


def one_plan_per_batch(trained):
    lambdas = []
    for number, (x, _) in enumerate(trained.first):
        own = slice(number % BATCHES * ROWS, (number % BATCHES + 1) * ROWS)
        kept = x[:, own].diagonal().tolist()
        assert max(kept) - min(kept) < 1e-6
        lambdas.append(round(kept[0], 6))
    assert len(set(lambdas)) == EPOCHS * BATCHES


def one_plan_per_batch_and_process(trained):
    one_plan_per_batch(trained)
    for number, (x, _) in enumerate(trained.second):
        own = slice(number % BATCHES * ROWS, (number % BATCHES + 1) * ROWS)
        assert torch.equal(x, plan(number, rank=1)(X[own]))
        assert not torch.equal(x, trained.first[number][0])


def decided_by_the_count(trained):
    of_the_vicinity(trained)  # plans by the number of the batch, over both epochs


MEASURED = {
    "the rows of the batch that one process trains on": rows_of_the_batch,
    "the rows of the batch": rows_of_the_batch,
    "that of the vicinity": of_the_vicinity,
    "one plan per training batch and process": one_plan_per_batch_and_process,
    "one plan per training batch": one_plan_per_batch,
    "decided by the trainer's count of batches": decided_by_the_count,
    "decided by the trainer's global step": decided_by_the_count,
    "decided by the count of batches in the history": decided_by_the_count,
}


def docs(name):
    module, _, kind = name.partition(".")
    return dict(documented(PACKAGE / "integrations" / f"{module}.py"))[kind]


@pytest.mark.parametrize("name", TRAININGS)
def test_what_a_block_says_is_true(name, tmp_path):
    trained = Trained(TRAININGS[name], tmp_path)
    for said in block(docs(name)).values():
        for phrase in said:
            MEASURED[phrase](trained)


def test_what_is_false_is_seen(tmp_path):
    trained = Trained(TRAININGS["skorch.VicinalMixin"], tmp_path)
    trained.first[BATCHES] = trained.first[0]  # the second epoch begins with the draw of the first
    others = set(MEASURED.values()) - {rows_of_the_batch}
    assert len(others) == 4
    for check in others:
        with pytest.raises(AssertionError):
            check(trained)
    rows_of_the_batch(trained)
    trained.first[1] = trained.first[0]
    with pytest.raises(AssertionError):
        rows_of_the_batch(trained)


def test_the_block_of_lightnings_accuracy_is_true():
    pytest.importorskip("lightning", reason="needs lightning: pip install lightning")
    from vicinal.integrations.lightning import MixedAccuracy

    def of_rows(logits, y):
        metric = MixedAccuracy()
        return torch.stack([metric(logits[i : i + 1], y[i : i + 1]) for i in range(len(logits))])

    subject = Subject(None, None, Y, of=Scores(of_rows, lambda logits, ids: (logits.argmax(1) == ids).double()))
    for line, said in block(inspect.getdoc(MixedAccuracy)).items():
        for phrase in said:
            VOCABULARY[line][phrase](subject)


# -- the examples of docstrings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["lightning", "transformers", "skorch"])
def test_examples_run(module, tmp_path, monkeypatch):
    pytest.importorskip(module, reason=f"needs {module}: pip install {module}")
    monkeypatch.chdir(tmp_path)  # where trainers make their folders
    found = importlib.import_module(f"vicinal.integrations.{module}")
    tests = [test for test in doctest.DocTestFinder().find(found) if test.examples]
    assert {test.name.rpartition(".")[2] for test in tests} == {name for name, _ in documented(Path(found.__file__))}
    for test in tests:
        assert doctest.DocTestRunner().run(test).failed == 0, test.name
