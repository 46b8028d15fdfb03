"""The words of ordinary loops on a MixedTarget: shapes, joins, questions, comparisons with numbers, pytrees."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.pipelining.microbatch import split_args_kwargs_into_chunks
from torch.utils import _pytree as pytree

import installed
from vicinal import MixedTarget, MixPlan, Mixup

CLASSES = 4
SHAPES = [(6,), (6, 1), (6, 3), (6, 2, 4)]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(seed: int, shape: tuple[int, ...], k: int = 2, per_entry: bool = False, smoothing: float = 0.0) -> MixedTarget:
    g = generator(seed)
    weight = torch.rand(k, *(shape if per_entry else shape[:1]), generator=g) + 0.01
    return MixedTarget(torch.randint(0, CLASSES, (k, *shape), generator=g), weight / weight.sum(0), smoothing)


def labels(y: MixedTarget) -> list[dict[int, float]]:
    """The label of each entry, by its classes of any share: by plain loops over the public tensors."""
    ids = y.ids.reshape(len(y.ids), -1).tolist()
    weight = y.weight.reshape(*y.weight.shape, *(1,) * (y.ids.ndim - y.weight.ndim)).expand(y.ids.shape)
    shares = weight.reshape(len(y.ids), -1).tolist()
    found: list[dict[int, float]] = [{} for _ in range(y.numel())]
    for of, by in zip(ids, shares, strict=True):
        for label, i, share in zip(found, of, by, strict=True):
            if share:
                label[i] = label.get(i, 0.0) + share
    return found


def well_formed(y: MixedTarget) -> bool:
    return MixedTarget(y.ids, y.weight).shape == y.shape


MASK = torch.tensor([True, False, True, True, False, False])
MOVES: dict[str, Any] = {
    "squeeze": lambda t: t.squeeze(),
    "squeeze dim": lambda t: t.squeeze(1),
    "torch.squeeze": lambda t: torch.squeeze(t, -1),
    "unsqueeze": lambda t: t.unsqueeze(0),
    "unsqueeze last": lambda t: torch.unsqueeze(t, -1),
    "view": lambda t: t.view(-1),
    "view two": lambda t: t.view(2, -1),
    "view tuple": lambda t: t.view((3, 2, -1)),
    "reshape": lambda t: t.reshape(1, -1),
    "torch.reshape": lambda t: torch.reshape(t, (-1, 2)),
    "flatten": lambda t: t.flatten(),
    "flatten 1": lambda t: torch.flatten(t, 1),
    "ravel": lambda t: t.ravel(),
    "unflatten": lambda t: t.unflatten(0, (2, 3)),
    "expand": lambda t: t.unsqueeze(0).expand(3, *t.shape),
    "expand rows": lambda t: t[:1].expand(5, *t.shape[1:]),
    "expand_as": lambda t: t[None].expand_as(torch.zeros(2, *t.shape)),
    "view_as": lambda t: t.view_as(torch.zeros(t.numel(), 1)),
    "reshape_as": lambda t: t.reshape_as(torch.zeros(1, t.numel())),
    "permute": lambda t: t.permute(*reversed(range(t.ndim))),
    "transpose": lambda t: t.transpose(0, -1),
    "swapaxes": lambda t: torch.swapaxes(t, 0, -1),
    "t": lambda t: t.t(),
    "mT": lambda t: t.mT,
    "movedim": lambda t: t.movedim(-1, 0),
    "index_select": lambda t: t.index_select(0, torch.tensor([3, 3, 0])),
    "torch.index_select": lambda t: torch.index_select(t, -1, torch.tensor([0, 0])),
    "gather": lambda t: t.gather(0, torch.zeros(2, *t.shape[1:], dtype=torch.int64) + 4),
    "masked_select": lambda t: t.masked_select(MASK.view(-1, *(1,) * (t.ndim - 1))),
    "narrow": lambda t: t.narrow(0, 1, 2),
    "select": lambda t: t.select(0, 1),
    "flip": lambda t: t.flip(0),
    "torch.flip": lambda t: torch.flip(t, (-1,)),
    "roll": lambda t: t.roll(1, 0),
    "torch.roll": lambda t: torch.roll(t, 1, -1),
    "repeat": lambda t: t.repeat(2, *(1,) * (t.ndim - 1)),
    "tile": lambda t: torch.tile(t, (2,)),
    "repeat_interleave": lambda t: t.repeat_interleave(2, 0),
    "torch.repeat_interleave": lambda t: torch.repeat_interleave(t, 2),
    "row": lambda t: t[2],
    "last row": lambda t: t[-1],
    "numpy row": lambda t: t[np.int64(3)],
    "tensor row": lambda t: t[torch.tensor(-6)],
    "new dimension": lambda t: t[None],
    "behind the rows": lambda t: t[:, 1:],
    "behind all": lambda t: t[..., 1:],
    "one head": lambda t: t[:, 0],
    "an entry": lambda t: t[(3,) * t.ndim] if min(t.shape) > 3 else t[(0,) * t.ndim],
    "rows by mask": lambda t: t[MASK],
    "entries by mask": lambda t: t[torch.arange(t.numel()).view(t.shape) % 3 == 1],
    "rows by list": lambda t: t[[1, 4]],
    "no rows": lambda t: t[[]],
    "rows and entries": lambda t: t[torch.tensor([1, 1]), ..., -1:],
}
SPLITS: dict[str, Any] = {
    "split": lambda t: t.split(4),
    "torch.split": lambda t: torch.split(t, [1, 5]),
    "split last": lambda t: torch.split(t, 1, dim=-1),
    "chunk": lambda t: t.chunk(3),
    "torch.chunk": lambda t: torch.chunk(t, 2, -1),
    "tensor_split": lambda t: t.tensor_split(4),
    "unbind": lambda t: t.unbind(),
    "torch.unbind": lambda t: torch.unbind(t, -1),
    "iteration": lambda t: tuple(t),
}


def assert_moved(got: MixedTarget, numbers: Tensor, y: MixedTarget) -> None:
    """`numbers` are those of the entries of y that must lie where got has its entries."""
    assert type(got) is MixedTarget
    assert got.shape == numbers.shape
    assert got.smoothing == y.smoothing
    assert well_formed(got)
    before = labels(y)
    assert labels(got) == [before[i] for i in numbers.flatten().tolist()]


@pytest.mark.parametrize("per_entry", [False, True], ids=["shares per row", "shares per entry"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_move_is_that_of_a_plain_target(shape, per_entry):
    y, numbers = draw(1, shape, 3, per_entry, smoothing=0.1), torch.arange(torch.Size(shape).numel()).view(shape)
    done = 0
    for name, move in MOVES.items():
        try:
            expected = move(numbers)
        except (IndexError, RuntimeError):
            with pytest.raises((IndexError, RuntimeError)):
                move(y)
            continue
        assert_moved(move(y), expected, y), name
        done += 1
    for split in SPLITS.values():
        for got, expected in zip(split(y), split(numbers), strict=True):
            assert_moved(got, expected, y)
    assert done > 40


def test_a_size_of_one_in_the_shares_is_the_same_for_all():
    weight = torch.tensor([[[0.25, 0.5, 1.0]], [[0.75, 0.5, 0.0]]])
    y = MixedTarget(draw(2, (6, 3)).ids, weight)
    full = MixedTarget(y.ids, weight.expand(2, 6, 3))
    logits = torch.randn(6, CLASSES, 3, generator=generator(3))
    for reduction in ("none", "mean", "sum"):
        assert torch.equal(
            F.cross_entropy(logits, y, reduction=reduction), F.cross_entropy(logits, full, reduction=reduction)
        )
    assert labels(y[1:3]) == labels(full[1:3])
    assert labels(y[:, 1]) == labels(full[:, 1])
    assert torch.equal(y.dense(CLASSES), full.dense(CLASSES))
    assert torch.equal(y.largest(), full.largest())
    assert torch.equal(y == y.largest(), full == full.largest())
    assert [t.tolist() for t in y.pairs()] == [t.tolist() for t in full.pairs()]
    partner, share = torch.arange(5, -1, -1)[:, None], torch.tensor([[0.25, 0.75]]).expand(6, 2)
    assert labels(y.mixed(partner, share)) == labels(full.mixed(partner, share))


def test_shares_stay_per_row_where_only_the_dimensions_behind_change():
    y = draw(4, (6, 1, 4, 5))
    for move in (
        lambda t: t.squeeze(1),
        lambda t: t[:, 0],
        lambda t: t[..., 1:],
        lambda t: t.permute(0, 2, 3, 1),
        lambda t: t.flatten(2)[:, 0],
        lambda t: t[2:5],
        lambda t: t[MASK],
        lambda t: t.unsqueeze(-1),
        lambda t: torch.cat([t, t]),
        lambda t: F.pad(t, (0, 1), value=-100),
    ):
        assert move(y).weight.ndim == 2


@pytest.mark.parametrize("shape", [(3,), (3, 2)], ids=str)
@pytest.mark.parametrize("join", ["cat", "concat", "concatenate", "stack", "hstack", "vstack"])
def test_targets_are_joined_also_of_different_k_and_with_plain_class_indices(join, shape):
    y, z = draw(5, shape, 2, smoothing=0.1), draw(6, shape, 3, True, smoothing=0.1)
    size = y.numel()
    first, second = (torch.arange(i * size, (i + 1) * size).view(shape) for i in (0, 1))
    got, expected = getattr(torch, join)([y, z]), getattr(torch, join)([first, second])
    before = labels(y) + labels(z)
    assert got.shape == expected.shape
    assert well_formed(got)
    assert labels(got) == [before[i] for i in expected.flatten().tolist()]
    assert got.smoothing == 0.1
    plain = torch.randint(0, CLASSES, shape, generator=generator(7), dtype=torch.int32)
    mixed = draw(8, shape, 3)
    got = getattr(torch, join)((plain, mixed))
    before = [{int(i): 1.0} for i in plain.flatten()] + labels(mixed)
    assert labels(got) == [before[i] for i in expected.flatten().tolist()]


def test_joined_along_any_dimension_and_put_back():
    y = draw(9, (4, 3), 2)
    assert labels(torch.cat(y.split(2))) == labels(y)
    assert labels(torch.cat(y.split(1, dim=1), dim=1)) == labels(y)
    assert labels(torch.stack(y.unbind(1), dim=1)) == labels(y)
    logits = torch.randn(4, CLASSES, 3, generator=generator(10), dtype=torch.float64)
    torch.testing.assert_close(F.cross_entropy(logits, torch.stack(list(y))), F.cross_entropy(logits, y))
    with pytest.raises(ValueError, match=r"of different smoothing \[0.0, 0.1\] cannot be joined"):
        torch.cat([y, y.smoothed(0.1)])


def test_stacked_heads_are_taken_apart():
    """Integer targets [n, heads], mixed as one, go to a loss for each head."""
    ids = torch.randint(0, CLASSES, (6, 2), generator=generator(11))
    plan = Mixup(1.0, seed=1).plan(6, step=0)
    y = plan.target(ids)
    logits = torch.randn(6, CLASSES, generator=generator(12))
    for head in (0, 1):
        expected = F.cross_entropy(logits, plan.target(ids[:, head]))
        torch.testing.assert_close(F.cross_entropy(logits, y[:, head]), expected)
        torch.testing.assert_close(F.cross_entropy(logits, y.unbind(1)[head]), expected)


def test_shifted_labels_of_a_language_model_are_shifted_before_or_after_mixing():
    tokens = torch.randint(0, CLASSES, (4, 7), generator=generator(13))
    tokens[2, 4:] = -100
    plan = Mixup(1.0, seed=2).plan(4, step=0)
    logits = torch.randn(4, 7, CLASSES, generator=generator(14))
    expected = F.cross_entropy(logits[:, :-1].mT, plan.target(tokens[:, 1:]))
    y = plan.target(tokens)
    assert_close = torch.testing.assert_close
    assert_close(F.cross_entropy(logits[:, :-1].mT, y[..., 1:]), expected)
    assert_close(F.cross_entropy(logits[:, :-1].reshape(-1, CLASSES), y[:, 1:].contiguous().view(-1)), expected)
    padded = F.pad(y, (0, 1), value=-100)[..., 1:].contiguous()
    assert_close(F.cross_entropy(logits.view(-1, CLASSES), padded.view(-1).to(logits.device)), expected)


def test_padded_rows_and_masked_entries_are_wholly_what_they_are_filled_with():
    y = draw(15, (3, 2), 2)
    padded = F.pad(y, (1, 0, 0, 2), value=-100)
    numbers = F.pad(torch.arange(6).view(3, 2), (1, 0, 0, 2), value=-1)
    before = labels(y)
    assert labels(padded) == [before[i] if i >= 0 else {-100: 1.0} for i in numbers.flatten().tolist()]
    mask = torch.tensor([[True, False], [False, False], [True, True]])
    for filled in (y.masked_fill(mask, -100), torch.masked_fill(y, mask, -100)):
        for label, old, hidden in zip(labels(filled), before, mask.flatten().tolist(), strict=True):
            assert label == ({-100: pytest.approx(1.0)} if hidden else old)
    with pytest.raises(RuntimeError):
        y.masked_fill(torch.zeros(4, 3, 2, dtype=torch.bool), -100)


def test_questions_have_the_answers_of_plain_class_indices():
    y, plain = draw(16, (3, 2)), torch.zeros(3, 2, dtype=torch.int64)
    for name in (
        "is_cuda",
        "is_cpu",
        "is_sparse",
        "is_quantized",
        "is_meta",
        "is_nested",
        "layout",
        "itemsize",
        "grad",
    ):
        assert getattr(y, name) == getattr(plain, name), name
    for name in (
        "is_floating_point",
        "is_complex",
        "is_signed",
        "get_device",
        "element_size",
        "nelement",
        "ndimension",
    ):
        assert getattr(y, name)() == getattr(plain, name)(), name
    assert (torch.is_floating_point(y), torch.is_complex(y), torch.numel(y)) == (False, False, 6)
    assert (y.is_pinned(), y.is_shared(), y.is_contiguous(), y.requires_grad) == (False, False, True, False)
    assert y.nbytes == 2 * 6 * 8 + 2 * 3 * 4
    assert y.type() == plain.type()
    for dtype in (torch.int64, torch.LongTensor, "torch.LongTensor"):
        assert labels(y.type(dtype)) == labels(y)
    assert y.share_memory_() is y
    assert y.is_shared()
    learned = MixedTarget(y.ids, y.weight.clone().requires_grad_())
    assert learned.requires_grad
    assert learned.clone().requires_grad
    for still in (learned.detach(), torch.detach(learned), learned.data):
        assert not still.requires_grad


def test_copies_share_nothing_and_moves_of_other_tensors_go_by_it():
    y = draw(17, (3, 2))
    for other in (y.clone(), torch.clone(y), copy.deepcopy(y), pickle.loads(pickle.dumps(y))):
        assert labels(other) == labels(y)
        other.ids.zero_()
    assert labels(y) == labels(draw(17, (3, 2)))
    assert y.mT.contiguous().ids.data_ptr() != y.ids.data_ptr()
    assert y.T.contiguous().is_contiguous()
    pred = torch.arange(6.0)
    assert pred.view_as(y).shape == pred.reshape_as(y).shape == pred[:1].expand_as(y).shape == (3, 2)
    assert pred.to(y).dtype == pred.type_as(y).dtype == torch.int64
    for made in (y.new_zeros(3), torch.zeros_like(y), torch.full_like(y, 3), y.new_full((2,), 1)):
        assert type(made) is Tensor
        assert made.dtype == torch.int64
    assert torch.ones_like(y, dtype=torch.float32).shape == (3, 2)


def test_streams_are_told():
    class Stream:
        """Stands for one of CUDA."""

    told = []
    y = draw(18, (3,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "record_stream", lambda t, stream: told.append((list(t.shape), stream)))
        y.record_stream(stream := Stream())
    assert told == [([2, 3], stream), ([2, 3], stream)]


# -- comparisons with numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_entry", [False, True])
@pytest.mark.parametrize("shape", [(5,), (4, 3)], ids=str)
def test_a_number_is_compared_with_each_entry_s_label(shape, per_entry):
    y = draw(19, shape, 3, per_entry)
    for number in (0, 3, -100, np.int64(2), 1.0):
        expected = torch.tensor([label.get(int(number), 0.0) for label in labels(y)]).view(shape)
        for hits in (y == number, number == y, y.eq(number), torch.eq(y, number), y.correct(number)):
            assert hits.dtype == torch.float32
            torch.testing.assert_close(hits, expected, rtol=0, atol=1e-6)
        for misses in (y != number, number != y, y.ne(number), torch.ne(y, number), y.not_equal(number)):
            torch.testing.assert_close(misses, 1 - expected, rtol=0, atol=1e-6)
    assert (-100 in y, int(y.ids[0].flatten()[0]) in y) == (False, True)


def test_what_counts_is_counted_in_shares():
    """`labels.ne(-100).sum()`, by which trainers weight micro-batches."""
    y = MixedTarget(torch.tensor([[0, -100, 2], [1, 1, -100]]), torch.tensor([[0.75, 0.5, 0.25], [0.25, 0.5, 0.75]]))
    assert y.ne(-100).sum().item() == 1.75
    logits = torch.randn(3, CLASSES, generator=generator(20))
    mean = F.cross_entropy(logits, y, reduction="sum") / y.ne(-100).sum()
    torch.testing.assert_close(mean, F.cross_entropy(logits, y))


def test_predictions_broadcast_where_the_dimensions_agree():
    y = draw(21, (5,), 3)
    predicted = torch.randint(0, CLASSES, (3, 5), generator=generator(22))
    by_row = torch.stack([row == y for row in predicted])
    assert torch.equal(predicted == y[None], by_row)
    assert torch.equal(predicted.eq(y.view(1, -1).expand_as(predicted)), by_row)
    assert torch.equal(torch.tensor([2]) == y, y == 2)
    for wrong in (torch.tensor(2), torch.zeros(1, 5), torch.zeros(4)):
        with pytest.raises(ValueError, match=r"do not fit targets \[5\]"):
            wrong == y  # noqa: B015


# -- what only a mixed target answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("per_entry", [False, True])
@pytest.mark.parametrize("shape", [(50,), (6, 4)], ids=str)
def test_the_largest_share_is_that_of_the_plain_loop(shape, per_entry):
    y = draw(23, shape, 3, per_entry)
    expected = [max(label, key=lambda i: (label[i], 0)) for label in labels(y)]
    assert y.largest().dtype == torch.int64
    assert y.largest().flatten().tolist() == expected
    tied = MixedTarget(
        torch.tensor([[3, 1, 2], [0, 2, 0], [0, 0, 1]]),
        torch.tensor([[0.5, 0.4, 0.2], [0.25, 0.3, 0.4], [0.25, 0.3, 0.4]]),
    )
    assert tied.largest().tolist() == [3, 1, 0]
    assert tied[1].largest().shape == ()


def test_weights_of_examples_go_with_the_examples():
    ids, w = torch.randint(0, CLASSES, (6,), generator=generator(24)), torch.rand(6, generator=generator(25)) * 3
    plan = MixPlan(torch.tensor([3, 2, 0, 1, 5, 4]), torch.linspace(0.1, 0.9, 6))
    y = plan.target(ids)
    expected = torch.stack([plan.weight * w, (1 - plan.weight) * w[plan.partner]])
    assert y.rows is not None
    assert torch.equal(y.weighted(w).weight, expected)
    logits = torch.randn(6, CLASSES, generator=generator(26), dtype=torch.float64).requires_grad_()
    nll = torch.stack([F.cross_entropy(logits, of, reduction="none") for of in (ids, ids[plan.partner])])
    rows = (nll * expected).sum(0)
    for reduction, value in (("none", rows), ("sum", rows.sum()), ("mean", rows.sum() / expected.double().sum())):
        torch.testing.assert_close(F.cross_entropy(logits, y.weighted(w), reduction=reduction), value)
    class_weight = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)
    share = expected.double() * class_weight[y.ids]
    torch.testing.assert_close(F.cross_entropy(logits, y.weighted(w), class_weight), (share * nll).sum() / share.sum())
    smooth = F.cross_entropy(logits, y.weighted(w), reduction="none", label_smoothing=0.1)
    soft = expected.sum(0).double()[:, None] * 0.1 / CLASSES
    for j in (0, 1):
        soft = soft + 0.9 * expected[j].double()[:, None] * F.one_hot(y.ids[j], CLASSES)
    torch.testing.assert_close(smooth, -(soft * logits.log_softmax(1)).sum(1))
    torch.testing.assert_close(y.weighted(w).smoothed(0.1).dense(CLASSES, torch.float64), soft)
    torch.testing.assert_close((logits.argmax(1) == y.weighted(w)), ((y.ids == logits.argmax(1)) * expected).sum(0))


def test_the_examples_are_known_after_moves_and_a_second_mixing():
    n = 6
    ids, w = torch.arange(n), torch.arange(1.0, n + 1) ** 2  # each class index tells its row
    first, second = (Mixup(1.0, seed=s).plan(n, step=0) for s in (1, 2))
    twice = second.target(first.target(ids))
    masks = first.target(ids[:, None, None].expand(n, 2, 3))
    for y in (
        first.target(ids),
        twice,
        twice[2:5],
        twice[MASK],
        twice[3],
        twice.to("cpu"),
        twice.clone().view(2, 3).flip(1),
        copy.deepcopy(twice),
        pickle.loads(pickle.dumps(first.target(ids)[1:])),
        masks,
        masks[1:, 0],
        masks.flatten().unsqueeze(0),
        twice.weighted(torch.ones(n)),
        twice.smoothed(0.1),
    ):
        weighted = y.weighted(w)
        full = y.weight.reshape(*y.weight.shape, *(1,) * (y.ids.ndim - y.weight.ndim)).expand(y.ids.shape)
        got = weighted.weight.reshape(*weighted.weight.shape, *(1,) * (y.ids.ndim - weighted.weight.ndim))
        torch.testing.assert_close(got.expand(y.ids.shape), full * w[y.ids])


def test_examples_that_are_not_known_and_weights_that_do_not_fit_are_refused():
    plan = Mixup(1.0, seed=1).plan(6, step=0)
    y = plan.target(torch.arange(6))
    for unknown in (draw(27, (6,)), torch.cat([y, y]), pytree.tree_map(lambda t: t, y)):
        with pytest.raises(
            ValueError, match=r"does not know its examples.*vicinal\.MixedTarget\(y\.ids, y\.weight \* w\)"
        ):
            unknown.weighted(torch.ones(6))
    with pytest.raises(ValueError, match=r"weights \[3\] do not reach row 5: give those of the whole batch"):
        y.weighted(torch.ones(3))
    with pytest.raises(ValueError, match=r"are \[n\] for the batch before mixing, got \[6, 1\]"):
        y.weighted(torch.ones(6, 1))
    with pytest.raises(ValueError, match="do not sum to 1, as of weighted examples"):
        y.weighted(torch.arange(6.0)).pairs()
    known = MixedTarget(y.ids, y.weight, rows=y.rows)
    assert torch.equal(known.weighted(torch.arange(6.0)).weight, y.weighted(torch.arange(6.0)).weight)
    with pytest.raises(ValueError, match=r"rows must be int64 like weight \[2, 6\], got torch\.int64 \[2, 5\]"):
        MixedTarget(y.ids, y.weight, rows=y.rows[:, 1:])


# -- a pytree ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_entry", [False, True])
@pytest.mark.parametrize("shape", [(6,), (6, 3), (6, 2, 4)], ids=str)
def test_it_is_a_pytree_of_tensors_rows_first(shape, per_entry):
    y, numbers = draw(28, shape, 3, per_entry, 0.1), torch.arange(torch.Size(shape).numel()).view(shape)
    leaves, spec = pytree.tree_flatten(y)
    assert [t.shape[0] for t in leaves] == [6, 6]
    assert_moved(pytree.tree_unflatten(leaves, spec), numbers, y)
    for move in (lambda t: t[2:4], lambda t: t[MASK], lambda t: t[3], lambda t: t[None], lambda t: torch.stack([t, t])):
        assert_moved(pytree.tree_map(move, y), move(numbers), y)
    assert pytree.tree_structure(y) == pytree.tree_structure(pytree.tree_map(type, y))
    assert repr(pytree.tree_map(lambda _: 7, y)) == "MixedTarget(7, 7, smoothing=0.1)"
    assert [pytree.keystr(path) for path, _ in pytree.tree_leaves_with_path({"y": y})] == ["['y'].ids", "['y'].weight"]


def test_vmap_and_grad_go_over_rows():
    y = draw(29, (6,), 3)
    x, w = torch.randn(6, 5, generator=generator(30)), torch.randn(CLASSES, 5, generator=generator(31))

    def loss(w: Tensor, x: Tensor, y: MixedTarget) -> Tensor:
        return F.cross_entropy(w @ x, y, label_smoothing=0.1)

    got = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(w, x, y)
    for i in range(6):
        own = w.clone().requires_grad_()
        expected = torch.autograd.grad(F.cross_entropy((x[i] @ own.T)[None], y[i : i + 1], label_smoothing=0.1), own)[0]
        torch.testing.assert_close(got[i], expected)
    losses = torch.func.vmap(loss, in_dims=(None, 0, 0))(w, x, y)
    torch.testing.assert_close(losses, F.cross_entropy(x @ w.T, y, reduction="none", label_smoothing=0.1))
    torch.testing.assert_close(
        torch.func.grad(lambda w, y: F.cross_entropy(x @ w.T, y))(w, y),
        torch.func.grad(lambda w: F.cross_entropy(x @ w.T, y))(w),
    )
    hits = torch.func.vmap(lambda p, y: p == y)(torch.zeros(6, dtype=torch.int64), y)
    torch.testing.assert_close(hits, y == 0)


@pytest.mark.parametrize("per_entry", [False, True])
def test_vmap_goes_over_the_rows_of_maps(per_entry):
    y, logits = draw(32, (5, 2, 3), 2, per_entry), torch.randn(5, CLASSES, 2, 3, generator=generator(33))

    def loss(z: Tensor, y: MixedTarget) -> Tensor:
        return F.cross_entropy(z[None], y[None])

    losses = torch.func.vmap(loss)(logits, y)
    torch.testing.assert_close(losses, F.cross_entropy(logits, y, reduction="none").mean((1, 2)))
    slopes = torch.func.vmap(torch.func.grad(loss))(logits, y)
    z = logits.clone().requires_grad_()
    expected = torch.autograd.grad(F.cross_entropy(z, y, reduction="none").mean((1, 2)).sum(), z)[0]
    torch.testing.assert_close(slopes, expected)
    torch.testing.assert_close(torch.func.vmap(lambda y: y.dense(CLASSES))(y[:, 0]), y[:, 0].dense(CLASSES).mT)
    back = torch.func.vmap(lambda y: y[..., 1:])(y)
    assert labels(back) == labels(y[..., 1:])


@installed.splits_other_than_tensors
def test_a_pipeline_splits_it_into_micro_batches():
    x, y = torch.arange(8.0), draw(34, (8,))
    args, _ = split_args_kwargs_into_chunks((x, y), {}, 4)
    assert [(len(part), len(target)) for part, target in args] == [(2, 2)] * 4
    assert [label for _, target in args for label in labels(target)] == labels(y)
