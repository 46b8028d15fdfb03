"""What every study owes, at every scale, and how its rows compare with the published ones."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from studies import SmokeRun

from vicinal.lab.paper import reproduce, uci
from vicinal.lab.paper.agreement import agreements
from vicinal.lab.paper.study import AtScale, Published, Row, Scale, Study

SCALES: tuple[Scale, ...] = ("smoke", "small", "paper")


def test_studies_have_a_name_each() -> None:
    names = [study.name for study in reproduce.STUDIES]
    assert len(set(names)) == len(names) >= 9
    assert all(re.fullmatch(r"[a-z][a-z-]*", name) for name in names)
    assert [reproduce.find(name) for name in names] == list(reproduce.STUDIES)


@pytest.mark.parametrize("study", reproduce.STUDIES, ids=lambda study: study.name)
def test_a_study_says_what_it_is_and_needs(study: Study) -> None:
    doc = type(study).__doc__ or ""
    assert "Paper:" in doc
    assert study.section
    assert study.title
    for scale in SCALES:
        at = study.scales[scale]
        assert at.minutes > 0
        assert at.data
        assert at.device
        jobs = [job.name for job in study.jobs(scale)]
        assert len(set(jobs)) == len(jobs) > 0
        assert all(re.fullmatch(r"[A-Za-z0-9.-]+", job) for job in jobs)
        rows = study.rows(scale, {})
        assert len({row.name for row in rows}) == len(rows) > 0
        assert all(row.values == () for row in rows)
        assert {row.against for row in rows} - {None} <= {row.name for row in rows}
    assert study.scales["smoke"].minutes < 0.5
    assert not study.draw("small", {}, Path("nowhere"))


@pytest.mark.parametrize(
    ("name", "rows", "recalled"),
    [
        ("imagenet", 15 + 12, 0),  # those of the lines that are run next to quoted ones have none
        ("cifar", 12, 0),
        ("speech", 12, 0),
        ("corrupted-labels", 48, 6),
        ("ablation", 44, 40),
        ("interpolation", 52, 0),
    ],
)
def test_every_published_number_has_its_row_at_every_scale(name: str, rows: int, recalled: int) -> None:
    tables = [
        {row.name: row.published for row in reproduce.find(name).rows(scale, {}) if row.published is not None}
        for scale in SCALES
    ]
    assert len(tables[0]) == rows
    assert sum(not published.confirmed for published in tables[0].values()) == recalled
    smoke, small, paper = tables
    assert smoke == paper
    assert set(small.values()) == set(paper.values())  # studies may show a number in more than one regime


def test_published_numbers_are_those_of_the_paper() -> None:
    def number(study: str, row: str) -> float | None:
        published = {r.name: r.published for r in reproduce.find(study).rows("paper", {})}[row]
        return None if published is None else published.value

    assert number("cifar", "CIFAR-10, PreAct ResNet-18, mixup, test error") == 4.2
    assert number("cifar", "CIFAR-100, DenseNet-BC-190, ERM, test error") == 19.0
    assert number("imagenet", "ResNet-101, 200 epochs, mixup alpha = 0.2, top-5 error") == 5.4
    assert number("imagenet", "ResNeXt-101 64x4d, 100 epochs, ERM, top-1 error") == 20.4
    assert number("imagenet", "ResNeXt-101 64x4d, 90 epochs, ERM, run here, top-1 error") is None
    assert number("speech", "LeNet, mixup alpha = 0.2, test error") == 11.3
    assert number("corrupted-labels", "80% random, mixup, last test error") == 30.9
    assert number("corrupted-labels", "20% random, ERM + dropout, training error on replaced labels") == 83.55
    assert number("ablation", "mixup (AC + RP), weight decay 5e-4, median test error") == 4.68
    assert number("interpolation", "ERM, misses at lambda = 0.50") == 16.54
    table4 = {row.name: row.published for row in reproduce.find("uci").rows("paper", {})}
    for name, (erm, mixup) in uci.PUBLISHED.items():
        assert table4[f"{uci.TITLES[name]}, half, min-max, ERM"] == Published(erm)
        assert table4[f"{uci.TITLES[name]}, half, min-max, mixup alpha = 0.2"] == Published(mixup)
    assert sum(published is not None for published in table4.values()) == 12
    assert uci.PUBLISHED["arrhythmia"] == (56.6, 46.3)
    assert uci.PUBLISHED["website-phishing"] == (16.3, 15.2)


def test_what_a_row_is_compared_with_is_the_row_without_mixing() -> None:
    for row in reproduce.find("imagenet").rows("paper", {}):
        if row.against is not None:
            assert row.name.split(",")[0] == row.against.split(",")[0]
            assert row.against.split(", ")[2] == "ERM"
    table = {row.name: row.against for row in reproduce.find("imagenet").rows("paper", {})}
    mixup = "ResNeXt-101 32x4d, 90 epochs, mixup alpha = 0.4, top-1 error"
    assert table[mixup] == "ResNeXt-101 32x4d, 90 epochs, ERM, top-1 error"


LONG = ("ablation", "intrusion")  # in their smallest form, too


@pytest.mark.slow
@pytest.mark.parametrize(
    "study",
    [pytest.param(s, marks=[pytest.mark.torture] * (s.name in LONG), id=s.name) for s in reproduce.STUDIES],
)
def test_the_quick_run_fills_every_row_and_draws_every_figure(study: Study, smoke: Callable[[str], SmokeRun]) -> None:
    folder, rows = smoke(study.name)
    assert all(row.values or "not run" in row.note for row in rows)
    assert all(math.isfinite(value) for row in rows for value in row.values)
    figures = {
        "toy": 1,
        "interpolation": 3,
        "imagenet": 1,
        "cifar": 1,
        "speech": 1,
        "corrupted-labels": 1,
        "adversarial": 1,
    }
    figures |= {"uci": 2, "ablation": 2}
    drawn = sorted(folder.path.glob("*.svg"))
    if study.name in figures:
        assert len(drawn) == figures[study.name]
    for path in drawn:
        text = path.read_text()
        assert 'xmlns="http://www.w3.org/2000/svg"' in text
        assert not re.search(r"\bnan\b", text)
    table = json.loads((folder.path / "table.json").read_text())
    assert [row["name"] for row in table["rows"]] == [row.name for row in rows]
    assert {(row["difference"], row["level"]) for row in table["rows"]} == {("", "")}  # drawn data: nothing to agree on


FULL = AtScale("none", 1.0, full=True)


def row(published: float | None, values: tuple[float, ...], against: str | None = None) -> Row:
    return Row("mine", "error, %", None if published is None else Published(published), values, against)


def test_the_interval_is_students() -> None:
    # mean 2, sd 1, t with 2 degrees of freedom 4.302653, divided by the root of 3
    own = row(None, (1.0, 2.0, 3.0)).interval
    assert own is not None
    assert own == pytest.approx((2.0, 2 - 2.484138, 2 + 2.484138), abs=1e-6)
    assert row(None, (1.0,)).interval is None


def test_where_splits_of_one_table_overlap_the_interval_is_corrected() -> None:
    # sd 1; Nadeau and Bengio: the root of 1 / 3 + 1 / 3 in place of that of 1 / 3
    wide = replace(row(None, (1.0, 2.0, 3.0)), test_share=1 / 3).interval
    assert wide is not None
    assert wide == pytest.approx((2.0, 2 - 3.513102, 2 + 3.513102), abs=1e-5)
    # the same differences, 1 with sd 0.2, t = 8.66: beyond luck for independent seeds alone
    mine, other = row(4.0, (0.8, 1.0, 1.2), "ERM"), Row("ERM", "error, %", Published(3.0), (0.0, 0.0, 0.0))
    assert agreements([mine, other], FULL)[0].difference == "as published"
    assert agreements([replace(mine, test_share=2.0), other], FULL)[0].difference == "unclear"


@pytest.mark.parametrize(
    ("mine", "other", "expected"),
    [
        (row(5.0, ()), None, ("", "not run")),
        (row(5.0, (), "ERM"), (91.0, (20.0, 21.0)), ("not run", "not run")),
        (row(None, (1.0, 2.0)), None, ("", "")),
        (row(2.1, (1.99, 2.0, 2.01)), None, ("", "agrees")),  # the interval is 1.975 to 2.025, a tenth 1.89 to 2.31
        (row(2.1, (1.0, 2.0, 3.0)), None, ("", "unclear")),  # too wide to tell
        (row(5.5, (1.0, 2.0, 3.0)), None, ("", "differs")),
        (row(5.5, (1.0,)), None, ("", "unclear")),
        # ours 10 below the other, theirs 1 below
        (row(90.0, (10.0, 11.0, 12.1), "ERM"), (91.0, (20.0, 21.0, 22.0)), ("as published", "differs")),
        (row(92.0, (10.0, 11.0, 12.1), "ERM"), (91.0, (20.0, 21.0, 22.0)), ("opposite", "differs")),
        (row(91.0, (10.0, 11.0, 12.1), "ERM"), (91.0, (20.0, 21.0, 22.0)), ("equal in print", "differs")),
        (row(90.0, (10.0, 30.0, 20.0), "ERM"), (91.0, (20.0, 21.0, 22.0)), ("unclear", "differs")),  # may be luck
        (row(90.0, (10.0, 11.0, 12.1), "ERM"), (91.0, (20.0, 21.0, 22.0, 0.0)), ("as published", "differs")),
        (row(90.0, (10.0, 11.0, 12.1, 14.0), "ERM"), (91.0, (20.0, 21.0, 22.0)), ("as published", "differs")),
        (row(90.0, (10.0, 11.0), "ERM"), (91.0, (20.0,)), ("unclear", "differs")),
        (row(90.0, (10.0,), "ERM"), (91.0, (20.0,)), ("unclear", "unclear")),  # one seed, of unknown tests
    ],
)
def test_agreement_by_hand(mine: Row, other: tuple[float, tuple[float, ...]] | None, expected: tuple[str, str]) -> None:
    table = [mine]
    if other is not None:
        table.append(Row("ERM", "error, %", Published(other[0]), other[1]))
    assert agreements(table, FULL)[0] == expected


def test_the_difference_is_looked_at_before_the_level() -> None:
    """A level that agrees does not hide a difference against the paper in every seed."""
    erm_errors = tuple(74.0 + noise for noise in (-0.3, 0.2, 0.1, -0.1, 0.3))
    erm = Row("ERM", "error, %", Published(74.0), erm_errors)
    mixup = Row("mixup", "error, %", Published(73.6), tuple(error + 1.5 + 0.01 * error for error in erm_errors), "ERM")
    assert agreements([erm, mixup], FULL)[1] == ("opposite", "agrees")


def test_single_runs_are_judged_by_a_binomial_tolerance() -> None:
    # 50,000 images at 22 %: sqrt(.22 * .78 / 50,000) = 0.185 points, with 0.2 of seeds 0.273 for one, 0.386 for two
    at = replace(FULL, test_examples=50_000)
    erm = Row("ERM", "top-1 error, %", Published(22.0), (22.0,))
    for ours, expected in ((21.5, "unclear"), (21.2, "as published"), (22.8, "opposite")):
        mixup = Row("mixup", "top-1 error, %", Published(20.8), (ours,), "ERM")
        assert agreements([erm, mixup], at)[1].difference == expected
    assert agreements([erm], at)[0].level == "agrees"
    assert agreements([erm], FULL)[0].level == "unclear"


def test_differences_of_a_table_are_corrected_for_their_number() -> None:
    erm = Row("ERM", "error, %", Published(10.0), (10.0, 10.0, 10.0, 10.0, 10.0))
    weak = Row("weak", "error, %", Published(9.0), (9.0, 9.8, 9.1, 9.6, 8.7), "ERM")  # p = 0.014 by itself
    open_rows = [Row(f"open {i}", "error, %", Published(9.0), (10.1, 9.9, 10.2, 9.8, 10.05), "ERM") for i in range(4)]
    assert agreements([erm, weak], FULL)[1].difference == "as published"
    assert agreements([erm, weak, *open_rows], FULL)[1].difference == "unclear"


def test_of_a_study_scaled_down_only_differences_are_compared() -> None:
    erm = Row("ERM", "error, %", Published(2.0), (1.99, 2.0, 2.01))  # the published number lies inside, by chance
    mixup = Row("mixup", "error, %", Published(1.9), (2.19, 2.2, 2.22), "ERM")
    assert agreements([erm, mixup], FULL)[0].level == "agrees"
    scaled_down = AtScale("none", 1.0)
    assert agreements([erm, mixup], scaled_down) == [("", "scaled down"), ("opposite", "scaled down")]


def test_what_is_run_in_full() -> None:
    small = {study.name for study in reproduce.STUDIES if study.scales["small"].full}
    assert small == {"uci"}
    assert all(study.scales["paper"].full and not study.scales["smoke"].full for study in reproduce.STUDIES)
