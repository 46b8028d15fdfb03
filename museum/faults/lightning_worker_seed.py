"""Workers seeded by a constant and their number: each epoch starts new workers, which draw what the last ones drew.

Source: Lightning-AI/pytorch-lightning #20412 (the same augmentations each epoch from torch.distributions)

    check: make_loader --alpha 0.4
    finds: VIC022
"""

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, default_collate

SEED = 42


class MixUp:
    def __init__(self, alpha, num_classes):
        self.dist = torch.distributions.Beta(torch.tensor([alpha]), torch.tensor([alpha]))
        self.num_classes = num_classes

    def __call__(self, x, y):
        lam = float(self.dist.sample())
        y = F.one_hot(y, self.num_classes).float()
        return lam * x + (1 - lam) * x.roll(1, 0), lam * y + (1 - lam) * y.roll(1, 0)


def mixup_collate_fn(rows):
    return MixUp(alpha=0.4, num_classes=10)(*default_collate(rows))


def worker_init_fn(worker_id):
    torch.manual_seed(SEED + worker_id)


def make_loader():
    data = TensorDataset(torch.randn(240, 3, 8, 8), torch.arange(240) % 10)
    return DataLoader(
        data,
        batch_size=20,
        shuffle=True,
        num_workers=2,
        drop_last=True,
        collate_fn=mixup_collate_fn,
        worker_init_fn=worker_init_fn,
    )
