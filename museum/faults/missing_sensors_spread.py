"""Regression of several sensors at once, nan where one was off: mixing carries each nan to the partner's row.

Source: keras-team/keras #7423 and #3893 (missing values in multi-output targets)

    check: train_transform --alpha 0.3
    finds: VIC014
"""

import numpy as np
import torch


def readings(n=40, outputs=3):
    y = torch.randn(n, outputs)
    y[torch.rand(n, outputs) < 0.15] = float("nan")
    return torch.randn(n, 12), y


example = readings()


def train_transform(x, y):
    lam = torch.from_numpy(np.random.beta(0.3, 0.3, (len(x), 1))).float()
    other = torch.randperm(len(x))
    return lam * x + (1 - lam) * x[other], lam * y + (1 - lam) * y[other]
