"""Make a golden set: one of everything that the commands leave and read again, with what it holds as plain values.

    python tests/make_golden_files.py        # into tests/golden_files/, under a name made of the formats

A set is made once, by the version that first writes these formats, and never again: `tests/test_golden_files.py` holds later
versions to it. All of it is small: 4,110 weights, iris, and 18 images of 16 x 16. About a minute on one core.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import vicinal
from vicinal.lab.compare import model_file, results, runner
from vicinal.lab.compare.classifier import Classifier
from vicinal.lab.compare.comparison import Comparison
from vicinal.lab.compare.folder_comparison import FolderComparison
from vicinal.lab.compare.predictor import Predictor
from vicinal.lab.compare.settings import FolderSettings, TableSettings
from vicinal.lab.compare.table_comparison import TableComparison
from vicinal.lab.data import class_folder, tables
from vicinal.lab.paper import reproduce, store
from vicinal.lab.training import checkpoint, runs

SETS = Path(__file__).parent / "golden_files"
CONTENT = "content.json"
LEFT_OUT = (
    "report.html",
    "*.svg",
    ".lock",
    "table.md",
    "table.tex",
    "table.json",
    "*.log",
)  # written, never read again

TRAIN = ("train", "cifar10-small-mixup", "dataset=synthetic-images", "model=small-eighth", "batch_size=40", "seed=3")
COMPARE = ("--seeds", "2", "--epochs", "2", "--alpha", "0.4", "--jobs", "1")
IMAGES = ("--model", "small-eighth", "--size", "16")
CLASSES = ("blue", "green", "red")

# -- what each part holds, as this version reads it --------------------------------------------------------------------


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 of names, types, shapes and bytes of tensors."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def run(folder: Path) -> dict[str, Any]:
    """Open a finished run of `train`."""
    recipe = runs.load_recipe(folder)
    found = runs.read_results(folder, recipe)
    assert found is not None
    return {
        "model": recipe.model,
        "vicinity": recipe.vicinity,
        "seed": recipe.seed,
        "weights": digest(runs.load_model(folder, 10).state_dict()),
        "test errors": [epoch["test_error"] for epoch in found.epochs],
        "best": found.test_error.best,
    }


def stopped(folder: Path) -> dict[str, Any]:
    """Open a run of `train` that was killed: the state that its next process goes on from."""
    runs.load_recipe(folder)
    state = checkpoint.load_last(folder)
    assert state is not None
    return {"tensors": digest(state.tensors), "record": state.record}


def comparison(folder: Path) -> dict[str, Any]:
    """Open a comparison by the command that made it: its runs, its predictions, its verdict."""
    compared: Comparison[Any, Any]
    if folder.name == "table":
        compared = TableComparison(tables.load("iris"), TableSettings(seeds=2, epochs=2, alphas=(0.4,)))
    else:
        pictures = class_folder.read(folder.parent / "pictures", size=16)
        compared = FolderComparison(pictures, FolderSettings(seeds=2, epochs=2, alphas=(0.4,), model="small-eighth"))
    kept = runner.RunFolder(folder)
    kept.open(compared)
    found = kept.load_results(compared)
    assert found is not None
    assert kept.missing(compared) == []
    outputs = {f"{method} {seed}": torch.from_numpy(of.outputs) for (method, seed), of in kept.predicted().items()}
    return {
        "runs": {f"{each.method} {each.seed}": each.test for each in kept.runs()},
        "predictions": digest(outputs),
        "verdict": found.verdict.sentence,
        "differences": {each.method: each.difference for each in found.comparisons},
    }


def model(file: Path) -> dict[str, Any]:
    """Open a model that a comparison kept."""
    if file.parent.name == "table":
        loaded: Predictor | Classifier = Predictor.load(file)
        classes = list(loaded.encoding.classes)
    else:
        loaded = Classifier.load(file)
        classes = list(loaded.classes)
    return {"weights": digest(loaded.model.state_dict()), "classes": classes}


def jobs(folder: Path) -> dict[str, Any]:
    """Open what a study of `reproduce` kept of its jobs."""
    kept = store.JobFolder(folder, reproduce.find("toy"), "smoke").records(any_version=True)
    return {
        name: hashlib.sha256(json.dumps(record.results, sort_keys=True).encode()).hexdigest()
        for name, record in kept.items()
    }


# for each part how it is opened, and the format in which this version writes it
PARTS: dict[str, tuple[Callable[[Path], dict[str, Any]], int]] = {
    "train": (run, runs.FORMAT),
    "train-stopped": (stopped, checkpoint.FORMAT),
    "table": (comparison, results.FORMAT),
    "images": (comparison, results.FORMAT),
    "table/model.safetensors": (model, model_file.FORMAT),
    "images/model.safetensors": (model, model_file.FORMAT),
    "reproduce": (jobs, store.FORMAT),
}


# -- a new set ---------------------------------------------------------------------------------------------------------


def pictures(folder: Path) -> None:
    """Write six images of each class: noise about the class's color, the same each time."""
    from PIL import Image

    for i, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for k in range(6):
            noise = np.random.Generator(np.random.Philox(key=[i, k])).integers(0, 160, (16, 16, 3))
            noise[..., 2 - i] += 60
            Image.fromarray(noise.astype(np.uint8)).save(folder / name / f"{k}.png")


def command(*words: str) -> list[str]:
    """Return a command line of vicinal."""
    return [sys.executable, "-m", "vicinal.lab.cli", *words]


def stop_after_checkpoints(folder: Path, words: list[str], env: dict[str, str]) -> None:
    """Start a run of `train` and kill it when it has written two checkpoints."""
    log = (folder.parent / "stopped.log").open("w")
    with log, subprocess.Popen(words, cwd=folder.parent, env=env, stdout=log, stderr=log) as process:
        deadline = time.monotonic() + 120
        while len(list(folder.glob("*.ckpt"))) < 2:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise RuntimeError(f"no checkpoint was left: {(folder.parent / 'stopped.log').read_text()}")
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    for path in folder.glob("*.partial"):
        path.unlink()


def make(folder: Path) -> None:
    """Make a set in a new folder."""
    folder.mkdir(parents=True)
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    pictures(folder / "pictures")
    for words in (
        (*TRAIN, "epochs=2", "--out", "train"),
        ("compare", "iris", *COMPARE, "--out", "table"),
        ("compare", "pictures", *COMPARE, *IMAGES, "--out", "images"),
        ("reproduce", "toy", "--scale", "smoke", "--jobs", "1", "--out", "reproduce"),
    ):
        subprocess.run(command(*words), cwd=folder, env=env, check=True, timeout=300)
    words = command(*TRAIN, "epochs=200", "--save-every", "0.001", "--out", "train-stopped")
    stop_after_checkpoints(folder / "train-stopped", words, env)
    (folder / "reproduce/toy/smoke/seed1.json").unlink()  # one job is enough
    for pattern in LEFT_OUT:
        for path in folder.rglob(pattern):
            path.unlink()
    made = {"vicinal": vicinal.__version__, "torch": torch.__version__, "parts": {}}
    for part, (opened, form) in PARTS.items():
        made["parts"][part] = {"format": form, "content": opened(folder / part)}
    (folder / CONTENT).write_text(json.dumps(made, indent=1, allow_nan=False) + "\n")


def main() -> None:
    """Make the set of this version."""
    formats = {"run": runs, "comparison": results, "job": store}
    name = "_".join(f"{word}{module.FORMAT}" for word, module in formats.items()) + f"_model{model_file.FORMAT}"
    folder = SETS / name
    if folder.exists():
        raise SystemExit(f"{folder} is there: a set is made once")
    try:
        make(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
