"""Mixup in fastai by a callback of eight lines, on handwritten digits. `pip install vicinal fastai scikit-learn`"""

import torch
from fastai.vision.all import Callback, CrossEntropyLossFlat, DataLoader, DataLoaders, Learner, accuracy, set_seed
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import TensorDataset

import vicinal


class Vicinal(Callback):
    """Mix the batches of training, once they are on their device."""

    run_valid = False

    def __init__(self, vicinity: vicinal.Vicinity) -> None:
        self.vicinity = vicinity

    def before_batch(self) -> None:
        x, y = self.vicinity(self.x, self.y)
        self.learn.xb, self.learn.yb = (x,), (y,)


if __name__ == "__main__":
    set_seed(0, reproducible=True)
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images / 16, labels, train_size=600, stratify=labels, random_state=0)
    x_train, x_test, y_train, y_test = (torch.from_numpy(part) for part in parts)
    loader = DataLoader(TensorDataset(x_train.float(), y_train), bs=32, shuffle=True)
    tests = DataLoader(TensorDataset(x_test.float(), y_test), bs=256)
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
    mixup = Vicinal(vicinal.Mixup(alpha=0.4, seed=0))
    learn = Learner(DataLoaders(loader, tests), net, loss_func=CrossEntropyLossFlat(), metrics=accuracy, cbs=mixup)
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(15, base_lr=1e-2)  # two fits, whose draws go on
        print(f"test accuracy {learn.validate()[1]:.3f}")
