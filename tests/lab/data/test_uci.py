from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vicinal.lab.data import uci
from vicinal.lab.data.tables import load
from vicinal.lab.errors import UserError

Data = Callable[[str], Path]

# rows, number columns, category columns, rows of each class in the order of `classes`
_RINGS = "1 1 15 57 115 259 391 568 689 634 487 267 203 126 103 67 58 42 32 26 14 6 9 2 1 1 2 1"
FACTS = {
    "abalone": ((4177, 7, 1), [*map(int, _RINGS.split())]),
    "arcene": ((200, 10000, 0), [112, 88]),
    "arrhythmia": ((452, 279, 0), [245, 44, 15, 15, 13, 25, 3, 2, 9, 50, 4, 5, 22]),
    "htru2": ((17898, 8, 0), [16259, 1639]),
    "iris": ((150, 4, 0), [50, 50, 50]),
    "phishing": ((11055, 0, 30), [4898, 6157]),
    "website-phishing": ((1353, 9, 0), [702, 103, 548]),
}


@pytest.mark.parametrize("name", uci.UCI)
def test_published_counts(name: str, real_data: Data) -> None:
    table = uci.load(name, root=real_data("uci"))
    shape, counts = FACTS[name]
    assert (len(table), len(table.numeric_columns), len(table.categorical_columns)) == shape
    assert np.bincount(table.target).tolist() == counts
    assert table.name == name
    assert table.source == f"UCI: {', '.join(uci.UCI[name].files)}"
    assert table.target_name == uci.UCI[name].target
    assert set(uci.UCI[name].inputs) == {*table.numeric_columns, *table.categorical_columns}
    assert table.missing_cells == (408 if name == "arrhythmia" else 0)


def test_abalone(real_data: Data) -> None:
    table = uci.load("abalone", root=real_data("uci"))
    assert table.classes == tuple(str(i) for i in range(1, 30) if i != 28)
    assert table.categories == (("F", "I", "M"),)
    assert np.bincount(table.codes[:, 0]).tolist() == [1307, 1342, 1528]
    assert table.numeric[0].tolist() == [0.455, 0.365, 0.095, 0.514, 0.2245, 0.101, 0.15]
    rings = uci.load("abalone", root=real_data("uci"), task="regression")
    assert rings.task == "regression"
    assert rings.target.mean() == pytest.approx(9.934, abs=5e-4)  # as published
    assert uci.load("abalone", root=real_data("uci"), drop=["Sex"]).categorical_columns == ()


def test_arcene(real_data: Data) -> None:
    table = uci.load("arcene", root=real_data("uci"))
    assert table.classes == ("-1", "1")
    assert np.bincount(table.target[:100]).tolist() == [56, 44]  # the train files come first
    assert table.numeric[:100].sum() == 70726744.0
    assert table.numeric[0, :8].tolist() == [0, 71, 0, 95, 0, 538, 404, 20]


def test_arrhythmia(real_data: Data) -> None:
    table = uci.load("arrhythmia", root=real_data("uci"))
    assert table.classes == (*map(str, range(1, 11)), "14", "15", "16")
    missing = np.isnan(table.numeric).sum(axis=0)
    names = [table.numeric_columns[i] for i in np.flatnonzero(missing)]
    assert dict(zip(names, missing[missing > 0].tolist(), strict=True)) == {
        "attribute 11": 8,
        "attribute 12": 22,
        "attribute 13": 1,
        "attribute 14": 376,
        "attribute 15": 1,
    }


def test_phishing(real_data: Data) -> None:
    table = uci.load("phishing", root=real_data("uci"))
    assert table.classes == ("-1", "1")
    assert table.categories[:2] == (("-1", "1"), ("-1", "0", "1"))
    assert sum(map(len, table.categories)) == 68


def test_website_phishing_is_graded_by_numbers(real_data: Data) -> None:
    table = uci.load("website-phishing", root=real_data("uci"))
    assert table.classes == ("-1", "0", "1")
    assert table.numeric[0].tolist() == [1, -1, 1, -1, -1, 1, 1, 1, 0]
    assert {frozenset(column.tolist()) for column in table.numeric.T} == {
        frozenset({-1, 0, 1}),
        frozenset({-1, 1}),
        frozenset({0, 1}),
    }


def test_iris_is_scikit_learns_but_for_two_rows(real_data: Data) -> None:
    published, corrected = uci.load("iris", root=real_data("uci")), load("iris")
    assert published.classes == ("Iris-setosa", "Iris-versicolor", "Iris-virginica")
    np.testing.assert_array_equal(published.target, corrected.target)
    differ = (published.numeric != corrected.numeric).any(axis=1)
    assert np.flatnonzero(differ).tolist() == [34, 37]


def test_names(real_data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICINAL_DATA", str(real_data("uci")))
    assert uci.NAMES == ("abalone", "arcene", "arrhythmia", "htru2", "uci-iris", "phishing", "website-phishing")
    assert load("HTRU2").name == load("uci-htru2").name == "htru2"
    assert load("UCI-Abalone").fingerprint() == load("Abalone").fingerprint()
    assert load("uci-iris").source == "UCI: iris.data"
    assert load("iris").source == "scikit-learn: load_iris"
    assert load("abalone", task="regression", drop=["Sex"]).classes == ()
    assert [uci.find(word) for word in ("Iris", "uci-IRIS", "wine", "uci-", "")] == ["iris", "iris", None, None, None]
    with pytest.raises(UserError, match="'wine' is none of the UCI sets: choose one of abalone, arcene"):
        uci.load("wine")


def test_absent_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VICINAL_DATA", raising=False)
    with pytest.raises(UserError) as caught:
        load("arcene")
    assert str(caught.value) == (
        "the UCI set 'arcene' is not part of this program: "
        "put arcene_train.data, arcene_train.labels, arcene_valid.data, arcene_valid.labels into DIR/uci/arcene/ "
        "and set the environment variable VICINAL_DATA to DIR"
    )
    (tmp_path / "uci" / "arcene").mkdir(parents=True)
    (tmp_path / "uci" / "arcene" / "arcene_train.data").touch()
    monkeypatch.setenv("VICINAL_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"lacks arcene_train\.labels, arcene_valid\.data, arcene_valid\.labels: put"):
        load("arcene")


def write(root: Path, name: str, files: dict[str, str]) -> Path:
    folder = root / "uci" / name
    folder.mkdir(parents=True)
    for file, text in files.items():
        (folder / file).write_text(text)
    return root


def test_files_that_are_not_what_was_published(tmp_path: Path) -> None:
    short = write(tmp_path / "a", "iris", {"iris.data": "5.1,3.5,1.4,0.2,Iris-setosa\n" * 149})
    with pytest.raises(UserError, match=r"'iris\.data' has 149 rows and 5 columns where 150 and 5 were published"):
        uci.load("iris", root=short)
    ragged = write(tmp_path / "b", "iris", {"iris.data": "5.1,3.5,1.4,0.2,Iris-setosa\n5.1,3.5\n"})
    with pytest.raises(UserError, match=r"line 2 of 'iris\.data' has 2 values, but there are 5 columns"):
        uci.load("iris", root=ragged)
    labels = {"arcene_train.labels": "1\n", "arcene_valid.data": "1 2\n", "arcene_valid.labels": "1\n"}
    narrow = write(tmp_path / "c", "arcene", {"arcene_train.data": "1 2\n", **labels})
    with pytest.raises(UserError, match=r"'arcene_train\.data' is 1 x 2, which fits neither"):
        uci.load("arcene", root=narrow)
    words = write(tmp_path / "d", "arcene", {"arcene_train.data": "1 two\n", **labels})
    with pytest.raises(UserError, match=r"'arcene_train\.data' is not a table of numbers"):
        uci.load("arcene", root=words)
    empty = write(tmp_path / "e", "arcene", {"arcene_train.data": "", **labels})
    with pytest.raises(UserError, match=r"'arcene_train\.data' is empty: download it again"):
        uci.load("arcene", root=empty)
