"""Two heads for one face, age group and expression: the labels of the first head are mixed, those of the second are not.

Source: DCASE-REPO/DESED_task #93 (labels that were assigned before the mix), in the form of a multi-task step

    check: train_step
    finds: VIC004 or VIC002
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 40), nn.ReLU())
        self.age, self.expression = nn.Linear(40, 8), nn.Linear(40, 5)

    def forward(self, x):
        hidden = self.trunk(x)
        return self.age(hidden), self.expression(hidden)


model = Heads()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
example = {"image": torch.randn(32, 3, 12, 12), "age": torch.arange(32) % 8, "expression": torch.arange(32) % 5}


def train_step(batch):
    image, age, expression = batch["image"], batch["age"], batch["expression"]
    lam, index = np.random.beta(1.0, 1.0), torch.randperm(len(image))
    age_logits, expression_logits = model(lam * image + (1 - lam) * image[index])
    loss = lam * F.cross_entropy(age_logits, age) + (1 - lam) * F.cross_entropy(age_logits, age[index])
    loss = loss + F.cross_entropy(expression_logits, expression)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss
