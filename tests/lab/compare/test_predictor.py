"""The saved model: it answers as it did, reads what users have, and is never trusted."""

from __future__ import annotations

import json
import math
import os
import re
import struct
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import polars as pl
import pytest
import safetensors.torch
import torch
from sklearn.metrics import accuracy_score

from vicinal.keyed import Key
from vicinal.lab import stored
from vicinal.lab.compare import model_file
from vicinal.lab.compare.predictor import Predictor, RowReading
from vicinal.lab.data.columns import Numbers
from vicinal.lab.data.encoder import TableEncoder
from vicinal.lab.data.read_options import ReadOptions
from vicinal.lab.data.table import Table, make_table
from vicinal.lab.data.tables import load
from vicinal.lab.errors import UserError
from vicinal.lab.models.mlp import MLP
from vicinal.lab.training.stacked_mlp import StackedMLP

ABOUT = {"data": "made", "vicinity": "Mixup(alpha=0.4)", "seed": 3, "test": {"error": 0.125}}


def made(regression: bool = False) -> Table:
    generator = Key(9, 0, 0, 0).generator()
    holes = generator.normal(5.0, 2.0, 40)
    holes[::7] = np.nan
    columns: dict[str, Numbers | list[str | None]] = {
        "length": generator.normal(100.0, 30.0, 40),
        "width, in m": holes,
        "color": [("red", "grün", None)[i] for i in generator.integers(3, size=40)],
    }
    if regression:
        columns["yield"] = generator.normal(7.0, 2.0, 40)
        return make_table(columns, "yield", name="made", source="made")
    columns["kind"] = [("a", "b", "c")[i % 3] for i in range(40)]
    return make_table(columns, "kind", name="made", source="made")


def predictor_for(table: Table) -> Predictor:
    encoding = TableEncoder.fit(table, np.arange(30))
    outputs = len(table.classes) or 1
    model = MLP(encoding.width, (16, 8), outputs)
    model.load_state_dict(StackedMLP.initial([4], encoding.width, (16, 8), outputs, torch.float32).state_dict(0))
    return Predictor(model, encoding, ABOUT)


def records(table: Table) -> dict[str, list[Any]]:
    """The rows as somebody has them who knows nothing of the table's codes."""
    columns: dict[str, list[Any]] = {
        name: [None if np.isnan(v) else v for v in values.tolist()]
        for name, values in zip(table.numeric_columns, table.numeric.T, strict=True)
    }
    for name, codes, levels in zip(table.categorical_columns, table.codes.T, table.categories, strict=True):
        columns[name] = [None if code < 0 else levels[code] for code in codes]
    return columns


@pytest.mark.parametrize("regression", [False, True])
def test_saved_and_loaded_it_is_the_same(tmp_path: Path, regression: bool) -> None:
    table = made(regression)
    before = predictor_for(table)
    before.save(tmp_path / "model.safetensors")
    after = Predictor.load(tmp_path / "model.safetensors")
    assert after.encoding == before.encoding
    assert after.about == ABOUT
    assert after.model.state_dict().keys() == before.model.state_dict().keys()
    for name, tensor in before.model.state_dict().items():
        assert torch.equal(after.model.state_dict()[name], tensor)
    assert torch.equal(after.outputs(records(table)), before.outputs(records(table)))
    assert not after.model.training
    after.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_classes_are_those_of_the_model_on_the_encoded_table() -> None:
    table = made()
    predictor = predictor_for(table)
    with torch.no_grad():
        logits = predictor.model(torch.from_numpy(predictor.encoding.transform(table)))
    assert torch.equal(predictor.outputs(records(table)), logits)
    assert predictor.predict(records(table)).tolist() == [table.classes[i] for i in logits.argmax(1)]
    p = predictor.probabilities(records(table))
    assert p.dtype == np.float32
    assert np.allclose(p, logits.softmax(1).numpy())
    assert np.allclose(p.sum(1), 1)


def test_numbers_are_in_the_unit_of_the_table() -> None:
    table = made(regression=True)
    predictor = predictor_for(table)
    with torch.no_grad():
        out = predictor.model(torch.from_numpy(predictor.encoding.transform(table)))[:, 0].double().numpy()
    target = table.target[:30]
    assert np.allclose(predictor.predict(records(table)), out * target.std() + target.mean())
    with pytest.raises(UserError, match="numbers, not probabilities: use predict"):
        predictor.probabilities(records(table))


def test_it_reads_frames_and_dicts_alike(tmp_path: Path) -> None:
    table = made()
    predictor = predictor_for(table)
    rows = records(table)
    expected = predictor.outputs(rows)
    assert torch.equal(predictor.outputs(pl.DataFrame(rows)), expected)
    pl.DataFrame(rows).write_csv(tmp_path / "rows.csv")
    assert torch.equal(predictor.outputs(pl.read_csv(tmp_path / "rows.csv")), expected)
    arrays = {name: np.array(values, dtype=object) for name, values in rows.items()}
    assert torch.equal(predictor.outputs({**arrays, "kind": ["a"] * 40, "more": range(40)}), expected)
    # a matrix product of fewer rows may round otherwise
    few = predictor.outputs({name: values[:5] for name, values in rows.items()})
    torch.testing.assert_close(few, expected[:5], rtol=1e-6, atol=1e-6)
    assert predictor.predict({name: [] for name in rows}).shape == (0,)


def test_it_asks_for_the_columns_it_needs() -> None:
    table = made()
    rows = records(table)
    rows["Length"] = rows.pop("length")
    with pytest.raises(UserError, match="lack the input column 'length': add it; did you mean 'Length'"):
        predictor_for(table).predict(rows)


# ---- answers in the target's own type

TARGETS: dict[str, tuple[list[Any], Any]] = {
    "integers": ([0, 1, 2], np.int64),
    "negative integers": ([-1, 1, 7], np.int64),
    "fractions": ([0.5, 1.5, 2.25], np.float64),
    "whole numbers with a point": ([0.0, 1.0, 2.0], np.int64),
    "booleans": ([False, True], np.bool_),
    "text": (["no", "yes"], np.str_),
}


def toy(values: list[Any], tmp_path: Path) -> tuple[Predictor, Path]:
    """A model that tells classes from x, trained to the end on a file, and that file."""
    target = [values[i % len(values)] for i in range(60)]
    frame = pl.DataFrame({"x": [10.0 * (i % len(values)) for i in range(60)], "c": ["12", "7", "N"] * 20, "y": target})
    frame.write_csv(tmp_path / "t.csv")
    table = load(str(tmp_path / "t.csv"), target="y", task="classification", reading=ReadOptions(categorical=("c",)))
    encoding = TableEncoder.fit(table, np.arange(60))
    model = MLP(encoding.width, (32,), len(table.classes))
    model.load_state_dict(
        StackedMLP.initial([4], encoding.width, (32,), len(table.classes), torch.float32).state_dict(0)
    )
    x, y = torch.from_numpy(encoding.transform(table)), torch.from_numpy(encoding.transform_target(table))
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(100):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return Predictor(model, encoding), tmp_path / "t.csv"


@pytest.mark.parametrize("what", TARGETS)
def test_a_user_compares_predictions_with_the_target(tmp_path: Path, what: str) -> None:
    values, dtype = TARGETS[what]
    predictor, path = toy(values, tmp_path)
    predictor.save(tmp_path / "model.safetensors")
    predictor = Predictor.load(tmp_path / "model.safetensors")
    for data in (pandas.read_csv(path), pl.read_csv(path)):
        found = predictor.predict(data)
        assert np.issubdtype(found.dtype, dtype)
        assert (found == data["y"].to_numpy()).all()
        assert what == "fractions" or accuracy_score(data["y"].to_numpy(), found) == 1.0  # it takes no fractions
    assert predictor.predict([]).shape == (0,)
    assert np.issubdtype(predictor.predict([]).dtype, dtype)
    assert predictor.probabilities([]).shape == (0, len(values))


def test_texts_that_spell_numbers_stay_texts(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": [1.0, 2.0] * 10, "y": ["0", "1"] * 10})
    frame.write_parquet(tmp_path / "t.parquet")
    encoding = TableEncoder.fit(load(str(tmp_path / "t.parquet"), target="y"), np.arange(20))
    assert encoding.inverse_transform(np.array([1, 0])).tolist() == ["1", "0"]
    frame.with_columns(y=pl.col("y") == "1").write_parquet(tmp_path / "t.parquet")
    encoding = TableEncoder.fit(load(str(tmp_path / "t.parquet"), target="y"), np.arange(20))
    assert encoding.inverse_transform(np.array([1, 0])).tolist() == [True, False]


def test_a_file_of_before_answers_with_texts(saved: Path) -> None:
    header = header_of(saved)
    del header["encoding"]["target"]["type"]
    repacked(saved, header)
    assert set(Predictor.load(saved).predict(records(made())).tolist()) <= {"a", "b", "c"}
    for wrong in ("number", "boolean", "words"):  # of "a", "b", "c"
        header["encoding"]["target"]["type"] = wrong
        repacked(saved, header)
        if wrong != "boolean":
            assert "is damaged (" in refusal(saved)


# ---- what users have

FORMS: dict[str, Callable[[pl.DataFrame], Any]] = {
    "polars": lambda frame: frame,
    "polars, lazy": lambda frame: frame.lazy(),
    "pandas": lambda frame: pandas.DataFrame(frame.to_dict(as_series=False)),
    "pandas, its own missing": lambda frame: pandas.DataFrame(frame.to_dict(as_series=False)).convert_dtypes(),
    "dict of lists": lambda frame: frame.to_dict(as_series=False),
    "dict of tuples": lambda frame: {name: tuple(cells) for name, cells in frame.to_dict(as_series=False).items()},
    "dict of arrays": lambda frame: {name: np.array(frame[name].to_list(), dtype=object) for name in frame.columns},
    "dict of numpy's scalars": lambda frame: {
        name: [np.float64(v) if isinstance(v, float) else v for v in frame[name]] for name in frame.columns
    },
    "records": lambda frame: frame.to_dicts(),
    "records without what is missing": lambda frame: [
        {name: cell for name, cell in row.items() if cell is not None} for row in frame.to_dicts()
    ],
    "spaces around names": lambda frame: frame.rename({name: f" {name}\t" for name in frame.columns}),
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_of_rows_are_alike(form: str) -> None:
    table = made()
    predictor = predictor_for(table)
    expected = predictor.outputs(records(table))
    assert torch.equal(predictor.outputs(FORMS[form](pl.DataFrame(records(table)))), expected)


def test_a_first_whole_number_of_numpy_cuts_no_fractions_off() -> None:
    rows = records(made())
    rows["length"] = [np.int64(3), *rows["length"][1:]]
    expected = predictor_for(made()).outputs({**rows, "length": [3.0, *rows["length"][1:]]})
    assert torch.equal(predictor_for(made()).outputs(rows), expected)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("new.csv", "rows are a data frame, a dict of columns or a list of dicts, got str: give one of these"),
        (np.zeros((3, 3)), "list of dicts, got ndarray: give one"),
        ([[1.0, 2.0, "red"]], "list of dicts, got a list of list: give one"),
        (None, "list of dicts, got NoneType: give one"),
        (pandas.Series({"length": 1.0}), "list of dicts, got Series: give one"),
        ({"length": 1.0, "width, in m": 2.0, "color": "red"}, "column 'length' is float: give a sequence with one val"),
        ([{"color": "red"}], "the data lack the input columns 'length', 'width, in m': add them"),
        ({"color": ["red"], "length": [1.0]}, "the data lack the input column 'width, in m': add it"),
        ({" length": [1], "length ": [1], "width, in m": [1], "color": ["red"]}, "are both 'length' but for spaces"),
        (pandas.DataFrame([[1, 2, 3, "red"]], columns=["length", "length", "width, in m", "color"]), "is there twice"),
    ],
)
def test_what_are_not_rows_is_refused(data: Any, says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        predictor_for(made()).predict(data)
    assert "\n" not in str(caught.value)


def test_levels_that_are_one_number_are_one(tmp_path: Path) -> None:
    predictor, path = toy([0, 1, 2], tmp_path)  # "c" is 12, 7, N
    rows = pl.read_csv(path)
    expected = predictor.outputs(rows)
    for cells in (["12.0", "7.0", "N"], ["012", "07", "N"], [" 12 ", "7", " N"], ["1.2e1", "7", "N"]):
        assert torch.equal(predictor.outputs(rows.with_columns(c=pl.Series(cells * 20))), expected)
    numbers = {"x": [0.0, 0.0], "c": [12, 7.0]}
    assert torch.equal(predictor.outputs(numbers), predictor.outputs({**numbers, "c": ["12", "7"]}))


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (["blue", "red"], "column 'color' has 1 value that was not there in training ('blue'): it counts as none of"),
        (["blue", "teal"], "column 'color' has 2 values that were not there in training ('blue', 'teal'): they count"),
    ],
)
def test_new_levels_are_told_at_the_users_line(cells: list[str], says: str) -> None:
    predictor, rows = predictor_for(made()), {"length": [1.0, 2.0], "width, in m": [1.0, 2.0], "color": cells}
    for ask in (predictor.predict, predictor.probabilities, predictor.outputs):
        with pytest.warns(UserWarning, match=re.escape(says)) as told:
            ask(rows)
        assert [one.filename for one in told] == [__file__]
    with pytest.warns(UserWarning, match="in training"):
        found = predictor.outputs(rows)
    expected = predictor.outputs({**rows, "color": [cell if cell == "red" else None for cell in cells]})
    assert torch.equal(found, expected)


def repacked(path: Path, header: Any, state: dict[str, torch.Tensor] | None = None) -> None:
    """Write a model file with a checksum that fits, whatever it holds."""
    if state is None:
        state = predictor_for(made()).model.state_dict()
    if isinstance(header, dict) and header.get("format") == model_file.FORMAT:
        fields = {key: value for key, value in header.items() if key not in ("format", "sha256")}
        header = stored.seal(fields | {"tensors": model_file.digest(state)}, model_file.FORMAT)
    text = header if isinstance(header, str) else json.dumps(header)
    path.write_bytes(safetensors.torch.save(state, metadata={"vicinal": text}))


def header_of(path: Path) -> dict[str, Any]:
    with safetensors.safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["vicinal"])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    predictor_for(made()).save(path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as error:
        Predictor.load(path)
    said = str(error.value)
    assert "\n" not in said
    assert path.name in said
    return said


def test_no_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.safetensors") == f"there is no file '{tmp_path / 'no.safetensors'}'"
    assert "is not a whole safetensors file" in refusal(tmp_path)


def test_a_file_cut_short_or_of_another_kind(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    for size in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:size])
        assert "is not a whole safetensors file" in refusal(saved)
    other = tmp_path / "model.csv"
    other.write_text("a,b\n1,2\n")
    assert "is not a whole safetensors file" in refusal(other)
    other.write_bytes(struct.pack("<Q", 2**63) + b"{}")
    assert "is not a whole safetensors file" in refusal(other)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"a": Evil()}, tmp_path / "evil.safetensors")
    assert "is not a whole safetensors file" in refusal(tmp_path / "evil.safetensors")
    assert not (tmp_path / "ran").exists()


def test_nothing_beside_it_runs_what_it_reads() -> None:
    for source in (Path(__file__).parents[3] / "src/vicinal/lab/compare").glob("*.py"):
        assert not re.search(r"\bpickle|torch\.load|joblib|(?<!\.)\b(eval|exec)\(", source.read_text()), source


@pytest.mark.parametrize(
    "header", ["", "null", "[]", "3", "{", '"text"', "[" * 5000, {}, {"format": 3}, {"format": None}, {"format": [1]}]
)
def test_a_safetensors_file_of_another_format(saved: Path, header: Any) -> None:
    repacked(saved, header)
    assert "holds no predictor of format 2 (found " in refusal(saved)
    assert "train it again with vicinal compare" in refusal(saved)


def test_a_safetensors_file_of_somebody_else(saved: Path) -> None:
    saved.write_bytes(safetensors.torch.save({"w": torch.zeros(3)}))
    assert "holds no predictor of format 2 (found None)" in refusal(saved)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden", None),
        ("hidden", 16),
        ("hidden", [16]),
        ("hidden", [16, 9]),
        ("hidden", [16, -8]),
        ("hidden", ["16", "8"]),
        ("hidden", [16.5, 8]),
        ("hidden", [10**15, 8]),
        ("hidden", [2**40] * 3),
        ("hidden", "ab"),
        ("encoding", None),
        ("encoding", []),
        ("encoding", {}),
        ("encoding", {"version": 1}),
        ("about", 3),
        ("about", None),
    ],
)
def test_a_header_tampered_with(saved: Path, key: str, value: Any) -> None:
    header = header_of(saved)
    repacked(saved, header | {key: value})
    assert "is damaged (" in refusal(saved)
    del header[key]
    repacked(saved, header)
    assert "is damaged (" in refusal(saved)


def test_weights_that_are_no_finite_numbers_are_refused(saved: Path) -> None:
    for bad in (math.nan, math.inf, -math.inf):
        state = safetensors.torch.load_file(saved)
        name = next(iter(state))
        state[name].flatten()[3] = bad
        repacked(saved, header_of(saved), state)
        with pytest.raises(UserError, match=rf"no finite numbers \('{name}'\): its training diverged; train it again"):
            Predictor.load(saved)


def test_outputs_that_are_no_finite_numbers_are_refused_by_their_rows(saved: Path) -> None:
    predictor = Predictor.load(saved)
    rows = records(made())
    for weights in list(predictor.model.parameters()):
        weights.data = weights.data.abs()
    list(predictor.model.parameters())[-2].data.fill_(3e38)  # the last layer's: only small inputs stay within float32
    with pytest.raises(UserError, match=r"the model's outputs for row 1, row 2, .* no finite numbers: check whether"):
        predictor.predict(rows)


KINDS = {
    "n": [float(i % 7) for i in range(40)],
    "d": [date(2020, 1, 1 + i % 20) for i in range(40)],
    "t": [datetime(2020, 1, 1 + i % 20, 13, 45) for i in range(40)],
    "b": [i % 3 == 0 for i in range(40)],
    "y": ["u", "v"] * 20,
}
GOOD: dict[str, Any] = {"n": 1.5, "d": date(2020, 1, 5), "t": datetime(2020, 1, 5, 13, 45), "b": True}


@pytest.mark.parametrize(
    ("column", "cells", "same"),
    [
        ("d", ["2020-01-05"], True),
        ("d", [None], True),
        ("d", ["2020-01-05", "2020-01-05T00:00"], True),  # no one form reads both
        ("d", ["2020-01-05 00:00:00Z", ""], True),
        ("d", [datetime(2020, 1, 5)], True),
        ("d", ["hello"], "'hello'"),
        ("d", ["05/01/2020"], "'05/01/2020'"),
        ("d", ["2020-13-45"], "'2020-13-45'"),
        ("d", ["18266"], "'18266'"),
        ("d", ["2020-01-05", "18266"], "'18266'"),
        ("d", [18266], "'18266'"),
        ("d", [18266.0], "'18266.0'"),
        ("d", ["true"], "'true'"),
        ("t", ["2020-01-05 13:45"], True),
        ("t", ["18266.57"], "'18266.57'"),
        ("n", ["1.5"], True),
        ("n", ["2020-01-05"], "'2020-01-05'"),
        ("n", [date(2020, 1, 5)], "'2020-01-05'"),
        ("b", ["True"], True),
        ("b", [1], True),
        ("b", ["1"], True),
        ("b", ["yes"], "'yes'"),
        ("b", [2], "'2'"),
        ("b", ["2020-01-05"], "'2020-01-05'"),
    ],
)
def test_cells_of_another_kind_than_in_training_are_refused(column: str, cells: list[Any], same: Any) -> None:
    forms = {
        "n": "numbers (as 1.5)",
        "b": "yes/no (as true or false)",
        "d": "dates (as 2020-01-31 or 2020-01-31 13:45)",
        "t": "dates (as 2020-01-31 or 2020-01-31 13:45)",
    }
    table = make_table(pl.DataFrame(KINDS), "y", name="kinds", source="made")
    predictor = predictor_for(table)
    predictor = Predictor(predictor.model, predictor.encoding, ABOUT, RowReading.of(table))
    rows = {name: [value] * len(cells) for name, value in GOOD.items()}
    expected = predictor.outputs(rows)
    if same is True:
        found = predictor.outputs(rows | {column: cells})
        good = [i for i, cell in enumerate(cells) if cell not in (None, "")]
        assert torch.equal(found[good], expected[good])
        return
    with pytest.raises(UserError) as error:
        predictor.outputs(rows | {column: cells})
    assert str(error.value) == (
        f"column {column!r} held {forms[column]} in training, and now holds {same}: write them alike, or leave the cells "
        "empty"
    )


def test_weights_tampered_with(saved: Path) -> None:
    header, state = header_of(saved), predictor_for(made()).model.state_dict()
    first = "layers.0.weight"
    for other in (
        {name: tensor for name, tensor in state.items() if name != first},
        {**state, "layers.9.weight": torch.zeros(3)},
        {**state, first: torch.zeros(2, 2)},
        {name: tensor.double() for name, tensor in state.items()},
        {**state, first: state[first].half()},
        {**state, first: torch.zeros_like(state[first], dtype=torch.int64)},
    ):
        repacked(saved, header, other)
        assert "is damaged (" in refusal(saved)


def test_an_encoding_tampered_with(saved: Path) -> None:
    header = header_of(saved)
    numbers = header["encoding"]["numeric"]
    numbers.append(numbers[0])
    repacked(saved, header)
    assert "is damaged (" in refusal(saved)
    numbers.pop()
    numbers[0]["std"] = 0
    repacked(saved, header)
    assert "is damaged (" in refusal(saved)


def test_each_changed_bit_of_a_file_is_noticed(saved: Path) -> None:
    content = saved.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for at in (*range(0, header, 41), *range(header, len(content), 1201)):
        saved.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        assert "vicinal compare" in (said := refusal(saved)) or "is not a whole safetensors file" in said


def test_a_file_of_format_1_is_read_and_has_no_checksum(saved: Path) -> None:
    header, state = model_file.read(saved, "table")
    before = Predictor.load(saved).predict(records(made()))
    old = {"format": 1, **{key: value for key, value in header.items() if key != "kind"}}
    saved.write_bytes(safetensors.torch.save(state, metadata={"vicinal": json.dumps(old)}))
    assert Predictor.load(saved).predict(records(made())).tolist() == before.tolist()


@pytest.mark.parametrize("name", ["float8_e4m3fn", "complex64", "bool", "int64", "float64"])
def test_weights_of_another_type_are_refused(saved: Path, name: str) -> None:
    header, state = model_file.read(saved, "table")
    first = sorted(state)[0]
    state[first] = state[first].to(getattr(torch, name))
    repacked(saved, {"format": model_file.FORMAT, **header}, state)
    assert f"tensor {first!r} is " in (said := refusal(saved))
    assert f"of {name}, and must be " in said


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    assert "it is a folder or a device" in refusal(tmp_path / "model.safetensors")
