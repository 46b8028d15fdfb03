"""Batch transform in one line: it is in place, so that the partner's part is multiplied by lambda a second time.

Source: huggingface/pytorch-image-models #50 (bug in mixup implementation)

    check: mixup_batch
    finds: VIC006
"""

import numpy as np
import torch
import torch.nn.functional as F

NUM_CLASSES = 10
example = (torch.rand(32, 3, 16, 16), torch.randint(0, NUM_CLASSES, (32,)))


def one_hot(y, num_classes):
    return F.one_hot(y, num_classes).float()


def mixup_batch(input, target, alpha=0.4):
    lam = np.random.beta(alpha, alpha)
    target = lam * one_hot(target, NUM_CLASSES) + (1 - lam) * one_hot(target, NUM_CLASSES).flip(0)
    input = input.clone()
    input.mul_(lam).add_(input.flip(0), alpha=1 - lam)
    return input, target
