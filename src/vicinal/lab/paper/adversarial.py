"""Section 3.5, table 3: how models trained with and without mixup stand small changes of the pixels."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vicinal.keyed import Key
from vicinal.lab import atomic
from vicinal.lab.data import loading
from vicinal.lab.data.dataset import Data
from vicinal.lab.errors import UserError
from vicinal.lab.paper import plots
from vicinal.lab.paper.attacks import FGSM, PGD, Attack, AutoAttack, IteratedFGSM, NormalizedModel, evaluate
from vicinal.lab.paper.study import AtScale, Job, Published, Results, Row, Scale, Study
from vicinal.lab.recipe import Recipe
from vicinal.lab.streams import Stream
from vicinal.lab.training import distributed, loop, recipes, runs

# error in % of ImageNet's validation images, ResNet-101: (setting, answers, attack, method)
PUBLISHED = {
    ("white box", "top-1", "FGSM", "ERM"): 90.7,
    ("white box", "top-1", "FGSM", "mixup"): 75.2,
    ("white box", "top-1", "I-FGSM", "ERM"): 99.9,
    ("white box", "top-1", "I-FGSM", "mixup"): 99.6,
    ("white box", "top-5", "FGSM", "ERM"): 63.1,
    ("white box", "top-5", "FGSM", "mixup"): 49.1,
    ("white box", "top-5", "I-FGSM", "ERM"): 93.4,
    ("white box", "top-5", "I-FGSM", "mixup"): 95.8,
    ("black box", "top-1", "FGSM", "ERM"): 57.0,
    ("black box", "top-1", "FGSM", "mixup"): 46.0,
    ("black box", "top-1", "I-FGSM", "ERM"): 57.3,
    ("black box", "top-1", "I-FGSM", "mixup"): 40.9,
    ("black box", "top-5", "FGSM", "ERM"): 24.8,
    ("black box", "top-5", "FGSM", "mixup"): 17.4,
    ("black box", "top-5", "I-FGSM", "ERM"): 18.1,
    ("black box", "top-5", "I-FGSM", "mixup"): 11.8,
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

_SYNTHETIC_CLASSES, _SYNTHETIC_TRAIN, _SYNTHETIC_VAL, _SYNTHETIC_SIDE = 10, 8, 4, 24


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
        top5_note: on top-5 rows.

    """

    images: int | None = None
    strong: int | None = None
    batch_size: int = 100
    pgd: PGD = field(default_factory=PGD)
    autoattack: bool = True
    top5_note: str = "of 10 classes, five of which count as right: it says little"


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
        top5_note="",
    ),
}


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
        attacks = [done[job.name]["attacks"] for job in self.jobs(scale) if job.name in done]
        top5 = SCALES[scale].top5_note
        table = [
            _row(attacks, setting, answers, attack, method, top5 if answers == "top-5" else "")
            for setting, answers, attack, method in PUBLISHED
        ]
        table += [_clean_row(attacks, answers, model) for answers in ("top-1", "top-5") for model in _MODELS]
        for attack in ("PGD", "AutoAttack"):
            note = "; ".join(filter(None, ("not in the paper", _why_missing(scale, attacks, attack))))
            table += [_row(attacks, "white box", "top-1", attack, method, note) for method in ("ERM", "mixup")]
        return table

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw the top-1 errors of table 3, and those of the attacks that are not in the paper."""
        rows = [
            replace(row, name=row.name.replace(", top-1, ", ", "))
            for row in self.rows(scale, done)
            if ", top-1, " in row.name
        ]
        label = "Top-1 error under attack of ERM and of mixup next to the published numbers"
        return plots.write_dot_plot(folder / "table3.svg", label, rows, "top-1 error, %")


Measured = Sequence[Mapping[str, Any]]  # of each seed: errors by attack, model that crafts, model measured, and measure


def _values(attacks: Measured, attack: str, pair: tuple[str, str], measure: str) -> tuple[float, ...]:
    source, target = pair
    return tuple(100 * each[attack][source][target][measure] for each in attacks if attack in each)


def _row(attacks: Measured, setting: str, answers: str, attack: str, method: str, note: str) -> Row:
    published = PUBLISHED.get((setting, answers, attack, method))
    return Row(
        name=f"{setting}, {answers}, {method}, {attack}",
        measure=f"{answers} error, %",
        published=None if published is None else Published(published),
        values=_values(attacks, attack, _PAIRS[setting, method], answers.replace("-", "")),
        against=None if method == "ERM" else f"{setting}, {answers}, ERM, {attack}",
        note=note,
    )


def _clean_row(attacks: Measured, answers: str, model: str) -> Row:
    pair = ("mixup" if model == "mixup" else "erm-1", model)
    return Row(
        name=f"not attacked, {answers}, {_CLEAN[model]}",
        measure=f"{answers} error, %",
        values=_values(attacks, "FGSM", pair, f"clean_{answers.replace('-', '')}"),
        against=f"not attacked, {answers}, {_CLEAN['erm-1']}" if model == "mixup" else None,
        note="not in table 3",
    )


def _why_missing(scale: Scale, attacks: Measured, attack: str) -> str:
    if attack == "AutoAttack" and not SCALES[scale].autoattack:
        return "not run at this scale"
    if any(attack not in each for each in attacks):
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
        measured: dict[str, dict[str, Any]] = {}
        for title, (attack, count, black) in _attacks(SCALES[scale]).items():
            attacked = AttackedImages(images, count, SCALES[scale].batch_size)
            targets = {"erm-1": _MODELS if black else ("erm-1",), "mixup": ("mixup",)}
            measured[title] = {
                source: _measured(folder / f"{title}-{source}.json", attack, models, source, names, attacked)
                for source, names in targets.items()
            }
    return {"attacks": measured, "torch": torch.__version__, "device": str(processes.device)}


@dataclass(frozen=True)
class AttackedImages:
    """The test images that are attacked, in batches of pixels and labels."""

    examples: Data
    count: int | None  # this number from the first on; None: all
    batch_size: int

    def __len__(self) -> int:
        return len(self.examples) if self.count is None else min(self.count, len(self.examples))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.arange(len(self)).split(self.batch_size):
            yield self.examples.pixels(rows)


def _measured(
    path: Path,
    attack: Attack,
    models: dict[str, NormalizedModel],
    source: str,
    targets: Sequence[str],
    images: AttackedImages,
) -> dict[str, Any]:
    """Attack and measure, or return what was measured before by the same attack on as many images."""
    what = {"attack": repr(attack), "images": len(images), "batch": images.batch_size}
    if path.exists():
        record = json.loads(path.read_text())
        if record["what"] == what:
            return record["errors"]
    found = evaluate(attack, models[source], {name: models[name] for name in targets}, images)
    errors = {name: asdict(each) for name, each in found.items()}
    atomic.write(path, json.dumps({"what": what, "errors": errors}, indent=1))
    shown = ", ".join(f"{name} {100 * each.top1:.2f} % ({100 * each.clean_top1:.2f} %)" for name, each in found.items())
    print(f"{path.stem}: top-1 error attacked (not attacked): {shown}", file=sys.stderr, flush=True)
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
    small = replace(recipes.find(f"cifar10-small-{method}"), epochs=8, milestones=(5, 7), seed=own)
    if scale == "small":
        return small
    return replace(
        small,
        dataset=str(_synthetic(folder / "toy")),
        epochs=2,
        batch_size=8,
        learning_rate=0.05,
        weight_decay=1e-4,
        milestones=(),
        precision="float32",
    )


def _synthetic(folder: Path) -> Path:
    """Draw ten classes of small images, told apart by a pattern of each, below `folder`; once."""
    if folder.exists():
        return folder
    generator = Key(0, 0, 0, 0, Stream.SYNTHETIC_ATTACKED).generator()
    unfinished = folder.with_name(folder.name + ".partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    for label in range(_SYNTHETIC_CLASSES):
        pattern = generator.integers(64, 192, (4, 4, 3))
        pattern = pattern.repeat(_SYNTHETIC_SIDE // 4, 0).repeat(_SYNTHETIC_SIDE // 4, 1)
        for part, count in (("train", _SYNTHETIC_TRAIN), ("val", _SYNTHETIC_VAL)):
            place = unfinished / part / f"class-{label}"
            place.mkdir(parents=True)
            for i in range(count):
                noise = generator.integers(-24, 25, pattern.shape)
                image = io.BytesIO()
                Image.fromarray((pattern + noise).astype(np.uint8)).save(image, "png")
                (place / f"{i}.png").write_bytes(image.getvalue())
    unfinished.rename(folder)
    return folder
