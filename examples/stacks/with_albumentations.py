"""albumentations: images are augmented one by one, then mixed as a batch. pip install vicinal albumentations scikit-learn"""

import albumentations as A
import torch
import torch.nn.functional as F
from albumentations.pytorch import ToTensorV2
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import vicinal

torch.manual_seed(0)
x, y = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split((x.reshape(-1, 8, 8, 1) / 16).astype("float32"), y, random_state=0)


class Digits(Dataset[tuple[Tensor, int]]):
    augment = A.Compose([A.Affine(translate_percent=0.1, rotate=(-10, 10), p=1), ToTensorV2()], seed=0)

    def __len__(self) -> int:
        return len(y_train)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.augment(image=x_train[index])["image"], y_train[index]


mixup = vicinal.Mixup(alpha=0.4)
net = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
loader = DataLoader(Digits(), batch_size=64, shuffle=True)
for _ in range(12):
    for images, labels in loader:
        images, labels = mixup(images, labels)
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()
print(f"test accuracy {(net(torch.from_numpy(x_test)).argmax(1) == torch.from_numpy(y_test)).float().mean():.3f}")
