"""Dict batches of images and thermal maps: the transform mixes the first floating-point tensor and the labels alone.

Source: pytorch/vision #9264 (MixUp and CutMix mix one tensor of the batch)

    check: make_loader --alpha 0.4
    finds: VIC004
"""

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, default_collate


class RGBT(Dataset):
    def __init__(self, n=144, classes=6):
        self.rgb, self.thermal = torch.rand(n, 3, 12, 12), torch.rand(n, 1, 12, 12)
        self.label = torch.arange(n) % classes

    def __len__(self):
        return len(self.label)

    def __getitem__(self, i):
        return {"rgb": self.rgb[i], "thermal": self.thermal[i], "label": self.label[i]}


class BatchMixUp:
    def __init__(self, alpha=0.4, num_classes=6):
        self.alpha, self.num_classes = alpha, num_classes

    def __call__(self, batch):
        lam = torch.distributions.Beta(self.alpha, self.alpha).sample()
        image = next(name for name, v in batch.items() if v.is_floating_point())
        one_hot = F.one_hot(batch["label"], self.num_classes).float()
        mixed = dict(batch, label=lam * one_hot + (1 - lam) * one_hot.roll(1, 0))
        mixed[image] = lam * batch[image] + (1 - lam) * batch[image].roll(1, 0)
        return mixed


def make_loader():
    mix = BatchMixUp()
    return DataLoader(RGBT(), batch_size=16, shuffle=True, collate_fn=lambda b: mix(default_collate(b)))
