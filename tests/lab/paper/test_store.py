"""What is kept of a job on disk, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from studies import Counting, SmokeRun, run

import vicinal as v
from vicinal.lab.errors import UserError
from vicinal.lab.paper import reproduce
from vicinal.lab.paper.store import FORMAT, fingerprint


def test_jobs_are_recorded_with_all_that_made_them(smoke: Callable[[str], SmokeRun]) -> None:
    folder, _ = smoke("toy")
    record = json.loads((folder.path / "seed0.json").read_text())
    assert record["command"] == "the command"
    assert record["versions"]["torch"] == torch.__version__
    assert record["vicinal"] == v.__version__
    assert record["seconds"] > 0
    assert record["machine"]["processor"]


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
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": FORMAT - 1}))
    with pytest.raises(
        UserError, match=f"job1.json has format {FORMAT - 1} of another version, and this one reads {FORMAT}"
    ):
        run(tmp_path, Counting())


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


def test_a_fingerprint_is_of_study_scale_job_and_settings() -> None:
    study = Counting()
    job = study.jobs("smoke")[0]
    marks = {
        fingerprint(study, "smoke", job),
        fingerprint(study, "small", job),
        fingerprint(study, "smoke", replace(job, name="other")),
        fingerprint(study, "smoke", replace(job, decided_by="x")),
        fingerprint(reproduce.find("toy"), "smoke", job),
    }
    assert len(marks) == 5
