"""vicinal's CutMix as a transform on batches of images that are not square.

Source: vicinal, docs/how-to/images-cutmix.md

    check: cutmix
    finds: nothing
"""

import torch

import vicinal

cutmix = vicinal.CutMix(alpha=1.0)
example = (torch.rand(24, 3, 12, 20), torch.arange(24) % 8)
