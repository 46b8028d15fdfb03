"""Layer on dicts of NumPy arrays [n, H, W, C] with one-hot labels and a weight for each row.

Source: keras-team/keras MixUp layer with one-hot labels

    check: mix_up --alpha 0.2
    finds: nothing
"""

import numpy as np

example = {
    "images": np.random.rand(24, 12, 12, 3).astype("float32"),
    "labels": np.eye(6, dtype="float32")[np.arange(24) % 6],
}


class MixUp:
    def __init__(self, alpha=0.2):
        self.alpha = alpha

    def __call__(self, batch):
        n = len(batch["images"])
        weight, order = np.random.beta(self.alpha, self.alpha, n).astype("float32"), np.random.permutation(n)
        out = {}
        for name, value in batch.items():
            w = weight.reshape(-1, *[1] * (value.ndim - 1))
            out[name] = w * value + (1 - w) * value[order]
        return out


layer = MixUp()


def mix_up(batch):
    return layer(batch)
