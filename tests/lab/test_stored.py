"""Records that are read back: what was written comes back, and anything else is refused in one sentence."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vicinal.lab import records, stored
from vicinal.lab.errors import UserError


@dataclass(frozen=True)
class Kept:
    name: str
    values: list[float]


RECORD: dict[str, Any] = {"name": "a", "values": [0.5, None, 3], "nested": {"b": [True, "ü", "\udcff"]}}


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    stored.write(tmp_path / "x.json", RECORD, 4, indent=1)
    assert stored.read(tmp_path / "x.json", 4, "train again") == RECORD
    content = json.loads((tmp_path / "x.json").read_text())
    assert list(content) == ["format", *RECORD, "sha256"]
    assert content["format"] == 4


def test_the_order_of_fields_and_spaces_do_not_matter() -> None:
    content = json.loads(stored.seal({"b": 1, "a": 2, "n": {10: 1, 9: 2}}, 1))
    assert stored.unseal(json.dumps(dict(reversed(content.items())), indent=3), 1) == {
        "b": 1,
        "a": 2,
        "n": {"10": 1, "9": 2},
    }


def test_a_changed_byte_is_noticed_or_changes_nothing() -> None:
    text = bytearray(stored.seal(RECORD, 1).encode())
    noticed, rng = 0, random.Random(1)
    for i in range(len(text)):
        changed = bytearray(text)
        changed[i] ^= 1 << rng.randrange(8)
        try:
            assert stored.unseal(bytes(changed), 1) == RECORD  # as an escape's hex digit in capitals
        except stored.Unsealed:
            noticed += 1
    assert noticed > 0.95 * len(text)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "it is not JSON, or is cut off"),
        ("{", "it is not JSON, or is cut off"),
        ("[" * 100_000, "it is not JSON, or is cut off"),
        ('{"format": 1, "a": NaN}', "it is not JSON, or is cut off"),
        ('{"format": 1, "a": ' + "9" * 5000 + "}", "it is not JSON, or is cut off"),
        ("[1]", "it holds no table of fields"),
        ("{}", "it has no format number"),
        ('{"format": true}', "it has no format number"),
        ('{"format": "1"}', "it has no format number"),
        ('{"format": 2}', "it has format 2, of another version of vicinal, and this one reads format 1"),
        ('{"format": 1}', "it is not as it was written: its checksum does not fit"),
        ('{"format": 1, "sha256": 3}', "it is not as it was written: its checksum does not fit"),
    ],
)
def test_what_was_not_written_so_is_refused_in_one_sentence(content: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        stored.read(path, 1, "remove it")
    assert str(error.value) == f"{path} cannot be used: {says}; remove it"


def test_a_record_of_a_type_is_checked_by_its_fields(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    stored.write(path, records.to_json(Kept("a", [1.0])), 1)
    assert stored.read_as(Kept, path, 1, "remove it") == Kept("a", [1.0])
    stored.write(path, {"name": "a", "values": ["1"]}, 1)
    with pytest.raises(UserError, match=r"cannot be used: values\[0\] must be a finite number, found '1'; remove it"):
        stored.read_as(Kept, path, 1, "remove it")


def test_what_cannot_be_read_is_told_apart_from_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        stored.read(tmp_path / "none.json", 1, "remove it")
    with pytest.raises(UserError, match="cannot be read"):
        stored.read(tmp_path, 1, "remove it")
