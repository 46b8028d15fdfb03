"""timm's `Mixup` by one changed import: `from vicinal.integrations.timm import Mixup`. It needs nothing of timm.

What is not as in timm: partners are a random permutation of the batch, where timm takes the batch in reverse, so that rows
i and n - 1 - i always meet; batches of odd size are fine; inputs are not changed in place; a draw depends on the seed, the
rank and the number of the batch, and on no global generator. With the same partners and lambda, images and labels are
timm's.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from vicinal import vicinities
from vicinal._checks import Per, check_count, check_number
from vicinal.compose import Choice
from vicinal.target import MixedTarget
from vicinal.vicinity import Vicinity
from vicinal.weighting import Beta


class TimmMixup:
    """Mixup, CutMix or both by timm's arguments, with the dense labels that its losses take.

    Call it in training only, as timm's: `images, labels = mixup_fn(images, labels)`. With `mixup_enabled = False` images are
    not mixed; labels are dense and smoothed all the same, as in timm.

    Args:
        mixup_alpha: of mixup's Beta distribution; 0: no mixup.
        cutmix_alpha: of CutMix's; 0: no CutMix. With both, each batch has one of them.
        cutmix_minmax: not supported, None.
        prob: probability that a batch is mixed.
        switch_prob: probability of CutMix in place of mixup, where both are on.
        mode: "batch": one lambda per batch; "elem": per example, of one method at `prob` 1.
        correct_lam: True: labels are mixed by the area of CutMix's box.
        label_smoothing: as of timm, eps / num_classes for each class, and 1 - eps more for the label.
        num_classes: width of the labels.
        multi_label: True: targets are 0/1 labels [n, num_classes], each smoothed toward 0.5, as in timm.
        seed: of the draws; None: it follows `torch.manual_seed`.

    Convention:
        dimension 0: the rows of the batch, of inputs and targets alike.
        lambda: the share that a row keeps of itself; its partner has 1 - lambda; the labels have the same.
        one draw: one lambda per batch, or per example with `mode="elem"`; one partner per row.

    Raises:
        ValueError: both alphas are 0; the probabilities lie outside of [0, 1]; the combination is not supported (see above).

    Examples:
        >>> import torch
        >>> mixup_fn = TimmMixup(mixup_alpha=0.8, num_classes=10, seed=0)
        >>> images, labels = mixup_fn(torch.rand(5, 3, 8, 8), torch.arange(5))
        >>> images.shape, labels.shape, labels.dtype
        (torch.Size([5, 3, 8, 8]), torch.Size([5, 10]), torch.float32)

    Source: Zhang et al. 2018, section 2; Yun et al. 2019 for CutMix.

    """

    def __init__(
        self,
        mixup_alpha: float = 1.0,
        cutmix_alpha: float = 0.0,
        cutmix_minmax: tuple[float, float] | None = None,
        prob: float = 1.0,
        switch_prob: float = 0.5,
        mode: str = "batch",
        correct_lam: bool = True,
        label_smoothing: float = 0.1,
        num_classes: int = 1000,
        multi_label: bool = False,
        *,
        seed: int | None = None,
    ) -> None:
        _check(mixup_alpha, cutmix_alpha, cutmix_minmax, prob, switch_prob, mode, correct_lam)
        check_count("num_classes", num_classes, 1, "the columns of labels")
        self.vicinity = _vicinity(mixup_alpha, cutmix_alpha, prob, switch_prob, mode, seed)
        self.label_smoothing, self.num_classes, self.multi_label = label_smoothing, num_classes, multi_label

    @property
    def mixup_enabled(self) -> bool:
        """Mix or not, from the next batch on, in persistent DataLoader workers too."""
        return self.vicinity.state.on

    @mixup_enabled.setter
    def mixup_enabled(self, enabled: bool) -> None:
        self.vicinity.on() if enabled else self.vicinity.off()

    def __call__(
        self, x: Tensor, target: Tensor, *, step: int | None = None, epoch: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            x: images [n, channels, height, width], floating point.
            target: class indices [n]; with `multi_label`, 0/1 labels [n, num_classes].
            step: number of the batch, which then decides the draw: a run that resumes goes on with the draws it would
                have had. None: batches are counted.
            epoch: as of `Vicinity.__call__`.

        Returns:
            Mixed images, and labels float32 [n, num_classes].

        Raises:
            ValueError: targets are of another form, or a class index lies outside of [0, num_classes).

        """
        if not isinstance(x, Tensor) or not isinstance(target, Tensor):
            raise TypeError(f"images and targets are tensors, got {type(x).__name__} and {type(target).__name__}")
        if self.multi_label:
            mixed, labels = self.vicinity(x, self._multi_label(target), step=step, epoch=epoch)
            return mixed, labels
        if target.ndim != 1 or target.is_floating_point():
            raise ValueError(
                f"target holds class indices [n], got {target.dtype} {list(target.shape)}: several labels per image need "
                "multi_label=True, soft labels vicinal.Mixup"
            )
        mixed, y = self.vicinity(x, target, step=step, epoch=epoch)
        assert isinstance(y, MixedTarget)
        return mixed, y.smoothed(self.label_smoothing).dense(self.num_classes)

    def _multi_label(self, target: Tensor) -> Tensor:
        """Return 0/1 labels as numbers, smoothed."""
        if target.ndim != 2 or target.shape[1] != self.num_classes:
            raise ValueError(f"with multi_label, target is [n, {self.num_classes}], got {list(target.shape)}")
        return target.float() * (1 - self.label_smoothing) + 0.5 * self.label_smoothing


Mixup = TimmMixup  # timm's name


def _check(
    mixup_alpha: float,
    cutmix_alpha: float,
    cutmix_minmax: tuple[float, float] | None,
    prob: float,
    switch_prob: float,
    mode: str,
    correct_lam: bool,
) -> None:
    """Refuse what would be another thing than in timm."""
    for name, alpha in (("mixup_alpha", mixup_alpha), ("cutmix_alpha", cutmix_alpha)):
        check_number(name, alpha)
    if min(mixup_alpha, cutmix_alpha) < 0 or max(mixup_alpha, cutmix_alpha) == 0:
        raise ValueError(f"mixup_alpha or cutmix_alpha is above 0, got {mixup_alpha} and {cutmix_alpha}")
    for name, value in (("prob", prob), ("switch_prob", switch_prob)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is a probability, got {value}")
    if cutmix_minmax is not None:
        raise ValueError("cutmix_minmax is not supported: boxes are drawn by cutmix_alpha")
    if not correct_lam:
        raise ValueError("correct_lam=False is not supported: labels are mixed by the area that images are mixed by")
    if mode not in ("batch", "elem"):
        raise ValueError(f'mode is "batch" or "elem", got {mode!r}')
    if mode == "elem" and (prob < 1 or (mixup_alpha and cutmix_alpha)):
        raise ValueError('mode="elem" goes with one of mixup_alpha and cutmix_alpha, and with prob=1')


def _vicinity(
    mixup_alpha: float, cutmix_alpha: float, prob: float, switch_prob: float, mode: str, seed: int | None
) -> Vicinity:
    per: Per = "example" if mode == "elem" else "batch"
    parts: list[tuple[Vicinity, float]] = []
    if mixup_alpha:
        alpha = Beta(mixup_alpha, per=per)
        parts.append((vicinities.Mixup(alpha), prob * (1 - switch_prob if cutmix_alpha else 1)))
    if cutmix_alpha:
        cutmix = vicinities.CutMix(cutmix_alpha, per=per)
        parts.append((cutmix, prob * (switch_prob if mixup_alpha else 1)))
    if prob < 1:
        parts.append((vicinities.ERM(), 1 - prob))
    chosen = [(part, share) for part, share in parts if share > 0]
    if len(chosen) == 1:
        return replace(chosen[0][0], seed=seed)
    return Choice([part for part, _ in chosen], [share for _, share in chosen], seed=seed)
