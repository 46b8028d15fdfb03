"""PyTorch Ignite: mixup as the trainer's prepare_batch: pip install vicinal pytorch-ignite scikit-learn"""

from typing import Any

import torch
import torch.nn.functional as F
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import Checkpoint
from ignite.metrics import Accuracy
from ignite.utils import convert_tensor, manual_seed
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import vicinal

manual_seed(0)
images, labels = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
train, test = train_test_split(TensorDataset(images.float() / 16, labels), test_size=600, random_state=0)
net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.Adam(net.parameters(), 2e-3)
mixup = vicinal.Mixup(alpha=0.4)


def prepare_batch(batch: Any, device: Any = None, non_blocking: bool = False) -> Any:
    return mixup(*convert_tensor(batch, device, non_blocking))


trainer = create_supervised_trainer(net, optimizer, F.cross_entropy, prepare_batch=prepare_batch)
evaluator = create_supervised_evaluator(net, {"accuracy": Accuracy()})  # of its own, and plain
keep = {"net": net, "optimizer": optimizer, "trainer": trainer, "mixup": mixup}
trainer.add_event_handler(Events.EPOCH_COMPLETED, Checkpoint(keep, "checkpoints"))
trainer.run(DataLoader(train, 32, shuffle=True), max_epochs=15)
print(f"test accuracy {evaluator.run(DataLoader(test, 300)).metrics['accuracy']:.3f}")
