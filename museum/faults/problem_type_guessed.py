"""Model that computes its own loss and guesses the problem from the dtype of the labels: floats mean multi-label.

Source: huggingface/transformers, problem_type of the classification heads (5.24, run: update 1.83 to 3.87 times as large)

    check: train_step
    finds: VIC053
"""

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

CLASSES = 10


class ForImageClassification(nn.Module):
    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(problem_type=None, num_labels=CLASSES)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(3 * 10 * 10, 32), nn.ReLU(), nn.Linear(32, CLASSES))

    def forward(self, pixel_values, labels=None):
        logits = self.classifier(pixel_values)
        if labels is None:
            return SimpleNamespace(loss=None, logits=logits)
        if self.config.problem_type is None:
            integer = labels.dtype in (torch.long, torch.int)
            self.config.problem_type = "single_label_classification" if integer else "multi_label_classification"
        if self.config.problem_type == "single_label_classification":
            return SimpleNamespace(loss=F.cross_entropy(logits, labels), logits=logits)
        return SimpleNamespace(loss=F.binary_cross_entropy_with_logits(logits, labels), logits=logits)


class Images(Dataset):
    def __init__(self, n=160):
        self.pixels = torch.randn(n, 3, 10, 10)

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, i):
        return {"pixel_values": self.pixels[i], "labels": i % CLASSES}


model = ForImageClassification()
optimizer = torch.optim.AdamW(model.parameters())


def make_loader():
    return DataLoader(Images(), batch_size=16, shuffle=True)


def train_step(batch):
    x, y = batch["pixel_values"], F.one_hot(batch["labels"], CLASSES).float()
    lam, order = torch.distributions.Beta(0.8, 0.8).sample(), torch.randperm(len(x))
    loss = model(lam * x + (1 - lam) * x[order], labels=lam * y + (1 - lam) * y[order]).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss
