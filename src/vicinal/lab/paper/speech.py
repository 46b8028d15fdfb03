"""Section 3.3, figure 4: spoken commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vicinal.lab.data import loading
from vicinal.lab.paper import plots
from vicinal.lab.paper.study import Published, Requirements, Results, Scale
from vicinal.lab.paper.training import Cell, Measure, Run, TrainingStudy, last_error
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import distributed, runs

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


class SpeechStudy(TrainingStudy):
    """Does mixup help to recognize spoken commands?

    Paper: Speech Commands, version 1, as spectrograms of 160 x 101, mixed just before the model; LeNet and VGG-11; 30
    epochs in batches of 100; Adam from 0.003, a tenth every 10 epochs; mixup with alpha = 0.1 and 0.2 from the sixth
    epoch. Not stated: weight decay, dropout, repeats. Here: the models of the code that it most likely used (with
    LeNet's dropout), no weight decay, the parts that the data's publisher lists, and the errors after the last epoch.
    The printed LeNet gets worse with mixup.
    """

    name = "speech"
    section = "3.3, figure 4"
    title = "Spoken commands"

    def requirements(self, size: Scale) -> Requirements:
        """Say what it needs."""
        if size == "smoke":
            return Requirements("none (drawn spectrograms)", 0.1)
        if size == "small":
            return Requirements("a folder speech_commands of words", 45)
        return Requirements("Speech Commands, version 1", 60 * 12, "1 GPU")

    def deviations(self, size: Scale) -> Sequence[str]:
        """Say what is smaller."""
        if size == "smoke":
            return ["Drawn spectrograms of 32 x 32, one epoch: the figures mean nothing."]
        if size == "small":
            return [
                "Whatever is in speech_commands (here 2,900 utterances of 12 classes in place of 65,000 of 30), with parts "
                "by speaker; 15 epochs instead of 30, with mixup from the third; VGG-11 with an eighth of its width; "
                "bfloat16; Adam from 0.001, since from the paper's 0.003 LeNet does not learn from so few utterances (93 % "
                "test error after four epochs, where it has 44 % from 0.001)."
            ]
        return []

    def seeds(self, size: Scale) -> int:
        """Give how often each cell is trained."""
        return 1 if size == "smoke" else 3

    def cells(self, size: Scale) -> Sequence[Cell]:
        """Give the cells of figure 4."""
        listed = []
        for (model, alpha), numbers in PUBLISHED.items():
            start = {"smoke": 0, "small": 2, "paper": 5}[size]
            vicinity = "ERM()" if alpha is None else f"Scheduled(Mixup(alpha={alpha}), start={start})"
            recipe = Recipe(
                dataset="speech-commands-v1",
                model=model,
                vicinity=vicinity,
                epochs=30,
                batch_size=100,
                optimizer="adam",
                learning_rate=3e-3,
                weight_decay=0.0,
                milestones=(10, 20),
                channels_last=False,
            )
            if size == "smoke":
                tiny = "vicinal.lab.paper.speech:tiny"
                recipe = replace(recipe, dataset="synthetic-audio", model=tiny, epochs=1, batch_size=20)
            elif size == "small":
                narrow = {"lenet": "lenet", "vgg-11": "vgg-11-narrow"}[model]
                recipe = replace(
                    recipe,
                    dataset="speech-commands",
                    model=narrow,
                    epochs=15,
                    milestones=(5, 10),
                    precision="bfloat16",
                    learning_rate=1e-3,
                )
            measures = (
                Measure("validation error, %", _validation, Published(numbers[0])),
                Measure("test error, %", last_error, Published(numbers[1])),
            )
            name, base = MODELS[model], f"{MODELS[model]}, ERM"
            if alpha is None:
                listed.append(Cell(base, f"{model}-erm", recipe, measures))
            else:
                title = f"{name}, mixup alpha = {alpha}"
                listed.append(Cell(title, f"{model}-mixup-{alpha}", recipe, measures, base))
        return listed

    def after(self, recipe: Recipe, folder: Path) -> dict[str, Any]:
        """Measure the error on the validation utterances."""
        device = distributed.device()
        data = loading.validation(recipe).to(device)
        wrong = runs.misclassified(runs.load_model(folder, len(data.classes), device), data)
        return {"validation_error": float(wrong.double().mean())}

    def draw(self, size: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw the test errors of figure 4."""
        rows = [row for row in self.rows(size, done) if row.name.endswith(", test error")]
        label = "Test error on spoken commands of ERM and of mixup beside the published numbers"
        return plots.write_beside(folder / "figure4.svg", label, rows, "test error, %", ", test error")


def _validation(run: Run) -> float:
    return 100 * run["validation_error"]


def tiny(num_classes: int) -> torch.nn.Module:
    """Build LeNet for the drawn spectrograms of the quick run."""
    from vicinal.lab.models import LeNet

    return LeNet(num_classes, size=(32, 32))
