"""The published results of the atlas, and the page and the sentences that are made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vicinal.lab import intrusion as indicator
from vicinal.lab.compare import diagnose
from vicinal.lab.data import keel
from vicinal.lab.paper.intrusions import atlas, atlas_page

ROOT = Path(__file__).parents[3]
SMALL = ROOT / "results" / "reproduce" / "intrusion" / "small"


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(SMALL.glob(f"{atlas.PREFIX}*.json"))}


def test_the_kept_results_are_of_all_tables_and_splits(kept: dict[str, Any]):
    assert set(kept) == {atlas.job_name(name) for name in keel.NAMES}
    for record in kept.values():
        result = record["results"]
        assert result["rows"] == keel.ROWS[result["table"]]
        assert len(result["conflict"]) == 10
        assert all(len(scores["error"]) == 10 for of in result["methods"].values() for scores in of.values())


def test_the_page_and_what_diagnose_quotes_are_what_the_kept_results_say(
    kept: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(atlas, "RESAMPLED", 2000)
    names = [atlas.job_name(name) for name in keel.NAMES]
    seen = atlas.read({name: kept[name]["results"] for name in names})
    date = max(record["created"] for record in kept.values())[:10]
    assert indicator.evidence()["atlas"] == {"date": date} | json.loads(json.dumps(atlas.evidence(seen)))
    assert (ROOT / "docs" / "paper" / "atlas.md").read_text() == atlas_page.write(seen, date)


def test_the_page_of_diagnose_quotes_the_sentence_of_the_command():
    sentence = diagnose.in_words_of_the_atlas(indicator.evidence()["atlas"])
    page = (ROOT / "docs" / "how-to" / "diagnose.md").read_text()
    quoted = " ".join(line.removeprefix("> ") for line in page.splitlines() if line.startswith("> "))
    assert quoted == sentence
