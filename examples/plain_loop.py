"""A whole training loop on handwritten digits, with mixup and without; the two differ in one line."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import vicinal

EPOCHS = 20


def data() -> tuple[TensorDataset, TensorDataset]:
    """Return 600 images [64] to train on and 1,197 to test on."""
    x, y = load_digits(return_X_y=True)
    parts = train_test_split(x / 16, y, train_size=600, stratify=y, random_state=0)
    x_train, x_test, y_train, y_test = (torch.from_numpy(part) for part in parts)
    return TensorDataset(x_train.float(), y_train), TensorDataset(x_test.float(), y_test)


def train(vicinity: vicinal.Vicinity, dataset: TensorDataset) -> nn.Module:
    torch.manual_seed(0)  # the same weights and order of data for both; the vicinity has a seed of its own
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(net.parameters())
    loader = DataLoader(dataset, batch_size=32, shuffle=True)
    for epoch in range(EPOCHS):
        correct = torch.zeros(())
        for x, y in loader:
            x, y = vicinity(x, y)
            logits = net(x)
            loss = F.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            correct += (logits.argmax(1) == y).sum()  # while mixing: the share of each label that was right
        if (epoch + 1) % 10 == 0:
            print(f"  epoch {epoch + 1}: training accuracy {correct / len(dataset):.3f}")
    return net


@torch.inference_mode()
def accuracy(net: nn.Module, dataset: TensorDataset) -> Tensor:
    x, y = dataset.tensors
    return (net(x).argmax(1) == y).float().mean()


if __name__ == "__main__":
    known, new = data()
    for vicinity in (vicinal.ERM(), vicinal.Mixup(alpha=0.4)):
        print(vicinity)
        print(f"  test accuracy {accuracy(train(vicinity, known), new):.3f}")
