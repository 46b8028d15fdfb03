"""Manifold Mixup: mixing at a hidden layer, drawn per batch; the model needs no change."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import vicinal

BATCH, EPOCHS = 64, 5


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.head = nn.Linear(32 * 4 * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.middle(self.stem(x)))


if __name__ == "__main__":
    torch.manual_seed(0)
    images, ids = load_digits(return_X_y=True)
    x, y = torch.from_numpy(images).float().view(-1, 1, 8, 8) / 16, torch.from_numpy(ids)
    net = Network()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    mixup = vicinal.Mixup(alpha=1.0)
    latent = vicinal.LatentMixing(net, ["stem", "middle", "head"])  # "stem" is the input itself
    drawn: dict[str, int] = {}
    step = 0
    for _ in range(EPOCHS):
        for rows in torch.randperm(1200).split(BATCH):
            with latent(mixup.plan(len(rows), step=step)) as plan:
                loss = F.cross_entropy(net(x[rows]), plan.target(y[rows]))
            drawn[latent.at] = drawn.get(latent.at, 0) + 1
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    with torch.inference_mode():
        accuracy = (net(x[1200:]).argmax(1) == y[1200:]).float().mean()
    print(f"test accuracy {accuracy:.3f} after mixing before {drawn}")
