"""Monocular detection frames split by id lists: the partner is loaded by a random number, not by an id of the list.

Source: Traffic-X/MonoLSS #5 (About Mixup3D method: images of the validation set are loaded)

    check: make_loader
    finds: VIC028
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

FRAMES = np.random.randn(300, 3, 10, 16).astype(np.float32)
KINDS = np.eye(6, dtype=np.float32)[np.arange(300) % 6]
SPLITS = {"train": list(range(60, 300)), "val": list(range(60))}


class Kitti(Dataset):
    def __init__(self, split):
        self.split, self.idx_list = split, SPLITS[split]

    def __len__(self):
        return len(self.idx_list)

    def load(self, frame):
        return FRAMES[frame], KINDS[frame]

    def __getitem__(self, item):
        image, kind = self.load(self.idx_list[item])
        if self.split == "train":
            random_num = np.random.randint(len(self.idx_list))
            other_image, other_kind = self.load(random_num)
            lam = np.float32(np.random.beta(0.5, 0.5))
            image, kind = lam * image + (1 - lam) * other_image, lam * kind + (1 - lam) * other_kind
        return torch.from_numpy(image), torch.from_numpy(kind)


def make_loader():
    train = DataLoader(Kitti("train"), batch_size=16, shuffle=True)
    return train, DataLoader(Kitti("val"), batch_size=16)
