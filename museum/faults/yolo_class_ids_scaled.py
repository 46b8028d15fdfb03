"""Detection samples mixed in a dataset: the whole target rows, class index and box, are multiplied by lambda.

Source: MultimediaTechLab/YOLO #105 (Mixup augmentation bug, yielding wrong targets)

    check: make_loader
    finds: VIC010
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class Detections(Dataset):
    def __init__(self, n=128, objects=2, classes=20):
        self.images = torch.rand(n, 3, 16, 16)
        ids = (torch.arange(n * objects) % classes).view(n, objects, 1).float()
        self.boxes = torch.cat([ids, torch.rand(n, objects, 4)], dim=2)
        self.alpha = 1.0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, boxes = self.images[index], self.boxes[index]
        other = int(torch.randint(len(self), ()))
        lam = np.random.beta(self.alpha, self.alpha)
        mixed_image = lam * image + (1 - lam) * self.images[other]
        mixed_boxes = torch.cat([lam * boxes, (1 - lam) * self.boxes[other]])
        return mixed_image.float(), mixed_boxes.float()


def make_loader():
    return DataLoader(Detections(), batch_size=16, shuffle=True)
