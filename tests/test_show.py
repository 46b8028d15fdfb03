"""Figures of batches: the values drawn are the plan's, the titles hold its shares, and pyplot knows nothing of them."""

import gc
import io
import pickle
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import vicinal
from vicinal import MixedTarget, MixPlan, _show
from vicinal._panel import layout_of

NAMES = ["cat", "dog", "eel"]


def plan_of(partner, weight, **others):
    return MixPlan(torch.tensor(partner), torch.tensor(weight), **others)


PLAN = plan_of([2, 1, 0, 0], [0.75, 0.5, 0.25, 1.0])
Y = torch.tensor([0, 1, 1, 2])


def numbers(*shape, seed=0):
    return torch.from_numpy(np.random.Generator(np.random.Philox(key=seed)).standard_normal(shape).astype(np.float32))


def titles(figure):
    return [axes.get_title().replace("\n", " ") for axes in figure.axes]


def drawn(figure):
    """Return the image of each axes."""
    return [axes.images[0].get_array().filled(np.nan) for axes in figure.axes]


def lines(figure):
    return [np.stack([line.get_ydata() for line in axes.lines]) for axes in figure.axes]


def cells(figure):
    """Return the words of a table, line by line."""
    table = figure.axes[0].tables[0].get_celld()
    height, width = 1 + max(i for i, _ in table), 1 + max(j for _, j in table)
    return [[table[i, j].get_text().get_text() for j in range(width)] for i in range(height)]


# -- with a plan: row, partner, mix -------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_are_those_of_row_partner_and_mix_on_one_scale(channels):
    x = numbers(4, channels, 5, 6)
    figure = PLAN.show(x, Y, class_names=NAMES, rows=1)
    mixed = PLAN(x)
    parts = [x[0], x[2], mixed[0]]
    low, high = min(float(p.min()) for p in parts), max(float(p.max()) for p in parts)
    assert len(figure.axes) == 3
    for image, part in zip(drawn(figure), parts, strict=True):
        expected = (part.double().numpy() - low) / (high - low)
        expected = expected[0] if channels == 1 else np.moveaxis(expected, 0, -1)
        np.testing.assert_allclose(image, expected, atol=1e-12)
    assert titles(figure) == ["row 0: cat", "row 2: dog", "0.75 cat + 0.25 dog"]


def test_each_row_has_a_scale_of_its_own():
    x = torch.cat([numbers(2, 1, 4, 4), 100 * numbers(2, 1, 4, 4, seed=1)])
    figure = plan_of([1, 0, 3, 2], [0.5] * 4).show(x, rows=[0, 2], kind="image")
    assert len(figure.axes) == 6
    for group in (drawn(figure)[:3], drawn(figure)[3:]):
        assert min(image.min() for image in group) == 0
        assert max(image.max() for image in group) == 1


def test_bytes_and_unit_floats_keep_their_brightness():
    x = torch.tensor([[[[51, 102]]], [[[0, 204]]]], dtype=torch.uint8)
    plan = plan_of([1, 0], [0.5, 0.5])
    first, second, mixed = drawn(plan.show(x, rows=1))
    np.testing.assert_allclose([first, second], [[[0.2, 0.4]], [[0, 0.8]]])
    np.testing.assert_allclose(mixed, plan(x)[0, 0].numpy() / 255)
    np.testing.assert_allclose(drawn(plan.show(x / 255, rows=1))[0], [[0.2, 0.4]], rtol=1e-6)


def test_images_with_channels_last_and_without_channels():
    x = torch.rand(4, 5, 6, 3)
    channels_last, first = PLAN.show(x), PLAN.show(x.movedim(-1, 1))
    for a, b in zip(drawn(channels_last), drawn(first), strict=True):
        np.testing.assert_array_equal(a, b)
    square = torch.rand(4, 7, 7)
    np.testing.assert_allclose(drawn(PLAN.show(square))[0], square[0].double())
    both = torch.rand(4, 3, 8, 4)
    assert drawn(vicinal.show(both, channels_last=True))[0].shape == (3, 8, 4)
    assert drawn(vicinal.show(both))[0].shape == (8, 4, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_and_gradients(dtype):
    x = torch.rand(4, 1, 3, 3).to(dtype).requires_grad_()
    np.testing.assert_allclose(drawn(PLAN.show(x, rows=1))[2], PLAN(x.detach())[0, 0].double())
    assert x.grad is None


def test_holes_are_drawn_as_holes():
    x = torch.rand(2, 1, 3, 3)
    x[0, 0, 0, 0], x[1, 0, 1, 1] = float("nan"), float("inf")
    plan = plan_of([0, 1], [1.0, 1.0])
    image = drawn(plan.show(x, rows=1))[0]
    assert np.isnan(image[0, 0])
    assert np.isfinite(image).sum() == 8
    plan.show(x.expand(-1, 3, -1, -1)).savefig(io.BytesIO())
    plan.show(torch.full((2, 1, 3, 3), float("nan"))).savefig(io.BytesIO())
    plan.show(torch.full((2, 1, 3, 3), 7.0)).savefig(io.BytesIO())


def test_signals_are_lines():
    x = numbers(4, 3, 50)
    figure = PLAN.show(x, Y, rows=1)
    for line, part in zip(lines(figure), [x[0], x[2], PLAN(x)[0]], strict=True):
        np.testing.assert_array_equal(line, part.numpy())
    assert titles(figure) == ["row 0: class 0", "row 2: class 1", "0.75 class 0 + 0.25 class 1"]
    assert figure.axes[0].get_xlabel() == "time step"
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    np.testing.assert_array_equal(lines(PLAN.show(x[:, 0], kind="signal", rows=1))[2], PLAN(x[:, 0])[:1].numpy())
    by_time = x.transpose(1, 2)
    np.testing.assert_array_equal(lines(PLAN.show(by_time, rows=1))[2], PLAN(x)[0].numpy())


def test_spectrograms_have_low_frequencies_below_and_one_scale():
    x = 20 * numbers(4, 1, 40, 30)
    figure = PLAN.show(x, Y, rows=1)
    for image, part in zip(drawn(figure), [x[0], x[2], PLAN(x)[0]], strict=True):
        np.testing.assert_array_equal(image, part[0].numpy())
    assert {axes.images[0].origin for axes in figure.axes} == {"lower"}
    assert len({axes.images[0].get_clim() for axes in figure.axes}) == 1
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("time frame", "frequency bin")
    silent = x[:, 0].clone()
    silent[0, 0, 0] = -torch.inf  # the logarithm of 0
    image = drawn(vicinal.show(silent))[0]
    assert image[0, 0] == silent[silent.isfinite()].min()


def test_tables_are_tables():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 8.0], [0.0, 0.0]])
    assert cells(PLAN.show(x, Y, class_names=NAMES, rows=2)) == [
        ["", "share", "label", "x0", "x1"],
        ["row 0", "0.75", "cat", "1", "2"],
        ["row 2", "0.25", "dog", "5", "8"],
        ["mix", "", "0.75 cat + 0.25 dog", "2", "3.5"],
        ["row 1", "1.00", "dog", "3", "4"],
        ["mix", "", "0.50 dog + 0.50 dog", "3", "4"],
    ]
    wide = cells(vicinal.show(torch.arange(40.0).view(2, 20)))
    assert wide[0] == ["", "", "", *(f"x{i}" for i in range(8)), "… 12 more"]
    assert wide[2][3:] == [*(str(i) for i in range(20, 28)), "…"]
    assert cells(vicinal.show(torch.tensor([1.5, 2.5])))[1:] == [["row 0", "", "", "1.5"], ["row 1", "", "", "2.5"]]


def test_a_row_that_keeps_all_has_no_partner():
    figure = PLAN.show(torch.rand(4, 1, 3, 3), Y, class_names=NAMES, rows=[3])
    assert titles(figure) == ["row 3: eel", "eel"]
    noise = vicinal.GaussianNoise(0.5, seed=1).plan(4, step=0)
    x = torch.rand(4, 1, 3, 3)
    figure = noise.show(x, rows=1)
    assert titles(figure) == ["row 0", "row 0"]
    low, high = min(x[0].min(), noise(x)[0].min()), max(x[0].max(), noise(x)[0].max())
    np.testing.assert_allclose(drawn(figure)[1], (noise(x)[0, 0] - low) / (high - low), atol=1e-6)


def test_shares_of_several_partners():
    plan = plan_of([[1, 2], [0, 2], [0, 1]], [[0.5, 0.25, 0.25], [0.0, 0.75, 0.25], [1.0, 0.0, 0.0]])
    figure = plan.show(torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 2]), class_names=NAMES)
    assert titles(figure) == [
        *("row 0: cat", "row 1: dog", "row 2: eel", "0.50 cat + 0.25 dog + 0.25 eel"),
        *("row 1: dog", "row 0: cat", "row 2: eel", "0.75 cat + 0.25 eel"),
        *("row 2: eel", "eel"),
    ]


def test_shares_of_many_partners_are_cut_short():
    plan = plan_of([list(range(1, 8))] * 8, [[0.3, *[0.1] * 7]] * 8)
    figure = plan.show(torch.rand(8, 1, 2, 2), rows=1)
    assert titles(figure)[-1] == "0.30 row 0 + 0.10 row 1 + 0.10 row 2 + 0.10 row 3 + 0.40 others"
    assert len(figure.axes) == 1 + 4 + 1


def chained_shares(plans, n):
    """Return the shares [n, n] of rows in the mixes of several plans, by the plain products of theirs."""
    total = np.eye(n)
    for plan in plans:
        shares = np.zeros((n, n))
        for i in range(n):
            shares[i, i] += float(plan.weight[i])
            shares[i, int(plan.partner[i])] += 1 - float(plan.weight[i])
        total = shares @ total
    return total


@given(st.integers(0, 2**32), st.integers(1, 3))
def test_shares_of_chains_are_products(seed, parts):
    mixing = vicinal.Mixup(1.0, seed=seed)
    plans = [mixing.plan(5, step=i) for i in range(parts)]
    chain = vicinal.plan.PlanChain(tuple(plans))
    expected = chained_shares(plans, 5)
    for row in range(5):
        shares = _show._shares(chain, row, "shares")
        assert next(iter(shares)) == row
        np.testing.assert_allclose([shares.get(j, 0) for j in range(5)], expected[row], atol=1e-12)


def test_a_box_is_outlined_and_titled_by_its_area():
    box = torch.tensor([[[1, 3], [0, 2]], [[0, 0], [0, 0]]])
    plan = plan_of([1, 0], [0.75, 1.0], box=box, grid=(4, 4))
    x = torch.rand(2, 3, 4, 4)
    figure = plan.show(x, torch.tensor([0, 1]), class_names=NAMES)
    assert titles(figure) == ["row 0: cat", "row 1: dog", "0.75 cat + 0.25 dog", "row 1: dog", "dog"]
    np.testing.assert_allclose(drawn(figure)[2], plan(x)[0].movedim(0, -1).double())
    outlines = [[p for p in axes.patches if isinstance(p, Rectangle)] for axes in figure.axes]
    assert [len(found) for found in outlines] == [0, 0, 1, 0, 0]
    assert outlines[2][0].get_bbox().bounds == (-0.5, 0.5, 2, 2)


def test_a_box_of_a_signal_is_shaded():
    plan = plan_of([1, 0], [0.75, 0.75], box=torch.tensor([[[2, 4]], [[2, 4]]]), grid=(8,))
    x = numbers(2, 3, 8)
    figure = plan.show(x, rows=1)
    np.testing.assert_array_equal(lines(figure)[2], plan(x)[0].numpy())
    shaded = figure.axes[2].patches[0]
    assert shaded.get_extents().transformed(figure.axes[2].transData.inverted()).intervalx.tolist() == pytest.approx(
        [1.5, 3.5]
    )
    assert not [*figure.axes[0].patches, *figure.axes[1].patches]


def test_maps_are_drawn_below_images():
    plan = plan_of([1, 0], [0.75, 0.75])
    x, y = torch.rand(2, 3, 2, 2), torch.tensor([[[0, 1], [0, -1]], [[0, 2], [21, 1]]])
    figure = plan.show(x, y, rows=1)
    assert titles(figure) == ["row 0", "", "row 1", "", "0.75 row 0 + 0.25 row 1", ""]
    own, partner, mixed = drawn(figure)[1::2]
    np.testing.assert_allclose(mixed, 0.75 * own + 0.25 * partner)
    assert (own[0, 0] == partner[0, 0]).all()  # class 0
    assert (own[0, 1] == partner[1, 1]).all()  # class 1
    assert (own[0, 1] == partner[1, 0]).all()  # colors begin again after 20
    assert (own[0, 0] != own[0, 1]).any()
    assert own[1, 1].tolist() == [0.85] * 3  # ignored
    cut = plan_of([1, 0], [0.5, 0.5], box=torch.tensor([[[0, 2], [0, 1]]] * 2), grid=(2, 2))
    own, partner, mixed = drawn(cut.show(x, y, rows=1))[1::2]
    np.testing.assert_allclose(mixed, np.stack([partner[:, 0], own[:, 1]], axis=1))


def test_of_a_nest_the_tensor_with_most_dimensions_is_drawn():
    x = {"age": numbers(4, 2), "image": torch.rand(4, 1, 3, 3)}
    np.testing.assert_allclose(drawn(PLAN.show(x, Y, rows=1))[2], PLAN(x)["image"][0, 0].double())
    examples = list(torch.rand(4, 1, 3, 3))
    np.testing.assert_allclose(drawn(PLAN.show(examples, rows=1))[2], PLAN(examples)[0][0].double())


def test_rows():
    x = torch.rand(20, 1, 2, 2)
    plan = plan_of([1] * 20, [0.5] * 20)
    assert len(plan.show(x).axes) == 3 + 2 + 3 + 3  # the second is its own partner
    assert len(plan.show(x, rows=2).axes) == 3 + 2
    assert titles(plan.show(x, rows=torch.tensor([7])))[0] == "row 7"
    assert len(vicinal.show(x).axes) == 12
    assert titles(vicinal.show(x, rows=[19, 3])) == ["row 19", "row 3"]
    assert len(vicinal.show(x, rows=100).axes) == 20


# -- labels ------------------------------------------------------------------------------------------------------------


def mix_title(plan, y, **options):
    return titles(plan.show(torch.rand(len(plan), 1, 2, 2), y, rows=1, **options))[-1]


def test_numbers_are_shown_as_a_sum():
    y = torch.tensor([2.5, 1.0, 4.5, 0.0])
    assert mix_title(PLAN, y) == "3 = 0.75 × 2.5 + 0.25 × 4.5"
    assert mix_title(PLAN, y[:, None]) == "3 = 0.75 × 2.5 + 0.25 × 4.5"
    several = torch.stack([y, -y], dim=1)
    assert mix_title(PLAN, several) == "3, -3 inputs: 0.75 row 0 + 0.25 row 2"
    assert mix_title(PLAN, several, class_names=NAMES) == "cat 3, dog -3 inputs: 0.75 row 0 + 0.25 row 2"


def test_soft_labels_name_classes_the_largest_first():
    y = torch.tensor([[0.1, 0.9, 0.0], [0.0, 1.0, 0.0], [0.1, 0.1, 0.8], [1.0, 0.0, 0.0]])
    figure = PLAN.show(torch.rand(4, 1, 2, 2), y, class_names=NAMES, rows=1)
    assert titles(figure) == [
        "row 0: 0.90 dog + 0.10 cat",
        "row 2: 0.80 eel + 0.10 cat + 0.10 dog",
        "0.70 dog + 0.20 eel + 0.10 cat",
    ]


def test_inputs_and_labels_of_different_shares():
    plan = plan_of([2, 1, 0, 0], [0.75, 0.5, 0.25, 1.0], target_weight=torch.tensor([1.0, 1.0, 0.0, 1.0]))
    assert mix_title(plan, Y, class_names=NAMES) == "cat inputs: 0.75 row 0 + 0.25 row 2"


def test_smoothing_heads_and_mixed_targets():
    chain = vicinal.plan.PlanChain((PLAN, plan_of([0, 1, 2, 3], [1.0] * 4, smoothing=0.1)))
    assert mix_title(chain, Y, class_names=NAMES).startswith("0.75 cat + 0.25 dog")
    assert mix_title(chain, Y, class_names=NAMES).endswith(", smoothing 0.1")
    heads = torch.tensor([[0, 1], [0, 0], [2, 2], [1, 1]])
    assert mix_title(PLAN, heads, class_names=NAMES) == "0.75 cat + 0.25 eel, 0.75 dog + 0.25 eel"
    mixed = MixedTarget(torch.tensor([[0, 1], [2, 2]]), torch.tensor([[0.998, 0.5], [0.002, 0.5]]))
    figure = vicinal.show(
        torch.rand(2, 1, 2, 2), mixed, class_names={0: "a$b$", 1: "b\nc", 2: "a name too long indeed"}
    )
    assert titles(figure) == ["1.00 a$b$ + <0.01 a name too long…", "0.50 b c + 0.50 a name too long…"]
    figure.savefig(io.BytesIO())


def test_unknown_numbers():
    y = torch.tensor([2.5, 1.0, float("nan"), 0.0])
    with pytest.raises(ValueError, match="missing="):
        mix_title(PLAN, y)
    assert mix_title(PLAN, y, missing=float("nan")).startswith("2.5 = ")


def test_a_batch_that_is_mixed_already():
    x = numbers(4, 3, 5, 5)
    mixed_x, mixed_y = PLAN(x), PLAN.target(Y)
    figure = vicinal.show(mixed_x, mixed_y, class_names=NAMES)
    assert titles(figure) == ["0.75 cat + 0.25 dog", "0.50 dog + 0.50 dog", "0.25 dog + 0.75 cat", "eel"]
    low, high = mixed_x.min(), mixed_x.max()
    for image, part in zip(drawn(figure), mixed_x, strict=True):
        np.testing.assert_allclose(image, ((part - low) / (high - low)).movedim(0, -1), atol=1e-6)
    assert titles(vicinal.show(x, Y, class_names=NAMES, rows=1)) == ["row 0: cat"]
    assert titles(vicinal.show(x, torch.tensor([0.5, 1.5, 2.5, 3.25]))) == [
        "row 0: 0.5",
        "row 1: 1.5",
        "row 2: 2.5",
        "row 3: 3.25",
    ]


# -- kinds -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((4, 3, 8, 8), "image"),
        ((4, 1, 8, 9), "image"),
        ((4, 8, 9, 3), "image"),
        ((4, 28, 28), "image"),
        ((4, 8, 8), "image"),
        ((4, 40, 100), "spectrogram"),
        ((4, 2, 100), "signal"),
        ((4, 100, 3), "signal"),
        ((4, 16, 100), "signal"),
        ((4, 65), "signal"),
        ((4, 64), "table"),
        ((4,), "table"),
    ],
)
def test_kinds_are_decided_by_shape(shape, kind):
    assert layout_of(numbers(*shape), None, None).kind == kind


def test_kinds_are_decided_by_values_and_dtype_too():
    assert layout_of(20 * numbers(4, 1, 40, 40), None, None).kind == "spectrogram"
    assert layout_of(20 * numbers(4, 40, 40), None, None).kind == "spectrogram"
    assert layout_of(20 * numbers(4, 9, 9), None, None).kind == "spectrogram"
    assert layout_of(255 * torch.rand(4, 1, 40, 40), None, None).kind == "image"
    assert layout_of(torch.zeros(4, 20, 30, dtype=torch.uint8), None, None).kind == "image"
    assert layout_of(numbers(4, 30), "signal", None).kind == "signal"
    assert layout_of(numbers(4, 300), "table", None).kind == "table"


# -- what is refused ---------------------------------------------------------------------------------------------------

IMAGES = torch.rand(4, 3, 5, 5)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: vicinal.show(torch.rand(4, 3, 2, 5, 5)), ValueError, "choose a frame"),
        (lambda: vicinal.show(torch.rand(4, 12, 5, 5)), ValueError, "1, 3 or 4 channels, got 12"),
        (lambda: vicinal.show(torch.rand(4, 17, 50), kind="signal"), ValueError, "1 to 16 channels, got 17"),
        (lambda: vicinal.show(torch.rand(4, 3, 50, 9), kind="spectrogram"), ValueError, "of 1 channels, got 3"),
        (lambda: vicinal.show(torch.rand(4, 9), kind="image"), ValueError, r"images are drawn of \[n, c, h, w\]"),
        (lambda: vicinal.show(IMAGES, kind="picture"), ValueError, "kind must be one of 'image'"),
        (lambda: vicinal.show(torch.rand(0, 3)), ValueError, "no values to show"),
        (lambda: vicinal.show(torch.rand(4, 3, 0, 5)), ValueError, "no values to show"),
        (lambda: vicinal.show(IMAGES.numpy()), TypeError, r"torch\.from_numpy"),
        (lambda: vicinal.show(IMAGES.to(torch.complex64)), TypeError, r"x\.abs\(\)"),
        (lambda: vicinal.show(IMAGES.to_sparse()), TypeError, "dense tensor"),
        (lambda: vicinal.show(IMAGES.to("meta")), TypeError, "meta"),
        (lambda: vicinal.show(IMAGES, PLAN), TypeError, r"show\(x, y, plan\)"),
        (lambda: vicinal.show(IMAGES, Y, vicinal.Mixup(1.0)), TypeError, r"show\(x, y, plan\)"),
        (lambda: vicinal.show(IMAGES, {"a": Y}), TypeError, "one target"),
        (lambda: vicinal.show(IMAGES, Y[:3]), ValueError, r"shape \[3\], but there are 4 rows"),
        (lambda: vicinal.show(IMAGES, Y > 0), TypeError, "boolean target"),
        (lambda: PLAN.show(IMAGES[:3]), ValueError, r"but .*4 rows"),
        (lambda: PLAN.show(IMAGES, Y, class_names=["cat", "dog"]), TypeError, "2 names, but there is a class 2"),
        (lambda: PLAN.show(IMAGES, Y, class_names="abc"), TypeError, "list or a dict"),
        (lambda: PLAN.show(IMAGES, rows=0), ValueError, "1 or more"),
        (lambda: PLAN.show(IMAGES, rows=True), ValueError, "1 or more"),
        (lambda: PLAN.show(IMAGES, rows=[4]), IndexError, r"in \[0, 4\)"),
        (lambda: PLAN.show(IMAGES, rows=[-1]), IndexError, r"in \[0, 4\)"),
        (lambda: PLAN.show(IMAGES, rows=[]), IndexError, r"in \[0, 4\)"),
        (lambda: PLAN.show(IMAGES, rows=Y > 0), IndexError, "integers"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


def test_a_plan_of_another_kind_is_refused():
    class Own(type(PLAN)):
        pass

    assert titles(vicinal.show(IMAGES, None, Own(PLAN.partner, PLAN.weight)))[2] == "0.75 row 0 + 0.25 row 2"
    with pytest.raises(TypeError, match="not of a list"):
        _show._shares([], 0, "shares")


# -- a figure of nobody but the caller ---------------------------------------------------------------------------------


def test_notebooks_show_the_figure_and_it_is_written_and_pickled():
    figure = PLAN.show(IMAGES, Y)
    assert isinstance(figure, Figure)
    assert figure._repr_png_()[:8] == b"\x89PNG\r\n\x1a\n"
    assert titles(pickle.loads(pickle.dumps(figure))) == titles(figure)


def test_titles_do_not_overlap():
    names = {i: "automobile and more" for i in range(3)}
    for x in (IMAGES, numbers(4, 1, 90), 20 * numbers(4, 40, 30)):
        figure = PLAN.show(x, Y, class_names=names)
        figure.draw_without_rendering()  # which lays it out
        boxes = [axes.title.get_window_extent() for axes in figure.axes]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        assert all(box.y1 <= figure.bbox.y1 for box in boxes)


def test_no_figure_is_kept():
    figure = PLAN.show(IMAGES, Y)
    figure._repr_png_()
    gone = weakref.ref(figure)
    del figure
    gc.collect()
    assert gone() is None


CALL = """
import sys
{before}
import torch, vicinal
x = torch.rand(4, 1, 3, 3)
plan = vicinal.Mixup(1.0, seed=1).plan(4, step=0)
{after}
"""


def run(before="", after=""):
    code = CALL.format(before=before, after=after)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[0]


@pytest.mark.slow
def test_pyplot_is_not_imported():
    assert run(after="plan.show(x)._repr_png_(); print('matplotlib.pyplot' in sys.modules)") == "False"


@pytest.mark.slow
def test_without_matplotlib_everything_else_works():
    caught = "\ntry:\n    plan.show(x)\nexcept ImportError as error:\n    print(error)"
    told = run("sys.modules['matplotlib'] = None", "from vicinal import *" + caught)
    assert told == "show draws with matplotlib, which is not installed: pip install matplotlib"
