"""Lightning and Fabric: the batch size is found, checkpoints hold the draws, a vicinity is read from a command line."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, default_collate

import vicinal

L = pytest.importorskip("lightning", reason="needs lightning: pip install lightning")
x, y = torch.eye(4), torch.arange(4)


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net, self.sizes = torch.nn.Linear(4, 3), []

    def training_step(self, batch, i):
        x, y = batch
        self.sizes.append(len(y))
        out = self.net(x)
        self.log("accuracy", (out.argmax(1) == y).float().mean(), on_epoch=True)
        return F.cross_entropy(out, y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_a_mixing_collate_function_and_logging():
    mixup = vicinal.Mixup(1.0)
    data = TensorDataset(torch.randn(64, 4), torch.randint(0, 3, (64,)))
    loader = DataLoader(data, 16, collate_fn=lambda rows: mixup(*default_collate(rows)))
    module = Module()
    options = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    L.Trainer(accelerator="cpu", max_epochs=1, **options).fit(module, loader)
    assert module.sizes == [16] * 4


def test_fabric_saves_a_vicinity_and_its_state_goes_on(tmp_path):
    mixup, fabric = vicinal.Mixup(0.4), L.Fabric(accelerator="cpu", devices=1)
    mixup(x, y)
    fabric.save(tmp_path / "a.ckpt", {"net": torch.nn.Linear(2, 2), "mixup": mixup})
    expected, _ = mixup(x, y)
    resumed = vicinal.Mixup(0.4)
    resumed.load_state_dict(fabric.load(tmp_path / "a.ckpt")["mixup"])
    assert torch.equal(resumed(x, y)[0], expected)


def test_a_default_vicinity_of_a_command_line():
    jsonargparse = pytest.importorskip(
        "jsonargparse", reason="needs jsonargparse: pip install 'jsonargparse[signatures]'"
    )
    default = vicinal.Choice([vicinal.Mixup(0.2), vicinal.CutMix(1.0)])

    class Model:
        def __init__(self, mixup: vicinal.Vicinity = default):
            self.mixup = mixup

    parser = jsonargparse.ArgumentParser()
    parser.add_class_arguments(Model, "model")
    assert parser.parse_args([]).model.mixup
    named = parser.parse_args(["--model.mixup=vicinal.Mixup", "--model.mixup.alpha=0.7"])
    assert named.model.mixup.init_args.alpha == 0.7
    values = json.loads(parser.dump(named, format="json"))["model"]["mixup"]["init_args"]
    assert values == {"alpha": 0.7, "pairing": {"class_path": "vicinal.RandomPairs", "init_args": {"self_pairs": True}}}
