"""The paper's training runs: recipes by their names, each with the row of the paper and its figure.

`vicinal train cifar10-preact18-mixup`; `vicinal train cifar10-preact18-mixup --quick` for a quick look.
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import NamedTuple

from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe


class PublishedRun(NamedTuple):
    """A run of the paper: where it stands there, with its figure, and how it is trained."""

    about: str
    recipe: Recipe


_PREACT18 = Recipe(dataset="cifar10", model="preact-resnet-18")
_LENET = Recipe(
    dataset="speech-commands-v1",
    model="lenet",
    epochs=30,
    batch_size=100,
    optimizer="adam",
    learning_rate=3e-3,
    weight_decay=0.0,  # the paper states none
    milestones=(10, 20),
    channels_last=False,
)
_RESNET50 = Recipe(
    dataset="imagenet",
    model="resnet-50",
    epochs=90,
    batch_size=1024,
    learning_rate=0.4,
    warmup_epochs=5,
    warmup_start_lr=0.1,
    milestones=(30, 60, 80),
    nesterov=True,  # this and the decay are Goyal et al.'s, whose schedule the paper names
    weight_decay=1e-4,
    decay_norm_and_bias=False,
    image_size=224,
    crop="random_resized_crop",
)
_RESNET50_200 = replace(_RESNET50, epochs=200, milestones=(60, 120, 180))
_SMALL = Recipe(
    dataset="cifar10", model="small", epochs=30, learning_rate=0.1, milestones=(15, 25), weight_decay=5e-4,
    precision="bfloat16",
)  # fmt: skip

# name, recipe of ERM, what it is; vicinity of mixup, what it is
_PAIRS = (
    ("cifar10-preact18", _PREACT18,
     "Section 3.2, figure 3a: PreAct ResNet-18 on CIFAR-10 by ERM, 5.6 % test error (median of the last 10 epochs).",
     "Mixup(alpha=1.0)", "Section 3.2, figure 3a: PreAct ResNet-18 on CIFAR-10 by mixup, alpha = 1, 4.2 % test error."),
    ("cifar100-preact18", replace(_PREACT18, dataset="cifar100"),
     "Section 3.2, figure 3a: PreAct ResNet-18 on CIFAR-100 by ERM, 25.6 % test error.",
     "Mixup(alpha=1.0)", "Section 3.2, figure 3a: PreAct ResNet-18 on CIFAR-100 by mixup, alpha = 1, 21.1 % test error."),
    ("cifar10-wrn-28-10", replace(_PREACT18, model="wrn-28-10", milestones=(60, 120, 180)),
     "Section 3.2, figure 3a: WRN-28-10 on CIFAR-10 by ERM, 3.8 % test error; the paper's own schedule.",
     "Mixup(alpha=1.0)", "Section 3.2, figure 3a: WRN-28-10 on CIFAR-10 by mixup, alpha = 1, 2.7 % test error."),
    ("cifar10-densenet-190", replace(_PREACT18, model="densenet-bc-190-40"),
     "Section 3.2, figure 3a: DenseNet-BC-190 on CIFAR-10 by ERM, 3.7 % test error.",
     "Mixup(alpha=1.0)", "Section 3.2, figure 3a: DenseNet-BC-190 on CIFAR-10 by mixup, alpha = 1, 2.7 % test error."),
    ("cifar10-noise50", replace(_PREACT18, label_noise=0.5),
     "Section 3.4, table 2: half of the labels random, ERM: 18.8 % best and 44.6 % last test error.",
     "Mixup(alpha=32.0)",
     "Section 3.4, table 2: half of the labels random, mixup with alpha = 32: 11.3 % best and 12.7 % last test error."),
    ("speech-lenet", _LENET,
     "Section 3.3, figure 4: LeNet on Speech Commands by ERM, 10.3 % test error.",
     "Scheduled(Mixup(alpha=0.1), start=5)",
     "Section 3.3, figure 4: LeNet by mixup, alpha = 0.1, from the sixth epoch: 10.8 % test error (worse than ERM)."),
    ("speech-vgg11", replace(_LENET, model="vgg-11"),
     "Section 3.3, figure 4: VGG-11 on Speech Commands by ERM, 4.6 % test error.",
     "Scheduled(Mixup(alpha=0.2), start=5)",
     "Section 3.3, figure 4: VGG-11 by mixup, alpha = 0.2, from the sixth epoch: 3.4 % test error."),
    ("imagenet-resnet50", _RESNET50,
     "Section 3.1, table 1: ResNet-50 on ImageNet-2012 by ERM, 90 epochs: 23.5 % top-1 error (of Goyal et al. 2017).",
     "Mixup(alpha=0.2)",
     "Section 3.1, table 1: ResNet-50 by mixup, alpha = 0.2, 90 epochs: 23.3 % top-1 and 6.6 % top-5 error."),
    ("imagenet-resnet101", replace(_RESNET50, model="resnet-101"),
     "Section 3.1, table 1: ResNet-101 by ERM, 90 epochs: 22.1 % top-1 error (of Goyal et al. 2017).",
     "Mixup(alpha=0.2)",
     "Section 3.1, table 1: ResNet-101 by mixup, alpha = 0.2, 90 epochs: 21.5 % top-1 and 5.6 % top-5 error."),
    ("imagenet-resnext101-32x4d", replace(_RESNET50, model="resnext-101-32x4d"),
     "Section 3.1, table 1: ResNeXt-101 32x4d by ERM, 90 epochs: 21.2 % top-1 and 5.6 % top-5 error.",
     "Mixup(alpha=0.4)",
     "Section 3.1, table 1: ResNeXt-101 32x4d by mixup, alpha = 0.4, 90 epochs: 20.7 % top-1 and 5.3 % top-5 error."),
    ("imagenet-resnext101-64x4d", replace(_RESNET50, model="resnext-101-64x4d"),
     "Section 3.1, table 1: ResNeXt-101 64x4d by ERM: 20.4 % top-1 and 5.3 % top-5 error (of Xie et al., 100 epochs).",
     "Mixup(alpha=0.4)",
     "Section 3.1, table 1: ResNeXt-101 64x4d by mixup, alpha = 0.4, 90 epochs: 19.8 % top-1 and 4.9 % top-5 error."),
    ("imagenet-resnet50-200", _RESNET50_200,
     "Section 3.1, table 1: ResNet-50 by ERM, 200 epochs: 23.6 % top-1 and 7.0 % top-5 error.",
     "Mixup(alpha=0.2)",
     "Section 3.1, table 1: ResNet-50 by mixup, alpha = 0.2, 200 epochs: 22.1 % top-1 and 6.1 % top-5 error."),
    ("imagenet-resnet101-200", replace(_RESNET50_200, model="resnet-101"),
     "Section 3.1, table 1: ResNet-101 by ERM, 200 epochs: 22.0 % top-1 and 6.1 % top-5 error.",
     "Mixup(alpha=0.2)",
     "Section 3.1, table 1: ResNet-101 by mixup, alpha = 0.2, 200 epochs: 20.8 % top-1 and 5.4 % top-5 error."),
    ("imagenet-resnext101-32x4d-200", replace(_RESNET50_200, model="resnext-101-32x4d"),
     "Section 3.1, table 1: ResNeXt-101 32x4d by ERM, 200 epochs: 21.3 % top-1 and 5.9 % top-5 error.",
     "Mixup(alpha=0.4)",
     "Section 3.1, table 1: ResNeXt-101 32x4d by mixup, alpha = 0.4, 200 epochs: 20.1 % top-1 and 5.0 % top-5 error."),
    ("cifar10-small", _SMALL,
     "Not in the paper: a model of 0.24 M parameters that a CPU trains, by ERM.",
     "Mixup(alpha=0.2)",
     "Not in the paper: the same by mixup; small models want a small alpha, as the author advises."),
)  # fmt: skip

RECIPES: dict[str, PublishedRun] = {}  # by their names on the command line
for _name, _erm, _about_erm, _vicinity, _about_mixup in _PAIRS:
    RECIPES[f"{_name}-erm"] = PublishedRun(_about_erm, _erm)
    RECIPES[f"{_name}-mixup"] = PublishedRun(_about_mixup, replace(_erm, vicinity=_vicinity))


def find(name: str) -> Recipe:
    """Return a recipe by its name.

    Raises:
        UserError: there is none of that name.

    """
    if name not in RECIPES:
        close = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(RECIPES)}"
        raise UserError(f"there is no recipe {name!r}; {hint}")
    return RECIPES[name].recipe
