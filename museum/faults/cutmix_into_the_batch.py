"""CutMix for a teacher and a student: patches are written into the batch, which the teacher gets afterwards.

Source: open-mmlab/mmpretrain CutMix (batch_augments, read: batch_inputs is written to)

    check: batch_augment
    finds: VIC031
"""

import numpy as np
import torch

example = {"inputs": torch.rand(24, 3, 20, 20), "gt_label": torch.eye(6)[torch.arange(24) % 6]}


def cutmix_bbox(height, width, lam):
    ratio = np.sqrt(1 - lam)
    h, w = int(height * ratio), int(width * ratio)
    cy, cx = np.random.randint(height), np.random.randint(width)
    top, bottom = max(0, cy - h // 2), min(height, cy + h // 2)
    left, right = max(0, cx - w // 2), min(width, cx + w // 2)
    return top, bottom, left, right


def batch_augment(batch):
    batch_inputs, batch_scores = batch["inputs"], batch["gt_label"]
    height, width = batch_inputs.shape[2:]
    index = torch.randperm(len(batch_inputs))
    top, bottom, left, right = cutmix_bbox(height, width, np.random.beta(1.0, 1.0))
    batch_inputs[:, :, top:bottom, left:right] = batch_inputs[index, :, top:bottom, left:right]
    lam = 1 - (bottom - top) * (right - left) / (height * width)
    return {"inputs": batch_inputs, "gt_label": lam * batch_scores + (1 - lam) * batch_scores[index]}
