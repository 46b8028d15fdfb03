"""`vicinal reproduce`: what every study owes, what is kept on disk, and the studies' own arithmetic against plain loops."""

import io
import json
import math
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import vicinal as v
from vicinal.lab import cli, models
from vicinal.lab.data import loading, synthetic
from vicinal.lab.data.encoder import Encoding
from vicinal.lab.data.splits import split
from vicinal.lab.data.table import assemble
from vicinal.lab.errors import UserError
from vicinal.lab.models.mlp import MLP
from vicinal.lab.paper import cost, interpolation, plots, report, reproduce, toy, training, uci
from vicinal.lab.paper.ablation import AblationStudy
from vicinal.lab.paper.study import Job, Published, Requirements, Row, Study, agreement
from vicinal.lab.recipe import Recipe
from vicinal.lab.streams import Stream
from vicinal.lab.training import knn, loop, runs, stacked_mlp
from vicinal.lab.training.distributed import Processes as Alone

ALONE = Alone(0, 1, torch.device("cpu"))
SIZES = reproduce.SIZES


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[reproduce.Folder, list[Row]]]:
    """Every study at its smallest, run once, with its table."""
    torch.set_num_threads(1)  # as in the workers; this comes before the fixture of every test
    root = tmp_path_factory.mktemp("reproduce")
    found = {}
    for study in reproduce.STUDIES:
        folder = reproduce.Folder(root, study, "smoke")
        found[study.name] = folder, reproduce.conclude(folder, reproduce.run(folder, "the command", 1, quiet))
    return found


# -- what every study owes ---------------------------------------------------------------------------------------------


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
    for size in SIZES:
        needs = study.requirements(size)
        assert needs.minutes > 0
        assert needs.data
        assert needs.device
        jobs = [job.name for job in study.jobs(size)]
        assert len(set(jobs)) == len(jobs) > 0
        assert all(re.fullmatch(r"[A-Za-z0-9.-]+", job) for job in jobs)
        rows = study.rows(size, {})
        assert len({row.name for row in rows}) == len(rows) > 0
        assert all(row.values == () for row in rows)
        assert {row.against for row in rows} - {None} <= {row.name for row in rows}
    assert study.requirements("smoke").minutes < 0.5
    assert not study.draw("small", {}, Path("nowhere"))


@pytest.mark.parametrize(
    ("name", "rows", "recalled"),
    [
        ("imagenet", 15 + 12, 0),
        ("cifar", 12, 0),
        ("speech", 12, 0),
        ("corrupted-labels", 48, 6),
        ("ablation", 44, 40),
        ("between", 52, 0),
    ],
)
def test_every_published_number_has_its_row_at_every_size(name: str, rows: int, recalled: int) -> None:
    tables = [
        {row.name: row.published for row in reproduce.find(name).rows(size, {}) if row.published is not None}
        for size in SIZES
    ]
    assert len(tables[0]) == rows
    assert sum(not published.confirmed for published in tables[0].values()) == recalled
    assert tables[0] == tables[1] == tables[2]


def test_published_numbers_are_those_of_the_paper() -> None:
    def number(study: str, row: str) -> float | None:
        published = {r.name: r.published for r in reproduce.find(study).rows("paper", {})}[row]
        return None if published is None else published.value

    assert number("cifar", "CIFAR-10, PreAct ResNet-18, mixup, test error") == 4.2
    assert number("cifar", "CIFAR-100, DenseNet-BC-190, ERM, test error") == 19.0
    assert number("imagenet", "ResNet-101, 200 epochs, mixup alpha = 0.2, top-5 error") == 5.4
    assert number("imagenet", "ResNeXt-101 64x4d, 100 epochs, ERM, top-1 error") == 20.4
    assert number("speech", "LeNet, mixup alpha = 0.2, test error") == 11.3
    assert number("corrupted-labels", "80% random, mixup, last test error") == 30.9
    assert number("corrupted-labels", "20% random, ERM + dropout, on replaced labels") == 83.55
    assert number("ablation", "mixup (AC + RP), weight decay 5e-4, median test error") == 4.68
    assert number("between", "ERM, misses at lambda = 0.50") == 16.54
    table4 = {row.name: row.published for row in reproduce.find("uci").rows("paper", {})}
    for name, (erm, mixup) in uci.PUBLISHED.items():
        title = name.capitalize()
        assert table4[f"{title}, ERM"] == Published(erm)
        assert table4[f"{title}, mixup"] == Published(mixup)
    assert uci.PUBLISHED["arrhythmia"] == (56.6, 46.3)


def test_what_a_row_is_compared_with_is_the_row_without_mixing() -> None:
    for row in reproduce.find("imagenet").rows("paper", {}):
        if row.against is not None:
            assert row.name.split(",")[0] == row.against.split(",")[0]
            assert row.against.split(", ")[2] == "ERM"
    table = {row.name: row.against for row in reproduce.find("imagenet").rows("paper", {})}
    mixup = "ResNeXt-101 32x4d, 90 epochs, mixup alpha = 0.4, top-1 error"
    assert table[mixup] == "ResNeXt-101 32x4d, 90 epochs, ERM, top-1 error"


@pytest.mark.parametrize("study", reproduce.STUDIES, ids=lambda study: study.name)
def test_the_quick_run_fills_every_row_and_draws_every_figure(
    study: Study, smoke: dict[str, tuple[reproduce.Folder, list[Row]]]
) -> None:
    folder, rows = smoke[study.name]
    assert all(row.values or "not run" in row.note for row in rows)
    assert all(math.isfinite(value) for row in rows for value in row.values)
    figures = {"toy": 1, "between": 2, "imagenet": 1, "cifar": 1, "speech": 1, "corrupted-labels": 1, "adversarial": 1}
    figures |= {"uci": 1, "ablation": 2}
    drawn = sorted(folder.path.glob("*.svg"))
    if study.name in figures:
        assert len(drawn) == figures[study.name]
    for path in drawn:
        text = path.read_text()
        assert 'xmlns="http://www.w3.org/2000/svg"' in text
        assert not re.search(r"\bnan\b", text)
    table = json.loads((folder.path / "table.json").read_text())
    assert [row["name"] for row in table["rows"]] == [row.name for row in rows]
    assert {row["agreement"] for row in table["rows"]} == {""}  # of drawn data there is nothing to agree on


def test_jobs_are_recorded_with_all_that_made_them(smoke: dict[str, tuple[reproduce.Folder, list[Row]]]) -> None:
    folder, _ = smoke["toy"]
    record = json.loads((folder.path / "seed0.json").read_text())
    assert record["command"] == "the command"
    assert record["versions"]["torch"] == torch.__version__
    assert record["vicinal"] == v.__version__
    assert record["seconds"] > 0
    assert record["machine"]["processor"]


# -- on disk -----------------------------------------------------------------------------------------------------------


class Counting(Study):
    """Paper: nothing. Counts how often its jobs run."""

    name, section, title = "counting", "0", "Counting"

    def __init__(self, stop_at: int | None = None, decided_by: str = "") -> None:
        self.calls: list[int] = []
        self.stop_at, self.decided_by = stop_at, decided_by

    def requirements(self, size: str) -> Requirements:
        return Requirements("none", 0.01)

    def deviations(self, size: str) -> Sequence[str]:
        return []

    def jobs(self, size: str) -> Sequence[Job]:
        return [Job(f"job{i}", partial(self._run, i), self.decided_by) for i in range(4)]

    def _run(self, i: int, folder: Path) -> dict[str, Any]:
        assert folder.is_dir()
        if i == self.stop_at:
            raise KeyboardInterrupt
        self.calls.append(i)
        return {"value": i / 3, "nothing": math.nan}

    def rows(self, size: str, done: Any) -> Sequence[Row]:
        return [Row("row", "value", None, tuple(done[f"job{i}"]["value"] for i in range(4) if f"job{i}" in done))]


def run(root: Path, study: Study) -> Any:
    return reproduce.run(reproduce.Folder(root, study, "smoke"), "command", 1, quiet)


def test_what_is_there_is_not_run_again_and_what_is_missing_is(tmp_path: Path) -> None:
    first = run(tmp_path, Counting())
    assert first["job2"] == {"value": 2 / 3, "nothing": None}  # JSON has no nan
    again = Counting()
    assert run(tmp_path, again) == first
    assert again.calls == []
    (tmp_path / "counting/smoke/job1.json").unlink()
    assert run(tmp_path, again) == first
    assert again.calls == [1]


def test_two_commands_do_not_work_in_one_folder(tmp_path: Path) -> None:
    class Nested(Counting):
        def _run(self, i: int, folder: Path) -> dict[str, Any]:
            if i == 0:
                with pytest.raises(UserError, match="another command runs this study in"):
                    run(tmp_path, Counting())
            return super()._run(i, folder)

    first = Nested()
    run(tmp_path, first)
    assert first.calls == [0, 1, 2, 3]
    assert run(tmp_path, Counting()) is not None  # and afterwards it is free


def test_what_lacks_its_data_is_passed_over_and_what_it_gave_before_counts(tmp_path: Path) -> None:
    class Lacking(Counting):
        def jobs(self, size: str) -> Sequence[Job]:
            return [replace(job, ready=job.name in ("job0", "job2")) for job in super().jobs(size)]

    said: list[str] = []
    folder = reproduce.Folder(tmp_path, Lacking(), "smoke")
    assert set(reproduce.run(folder, "command", 1, said.append)) == {"job0", "job2"}
    assert said[0] == "counting (smoke): 2 of 4 jobs are passed over, since their data are not there"
    everything = run(tmp_path, Counting())
    said.clear()
    assert reproduce.run(folder, "command", 1, said.append) == everything
    assert said == ["counting (smoke): 4 of 4 jobs are there already"]


def test_a_failed_job_leaves_no_empty_folder(tmp_path: Path) -> None:
    class Failing(Counting):
        def _run(self, i: int, folder: Path) -> dict[str, Any]:
            raise UserError("there is no dataset")

    with pytest.raises(UserError, match="there is no dataset"):
        run(tmp_path, Failing())
    assert not (tmp_path / "counting/smoke/job0").exists()


def test_a_record_of_another_format_is_refused(tmp_path: Path) -> None:
    run(tmp_path, Counting())
    path = tmp_path / "counting/smoke/job1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(UserError, match="of another version"):
        run(tmp_path, Counting())


def test_results_of_another_version_are_reported_and_not_added_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting()
    monkeypatch.setattr(reproduce, "STUDIES", (counting,))
    folder = reproduce.Folder(tmp_path, counting, "small")
    jobs = counting.jobs("small")
    monkeypatch.setattr(v, "__version__", "0.0.9")
    monkeypatch.setattr(
        reproduce, "fingerprint", partial(reproduce.fingerprint, version="0.0.9")
    )  # as that version computed it
    folder.run(jobs[0], "command")
    monkeypatch.undo()
    monkeypatch.setattr(reproduce, "STUDIES", (counting,))
    folder.run(jobs[1], "command")
    with pytest.raises(UserError, match="of another version"):
        folder.records()
    _, markdown = (path.read_text() for path in report.write(tmp_path, "small", "command"))
    assert "| small | 2 of 4 jobs |" in markdown
    assert re.search(rf"Versions: vicinal 0\.0\.9, [^;]*; vicinal {re.escape(v.__version__)}, ", markdown)


def test_intrusion_keeps_the_tables_whose_files_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VICINAL_DATA", raising=False)
    jobs = {job.name: job.ready for job in reproduce.find("intrusion").jobs("small")}
    assert not jobs["table-abalone"]
    assert jobs["table-wine"]


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(tmp_path: Path) -> None:
    stopped = Counting(stop_at=2)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stopped)
    assert sorted(path.name for path in tmp_path.rglob("*.json")) == ["job0.json", "job1.json"]
    assert not list(tmp_path.rglob("*.partial"))
    on = Counting()
    assert [result["value"] for result in run(tmp_path, on).values()] == [0, 1 / 3, 2 / 3, 1]
    assert on.calls == [2, 3]


def test_results_of_another_version_or_of_other_settings_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, Counting())
    with pytest.raises(UserError, match=r"job0.json is of another version or of other settings; choose another --out"):
        run(tmp_path, Counting(decided_by="another learning rate"))
    monkeypatch.setattr(v, "__version__", "99.0")
    with pytest.raises(UserError, match="another version"):
        run(tmp_path, Counting())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda text: text.replace('"value": 0.3333333333333333', '"value": 0.3'), "not those that were written"),
        (lambda text: text[: len(text) // 2], "is not what a job wrote"),
        (lambda text: "[]", "is not what a job wrote"),
    ],
)
def test_results_that_were_changed_are_refused(tmp_path: Path, change: Any, sentence: str) -> None:
    run(tmp_path, Counting())
    path = tmp_path / "counting/smoke/job1.json"
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before
    with pytest.raises(UserError, match=rf"job1.json.*{sentence}|{sentence}"):
        run(tmp_path, Counting())


def test_a_fingerprint_is_of_study_size_job_and_settings() -> None:
    study = Counting()
    job = study.jobs("smoke")[0]
    marks = {
        reproduce.fingerprint(study, "smoke", job),
        reproduce.fingerprint(study, "small", job),
        reproduce.fingerprint(study, "smoke", replace(job, name="other")),
        reproduce.fingerprint(study, "smoke", replace(job, decided_by="x")),
        reproduce.fingerprint(reproduce.find("toy"), "smoke", job),
    }
    assert len(marks) == 5


def test_many_processes_give_what_one_gives(
    tmp_path: Path, smoke: dict[str, tuple[reproduce.Folder, list[Row]]]
) -> None:
    folder = reproduce.Folder(tmp_path, reproduce.find("toy"), "smoke")
    assert reproduce.run(folder, "command", 2, quiet) == smoke["toy"][0].done()


# -- agreement ---------------------------------------------------------------------------------------------------------


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
    assert agreement(mine, [mine, other]) == "direction only"
    shared = replace(mine, test_share=2.0)
    assert agreement(shared, [shared, other]) == "unclear"


@pytest.mark.parametrize(
    ("mine", "other", "expected"),
    [
        (row(5.0, ()), None, "not run"),
        (row(None, (1.0, 2.0)), None, "nothing published"),
        (row(4.4, (1.0, 2.0, 3.0)), None, "inside the interval"),
        (row(5.5, (1.0, 2.0, 3.0)), None, "differs"),  # and nothing to compare with
        (row(5.5, (1.0,)), None, "unclear"),
        # ours 10 below the other, theirs 1 below
        (row(90.0, (10.0, 11.0, 12.1), "ERM"), (91.0, (20.0, 21.0, 22.0)), "direction only"),
        (row(92.0, (10.0, 11.0, 12.1), "ERM"), (91.0, (20.0, 21.0, 22.0)), "contradicts"),
        (row(91.0, (10.0, 11.0, 12.1), "ERM"), (91.0, (20.0, 21.0, 22.0)), "unclear"),  # theirs are equal
        (row(90.0, (10.0, 30.0, 20.0), "ERM"), (91.0, (20.0, 21.0, 22.0)), "unclear"),  # the difference may be luck
        (row(90.0, (10.0, 11.0, 12.1), "ERM"), (91.0, (20.0, 21.0, 22.0, 0.0)), "direction only"),  # of the first three
        (row(90.0, (10.0, 11.0, 12.1, 14.0), "ERM"), (91.0, (20.0, 21.0, 22.0)), "direction only"),
        (row(90.0, (10.0, 11.0), "ERM"), (91.0, (20.0,)), "unclear"),
        (row(90.0, (10.0,), "ERM"), (91.0, (20.0,)), "unclear"),  # one seed
    ],
)
def test_agreement_by_hand(mine: Row, other: tuple[float, tuple[float, ...]] | None, expected: str) -> None:
    table = [mine]
    if other is not None:
        table.append(Row("ERM", "error, %", Published(other[0]), other[1]))
    assert agreement(mine, table) == expected


def test_of_a_study_scaled_down_only_differences_are_compared() -> None:
    erm = Row("ERM", "error, %", Published(4.4), (1.0, 2.0, 3.0))  # the published number lies inside, by chance
    mixup = Row("mixup", "error, %", Published(4.0), (3.0, 4.1, 5.0), "ERM")
    assert [agreement(row, [erm, mixup]) for row in (erm, mixup)] == ["inside the interval"] * 2
    assert [agreement(row, [erm, mixup], in_full=False) for row in (erm, mixup)] == ["scaled down", "contradicts"]


def test_what_is_run_in_full() -> None:
    small = {study.name for study in reproduce.STUDIES if study.in_full("small")}
    assert small == {"uci"}
    assert all(study.in_full("paper") and not study.in_full("smoke") for study in reproduce.STUDIES)


# -- the tables --------------------------------------------------------------------------------------------------------


def test_the_table_of_uci_is_that_of_models_trained_alone(
    smoke: dict[str, tuple[reproduce.Folder, list[Row]]],
) -> None:
    """Against the plain loop of `fleet.py`'s first lines, model by model."""
    values = {row.name: row.values for row in smoke["uci"][1]}
    table = uci.load("htru2", "smoke")
    for name, vicinity in (("Htru2, ERM", v.ERM()), ("Htru2, mixup alpha = 0.4", v.Mixup(0.4))):
        for seed in range(2):
            rows = split(table, seed)
            encoding = Encoding.fit(table, rows.train)
            x, y = torch.from_numpy(encoding.inputs(table)), torch.from_numpy(encoding.targets(table))
            first = stacked_mlp.StackedMLP.initial([seed], x.shape[1], (128, 128), 3, torch.float32)
            model = MLP(x.shape[1], outputs=3)
            model.load_state_dict(first.state_dict(0))
            adam, step = torch.optim.Adam(model.parameters()), 0
            train = torch.from_numpy(rows.train)
            for epoch in range(2):
                for batch in torch.from_numpy(stacked_mlp.order(seed, epoch, len(train))).split(16):
                    inputs, target = x[train[batch]], y[train[batch]]
                    plan = vicinity.plan(len(batch), target, inputs, step=step, seed=seed, rank=0, worker=0)
                    adam.zero_grad()
                    F.cross_entropy(model(plan(inputs)), plan.target(target)).backward()
                    adam.step()
                    step += 1
            test = torch.from_numpy(rows.test)
            wrong = model(x[test]).argmax(1) != y[test]
            assert values[name][seed] == pytest.approx(100 * float(wrong.double().mean()))


def test_inputs_as_they_are_and_half_for_testing() -> None:
    table = synthetic.table("t", 2, rows=40)
    train, validation, test = uci.parts(table, uci.Reading("x", test=0.5, scaled=False), [3])
    rows = split(table, 3, validation=0.2, test=0.5)
    assert (train.targets.shape[1], validation.targets.shape[1], test.targets.shape[1]) == (12, 8, 20)
    np.testing.assert_array_equal(test.inputs[0].numpy(), table.numbers[rows.test].astype(np.float32))
    np.testing.assert_array_equal(test.targets[0].numpy(), table.target[rows.test])
    scaled, _, _ = uci.parts(table, uci.Reading(""), [3])
    torch.testing.assert_close(scaled.inputs[0].mean(0), torch.zeros(4), atol=1e-5, rtol=0)


def test_alpha_is_chosen_on_validation_rows() -> None:
    def scores(validation: tuple[float, float], test: float) -> dict[str, Any]:
        return {"validation": {"error": validation[0], "nll": validation[1]}, "test": {"error": test, "nll": 1.0}}

    part = {
        "seeds": [0, 1],
        "methods": {
            "ERM": [scores((0.0, 0.0), 0.9)] * 2,
            "mixup 0.1": [scores((0.2, 1.0), 0.11), scores((0.1, 2.0), 0.12)],
            "mixup 0.2": [scores((0.1, 1.0), 0.21), scores((0.1, 1.0), 0.22)],
            "mixup 0.4": [scores((0.3, 1.0), 0.01), scores((0.1, math.nan), 0.02)],
            "mixup 1": [scores((0.1, 1.5), 0.02), scores((0.2, 0.1), 0.01)],
        },
    }
    assert uci._chosen([part]) == ([21.0, 22.0], [0.2, 0.2])


def test_the_rings_are_those_of_the_figure() -> None:
    points, classes = synthetic.rings(0)
    radius = points.norm(dim=1)
    assert (len(points), int(classes.sum())) == (358, 256)
    for c, expected, n in ((1, 0.3, 256), (0, 1.0, 102)):
        mine = radius[classes == c]
        assert abs(float(mine.mean()) - expected) < 4 * 0.05 / math.sqrt(n)
        assert float(mine.std()) == pytest.approx(0.05, rel=4 / math.sqrt(2 * n))
    assert not torch.equal(points, synthetic.rings(1)[0])
    assert torch.equal(points, synthetic.rings(0)[0])


def test_mixup_blurs_the_rings_and_erm_does_not() -> None:
    points, classes = synthetic.rings(0)
    where = toy.grid((-1.3, 1.3, -1.3, 1.3), 21)
    found = toy.probabilities(points, classes, toy.METHODS, where, epochs=60)
    unsure = {name: float(((p > 0.1) & (p < 0.9)).double().mean()) for name, p in found.items()}
    assert unsure["mixup"] > 2 * unsure["ERM"]


def test_any_table_of_two_columns_has_a_surface(tmp_path: Path) -> None:
    table = synthetic.table("pairs", 2, columns=2)
    toy.of_table(table, {"ERM": v.ERM(), "mixup": v.Mixup(1.0)}, tmp_path / "surface.svg", epochs=2)
    assert "Decision surfaces of ERM, mixup on pairs" in (tmp_path / "surface.svg").read_text()
    with pytest.raises(UserError, match=r"two number columns .* three has 3 columns, 2 classes"):
        toy.of_table(synthetic.table("three", 2, columns=3), {"ERM": v.ERM()}, tmp_path / "x.svg")
    with pytest.raises(UserError, match="one has 1 column, 3 classes and 0 missing cells"):
        toy.of_table(synthetic.table("one", 3, columns=1), {"ERM": v.ERM()}, tmp_path / "x.svg")
    toy.of_table(table, {"ERM": v.ERM()}, str(tmp_path / "one.svg"), epochs=1)
    assert "Decision surfaces of ERM on pairs" in (tmp_path / "one.svg").read_text()


@pytest.mark.parametrize(
    ("methods", "place", "training", "words"),
    [
        ({}, "x.svg", {}, "give one method or more"),
        (toy.METHODS, "x.svg", {"batch": 0}, "batch must be 1 or more, got 0"),
        (toy.METHODS, "x.svg", {"epochs": 0}, "epochs must be 1 or more, got 0"),
        (toy.METHODS, "none/x.svg", {}, "there is no folder .*none: give the path of a file"),
        (toy.METHODS, ".", {}, "is a folder: give the path of a file"),
    ],
)
def test_a_surface_that_cannot_be_drawn_is_refused_before_training(
    methods: Any, place: str, training: dict[str, int], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy, "probabilities", never)
    with pytest.raises(UserError, match=words):
        toy.of_table(synthetic.table("pairs", 2, columns=2), methods, tmp_path / place, **training)


def test_a_surface_is_none_of_regression(tmp_path: Path) -> None:
    columns = {"a": np.arange(12.0), "b": np.arange(12.0) ** 2, "y": np.arange(12.0) / 7}
    table = assemble(columns, "y", task="regression", name="line", source="test")
    with pytest.raises(UserError, match="line is regression"):
        toy.of_table(table, {"ERM": v.ERM()}, tmp_path / "x.svg")


# -- between the training points ---------------------------------------------------------------------------------------


def test_between_is_the_plain_loop() -> None:
    """Against one pair after the other, in float64."""
    images = synthetic.images(12, classes=4, side=16)
    data = loading.InMemoryDataset(images.images, images.labels, images.classes, (0.5,) * 3, (0.25,) * 3)
    with loop.fork_rng(v.Key(0, 0, 0, 0, 1)):
        model = models.build("small", 4).eval()
    first, second = interpolation.pairs(12, 5, 7)
    course = interpolation.between(model, data, first, second)
    assert len(course.misses) == len(course.gradient) == 21
    model = model.double()
    for at in (0, 3, 10, 20):
        share = at / 20
        missed, norms = 0, []
        for i, j in zip(first.tolist(), second.tolist(), strict=True):
            (x, y) = data.batch(torch.tensor([i, j]), None)
            point = (share * x[0].double() + (1 - share) * x[1].double()).requires_grad_()
            log_p = model(point[None]).log_softmax(1)[0]
            loss = -share * log_p[y[0]] - (1 - share) * log_p[y[1]]
            (gradient,) = torch.autograd.grad(loss, point)
            norms.append(float(gradient.square().sum().sqrt()))
            missed += int(log_p.argmax()) not in (int(y[0]), int(y[1]))
        assert course.misses[at] == pytest.approx(missed / 7)
        assert course.gradient[at] == pytest.approx(sum(norms) / 7, rel=1e-4)
    assert any(course.misses)


def test_pairs_are_of_different_examples_and_keyed() -> None:
    first, second = interpolation.pairs(5, 0, 400)
    assert not (first == second).any()
    assert set(first.tolist()) == set(second.tolist()) == set(range(5))
    assert torch.equal(first, interpolation.pairs(5, 0, 400)[0])
    assert not torch.equal(first, interpolation.pairs(5, 1, 400)[0])
    with pytest.raises(UserError, match="2 examples or more"):
        interpolation.pairs(1, 0, 4)


# -- what the loop learned for these studies ---------------------------------------------------------------------------


def small(**changes: Any) -> Recipe:
    recipe = training.quick(Recipe(dataset="cifar10", model="small", vicinity="Mixup(alpha=1.0)"))
    return replace(recipe, **({"batch": 16, "examples": 32} | changes))


def plain(recipe: Recipe, step_of: Any) -> dict[str, torch.Tensor]:
    """Train an epoch by hand; `step_of(model, data, rows, step)` gives the loss of a step."""
    data, _ = loading.load(recipe)
    with loop.fork_rng(v.Key(0, 0, 0, 0, Stream.WEIGHTS)):
        model = models.build("small", 10)
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    order = v.Key(0, 0, 0, 0, Stream.ORDER).generator().permutation(len(data))
    for step, rows in enumerate(torch.from_numpy(order).split(16)):
        sgd.zero_grad()
        step_of(model, data, rows, step).backward()
        sgd.step()
    return model.state_dict()


def assert_same(folder: Path, expected: dict[str, torch.Tensor]) -> None:
    found = torch.load(folder / "weights.pt", weights_only=True)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


def test_a_hidden_layer_is_mixed_where_the_recipe_says(tmp_path: Path) -> None:
    recipe = small(mix_at="layer3")
    loop.train(recipe, tmp_path / "run", ALONE)

    def step_of(model: Any, data: loading.InMemoryDataset, rows: torch.Tensor, step: int) -> torch.Tensor:
        x, y = data.batch(rows, v.Key(0, 0, 0, step))
        plan = v.Mixup(1.0, seed=recipe.seed).plan(len(y), step=step)
        hidden = plan(model.layer2(model.layer1(x)))
        out = model.linear(model.layer4(model.layer3(hidden)).mean((2, 3)))
        return F.cross_entropy(out, plan.target(y))

    assert_same(tmp_path / "run", plain(recipe, step_of))
    with pytest.raises(UserError, match="no module 'layer9'"):
        loop.train(small(mix_at="layer9"), tmp_path / "other", ALONE)
    with pytest.raises(UserError, match="grad_accum_steps=1 with latent"):
        small(mix_at="layer3", grad_accum_steps=2)
    with pytest.raises(UserError, match="neighbors or latent, not both"):
        small(mix_at="layer3", knn=2)


@pytest.mark.parametrize("of", ["all", "class"])
def test_partners_are_neighbors_in_the_whole_training_set(tmp_path: Path, of: str) -> None:
    examples_of = {"all": 32, "class": 60}[of]  # of 120 in ten classes: some of each
    recipe = small(knn=2, knn_scope=of, vicinity="InputMixup(alpha=1.0)", max_train_examples=examples_of)
    loop.train(recipe, tmp_path / "run", ALONE)
    data, _ = loading.load(recipe)
    clean = data.batch(torch.arange(len(data)), None)[0].flatten(1).double()
    distance = torch.cdist(clean, clean)
    for i in range(len(data)):
        distance[i, i] = torch.inf
        if of == "class":
            distance[i, data.labels != data.labels[i]] = torch.inf
    nearest = distance.argsort(1)[:, :2]
    near = knn.find(data, recipe)
    assert torch.equal(near.rows.sort(1).values, nearest.sort(1).values)

    def step_of(model: Any, data: loading.InMemoryDataset, rows: torch.Tensor, step: int) -> torch.Tensor:
        key = v.Key(0, 0, 0, step)
        partner = near.draw(rows, key)
        assert all(int(p) in nearest[r] for r, p in zip(rows, partner, strict=True))
        x, y = data.batch(rows, key)
        other, _ = data.batch(partner, v.Key(0, 0, 1, step))  # cropped and mirrored for itself
        plan = v.InputMixup(1.0, seed=recipe.seed).plan(len(y), step=step)
        share = plan.weight[:, None, None, None]
        mixed = torch.lerp(other, x, share)  # rounded as ours is: training carries the least difference far
        label = torch.where(plan.weight >= 0.5, y, data.labels[partner])
        return F.cross_entropy(model(mixed), label)

    assert_same(tmp_path / "run", plain(recipe, step_of))


def test_neighbors_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="knn=40, but an example has 31 others"):
        loop.train(small(knn=40), tmp_path / "a", ALONE)
    with pytest.raises(UserError, match="take Mixup or InputMixup"):
        loop.train(small(knn=2, vicinity="CutMix()"), tmp_path / "b", ALONE)


def test_all_neighbors_are_drawn_alike() -> None:
    near = knn.KNNPartners(torch.arange(40).view(4, 10))
    drawn_rows = torch.stack([near.draw(torch.tensor([2, 0]), v.Key(0, 0, 0, step)) for step in range(500)])
    counts = torch.bincount(drawn_rows[:, 0] - 20, minlength=10)
    assert len(counts) == 10
    assert abs(counts - 50).max() < 5 * math.sqrt(500 * 0.09)


def test_which_labels_are_replaced_is_known() -> None:
    labels = torch.arange(4000) % 10
    noisy = loading.corrupt(labels, 10, 0.5, seed=3)
    replaced = loading.corrupted_mask(4000, 0.5, seed=3)
    assert torch.equal(noisy[~replaced], labels[~replaced])
    assert abs(float(replaced.double().mean()) - 0.5) < 4 * 0.5 / math.sqrt(4000)
    # nine of ten of those replaced are another label now
    share = float((noisy != labels)[replaced].double().mean())
    assert abs(share - 0.9) < 4 * 0.3 / math.sqrt(2000)


def test_what_was_trained_is_read_back(tmp_path: Path) -> None:
    recipe = small(augment=False, label_noise=0.5)
    results = loop.train(recipe, tmp_path / "run", ALONE)
    assert runs.load_recipe(tmp_path / "run") == recipe
    model = runs.load_model(tmp_path / "run", 10)
    data, test = loading.load(recipe)
    assert data.augment is None
    assert len(test) == 20
    assert float(runs.misclassified(model, test).double().mean()) == pytest.approx(results["test_error"]["last"])
    with pytest.raises(UserError, match="no run of vicinal train"):
        runs.load_recipe(tmp_path)
    (tmp_path / "run/weights.pt").unlink()
    with pytest.raises(UserError, match="is not finished"):
        runs.load_model(tmp_path / "run", 10)
    (tmp_path / "run/results.json").write_text('{"epochs": [')
    with pytest.raises(UserError, match=r"results.json is damaged; remove .*run, and it is run again"):
        loop.train(recipe, tmp_path / "run", ALONE)


def test_every_line_of_the_ablation_is_its_own_training() -> None:
    cells = AblationStudy().cells("paper")
    recipes = [cell.recipe for cell in cells]
    assert len({recipe.fingerprint() for recipe in recipes if recipe is not None}) == 44
    by_name = {cell.name: cell.recipe for cell in cells}
    smote = by_name["mix inputs only, SC + KNN (SMOTE), weight decay 1e-4"]
    assert smote is not None
    assert (smote.vicinity, smote.knn, smote.knn_scope) == ("InputMixup(alpha=1.0)", 200, "class")
    last = by_name["mix labels and latent, layer 5, weight decay 5e-4"]
    assert last is not None
    assert (last.mix_at, last.weight_decay, last.epochs, last.milestones) == ("linear", 5e-4, 200, (100, 150))


def test_the_memory_of_a_step_is_the_most_that_is_there_at_once() -> None:
    def step() -> None:
        a = torch.zeros(250_000)  # 1 MB
        b = a + 1
        del a
        c = b + 1
        del b, c

    # and the number that is added, as a tensor
    assert 0 <= cost._peak(step, torch.device("cpu")) - 2_000_000 < 100


def test_the_memory_of_a_step_does_not_depend_on_the_steps_before_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    case = cost.Case("small", (4, 3, 16, 16), 10, 1.0)
    monkeypatch = pytest.MonkeyPatch()
    try:
        found = []
        for methods in (("ERM", "mixup"), ("mixup", "ERM")):
            monkeypatch.setattr(cost, "METHODS", methods)
            found.append(cost.measure(case, 1, 1, tmp_path)["bytes"])
    finally:
        monkeypatch.undo()
    assert found[0] == found[1]
    assert capfd.readouterr().err == ""


# -- the command and the page ------------------------------------------------------------------------------------------


def test_studies_are_listed_with_what_they_need(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reproduce", "--list"]) == 0
    said = capsys.readouterr().out
    for study in reproduce.STUDIES:
        assert study.name in said
        assert study.requirements("paper").data in said


def test_a_study_is_run_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    args = ["reproduce", "toy", "--scale", "smoke", "--jobs", "1"]
    assert cli.main(args) == 0
    said = capsys.readouterr()
    assert "2 of 2 jobs" in said.err
    assert "Paper: a toy problem in the plane" in said.out
    assert "mixup, half-way" in said.out
    assert "Scaled down: 10 epochs and 2 seeds" in said.out
    assert (tmp_path / "vicinal-runs/reproduce/toy/smoke/figure1b.svg").exists()
    assert cli.main(args) == 0
    assert "2 of 2 jobs are there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["reproduce"], "name a study"),
        (["reproduce", "ucl"], "did you mean uci?"),
        (["reproduce", "toy", "--jobs", "0"], "--jobs must be 1 or more"),
        (["reproduce", "toy", "--report"], "--report is of all studies"),
        (["reproduce", "uci", "--jobs", "1"], "uci: the UCI set 'abalone' is not part of this program"),
        (["interpolate", "nowhere", "nowhere"], "no run of vicinal train"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    args: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VICINAL_DATA", raising=False)
    assert cli.main(args) == 2
    said = capsys.readouterr().err
    assert said.startswith("vicinal: ")
    assert said.count("\n") == 1
    assert words in said


def test_a_study_without_data_does_not_keep_the_others_from_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lacking(Counting):
        name = "lacking"

        def _run(self, i: int, folder: Path) -> dict[str, Any]:
            raise UserError("there is no dataset")

    counting = Counting()
    monkeypatch.setattr(reproduce, "STUDIES", (Lacking(), counting))
    args = ["reproduce", "all", "--scale", "smoke", "--jobs", "1", "--out", str(tmp_path)]
    assert cli.main(args) == 2
    assert "vicinal: lacking: there is no dataset" in capsys.readouterr().err
    assert counting.calls == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["toy", "--scale", "smoke", "--out", "file"], "--out file is a file; give a folder"),
        (["--report", "--out", "file"], "--out file is a file; give a folder"),
        (["--report", "--out", "nowhere"], "there is no folder nowhere"),
        (["--report", "--out", "folder"], "folder/report.html cannot be written (is a directory)"),
        (["--report", "--out", "folder", "--report-dir", "file"], "file cannot be written (file exists)"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_line(
    args: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder/report.html").mkdir(parents=True)
    assert cli.main(["reproduce", *args]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"vicinal: {words}")
    assert said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "report.html"]


def test_ctrl_c_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "STUDIES", (Counting(stop_at=2),))
    assert cli.main(["reproduce", "counting", "--scale", "smoke", "--jobs", "1", "--out", str(tmp_path)]) == 130
    assert "stopped; 2 of 4 jobs are kept in" in capsys.readouterr().err


def untrained(folder: Path, **changes: Any) -> Path:
    """Make a finished run's folder without training."""
    recipe = small(**changes)
    with loop.fork_rng(v.Key(recipe.seed, 0, 0, 0, 1)):
        model = models.build(recipe.model, 10)
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps({"recipe": asdict(recipe)}))
    torch.save(model.state_dict(), folder / "weights.pt")
    return folder


def test_two_runs_are_compared_between_their_points(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpolation, "PAIRS", 6)
    for name, recipe in (("a", small(vicinity="ERM()")), ("b", small()), ("c", small(max_train_examples=16))):
        loop.train(recipe, tmp_path / name, ALONE)
    capsys.readouterr()
    assert cli.main(["interpolate", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")]) == 0
    said, progress = capsys.readouterr()
    assert progress.splitlines() == [f"{tmp_path / name}: 6 of 6 pairs" for name in "ab"]
    record = json.loads((tmp_path / "out/between.json").read_text())
    a, b = (record["models"][letter] for letter in "AB")
    assert [model["folder"] for model in (a, b)] == [str(tmp_path / name) for name in "ab"]
    assert f"{100 * a['misses'][10]:13.2f}{100 * b['misses'][10]:13.2f}" in said
    for letter in "ab":
        svg = (tmp_path / f"out/figure2{letter}.svg").read_text()
        assert re.findall(r">([AB]: \w+)</text>", svg) == ["A: a", "B: b"]
    assert cli.main(["interpolate", str(tmp_path / "a"), str(tmp_path / "c")]) == 2
    assert "trained on different examples (examples: 32 and 16)" in capsys.readouterr().err


def test_a_run_beside_itself_is_two_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpolation, "PAIRS", 6)
    run = str(untrained(tmp_path / "a"))
    assert cli.main(["interpolate", run, run, "--out", str(tmp_path / "out")]) == 0
    models = json.loads((tmp_path / "out/between.json").read_text())["models"]
    assert list(models) == ["A", "B"]
    assert models["A"] == models["B"]
    assert models["A"]["folder"] == run


def test_between_refuses_a_file_before_it_asks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpolation, "between", never)
    run, out = str(untrained(tmp_path / "a")), tmp_path / "out"
    out.write_text("mine")
    for place in (out, out / "below"):
        assert cli.main(["interpolate", run, run, "--out", str(place)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"vicinal: {place} cannot be written (")
        assert said.count("\n") == 1
    assert out.read_text() == "mine"


def never(*given: Any) -> Any:
    raise AssertionError("it was asked")


def _saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: b"garbage\n" * 40,
        lambda whole: bytes(range(256)) * 20,
        lambda whole: whole[:-100],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:10],
        lambda whole: _saved([1, 2]),
        lambda whole: _saved({"layer": 3}),
    ],
    ids=["empty", "text", "bytes", "end", "half", "beginning", "list", "number"],
)
def test_damaged_weights_are_found_before_anything_is_asked(
    damage: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpolation, "between", never)
    a, b = (untrained(tmp_path / name) for name in "ab")
    weights = b / "weights.pt"
    weights.write_bytes(damage(weights.read_bytes()))
    assert cli.main(["interpolate", str(a), str(b), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"vicinal: {weights} is damaged: remove {b} and train that run again\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([1, 2], "is no table of fields: [1, 2]"),
        ({"epochs": "x"}, 'epochs of its recipe cannot be "x"'),
        ({"epochs": True}, "epochs of its recipe cannot be true"),
        ({"drops": 3}, "drops of its recipe cannot be 3"),
        ({"drops": [1.5]}, "drops of its recipe cannot be [1.5]"),
        ({"learning_rate": None}, "learning_rate of its recipe cannot be null"),
        ({"examples": "all"}, 'examples of its recipe cannot be "all"'),
        ({"crop": []}, "crop of its recipe cannot be []"),
        ({"model": 1}, "model of its recipe cannot be 1"),
        ({"augment": 1}, "augment of its recipe cannot be 1"),
        ({"epochs": 0}, "epochs must be 1 or more, got 0"),
        ({"more": 0}, "another version: its recipe and this one's differ in 'more'"),
    ],
)
def test_a_recipe_that_is_none_is_said(changes: Any, words: str, tmp_path: Path) -> None:
    run = untrained(tmp_path / "run", learning_rate=1)  # a whole number is a number
    assert runs.load_recipe(run).learning_rate == 1
    path = run / "recipe.json"
    recipe = json.loads(path.read_text())["recipe"] | changes if isinstance(changes, dict) else changes
    path.write_text(json.dumps({"recipe": recipe}))
    with pytest.raises(UserError) as refused:
        runs.load_recipe(run)
    assert str(path) in str(refused.value)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("a", "b", "field"),
    [
        ({"size": 32}, {"size": 64}, "size: 32 and 64"),
        ({"crop": "random_crop"}, {"crop": "random_resized_crop"}, "crop: random_crop and random_resized_crop"),
        ({"noise": 0.5, "seed": 1}, {"noise": 0.5, "seed": 2}, "seed: 1 and 2"),
        ({"examples": None}, {"examples": 9}, "examples: None and 9"),
    ],
)
def test_other_inputs_of_one_folder_are_not_the_same_examples(
    a: dict[str, Any], b: dict[str, Any], field: str, tmp_path: Path
) -> None:
    runs = [untrained(tmp_path / name, dataset="photos", **changes) for name, changes in (("a", a), ("b", b))]
    with pytest.raises(UserError, match=rf"different examples \({field}\)"):
        interpolation.load(*runs)


def test_what_does_not_change_the_inputs_is_not_asked() -> None:
    assert loading.decided_by(small(image_size=32, seed=3, augment=False)) == loading.decided_by(small(epochs=9))
    assert list(loading.decided_by(small(dataset="imagenet"))) == ["data", "examples", "noise", "size", "crop"]


def test_curves_are_named_with_their_strokes() -> None:
    curves = [
        plots.Line("A: one", "mix", (0, 1), (2, 3)),
        plots.Line("B: " + "long" * 20, "mix", (0, 1), (2, 3)),
        plots.Line("paper", "mix", (0, 1), (2, 3), dashed=True),
    ]
    root = ElementTree.fromstring(plots.lines("key", "label", curves, "x", "y"))
    texts = {element.text: element for element in root.iter() if element.tag.endswith("text")}
    names = ["A: one", ("B: " + "long" * 20)[:51] + "\N{HORIZONTAL ELLIPSIS}", "paper"]
    assert [text for text in texts if text in names] == names
    heights = [
        float(texts[name].get("y") or re.findall(r"[\d.]+", texts[name].get("transform") or "")[1]) for name in names
    ]
    assert heights == sorted(heights)
    assert len(set(heights)) == 3  # the long one has a line of its own
    widths = re.findall(
        r"stroke:var\(--mix, [^)]*\);(?:stroke-\w+:[^;]*;)*stroke-width:([\d.]+)",
        plots.lines("k", "l", curves[:2], "x", "y"),
    )
    assert sorted(widths) == ["1.5", "1.5", "3.4", "3.4"]  # each curve and its key: none hides the other
    assert plots.lines("key", "label", curves, "x", "y").count("stroke-dasharray") == 2


def test_the_page_stands_alone_and_leaves_nothing_out(smoke: dict[str, tuple[reproduce.Folder, list[Row]]]) -> None:
    root = smoke["toy"][0].root
    html, markdown = (path.read_text() for path in report.write(root, "smoke", "vicinal reproduce --report"))
    assert not re.search(r"""(src|href)=["'](?!#|data:image/png;base64,)|url\((?!#)|@import|<script""", html)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(ids)
    for study in reproduce.STUDIES:
        assert f"{study.place}; size smoke" in html
        for row in smoke[study.name][1]:
            assert f"| {row.name} |" in markdown
    assert html.count("<figure>") == sum(len(list(folder.path.glob("*.svg"))) for folder, _ in smoke.values())
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", markdown):
        assert (root / path).exists()


def test_the_page_may_lie_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], smoke: dict[str, tuple[reproduce.Folder, list[Row]]]
) -> None:
    root, into = smoke["toy"][0].root, tmp_path / "docs/paper"
    assert cli.main(["reproduce", "--report", "--scale", "smoke", "--out", str(root), "--report-dir", str(into)]) == 0
    assert str(into / "report.html") in capsys.readouterr().out
    figures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (into / "report.md").read_text())
    assert len(figures) == len(list(root.glob("*/smoke/*.svg")))
    assert all((into / path).exists() for path in figures)
    assert cli.main(["reproduce", "toy", "--scale", "smoke", "--out", str(root), "--report-dir", str(into)]) == 2
    assert "give both" in capsys.readouterr().err


def test_the_page_in_the_documentation_is_made_of_the_results_in_the_repository(tmp_path: Path) -> None:
    repository = Path(__file__).parents[3]
    root, into = tmp_path / "results/reproduce", tmp_path / "docs/paper"
    shutil.copytree(repository / "results/reproduce", root)
    before = {path: path.read_bytes() for path in root.rglob("*.svg")}
    report.write(root, "small", "command", into)
    made, kept = ((folder / "report.md").read_text().splitlines() for folder in (into, repository / "docs/paper"))
    assert made[3:] == kept[3:]  # the third line says when
    assert kept[2].endswith(made[2].partition("Of the rows")[2])
    assert {path: path.read_bytes() for path in root.rglob("*.svg")} == before


def test_the_page_says_in_short_what_was_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting()
    monkeypatch.setattr(reproduce, "STUDIES", (counting,))
    folder = reproduce.Folder(tmp_path, counting, "small")
    for job, done in zip(counting.jobs("small"), ("not run", "1 of 4 jobs", "2 of 4 jobs", "3 of 4 jobs"), strict=True):
        html, markdown = (path.read_text() for path in report.write(tmp_path, "small", "command"))
        assert f"| small | {done} |" in markdown
        assert f">{done}</td>" in html
        folder.run(job, "command")
    _, markdown = (path.read_text() for path in report.write(tmp_path, "small", "command"))
    assert "| small | all |" in markdown


def test_what_was_not_run_says_what_it_needs(tmp_path: Path) -> None:
    html, markdown = (path.read_text() for path in report.write(tmp_path, None, "command"))
    for study in reproduce.STUDIES:
        assert (
            f"vicinal reproduce {study.name} --scale small</code> needs data: {study.requirements('small').data}"
            in html
        )
    published = sum(row.published is not None for study in reproduce.STUDIES for row in study.rows("small", {}))
    assert f"{published} not run" in markdown
    assert "0 inside the interval" in markdown


def test_a_foreign_image_does_not_touch_the_page() -> None:
    import io

    from matplotlib.figure import Figure

    figure, buffer = Figure(figsize=(2, 2)), io.StringIO()
    figure.add_subplot().plot([0, 1], [1, 0])
    figure.savefig(buffer, format="svg")
    inline = plots.inline(buffer.getvalue(), "theirs")
    assert inline.startswith("<svg ")
    assert 'class="plain"' in inline
    assert "<style" not in inline
    assert "<metadata" not in inline
    assert set(re.findall(r'\bid="([^"]+)"', inline)) <= {f"theirs-{i}" for i in range(100)}
