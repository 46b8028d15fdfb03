"""A recipe: its learning rates, and changes written as field=value."""

import pytest

from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe, with_overrides
from vicinal.lab.training import recipes


def test_learning_rates_follow_the_paper() -> None:
    cifar = recipes.find("cifar10-preact18-mixup")
    assert [cifar.lr_at(e) for e in (0, 99, 100, 149, 150, 199)] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    warm = recipes.find("imagenet-resnet50-mixup")  # section 3.1
    rates = [warm.lr_at(e, p) for e, p in ((0, 0.0), (2, 0.5), (5, 0.0), (29, 0.9), (30, 0.0), (80, 0.0))]
    assert rates == pytest.approx([0.1, 0.25, 0.4, 0.4, 0.04, 0.0004])


def test_overrides_are_read_by_type() -> None:
    changes = ["epochs=3", "learning_rate=0.5", "nesterov=true", "milestones=1,2", "max_train_examples=7"]
    got = with_overrides(Recipe("cifar10", "small"), changes)
    assert (got.epochs, got.learning_rate, got.nesterov, got.milestones) == (3, 0.5, True, (1, 2))
    assert got.max_train_examples == 7
    none = with_overrides(got, ["max_train_examples=none", "milestones="])
    assert (none.max_train_examples, none.milestones) == (None, ())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("epoch=3", "did you mean epochs"),
        ("epochs", "field=value"),
        ("epochs=x", "epochs takes a whole number, got 'x'"),
        ("nesterov=maybe", "true or false"),
        ("milestones=1,,2", "whole numbers, as 10,20"),
        ("optimizer=lion", "one of sgd, adam"),
        ("epochs=0", "1 or more"),
        ("learning_rate=nan", "finite"),
        ("ema_decay=1", "in \\[0, 1\\)"),
        ("grad_accum_steps=3", "equal parts"),
        ("vicinity=Mixpu(1)", "did you mean Mixup"),
        ("vicinity=Mixup(0)", "finite number > 0"),
    ],
)
def test_what_changes_no_recipe_is_refused(change: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        with_overrides(Recipe("cifar10", "small"), [change])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *(
            ("data", "dataset"),
            ("network", "model"),
            ("batch", "batch_size"),
            ("drops", "milestones"),
            ("drop", "gamma"),
        ),
        *(("noise", "label_noise"), ("accumulate", "grad_accum_steps"), ("ema", "ema_decay"), ("size", "image_size")),
        *(("examples", "max_train_examples"), ("steps", "max_steps_per_epoch"), ("latent", "mix_at")),
        *(("warmup_from", "warmup_start_lr"), ("decay_norms", "decay_norm_and_bias")),
        ("test_examples", "max_test_examples"),
    ],
)
def test_a_former_name_is_refused_with_the_new_one(old: str, new: str) -> None:
    with pytest.raises(UserError, match=rf"did you mean {new}\?"):
        with_overrides(Recipe("cifar10", "small"), [f"{old}=1"])
