"""What every run says of every test example: kept as Parquet, and what differences are judged by.

Each file's SHA-256 is kept beside the records of its runs, and compared before anything decodes the file: the decoder of
Parquet ends the whole process on some damage. What another process wrote is decoded in one of its own all the same.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor

from vicinal.lab import atomic, limits
from vicinal.lab.compare.results import RunRecord
from vicinal.lab.data import apart
from vicinal.lab.errors import UserError

RunKey = tuple[str, int]  # method and seed
P, NLL, PREDICTION = "p_", "nll", "prediction"  # columns: p_CLASS and nll, or prediction


@dataclass(frozen=True, eq=False)
class RunPredictions:
    """Predictions of one run for its test examples.

    Args:
        rows: of the dataset, int64 [n].
        outputs: probabilities float32 [n, classes], or predictions [n] in the unit of a regression target.
        nll: -log p of the true class, float32 [n], from logits: no probability underflows; None for regression.

    """

    rows: NDArray[np.int64]
    outputs: NDArray[np.float32]
    nll: NDArray[np.float32] | None


def predictions_of(rows: NDArray[np.int64], logits: Tensor, labels: Tensor) -> RunPredictions:
    """Return the predictions of a classifier by its logits [n, classes], for rows of known classes, int64 [n]."""
    log_p = logits.double().log_softmax(-1)
    nll = -log_p.gather(-1, labels[:, None])[:, 0]
    return RunPredictions(rows, log_p.exp().float().numpy(), nll.float().numpy())


@dataclass(frozen=True, eq=False)
class MeasuredRun:
    """A run that has been trained: its record, and its test predictions."""

    record: RunRecord
    predictions: RunPredictions


class PredictionFolder:
    """Parquet files of predictions: one for each chunk of runs, named by them, so that a chunk run twice is there once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digests: dict[tuple[Path, int, int, int], str] = {}  # of files as they were found
        self._made = set[str]()  # digests of what was written here

    def write(self, runs: Sequence[MeasuredRun], target: NDArray[Any], classes: Sequence[str]) -> str:
        """Write a chunk, and return the SHA-256 of its file.

        Args:
            runs: of the chunk.
            target: of every example of the dataset: class indices, or numbers.
            classes: names; none for regression.

        """
        self.path.mkdir(exist_ok=True)
        truth = np.array([_text(name) for name in classes], dtype=object)[target] if classes else target
        frame = pl.concat([self._frame(run, truth, classes) for run in runs])
        buffer = io.BytesIO()
        frame.write_parquet(buffer, compression="zstd")
        content = buffer.getvalue()
        atomic.write(self.file([run.record.key for run in runs]), content)
        sha256 = hashlib.sha256(content).hexdigest()
        self._made.add(sha256)
        return sha256

    def holds(self, chunk: Sequence[RunKey], sha256: str) -> bool:
        """Return True if the predictions of a chunk are there, and are what was written."""
        path = self.file(chunk)
        try:
            at = path.stat()
            known = (path, at.st_ino, at.st_mtime_ns, at.st_size)
            if known not in self._digests:
                self._digests[known] = _digest(path)
        except OSError:
            return False
        return self._digests[known] == sha256

    def file(self, chunk: Sequence[RunKey]) -> Path:
        """Return the file of a chunk."""
        keys = "\n".join(sorted(f"{method}\t{seed}" for method, seed in chunk))
        return self.path / (hashlib.sha256(keys.encode("utf-8", "surrogatepass")).hexdigest()[:16] + ".parquet")

    def _frame(self, run: MeasuredRun, truth: NDArray[Any], classes: Sequence[str]) -> pl.DataFrame:
        of = run.predictions
        columns: dict[str, object] = {
            "method": pl.Series([run.record.method], dtype=pl.String).new_from_index(0, len(of.rows)),
            "seed": np.full(len(of.rows), run.record.seed, dtype=np.int32),
            "row": of.rows,
            "target": truth[of.rows],
        }
        if classes:
            columns |= {name: of.outputs[:, i] for i, name in enumerate(_columns(classes))} | {NLL: of.nll}
        else:
            columns[PREDICTION] = of.outputs
        return pl.DataFrame(columns)

    def read(self, chunks: Iterable[tuple[Sequence[RunKey], str]]) -> dict[RunKey, RunPredictions]:
        """Return the predictions of some chunks by method and seed; of a run in two of them those of the later.

        Args:
            chunks: the runs of each, and the SHA-256 of its file.

        Raises:
            UserError: a file is not what was written.

        """
        found: dict[RunKey, RunPredictions] = {}
        with apart.kept():
            for chunk, sha256 in chunks:
                path = self.file(chunk)
                frame = _frame_of(path, sha256, apart_=sha256 not in self._made)
                of = None if frame is None else _runs_of(frame)
                if of is None or of.keys() != set(chunk):
                    raise UserError(
                        f"{path} is damaged; remove it and rerun the same command, which trains its runs again"
                    )
                found |= of
        return found


def _digest(path: Path) -> str:
    limits.check_file(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _frame_of(path: Path, sha256: str, apart_: bool) -> pl.DataFrame | None:
    """Return what `write` wrote to a file, decoded in another process if asked; None if that is not what it holds."""
    try:
        content = limits.read_bytes(path)  # polars would take a path with brackets for a pattern
    except OSError:
        return None
    if hashlib.sha256(content).hexdigest() != sha256:
        return None
    if not apart_:
        return pl.read_parquet(content)
    try:
        return apart.read(content, "parquet")[1]
    except apart.ReadingFailed:
        return None


def _runs_of(frame: pl.DataFrame) -> dict[RunKey, RunPredictions] | None:
    """Return the predictions of each run in a file; None if it has other columns than `write` gives it."""
    outputs = [name for name in frame.columns if name.startswith(P)] or [PREDICTION]
    of_classes = outputs != [PREDICTION]
    wanted = {"method": pl.String, "seed": pl.Int32, "row": pl.Int64, **dict.fromkeys(outputs, pl.Float32)}
    wanted |= {NLL: pl.Float32} if of_classes else {}
    schema = dict(frame.schema)
    if any(schema.get(name) != kind for name, kind in wanted.items()):
        return None
    if any(frame.select(list(wanted)).null_count().row(0)):
        return None
    found: dict[RunKey, RunPredictions] = {}
    for run, part in _by_run(frame):
        values = part.select(outputs).to_numpy()
        nll = part[NLL].to_numpy() if of_classes else None
        found[run] = RunPredictions(part["row"].to_numpy(), values if of_classes else values[:, 0], nll)
    return found


def _text(name: str) -> str:
    """Return a name as UTF-8 can hold it: those of folders may be no text."""
    return name.encode("utf-8", "backslashreplace").decode()


def _columns(classes: Sequence[str]) -> list[str]:
    """Return a name for the column of each class, no two alike."""
    found: list[str] = []
    for name in classes:
        column = P + _text(name)
        while column in found:
            column += "_"
        found.append(column)
    return found


def _by_run(frame: pl.DataFrame) -> Iterator[tuple[RunKey, pl.DataFrame]]:
    for part in frame.partition_by("method", "seed", maintain_order=True):
        yield (part["method"][0], part["seed"][0]), part
