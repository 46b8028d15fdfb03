"""Ignite: prepare_batch gives the loop by hand to the last bit, and resumes; metrics of the trainer, and of evaluation."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

import vicinal

pytest.importorskip("ignite", reason="needs Ignite: pip install pytorch-ignite")
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import Checkpoint, DiskSaver
from ignite.metrics import Accuracy, Average, Loss

from stacks.loops import by_hand, plain, planned, same
from stacks.processes import BATCH, CLASSES, RATE, ROWS, data, linear, mixup, numbers_of
from stacks.programs import printed_by

BATCHES = ROWS // BATCH


class Run:
    """A model and its trainer, which mixes by `mix(x, y, step)`."""

    def __init__(self, mix, accumulation=1, output=lambda x, y, logits, loss: loss.item()):
        self.net = linear()
        self.optimizer = torch.optim.SGD(self.net.parameters(), RATE, momentum=0.9)
        self.trainer = create_supervised_trainer(
            self.net,
            self.optimizer,
            F.cross_entropy,
            prepare_batch=lambda batch, device, non_blocking: mix(*batch, self.trainer.state.iteration - 1),
            output_transform=output,
            gradient_accumulation_steps=accumulation,
        )

    def parts(self, **more):
        return {"net": self.net, "optimizer": self.optimizer, "trainer": self.trainer, **more}

    def train(self, epochs=2):
        self.trainer.run(DataLoader(data(), BATCH), max_epochs=epochs)
        return self.net


def test_the_program_trains(tmp_path):
    accuracy = float(re.fullmatch(r"test accuracy (0\.\d+)\n", printed_by("with_ignite", tmp_path))[1])
    assert accuracy > 0.9
    (checkpoint,) = (tmp_path / "checkpoints").iterdir()
    state = torch.load(checkpoint)
    assert state["mixup"]["steps"] == [state["trainer"]["iteration"]] == [15 * 38]


@pytest.mark.parametrize("accumulation", [1, 4])
def test_it_is_the_loop_by_hand_to_the_last_bit(accumulation):
    vicinity = mixup()
    net = Run(lambda x, y, step: vicinity(x, y), accumulation).train()
    assert same(net, by_hand(planned, epochs=2, accumulation=accumulation))
    assert not same(net, by_hand(plain, epochs=2, accumulation=accumulation))


@pytest.mark.parametrize("vicinity", [vicinal.ERM(), vicinal.Mixup(1.0)])
def test_without_mixing_it_changes_nothing(vicinity):
    if isinstance(vicinity, vicinal.Mixup):
        vicinity.off()
    assert same(Run(lambda x, y, step: vicinity(x, y)).train(), Run(plain).train())


@pytest.mark.parametrize("seed", [5, None])
@pytest.mark.parametrize("by_step", [False, True])
def test_a_checkpoint_resumes_to_the_same_weights(tmp_path, seed, by_step):
    first, second = vicinal.Mixup(1.0, seed=seed), vicinal.Mixup(1.0, seed=seed)
    kept = [{"mixup": vicinity} if seed is None or not by_step else {} for vicinity in (first, second)]
    whole = Run(lambda x, y, step: first(x, y, step=step if by_step else None))
    save = Checkpoint(whole.parts(**kept[0]), DiskSaver(str(tmp_path), require_empty=False), n_saved=None)
    whole.trainer.add_event_handler(Events.EPOCH_COMPLETED, save)
    whole.train()
    resumed = Run(lambda x, y, step: second(x, y, step=step if by_step else None))
    Checkpoint.load_objects(resumed.parts(**kept[1]), str(tmp_path / f"checkpoint_{BATCHES}.pt"))
    assert resumed.trainer.state.iteration == BATCHES
    assert same(whole.net, resumed.train())
    assert not same(whole.net, linear())


def test_within_an_epoch_the_draws_go_on_and_the_rows_begin_anew(tmp_path):
    """Ignite itself begins the rows of a plain DataLoader anew."""

    def seen_by(vicinity, stop=None, resume=None):
        seen = []

        def mix(x, y, step):
            mixed, target = vicinity(x, y)
            seen.append((numbers_of(x), float(target.weight[0, 0])))
            return mixed, target

        run = Run(mix)
        if stop is not None:
            save = Checkpoint(run.parts(mixup=vicinity), DiskSaver(str(stop)))
            run.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), save)
        if resume is not None:
            Checkpoint.load_objects(run.parts(mixup=vicinity), str(resume / "checkpoint_3.pt"))
        run.train(1)
        return zip(*seen, strict=True)

    rows, draws = seen_by(vicinal.Mixup(1.0), stop=tmp_path)
    resumed_rows, resumed_draws = seen_by(vicinal.Mixup(1.0), resume=tmp_path)
    assert resumed_draws == draws[3:]
    assert resumed_rows == rows[: BATCHES - 3]


def test_evaluation_is_plain_and_the_accuracy_of_training_is_mixed():
    vicinity = mixup()
    run = Run(
        lambda x, y, step: vicinity(x, y),
        output=lambda x, y, logits, loss: vicinal.metrics.mixed_accuracy(logits, y).item(),
    )
    Average().attach(run.trainer, "mixed_accuracy")
    net = run.train(1)
    evaluator = create_supervised_evaluator(net, {"accuracy": Accuracy(), "loss": Loss(F.cross_entropy)})
    found = evaluator.run(DataLoader(data(), BATCH)).metrics
    x, y = data().tensors
    assert found["accuracy"] == float((net(x).argmax(1) == y).float().mean())
    assert found["loss"] == pytest.approx(float(F.cross_entropy(net(x).detach(), y)), abs=1e-6)
    net, hits = linear(), []
    optimizer = torch.optim.SGD(net.parameters(), RATE, momentum=0.9)
    for step, (x, y) in enumerate(DataLoader(data(), BATCH)):
        x, y = planned(x, y, step)
        logits = net(x)
        hits.append(float(y.dense(CLASSES)[range(BATCH), logits.argmax(1)].mean()))
        optimizer.zero_grad()
        F.cross_entropy(logits, y).backward()
        optimizer.step()
    assert run.trainer.state.metrics["mixed_accuracy"] == pytest.approx(sum(hits) / BATCHES, abs=1e-6)


def test_plain_accuracy_of_the_trainer_is_refused_with_what_to_write():
    vicinity = mixup()
    run = Run(lambda x, y, step: vicinity(x, y), output=lambda x, y, logits, loss: (logits, y))
    Accuracy().attach(run.trainer, "accuracy")
    with pytest.raises(TypeError, match=r"y\.largest\(\).*mixed_accuracy"):
        run.train(1)
    run = Run(lambda x, y, step: vicinity(x, y), output=lambda x, y, logits, loss: (logits, y.largest()))
    Accuracy().attach(run.trainer, "accuracy")
    run.train(1)
    assert 0 <= run.trainer.state.metrics["accuracy"] <= 1
