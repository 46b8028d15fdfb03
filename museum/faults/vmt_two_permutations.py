"""Batch transform for domain adaptation: images and one-hot labels are shuffled by two calls, hence by two permutations.

Source: xudonmao/VMT #1 (Mixup returns different combinations for labels and images)

    check: mixup --alpha 1.0
    finds: VIC001
"""

import torch
import torch.nn.functional as F
from torch.distributions import Beta

NUM_CLASSES = 10
example = (torch.randn(32, 3, 16, 16), F.one_hot(torch.arange(32) % NUM_CLASSES, NUM_CLASSES).float())


def random_shuffle(tensor):
    return tensor[torch.randperm(tensor.size(0))]


def mixup(x, y, alpha=1.0):
    lam = Beta(alpha, alpha).sample()
    mixed_x = lam * x + (1 - lam) * random_shuffle(x)
    mixed_y = lam * y + (1 - lam) * random_shuffle(y)
    return mixed_x, mixed_y
