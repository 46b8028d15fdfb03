"""Check the packages of the field, as they are installed, and everything of ours that mixes: two tables.

    python -m museum.peers            # print the tables
    python -m museum.peers --write    # and write results/check-peers.json and docs/check/peers.md
    python -m museum.peers --only timm

Each entry runs in a process of its own, with one thread. `make check-peers` makes the environment that has the packages.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import textwrap
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vicinal
from museum.entry import Entry
from museum.own_pipelines import OURS
from museum.peer_pipelines import PEERS
from vicinal.checking.codes import CODES

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "check-peers.json"
PAGE = ROOT / "docs" / "check" / "peers.md"
TABLES = {"peers": PEERS, "ours": OURS}

Result = dict[str, Any]


def main() -> None:
    """Check what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the results and the page")
    parser.add_argument("--only", default="", help="only entries whose package or name has this text")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one entry (default: %(default)s)")
    parser.add_argument("--page", action="store_true", help="write the page from the results that there are")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # in the process of an entry: its key
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        args.out.write_text(json.dumps(_report_of(args.one)))
        return
    if args.write and args.only:
        parser.error("--write takes all entries, --only a part")
    if args.page:
        PAGE.write_text(page(json.loads(RESULTS.read_text())))
        return
    results: dict[str, Any] = {"versions": _versions()}
    for table, entries in TABLES.items():
        results[table] = []
        for entry in (entry for entry in entries if args.only in entry.key):
            result = checked(entry, args.timeout)
            results[table].append(result)
            print(text(result), flush=True)
    _print_summary(results)
    if args.write:
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page(results))
        print(f"wrote {RESULTS.relative_to(ROOT)} and {PAGE.relative_to(ROOT)}")


def _versions() -> dict[str, str]:
    names = ["torch", "numpy", *dict.fromkeys(entry.package for entries in TABLES.values() for entry in entries)]
    return {"python": sys.version.split()[0], **{name: _version(name) or "not installed" for name in names}}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


# -- one entry ------------------------------------------------------------------------------------------------------------


def checked(entry: Entry, timeout: float) -> Result:
    """Check an entry in a process of its own."""
    result: Result = {"package": entry.package, "entry": entry.name, "version": _version(entry.package)}
    result |= {"expects": list(entry.expects), "confirmed": list(entry.confirmed)}
    if result["version"] is None:
        return {**result, "failed": "the package is not installed"}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report.json"
        try:
            process = subprocess.run(
                [sys.executable, "-m", "museum.peers", "--one", entry.key, "--out", str(out)],
                cwd=ROOT,
                env=_environment(folder),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            return {**result, "failed": f"it took longer than {timeout:g} s"}
        result["process_seconds"] = round(time.perf_counter() - began, 1)
        if process.returncode != 0:
            last = [line for line in process.stderr.splitlines() if line.strip()][-12:]
            return {**result, "failed": last[-1] if last else f"exit code {process.returncode}", "stderr": last}
        report = json.loads(out.read_text())
    codes = list(dict.fromkeys(finding["code"] for finding in report["findings"]))
    return {
        **result,
        "codes": codes,
        "missed": entry.missed(codes),
        "surprises": entry.surprises(codes),
        "findings": [
            {key: finding[key] for key in ("code", "severity", "where", "seen")} for finding in report["findings"]
        ],
        "ignored": sorted({finding["code"] for finding in report["ignored"]}),
        "facts": report["facts"],
        "skipped": report["skipped"],
        "seconds": round(report["seconds"], 2),
    }


def _environment(folder: str) -> dict[str, str]:
    # torchvision's wheel is built for CUDA; the folder of the stub declares its operators where PyTorch is not
    path = [str(ROOT / "tests" / "vision" / "stub"), str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "OMP_NUM_THREADS": "1",
        "KERAS_BACKEND": "torch",
        "HF_HUB_OFFLINE": "1",
        "MPLCONFIGDIR": folder,
    }


def _report_of(key: str) -> dict[str, Any]:
    (entry,) = (entry for entries in TABLES.values() for entry in entries if entry.key == key)
    random.seed(0)  # packages draw from three global generators; the tables are to come out again
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    given = entry.build()
    return vicinal.check(given.pop("target"), given.pop("example", None), **given).to_dict()


# -- tables ---------------------------------------------------------------------------------------------------------------


def _print_summary(results: dict[str, Any]) -> None:
    for table in TABLES:
        rows = results[table]
        print(
            f"\n{table}: {len(rows)} entries, {sum(bool(row.get('findings')) for row in rows)} with findings, "
            f"{sum('failed' in row for row in rows)} not checked, {sum(bool(row.get('missed')) for row in rows)} where "
            f"something expected was not found, {sum(bool(row.get('surprises')) for row in rows)} where something else was"
        )


def text(result: Result) -> str:
    """Return a result as lines for a terminal."""
    lines = [f"{result['package']} {result['version'] or ''}: {result['entry']}"]
    if "failed" in result:
        return "\n".join(
            [*lines, *(f"    {line}" for line in result.get("stderr", [])), f"    FAILED {result['failed']}"]
        )
    lines[0] += f"  ({result['seconds']} s)"
    for finding in result["findings"]:
        where = f" [{finding['where']}]" if finding["where"] else ""
        lines.append(f"    {finding['code']} {finding['severity']}{where}: {shortened(finding['seen'])}")
    if not result["findings"]:
        lines.append("    nothing found")
    if result["missed"]:
        lines.append(f"    expected, not found: {', '.join(result['missed'])}")
    if result["surprises"]:
        lines.append(f"    found, not expected: {', '.join(result['surprises'])}")
    for name, reason in result["skipped"].items():
        lines.append(f"    not looked at, {name}: {shortened(reason)}")
    return "\n".join(lines)


def shortened(sentence: str, width: int = 160) -> str:
    """Return a sentence cut at a word."""
    return textwrap.shorten(sentence, width, placeholder=" ...")


INTRO = """\
# The field, checked

Written by `python -m museum.peers --write`; `make check-peers` makes an environment with the packages ({size}) and runs it.
Each row is one call of `vicinal.check` on a package as it is installed, used as its own documentation shows it, in a process
of its own on a CPU. What each code means in full: [codes](codes.md).

A finding is what was measured with these arguments, and no judgment on a package: each of them does many things that ours
does not, and some of what is found is meant, and documented by its authors.
"""

OWN = """\
## Ours, in the same way

Every vicinity, pairing, loader and integration of ours, by the same calls. Where something is meant that would be found,
it is declared or ignored in the entry, and the row says so. Nothing may be found.
"""

SIZE = "450 MB beside that of `make test`"


def page(results: dict[str, Any]) -> str:
    """Return the page of the documentation."""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines = [INTRO.format(size=SIZE), f"Versions: {versions}.", "", "## The packages", ""]
    lines += _markdown(results["peers"])
    lines += ["", OWN, *_markdown(results["ours"], packages=False)]
    found = sorted({code for table in TABLES for row in results[table] for code in row.get("codes", [])})
    lines += [
        "",
        "## What the findings mean",
        "",
        "| code | what it is | what it does to the training |",
        "|---|---|---|",
    ]
    for name in found:
        kind = CODES[name]
        lines.append(f"| [{name}](codes.md#{name.lower()}), {kind.severity} | {kind.title} | {kind.means} |")
    return "\n".join(lines) + "\n"


def _markdown(rows: list[Result], packages: bool = True) -> list[str]:
    head = ["package", "entry", "found", "seconds"] if packages else ["entry", "found", "seconds"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [f"{row['package']} {row['version'] or ''}".strip()] if packages else []
        cells += [row["entry"], _found(row), f"{row['seconds']:.1f}" if "seconds" in row else ""]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return lines


def _found(row: Result) -> str:
    if "failed" in row:
        return f"not checked: {row['failed']}"
    found = "<br>".join(
        f"[{finding['code']}](codes.md#{finding['code'].lower()}) {shortened(finding['seen'], 120)}"
        for finding in row["findings"]
    )
    return found or "nothing"


if __name__ == "__main__":
    main()
