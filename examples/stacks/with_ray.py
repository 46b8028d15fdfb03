"""Ray Train: mixup in the loop of two workers. pip install vicinal 'ray[train]' scikit-learn"""

from typing import Any

import ray.train.torch
import torch
import torch.nn.functional as F
from ray.train import ScalingConfig
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import vicinal


def loop(config: dict[str, Any]) -> None:
    torch.manual_seed(0)
    mixup: vicinal.Vicinity = config["mixup"]
    images, labels = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
    train, test = train_test_split(TensorDataset(images.float() / 16, labels), test_size=600, random_state=0)
    net = ray.train.torch.prepare_model(nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)))
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    loader = ray.train.torch.prepare_data_loader(DataLoader(train, 16, shuffle=True))
    for epoch in range(15):
        loader.sampler.set_epoch(epoch)
        for x, y in loader:
            x, y = mixup(x, y)  # each worker draws its own
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
    x, y = test[:] if False else next(iter(DataLoader(test, 600)))
    ray.train.report({"accuracy": (net(x).argmax(1) == y).float().mean().item()})


if __name__ == "__main__":
    config = {"mixup": vicinal.Mixup(alpha=0.4, seed=0)}
    trainer = ray.train.torch.TorchTrainer(loop, train_loop_config=config, scaling_config=ScalingConfig(num_workers=2))
    print(f"test accuracy {trainer.fit().metrics['accuracy']:.3f}")
