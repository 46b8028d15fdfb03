"""Semi-supervised batches with -100 for unlabeled rows: their rows are zeros in the soft labels, and count in the mean.

Source: pytorch/pytorch #63122 (no ignore_index with soft labels), mosaicml/composer (run: -100 becomes a row of zeros)

    check: criterion
    finds: VIC052
"""

import torch
import torch.nn.functional as F

CLASSES = 6
labels = torch.arange(36) % CLASSES
labels[::4] = -100
example = (torch.randn(36, CLASSES), labels)


def ensure_targets_one_hot(logits, targets):
    if targets.ndim == logits.ndim:
        return targets
    one_hot = F.one_hot(targets.clamp(min=0), logits.shape[1]).to(logits.dtype)
    return one_hot * (targets != -100).unsqueeze(1)


def criterion(logits, targets):
    if targets.ndim == 1:
        return F.cross_entropy(logits, targets, ignore_index=-100)
    soft = ensure_targets_one_hot(logits, targets)
    return -(soft * F.log_softmax(logits, 1)).sum(1).mean()
