"""Distillation data with soft labels [n, C]: the mixing function takes them for indices and returns [n * C, C].

Source: huggingface/pytorch-image-models #1489 (mixup of targets that are not class indices, open)

    check: mixup_fn
    finds: VIC013
"""

import numpy as np
import torch

NUM_CLASSES = 10
example = (torch.randn(32, 3, 8, 8), torch.softmax(3 * torch.randn(32, NUM_CLASSES), 1))


def one_hot(x, num_classes):
    x = x.long().view(-1, 1)
    return torch.zeros(x.size(0), num_classes).scatter_(1, x, 1.0)


def mixup_target(target, num_classes, lam):
    y1 = one_hot(target, num_classes)
    y2 = one_hot(target.flip(0), num_classes)
    return y1 * lam + y2 * (1.0 - lam)


def mixup_fn(x, target):
    lam = np.random.beta(0.8, 0.8)
    return x * lam + x.flip(0) * (1 - lam), mixup_target(target, NUM_CLASSES, lam)
