"""
A vicinity of your own, in nine lines
=====================================

A new way of mixing is one small class with one method, which draws a plan: whom each row is mixed with, and how much of
itself it keeps. Everything else comes with it: targets, nested batches, hidden layers, resuming. Here rows that are far
apart are hardly mixed, in the spirit of local mixup (Baena et al. 2022). On two spirals little of mixup's harm is left.
"""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap

import vicinal
from vicinal.lab.data.encoded_splits import StackedSplit
from vicinal.lab.data.synthetic import FAMILIES
from vicinal.lab.data.table_inputs import TableInputs
from vicinal.lab.statistics import paired
from vicinal.lab.training.stacked_mlp import MLPRun, MLPTraining, train


@dataclass(frozen=True)
class LocalMixup(vicinal.Vicinity):
    reach: float = 0.3

    def draw(self, key, n, y, x, epoch):
        partner = torch.from_numpy(key.fold(0).generator().permutation(n))
        lam = torch.from_numpy(key.fold(1).generator().random(n)).float()
        near = torch.exp(-(((x - x[partner]).norm(dim=1) / self.reach) ** 2))
        return vicinal.MixPlan(partner, 1 - (1 - lam) * near)


# %%
# Two spirals of 300 points, drawn eight times. Networks trained with each vicinity are tested on 1,000 new points. Lines
# lead from the real points of a batch to the mixed ones.
SEEDS, colors = range(8), LinearSegmentedColormap.from_list("classes", ["C0", "white", "C1"])
spirals = next(family for family in FAMILIES if family.name == "spirals")
keys = [vicinal.Key(seed, 0, 0, 0).generator() for seed in SEEDS]
x, x_test = (
    torch.tensor(np.stack([spirals.draw(k, np.arange(n) % 2, 1.0) for k in keys])).float() for n in (300, 1000)
)
y, y_test = torch.arange(300).expand(8, 300) % 2, torch.arange(1000).expand(8, 1000) % 2
methods = {"ERM": vicinal.ERM(), "mixup": vicinal.Mixup(1.0, seed=0), "local mixup": LocalMixup(seed=0)}
runs = [MLPRun(split=seed, seed=seed, vicinity=vicinity) for vicinity in methods.values() for seed in SEEDS]
models, _ = train(runs, StackedSplit(TableInputs(x), y), 2, MLPTraining(epochs=60, batch_size=50, hidden=(64, 64)))
error = 100 * (models.outputs(x_test.repeat(3, 1, 1)).argmax(2) != y_test.repeat(3, 1)).double().mean(1).reshape(3, -1)

fig, axes = plt.subplots(1, 3, figsize=(9.5, 3.4), layout="constrained")
for i, (ax, (name, vicinity)) in enumerate(zip(axes, methods.items(), strict=True)):
    if i > 0:
        found = paired((error[i] - error[0]).tolist(), test_share=0)
        print(f"{name} minus ERM: {found.difference:.2f} points, 95 % interval {found.low:.2f} to {found.high:.2f}")
    mixed, label = vicinity(x[0], y[0], step=3)
    ax.plot(*torch.stack([x[0], mixed]).permute(2, 0, 1), color="#CCCCCC", linewidth=0.5, zorder=0)
    ax.scatter(*mixed.T, c=label.dense(2)[:, 1], cmap=colors, edgecolor="black", s=14, linewidth=0.4)
    ax.set(title=f"{name}: test error {error[i].mean():.1f} %", xticks=[], yticks=[], aspect="equal")
