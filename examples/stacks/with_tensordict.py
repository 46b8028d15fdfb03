"""TensorDict: a batch with images, features and a label, mixed with one draw. pip install vicinal tensordict scikit-learn"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import nn
from torch.utils.data import DataLoader

import vicinal

torch.manual_seed(0)
x, y = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
images = (x / 16).float().view(-1, 1, 8, 8)
digits = TensorDict({"image": images, "ink": {"rows": images.sum(3).flatten(1)}, "label": y}, batch_size=[len(y)])
train_rows, test_rows = train_test_split(torch.arange(len(y)), stratify=y, random_state=0)

model = TensorDictSequential(
    TensorDictModule(nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Flatten()), ["image"], ["features"]),
    TensorDictModule(lambda *parts: torch.cat(parts, 1), ["features", ("ink", "rows")], ["all"]),
    TensorDictModule(nn.Sequential(nn.Linear(264, 64), nn.ReLU(), nn.Linear(64, 10)), ["all"], ["logits"]),
)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
mixup = vicinal.Mixup(alpha=0.4)
loader = DataLoader(digits[train_rows], batch_size=64, shuffle=True, collate_fn=lambda batch: batch)
for _ in range(20):
    for batch in loader:
        inputs, labels = mixup(batch.exclude("label"), batch["label"])
        optimizer.zero_grad()
        F.cross_entropy(model(inputs)["logits"], labels).backward()
        optimizer.step()

test = digits[test_rows]
print(f"test accuracy {(model(test)['logits'].argmax(1) == test['label']).float().mean():.3f}")
