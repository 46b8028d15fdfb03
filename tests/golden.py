"""Record what the commands produce, and compare two records: nothing else may change when code is moved or renamed.

    python tests/golden.py record FOLDER        # every study at its smallest scale, `compare`, `diagnose`, `train`
    python tests/golden.py compare OLD NEW      # every figure, table and weight, to the byte
    python tests/golden.py compare OLD NEW --numbers   # only numbers, in order: after a rename of words

Clocks, versions and what was measured in seconds are left out. About three minutes on two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import torch

SCALE = "--scale"
COMMANDS = {
    "reproduce": ["reproduce", "all", SCALE, "smoke", "--jobs", "2"],
    "iris": ["compare", "iris", "--seeds", "3", "--epochs", "20", "--jobs", "1"],
    "diabetes": ["compare", "diabetes", "--seeds", "2", "--epochs", "5", "--jobs", "1"],
    "train": [
        *("train", "cifar10-preact18-mixup", "--quick"),
        *("dataset=synthetic-images", "model=small", "epochs=2", "seed=3"),
    ],
}
CLOCKS = re.compile(
    r"second|minute|time|started|finished|version|python|torch|vicinal|machine|cores|path|command|host|created|fingerprint"
    r"|sha256|digest|processor"
)
VARYING = ("cost/", ".lock", ".log", "events.")


def record(folder: Path) -> None:
    """Run every command; its files go to a folder of its name."""
    for name, words in COMMANDS.items():
        command = [sys.executable, "-m", "vicinal.lab.cli", *words, "--out", str(folder / name)]
        print(" ".join(words), flush=True)
        one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # two change the last bits of sums
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=one_thread)


def contents(path: Path, numbers: bool) -> object:
    """Return what must not change in one file."""
    if path.suffix in {".json", ".jsonl"}:
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        return [leaves(json.loads(line), numbers) for line in lines]
    if path.suffix in {".pt", ".pth"}:
        return tensors(torch.load(path, weights_only=True))
    if path.suffix == ".html" or path.suffix == ".svg":
        text = re.sub(r"\d+(\.\d+)? (s|seconds|minutes|min|h)\b|\d{4}-\d\d-\d\d[T ]?[\d:]*", "", path.read_text())
        return re.findall(r"-?\d+\.\d+", text) if numbers else text
    return hashlib.sha256(path.read_bytes()).hexdigest()


def leaves(value: object, numbers: bool) -> object:
    """Return a nest of values without clocks; only its numbers, in order, if asked."""
    if isinstance(value, dict):
        kept = {key: leaves(part, numbers) for key, part in value.items() if not CLOCKS.search(key)}
        return [part for part in kept.values() if part not in (None, [])] if numbers else kept
    if isinstance(value, list):
        parts = [leaves(part, numbers) for part in value]
        return [part for part in parts if part not in (None, [])] if numbers else parts
    return value if not numbers or (isinstance(value, int | float) and not isinstance(value, bool)) else None


def tensors(value: object) -> list[str]:
    """Return the digest of every tensor in a nest."""
    if isinstance(value, torch.Tensor):
        return [hashlib.sha256(value.contiguous().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()]
    if isinstance(value, dict):
        value = list(value.values())
    return [digest for part in value for digest in tensors(part)] if isinstance(value, list | tuple) else []


def compare(old: Path, new: Path, numbers: bool) -> int:
    """Print every file that differs; return how many."""
    found = {root: {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()} for root in (old, new)}
    names = sorted(name for name in found[old] | found[new] if not any(word in name for word in VARYING))
    different = 0
    for name in names:
        missing = [root for root in (old, new) if name not in found[root]]
        if missing:
            print(f"only in {(new if missing[0] == old else old)}: {name}")
        elif contents(old / name, numbers) != contents(new / name, numbers):
            print(f"differs: {name}")
        else:
            continue
        different += 1
    print(f"{len(names) - different} of {len(names)} files are equal")
    return different


def main() -> int:
    """Record or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("record").add_argument("folder", type=Path)
    both = commands.add_parser("compare")
    both.add_argument("old", type=Path)
    both.add_argument("new", type=Path)
    both.add_argument("--numbers", action="store_true")
    args = parser.parse_args()
    if args.command == "record":
        record(args.folder)
        return 0
    return min(1, compare(args.old, args.new, args.numbers))


if __name__ == "__main__":
    sys.exit(main())
