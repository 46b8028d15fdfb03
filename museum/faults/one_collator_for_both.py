"""Training and evaluation loaders made by one helper, with one collate function, which mixes.

Source: graphcore/optimum-graphcore #120 and huggingface/transformers #19158 (a Trainer has one data collator)

    check: make_loaders --alpha 0.8
    finds: VIC040
"""

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

CLASSES = 9


class Images(Dataset):
    def __init__(self, n):
        self.pixels, self.labels = torch.randn(n, 3, 12, 12), torch.arange(n) % CLASSES

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return {"pixel_values": self.pixels[i], "labels": self.labels[i]}


class DataCollator:
    def __init__(self, alpha=0.8):
        self.beta = torch.distributions.Beta(alpha, alpha)

    def __call__(self, features):
        x = torch.stack([f["pixel_values"] for f in features])
        y = F.one_hot(torch.stack([f["labels"] for f in features]), CLASSES).float()
        lam, order = self.beta.sample(), torch.randperm(len(x))
        return {"pixel_values": lam * x + (1 - lam) * x[order], "labels": lam * y + (1 - lam) * y[order]}


def get_dataloader(dataset, shuffle):
    return DataLoader(dataset, batch_size=18, shuffle=shuffle, collate_fn=DataCollator())


def make_loaders():
    return get_dataloader(Images(180), True), get_dataloader(Images(90), False)
