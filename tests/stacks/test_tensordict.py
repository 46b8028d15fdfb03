"""TensorDict: one draw for all entries; memory-mapped ones stay; where a mixed target goes. Its nests: test_nests.py."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

import vicinal
from stacks.programs import printed_by

tensordict = pytest.importorskip("tensordict", reason="needs tensordict: pip install tensordict")
from tensordict import TensorDict  # noqa: E402
from tensordict.nn import TensorDictModule  # noqa: E402

from vicinal.keyed import Key  # noqa: E402

ROWS, BATCH, CLASSES = 24, 6, 3
RANDOM = Key(0, 0, 0, 0).generator()
A, B = (torch.from_numpy(RANDOM.normal(size=(ROWS, size))).float() for size in (4, 2))
IDS = torch.arange(ROWS) % CLASSES


def data(**more):
    return TensorDict({"a": A.clone(), "n": {"b": B.clone()}, "label": IDS.clone()}, batch_size=[ROWS], **more)


def mixup():
    return vicinal.Mixup(1.0, seed=5)


def mixed(batch, step=0):
    return mixup()(batch.exclude("label"), batch["label"], step=step)


def test_the_program(tmp_path):
    printed = printed_by("with_tensordict", tmp_path)
    assert float(re.fullmatch(r"test accuracy (\S+)\n", printed)[1]) > 0.94


def net():
    made = nn.Linear(4, CLASSES)
    with torch.no_grad():
        made.weight.copy_(torch.linspace(-1, 1, 12).view(CLASSES, 4))
        made.bias.zero_()
    return made


def test_a_module_is_trained_as_by_hand_to_the_last_bit():
    module, plain = TensorDictModule(net(), ["a"], ["logits"]), net()
    optimizers = [torch.optim.SGD(model.parameters(), 0.1) for model in (module, plain)]
    vicinity = mixup()
    for step, batch in enumerate(DataLoader(data(), BATCH, collate_fn=lambda batch: batch)):
        inputs, labels = vicinity(batch.exclude("label"), batch["label"])
        plan = mixup().plan(BATCH, step=step)
        rows = slice(step * BATCH, (step + 1) * BATCH)
        loss, by_hand = (
            F.cross_entropy(module(inputs)["logits"], labels),
            F.cross_entropy(plain(plan(A[rows])), plan.target(IDS[rows])),
        )
        assert torch.equal(inputs["n", "b"], plan(B[rows]))
        for part, optimizer in zip((loss, by_hand), optimizers, strict=True):
            optimizer.zero_grad()
            part.backward()
            optimizer.step()
    assert torch.equal(module.module.weight, plain.weight)


def test_sizes_names_and_locks():
    sequences = TensorDict({"a": A.view(6, 4, 4), "label": IDS.view(6, 4)}, batch_size=[6, 4], names=["rows", "time"])
    x, y = mixed(sequences)
    assert x.batch_size == (6, 4)
    assert x.names == ["rows", "time"]
    assert y.shape == (6, 4)
    locked = data().lock_()
    x, _ = mixed(locked)
    assert torch.equal(locked["a"], A)
    assert torch.equal(x["a"], mixup().plan(ROWS, step=0)(A))


def test_what_is_memory_mapped_stays_as_it_is(tmp_path):
    data().memmap_(tmp_path)
    mapped = TensorDict.load_memmap(tmp_path)
    for batch, rows in ((mapped, slice(None)), (mapped[[3, 1, 5]], [3, 1, 5])):
        x, y = mixed(batch)
        plan = mixup().plan(len(IDS[rows]), step=0)
        assert torch.equal(x["a"], plan(A[rows]))
        assert torch.equal(y.ids, plan.target(IDS[rows]).ids)
        assert not x.is_memmap()
    assert torch.equal(TensorDict.load_memmap(tmp_path)["a"], A)


def test_stacked_rows_are_a_batch_and_lazy_ones_are_made_one():
    rows = [data()[i] for i in range(BATCH)]
    plan = mixup().plan(BATCH, step=0)
    lazy = tensordict.LazyStackedTensorDict.lazy_stack(rows)
    for batch in (torch.stack(rows), lazy.contiguous()):
        assert torch.equal(mixed(batch)[0]["n", "b"], plan(B[:BATCH]))
    with pytest.raises(TypeError, match=r"input is a LazyStackedTensorDict, .*input\.contiguous\(\)"):
        mixed(lazy)


@pytest.mark.parametrize("workers", [0, 2])
def test_collate_puts_the_mixed_label_into_the_batch(workers):
    rows = [data()[i] for i in range(ROWS)]
    loader = DataLoader(rows, BATCH, num_workers=workers, collate_fn=vicinal.Collate(mixup(), collate_fn=torch.stack))
    draws = set()
    for step, batch in enumerate(loader):
        place = {"step": step} if workers == 0 else {"step": step // 2, "worker": 1 + step % 2}
        plan = mixup().plan(BATCH, **place)
        part = slice(step * BATCH, (step + 1) * BATCH)
        assert type(batch) is TensorDict
        assert torch.equal(batch["a"], plan(A[part]))
        assert torch.equal(batch["label"].dense(CLASSES), plan.target(IDS[part]).dense(CLASSES))
        draws.add(float(batch["label"].weight[0, 0]))
    assert len(draws) == ROWS // BATCH


def test_a_mixed_target_in_a_tensordict_is_data_that_does_not_follow_its_rows():
    """Why the page says to put it back last: TensorDict keeps what is no tensor as it is."""
    x, y = mixed(data())
    x["label"] = y
    logits, reverse = torch.randn(ROWS, CLASSES), torch.arange(ROWS).flip(0)
    assert torch.equal(F.cross_entropy(logits, x["label"]), F.cross_entropy(logits, y))
    with pytest.raises(ValueError, match="do not fit"):
        F.cross_entropy(logits[:3], x[:3]["label"])
    assert torch.equal(x[reverse]["label"].ids, y.ids)
    x["label"] = y.dense(CLASSES)
    assert torch.equal(x[reverse]["label"], y[reverse].dense(CLASSES))


def test_a_label_that_is_left_among_the_inputs_is_refused():
    batch = data()
    with pytest.raises(TypeError, match="integers are names here"):
        mixup()(batch, batch["label"])
