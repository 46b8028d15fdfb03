"""Readers of run folders and of checkpoints, for hostile input: what is resumed must train on, or end in a sentence."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import pickle
import random
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # the first step of an optimizer imports it, which takes seconds: here, and not in each child

from torture.hostile.engine import Reader
from torture.hostile.mutations import mutate_json, mutate_value, smaller_json, smaller_values
from vicinal.finite import FiniteCheck
from vicinal.lab import records, stored
from vicinal.lab.data import loading
from vicinal.lab.errors import UserError
from vicinal.lab.paper import interpolation
from vicinal.lab.paper.gans import training as gans
from vicinal.lab.paper.gans.methods import PlainGan
from vicinal.lab.paper.gans.modes import Modes
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import checkpoint, distributed, grid, loop, runs, weights
from vicinal.lab.training.checkpoint import Saved

RECIPE = Recipe(
    *("synthetic-images", "small-eighth", "Mixup(alpha=0.4)"),
    epochs=3,
    batch_size=40,
    learning_rate=0.01,
    ema_decay=0.5,
)
ADAM = Recipe(
    "synthetic-images", "small-eighth", "ERM()", epochs=2, batch_size=60, optimizer="adam", learning_rate=0.001
)
_CLASSES = 10
_ALONE = distributed.Processes(0, 1, torch.device("cpu"))
_CHECKPOINT = "step-0000000004.ckpt"


# ---- a run, and what it leaves ---------------------------------------------------------------------------------------


@functools.cache
def _started(adam: bool = False) -> tuple[loop._Run, Saved]:
    """Return a run in the middle of its second epoch, or its first, and its state."""
    torch.set_num_threads(1)
    recipe = ADAM if adam else RECIPE
    data, test = loading.load(recipe)
    run = loop._Run(recipe, data, test, _ALONE)
    run.finite = FiniteCheck(run.model)
    steps = 1 if adam else 4
    while run.step < steps:
        for _ in run.steps():
            if run.step == steps:
                break
        else:
            run.end_epoch()
    state = run.state()
    return run, Saved(json.loads(json.dumps(state.record)), {name: t.clone() for name, t in state.tensors.items()})


@functools.cache
def _finished() -> dict[str, bytes]:
    """Return the files of a run that is done."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        line = {"epoch": 1, "step": 3, "learning_rate": 0.1, "train_mixed_loss": 1.0, "train_mixed_accuracy": 0.5}
        line |= {"examples_per_second": 90.0, "test_error": 0.5, "test_nll": 1.0, "test_top5_error": 0.25}
        lines = [line | {"epoch": i + 1, "step": 3 * i + 3} for i in range(RECIPE.epochs)]
        stretches = [runs.Stretch(0, 1, "2.0"), runs.Stretch(4, 2, "2.0")]
        runs.write_recipe(path, RECIPE)
        runs.write_results(path, RECIPE, _started()[0].model, lines, stretches, "cpu")
        return {each.name: each.read_bytes() for each in path.iterdir()}


def _record(name: str) -> Any:
    return stored.unseal(_finished()[name], runs.FORMAT)


def _sealed(raw: bytes) -> bytes:
    """Return a changed record with format and checksum; what is not a record stays as it is."""
    try:
        record = json.loads(raw)
        kept = {key: value for key, value in record.items() if key not in ("format", stored.CHECKSUM)}
        return stored.seal(kept, runs.FORMAT).encode()
    except (ValueError, AttributeError, RecursionError, OverflowError):
        return raw


def _folder(**files: Callable[[bytes], bytes]) -> Callable[[bytes, Path], Path]:
    """Return a delivery: a finished run, some of whose files are made of the input."""

    def deliver(raw: bytes, folder: Path) -> Path:
        for name, content in _finished().items():
            made = files.get(name.partition(".")[0])
            (folder / name).write_bytes(content if made is None else made(raw))
        return folder

    return deliver


def _read_run(folder: Path) -> None:
    """Open a run folder by everything that does."""
    opened: list[Callable[[], object]] = [
        lambda: runs.load_recipe(folder),
        lambda: runs.holds_run(folder, RECIPE),
        lambda: runs.read_results(folder, RECIPE),
        lambda: runs.load_model(folder, _CLASSES),
    ]
    failed = [error for one in opened if (error := _refused(one)) is not None]
    row = grid._row(grid.GridPoint(("seed=0",), folder), None)
    assert ("failed" in row) != ("test_error" in row)
    if failed:
        raise failed[0]


def _refused(work: Callable[[], object]) -> Exception | None:
    try:
        work()
    except UserError as error:
        return error
    return None


@contextmanager
def _quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# ---- checkpoints -----------------------------------------------------------------------------------------------------


def _file(content: bytes) -> bytes:
    return b"vicinal checkpoint %d\n" % checkpoint.FORMAT + hashlib.sha256(content).digest() + content


def _deliver_checkpoint(raw: bytes, folder: Path) -> Path:
    (folder / _CHECKPOINT).write_bytes(raw)
    return folder


def _resume(folder: Path, adam: bool = False) -> None:
    """Resume a run as `train` does, and take the next step."""
    run, _ = _started(adam)
    with _quietly():
        file = checkpoint.read_last(folder)
        if file is None:
            return
        run.load(checkpoint.load(file), file.path)
    assert 0 <= run.epoch <= run.recipe.epochs
    assert run.stretches[-1].processes == 1
    if run.epoch == run.recipe.epochs:
        return
    next(run.steps(), None)
    if run.progress()[0] == run.epoch_steps:
        run.end_epoch()


def _with_record(raw: bytes) -> bytes:
    """Return a checkpoint with a changed record and the right tensors."""
    try:
        return _file(checkpoint._dump(Saved(json.loads(raw), _started()[1].tensors)))
    except (ValueError, RecursionError):  # not JSON
        return _file(raw)


def _with_tensors(start: Callable[[], Saved]) -> Callable[[bytes, Path], Path]:
    """Return a delivery of a checkpoint with changed tensors and the right record."""

    def deliver(raw: bytes, folder: Path) -> Path:
        changed = pickle.loads(raw)
        tensors = changed if isinstance(changed, dict) else {}
        kept = {str(name).encode(errors="replace").decode(): t for name, t in tensors.items() if torch.is_tensor(t)}
        return _deliver_checkpoint(_file(checkpoint._dump(Saved(start().record, kept))), folder)

    return deliver


def _mutate_pickled(raw: bytes, rng: random.Random, others: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    try:
        return pickle.dumps(mutate_value(pickle.loads(raw), rng, None))
    except RecursionError:
        return raw


def _smaller_pickled(raw: bytes) -> Iterator[bytes]:
    return map(pickle.dumps, smaller_values(pickle.loads(raw)))


def _of_tensors(name: str, start: Callable[[], Saved], read: Callable[[Any], object]) -> Reader:
    return Reader(
        name,
        lambda: [pickle.dumps(start().tensors)],
        read,
        _mutate_pickled,
        deliver=_with_tensors(start),
        smaller=_smaller_pickled,
    )


# ---- weights ---------------------------------------------------------------------------------------------------------


def _results_for(content: bytes) -> bytes:
    """Return results.json with the SHA-256 of some weights, as somebody forges it."""
    return stored.seal(_record("results.json") | {"weights_sha256": hashlib.sha256(content).hexdigest()}, 3).encode()


def _program() -> bytes:
    with zipfile.ZipFile(io.BytesIO(_finished()["weights.pt"])) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))


def _with_program(raw: bytes) -> bytes:
    """Return a file of weights with a changed pickle and the right records."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_finished()["weights.pt"])) as archive, zipfile.ZipFile(made, "w") as new:
        for name in archive.namelist():
            new.writestr(name, raw if name.endswith("/data.pkl") else archive.read(name))
    return made.getvalue()


def _parse_weights(path: Path) -> None:
    found = weights.parse(path.read_bytes())
    size = path.stat().st_size
    assert all(tensor.numel() * tensor.element_size() <= size for tensor in found.values())
    weights.load_into(_started()[0].model, found)


# ---- GANs ------------------------------------------------------------------------------------------------------------

_RING = Modes("ring", ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)))
_GAN = gans.GanSettings(
    _RING, PlainGan(), seed=3, iterations=4, snapshots=(1, 2, 4), batch_size=8, hidden=(6, 6), samples=20
)


@functools.cache
def _gan() -> Saved:
    """Return the state of a GAN after two iterations."""
    gan, snapshots = gans.Gan(_GAN), {}
    for _ in range(2):
        gan.iterate()
        snapshots[gan.iteration] = gan.sample()
    return gans._state(gan, snapshots)


def _with_gan_record(raw: bytes) -> bytes:
    try:
        return _file(checkpoint._dump(Saved(json.loads(raw), _gan().tensors)))
    except (ValueError, RecursionError):
        return _file(raw)


def _resume_gan(folder: Path) -> None:
    with _quietly():
        snapshots = gans.train(_GAN, folder)
    assert list(snapshots) == [1, 2, 4]
    assert all(points.shape == (20, 2) for points in snapshots.values())


# ---- all of them -----------------------------------------------------------------------------------------------------

_NAMES = [b"small", b"hostile_canary:make", b"hostile_canary", b"synthetic-images", b"Mixup(alpha=1e308)", b"format"]


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _of_json(name: str, seed: Callable[[], Any], read: Callable[[Any], object], **rest: Any) -> Reader:
    return Reader(name, lambda: [_json(seed())], read, mutate_json, tokens=_NAMES, smaller=smaller_json, **rest)


def _both(raw: bytes) -> bytes:
    """Return results.json with the recipe of a changed recipe.json."""
    try:
        recipe = json.loads(raw)["recipe"]
        return stored.seal(
            _record("results.json") | {"recipe": recipe, "epochs": _epochs(recipe["epochs"])}, 3
        ).encode()
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return _finished()["results.json"]


def _epochs(count: int) -> list[Any]:
    return (_record("results.json")["epochs"] * min(count, 3))[:count]


def _interpolated(folder: Path) -> None:
    """Open a run as `vicinal interpolate` does, twice: as run A and as run B."""
    interpolation.load(folder, folder)


READERS: list[Reader] = [
    _of_json("run-recipe", lambda: _record("recipe.json"), _read_run, deliver=_folder(recipe=_sealed)),
    _of_json("run-results", lambda: _record("results.json"), _read_run, deliver=_folder(results=_sealed)),
    Reader(
        "run-results-bytes",
        lambda: [_finished()["results.json"]],
        _read_run,
        tokens=_NAMES,
        deliver=_folder(results=lambda raw: raw),
    ),
    _of_json(
        "run-interpolated",
        lambda: _record("recipe.json"),
        _interpolated,
        deliver=_folder(recipe=_sealed, results=_both),
    ),
    Reader(
        "weights", lambda: [_finished()["weights.pt"]], _parse_weights, refusals=(weights.Unreadable, records.Mismatch)
    ),
    Reader(
        "weights-program",
        lambda: [_program()],
        _parse_weights,
        refusals=(weights.Unreadable, records.Mismatch),
        wrap=_with_program,
    ),
    Reader(
        "run-weights",
        lambda: [_finished()["weights.pt"]],
        _read_run,
        deliver=_folder(weights=lambda raw: raw, results=_results_for),
    ),
    Reader(
        "checkpoint",
        lambda: [_file(checkpoint._dump(_started()[1]))],
        _resume,
        deliver=_deliver_checkpoint,
    ),
    Reader(
        "checkpoint-content",
        lambda: [checkpoint._dump(_started()[1])],
        _resume,
        wrap=_file,
        deliver=_deliver_checkpoint,
    ),
    _of_json(
        "checkpoint-record", lambda: _started()[1].record, _resume, wrap=_with_record, deliver=_deliver_checkpoint
    ),
    _of_tensors("checkpoint-tensors", lambda: _started()[1], _resume),
    _of_tensors("checkpoint-adam", lambda: _started(True)[1], functools.partial(_resume, adam=True)),
    _of_json("gan-record", lambda: _gan().record, _resume_gan, wrap=_with_gan_record, deliver=_deliver_checkpoint),
    _of_tensors("gan-tensors", _gan, _resume_gan),
]
