"""Training where the data are: on PyTorch's meta device, which refuses other devices' tensors and reading a value."""

import contextlib
from dataclasses import replace

import pytest
import torch

from vicinal import Mixup
from vicinal.keyed import Key
from vicinal.lab.data.dataset import InMemoryDataset
from vicinal.lab.data.encoded_splits import StackedSplit
from vicinal.lab.data.table_inputs import TableInputs
from vicinal.lab.data.transforms import CropFlip
from vicinal.lab.training import loop, recipes, stacked_mlp
from vicinal.lab.training.distributed import Processes

META = torch.device("meta")


def test_the_fleet_computes_where_its_data_are() -> None:
    x = torch.ones(2, 37, 5, device=META)
    data = StackedSplit(TableInputs(x), torch.ones(2, 37, dtype=torch.int64, device=META))
    runs = [stacked_mlp.MLPRun(i % 2, i, Mixup(0.4)) for i in range(4)]
    trained = stacked_mlp.train(runs, data, 2, stacked_mlp.MLPTraining(epochs=2, hidden=(8,))).models
    assert {w.device for w in (*trained.weights, *trained.biases)} == {META}
    assert trained.outputs(x[0]).device == META


def test_a_step_of_the_loop_reads_nothing_from_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: contextlib.nullcontext())  # has no meta device
    images = torch.zeros(20, 3, 32, 32, dtype=torch.uint8)
    data = InMemoryDataset(images, torch.arange(20) % 3, ("a", "b", "c"), (0.5,) * 3, (0.2,) * 3, CropFlip(2))
    recipe = replace(recipes.cifar10_preact18_mixup(), model="small", batch_size=8, grad_accum_steps=2, ema_decay=0.9)
    run = loop._Run(recipe, data.to(META), data.to(META), Processes(0, 1, META))
    assert [run.progress()[0] for _ in run.steps()] == [1, 2, 3]
    assert {t.device for t in (run._sums, *run.model.state_dict().values())} == {META}


def test_a_batch_is_made_where_the_data_are() -> None:
    images = torch.zeros(6, 3, 4, 4, dtype=torch.uint8)
    data = InMemoryDataset(images, torch.arange(6), tuple("abcdef"), (0.1, 0.2, 0.3), (0.5, 0.25, 0.2))
    x, y = data.to(META).batch(torch.tensor([4, 0]), Key(0, 0, 0, 0))
    assert x.device == y.device == META
    assert x.dtype == torch.float32


def test_the_device_refuses() -> None:
    x = torch.ones(2, device=META)
    with pytest.raises(RuntimeError, match="not on the expected device"):
        x.add(torch.ones(2))
    for read in (bool, float, torch.Tensor.tolist, torch.Tensor.cpu):
        with pytest.raises((RuntimeError, NotImplementedError)):
            read(x.sum())
