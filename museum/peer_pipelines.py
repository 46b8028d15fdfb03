"""The packages of the field, each as its own documentation shows it: what is checked, and what is expected to be found.

What is expected was written down before anything was checked, from reading each package and running it by hand. Nothing is
imported before its entry is built: a package may be missing.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, StackDataset, default_collate

from museum.entry import (
    CLASSES,
    ROWS,
    Entries,
    classes,
    classifier,
    dataset,
    images,
    labeled,
    levels,
    loader,
    maps,
    named,
    one_hot,
    values,
)

PEERS = Entries()

# -- timm -----------------------------------------------------------------------------------------------------------------

# smoothing of 0.1 is its default; the batch is mixed in place; batches of odd size are refused
TIMM = ("VIC012", "VIC031", "VIC036")


@PEERS.of("timm", "Mixup, mode batch", *TIMM)
def timm_batch() -> dict[str, Any]:
    from timm.data import Mixup

    return {"target": Mixup(mixup_alpha=0.8, num_classes=CLASSES), "example": labeled(), "alpha": 0.8}


@PEERS.of("timm", "Mixup, mode pair", *TIMM)
def timm_pair() -> dict[str, Any]:
    from timm.data import Mixup

    return {"target": Mixup(mixup_alpha=0.8, mode="pair", num_classes=CLASSES), "example": labeled(), "alpha": 0.8}


@PEERS.of("timm", "Mixup, mode elem", *TIMM)
def timm_elem() -> dict[str, Any]:
    from timm.data import Mixup

    return {"target": Mixup(mixup_alpha=0.8, mode="elem", num_classes=CLASSES), "example": labeled(), "alpha": 0.8}


@PEERS.of("timm", "Mixup, CutMix alone", *TIMM)
def timm_cutmix() -> dict[str, Any]:
    from timm.data import Mixup

    return {"target": Mixup(mixup_alpha=0.0, cutmix_alpha=1.0, num_classes=CLASSES), "example": labeled()}


@PEERS.of("timm", "Mixup, CutMix alone, correct_lam=False", "VIC001", *TIMM)
def timm_cutmix_uncorrected() -> dict[str, Any]:
    from timm.data import Mixup

    target = Mixup(mixup_alpha=0.0, cutmix_alpha=1.0, correct_lam=False, num_classes=CLASSES)
    return {"target": target, "example": labeled()}


@PEERS.of("timm", "Mixup, both methods, as DeiT trains", *TIMM)
def timm_both() -> dict[str, Any]:
    from timm.data import Mixup

    return {"target": Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=CLASSES), "example": labeled()}


@PEERS.of("timm", "Mixup, its smoothing declared", "VIC031", "VIC036")
def timm_declared() -> dict[str, Any]:
    from timm.data import Mixup

    target = Mixup(mixup_alpha=0.8, num_classes=CLASSES)
    return {"target": target, "example": labeled(), "alpha": 0.8, "smoothing": 0.1}


@PEERS.of("timm", "Mixup, mode elem, bfloat16 images", "VIC015", *TIMM)
def timm_bfloat16() -> dict[str, Any]:
    from timm.data import Mixup

    return {"target": Mixup(mode="elem", num_classes=CLASSES), "example": labeled(images().bfloat16()), "alpha": 1.0}


@PEERS.of("timm", "Mixup, mode elem, uint8 images", "VIC001|VIC005", *TIMM, confirmed=("VIC035",))
def timm_uint8() -> dict[str, Any]:
    from timm.data import Mixup

    return {"target": Mixup(mode="elem", num_classes=CLASSES), "example": labeled(levels()), "alpha": 1.0}


@PEERS.of("timm", "Mixup, one-hot labels without multi_label", "VIC013", "VIC031", "VIC036")
def timm_one_hot() -> dict[str, Any]:
    from timm.data import Mixup

    return {"target": Mixup(num_classes=CLASSES), "example": (images(), one_hot()), "smoothing": 0.1}


@PEERS.of("timm", "Mixup, float targets of a regression", "VIC011|VIC013", "VIC031", "VIC036")
def timm_regression() -> dict[str, Any]:
    from timm.data import Mixup

    return {"target": Mixup(num_classes=CLASSES), "example": (images(), values(ROWS) * 9), "smoothing": 0.1}


@PEERS.of("timm", "Mixup, several labels per image, multi_label=True", "VIC031", "VIC036")
def timm_multi_label() -> dict[str, Any]:
    from timm.data import Mixup

    several = (one_hot() + one_hot().roll(1, 0) + one_hot().roll(3, 1)).clamp(max=1)
    target = Mixup(mixup_alpha=0.8, label_smoothing=0.0, num_classes=CLASSES, multi_label=True)
    return {"target": target, "example": (images(), several), "alpha": 0.8}


@PEERS.of("timm", "FastCollateMixup in persistent workers, switched off", "VIC012", "VIC041")
def timm_workers() -> dict[str, Any]:
    from timm.data import FastCollateMixup

    collate = FastCollateMixup(mixup_alpha=0.8, num_classes=CLASSES)

    def off() -> None:
        collate.mixup_enabled = False

    # its create_loader keeps the workers and drops the last, short batch of an epoch
    target = loader(uint8_dataset(), collate, persistent_workers=True, drop_last=True)
    return {"target": target, "alpha": 0.8, "off": off}


@PEERS.of("timm", "FastCollateMixup, mode pair, CutMix, dataset in memory", "VIC012", "VIC030")
def timm_pair_collate() -> dict[str, Any]:
    from timm.data import FastCollateMixup

    collate = FastCollateMixup(mixup_alpha=0.0, cutmix_alpha=1.0, mode="pair", num_classes=CLASSES)
    return {"target": loader(uint8_dataset(), collate, num_workers=0, drop_last=True)}


def uint8_dataset() -> StackDataset[Any]:
    """Return the rows that timm's collate functions take: NumPy's uint8, channels first."""
    return StackDataset(list(levels(64).numpy()), classes(64).tolist())


# -- torchvision ----------------------------------------------------------------------------------------------------------


@PEERS.of("torchvision", "v2.MixUp after the loader")
def torchvision_mixup() -> dict[str, Any]:
    from torchvision.transforms import v2

    return {"target": v2.MixUp(alpha=0.4, num_classes=CLASSES), "example": labeled(), "alpha": 0.4}


@PEERS.of("torchvision", "v2.CutMix after the loader")
def torchvision_cutmix() -> dict[str, Any]:
    from torchvision.transforms import v2

    return {"target": v2.CutMix(num_classes=CLASSES), "example": labeled()}


@PEERS.of("torchvision", "RandomChoice([CutMix, MixUp]) in a collate function with workers")
def torchvision_collate() -> dict[str, Any]:
    from torchvision.transforms import v2

    either = v2.RandomChoice([v2.CutMix(num_classes=CLASSES), v2.MixUp(num_classes=CLASSES)])

    def collate_fn(batch: list[Any]) -> Any:
        return either(*default_collate(batch))

    return {"target": loader(dataset(), collate_fn)}


@PEERS.of("torchvision", "v2.MixUp, a mapping with the images first")
def torchvision_images_first() -> dict[str, Any]:
    from torchvision.transforms import v2

    return {"target": v2.MixUp(num_classes=CLASSES), "example": {"images": images(), "labels": classes()}, "alpha": 1.0}


@PEERS.of("torchvision", "v2.MixUp, a mapping with the labels first, as default_data_collator makes it", "VIC003")
def torchvision_labels_first() -> dict[str, Any]:
    from torchvision.transforms import v2

    rows = named(labels=classes(64), pixel_values=images(64))
    mixup = v2.MixUp(num_classes=CLASSES)

    def collate_fn(batch: list[Any]) -> Any:
        return mixup(default_collate(batch))

    return {"target": loader(rows, collate_fn), "alpha": 1.0}


@PEERS.of("torchvision", "v2.MixUp, two inputs in a mapping", "VIC004")
def torchvision_two_inputs() -> dict[str, Any]:
    from torchvision.transforms import v2

    batch = {"images": images(), "depth": values(ROWS, 1, 32, 32), "labels": classes()}
    return {"target": v2.MixUp(num_classes=CLASSES), "example": batch, "alpha": 1.0}


# -- kornia ---------------------------------------------------------------------------------------------------------------


def kornia_loss(y: Tensor, logits: Tensor) -> Tensor:
    """Compute the loss that the documentation of RandomMixUpV2 gives; lambda is the partner's share."""
    own = F.cross_entropy(logits, y[:, 0].long(), reduction="none")
    partner = F.cross_entropy(logits, y[:, 1].long(), reduction="none")
    return ((1 - y[:, 2]) * own + y[:, 2] * partner).mean()


def kornia_step(augmentation: Any, model: nn.Module, loss: Any) -> Any:
    """Return a training step."""

    def step(x: Tensor, y: Tensor) -> Tensor:
        mixed, labels = augmentation(x, y)
        return loss(labels.view(-1, 3), model(mixed))  # CutMix returns [1, n, 3]

    return step


@PEERS.of("kornia", "RandomMixUpV2 with the loss of its documentation")
def kornia_mixup() -> dict[str, Any]:
    import kornia.augmentation as K

    mixup = K.RandomMixUpV2(data_keys=["input", "class"])
    return {"target": kornia_step(mixup, classifier(), kornia_loss), "example": labeled()}


@PEERS.of("kornia", "RandomMixUpV2, half of the batches")
def kornia_half() -> dict[str, Any]:
    import kornia.augmentation as K

    mixup = K.RandomMixUpV2(p=0.5, data_keys=["input", "class"])
    return {"target": kornia_step(mixup, classifier(), kornia_loss), "example": labeled(), "p": 0.5}


@PEERS.of("kornia", "RandomCutMixV2 as it is, with the loss of RandomMixUpV2's documentation")
def kornia_cutmix() -> dict[str, Any]:
    import kornia.augmentation as K

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the default of use_correct_lambda
        cutmix = K.RandomCutMixV2(data_keys=["input", "class"])
    return {"target": kornia_step(cutmix, classifier(), kornia_loss), "example": labeled()}


@PEERS.of("kornia", "RandomCutMixV2(use_correct_lambda=True), with the same loss", "VIC001")
def kornia_cutmix_correct() -> dict[str, Any]:
    import kornia.augmentation as K

    cutmix = K.RandomCutMixV2(data_keys=["input", "class"], use_correct_lambda=True)
    return {"target": kornia_step(cutmix, classifier(), kornia_loss), "example": labeled()}


@PEERS.of("kornia", "RandomCutMixV2(use_correct_lambda=True), with the loss of the CutMix paper")
def kornia_cutmix_paper() -> dict[str, Any]:
    import kornia.augmentation as K

    def loss(y: Tensor, logits: Tensor) -> Tensor:
        own = F.cross_entropy(logits, y[:, 0].long(), reduction="none")
        partner = F.cross_entropy(logits, y[:, 1].long(), reduction="none")
        return (y[:, 2] * own + (1 - y[:, 2]) * partner).mean()

    cutmix = K.RandomCutMixV2(data_keys=["input", "class"], use_correct_lambda=True)
    return {"target": kornia_step(cutmix, classifier(), loss), "example": labeled()}


@PEERS.of("kornia", "RandomMixUpV2 on signals [n, channels, time]", "VIC005|VIC003")
def kornia_signals() -> dict[str, Any]:
    import kornia.augmentation as K

    mixup = K.RandomMixUpV2(data_keys=["input"])

    def transform(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return mixup(x).view_as(x), y  # it returns [1, n, channels, time]

    return {"target": transform, "example": labeled(values(ROWS, 2, 64))}


# -- MONAI ----------------------------------------------------------------------------------------------------------------


@PEERS.of("monai", "MixUp of images and one-hot masks", "VIC036")
def monai_masks() -> dict[str, Any]:
    from monai.transforms.regularization.array import MixUp

    masks = F.one_hot(maps(side=32), 4).movedim(-1, 1).float()
    target = MixUp(batch_size=ROWS, alpha=0.4)
    return {"target": target, "example": (images(), masks), "alpha": 0.4, "kind": "transform"}


@PEERS.of("monai", "MixUp of images and masks of whole numbers", "VIC010|VIC011", "VIC036")
def monai_integer_masks() -> dict[str, Any]:
    from monai.transforms.regularization.array import MixUp

    masks = maps(side=32).unsqueeze(1)
    target = MixUp(batch_size=ROWS, alpha=0.4)
    return {"target": target, "example": (images(), masks), "alpha": 0.4, "kind": "transform"}


@PEERS.of("monai", "CutMix of images and one-hot labels", "VIC001|VIC002", "VIC036")
def monai_cutmix() -> dict[str, Any]:
    from monai.transforms.regularization.array import CutMix

    target = CutMix(batch_size=ROWS, alpha=0.5)
    return {"target": target, "example": (images(), one_hot()), "kind": "transform"}


@PEERS.of("monai", "CutMix of images and one-hot masks", "VIC036")
def monai_cutmix_masks() -> dict[str, Any]:
    from monai.transforms.regularization.array import CutMix

    masks = F.one_hot(maps(side=32), 4).movedim(-1, 1).float()
    target = CutMix(batch_size=ROWS, alpha=0.5)
    return {"target": target, "example": (images(), masks), "kind": "transform"}


@PEERS.of("monai", "CutMixd of images and one-hot labels", "VIC001|VIC002", "VIC036")
def monai_cutmixd() -> dict[str, Any]:
    from monai.transforms.regularization.dictionary import CutMixd

    target = CutMixd(keys=["image"], label_keys=["label"], batch_size=ROWS, alpha=0.5)
    return {"target": target, "example": {"image": images(), "label": one_hot()}, "kind": "transform"}


@PEERS.of("monai", "MixUpd in a collate function with workers", "VIC022", "VIC023")
def monai_workers() -> dict[str, Any]:
    from monai.transforms.regularization.dictionary import MixUpd

    masks = F.one_hot(maps(64, side=32), 4).movedim(-1, 1).float()
    mixup = MixUpd(keys=["image", "label"], batch_size=ROWS, alpha=1.0)

    def collate_fn(batch: list[Any]) -> Any:
        return mixup(default_collate(batch))

    target = loader(named(image=images(64), label=masks), collate_fn, drop_last=True)
    return {"target": target, "alpha": 1.0}


# -- Keras ----------------------------------------------------------------------------------------------------------------


def keras_images() -> Tensor:
    """Return images as Keras takes them, channels last."""
    return values(ROWS, 32, 32, 3)


@PEERS.of("keras", "layers.MixUp, one-hot labels")
def keras_mixup() -> dict[str, Any]:
    import keras

    example = {"images": keras_images(), "labels": one_hot()}
    return {"target": keras.layers.MixUp(alpha=0.2), "example": example, "alpha": 0.2}


@PEERS.of("keras", "layers.MixUp, class indices [n]", "VIC013|VIC010")
def keras_indices() -> dict[str, Any]:
    import keras

    example = {"images": keras_images(), "labels": classes()}
    return {"target": keras.layers.MixUp(alpha=0.2), "example": example, "alpha": 0.2}


@PEERS.of("keras", "layers.MixUp, segmentation masks", "VIC001|VIC004|VIC013")
def keras_masks() -> dict[str, Any]:
    import keras

    example = {"images": keras_images(), "segmentation_masks": maps(side=32).unsqueeze(-1)}
    return {"target": keras.layers.MixUp(alpha=0.2), "example": example, "alpha": 0.2}


# the box has no whole number of pixels and the label has its area: in 41% of 2784 rows of 32 x 32 they were more than 0.01
# apart, at most 0.062
@PEERS.of("keras", "layers.CutMix, one-hot labels", confirmed=("VIC001",))
def keras_cutmix() -> dict[str, Any]:
    import keras

    example = {"images": keras_images(), "labels": one_hot()}
    return {"target": keras.layers.CutMix(), "example": example}


# -- fastai ---------------------------------------------------------------------------------------------------------------


def fastai_fit(loss: Any, *callbacks: Any) -> Any:
    """Return a function that trains a Learner for an epoch."""
    from fastai.learner import Learner
    from fastai.vision.all import DataLoaders

    model = classifier()

    def fit(train_loader: DataLoader[Any]) -> None:
        plain = DataLoader(dataset(ROWS), batch_size=ROWS)
        learner = Learner(DataLoaders(train_loader, plain), model, loss_func=loss, cbs=callbacks)
        with learner.no_bar(), learner.no_logging():
            learner.fit(1, lr=0.01)

    return fit


# lambda is folded: a row keeps at least half of itself; a last batch of one example ends the training
@PEERS.of("fastai", "MixUp in a Learner", "VIC020", "VIC036")
def fastai_mixup() -> dict[str, Any]:
    from fastai.vision.all import CrossEntropyLossFlat, MixUp

    return {"target": fastai_fit(CrossEntropyLossFlat(), MixUp(0.4)), "example": labeled(), "alpha": 0.4}


@PEERS.of("fastai", "MixUp in a Learner, class weights", "VIC020", "VIC036", "VIC051")
def fastai_weights() -> dict[str, Any]:
    from fastai.vision.all import CrossEntropyLossFlat, MixUp

    loss = CrossEntropyLossFlat(weight=torch.linspace(0.2, 5, CLASSES))
    return {"target": fastai_fit(loss, MixUp(0.4)), "example": labeled(), "alpha": 0.4}


@PEERS.of("fastai", "CutMix in a Learner")
def fastai_cutmix() -> dict[str, Any]:
    from fastai.vision.all import CrossEntropyLossFlat, CutMix

    return {"target": fastai_fit(CrossEntropyLossFlat(), CutMix(1.0)), "example": labeled()}


# -- TorchUncertainty -----------------------------------------------------------------------------------------------------


@PEERS.of("torch-uncertainty", "Mixup")
def uncertainty_mixup() -> dict[str, Any]:
    from torch_uncertainty.transforms import Mixup

    return {"target": Mixup(alpha=1.0, num_classes=CLASSES), "example": labeled(), "alpha": 1.0}


@PEERS.of("torch-uncertainty", "Mixup, float16 images", "VIC032")
def uncertainty_half() -> dict[str, Any]:
    from torch_uncertainty.transforms import Mixup

    return {"target": Mixup(alpha=1.0, num_classes=CLASSES), "example": labeled(images().half()), "alpha": 1.0}


@PEERS.of("torch-uncertainty", "RegMixup")
def uncertainty_regmixup() -> dict[str, Any]:
    from torch_uncertainty.transforms import RegMixup

    return {"target": RegMixup(alpha=20.0, num_classes=CLASSES), "example": labeled(), "alpha": 20.0}


@PEERS.of("torch-uncertainty", "MixupMP")
def uncertainty_mixupmp() -> dict[str, Any]:
    from torch_uncertainty.transforms.mixup import MixupMP

    return {"target": MixupMP(alpha=1.0, num_classes=CLASSES), "example": labeled(), "alpha": 1.0}


@PEERS.of("torch-uncertainty", "MixupIO, which mixes inputs alone on purpose")
def uncertainty_mixupio() -> dict[str, Any]:
    from torch_uncertainty.transforms import MixupIO

    target = MixupIO(alpha=1.0, num_classes=CLASSES)
    return {"target": target, "example": labeled(), "alpha": 1.0, "ignore": ("VIC001", "VIC002", "VIC011")}


@PEERS.of("torch-uncertainty", 'ClassificationRoutine, mixtype "mixup"')
def uncertainty_routine() -> dict[str, Any]:
    return {"target": routine("mixup"), "example": labeled(), "alpha": 1.0}


@PEERS.of("torch-uncertainty", 'ClassificationRoutine, mixtype "regmixup"')
def uncertainty_routine_regmixup() -> dict[str, Any]:
    return {"target": routine("regmixup"), "example": labeled(), "alpha": 1.0}


@PEERS.of("torch-uncertainty", 'ClassificationRoutine, mixtype "timm"', *TIMM)
def uncertainty_timm() -> dict[str, Any]:
    return {"target": routine("timm"), "example": labeled(), "alpha": 1.0}


def routine(mixtype: str) -> Any:
    """Return TorchUncertainty's LightningModule."""
    from torch_uncertainty.routines import ClassificationRoutine

    model = classifier()
    return ClassificationRoutine(
        model=model,
        num_classes=CLASSES,
        loss=nn.CrossEntropyLoss(),
        optim_recipe=torch.optim.SGD(model.parameters(), lr=0.01),
        mixup_params={"mixtype": mixtype, "mixup_alpha": 1.0},
    )


# -- torch-audiomentations ------------------------------------------------------------------------------------------------


def audio_mix(**options: Any) -> Any:
    """Return a transform by `Mix`, of waveforms [n, 1, time] and targets [n, 1, 1, classes]."""
    from torch_audiomentations.augmentations.mix import Mix

    mix = Mix(output_type="dict", sample_rate=16000, **options)

    def transform(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        mixed = mix(samples=x, targets=y[:, None, None])
        return mixed.samples, mixed.targets[:, 0, 0]

    return transform


def waveforms() -> Tensor:
    """Return waveforms around zero."""
    return values(ROWS, 1, 4000) * 2 - 1


# it adds another signal by a signal-to-noise ratio; labels are joined, for tagging, or left as they are
@PEERS.of("torch-audiomentations", 'Mix, targets "union"', "VIC006", "VIC007")
def audio_union() -> dict[str, Any]:
    return {"target": audio_mix(p=1.0), "example": (waveforms(), one_hot())}


@PEERS.of("torch-audiomentations", 'Mix, targets "original"', "VIC006", "VIC002")
def audio_original() -> dict[str, Any]:
    return {"target": audio_mix(p=1.0, mix_target="original"), "example": (waveforms(), one_hot())}


# -- mixup, of PyPI -------------------------------------------------------------------------------------------------------


@PEERS.of("mixup", "VanillaMixUp, one-hot labels")
def pypi_vanilla() -> dict[str, Any]:
    from mixup import VanillaMixUp

    return {"target": VanillaMixUp(alpha=1.0), "example": (images(), one_hot()), "alpha": 1.0}


@PEERS.of("mixup", "VanillaMixUp, half of the batches")
def pypi_half() -> dict[str, Any]:
    from mixup import VanillaMixUp

    target = VanillaMixUp(alpha=1.0, probability=0.5)
    return {"target": target, "example": (images(), one_hot()), "alpha": 1.0, "p": 0.5}


@PEERS.of("mixup", "VanillaMixUp, class indices", "VIC010")
def pypi_indices() -> dict[str, Any]:
    from mixup import VanillaMixUp

    return {"target": VanillaMixUp(alpha=1.0), "example": labeled(), "alpha": 1.0}


@PEERS.of("mixup", "VanillaMixUp, uint8 images", "VIC005|VIC020|VIC021")
def pypi_uint8() -> dict[str, Any]:
    from mixup import VanillaMixUp

    return {"target": VanillaMixUp(alpha=1.0), "example": (levels(), one_hot()), "alpha": 1.0}


@PEERS.of("mixup", "VanillaMixUp, bfloat16 images", "VIC015")
def pypi_bfloat16() -> dict[str, Any]:
    from mixup import VanillaMixUp

    return {"target": VanillaMixUp(alpha=1.0), "example": (images().bfloat16(), one_hot()), "alpha": 1.0}


@PEERS.of("mixup", "CutMix, one-hot labels")
def pypi_cutmix() -> dict[str, Any]:
    from mixup import CutMix

    return {"target": CutMix(alpha=1.0), "example": (images(), one_hot())}


@PEERS.of("mixup", "ResizeMix, one-hot labels")
def pypi_resizemix() -> dict[str, Any]:
    from mixup import ResizeMix

    return {"target": ResizeMix(alpha=1.0), "example": (images(), one_hot())}


@PEERS.of("mixup", "FMix, one-hot labels")
def pypi_fmix() -> dict[str, Any]:
    from mixup import FMix

    return {"target": FMix(alpha=1.0, decay_power=3.0), "example": (images(), one_hot())}


@PEERS.of("mixup", "SaliencyMix, one-hot labels", "VIC013")
def pypi_saliencymix() -> dict[str, Any]:
    from mixup import SaliencyMix

    return {"target": SaliencyMix(alpha=1.0, mode="heuristic"), "example": (images(), one_hot())}


@PEERS.of("mixup", "PuzzleMix, one-hot labels")
def pypi_puzzlemix() -> dict[str, Any]:
    from mixup import PuzzleMix

    return {"target": PuzzleMix(alpha=1.0, mode="heuristic", block_size=4), "example": (images(), one_hot())}


@PEERS.of("mixup", "MixupPipeline of VanillaMixUp and CutMix")
def pypi_pipeline() -> dict[str, Any]:
    from mixup import CutMix, MixupPipeline, VanillaMixUp

    return {"target": MixupPipeline([VanillaMixUp(alpha=1.0), CutMix(alpha=1.0)]), "example": (images(), one_hot())}


# -- mlxops-aug -----------------------------------------------------------------------------------------------------------


def augmented(augmentation: Any) -> Any:
    """Return a transform by an augmentation of mlxops-aug."""

    def transform(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return augmentation.get_x_y(augmentation(x, y))

    return transform


@PEERS.of("mlxops-aug", "CutMixUp of half of the batches", "VIC013")
def mlxops_cutmixup() -> dict[str, Any]:
    from mlxops_aug import CutMixUp

    config = {"use_cutmix": True, "use_mixup": True, "alpha": 1.0, "prob": 0.5}
    return {"target": augmented(CutMixUp(num_classes=CLASSES, config=config)), "example": labeled(), "p": 0.5}


@PEERS.of("mlxops-aug", "CutMixUp of half of the batches, soft labels", "VIC011|VIC013")
def mlxops_soft() -> dict[str, Any]:
    from mlxops_aug import CutMixUp

    config = {"use_cutmix": False, "use_mixup": True, "alpha": 1.0, "prob": 0.5}
    soft = 0.7 * one_hot() + 0.3 * one_hot().roll(1, 0)
    return {"target": augmented(CutMixUp(num_classes=CLASSES, config=config)), "example": (images(), soft), "p": 0.5}


@PEERS.of("mlxops-aug", "ResizeMix", "VIC031")
def mlxops_resizemix() -> dict[str, Any]:
    from mlxops_aug import ResizeMix

    return {"target": augmented(ResizeMix(num_classes=CLASSES, config={})), "example": labeled()}


# it relabels towards rare classes on purpose; the shares of each row meet a loss that is a mean already
@PEERS.of("mlxops-aug", "ReMix with its loss, rare and frequent classes", "VIC001|VIC050")
def mlxops_remix() -> dict[str, Any]:
    from mlxops_aug import ReMix

    remix = ReMix(num_classes=CLASSES, config={"k_majority": 3, "tau": 0.5, "alpha": 1.0})
    remix.cls_num_list = [500 // (1 + index) for index in range(CLASSES)]
    model, criterion = classifier(), nn.CrossEntropyLoss()

    def step(x: Tensor, y: Tensor) -> Tensor:
        result = remix(x, y)
        return remix.get_loss(model(result.augmented_x), result, criterion)

    return {"target": step, "example": labeled()}
