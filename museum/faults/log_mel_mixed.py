"""Speech commands: the collate function computes log-mel features, and mixes these instead of the waveforms.

Source: lhotse-speech/lhotse #19 (signals mixed in the time domain and as filterbank energies), YuanGongND/ast #39

    check: make_loader --alpha 0.5
    finds: VIC034
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate

BANDS = 24
filters = torch.rand(BANDS, 65).softmax(1)


def log_mel(waves):
    spectrum = torch.stft(waves, n_fft=128, hop_length=64, window=torch.hann_window(128), return_complex=True)
    return torch.log(filters @ spectrum.abs().square() + 1e-6)


def collate(rows):
    waves, labels = default_collate(rows)
    features = log_mel(waves)
    lam = np.random.beta(0.5, 0.5)
    order = torch.randperm(len(features))
    return lam * features + (1 - lam) * features[order], lam * labels + (1 - lam) * labels[order]


def make_loader():
    data = TensorDataset(torch.randn(160, 1600), torch.eye(10)[torch.arange(160) % 10])
    return DataLoader(data, batch_size=20, shuffle=True, collate_fn=collate)
