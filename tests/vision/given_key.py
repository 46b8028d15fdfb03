"""A key whose draws are given, so that boxes of other packages can be compared with ours."""

import numpy as np


class Given:
    """Draw a lambda that is given, and the middle of the image."""

    def __init__(self, share):
        self.share = share

    def generator(self):
        return self

    def beta(self, a, b, size):
        return np.full(size, self.share)

    def random(self, shape):
        return np.full(shape, 0.5)
