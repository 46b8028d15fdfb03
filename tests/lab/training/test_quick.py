"""A quick look: what it scales, and what is given takes precedence."""

from dataclasses import replace

import pytest

from vicinal.lab.training import recipes
from vicinal.lab.training.quick import describe_changes, shortened


def test_a_quick_look_scales_the_recipe_and_what_is_given_goes_before() -> None:
    full = recipes.find("cifar10-preact18-mixup")
    small = shortened(full, [])
    assert (small.epochs, small.batch_size, small.milestones) == (3, 32, (2, 2))
    assert small.learning_rate == pytest.approx(0.1 * 32 / 128)
    assert small.max_steps_per_epoch is not None
    assert small.max_test_examples == 32 * small.max_steps_per_epoch
    # three epochs of them and of their test are what a core does in about a minute
    assert 3 * 4 * 32 * small.max_steps_per_epoch * 0.56e9 == pytest.approx(1.5e12, rel=0.2)
    given = shortened(full, ["epochs=20", "batch_size=64", "max_steps_per_epoch=none", "vicinity=ERM()"])
    assert (given.epochs, given.batch_size, given.max_steps_per_epoch) == (20, 64, None)
    assert (given.vicinity, given.milestones) == ("ERM()", (10, 15))
    assert given.learning_rate == pytest.approx(0.05)
    assert shortened(full, ["learning_rate=0.3"]).learning_rate == 0.3
    speech = shortened(recipes.find("speech-lenet-mixup"), [])  # 5 of 30 epochs without mixup
    assert speech.vicinity == "Scheduled(Mixup(alpha=0.1), start=1)"
    assert shortened(recipes.find("cifar10-densenet-190-erm"), []).max_steps_per_epoch == 2
    assert describe_changes(full, replace(full, epochs=3)) == "epochs 3 instead of 200"
