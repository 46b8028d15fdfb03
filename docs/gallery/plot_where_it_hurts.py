"""
Where interpolation hurts
=========================

Mixup supposes that from one example to another the label changes in proportion. Where a ring closes around a disk, the line
between two points of the ring crosses the disk: the mixed point lies among examples of one class and carries the label of
the other (manifold intrusion, Guo et al. 2019). A measure of such conflicts, taken before any training, gives warning.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap

import vicinal
from vicinal.lab import intrusion
from vicinal.lab.data.encoded_splits import StackedSplit
from vicinal.lab.data.synthetic import FAMILIES
from vicinal.lab.data.table_inputs import TableInputs
from vicinal.lab.statistics import paired
from vicinal.lab.training.stacked_mlp import MLPRun, MLPTraining, train

# %%
# A disk and a ring that closes a tenth, four tenths, seven tenths and all of the circle; 200 points each, eight draws.

SEEDS, CLOSED = range(8), (0.1, 0.4, 0.7, 1.0)
rings = next(family for family in FAMILIES if family.name == "rings")


def draw(closed, n, seed):
    generator = vicinal.Key(seed, 0, 0, int(10 * closed)).generator()
    y = np.arange(n) % 2
    return torch.tensor(rings.draw(generator, y, closed)).float(), torch.tensor(y)


mixup, erm = vicinal.Mixup(vicinal.Beta(1.0, per="example"), seed=0), vicinal.ERM()
x, y = (torch.stack(of) for of in zip(*(draw(c, 200, s) for c in CLOSED for s in SEEDS), strict=True))
runs = [MLPRun(i, i, vicinity) for vicinity in (mixup, erm) for i in range(len(x))]
models, _ = train(runs, StackedSplit(TableInputs(x), y), 2, MLPTraining(epochs=100, batch_size=50, hidden=(64, 64)))
x_test, y_test = (torch.stack(of) for of in zip(*(draw(c, 1000, 100 + s) for c in CLOSED for s in SEEDS), strict=True))
wrong = models.outputs(x_test.repeat(2, 1, 1)).argmax(2) != y_test.repeat(2, 1)
error = 100 * wrong.double().mean(1).reshape(2, len(CLOSED), len(SEEDS))

fig, axes = plt.subplots(1, 3, figsize=(9.5, 3.3), layout="constrained")
colors = LinearSegmentedColormap.from_list("classes", ["C0", "white", "C1"])
for ax, closed in zip(axes, (0.1, 1.0), strict=False):
    mixed, label = mixup(*draw(closed, 600, 0), step=0)
    ax.scatter(*mixed.T, c=label.dense(2)[:, 1], cmap=colors, edgecolor="black", s=14, linewidth=0.4)
    ax.set(title=f"mixed: ring {closed:.0%} closed", xticks=[], yticks=[], aspect="equal", adjustable="datalim")
for i, closed in enumerate(CLOSED):
    before = intrusion.measure(*(of.numpy() for of in draw(closed, 1000, 0)), alphas=[1.0]).at(1.0).conflict
    found = paired((error[0, i] - error[1, i]).tolist(), test_share=0)
    print(f"{closed:.0%} closed: conflict {before.mean:.2f}; test error of ERM {error[1, i].mean():.1f} %", end=", ")
    print(f"mixup minus ERM {found.difference:+.1f} points, 95 % interval {found.low:+.1f} to {found.high:+.1f}")
    ends = [[found.difference - found.low], [found.high - found.difference]]
    axes[2].errorbar(before.mean, found.difference, ends, fmt="o", color="C1", capsize=4)
axes[2].axhline(0, color="#BBBBBB", linewidth=1)
_ = axes[2].set(title="mixup minus ERM", xlabel="conflict, before training", ylabel="test error, points")
