"""Two processes of Lightning, by Fabric and by its Trainer: rows, draws and weights; a checkpoint of Fabric."""

import sys
from pathlib import Path

import lightning.pytorch as L
import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from torch.utils.data import DataLoader

import vicinal
from stacks.processes import BATCH, CLASSES, RATE, Recording, data, linear, mixup, numbers_of
from vicinal.integrations.lightning import VicinalCallback

folder = Path(sys.argv[1])


def fabric_in_the_loop():
    """Train two epochs and save in the middle; return rows, draws, weights, and the draw after the checkpoint."""
    loader = fabric.setup_dataloaders(DataLoader(data(), BATCH, shuffle=True))
    net = linear()
    net, optimizer = fabric.setup(net, torch.optim.SGD(net.parameters(), RATE))
    vicinity, rows, draws = mixup(), [], []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        for x, y in loader:
            rows.append(numbers_of(x))
            x, y = vicinity(x, y)
            draws.append((x, y.dense(CLASSES)))
            fabric.backward(F.cross_entropy(net(x), y))
            optimizer.step()
            optimizer.zero_grad()
        if epoch == 0:
            fabric.save(folder / "fabric.ckpt", {"net": net, "mixup": vicinity})
    weights = [p.detach() for p in net.module.parameters()]
    hits = net(x).argmax(1) == y
    again = mixup()
    again.load_state_dict(fabric.load(folder / "fabric.ckpt")["mixup"])
    x, y = data()[rows[len(rows) // 2]]
    return {
        "rows": rows,
        "draws": draws,
        "weights": weights,
        "resumed": again(x, y)[0],
        "hits": hits,
        "gathered": fabric.all_gather(hits),
    }


def fabric_in_the_collator():
    recording = Recording()
    loader = DataLoader(data(), BATCH, shuffle=True, collate_fn=vicinal.Collate(mixup(), recording))
    loader = fabric.setup_dataloaders(loader)
    draws = [(x, y.dense(CLASSES)) for x, y in loader]
    return {"rows": recording.batches, "draws": draws}


class Module(L.LightningModule):
    """Keeps the rows that reach the device, and what `training_step` is given."""

    def __init__(self):
        super().__init__()
        self.net = linear()
        self.rows, self.draws = [], []

    def on_after_batch_transfer(self, batch, dataloader_idx):
        self.rows.append(numbers_of(batch[0]))
        return batch

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.draws.append((x, y.dense(CLASSES)))
        return F.cross_entropy(self.net(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), RATE)


def trainer(collate_fn=None, callbacks=()):
    module = Module()
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    fit = L.Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=2, callbacks=list(callbacks), **quiet)
    fit.fit(module, DataLoader(data(), BATCH, shuffle=True, collate_fn=collate_fn))
    weights = [p.detach() for p in module.net.parameters()]
    return {"rows": module.rows, "draws": module.draws, "weights": weights}


def trainer_in_the_collator():
    recording = Recording()
    seen = trainer(vicinal.Collate(mixup(), recording))
    return {**seen, "rows": recording.batches}


fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
fabric.launch()
seen = {
    "fabric": fabric_in_the_loop(),
    "fabric, collator": fabric_in_the_collator(),
    "trainer": trainer(callbacks=[VicinalCallback(mixup())]),
    "trainer, collator": trainer_in_the_collator(),
}
torch.save(seen, folder / f"{fabric.global_rank}.pt")
