"""Mixing in persistent DataLoader workers: each has draws of its own, and off() reaches them at their next batch."""

import torch
from torch.utils.data import DataLoader, Dataset

import vicinal

mixup = vicinal.Mixup(alpha=1.0)


class Numbers(Dataset[tuple[torch.Tensor, int]]):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return torch.full((3,), float(i)), i % 10


if __name__ == "__main__":
    loader = DataLoader(
        Numbers(),
        batch_size=16,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,
        collate_fn=vicinal.Collate(mixup),
    )
    for epoch in range(4):
        if epoch == 3:
            mixup.off()  # train on the data as they are at the end
        weights = [f"{float(y.weight[0, 0]):.3f}" for x, y in loader]
        print(f"epoch {epoch}: each batch keeps", *weights)
    print("for the checkpoint:", mixup.state_dict())
