"""`vicinal reproduce`: jobs that are missing are run, and the table is written."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from studies import Counting, SmokeRun, quiet, run

from vicinal.lab import cli
from vicinal.lab.errors import UserError
from vicinal.lab.paper import reproduce
from vicinal.lab.paper.store import JobFolder
from vicinal.lab.paper.study import Job, Scale


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
        def jobs(self, scale: Scale) -> Sequence[Job]:
            return [replace(job, ready=job.name in ("job0", "job2")) for job in super().jobs(scale)]

    said: list[str] = []
    folder = JobFolder(tmp_path, Lacking(), "smoke")
    assert set(reproduce.run(folder, "command", 1, said.append)) == {"job0", "job2"}
    assert said[0] == "counting (smoke): 2 of 4 jobs are passed over, since their data are not there"
    everything = run(tmp_path, Counting())
    said.clear()
    assert reproduce.run(folder, "command", 1, said.append) == everything
    assert said == ["counting (smoke): 4 of 4 jobs are there already"]


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(tmp_path: Path) -> None:
    stopped = Counting(stop_at=2)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stopped)
    assert sorted(path.name for path in tmp_path.rglob("*.json")) == ["job0.json", "job1.json"]
    assert not list(tmp_path.rglob("*.partial"))
    on = Counting()
    assert [result["value"] for result in run(tmp_path, on).values()] == [0, 1 / 3, 2 / 3, 1]
    assert on.calls == [2, 3]


def test_many_processes_give_what_one_gives(tmp_path: Path, smoke: Callable[[str], SmokeRun]) -> None:
    folder = JobFolder(tmp_path, reproduce.find("toy"), "smoke")
    assert reproduce.run(folder, "command", 2, quiet) == smoke("toy")[0].done()


@pytest.mark.torture
def test_a_cluster_gives_what_one_process_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], smoke: Callable[[str], SmokeRun]
) -> None:
    args = ["reproduce", "toy", "--scale", "smoke", "--cluster", "local", "--out", str(tmp_path)]
    assert cli.main(args) == 0
    path = tmp_path / "toy/smoke"
    said = capsys.readouterr().err.splitlines()
    assert said[0] == (
        f"vicinal: what is missing runs as jobs of submitit (local); logs in {path}/jobs; Ctrl-C cancels them"
    )
    assert said[2].startswith("toy (smoke): 2 of 2 jobs, seed")
    folder = JobFolder(tmp_path, reproduce.find("toy"), "smoke")
    assert folder.done() == smoke("toy")[0].done()
    assert (path / "table.json").read_bytes() == (smoke("toy")[0].path / "table.json").read_bytes()
    assert cli.main(args) == 0
    assert "2 of 2 jobs are there already" in capsys.readouterr().err


def test_studies_are_listed_with_what_they_need(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reproduce", "--list"]) == 0
    said = capsys.readouterr().out
    for study in reproduce.STUDIES:
        assert study.name in said
        assert study.scales["paper"].data in said


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
        (["reproduce", "toy", "--jobs", "1", "--cluster", "local"], "runs jobs elsewhere; give one of them"),
        (["reproduce", "toy", "--report"], "--report is of all studies"),
        (["reproduce", "uci", "--jobs", "1"], "uci: the UCI set 'abalone' is not part of this program"),
        (["interpolate", "nowhere", "nowhere"], "is not a run of vicinal train"),
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
        (["--report", "--out", "folder"], "folder/report.html cannot be written (there is a folder, not a file)"),
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
