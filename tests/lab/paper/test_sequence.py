"""Sequences: padding, what is mixed, what is chosen, and what follows."""

import importlib.util
import math
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from studies import SmokeRun

import vicinal as v
from vicinal.lab.data import sequences
from vicinal.lab.data.sequences import SequenceDataset
from vicinal.lab.errors import UserError
from vicinal.lab.models.sequence import SequenceClassifier
from vicinal.lab.paper import sequence
from vicinal.lab.paper.claims import judge
from vicinal.lab.paper.sequence import ERM, INPUT, MANIFOLD, SequenceMethod, SequenceStudy
from vicinal.lab.records import to_json
from vicinal.lab.training.stacked_mlp import order

KINDS = pytest.mark.parametrize("tokens", [False, True], ids=["numbers", "tokens"])


def doubled(data: SequenceDataset, seed: int = 3) -> SequenceClassifier:
    return sequence.initial(data, seed).double()


def drawn(n: int, seed: int, tokens: bool) -> SequenceDataset:
    data = sequences.drawn(n, seed, tokens)
    return data if tokens else replace(data, inputs=data.inputs.double())


@KINDS
def test_a_padded_row_gets_the_logits_of_the_row_alone(tokens: bool) -> None:
    data = drawn(6, 0, tokens)
    assert len(set(data.lengths.tolist())) > 1
    model = doubled(data)
    together = model(data.inputs, data.valid)
    for i, t in enumerate(data.lengths.tolist()):
        alone = model(data.inputs[i : i + 1, :t], torch.ones(1, t, dtype=torch.bool))
        torch.testing.assert_close(together[i : i + 1], alone)
    wider = torch.cat([data.inputs, torch.full_like(data.inputs, 7)], 1)  # whatever stands behind the end
    wider[:, : data.inputs.shape[1]][~data.valid] = 7
    valid = torch.arange(wider.shape[1]) < data.lengths[:, None]
    torch.testing.assert_close(model(wider, valid), together)


@torch.no_grad()
def plain(model: SequenceClassifier, data: SequenceDataset, at: str, lam: float, partner: list[int]) -> float:
    """Mix row by row before the inputs, block1 or block2, and return the mean of the two cross-entropies, weighted.

    Every row is masked by the longer of itself and its own partner from the start (docs/how-to/text.md).
    """
    n, t = data.inputs.shape[:2]
    longest = [max(int(data.lengths[i]), int(data.lengths[j])) for i, j in enumerate(partner)]
    masks = [torch.tensor([[s < steps for s in range(t)]]) for steps in longest]

    def mixed(rows: list[torch.Tensor], here: bool) -> list[torch.Tensor]:
        return [lam * rows[i] + (1 - lam) * rows[j] for i, j in enumerate(partner)] if here else rows

    rows = mixed([data.inputs[i : i + 1] for i in range(n)], at == "inputs")
    rows = mixed([model.entry(row) for row in rows], at == "block1")
    rows = mixed([model.block1(row, mask) for row, mask in zip(rows, masks, strict=True)], at == "block2")
    losses = []
    for i, j in enumerate(partner):
        last = model.block2(rows[i], masks[i])[:, : longest[i]].mean(1)
        log_p = model.head(last).log_softmax(1)[0]
        losses.append(float(-lam * log_p[data.target[i]] - (1 - lam) * log_p[data.target[j]]))
    return sum(losses) / n


@KINDS
@pytest.mark.parametrize("at", ["inputs", "block1", "block2"])
def test_the_loss_is_that_of_rows_mixed_one_by_one(tokens: bool, at: str) -> None:
    data = drawn(6, 1, tokens)
    model = doubled(data)
    method = SequenceMethod("m", INPUT, 1.0, () if at == "inputs" else (at,))
    loss = sequence.mixing(model, data, method)
    partner, lam = [3, 2, 5, 0, 1, 4], 0.6875
    plan = v.MixPlan(torch.tensor(partner), torch.full((6,), lam))
    at = "block1" if tokens and at == "inputs" else at  # embeddings
    assert loss(data, plan).item() == pytest.approx(plain(model, data, at, lam, partner), rel=1e-6)


def test_manifold_mixup_draws_a_block_per_batch() -> None:
    data = drawn(8, 2, False)
    model = doubled(data)
    method = sequence.METHODS[-1]
    assert (method.family, method.alpha, method.blocks) == (MANIFOLD, 2.0, ("block1", "block2"))
    loss, drew = sequence.mixing(model, data, method), set()
    for step in range(8):
        plan = method.vicinity.plan(8, data.target, step=step, seed=0, rank=0, worker=0)
        assert isinstance(plan, v.MixPlan)
        lam, partner = float(plan.weight.flatten()[0]), plan.partner.flatten().tolist()
        of = {at: plain(model, data, at, lam, partner) for at in method.blocks}
        drew |= {at for at in of if loss(data, plan).item() == pytest.approx(of[at], rel=1e-6)}
    assert drew == set(method.blocks)


def by_hand(data: SequenceDataset, decay: float, seed: int, epochs: int) -> SequenceClassifier:
    model = sequence.initial(data, seed)
    adam, step = torch.optim.AdamW(model.parameters(), weight_decay=decay), 0
    steps = epochs * math.ceil(len(data) / 32)
    for epoch in range(epochs):
        for rows in torch.from_numpy(order(seed, epoch, len(data))).split(32):
            adam.param_groups[0]["lr"] = 0.003 * (1 + math.cos(math.pi * step / steps)) / 2
            adam.zero_grad()
            F.cross_entropy(model(data.inputs[rows], data.valid[rows]), data.target[rows]).backward()
            adam.step()
            step += 1
    return model


def test_erm_is_the_plain_loop() -> None:
    data = sequences.drawn(40, 3)
    model = sequence.initial(data, 5)
    epochs: list[int] = []
    sequence.fit(model, data, sequence.METHODS[2], 5, 3, epochs.append)
    assert sequence.METHODS[2].decay == 1
    assert epochs == [1, 2, 3]
    expected = by_hand(data, 1.0, 5, 3).state_dict()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=1e-5)


def test_both_regimes_are_measured_with_the_weights_of_their_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "LOOKS", 4)
    split = sequences.split_anew(sequences.drawn(60, 4), 0)
    seen: dict[int, dict[str, Any]] = {}
    model = sequence.initial(split.train, 0)
    method = sequence.METHODS[4]

    def look(epoch: int) -> None:
        parts = {"train": split.train, "validation": split.validation, "test": split.test}
        seen[epoch] = {name: sequence.evaluate(model, part) for name, part in parts.items()}

    sequence.fit(model, split.train, method, 0, 6, look)
    run = sequence.train(split, method, 0, 6)
    best = min((2, 3, 5, 6), key=lambda e: tuple(seen[e]["validation"].values()))  # quarters of 6, rounded up
    for scores, epoch in ((run.end, 6), (run.stopped, best)):
        assert scores.epoch == epoch
        assert scores.validation == pytest.approx(seen[epoch]["validation"])
        assert scores.test == pytest.approx(seen[epoch]["test"])
    assert run.train_error == pytest.approx(seen[6]["train"]["error"])


def test_scores_are_those_of_the_logits() -> None:
    data = sequences.drawn(10, 5)
    model = sequence.initial(data, 0)
    logits = model(data.inputs, data.valid).detach().double().numpy()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    y = data.target.numpy()
    scores = sequence.evaluate(model, data)
    assert scores["error"] == pytest.approx((p.argmax(1) != y).mean())
    assert scores["nll"] == pytest.approx(-np.log(p[np.arange(10), y]).mean(), rel=1e-5)


# -- data --------------------------------------------------------------------------------------------------------------


def test_series_are_scaled_by_the_steps_of_the_training_rows_and_padding_stays_0() -> None:
    train, test = sequences.drawn(40, 6), sequences.drawn(20, 7)
    split = sequences.split_published(train, test, 1)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [32, 8, 20]
    steps = torch.cat([row[:t] for row, t in zip(split.train.inputs, split.train.lengths.tolist(), strict=True)])
    torch.testing.assert_close(steps.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(steps.std(0, correction=0), torch.ones(2), atol=1e-5, rtol=0)
    assert split.test.lengths.tolist() == test.lengths.tolist()
    for row, t in zip(split.test.inputs, test.lengths.tolist(), strict=True):
        assert not row[t:].any()
        assert row[:t].any()
    scale = (test.inputs[0, 0] - test.inputs[0, 1]) / (split.test.inputs[0, 0] - split.test.inputs[0, 1])
    shift = test.inputs[0, 0] - scale * split.test.inputs[0, 0]
    both = torch.cat([part.inputs[part.valid] * scale + shift for part in (split.train, split.validation)])
    torch.testing.assert_close(both.sort(0).values, train.inputs[train.valid].sort(0).values, atol=1e-4, rtol=0)


def test_tokens_are_split_as_they_are() -> None:
    data = sequences.drawn(50, 8, tokens=True)
    split = sequences.split_anew(data, 0)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [30, 10, 10]
    rows = torch.cat([part.inputs for part in (split.train, split.validation, split.test)]).tolist()
    assert sorted(rows) == sorted(data.inputs.tolist())


def test_names_of_both_are_left_out_and_as_many_are_kept_of_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = {
        "female": "MARY 2 2 1\nJAMIE 1 3 2\nZOE 1 4 3\nANN 1 5 4\n",
        "male": "JAMES 3 3 1\nJAMIE 1 4 2\nBO 1 5 3\n",
    }
    for sex, text in lists.items():
        (tmp_path / sex).write_text(text)
    fake: Any = types.ModuleType("names")
    fake.FILES = {f"first:{sex}": str(tmp_path / sex) for sex in lists}
    monkeypatch.setitem(sys.modules, "names", fake)
    data = sequences.first_names.__wrapped__()
    words = [
        "".join(sequences.LETTERS[c - 1] for c in row[:t])
        for row, t in zip(data.inputs.tolist(), data.lengths.tolist(), strict=True)
    ]
    assert words == ["mary", "zoe", "james", "bo"]
    assert [data.classes[c] for c in data.target] == ["women", "women", "men", "men"]
    assert data.inputs.dtype == torch.int64
    assert data.inputs[3].tolist() == [2, 15, 0, 0, 0]


@pytest.mark.skipif(not sequences.is_installed("japanese-vowels"), reason="sktime is not installed")
def test_the_series_are_those_that_were_published() -> None:
    train, test = sequences.series("JapaneseVowels")
    assert (len(train), len(test), train.inputs.shape[2], len(train.classes)) == (270, 370, 12, 9)
    assert train.target.bincount().tolist() == [30] * 9
    assert test.target.bincount().tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    assert (int(train.lengths.min()), int(test.lengths.max())) == (7, 29)
    assert train.inputs[0, :2, 0].tolist() == pytest.approx([1.860936, 1.891651])
    train, test = sequences.series("ItalyPowerDemand")
    assert (tuple(train.inputs.shape), tuple(test.inputs.shape)) == ((67, 24, 1), (1029, 24, 1))


@pytest.mark.skipif(not sequences.is_installed(sequences.FIRST_NAMES), reason="names is not installed")
def test_the_names_are_those_of_the_census() -> None:
    data = sequences.first_names()
    assert data.target.bincount().tolist() == [888, 888]
    assert (int(data.lengths.min()), int(data.lengths.max())) == (2, 10)


# -- from results to conclusions ---------------------------------------------------------------------------------------


def scores(validation: float, test: float, nll: float = 0.5) -> sequence.RegimeScores:
    return sequence.RegimeScores(3, {"error": validation, "nll": 1.0}, {"error": test, "nll": nll})


def result(seed: int) -> sequence.SequenceResult:
    """Of each family the second is best on validation rows in the end, and the third when stopped."""
    effect = {ERM: 0.20, INPUT: 0.15, MANIFOLD: 0.20}
    runs = {}
    for i, method in enumerate(sequence.METHODS):
        error, shift = effect[method.family], 0.001 * (seed - 4.5 if method.family != ERM else 0)
        end = scores(0.1 if i % 3 == 1 else 0.2, error + shift + (0 if i % 3 == 1 else 0.3), nll=i)
        runs[method.name] = sequence.SequenceRun(
            0.01 * i, end, scores(0.1 if i % 3 == 2 else 0.2, 0.12 if i % 3 == 2 else 0.9)
        )
    return sequence.SequenceResult([60, 20, 100], runs)


SHIFTS = 0.1 * (np.arange(10) - 4.5)  # points
DONE = {f"{name}-seed{seed}": to_json(result(seed)) for name in sequence.TASKS for seed in range(10)}


def test_each_family_has_its_choice_on_validation_rows() -> None:
    rows = {row.name: row for row in SequenceStudy().rows("small", DONE)}
    assert rows["JapaneseVowels, ERM, test error"].values == pytest.approx([20.0] * 10)
    assert rows["JapaneseVowels, input mixup, test error"].values == pytest.approx(15 + SHIFTS)
    assert rows["JapaneseVowels, Manifold Mixup, test NLL"].values == (7,) * 10
    assert rows["JapaneseVowels, Manifold Mixup, stopped, test error"].values == pytest.approx([12.0] * 10)
    assert rows["JapaneseVowels, input mixup 2, test error"].values == pytest.approx(45 + SHIFTS)
    assert rows["JapaneseVowels, input mixup 2, test error"].against == "JapaneseVowels, ERM, decay 0, test error"
    assert rows["JapaneseVowels, input mixup, stopped, test NLL"].against == "JapaneseVowels, ERM, stopped, test NLL"
    assert rows["JapaneseVowels, input mixup 2, test error"].note == "training error 5.0 %"
    assert rows["JapaneseVowels, input mixup, test error"].note == (
        "chosen on validation rows: input mixup 0.2 in 0, input mixup 1 in 10, input mixup 2 in 0"
    )
    assert rows["JapaneseVowels, ERM, test error"].note.endswith(
        "100 test rows: one is 1 points, and the binomial standard error is 4"  # of 20 % in 100
    )
    assert rows["JapaneseVowels, ERM, test error"].test_share == 0
    assert rows["first names, ERM, test error"].test_share == pytest.approx(100 / 60)
    first = {name: DONE[name] for name in DONE if name.endswith(("seed0", "seed1", "seed3"))}
    rows = {row.name: row for row in SequenceStudy().rows("small", first)}
    assert rows["first names, input mixup, test NLL"].values == (4, 4)
    assert rows["first names, input mixup, test NLL"].note == "2 of 10 seeds are run"


def test_the_claim_is_judged_by_what_was_trained_to_the_end() -> None:
    (claim,) = SequenceStudy().claims("small", DONE)
    assert len(claim.evidence) == 12
    main = [evidence for evidence in claim.evidence if not evidence.contrast]
    assert len(main) == 6
    assert all("to the end" in evidence.what for evidence in main)
    for evidence in main:
        expected = (-5 if INPUT in evidence.what else 0) + SHIFTS
        assert evidence.differences == pytest.approx(expected)
        assert evidence.test_share == pytest.approx(100 / 60 if "first names" in evidence.what else 0)
    (judged,) = judge([claim])
    assert judged.verdict == "shown in part"
    assert judge(SequenceStudy().claims("small", {}))[0].verdict == "not run"


def test_the_figure_shows_the_differences(tmp_path: Path) -> None:
    (path,) = SequenceStudy().draw("small", DONE, tmp_path)
    drawn = path.read_text()
    assert drawn.count("JapaneseVowels, ") == 4
    assert "first names, hidden, stopped" in drawn
    assert not SequenceStudy().draw("small", {}, tmp_path)


def test_without_the_packages_its_jobs_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sktime" else find(name))
    study = SequenceStudy()
    ready = {job.name.rpartition("-")[0]: job.ready for job in study.jobs("small")}
    assert not ready["japanese-vowels"]
    assert not ready["italy-power-demand"]
    assert ready["first-names"] == (find("names") is not None)
    rows = [row for row in study.rows("small", {}) if row.name.startswith("JapaneseVowels")]
    assert {row.note for row in rows} == {"its package is not installed: pip install 'vicinal[sequences]'"}
    assert all(job.ready for job in study.jobs("smoke"))
    with pytest.raises(UserError, match=r"pip install 'vicinal\[sequences\]'"):
        sequences.load_split("japanese-vowels", 0)


def test_the_quick_run_is_whole(smoke: Callable[[str], SmokeRun]) -> None:
    folder, rows = smoke("sequence")
    assert all(len(row.values) == 2 for row in rows)
    done = folder.done()
    again = sequence.run("first-names", 1, "smoke", folder.path)
    assert again == done["first-names-seed1"]
    assert (folder.path / "sequence.svg").exists()
