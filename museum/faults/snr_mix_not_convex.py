"""Waveforms mixed at a random signal-to-noise ratio: the row keeps weight 1, the partner is added, labels are averaged.

Source: iver56/torch-audiomentations #177 and its Mix transform (read: weighted by SNR, not by lambda)

    check: train_transform
    finds: VIC006
"""

import torch

example = (torch.randn(24, 1, 800), torch.eye(6)[torch.arange(24) % 6])


def rms(samples):
    return samples.square().mean(dim=-1, keepdim=True).sqrt()


class Mix:
    def __init__(self, min_snr_in_db=0.0, max_snr_in_db=10.0):
        self.low, self.high = min_snr_in_db, max_snr_in_db

    def __call__(self, samples, targets):
        snr = torch.empty(len(samples), 1, 1).uniform_(self.low, self.high)
        index = torch.randperm(len(samples))
        other = samples[index]
        gain = rms(samples) / (rms(other) * 10 ** (snr / 20))
        share = (1 / (1 + gain.flatten(1).mean(1)))[:, None]
        return samples + gain * other, share * targets + (1 - share) * targets[index]


train_transform = Mix()
