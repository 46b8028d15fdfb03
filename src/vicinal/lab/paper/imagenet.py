"""Section 3.1, table 1: ImageNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vicinal.lab.paper import plots
from vicinal.lab.paper.cifar import scaled
from vicinal.lab.paper.study import Published, Requirements, Results, Scale
from vicinal.lab.paper.training import Cell, Measure, TrainingStudy, last_error, last_top5_error, quick
from vicinal.lab.recipe import Recipe

SMALL = "imagenet/tiny-imagenet-20"  # in the folder that VICINAL_DATA names


@dataclass(frozen=True)
class Line:
    """A line of table 1: validation errors, %; `source` where the paper took it from another."""

    model: str
    epochs: int
    alpha: float | None
    top1: float
    top5: float | None
    source: str = ""


TITLES = {
    "resnet-50": "ResNet-50",
    "resnet-101": "ResNet-101",
    "resnext-101-32x4d": "ResNeXt-101 32x4d",
    "resnext-101-64x4d": "ResNeXt-101 64x4d",
}
LINES = (
    Line("resnet-50", 90, None, 23.5, None, "Goyal et al. 2017"),
    Line("resnet-50", 90, 0.2, 23.3, 6.6),
    Line("resnet-101", 90, None, 22.1, None, "Goyal et al. 2017"),
    Line("resnet-101", 90, 0.2, 21.5, 5.6),
    Line("resnext-101-32x4d", 100, None, 21.2, None, "Xie et al. 2016"),
    Line("resnext-101-32x4d", 90, None, 21.2, 5.6),
    Line("resnext-101-32x4d", 90, 0.4, 20.7, 5.3),
    Line("resnext-101-64x4d", 100, None, 20.4, 5.3, "Xie et al. 2016"),
    Line("resnext-101-64x4d", 90, 0.4, 19.8, 4.9),
    Line("resnet-50", 200, None, 23.6, 7.0),
    Line("resnet-50", 200, 0.2, 22.1, 6.1),
    Line("resnet-101", 200, None, 22.0, 6.1),
    Line("resnet-101", 200, 0.2, 20.8, 5.4),
    Line("resnext-101-32x4d", 200, None, 21.3, 5.9),
    Line("resnext-101-32x4d", 200, 0.4, 20.1, 5.0),
)


class ImageNetStudy(TrainingStudy):
    """Does mixup help large models on many images?

    Paper: ImageNet-2012, 224 x 224; batches of 1,024, the learning rate rising from 0.1 to 0.4 over 5 epochs, then a
    tenth after epochs 30, 60 and 80 of 90, or 60, 120 and 180 of 200; mixup with alpha = 0.2 for ResNets and 0.4 for
    ResNeXts. Validation error of the central crop. Four lines are quoted from other papers. Not stated: weight decay and
    momentum; here, after Goyal et al., 0.0001 on weights alone and Nesterov's 0.9.
    """

    name = "imagenet"
    section = "3.1, table 1"
    title = "ImageNet"

    def requirements(self, size: Scale) -> Requirements:
        """Say what it needs."""
        if size == "smoke":
            return Requirements("none (synthetic images)", 0.1)
        if size == "small":
            return Requirements(f"the folder {SMALL} with train/ and val/", 30)
        return Requirements("ImageNet-2012", 60 * 24 * 60, "8 GPUs")

    def deviations(self, size: Scale) -> Sequence[str]:
        """Say what is smaller."""
        if size == "smoke":
            return ["Drawn images, a small model, one epoch: the figures mean nothing."]
        if size == "small":
            return [
                "2,000 photographs of 20 classes at 64 x 64, tested on 1,000, in place of 1.3 million of 1,000 classes; "
                "PreAct ResNet-18 with an eighth of its width in place of ResNet-50; 30 and 66 epochs in place of 90 and "
                "200, in batches of 64; bfloat16."
            ]
        return []

    def seeds(self, size: Scale) -> int:
        """Give how often each cell is trained."""
        return 3 if size == "small" else 1

    def cells(self, size: Scale) -> Sequence[Cell]:
        """Give the cells of table 1."""
        listed = []
        for line in LINES:
            recipe: Recipe | None = Recipe(
                dataset="imagenet",
                model=line.model,
                vicinity="ERM()" if line.alpha is None else f"Mixup(alpha={line.alpha})",
                epochs=line.epochs,
                batch_size=1024,
                learning_rate=0.4,
                nesterov=True,
                decay_norm_and_bias=False,
                warmup_epochs=5,
                warmup_start_lr=0.1,
                milestones=(60, 120, 180) if line.epochs == 200 else (30, 60, 80),
            )
            note = f"the paper quotes {line.source}" if line.source else ""
            if size == "smoke":
                recipe = quick(recipe)
            elif size == "small" and line.model == "resnet-50":
                epochs = {90: 30, 200: 66}[line.epochs]
                recipe = scaled(recipe, epochs, dataset=SMALL, batch_size=64, learning_rate=0.1, warmup_epochs=0)
                note = "; ".join(filter(None, (note, f"PreAct ResNet-18 of an eighth of the width, {epochs} epochs")))
            elif size == "small":
                recipe, note = None, "needs the paper's size, on GPUs"
            top5 = None if line.top5 is None else Published(line.top5)
            measures = (
                Measure("top-1 error, %", last_error, Published(line.top1)),
                Measure("top-5 error, %", last_top5_error, top5),
            )
            listed.append(
                Cell(
                    _name(line),
                    f"{line.model}-{line.epochs}-{_method(line)}",
                    recipe,
                    measures,
                    _base(line),
                    note,
                )
            )
        return listed

    def draw(self, size: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw the top-1 errors of table 1."""
        rows = [
            replace(row, name=row.name.replace("alpha = ", ""))
            for row in self.rows(size, done)
            if row.name.endswith(", top-1 error")
        ]
        label = "Top-1 error of ERM and of mixup beside the published numbers"
        return plots.write_beside(folder / "table1.svg", label, rows, "top-1 error, %", ", top-1 error")


def _method(line: Line) -> str:
    return "erm" if line.alpha is None else "mixup"


def _name(line: Line) -> str:
    method = "ERM" if line.alpha is None else f"mixup alpha = {line.alpha}"
    return f"{TITLES[line.model]}, {line.epochs} epochs, {method}"


def _base(line: Line) -> str | None:
    """Name the ERM line that a mixup line is compared with: the one of as many epochs, or else the other one."""
    if line.alpha is None:
        return None
    others = [other for other in LINES if other.model == line.model and other.alpha is None]
    return _name(min(others, key=lambda other: abs(other.epochs - line.epochs)))
