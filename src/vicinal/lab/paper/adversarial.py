"""Section 3.5, table 3: how models trained with and without mixup stand small changes of the pixels."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vicinal.keyed import Key
from vicinal.lab import atomic
from vicinal.lab.data import loading
from vicinal.lab.data.dataset import Data
from vicinal.lab.errors import UserError
from vicinal.lab.paper import plots
from vicinal.lab.paper.attacks import FGSM, PGD, Attack, AutoAttack, Errors, IteratedFGSM, NormalizedModel, evaluate
from vicinal.lab.paper.rows import by_method, first_done
from vicinal.lab.paper.study import AtScale, Job, Published, Results, Row, Scale, Study
from vicinal.lab.recipe import Recipe
from vicinal.lab.records import from_json, to_json
from vicinal.lab.streams import Stream
from vicinal.lab.training import distributed, loop, recipes, runs

METHODS = ("ERM", "mixup")

# error in % of ImageNet's validation images, ResNet-101: (setting, answers, attack) -> ERM, mixup
PUBLISHED = {
    ("white box", "top-1", "FGSM"): (90.7, 75.2),
    ("white box", "top-1", "I-FGSM"): (99.9, 99.6),
    ("white box", "top-5", "FGSM"): (63.1, 49.1),
    ("white box", "top-5", "I-FGSM"): (93.4, 95.8),
    ("black box", "top-1", "FGSM"): (57.0, 46.0),
    ("black box", "top-1", "I-FGSM"): (57.3, 40.9),
    ("black box", "top-5", "FGSM"): (24.8, 17.4),
    ("black box", "top-5", "I-FGSM"): (18.1, 11.8),
}

# (setting, method) -> the model that crafts, and the one that is measured
_PAIRS = {
    ("white box", "ERM"): ("erm-1", "erm-1"),
    ("white box", "mixup"): ("mixup", "mixup"),
    ("black box", "ERM"): ("erm-1", "erm-2"),
    ("black box", "mixup"): ("erm-1", "mixup"),
}
_MODELS = ("erm-1", "erm-2", "mixup")
_CLEAN = {"erm-1": "ERM, the first", "erm-2": "ERM, the second", "mixup": "mixup"}

_SYNTHETIC = [("train", i) for i in range(8)] + [("val", i) for i in range(4)]  # images of a class

_CHOSEN = (
    "Not stated in the paper and chosen here: the label of the loss is the true one, pixels are clipped to [0, 255], and "
    "the step of I-FGSM is epsilon / 10."
)


@dataclass(frozen=True)
class AdversarialScale(AtScale):
    """A scale of the study of attacks.

    Args:
        images: of the test images, this number from the first on is attacked; None: all.
        strong: likewise by PGD and AutoAttack, which take longer.
        batch_size: images attacked at once.
        pgd: the PGD of this scale.
        autoattack: run AutoAttack; on images that withstand it, it takes minutes each.

    """

    images: int | None = None
    strong: int | None = None
    batch_size: int = 100
    pgd: PGD = field(default_factory=PGD)
    autoattack: bool = True


SCALES: Mapping[Scale, AdversarialScale] = {
    "smoke": AdversarialScale(
        data="none (synthetic images)",
        minutes=0.1,
        seeds=2,
        deviations=(
            "Ten classes of synthetic images and a minute model: this shows that the parts run, and nothing else.",
            _CHOSEN,
            "Attacks that are not in the paper are tried on the first 20 images.",
        ),
        strong=20,
        batch_size=50,
        pgd=PGD(steps=3, restarts=1),
        autoattack=False,
    ),
    "small": AdversarialScale(
        data="CIFAR-10",
        minutes=35,
        seeds=3,
        deviations=(
            "CIFAR-10, and a model of 0.24 M parameters trained for 8 epochs, in place of ImageNet and ResNet-101.",
            "The first 5000 test images are attacked.",
            "The top-5 error is that of 10 classes, of which five count as right: it says little.",
            _CHOSEN,
            "Attacks that are not in the paper are tried on the first 1000 images.",
        ),
        images=5000,
        strong=1000,
        batch_size=250,
    ),
    "paper": AdversarialScale(
        data="ImageNet-2012",
        minutes=4000,
        deviations=(
            _CHOSEN,
            "Not stated either: 90 epochs, alpha = 0.2 and the validation images all, as in table 1.",
            "Attacks that are not in the paper are tried on the first 5000 images.",
        ),
        device="1 H100 GPU, by arithmetic: never run",
        full=True,
        strong=5000,
    ),
}


@dataclass(frozen=True)
class AttackedRun:
    """What a job returned: the errors by attack, model that crafts, and model that is measured."""

    attacks: dict[str, dict[str, dict[str, Errors]]]
    torch: str
    device: str


class AdversarialStudy(Study):
    """How models trained with and without mixup stand small changes of the pixels.

    Paper: three ResNet-101 on ImageNet, two by ERM and one by mixup. FGSM and iterated FGSM (10 steps of epsilon / 10)
    move each pixel by epsilon = 4 of 255 at most. White box: the first ERM model and the mixup model are each
    attacked with their own gradient. Black box: the first ERM model crafts, and the second one and the mixup model
    are measured. True labels, pixels clipped to [0, 255]; all models evaluate in float32.

    Next to the paper's rows: the errors on the images as they are; and PGD and AutoAttack in a white box, which show
    that a model that withstands FGSM better is not thereby robust.
    """

    name = "adversarial"
    section = "3.5, table 3"
    title = "Adversarial robustness"
    scales = SCALES

    def jobs(self, scale: Scale) -> Sequence[Job]:
        """Return one job per seed: it trains three models and attacks them."""
        return [Job(f"seed-{seed}", partial(_run, scale, seed)) for seed in range(SCALES[scale].seeds)]

    def rows(self, scale: Scale, done: Results) -> Sequence[Row]:
        """Return table 3 in the paper's order, then what is not in the paper."""
        runs = first_done(AttackedRun, done, [job.name for job in self.jobs(scale)])
        top5 = "" if SCALES[scale].full else "of 10 classes, five of which count as right: it says little"
        table = []
        for setting, answers, attack in PUBLISHED:
            table += _rows(runs, setting, answers, attack, top5 if answers == "top-5" else "")
        table += [_clean_row(runs, answers, model) for answers in ("top-1", "top-5") for model in _MODELS]
        for attack in ("PGD", "AutoAttack"):
            missing = _why_missing(scale, runs, attack)
            table += _rows(runs, "white box", "top-1", attack, "; ".join(filter(None, ("not in the paper", missing))))
        return table

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw the top-1 errors of table 3, and those of the attacks that are not in the paper."""
        rows = [row for row in self.rows(scale, done) if ", top-1, " in row.name]
        rows = [replace(row, name=row.name.replace(", top-1, ", ", ")) for row in rows]
        label = "Top-1 error under attack of ERM and of mixup next to the published numbers"
        return plots.write_dot_plot(folder / "table3.svg", label, rows, "top-1 error, %")


def _values(runs: Sequence[AttackedRun], attack: str, pair: tuple[str, str], measure: str) -> tuple[float, ...]:
    source, target = pair
    return tuple(100 * getattr(run.attacks[attack][source][target], measure) for run in runs if attack in run.attacks)


def _rows(runs: Sequence[AttackedRun], setting: str, answers: str, attack: str, note: str) -> list[Row]:
    printed = map(Published, PUBLISHED.get((setting, answers, attack), ()))
    measure = answers.replace("-", "")
    values = {method: _values(runs, attack, _PAIRS[setting, method], measure) for method in METHODS}
    name = f"{setting}, {answers}, {{}}, {attack}"
    return by_method(name, f"{answers} error, %", values, dict(zip(METHODS, printed, strict=False)), note)


def _clean_row(runs: Sequence[AttackedRun], answers: str, model: str) -> Row:
    pair = ("mixup" if model == "mixup" else "erm-1", model)
    return Row(
        name=f"not attacked, {answers}, {_CLEAN[model]}",
        measure=f"{answers} error, %",
        values=_values(runs, "FGSM", pair, f"clean_{answers.replace('-', '')}"),
        against=f"not attacked, {answers}, {_CLEAN['erm-1']}" if model == "mixup" else None,
        note="not in table 3",
    )


def _why_missing(scale: Scale, runs: Sequence[AttackedRun], attack: str) -> str:
    if attack == "AutoAttack" and not SCALES[scale].autoattack:
        return "not run at this scale"
    if any(attack not in run.attacks for run in runs):
        return "not run for every seed: pip install pyautoattack, then run those again"
    return ""


def _attacks(scale: AdversarialScale) -> dict[str, tuple[Attack, int | None, bool]]:
    """Return the attacks, the number of images of each, and whether it is tried in a black box, too.

    AutoAttack is among them at scales that have it, where its package is installed; where not, its rows say so.
    """
    attacks: dict[str, tuple[Attack, int | None, bool]] = {
        "FGSM": (FGSM(), scale.images, True),
        "I-FGSM": (IteratedFGSM(), scale.images, True),
        "PGD": (scale.pgd, scale.strong, False),
    }
    if scale.autoattack and AutoAttack.installed():
        attacks["AutoAttack"] = AutoAttack(), scale.strong, False
    return attacks


def _run(scale: Scale, seed: int, folder: Path) -> dict[str, Any]:
    """Train three models and attack them; what is done is kept in `folder`, and not done again."""
    with distributed.job() as processes:
        if processes.world_size > 1:
            raise UserError("this study trains and attacks in one process: start it without torchrun")
        recipes = {name: _recipe(scale, name, seed, folder) for name in _MODELS}
        for name, recipe in recipes.items():
            loop.train(recipe, folder / name, processes)
        images = loading.load(recipes["mixup"])[1].to(processes.device)  # the test images are the same for all
        models = {name: load(recipe, folder / name, images) for name, recipe in recipes.items()}
        measured: dict[str, dict[str, dict[str, Errors]]] = {}
        for title, (attack, count, black) in _attacks(SCALES[scale]).items():
            attacked = images if count is None else images.select(torch.arange(min(count, len(images))))
            targets = {"erm-1": _MODELS if black else ("erm-1",), "mixup": ("mixup",)}
            measured[title] = {
                source: _measured(
                    folder / f"{title}-{source}.json",
                    attack,
                    models[source],
                    {name: models[name] for name in names},
                    attacked,
                    SCALES[scale].batch_size,
                )
                for source, names in targets.items()
            }
    return to_json(AttackedRun(measured, torch.__version__, str(processes.device)))


def _measured(
    path: Path,
    attack: Attack,
    source: NormalizedModel,
    targets: Mapping[str, NormalizedModel],
    images: loading.Data,
    batch_size: int,
) -> dict[str, Errors]:
    """Attack and measure, or return what was measured before by the same attack on as many images."""
    what = {"attack": repr(attack), "images": len(images), "batch": batch_size}
    if path.exists():
        record = json.loads(path.read_text())
        if record["what"] == what:
            return from_json(dict[str, Errors], record["errors"])
    batches = map(images.pixels, torch.arange(len(images)).split(batch_size))
    errors = evaluate(attack, source, targets, batches)
    atomic.write(path, json.dumps({"what": what, "errors": to_json(errors)}, indent=1))
    shown = (f"{name} {100 * each.top1:.2f} % ({100 * each.clean_top1:.2f} %)" for name, each in errors.items())
    print(f"{path.stem}: top-1 error attacked (not attacked): {', '.join(shown)}", file=sys.stderr, flush=True)
    return errors


def load(recipe: Recipe, folder: Path, images: Data) -> NormalizedModel:
    """Return the model of a finished run, in evaluation mode, as one that takes the pixels of `images`.

    Raises:
        UserError: the data are not images.

    """
    if not images.mean:
        raise UserError(f"attacks change the pixels of images, and {recipe.dataset} holds other examples")
    model = runs.load_model(folder, len(images.classes), images.device)
    if recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return NormalizedModel(model, images.mean, images.std).eval()


# -- the recipes -------------------------------------------------------------------------------------------------------


def _recipe(scale: Scale, model: str, seed: int, folder: Path) -> Recipe:
    """Return the recipe of one of the three models, each of which has a seed of its own."""
    method = model.partition("-")[0]
    own = len(_MODELS) * seed + _MODELS.index(model)
    if scale == "paper":
        return replace(recipes.find(f"imagenet-resnet101-{method}"), seed=own)
    recipe = replace(recipes.find(f"cifar10-small-{method}"), epochs=8, milestones=(5, 7), seed=own)
    if scale == "smoke":
        small: dict[str, Any] = {"epochs": 2, "milestones": (), "batch_size": 8, "precision": "float32"}
        small |= {"learning_rate": 0.05, "weight_decay": 1e-4, "dataset": str(_synthetic(folder / "toy"))}
        recipe = replace(recipe, **small)
    return recipe


def _synthetic(folder: Path) -> Path:
    """Draw ten classes of small images, told apart by a pattern of each, below `folder`; once."""
    if folder.exists():
        return folder
    generator = Key(0, 0, 0, 0, Stream.SYNTHETIC_ATTACKED).generator()
    unfinished = folder.with_name(folder.name + ".partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    for label in range(10):
        pattern = generator.integers(64, 192, (4, 4, 3)).repeat(6, 0).repeat(6, 1)
        for part, i in _SYNTHETIC:
            path = unfinished / part / f"class-{label}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = generator.integers(-24, 25, pattern.shape)
            Image.fromarray((pattern + noise).astype(np.uint8)).save(path)
    unfinished.rename(folder)
    return folder
