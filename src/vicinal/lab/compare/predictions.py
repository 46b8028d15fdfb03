"""What every run says of every test example: kept as Parquet, and what differences are judged by."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor

from vicinal.lab import atomic
from vicinal.lab.compare.results import RunRecord
from vicinal.lab.errors import UserError

RunKey = tuple[str, int]  # method and seed
P, NLL, PREDICTION = "p_", "nll", "prediction"  # columns: p_CLASS and nll, or prediction
_DIGEST = "vicinal.sha256"  # of the columns, in the file's metadata


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
        self._whole: dict[tuple[Path, int, int, int], bool] = {}  # whether a file is what was written

    def write(self, runs: Sequence[MeasuredRun], target: NDArray[Any], classes: Sequence[str]) -> None:
        """Write a chunk.

        Args:
            runs: of the chunk.
            target: of every example of the dataset: class indices, or numbers.
            classes: names; none for regression.

        """
        self.path.mkdir(exist_ok=True)
        truth = np.array([_text(name) for name in classes], dtype=object)[target] if classes else target
        frame = pl.concat([self._frame(run, truth, classes) for run in runs])
        buffer = io.BytesIO()
        frame.write_parquet(buffer, compression="zstd", metadata={_DIGEST: _digest(frame)})
        atomic.write(self._file([run.record.key for run in runs]), buffer.getvalue())

    def holds(self, chunk: Sequence[RunKey]) -> bool:
        """Return True if the predictions of a chunk are there, and are what was written."""
        path = self._file(chunk)
        try:
            at = path.stat()
        except OSError:
            return False
        known = (path, at.st_ino, at.st_mtime_ns, at.st_size)
        if known not in self._whole:
            self._whole[known] = _frame_of(path) is not None
        return self._whole[known]

    def _file(self, chunk: Sequence[RunKey]) -> Path:
        keys = "\n".join(sorted(f"{method}\t{seed}" for method, seed in chunk))
        return self.path / (hashlib.sha256(keys.encode()).hexdigest()[:16] + ".parquet")

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

    def read(self, chunks: Iterable[Sequence[RunKey]]) -> dict[RunKey, RunPredictions]:
        """Return the predictions of some chunks by method and seed; of a run in two of them those of the later."""
        found: dict[RunKey, RunPredictions] = {}
        for chunk in chunks:
            frame = _frame_of(self._file(chunk))
            if frame is None:
                raise UserError(f"{self._file(chunk)} is damaged; rerun the same command to train its runs again")
            for (method, seed), part in _by_run(frame):
                outputs = [name for name in part.columns if name.startswith(P)] or [PREDICTION]
                values = part.select(outputs).to_numpy().astype(np.float32)
                nll = part[NLL].to_numpy() if NLL in part.columns else None
                found[method, seed] = RunPredictions(
                    part["row"].to_numpy(), values if nll is not None else values[:, 0], nll
                )
        return found


def _frame_of(path: Path) -> pl.DataFrame | None:
    """Return what `write` wrote to a file; None if that is not what it holds."""
    try:
        content = path.read_bytes()  # polars would take a path with brackets for a pattern
        frame = pl.read_parquet(content)
        digest = pl.read_parquet_metadata(io.BytesIO(content)).get(_DIGEST)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):  # damage can reach code that panics
        return None
    return frame if digest == _digest(frame) else None


def _digest(frame: pl.DataFrame) -> str:
    """Return the SHA-256 of names, types and cells: zstd does not notice each changed byte."""
    found = hashlib.sha256()
    for column in frame:
        text = column.dtype == pl.String
        found.update(json.dumps([column.name, str(column.dtype), column.to_list() if text else None]).encode())
        found.update(b"" if text else column.to_numpy().tobytes())
    return found.hexdigest()


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
