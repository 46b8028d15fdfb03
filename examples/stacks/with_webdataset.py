"""WebDataset: shards are read, shuffled and batched first, and mixed last. pip install vicinal webdataset scikit-learn"""

import tempfile

import torch
import torch.nn.functional as F
import webdataset as wds
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import vicinal

torch.manual_seed(0)
x, y = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split((x / 16).astype("float32"), y, random_state=0)
folder = tempfile.TemporaryDirectory()
with wds.ShardWriter(f"{folder.name}/digits-%03d.tar", maxcount=400, verbose=0) as shards:
    for i, (image, label) in enumerate(zip(x_train, y_train.tolist(), strict=True)):
        shards.write({"__key__": f"{i:06d}", "image.npy": image, "label.cls": label})

mixup = vicinal.Mixup(alpha=0.4)
names = f"{folder.name}/digits-{{000..003}}.tar"
dataset = wds.WebDataset(names, shardshuffle=4, seed=0).shuffle(500, seed=0).decode().to_tuple("image.npy", "label.cls")
loader = wds.WebLoader(dataset, batch_size=32).map(lambda batch: mixup(*batch))

net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for _ in range(5):
    for images, labels in loader:
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()

correct = net(torch.from_numpy(x_test)).argmax(1) == torch.from_numpy(y_test)
print(f"test accuracy {correct.float().mean():.3f}")
