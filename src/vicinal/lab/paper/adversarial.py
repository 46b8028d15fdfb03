"""Section 3.5, table 3: how models trained with and without mixup stand small changes of the pixels."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
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
from vicinal.lab.errors import UserError
from vicinal.lab.paper import plots
from vicinal.lab.paper.attacks import FGSM, PGD, Attack, AutoAttack, IteratedFGSM, NormalizedModel, evaluate
from vicinal.lab.paper.study import Job, Published, Requirements, Results, Row, Scale, Study
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

_TOY_CLASSES, _TOY_TRAIN, _TOY_VAL, _TOY_SIDE = 10, 8, 4, 24


@dataclass(frozen=True)
class _Scale:
    """What a size decides.

    Args:
        seeds: how often three models are trained.
        images: of the test images, the first so many are attacked; None: all.
        strong: the first so many are attacked by PGD and AutoAttack, which take longer.
        batch: images attacked at once.
        pgd: the PGD of this size.
        autoattack: whether AutoAttack is run; on images that withstand it, it takes minutes each.

    """

    seeds: int
    images: int | None
    strong: int | None
    batch: int
    pgd: PGD
    autoattack: bool


_SCALES: dict[Scale, _Scale] = {
    "smoke": _Scale(seeds=2, images=None, strong=20, batch=50, pgd=PGD(steps=3, restarts=1), autoattack=False),
    "small": _Scale(seeds=3, images=5000, strong=1000, batch=250, pgd=PGD(), autoattack=True),
    "paper": _Scale(seeds=1, images=None, strong=5000, batch=100, pgd=PGD(), autoattack=True),
}


class AdversarialStudy(Study):
    """How models trained with and without mixup stand small changes of the pixels.

    Paper: three ResNet-101 on ImageNet, two by ERM and one by mixup. FGSM and iterated FGSM (10 steps of epsilon / 10)
    move each pixel by epsilon = 4 of 255 at most. White box: the first ERM model and the mixup model are each
    attacked with their own gradient. Black box: the first ERM model crafts, and the second one and the mixup model
    are measured. True labels, pixels clipped to [0, 255]; all models evaluate in float32.

    Beside the paper's rows: the errors on the images as they are; and PGD and AutoAttack in a white box, which show
    that a model that withstands FGSM better is not thereby robust.
    """

    name = "adversarial"
    section = "3.5, table 3"
    title = "Adversarial robustness"

    def requirements(self, size: Scale) -> Requirements:
        """Say what it needs."""
        if size == "smoke":
            return Requirements("none (synthetic images)", 0.1)
        if size == "small":
            return Requirements("CIFAR-10", 35.0)
        return Requirements("ImageNet-2012", 4000.0, "1 H100 GPU, by arithmetic: never run")

    def deviations(self, size: Scale) -> Sequence[str]:
        """Say what is otherwise than in the paper."""
        chosen = (
            "Not stated in the paper and chosen here: the label of the loss is the true one, pixels are clipped to "
            "[0, 255], and the step of I-FGSM is epsilon / 10."
        )
        strong = f"Attacks that are not of the paper are tried on the first {_SCALES[size].strong} images."
        if size == "paper":
            return (
                chosen,
                "Not stated either: 90 epochs, alpha = 0.2 and the validation images all, as in table 1.",
                strong,
            )
        if size == "small":
            return (
                "CIFAR-10, and a model of 0.24 M parameters trained for 8 epochs, in place of ImageNet and ResNet-101.",
                f"The first {_SCALES[size].images} test images are attacked.",
                "The top-5 error is that of 10 classes, of which five count as right: it says little.",
                chosen,
                strong,
            )
        return (
            "Ten classes of synthetic images and a minute model: this shows that the parts run, and nothing else.",
            chosen,
            strong,
        )

    def jobs(self, size: Scale) -> Sequence[Job]:
        """Give a job for each seed: it trains three models and attacks them."""
        return [Job(_job_name(seed), partial(_run, size, seed)) for seed in range(_SCALES[size].seeds)]

    def rows(self, size: Scale, done: Results) -> Sequence[Row]:
        """Give table 3 in the paper's order, then what is not of the paper."""
        finished = [done[name] for name in map(_job_name, range(_SCALES[size].seeds)) if name in done]

        def values(attack: str, source: str, target: str, measure: str) -> tuple[float, ...]:
            found = [result["attacks"].get(attack) for result in finished]
            return tuple(100 * each[source][target][measure] for each in found if each is not None)

        def row(setting: str, answers: str, method: str, attack: str, note: str = "") -> Row:
            source, target = _PAIRS[setting, method]
            published = PUBLISHED.get((setting, answers, attack, method))
            return Row(
                name=f"{setting}, {answers}, {method}, {attack}",
                measure=f"{answers} error, %",
                published=None if published is None else Published(published),
                values=values(attack, source, target, answers.replace("-", "")),
                against=None if method == "ERM" else f"{setting}, {answers}, ERM, {attack}",
                note=note,
            )

        few = "" if size == "paper" else "of 10 classes, five of which count as right: it says little"
        table = [
            row(setting, answers, method, attack, few if answers == "top-5" else "")
            for setting, answers, attack, method in PUBLISHED
        ]
        table += [
            Row(
                name=f"not attacked, {answers}, {method}",
                measure=f"{answers} error, %",
                values=values(
                    "FGSM", "mixup" if model == "mixup" else "erm-1", model, f"clean_{answers.replace('-', '')}"
                ),
                against=f"not attacked, {answers}, {_CLEAN['erm-1']}" if model == "mixup" else None,
                note="not in table 3",
            )
            for answers in ("top-1", "top-5")
            for model, method in _CLEAN.items()
        ]
        for attack in ("PGD", "AutoAttack"):
            note = "not of the paper"
            if attack == "AutoAttack" and not _SCALES[size].autoattack:
                note += "; not run at this size"
            elif any(attack not in result["attacks"] for result in finished):
                note += "; not run for every seed: pip install pyautoattack, then run those again"
            table += [row("white box", "top-1", method, attack, note) for method in ("ERM", "mixup")]
        return table

    def draw(self, size: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw the top-1 errors of table 3, and those of the attacks that are not of the paper."""
        named = ((row, row.name.replace(", top-1, ", ", ")) for row in self.rows(size, done))
        rows = [replace(row, name=name) for row, name in named if name != row.name]
        label = "Top-1 error under attack of ERM and of mixup beside the published numbers"
        return plots.write_beside(folder / "table3.svg", label, rows, "top-1 error, %")


def _job_name(seed: int) -> str:
    return f"seed-{seed}"


def _attacks(scale: _Scale) -> dict[str, tuple[Attack, int | None, bool]]:
    """Give the attacks, the number of images of each, and whether it is tried in a black box, too.

    AutoAttack is among them at sizes that have it, where its package is installed; where not, its rows say so.
    """
    listed: dict[str, tuple[Attack, int | None, bool]] = {
        "FGSM": (FGSM(), scale.images, True),
        "I-FGSM": (IteratedFGSM(), scale.images, True),
        "PGD": (scale.pgd, scale.strong, False),
    }
    if scale.autoattack and AutoAttack.installed():
        listed["AutoAttack"] = AutoAttack(), scale.strong, False
    return listed


def _run(size: Scale, seed: int, folder: Path) -> dict[str, Any]:
    """Train three models and attack them; what is done is kept in `folder`, and not done again."""
    with distributed.job() as processes:
        if processes.world_size > 1:
            raise UserError("this study trains and attacks in one process: start it without torchrun")
        scale = _SCALES[size]
        recipe = {name: _recipe(size, name, seed, folder) for name in _MODELS}
        for name in _MODELS:
            loop.train(recipe[name], folder / name, processes)
        images = loading.load(recipe["mixup"])[1].to(processes.device)  # the test images are the same for all
        models = {name: load(recipe[name], folder / name, images) for name in _MODELS}
        measured: dict[str, dict[str, Any]] = {}
        for title, (attack, count, black) in _attacks(scale).items():
            attacked = _Images(images, count, scale.batch)
            targets = {"erm-1": _MODELS if black else ("erm-1",), "mixup": ("mixup",)}
            measured[title] = {
                source: _kept(folder / f"{title}-{source}.json", attack, models, source, names, attacked)
                for source, names in targets.items()
            }
    return {"attacks": measured, "torch": torch.__version__, "device": str(processes.device)}


@dataclass(frozen=True)
class _Images:
    """The test images that are attacked, in batches of pixels and labels."""

    examples: loading.Data
    count: int | None  # the first so many; None: all
    batch: int

    def __len__(self) -> int:
        return len(self.examples) if self.count is None else min(self.count, len(self.examples))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.arange(len(self)).split(self.batch):
            yield self.examples.pixels(rows)


def _kept(
    path: Path,
    attack: Attack,
    models: dict[str, NormalizedModel],
    source: str,
    targets: Sequence[str],
    images: _Images,
) -> dict[str, Any]:
    """Attack and measure, or give what was measured before by the same attack on as many images."""
    what = {"attack": repr(attack), "images": len(images), "batch": images.batch}
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


def load(recipe: Recipe, folder: Path, images: loading.Data) -> NormalizedModel:
    """Give the model of a finished run, in evaluation mode, as one that takes the pixels of `images`.

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


def _recipe(size: Scale, model: str, seed: int, folder: Path) -> Recipe:
    """Give the recipe of one of the three models, each of which has a seed of its own."""
    method = model.partition("-")[0]
    own = len(_MODELS) * seed + _MODELS.index(model)
    if size == "paper":
        return replace(recipes.find(f"imagenet-resnet101-{method}"), seed=own)
    if size == "small":
        return replace(recipes.find(f"cifar10-small-{method}"), epochs=8, milestones=(5, 7), seed=own)
    return Recipe(
        dataset=str(_toy(folder / "toy")),
        model="small",
        vicinity="ERM()" if method == "erm" else "Mixup(alpha=0.2)",
        epochs=2,
        batch_size=8,
        learning_rate=0.05,
        milestones=(),
        seed=own,
    )


def _toy(folder: Path) -> Path:
    """Draw ten classes of small images, told apart by a pattern of each, below `folder`; once."""
    if folder.exists():
        return folder
    draw = Key(0, 0, 0, 0, Stream.SYNTHETIC_ATTACKED).generator()
    partial_folder = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial_folder, ignore_errors=True)
    for label in range(_TOY_CLASSES):
        pattern = draw.integers(64, 192, (4, 4, 3))
        pattern = pattern.repeat(_TOY_SIDE // 4, 0).repeat(_TOY_SIDE // 4, 1)
        for part, count in (("train", _TOY_TRAIN), ("val", _TOY_VAL)):
            place = partial_folder / part / f"class-{label}"
            place.mkdir(parents=True)
            for i in range(count):
                noise = draw.integers(-24, 25, pattern.shape)
                image = io.BytesIO()
                Image.fromarray((pattern + noise).astype(np.uint8)).save(image, "png")
                (place / f"{i}.png").write_bytes(image.getvalue())
    partial_folder.rename(folder)
    return folder
