"""Callback on time series: it replaces the inputs of the batch by mixed ones, and the loss gets the labels of the loader.

Source: timeseriesAI/tsai #791 (mixed augmentations (MixUp, CutMix,..) are not updating labels)

    check: one_batch
    finds: VIC002
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

model = nn.Sequential(nn.Conv1d(2, 8, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(32, 5))


class Learner:
    def __init__(self, model, *callbacks):
        self.model, self.callbacks = model, callbacks

    def one_batch(self, xb, yb):
        self.xb, self.yb = xb, yb
        for callback in self.callbacks:
            callback.before_batch(self)
        return F.cross_entropy(self.model(self.xb), yb)


class MixUp1d:
    def before_batch(self, learn):
        lam = torch.distributions.Beta(0.4, 0.4).sample((len(learn.xb), 1, 1))
        lam = torch.max(lam, 1 - lam)
        shuffle = torch.randperm(len(learn.xb))
        learn.xb = torch.lerp(learn.xb[shuffle], learn.xb, lam)
        learn.yb = (learn.yb, learn.yb[shuffle], lam)


learner = Learner(model, MixUp1d())


def one_batch(batch):
    return learner.one_batch(*batch)


def make_loader():
    return DataLoader(TensorDataset(torch.randn(160, 2, 40), torch.arange(160) % 5), batch_size=32, shuffle=True)
