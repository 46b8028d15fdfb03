"""Sentences as arrays of word indices, mixed by weights per row like images; labels are one-hot.

Source: dsfsi/textaugment #17 (it is wrong to mix the word ids via lam_vector)

    check: mixup_data
    finds: VIC038
"""

import numpy as np

VOCABULARY = 2000
example = (np.random.randint(1, VOCABULARY, (32, 20)), np.eye(2, dtype="float32")[np.arange(32) % 2])


def mixup_data(x, y, alpha=0.2):
    lam_vector = np.random.beta(alpha, alpha, len(x))
    index = np.random.permutation(len(x))
    mixed_x = (x.T * lam_vector).T + (x[index, :].T * (1.0 - lam_vector)).T
    output_y = (y.T * lam_vector).T + (y[index].T * (1.0 - lam_vector)).T
    return mixed_x, output_y
