"""The containers and tensors of other libraries, the real ones: Hugging Face's, TensorDict, attrs, PIL."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import vicinal as v

N = 5
PLAN = v.MixPlan(torch.tensor([1, 0, 4, 2, 2]), torch.tensor([0.75, 0.5, 0.25, 1.0, 0.0]))
A = torch.arange(N * 3, dtype=torch.float64).view(N, 3).square()
B = torch.arange(N * 4, dtype=torch.float64).view(N, 2, 2).sqrt()
IDS = torch.arange(N) % 3


def by_hand(x: torch.Tensor) -> torch.Tensor:
    own = PLAN.weight.double()
    return torch.stack([own[i] * x[i] + (1 - own[i]) * x[j] for i, j in enumerate(PLAN.partner.tolist())])


def check(batch: Any, names: tuple[str, str] = ("a", "b")) -> Any:
    """Compare the mixed batch, which holds A and B under `names`, with the mix by hand; return it."""
    got = PLAN(batch)
    assert type(got) is type(batch)
    for name, x in zip(names, (A, B), strict=True):
        torch.testing.assert_close(got[name], by_hand(x), rtol=1e-12, atol=1e-15)
        assert torch.equal(batch[name], x)
    line, y = v.Mixup(1.0, seed=1)(batch, IDS)
    plan = v.Mixup(1.0, seed=1).plan(N, step=0)
    assert type(line) is type(batch)
    assert torch.equal(line[names[1]], plan(B))
    assert torch.equal(y.ids, plan.target(IDS).ids)
    out = PLAN(batch, out=batch)
    torch.testing.assert_close(batch[names[0]], by_hand(A), rtol=1e-12, atol=1e-15)
    assert out[names[0]] is batch[names[0]]
    return got


def test_batch_feature():
    transformers = pytest.importorskip("transformers")
    batch = transformers.BatchFeature({"pixel_values": A.clone(), "b": B.clone()}, tensor_type="pt")
    got = check(batch, ("pixel_values", "b"))
    assert torch.equal(got.pixel_values, got["pixel_values"])
    assert got.to(torch.float32)["b"].dtype == torch.float32


def test_batch_encoding():
    transformers = pytest.importorskip("transformers")
    batch = transformers.BatchEncoding({"inputs_embeds": A.clone(), "b": B.clone()}, n_sequences=1)
    got = check(batch, ("inputs_embeds", "b"))
    assert got.n_sequences == 1
    assert torch.equal(got.inputs_embeds, got["inputs_embeds"])
    tokens = transformers.BatchEncoding({"input_ids": torch.ones(N, 4, dtype=torch.long)})
    with pytest.raises(TypeError, match=r"a torch.int64 input cannot be mixed: .* vicinal.LatentMixing") as caught:
        PLAN(tokens)
    assert caught.value.__notes__ == ["(at input['input_ids'])"]
    text = transformers.BatchEncoding({"a": A, "text": ["x"] * N})
    with pytest.raises(TypeError, match=r"input\['text'\]\[0\] is a str, .* leave it out of the call"):
        PLAN(text)


def test_model_output():
    transformers = pytest.importorskip("transformers")
    outputs = transformers.modeling_outputs
    batch = outputs.BaseModelOutputWithPooling(last_hidden_state=B.clone(), pooler_output=A.clone())
    got = check(batch, ("pooler_output", "last_hidden_state"))
    assert torch.equal(got.pooler_output, got["pooler_output"])
    assert got.hidden_states is None
    assert list(got) == ["last_hidden_state", "pooler_output"]
    several = outputs.BaseModelOutput(last_hidden_state=B, hidden_states=(A, B))
    torch.testing.assert_close(PLAN(several).hidden_states[0], by_hand(A), rtol=1e-12, atol=1e-15)


def test_tensordict():
    tensordict = pytest.importorskip("tensordict")
    batch = tensordict.TensorDict({"a": A.clone(), "b": B.clone(), "n": {"c": A.clone()}}, batch_size=[N])
    got = check(batch)
    assert got.batch_size == torch.Size([N])
    torch.testing.assert_close(got["n", "c"], by_hand(A), rtol=1e-12, atol=1e-15)
    with pytest.raises(TypeError, match=r"input\['n'\]\['boxes'\] holds boxes"):
        PLAN(tensordict.TensorDict({"n": {"boxes": torch.zeros(N, 4)}}, batch_size=[N]))
    targets = PLAN.target(tensordict.TensorDict({"label": IDS, "soft": A}, batch_size=[N]))
    assert torch.equal(targets["label"].ids, PLAN.target(IDS).ids)
    torch.testing.assert_close(targets["soft"], by_hand(A), rtol=1e-12, atol=1e-15)


def test_lazy_tensordict():
    tensordict = pytest.importorskip("tensordict")
    rows = [tensordict.TensorDict({"a": A[i].clone(), "b": B[i].clone()}, batch_size=[]) for i in range(N)]
    lazy = tensordict.LazyStackedTensorDict.lazy_stack(rows)
    torch.testing.assert_close(PLAN(lazy.contiguous())["b"], by_hand(B), rtol=1e-12, atol=1e-15)
    for nest, name in ((lazy, "input"), ({"n": lazy}, r"input\['n'\]")):
        with pytest.raises(TypeError, match=rf"{name} is a LazyStackedTensorDict, .*: {name}\.contiguous\(\)"):
            PLAN(nest)
    # each row has as many entries as there are rows: were they taken for the batch, each row would be mixed within itself
    rows = [tensordict.TensorDict({"a": row}, batch_size=[]) for row in torch.rand(N, N, N)]
    square = tensordict.LazyStackedTensorDict.lazy_stack(rows)
    with pytest.raises(TypeError, match="LazyStackedTensorDict"):
        v.Mixup(1.0)(square, IDS)
    text = tensordict.TensorDict({"a": A, "text": [*"abcde"]}, batch_size=[N])
    with pytest.raises(TypeError, match=r"input\['text'\] is a NonTensorStack, .* leave it out of the call"):
        PLAN(text)


def test_tensorclass():
    tensordict = pytest.importorskip("tensordict")

    @tensordict.tensorclass
    class Batch:
        a: torch.Tensor
        b: torch.Tensor

    got = PLAN(Batch(A, B, batch_size=[N]))
    assert type(got) is Batch
    torch.testing.assert_close(got.a, by_hand(A), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(got.b, by_hand(B), rtol=1e-12, atol=1e-15)


def test_attrs():
    attrs = pytest.importorskip("attrs")

    @attrs.frozen
    class Frozen:
        a: torch.Tensor
        b: Any = None

    @attrs.define
    class Slots:
        a: torch.Tensor
        b: Any = attrs.field(init=False, default=None)

    for batch in (Frozen(A, B), Frozen(A), Slots(A)):
        got = PLAN(batch)
        assert type(got) is type(batch)
        torch.testing.assert_close(got.a, by_hand(A), rtol=1e-12, atol=1e-15)
        assert (got.b is None) == (batch.b is None)
    torch.testing.assert_close(PLAN(Frozen(A, B)).b, by_hand(B), rtol=1e-12, atol=1e-15)


def test_images_of_pil():
    image = pytest.importorskip("PIL.Image")
    with pytest.raises(TypeError, match=r"input is an Image, .*numpy.array\(image\)"):
        PLAN(image.new("RGB", (2, 2)))
