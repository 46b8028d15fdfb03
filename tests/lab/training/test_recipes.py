"""The paper's recipes: each names what exists, with its section and its figure."""

import pytest
import torch

import vicinal as v
from vicinal.lab import models, parse
from vicinal.lab.training import recipes


@pytest.mark.parametrize("name", recipes.all_recipes())
def test_every_recipe_names_a_model_and_a_vicinity_that_exist(name: str) -> None:
    what = recipes.find(name)
    assert isinstance(parse.parse(what.vicinity), v.Vicinity)
    with torch.device("meta"):
        models.build(what.model, 10)
    doc = recipes.all_recipes()[name].__doc__
    assert doc
    assert doc.startswith(("Section", "Not in the paper"))
