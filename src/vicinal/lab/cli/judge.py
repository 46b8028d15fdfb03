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

import io
import json
import sys
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vicinal.lab.errors import UserError
from vicinal.lab.format import NumberFormat, p_value, significant
from vicinal.lab.option import read

if TYPE_CHECKING:
    import polars as pl

    from vicinal.lab.judge import Judgment


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    number = partial(partial, read, kind=float)
    parser.add_argument(
        "scores", metavar="SCORES", help="a file: .csv, .tsv, .json, .jsonl or .parquet; - for CSV on stdin"
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


def run(args: Namespace) -> int:
    """Judge and print."""
    from vicinal.lab import atomic, judge, provenance
    from vicinal.lab.records import to_json

    judgment = judge.judge(
        _read(args.scores).to_dict(as_series=False),
        baseline=args.baseline,
        test_share=args.test_share,
        independent=args.independent,
        higher_is_better=args.higher_is_better,
        rope=args.rope,
    )
    if args.out:
        record = {**provenance.made_now(args.line, "numpy", "scipy"), "judgment": to_json(judgment)}
        try:
            atomic.write(Path(args.out), json.dumps(record, indent=1) + "\n")
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(f"{args.out} cannot be written ({reason}); choose another --out") from error
    _print(judgment)
    return 0


# -- reading -----------------------------------------------------------------------------------------------------------


def _read(path: str) -> pl.DataFrame:
    """Read a file of scores.

    Raises:
        UserError: it cannot be read.

    """
    import polars as pl

    from vicinal.lab.data import table_files
    from vicinal.lab.data.delimited import read_delimited

    if path == "-":
        return read_delimited(sys.stdin.read(), "stdin", ",")
    suffix = "".join(Path(path).suffixes[-2:]).lower()
    if suffix.endswith((".json", ".jsonl", ".ndjson")):
        text = table_files.read_text(Path(path))
        lines = not suffix.endswith(".json")
        try:
            return pl.read_ndjson(io.StringIO(text)) if lines else pl.DataFrame(json.loads(text))
        except (ValueError, TypeError, pl.exceptions.PolarsError) as error:
            reason = " ".join(str(error).split())[:200]
            expected = "one JSON object per line" if lines else "a list of objects, or an object of columns"
            raise UserError(f"{path!r} is not readable as scores ({reason}): give {expected}") from error
    if suffix.endswith((".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")):
        frame, decimal = table_files.read(Path(path))
        if decimal == "," and "score" in frame.columns:
            return frame.with_columns(pl.col("score").str.replace(",", ".", literal=True))
        return frame
    raise UserError(f"{path!r} is not a file of scores: give .csv, .tsv, .json, .jsonl or .parquet, or - for stdin")


# -- printing ----------------------------------------------------------------------------------------------------------


def _print(judgment: Judgment) -> None:
    number = significant([judgment.baseline_score, *(of.score for of in judgment.methods)], 4)
    head = ["", "score", f"minus {judgment.baseline}", "95 % interval", "p"]
    head += ["p (Holm)"] if len(judgment.methods) > 1 else []
    head += ["better", "same", "worse"] if judgment.rope is not None else []
    head += ["detectable"]
    lines = [head, [judgment.baseline, number.text(judgment.baseline_score), *[""] * (len(head) - 2)]]
    for of in judgment.methods:
        line = [
            of.method,
            number.text(of.score),
            number.text(of.difference, sign=True),
            number.interval(of.low, of.high, sign=True),
            p_value(of.p),
        ]
        line += [p_value(of.p_holm)] if len(judgment.methods) > 1 else []
        shares: list[Any] = [of.better, of.same, of.worse] if judgment.rope is not None else []
        line += [NumberFormat(100.0, 1).text(share) + " %" for share in shares]
        lines.append([*line, number.text(of.detectable)])
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
    tests = {
        "rows and seeds": f"{judgment.seeds} seeds and {judgment.units} rows or groups as units (two-way clustering)",
        "corrected resampled t": f"corrected resampled t-test over {judgment.seeds} seeds, n_test / n_train "
        f"{judgment.test_share or 0:.3g} (Nadeau and Bengio 2003); losses of single rows would find more",
        "t": f"paired t-test over {judgment.seeds} seeds, which are taken to be independent",
    }
    better = "higher" if judgment.higher_is_better else "lower"
    rope = "" if judgment.rope is None else f" Practically the same: within {judgment.rope:g}."
    return f"Test: {tests[judgment.test]}. Scores: {better} is better.{rope}"
