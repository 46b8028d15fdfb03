"""The museum: each pipeline says what it is and what must be found in it, and runs by itself."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from museum.__main__ import Visit, _reason, command, main, page, reached, totals

from museum import FOLDER, Exhibit, exhibits, read
from vicinal.checking.codes import CODES

EXHIBITS = exhibits()


def test_there_are_enough_of_both_kinds():
    assert sum(not e.is_correct for e in EXHIBITS) >= 40
    assert sum(e.is_correct for e in EXHIBITS) >= 24


def test_every_error_and_warning_has_a_fault():
    shown = {code for e in EXHIBITS for code in e.finds}
    assert {code for code, c in CODES.items() if c.severity != "note"} <= shown


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda e: e.name)
def test_file(exhibit: Exhibit):
    assert bool(exhibit.finds) is not exhibit.is_correct
    assert all(code in CODES for code in exhibit.finds)
    text = exhibit.file.read_text()
    assert 13 <= len(text.splitlines()) <= 64
    assert "#" not in text.split('"""')[2], "a comment would say what is wrong"
    assert set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)) <= {
        "torch", "numpy", "math", "random", "types", *(["vicinal"] if exhibit.is_correct else [])
    }  # fmt: skip
    if not exhibit.is_correct:
        assert re.match(r"[\w.-]+/[\w.-]+[ ,]|mlxops-aug ", exhibit.source), exhibit.source


# -- each runs ---------------------------------------------------------------------------------------------------------


def load(file: Path) -> ModuleType:
    name = f"museum.{file.parent.name}.{file.stem}"  # workers that were not forked import it
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # workers and pickles look here
    spec.loader.exec_module(module)
    return module


def parameters(function: Any) -> list[str]:
    return [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]


def leaves(batch: Any) -> Iterator[Any]:
    if isinstance(batch, dict):
        batch = batch.values()
    if isinstance(batch, Iterable) and not isinstance(batch, torch.Tensor | np.ndarray):
        for part in batch:
            yield from leaves(part)
    else:
        yield batch


def check_batch(batch: Any) -> None:
    for leaf in leaves(batch):
        if isinstance(leaf, torch.Tensor | np.ndarray):
            values = torch.as_tensor(leaf)
            assert values.numel()
            assert not values.is_floating_point() or not values.isinf().any()


def loaders(made: Any) -> list[Any]:
    return list(made.values()) if isinstance(made, dict) else list(made) if isinstance(made, tuple) else [made]


def batches(module: ModuleType) -> list[Any]:
    """Return two batches of what a module has for examples."""
    if hasattr(module, "example"):
        return [module.example, module.example]
    made = module.make_loader() if hasattr(module, "make_loader") else module.train_loader
    return list(islice(made, 2))


def run(module: ModuleType, target: str) -> None:
    function = getattr(module, target)
    names = parameters(function)
    if target.startswith("make_"):
        for count in (0, 1):
            values = {"rank": count, "world_size": 2, "epoch": count}
            for loader in loaders(function(**{name: values[name] for name in names})):
                for batch in islice(loader, 2):
                    check_batch(batch)
        return
    for batch in batches(module):
        if names == ["features"]:
            result = function(batch)
        elif names == ["batches"]:
            result = function(batches(module))
        elif names in (["logits", "target"], ["logits", "targets"], ["preds", "target"]):
            logits, y = batch
            result = function(logits, y)
            if not y.is_floating_point():
                one_hot = F.one_hot(y.clamp(min=0), logits.shape[1]).float()
                if exhibit_takes_soft(module):
                    check_batch(function(logits, one_hot))
        elif names == ["batch", "batch_idx"]:
            result = function(batch, 0)
        elif names == ["batch"]:
            result = function(batch)
        else:
            result = function(*batch)
        check_batch(result)


def exhibit_takes_soft(module: ModuleType) -> bool:
    """Return whether the loss of a module is about soft labels, and not about two of class indices."""
    return "triple" not in module.__name__


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda e: e.name)
def test_runs(exhibit: Exhibit):
    before = torch.random.get_rng_state(), np.random.get_state()  # noqa: NPY002
    try:
        run(load(exhibit.file), exhibit.target)
    finally:
        torch.random.set_rng_state(before[0])
        np.random.set_state(before[1])  # noqa: NPY002


def test_eval_names_exist():
    for exhibit in EXHIBITS:
        if "--eval" in exhibit.options:
            assert exhibit.options[exhibit.options.index("--eval") + 1] in exhibit.file.read_text()


# -- the command -------------------------------------------------------------------------------------------------------

FAULT, CORRECT = read(FOLDER / "faults" / "deit_criterion.py"), read(FOLDER / "correct" / "two_losses.py")


def test_parts_of_a_docstring():
    assert (FAULT.name, FAULT.target, FAULT.options) == ("faults/deit_criterion", "train_step", ())
    assert FAULT.source.startswith("facebookresearch/deit #91 (")
    assert FAULT.finds == ("VIC012",)
    assert (CORRECT.finds, CORRECT.options) == ((), ("--alpha", "1.0"))
    assert command(CORRECT)[2:] == [
        "vicinal.lab.cli", "check", "museum/correct/two_losses.py:train_step", "--json", "--alpha", "1.0"
    ]  # fmt: skip


def test_a_docstring_without_a_part(tmp_path: Path):
    file = tmp_path / "x.py"
    file.write_text('"""A pipeline.\n\nSource: a/b #1\n\n    check: f\n"""\n')
    with pytest.raises(ValueError, match="no 'finds'"):
        read(file)


def test_totals():
    def total(*visits: Visit) -> dict[str, Any]:
        return totals(visits)

    good = Visit(FAULT, ("VIC012", "VIC031"), (), 2.0), Visit(CORRECT, (), ("VIC060",), 3.0)
    assert reached(total(*good))
    assert total(*good)["slowest"] == CORRECT.name
    assert total(Visit(FAULT, ("VIC031",), (), 1.0))["missed"] == [FAULT.name]
    assert not reached(total(Visit(FAULT, ("VIC031",), (), 1.0)))
    assert total(Visit(CORRECT, ("VIC031", "VIC030"), (), 1.0))["false_alarms"] == 2
    assert not reached(total(Visit(CORRECT, ("VIC031",), (), 1.0)))
    assert not reached(total(Visit(CORRECT, (), (), 10.5)))
    assert reached(total(Visit(CORRECT, (), (), 10.5)), timed=False)
    assert not reached(total(Visit(CORRECT, (), (), 1.0, "no answer in 120 s")))


def test_page_shows_what_was_found():
    visits = [Visit(FAULT, ("VIC001",), (), 2.0), Visit(CORRECT, (), (), 3.0)]
    record = {
        "vicinal": "0.1.0", "created": "2026-01-31T12:00:00Z", "versions": {"torch": "2"}, "machine": {"processor": "P"},
        "totals": totals(visits), "pipelines": [json.loads(json.dumps(v.to_dict())) for v in visits],
    }  # fmt: skip
    text = page(record)
    assert "| faults found | 0 of 1 | 95% |" in text
    assert re.search(
        r"\[deit_criterion\]\(\.\./\.\./museum/faults/deit_criterion\.py\) \| .* \| VIC012 \| \*\*VIC001\*\* \| 2\.0",
        text,
    )
    assert re.search(r"two_losses.* \| nothing \| nothing \| 3\.0 \|", text)


def test_reason_of_a_missing_report():
    assert _reason("") == ""
    assert _reason("vicinal: there is no file x.py\n") == "vicinal: there is no file x.py"
    assert _reason("Traceback\n  File\nValueError: no rows\nvicinal: failed (see above)\n") == "ValueError: no rows"


@pytest.mark.parametrize("arguments", [["--write", "deit"], ["no_such_pipeline"]])
def test_arguments_that_make_no_sense(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "error" in capsys.readouterr().err
