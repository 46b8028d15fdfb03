"""Batch transform for uint8 video frames [n, T, C, H, W]: mixed in float32, and converted back without rounding.

Source: ultralytics/ultralytics MixUp (read: cast by astype; formula run: 0.499 of a level too dark)

    check: mix_clips --alpha 0.8
    finds: VIC035
"""

import torch

example = (torch.randint(0, 256, (12, 4, 3, 12, 12), dtype=torch.uint8), torch.eye(4)[torch.arange(12) % 4])


def mix_clips(clips, labels, alpha=0.8):
    lam = torch.distributions.Beta(alpha, alpha).sample()
    order = torch.randperm(len(clips))
    mixed = lam * clips.float() + (1 - lam) * clips[order].float()
    return mixed.to(clips.dtype), lam * labels + (1 - lam) * labels[order]
