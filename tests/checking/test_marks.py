"""Rows that say who they are: what each leaf of an example is taken for, and what fills it."""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vicinal.checking import trees
from vicinal.checking.marks import Marks, class_of, last_key
from vicinal.keyed import Key


def image(i: int = 0, *shape: int) -> Tensor:
    return torch.from_numpy(Key(31, 0, 0, i).generator().random(shape or (3, 6, 5))).float()


def waveform(i: int) -> Tensor:
    return torch.from_numpy(Key(32, 0, 0, i).generator().uniform(-1, 1, (1, 40))).float()


def roles(examples: list[Any], **options: Any) -> dict[str, str]:
    return {name: spec.role for name, spec in Marks(examples, **options).specs.items()}


# -- roles -------------------------------------------------------------------------------------------------------------


def of_pairs(label: Any) -> dict[str, str]:
    """Return the roles of (image, label), by what `label(i)` makes for several examples."""
    return roles([(image(i), label(i)) for i in range(6)])


LABELS = [
    ("a number", lambda i: i % 3, "indices"),
    ("int64", lambda i: torch.tensor(i % 3), "indices"),
    ("int32", lambda i: torch.tensor(i % 3, dtype=torch.int32), "indices"),
    ("uint8", lambda i: torch.tensor(i % 3, dtype=torch.uint8), "indices"),
    ("one in a list", lambda i: torch.tensor([i % 3]), "indices"),
    ("numpy", lambda i: np.int64(i % 3), "indices"),
    ("array", lambda i: np.array(i % 3), "indices"),
    ("one-hot", lambda i: torch.eye(3)[i % 3], "one-hot"),
    ("soft", lambda i: 0.9 * torch.eye(3)[i % 3] + 0.1 / 3, "one-hot"),
    ("several", lambda i: torch.tensor([1.0, i % 2, 1.0]), "multi-hot"),
    ("several whole", lambda i: torch.tensor([1, i % 2, 1]), "multi-hot"),
    ("number", lambda i: torch.tensor(0.3 * i), "values"),
    ("float", lambda i: 0.25 + i, "values"),
    ("coordinates", lambda i: torch.tensor([0.3 * i, 2.0, -1.0]), "values"),
    ("map", lambda i: torch.arange(30).reshape(6, 5) % (i + 2), "map"),
    ("heat map", lambda i: image(i, 6, 5), "values"),
]


@pytest.mark.parametrize(("label", "role"), [(make, role) for _, make, role in LABELS], ids=[n for n, _, _ in LABELS])
def test_labels_of_pairs(label, role):
    assert of_pairs(label) == {"[0]": "input", "[1]": role}


@pytest.mark.parametrize(
    "name",
    ["label", "labels", "target", "y", "cls", "class_id", "label_ids", "Label", "my_label", "y_onehot", "segmentation"],
)
def test_labels_by_name(name):
    assert roles([{"image": image(i), name: i % 3} for i in range(6)]) == {
        "['image']": "input",
        f"['{name}']": "indices",
    }


@pytest.mark.parametrize("name", ["id", "idx", "index", "image_id", "path", "uid", "file"])
def test_names_of_rows_are_no_labels(name):
    examples = [{"image": image(i), "label": i % 3, name: i} for i in range(6)]
    assert roles(examples)[f"['{name}']"] == "other"
    assert roles(examples)["['label']"] == "indices"


def test_a_mapping_without_a_name_for_its_label():
    found = roles([{"pixels": image(i), "digit": i % 3, "id": i} for i in range(6)])
    assert found == {"['pixels']": "input", "['digit']": "indices", "['id']": "other"}


@pytest.mark.parametrize(
    ("leaf", "role"),
    [
        (lambda i: image(i), "input"),
        (lambda i: image(i).double(), "input"),
        (lambda i: image(i).half(), "input"),
        (lambda i: (255 * image(i)).byte(), "input"),
        (lambda i: (255 * image(i)).byte().permute(1, 2, 0).numpy(), "input"),
        (lambda i: waveform(i), "input"),
        (lambda i: waveform(i).numpy(), "input"),
        (lambda i: torch.arange(12) + i, "tokens"),
        (lambda i: np.arange(12) + i, "tokens"),
        (lambda i: [3, 1, 4, 1, 5 + i], "tokens"),
        (lambda i: torch.tensor(0.1 * i), "input"),
        (lambda i: torch.arange(12).reshape(3, 4) + i, "tokens"),
        (lambda i: "a name", "other"),
        (lambda i: torch.tensor([True, False, True, True]), "other"),
    ],
)
def test_content(leaf, role):
    assert roles([(leaf(i), i % 3) for i in range(6)]) == {"[0]": role, "[1]": "indices"}


@pytest.mark.parametrize("name", ["mask", "attention_mask", "padding_mask", "key_padding_mask", "valid"])
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_masks(name, dtype):
    examples = [
        {"input_ids": torch.arange(12) + i, name: (torch.arange(12) < 6 + i).to(dtype), "label": i % 3}
        for i in range(6)
    ]
    assert roles(examples) == {"['input_ids']": "tokens", f"['{name}']": "mask", "['label']": "indices"}


def test_lengths_are_handed_on():
    examples = [{"x": waveform(i), "length": torch.tensor(30 + i), "label": i % 3} for i in range(6)]
    marks = Marks(examples)
    assert marks.specs["['length']"].role == "other"
    assert marks.example(5)["length"] == 30


def test_a_mask_of_places_is_a_map():
    examples = [{"image": image(i), "mask": torch.arange(30).reshape(6, 5) % (i + 2)} for i in range(4)]
    assert roles(examples) == {"['image']": "input", "['mask']": "map"}


def test_categories_beside_numbers():
    examples = [{"x": torch.tensor([0.1 * i, 2.0]), "color": torch.tensor(i % 4), "label": i % 3} for i in range(8)]
    marks = Marks(examples)
    assert {spec.name: spec.role for spec in marks.specs.values()} == {
        "['x']": "input",
        "['color']": "tokens",
        "['label']": "indices",
    }
    assert {int(marks.example(i)["color"]) for i in range(60)} == {0, 1, 2, 3}


def test_pil_images():
    pil = pytest.importorskip("PIL.Image")
    like = pil.fromarray((255 * image(0, 6, 5, 3)).byte().numpy())
    marks = Marks([(like, 1), (like, 0)])
    assert marks.specs["[0]"].role == "input"
    made = marks.example(3)[0]
    assert type(made) is pil.Image
    assert made.size == (5, 6)
    assert made.mode == "RGB"
    assert np.array_equal(np.asarray(made), marks.leaf("[0]", 3).numpy())
    gray = pil.fromarray((255 * image(0, 6, 5)).byte().numpy())
    assert Marks([(gray, 1)]).example(3)[0].mode == "L"


class Point(NamedTuple):
    image: Tensor
    label: Tensor


@dataclasses.dataclass
class Item:
    image: Tensor
    label: Tensor
    name: str


def test_nests():
    examples = [({"left": image(i), "right": {"deep": waveform(i)}}, (i % 3, 0.5 * i)) for i in range(6)]
    assert roles(examples) == {
        "[0]['left']": "input",
        "[0]['right']['deep']": "input",
        "[1][0]": "indices",
        "[1][1]": "values",
    }
    assert roles([Point(image(i), torch.tensor(i % 3)) for i in range(6)]) == {".image": "input", ".label": "indices"}
    marks = Marks([Item(image(i), torch.tensor(i % 3), "a") for i in range(6)])
    assert [spec.role for spec in marks.specs.values()] == ["input", "indices", "other"]
    assert isinstance(marks.example(2), Item)
    assert isinstance(Marks([OrderedDict(x=image(0), y=1)]).example(2), OrderedDict)
    assert isinstance(Marks([Point(image(0), torch.tensor(1))]).example(2), Point)
    assert isinstance(Marks([[image(0), 1]]).example(2), list)


def test_inputs_alone():
    assert roles([image(i) for i in range(3)]) == {"": "input"}
    assert Marks([image(0)]).labels == []


def test_a_label_that_is_named():
    examples = [(torch.tensor(i % 3), image(i)) for i in range(6)]
    assert roles(examples, label="[0]") == {"[0]": "indices", "[1]": "input"}
    with pytest.raises(ValueError, match=r"no leaf 'kind'.*leaves are"):
        Marks([{"x": image(0), "y": 1}], label="kind")


def test_numbers_of_classes():
    examples = [(image(i), i % 3) for i in range(6)]
    assert Marks(examples).labels[0].classes == 3
    assert Marks(examples, classes=12).labels[0].classes == 12
    assert Marks([(image(0), 0)]).labels[0].classes == 2
    assert Marks([(image(0), torch.eye(7)[2])]).labels[0].classes == 7


def test_the_largest_input_comes_first():
    examples = [{"ids": torch.arange(500), "small": image(0, 2, 2), "large": image(0), "label": 1}]
    assert [spec.name for spec in Marks(examples).inputs] == ["['large']", "['small']", "['ids']"]


def test_last_keys():
    assert last_key("[0]['image'].left") == "left"
    assert last_key("['image']") == "image"
    assert last_key("[0][12]") == "12"
    assert last_key("") == ""


# -- entries that mean "unknown" ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "unknown"),
    [
        ([[0, 1, 2, 255], [2, 1, 0, 0]], 255.0),
        ([[0, 1, 2, -100], [2, 1, 0, 0]], -100.0),
        ([[0, 1, 2, -1], [2, 1, 0, 0]], -1.0),
        ([[0, 1, 2, 2], [2, 1, 0, 0]], None),
        ([[254, 253, 252, 255], [2, 1, 0, 200]], None),
        ([[-2, -1, 0, 1], [2, 1, 0, 0]], None),
    ],
    ids=str,
)
def test_unknown_places_of_maps(values, unknown):
    examples = [(image(i, 3, 2, 2), torch.tensor(v).reshape(2, 2)) for i, v in enumerate(values)]
    marks = Marks(examples)
    spec = marks.labels[0]
    assert spec.unknown == unknown
    if unknown is not None:
        assert spec.classes == 3
        seen = set(torch.stack([marks.leaf(spec.name, i) for i in range(40)]).unique().tolist())
        assert seen == {0, 1, 2, int(unknown)}


def test_unknown_numbers():
    examples = [(image(i), torch.tensor([0.5 * i, float("nan") if i == 2 else 3.0])) for i in range(4)]
    marks = Marks(examples)
    spec = marks.labels[0]
    assert (spec.role, spec.low, spec.high) == ("values", 0.0, 3.0)
    assert spec.unknown is not None
    assert np.isnan(spec.unknown)
    rows = marks.rows("[1]", range(60))
    assert 0.05 < float(rows.isnan().double().mean()) < 0.3
    assert float(rows.nan_to_num(1.0).min()) >= 0.0
    assert float(rows.nan_to_num(1.0).max()) <= 3.0


def test_unknown_entries_of_several_labels():
    examples = [(image(i), torch.tensor([1.0, 0.0, -1.0 if i else 1.0, 1.0])) for i in range(4)]
    marks = Marks(examples)
    assert (marks.labels[0].role, marks.labels[0].unknown) == ("multi-hot", -1.0)
    assert set(marks.rows("[1]", range(40)).unique().tolist()) == {-1.0, 0.0, 1.0}


# -- what fills them ---------------------------------------------------------------------------------------------------

KINDS: dict[str, list[Any]] = {
    "images": [(image(i), i % 3) for i in range(6)],
    "half": [(image(i).half(), i % 3) for i in range(6)],
    "bytes": [((255 * image(i)).byte(), torch.eye(3)[i % 3]) for i in range(6)],
    "arrays": [{"image": image(i).numpy(), "label": np.int32(i % 3)} for i in range(6)],
    "tokens": [
        {
            "input_ids": torch.arange(12) + i,
            "attention_mask": (torch.arange(12) < 6 + i).long(),
            "label": torch.tensor(i % 3),
        }
        for i in range(6)
    ],
    "maps": [(image(i), torch.arange(30).reshape(6, 5) % (i + 2)) for i in range(6)],
    "numbers": [(image(i, 4).double(), 0.5 * i) for i in range(6)],
    "several": [(image(i), torch.tensor([1.0, i % 2, 0.0, 1.0])) for i in range(6)],
    "nest": [{"a": [image(i), waveform(i)], "y": {"b": i % 3}, "name": "x"} for i in range(6)],
}
every = pytest.mark.parametrize("kind", KINDS)


def flat(example: Any) -> dict[str, Any]:
    return dict(trees.leaves(example))


@every
def test_the_structure_the_types_and_the_shapes_are_those_of_the_example(kind):
    like, made = flat(KINDS[kind][0]), flat(Marks(KINDS[kind]).example(7))
    assert list(made) == list(like)
    for name, leaf in like.items():
        assert type(made[name]) is type(leaf)
        assert getattr(made[name], "dtype", None) == getattr(leaf, "dtype", None)
        assert getattr(made[name], "shape", None) == getattr(leaf, "shape", None)


@every
def test_an_example_is_the_same_each_time(kind):
    marks, again = Marks(KINDS[kind]), Marks(KINDS[kind])
    assert marks.example(3) is marks.example(3)
    for name, leaf in flat(marks.example(3)).items():
        for other in (flat(marks.fresh(3))[name], flat(again.example(3))[name]):
            first, second = trees.as_tensor(leaf), trees.as_tensor(other)
            assert (first is None and leaf == other) or torch.equal(first, second)
    for spec in marks.inputs + marks.labels:
        assert torch.equal(marks.leaf(spec.name, 3), trees.as_tensor(flat(marks.example(3))[spec.name]))


@every
def test_fresh_examples_share_no_memory(kind):
    marks = Marks(KINDS[kind])
    before = marks.rows(marks.inputs[0].name, [3])
    for leaf in flat(marks.fresh(3)).values():
        if isinstance(leaf, Tensor | np.ndarray):
            leaf[...] = 0
    assert torch.equal(marks.rows(marks.inputs[0].name, [3]), before)
    assert torch.equal(trees.as_tensor(flat(marks.example(3))[marks.inputs[0].name]), before[0])


@every
def test_rows_differ_and_lie_in_the_range_of_the_example(kind):
    marks = Marks(KINDS[kind])
    for spec in marks.inputs:
        rows = marks.rows(spec.name, range(40)).double()
        assert len(rows.reshape(40, -1).unique(dim=0)) == 40
        assert float(rows.min()) >= spec.low
        assert float(rows.max()) <= spec.high
        if spec.role == "input":
            assert float(rows.std()) > 0.2 * (spec.high - spec.low)
    given = [trees.as_tensor(flat(example)[marks.inputs[0].name]) for example in KINDS[kind]]
    if marks.inputs[0].role == "input" and given[0].is_floating_point():
        assert marks.inputs[0].low == pytest.approx(min(float(t.min()) for t in given))
        assert marks.inputs[0].high == pytest.approx(max(float(t.max()) for t in given))


@every
def test_labels_are_those_of_the_row(kind):
    marks = Marks(KINDS[kind])
    spec = marks.labels[0]
    if spec.role == "indices":
        assert [int(marks.leaf(spec.name, i)) for i in range(20)] == [marks.class_of(spec, i) for i in range(20)]
    if spec.role == "one-hot":
        assert marks.rows(spec.name, range(20)).argmax(1).tolist() == [marks.class_of(spec, i) for i in range(20)]
        assert (marks.rows(spec.name, range(20)).sum(1) == 1).all()
    other = marks.fresh(3, label_of=5)
    assert torch.equal(trees.as_tensor(flat(other)[spec.name]), marks.leaf(spec.name, 5))
    content = marks.inputs[0].name
    assert torch.equal(trees.as_tensor(flat(other)[content]), marks.leaf(content, 3))


def test_soft_labels_stay_soft():
    marks = Marks([(image(i), 0.9 * torch.eye(3)[i % 3] + 0.1 / 3) for i in range(6)])
    assert marks.labels[0].is_soft
    made = marks.leaf("[1]", 0)
    assert sorted(made.tolist()) == pytest.approx([0.0, 0.2, 0.8])
    assert int(made.argmax()) == marks.class_of(marks.labels[0], 0)


def test_label_values_of_a_function():
    marks = Marks(KINDS["images"])
    assert marks.fresh(3, label_value=lambda spec: 77)[1] == 77


@pytest.mark.parametrize("name", ["attention_mask", "padding_mask"])
def test_masks_show_or_hide(name):
    examples = [{"x": waveform(i)[0], name: torch.ones(40, dtype=torch.bool), "label": i % 3} for i in range(4)]
    marks = Marks(examples)
    spec = marks.masks[0]
    lengths = [int(marks.tokens(spec, i).sum()) for i in range(22)]
    assert min(lengths) >= 16
    assert max(lengths) == 40
    assert len(set(lengths)) > 4
    for i in range(8):
        seen = marks.tokens(spec, i)
        assert seen[: lengths[i]].all()
        assert not seen[lengths[i] :].any()
        assert torch.equal(marks.leaf(spec.name, i).bool(), ~seen if name == "padding_mask" else seen)


def test_constant_content_is_filled_with_numbers_from_0_to_1():
    rows = Marks([(torch.zeros(3, 6, 5), 1)]).rows("[0]", range(20))
    assert 0 <= float(rows.min()) < 0.01
    assert 0.99 < float(rows.max()) <= 1


def test_numbers_as_classes():
    marks = Marks([(image(i), float(i % 4)) for i in range(8)])
    assert (marks.labels[0].role, marks.labels[0].is_whole) == ("values", True)
    marks.example(3)
    spec = marks.as_classes(marks.labels[0], 4)
    assert (spec.role, spec.classes) == ("indices", 4)
    assert marks.labels == [spec]
    assert [marks.example(i)[1] for i in range(6)] == [float(class_of(i, 4)) for i in range(6)]


# -- blends ------------------------------------------------------------------------------------------------------------


def test_a_blend_is_a_weighted_sum_with_the_first_label():
    marks = Marks(KINDS["images"])
    number = marks.blend(2, 5, 0.3)
    made = marks.example(number)
    torch.testing.assert_close(made[0], 0.3 * marks.example(2)[0] + 0.7 * marks.example(5)[0])
    assert made[1] == marks.example(2)[1]
    assert marks.blend(2, 5, 0.4) != number
    torch.testing.assert_close(marks.example(number)[0], made[0], rtol=0, atol=0)


def test_a_blend_of_bytes_is_rounded():
    marks = Marks(KINDS["bytes"])
    made = marks.example(marks.blend(2, 5, 0.25))[0]
    exact = 0.25 * marks.example(2)[0].double() + 0.75 * marks.example(5)[0].double()
    assert made.dtype == torch.uint8
    assert torch.equal(made, exact.round().byte())


def test_tokens_and_masks_of_a_blend_are_those_of_the_first():
    marks = Marks(KINDS["tokens"])
    made = marks.example(marks.blend(2, 5, 0.25))
    for name, leaf in made.items():
        assert torch.equal(leaf, marks.example(2)[name])


# -- classes -----------------------------------------------------------------------------------------------------------


def test_classes_are_in_range_and_spread():
    for classes in [*range(1, 130), 200, 255, 256, 257, 365, 1000, 1999, 2048, 2999, 3000]:
        found = [class_of(i, classes) for i in range(64)]
        assert min(found) >= 0
        assert max(found) < classes
        assert all(isinstance(c, int) for c in found)


@given(classes=st.integers(1, 3000), i=st.integers(0, 1_000_000))
def test_no_class_is_outside_of_the_range(classes, i):
    assert 0 <= class_of(i, classes) < classes


@given(classes=st.integers(5, 3000), block=st.integers(0, 600))
def test_most_of_the_8_rows_of_a_batch_differ_and_some_agree(classes, block):
    counts = Counter(class_of(i, classes) for i in range(8 * block, 8 * block + 8))
    assert len(counts) == 5
    assert max(counts.values()) == 2


@given(classes=st.integers(5, 3000), first=st.integers(0, 5000))
def test_most_of_any_8_rows_differ(classes, first):
    assert len({class_of(i, classes) for i in range(first, first + 8)}) >= 4


@given(classes=st.integers(2, 4), first=st.integers(0, 5000))
def test_of_few_classes_all_are_among_8_rows(classes, first):
    counts = Counter(class_of(i, classes) for i in range(first, first + 8))
    assert set(counts) == set(range(classes))


@pytest.mark.parametrize("classes", [3, 5, 10, 37, 100])
def test_each_class_is_met(classes):
    assert {class_of(i, classes) for i in range(16 * classes)} == set(range(classes))


def test_classes_without_labels_are_numbers():
    assert Marks([image(0)]).first_class(12) == 12
    marks = Marks(KINDS["images"])
    assert marks.first_class(12) == class_of(12, 3)
