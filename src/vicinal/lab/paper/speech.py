"""Section 3.3, figure 4: spoken commands."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vicinal.lab import parse
from vicinal.lab.data import loading, speech_commands
from vicinal.lab.models import LeNet
from vicinal.lab.paper import plots
from vicinal.lab.paper.claims import Claim, Evidence
from vicinal.lab.paper.study import Published, Results, Row, Scale
from vicinal.lab.paper.training import Cell, FinishedRun, TrainedRun, TrainingScale, TrainingStudy
from vicinal.lab.recipe import Recipe
from vicinal.lab.statistics import detectable
from vicinal.lab.training import recipes, runs

MODELS = {"lenet": "LeNet", "vgg-11": "VGG-11"}

Missed = Mapping[str, Sequence[int]]  # by speaker, 1 for each utterance that is missed

LIMITS = "a narrow model on 2,880 utterances; one model per fold and method, so that luck in training counts too"

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
    """Return the recipe of the small scale: a narrow VGG-11, half of the epochs."""
    if recipe.model != "vgg-11":
        return None
    return replace(
        recipe,
        dataset="speech-commands",  # of a seed: one of its folds
        model="vgg-11-narrow",
        vicinity=parse.scheduled(recipe.vicinity, lambda epoch: epoch // 2),
        epochs=15,
        milestones=(5, 10),
        precision="bfloat16",
        learning_rate=1e-3,
        channels_last=True,
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
        minutes=20,
        seeds=len(speech_commands.FOLDS),
        deviations=(
            "Whatever is in speech_commands (here 2,880 utterances of 12 classes in place of 65,000 of 30), by three-fold "
            "cross-validation: a seed trains on the speakers of two folds and is tested on those of its own, so that each "
            "utterance is tested once; no validation part. VGG-11 with an eighth of its width; 15 epochs instead of 30, "
            "with mixup from the third; bfloat16; Adam from 0.001, since from the paper's 0.003 LeNet does not learn from "
            "so few utterances (93 % test error after four epochs, where it has 44 % from 0.001). LeNet, which takes twice "
            "as long, is not run.",
            "Stated before the runs: the claim is judged by speakers, whose utterances are alike; clips that nobody speaks "
            "count for themselves. The runs with alpha = 0.1 were added while the others ran.",
        ),
        recipe=small,
        note="an eighth of the width, {epochs} epochs",
        not_run="not run at this scale",
    ),
    "paper": TrainingScale("Speech Commands, version 1", 60 * 12, seeds=3, device="1 GPU", full=True),
}


@dataclass(frozen=True)
class SpeechRun(TrainedRun):
    """A run, with the share of the validation utterances that is missed, or else with those that it missed in its fold.

    `missed` has for each speaker one number per utterance, in the order of the files: 1 if it was missed.
    """

    validation_error: float | None = None
    missed: dict[str, list[int]] | None = None


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
    record = SpeechRun
    scales = SCALES
    measures = (
        ("validation error, %", lambda run: run.validation_error),
        ("test error, %", lambda run: run.test_error.last),
    )

    def paper_cells(self) -> Sequence[Cell]:
        """Return the cells of figure 4."""
        return [self._cell(model, alpha) for model, alpha in PUBLISHED]

    def _cell(self, model: str, alpha: float | None) -> Cell:
        erm = replace(recipes.speech_lenet_erm(), model=model)
        published = [Published(number) for number in PUBLISHED[model, alpha]]
        base = f"{MODELS[model]}, ERM"
        if alpha is None:
            return Cell(base, f"{model}-erm", erm, published)
        mixup = replace(erm, vicinity=f"Scheduled(Mixup(alpha={alpha}), start=5)")
        return Cell(f"{MODELS[model]}, mixup alpha = {alpha}", f"{model}-mixup-{alpha}", mixup, published, base)

    def claims(self, scale: Scale, done: Results) -> Sequence[Claim]:
        """Return the claims of section 3.3, by the speakers of all folds."""
        if scale != "small":
            return ()
        vgg = tuple(self._evidence(done, alpha) for alpha in (0.2, 0.1))
        limits = _limits(vgg[0].differences)
        return (
            Claim("mixup lowers the test error of VGG-11 on spoken commands", "3.3", vgg, limits),
            Claim(
                "mixup raises the test error of LeNet on spoken commands (by the printed table, not in the text)",
                "3.3, figure 4",
                (Evidence("LeNet: mixup, alpha = 0.2, against ERM", "points of test error", (), "higher"),),
                "LeNet was not run at this scale: it takes twice as long as the narrow VGG-11",
            ),
        )

    def _evidence(self, done: Results, alpha: float) -> Evidence:
        folds = [self.runs("small", done, self._cell("vgg-11", of)) for of in (None, alpha)]
        erm, mixup = ([run.missed for run in runs] for runs in folds)
        complete = len(erm) == len(mixup) == len(speech_commands.FOLDS)
        return Evidence(
            f"VGG-11 of an eighth of the width, three folds: mixup, alpha = {alpha}, against ERM, by speaker",
            "points of test error",
            by_speaker(erm, mixup) if complete else (),
        )

    def seeded(self, recipe: Recipe, seed: int) -> Recipe:
        """Return the recipe of a seed; at the small scale it has a fold of its own."""
        folds = {"speech-commands": speech_commands.FOLDS}.get(recipe.dataset)
        return replace(recipe, seed=seed, dataset=recipe.dataset if folds is None else folds[seed])

    def rows(self, scale: Scale, done: Results) -> Sequence[Row]:
        """Return figure 4; folds train on much the same utterances, and their intervals allow for that."""
        rows = super().rows(scale, done)
        share = 1 / (len(speech_commands.FOLDS) - 1)
        return rows if scale != "small" else [replace(row, test_share=share) for row in rows]

    def evaluate_run(self, run: FinishedRun) -> dict[str, Any]:
        """Measure the error on the validation utterances; of a fold, which utterances are missed."""
        recipe = run.recipe
        if recipe.dataset not in speech_commands.FOLDS:
            wrong = runs.misclassified(run.model, loading.validation(recipe).to(run.training.device))
            return {"validation_error": float(wrong.double().mean())}
        wrong = runs.misclassified(run.model, run.test)
        files, tested = speech_commands.fold_files(recipe.dataset)
        missed = defaultdict[str, list[int]](list)
        for path, miss in zip(files.select(tested.nonzero().flatten()).paths, wrong.tolist(), strict=True):
            missed[speech_commands.speaker_of(path)].append(int(miss))
        return {"missed": dict(missed)}

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw the test errors of figure 4."""
        rows = self.rows(scale, done)
        label = "Test error on spoken commands of ERM and of mixup next to the published numbers"
        return plots.write_dot_plot(folder / "figure4.svg", label, rows, "test error, %", ", test error")


def _limits(differences: Sequence[float]) -> str:
    """Return the limits of the claim, with the smallest difference that could have been found."""
    if len(differences) < 2:
        return LIMITS
    least = detectable(statistics.stdev(differences), len(differences))
    return f"{LIMITS}; a difference of {least:.1f} points is found in four of five cases, and the paper's is 1.2"


def by_speaker(erm: Sequence[Missed], mixup: Sequence[Missed]) -> tuple[float, ...]:
    """Return how many more utterances mixup misses than ERM does, one number per speaker of all folds.

    They are scaled so that their mean is the difference of the errors over all utterances, in points: a speaker of many
    utterances counts for as many.
    """
    pairs = [(fold[name], other[name]) for fold, other in zip(erm, mixup, strict=True) for name in fold]
    utterances = sum(len(first) for first, _ in pairs)
    return tuple(100 * (sum(second) - sum(first)) * len(pairs) / utterances for first, second in pairs)


def tiny(num_classes: int) -> torch.nn.Module:
    """Build LeNet for the synthetic spectrograms of the quick run."""
    return LeNet(num_classes, size=(32, 32))
