"""Accelerate: the loop by hand to the last bit, accumulated and resumed; two processes, their rows, draws and weights."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

import vicinal

accelerate = pytest.importorskip("accelerate", reason="needs accelerate: pip install accelerate")

from stacks.loops import by_hand, plain, planned, same  # noqa: E402
from stacks.processes import (  # noqa: E402
    BATCH,
    CLASSES,
    RATE,
    ROWS,
    TWO,
    check_draws,
    check_weights,
    data,
    drawn,
    linear,
    mixup,
    once,
    results_of_two,
)
from stacks.programs import printed_by  # noqa: E402

Accelerator = accelerate.Accelerator


@pytest.fixture(autouse=True)
def _of_its_own():
    """Let each test have an Accelerator of its own settings, which share one state otherwise."""
    yield
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()


def train(mix, rows=ROWS, loss=F.cross_entropy, accumulation=1, keep=None, stop=None, resume=None):
    """Train an epoch with Accelerate; `mix(x, y, step)` mixes. After three batches the state is saved to the folder `stop`,
    with `keep` registered, or the state of the folder `resume` is loaded to go on from there.
    """
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulation)
    net = linear()
    optimizer = torch.optim.SGD(net.parameters(), RATE, momentum=0.9)
    net, optimizer, loader = accelerator.prepare(net, optimizer, DataLoader(data(rows), BATCH))
    if keep is not None:
        accelerator.register_for_checkpointing(keep)
    first = 0
    if resume is not None:
        accelerator.load_state(str(resume))
        first = 3
        loader = accelerate.skip_first_batches(loader, first)
    for step, (x, y) in enumerate(loader, first):
        x, y = mix(x, y, step)
        with accelerator.accumulate(net):
            accelerator.backward(loss(net(x), y))
            optimizer.step()
            optimizer.zero_grad()
        if stop is not None and step + 1 == 3:
            accelerator.save_state(str(stop))
    return accelerator.unwrap_model(net)


def test_the_program_trains_in_two_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")  # else it takes processes without a GPU for runs of their own
    printed = printed_by("with_accelerate", tmp_path, *TWO)
    assert float(re.fullmatch(r"test accuracy (0\.\d+)\n", printed)[1]) > 0.9


# rows, and micro-batches per update: 26 rows are seven micro-batches, the last of two rows and alone in its update
@pytest.mark.parametrize(("rows", "accumulation"), [(32, 1), (32, 2), (26, 3)])
def test_it_is_the_loop_by_hand_to_the_last_bit(rows, accumulation):
    vicinity = mixup()
    net = train(lambda x, y, step: vicinity(x, y), rows, accumulation=accumulation)
    assert same(net, by_hand(planned, rows, accumulation=accumulation))
    assert not same(net, by_hand(plain, rows, accumulation=accumulation))


def test_a_sum_over_the_rows_of_the_update_counts_all_rows_alike():
    """As Accelerate's guide has it for micro-batches of different sizes; mixed labels go through it as they are."""
    updates = [12, 12, 2]  # rows of each: three micro-batches of four, three of four, and one of two

    steps = iter(range(7))

    def loss(logits, y):
        return F.cross_entropy(logits, y, reduction="sum") * 3 / updates[next(steps) // 3]

    net = train(planned, 26, loss, accumulation=3)
    expected = linear()
    optimizer = torch.optim.SGD(expected.parameters(), RATE, momentum=0.9)
    batches = [planned(x, y, step) for step, (x, y) in enumerate(DataLoader(data(26), BATCH))]
    for first in range(0, 7, 3):
        losses = [F.cross_entropy(expected(x), y, reduction="none") for x, y in batches[first : first + 3]]
        torch.cat(losses).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(net.parameters(), expected.parameters(), strict=True))


@pytest.mark.parametrize("seed", [5, None])
def test_a_registered_vicinity_resumes_within_an_epoch(tmp_path, seed):
    saved, again = vicinal.Mixup(1.0, seed=seed), vicinal.Mixup(1.0, seed=seed)
    whole = train(lambda x, y, step: saved(x, y), keep=saved, stop=tmp_path / "state")
    resumed = train(lambda x, y, step: again(x, y), keep=again, resume=tmp_path / "state")
    assert same(whole, resumed)


def test_by_the_step_a_run_resumes_with_nothing_saved(tmp_path):
    vicinity = mixup()
    whole = train(lambda x, y, step: vicinity(x, y, step=step), stop=tmp_path / "state")
    resumed = train(lambda x, y, step: mixup()(x, y, step=step), resume=tmp_path / "state")
    assert same(whole, resumed)
    assert same(whole, by_hand(planned))


def test_a_collator_counts_the_batch_that_accelerate_fetches_ahead():
    """So its count within an epoch is not that of the batches trained on; at the end of an epoch it is."""
    vicinity = mixup()
    loader = Accelerator(cpu=True).prepare(DataLoader(data(), BATCH, collate_fn=vicinal.Collate(vicinity)))
    counts = [vicinity.state_dict()["steps"][0] for _ in loader]
    assert counts == [2, 3, 4, 5, 6, 7, 8, 8]


@pytest.mark.parametrize("vicinity", [vicinal.ERM(), vicinal.Mixup(1.0)])
def test_without_mixing_it_changes_nothing(vicinity):
    if isinstance(vicinity, vicinal.Mixup):
        vicinity.off()
    assert same(train(lambda x, y, step: vicinity(x, y), accumulation=2), train(plain, accumulation=2))


def test_one_process_gathers_what_it_has():
    _, y = planned(*data()[:BATCH], 0)
    assert Accelerator(cpu=True).gather_for_metrics(y) is y


# -- two processes -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return results_of_two("accelerate_job", tmp_path_factory.mktemp("accelerate"))


@pytest.mark.parametrize("how", ["loop", "split loop", "dispatched loop"])
def test_each_process_draws_its_own_and_both_end_with_the_same_weights(ranks, how):
    found = [seen[how] for seen in ranks]
    epoch = len(found[0]["rows"]) // 2
    for first in (0, epoch):
        assert once([seen["rows"][first : first + epoch] for seen in found])
    check_draws(found)
    check_weights(found)


@pytest.mark.parametrize("how", ["collator", "split collator"])
def test_a_collator_leaves_each_row_to_one_process(ranks, how):
    found = [seen[how] for seen in ranks]
    assert once([seen["rows"] for seen in found])
    check_draws(found)
    for seen in found:
        assert seen["is_loader"]
        assert {len(x) for x, _ in seen["draws"]} == {BATCH // 2 if how.startswith("split") else BATCH}


def test_soft_labels_of_a_collator_are_dispatched(ranks):
    """The first process makes and mixes all batches, each within itself, and sends each process one of every two."""
    first, second = (seen["dispatched soft labels"] for seen in ranks)
    assert second["rows"] == []
    assert once([first["rows"]])
    sent = [batch for pair in zip(first["draws"], second["draws"], strict=True) for batch in pair]
    check_draws([{"rows": first["rows"], "draws": sent}])


def test_mixed_labels_are_not_dispatched(ranks):
    """Where one process reads for all, batches are taken apart; a dataset that is a stream means that by itself."""
    asked_to, of_a_stream = ranks[0]["dispatched mixed labels"]
    assert asked_to == of_a_stream == "Can only concatenate tensors but got <class 'vicinal.target.MixedTarget'>"


def test_evaluation_gathers_each_row_once(ranks):
    for seen in ranks:
        numbers, y = seen["gathered"]["evaluated"]
        assert numbers.tolist() == list(range(14))
        assert torch.equal(y, data(14).tensors[1])


def test_mixed_labels_are_not_gathered_but_what_is_right_is(ranks):
    found = [seen["gathered"] for seen in ranks]
    for seen in found:
        assert "MixedTarget" in seen["refused"]
        assert seen["pair"] == ["Tensor", "MixedTarget"] * 2  # a list of objects: `a, b = ...` raises
        assert seen["alone"] == ["MixedTarget"] * 2 * BATCH  # a list of rows
        assert torch.equal(seen["hits"], torch.cat([found[0]["own_hits"], found[1]["own_hits"]]))
    expected = drawn(range(BATCH), 0)[2]
    assert torch.equal(found[0]["own_hits"], expected[torch.arange(BATCH), torch.arange(BATCH) % CLASSES])


def test_a_state_resumes_in_both_processes(ranks):
    for rank, seen in enumerate(ranks):
        expected, found = seen["resumed"]
        assert torch.equal(found, expected)
        assert torch.equal(expected, drawn(range(BATCH), 3, rank)[1])
