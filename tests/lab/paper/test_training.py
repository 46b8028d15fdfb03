"""The studies that train: their recipes are the paper's, and what was trained is read back."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from studies import ALONE, quick_recipe, untrained

from vicinal.lab import stored
from vicinal.lab.data import loading
from vicinal.lab.errors import UserError
from vicinal.lab.paper import adversarial, corrupted_labels, reproduce, speech, training
from vicinal.lab.paper.ablation import AblationStudy
from vicinal.lab.paper.cifar import CifarStudy
from vicinal.lab.paper.corrupted_labels import CorruptedLabelsStudy
from vicinal.lab.paper.imagenet import ImageNetStudy
from vicinal.lab.paper.study import Published, Scale
from vicinal.lab.paper.training import TrainingStudy
from vicinal.lab.recipe import Recipe
from vicinal.lab.statistics import detectable
from vicinal.lab.training import loop, recipes, runs

STUDIES = [study for study in reproduce.STUDIES if isinstance(study, TrainingStudy)]

MIXUP = "Mixup(alpha=1.0)"
INPUTS = "InputMixup(alpha=1.0)"
NEAREST: dict[str, Any] = {"knn": 200}

# the lines of each study at the paper's scale: the recipe's name, and what the line itself says
CIFAR = {
    f"{dataset}-{model}-{method}": (f"cifar10-{recipe}-{method}", {"dataset": dataset})
    for dataset in ("cifar10", "cifar100")
    for model, recipe in (
        ("preact-resnet-18", "preact18"),
        ("wrn-28-10", "wrn-28-10"),
        ("densenet-bc-190-40", "densenet-190"),
    )
    for method in ("erm", "mixup")
}
IMAGENET = {
    f"{model}-{epochs}-{method}": (f"imagenet-{recipe}{'-200' if epochs == 200 else ''}-{method}", {})
    for model, recipe, lengths in (
        ("resnet-50", "resnet50", (90, 200)),
        ("resnet-101", "resnet101", (90, 200)),
        ("resnext-101-32x4d", "resnext101-32x4d", (90, 200)),
        ("resnext-101-64x4d", "resnext101-64x4d", (90,)),
    )
    for epochs in lengths
    for method in ("erm", "mixup")
}
QUOTED = {"resnet-50-90", "resnet-101-90", "resnext-101-32x4d-100", "resnext-101-64x4d-100"}
SPEECH = {
    f"{model}-{method}": (recipe, {"vicinity": vicinity})
    for model, recipe in (("lenet", "speech-lenet-erm"), ("vgg-11", "speech-vgg11-erm"))
    for method, vicinity in (
        ("erm", "ERM()"),
        ("mixup-0.1", "Scheduled(Mixup(alpha=0.1), start=5)"),
        ("mixup-0.2", "Scheduled(Mixup(alpha=0.2), start=5)"),
    )
}
CORRUPTED = {
    f"{noise}-{method}": ("cifar10-preact18-erm", {"label_noise": noise, "vicinity": vicinity, "dropout": dropout})
    for noise in (0.2, 0.5, 0.8)
    for method, vicinity, dropout in (
        ("erm", "ERM()", 0.0),
        *((f"erm-dropout-{dropout}", "ERM()", dropout) for dropout in (0.5, 0.7, 0.8, 0.9)),
        *((f"mixup-{alpha}", f"Mixup(alpha={alpha}.0)", 0.0) for alpha in (1, 2, 8, 32)),
        *(
            (f"mixup-dropout-{alpha}-{dropout}", f"Mixup(alpha={alpha}.0)", dropout)
            for alpha in (1, 2, 4, 8)
            for dropout in (0.3, 0.5, 0.7)
        ),
    )
}
ABLATION: list[dict[str, Any]] = [
    {},
    {"vicinity": MIXUP},
    {"vicinity": MIXUP} | NEAREST,
    *({"vicinity": MIXUP, "mix_at": layer} for layer in ("layer1", "layer2", "layer3", "layer4", "linear")),
    {"vicinity": INPUTS, "knn_scope": "class"} | NEAREST,
    {"vicinity": INPUTS} | NEAREST,
    {"vicinity": "InputMixup(alpha=1.0, pairing=SameClass())"},
    {"vicinity": INPUTS},
    *({"vicinity": f"LabelSmoothing(eps={eps})"} for eps in (0.05, 0.1, 0.2)),
    *({"vicinity": f"Chain([{INPUTS}, LabelSmoothing(eps={eps})])"} for eps in (0.05, 0.1, 0.2, 0.4)),
    *({"vicinity": f"GaussianNoise(sigma={sigma})"} for sigma in (0.05, 0.1, 0.2)),
]
LINES: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "imagenet": IMAGENET,
    "cifar": CIFAR,
    "speech": SPEECH,
    "corrupted-labels": CORRUPTED,
    "ablation": {
        f"{i:02d}-decay{name}": ("cifar10-preact18-erm", line | {"weight_decay": decay})
        for i, line in enumerate(ABLATION)
        for decay, name in ((1e-4, "1e-4"), (5e-4, "5e-4"))
    }
    | {"three-decay1e-4": ("cifar10-preact18-erm", {"vicinity": "Mixup(alpha=Dirichlet(alpha=1.0, k=3))"})},
}


@pytest.mark.parametrize("name", LINES)
def test_a_cell_at_the_papers_scale_is_the_recipe_of_its_line(name: str) -> None:
    cells = {cell.job: cell.recipe for cell in reproduce_cells(name) if cell.recipe is not None}
    assert cells == {job: replace(recipes.find(line), **says) for job, (line, says) in LINES[name].items()}


def test_every_study_that_trains_is_checked_here() -> None:
    assert {study.name for study in STUDIES} == {*LINES, "interpolation"}
    known = {recipes.find(name) for name in ("cifar10-preact18-erm", "cifar10-preact18-mixup")}
    assert {cell.recipe for cell in reproduce_cells("interpolation")} == known


def test_the_attacked_models_at_the_papers_scale_are_trained_by_their_recipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Recipe] = []
    monkeypatch.setattr(training.loop, "train", lambda recipe, *given: trained.append(recipe))
    monkeypatch.setattr(adversarial.loading, "load", stop)
    with pytest.raises(Stop):
        reproduce.find("adversarial").jobs("paper")[0].run(tmp_path / "adversarial" / "paper" / "seed-0")
    erm, mixup = recipes.imagenet_resnet101_erm(), recipes.imagenet_resnet101_mixup()
    assert trained == [replace(erm, seed=0), replace(erm, seed=1), replace(mixup, seed=0)]


class Stop(Exception):
    pass


def stop(*given: Any) -> None:
    raise Stop


def test_imagenet_at_the_papers_scale_is_the_papers() -> None:
    cells = reproduce_cells("imagenet")
    assert {cell.job for cell in cells if cell.recipe is None} == {f"{line}-quoted" for line in QUOTED}
    assert all("the paper quotes" in cell.note and "not run" in cell.note for cell in cells if cell.recipe is None)
    found = [cell.recipe for cell in cells if cell.recipe is not None]
    assert len(found) == 14
    for recipe in found:
        assert (recipe.image_size, recipe.crop, recipe.batch_size) == (224, "random_resized_crop", 1024)
        assert recipe.milestones == ((30, 60, 80) if recipe.epochs == 90 else (60, 120, 180))


def test_a_quoted_line_is_run_at_no_scale_and_its_erm_is() -> None:
    study = ImageNetStudy()
    for scale in ("smoke", "small", "paper"):
        cells = {cell.job: cell for cell in study.cells(scale)}
        assert all(cells[f"{line}-quoted"].recipe is None for line in QUOTED)
        assert cells["resnet-50-90-erm"].recipe is not None
        assert cells["resnet-50-90-mixup"].against == "ResNet-50, 90 epochs, ERM"  # the quoted one
        assert cells["resnet-50-90-erm"].published == [None, None]


def test_what_imagenet_can_resolve_at_the_small_scale() -> None:
    spread = 100 * math.sqrt(2 * 0.6 * 0.4 / 1000)  # of the errors of two models that err independently
    said = " ".join(ImageNetStudy.scales["small"].deviations)
    assert f"up to {spread:.1f} points" in said
    assert f"an effect of {detectable(spread, 3):.0f} points" in said


def test_the_claims_on_imagenet_are_differences_per_seed() -> None:
    errors = {
        "resnet-50-90-erm": (0.50, 0.52),
        "resnet-50-90-mixup": (0.49, 0.50),
        "resnet-50-200-erm": (0.45, 0.46),
        "resnet-50-200-mixup": (0.40, 0.43),
    }
    done = {
        f"{job}-seed{seed}": {
            "recipe": {},
            "test_error": {"median_of_last_10": 1.0, "best": 1.0, "last": error},
            "course": {},
            "device": "cpu",
        }
        for job, values in errors.items()
        for seed, error in enumerate(values)
    }
    gain, longer = ImageNetStudy().claims("small", done)
    assert gain.evidence[0].differences == pytest.approx((-1.0, -2.0))
    assert gain.evidence[1].differences == pytest.approx((-5.0, -3.0))
    assert longer.evidence[0].differences == pytest.approx((-4.0, -1.0))
    assert {evidence.expected for claim in (gain, longer) for evidence in claim.evidence} == {"lower"}


def test_speakers_of_all_folds_carry_the_difference_of_the_errors() -> None:
    erm = [{"a": [1, 0, 1], "b": [0]}, {"c": [1, 1]}]
    mixup = [{"a": [0, 0, 1], "b": [1]}, {"c": [0, 0]}]
    found = speech.by_speaker(erm, mixup)
    # of six utterances ERM misses 4 and mixup 2
    assert found == pytest.approx((100 * -1 * 3 / 6, 100 * 1 * 3 / 6, 100 * -2 * 3 / 6))
    assert sum(found) / 3 == pytest.approx(100 * (2 - 4) / 6)


def test_the_claim_on_speech_waits_for_every_fold() -> None:
    study = speech.SpeechStudy()
    run = {
        "recipe": {},
        "test_error": {"median_of_last_10": 1.0, "best": 1.0, "last": 0.5},
        "course": {},
        "device": "cpu",
    }
    missed = {"erm": [1, 1], "mixup-0.2": [0, 1]}
    done: dict[str, dict[str, Any]] = {
        f"vgg-11-{method}-seed{fold}": run | {"missed": {f"speaker-{fold}": missed[method]}}
        for fold in range(3)
        for method in missed
    }
    assert study.claims("small", done)[0].evidence[0].differences == pytest.approx((-50.0,) * 3)
    done["vgg-11-mixup-0.2-seed0"]["missed"] = {"speaker-0": [1, 1]}
    claim = study.claims("small", done)[0]
    assert claim.evidence[0].differences == pytest.approx((0.0, -50.0, -50.0))
    assert f"of {detectable(50 / math.sqrt(3), 3):.1f} points is found" in claim.limits
    del done["vgg-11-erm-seed2"]
    assert study.claims("small", done)[0].evidence[0].differences == ()


def test_each_seed_of_speech_has_a_fold_of_its_own() -> None:
    jobs = {job.name: job.run.args[0] for job in speech.SpeechStudy().jobs("small")}  # type: ignore[attr-defined]
    assert len(jobs) == 9
    for fold in range(3):
        for method in ("erm", "mixup-0.1", "mixup-0.2"):
            assert jobs[f"vgg-11-{method}-seed{fold}"].dataset == f"speech-commands-fold-{fold}"


def reproduce_cells(name: str) -> Sequence[training.Cell]:
    study = reproduce.find(name)
    assert isinstance(study, TrainingStudy)
    return study.cells("paper")


def recipes_of(cells: Sequence[training.Cell]) -> list[Recipe]:
    return [cell.recipe for cell in cells if cell.recipe is not None]


def test_every_line_of_the_ablation_is_its_own_training() -> None:
    cells = AblationStudy().cells("paper")
    assert len({cell.recipe for cell in cells}) == 44 + 1
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
    weights = tmp_path / "run/weights.pt"
    content = weights.read_bytes()
    weights.unlink()
    with pytest.raises(UserError, match=r"has no weights.pt: remove .*run and train that run again"):
        runs.load_model(tmp_path / "run", 10)
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1  # in a weight: torch.load does not see it
    weights.write_bytes(flipped)
    assert torch.load(weights, weights_only=True).keys() == model.state_dict().keys()
    for read in (lambda: runs.load_model(tmp_path / "run", 10), lambda: loop.train(recipe, tmp_path / "run", ALONE)):
        with pytest.raises(UserError, match=r"weights.pt is not as it was written: its SHA-256 is not that in results"):
            read()
    weights.write_bytes(content)
    with pytest.raises(
        UserError, match=r"do not fit the model 'small' of its recipe \('linear.weight' must be float32 of shape"
    ):
        runs.load_model(tmp_path / "run", 9)
    path = tmp_path / "run/results.json"
    record = json.loads(path.read_text())
    path.write_text(stored.seal({**record["recipe"]}, runs.FORMAT))
    with pytest.raises(UserError, match=r"results.json cannot be used: its recipe is not a table of fields: null"):
        loop.train(recipe, tmp_path / "run", ALONE)
    path.write_text('{"epochs": [')
    with pytest.raises(
        UserError, match=r"results.json cannot be used: it is not JSON.*; remove .*run and train that run"
    ):
        loop.train(recipe, tmp_path / "run", ALONE)
    path.unlink()
    with pytest.raises(UserError, match=r"is not finished: it has no results.json"):
        runs.load_model(tmp_path / "run", 10)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([1, 2], "recipe must be a table of fields, found a list"),
        ({"momentum": 1.5}, "momentum must lie in [0, 1), got 1.5"),
        ({"seed": -1}, "seed must be a whole number in [0, 2**64), got -1"),
        ({"learning_rate": 10**400}, "its recipe.learning_rate must be a finite number"),
        ({"epochs": "x"}, "its recipe.epochs must be a whole number, found 'x'"),
        ({"epochs": True}, "its recipe.epochs must be a whole number, found True"),
        ({"milestones": 3}, "its recipe.milestones must be a list, found 3"),
        ({"milestones": [1.5]}, "its recipe.milestones[0] must be a whole number, found 1.5"),
        ({"learning_rate": None}, "learning_rate must be a finite number > 0, got nan"),
        ({"max_train_examples": "all"}, "its recipe.max_train_examples must be a whole number, found 'all'"),
        ({"crop": []}, "its recipe.crop must be one of 'random_crop', 'random_resized_crop', found a list"),
        ({"model": 1}, "its recipe.model must be a text, found 1"),
        ({"augment": 1}, "its recipe.augment must be true or false, found 1"),
        ({"epochs": 0}, "epochs must be 1 or more, got 0"),
        ({"more": 0}, "another version: its recipe and this one's differ in 'more'"),
    ],
)
def test_a_recipe_that_is_none_is_said(changes: Any, words: str, tmp_path: Path) -> None:
    run = untrained(tmp_path / "run", learning_rate=1)  # a whole number is a number
    assert runs.load_recipe(run).learning_rate == 1
    path = run / "recipe.json"
    recipe = json.loads(path.read_text())["recipe"] | changes if isinstance(changes, dict) else changes
    path.write_text(stored.seal({"fingerprint": "", "vicinal": "", "recipe": recipe}, runs.FORMAT))
    with pytest.raises(UserError) as refused:
        runs.load_recipe(run)
    assert str(path) in str(refused.value)
    assert words in str(refused.value)


def noisy(
    scale: Scale, noise: float, method: str, last: dict[tuple[float | None, float], list[float]]
) -> dict[str, dict[str, Any]]:
    """Draw results of a method's cells: their last test errors by seed, from which the others follow."""
    return {
        f"{corrupted_labels._cell(noise, method, *setting).job}-seed{seed}": {
            "recipe": {},
            "test_error": {"median_of_last_10": error, "best": error / 2, "last": error},
            "course": {},
            "device": "cpu",
            "replaced": 10,
            "train_error_true": error / 4,
            "train_error_replaced": 1 - error,
            "train_error": None,
            "test_nll": None,
        }
        for setting, errors in last.items()
        for seed, error in enumerate(errors)
    }


def test_the_best_cell_of_a_grid_is_chosen_by_the_other_seeds() -> None:
    study = CorruptedLabelsStudy()
    alphas: dict[tuple[float | None, float], list[float]] = {
        (1.0, 0.0): [0.10, 0.50],  # best on the first seed, so the one of the second
        (2.0, 0.0): [0.30, 0.20],  # best on the second seed, so the one of the first
        (8.0, 0.0): [0.60, 0.60],
        (32.0, 0.0): [0.60, 0.60],
    }
    done = noisy("small", 0.5, "mixup", alphas) | noisy("small", 0.5, "ERM", {(None, 0.0): [0.7, 0.8]})
    assert [(note, run.test_error.last) for note, run in study.best("small", done, 0.5, "mixup")] == [
        ("alpha = 2", 0.30),
        ("alpha = 1", 0.50),
    ]
    rows = {row.name: row for row in study.rows("small", done)}
    row = rows["50% random, mixup, last test error"]
    assert row.values == pytest.approx((30, 50))
    assert row.published == Published(12.7)
    assert row.note == "the best of 4 settings: alpha = 1, alpha = 2"
    assert rows["50% random, mixup, alpha = 8, last test error"].values == pytest.approx((60, 60))
    gain = study.claims("small", done)[0]
    last, best = gain.evidence
    assert last.differences == pytest.approx((-40, -30))
    assert best.differences == pytest.approx((-20, -15))
    more = (
        done
        | noisy("small", 0.8, "mixup", {(a, d): [0.5, 0.5] for a, d in alphas})
        | noisy("small", 0.8, "ERM", {(None, 0.0): [0.9, 0.8]})
    )
    assert study.claims("small", more)[0].evidence[0].differences == pytest.approx((-40, -30, -40, -30))
    assert "10 % with 50% random" in gain.limits
    missing = {name: result for name, result in done.items() if "mixup-32-seed1" not in name}
    assert len(study.best("small", missing, 0.5, "mixup")) == 1  # seeds that all cells have


def test_the_grids_of_corrupted_labels_are_the_papers() -> None:
    cells = CorruptedLabelsStudy().cells("paper")
    assert len(cells) == 3 * (1 + 4 + 4 + 12)
    assert len({cell.job for cell in cells}) == len(cells)
    mixup = {cell.recipe.vicinity for cell in cells if cell.recipe is not None and cell.recipe.dropout == 0}
    assert mixup == {"ERM()", *(f"Mixup(alpha={alpha})" for alpha in (1.0, 2.0, 8.0, 32.0))}


def test_two_regimes_of_cifar_are_stated() -> None:
    cells = {cell.name: cell.recipe for cell in CifarStudy().cells("small") if cell.recipe is not None}
    over, under = cells["CIFAR-10, ERM overfits, mixup, alpha = 1"], cells["CIFAR-10, ERM underfits, mixup, alpha = 1"]
    assert (over.max_train_examples, over.augment, over.epochs, over.milestones) == (5000, False, 40, (20, 30))
    assert (under.max_train_examples, under.augment, under.epochs, under.milestones) == (None, True, 20, (10, 15))
    assert cells["CIFAR-100, ERM overfits, ERM"].max_train_examples == 10_000
    assert all(recipe.model == "preact-resnet-18-narrow" for recipe in cells.values())
    jobs = CifarStudy().jobs("small")
    assert len({job.name for job in jobs}) == len(jobs) == 30 + 6 + 6


def test_the_claims_of_cifar_are_differences_within_seeds() -> None:
    def run(error: float, train: float, course: list[float]) -> dict[str, object]:
        summary = {"median_of_last_10": error, "best": error, "last": error}
        return {"recipe": {}, "test_error": summary, "course": {"test_error": course}, "device": "cpu",
                "train_error": train, "test_nll": 1.0}  # fmt: skip

    done: dict[str, Any] = {}
    for seed, shift in enumerate((0.0, 0.01, 0.02)):
        base = "overfitting-cifar10-preact-resnet-18"
        done[f"{base}-erm-seed{seed}"] = run(0.45 + shift, 0.0, [0.9, 0.46 + shift, 0.45 + shift])
        done[f"{base}-mixup-seed{seed}"] = run(0.41 + shift, 0.1, [0.9, 0.8, 0.41 + shift])
        done[f"{base}-mixup-0.2-seed{seed}"] = run(0.44 + shift, 0.02, [0.9, 0.8, 0.44 + shift])
    gain, gain_100, speed, alpha = CifarStudy().claims("small", done)
    assert gain.evidence[0].differences == pytest.approx((-4, -4, -4))
    assert gain.evidence[1].contrast
    assert gain_100.evidence[0].differences == ()
    assert speed.evidence[0].differences == (1, 1, 1)  # mixup's third epoch against ERM's second
    assert [each.differences[0] for each in alpha.evidence] == pytest.approx([2, -3, 8, -11])
    assert [each.expected for each in alpha.evidence] == ["higher", "lower"] * 2


def test_the_claims_of_the_ablation_are_differences_of_its_lines() -> None:
    study = AblationStudy()
    cells = [cell for cell in study.cells("small") if cell.recipe is not None]
    assert len(cells) == 14 + 1
    assert {(r.max_train_examples, r.epochs, r.milestones) for r in recipes_of(cells)} == {(2000, 30, (15, 22))}
    assert {(r.precision, r.augment, r.knn) for r in recipes_of(cells)} == {
        ("float32", False, 0),
        ("float32", False, 8),
    }
    assert {each.weight_decay for each in recipes_of(cells)} == {1e-4}
    # in the order of the table
    errors = {cell.job: 0.5 + i / 100 for i, cell in enumerate(c for c in study.cells("small") if "1e-4" in c.job)}
    done = {
        f"{job}-seed{seed}": {
            "recipe": {},
            "test_error": {"median_of_last_10": error + seed / 10, "best": 0.0, "last": 0.0},
            "course": {},
            "device": "cpu",
        }
        for job, error in errors.items()
        for seed in range(3)
    }
    three, neighbors, labels, layers, smote, others = study.claims("small", done)
    assert three.evidence[0].differences == pytest.approx((21, 21, 21))
    assert (three.evidence[0].expected, three.evidence[0].tolerance) == ("equal", 1.0)
    assert neighbors.evidence[0].differences == pytest.approx((-1, -1, -1))
    assert labels.evidence[0].differences == pytest.approx((-10, -10, -10))
    assert layers.evidence[0].differences == pytest.approx((-5, -5, -5))  # of layers 3 to 5
    assert smote.evidence[0].differences == pytest.approx((8, 8, 8))
    assert (smote.evidence[0].expected, smote.evidence[0].tolerance) == ("equal", 1.0)
    assert [each.differences[0] for each in others.evidence] == pytest.approx([-12, -19])
    assert all(each.evidence[0].differences == () for each in study.claims("small", {}))
