"""The program of the process that `apart` starts: it reads files from its input, and writes what they hold to its output.

A question is a line of JSON and the bytes of a file; the answer a line of JSON, and frames as Arrow streams.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

try:
    import resource
except ImportError:  # Windows
    resource = None

_SECONDS = 20.0  # of processor time for any file
_SLOWEST = 500_000.0  # bytes of a file that are read in another second of processor time
_BASE = 1 << 28  # bytes of address space for stacks of threads and the like


def _excel(raw: bytes, question: Mapping[str, Any]) -> tuple[list[str], list[pl.DataFrame]]:
    """Return the names of the sheets, or the one that is asked for, and the texts and the numbers of each."""
    import fastexcel

    book = fastexcel.read_excel(raw)
    names = [name for name in book.sheet_names if name == question["sheet"]] or book.sheet_names
    frames = []
    for name in names:
        texts = book.load_sheet(name, header_row=None, dtypes="string").to_polars()
        numbers = book.load_sheet(name, header_row=None, dtypes="float").to_polars() if texts.width else texts
        frames += [texts, numbers]
    return names, frames


def _frame(read: Callable[[io.BytesIO], pl.DataFrame]) -> Callable[..., tuple[list[str], list[pl.DataFrame]]]:
    return lambda raw, question: ([], [read(io.BytesIO(raw))])


def _rows(raw: bytes, question: Mapping[str, Any]) -> tuple[list[str], list[pl.DataFrame]]:
    """Return the number of all rows, and some of them, of a file whose path is given."""
    whole = pl.scan_parquet(question["path"], glob=False)
    some = whole.slice(question["start"], question["count"]).collect()
    return [str(whole.select(pl.len()).collect().item())], [some]


_READERS = {
    "parquet rows": _rows,
    "parquet": _frame(pl.read_parquet),
    "arrow": _frame(pl.read_ipc),
    "arrow stream": _frame(pl.read_ipc_stream),
    "excel": _excel,
}


def _limit(question: Mapping[str, Any]) -> None:
    """Limit memory and processor time; what passes a limit ends this process."""
    if resource is None:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime + _SECONDS + question["size"] / _SLOWEST)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    if question["memory"] is not None and os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm", encoding="ascii") as file:
            held = int(file.read().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = held + _BASE + question["memory"]
        resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _answer(question: Mapping[str, Any], raw: bytes) -> tuple[dict[str, Any], list[bytes]]:
    try:
        names, frames = _READERS[question["kind"]](raw, question)
        parts = []
        for frame in frames:
            part = io.BytesIO()
            frame.write_ipc_stream(part)
            parts.append(part.getvalue())
    except BaseException as e:  # panics are no Exceptions
        return {"error": " ".join(str(e).split()) or type(e).__name__}, []
    return {"names": names, "sizes": [len(part) for part in parts]}, parts


def main() -> None:
    """Answer until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other end decides
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what readers print is not an answer
    while line := sys.stdin.buffer.readline():
        question = json.loads(line)
        raw = sys.stdin.buffer.read(question["size"])
        if len(raw) < question["size"]:
            return
        _limit(question)
        answer, parts = _answer(question, raw)
        out.write(json.dumps(answer).encode() + b"\n")
        for part in parts:
            out.write(part)
        out.flush()


if __name__ == "__main__":
    main()
