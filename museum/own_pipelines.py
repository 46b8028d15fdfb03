"""Everything of ours that mixes, checked in the same way: nothing may be found."""

from __future__ import annotations

import itertools
import os
import tempfile
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

import vicinal
from museum.entry import (
    CLASSES,
    ROWS,
    Entries,
    classes,
    classifier,
    dataset,
    images,
    labeled,
    loader,
    maps,
    named,
    values,
)
from vicinal import Beta, Collate, Dirichlet
from vicinal.pairing import LabelDistance, Nearest, OtherClass, Pairing, RandomPairs, Roll, SameClass

OURS = Entries()

PAIRINGS: dict[str, Pairing] = {
    "RandomPairs()": RandomPairs(),
    "RandomPairs(self_pairs=False)": RandomPairs(self_pairs=False),
    "Roll()": Roll(),
    "SameClass()": SameClass(),
    "OtherClass()": OtherClass(),
    "Nearest(4)": Nearest(4),
}


def entry(name: str, *expects: str) -> Any:
    return OURS.of("vicinal", name, *expects)


def _with_each_pairing(name: str, pairing: Pairing) -> None:
    # twenty rows: each class has two, so that everyone has a partner of its own class
    x, y = images(20), classes(20)

    @entry(f"Mixup(pairing={name})")
    def mixup() -> dict[str, Any]:
        return {"target": vicinal.Mixup(1.0, pairing), "example": (x, y), "alpha": 1.0}

    @entry(f"CutMix(pairing={name})")
    def cutmix() -> dict[str, Any]:
        return {"target": vicinal.CutMix(1.0, pairing=pairing), "example": (x, y)}

    @entry(f"InputMixup(pairing={name}), labels of the larger share on purpose")
    def input_mixup() -> dict[str, Any]:
        target = vicinal.InputMixup(1.0, pairing)
        return {"target": target, "example": (x, y), "alpha": 1.0, "ignore": ("VIC001", "VIC002", "VIC011")}


for _name, _pairing in PAIRINGS.items():
    _with_each_pairing(_name, _pairing)


# -- vicinities -----------------------------------------------------------------------------------------------------------


@entry("Mixup(0.2)")
def mixup() -> dict[str, Any]:
    return {"target": vicinal.Mixup(0.2), "example": labeled(), "alpha": 0.2}


@entry("Mixup(0.2, seed=1)")
def mixup_seeded() -> dict[str, Any]:
    return {"target": vicinal.Mixup(0.2, seed=1), "example": labeled(), "alpha": 0.2}


@entry('Mixup(Beta(0.4, per="example"))')
def mixup_per_example() -> dict[str, Any]:
    return {"target": vicinal.Mixup(Beta(0.4, per="example")), "example": labeled(), "alpha": 0.4}


@entry("Mixup(Beta(0.75, folded=True)), alpha not declared")
def mixup_folded() -> dict[str, Any]:
    return {"target": vicinal.Mixup(Beta(0.75, folded=True)), "example": labeled()}


@entry("Mixup(Dirichlet(1.0, k=3))")
def mixup_three() -> dict[str, Any]:
    return {"target": vicinal.Mixup(Dirichlet(1.0, k=3)), "example": labeled()}


@entry("Mixup, soft labels")
def mixup_soft() -> dict[str, Any]:
    soft = 0.7 * F.one_hot(classes(), CLASSES) + 0.3 * F.one_hot(classes().roll(1), CLASSES)
    return {"target": vicinal.Mixup(1.0), "example": (images(), soft), "alpha": 1.0}


@entry("Mixup(pairing=LabelDistance()), a regression")
def mixup_regression() -> dict[str, Any]:
    target = vicinal.Mixup(1.0, LabelDistance(0.5))
    return {"target": target, "example": (values(ROWS, 20), values(ROWS)), "alpha": 1.0}


@entry("Mixup, segmentation masks")
def mixup_masks() -> dict[str, Any]:
    return {"target": vicinal.Mixup(1.0), "example": (images(), maps(side=32)), "alpha": 1.0}


@entry("Mixup, one-hot segmentation masks")
def mixup_soft_masks() -> dict[str, Any]:
    masks = F.one_hot(maps(side=32), 4).movedim(-1, 1).float()
    return {"target": vicinal.Mixup(1.0), "example": (images(), masks), "alpha": 1.0}


@entry("Mixup, uint8 images")
def mixup_uint8() -> dict[str, Any]:
    example = labeled((images() * 255).to(torch.uint8))

    def transform(x: Tensor, y: Tensor) -> Any:
        return vicinal_mixup(x.float(), y)  # integers are refused: whole numbers are not mixed unasked

    vicinal_mixup = vicinal.Mixup(1.0)
    return {"target": transform, "example": example, "alpha": 1.0, "ignore": ("VIC032",)}


@entry("Mixup, bfloat16 images")
def mixup_bfloat16() -> dict[str, Any]:
    return {"target": vicinal.Mixup(1.0), "example": labeled(images().bfloat16()), "alpha": 1.0}


@entry("Mixup, float16 images, channels last in memory")
def mixup_half() -> dict[str, Any]:
    x = images().half().contiguous(memory_format=torch.channels_last)
    return {"target": vicinal.Mixup(1.0), "example": labeled(x), "alpha": 1.0}


@entry("Mixup, signals [n, channels, time]")
def mixup_signals() -> dict[str, Any]:
    return {"target": vicinal.Mixup(1.0), "example": labeled(values(ROWS, 2, 64)), "alpha": 1.0}


@entry("Mixup, a nest of two inputs")
def mixup_nest() -> dict[str, Any]:
    x = {"image": images(), "depth": values(ROWS, 1, 32, 32)}
    return {"target": vicinal.Mixup(1.0), "example": (x, classes()), "alpha": 1.0}


@entry('CutMix(1.0, per="example")')
def cutmix_per_example() -> dict[str, Any]:
    return {"target": vicinal.CutMix(1.0, per="example"), "example": labeled()}


@entry("CutMix, segmentation masks")
def cutmix_masks() -> dict[str, Any]:
    return {"target": vicinal.CutMix(1.0), "example": (images(), maps(side=32))}


@entry("CutMix, one-hot segmentation masks")
def cutmix_soft_masks() -> dict[str, Any]:
    masks = F.one_hot(maps(side=32), 4).movedim(-1, 1).float()
    return {"target": vicinal.CutMix(1.0), "example": (images(), masks)}


@entry("CutMix, signals [n, channels, time]")
def cutmix_signals() -> dict[str, Any]:
    return {"target": vicinal.CutMix(1.0, dims=1), "example": labeled(values(ROWS, 2, 64))}


@entry("CutMix, token ids [n, time]")
def cutmix_tokens() -> dict[str, Any]:
    tokens = (torch.arange(ROWS * 32) % 1000).view(ROWS, 32)
    return {"target": vicinal.CutMix(1.0, dims=1), "example": (tokens, classes())}


@entry("Choice([Mixup, CutMix])")
def choice() -> dict[str, Any]:
    return {"target": vicinal.Choice([vicinal.Mixup(0.8), vicinal.CutMix(1.0)]), "example": labeled()}


@entry("Choice([Mixup, ERM], p=[0.5, 0.5])")
def choice_half() -> dict[str, Any]:
    target = vicinal.Choice([vicinal.Mixup(1.0), vicinal.ERM()], p=[0.5, 0.5])
    return {"target": target, "example": labeled(), "alpha": 1.0, "p": 0.5}


@entry("Chain([Mixup, LabelSmoothing(0.1)]), smoothing declared")
def chain() -> dict[str, Any]:
    target = vicinal.Chain([vicinal.Mixup(1.0), vicinal.LabelSmoothing(0.1)])

    def transform(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        mixed, labels = target(x, y)
        return mixed, labels.dense(CLASSES)

    return {"target": transform, "example": labeled(), "alpha": 1.0, "smoothing": 0.1}


@entry("Chain([Mixup, CutMix])")
def chain_of_two() -> dict[str, Any]:
    return {"target": vicinal.Chain([vicinal.Mixup(1.0), vicinal.CutMix(1.0)]), "example": labeled()}


@entry("Chain([Mixup, GaussianNoise(0.05)])")
def chain_noise() -> dict[str, Any]:
    target = vicinal.Chain([vicinal.Mixup(1.0), vicinal.GaussianNoise(0.05)])
    return {"target": target, "example": labeled(), "alpha": 1.0}


@entry("GaussianNoise(0.05): nothing mixed is meant")
def noise() -> dict[str, Any]:
    return {"target": vicinal.GaussianNoise(0.05), "example": labeled(), "ignore": ("VIC005",)}


@entry("LabelSmoothing(0.1), declared: nothing mixed is meant")
def smoothing() -> dict[str, Any]:
    target = vicinal.LabelSmoothing(0.1)

    def transform(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        same, labels = target(x, y)
        return same, labels.dense(CLASSES)

    return {"target": transform, "example": labeled(), "smoothing": 0.1, "ignore": ("VIC005",)}


@entry("ERM(): nothing mixed is meant")
def erm() -> dict[str, Any]:
    return {"target": vicinal.ERM(), "example": labeled(), "ignore": ("VIC005",)}


@entry("Scheduled(Mixup, start=0, stop=50), told its epoch")
def scheduled() -> dict[str, Any]:
    target = vicinal.Scheduled(vicinal.Mixup(0.4), start=0, stop=50)
    target.set_epoch(3)
    return {"target": target, "example": labeled(), "alpha": 0.4}


# -- loaders and steps ----------------------------------------------------------------------------------------------------


@entry("Collate(Mixup) in a loader with workers")
def collate() -> dict[str, Any]:
    return {"target": loader(dataset(), Collate(vicinal.Mixup(1.0))), "alpha": 1.0}


@entry("Collate(Mixup) in persistent workers, switched off")
def collate_off() -> dict[str, Any]:
    mixup = vicinal.Mixup(1.0)
    target = loader(dataset(), Collate(mixup), persistent_workers=True)
    return {"target": target, "alpha": 1.0, "off": mixup.off}


@entry("Collate(CutMix) in a loader with workers, rows are mappings with the labels first")
def collate_mapping() -> dict[str, Any]:
    rows = named(labels=classes(64), pixel_values=images(64))
    return {"target": loader(rows, Collate(vicinal.CutMix(1.0)))}


@entry("Collate(Mixup), a short last batch")
def collate_short() -> dict[str, Any]:
    return {"target": loader(dataset(50), Collate(vicinal.Mixup(1.0))), "alpha": 1.0}


@entry("A training step: Mixup and F.cross_entropy")
def step() -> dict[str, Any]:
    model, mixup = classifier(), vicinal.Mixup(1.0)

    def training_step(x: Tensor, y: Tensor) -> Tensor:
        mixed, target = mixup(x, y)
        return F.cross_entropy(model(mixed), target)

    return {"target": training_step, "example": labeled(), "alpha": 1.0}


@entry("A training step: Mixup and F.cross_entropy with class weights")
def step_weights() -> dict[str, Any]:
    model, mixup, weight = classifier(), vicinal.Mixup(1.0), torch.linspace(0.2, 5, CLASSES)

    def training_step(x: Tensor, y: Tensor) -> Tensor:
        mixed, target = mixup(x, y)
        return F.cross_entropy(model(mixed), target, weight=weight)

    return {"target": training_step, "example": labeled(), "alpha": 1.0}


@entry("A training step: LatentMixing at a layer")
def latent() -> dict[str, Any]:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 32), nn.ReLU(), nn.Linear(32, CLASSES))
    latent, mixup, steps = vicinal.LatentMixing(model, "3"), vicinal.Mixup(1.0), itertools.count()

    def training_step(x: Tensor, y: Tensor) -> Tensor:
        with latent(mixup.plan(len(x), y, step=next(steps))) as plan:
            return F.cross_entropy(model(x), plan.target(y))

    return {"target": training_step, "example": labeled(), "alpha": 1.0}


@entry("A training step: LatentMixing at the input")
def latent_input() -> dict[str, Any]:
    model = classifier()
    latent, mixup, steps = vicinal.LatentMixing(model, "0"), vicinal.Mixup(1.0), itertools.count()

    def training_step(x: Tensor, y: Tensor) -> Tensor:
        with latent(mixup.plan(len(x), y, step=next(steps))) as plan:
            return F.cross_entropy(model(x), plan.target(y))

    return {"target": training_step, "example": labeled(), "alpha": 1.0}


# -- integrations ---------------------------------------------------------------------------------------------------------


@entry("integrations.timm.Mixup, mode batch, smoothing declared")
def timm_batch() -> dict[str, Any]:
    from vicinal.integrations.timm import Mixup

    target = Mixup(mixup_alpha=0.8, num_classes=CLASSES)
    return {"target": target, "example": labeled(), "alpha": 0.8, "smoothing": 0.1}


@entry("integrations.timm.Mixup, mode elem, without smoothing")
def timm_elem() -> dict[str, Any]:
    from vicinal.integrations.timm import Mixup

    target = Mixup(mixup_alpha=0.8, mode="elem", label_smoothing=0.0, num_classes=CLASSES)
    return {"target": target, "example": labeled(), "alpha": 0.8}


@entry("integrations.timm.Mixup, both methods, half of the batches")
def timm_both() -> dict[str, Any]:
    from vicinal.integrations.timm import Mixup

    target = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, prob=0.5, label_smoothing=0.0, num_classes=CLASSES)
    return {"target": target, "example": labeled(), "p": 0.5}


@entry("integrations.torchvision.MixUp")
def torchvision_mixup() -> dict[str, Any]:
    from vicinal.integrations.torchvision import MixUp

    return {"target": MixUp(alpha=0.4, num_classes=CLASSES), "example": labeled(), "alpha": 0.4}


@entry("integrations.torchvision.CutMix, in a collate function with workers, labels first")
def torchvision_cutmix() -> dict[str, Any]:
    from torch.utils.data import default_collate

    from vicinal.integrations.torchvision import CutMix

    cutmix = CutMix(num_classes=CLASSES)

    def collate_fn(batch: list[Any]) -> Any:
        return cutmix(default_collate(batch))

    return {"target": loader(named(labels=classes(64), pixel_values=images(64)), collate_fn)}


@entry("integrations.torchvision.MixUp, two inputs in a mapping")
def torchvision_two_inputs() -> dict[str, Any]:
    from vicinal.integrations.torchvision import MixUp

    batch = {"images": images(), "depth": values(ROWS, 1, 32, 32), "labels": classes()}
    return {"target": MixUp(num_classes=CLASSES), "example": batch, "alpha": 1.0}


@entry("integrations.lightning.VicinalCallback in a Trainer")
def lightning() -> dict[str, Any]:
    import lightning as L

    from vicinal.integrations.lightning import VicinalCallback

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = classifier()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return F.cross_entropy(self.net(x), y)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    module = Module()

    def fit(train_loader: DataLoader[Any]) -> None:
        trainer = L.Trainer(
            callbacks=[VicinalCallback(vicinal.Mixup(1.0))],
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, train_loader)

    return {"target": fit, "example": labeled(), "alpha": 1.0}


@entry("integrations.transformers.MixupTrainer")
def transformers() -> dict[str, Any]:
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import TrainingArguments, ViTConfig, ViTForImageClassification

    from vicinal.integrations.transformers import MixupTrainer

    config = ViTConfig(
        image_size=8, patch_size=4, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        num_labels=CLASSES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    arguments = TrainingArguments(
        tempfile.mkdtemp(), per_device_train_batch_size=ROWS, num_train_epochs=1, report_to=[], use_cpu=True,
        disable_tqdm=True, save_strategy="no", logging_strategy="no",
    )  # fmt: skip
    rows = [{"pixel_values": x, "labels": int(y)} for x, y in zip(images(64, 8), classes(64), strict=True)]
    trainer = MixupTrainer(
        ViTForImageClassification(config), arguments, vicinity=vicinal.Mixup(1.0), train_dataset=rows, eval_dataset=rows
    )
    return {"target": trainer, "alpha": 1.0}


@entry("integrations.skorch.VicinalMixin, by partial_fit")
def skorch() -> dict[str, Any]:
    from skorch import NeuralNetClassifier

    from vicinal.integrations.skorch import VicinalMixin

    class Net(VicinalMixin, NeuralNetClassifier):
        pass

    net = Net(
        classifier,
        vicinity=vicinal.Mixup(1.0),
        criterion=nn.CrossEntropyLoss,
        batch_size=-1,
        train_split=None,
        verbose=0,
    )
    net.initialize()

    def training_step(x: Tensor, y: Tensor) -> None:
        net.partial_fit(x, y, epochs=1)

    return {"target": training_step, "example": labeled(), "alpha": 1.0}
