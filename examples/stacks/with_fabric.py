"""Lightning Fabric: mixup in the loop, its draws decided by the step: pip install vicinal lightning scikit-learn"""

import torch
import torch.nn.functional as F
from lightning.fabric import Fabric, seed_everything
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import vicinal

seed_everything(0)
fabric = Fabric(devices=1)
fabric.launch()
images, labels = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
train, test = train_test_split(TensorDataset(images.float() / 16, labels), test_size=600, random_state=0)
net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
net, optimizer = fabric.setup(net, torch.optim.Adam(net.parameters(), 2e-3))
train_loader, test_loader = fabric.setup_dataloaders(DataLoader(train, 32, shuffle=True), DataLoader(test, 300))
mixup = vicinal.Mixup(alpha=0.4)

step = 0
for _ in range(15):
    for x, y in train_loader:
        x, y = mixup(x, y, step=step)  # the step decides the draw: a run that resumes has nothing more to save
        fabric.backward(F.cross_entropy(net(x), y))
        optimizer.step()
        optimizer.zero_grad()
        step += 1
fabric.save("checkpoint.ckpt", {"net": net, "optimizer": optimizer, "mixup": mixup, "step": step})

with torch.inference_mode():
    hits = torch.cat([net(x).argmax(1) == y for x, y in test_loader])
accuracy = fabric.all_gather(hits).float().mean()
fabric.print(f"test accuracy {accuracy:.3f}")
