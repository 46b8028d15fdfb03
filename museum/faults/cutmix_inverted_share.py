"""CutMix with labels [n, 3] of own class, partner's class and share: the share that is returned is the partner's area.

Source: kornia/kornia #3077 (lam is computed incorrectly in RandomCutMixV2)

    check: training_step
    finds: VIC001
"""

import torch
import torch.nn.functional as F
from torch import nn

model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 20 * 20, 10))
example = (torch.rand(16, 3, 20, 20), torch.randint(0, 10, (16,)))


class RandomCutMix(nn.Module):
    def forward(self, input, labels):
        n, _, height, width = input.shape
        index = torch.randperm(n)
        out, lam = input.clone(), torch.empty(n)
        for i in range(n):
            side = (1 - torch.distributions.Beta(1.0, 1.0).sample()).sqrt()
            h, w = int(side * height), int(side * width)
            top, left = (int(torch.randint(0, full - cut + 1, ())) for full, cut in ((height, h), (width, w)))
            out[i, :, top : top + h, left : left + w] = input[index[i], :, top : top + h, left : left + w]
            lam[i] = h * w / (height * width)
        return out, torch.stack([labels.float(), labels[index].float(), lam], dim=1)


augment = RandomCutMix()


def training_step(batch, batch_idx):
    x, y = augment(*batch)
    logits = model(x)
    loss_a = F.cross_entropy(logits, y[:, 0].long(), reduction="none")
    loss_b = F.cross_entropy(logits, y[:, 1].long(), reduction="none")
    return (y[:, 2] * loss_a + (1 - y[:, 2]) * loss_b).mean()
