"""CutMix of wide images in a collate function: the width of the box is computed from the height of the image.

Source: tensorflow/models #11271 (Fix Dimension Mismatch in CutMix Augmentation)

    check: make_loader
    finds: VIC001
"""

import math

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, default_collate

HEIGHT, WIDTH, CLASSES = 12, 30, 6


def cutmix(images, labels):
    lam = float(torch.distributions.Beta(1.0, 1.0).sample())
    ratio = math.sqrt(1.0 - lam)
    cut_height = int(ratio * HEIGHT)
    cut_width = int(ratio * HEIGHT)
    top = int(torch.randint(0, HEIGHT - cut_height + 1, ()))
    left = int(torch.randint(0, WIDTH - cut_width + 1, ()))
    order = torch.randperm(len(images))
    box = (slice(None), slice(None), slice(top, top + cut_height), slice(left, left + cut_width))
    mixed = images.clone()
    mixed[box] = images[order][box]
    one_hot = F.one_hot(labels, CLASSES).float()
    return mixed, lam * one_hot + (1 - lam) * one_hot[order]


def collate(examples):
    return cutmix(*default_collate(examples))


def make_loader():
    data = TensorDataset(torch.rand(192, 3, HEIGHT, WIDTH), torch.randint(0, CLASSES, (192,)))
    return DataLoader(data, batch_size=24, shuffle=True, collate_fn=collate)
