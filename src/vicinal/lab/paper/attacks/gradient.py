"""The attacks of the paper's section 3.5, FGSM and iterated FGSM, and PGD, which is stronger and not in the paper.

All of them stay in a box around each image: no pixel moves by more than epsilon, and none leaves [0, 255]. They climb
the cross-entropy J of the model that crafts; whether it is the model attacked (white box) or another one (black box)
makes no difference here.

    FGSM            x' = clip(x + epsilon sign(grad_x J(x, y)))                     Goodfellow et al. 2015, section 4
    iterated FGSM   x_0 = x,  x_{t+1} = clip(x_t + a sign(grad_x J(x_t, y)))        Kurakin et al. 2017, section 2.2
    PGD             the same from random points of the box, the best of several     Madry et al. 2018, section 2.1

The paper says "maximum perturbation epsilon = 4 per pixel" and "10 iterations of equal step size". That pixels count
from 0 to 255, that the step is epsilon / 10, that the label is the true one, and that pixels are clipped to [0, 255], it
does not say; these are the defaults here. All attacks have

    epsilon    the largest change of a pixel in all, in gray levels of 255, >= 0
    label      "true": y; "predicted": what the crafting model predicts for the original image, as if y were not known
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vicinal.keyed import Key
from vicinal.lab.paper.attacks.model import as_float, eval_mode
from vicinal.lab.streams import Stream

Label = Literal["true", "predicted"]


class Attack(Protocol):
    """What changes images so that a model errs."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, batch: int = 0) -> Tensor:
        """Craft adversarial images on a model.

        Args:
            model: takes pixels in [0, 255], as `NormalizedModel` does. It evaluates meanwhile, whatever its mode; its
                modes, gradients and running statistics are left as they were.
            x: pixels [n, c, ...] in [0, 255], uint8 or floating point. Not changed.
            y: true labels, int64 [n].
            batch: which batch this is; what is drawn at random differs between batches.

        Returns:
            Pixels of the shape of x, float64 if x is, else float32; not rounded to whole gray levels.

        Raises:
            ValueError: x or y are not these, or the gradient is not finite.

        """
        ...


@dataclass(frozen=True)
class FGSM:
    """The fast gradient sign method: x' = clip(x + epsilon sign(grad_x J(x, y))).

    A pixel whose gradient is 0 stays. Source: Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial
    Examples", ICLR 2015, section 4.
    """

    epsilon: float = 4.0
    label: Label = "true"

    def __post_init__(self) -> None:
        _check(self.epsilon, self.label)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, batch: int = 0) -> Tensor:
        """Craft; see `Attack`."""
        return IteratedFGSM(self.epsilon, steps=1, label=self.label)(model, x, y)


@dataclass(frozen=True)
class IteratedFGSM:
    """Iterated FGSM, the "basic iterative method": `steps` times x <- clip(x + step sign(grad_x J(x, y))).

    clip is to [x_0 - epsilon, x_0 + epsilon] and [0, 255], after each step. Source: Kurakin, Goodfellow and Bengio,
    "Adversarial Examples in the Physical World", ICLR 2017 workshop, section 2.2.

    Args:
        steps: their number, >= 1.
        step: the change of a step in gray levels, > 0; None: epsilon / steps, with which the last step just reaches the
            edge of the box.

    """

    epsilon: float = 4.0
    steps: int = 10
    step: float | None = None
    label: Label = "true"

    def __post_init__(self) -> None:
        _check(self.epsilon, self.label, self.steps, self.step)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, batch: int = 0) -> Tensor:
        """Craft; see `Attack`."""
        x = checked(x, y)
        step = self.epsilon / self.steps if self.step is None else self.step
        with eval_mode(model):
            return _pgd_steps(model, x, x, _labels(model, x, y, self.label), self.epsilon, step, self.steps)


@dataclass(frozen=True)
class PGD:
    """Projected gradient descent: iterated FGSM from points drawn evenly from the box, the best of several restarts.

    The best is the first with which the crafting model errs (with a predicted label: leaves its own first answer), else
    that of the largest loss. Not in the paper, and not AutoAttack. Source: Madry, Makelov, Schmidt, Tsipras and Vladu,
    "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018, section 2.1.

    Args:
        steps: of each restart, >= 1.
        step: the change of a step in gray levels, > 0; None: 2.5 epsilon / steps, with which every edge of the box can
            be reached from every point.
        restarts: their number, >= 1.
        seed: of the points; with it and `batch` they are decided, on every device.

    """

    epsilon: float = 4.0
    steps: int = 20
    step: float | None = None
    restarts: int = 2
    seed: int = 0
    label: Label = "true"

    def __post_init__(self) -> None:
        _check(self.epsilon, self.label, self.steps, self.step)
        if self.restarts < 1:
            raise ValueError(f"restarts must be 1 or more, got {self.restarts}")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, batch: int = 0) -> Tensor:
        """Craft; see `Attack`."""
        x = checked(x, y)
        step = 2.5 * self.epsilon / self.steps if self.step is None else self.step
        best = x
        with eval_mode(model):
            label = _labels(model, x, y, self.label)
            least = x.new_full((len(x),), -math.inf, dtype=torch.float64)
            for restart in range(self.restarts):
                generator = Key(self.seed, 0, 0, batch, Stream.PGD_START + 8 * restart).generator()
                start = x + self.epsilon * torch.from_numpy(generator.uniform(-1, 1, tuple(x.shape))).to(x)
                found = _pgd_steps(model, start, x, label, self.epsilon, step, self.steps)
                with torch.no_grad():
                    logits = model(found).double()
                loss = F.cross_entropy(logits, label, reduction="none")
                # one that errs is better than any that does not, and the first of them is kept
                score = torch.where(logits.argmax(1) != label, math.inf, loss)
                better = score > least
                best = torch.where(better.view(-1, *(1,) * (x.ndim - 1)), found, best)
                least = torch.where(better, score, least)
        return best


def input_gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the gradient of each example's own loss with respect to its pixels, of the shape and dtype of x.

    The losses are added, not averaged, and computed from the logits in float64: where a model is sure, 1 - p is
    rounded to 0 in float32, and with it a part of the gradient.

    Raises:
        ValueError: it is not finite.

    """
    with torch.inference_mode(False), torch.enable_grad():  # whatever mode the caller is in
        pixels = x.detach().clone().requires_grad_()
        loss = F.cross_entropy(model(pixels).double(), y.clone(), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, pixels)  # of nothing else: parameters keep the gradients they have
    if not torch.isfinite(gradient).all():
        raise ValueError("the gradient with respect to the pixels is not finite: check the model's weights")
    return gradient


def linf_ball(x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return the lowest and the highest value of each pixel, both in [0, 255] and no farther than epsilon from x.

    Not even by a rounding: where the bound was rounded away from x, the number before it is taken.
    """
    exact = x.double()
    low, high = (exact - epsilon).to(x.dtype), (exact + epsilon).to(x.dtype)
    low = torch.where(exact - low.double() > epsilon, torch.nextafter(low, x), low)
    high = torch.where(high.double() - exact > epsilon, torch.nextafter(high, x), high)
    return low.clamp(min=0.0), high.clamp(max=255.0)


def _pgd_steps(
    model: nn.Module, start: Tensor, x: Tensor, y: Tensor, epsilon: float, step: float, steps: int
) -> Tensor:
    """Take steps along the sign of the gradient, each clipped to the box around x; the model evaluates already."""
    low, high = linf_ball(x, epsilon)
    found = start.clamp(low, high)
    for _ in range(steps):
        found = (found + step * input_gradient(model, found, y).sign()).clamp(low, high)
    return found


def _labels(model: nn.Module, x: Tensor, y: Tensor, label: Label) -> Tensor:
    if label == "true":
        return y
    with torch.no_grad():
        return model(x).argmax(1)


def checked(x: Tensor, y: Tensor) -> Tensor:
    """Return pixels as floating point; ValueError where they or the labels are not what an attack takes."""
    if not (x.is_floating_point() or x.dtype == torch.uint8) or x.ndim < 2:
        raise ValueError(f"pixels must be uint8 or floating point [n, c, ...], got {x.dtype} {list(x.shape)}")
    if y.dtype != torch.int64 or y.shape != x.shape[:1]:
        raise ValueError(f"labels must be int64 [{len(x)}], got {y.dtype} {list(y.shape)}")
    if not ((x >= 0) & (x <= 255)).all():
        raise ValueError("pixels must lie in [0, 255]: give them before they are normalized")
    return as_float(x).detach()


def _check(epsilon: float, label: str, steps: int = 1, step: float | None = None) -> None:
    if not (epsilon >= 0 and math.isfinite(epsilon)):
        raise ValueError(f"epsilon is in gray levels of 255 and must be finite and >= 0, got {epsilon}")
    if label not in ("true", "predicted"):
        raise ValueError(f"label is 'true' or 'predicted', got {label!r}")
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, got {steps}")
    if step is not None and not (step > 0 and math.isfinite(step)):
        raise ValueError(f"step is in gray levels of 255 and must be finite and > 0, got {step}")
