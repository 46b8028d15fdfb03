"""The paper's training runs as functions that return a recipe; the docstring names the row of the paper and its figure.

`vicinal train cifar10-preact18-mixup`; `vicinal train cifar10-preact18-mixup --quick` for a quick look.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace

from vicinal.lab.errors import UserError
from vicinal.lab.format import closest
from vicinal.lab.recipe import Recipe


def cifar10_preact18_erm() -> Recipe:
    """Section 3.2, figure 3a: PreAct ResNet-18 on CIFAR-10 by ERM, 5.6 % test error (median of the last 10 epochs)."""
    return Recipe(dataset="cifar10", model="preact-resnet-18")


def cifar10_preact18_mixup() -> Recipe:
    """Section 3.2, figure 3a: PreAct ResNet-18 on CIFAR-10 by mixup, alpha = 1, 4.2 % test error."""
    return replace(cifar10_preact18_erm(), vicinity="Mixup(alpha=1.0)")


def cifar100_preact18_erm() -> Recipe:
    """Section 3.2, figure 3a: PreAct ResNet-18 on CIFAR-100 by ERM, 25.6 % test error."""
    return replace(cifar10_preact18_erm(), dataset="cifar100")


def cifar100_preact18_mixup() -> Recipe:
    """Section 3.2, figure 3a: PreAct ResNet-18 on CIFAR-100 by mixup, alpha = 1, 21.1 % test error."""
    return replace(cifar10_preact18_mixup(), dataset="cifar100")


def cifar10_wrn_28_10_erm() -> Recipe:
    """Section 3.2, figure 3a: WRN-28-10 on CIFAR-10 by ERM, 3.8 % test error; the paper's own schedule."""
    return Recipe(dataset="cifar10", model="wrn-28-10", milestones=(60, 120, 180))


def cifar10_wrn_28_10_mixup() -> Recipe:
    """Section 3.2, figure 3a: WRN-28-10 on CIFAR-10 by mixup, alpha = 1, 2.7 % test error."""
    return replace(cifar10_wrn_28_10_erm(), vicinity="Mixup(alpha=1.0)")


def cifar10_densenet_190_erm() -> Recipe:
    """Section 3.2, figure 3a: DenseNet-BC-190 on CIFAR-10 by ERM, 3.7 % test error."""
    return Recipe(dataset="cifar10", model="densenet-bc-190-40")


def cifar10_densenet_190_mixup() -> Recipe:
    """Section 3.2, figure 3a: DenseNet-BC-190 on CIFAR-10 by mixup, alpha = 1, 2.7 % test error."""
    return replace(cifar10_densenet_190_erm(), vicinity="Mixup(alpha=1.0)")


def cifar10_noise50_erm() -> Recipe:
    """Section 3.4, table 2: half of the labels random, ERM: 18.8 % best and 44.6 % last test error."""
    return replace(cifar10_preact18_erm(), label_noise=0.5)


def cifar10_noise50_mixup() -> Recipe:
    """Section 3.4, table 2: half of the labels random, mixup with alpha = 32: 11.3 % best and 12.7 % last test error."""
    return replace(cifar10_noise50_erm(), vicinity="Mixup(alpha=32.0)")


def speech_lenet_erm() -> Recipe:
    """Section 3.3, figure 4: LeNet on Speech Commands by ERM, 10.3 % test error."""
    return Recipe(
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


def speech_lenet_mixup() -> Recipe:
    """Section 3.3, figure 4: LeNet by mixup, alpha = 0.1, from the sixth epoch: 10.8 % test error (worse than ERM)."""
    return replace(speech_lenet_erm(), vicinity="Scheduled(Mixup(alpha=0.1), start=5)")


def speech_vgg11_erm() -> Recipe:
    """Section 3.3, figure 4: VGG-11 on Speech Commands by ERM, 4.6 % test error."""
    return replace(speech_lenet_erm(), model="vgg-11")


def speech_vgg11_mixup() -> Recipe:
    """Section 3.3, figure 4: VGG-11 by mixup, alpha = 0.2, from the sixth epoch: 3.4 % test error."""
    return replace(speech_vgg11_erm(), vicinity="Scheduled(Mixup(alpha=0.2), start=5)")


def imagenet_resnet50_erm() -> Recipe:
    """Section 3.1, table 1: ResNet-50 on ImageNet-2012 by ERM, 90 epochs: 23.5 % top-1 error (of Goyal et al. 2017)."""
    return Recipe(
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


def imagenet_resnet50_mixup() -> Recipe:
    """Section 3.1, table 1: ResNet-50 by mixup, alpha = 0.2, 90 epochs: 23.3 % top-1 and 6.6 % top-5 error."""
    return replace(imagenet_resnet50_erm(), vicinity="Mixup(alpha=0.2)")


def imagenet_resnet101_erm() -> Recipe:
    """Section 3.1, table 1: ResNet-101 by ERM, 90 epochs: 22.1 % top-1 error (of Goyal et al. 2017)."""
    return replace(imagenet_resnet50_erm(), model="resnet-101")


def imagenet_resnet101_mixup() -> Recipe:
    """Section 3.1, table 1: ResNet-101 by mixup, alpha = 0.2, 90 epochs: 21.5 % top-1 and 5.6 % top-5 error."""
    return replace(imagenet_resnet101_erm(), vicinity="Mixup(alpha=0.2)")


def imagenet_resnext101_32x4d_erm() -> Recipe:
    """Section 3.1, table 1: ResNeXt-101 32x4d by ERM, 90 epochs: 21.2 % top-1 and 5.6 % top-5 error."""
    return replace(imagenet_resnet50_erm(), model="resnext-101-32x4d")


def imagenet_resnext101_32x4d_mixup() -> Recipe:
    """Section 3.1, table 1: ResNeXt-101 32x4d by mixup, alpha = 0.4, 90 epochs: 20.7 % top-1 and 5.3 % top-5 error."""
    return replace(imagenet_resnext101_32x4d_erm(), vicinity="Mixup(alpha=0.4)")


def imagenet_resnext101_64x4d_erm() -> Recipe:
    """Section 3.1, table 1: ResNeXt-101 64x4d by ERM: 20.4 % top-1 and 5.3 % top-5 error (of Xie et al., 100 epochs)."""
    return replace(imagenet_resnet50_erm(), model="resnext-101-64x4d")


def imagenet_resnext101_64x4d_mixup() -> Recipe:
    """Section 3.1, table 1: ResNeXt-101 64x4d by mixup, alpha = 0.4, 90 epochs: 19.8 % top-1 and 4.9 % top-5 error."""
    return replace(imagenet_resnext101_64x4d_erm(), vicinity="Mixup(alpha=0.4)")


def imagenet_resnet50_200_erm() -> Recipe:
    """Section 3.1, table 1: ResNet-50 by ERM, 200 epochs: 23.6 % top-1 and 7.0 % top-5 error."""
    return replace(imagenet_resnet50_erm(), epochs=200, milestones=(60, 120, 180))


def imagenet_resnet50_200_mixup() -> Recipe:
    """Section 3.1, table 1: ResNet-50 by mixup, alpha = 0.2, 200 epochs: 22.1 % top-1 and 6.1 % top-5 error."""
    return replace(imagenet_resnet50_200_erm(), vicinity="Mixup(alpha=0.2)")


def imagenet_resnet101_200_erm() -> Recipe:
    """Section 3.1, table 1: ResNet-101 by ERM, 200 epochs: 22.0 % top-1 and 6.1 % top-5 error."""
    return replace(imagenet_resnet50_200_erm(), model="resnet-101")


def imagenet_resnet101_200_mixup() -> Recipe:
    """Section 3.1, table 1: ResNet-101 by mixup, alpha = 0.2, 200 epochs: 20.8 % top-1 and 5.4 % top-5 error."""
    return replace(imagenet_resnet101_200_erm(), vicinity="Mixup(alpha=0.2)")


def imagenet_resnext101_32x4d_200_erm() -> Recipe:
    """Section 3.1, table 1: ResNeXt-101 32x4d by ERM, 200 epochs: 21.3 % top-1 and 5.9 % top-5 error."""
    return replace(imagenet_resnet50_200_erm(), model="resnext-101-32x4d")


def imagenet_resnext101_32x4d_200_mixup() -> Recipe:
    """Section 3.1, table 1: ResNeXt-101 32x4d by mixup, alpha = 0.4, 200 epochs: 20.1 % top-1 and 5.0 % top-5 error."""
    return replace(imagenet_resnext101_32x4d_200_erm(), vicinity="Mixup(alpha=0.4)")


def cifar10_small_erm() -> Recipe:
    """Not in the paper: a model of 0.24 M parameters that a CPU trains, by ERM."""
    return Recipe(
        dataset="cifar10", model="small", epochs=30, learning_rate=0.1, milestones=(15, 25), weight_decay=5e-4,
        precision="bfloat16",
    )  # fmt: skip


def cifar10_small_mixup() -> Recipe:
    """Not in the paper: the same by mixup; small models want a small alpha, as the author advises."""
    return replace(cifar10_small_erm(), vicinity="Mixup(alpha=0.2)")


def all_recipes() -> dict[str, Callable[[], Recipe]]:
    """Return the recipes by their names on the command line."""
    here = {name: f for name, f in globals().items() if name.startswith(("cifar", "imagenet", "speech"))}
    return {name.replace("_", "-"): f for name, f in here.items() if inspect.isfunction(f)}


def find(name: str) -> Recipe:
    """Return a recipe by its name.

    Raises:
        UserError: there is none of that name.

    """
    known = all_recipes()
    if name not in known:
        close = closest(name, known)
        raise UserError(
            f"there is no recipe {name!r}; " + (f"did you mean {close}?" if close else f"known: {', '.join(known)}")
        )
    return known[name]()
