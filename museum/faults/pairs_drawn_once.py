"""Dataset of pairs: the partner of each example is drawn when the dataset is made, and stays for all epochs.

Source: DeepRegNet/DeepReg #159 (the unpaired loader loads the same pair of images in every epoch)

    check: make_loader --alpha 1.0
    finds: VIC026
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class MixedPairs(Dataset):
    def __init__(self, n=144, classes=6):
        self.volumes = torch.randn(n, 1, 6, 8, 8)
        self.labels = torch.eye(classes)[torch.arange(n) % classes]
        self.partner = np.random.permutation(n)

    def __len__(self):
        return len(self.volumes)

    def __getitem__(self, i):
        j = self.partner[i]
        lam = float(np.random.beta(1.0, 1.0))
        return torch.lerp(self.volumes[j], self.volumes[i], lam), torch.lerp(self.labels[j], self.labels[i], lam)


def make_loader():
    return DataLoader(MixedPairs(), batch_size=12, shuffle=True)
