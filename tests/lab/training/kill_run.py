"""Kills trainings by SIGKILL at drawn instants, lets the same command go on, and compares the weights to the last bit.

    VICINAL_DATA=FOLDER python tests/lab/training/kill_run.py --kills 20 --processes 2 --out results/kill/2-processes.json

Each process of a training is one of the system, forked from a server that has imported PyTorch already, and runs
`vicinal train` with the same arguments every time, in torchrun's environment where there are several. There are three
kinds of instants: while it starts (`start`), while it trains (`step`), and while a checkpoint is being written
(`write`: its unfinished file was seen). Of several processes all are killed, or one by one's draw; then the others must
end by themselves.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import shlex
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

import vicinal
from vicinal.keyed import Key
from vicinal.lab import atomic

KINDS = ("write", "step", "start", "step", "write")
ARGUMENTS = (
    *("cifar10-small-mixup", "max_train_examples=1024", "max_test_examples=256", "epochs=6", "batch_size=32"),
    *("milestones=3,5", "ema_decay=0.9"),
)  # fmt: skip
_SAVE_EVERY = 0.02  # seconds
_LONGEST = 900.0  # seconds that a training may take before this program gives up
_POLL = 0.002

processes = multiprocessing.get_context("forkserver")
# the first step of an optimizer imports torch._dynamo, which takes seconds
processes.set_forkserver_preload(["vicinal.lab.cli", "vicinal.lab.training.loop", "torch._dynamo"])


def child(argv: list[str], environment: dict[str, str], log: str) -> None:
    """Be one process of a training."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.update(environment)
    torch.set_num_threads(1)
    from vicinal.lab import cli

    sys.exit(cli.main(argv))


@dataclass
class Training:
    """The processes of one training; `start` is the command, given again after each kill."""

    arguments: tuple[str, ...]
    folder: Path
    world: int
    save_every: float = _SAVE_EVERY
    timeout: float = 120.0
    running: list[BaseProcess] = field(default_factory=list)

    @property
    def argv(self) -> list[str]:
        """The arguments of `vicinal`."""
        options = ["--save-every", str(self.save_every), "--timeout", str(self.timeout)]
        return ["train", *self.arguments, *options, "--out", str(self.folder)]

    @property
    def log(self) -> Path:
        """What all processes said."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def start(self) -> None:
        """Start the processes."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        many = {"WORLD_SIZE": str(self.world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        self.running = []
        for rank in range(self.world):
            environment = {**many, "RANK": str(rank), "LOCAL_RANK": str(rank)} if self.world > 1 else {}
            process = processes.Process(target=child, args=(self.argv, environment, str(self.log)))
            process.start()
            self.running.append(process)

    def wait(self) -> list[int | None]:
        """Wait for the end; gives the exit codes."""
        end = time.monotonic() + _LONGEST
        for process in self.running:
            process.join(max(0.0, end - time.monotonic()))
        codes = [process.exitcode for process in self.running]
        self.kill(range(self.world))
        return codes

    def kill(self, ranks: Any) -> None:
        """Kill some of them at once."""
        for rank in ranks:
            if self.running[rank].exitcode is None:
                os.kill(self.running[rank].pid, signal.SIGKILL)  # type: ignore[arg-type]
        for rank in ranks:
            self.running[rank].join()

    def finish(self) -> None:
        """Run to the end without a kill."""
        self.start()
        codes = self.wait()
        if codes != [0] * self.world:
            raise RuntimeError(f"the training ended with {codes}:\n{self.log.read_text()[-3000:]}")

    def newest(self) -> str:
        """Return the name of the last checkpoint."""
        return max((path.name for path in self.folder.glob("step-*.ckpt")), default="")

    def writing(self) -> bool:
        """Return whether a checkpoint is being written just now."""
        return any(atomic.is_partial(path) and "step-" in path.name for path in self.folder.glob(".step-*"))

    def kill_at(self, kind: str, seconds: float, ranks: list[int]) -> dict[str, Any] | None:
        """Start it and kill some ranks at an instant; gives what was found then, or None where the run ended before.

        Args:
            kind: `start`, `step` or `write`.
            seconds: after the start for `start`, else after the first checkpoint of this time.
            ranks: whom.

        """
        before = self.newest()
        self.start()
        started = time.monotonic()

        def ended() -> bool:
            return any(process.exitcode is not None for process in self.running)

        while kind != "start" and self.newest() == before and not ended():
            time.sleep(_POLL)
        until = time.monotonic() + seconds
        while time.monotonic() < until and not ended():
            time.sleep(_POLL)
        while kind == "write" and not self.writing() and not ended():
            time.sleep(_POLL)
        if ended():
            codes = self.wait()
            if codes != [0] * self.world:
                raise RuntimeError(f"the training ended with {codes}:\n{self.log.read_text()[-3000:]}")
            return None
        self.kill(ranks)
        killed = time.monotonic()
        others = [process.exitcode for rank, process in enumerate(self.running) if rank not in ranks]
        if len(ranks) < self.world:
            others = [code for rank, code in enumerate(self.wait()) if rank not in ranks]
        return {
            "kind": kind,
            "ranks": ranks,
            "seconds_after_start": killed - started,
            "last_checkpoint_before": before,
            "last_checkpoint": self.newest(),
            "unfinished_file": self.writing(),
            "others_ended_with": others,
            "others_took_seconds": time.monotonic() - killed if others else None,
        }


def state(folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """Return a digest of the weights, and the figures of all epochs but their speed."""
    digest = hashlib.sha256()
    for name, value in torch.load(folder / "weights.pt", weights_only=True).items():
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    lines = atomic.json_lines(folder / "metrics.jsonl")
    return digest.hexdigest(), [{k: v for k, v in line.items() if k != "examples_per_second"} for line in lines]


def kill_and_compare(
    arguments: tuple[str, ...], folder: Path, world: int, kills: int, seed: int = 0, each: int = 10
) -> dict[str, Any]:
    """Kill trainings `kills` times in all, each up to `each` times, and compare them with one that nothing stopped."""
    whole = Training(arguments, folder / "whole", world)
    whole.finish()
    wanted = state(whole.folder)
    generator = Key(seed, 0, 0, 0).generator()
    runs: list[dict[str, Any]] = []
    done = 0
    while done < kills:
        training = Training(arguments, folder / f"killed-{len(runs)}", world)
        found: list[dict[str, Any]] = []
        while len(found) < min(each, kills - sum(len(run["kills"]) for run in runs)):
            kind = KINDS[done % len(KINDS)]
            longest = {"start": 1.0, "step": 0.5, "write": 0.2}[kind]
            ranks = [int(generator.integers(world))] if world > 1 and done % 2 else list(range(world))
            record = training.kill_at(kind, float(generator.random()) * longest, ranks)
            if record is None:
                break
            found.append(record)
            done += 1
        if not (training.folder / "results.json").exists():
            training.finish()
        got = state(training.folder)
        left = sorted(path.name for path in training.folder.iterdir() if atomic.is_partial(path))
        runs.append({"kills": found, "weights": got[0], "same": got == wanted, "unfinished_files_left": left})
    return {"weights": wanted[0], "processes": world, "runs": runs}


def main() -> None:
    """Run it, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = kill_and_compare(ARGUMENTS, Path(folder), args.processes, args.kills)
    same = all(run["same"] for run in found["runs"])
    about = {
        "command": shlex.join(["python", "tests/lab/training/kill_run.py", *sys.argv[1:]]),
        "training": f"vicinal train {shlex.join(ARGUMENTS)} --save-every {_SAVE_EVERY} --timeout 120",
        "versions": {"vicinal": vicinal.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "system": platform.system(),
        "cores": os.cpu_count(),
        "kills": sum(len(run["kills"]) for run in found["runs"]),
        "unfinished_files_seen": sum(kill["unfinished_file"] for run in found["runs"] for kill in run["kills"]),
        "all_weights_and_figures_the_same": same,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(args.out, json.dumps(about | found, indent=1) + "\n")
    print(json.dumps(about, indent=1))
    if not same:
        raise SystemExit("a killed training ended with other weights or figures")


if __name__ == "__main__":
    import kill_run  # the server imports it by this name

    kill_run.main()
