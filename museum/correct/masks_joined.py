"""Text classifier that mixes embeddings in its step: attention sees the tokens of either row.

Source: SALT-NLP/MixText #3 (a simple or between the two masks)

    check: train_step
    finds: nothing
"""

import torch
import torch.nn.functional as F
from torch import nn

EMBED, CLASSES = 16, 3


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(500, EMBED)
        self.encoder = nn.TransformerEncoderLayer(EMBED, 2, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(EMBED, CLASSES)

    def forward(self, embeddings, attention_mask):
        hidden = self.encoder(embeddings, src_key_padding_mask=~attention_mask)
        weight = attention_mask.unsqueeze(-1).float()
        return self.head((hidden * weight).sum(1) / weight.sum(1))


model = Classifier()
optimizer = torch.optim.Adam(model.parameters())
lengths = torch.randint(3, 13, (24,))
example = {
    "input_ids": torch.randint(1, 500, (24, 12)),
    "attention_mask": torch.arange(12)[None] < lengths[:, None],
    "labels": torch.arange(24) % CLASSES,
}


def train_step(batch):
    embeddings, mask, labels = model.embed(batch["input_ids"]), batch["attention_mask"], batch["labels"]
    lam = torch.distributions.Beta(1.0, 1.0).sample()
    order = torch.randperm(len(labels))
    logits = model(lam * embeddings + (1 - lam) * embeddings[order], mask | mask[order])
    loss = lam * F.cross_entropy(logits, labels) + (1 - lam) * F.cross_entropy(logits, labels[order])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss
