"""A collate_fn that mixes: batches of every form, workers of every kind, and an epoch that is cut among processes."""

import copy
import pickle
from collections import Counter, UserDict
from typing import NamedTuple

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset, default_collate

import vicinal as v
from vicinal._batch import split_batch

ROWS = 24
DATA = TensorDataset(torch.eye(ROWS), torch.arange(ROWS) % 5)
NAMES = ("label", "labels", "target", "targets", "y")


class Pair(NamedTuple):
    label: int
    image: torch.Tensor


def mixup(**more):
    return v.Mixup(v.Beta(1.0, per="example"), seed=3, **more)


def plain(step, rows, data=DATA, vicinity=None):
    """The batch of a step, mixed by its plan."""
    x, y = default_collate([data[i] for i in rows])
    plan = (vicinity or mixup()).plan(len(y), y, x, step=step)
    return plan(x), plan.target(y)


def same(batch, expected):
    (x, y), (x0, y0) = batch, expected
    return torch.equal(x, x0) and torch.equal(y.dense(5), y0.dense(5))


# -- what a batch may look like ----------------------------------------------------------------------------------------


def test_a_pair_is_mixed_as_the_plan_of_its_step_mixes_it():
    batches = list(DataLoader(DATA, batch_size=8, collate_fn=v.Collate(mixup())))
    assert len(batches) == 3
    for step, batch in enumerate(batches):
        assert isinstance(batch, list | tuple)
        assert same(batch, plain(step, range(8 * step, 8 * step + 8)))
    assert not same(batches[0], plain(1, range(8)))


@pytest.mark.parametrize("name", NAMES)
def test_a_mapping_keeps_its_keys_and_its_type(name):
    rows = [{"image": x, name: y, "depth": 2 * x} for x, y in DATA]
    batch = v.Collate(mixup())(rows[:8])
    assert list(batch) == ["image", name, "depth"]
    x, y = plain(0, range(8))
    assert same((batch["image"], batch[name]), (x, y))
    assert torch.allclose(batch["depth"], 2 * x)  # one draw for all inputs


def test_a_mapping_of_another_type_comes_back_as_one_with_what_else_it_holds():
    class Encoded(UserDict):
        """Holds something besides its items, as a BatchEncoding does."""

        lengths = 0

    def collate(rows):
        batch = Encoded(default_collate([{"x": x, "labels": y} for x, y in rows]))
        batch.lengths = len(rows)
        return batch

    batch = v.Collate(mixup(), collate)([DATA[i] for i in range(8)])
    assert type(batch) is Encoded
    assert batch.lengths == 8
    assert same((batch["x"], batch["labels"]), plain(0, range(8)))


def test_a_named_tuple_names_its_target():
    rows = [Pair(int(y), x) for x, y in DATA]
    batch = v.Collate(mixup(), target="label")(rows[:8])
    assert type(batch) is Pair
    assert same((batch.image, batch.label), plain(0, range(8)))


@pytest.mark.parametrize("target", [1, -2])
def test_of_more_than_two_parts_one_is_named(target):
    rows = [(x, y, 3 * x) for x, y in DATA]
    first, y, last = v.Collate(mixup(), target=target)(rows[:8])
    assert same((first, y), plain(0, range(8)))
    assert torch.allclose(last, 3 * first)


def test_the_batch_of_collate_fn_is_not_changed():
    made = default_collate([DATA[i] for i in range(8)])
    before = copy.deepcopy(made)
    v.Collate(mixup(), lambda rows: made)([])
    assert all(torch.equal(a, b) for a, b in zip(made, before, strict=True))
    named = {"x": made[0], "y": made[1]}
    v.Collate(mixup(), lambda rows: named)([])
    assert named["x"] is made[0]
    assert named["y"] is made[1]


@pytest.mark.parametrize(
    ("batch", "target", "says"),
    [
        ({"a": 1, "b": 2}, None, r"which of \['a', 'b'\] is the target"),
        ({"label": 1, "y": 2}, None, r"which of \['label', 'y'\] is the target.*'label', 'y'"),
        ({"label": 1}, "class", r"which of \['label'\] is the target"),
        ((1, 2, 3), None, "which of the 3 parts"),
        ((1, 2), 2, "which of the 2 parts"),
        ((1, 2), -3, "which of the 2 parts"),
        ((1, 2), "label", "which of the 2 parts"),
        ((1,), None, "which of the 1 parts"),
        (Pair(1, torch.zeros(2)), "title", r"fields \['label', 'image'\]"),
    ],
)
def test_a_target_that_is_not_clear_is_asked_for(batch, target, says):
    with pytest.raises(ValueError, match=says):
        split_batch(batch, target)


@pytest.mark.parametrize("batch", [torch.zeros(2), None, "rows", 3])
def test_what_is_no_batch_is_refused(batch):
    with pytest.raises(TypeError, match=f"got {type(batch).__name__}"):
        split_batch(batch)


@pytest.mark.parametrize("wrong", [0.2, None, v.Mixup, v.Mixup(0.2).plan])
def test_what_is_no_vicinity_is_refused_before_any_batch(wrong):
    with pytest.raises(TypeError, match=r"vicinity is one such as vicinal\.Mixup\(0\.2\)"):
        v.Collate(wrong)


def test_tokens_are_refused_by_the_core():
    rows = [{"input_ids": torch.arange(3), "labels": 1}] * 4
    with pytest.raises(TypeError, match="input_ids"):
        v.Collate(mixup())(rows)


# -- off, workers, processes -------------------------------------------------------------------------------------------


def test_off_and_erm_leave_the_batch_as_it_is():
    off = mixup()
    off.off()
    x, y = DATA.tensors
    for vicinity in (off, v.ERM()):
        mixed, target = v.Collate(vicinity)(list(DATA))
        assert torch.equal(mixed, x)
        assert torch.equal(target.dense(5), torch.nn.functional.one_hot(y, 5).float())


@pytest.mark.usefixtures("worker_server")
@pytest.mark.parametrize("context", ["fork", "forkserver"])
def test_workers_draw_their_own(context):
    loader = DataLoader(
        DATA, batch_size=4, collate_fn=v.Collate(mixup()), num_workers=2, multiprocessing_context=context
    )
    for i, batch in enumerate(loader):
        x, y = default_collate([DATA[row] for row in range(4 * i, 4 * i + 4)])
        plan = mixup().plan(4, y, x, step=i // 2, worker=1 + i % 2)  # 0 is the main process
        assert same(batch, (plan(x), plan.target(y)))


def test_it_can_be_sent_to_a_spawned_worker():
    collate = pickle.loads(pickle.dumps(v.Collate(mixup(), target=1)))
    assert (collate.vicinity, collate.collate_fn, collate.target) == (mixup(), default_collate, 1)
    assert same(collate([DATA[i] for i in range(8)]), plain(0, range(8)))


def test_an_epoch_is_cut_among_processes_and_every_row_is_seen_once():
    seen, loaders = Counter(), []
    for rank in range(2):
        sampler = DistributedSampler(DATA, num_replicas=2, rank=rank, shuffle=False)
        loaders.append(DataLoader(DATA, batch_size=4, sampler=sampler, collate_fn=v.Collate(v.ERM())))
        seen.update(int(row) for x, _ in loaders[-1] for row in x.argmax(1))
    assert all(type(loader) is DataLoader for loader in loaders)  # what frameworks look for before they cut an epoch
    assert seen == Counter(range(ROWS))
