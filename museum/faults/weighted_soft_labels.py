"""Class weights for rare classes: the criterion takes class indices in plain epochs, and soft labels while mixing.

Source: huggingface/pytorch-image-models SoftTarget with weight, pytorch CrossEntropyLoss (run: 2.04 against 8.66)

    check: criterion
    finds: VIC051
"""

import torch
import torch.nn.functional as F

CLASS_WEIGHTS = torch.tensor([0.2, 0.4, 1.0, 6.0, 9.0])
example = (torch.randn(40, 5), torch.arange(40) % 5)


def criterion(logits, target):
    return F.cross_entropy(logits, target, weight=CLASS_WEIGHTS)
