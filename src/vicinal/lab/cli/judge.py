"""is one method better than another, by scores that you have?

Compare methods by scores made with any program: difference to a baseline, 95 % interval, p-value, the smallest difference
that would have been found, and one sentence per method. The file has a line per method and seed (or fold), or per method,
seed and test row, with columns method, seed (or fold, or split), score, and optionally row and group.

Examples:
  vicinal judge scores.csv --test-share 0.25                5-fold cross-validation, repeated or not: 1 / (5 - 1)
  vicinal judge scores.csv --independent --rope 0.01        scores of independent data; 0.01 makes no difference in practice
  vicinal judge losses.parquet --baseline resnet            losses of single test rows: the sharpest test
  vicinal judge - --test-share 0.333 --higher-is-better < accuracies.csv
"""

from __future__ import annotations

import csv
import io
import json
import sys
from argparse import ArgumentParser, Namespace
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vicinal.lab.cli.arguments import add_text_file, because, claimed, text_file
from vicinal.lab.errors import UserError
from vicinal.lab.format import counted, is_finite, p_value, quoted
from vicinal.lab.option import read

if TYPE_CHECKING:
    from vicinal.lab.data.read_options import ReadOptions
    from vicinal.lab.judge import Judgment


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    number = partial(partial, read, kind=float)
    parser.add_argument(
        "scores", metavar="SCORES", help="a file: .csv, .tsv, .json, .jsonl, .parquet or .xlsx; - for CSV on stdin"
    )
    parser.add_argument("--baseline", metavar="METHOD", help="default: a method called ERM or baseline")
    parser.add_argument(
        "--test-share",
        metavar="SHARE",
        type=number("--test-share"),
        help="n_test / n_train, where each seed splits one dataset anew; 1 / (k - 1) for k folds",
    )
    parser.add_argument("--independent", action="store_true", help="seeds share no data, or all share one fixed split")
    parser.add_argument("--higher-is-better", action="store_true", help="for accuracy and the like")
    parser.add_argument(
        "--rope", metavar="R", type=number("--rope"), help="differences up to R are practically the same"
    )
    parser.add_argument("--out", metavar="FILE", help="write the judgment as JSON too")
    add_text_file(parser.add_argument_group("text files"))


def run(args: Namespace) -> int:
    """Judge and print."""
    _check_out(args.out, args.scores)
    out = None if args.out is None else Path(args.out)
    with nullcontext() if out is None else claimed(out):
        _judge(args, out)
    return 0


def _judge(args: Namespace, out: Path | None) -> None:
    from vicinal.lab import atomic, judge, provenance
    from vicinal.lab.data.read_options import ReadOptions
    from vicinal.lab.records import to_json

    table = _read(args.scores, ReadOptions(**text_file(args)))
    judgment = judge.judge(
        table.columns,
        baseline=args.baseline,
        test_share=args.test_share,
        independent=args.independent,
        higher_is_better=args.higher_is_better,
        rope=args.rope,
        lines=table.lines,
    )
    if out is not None:
        record = {**provenance.made_now(args.line, "numpy", "scipy"), "judgment": to_json(judgment)}
        try:
            atomic.write(out, json.dumps(record, indent=1) + "\n", through_links=True)
        except OSError as error:
            raise UserError(f"{out} cannot be written ({because(error)}); choose another --out") from error
    _print(judgment)


def _check_out(out: str | None, scores: str) -> None:
    if out is None:
        return
    if not out.strip():
        raise UserError("--out names no file: give the name of a JSON file, or leave it out")
    if Path(out).is_dir():
        raise UserError(f"--out {out} is a folder: give the name of a JSON file in it")
    if scores != "-" and Path(out).exists() and Path(scores).exists() and Path(out).samefile(scores):
        raise UserError(f"--out {out} is the file of the scores, which would be lost: choose another name")


# -- reading -----------------------------------------------------------------------------------------------------------


class _Table(NamedTuple):
    """Columns of a file, and the line that each of their values stands on; None where the file has no lines."""

    columns: dict[str, list[Any]]
    lines: list[int] | None


def _read(path: str, options: ReadOptions) -> _Table:
    """Read a file of scores.

    Raises:
        UserError: it cannot be read.

    """
    from vicinal.lab.data import table_files

    if path == "-":
        return _delimited(_stdin(options.encoding), "stdin", options)
    suffix = "".join(Path(path).suffixes[-2:]).lower()
    if suffix.endswith((".json", ".jsonl", ".ndjson")):
        text = table_files.read_text(Path(path), options.encoding)
        _check_not_empty(text, Path(path).name)
        try:
            return _json(text) if suffix.endswith(".json") else _json_lines(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path!r} is not readable as scores ({error})") from error
    if suffix.endswith((".csv", ".tsv", ".csv.gz", ".tsv.gz")):
        text = table_files.read_text(Path(path), options.encoding)
        return _delimited(text, Path(path).name, options, "\t" if ".tsv" in suffix else None)
    if suffix.endswith((".parquet", ".xlsx")):
        return _Table(table_files.read(Path(path), options)[0].to_dict(as_series=False), None)
    raise UserError(
        f"{path!r} is not a file of scores: give .csv, .tsv, .json, .jsonl, .parquet or .xlsx, or - for stdin"
    )


def _stdin(encoding: str | None) -> str:
    """Return the text on stdin, which Python itself would decode by the locale and without complaint."""
    buffer = getattr(sys.stdin, "buffer", None)
    if buffer is None:  # a text that stands in for it
        return sys.stdin.read()
    raw = buffer.read()
    wide = "utf-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    try:
        return raw.decode(encoding or wide).removeprefix("\ufeff")
    except LookupError as error:
        raise UserError(f"the encoding {encoding!r} is unknown: give one such as cp1252, latin-1 or utf-16") from error
    except UnicodeError as error:
        raise UserError(
            f"stdin is not {(encoding or wide).upper()} text: give its --encoding, such as cp1252"
        ) from error


def _check_not_empty(text: str, name: str) -> None:
    if not text.strip():
        raise UserError(
            f"{name!r} is empty: give a line with the names of the columns, such as method, seed and score, and one line "
            "per score"
        )


def _delimited(text: str, label: str, options: ReadOptions, usual: str | None = None) -> _Table:
    from vicinal.lab.data import table_files

    _check_not_empty(text, label)
    frame, decimal = table_files.read_delimited_text(text, label, options, usual)
    columns = frame.to_dict(as_series=False)
    if decimal == "," and "score" in columns:
        columns["score"] = [score.replace(",", ".") for score in columns["score"]]
    return _Table(columns, _lines(text, list(columns), len(next(iter(columns.values()), []))))


def _lines(text: str, names: list[str], count: int) -> list[int] | None:
    """Return the line on which each record of delimited text begins; None where the text is not understood."""
    for separator in ",;\t| :":
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator == " ")
        found, before = list[tuple[int, list[str]]](), 0
        for record in reader:
            if len(record) > 1 or "".join(record).strip():
                found.append((before + 1, record))
            before = reader.line_num
        heads = [i for i, (_, record) in enumerate(found[:2]) if [name.strip() for name in record] == names]
        if heads and len(found) == heads[0] + 1 + count:  # a line sep=; may stand above the names
            return [line for line, _ in found[heads[0] + 1 :]]
    return None


# -- JSON: records, columns, and what pandas writes


_EXPECTED = "give a list of objects, one per score, or an object of columns"


def _json(text: str) -> _Table:
    """Read a list of records, an object of columns, or any form of `pandas.DataFrame.to_json` that has names.

    Raises:
        ValueError: it is none of these.

    """
    return _Table(_json_columns(_parsed(text, "")), None)


def _json_lines(text: str) -> _Table:
    lines = [(i, line) for i, line in enumerate(text.split("\n"), start=1) if line.strip()]
    records = [_parsed(line, f"line {i}: ") for i, line in lines]
    if wrong := [i for (i, _), record in zip(lines, records, strict=True) if not isinstance(record, dict)]:
        raise ValueError(f"line {wrong[0]} is not an object: give one JSON object per line")
    return _Table(_of_records(records), [i for i, _ in lines])


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where}{error}: {_EXPECTED}") from error


def _json_columns(value: Any) -> dict[str, list[Any]]:
    if isinstance(value, list):
        if not all(isinstance(record, dict) for record in value):
            raise ValueError(f"it is a list of other things than objects: {_EXPECTED}")
        return _of_records(value)
    if not isinstance(value, dict):
        raise ValueError(f"it holds one value: {_EXPECTED}")
    names, rows = value.get("columns"), value.get("data")
    if isinstance(names, list) and isinstance(rows, list):  # orient="split"
        if any(not isinstance(row, list) or len(row) != len(names) for row in rows):
            raise ValueError(f"'data' has rows of other lengths than the {counted(len(names), 'column')}: {_EXPECTED}")
        return {str(name): [row[i] for row in rows] for i, name in enumerate(names)}
    if "schema" in value and isinstance(rows, list):  # orient="table"
        return _json_columns(rows)
    parts = list(value.values())
    if parts and all(isinstance(part, list) for part in parts):
        return value
    if parts and all(isinstance(part, dict) for part in parts):
        if "method" not in value and all("method" in part for part in parts):  # orient="index"
            return _of_records(parts)
        if any(part.keys() != parts[0].keys() for part in parts):
            raise ValueError(f"its columns have different indices: {_EXPECTED}")
        return {name: [part[key] for key in parts[0]] for name, part in value.items()}  # orient="columns"
    raise ValueError(f"it is an object of {quoted(list(value), 5) or 'nothing'}, which are not columns: {_EXPECTED}")


def _of_records(records: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return columns; a record that lacks one has None there."""
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


# -- printing ----------------------------------------------------------------------------------------------------------


def _print(judgment: Judgment) -> None:
    from vicinal.lab.judge import ScoreFormat, probability

    base = judgment.baseline_score
    formats = [ScoreFormat.of(of.score, base, of.difference, of.low, of.high) for of in judgment.methods]
    scores = ScoreFormat(max(form.level for form in formats), 0)
    head = ["", "score", f"minus {judgment.baseline}", "95 % interval", "p"]
    head += ["p (Holm)"] if len(judgment.methods) > 1 else []
    head += ["better", "same", "worse"] if judgment.rope is not None else []
    head += ["detectable"]
    lines = [head, [judgment.baseline, scores.score(base), *[""] * (len(head) - 2)]]
    for of, form in zip(judgment.methods, formats, strict=True):
        ends = (
            f"[{form.difference(of.low)}, {form.difference(of.high)}]" if is_finite(of.low) else form.difference(of.low)
        )
        line = [of.method, scores.score(of.score), form.difference(of.difference), ends, p_value(of.p)]
        line += [p_value(of.p_holm)] if len(judgment.methods) > 1 else []
        line += [probability(share) for share in (of.better, of.same, of.worse)] if judgment.rope is not None else []
        lines.append([*line, form.difference(of.detectable, sign=False)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        cells = (
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join(cells).rstrip())
    print()
    for of in judgment.methods:
        print(of.sentence)
    print()
    print(_how(judgment))


def _how(judgment: Judgment) -> str:
    from vicinal.lab.judge import shortest

    seeds = counted(judgment.seeds, judgment.seed_name)
    units = counted(judgment.units or 0, judgment.unit_name or "row")
    tests = {
        "rows and seeds": f"{seeds} and {units} as units (two-way clustering)",
        "corrected resampled t": f"corrected resampled t-test over {seeds}, n_test / n_train "
        f"{judgment.test_share or 0:.3g} (Nadeau and Bengio 2003); losses of single rows would find more",
        "t": f"paired t-test over {seeds}, which are taken to be independent",
    }
    better = "higher" if judgment.higher_is_better else "lower"
    rope = "" if judgment.rope is None else f" Practically the same: within {shortest(judgment.rope)}."
    return f"Test: {tests[judgment.test]}. Scores: {better} is better.{rope}"
