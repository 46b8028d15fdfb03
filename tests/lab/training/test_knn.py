"""Mixing at a hidden layer, and among nearest neighbors, as the ablation trains: against a plain loop."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import vicinal as v
from vicinal.lab import models
from vicinal.lab.data import loading
from vicinal.lab.data.dataset import InMemoryDataset
from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe
from vicinal.lab.streams import Stream
from vicinal.lab.training import knn, loop
from vicinal.lab.training.distributed import Processes

ALONE = Processes(0, 1, torch.device("cpu"))


def quick_recipe(**changes: Any) -> Recipe:
    quick = {"epochs": 1, "batch_size": 16, "learning_rate": 0.05, "max_train_examples": 32, "max_test_examples": 20}
    mixup = {"dataset": "synthetic-images", "model": "small", "vicinity": "Mixup(alpha=1.0)", "channels_last": False}
    return Recipe(**(quick | mixup | changes))


def plain(recipe: Recipe, step_of: Any) -> dict[str, torch.Tensor]:
    """Train an epoch by hand; `step_of(model, data, rows, step)` gives the loss of a step."""
    data, _ = loading.load(recipe)
    with loop.fork_rng(v.Key(0, 0, 0, 0, Stream.WEIGHTS)):
        model = models.build("small", 10)
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    order = v.Key(0, 0, 0, 0, Stream.ORDER).generator().permutation(len(data))
    for step, rows in enumerate(torch.from_numpy(order).split(16)):
        sgd.zero_grad()
        step_of(model, data, rows, step).backward()
        sgd.step()
    return model.state_dict()


def assert_same(folder: Path, expected: dict[str, torch.Tensor]) -> None:
    found = torch.load(folder / "weights.pt", weights_only=True)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


def test_a_hidden_layer_is_mixed_where_the_recipe_says(tmp_path: Path) -> None:
    recipe = quick_recipe(mix_at="layer3")
    loop.train(recipe, tmp_path / "run", ALONE)

    def step_of(model: Any, data: InMemoryDataset, rows: torch.Tensor, step: int) -> torch.Tensor:
        x, y = data.batch(rows, v.Key(0, 0, 0, step))
        plan = v.Mixup(1.0, seed=recipe.seed).plan(len(y), step=step)
        hidden = plan(model.layer2(model.layer1(x)))
        out = model.linear(model.layer4(model.layer3(hidden)).mean((2, 3)))
        return F.cross_entropy(out, plan.target(y))

    assert_same(tmp_path / "run", plain(recipe, step_of))
    with pytest.raises(UserError, match="no module 'layer9'"):
        loop.train(quick_recipe(mix_at="layer9"), tmp_path / "other", ALONE)
    with pytest.raises(UserError, match="grad_accum_steps=1 with mix_at"):
        quick_recipe(mix_at="layer3", grad_accum_steps=2)
    with pytest.raises(UserError, match="knn or mix_at, not both"):
        quick_recipe(mix_at="layer3", knn=2)


@pytest.mark.parametrize("of", ["all", "class"])
def test_partners_are_neighbors_in_the_whole_training_set(tmp_path: Path, of: str) -> None:
    examples_of = {"all": 32, "class": 60}[of]  # of 120 in ten classes: some of each
    recipe = quick_recipe(knn=2, knn_scope=of, vicinity="InputMixup(alpha=1.0)", max_train_examples=examples_of)
    loop.train(recipe, tmp_path / "run", ALONE)
    data, _ = loading.load(recipe)
    clean = data.batch(torch.arange(len(data)), None)[0].flatten(1).double()
    distance = torch.cdist(clean, clean)
    for i in range(len(data)):
        distance[i, i] = torch.inf
        if of == "class":
            distance[i, data.labels != data.labels[i]] = torch.inf
    nearest = distance.argsort(1)[:, :2]
    near = knn.find(data, recipe)
    assert torch.equal(near.rows.sort(1).values, nearest.sort(1).values)

    def step_of(model: Any, data: InMemoryDataset, rows: torch.Tensor, step: int) -> torch.Tensor:
        key = v.Key(0, 0, 0, step)
        partner = near.draw(rows, key)
        assert all(int(p) in nearest[r] for r, p in zip(rows, partner, strict=True))
        x, y = data.batch(rows, key)
        other, _ = data.batch(partner, v.Key(0, 0, 1, step))  # cropped and mirrored for itself
        plan = v.InputMixup(1.0, seed=recipe.seed).plan(len(y), step=step)
        share = plan.weight[:, None, None, None]
        mixed = torch.lerp(other, x, share)  # rounded as ours is: training carries the least difference far
        label = torch.where(plan.weight >= 0.5, y, data.labels[partner])
        return F.cross_entropy(model(mixed), label)

    assert_same(tmp_path / "run", plain(recipe, step_of))


def test_neighbors_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="knn=40, but an example has 31 others"):
        loop.train(quick_recipe(knn=40), tmp_path / "a", ALONE)
    with pytest.raises(UserError, match="take Mixup or InputMixup"):
        loop.train(quick_recipe(knn=2, vicinity="CutMix()"), tmp_path / "b", ALONE)


def test_all_neighbors_are_drawn_alike() -> None:
    near = knn.KNNPartners(torch.arange(40).view(4, 10))
    drawn_rows = torch.stack([near.draw(torch.tensor([2, 0]), v.Key(0, 0, 0, step)) for step in range(500)])
    counts = torch.bincount(drawn_rows[:, 0] - 20, minlength=10)
    assert len(counts) == 10
    assert abs(counts - 50).max() < 5 * math.sqrt(500 * 0.09)
