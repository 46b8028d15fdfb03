"""WebDataset: mixed after the batch is made, here or in workers; batches of arrays and batches made anew are refused."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import default_collate

import vicinal
from stacks.programs import printed_by
from vicinal.keyed import Key

wds = pytest.importorskip("webdataset", reason="needs webdataset: pip install webdataset")

ROWS, BATCH, CLASSES = 80, 8, 3
X = Key(0, 0, 0, 0).generator().normal(size=(ROWS, 4)).astype(np.float32)
IDS = np.arange(ROWS) % CLASSES


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    with wds.ShardWriter(str(folder / "rows-%03d.tar"), maxcount=20, verbose=0) as writer:
        for i, (x, label) in enumerate(zip(X, IDS.tolist(), strict=True)):
            writer.write({"__key__": f"{i:06d}", "x.npy": x, "label.cls": label})
    return sorted(map(str, folder.iterdir()))


def examples(shards):
    return wds.WebDataset(shards, shardshuffle=False).decode().to_tuple("x.npy", "label.cls")


def mixup():
    return vicinal.Mixup(1.0, seed=5)


def test_the_program(tmp_path):
    printed = printed_by("with_webdataset", tmp_path)
    assert float(re.fullmatch(r"test accuracy (\S+)\n", printed)[1]) > 0.94
    assert not list(tmp_path.iterdir())


def test_map_of_the_loader_is_the_loop_by_hand(shards):
    vicinity = mixup()
    loader = wds.WebLoader(examples(shards), batch_size=BATCH).map(lambda batch: vicinity(*batch))
    for epoch in range(2):
        for i, (x, y) in enumerate(loader):
            rows = slice(i * BATCH, (i + 1) * BATCH)
            plan = mixup().plan(BATCH, step=epoch * (ROWS // BATCH) + i)
            assert torch.equal(x, plan(torch.from_numpy(X[rows])))
            assert torch.equal(y.dense(CLASSES), plan.target(torch.from_numpy(IDS[rows])).dense(CLASSES))
        assert i + 1 == ROWS // BATCH


@pytest.mark.parametrize("form", ["collation_fn", "collate_fn", "map"])
def test_workers_draw_their_own_and_anew_in_every_epoch(shards, form):
    vicinity, data = mixup(), examples(shards)
    mix = vicinal.Collate(vicinity)
    if form == "collation_fn":
        loader = wds.WebLoader(data.batched(BATCH, collation_fn=mix), batch_size=None, num_workers=2)
    elif form == "collate_fn":
        loader = wds.WebLoader(data, batch_size=BATCH, num_workers=2, collate_fn=mix)
    else:
        loader = wds.WebLoader(data.batched(BATCH), batch_size=None, num_workers=2).map(lambda batch: vicinity(*batch))
    drawn = [round(float(y.weight[0, 0]), 6) for _ in range(2) for _, y in loader]
    keys = (
        [(0, step) for step in range(len(drawn))]
        if form == "map"
        else [(w, s) for w in (1, 2) for s in range(len(drawn) // 2)]
    )
    expected = [round(float(mixup().plan(BATCH, step=step, worker=worker).weight[0]), 6) for worker, step in keys]
    assert sorted(drawn) == sorted(expected)
    assert len(set(drawn)) == len(drawn) >= 2 * ROWS // BATCH


def test_switched_off_it_is_the_plain_loader(shards):
    vicinity = mixup()
    loader = wds.WebLoader(examples(shards), batch_size=BATCH).map(lambda batch: vicinity(*batch))
    vicinity.off()
    assert torch.equal(torch.cat([x for x, _ in loader]), torch.from_numpy(X))
    assert torch.equal(torch.cat([y.largest() for _, y in loader]), torch.from_numpy(IDS))


def test_arrays_of_batched_are_refused_within_the_pipeline(shards):
    data = examples(shards).batched(BATCH).map(lambda batch: mixup()(*batch))
    with pytest.raises(TypeError, match=r"ndarray, and only tensors can be mixed: torch\.from_numpy"):
        next(iter(data))
    data = examples(shards).batched(BATCH, collation_fn=default_collate).map(lambda batch: mixup()(*batch))
    x, _ = next(iter(data))
    assert torch.equal(x, mixup().plan(BATCH, step=0)(torch.from_numpy(X[:BATCH])))


def test_batches_made_anew_after_mixing_fail_in_the_loss_and_before_it_they_are_right(shards):
    vicinity = mixup()
    loader = wds.WebLoader(examples(shards).batched(BATCH), batch_size=None)
    anew = loader.map(lambda batch: vicinity(*batch)).unbatched().shuffle(100).batched(16)
    x, y = next(iter(anew))
    assert type(y) is list
    with pytest.raises(TypeError, match="must be Tensor, not list"):
        F.cross_entropy(x[:, :CLASSES], y)
    loader = wds.WebLoader(examples(shards).batched(BATCH), batch_size=None)
    anew = loader.unbatched().batched(16).map(lambda batch: mixup()(*batch))
    plan = mixup().plan(16, step=0)
    x, y = next(iter(anew))
    assert torch.equal(x, plan(torch.from_numpy(X[:16])))
    logits = x[:, :CLASSES]
    assert torch.equal(F.cross_entropy(logits, y), F.cross_entropy(logits, plan.target(torch.from_numpy(IDS[:16]))))


def test_samples_as_dicts_keep_their_keys_out_of_the_mix(shards):
    samples = wds.WebDataset(shards, shardshuffle=False).decode()
    with pytest.raises(TypeError, match="leave it out of the call"):
        next(iter(wds.WebLoader(samples, batch_size=BATCH, collate_fn=vicinal.Collate(mixup(), target="label.cls"))))
    named = samples.rename(x="x.npy", label="label.cls", keep=False)
    batch = next(iter(wds.WebLoader(named, batch_size=BATCH, collate_fn=vicinal.Collate(mixup()))))
    assert torch.equal(batch["x"], mixup().plan(BATCH, step=0)(torch.from_numpy(X[:BATCH])))
    assert isinstance(batch["label"], vicinal.MixedTarget)
