"""What a batch may be: containers, lists of examples, kinds of tensors, and what is refused by name."""

from __future__ import annotations

import argparse
import copy
import functools
import types
import warnings
from collections import ChainMap, OrderedDict, UserDict, UserList, defaultdict, deque, namedtuple
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils import _pytree as pytree

import vicinal as v
from vicinities import content, noise

N = 5
PARTNER = torch.tensor([1, 0, 4, 2, 2])
PLAN = v.MixPlan(PARTNER, torch.tensor([0.75, 0.5, 0.25, 1.0, 0.0]))
A, B = noise(N, 3), noise(N, 2, 2, seed=1)


def by_hand(x: torch.Tensor, plan: v.MixPlan = PLAN) -> torch.Tensor:
    own = plan.weight.double()
    rows = [own[i] * x[i].double() + (1 - own[i]) * x[j].double() for i, j in enumerate(plan.partner.tolist())]
    return torch.stack(rows)


def equal(got: torch.Tensor, x: torch.Tensor) -> None:
    rtol, atol = (1e-12, 1e-15) if x.dtype == torch.float64 else (1e-6, 1e-6)
    torch.testing.assert_close(got.double(), by_hand(x), rtol=rtol, atol=atol)


# -- containers --------------------------------------------------------------------------------------------------------


class Named(NamedTuple):
    a: torch.Tensor
    b: Any


class MoreNamed(namedtuple("_Named", "a b")):
    def total(self):
        return self.a.sum()


class Extended(dict):
    pass


class Attributes(dict):
    """The usual dict whose keys are attributes."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.__dict__ = self


class Getter(dict):
    __getattr__ = dict.get
    __setattr__ = dict.__setitem__


class Mirrored(dict):
    """A dict that keeps a second reference to a value."""

    def __init__(self, a, b, note):
        super().__init__(a=a, b=b)
        self.first, self.note = a, note


class Batch(UserDict):
    def __init__(self, data, source):
        super().__init__(data)
        self.source = source


class Store(MutableMapping):
    """A mapping of another make."""

    def __init__(self, values=()):
        self.store = dict(values)

    def __getitem__(self, key):
        return self.store[key]

    def __setitem__(self, key, value):
        self.store[key] = value

    def __delitem__(self, key):
        del self.store[key]

    def __iter__(self):
        return iter(self.store)

    def __len__(self):
        return len(self.store)


class KeywordStore(Store):
    def __init__(self, *, a, b):
        super().__init__({"a": a, "b": b})


class ReadOnly(Mapping):
    def __init__(self, values):
        self._values = values

    def __getitem__(self, key):
        return self._values[key]

    def __iter__(self):
        return iter(self._values)

    def __len__(self):
        return len(self._values)


@dataclass
class Plain:
    a: torch.Tensor
    b: Any = None


@dataclass(frozen=True)
class Frozen:
    a: torch.Tensor
    b: Any
    absent: Any = None


@dataclass(frozen=True, slots=True)
class Slots:
    a: torch.Tensor
    b: Any


@dataclass
class Derived:
    a: torch.Tensor
    b: Any = field(init=False, default=None)
    unset: Any = field(init=False)

    @functools.cached_property
    def total(self):
        return self.a.sum()


class Child(Plain):
    pass


@dataclass
class Registered:
    a: torch.Tensor
    b: torch.Tensor


pytree.register_pytree_node(Registered, lambda r: ([r.a, r.b], None), lambda values, _: Registered(*values))


class AttrsLike:
    """As attrs makes its classes."""

    __attrs_attrs__ = (types.SimpleNamespace(name="a"), types.SimpleNamespace(name="b"))

    def __init__(self, a, b):
        self.a, self.b = a, b


class MyList(list):
    pass


class MyTuple(tuple):
    pass


def derived(a, b):
    made = Derived(a)
    made.b = b
    assert made.total == a.sum()
    return made


def item(container):
    return container["a"], container["b"]


def attribute(container):
    return container.a, container.b


def place(container):
    return container[0], container[1]


CONTAINERS = [
    ("dict", lambda a, b: {"a": a, "b": b}, item, dict),
    ("OrderedDict", lambda a, b: OrderedDict(a=a, b=b), item, OrderedDict),
    ("defaultdict", lambda a, b: defaultdict(list, a=a, b=b), item, defaultdict),
    ("dict subclass", lambda a, b: Extended(a=a, b=b), item, Extended),
    ("dict of attributes", lambda a, b: Attributes(a=a, b=b), item, Attributes),
    ("dict of attributes, by attribute", lambda a, b: Attributes(a=a, b=b), attribute, Attributes),
    ("dict with getattr", lambda a, b: Getter(a=a, b=b), attribute, Getter),
    ("dict with a second reference", lambda a, b: Mirrored(a, b, "s"), lambda m: (m.first, m["b"]), Mirrored),
    ("UserDict", lambda a, b: UserDict(a=a, b=b), item, UserDict),
    ("UserDict subclass", lambda a, b: Batch({"a": a, "b": b}, "disk"), item, Batch),
    ("MutableMapping", lambda a, b: Store({"a": a, "b": b}), item, Store),
    ("ChainMap", lambda a, b: ChainMap({"a": a}, {"b": b}), item, ChainMap),
    ("MutableMapping of keywords", lambda a, b: KeywordStore(a=a, b=b), item, dict),
    ("Mapping", lambda a, b: ReadOnly({"a": a, "b": b}), item, ReadOnly),
    ("MappingProxyType", lambda a, b: types.MappingProxyType({"a": a, "b": b}), item, dict),
    ("list", lambda a, b: [a, b], place, list),
    ("tuple", lambda a, b: (a, b), place, tuple),
    ("NamedTuple", Named, attribute, Named),
    ("namedtuple subclass", MoreNamed, attribute, MoreNamed),
    ("deque", lambda a, b: deque([a, b], maxlen=2), place, deque),
    ("list subclass", lambda a, b: MyList([a, b]), place, MyList),
    ("tuple subclass", lambda a, b: MyTuple([a, b]), place, MyTuple),
    ("UserList", lambda a, b: UserList([a, b]), place, UserList),
    ("return type of torch", lambda a, b: torch.return_types.aminmax([a, b]), place, torch.return_types.aminmax),
    ("dataclass", Plain, attribute, Plain),
    ("frozen dataclass", Frozen, attribute, Frozen),
    ("frozen dataclass with slots", Slots, attribute, Slots),
    ("dataclass with fields that are not init", derived, attribute, Derived),
    ("subclass of a dataclass", Child, attribute, Child),
    ("registered node", Registered, attribute, Registered),
    ("attrs", AttrsLike, attribute, AttrsLike),
]
containers = pytest.mark.parametrize(
    ("make", "get", "kind"), [c[1:] for c in CONTAINERS], ids=[c[0] for c in CONTAINERS]
)


@containers
def test_every_container_comes_back_as_its_type(make, get, kind):
    x = make(A.clone(), B.clone())
    for got in (PLAN(x), PLAN.target(x), v.Mixup(1.0, seed=3).plan(N, x=x, step=0)(x)):
        assert type(got) is kind
    for got in (PLAN(x), PLAN.target(x)):
        equal(get(got)[0], A)
        equal(get(got)[1], B)
    assert torch.equal(get(x)[0], A)  # the container that was given is as it was
    assert torch.equal(get(x)[1], B)


@containers
def test_every_container_takes_a_buffer(make, get, kind):
    x, out = make(A.clone(), B.clone()), make(torch.empty_like(A), torch.empty_like(B))
    buffers = get(out)
    got = get(PLAN(x, out=out))
    assert got[0] is buffers[0]
    assert got[1] is buffers[1]
    equal(buffers[0], A)
    equal(buffers[1], B)
    assert torch.equal(get(x)[0], A)
    PLAN(x, out=x)
    equal(get(x)[0], A)


@containers
def test_every_container_goes_through_the_one_line(make, get, kind):
    y = torch.arange(N) % 3
    x, target = v.Mixup(1.0, seed=5)(make(A, B), make(y, B))
    plan = v.Mixup(1.0, seed=5).plan(N, step=0)
    assert type(x) is type(target) is kind
    assert torch.equal(get(x)[1], plan(B))
    assert content(get(target)[0]) == content(plan.target(y))
    assert v.CutMix(1.0, seed=5, dims=1).plan(N, x=make(A, noise(N, 2, 7)), step=0).grid == (7,)


@containers
def test_none_passes_in_every_container(make, get, kind):
    got = PLAN(make(A, None))
    assert type(got) is kind
    equal(get(got)[0], A)
    assert get(got)[1] is None


def test_what_a_container_holds_besides_is_kept():
    batch = PLAN(Batch({"a": A}, "disk"))
    assert batch.source == "disk"
    assert PLAN(Mirrored(A, B, "note")).note == "note"
    assert PLAN(defaultdict(list, a=A)).default_factory is list
    assert PLAN(deque([A], maxlen=7)).maxlen == 7
    attributes = PLAN(Attributes(a=A))
    attributes.c = 1
    assert attributes["c"] == 1
    chained = ChainMap({"a": A}, {"b": B})
    PLAN(chained)
    assert torch.equal(chained.maps[0]["a"], A)
    mixed = PLAN(derived(A, B))
    torch.testing.assert_close(mixed.total, by_hand(A).sum())  # not what was computed before
    assert not hasattr(mixed, "unset")
    named = PLAN(MoreNamed(A, B))
    torch.testing.assert_close(named.total(), by_hand(A).sum())


class Locked(dict):
    def __setitem__(self, key, value):
        raise RuntimeError("locked")


class KeyErrors(dict):
    """A dict that copy.copy cannot copy."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        object.__setattr__(self, "meta", 1)

    def __getattr__(self, name):
        return self[name]


class Rounded(dict):
    def __init__(self, values):
        super().__init__({key: value.round() for key, value in values.items()})

    def __setitem__(self, key, value):
        super().__setitem__(key, value.round())


@pytest.mark.parametrize(("kind", "back"), [(Locked, Locked), (KeyErrors, KeyErrors), (Rounded, dict)])
def test_mappings_that_take_no_other_values(kind, back):
    given = kind({"a": A})
    x = given["a"].clone()
    got = PLAN(given)
    assert type(got) is back
    equal(got["a"], x)
    assert torch.equal(given["a"], x)


def test_keys_of_any_type():
    got = PLAN({0: A, "0": B, (1, "b"): A, None: B})
    assert list(got) == [0, "0", (1, "b"), None]
    for key, x in ((0, A), ("0", B), ((1, "b"), A), (None, B)):
        equal(got[key], x)


NAMES = st.text("abxyz_", min_size=1, max_size=3)
NESTS = st.recursive(
    st.one_of(
        st.none(),
        st.tuples(st.lists(st.integers(1, 3), max_size=2), st.sampled_from([torch.float32, torch.float64])).map(
            lambda t: noise(N, *t[0], seed=sum(t[0])).to(t[1])
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.lists(inner, min_size=1, max_size=4).map(deque),
        st.dictionaries(NAMES, inner, max_size=4),
        st.dictionaries(NAMES, inner, max_size=4).map(OrderedDict),
        st.dictionaries(NAMES, inner, max_size=4).map(UserDict),
        st.tuples(inner, inner).map(lambda pair: Named(*pair)),
        st.tuples(inner, inner).map(lambda pair: Frozen(*pair)),
    ),
    max_leaves=8,
)


def same(got: Any, x: Any) -> int:
    """Compare a mixed nest with the nest, by hand, and return the number of tensors."""
    assert type(got) is type(x)
    if x is None:
        return 0
    if isinstance(x, torch.Tensor):
        equal(got, x)
        assert got.dtype == x.dtype
        return 1
    if isinstance(x, Mapping):
        assert list(got) == list(x)
        return sum(same(got[key], x[key]) for key in x)
    if isinstance(x, Frozen):
        return same(got.a, x.a) + same(got.b, x.b)
    assert len(got) == len(x)
    return sum(same(*pair) for pair in zip(got, x, strict=True))


def count(x: Any) -> int:
    parts = vars(x).values() if isinstance(x, Frozen) else x.values() if isinstance(x, Mapping) else x
    return int(isinstance(x, torch.Tensor)) if x is None or isinstance(x, torch.Tensor) else sum(map(count, parts))


@given(NESTS)
def test_nests_of_any_structure(nest):
    tensors = count(nest)
    if tensors == 0:
        with pytest.raises(TypeError, match="there is no tensor to mix in this input"):
            PLAN(nest)
        return
    assert same(PLAN(nest), nest) == tensors
    out = copy.deepcopy(nest)
    assert same(PLAN(nest, out=out), nest) == tensors
    assert same(out, nest) == tensors  # every tensor went into its own buffer


@pytest.mark.parametrize("flip", [False, True])
def test_the_noise_of_a_leaf_follows_its_name(flip):
    plan = v.GaussianNoise(0.5, seed=1).plan(N, step=0)
    leaves = {"b": B, "a": A, "c": A}
    nest = dict(reversed(leaves.items())) if flip else leaves
    exact = plan({"a": A, "b": B, "c": A})
    for kind in (OrderedDict, UserDict, Store, Extended):
        got = plan(kind(nest))
        assert all(torch.equal(got[key], exact[key]) for key in leaves)
    fields = plan(Frozen(A, B, A))  # noise 0 for .a, 1 for .absent, 2 for .b
    assert torch.equal(fields.a, exact["a"])
    assert torch.equal(fields.b - B, plan({"0": A, "1": A, "2": B})["2"] - B)


# -- other structures for out ------------------------------------------------------------------------------------------

OTHER_STRUCTURES = [
    ({"a": A, "b": B}, {"a": A}),
    ({"a": A}, {"a": A, "b": B}),
    ({"a": A}, {"b": A}),
    ({"a": A}, OrderedDict(a=A)),
    ([A, B], (A, B)),
    ({"a": A}, {"a": None}),
    ({"a": None, "b": A}, {"a": A, "b": A}),
    ({"a": A}, A),
    (A, {"a": A}),
    (Plain(A), {"a": A}),
    ([A[i] for i in range(N)], [A[:3], A[3:]]),
]


@pytest.mark.parametrize(("x", "out"), OTHER_STRUCTURES)
def test_out_of_another_structure_is_refused(x, out):
    before = content(out) if isinstance(out, (dict, list)) else None
    with pytest.raises(ValueError, match="out has another structure than the input"):
        PLAN(x, out=out)
    assert before is None or content(out) == before


def test_the_order_of_out_does_not_matter():
    out = {"b": torch.empty_like(B), "a": torch.empty_like(A)}
    got = PLAN({"a": A, "b": B}, out=out)
    assert got["a"] is out["a"]
    equal(out["a"], A)
    equal(out["b"], B)


# -- lists of examples -------------------------------------------------------------------------------------------------

IMAGES = noise(N, 3, 6, 5)


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("x", [IMAGES, noise(N, 7), noise(N, 2, 9), noise(N, 2, 3, 4, 4)])
def test_a_list_of_one_tensor_per_example(kind, x):
    got = PLAN(kind(x.unbind()))
    assert type(got) is kind
    equal(torch.stack(list(got)), x)
    nested = PLAN({"x": kind(x.unbind()), "a": A})
    equal(torch.stack(list(nested["x"])), x)
    equal(nested["a"], A)
    soft = PLAN.target(kind(x.unbind()))
    assert type(soft) is kind
    equal(torch.stack(list(soft)), x)


def test_a_list_of_masks_comes_back_as_a_list_of_targets():
    masks = torch.arange(N * 30).view(N, 6, 5) % 3
    got = PLAN.target(list(masks.unbind()))
    whole = PLAN.target(masks)
    assert type(got) is list
    assert len(got) == N
    for i, target in enumerate(got):
        assert torch.equal(target.ids.reshape(2, 6, 5), whole.ids[:, i])
        assert torch.equal(target.weight.reshape(2, -1)[:, 0], whole.weight[:, i])


@pytest.mark.parametrize("y", [torch.arange(N) % 3, noise(N, 3), {"a": torch.arange(N)}], ids=["ids", "soft", "nest"])
def test_the_targets_say_how_many_examples_a_list_has(y):
    x, target = v.Mixup(1.0, seed=2)(list(IMAGES.unbind()), y)
    plan = v.Mixup(1.0, seed=2).plan(N, step=0)
    assert torch.equal(torch.stack(x), plan(IMAGES))
    assert content(target) == content(plan.target(y))


def test_lists_of_inputs_and_of_targets():
    masks = torch.arange(N * 30).view(N, 6, 5) % 3
    plan = v.Mixup(1.0, seed=2).plan(N, step=0)
    x, y = v.Mixup(1.0, seed=2)(tuple(IMAGES.unbind()), tuple(masks.unbind()))
    assert torch.equal(torch.stack(x), plan(IMAGES))
    assert torch.equal(y[3].ids.reshape(2, 6, 5), plan.target(masks).ids[:, 3])
    x, y = v.Mixup(1.0, seed=2)(IMAGES, list(masks.unbind()))
    assert torch.equal(x, plan(IMAGES))
    assert torch.equal(y[3].ids.reshape(2, 6, 5), plan.target(masks).ids[:, 3])


def test_cutmix_and_nearest_see_the_examples_of_a_list():
    listed, y = list(IMAGES.unbind()), torch.arange(N)
    for vicinity in (v.CutMix(1.0, seed=3), v.Mixup(1.0, v.Nearest(2), seed=3)):
        plan = vicinity.plan(N, y, IMAGES, step=0)
        assert content(vicinity.plan(N, y, listed, step=0)) == content(plan)
        assert content(vicinity.plan(N, y, {"x": listed, "a": A}, step=0)) == content(plan)
        assert torch.equal(torch.stack(vicinity(listed, y)[0]), plan(IMAGES))


def test_the_noise_of_examples_is_that_of_the_batch():
    plan = v.GaussianNoise(0.5, seed=1).plan(N, step=0)
    assert torch.equal(torch.stack(plan(list(IMAGES.unbind()))), plan(IMAGES))


def test_gradients_flow_to_the_examples():
    rows = [row.clone().requires_grad_() for row in A]
    torch.stack(PLAN(rows)).square().sum().backward()
    x = A.clone().requires_grad_()
    by_hand(x).square().sum().backward()
    torch.testing.assert_close(torch.stack([row.grad for row in rows]), x.grad)


def test_examples_that_were_not_collated_are_refused():
    for x in ([{"image": image} for image in IMAGES], tuple({"x": {"image": image}} for image in IMAGES)):
        for call in (PLAN, lambda x: v.Mixup(1.0)(x, torch.arange(N))):
            with pytest.raises(
                ValueError, match=r"input\[0\].*\['image'\] has shape \[3, 6, 5\], .* 5 rows.* its collate_fn"
            ):
                call(x)


def test_examples_take_buffers():
    x, out = list(IMAGES.clone().unbind()), [torch.empty(3, 6, 5, dtype=torch.float64) for _ in range(N)]
    got = PLAN(x, out=out)
    assert all(mine is buffer for mine, buffer in zip(got, out, strict=True))
    equal(torch.stack(out), IMAGES)
    assert torch.equal(torch.stack(x), IMAGES)
    PLAN(x, out=x)
    equal(torch.stack(x), IMAGES)
    with pytest.raises(
        ValueError, match=r"out must hold torch.float64 \[3, 6, 5\] .* for each example of input, got .*32"
    ):
        PLAN(x, out=[row.float() for row in out])
    with pytest.raises(ValueError, match=r"out must hold .* got torch.float64 \[3, 5, 6\] on cpu"):
        PLAN(x, out=[row.mT for row in out])
    with pytest.raises(ValueError, match="out is for data"):
        PLAN([row.clone().requires_grad_() for row in x], out=out)


RAGGED = [
    [noise(1, t) for t in (16, 12, 8, 16, 9)],
    [noise(t) for t in (16, 12, 8, 16, 9)],
    [noise(3, t, t) for t in (16, 12, 5, 16, 9)],
    [noise(t, 2) for t in (5, 12, 8, 16, 9)],  # one of them has as many rows as the batch
    [*IMAGES.unbind()[:4], IMAGES[4].float()],
]


@pytest.mark.parametrize("x", RAGGED)
def test_examples_of_different_shapes_are_refused(x):
    sentence = (
        r"input is a list of one tensor per example, but of different kinds, float64 \[.* pad them .*pad_sequence"
    )
    for call in (lambda: PLAN(x), lambda: v.Mixup(1.0)(x, torch.arange(N)), lambda: v.CutMix(1.0)(x, torch.arange(N))):
        with pytest.raises(ValueError, match=sentence):
            call()
    with pytest.raises(ValueError, match=r"target\['y'\] is a list of one tensor per example, but"):
        PLAN.target({"y": x})


def test_views_are_parts_of_a_nest():
    for n in (1, 2, 4):
        views = [noise(n, 3, 6, 4, seed=s) for s in range(2)]
        y = torch.arange(n)
        plan = v.MixPlan(torch.arange(n).flip(0), torch.full((n,), 0.25))
        for kind in (list, tuple):
            got = plan(kind(views))
            assert type(got) is kind
            assert all(torch.equal(mine, plan(view)) for mine, view in zip(got, views, strict=True))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="a batch of one example")
            for target in (y, None):
                got, _ = v.Mixup(1.0, seed=1)(views, target)
                plan = v.Mixup(1.0, seed=1).plan(n, step=0)
                assert all(torch.equal(mine, plan(view)) for mine, view in zip(got, views, strict=True))


@pytest.mark.parametrize("x", [[noise(2, 3), noise(2, 3)], (noise(2, 3, 4), noise(2, 3, 4)), [noise(2), noise(2)]])
def test_a_list_that_could_be_examples_or_parts_is_refused(x):
    plan = v.MixPlan(torch.tensor([1, 0]), torch.tensor([0.75, 0.75]))
    for call, name in ((plan, "input"), (plan.target, "target"), (lambda x: v.Mixup(1.0)(x, torch.arange(2)), "input")):
        with pytest.raises(
            ValueError, match=rf"{name} is a \w+ of 2 .* torch.stack\({name}\) .* dict\(enumerate\({name}\)\)"
        ):
            call(x)
    stacked, parts = plan(torch.stack(list(x))), plan(dict(enumerate(x)))  # both ways to say it
    torch.testing.assert_close(stacked, by_hand(torch.stack(list(x)), plan), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(parts[1], by_hand(x[1], plan), rtol=1e-12, atol=1e-15)


def test_a_list_of_parts_of_other_kinds_is_no_list_of_examples():
    plan = v.MixPlan(torch.tensor([1, 0]), torch.tensor([0.75, 0.75]))
    got = plan([noise(2, 3), noise(2, 3, 4)])
    assert torch.equal(got[1], plan(noise(2, 3, 4)))
    one = v.MixPlan(torch.tensor([0]), torch.tensor([0.75]))
    assert torch.equal(one([noise(1, 3)])[0], noise(1, 3))


def test_a_list_of_images_without_targets_is_refused():
    for y in (None, [noise(3) for _ in range(N)]):
        with pytest.raises(
            ValueError, match=r"input is a list of 5 tensors \[3, 6, 5\], which could be one example each"
        ):
            v.Mixup(1.0)(list(IMAGES.unbind()), y)


# -- what is refused by name -------------------------------------------------------------------------------------------


class Opaque:
    def __init__(self, **values):
        vars(self).update(values)


class SlotsOnly:
    __slots__ = ("a",)


class Dlpack:
    def __dlpack__(self):
        raise NotImplementedError


class Arraylike:
    def __array__(self):
        raise NotImplementedError


def made(name: str, module: str, **values: Any) -> Any:
    """Return an instance of a class that looks like another library's."""
    return type(name, (Opaque,), {"__module__": module})(**values)


PACKED = torch.nn.utils.rnn.pack_sequence([noise(3, 2), noise(1, 2)])
REFUSED = [
    (types.SimpleNamespace(a=A), r"a SimpleNamespace, .* a dict, vars\(WHERE\)"),
    (argparse.Namespace(a=A), r"a Namespace, .* a dict, vars\(WHERE\)"),
    (Opaque(a=A), r"an Opaque, .* a dict, vars\(WHERE\)"),
    (SlotsOnly(), r"a SlotsOnly, .* give its tensors as a dict"),
    (PACKED, r"a PackedSequence, .*pad_packed_sequence, mix, and pack again by plan.longest\(lengths\)"),
    (made("DataBatch", "torch_geometric.data.batch", x=A), r"a DataBatch, .* the nodes of graphs, not examples"),
    (made("Graph", "mine", edge_index=A), r"a Graph, .* the nodes of graphs, not examples"),
    (made("DataFrame", "pandas.core.frame"), r"a DataFrame, .* torch.tensor\(WHERE.to_numpy\(\)\)"),
    (made("DataFrame", "polars.dataframe.frame"), r"a DataFrame, .* WHERE.to_torch\(\)"),
    (made("Image", "PIL.Image"), r"an Image, .* torch.from_numpy\(numpy.array\(image\)\) .* torch.stack"),
    (np.zeros((N, 2)), r"a ndarray, .* torch.from_numpy\(WHERE\)"),
    (Dlpack(), r"a Dlpack, .* torch.from_dlpack\(WHERE\)"),
    (Arraylike(), r"an Arraylike, .* torch.from_numpy\(numpy.asarray\(WHERE\)\)"),
    ("cat.png", "a str, and only tensors can be mixed: convert it, or leave it out of the call"),
    (b"cat", "a bytes, and only tensors can be mixed: convert it, or leave it out of the call"),
    (Path("cat.png"), "a PosixPath, and only tensors can be mixed: convert it, or leave it out of the call"),
    (torch.nn.Linear(1, 1), "a Linear, .* leave it out of the call"),
    (Plain, "a type, .* leave it out of the call"),
    (len, "a builtin_function_or_method, .* leave it out of the call"),
    ({1, 2}, "a set, .* a set has no order; give a dict or a list"),
    ((t for t in (A, B)), r"a generator, .* list\(WHERE\)"),
    ({"a": A}.values(), r"a dict_values, .* list\(WHERE\)"),
    ([0, 1, 2, 1, 0], r"a list of numbers, .* torch.tensor\(WHERE\)"),
    ((0.5, 1.0), r"a tuple of numbers, .* torch.tensor\(WHERE\)"),
    ([np.int64(1), np.int64(2)], r"a list of numbers, .* torch.tensor\(WHERE\)"),
    (torch.Size([1, 2]), r"a Size of numbers, .* torch.tensor\(WHERE\)"),
    ([torch.tensor(1), torch.tensor(2)], r"a list of tensors of one number each: torch.stack\(WHERE\)"),
    (list(torch.arange(N).unbind()), r"a list of tensors of one number each: torch.stack\(WHERE\)"),
]


@pytest.mark.parametrize(
    ("x", "sentence"), REFUSED, ids=[f"{type(x).__name__}-{i}" for i, (x, _) in enumerate(REFUSED)]
)
def test_what_is_no_nest_of_tensors_is_refused_by_name(x, sentence):
    y = torch.arange(N)
    for call, where in (
        (lambda: PLAN(x), "input"),
        (lambda: PLAN({"a": A, "b": x}), r"input\['b'\]"),
        (lambda: PLAN(Plain(A, x)), r"input\.b"),
        (lambda: PLAN.target(x), "target"),
        (lambda: PLAN.target([{"a": x}, y]), r"target\[0\]\['a'\]"),
        (lambda: v.Mixup(1.0)(x, y), "input"),
        (lambda: v.Mixup(1.0)(A, x), "target"),
        (lambda: v.CutMix(1.0)({"image": IMAGES, "a": x}, y), r"input\['a'\]"),
    ):
        with pytest.raises(TypeError, match=rf"^{where} is {sentence.replace('WHERE', where)}"):
            call()


def test_a_scalar_beside_lists_of_examples_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^input\['scale'\] has shape \[\], but the plan was drawn for 5 rows"):
        v.Mixup(1.0)({"image": list(noise(N, 3, 8, 8)), "scale": torch.tensor(1.0)}, list(noise(N, 7)))


def test_numbers_in_a_nest_are_refused_by_name():
    for number, kind in (
        (3, "an int"),
        (0.5, "a float"),
        (True, "a bool"),
        (np.float32(1), "a float32"),
        (1j, "a complex"),
    ):
        with pytest.raises(TypeError, match=rf"^input\['k'\] is {kind}, and only tensors can be mixed: torch.tensor\("):
            PLAN({"a": A, "k": number})


def test_real_frames_and_images_are_refused():
    pandas, polars, image = (pytest.importorskip(name) for name in ("pandas", "polars", "PIL.Image"))
    frame = pandas.DataFrame({"a": [1.0] * N})
    with pytest.raises(TypeError, match=r"input is a DataFrame, .* torch.tensor\(input.to_numpy\(\)\)"):
        PLAN(frame)
    equal(PLAN(torch.tensor(frame.to_numpy())), torch.ones(N, 1, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"target is a Series, .* torch.tensor\(target.to_numpy\(\)\)"):
        PLAN.target(frame["a"])
    with pytest.raises(TypeError, match=r"input is a DataFrame, .* input.to_torch\(\)"):
        PLAN(polars.DataFrame({"a": [1.0] * N}))
    with pytest.raises(TypeError, match=r"input\[0\] is an Image, .*numpy.array\(image\)"):
        PLAN([image.new("RGB", (2, 2))] * N)


def test_none_alone_is_no_input():
    for nothing in (None, [None], {"a": None}, {}, []):
        with pytest.raises(TypeError, match="there is no tensor to mix in this input"):
            PLAN(nothing)
    assert PLAN.target(None) is None
    assert PLAN.target({"a": None}) == {"a": None}


# -- a single example --------------------------------------------------------------------------------------------------

SENTENCE = r"the target is one label, 7\S*, but a batch \[n\] of them was expected: mix after the DataLoader, or in its"


@pytest.mark.parametrize(
    "x", [noise(3, 32, 32), noise(1, 28, 28), noise(16000), noise(2, 16000), {"x": noise(3, 8, 8)}]
)
@pytest.mark.parametrize("y", [7, torch.tensor(7), np.int64(7), 7.0])
def test_a_single_example_is_refused(x, y):
    for vicinity in (v.Mixup(1.0), v.CutMix(1.0, dims=1), v.ERM()):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="a batch of one example")
            with pytest.raises((TypeError, ValueError), match=rf"{SENTENCE}|CutMix"):
                vicinity(x, y)
    with pytest.raises(TypeError, match=SENTENCE):
        PLAN.target(y)


def test_a_single_image_with_a_vector_of_classes_is_refused():
    with pytest.raises(
        ValueError, match=r"target has shape \[10\], .* 3 rows.* mix after the DataLoader or in its collate_fn"
    ):
        v.Mixup(1.0)(noise(3, 32, 32), torch.eye(10)[7])


@pytest.mark.parametrize("c", [3, 4])
def test_an_image_beside_a_one_hot_label_of_as_many_classes_warns(c):
    with pytest.warns(
        UserWarning, match=rf"\[{c}, 8, 8\] with a target .* looks like one image .* mix after"
    ) as caught:
        v.Mixup(1.0)(noise(c, 8, 8), torch.eye(c)[1])
    assert caught[0].filename == __file__
    for y in (torch.full((c,), 0.5), torch.ones(c), torch.arange(c), torch.eye(c)):  # no label of one image
        v.Mixup(1.0)(noise(c, 8, 8), y)
    v.Mixup(1.0)(noise(c, 8), torch.eye(c)[1])


# -- kinds of tensors --------------------------------------------------------------------------------------------------


@pytest.fixture
def kinds() -> dict[str, tuple[torch.Tensor, str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, about kinds that are in beta or on their way out
        rows = [noise(t) for t in (2, 3, 4, 5, 6)]
        matrix = noise(N, 4)
        found = {
            "COO": (matrix.to_sparse(), r"a torch.sparse_coo tensor cannot be mixed: .*\.to_dense\(\)"),
            "CSR": (matrix.to_sparse_csr(), r"a torch.sparse_csr tensor .*\.to_dense\(\)"),
            "CSC": (matrix.to_sparse_csc(), r"a torch.sparse_csc tensor .*\.to_dense\(\)"),
            "BSR": (matrix.to_sparse_bsr((1, 2)), r"a torch.sparse_bsr tensor .*\.to_dense\(\)"),
            "COO float32": (matrix.float().to_sparse(), r"a torch.sparse_coo tensor .*\.to_dense\(\)"),
            "CSR float32": (matrix.float().to_sparse_csr(), r"a torch.sparse_csr tensor .*\.to_dense\(\)"),
            "COO of ids": (torch.eye(N).long().to_sparse(), r"a torch.sparse_coo tensor .*\.to_dense\(\)"),
            "nested": (
                torch.nested.nested_tensor(rows),
                r"a nested tensor cannot be mixed: pad it, .*to_padded_tensor",
            ),
            "jagged": (torch.nested.nested_tensor(rows, layout=torch.jagged), "a nested tensor .*to_padded_tensor"),
            "nested ids": (torch.nested.nested_tensor([r.long() for r in rows]), "a nested tensor .*to_padded_tensor"),
            "quantized": (
                torch.quantize_per_tensor(matrix.float(), 0.1, 0, torch.qint8),
                r"a quantized .*\.dequantize",
            ),
            "complex32": (matrix.to(torch.complex32), r"a torch.complex32 tensor .* \.to\(torch.complex64\)"),
        }
        for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"):
            kind = getattr(torch, name)
            found[name] = matrix.to(kind), rf"a torch.{name} tensor cannot be mixed: .* \.to\(torch.bfloat16\)"
        return found


PLANS = {
    "one partner": PLAN,
    "two partners": v.Mixup(v.Dirichlet(1.0, k=3), seed=1).plan(N, step=0),
    "nothing": v.ERM().plan(N, step=0),
    "a chain": v.Chain([v.Mixup(1.0), v.InputMixup(1.0)], seed=1).plan(N, step=0),
    "boxes": v.CutMix(1.0, dims=1, seed=1).plan(N, x=noise(N, 2, 9), step=0),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.filterwarnings("ignore:.*(beta state|prototype stage)")
def test_kinds_of_tensors_are_refused_by_name(plan, kinds):
    for x, sentence in kinds.values():
        for call in (plan, plan.target, lambda x, plan=plan: plan({"x": x}), lambda x, plan=plan: plan.target((x, A))):
            with pytest.raises(TypeError, match=f"^{sentence}"):
                call(x)
        with pytest.raises(TypeError) as caught:
            plan({"x": x})
        assert caught.value.__notes__ == ["(at input['x'])"]


def test_kinds_of_tensors_are_refused_in_the_one_line(kinds):
    y = torch.arange(N)
    for x, sentence in kinds.values():
        for vicinity in (v.Mixup(1.0), v.ERM(), v.Mixup(v.Dirichlet(1.0, k=3))):
            with pytest.raises(TypeError, match=sentence):
                vicinity(x, y)
            with pytest.raises(TypeError, match=sentence):
                vicinity(A, x)
        with pytest.raises(TypeError, match=sentence):
            v.Mixup(1.0)([x, A], y)


def test_a_list_of_sparse_examples_is_refused():
    with pytest.raises(TypeError, match=r"a torch.sparse_coo tensor .* convert it with \.to_dense\(\)") as caught:
        PLAN([torch.eye(3).to_sparse() for _ in range(N)])
    assert caught.value.__notes__ == ["(at input[0])"]


def test_subclasses_of_tensors_are_mixed_as_tensors():
    class Tagged(torch.Tensor):
        pass

    equal(PLAN(A.as_subclass(Tagged)), A)
    equal(PLAN(torch.nn.Parameter(A)), A)
    equal(PLAN({"a": A.as_subclass(Tagged)})["a"], A)
    assert isinstance(PLAN.target(torch.arange(N).as_subclass(Tagged)), v.MixedTarget)


def test_masked_and_distributed_tensors_are_refused():
    for name, sentence in (("MaskedTensor", r"x.to_tensor\(0\)"), ("DTensor", r"x.to_local\(\)")):
        kind = type(name, (torch.Tensor,), {})
        with pytest.raises(TypeError, match=rf"input is a {name}: .*{sentence}"):
            PLAN(A.as_subclass(kind))
        with pytest.raises(TypeError, match=rf"target\['a'\] is a {name}: .*{sentence}"):
            PLAN.target({"a": A.as_subclass(kind)})


# -- boxes and key points ----------------------------------------------------------------------------------------------

BOX = "holds boxes or key points, and the average of two boxes lies in neither image: .* plan.partner, .* plan.weight"
BOX_NAMES = """
    box boxes Boxes BOXES bbox bboxes BBoxes gt_bboxes bbox_targets bounding_box bounding_boxes boundingBoxes boundingbox
    gtBoxes boxes3d boxes_2d keypoint keypoints key_points keyPoints kpts kps landmarks face_landmarks pred_boxes xyxy
    bndbox facekeypoints polygons
"""
OTHER_NAMES = "image inbox boxer textbox monkey key keys landscape proxy xyz pixel_values skips island keyboard"


@pytest.mark.parametrize("name", BOX_NAMES.split())
def test_boxes_are_refused_by_name(name):
    boxes, whole = noise(N, 2, 4), {"image": IMAGES, "age": A}
    for plan in PLANS.values():
        with pytest.raises(TypeError, match=rf"^input\['{name}'\] {BOX}"):
            plan({"points": A, name: boxes})
    for wrap in (
        lambda boxes: {name: boxes},
        lambda boxes: {"meta": [whole, {name: boxes}]},
        lambda boxes: {name: {"first": boxes}},
        lambda boxes: UserDict({name: boxes}),
        lambda boxes: type("T", (), {"__attrs_attrs__": (types.SimpleNamespace(name=name),), name: boxes})(),
        lambda boxes: namedtuple("T", [name])(boxes),
        lambda boxes: [{name: row} for row in boxes],  # the usual form of detection: one dict per image
        lambda boxes: {name: list(boxes)},
    ):
        for tensor in (boxes, boxes.long(), boxes[:, 0], boxes.half()):
            with pytest.raises(TypeError, match=BOX):
                PLAN.target(wrap(tensor))
            with pytest.raises(TypeError, match=BOX):
                PLAN(wrap(tensor))
            with pytest.raises(TypeError, match=BOX):
                v.Mixup(1.0)(IMAGES, wrap(tensor))


def test_the_targets_of_detection_are_refused():
    targets = [{"boxes": noise(k, 4), "labels": torch.zeros(k, dtype=torch.int64)} for k in range(N)]
    for x in (IMAGES, list(IMAGES.unbind()), tuple(IMAGES.unbind())):
        with pytest.raises(TypeError, match=rf"^target\[0\]\['boxes'\] {BOX}"):
            v.Mixup(1.0)(x, targets)


def test_fields_that_are_boxes_are_refused():
    @dataclass
    class Detection:
        image: torch.Tensor
        boxes: torch.Tensor

    with pytest.raises(TypeError, match=rf"^input\.boxes {BOX}"):
        PLAN(Detection(IMAGES, noise(N, 4)))
    for boxes in (np.zeros((N, 4)), [0, 0, 4, 4], UserList([A])):
        with pytest.raises(TypeError, match=rf"^input\['boxes'\](\[0\])? {BOX}"):
            PLAN({"boxes": boxes})
    with pytest.raises(TypeError, match=r"^input\['landmark_name'\] is a str"):
        PLAN({"landmark_name": "tower", "a": A})


@pytest.mark.parametrize("name", OTHER_NAMES.split())
def test_other_names_are_no_boxes(name):
    equal(PLAN({name: A})[name], A)


def test_numbers_and_heat_maps_are_no_boxes():
    equal(PLAN.target({"box_office": A[:, 0]})["box_office"], A[:, 0])
    maps = noise(N, 17, 12, 9)
    equal(PLAN({"keypoint_heatmaps": maps})["keypoint_heatmaps"], maps)
    assert PLAN({"boxes": None, "a": A})["boxes"] is None


@pytest.mark.parametrize("name", ["BoundingBoxes", "KeyPoints", "Keypoints", "BoundingBox"])
def test_boxes_are_refused_by_type(name):
    kind = type(
        name, (type("TVTensor", (torch.Tensor,), {}),), {"__module__": f"torchvision.tv_tensors._{name.lower()}"}
    )
    boxes = noise(N, 4).as_subclass(type("Mine", (kind,), {}))
    for call in (PLAN, PLAN.target, lambda x: PLAN({"a": x}), lambda x: PLAN([IMAGES, x]), lambda x: v.ERM()(x, None)):
        with pytest.raises(TypeError, match=BOX):
            call(boxes)
    with pytest.raises(TypeError, match=BOX):
        PLAN.target([boxes.as_subclass(kind)] * N)
    with pytest.raises(TypeError, match=BOX):
        PLAN.target(made(name, "kornia.geometry"))


# -- targets are leaves, compiled nests --------------------------------------------------------------------------------


def test_mixed_targets_in_a_nest_are_mixed_further():
    once = PLAN.target(torch.arange(N))
    got = PLAN.target({"a": once, "b": [once, None], "c": Plain(once)})
    twice = content(PLAN.target(once))
    assert content(got["a"]) == content(got["b"][0]) == content(got["c"].a) == twice
    with pytest.raises(TypeError, match="a MixedTarget is a target, not an input"):
        PLAN({"a": A, "b": once})


@pytest.mark.slow
def test_nests_are_mixed_inside_one_graph():
    nest = {"b": noise(N, 3).float(), "a": [noise(N, 4).float(), None], "c": (noise(N, 2).float(),)}
    compiled = torch.compile(lambda nest: PLAN(nest), fullgraph=True, backend="eager")
    assert content(compiled(nest)) == content(PLAN(nest))
