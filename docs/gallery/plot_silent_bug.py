"""
A silent bug, made visible
==========================

This collate function mixes images with one random partner and labels with another: it calls ``randperm`` twice. Nothing
crashes, and training goes on with labels that belong to other images. ``vicinal.check`` finds it by feeding the pipeline
rows whose content says who they are; so does a look at the shares.
"""

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

import vicinal


def buggy(x, y):
    lam = torch.distributions.Beta(1.0, 1.0).sample()
    labels = F.one_hot(y, 16).float()
    mixed_x = lam * x + (1 - lam) * x[torch.randperm(len(x))]
    mixed_y = lam * labels + (1 - lam) * labels[torch.randperm(len(x))]  # another permutation
    return mixed_x, mixed_y


images, digits = (torch.tensor(of[:64]) for of in load_digits(return_X_y=True))
mixup = vicinal.Mixup(alpha=1.0, seed=1)
for name, pipeline in (("the collate function", buggy), ("vicinal.Mixup", mixup)):
    report = vicinal.check(pipeline, (images.float() / 16, digits), kind="transform")
    found = [f"{fault.code}, {fault.kind.title}: {fault.seen}" for fault in report.findings]
    print(f"{name}:", *found or ["nothing found"])

# %%
# The same by hand. Row i of this batch is 1 in column i and is of class i, so a mixed row tells which rows are in it. Input
# and label should show the same shares.

torch.manual_seed(1)
marks, classes = torch.eye(16), torch.arange(16)
(buggy_x, buggy_y), (mixed_x, mixed_y) = buggy(marks, classes), mixup(marks, classes, step=0)
shown = {
    "the bug: input": buggy_x,
    "the bug: label": buggy_y,
    "Mixup: input": mixed_x,
    "Mixup: label": mixed_y.dense(16),
}
fig, axes = plt.subplots(1, 4, figsize=(10, 3), sharey=True, layout="constrained")
for ax, (title, shares) in zip(axes, shown.items(), strict=True):
    drawn = ax.imshow(shares.numpy(), vmin=0, vmax=1, cmap="magma_r")
    ax.set(title=title, xlabel="row that went in", xticks=[0, 5, 10, 15], yticks=[0, 5, 10, 15])
axes[0].set_ylabel("row that came out")
_ = fig.colorbar(drawn, label="share")
