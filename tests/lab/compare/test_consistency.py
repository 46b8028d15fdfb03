"""Results that contradict themselves are refused by the field, though each field is of its type and the checksum fits."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_runs import answers, numbers, results_of, study_of

from vicinal.lab import records, stored
from vicinal.lab.compare import consistency, export, prediction_table, report
from vicinal.lab.compare.console import print_results
from vicinal.lab.compare.results import FORMAT, Results
from vicinal.lab.errors import UserError

Change = Callable[[dict[str, Any]], Any]


def made(regression: bool = False) -> dict[str, Any]:
    """Results of a comparison as JSON holds them."""
    study = study_of(regression, seeds=2, alphas=(0.4,))
    if regression:
        outputs = numbers(study, {"ERM": lambda rows: rows % 5 - 2.0, "mixup 0.4": lambda rows: rows % 3 - 1.0})
    else:
        outputs = answers(study, {"ERM": lambda rows: rows % 3 == 0, "mixup 0.4": lambda rows: rows % 4 == 0})
    plain = json.loads(json.dumps(records.to_json(results_of(study, outputs))))
    del plain["format"]
    return plain


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return made()


def test_results_are_read_as_they_were_written(results: dict[str, Any], tmp_path: Path) -> None:
    for of in (results, made(regression=True)):
        stored.write(tmp_path / "results.json", of, FORMAT)
        found = consistency.read(tmp_path / "results.json")
        assert records.to_json(found) == {"format": FORMAT, **of}


CHANGES: dict[str, Change] = {
    "summary must hold 'mixup 0.4'": lambda of: of["summary"].pop("mixup 0.4"),
    "summary must hold 'ERM'": lambda of: of["summary"].pop("ERM"),
    "summary.mixup 0.4.test must hold the measures of ERM": lambda of: of["summary"]["mixup 0.4"]["test"].pop("nll"),
    "summary.ERM.test.error.low must not exceed high": lambda of: of["summary"]["ERM"]["test"]["error"].update(low=2.0),
    "summary.ERM.test.error.mean must lie in [0, 1]": lambda of: of["summary"]["ERM"]["test"]["error"].update(mean=1.5),
    "data.class_counts must hold a count of each class": lambda of: of["data"]["class_counts"].pop(),
    "data.class_counts must hold numbers from 0 up": lambda of: of["data"].update(class_counts=[-1, 3]),
    "data.table must be there for a table alone": lambda of: of["data"].update(table=None),
    "data.folder must be there for a folder alone": lambda of: of["data"].update(
        folder={"shape": [3, 8, 8], "notes": []}
    ),
    "data.table.columns[0] must have low and high": lambda of: of["data"]["table"]["columns"][0].update(high=None),
    "protocol.measure cannot be 'rmse'": lambda of: of["protocol"].update(measure="rmse"),
    "runs[19].seed must be below 1": lambda of: of["protocol"].update(seeds=1),
    "runs must hold each seed of each method once": lambda of: of["runs"].pop(),
    "runs[0].method must be one of the methods": lambda of: of["runs"][0].update(method="x"),
    "runs[0].curve must have values of each epoch": lambda of: of["runs"][0]["curve"].update(epoch=[1, 2]),
    "runs[0].test.error must lie in [0, 1]": lambda of: of["runs"][0]["test"].update(error=-0.5),
    "runs[0].epochs must be 0 or more": lambda of: of["runs"][0].update(epochs=-1),
    "methods must have names, each once": lambda of: of["methods"].append(of["methods"][0]),
    "methods[1].alpha must be above 0": lambda of: of["methods"][1].update(alpha=-0.4),
    "comparisons[0] must have p-values and chances in [0, 1]": lambda of: of["comparisons"][0].update(p=-0.1),
    "comparisons[0].per_seed must hold 2": lambda of: of["comparisons"][0]["per_seed"].pop(),
    "comparisons[0].method must have a summary": lambda of: of["comparisons"][0].update(method="x"),
    "comparisons[0].measure must be one of error": lambda of: of["comparisons"][0].update(measure="nll"),
    "comparisons must hold each difference once": lambda of: of["comparisons"].append(of["comparisons"][0]),
    "choice.recommended must be one of the methods": lambda of: of["choice"].update(recommended="x"),
    "choice.counts must have numbers for keys": lambda of: of["choice"].update(counts={"much": 2}),
    "answers.methods must be two of the methods": lambda of: of["answers"].update(methods=["ERM"]),
    "answers.classes must be those of the data": lambda of: of["answers"]["classes"].pop(),
    "answers.confusion.ERM must have a row and a column of each class": lambda of: of["answers"]["confusion"][
        "ERM"
    ].pop(),
    "answers.classes[0].recall must be of answers.methods": lambda of: of["answers"]["classes"][0]["recall"].pop("ERM"),
    "protocol.learning_rate must be below 1e+100": lambda of: of["protocol"].update(learning_rate=1e300),
}


@pytest.mark.parametrize("says", CHANGES)
def test_what_contradicts_itself_is_refused(results: dict[str, Any], tmp_path: Path, says: str) -> None:
    of, path = copy.deepcopy(results), tmp_path / "results.json"
    if says.startswith("runs[19]"):
        says = f"runs[{sum(run['seed'] == 0 for run in of['runs'])}].seed must be below 1"
        of["runs"].sort(key=lambda run: run["seed"])
        CHANGES["runs[19].seed must be below 1"](of)
    else:
        CHANGES[says](of)
    stored.write(path, of, FORMAT)
    with pytest.raises(UserError) as refused:
        consistency.read(path)
    assert says in str(refused.value)
    assert str(refused.value).startswith(f"{path} cannot be used: ")
    assert str(refused.value).endswith("; rerun the command that made its folder, which writes it again")


def test_odd_texts_are_shown(results: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half a surrogate pair, as of a file's name that is no UTF-8, and what a page or a terminal would obey."""
    of = copy.deepcopy(results) | dict.fromkeys(("created", "command", "no_model"), "\ud800 \x1b[2J \u202e <b>")
    of["machine"] = {"cores": "many", "processor": ["a"], "gpu": None}
    of["data"]["name"] = of["data"]["source"] = of["data"]["target"] = "\udcff<i>\x07"
    found: Results = records.from_json(Results, of)
    consistency.check(found)
    report.write(found, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<i>\\x07" not in page
    assert "&lt;i&gt;\\x07" in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    export.write(found, tmp_path)
    print_results(found)
    assert "regression" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "the comparison is not finished: rerun its command"),
        ("{", "results.json cannot be used: it is not JSON, or is cut off; rerun the comparison's command"),
        (stored.seal({"no_model": 3}, FORMAT), "cannot be used: no_model must be a text, found 3; rerun"),
        (stored.seal({"no_model": "it diverged"}, FORMAT), "it diverged"),
    ],
)
def test_why_there_is_no_model_is_told(tmp_path: Path, content: str | None, says: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(UserError) as refused:
        prediction_table.model_file(tmp_path)
    assert says in str(refused.value)
