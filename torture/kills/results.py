"""What a command has left, but for when and how fast it was made: two runs that are equal in it are equal.

Left out: in JSON the fields of `EXEMPT`, and the checksum of a record that has them, once it was seen to fit; in the pages
and tables of a comparison the date and the last column, which is the seconds of training; logs of a cluster's jobs; locks.
Runs and predictions of a comparison are compared run by run, since a command that goes on cuts its work into other pieces
than one that is not stopped.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from vicinal.lab import atomic, stored

# when, where and how fast
EXEMPT = ("created", "machine", "seconds", "examples_per_second")
_SECONDS = re.compile(r"(<td>|\| |& )[\d.]+(</td></tr>| \|$| \\\\)", re.MULTILINE)  # at the end of a row
_AT_THE_END = re.compile(r" [\d.]+$|\([\d.]+ s\)$")
_DATE = re.compile(r"<dt>Run</dt><dd>[^<]*</dd>")
# of what is not finished: more is added to them, or they tell what has failed
_GROWING = ("runs.jsonl", "metrics.jsonl", "grid.json")


def read(folder: Path) -> dict[str, Any]:
    """Return what is in a folder: for each file what it says."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or _is_no_result(path, name):
            continue
        if path.parent.name == "predictions" and path.suffix == ".parquet":
            continue
        found[name] = _content(path, folder)
    for predictions in sorted(folder.rglob("predictions")):
        if predictions.is_dir():
            found[predictions.relative_to(folder).as_posix()] = _predictions(predictions)
    return found


def _is_no_result(path: Path, name: str) -> bool:
    lock = path.name == ".lock" or path.suffix == ".lock"
    return lock or atomic.is_partial(path) or "jobs/" in name or path.name.startswith("step-")


def _content(path: Path, folder: Path) -> Any:
    raw = path.read_bytes()
    if path.suffix in (".json", ".sarif"):
        text = json.dumps(_timeless(_unsealed(json.loads(raw))), sort_keys=True)
        return text.replace(str(folder.absolute().parent), ".")
    if path.name == "runs.jsonl":
        return _runs(raw)
    if path.suffix == ".jsonl":
        return json.dumps([_timeless(json.loads(line)) for line in raw.splitlines()])
    if path.suffix in (".html", ".md", ".tex"):
        return hashlib.sha256(_DATE.sub("", _SECONDS.sub(r"\1\2", raw.decode())).encode()).hexdigest()
    return hashlib.sha256(raw).hexdigest()


def _unsealed(value: Any) -> Any:
    """Return a record without its checksum, which is that of the whole record or of its results.

    Raises:
        ValueError: it does not fit.

    """
    if not (isinstance(value, dict) and {"format", stored.CHECKSUM} <= value.keys()):
        return value
    rest = {name: one for name, one in value.items() if name != stored.CHECKSUM}
    if value[stored.CHECKSUM] not in (stored.digest(rest), stored.digest(rest.get("results"))):
        raise ValueError("its checksum does not fit")
    return rest


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(one) for name, one in value.items() if name not in EXEMPT}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def _runs(raw: bytes) -> list[str]:
    """Return the runs of a comparison in order; each is there as often as the file has it."""
    lines = []
    for line in raw.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:  # cut off by a kill, as the next command says
            continue
    found = [_timeless(run) for line in lines for run in _each_run(line)]
    return sorted(json.dumps(run, sort_keys=True) for run in found)


def _each_run(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict) and {"method", "seed"} <= value.keys():
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _each_run(one)


def _predictions(folder: Path) -> tuple[int, str]:
    """Return the number of predictions, and a digest of all in order."""
    frames = [pl.read_parquet(io.BytesIO(path.read_bytes())) for path in sorted(folder.glob("*.parquet"))]
    if not frames:
        return 0, ""
    frame = pl.concat(frames).sort("method", "seed", "row")
    return len(frame), hashlib.sha256(frame.write_ipc(None, compression="uncompressed").getvalue()).hexdigest()


def lines(printed: str) -> list[str]:
    """Return what a command printed, line by line, without the seconds at the end of a line and the width of columns."""
    return [" ".join(_AT_THE_END.sub("", line).split()) for line in printed.splitlines()]


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Return how two folders differ."""
    lines = [
        f"{name} is {'lacking' if name in wanted else 'too much'}" for name in sorted(found.keys() ^ wanted.keys())
    ]
    for name in sorted(found.keys() & wanted.keys()):
        if found[name] != wanted[name]:
            lines.append(f"{name} differs ({_where(found[name], wanted[name])})")
    return lines


def _where(found: Any, wanted: Any) -> str:
    if isinstance(found, list | tuple) and isinstance(found[:1] and found[0], str):
        more = [one for one in found if found.count(one) > wanted.count(one)]
        return f"{len(found)} and not {len(wanted)}; first other {(more or ['none'])[0][:200]}"
    at = next((i for i, (a, b) in enumerate(zip(str(found), str(wanted), strict=False)) if a != b), 0)
    return f"{str(found)[max(0, at - 40) : at + 60]} and not {str(wanted)[max(0, at - 40) : at + 60]}"


def half_written(folder: Path, wanted: dict[str, Any]) -> list[str]:
    """Return what is wrong in the folder of a command that was killed: each file is whole or not there."""
    lines = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or _is_no_result(path, name) or path.name in _GROWING:
            continue
        if path.parent.name == "predictions":
            pl.read_parquet(io.BytesIO(path.read_bytes()))
            continue
        try:
            content = _content(path, folder)
        except ValueError as error:
            lines.append(f"{name} is half written ({error})")
            continue
        if any(part.startswith(".") for part in name.split("/")):  # in a folder that is not yet whole
            continue
        if name not in wanted:
            lines.append(f"{name} is none of what the command leaves")
        elif content != wanted[name]:
            lines.append(f"{name} is not what it is at the end ({_where(content, wanted[name])})")
    return lines


def leftovers(folder: Path) -> list[str]:
    """Return what only a running command may hold in its folder: unfinished files, checkpoints, and locks."""
    lines = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        work = path.parent.name == "jobs" and path.name.startswith("work-")
        if work or atomic.is_partial(path) or path.suffix == ".ckpt":
            lines.append(f"{name} is left")
        elif path.name == ".lock" or path.suffix == ".lock":
            with open(path, "ab") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    lines.append(f"{name} is locked")
    return lines
