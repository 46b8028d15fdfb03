"""NumPy batch function in the manner of a tf.data map: images are mixed with the reversed batch, labels come back as is.

Source: sayakpaul/FunMatch-Distillation #1 (MixUp Implementation Wrong?)

    check: mixup
    finds: VIC002
"""

import numpy as np

example = (np.random.rand(32, 16, 16, 3).astype("float32"), np.eye(10, dtype="float32")[np.arange(32) % 10])


def mixup(images, labels):
    alpha = np.random.uniform(0, 1)
    mixedup_images = (alpha * images + (1 - alpha) * images[::-1]).astype("float32")
    return mixedup_images, labels
