"""The command as people use it, misuse it, and stop it."""

from __future__ import annotations

import errno
import gzip
import json
import os
import pty
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from vicinal.keyed import Key
from vicinal.lab import atomic, cli, executor, records
from vicinal.lab.cli import interrupts
from vicinal.lab.compare import consistency, report
from vicinal.lab.compare.predictor import Predictor
from vicinal.lab.compare.results import Results

TINY = ("--seeds", "2", "--epochs", "1", "--alpha", "0.2")
FILES = sorted(
    [
        "config.json",
        "model.safetensors",
        "predictions",
        "report.html",
        "results.json",
        "runs.jsonl",
        "table.md",
        "table.tex",
    ]
)
BASELINES = ("constant answer", "linear model", "gradient-boosted trees")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in ("VICINAL_DATA", "COLUMNS", "FORCE_COLOR", "PYTHONWARNINGS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def vicinal(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`code, out, err = vicinal("compare", "iris")`, in this process; its workers are processes as ever."""

    def run(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(argv)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def program(*argv: str, **options: Any) -> subprocess.Popen[str]:
    """The installed command, in a process group of its own."""
    command = [str(Path(sys.executable).with_name("vicinal")), *argv]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(command, text=True, start_new_session=True, **options)


def patients(rows: int = 60) -> pl.DataFrame:
    """Numbers, categories, and holes in both."""
    generator = Key(31, 0, 0, 0).generator()
    age, dose = generator.normal(50.0, 12.0, rows), generator.normal(3.0, 1.0, rows)
    ward = [("north", "south", None)[i] for i in generator.integers(3, size=rows)]
    score = (age - 50) / 12 + dose - 3 + generator.normal(0.0, 0.5, rows)
    return pl.DataFrame(
        {
            "id": [f"P-{i:05d}" for i in range(rows)],
            "age": [None if i % 9 == 0 else round(a, 1) for i, a in enumerate(age.tolist())],
            "dose, mg": dose.round(2),
            "ward": ward,
            "smokes": generator.random(rows) < 0.3,
            "outcome": ["relapse" if s > 0 else "well" for s in score],
            "days": (20 + 5 * score).round(1),
        }
    )


def results_of(folder: str | Path) -> dict[str, Any]:
    return records.to_json(consistency.read(Path(folder) / "results.json"))


def same_runs(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    """The same runs but for the time they took."""
    for a, b in zip(one, other, strict=True):
        assert a | {"seconds": 0} == b | {"seconds": 0}


# -- data ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_csv_from_the_shell() -> None:
    patients().write_csv("patients.csv")
    process = program("compare", "patients.csv", "--target", "outcome", "--drop", "id", "--drop", "days", *TINY)
    out, err = process.communicate()
    assert process.returncode == 0
    assert next(line for line in err.splitlines() if not line.startswith("vicinal: ")) == "compare patients:   0 %"
    assert all(line.startswith(("compare patients: ", "vicinal: ")) for line in err.splitlines())
    assert "\x1b" not in out + err
    lines = out.splitlines()
    assert lines[0].startswith(
        "patients: 60 rows, 6 inputs, 2 classes; 2 seeds, 1 epoch. ERM is training without mixing"
    )
    assert [line.split("  ")[0] for line in lines[1:9]] == [
        *("method", "ERM", "mixup, alpha chosen on validation", "mixup or ERM, chosen on validation", "mixup 0.2"),
        *BASELINES,
    ]
    (folder,) = Path("vicinal-runs").iterdir()
    assert re.fullmatch(r"patients-[0-9a-f]{6}", folder.name)
    assert sorted(os.listdir(folder)) == FILES
    results = results_of(folder)
    assert lines[10:12] == [results["verdict"]["sentence"], results["verdict"]["advice"]]
    assert lines[13:] == [
        f"report  {folder}/report.html",
        f"figures {folder}/results.json",
        f"model   {folder}/model.safetensors ({results['model']['method']}, best on validation rows)",
    ]
    assert results["command"] == (
        "vicinal compare patients.csv --target outcome --drop id --drop days --seeds 2 --epochs 1 --alpha 0.2"
    )
    assert results["data"]["table"]["missing_cells"] == 7 + patients()["ward"].null_count()
    assert results["data"]["classes"] == ["relapse", "well"]
    assert results["verdict"]["sentence"] in (folder / "report.html").read_text().replace("&#43;", "+")

    # the model reads the same file, and the printed lines run on it
    predicted = Predictor.load(folder / "model.safetensors").predict(pl.read_csv("patients.csv"))
    assert set(predicted.tolist()) <= {"relapse", "well"}
    shutil.copy("patients.csv", "new_rows.csv")
    exec(results["model"]["usage"], {})


@pytest.mark.slow
def test_on_a_narrow_terminal_there_is_a_live_table() -> None:
    patients().write_csv("patients.csv")
    master, slave = pty.openpty()
    process = program(
        *("compare", "patients.csv", "--target", "days", "--drop", "id", "--drop", "outcome", *TINY, "--jobs", "1"),
        stdout=slave,
        stderr=slave,
        env={**os.environ, "COLUMNS": "60", "TERM": "xterm"},
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(master)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "")
    assert "seeds done" in text
    assert "by label distance 0.2" in text
    assert "regression of days" in text.replace("\n", " ")
    table = text[text.index("patients: 60 rows") :].split("\n\n")[0]
    assert max(map(len, table.splitlines())) <= 60
    assert "…" not in table


def test_a_set_by_name(vicinal: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = vicinal("compare", "iris", *TINY, "--out", "run")
    assert code == 0
    assert out.startswith("iris: 150 rows, 4 inputs, 3 classes; ")
    results = results_of("run")
    assert results["data"]["source"] == "scikit-learn: load_iris"
    assert results["verdict"]["sentence"] in out


def test_a_regression_with_noise_perturbation_and_methods_by_name(vicinal: Callable[..., tuple[int, str, str]]) -> None:
    patients().write_csv("patients.csv")
    code, out, _ = vicinal(
        *("compare", "patients.csv", "--target", "days", "--drop", "id", "--drop", "outcome", *TINY, "--out", "run"),
        *(
            "--label-noise",
            "0.2",
            "--input-noise",
            "0.5",
            "--with",
            "InputMixup(alpha=0.4)",
            "--with",
            "GaussianNoise(0.1)",
        ),
    )
    assert code == 0
    results = results_of("run")
    assert [m["name"] for m in results["methods"]] == [
        *("ERM", "mixup 0.2", "by label distance 0.2", "InputMixup(alpha=0.4)", "GaussianNoise(0.1)", *BASELINES)
    ]
    assert [c["method"] for c in results["comparisons"] if c["primary"]] == [
        "mixup, alpha chosen on validation",
        "mixup by label distance, alpha chosen on validation",
        "InputMixup(alpha=0.4)",
        "GaussianNoise(0.1)",
    ]
    assert results["protocol"]["label_noise"] == 0.2
    for name, of in results["summary"].items():
        assert of["perturbed"]["rmse"]["mean"] > 0
        assert name in out
    assert "perturbed RMSE" in out
    assert "after correction for 4 tests" in results["verdict"]["sentence"]
    assert report.render(records.from_json(Results, results)) == Path("run/report.html").read_text()


def test_no_alphas_and_a_budget_of_its_own(vicinal: Callable[..., tuple[int, str, str]]) -> None:
    patients().write_csv("patients.tsv", separator="\t")
    code, out, _ = vicinal(
        *("compare", "patients.tsv", "--target", "ward", "--drop", "id", "--task", "classification"),
        *("--alpha", "", "--with", "Mixup(0.4, SameClass())", "--seeds", "2", "--epochs", "3"),
        *("--learning-rate", "0.01", "--weight-decay", "0.1", "--patience", "1", "--jobs", "1", "--out", "run"),
    )
    assert code == 2  # the target has holes
    assert out == ""
    patients().drop_nulls("ward").write_csv("patients.tsv", separator="\t")
    code, out, _ = vicinal(
        *("compare", "patients.tsv", "--target", "ward", "--drop", "id", "--task", "classification"),
        *("--alpha", "", "--with", "Mixup(0.4, SameClass())", "--seeds", "2", "--epochs", "3"),
        *("--learning-rate", "0.01", "--weight-decay", "0.1", "--patience", "1", "--jobs", "1", "--out", "run"),
    )
    assert code == 0
    results = results_of("run")
    assert results["choice"] is None
    assert list(results["summary"]) == ["ERM", "Mixup(0.4, SameClass())", *BASELINES]
    protocol = results["protocol"]
    assert [protocol[name] for name in ("learning_rate", "weight_decay", "patience")] == [0.01, 0.1, 1]
    assert protocol["model"]["optimizer"] == "AdamW"


def test_options_of_the_protocol_reach_the_settings(vicinal: Callable[..., tuple[int, str, str]]) -> None:
    patients().drop("id", "days").write_csv("patients.csv")

    def protocol(out: str, *options: str) -> dict[str, Any]:
        argv = ("compare", "patients.csv", "--target", "outcome", "--seeds", "2", "--epochs", "3", "--jobs", "1")
        assert vicinal(*argv, *options, "--out", out)[0] == 0
        results = results_of(out)
        config = json.loads((Path(out) / "config.json").read_text())
        assert config["settings"]["metric"] == (None if results["protocol"]["measure"] == "error" else "nll")
        return results["protocol"] | {"runs": results["runs"], "methods": results["methods"]}

    plain = protocol("plain")
    assert (plain["measure"], plain["to_the_end"], plain["patience"]) == ("error", False, None)
    assert plain["decays"] == [0.0, 0.01, 0.1, 1.0]  # as many as alphas
    told = protocol("told", "--metric", "nll", "--erm-decays", "0.5,0", "--alpha", "0.3", "--to-the-end")
    assert (told["measure"], told["to_the_end"], told["decays"]) == ("nll", True, [0.5, 0.0])
    assert [(m["name"], m["weight_decay"]) for m in told["methods"]][:3] == [
        *(("ERM, decay 0.5", 0.5), ("ERM, decay 0", 0.0), ("mixup 0.3", 0.0))
    ]
    networks = [run for run in told["runs"] if run["method"] not in BASELINES]
    assert len(networks) == 6
    assert all(run["epochs"] == 3 for run in networks)
    waiting = protocol("waiting", "--patience", "1", "--alpha", "0.3", "--weight-decay", "2", "--learning-rate", "0.05")
    assert (waiting["patience"], waiting["decays"], waiting["to_the_end"]) == (1, [2.0], False)
    assert [m["weight_decay"] for m in waiting["methods"]][:2] == [2.0, 2.0]


def test_more_seeds_go_on_in_the_folder_and_fewer_are_told_right(
    vicinal: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_photos(Path())
    argv = (*LONG[:4], "--epochs", "1", "--alpha", "0.4", "--jobs", "1", "--out", "run")
    assert vicinal(*argv, "--seeds", "2")[0] == 0
    two = results_of("run")
    code, out, err = vicinal(*argv, "--seeds", "3")
    assert code == 0
    assert "vicinal: 3 runs of 1 epoch take about" in err
    assert "3 seeds" in out.splitlines()[0]
    three = results_of("run")
    assert [run["seed"] for run in three["runs"]] == [0] * 3 + [1] * 3 + [2] * 3
    same_runs(three["runs"][:6], two["runs"])
    monkeypatch.setattr(executor, "run", lambda *_, **__: iter_nothing())  # nothing can be trained
    code, out, err = vicinal(*argv, "--seeds", "2")
    assert code == 0
    assert err.splitlines()[0] == (
        "vicinal: run holds runs of 3 seeds, which are kept; results, report and model are now of the first 2"
    )
    assert "take about" not in err
    for name in ("runs", "summary", "comparisons", "verdict"):
        assert results_of("run")[name] == two[name]


def iter_nothing() -> Iterator[None]:
    yield from ()


def test_parquet_and_arff(vicinal: Callable[..., tuple[int, str, str]]) -> None:
    frame = patients().drop("id", "days")
    frame.write_parquet("patients.parquet")
    code, _, _ = vicinal("compare", "patients.parquet", "--target", "outcome", *TINY, "--out", "parquet")
    assert code == 0
    rows = "\n".join(
        ",".join("?" if v is None else f"'{v}'" if isinstance(v, str) else str(v).lower() for v in row)
        for row in frame.iter_rows()
    )
    Path("patients.arff").write_text(
        "@relation p\n@attribute age numeric\n@attribute 'dose, mg' numeric\n@attribute ward {north,south}\n"
        f"@attribute smokes {{true,false}}\n@attribute outcome {{relapse,well}}\n@data\n{rows}\n"
    )
    code, _, _ = vicinal("compare", "patients.arff", "--target", "outcome", *TINY, "--out", "arff")
    assert code == 0
    parquet, arff = results_of("parquet")["data"], results_of("arff")["data"]
    for key in ("examples", "classes", "class_counts", "target"):
        assert parquet[key] == arff[key]
    assert parquet["table"]["missing_cells"] == arff["table"]["missing_cells"]
    assert [of["table"]["categorical_columns"] for of in (parquet, arff)] == [1, 2]  # ARFF's booleans are nominal


@pytest.mark.parametrize("name", ["abalone", "Arcene"])
def test_uci_sets_by_name(
    vicinal: Callable[..., tuple[int, str, str]],
    real_data: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """Abalone has classes of one example, Arcene 10,000 inputs."""
    monkeypatch.setenv("VICINAL_DATA", str(real_data("uci")))
    code, out, _ = vicinal("compare", name, *TINY, "--out", "run")
    assert code == 0
    assert out.startswith(
        {"abalone": "abalone: 4177 rows, 10 inputs, 28 classes", "Arcene": "arcene: 200 rows, 10000"}[name]
    )


def test_a_column_named_as_markup_and_a_file_with_spaces(vicinal: Callable[..., tuple[int, str, str]]) -> None:
    frame = patients().select("age", pl.col("dose, mg").alias("[/red]<b>"), pl.col("outcome").alias("[bold]"))
    frame.write_csv("my [red] data.csv")
    code, out, _ = vicinal("compare", "my [red] data.csv", "--target", "[bold]", *TINY)
    assert code == 0
    assert out.startswith("my [red] data: 60 rows")
    (folder,) = Path("vicinal-runs").iterdir()
    assert folder.name.startswith("my [red] data-")
    assert results_of(folder)["command"].startswith("vicinal compare 'my [red] data.csv' --target '[bold]'")


# -- what is refused -------------------------------------------------------------------------------------------------------


def write(name: str, text: str) -> Callable[[], None]:
    return lambda: Path(name).write_text(text) and None


def table(**columns: list[Any]) -> Callable[[], None]:
    return lambda: pl.DataFrame(columns).write_csv("t.csv")


NUMBERS = [float(i) for i in range(20)]
CLASSES = ["a", "b"] * 10

REFUSED_DATA: dict[str, tuple[Callable[[], Any], tuple[str, ...], str]] = {
    "no such file": (lambda: None, ("no.csv", "--target", "y"), "there is no file 'no.csv'"),
    "no such set": (lambda: None, ("irsi",), "did you mean 'iris'?"),
    "no target": (table(x=NUMBERS, y=CLASSES), ("t.csv",), "say which column of 't.csv' to predict, with --target"),
    "no such column": (
        table(x=NUMBERS, outcome=CLASSES),
        ("t.csv", "--target", "outcom"),
        "there is no column 'outcom' for --target; did you mean 'outcome'?",
    ),
    "no such column to drop": (
        table(x=NUMBERS, y=CLASSES),
        ("t.csv", "--target", "y", "--drop", "z"),
        "there is no column 'z' for --drop",
    ),
    "one class": (table(x=NUMBERS, y=["a"] * 20), ("t.csv", "--target", "y"), "has the one class 'a'"),
    "a class of one": (
        table(x=NUMBERS, y=["c", *CLASSES[1:]]),
        ("t.csv", "--target", "y"),
        "has a single example of class 'c'",
    ),
    "an empty column": (table(x=NUMBERS, z=[None] * 20, y=CLASSES), ("t.csv", "--target", "y"), "'z'"),
    "infinity": (
        table(x=[*NUMBERS[:19], float("inf")], y=CLASSES),
        ("t.csv", "--target", "y"),
        "column 'x' has 1 infinite value",
    ),
    "no rows": (write("t.csv", "x,y\n"), ("t.csv", "--target", "y"), "has column names but no rows"),
    "nothing": (write("t.csv", ""), ("t.csv", "--target", "y"), "'t.csv' is empty"),
    "10,000 classes": (
        lambda: pl.DataFrame({"x": range(20000), "y": [f"c{i % 10000}" for i in range(20000)]}).write_csv("t.csv"),
        ("t.csv", "--target", "y"),
        "the target 'y' has 10000 different values in 20000 rows and looks like an identifier",
    ),
    "other bytes than UTF-8": (
        lambda: Path("t.csv").write_bytes(b"x,y\n" + "1,ä\n2,ö\n".encode("latin-1") * 10),
        ("t.csv", "--target", "y"),
        "'t.csv' is not UTF-8 text",
    ),
    "a folder": (
        lambda: Path("d.csv").mkdir(),
        ("d.csv", "--target", "y"),
        "--target is for tables; the classes of a folder are its sub-folders",
    ),
    "a parquet that is not one": (
        write("t.parquet", "x,y\n1,a\n"),
        ("t.parquet", "--target", "y"),
        "'t.parquet' is not a readable Parquet file",
    ),
    "an arff that is not one": (write("t.arff", "x,y\n1,a\n"), ("t.arff", "--target", "y"), "is not an ARFF file"),
    "half a gzip": (
        lambda: Path("t.csv.gz").write_bytes(gzip.compress(b"x,y\n1,a\n" * 99)[:30]),
        ("t.csv.gz", "--target", "y"),
        "is not a whole gzip file",
    ),
    "another format": (write("t.doc", "PK"), ("t.doc", "--target", "y"), "is in a format that is not read here"),
    "a target with a named set": (lambda: None, ("iris", "--target", "species"), "has its own target"),
    "a set that is not there": (lambda: None, ("abalone",), "set the environment variable VICINAL_DATA"),
}


@pytest.mark.parametrize("case", REFUSED_DATA)
def test_data_without_sense(vicinal: Callable[..., tuple[int, str, str]], case: str) -> None:
    make, argv, says = REFUSED_DATA[case]
    make()
    refused(vicinal, ("compare", *argv, *TINY), says)


REFUSED_OPTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "alpha 0": (("--alpha", "0"), "alpha must be a finite number > 0, got 0.0"),
    "alpha < 0": (("--alpha=-1"), "alpha must be a finite number > 0, got -1.0"),
    "alpha nan": (("--alpha", "0.1,nan"), "alpha must be a finite number > 0, got nan"),
    "alpha inf": (("--alpha", "inf"), "got inf"),
    "alpha not a number": (("--alpha", "many"), "--alpha takes numbers, as 0.1,0.4, got 'many'"),
    "alpha with a hole": (("--alpha", "0.1,,0.2"), "--alpha takes numbers, as 0.1,0.4, got '0.1,,0.2'"),
    "alpha twice": (("--alpha", "0.1,0.10"), "an alpha is given twice"),
    "nothing to compare": (("--alpha", ""), "there is nothing to compare with ERM"),
    "unknown": (("--with", "Mixpu(0.4)"), "there is no vicinity 'Mixpu'; did you mean Mixup?"),
    "evil": (("--with", "__import__('os').system('touch ran')"), "is neither a value nor a vicinity"),
    "deep": (("--with", "(" * 5000), "a vicinity of 5,000 characters is not read"),
    "ten million": (("--with", "M" * 10**7), "a vicinity of 10,000,000 characters is not read"),
    "NUL": (("--with", "Mixup(\0)"), "is not a vicinity; write it as Mixup(alpha=0.4)"),
    "CutMix": (("--with", "CutMix(1.0)"), "CutMix(1.0) cannot be used on this table"),
    "label distance on classes": (("--with", "Mixup(1, LabelDistance(1))"), "cannot be used on this table"),
    "ERM": (("--with", "ERM()"), "ERM() is compared already, as ERM, which always is; give each method once"),
    "mixup by alpha": (
        ("--with", "Mixup(0.4)"),
        "Mixup(0.4) is compared already, as 'mixup 0.4', by --alpha 0.4; give",
    ),
    "out of nothing": (("--out", ""), "--out is empty: give a folder, or leave it out"),
    "out of spaces": (("--out", "  "), "--out is empty: give a folder, or leave it out"),
    "seeds": (("--seeds", "1"), "needs 2 seeds or more"),
    "epochs": (("--epochs", "0"), "epochs must be 1 or more, got 0"),
    "epochs not a number": (("--epochs", "many"), "--epochs takes a whole number, got 'many'"),
    "label noise": (
        ("--label-noise", "2"),
        "label noise is the share of labels replaced and must lie in [0, 1], got 2.0",
    ),
    "perturb": (("--input-noise", "nan"), "input noise is a standard deviation and must be finite and >= 0, got nan"),
    "jobs": (("--jobs", "0"), "--jobs must be 1 or more, got 0"),
    "cluster": (("--cluster", "sun"), "a cluster is local or slurm, got 'sun'"),
    "cluster's parameters": (("--cluster", "local:wings=2"), "the cluster 'local:wings=2' is refused"),
    "jobs and cluster": (("--jobs", "1", "--cluster", "local"), "runs jobs elsewhere; give one of them"),
    "learning rate": (("--learning-rate", "0"), "the learning rate must be a finite number > 0"),
    "patience": (("--patience", "0"), "patience counts epochs and must be 1 or more, got 0"),
    "patience to the end": (
        ("--patience", "3", "--to-the-end"),
        "--patience stops a run early and --to-the-end does not; give one of them",
    ),
    "decay < 0": (("--weight-decay=-1",), "the weight decay must be a finite number >= 0, got -1.0"),
    "ERM's decay nan": (("--erm-decays", "0,nan"), "a weight decay must be a finite number >= 0, got nan"),
    "ERM's decay twice": (("--erm-decays", "0.1,0.10"), "--erm-decays takes one weight decay or more, each once"),
    "no decay of ERM": (("--erm-decays", ""), "--erm-decays takes one weight decay or more, each once"),
    "measure": (("--metric", "errors"), "--metric errors is not one of classification: error, nll, ece, brier, "),
    "measure of numbers": (("--metric", "rmse"), "--metric rmse is not one of classification"),
    "out is a file": (("--out", "t.csv"), "the folder t.csv cannot be used (file exists); choose another --out"),
    "out is in a file": (("--out", "t.csv/a"), "the folder t.csv/a cannot be used (not a directory)"),
    "out is holy": (("--out", "/proc/vicinal"), "the folder /proc/vicinal cannot be used ("),
    "out is somebody's": (("--out", "."), ". is there already and is not a comparison; choose another --out"),
}


@pytest.mark.parametrize("case", REFUSED_OPTIONS)
def test_options_without_sense(vicinal: Callable[..., tuple[int, str, str]], case: str) -> None:
    options, says = REFUSED_OPTIONS[case]
    table(x=NUMBERS, y=CLASSES)()
    options = (options,) if isinstance(options, str) else options
    refused(vicinal, ("compare", "t.csv", "--target", "y", "--seeds", "2", "--epochs", "1", *options), says)


@pytest.mark.parametrize(
    ("metric", "target", "says"),
    [
        (
            "auroc",
            ["a"] * 18 + ["b"] * 2,
            "the area under the ROC curve needs positives and negatives in every test set",
        ),
        ("f1", ["a"] * 18 + ["b"] * 2, "F1 needs a positive, true or predicted, in every test set"),
        ("r2", [0.25] * 18 + [1.5, 2.5], "it needs a target that varies in every test set"),
    ],
)
def test_a_measure_that_some_test_rows_do_not_have(
    vicinal: Callable[..., tuple[int, str, str]], metric: str, target: list[Any], says: str
) -> None:
    """It would fail after the training."""
    table(x=NUMBERS, y=target)()
    argv = ("compare", "t.csv", "--target", "y", "--seeds", "5", "--epochs", "1", "--alpha", "0.2")
    refused(vicinal, (*argv, "--metric", metric), f"--metric {metric} cannot be taken: {says}, and seed ")
    assert vicinal(*argv)[0] == 0


@pytest.mark.parametrize("named", ["Mixup(1.0, SameClass())", "LabelSmoothing(0.1)", "Scheduled(CutMix(), start=3)"])
def test_vicinities_that_a_regression_cannot_use(vicinal: Callable[..., tuple[int, str, str]], named: str) -> None:
    table(x=NUMBERS, y=[n + 0.5 for n in NUMBERS])()
    says = f"{named} cannot be used on this table: "
    refused(vicinal, ("compare", "t.csv", "--target", "y", *TINY, "--with", named), says)


def refused(vicinal: Callable[..., tuple[int, str, str]], argv: tuple[str, ...], says: str) -> None:
    """One sentence, exit code 2, and nothing written."""
    before = sorted(Path().rglob("*"))
    code, out, err = vicinal(*argv)
    assert code == 2
    assert out == ""
    assert err.startswith("vicinal: ")
    assert says in err
    assert err.count("\n") == 1
    assert len(err) < 700
    assert sorted(Path().rglob("*")) == before


def test_what_argparse_refuses_has_its_exit_code_too(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (
        ["compare"],
        ["compare", "iris", "--task", "x"],
        ["compare", "iris", "--tusk", "x"],
        ["contrast"],
        ["--tusk"],
    ):
        with pytest.raises(SystemExit, match="2"):
            cli.main(argv)
        said = capsys.readouterr().err
        assert "error: " in said
        assert said.startswith(f"usage: vicinal {'[-h]' if argv[0] != 'compare' else 'compare'} ")


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["compare", "--help"])
    out = capsys.readouterr().out
    assert "(default: 0.1,0.2,0.4,1)" in out
    assert "Ctrl-C keeps what is done" in " ".join(out.split())
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert re.fullmatch(r"vicinal \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)
    assert cli.main([]) == 2
    assert "compare" in capsys.readouterr().out


def test_memory_refused_is_a_sentence(
    vicinal: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("vicinal.lab.data.tables.load", fail)
    code, out, err = vicinal("compare", "iris")
    assert (code, out) == (1, "")
    figure = r"\d+(\.\d)? [MG]iB"
    assert re.fullmatch(
        rf"vicinal: there is not enough memory \({figure} are free [^;]*, this process uses {figure}\); give less at once: "
        "fewer rows or columns, a smaller --size or batch_size, fewer --jobs\n",
        err,
    )


def test_ctrl_c_before_there_is_anything_to_keep(
    vicinal: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vicinal.lab.data.tables.load", interrupt)
    assert vicinal("compare", "iris") == (130, "", "vicinal: stopped\n")


# -- a full disk -----------------------------------------------------------------------------------------------------------


def kept_whole(folder: str) -> int:
    """How many runs are kept; and nothing is half written."""
    left = os.listdir(folder)
    assert set(left) <= set(FILES)
    if "runs.jsonl" not in left:
        return 0
    text = (Path(folder) / "runs.jsonl").read_text()
    assert text == "" or text.endswith("\n")
    return sum(len(json.loads(line)["runs"]) for line in text.splitlines())


def test_a_disk_that_fills_up_and_is_given_room(vicinal: Callable[..., tuple[int, str, str]]) -> None:
    """Given a little more room each time, it stops in each place where it writes, and at last gets through."""
    table(x=NUMBERS, y=CLASSES)()
    Path("disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "vicinal", "disk"]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here, so there is no disk to fill")
    argv = ("compare", "t.csv", "--target", "y", "--seeds", "4", "--epochs", "1", "--alpha", "0.2", "--out", "disk/run")
    stopped_with = []
    try:
        for pages in (1, 3, 20, 250):
            subprocess.run(["mount", "-o", f"remount,size={4 * pages}k", "disk"], check=True)
            code, out, err = vicinal(*argv)
            stopped_with.append((kept_whole("disk/run"), *sorted(os.listdir("disk/run"))))
            if code == 0:
                break
            assert (code, out) == (2, "")
            assert err.splitlines()[-1] == (
                f"vicinal: disk/run cannot be written (the disk is full); {stopped_with[-1][0]} of 20 runs are kept in "
                "disk/run; rerun the same command to resume"
            )
            assert all(line.startswith(("compare t: ", "vicinal: ")) for line in err.splitlines()[:-1])
        assert stopped_with == [
            (0, "config.json", "predictions"),
            (0, "config.json", "predictions", "runs.jsonl"),
            (20, "config.json", "predictions", "runs.jsonl"),
            (20, *FILES),
        ]
        assert len(results_of("disk/run")["runs"]) == 20
    finally:
        subprocess.run(["umount", "disk"], check=True)


def test_a_file_that_may_not_grow(vicinal: Callable[..., tuple[int, str, str]]) -> None:
    table(x=NUMBERS, y=CLASSES)()
    argv = ("compare", "t.csv", "--target", "y", *TINY, "--out", "run")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        code, out, err = vicinal(*argv)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == (
        "vicinal: run cannot be written (file too large); 0 of 10 runs are kept in run; rerun the same command to resume"
    )
    assert kept_whole("run") == 0
    assert vicinal(*argv)[0] == 0


def test_an_error_of_the_disk_while_the_report_is_written(
    vicinal: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    table(x=NUMBERS, y=CLASSES)()
    argv = ("compare", "t.csv", "--target", "y", *TINY, "--out", "run")
    whole = atomic.write

    def fail(path: Path, content: bytes | str) -> None:
        if path.name == "report.html":
            raise OSError(errno.EIO, "Input/output error")
        whole(path, content)

    monkeypatch.setattr(atomic, "write", fail)
    code, _, err = vicinal(*argv)
    assert code == 2
    assert "run cannot be written (input/output error); 10 of 10 runs are kept" in err


# -- stopping ------------------------------------------------------------------------------------------------------------

# a small table would be trained in the command itself; images are trained by workers
LONG = ("compare", "photos", "--size", "16", "--seeds", "3", "--epochs", "1", "--alpha", "0.4", "--jobs", "2")
RUNS = 9  # the constant answer among them


def make_photos(folder: Path) -> None:
    """Two classes of 30 images."""
    generator = Key(5, 0, 0, 0).generator()
    for c, name in enumerate(("blue", "red")):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(30):
            pixels = generator.integers(0, 160, (16, 16, 3), dtype=np.uint8)
            pixels[:, :, 2 - 2 * c] += 80
            Image.fromarray(pixels).save(folder / "photos" / name / f"{i}.png")


def group(leader: int) -> dict[int, int]:
    """The living processes of a process group, but for its leader, each with its parent."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent, belongs, *_ = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(belongs) == leader and state != "Z":
                found[int(entry.name)] = int(parent)
    found.pop(leader, None)
    return found


def wait_for(condition: Callable[[], Any], seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("whole")
    make_photos(folder)
    assert cli.main(["compare", str(folder / "photos"), *LONG[2:], "--out", str(folder / "run")]) == 0
    return results_of(folder / "run")


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`started()` begins the long comparison in the folder "run"; whatever is left of it is killed in the end."""
    processes: list[subprocess.Popen[str]] = []
    make_photos(Path())

    def start(*argv: str) -> subprocess.Popen[str]:
        processes.append(program(*(argv or (*LONG, "--out", "run"))))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.torture
def test_a_cluster_finds_what_one_process_finds_and_ctrl_c_cancels_its_jobs(
    vicinal: Callable[..., tuple[int, str, str]],
    started: Callable[..., subprocess.Popen[str]],
    uninterrupted: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = (*LONG[:-2], "--cluster", "local", "--out", "run")
    process = started(*cluster)
    wait_for(lambda: runs_kept() > 0)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=600)
    kept = runs_kept()
    assert (process.returncode, out) == (130, "")
    said = err.splitlines()
    assert said[0] == (
        "vicinal: what is missing runs as jobs of submitit (local); logs in run/jobs; Ctrl-C cancels them"
    )
    assert said[-1] == (
        f"vicinal: stopped, jobs canceled; {kept} of {RUNS} runs are kept in run; rerun the same command to resume"
    )
    assert all(line.startswith("compare photos: ") for line in said[1:-1])
    wait_for(lambda: not group(process.pid), 10)

    assert vicinal(*LONG, "--out", "run")[0] == 0
    same_runs(results_of("run")["runs"], uninterrupted["runs"])
    assert results_of("run")["verdict"] == uninterrupted["verdict"]
    assert len(list(Path("run/jobs").glob("*_log.err"))) >= kept

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "submitit", None)
        assert vicinal(*cluster[:-1], "other") == (
            *(2, ""),
            "vicinal: submitit, which a cluster needs, is not installed; pip install submitit\n",
        )
    assert not Path("other").exists()


@pytest.mark.torture
def test_a_table_on_a_cluster(vicinal: Callable[..., tuple[int, str, str]]) -> None:
    assert vicinal("compare", "iris", *TINY, "--jobs", "1", "--out", "one")[0] == 0
    assert vicinal("compare", "iris", *TINY, "--cluster", "local", "--out", "cluster")[0] == 0
    one, cluster = results_of("one"), results_of("cluster")
    same_runs(cluster["runs"], one["runs"])
    for part in ("comparisons", "choice", "verdict", "protocol", "data"):
        assert cluster[part] == one[part]


def runs_kept() -> int:
    return sum(len(line["runs"]) for line in atomic.json_lines(Path("run/runs.jsonl")))


@pytest.mark.torture
def test_ctrl_c_and_a_dead_worker(
    vicinal: Callable[..., tuple[int, str, str]],
    started: Callable[[], subprocess.Popen[str]],
    uninterrupted: dict[str, Any],
) -> None:
    process = started()
    wait_for(lambda: runs_kept() > 0)
    assert len(group(process.pid)) >= 2  # the server and its worker at least
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=600)
    kept = runs_kept()
    assert (process.returncode, out) == (130, "")
    assert 0 < kept < RUNS
    said = err.splitlines()
    assert said[-1] == f"vicinal: stopped; {kept} of {RUNS} runs are kept in run; rerun the same command to resume"
    assert all(line.startswith(("compare photos: ", f"vicinal: {RUNS} runs")) for line in said[:-1])
    wait_for(lambda: not group(process.pid), 10)
    assert sorted(os.listdir("run")) == ["config.json", "predictions", "runs.jsonl"]

    process = started()

    def workers_now() -> list[int]:
        """The children of its child, the server."""
        family = group(process.pid)
        return [child for child, parent in family.items() if parent in family]

    wait_for(workers_now)
    os.kill(workers_now()[0], signal.SIGKILL)
    out, err = process.communicate(timeout=600)
    kept = runs_kept()
    assert (process.returncode, out) == (1, "")
    said = re.sub(r"memory \([^;]*\d [MG]iB\);", "memory (FIGURES);", err).splitlines()
    assert said[-1] == (
        f"vicinal: a worker process died, probably for want of memory (FIGURES); {kept} of {RUNS} runs are kept in run; "
        "rerun the same command to resume, with fewer --jobs to need less memory"
    )

    assert vicinal(*LONG, "--out", "run")[0] == 0
    same_runs(results_of("run")["runs"], uninterrupted["runs"])
    assert results_of("run")["verdict"] == uninterrupted["verdict"]


@pytest.mark.parametrize("name", ["results.json", "model.safetensors", "report.html", "predictions", "runs.jsonl"])
def test_a_folder_in_the_place_of_a_file_is_a_sentence(vicinal: Callable[..., tuple[int, str, str]], name: str) -> None:
    table(x=NUMBERS, y=CLASSES)()
    argv = ("compare", "t.csv", "--target", "y", *TINY, "--out", "run")
    assert vicinal(*argv)[0] == 0
    path = Path("run", name)
    if name == "predictions":
        shutil.rmtree(path)
        path.write_text("mine")
    else:
        path.unlink()
        path.mkdir()
    code, out, err = vicinal(*argv)
    assert (code, out) == (2, "")
    assert re.match(r"vicinal: (the folder run|.*run.*) cannot be (used|written) \(", err.splitlines()[-1])
    assert not Path("run/.lock").exists()


@pytest.mark.torture
def test_ctrl_c_again_and_again_and_a_second_command(
    vicinal: Callable[..., tuple[int, str, str]], started: Callable[..., subprocess.Popen[str]]
) -> None:
    many = ("--seeds", "60", "--out", "run")  # so that none of the interrupts finds the work done
    for signals, argv in ((2, LONG), (40, (*LONG[:-1], "1"))):
        before = runs_kept()
        process = started(*argv, *many)
        wait_for(lambda before=before: runs_kept() > before)
        assert vicinal(*LONG, *many) == (
            *(2, ""),
            "vicinal: another process works in run; wait for it, or choose another --out\n",
        )
        for _ in range(signals):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.02)
        out, err = process.communicate(timeout=600)
        assert (process.returncode, out) == (130, "")
        said = err.splitlines()
        assert said[-1] == (
            f"vicinal: stopped; {runs_kept()} of 180 runs are kept in run; rerun the same command to resume"
        )
        assert all(line.startswith(("compare photos: ", "vicinal: ")) for line in said)
        wait_for(lambda pid=process.pid: not group(pid), 10)
        assert sorted(os.listdir("run")) == ["config.json", "predictions", "runs.jsonl"]


def test_one_interrupt_is_heard_and_others_soon_after_it_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(interrupts.time, "monotonic", lambda: now[0])
    tidied = []

    def command() -> None:
        with interrupts.Interrupts():
            heard = signal.getsignal(signal.SIGINT)
            assert callable(heard)
            assert interrupts.heard() is None
            try:
                heard(signal.SIGINT, None)
            finally:
                assert interrupts.heard() == signal.SIGINT
                heard(signal.SIGINT, None)
                now[0] += 9.0
                heard(signal.SIGINT, None)
                tidied.append(True)
                now[0] += 9.0  # it went unheard
                with pytest.raises(KeyboardInterrupt):
                    heard(signal.SIGINT, None)

    with pytest.raises(KeyboardInterrupt):
        command()
    assert tidied == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_another_program_is_left_alone() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.Interrupts():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # the command is not this process
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_schedule_that_is_never_reached_is_told(vicinal: Callable[..., tuple[int, str, str]]) -> None:
    table(x=NUMBERS, y=CLASSES)()
    named = "Scheduled(Mixup(0.4), start=5)", "Scheduled(Mixup(0.2), stop=1)"
    argv = ("compare", "t.csv", "--target", "y", *TINY, "--with", named[0], "--with", named[1], "--epochs", "5")
    code, _, err = vicinal(*argv)
    assert code == 0
    assert [line for line in err.splitlines() if "Scheduled" in line] == [
        "vicinal: Scheduled(Mixup(0.4), start=5) begins something in epoch 5, and training has 5 epochs, counted from 0: "
        "it is never done"
    ]


@pytest.mark.torture
def test_killed_at_three_moments(
    vicinal: Callable[..., tuple[int, str, str]],
    started: Callable[[], subprocess.Popen[str]],
    uninterrupted: dict[str, Any],
) -> None:
    """The command alone is killed: its workers have to notice, and the same command resumes."""

    def killed_when(reached: Callable[[int], Any]) -> None:
        process = started()
        wait_for(lambda: reached(process.pid))
        process.kill()
        process.communicate()
        wait_for(lambda: not group(process.pid), 20)

    killed_when(group)  # while its server starts
    killed_when(lambda _: runs_kept() > 0)
    runs = Path("run/runs.jsonl")
    runs.write_bytes(runs.read_bytes()[:-100])  # and the machine went down with it, while the last line was written
    killed_when(lambda _: Path("run/model.safetensors").exists())
    assert vicinal(*LONG, "--out", "run")[0] == 0
    same_runs(results_of("run")["runs"], uninterrupted["runs"])
    assert {name for name in os.listdir("run") if not atomic.is_partial(Path(name))} == set(FILES)


def test_the_same_command_again_trains_nothing_and_another_is_refused(
    vicinal: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    table(x=NUMBERS, y=CLASSES)()
    argv = ("compare", "t.csv", "--target", "y", *TINY, "--out", "run")
    _, first, _ = vicinal(*argv)
    results = Path("run/results.json").read_bytes()
    monkeypatch.setattr(executor, "run", None)
    code, again, err = vicinal(*argv)
    assert (code, again) == (0, first)
    assert err.splitlines()[-1] == "compare t: 100 %"
    assert err.splitlines()[:2] == ["vicinal: x: number, 0 to 19", "vicinal: y (target): 2 categories: a, b"]
    refused(
        vicinal,
        (*argv, "--label-noise", "0.1"),
        "run holds another comparison (--label-noise 0 there, 0.1 here); choose",
    )
    assert Path("run/results.json").read_bytes() == results
