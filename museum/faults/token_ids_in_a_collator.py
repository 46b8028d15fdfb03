"""Collator for a text classifier: input_ids are averaged with those of another row and rounded to whole numbers again.

Source: dsfsi/textaugment #17 (questions about the mixup strategy: the x is the word ids)

    check: data_collator
    finds: VIC038
"""

import random

import torch
import torch.nn.functional as F

LENGTH, CLASSES = 16, 3
features = [{"input_ids": [random.randrange(5, 900) for _ in range(LENGTH)], "label": i % CLASSES} for i in range(64)]
example = features[:16]


def data_collator(features):
    ids = torch.tensor([f["input_ids"] for f in features])
    labels = F.one_hot(torch.tensor([f["label"] for f in features]), CLASSES).float()
    lam = float(torch.distributions.Beta(0.5, 0.5).sample())
    order = torch.randperm(len(ids))
    return {
        "input_ids": (lam * ids + (1 - lam) * ids[order]).round().long(),
        "attention_mask": torch.ones_like(ids),
        "labels": lam * labels + (1 - lam) * labels[order],
    }
