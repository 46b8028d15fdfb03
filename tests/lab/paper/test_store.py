"""What is kept of a job on disk, and what is refused."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from studies import Counting, SmokeRun, run

import vicinal as v
from vicinal.lab import stored
from vicinal.lab.errors import UserError
from vicinal.lab.paper import reproduce
from vicinal.lab.paper.store import FORMAT, fingerprint
from vicinal.lab.paper.study import Job, Scale


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
    for other in (FORMAT - 2, FORMAT + 1):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": other}))
        with pytest.raises(
            UserError, match=f"job1.json has format {other} of another version, and this one reads {FORMAT}"
        ):
            run(tmp_path, Counting())


def test_a_record_of_the_format_before_is_read_and_its_results_are_checked(tmp_path: Path) -> None:
    run(tmp_path, Counting())
    path = tmp_path / "counting/smoke/job1.json"
    fields = stored.unseal(path.read_bytes(), FORMAT)
    old = {"format": FORMAT - 1, **fields, "sha256": stored.digest(fields["results"])}
    path.write_text(json.dumps(old))
    again = Counting()
    run(tmp_path, again)
    assert again.calls == []
    path.write_text(json.dumps(old | {"results": {"value": 0.5, "nothing": None}}))
    with pytest.raises(UserError, match=r"job1.json cannot be used: its results are not those that were written"):
        run(tmp_path, Counting())


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("seconds", "long", "seconds must be a finite number, found 'long'"),
        ("seconds", -1.0, "seconds must be 0 or more, found -1.0"),
        ("machine", [], "machine must be a table of fields, found a list"),
        ("results", {"value": "much", "nothing": None}, "results.value must be a finite number, found 'much'"),
        ("results", {"value": 1.0}, "results lacks 'nothing'"),
    ],
)
def test_a_record_is_checked_field_by_field(tmp_path: Path, field: str, value: object, says: str) -> None:
    """Also one whose checksum fits."""

    @dataclass(frozen=True)
    class Counted:
        value: float
        nothing: float

    class Typed(Counting):
        def jobs(self, scale: Scale) -> Sequence[Job]:
            return [replace(job, kind=Counted) for job in super().jobs(scale)]

    run(tmp_path, Typed())
    path = tmp_path / "counting/smoke/job1.json"
    stored.write(path, stored.unseal(path.read_bytes(), FORMAT) | {field: value}, FORMAT)
    with pytest.raises(UserError) as refused:
        run(tmp_path, Typed())
    assert str(refused.value) == f"{path} cannot be used: {says}; remove it, and it is run again"


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
        (lambda text: text.replace('"value": 0.3333333333333333', '"value": 0.3'), "its checksum does not fit"),
        (lambda text: text[: len(text) // 2], "it is not JSON, or is cut off"),
        (lambda text: "[]", "it holds no table of fields"),
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
