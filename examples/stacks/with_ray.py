"""Ray Train: mixup in the loop of two workers, and in their checkpoint: pip install vicinal 'ray[train]' scikit-learn"""

import tempfile

import ray.train.torch
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import vicinal


def train(config: dict[str, vicinal.Vicinity]) -> None:
    torch.manual_seed(0)
    mixup = config["mixup"]  # each worker has a copy, and draws of its own
    images, labels = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
    known, new = train_test_split(TensorDataset(images.float() / 16, labels), test_size=600, random_state=0)
    net = ray.train.torch.prepare_model(nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)))
    optimizer = torch.optim.Adam(net.parameters(), 4e-3)
    loader = ray.train.torch.prepare_data_loader(DataLoader(known, 16, shuffle=True))
    for epoch in range(10):
        loader.sampler.set_epoch(epoch)
        for x, y in loader:
            x, y = mixup(x, y)
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    x, y = next(iter(DataLoader(new, len(new))))
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"net": net.state_dict(), "mixup": mixup.state_dict()}, f"{folder}/state.pt")
        accuracy = (net(x).argmax(1) == y).float().mean().item()
        ray.train.report({"accuracy": accuracy}, checkpoint=ray.train.Checkpoint.from_directory(folder))


workers = ray.train.ScalingConfig(num_workers=2)
trainer = ray.train.torch.TorchTrainer(train, train_loop_config={"mixup": vicinal.Mixup(0.4)}, scaling_config=workers)
print(f"test accuracy {trainer.fit().metrics['accuracy']:.3f}")
