"""Model that computes its own loss; the problem type is named in its configuration, so soft labels get cross-entropy.

Source: huggingface/transformers, problem_type="single_label_classification"

    check: train_step
    finds: nothing
"""

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

CLASSES = 10


class ForImageClassification(nn.Module):
    def __init__(self, problem_type):
        super().__init__()
        self.config = SimpleNamespace(problem_type=problem_type)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(3 * 10 * 10, 32), nn.ReLU(), nn.Linear(32, CLASSES))

    def forward(self, pixel_values, labels=None):
        logits = self.classifier(pixel_values)
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


model = ForImageClassification("single_label_classification")
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
