"""predict new rows, images or audio with the model of a comparison

Read a table by the rules of `vicinal compare`, or images or audio as it reads them, and write a prediction for each row
or file, in their order: as CSV to the standard output, or to a file. Classes come with the probability of each. The
columns of the training table are found by their names; others, and the target, are ignored.

Examples:
  vicinal predict vicinal-runs/patients-1a2b3c new.csv
  vicinal predict vicinal-runs/patients-1a2b3c new.csv --out predictions.parquet
  vicinal predict vicinal-runs/photos-4d5e6f one.jpg two.jpg more/
"""

from __future__ import annotations

import warnings
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any

from vicinal.lab.cli.arguments import add_text_file, because, claimed, note, text_file
from vicinal.lab.errors import UserError
from vicinal.lab.terminal import write_data

if TYPE_CHECKING:
    import polars as pl


_HELD, _PIECE = 1 << 26, 1 << 20  # characters in memory, and printed at a time
_MOST = 20  # notes


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("model", metavar="MODEL", help="a folder that compare wrote, or its model.safetensors")
    parser.add_argument(
        "data",
        metavar="FILE",
        nargs="+",
        help="a table, as for compare; or, for a model of images or audio, files and folders of them",
    )
    parser.add_argument("--out", metavar="FILE", help="a .csv, .parquet or .json file (default: CSV, printed)")
    files = parser.add_argument_group("how the file is written, where not as the training table's was")
    add_text_file(files)
    files.add_argument(
        "--header", action=BooleanOptionalAction, help="whether the first line holds names, and not 'column 1', ..."
    )
    parser.add_argument(
        "--model",
        dest="factory",
        metavar="NAME",
        help="package.module:factory, where compare was given that: no code that a file names is imported",
    )


def run(args: Namespace) -> int:
    """Predict and write."""
    from vicinal.lab.compare import prediction_table

    file = {name: value for name, value in {**text_file(args), "header": args.header}.items() if value is not None}
    model = prediction_table.model_file(args.model)
    out = None if args.out is None else prediction_table.check_out(args.out, [model, *map(Path, args.data)])
    with nullcontext() if out is None else claimed(out):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            blocks = _predicted(model, args.data, args.factory, file)
            if out is None:
                _print(prediction_table.csv_parts(blocks), caught)
                return 0
            try:
                prediction_table.write(blocks, out)
            except OSError as error:
                raise UserError(f"'{out}' cannot be written ({because(error)})") from error
        _note_all(caught)
    return 0


def _print(parts: Iterator[str], caught: list[warnings.WarningMessage]) -> None:
    """Print text that comes in parts, once all of it is there: on the disk where it is long."""
    with SpooledTemporaryFile(_HELD, "w+", encoding="utf-8", errors="surrogateescape", newline="") as held:
        held.writelines(parts)
        _note_all(caught)
        held.seek(0)
        while text := held.read(_PIECE):
            write_data(text)


def _note_all(caught: list[warnings.WarningMessage]) -> None:
    """Print each warning once: blocks of a large table repeat some."""
    messages = list(dict.fromkeys(str(one.message) for one in caught))
    for message in messages[:_MOST]:
        note(f"vicinal: {message}")
    if (more := len(messages) - _MOST) > 0:
        note(f"vicinal: and {more} more such notes")


def _predicted(model: Path, data: list[str], factory: str | None, file: dict[str, Any]) -> Iterator[pl.DataFrame]:
    from vicinal.lab.compare import model_file, prediction_table
    from vicinal.lab.compare.classifier import Classifier
    from vicinal.lab.compare.predictor import Predictor

    if model_file.kind_of(model) == "table":
        if factory is not None:
            raise UserError("--model is for models of images or audio; leave it out for a table")
        if len(data) > 1:
            raise UserError(f"the model is for the rows of a table: give one file, got {len(data)}")
        return prediction_table.of_table(Predictor.load(model), Path(data[0]).expanduser(), **file)
    if file:
        raise UserError(f"--{next(iter(file))} is for tables; leave it out for images or audio")
    classifier = Classifier.load(model, factory)
    files, left = prediction_table.media_files(data, classifier.kind)
    if left:
        are = "files are" if len(left) > 1 else "file is"
        note(f"vicinal: {len(left)} other {are} left out, such as '{left[0]}'")
    return prediction_table.of_files(classifier, files)
