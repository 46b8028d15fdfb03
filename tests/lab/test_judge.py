"""Scores from anywhere, judged: against published examples, SciPy and plain loops; and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from vicinal.keyed import Key
from vicinal.lab.cli import main
from vicinal.lab.errors import UserError
from vicinal.lab.judge import judge
from vicinal.lab.statistics import five_by_two, five_by_two_t, holm, paired, posterior, resampled, rows_paired

BASE = [0.30, 0.32, 0.29, 0.31, 0.33, 0.30]
BETTER = [0.27, 0.30, 0.26, 0.29, 0.31, 0.28]
LIKE = [0.31, 0.31, 0.30, 0.30, 0.33, 0.31]


def columns(**methods: list[float]) -> dict[str, list[Any]]:
    lines = [(name, seed, score) for name, scores in methods.items() for seed, score in enumerate(scores)]
    return dict(zip(("method", "seed", "score"), map(list, zip(*lines, strict=True)), strict=True))


# -- published examples ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moons() -> dict[str, list[float]]:
    """The areas of scikit-learn's example "Statistical comparison of models using grid search", 100 folds each."""
    from sklearn.datasets import make_moons
    from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
    from sklearn.svm import SVC

    x, y = make_moons(noise=0.352, random_state=1, n_samples=100)
    folds = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0)
    models = {"linear": SVC(kernel="linear"), "poly": SVC(kernel="poly", degree=3), "rbf": SVC(kernel="rbf")}
    return {name: cross_val_score(model, x, y, scoring="roc_auc", cv=folds).tolist() for name, model in models.items()}


def test_scikit_learn_s_example_of_the_corrected_test(moons: dict[str, list[float]]) -> None:
    """Its page prints t 0.750 and p 0.227 corrected, 2.611 and 0.005 not, one-sided; 0.773 and 0.227 for the posterior."""
    differences = [a - b for a, b in zip(moons["rbf"], moons["linear"], strict=True)]
    corrected, plain = resampled(differences, 10 / 90), resampled(differences, 0.0)
    assert [round(of.difference / of.error, 3) for of in (corrected, plain)] == [0.750, 2.611]
    assert [round(of.p / 2, 3) for of in (corrected, plain)] == [0.227, 0.005]
    worse, same, better = posterior(differences, 10 / 90, 0.0)  # of an area, higher is better
    assert (round(better, 3), round(worse, 3), same) == (0.773, 0.227, pytest.approx(0.0, abs=1e-12))


def test_scikit_learn_s_example_of_practical_equivalence(moons: dict[str, list[float]]) -> None:
    """Its page prints, for a region of 0.01: worse 0.068, better 0.500, the same 0.432; and 0.018, 0.882, 0.100."""
    judged = judge(columns(**moons), baseline="rbf", test_share=10 / 90, rope=0.01, higher_is_better=True)
    linear, poly = judged.methods
    assert [round(share or 0, 3) for share in (linear.better, linear.worse, linear.same)] == [0.068, 0.500, 0.432]
    assert [round(share or 0, 3) for share in (poly.better, poly.worse, poly.same)] == [0.018, 0.882, 0.100]


def test_five_by_two_folds_as_their_authors_write_them() -> None:
    """Dietterich (1998), equation in 3.5; Alpaydin (1999), equation 5: loops, and SciPy's distributions."""
    for seed in range(10):
        p = Key(seed, 0, 0, 0).generator().standard_normal((5, 2)) * 0.03 + 0.02
        s2 = [(a - (a + b) / 2) ** 2 + (b - (a + b) / 2) ** 2 for a, b in p]
        t = p[0][0] / math.sqrt(sum(s2) / 5)
        f = sum(x * x for pair in p for x in pair) / (2 * sum(s2))
        assert five_by_two_t(p.tolist()) == pytest.approx((t, 2 * stats.t.sf(abs(t), 5)))
        assert five_by_two(p.tolist()) == pytest.approx((f, stats.f.sf(f, 10, 5)))


def test_five_by_two_folds_find_no_more_than_they_say() -> None:
    """Numerator and denominator share data, so that both are approximate, and of independent differences too cautious."""
    draws = Key(3, 0, 0, 0).generator().standard_normal((2000, 5, 2))
    reach = 3.3 * math.sqrt(0.05 * 0.95 / len(draws))
    for test in (five_by_two, five_by_two_t):
        assert 0.01 < np.mean([test(of.tolist())[1] < 0.05 for of in draws]) < 0.05 + reach
    apart = draws + 4.0
    assert np.mean([five_by_two(of.tolist())[1] < 0.05 for of in apart]) > 0.8


def test_five_by_two_folds_without_spread_or_in_another_shape() -> None:
    assert five_by_two([[0.1, 0.1]] * 5)[1] == five_by_two_t([[0.1, 0.1]] * 5)[1] == 1.0
    with pytest.raises(ValueError, match=r"shape \[5, 2\], got \[2, 5\]"):
        five_by_two([[0.1] * 5] * 2)


# -- one score per seed ------------------------------------------------------------------------------------------------


def test_every_figure_of_a_method() -> None:
    judged = judge(columns(ERM=BASE, mixup=BETTER, cutmix=LIKE), test_share=1 / 3, rope=0.005)
    assert (judged.baseline, judged.test, judged.seeds, judged.units) == ("ERM", "corrected resampled t", 6, None)
    assert judged.baseline_score == pytest.approx(np.mean(BASE))
    differences = [[m - e for m, e in zip(method, BASE, strict=True)] for method in (BETTER, LIKE)]
    corrected = holm([paired(of, 1 / 3).p for of in differences])
    for one, of, p in zip(judged.methods, differences, corrected, strict=True):
        assert (one.difference, one.low, one.high, one.p) == pytest.approx(tuple(paired(of, 1 / 3)))
        assert one.p_holm == pytest.approx(p)
        assert (one.better, one.same, one.worse) == pytest.approx(tuple(posterior(of, 1 / 3, 0.005)))
        assert one.detectable == pytest.approx(resampled(of, 1 / 3).detectable(level=0.025))
    assert [one.verdict for one in judged.methods] == ["better", "no difference found"]
    assert judged.methods[0].sentence.startswith(
        "mixup is better than ERM: 0.2850 instead of 0.3083 (difference -0.0233,"
    )
    assert "would have been found with 80 % probability" in judged.methods[1].sentence


def test_independent_scores_are_judged_by_scipy_s_paired_t_test() -> None:
    (one,) = judge(columns(baseline=BASE, other=BETTER), independent=True).methods
    plain = stats.ttest_rel(BETTER, BASE)
    ends = plain.confidence_interval(0.95)
    assert (one.low, one.high, one.p) == pytest.approx((ends.low, ends.high, plain.pvalue))
    assert (one.better, one.same, one.worse, one.p_equivalence) == (None, None, None, None)


def test_higher_is_better_turns_the_verdict_and_not_the_difference() -> None:
    scores = columns(ERM=BASE, mixup=BETTER)
    lower, higher = (judge(scores, independent=True, rope=0.001, higher_is_better=h).methods[0] for h in (False, True))
    assert (lower.verdict, higher.verdict) == ("better", "worse")
    assert lower.difference == higher.difference < 0
    assert (lower.better, lower.worse) == (higher.worse, higher.better)


def test_practically_the_same_is_shown_and_not_assumed() -> None:
    near = [base + error for base, error in zip(BASE, [1e-4, -1e-4, 2e-4, 0, -2e-4, 1e-4], strict=True)]
    wide, narrow = (judge(columns(ERM=BASE, near=near), independent=True, rope=r).methods[0] for r in (0.01, 1e-5))
    assert wide.verdict == "practically the same"
    assert wide.sentence.startswith("near and ERM are practically the same, within 0.01: ")
    assert narrow.verdict == "no difference found"


def test_order_of_lines_and_names_of_seeds_play_no_part() -> None:
    scores = columns(ERM=BASE, mixup=BETTER)
    order = Key(1, 0, 0, 0).generator().permutation(12).tolist()
    turned = {"fold": [f"fold {scores['seed'][i]}" for i in order]}
    turned |= {name: [scores[name][i] for i in order] for name in ("method", "score")}
    mine, theirs = judge(scores, test_share=0.25).methods[0], judge(turned, test_share=0.25).methods[0]
    assert (mine.difference, mine.p) == pytest.approx((theirs.difference, theirs.p))


def test_constant_differences_are_judged_by_the_sign_test() -> None:
    (one,) = judge(columns(ERM=[0.3, 0.2, 0.4], less=[0.2, 0.1, 0.3]), independent=True).methods
    assert one.p == pytest.approx(0.25)
    (same,) = judge(columns(ERM=BASE, twin=BASE), test_share=0.25).methods
    assert (same.difference, same.p, same.verdict) == (0.0, 1.0, "no difference found")


# -- losses of rows ----------------------------------------------------------------------------------------------------


def losses(groups: bool = False) -> dict[str, list[Any]]:
    draw = Key(4, 0, 0, 0).generator()
    lines: list[tuple[Any, ...]] = []
    for seed in range(5):
        rows = draw.permutation(60)[:20].tolist()
        for method, shift in (("ERM", 0.0), ("mixup", -0.4)):
            for row in draw.permutation(rows).tolist():
                lines.append((method, seed, row, row // 3, float(shift + 0.3 * draw.standard_normal() + row / 60)))
    names = ("method", "seed", "row", "group", "score")
    table = dict(zip(names, map(list, zip(*lines, strict=True)), strict=True))
    return table if groups else {name: of for name, of in table.items() if name != "group"}


@pytest.mark.parametrize("groups", [False, True])
def test_rows_and_groups_are_units(groups: bool) -> None:
    scores = losses(groups)
    judged = judge(scores)
    frame = pl.DataFrame(scores).pivot("method", index=[c for c in scores if c not in ("method", "score")])
    parts = frame.partition_by("seed")
    units = [part["group" if groups else "row"].to_list() for part in parts]
    effect = rows_paired(units, [(part["mixup"] - part["ERM"]).to_list() for part in parts])
    one = judged.methods[0]
    assert (one.difference, one.low, one.high, one.p) == pytest.approx(tuple(effect.paired()))
    assert (judged.test, judged.units) == ("rows and seeds", len({unit for of in units for unit in of}))
    assert one.verdict == "better"


# -- what is refused ---------------------------------------------------------------------------------------------------


def changed(scores: dict[str, list[Any]], line: int, **values: Any) -> dict[str, list[Any]]:
    return {name: [*of[:line], values.get(name, of[line]), *of[line + 1 :]] for name, of in scores.items()}


PAIR = columns(ERM=BASE, mixup=BETTER)
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no way to tell": (PAIR, {}, "what does a seed change?"),
    "both ways": (PAIR, {"test_share": 0.3, "independent": True}, "keep one"),
    "share": (PAIR, {"test_share": 0.0}, "above 0, got 0"),
    "share nan": (PAIR, {"test_share": math.nan}, "above 0, got nan"),
    "rope": (PAIR, {"independent": True, "rope": -1.0}, "above 0, got -1"),
    "no baseline": (columns(a=BASE, b=BETTER), {"independent": True}, "choose the one to compare with by --baseline"),
    "two baselines": (columns(ERM=BASE, baseline=BETTER), {"independent": True}, "more than one method is called"),
    "another baseline": (PAIR, {"independent": True, "baseline": "mixupp"}, "did you mean 'mixup'"),
    "one method": (columns(ERM=BASE), {"independent": True}, "scores of 'ERM' alone"),
    "one seed": (columns(ERM=[0.1], mixup=[0.2]), {"independent": True}, "there is one seed alone"),
    "unequal seeds": (columns(ERM=BASE, mixup=BETTER[:4]), {"independent": True}, "'mixup' has no score for seed 4, 5"),
    "nan": (
        changed(PAIR, 7, score=math.nan),
        {"independent": True},
        r"line 8 of the scores \(mixup, seed 1\) has the score nan",
    ),
    "inf": (changed(PAIR, 0, score=math.inf), {"independent": True}, "a run that failed is a result too"),
    "missing": (changed(PAIR, 0, score=None), {"independent": True}, "the score None, which is not a number"),
    "text": (changed(PAIR, 0, score="0,3"), {"independent": True}, "the score '0,3', which is not a number"),
    "no name": (changed(PAIR, 2, method=""), {"independent": True}, "line 3 of the scores has no method"),
    "doubled": (changed(PAIR, 1, seed=0), {"independent": True}, "'ERM' has two scores for seed 0: keep one"),
    "no seed": ({"method": ["a"], "score": [1.0]}, {}, "need a column 'seed', 'fold' or 'split'"),
    "seed and fold": ({**PAIR, "fold": PAIR["seed"]}, {}, "keep one that numbers every pair of scores"),
    "misspelt": ({"methods": ["a"], "seed": [1], "score": [1.0]}, {}, "need a column 'method'"),
    "ragged": ({**PAIR, "score": [0.1]}, {}, "different lengths"),
    "empty": ({"method": [], "seed": [], "score": []}, {}, "there are no scores"),
    "group alone": ({**PAIR, "group": PAIR["seed"]}, {}, "a column 'group' needs a column 'row'"),
    "rows and share": (losses(), {"test_share": 0.3}, "leave --test-share out"),
    "rows and independent": (losses(), {"independent": True}, "leave --independent out"),
    "other rows": (changed(losses(), 0, row=77), {}, "were tested on different rows for seed 0"),
    "doubled row": (changed(losses(), 1, row=losses()["row"][0]), {}, "has two scores for seed 0 and row"),
    "two groups": (changed(losses(True), 0, group=99), {}, "has two groups: correct the column 'group'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_scores_without_sense_are_refused(case: str) -> None:
    scores, options, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        judge(scores, **options)


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_as(name: str, frame: pl.DataFrame) -> None:
    writers = {".csv": frame.write_csv, ".parquet": frame.write_parquet, ".jsonl": frame.write_ndjson}
    suffix = Path(name).suffix
    if suffix == ".tsv":
        frame.write_csv(name, separator="\t")
    elif suffix == ".json":
        Path(name).write_text(json.dumps(frame.to_dicts()))
    else:
        writers[suffix](name)


@pytest.mark.parametrize("name", ["s.csv", "s.tsv", "s.json", "s.jsonl", "s.parquet"])
def test_files_of_every_kind(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_as(name, pl.DataFrame(PAIR))
    assert main(["judge", name, "--test-share", "0.25", "--out", "o.json"]) == 0
    printed = capsys.readouterr().out
    record = json.loads(Path("o.json").read_text())
    (mine,) = record["judgment"]["methods"]
    expected = paired([m - e for m, e in zip(BETTER, BASE, strict=True)], 0.25)
    assert (mine["difference"], mine["low"], mine["high"], mine["p"]) == pytest.approx(tuple(expected))
    assert record["command"] == f"vicinal judge {name} --test-share 0.25 --out o.json"
    assert mine["sentence"] in printed
    assert "corrected resampled t-test over 6 seeds" in printed


def test_columns_as_json_and_rows_as_csv(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.json").write_text(json.dumps(PAIR))
    pl.DataFrame(losses(True)).write_csv("r.csv")
    assert main(["judge", "c.json", "--independent"]) == 0
    assert main(["judge", "r.csv", "--rope", "0.1"]) == 0
    printed = capsys.readouterr().out
    assert judge(losses(True), rope=0.1).methods[0].sentence in printed
    assert "Practically the same: within 0.1." in printed


def test_scores_from_a_pipe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO(pl.DataFrame(PAIR).write_csv()))
    assert main(["judge", "-", "--independent", "--higher-is-better"]) == 0
    assert "mixup is worse than ERM" in capsys.readouterr().out


def test_commas_as_decimal_marks(capsys: pytest.CaptureFixture[str]) -> None:
    text = "method;seed;score\n" + "".join(
        f"{m};{s};{x:.2f}\n".replace(".", ",") for m, s, x in zip(*PAIR.values(), strict=True)
    )
    Path("s.csv").write_text(text)
    assert main(["judge", "s.csv", "--independent"]) == 0
    assert "0.2850 instead of 0.3083" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.csv", "", "is empty"),
        ("s.csv", "method,seed,score\na,1\n", "has 2 values, but there are 3 columns"),
        ("s.json", "{", "is not readable as scores"),
        ("s.json", "3", "is not readable as scores"),
        ("s.jsonl", "[1", "is not readable as scores"),
        ("s.parquet", "x", "is not a readable Parquet file"),
        ("s.xlsx", "x", "is not a file of scores"),
        (None, "", "cannot be read"),
    ],
)
def test_files_that_are_none(name: str | None, content: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name is not None:
        Path(name).write_text(content)
    assert main(["judge", name or "absent.csv"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_file_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    pl.DataFrame(PAIR).write_csv("s.csv")
    assert main(["judge", "s.csv", "--independent", "--out", "none/o.json"]) == 2
    assert "none/o.json cannot be written" in capsys.readouterr().err
