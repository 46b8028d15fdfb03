"""Batch transform that multiplies the images it is given in place, and so changes the batch of its caller.

Source: huggingface/pytorch-image-models Mixup (1.0.31, run: the tensor that is passed in is changed)

    check: mixup_fn --alpha 0.8
    finds: VIC031
"""

import numpy as np
import torch
import torch.nn.functional as F

example = (torch.randn(32, 3, 16, 16), torch.randint(0, 10, (32,)))


class Mixup:
    def __init__(self, mixup_alpha=0.8, num_classes=10):
        self.mixup_alpha, self.num_classes = mixup_alpha, num_classes

    def _mix_batch(self, x):
        lam = np.random.beta(self.mixup_alpha, self.mixup_alpha)
        x_flipped = x.flip(0).mul_(1.0 - lam)
        x.mul_(lam).add_(x_flipped)
        return lam

    def __call__(self, x, target):
        lam = self._mix_batch(x)
        y = F.one_hot(target, self.num_classes).float()
        return x, y * lam + y.flip(0) * (1.0 - lam)


mixup_fn = Mixup()
