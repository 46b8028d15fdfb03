"""Predictions for files, as a table: what `vicinal predict` reads and writes."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from vicinal.lab import atomic
from vicinal.lab.compare.classifier import Classifier
from vicinal.lab.compare.predictor import Predictor
from vicinal.lab.data import table_files
from vicinal.lab.data.class_folder import Kind
from vicinal.lab.data.folder_layout import AUDIO, IMAGES, passed_over
from vicinal.lab.data.read_options import AS_IT_IS, Decimal, ReadOptions
from vicinal.lab.errors import UserError
from vicinal.lab.format import did_you_mean

MODEL = "model.safetensors"
_BLANK = b" \t\r\n\xef\xbb\xbf\xff\xfe\0"  # spaces, ends of lines, byte-order marks
SUFFIXES = (".csv", ".parquet", ".json")  # of what is written


def model_file(place: str | os.PathLike[str]) -> Path:
    """Return the model of a run folder, or the file itself.

    Raises:
        UserError: there is none.

    """
    path = Path(place).expanduser()
    if path.is_dir():
        path = path / MODEL
        if not path.exists():
            raise UserError(f"there is no {MODEL} in {os.fspath(place)!r}: {_why_none(path.parent)}")
    if not path.exists():
        raise UserError(f"there is no file or folder {os.fspath(place)!r}: give a folder that compare wrote")
    return path


def _why_none(folder: Path) -> str:
    """Return why a folder has no model, or what to do about it."""
    if not (folder / "config.json").exists():
        return "give a folder that compare wrote"
    try:
        why = json.loads((folder / "results.json").read_text())["no_model"]
    except (OSError, ValueError, KeyError, TypeError):
        why = ""
    return why or "the comparison is not finished: rerun its command"


def of_table(predictor: Predictor, path: Path, **file: Any) -> pl.DataFrame:
    """Predict each row of a file.

    Args:
        predictor: the model.
        path: of the file.
        file: `separator`, `encoding`, `decimal` or `header` of `ReadOptions`, where the file is not as the training table's
            was; and `sheet`, of a workbook with several.

    Returns:
        A row for each, in their order: `prediction` in the target's own type; for classes also `probability_CLASS`.

    Raises:
        UserError: the file cannot be read, or lacks an input column.

    """
    frame, decimal = read_rows(path, replace(predictor.reading.options, **{"sheet": None, **file}))
    outputs = predictor.outputs(frame, decimal or ".").numpy()
    if not predictor.encoding.classes:
        return pl.DataFrame({"prediction": predictor.encoding.inverse_transform(outputs[:, 0])})
    labels = predictor.encoding.inverse_transform(outputs.argmax(1))
    return pl.DataFrame({"prediction": labels, **_probabilities(outputs, predictor.encoding.classes)})


def of_files(classifier: Classifier, paths: Sequence[Path]) -> pl.DataFrame:
    """Classify each file.

    Returns:
        A row for each, in their order: `file`, `prediction` and `probability_CLASS`.

    Raises:
        UserError: naming those that cannot be read.

    """
    outputs, classes = classifier.outputs(paths).numpy(), list(map(_in_utf8, classifier.classes))
    columns = {
        "file": [_in_utf8(path.as_posix()) for path in paths],
        "prediction": np.array(classes)[outputs.argmax(1)],
    }
    return pl.DataFrame({**columns, **_probabilities(outputs, classes)})


def _in_utf8(name: str) -> str:
    r"""Return a file's name as a table can hold it: bytes of it that are no UTF-8 as ``\xff``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace") if not name.isprintable() else name


def _probabilities(outputs: np.ndarray[Any, Any], classes: Sequence[str]) -> dict[str, Any]:
    outputs = outputs.astype(np.float64)
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    shares = powers / powers.sum(axis=1, keepdims=True)
    return {f"probability_{name}": share for name, share in zip(classes, shares.T, strict=True)}


def read_rows(path: Path, options: ReadOptions = AS_IT_IS) -> tuple[pl.DataFrame, Decimal | None]:
    """Read the columns of a file, and the decimal mark of the numbers that its texts may spell.

    Raises:
        UserError: it is not there, or cannot be read.

    """
    if path != table_files.STDIN and not table_files.parts_of(path):
        _check_file(path)
    return table_files.read(path, options)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"'{path}' is a folder, and the model is for the rows of a table: give one file")
    if not path.exists():
        beside = os.listdir(path.parent) if path.parent.is_dir() else []
        raise UserError(f"there is no file '{path}': check the path{did_you_mean(path.name, beside)}")
    if not table_files.is_table(path.name):
        raise UserError(f"'{path}' is not a table that is read here: give a file ending in {table_files.ENDINGS}")
    try:
        with path.open("rb") as file:
            is_empty = not any(part.strip(_BLANK) for part in iter(lambda: file.read(4096), b""))
        if is_empty:
            raise UserError(f"'{path}' is empty: give a table with the columns that the model was trained on")
    except OSError:  # which the reader describes
        return


def media_files(places: Sequence[str], kind: Kind) -> tuple[list[Path], list[Path]]:
    """List images or audio: files as they are given, and those in folders, at any depth, in the order of their paths.

    Returns:
        The files, and what is left out of folders.

    Raises:
        UserError: a place is not there, or a folder holds none.

    """
    found: list[Path] = []
    left: list[Path] = []
    for place in (Path(place).expanduser() for place in places):
        if not place.is_dir():
            if not place.exists():
                raise UserError(f"there is no file or folder '{place}': check the path")
            found.append(place)
            continue
        inside = sorted(_files_in(place), key=lambda path: path.as_posix())
        media = [path for path in inside if path.name.lower().endswith(IMAGES if kind == "images" else AUDIO)]
        if not media:
            raise UserError(f"'{place}' holds no {kind}, for which the model is: give a folder that does")
        found += media
        left += sorted(set(inside) - set(media))
    return found, left


def _files_in(place: Path) -> list[Path]:
    found = []
    for folder, folders, files in os.walk(place):
        folders[:] = [name for name in folders if not passed_over(name)]
        found += [Path(folder, name) for name in files if not passed_over(name)]
    return found


def check_out(out: str, sources: Sequence[Path]) -> Path:
    """Return where predictions are to be written.

    Raises:
        UserError: they cannot be: another ending, or a file that is read.

    """
    path = Path(out).expanduser()
    if not path.name.lower().endswith(SUFFIXES):
        raise UserError(f"--out {out!r} ends in none of {', '.join(SUFFIXES)}: give one that does")
    if not path.parent.is_dir():
        raise UserError(f"there is no folder '{path.parent}' for --out {out!r}: make it, or give another")
    if path.is_dir():
        raise UserError(f"--out {out!r} is a folder: give a file")
    if any(path.exists() and source.exists() and path.samefile(source) for source in sources):
        raise UserError(f"--out {out!r} is a file that is read here: give another")
    return path


def write(frame: pl.DataFrame, path: Path) -> None:
    """Write predictions, whole or not at all; the kind of file is that of the name."""
    name = path.name.lower()
    if name.endswith(".parquet"):
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        atomic.write(path, buffer.getvalue())
    else:
        atomic.write(path, frame.write_json() + "\n" if name.endswith(".json") else frame.write_csv())
