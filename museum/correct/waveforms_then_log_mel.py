"""Speech commands: waveforms are mixed in the collate function, and their log-mel features are computed afterwards.

Source: lhotse-speech/lhotse #19 (mixing in the time domain)

    check: make_loader --alpha 0.5
    finds: nothing
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate

filters = torch.rand(24, 65).softmax(1)


def log_mel(waves):
    spectrum = torch.stft(waves, n_fft=128, hop_length=64, window=torch.hann_window(128), return_complex=True)
    return torch.log(filters @ spectrum.abs().square() + 1e-6)


def collate(rows):
    waves, labels = default_collate(rows)
    lam, order = np.random.beta(0.5, 0.5), torch.randperm(len(waves))
    waves = lam * waves + (1 - lam) * waves[order]
    return log_mel(waves), lam * labels + (1 - lam) * labels[order]


def make_loader():
    data = TensorDataset(torch.randn(160, 1600), torch.eye(10)[torch.arange(160) % 10])
    return DataLoader(data, batch_size=20, shuffle=True, collate_fn=collate)
