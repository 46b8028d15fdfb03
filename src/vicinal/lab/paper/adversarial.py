"""Section 3.5, table 3: how models trained with and without mixup stand small changes of the pixels."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from vicinal.lab import limits, stored
from vicinal.lab.data import loading
from vicinal.lab.data.dataset import Data
from vicinal.lab.errors import UserError
from vicinal.lab.paper import plots
from vicinal.lab.paper.attacks import FGSM, PGD, Attack, AutoAttack, Errors, IteratedFGSM, NormalizedModel, evaluate
from vicinal.lab.paper.cifar import overfitting
from vicinal.lab.paper.claims import Claim, Evidence
from vicinal.lab.paper.rows import by_method, first_done
from vicinal.lab.paper.store import digest
from vicinal.lab.paper.study import AtScale, Job, Published, Results, Row, Scale, Study
from vicinal.lab.paper.training import quick, train_once
from vicinal.lab.recipe import Recipe
from vicinal.lab.records import Mismatch, from_json, to_json
from vicinal.lab.training import distributed, recipes, runs

METHODS = ("ERM", "mixup")
_FORMAT = 1  # of what a job keeps of one attack

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
_SETTINGS = ("white box", "black box")
_MODELS = ("erm-1", "erm-2", "mixup")
_CLEAN = {"erm-1": "ERM, the first", "erm-2": "ERM, the second", "mixup": "mixup"}

_EPSILON = 4.0  # the paper's, in gray levels
_CHOSEN = (
    "Not stated in the paper and chosen here: the label of the loss is the true one, pixels are clipped to [0, 255], and "
    "the step of I-FGSM is epsilon / 10."
)


@dataclass(frozen=True)
class AdversarialScale(AtScale):
    """A scale of the study of attacks.

    Args:
        recipe: of a method, "erm" or "mixup"; the seed is filled in.
        images: of the test images, this number from the first on is attacked by FGSM; None: all.
        iterated: likewise by I-FGSM.
        strong: likewise by PGD and AutoAttack, which take longer.
        epsilons: of FGSM and I-FGSM, in gray levels, the paper's 4 among them.
        batch_size: images attacked at once.
        pgd: the PGD of this scale.
        autoattack: run AutoAttack; on images that withstand it, it takes minutes each.
        models: number of seeds of which there are models of ERM, in a ring: the last is followed by the first.

    """

    recipe: Callable[[str], Recipe] = lambda method: recipes.find(f"imagenet-resnet101-{method}")
    images: int | None = None
    iterated: int | None = None
    strong: int | None = None
    epsilons: tuple[float, ...] = (_EPSILON,)
    batch_size: int = 100
    pgd: PGD = field(default_factory=PGD)
    autoattack: bool = True
    models: int = 2


def _cifar(method: str) -> Recipe:
    return recipes.find(f"cifar10-preact18-{method}")


SCALES: Mapping[Scale, AdversarialScale] = {
    "smoke": AdversarialScale(
        data="none (synthetic images)",
        minutes=0.1,
        seeds=2,
        deviations=(
            "Synthetic images and a minute model: this shows that the parts run, and nothing else.",
            _CHOSEN,
            "Attacks that are not in the paper are tried on the first 20 images.",
        ),
        recipe=lambda method: quick(_cifar(method)),
        strong=20,
        epsilons=(1.0, _EPSILON),
        batch_size=50,
        pgd=PGD(steps=3, restarts=1),
        autoattack=False,
    ),
    "small": AdversarialScale(
        data="CIFAR-10",
        minutes=25,
        seeds=3,
        deviations=(
            "CIFAR-10 in place of ImageNet, and in place of ResNet-101 the models of the study cifar by which ERM overfits: "
            "PreAct ResNet-18 with an eighth of its width, 5,000 training images, not augmented, 40 epochs; mixup with the "
            "paper's alpha for CIFAR, 1. Without any attack they err on about twice as many images as the paper's.",
            "The paper's epsilon of 4 gray levels is for images of 224 x 224 pixels; here it is for 32 x 32.",
            "At 4, models may err on nearly all images, which tells nothing; therefore 1 is tried, too. Both were fixed "
            "before the runs, after a look at 500 images and one seed; 8 was left out, since 4 leaves next to nothing.",
            "The first 2000 test images are attacked, by I-FGSM the first 1000.",
            "The top-5 error is that of 10 classes, of which five count as right: it says little.",
            "Three seeds, of the ten of the study cifar: the attacks take most of the time.",
            "Each model of ERM crafts for one seed and is measured in the black box of another: the seeds of the black box "
            "are not quite independent.",
            _CHOSEN,
            "Attacks that are not in the paper are tried on the first 200 images; AutoAttack is not run, for its time.",
        ),
        recipe=lambda method: overfitting(_cifar(method)),
        images=2000,
        iterated=1000,
        strong=200,
        epsilons=(1.0, _EPSILON),
        batch_size=250,
        autoattack=False,
        models=10,
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
        test_examples=50_000,
        strong=5000,
    ),
}


@dataclass(frozen=True)
class AttackedRun:
    """What a job returned: the errors by attack, model that crafts, and model that is measured."""

    attacks: dict[str, dict[str, dict[str, Errors]]]
    torch: str
    device: str


@dataclass(frozen=True)
class MeasuredErrors:
    """What a job keeps of one attack: what was measured, and the errors of each model."""

    what: dict[str, Any]
    errors: dict[str, Errors]


class AdversarialStudy(Study):
    """Does a model that was trained with mixup stand small changes of the pixels better?

    Paper: three ResNet-101 on ImageNet, two by ERM and one by mixup, whose alpha is not stated (0.2 in table 1). FGSM and
    iterated FGSM (10 steps of epsilon / 10) move each pixel by epsilon = 4 of 255 at most. White box: the first ERM model
    and the mixup model are each attacked with their own gradient. Black box: the first ERM model crafts, and the second one
    and the mixup model are measured. True labels, pixels clipped to [0, 255]; all models evaluate in float32.

    Here: the paper's alpha for the data, 0.2 on ImageNet and 1 on CIFAR-10. With seed s, the first ERM model and that of
    mixup are those of seed s, the second ERM model is that of the next seed. Two measures, fixed before the runs, decide
    about a claim at epsilon = 4: the top-1 error under attack, as in the paper; and, as mixup errs less without any attack,
    the share of the right answers that the attack costs, 1 - (1 - error under attack) / (1 - error without). Other values
    of epsilon are shown beside them and decide nothing. Next to the paper's rows: the errors on the images as they are; and
    PGD and AutoAttack in a white box, which show that a model that withstands FGSM better is not thereby robust.
    """

    name = "adversarial"
    section = "3.5, table 3"
    title = "Adversarial robustness"
    scales = SCALES

    def jobs(self, scale: Scale) -> Sequence[Job]:
        """Return one job per seed: it trains three models, or takes those there are, and attacks them."""
        return [
            Job(f"seed-{seed}", partial(_run, scale, seed), _decided_by(scale, seed), AttackedRun)
            for seed in range(SCALES[scale].seeds)
        ]

    def rows(self, scale: Scale, done: Results) -> Sequence[Row]:
        """Return table 3 in the paper's order, then what is not in the paper."""
        runs = first_done(AttackedRun, done, [job.name for job in self.jobs(scale)])
        top5 = "" if SCALES[scale].full else "of 10 classes, five of which count as right: it says little"
        table = []
        for setting, answers, attack in PUBLISHED:
            table += _rows(runs, setting, answers, attack, top5 if answers == "top-5" else "")
        table += [_clean_row(runs, answers, model) for answers in ("top-1", "top-5") for model in _MODELS]
        for setting, title, epsilon in product(_SETTINGS, ("FGSM", "I-FGSM"), SCALES[scale].epsilons):
            if epsilon != _EPSILON:
                table += _rows(runs, setting, "top-1", _title(title, epsilon), "not in the paper")
        for setting, title, epsilon in product(_SETTINGS, ("FGSM", "I-FGSM"), SCALES[scale].epsilons):
            table += _lost_rows(runs, setting, _title(title, epsilon))
        for attack in ("PGD", "AutoAttack"):
            missing = _why_missing(scale, runs, attack)
            table += _rows(runs, "white box", "top-1", attack, "; ".join(filter(None, ("not in the paper", missing))))
        return table

    def claims(self, scale: Scale, done: Results) -> Sequence[Claim]:
        """Return what table 3 says of each attack."""
        runs = first_done(AttackedRun, done, [job.name for job in self.jobs(scale)])
        limits = "" if SCALES[scale].full else "a small model on images of 32 x 32"
        return [
            Claim(
                f"mixup is more robust to {title} in the {setting}",
                "3.5, table 3",
                tuple(_evidence(runs, setting, title, epsilon, lost) for epsilon in epsilons for lost in (False, True)),
                limits,
            )
            for setting, title in product(_SETTINGS, ("FGSM", "I-FGSM"))
            for epsilons in [sorted(SCALES[scale].epsilons, key=lambda epsilon: epsilon != _EPSILON)]
        ]

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw the top-1 errors of table 3, and those of the attacks that are not in the paper."""
        rows = [row for row in self.rows(scale, done) if ", top-1, " in row.name and "epsilon" not in row.name]
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


def _lost(runs: Sequence[AttackedRun], attack: str, pair: tuple[str, str]) -> tuple[float, ...]:
    """Return the share of the right answers that an attack costs, in %; 0 where no answer is right to begin with."""
    clean, attacked = (_values(runs, attack, pair, measure) for measure in ("clean_top1", "top1"))
    return tuple(
        100 * (1 - (100 - under) / (100 - without)) if without < 100 else 0.0
        for without, under in zip(clean, attacked, strict=True)
    )


def _lost_rows(runs: Sequence[AttackedRun], setting: str, attack: str) -> list[Row]:
    values = {method: _lost(runs, attack, _PAIRS[setting, method]) for method in METHODS}
    return by_method(
        f"{setting}, {{}}, {attack}, right answers lost", "right answers lost, %", values, note="not in the paper"
    )


def _evidence(runs: Sequence[AttackedRun], setting: str, title: str, epsilon: float, lost: bool) -> Evidence:
    """Return the differences of mixup and ERM: of the top-1 error under attack, or of the right answers lost."""
    attack = _title(title, epsilon)
    erm, mixed = (
        _lost(runs, attack, _PAIRS[setting, method]) if lost else _values(runs, attack, _PAIRS[setting, method], "top1")
        for method in METHODS
    )
    return Evidence(
        f"{setting}, {title}, epsilon = {epsilon:g}, {'right answers lost' if lost else 'top-1 error'}: mixup against ERM",
        "points of right answers lost" if lost else "points of top-1 error",
        tuple(b - a for a, b in zip(erm, mixed, strict=True)),
        contrast=epsilon != _EPSILON,
    )


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


def _title(attack: str, epsilon: float) -> str:
    """Return an attack's name, with its strength where that is not the paper's."""
    return attack if epsilon == _EPSILON else f"{attack}, epsilon = {epsilon:g}"


def _attacks(scale: AdversarialScale) -> dict[str, tuple[Attack, int | None, bool]]:
    """Return the attacks, the number of images of each, and whether it is tried in a black box, too.

    AutoAttack is among them at scales that have it, where its package is installed; where not, its rows say so.
    """
    attacks: dict[str, tuple[Attack, int | None, bool]] = {}
    for epsilon in scale.epsilons:
        attacks[_title("FGSM", epsilon)] = FGSM(epsilon), scale.images, True
        attacks[_title("I-FGSM", epsilon)] = IteratedFGSM(epsilon), scale.iterated, True
    attacks["PGD"] = scale.pgd, scale.strong, False
    if scale.autoattack and AutoAttack.installed():
        attacks["AutoAttack"] = AutoAttack(), scale.strong, False
    return attacks


def _decided_by(scale: Scale, seed: int) -> str:
    """Return a digest of the recipes and of the attacks that were asked for."""
    at = SCALES[scale]
    asked = [at.images, at.iterated, at.strong, at.epsilons, at.batch_size, repr(at.pgd), at.autoattack]
    return digest([*(asdict(_recipe(scale, model, seed)) for model in _MODELS), *asked])


def _run(scale: Scale, seed: int, folder: Path) -> dict[str, Any]:
    """Train three models and attack them; what is done is kept in `folder`, and not done again."""
    with distributed.job() as processes:
        if processes.world_size > 1:
            raise UserError("this study trains and attacks in one process: start it without torchrun")
        recipes = {name: _recipe(scale, name, seed) for name in _MODELS}
        trained = {name: train_once(recipe, folder, processes)[1] for name, recipe in recipes.items()}
        images = loading.load(recipes["mixup"])[1].to(processes.device)  # the test images are the same for all
        models = {name: load(recipe, trained[name], images) for name, recipe in recipes.items()}
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
    return to_json(AttackedRun(measured, str(torch.__version__), str(processes.device)))


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
        try:
            kept: MeasuredErrors = from_json(MeasuredErrors, stored.unseal(limits.read_bytes(path), _FORMAT))
        except (stored.Unsealed, Mismatch) as error:
            print(f"{path} cannot be used: {error}; it is measured again", file=sys.stderr, flush=True)
        else:
            if kept.what == what and kept.errors.keys() == targets.keys():
                return kept.errors
    batches = map(images.pixels, torch.arange(len(images)).split(batch_size))
    errors = evaluate(attack, source, targets, batches)
    stored.write(path, to_json(MeasuredErrors(what, errors)), _FORMAT, indent=1)
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
    model = runs.load_model(folder, len(images.classes), images.device, recipe.model)
    if recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return NormalizedModel(model, images.mean, images.std).eval()


def _recipe(scale: Scale, model: str, seed: int) -> Recipe:
    """Return the recipe of one of the three models; the second of ERM is the first of the next seed."""
    at = SCALES[scale]
    recipe = at.recipe(model.partition("-")[0])
    return replace(recipe, seed=(seed + 1) % at.models if model == "erm-2" else seed)
