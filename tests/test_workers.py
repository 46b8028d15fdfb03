"""Mixing inside real DataLoader workers: draws differ, repeat by seed, and hear what the main process says."""

import copy

import pytest
import torch
from torch.utils.data import DataLoader

import vicinal as v
from vicinal import _state

ROWS, BATCH, WORKERS = 24, 3, 2
BATCHES = ROWS // BATCH


class Collate:
    """Mix in the worker; tell who did it and with which lambda."""

    def __init__(self, vicinity):
        self.vicinity = vicinity

    def __call__(self, rows):
        x, y = self.vicinity(torch.eye(len(rows)), torch.tensor(rows))
        return _state.worker(), y.weight[0, 0].item(), not torch.equal(x, torch.eye(len(rows)))


def loader(vicinity, context="fork", workers=WORKERS, **more):
    return DataLoader(
        range(ROWS),
        batch_size=BATCH,
        collate_fn=Collate(vicinity),
        num_workers=workers,
        multiprocessing_context=context,
        **more,
    )


def mixup(seed=0):
    # no lambda rounds to 1 at this alpha, and nobody is paired with himself: every row is visibly mixed
    return v.Mixup(4.0, v.RandomPairs(self_pairs=False), seed=seed)


def expected(vicinity, worker, first, count):
    return [vicinity.plan(BATCH, step=first + i, worker=worker).weight[0].item() for i in range(count)]


def lambdas(batches, worker):
    return [lam for who, lam, _ in batches if who == worker]


@pytest.mark.usefixtures("worker_server")
@pytest.mark.parametrize(
    ("context", "persistent"),
    # a worker that is spawned imports PyTorch, for seconds; of a server's it is the fork, and is sent all the same
    [("fork", True), ("fork", False), ("spawn", True), ("forkserver", False)],
)
def test_draws_are_those_of_their_worker_and_step(context, persistent):
    """Different in every worker and epoch, and exactly what `plan` draws for the key."""
    vicinity = mixup()
    batches = loader(vicinity, context, persistent_workers=persistent)
    epochs = [list(batches) for _ in range(2)]
    for epoch, seen in enumerate(epochs):
        assert all(mixed for _, _, mixed in seen)
        for worker in (1, 2):
            half = BATCHES // WORKERS
            assert lambdas(seen, worker) == expected(vicinity, worker, epoch * half, half)
    assert len({lam for seen in epochs for _, lam, _ in seen}) == 2 * BATCHES
    assert vicinity.state_dict()["steps"] == [0, BATCHES, BATCHES]  # main process, worker 1, worker 2


def test_the_same_seed_gives_the_same_epochs_and_another_seed_others():
    first, again, other = (list(loader(mixup(seed))) for seed in (5, 5, 6))
    assert first == again
    assert not {lam for _, lam, _ in first} & {lam for _, lam, _ in other}


@pytest.mark.usefixtures("worker_server")
@pytest.mark.parametrize("context", ["fork", "forkserver"])
def test_persistent_workers_hear_off_on_and_the_epoch(context):
    vicinity = v.Scheduled(v.Mixup(4.0, v.RandomPairs(self_pairs=False)), start=1, stop=5, seed=7)
    batches = loader(vicinity, context, persistent_workers=True)
    vicinity.set_epoch(0)
    heard = []
    for epoch, say in enumerate((None, None, vicinity.off, vicinity.on, None, None)):
        vicinity.set_epoch(epoch)
        if say is not None:
            say()
        heard.append({mixed for _, _, mixed in batches})
    assert heard == [{False}, {True}, {False}, {True}, {True}, {False}]
    assert vicinity.state.numbers() == {"seed": 7, "on": True, "epoch": 5, "steps": [0, 3 * BATCHES, 3 * BATCHES]}


def test_an_epoch_that_was_never_told_reaches_the_user():
    with pytest.raises(ValueError, match="Scheduled needs the epoch"):
        list(loader(v.Scheduled(v.Mixup(1.0))))


def test_a_resume_between_epochs_goes_on_in_the_workers():
    vicinity = mixup()
    batches = loader(vicinity)
    list(batches)
    state = copy.deepcopy(vicinity.state_dict())
    second = list(batches)
    resumed = mixup()
    resumed.load_state_dict(state)
    assert list(loader(resumed)) == second


def test_the_main_process_and_its_workers_count_apart():
    vicinity = mixup()
    vicinity(torch.eye(BATCH), torch.arange(BATCH))
    seen = list(loader(vicinity))
    vicinity(torch.eye(BATCH), torch.arange(BATCH))
    assert lambdas(seen, 1) == expected(vicinity, 1, 0, BATCHES // WORKERS)
    assert vicinity.state_dict()["steps"] == [2, BATCHES // WORKERS, BATCHES // WORKERS]


def test_mixing_in_the_main_process_with_workers_for_the_rows():
    vicinity = mixup()
    rows = DataLoader(range(ROWS), batch_size=BATCH, num_workers=WORKERS)
    seen = [vicinity(torch.eye(BATCH), y)[1].weight[0, 0].item() for _ in range(2) for y in rows]
    assert seen == expected(vicinity, 0, 0, 2 * BATCHES)


class Rows(torch.utils.data.Dataset):
    """A data set that mixes by itself, two batches in one item."""

    def __init__(self, vicinity):
        self.vicinity = vicinity

    def __len__(self):
        return BATCHES

    def __getitem__(self, i):
        return [self.vicinity(torch.eye(BATCH), torch.arange(BATCH))[1].weight[0, 0].item() for _ in range(2)]


def test_a_data_set_may_mix_by_itself():
    vicinity = mixup()
    batches = DataLoader(Rows(vicinity), batch_size=None, num_workers=WORKERS)
    seen = [lam for pair in batches for lam in pair]
    assert len(set(seen)) == 2 * BATCHES
    assert vicinity.state_dict()["steps"] == [0, BATCHES, BATCHES]


def test_targets_travel_from_workers():
    class Whole(Collate):
        def __call__(self, rows):
            return self.vicinity(torch.eye(len(rows)), torch.tensor(rows))

    forked = {"num_workers": 1, "multiprocessing_context": "fork"}  # a local class reaches no other worker
    batches = DataLoader(range(ROWS), batch_size=BATCH, collate_fn=Whole(mixup()), **forked)
    for step, (x, y) in enumerate(batches):
        assert isinstance(y, v.MixedTarget)
        plan = mixup().plan(BATCH, step=step, worker=1)
        assert torch.equal(x, plan(torch.eye(BATCH)))
        assert torch.equal(y.weight, plan.shares.T)


def test_more_workers_than_cells_are_refused():
    vicinity = mixup()
    vicinity.state.next_step(509)
    with pytest.raises(ValueError, match="at most 509 DataLoader workers are counted, this is worker 510"):
        vicinity.state.next_step(510)
