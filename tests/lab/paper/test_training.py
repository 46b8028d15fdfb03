"""The studies that train: their recipes are the paper's, and what was trained is read back."""

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from studies import ALONE, quick_recipe, untrained

from vicinal.lab.data import loading
from vicinal.lab.errors import UserError
from vicinal.lab.paper import reproduce, training
from vicinal.lab.paper.ablation import AblationStudy
from vicinal.lab.paper.training import TrainingStudy
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import loop, recipes, runs

STUDIES = [study for study in reproduce.STUDIES if isinstance(study, TrainingStudy)]

# in what a cell at the paper's scale may differ from some recipe
DIFFERENCES = {
    "interpolation": set(),
    "imagenet": {"epochs"},  # rows that the paper quotes, of 100 epochs
    "cifar": {"dataset"},  # CIFAR-100 with the recipe of CIFAR-10
    "speech": {"vicinity"},  # both alphas for both models
    "corrupted-labels": {"vicinity", "label_noise", "dropout"},
    "ablation": {"vicinity", "weight_decay", "mix_at", "knn", "knn_scope"},
}


def difference(a: Recipe, b: Recipe) -> set[str]:
    return {field.name for field in fields(Recipe) if getattr(a, field.name) != getattr(b, field.name)}


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_a_cell_at_the_papers_scale_is_its_recipe(study: TrainingStudy) -> None:
    known = [make() for make in recipes.all_recipes().values()]
    for cell in study.cells("paper"):
        assert cell.recipe is not None
        assert any(difference(cell.recipe, recipe) <= DIFFERENCES[study.name] for recipe in known), cell.name


def test_imagenet_at_the_papers_scale_is_the_papers() -> None:
    by_name = {cell.job: cell.recipe for cell in reproduce_cells("imagenet")}
    assert len(by_name) == 15
    assert by_name["resnet-50-90-mixup"] == recipes.imagenet_resnet50_mixup()
    assert by_name["resnext-101-32x4d-200-mixup"] == recipes.imagenet_resnext101_32x4d_200_mixup()
    for recipe in by_name.values():
        assert recipe is not None
        assert (recipe.image_size, recipe.crop, recipe.batch_size) == (224, "random_resized_crop", 1024)


def reproduce_cells(name: str) -> Sequence[training.Cell]:
    study = reproduce.find(name)
    assert isinstance(study, TrainingStudy)
    return study.cells("paper")


def test_every_line_of_the_ablation_is_its_own_training() -> None:
    cells = AblationStudy().cells("paper")
    assert len({cell.recipe for cell in cells}) == 44
    by_name = {cell.name: cell.recipe for cell in cells}
    smote = by_name["mix inputs only, SC + KNN (SMOTE), weight decay 1e-4"]
    assert smote is not None
    assert (smote.vicinity, smote.knn, smote.knn_scope) == ("InputMixup(alpha=1.0)", 200, "class")
    last = by_name["mix labels and latent, layer 5, weight decay 5e-4"]
    assert last is not None
    assert (last.mix_at, last.weight_decay, last.epochs, last.milestones) == ("linear", 5e-4, 200, (100, 150))


def test_what_was_trained_is_read_back(tmp_path: Path) -> None:
    recipe = quick_recipe(augment=False, label_noise=0.5)
    results = loop.train(recipe, tmp_path / "run", ALONE)
    assert runs.load_recipe(tmp_path / "run") == recipe
    model = runs.load_model(tmp_path / "run", 10)
    data, test = loading.load(recipe)
    assert data.augment is None
    assert len(test) == 20
    assert float(runs.misclassified(model, test).double().mean()) == pytest.approx(results.test_error.last)
    with pytest.raises(UserError, match="is not a run of vicinal train"):
        runs.load_recipe(tmp_path)
    (tmp_path / "run/weights.pt").unlink()
    with pytest.raises(UserError, match="is not finished"):
        runs.load_model(tmp_path / "run", 10)
    (tmp_path / "run/results.json").write_text('{"epochs": [')
    with pytest.raises(UserError, match=r"results.json is damaged; remove .*run and run it again"):
        loop.train(recipe, tmp_path / "run", ALONE)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([1, 2], "is not a table of fields: [1, 2]"),
        ({"epochs": "x"}, 'epochs of its recipe cannot be "x"'),
        ({"epochs": True}, "epochs of its recipe cannot be true"),
        ({"milestones": 3}, "milestones of its recipe cannot be 3"),
        ({"milestones": [1.5]}, "milestones of its recipe cannot be [1.5]"),
        ({"learning_rate": None}, "learning_rate of its recipe cannot be null"),
        ({"max_train_examples": "all"}, 'max_train_examples of its recipe cannot be "all"'),
        ({"crop": []}, "crop of its recipe cannot be []"),
        ({"model": 1}, "model of its recipe cannot be 1"),
        ({"augment": 1}, "augment of its recipe cannot be 1"),
        ({"epochs": 0}, "epochs must be 1 or more, got 0"),
        ({"more": 0}, "another version: its recipe and this one's differ in 'more'"),
    ],
)
def test_a_recipe_that_is_none_is_said(changes: Any, words: str, tmp_path: Path) -> None:
    run = untrained(tmp_path / "run", learning_rate=1)  # a whole number is a number
    assert runs.load_recipe(run).learning_rate == 1
    path = run / "recipe.json"
    recipe = json.loads(path.read_text())["recipe"] | changes if isinstance(changes, dict) else changes
    path.write_text(json.dumps({"format": runs.FORMAT, "recipe": recipe}))
    with pytest.raises(UserError) as refused:
        runs.load_recipe(run)
    assert str(path) in str(refused.value)
    assert words in str(refused.value)
