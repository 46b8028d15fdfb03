"""A file of test rows beside a file of training rows: `--test`."""

import io
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from vicinal.lab.data import tables
from vicinal.lab.data.folds import Splitting
from vicinal.lab.errors import UserError

TRAIN = "a,kind,y\n" + "".join(f"{i},{'uv'[i % 2]},{'no' if i < 15 else 'yes'}\n" for i in range(30))
TEST = "kind,y,a\n" + "".join(f"{'uw'[i % 2]},{'yes' if i % 3 else 'no'},{100 + i}\n" for i in range(12))


def files(folder: Path, train: str = TRAIN, test: str = TEST) -> tuple[str, str]:
    (folder / "train.csv").write_text(train)
    (folder / "test.csv").write_text(test)
    return str(folder / "train.csv"), str(folder / "test.csv")


def test_its_rows_are_tested_by_every_seed_and_never_trained_on(tmp_path: Path) -> None:
    train, test = files(tmp_path)
    table = tables.load(train, target="y", test=test)
    assert table.source == "train.csv, tested on test.csv"
    assert table.numeric[30:, 0].tolist() == [100.0 + i for i in range(12)]  # whatever the order of its columns
    assert table.categories == (("u", "v", "w"),)
    assert table.fixed_test is not None
    assert table.fixed_test.tolist() == [False] * 30 + [True] * 12
    splitting = Splitting(table.target, 2, fixed_test=table.fixed_test)
    for seed in range(6):
        parts = splitting.split(seed)
        assert sorted(parts.test.tolist()) == list(range(30, 42))
        assert sorted([*parts.train, *parts.validation]) == list(range(30))
    assert splitting.is_fixed


def test_rows_that_are_left_out_do_not_move_the_border(tmp_path: Path) -> None:
    train, test = files(tmp_path, TRAIN + "7,u,\n", TEST + "u,,3\n")
    table = tables.load(train, target="y", test=test, drop_missing_target=True)
    assert table.fixed_test is not None
    assert np.flatnonzero(table.fixed_test).tolist() == list(range(30, 42))


def test_it_is_part_of_what_is_compared(tmp_path: Path) -> None:
    train, test = files(tmp_path)
    both = tables.load(train, target="y", test=test)
    (tmp_path / "all.csv").write_text(
        TRAIN + "".join(f"{100 + i},{'uw'[i % 2]},{'yes' if i % 3 else 'no'}\n" for i in range(12))
    )
    joined = tables.load(str(tmp_path / "all.csv"), target="y")
    assert (both.numeric == joined.numeric).all()
    assert both.fingerprint() != joined.fingerprint()


@pytest.mark.parametrize(
    ("test", "says"),
    [
        ("a,y\n1,no\n", "'test.csv' lacks 'kind': the files of --test need the same columns as 'train.csv'"),
        ("a,kind,y,more\n1,u,no,2\n", "'test.csv' has also 'more': the files of --test need the same columns"),
        ("a,kind,y\nmuch,u,no\n", "in 'test.csv', the file of --test: column 'a' is numbers but for 'much'"),
        ("a,kind,y\n1,u,\n2,u,\n", "in 'test.csv', the file of --test: 2 rows have no value in 'y'"),
        ("a,kind,y\n1,u,\nmuch,u,no\n", "in 'test.csv', the file of --test: 2 problems:\n  column 'a' is numbers but"),
        ("a,kind,y\n", "'test.csv' has column names but no rows: give a file with rows"),
    ],
)
def test_other_columns_are_refused(tmp_path: Path, test: str, says: str) -> None:
    train, file = files(tmp_path, test=test)
    with pytest.raises(UserError, match=re.escape(says)):
        tables.load(train, target="y", test=file)


def test_a_class_that_is_tested_alone_is_refused(tmp_path: Path) -> None:
    train, test = files(tmp_path, test=TEST + "u,maybe,4\nu,maybe,5\n")
    table = tables.load(train, target="y", test=test)
    with pytest.raises(UserError, match=re.escape("1 of 3 classes has no row to train on when")):
        Splitting(table.target, 3, fixed_test=table.fixed_test).split(0)
    with pytest.raises(UserError) as error:
        Splitting(table.target, 3, fixed_test=table.fixed_test, names=table.classes).split(0)
    assert str(error.value) == (
        "the class 'maybe' has no row to train on when the rows are split by test file: leave that class out, or split "
        "otherwise"
    )
    with pytest.raises(
        UserError, match=r"the classes 'maybe', 'never' have no row to train on when .*leave those classes"
    ):
        Splitting(
            np.array([0, 1] * 10 + [2, 3]), 4, fixed_test=np.arange(22) > 19, names=["a", "b", "maybe", "never"]
        ).split(0)


@pytest.mark.parametrize("test", [TEST, TEST + "u,,3\n"])
def test_a_problem_of_the_training_file_is_told_of_it(tmp_path: Path, test: str) -> None:
    train, file = files(tmp_path, TRAIN + "much,u,no\n", test)
    with pytest.raises(UserError, match=r"^in 'train\.csv': column 'a' is numbers but for 'much'"):
        tables.load(train, target="y", test=file)
    train, file = files(tmp_path, "a,kind,y\n", test)
    with pytest.raises(UserError, match=r"^'train\.csv' has column names but no rows"):
        tables.load(train, target="y", test=file)


def test_a_dataset_by_name_takes_none() -> None:
    with pytest.raises(UserError, match="is read as it was published"):
        tables.load("iris", test="test.csv")


def test_text_beside_numbers_is_refused(tmp_path: Path) -> None:
    frame = pl.read_csv(io.StringIO(TRAIN))
    frame.write_parquet(tmp_path / "train.parquet")
    frame.with_columns(pl.col("a").cast(pl.String)).write_parquet(tmp_path / "test.parquet")
    says = "column 'a' is numbers in 'train.parquet' and text in 'test.parquet': save both alike"
    with pytest.raises(UserError, match=re.escape(says)):
        tables.load(str(tmp_path / "train.parquet"), target="y", test=str(tmp_path / "test.parquet"))


def test_each_arff_file_declares_its_own_categories(tmp_path: Path) -> None:
    for name, kinds in (("train", "u,v"), ("test", "v,w")):
        head = f"@relation t\n@attribute a numeric\n@attribute kind {{{kinds}}}\n@attribute y {{no,yes}}\n@data\n"
        rows = "".join(f"{i},{kinds[i % 2 * 2]},{'no' if i % 3 else 'yes'}\n" for i in range(12))
        (tmp_path / f"{name}.arff").write_text(head + rows)
    table = tables.load(str(tmp_path / "train.arff"), target="y", test=str(tmp_path / "test.arff"))
    assert table.categories == (("u", "v", "w"),)
    assert table.codes[:, 0].tolist() == [0, 1] * 6 + [1, 2] * 6


def test_a_typed_file_is_tested_beside_a_text_file(tmp_path: Path) -> None:
    train, _ = files(tmp_path)
    rows = {"a": [100.5, 101.0], "kind": ["u", "w"], "y": ["no", "yes"]}
    pl.DataFrame(rows).write_parquet(tmp_path / "test.parquet")
    table = tables.load(train, target="y", test=str(tmp_path / "test.parquet"))
    assert table.numeric[30:, 0].tolist() == [100.5, 101.0]
