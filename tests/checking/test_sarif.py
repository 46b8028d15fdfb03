"""Reports as SARIF 2.1.0: the structure that the standard and GitHub's code scanning ask for."""

from __future__ import annotations

import json
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

import vicinal
from vicinal.checking import sarif
from vicinal.checking.codes import CODES
from vicinal.checking.report import Fault, Report
from vicinal.checking.sarif import to_sarif


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def report(**changes: Any) -> Report:
    values: dict[str, Any] = {
        "target": "src/train it.py:make_loader",
        "findings": [Fault("VIC011", "Targets are int64.", "batch 2"), Fault("VIC060", "It takes 3 s.")],
        "ignored": [Fault("VIC012", "Each label has 0.1 on all classes.")],
        "skipped": {"VIC040": "there is no evaluation loader"},
        "file": "src/train it.py",
        "line": 2,
    }
    return Report(**values | changes)


def test_results_rules_and_places():
    Path("src").mkdir()
    Path("src/train it.py").write_text("import torch\ndef make_loader(): ...\n")
    log = to_sarif(report())
    assert json.loads(json.dumps(log)) == log
    assert (log["$schema"], log["version"], len(log["runs"])) == (
        "https://json.schemastore.org/sarif-2.1.0.json",
        "2.1.0",
        1,
    )
    run = log["runs"][0]
    assert run["tool"]["driver"]["name"] == "vicinal"
    assert run["tool"]["driver"]["version"] == vicinal.__version__
    assert run["automationDetails"] == {"id": "vicinal check/src/train it.py:make_loader/"}
    (told,) = run["invocations"][0]["toolExecutionNotifications"]
    assert told["message"]["text"] == (
        "src/train it.py:make_loader: VIC040 was not looked at: there is no evaluation loader"
    )
    found = [(r["ruleId"], r["level"], len(r.get("suppressions", []))) for r in run["results"]]
    assert found == [("VIC011", "error", 0), ("VIC060", "note", 0), ("VIC012", "warning", 1)]
    first = run["results"][0]
    assert first["message"]["text"] == (
        "src/train it.py:make_loader: mixed targets are rounded or cast [batch 2]. Targets are int64. "
        "Keep mixed targets in floating point, or keep both targets and lambda."
    )
    (place,) = first["locations"]
    assert place["physicalLocation"] == {
        "artifactLocation": {"uri": "src/train%20it.py", "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": 2, "startColumn": 1, "endLine": 2, "endColumn": 23},
    }
    assert place["logicalLocations"] == [{"fullyQualifiedName": "src/train it.py:make_loader"}]
    assert run["results"][2]["suppressions"][0]["kind"] == "external"


def test_every_code_is_a_rule_with_all_that_github_requires():
    run = to_sarif([])["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(CODES)
    assert len({rule["name"] for rule in rules}) == len(CODES)
    for rule, kind in zip(rules, CODES.values(), strict=True):
        assert rule["name"].isalnum()
        assert rule["name"][0].isupper()
        texts = (rule["shortDescription"]["text"], rule["fullDescription"]["text"])
        assert all(0 < len(text) <= 1024 and not text[0].islower() and text.endswith(".") for text in texts), texts
        assert rule["defaultConfiguration"] == {"level": kind.severity}
        assert kind.means in rule["help"]["text"]
        assert rule["help"]["markdown"] == kind.card()
        severity = {"error": "error", "warning": "warning", "note": "recommendation"}[kind.severity]
        assert rule["properties"]["problem.severity"] == severity
    assert run["results"] == []
    assert run["automationDetails"] == {"id": "vicinal check/"}


def test_results_point_at_their_rules():
    findings = [Fault(name, "Seen.") for name in CODES]
    run = to_sarif([report(findings=findings[:20], ignored=[]), report(findings=findings[20:], ignored=[])])["runs"][0]
    assert [r["ruleId"] for r in run["results"]] == list(CODES)
    assert [r["ruleIndex"] for r in run["results"]] == list(range(len(CODES)))


def fingerprints(*reports: Report) -> list[str]:
    (run,) = to_sarif(reports)["runs"]
    return [result["partialFingerprints"]["vicinal/v1"] for result in run["results"]]


def test_a_finding_keeps_its_fingerprint_when_lines_and_numbers_change():
    before = fingerprints(report())
    assert len(set(before)) == 3
    moved = [Fault("VIC011", "Targets are int32.", "batch 2"), Fault("VIC060", "It takes 4 s.")]
    assert fingerprints(report(line=90, findings=moved)) == before
    assert not set(fingerprints(report(target="other.py:x"))) & set(before)
    assert fingerprints(report(findings=[Fault("VIC011", "Targets are int64.", "batch 3")]))[0] not in before


def test_github_computes_its_own_hash():
    # its upload action warns of every primaryLocationLineHash that it has not computed itself
    assert list(to_sarif(report())["runs"][0]["results"][0]["partialFingerprints"]) == ["vicinal/v1"]


def region(**changes: Any) -> dict[str, int]:
    return to_sarif(report(**changes))["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"]


@pytest.mark.parametrize("line", [None, 0, -3, 1])
def test_lines_begin_at_one(line: int | None):
    assert region(line=line) == {"startLine": 1, "startColumn": 1, "endLine": 1}  # there is no such file


def test_a_line_behind_the_end_of_the_file():
    Path("t.py").write_text("x = 1\n")
    assert region(file="t.py", line=1) == {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 6}
    assert region(file="t.py", line=9) == {"startLine": 9, "startColumn": 1, "endLine": 9}


def test_files_elsewhere_and_none(tmp_path: Path):
    result = to_sarif(report(file=str(tmp_path / "a b.py")))["runs"][0]["results"][0]
    uri = (tmp_path / "a b.py").as_uri()
    assert result["locations"][0]["physicalLocation"]["artifactLocation"] == {"uri": uri}
    assert uri.startswith("file:///")
    assert uri.endswith("/a%20b.py")
    assert "locations" not in to_sarif(report(file=None))["runs"][0]["results"][0]


def test_addresses_where_the_package_has_one(monkeypatch: pytest.MonkeyPatch):
    def package(*urls: str) -> Message:
        message = Message()
        for url in urls:
            message["Project-URL"] = url
        return message

    for urls in [(), ("Changelog, https://example.org/changes",)]:
        monkeypatch.setattr(sarif, "metadata", lambda name, urls=urls: package(*urls))
        driver = to_sarif([])["runs"][0]["tool"]["driver"]
        assert "informationUri" not in driver
        assert "helpUri" not in driver["rules"][0]
    monkeypatch.setattr(sarif, "metadata", lambda name: package("Repository, https://example.org/vicinal/"))
    driver = to_sarif([])["runs"][0]["tool"]["driver"]
    assert driver["informationUri"] == "https://example.org/vicinal"
    assert driver["rules"][0]["helpUri"] == "https://example.org/vicinal/blob/main/docs/cards/checks/vic001.md"
