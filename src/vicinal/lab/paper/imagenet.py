"""Section 3.1, table 1: ImageNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vicinal.lab.paper import plots
from vicinal.lab.paper.claims import Claim, Evidence
from vicinal.lab.paper.study import Published, Results, Scale
from vicinal.lab.paper.training import SMOKE, Cell, TrainedRun, TrainingScale, TrainingStudy, narrowed
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


LIMITS = (
    "20 classes of small photographs and a narrow model; the paper's scale was never run. Three seeds on 1,000 photographs "
    "find an effect of 7 points in four of five cases, and the paper's are 0.2 and 1.5"
)

SCALES: Mapping[Scale, TrainingScale] = {
    "smoke": SMOKE,
    "small": TrainingScale(
        data=f"the folder {SMALL} with train/ and val/",
        minutes=30,
        seeds=3,
        deviations=(
            "2,000 photographs of 20 classes at 64 x 64, padded and cropped, tested on 1,000, in place of 1.3 million of "
            "1,000 classes; PreAct ResNet-18 with an eighth of its width in place of ResNet-50; 30 and 66 epochs in place "
            "of 90 and 200, in batches of 64; bfloat16.",
            "Three seeds and 1,000 photographs cannot tell: the errors of two models that miss 60 % differ by up to 2.2 "
            "points by the choice of photographs alone (one standard deviation, if they err independently), and three "
            "differences of such a spread show, in four of five cases, an effect of 7 points or more. The paper's are 0.2 "
            "points after 90 epochs and 1.5 after 200.",
        ),
        recipe=small,
        note="PreAct ResNet-18 of an eighth of the width, {epochs} epochs",
        not_run="needs the paper's scale, on GPUs",
        test_examples=1000,
    ),
    "paper": TrainingScale("ImageNet-2012", 60 * 24 * 60, device="8 GPUs", full=True, test_examples=50_000),
}


@dataclass(frozen=True)
class Line:
    """A line of table 1.

    Args:
        recipe: its name in `training.recipes`; empty for a line that is not run.
        top1: validation error, %; None for a line that the paper does not have.
        top5: likewise.
        source: whom the paper quotes; empty where it trained itself.

    """

    recipe: str
    top1: float | None = None
    top5: float | None = None
    source: str = ""


_HERE = "ERM, run here"  # next to a quoted line: what mixup is compared with by training

# model, epochs, method -> what is printed
TABLE: dict[tuple[str, int, str], Line] = {
    ("ResNet-50", 90, "ERM"): Line("", 23.5, source="Goyal et al. 2017"),
    ("ResNet-50", 90, _HERE): Line("imagenet-resnet50-erm"),
    ("ResNet-50", 90, "mixup alpha = 0.2"): Line("imagenet-resnet50-mixup", 23.3, 6.6),
    ("ResNet-101", 90, "ERM"): Line("", 22.1, source="Goyal et al. 2017"),
    ("ResNet-101", 90, _HERE): Line("imagenet-resnet101-erm"),
    ("ResNet-101", 90, "mixup alpha = 0.2"): Line("imagenet-resnet101-mixup", 21.5, 5.6),
    ("ResNeXt-101 32x4d", 100, "ERM"): Line("", 21.2, source="Xie et al. 2016"),
    ("ResNeXt-101 32x4d", 90, "ERM"): Line("imagenet-resnext101-32x4d-erm", 21.2, 5.6),
    ("ResNeXt-101 32x4d", 90, "mixup alpha = 0.4"): Line("imagenet-resnext101-32x4d-mixup", 20.7, 5.3),
    ("ResNeXt-101 64x4d", 100, "ERM"): Line("", 20.4, 5.3, source="Xie et al. 2016"),
    ("ResNeXt-101 64x4d", 90, _HERE): Line("imagenet-resnext101-64x4d-erm"),
    ("ResNeXt-101 64x4d", 90, "mixup alpha = 0.4"): Line("imagenet-resnext101-64x4d-mixup", 19.8, 4.9),
    ("ResNet-50", 200, "ERM"): Line("imagenet-resnet50-200-erm", 23.6, 7.0),
    ("ResNet-50", 200, "mixup alpha = 0.2"): Line("imagenet-resnet50-200-mixup", 22.1, 6.1),
    ("ResNet-101", 200, "ERM"): Line("imagenet-resnet101-200-erm", 22.0, 6.1),
    ("ResNet-101", 200, "mixup alpha = 0.2"): Line("imagenet-resnet101-200-mixup", 20.8, 5.4),
    ("ResNeXt-101 32x4d", 200, "ERM"): Line("imagenet-resnext101-32x4d-200-erm", 21.3, 5.9),
    ("ResNeXt-101 32x4d", 200, "mixup alpha = 0.4"): Line("imagenet-resnext101-32x4d-200-mixup", 20.1, 5.0),
}


def _against(model: str, epochs: int) -> str:
    """Return the name of the printed ERM line that a mixup line is compared with: of the same epochs, or else the other."""
    others = [other for name, other, method in TABLE if name == model and method == "ERM"]
    return f"{model}, {min(others, key=lambda other: abs(other - epochs))} epochs, ERM"


class ImageNetStudy(TrainingStudy):
    """Does mixup help large models on many images?

    Paper: ImageNet-2012, 224 x 224; batches of 1,024, the learning rate rising from 0.1 to 0.4 over 5 epochs, then a
    tenth after epochs 30, 60 and 80 of 90, or 60, 120 and 180 of 200; mixup with alpha = 0.2 for ResNets and 0.4 for
    ResNeXts. Validation error of the central crop. Not stated: weight decay, momentum and augmentation; here, after Goyal
    et al., 0.0001 on weights alone, Nesterov's 0.9, and crops of 8 to 100 % of the area.

    Four lines are quoted from other papers, and not run at any scale: mixup is compared with them by the printed numbers
    alone. Where the paper has no other ERM line of the same epochs, one is run here that has no printed number, and the
    claims compare mixup with that.
    """

    name = "imagenet"
    section = "3.1, table 1"
    title = "ImageNet"
    scales = SCALES
    measures = (
        ("top-1 error, %", lambda run: run.test_error.last),
        ("top-5 error, %", lambda run: run.course["test_top5_error"][-1]),
    )

    def paper_cells(self) -> Sequence[Cell]:
        """Return the cells of table 1, and those of ERM that are run next to quoted ones."""
        return [_cell(*place) for place in TABLE]

    def claims(self, scale: Scale, done: Results) -> Sequence[Claim]:
        """Return the claims of section 3.1, by the lines of ResNet-50."""
        if scale != "small":
            return ()
        gains = {epochs: self._gains(scale, done, epochs) for epochs in EPOCHS}
        more = tuple(long - short for short, long in zip(*gains.values(), strict=False))
        unit, name = "points of top-1 error", "narrow model, {} epochs for {}: mixup, alpha = 0.2, against ERM"
        each = (Evidence(name.format(at, of), unit, gains[of]) for of, at in EPOCHS.items())
        longer = Evidence("narrow model: mixup's difference to ERM after 66 epochs against that after 30", unit, more)
        return (
            Claim("mixup lowers the top-1 error on ImageNet", "3.1, table 1", tuple(each), LIMITS),
            Claim("longer training gains more from mixup", "3.1, table 1", (longer,), LIMITS),
        )

    def _gains(self, scale: Scale, done: Results, epochs: int) -> tuple[float, ...]:
        erm = _HERE if ("ResNet-50", epochs, _HERE) in TABLE else "ERM"
        mixup, other = (_cell("ResNet-50", epochs, method) for method in ("mixup alpha = 0.2", erm))
        return self.differences(scale, done, mixup, other, _top1)

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw the top-1 errors of table 1."""
        rows = [
            replace(row, name=row.name.replace("alpha = ", "").replace(_HERE, "ERM here"))
            for row in self.rows(scale, done)
        ]
        label = "Top-1 error of ERM and of mixup next to the published numbers"
        return plots.write_dot_plot(folder / "table1.svg", label, rows, "top-1 error, %", ", top-1 error")


def _cell(model: str, epochs: int, method: str) -> Cell:
    line = TABLE[model, epochs, method]
    kind = "quoted" if line.source else method.partition(" ")[0].removesuffix(",").lower()
    return Cell(
        f"{model}, {epochs} epochs, {method}",
        f"{model.lower().replace(' ', '-')}-{epochs}-{kind}",
        recipes.find(line.recipe) if line.recipe else None,
        [None if error is None else Published(error) for error in (line.top1, line.top5)],
        _against(model, epochs) if kind == "mixup" else None,
        f"the paper quotes {line.source}: not run" if line.source else "",
    )


def _top1(run: TrainedRun) -> float:
    return 100 * run.test_error.last
