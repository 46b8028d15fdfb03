"""Optuna: alpha, or no mixup at all, chosen on validation rows. pip install vicinal optuna scikit-learn"""

import optuna
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import vicinal

x, y = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
x = (x / 16).float()
known, test = train_test_split(torch.arange(len(y)), stratify=y, random_state=0)
train, validation = train_test_split(known, stratify=y[known], random_state=0)


def accuracy(alpha: float, rows: Tensor, scored: Tensor, seed: int) -> float:
    vicinity = vicinal.Mixup(alpha, seed=seed) if alpha else vicinal.ERM()
    random = torch.Generator().manual_seed(seed)  # of this training alone: trials may run in threads
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.1, generator=random)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for step in range(300):
        batch = rows[torch.randint(len(rows), (64,), generator=random)]
        images, labels = vicinity(x[batch], y[batch], step=step)
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()
    return float((net(x[scored]).argmax(1) == y[scored]).float().mean())


alphas = {"alpha": [0.0, 0.1, 0.2, 0.4, 1.0]}  # 0 is training without mixup
study = optuna.create_study(direction="maximize", sampler=optuna.samplers.GridSampler(alphas, seed=0))
study.optimize(lambda trial: accuracy(trial.suggest_float("alpha", 0, 1), train, validation, seed=0))
alpha = study.best_params["alpha"]
print(f"alpha {alpha}: validation accuracy {study.best_value:.3f}, test accuracy {accuracy(alpha, known, test, 1):.3f}")
