"""
Two moons, before and after mixup
=================================

The same small network is trained on the same 100 points, first as they are (empirical risk minimization, ERM), then with
one more line in the loop. Mixup replaces the points by virtual examples between them, whose labels are mixed in the same
proportion. The network has to be linear between the examples, and where the moons overlap it stops being sure.
"""

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.colors import LinearSegmentedColormap
from sklearn.datasets import make_moons
from torch import nn

import vicinal
from vicinal.lab.statistics import paired


def moons(n, seed):
    x, y = make_moons(n, noise=0.3, random_state=seed)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def train(vicinity, seed):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    x, y = moons(100, seed)
    for step in range(200):
        mixed_x, mixed_y = vicinity(x, y, step=step)  # the one more line
        optimizer.zero_grad()
        F.cross_entropy(net(mixed_x), mixed_y).backward()
        optimizer.step()
    return net


# %%
# Eight pairs of networks, each pair with data and initial weights of its own, are tested on 2,000 new points.

erm, mixup = vicinal.ERM(), vicinal.Mixup(vicinal.Beta(1.0, per="example"), seed=1)
nets = [(train(erm, seed), train(mixup, seed)) for seed in range(8)]
x_test, y_test = moons(2000, seed=1000)
with torch.no_grad():
    nll = torch.tensor([[F.cross_entropy(net(x_test), y_test) for net in pair] for pair in nets])
means, found = nll.mean(0), paired((nll[:, 1] - nll[:, 0]).tolist(), test_share=0)
print(f"test NLL, mixup minus ERM: {found.difference:.2f}, 95 % interval {found.low:.2f} to {found.high:.2f}")

grid = torch.cartesian_prod(torch.linspace(-1.9, 2.8, 101), torch.linspace(-1.4, 1.9, 101))
colors = LinearSegmentedColormap.from_list("moons", ["C0", "white", "C1"])
(x, y), (mixed_x, mixed_y) = moons(100, seed=0), mixup(*moons(100, seed=0), step=0)
shown = (x, y, f"ERM: test NLL {means[0]:.2f}"), (mixed_x, mixed_y.dense(2)[:, 1], "one batch, mixed")
fig, axes = plt.subplots(1, 3, figsize=(9, 3), sharex=True, sharey=True, layout="constrained")
for ax, (points, label, title) in zip(axes, (*shown, (x, y, f"mixup: test NLL {means[1]:.2f}")), strict=True):
    ax.scatter(*points.T, c=label, cmap=colors, edgecolor="black", s=18, linewidth=0.6, vmin=0, vmax=1)
    ax.set(title=title, xticks=[], yticks=[])
for ax, net in zip(axes[::2], nets[0], strict=True):
    p = net(grid).softmax(1)[:, 1].detach().reshape(101, 101)
    ax.contourf(grid[::101, 0], grid[:101, 1], p.T, 12, cmap=colors, vmin=0, vmax=1, zorder=0)
