"""Loss that takes a target of length three for a mixed one (y_a, y_b, lam): a plain batch of three rows is one, too.

Source: braindecode/braindecode #1121 (the mixup loss and batches of three)

    check: mixup_criterion
    finds: VIC036
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

loss_fn = nn.CrossEntropyLoss(reduction="none")


def mixup_criterion(preds, target):
    if len(target) == 3:
        y_a, y_b, lam = target
        return (lam * loss_fn(preds, y_a) + (1 - lam) * loss_fn(preds, y_b)).mean()
    return loss_fn(preds, target).mean()


example = (torch.randn(24, 6), torch.arange(24) % 6)


def make_loader():
    return DataLoader(TensorDataset(torch.randn(75, 6), torch.arange(75) % 6), batch_size=24, shuffle=True)
