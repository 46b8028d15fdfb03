"""
A batch that is a dict, mixed by one draw
=========================================

A batch often holds more than one tensor: an image, a map that belongs to it, numbers. One call mixes the whole pytree with
one partner and one coefficient. With a call for each tensor every tensor has a draw of its own: the image is mixed with one
partner, its map with another, and nothing complains.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_sample_images

import vicinal

# %%
# Four parts of the two photographs that come with scikit-learn, each with a map of its edges and its mean color.

china, flower = (torch.tensor(photo / 255).float().movedim(-1, 0) for photo in load_sample_images().images)
corners = [(china, 20, 0), (flower, 60, 90), (china, 187, 280), (flower, 187, 280)]
image = torch.stack([photo[:, top : top + 240, left : left + 360] for photo, top, left in corners])
dy, dx = torch.gradient(image.mean(1), dim=(1, 2))
batch = {"image": image, "edges": 6 * (dx**2 + dy**2).sqrt(), "color": image.mean((2, 3))}
label = torch.tensor([0, 1, 2, 3])  # the part itself is the class, to see who is who

# %%
# The right way is one call. The wrong way is a call, and so a draw, for each tensor.

mixup = vicinal.Mixup(vicinal.Beta(8.0), pairing=vicinal.RandomPairs(self_pairs=False), seed=2)
right, mixed_label = mixup(batch, label, step=0)
wrong = {}
for step, name in enumerate(batch):
    wrong[name], _ = mixup(batch[name], None, step=step + 1)
print("label of the one call:", mixed_label[0])

rows = {"as it is": batch, "one call": right, "a call for each": wrong}
fig, axes = plt.subplots(3, 3, figsize=(8, 5.4), layout="constrained")
for line, (name, shown) in zip(axes, rows.items(), strict=True):
    line[0].imshow(shown["image"][0].movedim(0, -1).numpy())
    line[1].imshow(shown["edges"][0].numpy(), cmap="gray_r", vmin=0, vmax=1)
    line[2].imshow(shown["color"][0].expand(240, 360, 3).numpy())
    line[0].set_ylabel(name)
for ax, title in zip(axes[0], batch, strict=True):
    ax.set_title(title)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
