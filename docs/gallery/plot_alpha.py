"""
What alpha does
===============

Mixup draws its coefficient from Beta(α, α). A small alpha draws values near 0 and 1, and most virtual examples are nearly
real ones; alpha = 1 draws all values alike; a large one draws halves. The more is mixed, the wider is the zone in which the
network is not sure. Which alpha is best depends on the data and the training: here the smaller, the better.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap
from scipy.stats import beta
from sklearn.datasets import make_moons

import vicinal
from vicinal.lab.data.encoded_splits import StackedSplit
from vicinal.lab.data.table_inputs import TableInputs
from vicinal.lab.statistics import interval
from vicinal.lab.training.stacked_mlp import MLPRun, MLPTraining, train


def moons(n, seed):
    x, y = make_moons(n, noise=0.3, random_state=seed)
    return torch.tensor(x).float(), torch.tensor(y)


# %%
# Eight draws of 100 points; for each of them a network with each alpha, all trained at once.

ALPHAS, SEEDS = (0.1, 0.4, 1.0, 4.0, 32.0), range(8)
x, y = (torch.stack(of) for of in zip(*(moons(100, seed) for seed in SEEDS), strict=True))
runs = [MLPRun(s, s, vicinal.Mixup(vicinal.Beta(alpha, per="example"))) for alpha in ALPHAS for s in SEEDS]
models, _ = train(runs, StackedSplit(TableInputs(x), y), 2, MLPTraining(100, 50, (64, 64), learning_rate=0.01))
x_test, y_test = moons(2000, seed=1000)
p_test = models.outputs(x_test).softmax(2)
nll = vicinal.metrics.nll(p_test, y_test.repeat(len(runs), 1)).reshape(len(ALPHAS), len(SEEDS))

sides = torch.linspace(-1.9, 2.8, 81), torch.linspace(-1.4, 1.9, 81)
p_grid = models.outputs(torch.cartesian_prod(*sides)).softmax(2)[:, :, 1].reshape(len(ALPHAS), len(SEEDS), 81, 81)
colors = LinearSegmentedColormap.from_list("moons", ["C0", "white", "C1"])
fig, axes = plt.subplots(2, len(ALPHAS), figsize=(10, 3.9), sharex="row", sharey="row", layout="constrained")
for i, (alpha, (top, bottom)) in enumerate(zip(ALPHAS, axes.T, strict=True)):
    found = interval(nll[i].tolist(), test_share=0)
    print(f"alpha {alpha:g}: test NLL {found.mean:.2f}, 95 % interval {found.low:.2f} to {found.high:.2f}")
    drawn = vicinal.Mixup(vicinal.Beta(alpha, per="example"), seed=0).plan(10_000, step=0).weight
    top.hist(drawn, bins=40, range=(0, 1), density=True, color="#BBBBBB")
    at = np.linspace(0.003, 0.997, 300)
    top.plot(at, beta.pdf(at, alpha, alpha), color="C2")
    top.set(title=f"α = {alpha:g}", xticks=[0, 1], yticks=[], ylim=(0, 6))
    bottom.contourf(*sides, p_grid[i, 0].T, 12, cmap=colors, vmin=0, vmax=1)
    bottom.scatter(*x[0].T, c=y[0], cmap=colors, edgecolor="black", s=8, linewidth=0.4)
    bottom.set(xlabel=f"test NLL {found.mean:.2f}", xticks=[], yticks=[])
axes[0, 0].set_ylabel("density of λ")
_ = axes[1, 0].set_ylabel("boundary")
