"""The UCI sets of the paper's Table 4 (section 3.6), read as their publishers lay them out.

The sets are not part of this package. They are looked for in ``ROOT/uci/NAME/FILE``, where ROOT is the `root` argument
or the environment variable ``VICINAL_DATA``, and FILE has the publisher's name.

Abalone is classification of the number of rings, as the paper's error of 74 % tells. Abalone has classes with a
single example, so these sets may (Arrhythmia's smallest has two); a table of the user's own may not.

The paper's "Phishing" may be either of two sets: "Phishing Websites" (`phishing`, two classes) or "Website Phishing"
(`website-phishing`, three).
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from vicinal.lab.data import table_files
from vicinal.lab.data.arff import read_arff
from vicinal.lab.data.columns import Numbers
from vicinal.lab.data.delimited import read_delimited
from vicinal.lab.data.download import DATA_DIR_ENV, data_dir
from vicinal.lab.data.table import Table, make_table
from vicinal.lab.errors import UserError


@dataclass(frozen=True)
class UCISet:
    """A published set."""

    name: str  # the set's name and its folder
    files: tuple[str, ...]  # the publisher's file names
    citation: str  # whom to cite
    target: str  # the column to predict
    inputs: tuple[str, ...]  # names of the other columns, in the files' order
    rows: int  # how many rows were published; a file with fewer was cut short


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


_REPOSITORY = "UCI Machine Learning Repository"

_SETS = (
    UCISet(
        name="abalone",
        files=("abalone.data",),
        citation=f"Nash, Sellers, Talbot, Cawthorn, Ford: Abalone. {_REPOSITORY}, 1995.",
        target="Rings",
        inputs=_names("Sex,Length,Diameter,Height,Whole weight,Shucked weight,Viscera weight,Shell weight"),
        rows=4177,
    ),
    UCISet(
        name="arcene",
        files=("arcene_train.data", "arcene_train.labels", "arcene_valid.data", "arcene_valid.labels"),
        citation=f"Guyon, Gunn, Ben-Hur, Dror: Arcene. {_REPOSITORY}, 2004.",
        target="class",
        inputs=tuple(f"feature {i}" for i in range(1, 10001)),
        rows=200,
    ),
    UCISet(
        name="arrhythmia",
        files=("arrhythmia.data",),
        citation=f"Guvenir, Acar, Muderrisoglu, Quinlan: Arrhythmia. {_REPOSITORY}, 1997.",
        target="class",
        inputs=tuple(f"attribute {i}" for i in range(1, 280)),
        rows=452,
    ),
    UCISet(
        name="htru2",
        files=("HTRU_2.csv",),
        citation="Lyon, Stappers, Cooper, Brooke, Knowles: Fifty Years of Pulsar Candidate Selection. MNRAS, 2016.",
        target="class",
        inputs=tuple(f"{of}_{what}" for of in ("Profile", "DM") for what in _names("mean,stdev,skewness,kurtosis")),
        rows=17898,
    ),
    UCISet(
        name="iris",  # iris.data, with the two rows that differ from Fisher's article, is what everybody used
        files=("iris.data",),
        citation=f"Fisher: Iris. {_REPOSITORY}, 1988.",
        target="class",
        inputs=_names("sepal length,sepal width,petal length,petal width"),
        rows=150,
    ),
    UCISet(
        name="phishing",
        files=("Training Dataset.arff",),
        citation=f"Mohammad, McCluskey: Phishing Websites. {_REPOSITORY}, 2015.",
        target="Result",
        inputs=_names(
            "having_IP_Address,URL_Length,Shortining_Service,having_At_Symbol,double_slash_redirecting,Prefix_Suffix,"
            "having_Sub_Domain,SSLfinal_State,Domain_registeration_length,Favicon,port,HTTPS_token,Request_URL,"
            "URL_of_Anchor,Links_in_tags,SFH,Submitting_to_email,Abnormal_URL,Redirect,on_mouseover,RightClick,"
            "popUpWidnow,Iframe,age_of_domain,DNSRecord,web_traffic,Page_Rank,Google_Index,Links_pointing_to_page,"
            "Statistical_report"
        ),
        rows=11055,
    ),
    UCISet(
        name="website-phishing",
        files=("PhishingData.arff",),
        citation=f"Abdelhamid, Ayesh, Thabtah: Website Phishing. {_REPOSITORY}, 2014.",
        target="Result",
        inputs=_names(
            "SFH,popUpWidnow,SSLfinal_State,Request_URL,URL_of_Anchor,web_traffic,URL_Length,age_of_domain,"
            "having_IP_Address"
        ),
        rows=1353,
    ),
)

UCI: dict[str, UCISet] = {published.name: published for published in _SETS}

# What to ask `tables.load` for; plain "iris" there is scikit-learn's copy.
NAMES = tuple("uci-iris" if name == "iris" else name for name in UCI)


def find(name: str) -> str | None:
    """Return the key in `UCI` that a user's word means: any case, with or without "uci-"; None if it means none."""
    key = name.lower().removeprefix("uci-")
    return key if key in UCI else None


def load(
    name: str, *, root: str | os.PathLike[str] | None = None, task: str | None = None, drop: Sequence[str] = ()
) -> Table:
    """Read a set of `UCI`.

    Args:
        name: a key of `UCI`, in any case, with or without "uci-".
        root: the folder that holds ``uci/``; by default that of the environment variable ``VICINAL_DATA``.
        task: classification by default.
        drop: columns to leave out.

    Returns:
        The checked table. Phishing's columns are categories, as its file declares them; Website Phishing's are
        numbers: -1 for phishing, 0 for suspicious, 1 for legitimate are degrees of one thing. Arcene's rows are those
        of its train and then its valid files (the test labels are not published).

    Raises:
        UserError: if the files are not there, or are not what was published.

    """
    key = find(name)
    if key is None:
        raise UserError(f"{name!r} is none of the UCI sets: choose one of {', '.join(NAMES)}")
    published = UCI[key]
    paths = _paths(published, root)
    frame = (_read_arcene if key == "arcene" else _read)(published, paths)
    if len(frame) != published.rows or set(frame.columns) != {*published.inputs, published.target}:
        raise UserError(
            f"{published.files[0]!r} has {len(frame)} rows and {frame.width} columns where {published.rows} and "
            f"{len(published.inputs) + 1} were published: download it again"
        )
    return make_table(
        frame,
        published.target,
        name=key,
        source=f"UCI: {', '.join(published.files)}",
        task=task or "classification",
        drop=drop,
        decimal=None if key == "phishing" else ".",  # Phishing's columns are categories, as its file declares them
        allow_small_classes=True,
    )


def _paths(published: UCISet, root: str | os.PathLike[str] | None) -> list[Path]:
    files, where = ", ".join(published.files), f"uci/{published.name}/"
    folder = data_dir(root, f"the UCI set {published.name!r}", files, where) / where
    paths = [folder / file for file in published.files]
    absent = [path.name for path in paths if not path.is_file()]
    if absent:
        raise UserError(
            f"the UCI set {published.name!r} lacks {', '.join(absent)}"
            f": put {files} into {where} in the folder that {DATA_DIR_ENV} names"
        )
    return paths


def _read(published: UCISet, paths: Sequence[Path]) -> pl.DataFrame:
    path = paths[0]
    if path.suffix == ".arff":
        return read_arff(table_files.read_text(path), path.name)
    return read_delimited(table_files.read_text(path), path.name, ",", (*published.inputs, published.target))


def _read_arcene(published: UCISet, paths: Sequence[Path]) -> pl.DataFrame:
    cells: list[Numbers] = []
    labels: list[str] = []
    for data, label in (paths[:2], paths[2:]):
        text = table_files.read_text(data)
        if not text.strip():
            raise UserError(f"{data.name!r} is empty: download it again")
        try:
            cells.append(np.loadtxt(io.StringIO(text), dtype=np.float64, ndmin=2))
        except ValueError as e:
            raise UserError(f"{data.name!r} is not a table of numbers ({e}): download it again") from e
        labels += table_files.read_text(label).split()
        if len(cells[-1].T) != len(published.inputs) or sum(map(len, cells)) != len(labels):
            raise UserError(
                f"{data.name!r} is {len(cells[-1])} x {len(cells[-1].T)}"
                f", which fits neither its labels nor {len(published.inputs)} columns: download it again"
            )
    frame = pl.DataFrame(np.concatenate(cells), schema=published.inputs, orient="row")
    return frame.with_columns(pl.Series(published.target, labels))
