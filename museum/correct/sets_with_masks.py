"""Collator for padded sets of features: features and labels are mixed by one draw, and the masks are joined.

Source: SALT-NLP/MixText #26, wandb/senpai #987

    check: make_loader --alpha 0.5
    finds: nothing
"""

import torch
from torch.utils.data import DataLoader, Dataset, default_collate


class Sets(Dataset):
    def __init__(self, n=160, places=10, classes=4):
        self.lengths = torch.randint(2, places + 1, (n,))
        self.mask = torch.arange(places)[None] < self.lengths[:, None]
        self.features = torch.randn(n, places, 8) * self.mask[..., None]
        self.labels = torch.eye(classes)[torch.arange(n) % classes]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return {"inputs_embeds": self.features[i], "attention_mask": self.mask[i].long(), "labels": self.labels[i]}


beta = torch.distributions.Beta(0.5, 0.5)


def collate(rows):
    batch = default_collate(rows)
    order, lam = torch.randperm(len(rows)), beta.sample()
    for name in ("inputs_embeds", "labels"):
        batch[name] = lam * batch[name] + (1 - lam) * batch[name][order]
    batch["attention_mask"] = batch["attention_mask"] | batch["attention_mask"][order]
    return batch


def make_loader():
    return DataLoader(Sets(), batch_size=16, shuffle=True, collate_fn=collate)
