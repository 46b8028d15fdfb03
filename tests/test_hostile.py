"""The engine of hostile input finds each kind of harm that a reader can do, and calls nothing else harm."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from torture.hostile import MODULES, engine, mutations

ROOT = Path(__file__).parent.parent

# what a reader does with every input, and what the engine says of it; in a process of its own, since it forks
PROGRAM = """
import ctypes, json, os, pickle, signal, socket, subprocess, time
from torture.hostile.engine import Reader, run_reader

def swallow(path):
    try:
        __import__("hostile_canary")
    except BaseException:
        pass

def fill(path):
    held = [bytes(1 << 26) for _ in range(40)]

def spin(path):
    while True:
        pass

def refuse(path):
    raise ValueError("x" * (30_000 if path.read_bytes() == b"long" else 5))

READS = {
    "reads": lambda path: path.read_bytes(),
    "refuses": refuse,
    "too long": lambda path: (_ for _ in ()).throw(ValueError("x" * 30_000)),
    "no words": lambda path: (_ for _ in ()).throw(ValueError()),
    "another error": lambda path: {}["x"],
    "spins": spin,
    "waits": lambda path: time.sleep(100),
    "fills": fill,
    "aborts": lambda path: os.abort(),
    "crashes": lambda path: ctypes.string_at(0),
    "ends": lambda path: os._exit(0),
    "writes": lambda path: open(path.parent.parent / "x", "w").close(),
    "links": lambda path: os.symlink("x", path.parent.parent / "y"),
    "writes inside": lambda path: open(path.parent / "x", "w").close(),
    "imports": lambda path: __import__("hostile_canary"),
    "imports and hides it": swallow,
    "unpickles": lambda path: pickle.loads(b"cos\\nsystem\\n."),
    "connects": lambda path: socket.create_connection(("127.0.0.1", 9)),
    "starts": lambda path: subprocess.run(["true"]),
}
told = {}
for name, read in READS.items():
    reader = Reader(name, lambda: [b"a"], read, refusals=(ValueError,), seconds=0.1, memory=1 << 29)
    tally = run_reader(reader, 5, 0, most=1)
    told[name] = [tally.inputs, tally.read, tally.refused, [failure.how for failure in tally.failures]]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told() -> dict[str, list[object]]:
    """Return what the engine says of each reader."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_reading_and_refusing_are_right(told: dict[str, list[object]]) -> None:
    assert told["reads"] == [1, 1, 0, []]
    assert told["writes inside"] == [1, 1, 0, []]
    assert told["refuses"] == [1, 0, 1, []]


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("too long", "a refusal too long at "),
        ("no words", "a refusal without words at "),
        ("another error", "KeyError at "),
        ("spins", "too slow at "),
        ("waits", "hangs at "),
        ("fills", "MemoryError at "),
        ("aborts", "dies of SIGABRT at "),
        ("crashes", "dies of SIGSEGV at "),
        ("ends", "ends the process with code 0 at "),
        ("writes", "wrote a file outside of the folder"),
        ("links", "did os.symlink to a file outside of the folder"),
        ("imports", "imported a module that the input names"),
        ("imports and hides it", "imported a module that the input names"),
        ("unpickles", "looked up os.system for a pickle"),
        ("connects", "used the network (socket."),
        ("starts", "started a program (subprocess.Popen)"),
    ],
)
def test_harm_is_found(told: dict[str, list[object]], name: str, how: str) -> None:
    inputs, read, refused, failures = told[name]
    assert (inputs, read, refused) == (1, 0, 0)
    assert isinstance(failures, list)
    assert len(failures) == 1
    assert how in failures[0]


def test_inputs_are_functions_of_the_seed() -> None:
    reader = engine.Reader("r", lambda: [], lambda given: given, tokens=[b"TOKEN"])
    seeds = [b"one input", b"another input"]
    made = [reader.make(seeds, 3, number) for number in range(200)]
    assert made == [reader.make(seeds, 3, number) for number in range(200)]
    assert made[:2] == seeds
    assert len(set(made)) > 150
    assert made != [reader.make(seeds, 4, number) for number in range(200)]


def test_values_are_not_changed_in_place() -> None:
    value = {"a": [1, 2, {"b": (True, "x", None)}], "c": 0.5}
    before = json.dumps(value)
    changed = [mutations.mutate_value(value, random.Random(i), value) for i in range(300)]
    assert json.dumps(value) == before
    assert sum(one != value for one in changed) > 250


def test_every_module_of_readers_is_run() -> None:
    there = {path.stem for path in (ROOT / "torture" / "hostile").glob("readers_*.py")}
    assert there == set(MODULES)
