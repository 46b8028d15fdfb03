"""Collator for sets of features with padding: features and labels are mixed, the mask of valid places is the row's own.

Source: SALT-NLP/MixText #26 (attention mask), wandb/senpai #987 (masks of mixed sets)

    check: make_loader --alpha 0.5
    finds: VIC042
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


class MixCollator:
    def __init__(self, alpha=0.5):
        self.beta = torch.distributions.Beta(alpha, alpha)

    def __call__(self, rows):
        batch = default_collate(rows)
        order, lam = torch.randperm(len(rows)), self.beta.sample()
        for name in ("inputs_embeds", "labels"):
            batch[name] = lam * batch[name] + (1 - lam) * batch[name][order]
        return batch


def make_loader():
    return DataLoader(Sets(), batch_size=16, shuffle=True, collate_fn=MixCollator())
