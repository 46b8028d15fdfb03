"""No network unless a command is for that: each command runs where whatever leaves the machine is seen and goes nowhere.

The place is a network namespace with the loopback device and a default route to nowhere, whose packets are read, so that
native code is seen too; calls of Python are written down by `torture/watch`. First a program that does use the network
shows that it would be seen.

One thing is let through and counted: `torch.distributed` asks the system for the name of each address that connects, also of
127.0.0.1, and the system may ask a name server.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from torture.part import ROOT, Outcome

ABOUT = "each command where whatever leaves the machine is seen: nothing does"

WATCH = ROOT / "torture" / "watch"
LOOPBACK = "ip link set lo up"
# a cable whose other end nobody reads; IPv6 and ARP would greet their neighbors by themselves
NOWHERE = (
    "ip link add nowhere type veth peer name end && ip addr add 192.0.2.2/24 dev nowhere && "
    "sysctl -qw net.ipv6.conf.nowhere.disable_ipv6=1 net.ipv6.conf.end.disable_ipv6=1 && ip link set end arp off up && "
    "ip link set nowhere arp off up && ip route add default via 192.0.2.1 dev nowhere"
)
# run a command, and write what comes out at the other end: where to, by which protocol, and how it begins
READ_PACKETS = """
import json, os, socket, subprocess, sys
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
out.bind(("end", 0))
out.settimeout(0.1)
process = subprocess.Popen(sys.argv[2:], env=os.environ | {"PYTHONPATH": os.environ["WATCH"]})
found, ended = [], False
while True:
    try:
        frame = out.recv(65536)
    except TimeoutError:
        if ended:
            break
        ended = process.poll() is not None
        continue
    to = ".".join(map(str, frame[30:34])) if frame[12:14] == b"\\x08\\x00" else "?"
    found.append([to, frame[23], frame[34:].decode("latin-1")])
with open(sys.argv[1], "w") as file:
    json.dump(found, file)
sys.exit(process.returncode)
"""
NAME_OF_ADDRESS = ("in-addr\x04arpa", "ip6\x04arpa")  # in a question to a name server
LIMIT = 120.0  # seconds for one command

USES_NETWORK = """
import ctypes, socket
try:
    socket.create_connection(("192.0.2.1", 9), timeout=0.1)
except OSError:
    pass
libc = ctypes.CDLL(None)  # as native code does, unseen by Python
address = (2).to_bytes(2, "little") + (9).to_bytes(2, "big") + bytes([192, 0, 2, 1]) + bytes(8)
libc.sendto(libc.socket(2, 2, 0), b"x", 1, 0, address, 16)
"""

PIPELINE = """
import torch
import vicinal

mixup = vicinal.Mixup(0.4)


def collate(rows):
    x, y = torch.utils.data.default_collate(rows)
    return mixup(x, y)
"""


@dataclass(frozen=True)
class Seen:
    """What one command did: its exit code, its output, what Python asked of the network, and what went out.

    A packet is its address, its protocol's number, and its content.
    """

    code: int
    said: str
    calls: list[str]
    packets: list[tuple[str, int, str]]


def unshare() -> list[str] | None:
    """Return the command that makes a network namespace here; None where none can be made."""
    for command in (["unshare", "-n"], ["unshare", "-rn"]):
        script = f"{LOOPBACK} && {NOWHERE}"
        try:
            done = subprocess.run([*command, "sh", "-c", script], capture_output=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode == 0:
            return command
    return None


def watched(space: Sequence[str], command: Sequence[str], folder: Path, route: bool = True) -> Seen:
    """Run a command in a namespace of its own.

    Args:
        space: of `unshare`.
        command: with its arguments.
        folder: it runs in.
        route: False leaves it without any, as on a machine without a network.

    """
    with tempfile.TemporaryDirectory() as own:
        calls, packets = Path(own, "calls.jsonl"), Path(own, "packets.json")
        env = os.environ | {"OMP_NUM_THREADS": "1", "WATCH": str(WATCH), "VICINAL_WATCH": str(calls)}
        if route:
            script = f'{LOOPBACK} && {NOWHERE} && exec "$@"'
            command = [sys.executable, "-c", READ_PACKETS, str(packets), *command]
        else:
            script = f'{LOOPBACK} && exec "$@"'
            env["PYTHONPATH"] = str(WATCH)
        done = subprocess.run(
            [*space, "sh", "-c", script, "sh", *command],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
        )
        lines = calls.read_text().splitlines() if calls.exists() else []
        out = json.loads(packets.read_text()) if packets.exists() else []
    return Seen(done.returncode, done.stdout, lines, out)


def vicinal(*words: str) -> list[str]:
    """Return a command line of vicinal."""
    return [sys.executable, "-m", "vicinal.lab.cli", *words]


def write_inputs(folder: Path, seed: int) -> None:
    """Write what the commands read: scores, new rows, images of three classes, a pipeline."""
    from PIL import Image

    generator = np.random.Generator(np.random.Philox(key=seed))
    scores = generator.normal(size=(2, 10))
    rows = [f"{name},{i},{scores[k, i]:.4f}" for k, name in enumerate("ab") for i in range(10)]
    (folder / "scores.csv").write_text("\n".join(["method,seed,score", *rows]) + "\n")
    names = ",".join(f"{part} {side} (cm)" for part in ("sepal", "petal") for side in ("length", "width"))
    (folder / "new.csv").write_text(f"{names}\n5.1,3.5,1.4,0.2\n6.2,2.9,4.3,1.3\n")
    (folder / "pipeline.py").write_text(PIPELINE)
    for name in ("blue", "green", "red"):
        (folder / "pictures" / name).mkdir(parents=True)
        for i in range(6):
            image = generator.integers(0, 255, (16, 16, 3)).astype(np.uint8)
            Image.fromarray(image).save(folder / "pictures" / name / f"{i}.png")


SHORT = ("--seeds", "2", "--epochs", "1", "--alpha", "0.4", "--jobs", "2")
TRAIN = ("dataset=synthetic-images", "model=small-eighth", "epochs=1", "batch_size=40")
TWO = ("--standalone", "--nproc-per-node=2", "-m", "vicinal.lab.cli")
# each with the exit code that it ends with; those that read what another one wrote come after it
COMMANDS: dict[str, tuple[list[str], int]] = {
    "import": ([sys.executable, "-c", "import vicinal, vicinal.testing, vicinal.lab.judge"], 0),
    "train": (vicinal("train", "cifar10-small-mixup", *TRAIN, "--out", "a"), 0),
    "compare, a table": (vicinal("compare", "iris", *SHORT, "--out", "table"), 0),
    "predict": (vicinal("predict", "table", "new.csv"), 0),
    "check": (vicinal("check", "pipeline.py:collate"), 0),
    "diagnose": (vicinal("diagnose", "iris"), 0),
    "judge": (vicinal("judge", "scores.csv", "--test-share", "0.25", "--baseline", "a"), 0),
    "explain": (vicinal("explain", "VIC001"), 0),
    "reproduce": (vicinal("reproduce", "toy", "--scale", "smoke", "--jobs", "2"), 0),
    "reproduce --report": (vicinal("reproduce", "--report"), 0),
    "train, two processes": (
        [sys.executable, "-m", "torch.distributed.run", *TWO, "train", "cifar10-small-erm", *TRAIN, "--out", "b"],
        0,
    ),
    "interpolate": (vicinal("interpolate", "a", "b"), 0),
    "compare, images": (vicinal("compare", "pictures", *SHORT, "--model", "small-eighth", "--out", "images"), 0),
    "train --tensorboard": (vicinal("train", "cifar10-small-erm", *TRAIN, "--tensorboard", "--out", "c"), 0),
    "data list": (vicinal("data", "list"), 0),
}


def run(seconds: float, seed: int) -> Outcome:
    """Run the commands one after the other while there is time."""
    outcome = Outcome()
    end = time.monotonic() + seconds
    space = unshare()
    if space is None:
        outcome.skipped.append("no network namespace can be made here (unshare -n, ip): commands were not watched")
        return outcome
    with tempfile.TemporaryDirectory(prefix="offline-") as name:
        folder = Path(name)
        write_inputs(folder, random.Random(seed).getrandbits(32))
        control = watched(space, [sys.executable, "-c", USES_NETWORK], folder)
        if not control.calls or not control.packets:
            outcome.failed.append(f"a program that uses the network was not seen: {control}")
        _fetch(space, folder, outcome)
        left: list[str] = []
        for title, (command, code) in COMMANDS.items():
            if time.monotonic() > end:
                left.append(title)
                continue
            seen = watched(space, command, folder)
            outcome.tried += 1
            again = f"torture.offline, {title!r}: {' '.join(command)}"
            questions = [content for _, _, content in seen.packets if any(part in content for part in NAME_OF_ADDRESS)]
            packets = len(seen.packets)
            if title == "train, two processes":
                packets -= len(questions)
                outcome.count("questions for the name of an address, by torch.distributed", len(questions))
            outcome.count("packets that left", packets)
            outcome.count("calls to the network", len(seen.calls))
            if seen.code != code:
                outcome.failed.append(f"{again} ended with {seen.code}: {seen.said[-500:]}")
            if seen.calls or packets:
                outcome.failed.append(f"{again} used the network: {seen.packets[:3]}, {seen.calls[:3]}")
        if left:
            outcome.skipped.append(f"for want of time: {', '.join(left)}")
    return outcome


def _fetch(space: Sequence[str], folder: Path, outcome: Outcome) -> None:
    """Run the command that is for the network, without one: it ends soon, in a sentence."""
    command = ["env", f"VICINAL_DATA={folder / 'data'}", *vicinal("data", "fetch", "cifar10")]
    seen = watched(space, command, folder, route=False)
    outcome.tried += 1
    lines = [line for line in seen.said.splitlines() if line.startswith("vicinal: ")]
    if seen.code != 2 or len(lines) != 1 or "Traceback" in seen.said:
        outcome.failed.append(
            f"torture.offline, {' '.join(command)} without a network ended with {seen.code}: {seen.said[-500:]}"
        )
    if not seen.calls:
        outcome.failed.append(f"torture.offline, {' '.join(command)}: it asked nothing of the network, or was not seen")
