"""
What CutMix, FMix and mixup do to a segmentation mask
=====================================================

A mask is a target like any other: hand it over beside the images, and one draw mixes both. CutMix pastes a box of the
partner into the image and into the mask, FMix (Harris et al. 2020) an area of any shape, so every pixel keeps a single
class. Mixup gives a pixel two classes and the mixing coefficient; class indices themselves are never averaged.
"""

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import to_rgb
from sklearn.datasets import load_sample_images

import vicinal

# %%
# The two photographs that come with scikit-learn, at a third of their size. Their masks are made from colors: sky is light
# and bluish, the flower is red. A mask is class indices, one for each pixel: 0 (other), 1 (sky) or 2 (flower).

images = torch.stack([torch.tensor(photo[::3, ::3] / 255).float() for photo in load_sample_images().images])
red, green, blue = images.unbind(-1)
masks = torch.zeros(red.shape, dtype=torch.int64)
masks[0][(blue[0] > 0.75) & (blue[0] >= red[0] - 0.02)] = 1
masks[1][(red[1] > 0.3) & (red[1] > blue[1] + 0.05)] = 2

# %%
# The mixed mask goes into ``F.cross_entropy`` as it is. For the figure it is made dense: a share for each class and pixel.

shown = [("photo", images[0], masks[0]), ("its partner", images[1], masks[1])]
for vicinity in (vicinal.CutMix(1.0, seed=38), vicinal.methods.FMix(1.0, seed=23), vicinal.Mixup(1.0, seed=34)):
    plan = vicinity.plan(len(images), masks, images.movedim(-1, 1), step=0)
    mixed = plan(images.movedim(-1, 1)).movedim(1, -1)
    shares = plan.target(masks).dense(3).movedim(1, -1)
    name, single = type(vicinity).__name__, (shares[0].max(-1).values == 1).float().mean()
    print(f"{name}: lambda {plan.weight[0]:.2f}; {single:.0%} of the pixels have a single class")
    shown.append((f"{name}, λ = {plan.weight[0]:.2f}", mixed[0], shares[0]))

palette = torch.tensor([to_rgb(color) for color in ("#DDDDDD", "#56B4E9", "#D55E00")])
fig, axes = plt.subplots(2, 5, figsize=(11, 3.4), layout="constrained")
for (top, bottom), (title, image, mask) in zip(axes.T, shown, strict=True):
    top.imshow(image.numpy())
    bottom.imshow((mask @ palette if mask.is_floating_point() else palette[mask]).numpy())
    top.set_title(title)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
axes[0, 0].set_ylabel("image")
_ = axes[1, 0].set_ylabel("mask")
