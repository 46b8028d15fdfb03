"""Manifold Mixup in networks of Hugging Face: which tokens of which row are seen, and nothing else is touched."""

import os

import pytest
import torch
import torch.nn.functional as F

from vicinal import LatentMixing, MixPlan

os.environ["HF_HUB_OFFLINE"] = "1"
hf = pytest.importorskip("transformers", reason="needs transformers: pip install transformers")

VOCABULARY, CLASSES, D = 40, 3, 16
SIZES = {"num_hidden_layers": 3, "num_attention_heads": 2, "hidden_size": D, "num_labels": CLASSES}
TEXT = {"vocab_size": VOCABULARY, "intermediate_size": 32, "pad_token_id": 0, **SIZES}


def bert(attention):
    config = hf.BertConfig(**TEXT, max_position_embeddings=32)
    return hf.BertForSequenceClassification._from_config(config, attn_implementation=attention), "bert.encoder.layer.1"


def roberta(attention):
    config = hf.RobertaConfig(**TEXT, max_position_embeddings=40)
    return hf.RobertaForSequenceClassification._from_config(
        config, attn_implementation=attention
    ), "roberta.encoder.layer.1"


def distilbert(attention):
    config = hf.DistilBertConfig(
        vocab_size=VOCABULARY, dim=D, hidden_dim=32, n_layers=3, n_heads=2, num_labels=CLASSES, pad_token_id=0
    )
    net = hf.DistilBertForSequenceClassification._from_config(config, attn_implementation=attention)
    return net, "distilbert.transformer.layer.1"


def gpt2(attention):
    config = hf.GPT2Config(
        vocab_size=VOCABULARY, n_embd=D, n_layer=3, n_head=2, n_positions=32, num_labels=CLASSES, pad_token_id=0
    )
    return hf.GPT2ForSequenceClassification._from_config(config, attn_implementation=attention), "transformer.h.1"


def llama(attention):
    config = hf.LlamaConfig(**TEXT, num_key_value_heads=2)
    return hf.LlamaForSequenceClassification._from_config(config, attn_implementation=attention), "model.layers.1"


def modernbert(attention):
    config = hf.ModernBertConfig(**TEXT, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)
    return hf.ModernBertForSequenceClassification._from_config(config, attn_implementation=attention), "model.layers.1"


def t5(attention):
    config = hf.T5Config(vocab_size=VOCABULARY, d_model=D, d_kv=8, d_ff=32, num_layers=3, num_heads=2)
    return hf.T5EncoderModel._from_config(config, attn_implementation=attention), "encoder.block.1"


def deberta(attention):
    config = hf.DebertaV2Config(
        **TEXT, relative_attention=True, position_buckets=8, pos_att_type=["p2c", "c2p"], max_position_embeddings=32
    )
    return hf.DebertaV2ForSequenceClassification._from_config(
        config, attn_implementation=attention
    ), "deberta.encoder.layer.1"


NETWORKS = [
    *(
        (build, attention)
        for build in (bert, roberta, distilbert, gpt2, llama, modernbert)
        for attention in ("eager", "sdpa")
    ),
    (t5, "eager"),
    (deberta, "eager"),
]


def batch(n, t=6):
    lengths = torch.tensor([6, 2, 5, 3, 1, 4])[:n]
    mask = (torch.arange(t)[None] < lengths[:, None]).long()
    tokens = torch.randint(3, VOCABULARY, (n, t), generator=torch.Generator().manual_seed(1)) * mask
    partner = torch.arange(n).view(-1, 2).flip(1).flatten()
    return tokens, mask, MixPlan(partner, torch.full((n,), 0.7))


def embedding_of(net):
    return net.encoder.embed_tokens if isinstance(net, hf.T5EncoderModel) else net.get_input_embeddings()


def hidden_of(net, at, **inputs):
    """Return what went into the module `at`, unmixed."""
    held = []
    handle = net.get_submodule(at).register_forward_pre_hook(
        lambda module, args, kwargs: held.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    net(**inputs)
    handle.remove()
    return held[0]


@pytest.mark.parametrize("n", [4, 6], ids=["rows", "as many rows as tokens"])
@pytest.mark.parametrize(("build", "attention"), NETWORKS, ids=lambda value: getattr(value, "__name__", value))
def test_the_hidden_states_are_mixed_and_the_network_runs(build, attention, n):
    torch.random.manual_seed(0)
    net, at = build(attention)
    net.eval()
    tokens, mask, plan = batch(n)
    union = plan.union(mask)
    latent = LatentMixing(net, at)
    seen = []
    net.get_submodule(at).register_forward_pre_hook(
        lambda module, args, kwargs: seen.append((args, kwargs)), with_kwargs=True
    )
    with latent(plan):
        out = net(input_ids=tokens, attention_mask=union)
    assert out[0].isfinite().all()
    args, kwargs = seen[0]
    h = args[0] if args else kwargs["hidden_states"]
    torch.testing.assert_close(
        h, plan(hidden_of(net, at, input_ids=tokens, attention_mask=union)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(("build", "attention"), NETWORKS, ids=lambda value: getattr(value, "__name__", value))
def test_every_row_sees_its_own_tokens_and_its_partners_and_no_others(build, attention):
    """Of what comes out of the last layer: whose embeddings, at which places, does it depend on?"""
    torch.random.manual_seed(0)
    net, at = build(attention)
    net.eval()
    tokens, mask, plan = batch(4)
    union = plan.union(mask)
    after, embedded = [], []
    layers = at.rsplit(".", 1)[0]
    stack = net.get_submodule(layers)
    stack[len(stack) - 1].register_forward_hook(
        lambda module, args, out: after.append(out[0] if isinstance(out, (tuple, list)) else out)
    )
    embedding_of(net).register_forward_hook(lambda module, args, out: embedded.append(out.requires_grad_()))
    with LatentMixing(net, at)(plan):
        net(input_ids=tokens, attention_mask=union)
    out, slope = after[0], torch.arange(1.0, D + 1)
    causal = build in (gpt2, llama)
    whose = torch.eye(4, dtype=torch.bool) | torch.eye(4, dtype=torch.bool)[plan.partner]
    for i in range(4):
        at_last = int(union[i].sum()) - 1
        looked = out[i, at_last] if causal else (out[i] * union[i][:, None]).sum(0)
        (gradient,) = torch.autograd.grad((looked * slope).sum(), embedded[0], retain_graph=True)
        assert torch.equal(gradient.abs().sum(-1) > 1e-12, whose[i][:, None] & union.bool())


@pytest.mark.parametrize("build", [bert, llama, distilbert], ids=lambda build: build.__name__)
def test_eager_and_sdpa_give_the_same(build):
    tokens, mask, plan = batch(4)
    logits = []
    for attention in ("eager", "sdpa"):
        torch.random.manual_seed(0)
        net, at = build(attention)
        with LatentMixing(net.eval(), at)(plan):
            logits.append(net(input_ids=tokens, attention_mask=plan.union(mask)).logits)
    torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-5)


def test_numbers_that_the_trainer_hands_down_pass():
    torch.random.manual_seed(0)
    net, _ = bert("sdpa")
    tokens, mask, plan = batch(4)
    with LatentMixing(net, "bert.encoder")(plan):
        out = net(input_ids=tokens, attention_mask=plan.union(mask), num_items_in_batch=torch.tensor(4.0))
    assert out.logits.isfinite().all()


@pytest.mark.parametrize(
    ("build", "part"),
    [
        (bert, ".attention.self"),
        (bert, ".output"),
        (gpt2, ".mlp"),
        (llama, ".input_layernorm"),
        (llama, ".self_attn"),
        (t5, ".layer.0.layer_norm"),
        (modernbert, ".attn"),
        (deberta, ".intermediate"),
    ],
)
@pytest.mark.filterwarnings("ignore:the input 'input_tensor'")  # of BERT's output, which is one more true warning
def test_inside_a_residual_branch_it_warns(build, part):
    net, at = build("eager")
    tokens, mask, plan = batch(4)
    told, latent = f"past the module '{at + part}' is not mixed.*LatentMixing", LatentMixing(net, at + part)
    with pytest.warns(UserWarning, match=told), latent(plan):
        net(input_ids=tokens, attention_mask=plan.union(mask))


def test_an_encoder_and_decoder():
    """The encoder's layers are mixed as any; of the decoder's inputs the one that stays unmixed is told."""
    torch.random.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "d_model": D, "d_kv": 8, "d_ff": 32, "num_layers": 3, "num_heads": 2}
    net = hf.T5ForConditionalGeneration(hf.T5Config(**sizes, decoder_start_token_id=0)).eval()
    tokens, mask, plan = batch(4)
    inputs = {"input_ids": tokens, "attention_mask": plan.union(mask), "decoder_input_ids": tokens}
    with LatentMixing(net, "encoder.block.1")(plan):
        assert net(**inputs).logits.isfinite().all()
    told = "'encoder_hidden_states' of the module 'decoder.block.0' looks like a representation, too"
    past = "past the module 'decoder.block.0' is not mixed"  # the later blocks read it, too
    latent = LatentMixing(net, "decoder.block.0")
    with pytest.warns(UserWarning, match=told), pytest.warns(UserWarning, match=past), latent(plan):
        net(**inputs)
    told = "'input_ids' of the module 'decoder' holds integers, which are not mixed"
    with pytest.warns(UserWarning, match=told), LatentMixing(net, "decoder")(plan):
        net(**inputs)


def test_a_cache_is_the_one_that_the_network_reads():
    torch.random.manual_seed(0)
    net, at = llama("sdpa")
    tokens, mask, plan = batch(4)
    with LatentMixing(net.eval(), at)(plan):
        out = net(input_ids=tokens, attention_mask=plan.union(mask), use_cache=True)
    lengths = [out.past_key_values.get_seq_length(layer) for layer in range(3)]
    assert lengths == [tokens.shape[1]] * 3


def vit():
    sizes = {"image_size": 16, "patch_size": 8, "intermediate_size": 32, **SIZES}
    net = hf.ViTForImageClassification(hf.ViTConfig(**sizes))
    return net, next(name for name, _ in net.named_modules() if name.endswith(("layer.1", "layers.1")))


def swin():
    config = hf.SwinConfig(
        image_size=16, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4, num_labels=CLASSES
    )
    return hf.SwinForImageClassification(config), "swin.encoder.layers.1"


@pytest.mark.parametrize("build", [vit, swin], ids=lambda build: build.__name__)
def test_image_transformers(build):
    torch.random.manual_seed(0)
    net, at = build()
    net.eval()
    x, plan = torch.randn(4, 3, 16, 16), batch(4)[2]
    y = plan.target(torch.tensor([0, 1, 2, 1]))
    before, mixed = [], []
    net.get_submodule(at).register_forward_pre_hook(lambda module, args: before.append(args[0]))
    latent = LatentMixing(net, at)
    net.get_submodule(at).register_forward_pre_hook(lambda module, args: mixed.append(args[0]))
    plain = net(x).logits
    with latent(plan):
        out = net(x).logits
    F.cross_entropy(out, y).backward()
    assert not torch.allclose(out, plain)
    torch.testing.assert_close(mixed[1], plan(before[0]), rtol=1e-5, atol=1e-6)
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
