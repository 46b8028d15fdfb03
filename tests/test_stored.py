"""What is read back: plans, states and mixed targets of this version and of those before it; damage is told by its field."""

import io
import json
import math
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import vicinal as v
from make_golden_plans import ROWS, STEP, batch, replayed, used
from vicinal import _stored
from vicinal.keyed import DRAWS
from vicinal.plan import PlanChain
from vicinities import CASES, CLASSES, content, flat_plans, images, noise

GOLDEN = Path(__file__).parent / "golden_plans"
FORMATS = sorted(path.name for path in GOLDEN.iterdir())
every = pytest.mark.parametrize("case", CASES, ids=str)
formats = pytest.mark.parametrize("of", FORMATS)


def load(of, name):
    return torch.load(GOLDEN / of / f"{name}.pt", weights_only=True)


def saved(value):
    """Return a value after a file of PyTorch, which is read without running code."""
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def unsealed(values):
    return {name: part for name, part in values.items() if name not in ("format", "draws", "sha256")}


# -- what was written is read ------------------------------------------------------------------------------------------


def golden_cases():
    """Return (format, case) for the cases that there were when a format was made."""
    names = {of: set(load(of, "plans")) for of in FORMATS}
    cases = [pytest.param(of, case, id=f"{of}-{case}") for of in FORMATS for case in CASES if case.name in names[of]]
    return pytest.mark.parametrize(("of", "case"), cases)


def test_each_case_of_the_table_is_golden_in_a_format():
    assert {case.name for case in CASES} == set().union(*(load(of, "plans") for of in FORMATS))


@golden_cases()
def test_golden_plans_are_read_and_replay(of, case):
    golden = load(of, "plans")[case.name]
    plan = v.plan_from_dict(golden["plan"])
    for name, value in replayed(plan, case).items():
        torch.testing.assert_close(value, golden["made"][name], rtol=1e-6, atol=1e-7)
    x, y = batch(case)
    drawn = case.vicinity.plan(ROWS, y, x, step=STEP, epoch=case.epoch)
    assert content(plan) == content(drawn)  # the key still draws it
    assert content(unsealed(plan.to_dict()))["key"] == golden["plan"]["key"]


@golden_cases()
def test_golden_states_go_on(of, case):
    state = json.loads((GOLDEN / of / "states.json").read_text())[case.name]
    vicinity, on = case.fresh(), used(case)
    vicinity.load_state_dict(state)
    assert vicinity.state_dict() == on.state_dict()
    x, y = batch(case)
    assert content(list(vicinity(x, y))) == content(list(on(x, y)))


@formats
def test_golden_targets_are_read(of):
    for golden in load(of, "targets").values():
        assert torch.equal(golden["target"].dense(CLASSES), golden["dense"])


def test_the_first_format_has_none_and_this_one_has_its_number():
    newest = v.methods.Beside(v.Mixup(0.4)).plan(2, step=0).to_dict()["format"]
    assert [f"format{i}" for i in range(newest + 1)] == FORMATS
    assert "format" not in load("format0", "plans")["mixup"]["plan"]
    assert load("format1", "plans")["mixup"]["plan"]["format"] == 1
    assert "draws" not in load("format1", "plans")["mixup"]["plan"]
    assert load("format2", "plans")["mixup"]["plan"]["draws"] == 1
    assert load("format3", "plans")["fmix"]["plan"]["format"] == 3


def test_what_a_reader_of_format_2_knows_is_written_as_format_2():
    for case in CASES:
        plan = case.plan(4, step=2)
        parts = flat_plans(plan)
        is_new = case.rows > 1 or any(part.mask is not None for part in parts)
        formats = {int(form) for form in re.findall(r"'format': (\d)", repr(plan.to_dict()))}
        assert (3 in formats) == is_new, case
        assert formats <= {2, 3}


def test_draws_of_a_later_version_are_refused_in_one_sentence():
    later = {**unsealed(PAIRS), "draws": DRAWS + 1}
    sentence = f"draws is {DRAWS + 1}, and the draws that this version of vicinal knows are those up to {DRAWS}: update"
    with pytest.raises(ValueError, match=sentence):
        v.plan_from_dict(_stored.sealed(later, 2))
    with pytest.raises(ValueError, match=rf"plans\[1\].{sentence}"):
        v.plan_from_dict(chain([PAIRS, _stored.sealed(later, 2)]))
    mixup = v.Mixup(0.4)
    before = mixup.state_dict()
    with pytest.raises(ValueError, match=f"^this is not the state of a vicinity that this version reads: {sentence}"):
        mixup.load_state_dict(_stored.sealed({**STATE, "draws": DRAWS + 1}, 2))
    assert mixup.state_dict() == before
    for wrong in (0, -1, 1.0, True, "1", None):
        with pytest.raises(ValueError, match=r"draws must be an integer in \[1, 2\*\*63\), got"):
            v.plan_from_dict({**PAIRS, "draws": wrong})
    with pytest.raises(ValueError, match=r"\['draws'\] missing"):
        v.plan_from_dict({name: part for name, part in PAIRS.items() if name != "draws"})


# -- what changes a draw is announced ----------------------------------------------------------------------------------

HEADING = "### Changes draws"


def announced(changelog):
    """Return the versions of draws that a changelog announces, each under its own heading."""
    sections = re.split(r"(?m)^(?=##)", changelog)
    said = [section for section in sections if section.startswith(HEADING)]
    return {int(number) for section in said for number in re.findall(r"draws of version (\d+)", section)}


def test_each_version_of_the_draws_has_golden_plans_and_its_words_in_the_changelog():
    golden = {plan["plan"].get("draws", 1) for of in FORMATS for plan in load(of, "plans").values()}
    assert golden == set(range(1, DRAWS + 1))
    changelog = (GOLDEN.parent.parent / "CHANGELOG.md").read_text(encoding="utf-8")
    assert announced(changelog) >= golden - {1}


def test_the_test_above_reads_a_changelog():
    section = (
        "## [2.0.0]\n\n{}\n\n- Beta is drawn otherwise: draws of version 2.\n\n### Fixed\n\n- draws of version 3\n"
    )
    assert announced(section.format(HEADING)) == {2}
    assert announced(section.format("### Changed")) == set()


@every
def test_the_checksum_is_of_the_values(case):
    plan = case.plan(6, step=2)
    values = plan.to_dict()
    assert content(v.plan_from_dict(saved(values))) == content(plan)
    assert content(v.plan_from_dict(pickle.loads(pickle.dumps(values)))) == content(plan)

    def spread(value):  # other strides, tuples for lists, another order of the names
        if isinstance(value, torch.Tensor):
            return torch.stack([value, value], -1)[..., 0]
        if isinstance(value, dict):
            return {name: spread(value[name]) for name in reversed(value)}
        return tuple(map(spread, value)) if isinstance(value, list) else value

    assert content(v.plan_from_dict(spread(values))) == content(plan)


# -- what is damaged is not --------------------------------------------------------------------------------------------


def flipped(value):
    """Return values that are one step from this one, and of its kind."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value ^ 1]
    if isinstance(value, float):
        return [math.nextafter(value, 1.0)]
    if isinstance(value, list):
        return [[*value[:i], one, *value[i + 1 :]] for i, part in enumerate(value) for one in flipped(part)]
    if isinstance(value, dict):
        return [{**value, name: one} for name, part in value.items() for one in flipped(part)]
    if isinstance(value, torch.Tensor) and value.numel():
        new = value.clone()
        new.view(torch.uint8).view(-1)[0] ^= 1
        return [new]
    return []


@every
def test_a_flipped_bit_is_told(case):
    good = case.plan(4, step=2).to_dict()
    bad = flipped(good)
    assert len(bad) >= 4
    for values in bad:
        with pytest.raises(ValueError, match=r"^this is not what to_dict of a plan gave.*") as caught:
            v.plan_from_dict(saved(values))
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500


PAIRS = v.Mixup(0.4, seed=0).plan(4, step=0).to_dict()
THREE = v.Mixup(v.Dirichlet(1.0, k=3), seed=0).plan(4, step=0).to_dict()
CUT = v.CutMix(1.0, seed=0).plan(4, x=images(4), step=0).to_dict()
NOISE = v.GaussianNoise(0.1, seed=0).plan(4, step=0).to_dict()
W, BOX = PAIRS["weight"], CUT["box"]
KEY = [0, 0, 0, 0, 0]


def put(t, at, value):
    t = t.clone()
    t[at] = value
    return t


DAMAGED = [
    (PAIRS, {"partner": put(PAIRS["partner"], 2, 4)}, r"partner must lie in \[0, 3\], got 4 in row 2"),
    (PAIRS, {"partner": put(PAIRS["partner"], 1, -1)}, r"partner must lie in \[0, 3\], got -1 in row 1"),
    (PAIRS, {"partner": PAIRS["partner"].int()}, r"partner must be int64 with numbers in it, got a tensor torch.int32"),
    (PAIRS, {"partner": PAIRS["partner"].tolist()}, r"partner must be a tensor, int64, got \[.*\]"),
    (PAIRS, {"partner": PAIRS["partner"].view(4, 1, 1)}, r"partner must be \[n\] or \[n, m\], got \[4, 1, 1\]"),
    (PAIRS, {"weight": put(W, 3, math.nan)}, r"weight must lie in \[0, 1\], got nan in row 3"),
    (PAIRS, {"weight": put(W, 0, 1.5)}, r"weight must lie in \[0, 1\], got 1.5 in row 0"),
    (PAIRS, {"weight": put(W, 0, -math.inf)}, r"weight must lie in \[0, 1\], got -inf in row 0"),
    (PAIRS, {"weight": W.half()}, r"weight must be float32 or float64 with numbers in it, got a tensor torch.float16"),
    (PAIRS, {"weight": W[:3]}, r"weight must be \[4\] beside partner, got \[3\]"),
    (PAIRS, {"weight": W.to_sparse()}, r"weight must be float32 or float64 with numbers in it"),
    (PAIRS, {"weight": torch.zeros(1).expand(10**12)}, r"weight shows fewer numbers as \[1000000000000\]"),
    (PAIRS, {"weight": None}, r"weight must be a tensor, float32 or float64, got None"),
    (PAIRS, {"target_weight": put(W, 1, 2.0)}, r"target_weight must lie in \[0, 1\], got 2.0 in row 1"),
    (THREE, {"weight": put(THREE["weight"], (2, 0), 0.9)}, r"weight must hold shares that sum to 1, and those of row 2 sum"),
    (CUT, {"box": put(BOX, (1, 0, 1), 7)}, r"box must lie on the grid \[6, 5\], got \[\[\d, 7\], \[\d, \d\]\] in row 1"),
    (CUT, {"box": put(BOX, (0, 1, 0), -1)}, r"box must lie on the grid \[6, 5\], got .* in row 0"),
    (CUT, {"box": BOX[:, :1]}, r"box must be \[n, d, 2\] beside partner \[n\] and a grid of d sizes, got \[4, 1, 2\]"),
    (CUT, {"grid": [6]}, r"box must be \[n, d, 2\]"),
    (CUT, {"grid": [6, 0]}, r"grid\[1\] must be an integer in \[1, 2\*\*31\), got 0"),
    (CUT, {"grid": [1] * 10_000}, r"grid must be a list of 0 to 3 sizes, got a list of 10000"),
    (CUT, {"grid": 6}, r"grid must be a list of 0 to 3 sizes, got 6"),
    (CUT, {"channels_last": 1}, r"channels_last must be True or False, got 1"),
    (CUT, {"vectors": "yes\x1b[2J"}, r"vectors must be True or False, got 'yes\\x1b\[2J'"),
    (PAIRS, {"smoothing": math.nan}, r"smoothing must be a number in \[0, 1\], got nan"),
    (PAIRS, {"smoothing": 10**400}, r"smoothing must be a number in \[0, 1\], got an integer of 1329 bits"),
    (PAIRS, {"smoothing": True}, r"smoothing must be a number in \[0, 1\], got True"),
    (NOISE, {"noise": 0.1}, r"noise must be None, or a dict of sigma and key, got 0.1"),
    (NOISE, {"noise": {"sigma": math.inf, "key": KEY}}, r"noise.sigma must be a finite number >= 0, got inf"),
    (NOISE, {"noise": {"sigma": 10**400, "key": KEY}}, r"noise.sigma must be a finite number, got an integer of"),
    (NOISE, {"noise": {"sigma": 0.1, "key": None}}, r"noise.key must be the five integers of a Key, got None"),
    (NOISE, {"noise": {"sigma": 0.1, "key": [0, 2**32, 0, 0, 0]}}, r"noise.key.rank must be an integer in \[0, 2\*\*32\)"),
    (PAIRS, {"key": [0, 0]}, r"key must be None or the five integers of a Key, got \[0, 0\]"),
    (PAIRS, {"key": [2**64, 0, 0, 0, 0]}, r"key.seed must be an integer in \[0, 2\*\*64\), got 18446744073709551616"),
    (PAIRS, {"key": [0.0, 0, 0, 0, 0]}, r"key.seed must be an integer in \[0, 2\*\*64\), got 0.0"),
    (PAIRS, {"weights": W}, r"it holds 'weights', which none has"),
    (PAIRS, {1: 2, ("a",): 3}, r"it holds 1, a tuple of 1, which none has"),
]  # fmt: skip


@pytest.mark.parametrize(("good", "bad", "sentence"), DAMAGED)
@pytest.mark.parametrize(
    "seal", [unsealed, lambda values: _stored.sealed(unsealed(values), 2)], ids=["plain", "forged"]
)
def test_each_field_is_checked_with_and_without_a_checksum(good, bad, sentence, seal):
    try:
        values = seal({**good, **bad})
    except (TypeError, ValueError, OverflowError, RuntimeError, MemoryError):
        return  # no checksum can be made of it
    with pytest.raises(ValueError, match=sentence) as caught:
        v.plan_from_dict(values)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("draw the plan again by its key, or take an undamaged copy")


@pytest.mark.parametrize("values", [None, [], "plan", 3, torch.zeros(2), {1}, b"x"])
def test_what_is_no_dict_is_a_type_error(values):
    with pytest.raises(TypeError, match="this is not what to_dict of a plan gave, which is a dict, but"):
        v.plan_from_dict(values)
    with pytest.raises(TypeError, match="this is not the state of a vicinity, which is a dict, but"):
        v.Mixup(0.4).load_state_dict(values)


def test_a_later_format_is_refused_in_one_sentence():
    with pytest.raises(
        ValueError, match=r"format is 4, written by a later version of vicinal, and this one reads up to 3: up"
    ):
        v.plan_from_dict(_stored.sealed({**unsealed(PAIRS), "layers": ["a"]}, 4))
    mixup = v.Mixup(0.4)
    with pytest.raises(
        ValueError, match=r"format is 9, written by a later version of vicinal, and this one reads up to 2: up"
    ):
        mixup.load_state_dict(_stored.sealed({"on": True}, 9))
    for wrong in (0, -1, 1.0, True, "1", None, 10**400):
        with pytest.raises(ValueError, match=r"format must be an integer in \[1, 2\*\*63\), got"):
            v.plan_from_dict({**PAIRS, "format": wrong})


def test_a_checksum_is_missing_or_wrong():
    with pytest.raises(ValueError, match=r"\['sha256'\] missing"):
        v.plan_from_dict({name: part for name, part in PAIRS.items() if name != "sha256"})
    with pytest.raises(ValueError, match=r"it holds 'draws', 'sha256', which none has"):
        v.plan_from_dict({name: part for name, part in PAIRS.items() if name != "format"})
    with pytest.raises(ValueError, match=r"sha256 must be 64 hexadecimal digits, got 'x'"):
        v.plan_from_dict({**PAIRS, "sha256": "x"})
    with pytest.raises(
        ValueError, match=r"sha256 does not fit the other fields, so one of them is damaged or was changed"
    ):
        v.plan_from_dict({**PAIRS, "sha256": "0" * 64})


# -- chains ------------------------------------------------------------------------------------------------------------


def chain(parts):
    return {"plans": parts, "key": None}


def test_damage_within_a_chain_is_told_by_its_place():
    bad = chain([unsealed(PAIRS), chain([unsealed(PAIRS), {**unsealed(PAIRS), "weight": put(W, 1, 2.0)}])])
    with pytest.raises(ValueError, match=r"gave: plans\[1\].plans\[1\].weight must lie in \[0, 1\], got 2.0 in row 1"):
        v.plan_from_dict(bad)
    with pytest.raises(ValueError, match=r"plans\[1\] must be a dict, got 5"):
        v.plan_from_dict(chain([unsealed(PAIRS), 5]))
    other = v.Mixup(0.4, seed=0).plan(3, step=0).to_dict()
    with pytest.raises(ValueError, match=r"plans\[1\] is for 3 rows, and plans\[0\] for 4"):
        v.plan_from_dict(chain([PAIRS, other]))
    with pytest.raises(ValueError, match=r"plans must be a list of 1 to 4096 plans, got \[\]"):
        v.plan_from_dict(chain([]))


def test_chains_in_chains_end():
    deep = unsealed(PAIRS)
    for _ in range(3000):
        deep = chain([deep])
    with pytest.raises(ValueError, match=r"plans are nested more than 32 levels deep"):
        v.plan_from_dict(deep)
    circle = chain([PAIRS])
    circle["plans"].append(circle)
    with pytest.raises(ValueError, match=r"plans are nested more than 32 levels deep"):
        v.plan_from_dict(circle)
    wide = unsealed(PAIRS)
    for _ in range(20):  # 100**20 plans, of which memory holds one
        wide = chain([wide] * 100)
    with pytest.raises(ValueError, match=r"plans are more than 4096, those of chains in chains included"):
        v.plan_from_dict(wide)


def test_a_plan_without_numbers_has_no_dict():
    plan = v.Mixup(0.4, seed=0).plan(4, step=0).to("meta")
    with pytest.raises(ValueError, match=r"a plan on the device 'meta' has no numbers that could be kept"):
        plan.to_dict()
    with pytest.raises(ValueError, match=r"weight must be float32 or float64 with numbers in it"):
        v.plan_from_dict({**PAIRS, "weight": plan.weight})


def test_plans_made_by_hand_are_kept():
    weight = torch.full((3,), 0.25).expand(2, 3)[0].requires_grad_()
    shares = torch.softmax(noise(3, 1000, dtype=torch.float32), 1)
    for plan in (
        v.MixPlan(torch.tensor([2, 0, 1]), weight),
        v.MixPlan(torch.tensor([2, 0, 1]), torch.tensor(0.5, dtype=torch.float64).expand(3)),
        v.MixPlan(torch.zeros(3, 999, dtype=torch.int64), shares),
        v.MixPlan(torch.zeros(0, dtype=torch.int64), torch.zeros(0)),
        PlanChain((v.MixPlan(torch.tensor([2, 0, 1]), weight),) * 3),
    ):
        again = v.plan_from_dict(plan.to_dict())
        assert content(again) == content(plan)


# -- states ------------------------------------------------------------------------------------------------------------

STATE = {"seed": 5, "on": True, "epoch": 2, "steps": [3, 1]}
BAD_STATES = [
    ({"seed": 2**64}, r"seed must be an integer in \[0, 2\*\*64\), got 18446744073709551616"),
    ({"seed": 10**5000}, r"seed must be an integer in \[0, 2\*\*64\), got an integer of 16610 bits"),
    ({"seed": "5"}, r"seed must be an integer in \[0, 2\*\*64\), got '5'"),
    ({"on": "no"}, r"on must be True or False, got 'no'"),
    ({"epoch": 2**63}, r"epoch must be an integer in \[0, 2\*\*63\), got 9223372036854775808"),
    ({"steps": [0, 2**63]}, r"steps\[1\] must be an integer in \[0, 2\*\*63\), got 9223372036854775808"),
    ({"steps": [0, math.nan]}, r"steps\[1\] must be an integer in \[0, 2\*\*63\), got nan"),
    ({"steps": [0] * 511}, r"steps must be up to 510 counts >= 0, got a list of 511"),
    ({"steps": {"a": 1}}, r"steps must be up to 510 counts >= 0, got a dict of 1"),
    ({"step": [0]}, r"it holds 'step', which none has"),
]


@pytest.mark.parametrize(("bad", "sentence"), BAD_STATES)
@pytest.mark.parametrize(
    "seal", [lambda values: values, lambda values: _stored.sealed(values, 2)], ids=["plain", "forged"]
)
def test_each_field_of_a_state_is_checked_and_nothing_changes(bad, sentence, seal):
    mixup = v.Mixup(0.4)
    mixup.set_epoch(1)
    before = mixup.state_dict()
    with pytest.raises(ValueError, match=f"this is not the state of a vicinity: {sentence}") as caught:
        mixup.load_state_dict(seal({**STATE, **bad}))
    assert "\n" not in str(caught.value)
    assert mixup.state_dict() == before


def test_a_flipped_bit_of_a_state_is_told():
    mixup = v.Mixup(0.4)
    good = {**_stored.sealed(STATE, 2)}
    for bad in flipped(good):
        before = mixup.state_dict()
        with pytest.raises(ValueError, match=r"^this is not the state of a vicinity"):
            mixup.load_state_dict(bad)
        assert mixup.state_dict() == before
    mixup.load_state_dict(json.loads(json.dumps(good)))
    assert mixup.state.numbers() == STATE
    assert mixup.state_dict() == good


# -- mixed targets -----------------------------------------------------------------------------------------------------

IDS, SHARES = torch.tensor([[0, 1], [1, 1]]), torch.tensor([[0.75, 0.5], [0.25, 0.5]])
BAD_TARGETS = [
    (([0], SHARES), TypeError, r"ids must be a tensor, got \[0\]"),
    ((IDS, None), TypeError, r"weight must be a tensor, got None"),
    ((IDS, SHARES, 0.0, "rows"), TypeError, r"rows must be a tensor, got 'rows'"),
    ((IDS.to_sparse(), SHARES), TypeError, r"a torch.sparse_coo tensor cannot be mixed"),
    ((IDS, put(SHARES, (0, 1), math.nan)), ValueError, r"weight holds shares, finite and >= 0, got nan"),
    ((IDS, put(SHARES, (0, 1), -0.25)), ValueError, r"weight holds shares, finite and >= 0, got -0.25"),
    ((IDS, put(SHARES, (0, 1), math.inf)), ValueError, r"weight holds shares, finite and >= 0, got inf"),
    ((IDS, SHARES, math.nan), ValueError, r"smoothing must lie in \[0, 1\], got nan"),
    ((IDS, SHARES, "0.1"), TypeError, r"smoothing must be a number in \[0, 1\], got '0.1'"),
    ((IDS, SHARES, [0.1]), TypeError, r"smoothing must be a number in \[0, 1\], got \[0.1\]"),
    ((IDS, SHARES, 10**400), ValueError, r"smoothing must lie in \[0, 1\], got an integer of 1329 bits"),
    (
        (IDS, SHARES, 0.0, torch.tensor([[0, 1], [-1, 0]])),
        ValueError,
        r"rows holds row numbers, finite and >= 0, got -1",
    ),
]


@pytest.mark.parametrize(("parts", "error", "sentence"), BAD_TARGETS)
def test_targets_are_checked_when_they_are_read(parts, error, sentence):
    with pytest.raises(error, match=sentence):
        v.MixedTarget(*parts)


class Forged:
    """What pickles as a call of MixedTarget with other arguments."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return v.MixedTarget, self.parts


def test_a_forged_file_of_a_target_is_refused():
    file = io.BytesIO()
    torch.save(Forged(IDS, put(SHARES, (1, 0), math.nan)), file)
    file.seek(0)
    with pytest.raises((ValueError, pickle.UnpicklingError), match="shares, finite and >= 0, got nan"):
        torch.load(file, weights_only=True)
    wide = v.MixedTarget(torch.zeros(1, 1, dtype=torch.int64).expand(1, 10**12), torch.ones(1, 1).expand(1, 10**12))
    assert len(wide) == 10**12  # looked at in no time: one number in memory


def test_digests_tell_what_is_written_alike_apart():
    seen = [
        *(None, True, False, 1, 1.0, "1", "", [], {}, [[]], [1, 2], [12], "12", {"a": 1}, {"a": [1]}, [{"a": 1}]),
        *(
            torch.zeros(2),
            torch.zeros(2, 1),
            torch.zeros(1, 2),
            torch.zeros(2, dtype=torch.float64),
            torch.zeros(2).int(),
        ),
        *(torch.tensor([0.0, -0.0]), ["a", "b"], ["ab"], ["a", ["b"]], -1, 2**64, -(2**64), math.nan, math.inf),
    ]
    assert len({_stored.digest(value) for value in seen}) == len(seen)
    assert _stored.digest(np.float32(0.5)) == _stored.digest(0.5)
    assert _stored.digest(np.int64(7)) == _stored.digest(7)
    assert _stored.digest((1, 2)) == _stored.digest([1, 2])
    assert _stored.digest({"a": 1, "b": 2}) == _stored.digest({"b": 2, "a": 1})
