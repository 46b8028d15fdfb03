"""Images in bfloat16: mixed in float32 and cast back, labels and their shares in float32.

Source: kornia/kornia #4657 and #4363, as they were mended

    check: train_transform --alpha 0.8
    finds: nothing
"""

import numpy as np
import torch
import torch.nn.functional as F

CLASSES = 10
example = (torch.randn(32, 3, 12, 12).bfloat16(), torch.arange(32) % CLASSES)


def train_transform(x, y):
    lam = torch.from_numpy(np.random.beta(0.8, 0.8, len(x))).float()
    order = torch.randperm(len(x))
    w = lam[:, None, None, None]
    mixed = (w * x.float() + (1 - w) * x[order].float()).to(x.dtype)
    target = F.one_hot(y, CLASSES).float()
    return mixed, lam[:, None] * target + (1 - lam[:, None]) * target[order]
