"""Training and evaluation loaders from one factory; only the first has the collator that mixes.

Source: the recipe for huggingface/transformers #19158: another collator for evaluation

    check: make_loaders --alpha 0.8
    finds: nothing
"""

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, default_collate

CLASSES = 9
beta = torch.distributions.Beta(0.8, 0.8)


class Images(Dataset):
    def __init__(self, n):
        self.pixels, self.labels = torch.randn(n, 3, 12, 12), torch.arange(n) % CLASSES

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return {"pixel_values": self.pixels[i], "labels": self.labels[i]}


def mix_collator(features):
    batch = default_collate(features)
    x, y = batch["pixel_values"], F.one_hot(batch["labels"], CLASSES).float()
    lam, order = beta.sample(), torch.randperm(len(x))
    return {"pixel_values": lam * x + (1 - lam) * x[order], "labels": lam * y + (1 - lam) * y[order]}


def make_loaders():
    train = DataLoader(Images(180), batch_size=18, shuffle=True, collate_fn=mix_collator)
    return train, DataLoader(Images(90), batch_size=18)
