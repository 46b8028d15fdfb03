"""Dict batches of an image and a row of clinical values: both, and the labels, are mixed by one draw.

Source: pytorch/vision #9264, as its users want it

    check: make_loader --alpha 0.4
    finds: nothing
"""

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, default_collate


class Patients(Dataset):
    def __init__(self, n=144, classes=6):
        self.scan, self.values = torch.randn(n, 1, 12, 12), torch.randn(n, 7)
        self.label = torch.arange(n) % classes

    def __len__(self):
        return len(self.label)

    def __getitem__(self, i):
        return {"label": self.label[i], "scan": self.scan[i], "values": self.values[i]}


beta = torch.distributions.Beta(0.4, 0.4)


def collate(rows):
    batch = default_collate(rows)
    batch["label"] = F.one_hot(batch["label"], 6).float()
    lam, order = beta.sample(), torch.randperm(len(rows))
    return {name: lam * value + (1 - lam) * value[order] for name, value in batch.items()}


def make_loader():
    return DataLoader(Patients(), batch_size=16, shuffle=True, collate_fn=collate)
