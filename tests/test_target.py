"""What a MixedTarget answers like a plain target, what only it answers, and what it refuses."""

import copy
import doctest
import io
import operator
import pickle
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data._utils.pin_memory import pin_memory

import vicinal.target
from vicinal import MixedTarget, Mixup

CLASSES = 4


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(seed: int, shape: tuple[int, ...], k: int = 2, smoothing: float = 0.0) -> MixedTarget:
    g = generator(seed)
    weight = torch.rand(k, shape[0], generator=g) + 0.01
    return MixedTarget(torch.randint(0, CLASSES, (k, *shape), generator=g), weight / weight.sum(0), smoothing)


def small() -> MixedTarget:
    return MixedTarget(torch.tensor([[0, 1, 2], [1, 1, 0]]), torch.tensor([[0.75, 0.5, 1.0], [0.25, 0.5, 0.0]]))


def assert_same(got: MixedTarget, expected: MixedTarget) -> None:
    assert type(got) is MixedTarget
    assert torch.equal(got.ids, expected.ids)
    assert torch.equal(got.weight, expected.weight)
    assert got.weight.dtype == expected.weight.dtype
    assert got.smoothing == expected.smoothing


def rows_of(y: MixedTarget, rows: list[int]) -> MixedTarget:
    return MixedTarget(y.ids[:, rows], y.weight[:, rows], y.smoothing)


# -- like a plain target -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (3, 2), (2, 3, 4), (0,)], ids=str)
def test_shape_dtype_and_device_are_those_of_the_plain_target(shape):
    plain, y = torch.zeros(shape, dtype=torch.int64), draw(0, shape, 3)
    assert y.shape == plain.shape
    assert isinstance(y.shape, torch.Size)
    assert y.size() == plain.size()
    assert [y.size(d) for d in range(-1, plain.ndim)] == [plain.size(d) for d in range(-1, plain.ndim)]
    assert y.size(dim=0) == len(y) == shape[0]
    assert (y.ndim, y.dim(), y.numel()) == (plain.ndim, plain.dim(), plain.numel())
    assert (y.dtype, y.device) == (plain.dtype, plain.device)


@pytest.mark.parametrize("shape", [(6,), (6, 2)], ids=str)
def test_indexing_takes_rows_with_their_shares(shape):
    y = draw(1, shape, 3, smoothing=0.1)
    mask = torch.tensor([True, False, True, True, False, False])
    for rows, expected in [
        (slice(None), [0, 1, 2, 3, 4, 5]),
        (slice(1, 4), [1, 2, 3]),
        (slice(None, None, 2), [0, 2, 4]),
        (slice(4, 2), []),
        (Ellipsis, [0, 1, 2, 3, 4, 5]),
        (torch.tensor([5, 0, 0]), [5, 0, 0]),
        (torch.tensor([], dtype=torch.int64), []),
        ([2, 4], [2, 4]),
        (np.array([2, 4]), [2, 4]),
        (mask, [0, 2, 3]),
        (mask.numpy(), [0, 2, 3]),
    ]:
        assert_same(y[rows], rows_of(y, expected))


def test_iteration_gives_the_rows_which_go_with_rows_of_logits():
    y = small().smoothed(0.1)
    assert [row.shape for row in y] == [torch.Size([])] * 3
    assert repr(next(iter(y))) == "MixedTarget(0.75 of 0 + 0.25 of 1, smoothing=0.1)"
    logits = torch.randn(3, CLASSES, generator=generator(2))
    for reduction in ("none", "mean", "sum"):
        losses = [F.cross_entropy(z, row, reduction=reduction) for z, row in zip(logits, y, strict=True)]
        assert losses[0].shape == ()
        torch.testing.assert_close(torch.stack(losses), F.cross_entropy(logits, y, reduction="none"))
    plain = [F.nll_loss(z, row) for z, row in zip(logits, small(), strict=True)]
    torch.testing.assert_close(torch.stack(plain), F.nll_loss(logits, small(), reduction="none"))
    with pytest.raises(TypeError, match=r"len\(\) of a target of one entry"):
        len(y[0])


@pytest.mark.parametrize("row", [3, -4])
def test_a_row_that_is_not_there_is_an_index_error(row):
    with pytest.raises(IndexError, match=f"index {row} is out of bounds for dimension 0 with size 3"):
        small()[row]


def test_shares_are_no_index_but_make_a_mask():
    y = MixedTarget(torch.tensor([[0, -100, 2], [1, -100, -100]]), torch.tensor([[0.75, 0.5, 0.0], [0.25, 0.5, 1.0]]))
    assert_same(y[(y != -100) > 0], rows_of(y, [0]))
    with pytest.raises(TypeError, match=r"not by torch\.float32: of shares make a mask, y\[\(y != -100\) > 0\]"):
        y[y != -100]
    with pytest.raises(TypeError, match=r"of shares make one, \(y != -100\) > 0"):
        y.masked_fill(y != -100, 0)


def test_repr_shows_each_row_and_not_too_many():
    assert repr(small()) == "MixedTarget([0.75 of 0 + 0.25 of 1, 0.5 of 1 + 0.5 of 1, 1 of 2 + 0 of 0])"
    assert repr(small().smoothed(0.1)[:1]) == "MixedTarget([0.75 of 0 + 0.25 of 1], smoothing=0.1)"
    assert repr(small()[:0]) == "MixedTarget([])"
    third = MixedTarget(torch.tensor([[7], [8], [9]]), torch.tensor([[0.5], [1 / 3], [1 / 6]]))
    assert repr(third) == "MixedTarget([0.5 of 7 + 0.333 of 8 + 0.167 of 9])"
    maps = MixedTarget(torch.zeros(2, 1, 4, 4, dtype=torch.int64), torch.tensor([[0.75], [0.25]]))
    assert repr(maps) == "MixedTarget(ids=[2, 1, 4, 4], weight=[[0.75, 0.25]])"
    assert repr(maps.flatten()[None]) == "MixedTarget(ids=[2, 1, 16], weight=[2, 1, 16])"
    assert repr(small().to("meta")) == "MixedTarget(ids=[2, 3], weight=[2, 3])"
    many = MixedTarget(torch.zeros(1, 16, dtype=torch.int64), torch.ones(1, 16))
    assert repr(many).count("1 of 0") == 16
    more = MixedTarget(torch.zeros(1, 100, dtype=torch.int64), torch.ones(1, 100))
    assert repr(more).count("1 of 0") == 15
    assert repr(more).endswith("... 85 more])")


def test_the_examples_of_the_documentation_run():
    done = doctest.testmod(vicinal.target)
    assert done.attempted >= 6
    assert done.failed == 0


@pytest.mark.parametrize(
    "flat", [lambda y: y.view(-1), lambda y: y.reshape(-1), lambda y: y.view((-1,)), MixedTarget.flatten]
)
def test_a_flat_target_goes_with_flat_logits(flat: Callable[[MixedTarget], MixedTarget]):
    """`F.cross_entropy(logits.view(-1, C), labels.view(-1))`, as models with a loss of their own have it."""
    y = draw(3, (4,), 3, smoothing=0.1)
    assert_same(flat(y), y)
    y = draw(4, (4, 3, 2), smoothing=0.1)
    logits = torch.randn(4, CLASSES, 3, 2, generator=generator(5), dtype=torch.float64)
    rows = logits.movedim(1, -1).reshape(-1, CLASSES)
    assert flat(y).shape == (24,)
    for reduction in ("none", "mean", "sum"):
        expected = F.cross_entropy(logits, y, reduction=reduction)
        got = F.cross_entropy(rows, flat(y), reduction=reduction)
        torch.testing.assert_close(got, expected.flatten() if reduction == "none" else expected)
    assert torch.equal(rows.argmax(1) == flat(y), (logits.argmax(1) == y).flatten())


# -- moving and travelling ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "move",
    [
        lambda y: y.to("meta"),
        lambda y: y.to(torch.device("meta")),
        lambda y: y.to(device="meta"),
        lambda y: y.to("meta", non_blocking=True),
        lambda y: y.to("meta", None, True),
        lambda y: y.to("meta", torch.int64),
        lambda y: y.to("meta", torch.int64, False, True),
        lambda y: y.to(device="meta", dtype=torch.long, non_blocking=True, copy=True),
        lambda y: y.to(torch.empty(0, dtype=torch.int64, device="meta")),
    ],
)
def test_to_moves_ids_and_weights(move: Callable[[MixedTarget], MixedTarget]):
    moved = move(draw(6, (3,), smoothing=0.1))
    assert moved.device == moved.ids.device == moved.weight.device == torch.device("meta")
    assert (moved.ids.dtype, moved.weight.dtype) == (torch.int64, torch.float32)
    assert (moved.shape, moved.smoothing) == ((3,), 0.1)


@pytest.mark.parametrize(
    "stay",
    [
        lambda y: y.to("cpu"),
        lambda y: y.to(device="cpu", non_blocking=True),
        lambda y: y.to(torch.int64),
        lambda y: y.to(y.device),
        lambda y: y.to(torch.zeros(2, dtype=torch.int64)),
        lambda y: y.to("cpu", copy=True),
        lambda y: y.to("cpu", memory_format=torch.preserve_format),
        MixedTarget.cpu,
        MixedTarget.long,
        MixedTarget.detach,
        lambda y: y.data,
        lambda y: y.view_as(torch.zeros(3)),
        lambda y: y.view_as(y),
        copy.copy,
        copy.deepcopy,
        lambda y: pickle.loads(pickle.dumps(y)),
    ],
)
def test_what_stays_is_equal(stay: Callable[[MixedTarget], MixedTarget]):
    y = small().smoothed(0.1)
    assert_same(stay(y), y)


def test_the_flags_of_to_arrive(monkeypatch):
    y, seen, to = small(), [], Tensor.to

    def spy(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.numel():
            seen.append((kwargs.get("non_blocking", False), kwargs.get("copy", False)))
        return to(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "to", spy)
        y.to("cpu", non_blocking=True)
        y.to("cpu", None, True)
        y.to("cpu", torch.int64, False, True)
        y.to(torch.int64, True)
        y.to("cpu", copy=True)
        y.to("cpu")
    flags = [(True, False), (True, False), (False, True), (True, False), (False, True), (False, False)]
    assert seen == [flag for flag in flags for _ in ("ids", "weight")]
    assert y.to("cpu").ids.data_ptr() == y.ids.data_ptr()
    assert y.to("cpu", copy=True).ids.data_ptr() != y.ids.data_ptr()


def test_a_deep_copy_shares_nothing():
    y = small()
    other = copy.deepcopy(y)
    other.ids.zero_()
    other.weight.zero_()
    assert_same(y, small())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int32, torch.bool], ids=str)
def test_ids_are_not_converted(dtype):
    for convert in (
        lambda y: y.to(dtype),
        lambda y: y.to("cpu", dtype),
        lambda y: y.to(dtype=dtype),
        lambda y: y.to(torch.zeros(1, dtype=dtype)),
    ):
        with pytest.raises(
            TypeError, match=rf"conversion to {dtype} would make numbers of class indices: write \.float\(\) before mix"
        ):
            convert(small())


def test_the_loader_s_pinning_reaches_ids_and_weights(monkeypatch):
    """What DataLoader(pin_memory=True) does to a batch; pinned memory itself needs an accelerator."""
    pinned = []
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "pin_memory", lambda t, *device: pinned.append(t) or t.clone())
        _, y = pin_memory([torch.zeros(3), small()])
    assert [list(t.shape) for t in pinned] == [[3], [2, 3], [2, 3]]
    assert_same(y, small())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinned memory and CUDA need a GPU")
def test_pinned_and_moved_to_cuda():
    loader = DataLoader(TensorDataset(torch.zeros(8, 2), torch.arange(8) % 3), 4, collate_fn=_mixed, pin_memory=True)
    for x, y in loader:
        assert x.is_pinned()
        assert y.ids.is_pinned()
        assert y.weight.is_pinned()
        for moved in (y.cuda(non_blocking=True), y.to("cuda", non_blocking=True)):
            assert moved.device.type == moved.weight.device.type == "cuda"
            assert_same(moved.cpu(), y)
            logits = torch.randn(4, 3, generator=generator(7))
            loss = F.cross_entropy(logits.cuda(), moved, label_smoothing=0.1)
            torch.testing.assert_close(loss.cpu(), F.cross_entropy(logits, y, label_smoothing=0.1))


def _mixed(rows: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, MixedTarget]:
    x, y = torch.utils.data.default_collate(rows)
    plan = Mixup(1.0, seed=0).plan(len(x), y, step=int(y[0]), rank=0, worker=0)
    return plan(x), plan.target(y)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_s_worker_hands_the_target_over(workers):
    data = TensorDataset(torch.arange(8.0)[:, None], torch.arange(8))
    batches = list(DataLoader(data, batch_size=4, collate_fn=_mixed, num_workers=workers))
    for start, (_, y) in zip((0, 4), batches, strict=True):
        ids = torch.arange(start, start + 4)
        plan = Mixup(1.0, seed=0).plan(4, ids, step=start, rank=0, worker=0)
        assert_same(y, MixedTarget(torch.stack([ids, ids[plan.partner]]), torch.stack([plan.weight, 1 - plan.weight])))


def test_it_is_saved_and_loaded_as_weights_only():
    plan, file = Mixup(1.0, seed=0).plan(3, step=0), io.BytesIO()
    saved = {"y": small().smoothed(0.1), "of a plan": plan.target(torch.tensor([0, 1, 2])), "row": small()[1]}
    torch.save(saved, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    for name, y in saved.items():
        assert_same(loaded[name], y)
    assert loaded["y"].rows is None


@runtime_checkable
class Movable(Protocol):
    """As in Lightning: what may be moved is told by its methods, not by its type."""

    def to(self, device: str, non_blocking: bool) -> Any: ...


def test_trainers_that_look_for_to_move_it():
    """Lightning and Accelerate walk a batch and move whatever has a `to`."""
    batch = {"x": torch.zeros(3, 2), "label": [small()], "name": "a"}
    moved = apply_to_collection(batch, dtype=Movable, function=lambda t: t.to("meta", non_blocking=True))
    assert moved["x"].device.type == "meta"
    assert moved["label"][0].weight.device.type == "meta"
    assert moved["name"] == "a"


def test_questions_that_trainers_ask_have_answers():
    y = small()
    assert hasattr(y, "to")
    assert hasattr(y, "pin_memory")
    assert not torch.is_tensor(y)
    assert not isinstance(y, (list, tuple, dict))
    assert not hasattr(y, "items")
    assert getattr(y, "is_cuda", False) is False
    assert {y: 1}[y] == 1
    assert operator.ne(y, None) is True
    assert operator.eq(y, None) is False
    assert y.dtype == torch.long


# -- accuracy ----------------------------------------------------------------------------------------------------------


def hits_by_hand(y: MixedTarget, predicted: Tensor) -> Tensor:
    flat = y.ids.flatten(2) if y.ndim > 1 else y.ids[:, :, None]
    guess = predicted.reshape(len(predicted), -1)
    rows = [
        [
            sum(float(y.weight[k, i]) for k in range(len(y.ids)) if int(flat[k, i, j]) == int(guess[i, j]))
            for j in range(guess.shape[1])
        ]
        for i in range(len(guess))
    ]
    return torch.tensor(rows, dtype=torch.float64).reshape(y.shape)


@pytest.mark.parametrize("shape", [(40,), (6, 4), (3, 4, 2)], ids=str)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_comparison_gives_the_lambda_weighted_hits(k, shape):
    y = draw(8, shape, k)
    predicted = torch.randint(0, CLASSES, shape, generator=generator(9))
    expected = hits_by_hand(y, predicted)
    for hits in (
        predicted == y,
        y == predicted,
        torch.eq(predicted, y),
        torch.eq(y, predicted),
        predicted.eq(y),
        Tensor.eq(predicted, y),
        predicted.eq(y.view_as(predicted)),
        predicted.eq(y.data),
        y.eq(predicted),
        y.correct(predicted),
        y.correct(predicted.int()),
        1 - (predicted != y),
        1 - (y != predicted),
        1 - torch.ne(predicted, y),
        1 - predicted.ne(y),
        1 - y.ne(predicted),
    ):
        assert hits.dtype == torch.float32
        torch.testing.assert_close(hits.double(), expected, rtol=0, atol=1e-6)
    assert (predicted == y).float().sum().item() == pytest.approx(expected.sum().item(), rel=1e-5)


def test_hits_by_hand_on_a_small_one():
    assert (torch.tensor([0, 1, 0]) == small()).tolist() == [0.75, 1.0, 0.0]
    assert (torch.tensor([1, 0, 2]) == small()).tolist() == [0.25, 0.0, 1.0]
    assert (torch.tensor([0, 1, 0]) != small()).tolist() == [0.25, 0.0, 1.0]
    assert (torch.tensor([3, 3, 3]) == small()).tolist() == [0.0, 0.0, 0.0]


def test_an_ignored_id_is_never_hit():
    y = MixedTarget(torch.tensor([[-100], [1]]), torch.tensor([[0.75], [0.25]]))
    assert (torch.tensor([1]) == y).tolist() == [0.25]
    assert (torch.tensor([0]) == y).tolist() == [0.0]


# -- dense labels ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 5),
    st.lists(st.integers(1, 3), max_size=2),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.integers(0, 3),
    st.integers(0, 2**32),
)
def test_dense_labels_are_the_plain_loop_and_sum_to_one(n, trailing, k, smoothing, spare, seed):
    y, classes = draw(seed, (n, *trailing), k, smoothing), CLASSES + spare
    expected = torch.zeros(n, classes, *trailing, dtype=torch.float64)
    for at in np.ndindex(*y.shape):
        for j in range(k):
            expected[(at[0], int(y.ids[(j, *at)]), *at[1:])] += float(y.weight[j, at[0]])
    expected = expected * (1 - smoothing) + smoothing / classes
    for dtype, tolerance in [(torch.float32, 1e-6), (torch.float64, 1e-6), (torch.bfloat16, 2e-2)]:
        soft = y.dense(classes, dtype)
        assert soft.dtype == dtype
        assert soft.shape == (n, classes, *trailing)
        torch.testing.assert_close(soft.double(), expected, rtol=0, atol=tolerance)
    ones = torch.ones(n, *trailing)
    torch.testing.assert_close(y.dense(classes).sum(1), ones, rtol=0, atol=1e-6)
    one_hot = F.one_hot(y, classes)
    assert one_hot.shape == (n, *trailing, classes)
    assert torch.equal(one_hot.movedim(-1, 1), y.dense(classes))
    assert torch.equal(F.one_hot(y, num_classes=classes), one_hot)


def test_dense_labels_go_to_losses_of_soft_labels():
    """The loss over dense labels is the loss of the target itself, which is never dense."""
    for shape in [(6,), (3, 2, 2)]:
        y = draw(10, shape, 3, smoothing=0.1)
        logits = torch.randn(shape[0], CLASSES, *shape[1:], generator=generator(11))
        for reduction in ("none", "sum"):
            expected = F.cross_entropy(logits, y.dense(CLASSES), reduction=reduction)
            torch.testing.assert_close(F.cross_entropy(logits, y, reduction=reduction), expected)


@pytest.mark.parametrize(
    ("ids", "classes", "found"), [([0, 4], 4, r"\[0, 4\]"), ([-100, 2], 4, r"\[-100, 2\]"), ([0, 1], 0, r"\[0, 1\]")]
)
def test_dense_labels_cannot_say_ignore_or_hold_what_is_not_there(ids, classes, found):
    y = MixedTarget(torch.tensor([ids, ids]), torch.full((2, 2), 0.5))
    for call in (lambda: y.dense(classes), lambda: F.one_hot(y, classes)):
        with pytest.raises(ValueError, match=found + ".*no dense form" if classes else "classes"):
            call()


def test_one_hot_wants_the_number_of_classes():
    with pytest.raises(ValueError, match="needs num_classes: a batch need not hold every class"):
        F.one_hot(small())


# -- what only a mixed target answers ----------------------------------------------------------------------------------


def test_pairs_weight_any_loss_by_hand():
    y = draw(12, (6,))
    y_a, y_b, lam = y.pairs()
    logits = torch.randn(6, CLASSES, generator=generator(13))
    by_hand = lam * F.cross_entropy(logits, y_a, reduction="none") + (1 - lam) * F.cross_entropy(
        logits, y_b, reduction="none"
    )
    torch.testing.assert_close(F.cross_entropy(logits, y, reduction="none"), by_hand)
    plain = y_a, y_b, lam = MixedTarget(y.ids[:1], torch.ones(1, 6)).pairs()
    assert torch.equal(y_a, y.ids[0])
    assert torch.equal(y_b, y.ids[0])
    assert torch.equal(lam, torch.ones(6))
    assert [t.shape for t in plain] == [(6,), (6,), (6,)]


def test_three_classes_a_row_are_not_pairs():
    with pytest.raises(ValueError, match=r"a mix of 3 classes: take \.ids and \.weight"):
        draw(14, (6,), 3).pairs()


@pytest.mark.parametrize("m", [0, 1, 2])
def test_mixing_further_multiplies_the_shares(m):
    y = draw(15, (5,), 2, smoothing=0.1)
    partner = torch.randint(0, 5, (5, m), generator=generator(16))
    share = torch.rand(5, m + 1, generator=generator(17), dtype=torch.float64)
    share = share / share.sum(1, keepdim=True)
    rows = torch.diag(share[:, 0])
    for i in range(5):
        for j in range(m):
            rows[i, partner[i, j]] += share[i, j + 1]
    mixed = y.mixed(partner, share)
    assert mixed.ids.shape == (2 * (m + 1), 5)
    torch.testing.assert_close(mixed.weight.sum(0).double(), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(
        mixed.dense(CLASSES, torch.float64), rows @ y.dense(CLASSES, torch.float64), rtol=0, atol=1e-6
    )
    assert torch.equal(mixed.ids[:2], y.ids)
    assert mixed.smoothing == 0.1


def test_smoothing_further_is_one_smoothing():
    y = small()
    assert y.smoothed(0.0) is y
    assert y.smoothed(0.1).smoothing == 0.1
    twice = y.smoothed(0.1).smoothed(0.2)
    assert twice.smoothing == pytest.approx(0.28)
    once = y.dense(CLASSES) * 0.9 + 0.1 / CLASSES
    torch.testing.assert_close(twice.dense(CLASSES), once * 0.8 + 0.2 / CLASSES)
    assert y.smoothing == 0


@pytest.mark.parametrize(
    ("ids", "weight", "smoothing", "sentence"),
    [
        (torch.zeros(2, 3), torch.ones(2, 3), 0.0, r"ids must be int64 .*got torch\.float32 \[2, 3\]"),
        (torch.zeros(2, 3, dtype=torch.int32), torch.ones(2, 3), 0.0, r"ids must be int64 .*got torch\.int32"),
        (torch.zeros((), dtype=torch.int64), torch.ones(()), 0.0, r"ids must be int64 \[k, n, \.\.\.\]"),
        (
            torch.zeros(2, 3, 4, dtype=torch.int64),
            torch.ones(2, 4, 3),
            0.0,
            r"\[2, 3\] beside ids \[2, 3, 4\], or of as",
        ),
        (torch.zeros(2, 3, 4, dtype=torch.int64), torch.ones(1, 3, 4), 0.0, r"got torch\.float32 \[1, 3, 4\]"),
        (torch.zeros(0, 3, dtype=torch.int64), torch.ones(0, 3), 0.0, r"k >= 1"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.ones(3, 2), 0.0, r"weight must be floating point \[2, 3\]"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.ones(3), 0.0, r"weight must be floating point \[2, 3\]"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.int64), 0.0, r"got torch\.int64"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3), 1.5, r"smoothing must lie in \[0, 1\], got 1\.5"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3), -0.1, r"smoothing must lie in \[0, 1\], got -0\.1"),
    ],
)
def test_a_target_that_cannot_be_is_refused(ids, weight, smoothing, sentence):
    with pytest.raises(ValueError, match=sentence):
        MixedTarget(ids, weight, smoothing)


# -- refusals ----------------------------------------------------------------------------------------------------------

P = torch.tensor([0, 1, 2])
METRIC = r"needs one class index per entry: take y\.largest\(\), or vicinal\.metrics\.mixed_accuracy\(logits, y"
CALCULATE = r"would calculate with class indices.*vicinal\.MixedTarget\(f\(y\.ids\), y\.weight\)"
ORDER = r"would put class indices in order.*\(logits\.argmax\(1\) == y\)"
LOOKUP = (
    r"look up one .* table\[y\] before mixing, or vicinal\.MixedTarget\(table\[y\.ids\], y\.weight\).*losses\.mixed"
)
IN_PLACE = r"would change a MixedTarget in place: change the class indices before mixing"
NUMBERS = r"would make numbers of class indices: write \.float\(\) before mixing.*y\.dense\(2\)\[:, 1\]"
OTHER = r"has no meaning for a MixedTarget: do it to the class indices before mixing, or to y\.ids and y\.weight"
COMPARE = r"compare a MixedTarget with a tensor of predictions or with one number, not with a"


@pytest.mark.parametrize(
    ("what", "advice", "call"),
    [
        ("__add__", CALCULATE, lambda y: y + 1),
        ("__radd__", CALCULATE, lambda y: 1 + y),
        ("__radd__", CALCULATE, lambda y: sum(y)),
        ("__sub__", CALCULATE, lambda y: y - P),
        ("__rsub__", CALCULATE, lambda y: P - y),
        ("__mul__", CALCULATE, lambda y: y * 0.5),
        ("__rmul__", CALCULATE, lambda y: 0.5 * y),
        ("__truediv__", CALCULATE, lambda y: y / 2),
        ("__rfloordiv__", CALCULATE, lambda y: P // y),
        ("__rmod__", CALCULATE, lambda y: P % y),
        ("__pow__", CALCULATE, lambda y: y**2),
        ("__neg__", CALCULATE, lambda y: -y),
        ("__invert__", CALCULATE, lambda y: ~y),
        ("__and__", CALCULATE, lambda y: y & 1),
        ("__matmul__", CALCULATE, lambda y: y @ torch.eye(3)),
        ("add", CALCULATE, lambda y: torch.add(P, y)),
        ("__iadd__", CALCULATE, lambda y: operator.iadd(y, 1)),
        ("__gt__", ORDER, lambda y: y > 0),
        ("__gt__", ORDER, lambda y: y > P),
        ("__le__", ORDER, lambda y: y <= P),
        ("lt", ORDER, lambda y: torch.lt(y, 3)),
        ("__setitem__", IN_PLACE, lambda y: y.__setitem__(0, 1)),
        ("__array__", METRIC, lambda y: np.asarray(y)),
        ("__array__", METRIC, lambda y: np.mean(y)),
        ("unique", METRIC, lambda y: torch.unique(y)),
        ("bincount", METRIC, lambda y: torch.bincount(y)),
        ("max", METRIC, lambda y: torch.max(y, 0)),
        ("argmax", METRIC, lambda y: torch.argmax(y)),
        ("topk", METRIC, lambda y: torch.topk(y, 1)),
        ("sum", METRIC, lambda y: torch.sum(y)),
        ("equal", METRIC, lambda y: torch.equal(P, y)),
        ("", COMPARE + " MixedTarget", lambda y: y == small()),
        ("", COMPARE + " MixedTarget", lambda y: y != small()),
        ("", COMPARE + " MixedTarget", lambda y: torch.eq(y, small())),
        ("", COMPARE + " ndarray", lambda y: y == P.numpy()),
        ("", COMPARE + " ndarray", lambda y: P.numpy() == y),
        ("", COMPARE + " list", lambda y: y == [0, 1, 2]),
        ("", COMPARE + " str", lambda y: y == "cat"),
        ("where", OTHER, lambda y: torch.where(P > 0, P, y)),
        ("__getitem__", LOOKUP, lambda y: torch.eye(3)[y]),
        ("__getitem__", LOOKUP, lambda y: y[y]),
        ("embedding", LOOKUP, lambda y: nn.Embedding(4, 2)(y)),
        ("gather", LOOKUP, lambda y: torch.eye(3).gather(1, y[:, None])),
        ("gather", LOOKUP, lambda y: torch.gather(torch.eye(3), 1, y[:, None])),
        ("scatter_", LOOKUP, lambda y: torch.zeros(3, 3).scatter_(1, y[:, None], 1)),
        ("index_select", LOOKUP, lambda y: torch.eye(3).index_select(0, y)),
        ("index_select", LOOKUP, lambda y: torch.index_select(y, 0, y)),
        ("clamp", r"label smoother, give label_smoothing= to the loss", lambda y: torch.clamp(y, min=0)),
        ("conversion to torch.int32", NUMBERS, lambda y: y.view(torch.int32)),
        ("conversion to torch.float32", NUMBERS, lambda y: y.type(torch.float32)),
        ("__float__", NUMBERS, lambda y: float(y)),
        ("F.pad", r"in mode 'reflect' has no meaning", lambda y: F.pad(y, (1, 1), mode="reflect")),
        ("", r"joins others and integer class indices, not torch\.float32", lambda y: torch.cat([y, torch.zeros(2)])),
    ],
)
def test_operations_without_a_meaning_are_refused_with_the_one_way_out(what, advice, call):
    with pytest.raises(TypeError, match=f"^{what}.*{advice}") as error:
        call(small())
    assert len(str(error.value)) <= 200


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        *((name, NUMBERS) for name in ("float", "double", "half", "int", "bool")),
        *((name, METRIC) for name in ("numpy", "tolist", "item", "sum", "argmax", "unique", "topk", "max")),
        *((name, IN_PLACE) for name in ("zero_", "masked_fill_", "squeeze_", "copy_")),
        ("clamp", r"label_smoothing="),
        ("index_fill", LOOKUP),
        ("backward", OTHER),
    ],
)
def test_what_only_tensors_have_is_refused_with_a_way_out(name, advice):
    """An AttributeError, so that hasattr says no."""
    assert not hasattr(small(), name)
    with pytest.raises(AttributeError, match=rf"^Tensor\.{name} .*{advice}") as error:
        getattr(small(), name)
    assert len(str(error.value)) <= 200


def test_what_nothing_has_is_an_ordinary_attribute_error():
    with pytest.raises(AttributeError, match="a MixedTarget has no 'labels'"):
        small().labels  # noqa: B018
    with pytest.raises(AttributeError):
        small().classes = 3


def test_predictions_of_another_shape_do_not_fit():
    for predicted in (torch.tensor([0, 1]), torch.tensor(1), torch.zeros(3, 1, dtype=torch.int64), torch.zeros(3, 4)):
        for compare in (lambda p: p == small(), lambda p: small() == p, lambda p: p.eq(small())):
            with pytest.raises(ValueError, match=r"do not fit targets \[3\]"):
                compare(predicted)
