"""The saved model: it answers as it did, reads what users have, and is never trusted."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import safetensors.torch
import torch

from vicinal.keyed import Key
from vicinal.lab.compare.predictor import Predictor
from vicinal.lab.data.columns import Numbers
from vicinal.lab.data.encoder import TableEncoder
from vicinal.lab.data.table import Table, make_table
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
    with pytest.raises(UserError, match="lack the input column 'length': add them; did you mean 'Length'"):
        predictor_for(table).predict(rows)


def repacked(path: Path, header: Any, state: dict[str, torch.Tensor] | None = None) -> None:
    if state is None:
        state = predictor_for(made()).model.state_dict()
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
    "header", ["", "null", "[]", "3", "{", '"text"', "[" * 5000, {}, {"format": 2}, {"format": None}, {"format": [1]}]
)
def test_a_safetensors_file_of_another_format(saved: Path, header: Any) -> None:
    repacked(saved, header)
    assert "holds no predictor of format 1 (found " in refusal(saved)
    assert "train it again with vicinal compare" in refusal(saved)


def test_a_safetensors_file_of_somebody_else(saved: Path) -> None:
    saved.write_bytes(safetensors.torch.save({"w": torch.zeros(3)}))
    assert "holds no predictor of format 1 (found None)" in refusal(saved)


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
