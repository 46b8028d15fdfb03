"""Accelerate: mixup in the loop, in one process or by accelerate launch: pip install vicinal accelerate scikit-learn"""

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import vicinal

set_seed(0)
accelerator = Accelerator(gradient_accumulation_steps=2)
images, labels = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
train, test = train_test_split(TensorDataset(images.float() / 16, labels), test_size=600, random_state=0)
net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.Adam(net.parameters(), 2e-3)
net, optimizer, train_loader, test_loader = accelerator.prepare(
    net, optimizer, DataLoader(train, 32, shuffle=True), DataLoader(test, 300)
)
mixup = vicinal.Mixup(alpha=0.4)
accelerator.register_for_checkpointing(mixup)  # save_state() keeps its seed and its count of batches

for _ in range(15):
    for x, y in train_loader:
        x, y = mixup(x, y)
        with accelerator.accumulate(net):
            accelerator.backward(F.cross_entropy(net(x), y))
            optimizer.step()
            optimizer.zero_grad()

with torch.inference_mode():
    hits = [accelerator.gather_for_metrics(net(x).argmax(1) == y) for x, y in test_loader]
accelerator.print(f"test accuracy {torch.cat(hits).float().mean():.3f}")
