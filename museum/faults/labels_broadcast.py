"""Layer on dicts of arrays: weights [n, 1] meet labels [n], and the mixed labels are [n, n].

Source: keras-team/keras MixUp layer with one-dimensional labels (3.15.1, run: (8,) becomes (8, 8))

    check: mix_up
    finds: VIC013
"""

import numpy as np

example = {
    "images": np.random.rand(16, 12, 12, 3).astype("float32"),
    "labels": np.random.rand(16).astype("float32"),
}


class MixUp:
    def __init__(self, alpha=0.2):
        self.alpha = alpha

    def get_random_transformation(self, n):
        weight = np.random.beta(self.alpha, self.alpha, n).astype("float32")
        return {"mix_weight": weight, "permutation_order": np.random.permutation(n)}

    def transform_images(self, images, transformation):
        weight = transformation["mix_weight"].reshape(-1, 1, 1, 1)
        return weight * images + (1 - weight) * images[transformation["permutation_order"]]

    def transform_labels(self, labels, transformation):
        weight = transformation["mix_weight"].reshape(-1, 1)
        return weight * labels + (1 - weight) * labels[transformation["permutation_order"]]

    def __call__(self, batch):
        drawn = self.get_random_transformation(len(batch["images"]))
        return {
            "images": self.transform_images(batch["images"], drawn),
            "labels": self.transform_labels(batch["labels"], drawn),
        }


layer = MixUp()


def mix_up(batch):
    return layer(batch)
