"""Focal loss in its usual form, given mixed labels: the modulating factor is computed from the mixed cross-entropy.

Source: xlliu7/TadTR #20 and itakurah/focal-loss-pytorch #2 (focal loss with mixed labels)

    check: focal_loss
    finds: VIC050
"""

import torch
import torch.nn.functional as F

example = (torch.randn(32, 7), torch.softmax(2 * torch.randn(32, 7), 1))


def focal_loss(logits, target, gamma=2.0):
    ce = F.cross_entropy(logits, target, reduction="none")
    pt = torch.exp(-ce)
    return ((1 - pt) ** gamma * ce).mean()
