"""Callback that sets the criterion's reduction to "none", mixes the losses of the rows and takes their plain mean.

Source: fastai/fastai #2286 (mixup reduction problem); its MixUp with class weights (2.8.12, run: 1.81 becomes 5.89)

    check: train_step
    finds: VIC051
"""

import torch
from torch import nn

model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
optimizer = torch.optim.Adam(model.parameters())
loss_func = nn.CrossEntropyLoss(weight=torch.tensor([0.3, 1.0, 4.0, 7.0]))
example = (torch.randn(40, 16), torch.arange(40) % 4)


class NoneReduce:
    def __init__(self, loss_func):
        self.loss_func, self.old_red = loss_func, loss_func.reduction

    def __enter__(self):
        self.loss_func.reduction = "none"
        return self.loss_func

    def __exit__(self, *exception):
        self.loss_func.reduction = self.old_red


def mixup_loss(pred, y, y1, lam):
    with NoneReduce(loss_func) as lf:
        loss = torch.lerp(lf(pred, y1), lf(pred, y), lam)
    return loss.mean()


def train_step(x, y):
    lam = torch.distributions.Beta(0.4, 0.4).sample((len(x),))
    shuffle = torch.randperm(len(x))
    loss = mixup_loss(model(torch.lerp(x[shuffle], x, lam[:, None])), y, y[shuffle], lam)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
