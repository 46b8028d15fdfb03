"""The tables of the packages of the field and of ours: their entries and the page that is written of them."""

import inspect
import subprocess
import sys

import pytest
from museum.entry import Entries, Entry

from museum import own_pipelines, peer_pipelines, peers
from vicinal.checking.codes import CODES

ALL = [*peer_pipelines.PEERS, *own_pipelines.OURS]
CHECK = set(inspect.signature(peers.vicinal.check).parameters)
NEEDS_NOTHING = [
    entry
    for entry in own_pipelines.OURS
    if not any(name in entry.name for name in ("lightning", "transformers", "skorch"))
]


def test_each_entry_has_a_name_of_its_own_and_expects_codes_that_there_are():
    assert len({entry.key for entry in ALL}) == len(ALL) > 100
    for entry in ALL:
        assert {code for expected in entry.expects for code in expected.split("|")} <= set(CODES), entry.key
    assert not any(entry.expects for entry in own_pipelines.OURS)


@pytest.mark.parametrize("entry", NEEDS_NOTHING, ids=[entry.name for entry in NEEDS_NOTHING])
def test_entries_of_ours_are_arguments_of_check(entry):
    assert "target" in (given := entry.build())
    assert set(given) <= CHECK


def test_what_was_missed_and_what_surprises():
    entry = Entry("some", "thing", dict, ("VIC001|VIC002", "VIC012"), confirmed=("VIC035",))
    assert entry.missed(["VIC002"]) == ["VIC012"]
    assert entry.surprises(["VIC002", "VIC005", "VIC035", "VIC037"]) == ["VIC005"]  # the last is a note
    assert entry.missed(["VIC001", "VIC012"]) == entry.surprises(["VIC012"]) == []


def test_a_package_that_is_not_installed_is_told():
    result = peers.checked(Entry("no-such-package-of-the-field", "thing", dict), 60)
    assert result["failed"] == "the package is not installed"
    assert "FAILED the package is not installed" in peers.text(result)


def test_an_entry_that_fails_is_told_with_its_error(monkeypatch):
    result = peers.checked(Entry("torch", "unknown to the tables", dict), 120)  # its own process does not find it
    assert "not enough values to unpack" in result["failed"]
    assert "not checked: " in peers.page({"versions": {}, "peers": [result], "ours": []})


def test_the_page_has_each_finding_and_its_meaning():
    finding = {"code": "VIC012", "severity": "warning", "where": "", "seen": "0.1 | of each label " * 20}
    row = {
        "package": "some",
        "version": "1.0",
        "entry": "thing",
        "seconds": 1.25,
        "findings": [finding],
        "codes": ["VIC012"],
    }
    row |= {"missed": [], "surprises": ["VIC012"], "skipped": {"ranks": "one process"}}
    shown = peers.page({"versions": {"some": "1.0"}, "peers": [row], "ours": [{**row, "findings": [], "codes": []}]})
    assert "| some 1.0 | thing | [VIC012](codes.md#vic012) 0.1 \\| of each label" in shown
    assert f"| [VIC012](codes.md#vic012), warning | {CODES['VIC012'].title} | {CODES['VIC012'].means} |" in shown
    assert "| thing | nothing | 1.2 |" in shown
    assert "found, not expected: VIC012" in (lines := peers.text(row))
    assert "not looked at, ranks: one process" in lines
    assert max(map(len, lines.splitlines())) < 220


def test_the_command_refuses_to_write_a_part():
    process = subprocess.run(
        [sys.executable, "-m", "museum.peers", "--write", "--only", "timm"],
        cwd=peers.ROOT,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    assert "--write takes all entries" in process.stderr


def test_an_entry_is_added_by_a_decorator():
    entries = Entries()

    @entries.of("some", "thing", "VIC001")
    def build():
        return {"target": None}

    assert entries == [Entry("some", "thing", build, ("VIC001",))]
