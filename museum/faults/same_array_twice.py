"""Glucose series of a minority class, mixed by weights per row: both sides of the sum are the same array.

Source: yixiangD/AccurateBG #3 (Mixup.py doing an invalid mixing)

    check: mixup --alpha 0.4
    finds: VIC027 or VIC005
"""

import numpy as np

example = (np.random.randn(48, 24).astype("float32"), np.random.randn(48, 1).astype("float32"))


def mixup(x, y, alpha=0.4):
    weight = np.random.beta(alpha, alpha, len(x)).astype("float32")
    index_1 = np.arange(len(x))
    index_2 = np.arange(len(x))
    x1, x2 = x[index_1], x[index_2]
    y1, y2 = y[index_1], y[index_2]
    w = weight.reshape(-1, 1)
    return x1 * w + x2 * (1 - w), y1 * w + y2 * (1 - w)
