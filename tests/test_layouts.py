"""What CutMix cuts: every layout that people have, undeclared, declared, or refused."""

import math

import pytest
import torch

import vicinal as v
from vicinities import CLASSES, ids, noise

N = 4


def marked(*shape):
    """Return inputs whose every cell says whose it is."""
    return torch.arange(N).double().view(N, *(1,) * len(shape)).expand(N, *shape).contiguous()


def cells(x, got, of_grid):
    """Return for each row which cells of the grid its partner filled, and that all else agrees within a cell."""
    changed = got != x
    others = [d for d in range(1, x.ndim) if d not in of_grid]
    assert torch.equal(changed.any(others, keepdim=True).expand_as(changed), changed) if others else True
    return changed.amax(others) if others else changed


CUT = [
    ((3, 16, 12), {}, (2, 3)),
    ((1, 16, 12), {}, (2, 3)),
    ((13, 64, 64), {}, (2, 3)),
    ((2, 40), {}, (2,)),
    ((12, 500), {}, (2,)),
    ((40,), {}, (1,)),
    ((16, 12, 3), {"channels_last": True}, (1, 2)),
    ((8, 16, 12, 3), {"dims": 2, "channels_last": True}, (2, 3)),
    ((40, 3), {"channels_last": True}, (1,)),
    ((6, 9, 8, 2), {"channels_last": True}, (1, 2, 3)),
    ((16, 3, 12, 10), {"dims": 2}, (3, 4)),
    ((3, 6, 12, 10), {"dims": 3}, (2, 3, 4)),
    ((28, 28, 28), {"dims": 3}, (1, 2, 3)),
    ((64, 8, 8), {"dims": 2}, (2, 3)),
    ((100, 40), {"dims": 2}, (1, 2)),
    ((64, 200), {"dims": 1}, (2,)),
    ((40,), {"dims": 1}, (1,)),
]


@pytest.mark.parametrize("per", ["batch", "example"])
@pytest.mark.parametrize(("shape", "declared", "of_grid"), CUT, ids=str)
def test_boxes_lie_in_the_grid_and_the_share_is_that_of_the_cells(shape, declared, of_grid, per):
    x, y = marked(*shape), torch.arange(N)
    cutmix = v.CutMix(1.0, per=per, pairing=v.RandomPairs(self_pairs=False), seed=1, **declared)
    for step in range(12):
        plan = cutmix.plan(N, y, x, step=step)
        got = plan(x)
        assert got.shape == x.shape
        cut = cells(x, got, of_grid)
        share = 1 - cut.flatten(1).double().mean(1)
        torch.testing.assert_close(plan.weight.double(), share, rtol=0, atol=1e-7)
        torch.testing.assert_close(plan.target(y).dense(N).diagonal().double(), share, rtol=0, atol=1e-7)
        for row in cut:  # what is cut is a box
            if row.any():
                sides = (
                    [int(row.amax([d for d in range(row.ndim) if d != i]).sum()) for i in range(row.ndim)]
                    if row.ndim > 1
                    else [int(row.sum())]
                )
                assert int(row.sum()) == math.prod(sides)


REFUSED = [
    ((16, 3, 32, 32), "volumes .*dims=3.* or videos .*dims=2"),
    ((3, 16, 32, 32), "volumes .*dims=3.* or videos .*dims=2"),
    ((2, 2, 3, 8, 8), "volumes .*dims=3.* or videos .*dims=2"),
    ((32, 32, 3), "channels_last=True.*dims=2"),
    ((32, 32, 1), "channels_last=True.*dims=2"),
    ((8, 10, 4), "channels_last=True.*dims=2"),
    ((28, 28, 28), "dims=2.*dims=3"),
    ((6, 6, 6), "dims=2.*dims=3"),
    ((64, 8, 8), "dims=2.*dims=3"),
    ((40, 64, 64), "dims=2.*dims=3"),
    ((1024, 128), "dims=1.*dims=2.*channels_last=True"),
    ((100, 128), "dims=1.*dims=2.*channels_last=True"),
    ((40, 3), "dims=1.*dims=2.*channels_last=True"),
]


@pytest.mark.parametrize(("shape", "sentence"), REFUSED, ids=str)
def test_a_shape_that_can_mean_several_things_is_refused(shape, sentence):
    with pytest.raises(ValueError, match=rf"CutMix cannot tell the grid of inputs \[4, .*{sentence}"):
        v.CutMix(1.0)(torch.zeros(N, *shape), ids(N))


@pytest.mark.parametrize("shape", [(1, 6, 7, 8), (2, 16, 32, 32), (28, 28, 28), (64, 8, 8), (28, 28, 3)])
def test_a_mask_says_what_the_grid_is(shape):
    grid = shape[:2] if shape[-1] == 3 else shape[-3:] if shape != (64, 8, 8) else shape[-2:]
    x, mask = marked(*shape), torch.arange(N).view(N, *(1,) * len(grid)).expand(N, *grid)
    cutmix = v.CutMix(1.0, pairing=v.RandomPairs(self_pairs=False), seed=1, channels_last=shape[-1] == 3)
    for step in range(6):
        got, target = cutmix(x, mask, step=step)
        own = target.ids[0].double()
        assert torch.equal(
            got,
            own.view(N, *own.shape[1:], 1).expand_as(x)
            if shape[-1] == 3
            else own.expand_as(x)
            if own.ndim == x.ndim
            else own[:, None].expand_as(x),
        )


@pytest.mark.parametrize("declared", [{"dims": 3}, {"dims": 2, "channels_last": True}])
def test_a_grid_that_is_not_there_is_refused(declared):
    with pytest.raises(ValueError, match="dimensions of a grid, got"):
        v.CutMix(1.0, **declared)(torch.zeros(N, 5, 6), ids(N))


@pytest.mark.parametrize("arguments", [{"dims": 0}, {"dims": 4}, {"dims": True}, {"dims": 2.5}, {"channels_last": 1}])
def test_declarations_are_checked(arguments):
    with pytest.raises(ValueError, match=r"dims is the number of dimensions|channels_last must be"):
        v.CutMix(1.0, **arguments)


def test_a_video_says_by_its_type_what_it_is():
    class Video(torch.Tensor):
        pass

    Video.__module__ = "torchvision.tv_tensors._video"
    x = marked(8, 3, 16, 12).as_subclass(Video)
    plan = v.CutMix(1.0, seed=1).plan(N, ids(N), x, step=0)
    assert plan.grid == (16, 12)
    assert cells(x.as_subclass(torch.Tensor), plan(x).as_subclass(torch.Tensor), (3, 4)).any()


def test_tokens_are_selected():
    tokens, mask = torch.arange(48).view(N, 12), torch.arange(12)[None] < torch.tensor([12, 7, 9, 3])[:, None]
    batch = {"input_ids": tokens, "attention_mask": mask.long()}
    cutmix = v.CutMix(1.0, pairing=v.RandomPairs(self_pairs=False), seed=1)
    plan = cutmix.plan(N, ids(N), batch, step=2)
    got = plan(batch)
    (start, stop), partner = plan.box[0, 0].tolist(), plan.partner
    expected = tokens.clone()
    expected[:, start:stop] = tokens[partner, start:stop]
    assert 0 < stop - start < 12
    assert torch.equal(got["input_ids"], expected)
    assert torch.equal(got["attention_mask"][:, start:stop], mask.long()[partner, start:stop])
    assert torch.equal(got["attention_mask"][:, :start], mask.long()[:, :start])


@pytest.mark.parametrize("length", [10, 3])
def test_vectors_follow_the_share_whatever_their_length(length):
    """Soft labels of as many classes as the signal has moments are no map."""
    x = {"signal": noise(N, 2, 10), "features": noise(N, length, seed=2)}
    soft = noise(N, length, seed=3).softmax(1)
    for step in range(8):
        plan = v.CutMix(1.0, seed=1).plan(N, ids(N), x, step=step)
        pairs = v.MixPlan(plan.partner, plan.weight)
        assert torch.equal(plan.target(soft), pairs.target(soft))
        assert torch.equal(plan(x)["features"], pairs(x["features"]))
        torch.testing.assert_close(plan.target(soft).sum(1), torch.ones(N).double())


def test_a_value_at_each_moment_is_cut_with_the_signal_or_refused():
    x = noise(N, 32)
    plan = v.CutMix(1.0, pairing=v.RandomPairs(self_pairs=False), seed=2).plan(N, ids(N), x, step=1)
    with pytest.raises(
        ValueError, match=r"beside signals of this length.*y\[:, None\].*MixPlan\(plan.partner, plan.weight\)"
    ):
        plan.target(x)
    assert torch.equal(plan.target(x[:, None])[:, 0], plan(x))
    soft = noise(N, 32, seed=3).softmax(1)
    assert torch.equal(plan.target(soft), v.MixPlan(plan.partner, plan.weight).target(soft))


def test_maps_beside_the_inputs_are_cut_alike():
    whose = torch.arange(N)
    video, frames = marked(8, 3, 6, 5), whose.view(N, 1, 1, 1).expand(N, 8, 6, 5)
    plan = v.CutMix(1.0, dims=2, seed=3).plan(N, whose, video, step=1)
    assert torch.equal(plan.target(frames).ids[0].double(), plan(video)[:, :, 0])
    image, mask = marked(16, 12, 3), whose.view(N, 1, 1).expand(N, 16, 12)
    plan = v.CutMix(1.0, channels_last=True, seed=3).plan(N, whose, image, step=1)
    got = plan(image)
    assert torch.equal(plan.target(mask).ids[0].double(), got[..., 0])
    soft = torch.nn.functional.one_hot(mask, N).double()  # [n, h, w, classes], as the images are
    assert torch.equal(plan.target(soft).argmax(-1).double(), got[..., 0])
    assert torch.equal(plan.target(soft.movedim(-1, 1)).argmax(1).double(), got[..., 0])


def test_every_layout_replays_and_pickles():
    plan = v.CutMix(1.0, channels_last=True, seed=3).plan(N, ids(N), marked(16, 12, 3), step=1)
    again = v.plan_from_dict(plan.to_dict())
    assert torch.equal(again(marked(16, 12, 3)), plan(marked(16, 12, 3)))
    assert again.target(ids(N)).dense(CLASSES).tolist() == plan.target(ids(N)).dense(CLASSES).tolist()
