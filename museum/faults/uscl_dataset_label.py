"""Frames of ultrasound videos mixed inside __getitem__: the mixed frame is returned with the label of the first one.

Source: 983632847/USCL #3 (about how labels are made)

    check: make_loader
    finds: VIC002
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class UltrasoundFrames(Dataset):
    def __init__(self, n=180, classes=6):
        self.frames = np.random.randn(n, 1, 20, 20).astype("float32")
        self.labels = np.arange(n) % classes

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, index):
        other = np.random.randint(len(self))
        weight = np.random.beta(0.5, 0.5)
        frame = weight * self.frames[index] + (1 - weight) * self.frames[other]
        return torch.from_numpy(frame.astype("float32")), int(self.labels[index])


def make_loader():
    return DataLoader(UltrasoundFrames(), batch_size=18, shuffle=True)
