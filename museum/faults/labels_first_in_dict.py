"""Collator of a Trainer: its dict has the labels before the images, and the transform mixes the first tensor it meets.

Source: pytorch/vision #8573 and #9264 (which tensor of a dict MixUp takes), with Hugging Face's default_data_collator

    check: make_loader
    finds: VIC003
"""

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class Photos(Dataset):
    def __init__(self, n=160):
        self.pixels, self.ids = torch.randn(n, 3, 14, 14), torch.arange(n) % 7

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        return {"pixel_values": self.pixels[i], "label": int(self.ids[i])}


def data_collator(features):
    batch = {"labels": torch.tensor([f["label"] for f in features])}
    batch["pixel_values"] = torch.stack([f["pixel_values"] for f in features])
    return batch


class MixUp:
    def __init__(self, alpha, num_classes):
        self.beta, self.num_classes = torch.distributions.Beta(alpha, alpha), num_classes

    def __call__(self, sample):
        sample = {**sample, "labels": F.one_hot(sample["labels"], self.num_classes).float()}
        lam = float(self.beta.sample())
        first = next(name for name, value in sample.items() if torch.is_tensor(value))
        sample[first] = sample[first].roll(1, 0).mul(1 - lam).add(sample[first] * lam)
        return sample


mixup = MixUp(1.0, 7)


def make_loader():
    return DataLoader(Photos(), batch_size=16, shuffle=True, collate_fn=lambda f: mixup(data_collator(f)))
