"""Images in bfloat16, weights per row in float32: the product, and all that follows, is float32.

Source: torch-uncertainty/torch-uncertainty Mixup (0.13.0, run), kornia/kornia #4363

    check: train_transform --alpha 1.0
    finds: VIC032
"""

import torch
import torch.nn.functional as F

NUM_CLASSES = 10
example = (torch.randn(32, 3, 12, 12, dtype=torch.bfloat16), torch.randint(0, NUM_CLASSES, (32,)))


class Mixup:
    def __init__(self, alpha=1.0, num_classes=NUM_CLASSES):
        self.beta, self.num_classes = torch.distributions.Beta(alpha, alpha), num_classes

    def _linear_mixing(self, lam, inp, index):
        lam = lam.view(-1, *[1] * (inp.ndim - 1))
        return lam * inp + (1 - lam) * inp[index]

    def __call__(self, x, y):
        lam, index = self.beta.sample((len(x),)), torch.randperm(len(x))
        y = F.one_hot(y, self.num_classes).float()
        return self._linear_mixing(lam, x, index), self._linear_mixing(lam, y, index)


train_transform = Mixup()
