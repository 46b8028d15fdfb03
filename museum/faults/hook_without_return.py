"""Manifold mixup by a forward pre-hook of a network that is left as it is: the hook computes the mix, and returns nothing.

Source: shivamsaboo17/ManifoldMixup #1 (the hook's result is not returned)

    check: train_step
    finds: VIC003
"""

import torch
import torch.nn.functional as F
from torch import nn

model = nn.Sequential(nn.Linear(30, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 5))
optimizer = torch.optim.Adam(model.parameters())
example = (torch.randn(40, 30), torch.randint(0, 5, (40,)))


class ManifoldMixup:
    def __init__(self, model, alpha=1.0):
        self.layers = [m for m in model if isinstance(m, nn.Linear)]
        self.beta = torch.distributions.Beta(alpha, alpha)

    def hook(self, module, inputs):
        (x,) = inputs
        x = self.lam * x + (1 - self.lam) * x[self.index]

    def __call__(self, x, y):
        self.lam, self.index = float(self.beta.sample()), torch.randperm(len(x))
        layer = self.layers[int(torch.randint(len(self.layers), ()))]
        handle = layer.register_forward_pre_hook(self.hook)
        out = model(x)
        handle.remove()
        return self.lam * F.cross_entropy(out, y) + (1 - self.lam) * F.cross_entropy(out, y[self.index])


manifold_mixup = ManifoldMixup(model)


def train_step(x, y):
    loss = manifold_mixup(x, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
