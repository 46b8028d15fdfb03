"""Two processes of Hugging Face's Trainer: rows, draws and weights; accumulated, resumed, and mixed by a collator."""

import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from transformers import Trainer, default_data_collator

import vicinal
from stacks.test_mixup_trainer import CLASSES, MIXUP, arguments, images, net, vit
from vicinal.integrations.transformers import MixupTrainer

folder = Path(sys.argv[1])
ROWS, BATCH = 48, 4  # each process takes six batches, which are an update of four and one of two


class RecordingTrainer(MixupTrainer):
    """Keeps plain batches and the labels that the model is given."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.plain, self.mixed = [], []
        self.model.register_forward_pre_hook(self._keep, with_kwargs=True)

    def training_step(self, model, inputs, *others, **more):
        self.plain.append((inputs["pixel_values"], inputs["labels"]))
        return super().training_step(model, inputs, *others, **more)

    def _keep(self, module, args, named):
        self.mixed.append((named["pixel_values"], named["labels"].dense(CLASSES)))


def trained(model, name, resume=None, **more):
    made = arguments(folder / name, per_device_train_batch_size=BATCH, **more)
    trainer = RecordingTrainer(model, made, train_dataset=images(ROWS), vicinity=MIXUP)
    loader = trainer.get_train_dataloader()
    trainer.train(resume_from_checkpoint=resume)
    return {
        "plain": trainer.plain,
        "mixed": trainer.mixed,
        "weights": [p.detach() for p in model.parameters()],
        "is_loader": isinstance(loader, DataLoader),
    }


def of_a_collator():
    """Train by a collator that mixes; return the pixels it was given."""
    seen = []

    def recording(rows):
        batch = default_data_collator(rows)
        seen.append(batch["pixel_values"])
        return batch

    made = arguments(folder / "collator", per_device_train_batch_size=BATCH)
    Trainer(net(), made, train_dataset=images(ROWS), data_collator=vicinal.Collate(MIXUP, recording)).train()
    return seen


def evaluated(trainer, **more):
    """Evaluate a model that nobody has trained, and count the rows."""
    evaluator = trainer(net(), arguments(folder / "evaluation"), eval_dataset=images(27), **more)
    evaluator.compute_metrics = lambda found: {"rows": len(found.label_ids)}
    found = evaluator.evaluate()
    return found["eval_loss"], found["eval_rows"]


steps = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 4}
seen = {
    "accumulated": trained(vit(), "accumulated", gradient_accumulation_steps=4, num_train_epochs=2),
    "whole": trained(net(), "whole", **steps),
    "resumed": trained(net(), "resumed", resume=str(folder / "whole" / "checkpoint-4"), **steps),
    "collator": of_a_collator(),
    "evaluated": [evaluated(Trainer), evaluated(MixupTrainer, vicinity=MIXUP)],
}
torch.save(seen, folder / f"{torch.distributed.get_rank()}.pt")
