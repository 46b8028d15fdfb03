"""Predictions for files, as a table: what `vicinal predict` reads and writes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from vicinal.lab import atomic, limits, records, scratch, stored
from vicinal.lab.compare.classifier import Classifier
from vicinal.lab.compare.predictor import Predictor
from vicinal.lab.compare.results import FORMAT
from vicinal.lab.data import class_folder, table_blocks, table_files
from vicinal.lab.data.class_folder import Kind
from vicinal.lab.data.folder_layout import AUDIO, IMAGES, passed_over
from vicinal.lab.data.read_options import ReadOptions
from vicinal.lab.data.table_blocks import Block
from vicinal.lab.errors import UnreadableFile, UserError
from vicinal.lab.format import did_you_mean

MODEL = "model.safetensors"
_FILES, _BYTES = 512, 1 << 26  # files at a time, of a multiple, whose inputs take about these bytes
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
        found = stored.unseal(limits.read_bytes(folder / "results.json"), FORMAT).get("no_model")
        return records.from_json(str, found, "no_model") or "it was lost: rerun the comparison's command"
    except FileNotFoundError:
        return "the comparison is not finished: rerun its command"
    except OSError as error:
        return f"results.json cannot be read ({(error.strerror or str(error)).lower()})"
    except (stored.Unsealed, records.Mismatch) as error:
        return f"results.json cannot be used: {error}; rerun the comparison's command"


def of_table(predictor: Predictor, path: Path, **file: Any) -> Iterator[pl.DataFrame]:
    """Predict each row of a file, a block of rows of a large one at a time.

    Args:
        predictor: the model.
        path: of the file.
        file: `separator`, `encoding`, `decimal` or `header` of `ReadOptions`, where the file is not as the training table's
            was; and `sheet`, of a workbook with several.

    Yields:
        A row for each, in their order: `prediction` in the target's own type; for classes also `probability_CLASS`.

    Raises:
        UserError: the file cannot be read, or lacks an input column.

    """
    for block in _read_rows(path, replace(predictor.reading.options, **{"sheet": None, **file})):
        outputs = predictor.outputs(block.frame, block.decimal or ".", block.start).numpy()
        if not predictor.encoding.classes:
            yield pl.DataFrame({"prediction": predictor.encoding.inverse_transform(outputs[:, 0])})
            continue
        labels = predictor.encoding.inverse_transform(outputs.argmax(1))
        yield pl.DataFrame({"prediction": labels, **_probabilities(outputs, predictor.encoding.classes)})


def of_files(classifier: Classifier, paths: Sequence[Path]) -> Iterator[pl.DataFrame]:
    """Classify each file, some at a time.

    Yields:
        A row for each, in their order: `file`, `prediction` and `probability_CLASS`.

    Raises:
        UserError: naming all that cannot be read, once what is before them is yielded.

    """
    classes = classifier.classes
    shown = [_text(name) for name in classes]
    broken: list[UnreadableFile] = []
    some = _FILES * max(1, _BYTES // (4 * _FILES * math.prod(classifier.shape)))
    for start in range(0, max(1, len(paths)), some):
        block = paths[start : start + some]
        read = class_folder.read_files(classifier.kind, block, classifier.shape[1], seconds=classifier.seconds)
        broken += read.broken.values()
        if broken:
            continue  # the others are looked at, so that all are told at once
        outputs = classifier.outputs_of(read.inputs, block).numpy()
        columns = {"file": [_text(path.as_posix()) for path in block], "prediction": np.array(shown)[outputs.argmax(1)]}
        yield pl.DataFrame({**columns, **_probabilities(outputs, shown)})
    if broken:
        raise class_folder.unreadable(broken, len(paths), classifier.kind)


def _text(name: str) -> str:
    """Return a name as UTF-8 can hold it: those of files may be no text."""
    return name.encode("utf-8", "backslashreplace").decode()


def _probabilities(outputs: np.ndarray[Any, Any], classes: Sequence[str]) -> dict[str, Any]:
    outputs = outputs.astype(np.float64)
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    shares = powers / powers.sum(axis=1, keepdims=True)
    return {f"probability_{name}": share for name, share in zip(classes, shares.T, strict=True)}


def _read_rows(path: Path, options: ReadOptions) -> Iterator[Block]:
    """Read the columns of a file.

    Raises:
        UserError: it is not there, or cannot be read.

    """
    if path != table_files.STDIN and not table_files.parts_of(path):
        _check_file(path)
    return table_blocks.blocks(path, options)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"'{path}' is a folder, and the model is for the rows of a table: give one file")
    if not path.exists():
        beside = os.listdir(path.parent) if path.parent.is_dir() else []
        raise UserError(f"there is no file '{path}': check the path{did_you_mean(path.name, beside)}")
    if not table_files.is_table(path.name):
        raise UserError(f"'{path}' is not a table that is read here: give a file ending in {table_files.ENDINGS}")
    try:
        limits.check_file(path)
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


def csv_parts(blocks: Iterable[pl.DataFrame]) -> Iterator[str]:
    """Yield predictions as CSV, block by block; the names of the columns stand at the beginning."""
    for i, frame in enumerate(blocks):
        yield frame.write_csv(include_header=i == 0)


def write(blocks: Iterable[pl.DataFrame], path: Path) -> None:
    """Write predictions block by block, whole or not at all; the kind of file is that of the name."""
    name = path.name.lower()
    if name.endswith(".parquet"):
        _write_parquet(blocks, path)
        return
    with atomic.writing(path, through_links=True) as file:
        if not name.endswith(".json"):
            file.writelines(part.encode() for part in csv_parts(blocks))
            return
        before = b"["
        for frame in blocks:
            if rows := frame.write_json()[1:-1]:
                file.write(before + rows.encode())
                before = b","
        file.write(b"[]\n" if before == b"[" else b"]\n")


def _write_parquet(blocks: Iterable[pl.DataFrame], path: Path) -> None:
    """Write blocks to a file each, and these, one after the other, to one."""
    with scratch.folder() as folder:
        parts: list[Path] = []
        for frame in blocks:
            parts.append(folder / f"{len(parts):08}.arrow")
            frame.write_ipc(parts[-1])
        with atomic.writing(path, through_links=True) as file:
            pl.scan_ipc(parts, glob=False).sink_parquet(file)
