"""Section 3.1, table 1: ImageNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vicinal.lab.paper import plots
from vicinal.lab.paper.study import Published, Results, Scale
from vicinal.lab.paper.training import (
    SMOKE,
    Cell,
    Measure,
    TrainingScale,
    TrainingStudy,
    last_error,
    last_top5_error,
    narrowed,
    quick,
)
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import recipes

SMALL = "imagenet/tiny-imagenet-20"  # in the folder that VICINAL_DATA names
EPOCHS = {90: 30, 200: 66}  # of the small scale


def small(recipe: Recipe) -> Recipe | None:
    """Return the recipe of the small scale: ResNet-50's lines alone, on small photographs."""
    if recipe.model != "resnet-50":
        return None
    smaller = {"image_size": 64, "crop": "random_crop", "batch_size": 64, "learning_rate": 0.1, "warmup_epochs": 0}
    return narrowed(recipe, EPOCHS[recipe.epochs], dataset=SMALL, **smaller)


SCALES: Mapping[Scale, TrainingScale] = {
    "smoke": TrainingScale("none (synthetic images)", 0.1, deviations=SMOKE, recipe=quick),
    "small": TrainingScale(
        data=f"the folder {SMALL} with train/ and val/",
        minutes=30,
        seeds=3,
        deviations=(
            "2,000 photographs of 20 classes at 64 x 64, padded and cropped, tested on 1,000, in place of 1.3 million of "
            "1,000 classes; PreAct ResNet-18 with an eighth of its width in place of ResNet-50; 30 and 66 epochs in place "
            "of 90 and 200, in batches of 64; bfloat16.",
        ),
        recipe=small,
        note="PreAct ResNet-18 of an eighth of the width, {epochs} epochs",
        not_run="needs the paper's scale, on GPUs",
    ),
    "paper": TrainingScale("ImageNet-2012", 60 * 24 * 60, device="8 GPUs", full=True),
}
TITLES = {
    "resnet-50": "ResNet-50",
    "resnet-101": "ResNet-101",
    "resnext-101-32x4d": "ResNeXt-101 32x4d",
    "resnext-101-64x4d": "ResNeXt-101 64x4d",
}


@dataclass(frozen=True)
class ImageNetRow:
    """A line of table 1: validation errors, %; `source` where the paper took it from another."""

    model: str
    epochs: int
    alpha: float | None
    top1: float
    top5: float | None
    source: str = ""

    @property
    def name(self) -> str:
        """Title of the line."""
        method = "ERM" if self.alpha is None else f"mixup alpha = {self.alpha}"
        return f"{TITLES[self.model]}, {self.epochs} epochs, {method}"

    @property
    def job(self) -> str:
        """Its jobs, by name."""
        return f"{self.model}-{self.epochs}-{'erm' if self.alpha is None else 'mixup'}"

    @property
    def recipe(self) -> Recipe:
        """Recipe of the paper."""
        base = recipes.imagenet_resnet50_200_erm() if self.epochs == 200 else recipes.imagenet_resnet50_erm()
        vicinity = "ERM()" if self.alpha is None else f"Mixup(alpha={self.alpha})"
        return replace(base, model=self.model, epochs=self.epochs, vicinity=vicinity)

    @property
    def against(self) -> str | None:
        """Title of the ERM line that a mixup line is compared with: that of the same epochs, or else the other one."""
        if self.alpha is None:
            return None
        others = [other for other in TABLE if other.model == self.model and other.alpha is None]
        return min(others, key=lambda other: abs(other.epochs - self.epochs)).name


TABLE = (
    ImageNetRow("resnet-50", 90, None, 23.5, None, "Goyal et al. 2017"),
    ImageNetRow("resnet-50", 90, 0.2, 23.3, 6.6),
    ImageNetRow("resnet-101", 90, None, 22.1, None, "Goyal et al. 2017"),
    ImageNetRow("resnet-101", 90, 0.2, 21.5, 5.6),
    ImageNetRow("resnext-101-32x4d", 100, None, 21.2, None, "Xie et al. 2016"),
    ImageNetRow("resnext-101-32x4d", 90, None, 21.2, 5.6),
    ImageNetRow("resnext-101-32x4d", 90, 0.4, 20.7, 5.3),
    ImageNetRow("resnext-101-64x4d", 100, None, 20.4, 5.3, "Xie et al. 2016"),
    ImageNetRow("resnext-101-64x4d", 90, 0.4, 19.8, 4.9),
    ImageNetRow("resnet-50", 200, None, 23.6, 7.0),
    ImageNetRow("resnet-50", 200, 0.2, 22.1, 6.1),
    ImageNetRow("resnet-101", 200, None, 22.0, 6.1),
    ImageNetRow("resnet-101", 200, 0.2, 20.8, 5.4),
    ImageNetRow("resnext-101-32x4d", 200, None, 21.3, 5.9),
    ImageNetRow("resnext-101-32x4d", 200, 0.4, 20.1, 5.0),
)


class ImageNetStudy(TrainingStudy):
    """Does mixup help large models on many images?

    Paper: ImageNet-2012, 224 x 224; batches of 1,024, the learning rate rising from 0.1 to 0.4 over 5 epochs, then a
    tenth after epochs 30, 60 and 80 of 90, or 60, 120 and 180 of 200; mixup with alpha = 0.2 for ResNets and 0.4 for
    ResNeXts. Validation error of the central crop. Four lines are quoted from other papers. Not stated: weight decay,
    momentum and augmentation; here, after Goyal et al., 0.0001 on weights alone, Nesterov's 0.9, and crops of 8 to 100 %
    of the area.
    """

    name = "imagenet"
    section = "3.1, table 1"
    title = "ImageNet"
    scales = SCALES

    def paper_cells(self) -> Sequence[Cell]:
        """Return the cells of table 1."""
        return [self._cell(row) for row in TABLE]

    def _cell(self, row: ImageNetRow) -> Cell:
        top5 = None if row.top5 is None else Published(row.top5)
        measures = (
            Measure("top-1 error, %", last_error, Published(row.top1)),
            Measure("top-5 error, %", last_top5_error, top5),
        )
        note = f"the paper quotes {row.source}" if row.source else ""
        return Cell(row.name, row.job, row.recipe, measures, row.against, note)

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw the top-1 errors of table 1."""
        rows = [
            replace(row, name=row.name.replace("alpha = ", ""))
            for row in self.rows(scale, done)
            if row.name.endswith(", top-1 error")
        ]
        label = "Top-1 error of ERM and of mixup next to the published numbers"
        return plots.write_dot_plot(folder / "table1.svg", label, rows, "top-1 error, %", ", top-1 error")
