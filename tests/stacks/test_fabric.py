"""Fabric: the loop by hand to the last bit, and resumed; Fabric and Lightning's Trainer as two real processes."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

import vicinal

pytest.importorskip("lightning", reason="needs lightning: pip install lightning")
from lightning.fabric import Fabric

from stacks.loops import by_hand, plain, planned, same
from stacks.processes import (
    BATCH,
    RATE,
    check_draws,
    check_weights,
    data,
    drawn,
    linear,
    mixup,
    once,
    results_of_two,
)
from stacks.programs import printed_by


def fabric():
    return Fabric(accelerator="cpu", devices=1)


def train(mix, stop=None, resume=None, accumulation=1):
    """Train an epoch with Fabric; `mix(x, y, step)` mixes. The state after three batches is saved, or loaded to go on."""
    of = fabric()
    net = linear()
    net, optimizer = of.setup(net, torch.optim.SGD(net.parameters(), RATE, momentum=0.9))
    batches = list(of.setup_dataloaders(DataLoader(data(), BATCH)))
    state = {"net": net, "optimizer": optimizer, "step": 0}
    if resume is not None:
        of.load(resume, state)
    for step in range(state["step"], len(batches)):
        x, y = mix(*batches[step], step)
        with of.no_backward_sync(net, enabled=(step + 1) % accumulation != 0):
            of.backward(F.cross_entropy(net(x), y) / accumulation)
        if (step + 1) % accumulation == 0:
            optimizer.step()
            optimizer.zero_grad()
        if stop is not None and step == 2:
            of.save(stop, {**state, "step": 3})
    return net.module


def test_the_program_trains(tmp_path):
    accuracy = float(re.search(r"test accuracy (0\.\d+)\n", printed_by("with_fabric", tmp_path))[1])
    assert accuracy > 0.9
    state = fabric().load(tmp_path / "checkpoint.ckpt")
    assert state["mixup"]["steps"] == [0]  # the steps decided the draws, so that nothing was counted
    assert state["step"] == 15 * 38


@pytest.mark.parametrize("accumulation", [1, 2])
def test_it_is_the_loop_by_hand_to_the_last_bit(accumulation):
    vicinity = mixup()
    net = train(lambda x, y, step: vicinity(x, y), accumulation=accumulation)
    assert same(net, by_hand(planned, accumulation=accumulation))
    assert not same(net, by_hand(plain, accumulation=accumulation))


@pytest.mark.parametrize("vicinity", [vicinal.ERM(), vicinal.Mixup(1.0)])
def test_without_mixing_it_changes_nothing(vicinity):
    if isinstance(vicinity, vicinal.Mixup):
        vicinity.off()
    assert same(train(lambda x, y, step: vicinity(x, y)), train(plain))


def test_by_the_step_a_run_resumes_with_nothing_saved(tmp_path):
    whole = train(lambda x, y, step: mixup()(x, y, step=step), stop=tmp_path / "state.ckpt")
    resumed = train(lambda x, y, step: mixup()(x, y, step=step), resume=tmp_path / "state.ckpt")
    assert same(whole, resumed)
    assert same(whole, by_hand(planned))


@pytest.mark.parametrize("seed", [5, None])
def test_a_checkpoint_holds_a_vicinity(tmp_path, seed):
    """Fabric loads into a copy, which it leaves in the dict that it was given: the object itself does not move."""
    x, y = data()[:BATCH]
    saved, again, other = (vicinal.Mixup(1.0, seed=seed) for _ in range(3))
    for _ in range(3):
        saved(x, y)
    fabric().save(tmp_path / "state.ckpt", {"net": linear(), "mixup": saved})
    expected = saved(x, y)[0]
    again.load_state_dict(fabric().load(tmp_path / "state.ckpt")["mixup"])
    assert torch.equal(again(x, y)[0], expected)
    state = {"net": linear(), "mixup": other}
    fabric().load(tmp_path / "state.ckpt", state)
    assert other.state_dict()["steps"] == [0]
    assert torch.equal(state["mixup"](x, y)[0], expected)


# -- two processes -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return results_of_two("lightning_job", tmp_path_factory.mktemp("lightning"))


@pytest.mark.parametrize("how", ["fabric", "trainer", "trainer, collator", "fabric, collator"])
def test_each_process_draws_its_own_and_both_end_with_the_same_weights(ranks, how):
    found = [seen[how] for seen in ranks]
    for epoch in range(len(found[0]["rows"]) // 4):
        assert once([seen["rows"][4 * epoch : 4 * epoch + 4] for seen in found])
    check_draws(found)
    if "weights" in found[0]:
        check_weights(found)


def test_a_checkpoint_resumes_in_both_processes(ranks):
    for rank, seen in enumerate(ranks):
        assert torch.equal(seen["fabric"]["resumed"], drawn(seen["fabric"]["rows"][4], 4, rank)[1])


def test_the_shares_that_were_right_are_gathered(ranks):
    hits = torch.stack([seen["fabric"]["hits"] for seen in ranks])
    assert hits.dtype == torch.float32
    assert all(torch.equal(seen["fabric"]["gathered"], hits) for seen in ranks)
