"""
C-Mixup: regression with partners whose targets are near
========================================================

Networks learn by how many degrees a handwritten digit was turned. Mixup with random partners lays an image turned left over
one turned right and asks for the angle between, which neither shows. C-Mixup (Yao et al. 2022) draws partners whose targets
are near, from the whole training set. Here it takes back most of the harm of mixup, and does not beat no mixing (ERM).
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import rotate
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

import vicinal
from vicinal.lab.models.mlp import MLP
from vicinal.lab.statistics import rows_paired
from vicinal.lab.statistics.influence import rmse_values

# %%
# The 1,797 digits of scikit-learn, each turned by an angle of its own: 900 to train on, 897 to test on, split five times.

turn = vicinal.Key(0, 0, 0, 0).generator().uniform(-60, 60, 1797)
images = [rotate(image, angle, reshape=False, order=1) for image, angle in zip(load_digits().images, turn, strict=True)]
x, y = torch.tensor(np.stack(images) / 16).float().flatten(1), torch.tensor(turn / 60).float()[:, None]


def train(data, collate, seed):
    torch.manual_seed(seed)
    net = MLP(64, (128, 128), 1)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(25):
        for mixed_x, mixed_y in DataLoader(data, batch_size=90, shuffle=True, collate_fn=collate):
            optimizer.zero_grad(), F.mse_loss(net(mixed_x), mixed_y).backward(), optimizer.step()
    return net


off, orders = torch.zeros(3, 5, 897), [vicinal.Key(seed, 0, 0, 1).generator().permutation(1797) for seed in range(5)]
for seed, (rows, test) in enumerate(torch.from_numpy(order).split((900, 897)) for order in orders):
    plain = TensorDataset(x[rows], y[rows])
    near = vicinal.methods.CMixup(plain, y[rows], bandwidth=0.1, alpha=2.0, seed=seed)  # 0.1 is 6 degrees
    collates = vicinal.Collate(vicinal.ERM()), vicinal.Collate(vicinal.Mixup(2.0, seed=seed)), near.collate
    for i, (data, collate) in enumerate(zip((plain, plain, near), collates, strict=True)):
        off[i, seed] = 60 * (train(data, collate, seed)(x[test]) - y[test]).detach().squeeze(1)
names, rmse = ("ERM", "mixup", "C-Mixup"), off.square().mean(2).sqrt()
for i, j in ((1, 0), (2, 0), (2, 1)):
    by_row = [rmse_values(a.numpy()) - rmse_values(b.numpy()) for a, b in zip(off[i], off[j], strict=True)]
    found = rows_paired([order[900:] for order in orders], by_row).paired()
    print(f"{names[i]} minus {names[j]}: {found.difference:+.1f}°, 95 % interval {found.low:+.1f} to {found.high:+.1f}")
pairs = {"mixup": vicinal.Mixup(seed=0).plan(900, step=0).partner, "C-Mixup": near.draw(range(900))[0]}
fig, axes = plt.subplots(1, 3, figsize=(9, 3.3), layout="constrained")
for i, (ax, (name, partner)) in enumerate(zip(axes, pairs.items(), strict=False)):
    ax.scatter(turn[rows], turn[rows][partner], s=4, color=f"C{i + 1}")
    ax.set(title=f"pairs of {name}", xlabel="angle, degrees", ylabel="angle of the partner, degrees")
axes[2].plot(names, rmse, color="#BBBBBB", linewidth=0.8, marker="o", markersize=3)
axes[2].scatter(names, rmse.mean(1), s=900, marker="_", linewidth=3, color=["C0", "C1", "C2"], zorder=3)
_ = axes[2].set(title="test error (RMSE), degrees", xlim=(-0.4, 2.4))
