"""The toy families obey their laws, and the study says what its runs gave."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.stats import spearmanr

from vicinal.lab import intrusion as measured
from vicinal.lab.compare import diagnose
from vicinal.lab.data import keel, synthetic, tables
from vicinal.lab.paper import intrusion, reproduce
from vicinal.lab.paper.agreement import agreements
from vicinal.lab.paper.intrusions import atlas
from vicinal.lab.paper.store import JobFolder
from vicinal.lab.paper.study import AtScale

SMALL = Path(__file__).parents[3] / "results" / "reproduce" / "intrusion" / "small"
FAMILIES = {family.name: family for family in synthetic.FAMILIES}
POINTS = [(family, value) for family in synthetic.FAMILIES for value in family.values]
NAMED = [f"{family.name}-{value:g}" for family, value in POINTS]


@pytest.mark.parametrize(("family", "value"), POINTS, ids=NAMED)
def test_classes_are_balanced_and_tables_a_function_of_the_seed(family: synthetic.Family, value: float):
    table = family.table(value, 101, 7)
    counts = Counter(table.target.tolist())
    assert len(counts) == family.classes
    assert max(counts.values()) - min(counts.values()) <= 1
    assert table.fingerprint() == family.table(value, 101, 7).fingerprint()
    assert table.fingerprint() != family.table(value, 101, 8).fingerprint()


def class_by_formula(name: str, x: float, y: float, value: float) -> int:
    radius, angle = math.hypot(x, y), math.atan2(y, x) % (2 * math.pi)
    match name:
        case "rings":
            assert radius < 1 or 1.2 < radius < 1.8
            assert radius < 1 or angle < value * 2 * math.pi
            return int(radius > 1)
        case "spirals":
            off = [
                abs(math.remainder(angle - 2 * math.pi * value * radius - math.pi * arm, 2 * math.pi)) for arm in (0, 1)
            ]
            assert 0.2 < radius < 1
            assert min(off) < 0.4 * math.pi < 0.6 * math.pi < max(off)
            return off.index(min(off))
        case "checkerboard":
            assert 0 < x < 1 and 0 < y < 1  # noqa: PT018
            return (int(x * value) + int(y * value)) % 2
        case "sectors":
            assert 0.4 < radius < 1.36
            return (int(angle / (2 * math.pi / value)) + int(radius > 1)) % 2
    raise AssertionError(name)


@pytest.mark.parametrize("name", ["rings", "spirals", "checkerboard", "sectors"])
def test_labels_are_what_the_formula_says(name: str):
    family = FAMILIES[name]
    for value in family.values:
        table = family.table(value, 120, 1)
        told = [class_by_formula(name, float(x), float(y), value) for x, y in table.numeric]
        assert told == table.target.tolist()


def test_blobs_and_the_class_between_lie_where_they_should():
    table = FAMILIES["between"].table(0.4, 3000, 2)
    centers = np.array([table.numeric[table.target == label].mean(0) for label in range(3)])
    np.testing.assert_allclose(centers, [[-1, 0], [0, 0.4], [1, 0]], atol=4 * 0.3 / math.sqrt(1000))
    spread = np.concatenate([table.numeric[table.target == label] - centers[label] for label in range(3)])
    assert spread.std() == pytest.approx(0.3, rel=0.05)
    blobs = FAMILIES["blobs"].table(0.1, 3000, 2)
    assert blobs.numeric.shape == (3000, 10)
    middles = np.array([blobs.numeric[blobs.target == label].mean(0) for label in range(3)])
    gaps = [float(np.linalg.norm(middles[i] - middles[j])) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert gaps == pytest.approx([2, 2, 2], abs=0.02)


def test_conflict_grows_along_the_families_that_are_to_go_wrong_and_not_along_the_blobs():
    for name in ("rings", "spirals", "between", "blobs"):
        family = FAMILIES[name]
        first, last = (
            diagnose.diagnose(family.table(value, 600, 0), (1.0,), draws=3000).at(1.0).conflict
            for value in (family.values[0], family.values[-1])
        )
        assert (last.low > first.high) == (name != "blobs")


# -- the study ---------------------------------------------------------------------------------------------------------


def result(
    name: str, erm: list[float], fixed: list[float], conflict: float = 0.1, share: float = 0.0, **more: Any
) -> Any:
    """A finished job with two alphas, of which validation rows prefer 0.4 for the first seed and 1 for the others."""
    n = len(erm)

    def method(test: list[float], validation: list[float]) -> dict[str, Any]:
        nll = [1.0] * n
        return {
            "alpha": None,
            "test_error": test,
            "test_nll": nll,
            "validation_error": validation,
            "validation_nll": nll,
        }

    return {
        "set": name,
        "kind": "toy",
        "family": name,
        "value": 1.0,
        "test_share": share,
        "rows": 9,
        "inputs": 2,
        "classes": 2,
        "steps": 38,
        "unmixed": [0.2, 0.1, 0.3],
        "indicator": {"1": {"conflict": [conflict, 0, 1], "third": [0.3, 0, 1], "distance": [0.4, 0, 1]}},
        "methods": {
            "ERM": method(erm, [0.0] * n),
            "mixup 0.4": method([0.5] * n, [0.1] + [0.3] * (n - 1)),
            "mixup 1": method(fixed, [0.2] * n),
        },
    } | more


def test_the_effect_is_paired_and_alpha_is_chosen_on_validation_rows():
    (one,) = intrusion.summarize({"a": result("a", [0.1, 0.2, 0.3], [0.2, 0.31, 0.39])})
    assert one["effect"][0] == pytest.approx(0.1)
    # differences 0.1, 0.11, 0.09: s = 0.01, t(2) = 4.3027
    assert one["effect"][1:] == pytest.approx([0.1 - 4.3027 * 0.01 / 3**0.5, 0.1 + 4.3027 * 0.01 / 3**0.5], abs=1e-6)
    assert one["chosen"][0] == pytest.approx((0.4 + 0.11 + 0.09) / 3)
    assert one["verdict"] == "harm"


def test_on_a_real_table_the_interval_allows_for_splits_that_overlap():
    toy_set, real = (
        intrusion.summarize({"a": result("a", [0.1, 0.2, 0.3], [0.2, 0.31, 0.39], share=share)})[0]["effect"]
        for share in (0.0, 1 / 3)
    )
    # s**2 (1/3 + 1/3) instead of s**2 / 3
    assert (real[2] - real[0]) / (toy_set[2] - toy_set[0]) == pytest.approx(2**0.5)


def test_verdicts_need_an_interval_on_one_side_of_0():
    done = {
        "help": result("help", [0.2, 0.3, 0.4], [0.1, 0.19, 0.31]),
        "unclear": result("unclear", [0.2, 0.3, 0.4], [0.1, 0.4, 0.4]),
    }
    assert [one["verdict"] for one in intrusion.summarize(done)] == ["help", "unclear"]


def test_rank_correlation_is_spearmans_with_a_bootstrap_over_families():
    x = [0.1, 0.2, 0.2, 0.4, 0.5, 0.6, 0.05, 0.9]
    y = [0.0, 0.2, 0.1, 0.1, 0.4, 0.3, 0.05, 0.2]
    sets = [{"conflict": a, "effect": [b], "family": "abc"[i % 3]} for i, (a, b) in enumerate(zip(x, y, strict=True))]
    found = intrusion.rank_correlation(sets)
    assert found["rho"] == pytest.approx(spearmanr(x, y).statistic)
    assert (found["n"], found["groups"]) == (8, 3)
    assert found["low"] < found["rho"] < found["high"]
    assert found == intrusion.rank_correlation(sets)
    turned = intrusion.rank_correlation([one | {"effect": [-one["effect"][0]]} for one in sets])
    assert [turned[k] for k in ("rho", "low", "high")] == pytest.approx([-found[k] for k in ("rho", "high", "low")])


def test_a_bootstrap_by_families_is_wider_than_one_by_sets():
    # two families that agree within and differ between
    sets = [{"conflict": i + 10 * f, "effect": [i - 10 * f], "family": str(f)} for f in range(3) for i in range(6)]
    alone = [one | {"family": str(i)} for i, one in enumerate(sets)]
    by_family, by_set = intrusion.rank_correlation(sets), intrusion.rank_correlation(alone)
    assert by_family["high"] - by_family["low"] > 1.3 * (by_set["high"] - by_set["low"])


def test_jobs_have_names_of_their_own_and_absent_tables_stay_in_the_table(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("VICINAL_DATA", raising=False)
    study = intrusion.IntrusionStudy()
    jobs = [job.name for job in study.jobs("paper")]
    assert len(set(jobs)) == len(jobs) == 36 + 9 + 43
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_") for name in jobs)
    rows = {row.name: row for row in study.rows("paper", {})}
    assert len(rows) == 3 * (36 + 9 + 43)
    assert "VICINAL_DATA" in rows["abalone, mixup 1"].note
    assert rows["iris, mixup 1"].note == ""
    assert rows["iris, mixup 1"].against == "iris, ERM"
    assert all(row.published is None and not row.values for row in rows.values())
    assert all(row.against is None or row.against in rows for row in rows.values())


def test_what_is_smaller_is_said():
    assert [bool(at.deviations) for at in intrusion.SCALES.values()] == [True, True, False]


@pytest.mark.slow
def test_a_smoke_run_writes_results_rows_and_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(intrusion.synthetic, "FAMILIES", (FAMILIES["rings"],))
    monkeypatch.setitem(intrusion.SCALES, "smoke", replace(intrusion.SCALES["smoke"], seeds=2))
    monkeypatch.setattr(intrusion, "RESAMPLED", 50)  # of 2000, which take seconds
    monkeypatch.setattr(atlas, "RESAMPLED", 50)
    monkeypatch.setattr(keel, "is_installed", lambda: True)  # scikit-learn's iris and wine in their place
    monkeypatch.setattr(keel, "load", lambda name, most: tables.load(name))
    study = intrusion.IntrusionStudy()
    folder = JobFolder(tmp_path, study, "smoke")
    with pytest.raises(SystemExit):
        intrusion.main([str(tmp_path), "smoke", str(tmp_path / "intrusion.json")])
    assert "not run: rings-0.1, rings-1, table-iris, keel-iris, keel-wine;" in capsys.readouterr().err
    done = dict(reproduce.run(folder, "the command", 1, lambda line: None))
    assert list(done) == ["rings-0.1", "rings-1", "table-iris", "keel-iris", "keel-wine"]
    kept = done["rings-1"]
    seen = FAMILIES["rings"].table(1.0, intrusion.TOY_ROWS, 2)
    assert kept["indicator"]["1"]["conflict"] == list(diagnose.diagnose(seen, intrusion.ALPHAS).at(1.0).conflict)
    intrusion.main([str(tmp_path), "smoke", str(tmp_path / "intrusion.json")])
    told = json.loads((tmp_path / "intrusion.json").read_text())
    assert told["command"] == "the command"
    assert told["sets"] == intrusion.summarize(done)
    date = told["atlas"].pop("date")
    assert date == max(folder.records()[name].created for name in ("keel-iris", "keel-wine"))[:10]
    assert told["atlas"] == json.loads(json.dumps(atlas.evidence(atlas.read(done))))

    rows = {row.name: row for row in study.rows("smoke", done)}
    assert len(rows) == 9 + 2 * 3
    assert rows["rings 1, ERM"].values == tuple(100 * e for e in kept["methods"]["ERM"]["test_error"])
    assert rows["rings 1, mixup 1"].note == f"conflict {kept['indicator']['1']['conflict'][0]:+.3f}"
    by_name = dict(zip(rows, agreements(list(rows.values()), AtScale("none", 1.0)), strict=True))
    assert by_name["rings 1, mixup 1"] == ("", "")
    for path in study.draw("smoke", done, tmp_path):
        root = ElementTree.fromstring(path.read_text())
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(--" not in path.read_text()
        assert "effect" in root.attrib["aria-label"].lower()
    assert sorted(path.name for path in tmp_path.glob("*.svg")) == [
        "atlas.svg",
        "intrusion-all.svg",
        "intrusion-rings.svg",
    ]


def test_tables_whose_files_are_gone_are_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VICINAL_DATA", raising=False)
    jobs = {job.name: job.ready for job in reproduce.find("intrusion").jobs("small")}
    assert not jobs["table-abalone"]
    assert jobs["table-wine"]


# -- what was measured -------------------------------------------------------------------------------------------------


def test_what_diagnose_quotes_is_what_the_kept_results_say():
    paths = [path for path in SMALL.glob("*.json") if path.stem != "table" and not path.stem.startswith(atlas.PREFIX)]
    records = [json.loads(path.read_text()) for path in paths]
    kept = {record["job"]: record["results"] for record in records}
    quoted = measured.evidence()
    by_name = {one["set"]: one for one in intrusion.summarize(kept)}
    assert [by_name[one["set"]] for one in quoted["sets"]] == quoted["sets"]
    rho = spearmanr([s["conflict"] for s in quoted["sets"]], [s["effect"][0] for s in quoted["sets"]]).statistic
    assert quoted["rank"]["all"]["rho"] == pytest.approx(rho)
    assert quoted["rank"]["all"]["n"] == len(kept)
    assert quoted["date"] == max(record["created"] for record in records)[:10]
