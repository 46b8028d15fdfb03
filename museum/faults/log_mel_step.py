"""Training step on waveforms: the front end of the model is called first, and its log spectrogram is what is mixed.

Source: MihawkHu/DCASE2020_task1 #19 (mixup on log-mel features), lhotse-speech/lhotse #19

    check: train_step
    finds: VIC034
"""

import torch
import torch.nn.functional as F
from torch import nn


class FrontEnd(nn.Module):
    def forward(self, waves):
        power = torch.stft(waves, 64, 32, window=torch.hann_window(64), return_complex=True).abs().square()
        return (power + 1e-5).log10()


front_end = FrontEnd()
classifier = nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(64, 5))
optimizer = torch.optim.Adam(classifier.parameters())
example = (torch.randn(20, 960), torch.arange(20) % 5)


def train_step(waves, labels):
    spectrogram = front_end(waves)
    lam = torch.distributions.Beta(1.0, 1.0).sample()
    order = torch.randperm(len(waves))
    logits = classifier(lam * spectrogram + (1 - lam) * spectrogram[order])
    loss = lam * F.cross_entropy(logits, labels) + (1 - lam) * F.cross_entropy(logits, labels[order])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss
