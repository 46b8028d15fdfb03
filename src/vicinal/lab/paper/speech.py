"""Section 3.3, figure 4: spoken commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vicinal.lab import parse
from vicinal.lab.data import loading
from vicinal.lab.models import LeNet
from vicinal.lab.paper import plots
from vicinal.lab.paper.study import Published, Results, Scale
from vicinal.lab.paper.training import Cell, Measure, TrainedRun, TrainingScale, TrainingStudy, last_error
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import distributed, recipes, runs

MODELS = {"lenet": "LeNet", "vgg-11": "VGG-11"}

# error, %, of ERM and of mixup with alpha = 0.1 and 0.2: on validation, on test utterances
PUBLISHED = {
    ("lenet", None): (9.8, 10.3),
    ("lenet", 0.1): (10.1, 10.8),
    ("lenet", 0.2): (10.2, 11.3),
    ("vgg-11", None): (5.0, 4.6),
    ("vgg-11", 0.1): (4.0, 3.8),
    ("vgg-11", 0.2): (3.9, 3.4),
}


def quick(recipe: Recipe) -> Recipe | None:
    """Return the recipe of the quick run: synthetic spectrograms, LeNet, one epoch, mixup from the first."""
    vicinity = parse.scheduled(recipe.vicinity, lambda epoch: 0)
    model = f"{__name__}:tiny"
    return replace(recipe, dataset="synthetic-audio", model=model, vicinity=vicinity, epochs=1, batch_size=20)


def small(recipe: Recipe) -> Recipe | None:
    """Return the recipe of the small scale: half of the epochs and a narrow VGG-11."""
    return replace(
        recipe,
        dataset="speech-commands",
        model={"lenet": "lenet", "vgg-11": "vgg-11-narrow"}[recipe.model],
        vicinity=parse.scheduled(recipe.vicinity, lambda epoch: epoch // 2),
        epochs=15,
        milestones=(5, 10),
        precision="bfloat16",
        learning_rate=1e-3,
    )


SCALES: Mapping[Scale, TrainingScale] = {
    "smoke": TrainingScale(
        data="none (synthetic spectrograms)",
        minutes=0.1,
        deviations=("Synthetic spectrograms of 32 x 32, one epoch: the figures mean nothing.",),
        recipe=quick,
    ),
    "small": TrainingScale(
        data="a folder speech_commands of words",
        minutes=45,
        seeds=3,
        deviations=(
            "Whatever is in speech_commands (here 2,900 utterances of 12 classes in place of 65,000 of 30), split by "
            "speaker; 15 epochs instead of 30, with mixup from the third; VGG-11 with an eighth of its width; bfloat16; "
            "Adam from 0.001, since from the paper's 0.003 LeNet does not learn from so few utterances (93 % test error "
            "after four epochs, where it has 44 % from 0.001).",
        ),
        recipe=small,
    ),
    "paper": TrainingScale("Speech Commands, version 1", 60 * 12, seeds=3, device="1 GPU", full=True),
}


class SpeechStudy(TrainingStudy):
    """Does mixup help to recognize spoken commands?

    Paper: Speech Commands, version 1, as spectrograms of 160 x 101, mixed just before the model; LeNet and VGG-11; 30
    epochs in batches of 100; Adam from 0.003, a tenth every 10 epochs; mixup with alpha = 0.1 and 0.2 from the sixth
    epoch. Not stated: weight decay, dropout, repeats. Here: the models of the code that it most likely used (with
    LeNet's dropout), no weight decay, the split that the data's publisher lists, and the errors after the last epoch.
    The printed LeNet gets worse with mixup.
    """

    name = "speech"
    section = "3.3, figure 4"
    title = "Spoken commands"
    scales = SCALES

    def paper_cells(self) -> Sequence[Cell]:
        """Return the cells of figure 4."""
        return [self._cell(model, alpha) for model, alpha in PUBLISHED]

    def _cell(self, model: str, alpha: float | None) -> Cell:
        erm = replace(recipes.speech_lenet_erm(), model=model)
        validation, test = map(Published, PUBLISHED[model, alpha])
        measures = (Measure("validation error, %", _validation, validation), Measure("test error, %", last_error, test))
        base = f"{MODELS[model]}, ERM"
        if alpha is None:
            return Cell(base, f"{model}-erm", erm, measures)
        mixup = replace(erm, vicinity=f"Scheduled(Mixup(alpha={alpha}), start=5)")
        return Cell(f"{MODELS[model]}, mixup alpha = {alpha}", f"{model}-mixup-{alpha}", mixup, measures, base)

    def evaluate_run(self, recipe: Recipe, folder: Path) -> dict[str, Any]:
        """Measure the error on the validation utterances."""
        device = distributed.device()
        data = loading.validation(recipe).to(device)
        wrong = runs.misclassified(runs.load_model(folder, len(data.classes), device), data)
        return {"validation_error": float(wrong.double().mean())}

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw the test errors of figure 4."""
        rows = [row for row in self.rows(scale, done) if row.name.endswith(", test error")]
        label = "Test error on spoken commands of ERM and of mixup next to the published numbers"
        return plots.write_dot_plot(folder / "figure4.svg", label, rows, "test error, %", ", test error")


def _validation(run: TrainedRun) -> float:
    return 100 * run["validation_error"]


def tiny(num_classes: int) -> torch.nn.Module:
    """Build LeNet for the synthetic spectrograms of the quick run."""
    return LeNet(num_classes, size=(32, 32))
