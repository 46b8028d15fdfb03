"""The paper's training runs as functions that return a recipe; the docstring names the row of the paper and its figure.

`vicinal train cifar10-preact18-mixup`; `vicinal train cifar10-preact18-mixup epochs=3 examples=2000` for a quick look.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from dataclasses import replace

from vicinal.lab.errors import UserError
from vicinal.lab.train.recipe import Recipe


def cifar10_preact18_erm() -> Recipe:
    """Section 3.2, figure 3a: PreAct ResNet-18 on CIFAR-10 by ERM, 5.6 % test error (median of the last 10 epochs)."""
    return Recipe(data="cifar10", network="preact-resnet-18")


def cifar10_preact18_mixup() -> Recipe:
    """Section 3.2, figure 3a: PreAct ResNet-18 on CIFAR-10 by mixup, alpha = 1, 4.2 % test error."""
    return replace(cifar10_preact18_erm(), vicinity="Mixup(alpha=1.0)")


def cifar100_preact18_erm() -> Recipe:
    """Section 3.2, figure 3a: PreAct ResNet-18 on CIFAR-100 by ERM, 25.6 % test error."""
    return replace(cifar10_preact18_erm(), data="cifar100")


def cifar100_preact18_mixup() -> Recipe:
    """Section 3.2, figure 3a: PreAct ResNet-18 on CIFAR-100 by mixup, alpha = 1, 21.1 % test error."""
    return replace(cifar10_preact18_mixup(), data="cifar100")


def cifar10_wrn_28_10_erm() -> Recipe:
    """Section 3.2, figure 3a: WRN-28-10 on CIFAR-10 by ERM, 3.8 % test error; the paper's own schedule."""
    return Recipe(data="cifar10", network="wrn-28-10", drops=(60, 120, 180))


def cifar10_wrn_28_10_mixup() -> Recipe:
    """Section 3.2, figure 3a: WRN-28-10 on CIFAR-10 by mixup, alpha = 1, 2.7 % test error."""
    return replace(cifar10_wrn_28_10_erm(), vicinity="Mixup(alpha=1.0)")


def cifar10_densenet_190_erm() -> Recipe:
    """Section 3.2, figure 3a: DenseNet-BC-190 on CIFAR-10 by ERM, 3.7 % test error."""
    return Recipe(data="cifar10", network="densenet-bc-190-40")


def cifar10_densenet_190_mixup() -> Recipe:
    """Section 3.2, figure 3a: DenseNet-BC-190 on CIFAR-10 by mixup, alpha = 1, 2.7 % test error."""
    return replace(cifar10_densenet_190_erm(), vicinity="Mixup(alpha=1.0)")


def cifar10_noise50_erm() -> Recipe:
    """Section 3.4, table 2: half of the labels random, ERM: 18.8 % best and 44.6 % last test error."""
    return replace(cifar10_preact18_erm(), noise=0.5)


def cifar10_noise50_mixup() -> Recipe:
    """Section 3.4, table 2: half of the labels random, mixup with alpha = 32: 11.3 % best and 12.7 % last test error."""
    return replace(cifar10_noise50_erm(), vicinity="Mixup(alpha=32.0)")


def speech_lenet_erm() -> Recipe:
    """Section 3.3, figure 4: LeNet on Speech Commands by ERM, 10.3 % test error."""
    return Recipe(
        data="speech-commands-v1",
        network="lenet",
        epochs=30,
        batch=100,
        optimizer="adam",
        learning_rate=3e-3,
        weight_decay=0.0,  # the paper names none
        drops=(10, 20),
        channels_last=False,
    )


def speech_lenet_mixup() -> Recipe:
    """Section 3.3, figure 4: LeNet by mixup, alpha = 0.1, from the sixth epoch: 10.8 % test error (worse than ERM)."""
    return replace(speech_lenet_erm(), vicinity="Scheduled(Mixup(alpha=0.1), start=5)")


def speech_vgg11_erm() -> Recipe:
    """Section 3.3, figure 4: VGG-11 on Speech Commands by ERM, 4.6 % test error."""
    return replace(speech_lenet_erm(), network="vgg-11")


def speech_vgg11_mixup() -> Recipe:
    """Section 3.3, figure 4: VGG-11 by mixup, alpha = 0.2, from the sixth epoch: 3.4 % test error."""
    return replace(speech_vgg11_erm(), vicinity="Scheduled(Mixup(alpha=0.2), start=5)")


def cifar10_small_erm() -> Recipe:
    """Not of the paper: a network of 0.24 M parameters that a CPU trains, by ERM."""
    return Recipe(
        data="cifar10", network="small", epochs=30, learning_rate=0.1, drops=(15, 25), weight_decay=5e-4,
        precision="bfloat16",
    )  # fmt: skip


def cifar10_small_mixup() -> Recipe:
    """Not of the paper: the same by mixup; small networks want a small alpha, as the author advises."""
    return replace(cifar10_small_erm(), vicinity="Mixup(alpha=0.2)")


def all_recipes() -> dict[str, Callable[[], Recipe]]:
    """Give the recipes by their names on the command line."""
    here = {name: f for name, f in globals().items() if name.startswith(("cifar", "speech"))}
    return {name.replace("_", "-"): f for name, f in here.items() if inspect.isfunction(f)}


def find(name: str) -> Recipe:
    """Give a recipe by its name.

    Raises:
        UserError: there is none of that name.

    """
    known = all_recipes()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        raise UserError(
            f"there is no recipe {name!r}; " + (f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}")
        )
    return known[name]()
