"""CutMix written for [n, C, H, W] and used on arrays [n, H, W, C]: the box spans columns and channels.

Source: keras-team/keras-cv #2384 (layout of the inputs of mixing layers), pytorch/vision #6733

    check: cut_mix
    finds: VIC039
"""

import numpy as np

example = (np.random.rand(20, 24, 24, 3).astype("float32"), np.eye(5, dtype="float32")[np.arange(20) % 5])


def cut_mix(images, labels):
    height, width = images.shape[2:4]
    ratio = np.sqrt(1 - np.random.beta(1.0, 1.0))
    h, w = round(height * ratio), round(width * ratio)
    top, left = np.random.randint(height - h + 1), np.random.randint(width - w + 1)
    order = np.random.permutation(len(images))
    mixed = images.copy()
    mixed[:, :, top : top + h, left : left + w] = images[order, :, top : top + h, left : left + w]
    lam = 1 - h * w / (height * width)
    return mixed, (lam * labels + (1 - lam) * labels[order]).astype("float32")
