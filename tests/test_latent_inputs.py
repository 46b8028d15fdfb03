"""Which inputs of a module are hidden states: masks, biases, states and tables are never interpolated."""

import contextlib
import copy
import io
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

import installed
import vicinal as v
from vicinal import LatentMixing, MixPlan
from vicinal._inputs import is_additive_mask, is_never

N, T, D = 4, 6, 8
PLAN = MixPlan(torch.tensor([1, 0, 3, 2]), torch.full((N,), 0.7))
LENGTHS = torch.tensor([6, 2, 5, 3])
PAD = torch.arange(T)[None] >= LENGTHS[:, None]


def encoder(batch_first=True, layers=2, norm_first=False):
    torch.random.manual_seed(0)
    layer = nn.TransformerEncoderLayer(D, 2, 16, dropout=0.0, batch_first=batch_first, norm_first=norm_first)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


def tokens(seed=1, n=N, t=T):
    return torch.randn(n, t, D, generator=torch.Generator().manual_seed(seed))


def seen(run, x: Tensor) -> Tensor:
    """Return bool [n, n, T]: whose token at which place the output of each row depends on."""
    x = x.clone().requires_grad_()
    out = run(x)
    rows = [torch.autograd.grad(out[i].sum(), x, retain_graph=True)[0].abs().sum(-1) > 0 for i in range(len(out))]
    return torch.stack(rows)


def expected(plan: MixPlan, valid: Tensor) -> Tensor:
    """Return what each row ought to see: its own tokens and its partner's, where either row has one."""
    union = plan.union(valid)
    whose = torch.eye(len(valid), dtype=torch.bool)
    whose = whose | whose[plan.partner]
    return whose[:, :, None] & union[:, None, :]


# -- transformers of PyTorch -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["", "layers.0", "layers.1"])
@pytest.mark.parametrize("n", [N, T])
def test_padding_masks_are_not_mixed_and_every_token_is_seen(at, n):
    """PyTorch makes the mask float, with -inf where it pads; also where there are as many rows as tokens."""
    plan = PLAN if n == N else MixPlan(torch.tensor([1, 0, 3, 2, 5, 4]), torch.full((n,), 0.7))
    pad = PAD if n == N else torch.arange(T)[None] >= torch.tensor([6, 2, 5, 3, 1, 4])[:, None]
    net, latent_pad = encoder(), plan.intersection(pad)
    latent = LatentMixing(net, at)

    def run(x):
        with latent(plan):
            out = net(x, src_key_padding_mask=latent_pad)
        return (out * ~latent_pad[..., None]).sum(1) * slope  # or the last norm would hide what is seen

    slope = torch.arange(1.0, D + 1)
    out = run(tokens(n=n))
    assert out.isfinite().all()
    assert torch.equal(seen(run, tokens(n=n)), expected(plan, ~pad))
    h = tokens(n=n)
    for name, layer in zip(["layers.0", "layers.1"], net.layers, strict=True):
        h = plan(h) if name == at or (not at and name == "layers.0") else h
        h = layer(h, src_key_padding_mask=latent_pad)
    torch.testing.assert_close(out, (h * ~latent_pad[..., None]).sum(1) * slope, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("at", ["", "layers.1"])
@pytest.mark.parametrize("n", [N, T])
def test_causal_masks_are_not_mixed(at, n):
    plan = PLAN if n == N else MixPlan(torch.arange(T).roll(1), torch.full((n,), 0.7))
    net, causal = encoder(), nn.Transformer.generate_square_subsequent_mask(T)
    x = tokens(n=n)
    with LatentMixing(net, at)(plan):
        out = net(x, mask=causal, is_causal=True)
    h = net.layers[0](plan(x) if at == "" else x, src_mask=causal)
    h = net.layers[1](h if at == "" else plan(h), src_mask=causal)
    torch.testing.assert_close(out, h, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n", [N, T])
def test_self_attention_is_mixed_in_query_key_and_value(n):
    plan = PLAN if n == N else MixPlan(torch.arange(T).roll(1), torch.full((n,), 0.7))
    attention = nn.MultiheadAttention(D, 2, batch_first=True)
    mask, x = nn.Transformer.generate_square_subsequent_mask(T), tokens(n=n)
    with LatentMixing(attention, "")(plan):
        out, _ = attention(x, x, x, attn_mask=mask)
    mixed = plan(x)
    torch.testing.assert_close(out, attention(mixed, mixed, mixed, attn_mask=mask)[0])


def test_a_second_representation_is_told_or_named():
    torch.random.manual_seed(0)
    layer = nn.TransformerDecoderLayer(D, 2, 16, dropout=0.0, batch_first=True)
    net, x, memory = nn.ModuleDict({"layer": layer}), tokens(), tokens(2)
    latent = LatentMixing(net, "layer")
    told = r"'memory' of the module 'layer' looks like a representation.*say inputs="
    with pytest.warns(UserWarning, match=told), latent(PLAN):
        first = layer(x, memory, memory_key_padding_mask=PAD)
    with latent(PLAN):  # told once
        layer(x, memory)
    torch.testing.assert_close(first, layer(PLAN(x), memory, memory_key_padding_mask=PAD))
    for inputs in (["tgt", "memory"], [0, 1]):
        latent = LatentMixing(net, "layer", inputs=inputs)
        with latent(PLAN):
            both = layer(x, memory=memory, memory_key_padding_mask=PAD)
        torch.testing.assert_close(both, layer(PLAN(x), PLAN(memory), memory_key_padding_mask=PAD))
        latent.remove()
    with LatentMixing(net, "layer", inputs="memory")(PLAN):
        only = layer(x, memory)
    torch.testing.assert_close(only, layer(x, PLAN(memory)))


# -- time-major modules ------------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    def __init__(self, kind, batch_first):
        super().__init__()
        self.rnn = kind(D, 5, batch_first=batch_first, num_layers=N)
        self.head = nn.Linear(5, 3)

    def forward(self, x, state=None):
        out, _ = self.rnn(x, state)
        return self.head(out)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("length", [T, N])
def test_recurrent_networks_with_states(kind, length):
    """The states [layers, n, d] are not mixed, also where there are as many layers, or moments, as rows."""
    torch.random.manual_seed(0)
    state = torch.randn(N, N, 5)
    state = (state, state + 1) if kind is nn.LSTM else state
    x = tokens(t=length)
    for batch_first in (True, False):
        net = Recurrent(kind, batch_first)
        given, dim = (x, 0) if batch_first else (x.transpose(0, 1), 1)
        with LatentMixing(net, "rnn", dim=dim)(PLAN):
            out = net(given, state)
        mixed = PLAN(x) if batch_first else PLAN(x).transpose(0, 1)
        torch.testing.assert_close(out, net(mixed, state))


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")  # of nn.Transformer
@pytest.mark.parametrize(
    ("build", "at"),
    [
        (lambda: encoder(batch_first=False), ""),
        (lambda: encoder(batch_first=False), "layers.1"),
        (lambda: encoder(batch_first=False), "layers.1.linear1"),
        (lambda: encoder(batch_first=False), "layers.1.self_attn"),
        (lambda: nn.Sequential(nn.Linear(D, D), nn.GRU(D, 3)), "1"),
        (lambda: nn.Sequential(nn.Linear(D, D), nn.GRU(D, 3)), ""),
        (lambda: nn.MultiheadAttention(D, 2), ""),
        (lambda: nn.Transformer(D, 2, 1, 1, 16), "encoder"),
    ],
)
def test_time_major_modules_are_refused_until_the_dimension_is_said(build, at):
    with pytest.raises(ValueError, match=r"time-major \(batch_first=False\).*dim=1.*dim=0"):
        LatentMixing(build(), at)
    LatentMixing(build(), at, dim=1)


def test_a_layer_of_ones_own_is_time_major_too():
    class Layer(nn.TransformerEncoderLayer):
        pass

    net = nn.TransformerEncoder(Layer(D, 2, 16), 2, enable_nested_tensor=False)
    with pytest.raises(ValueError, match="time-major"):
        LatentMixing(net, "layers.0.linear1")


def test_a_negative_dimension_counts_from_the_end():
    net, x = nn.Sequential(nn.Linear(D, D), nn.Identity()), tokens().transpose(0, 1)
    with LatentMixing(net, "1", dim=-2)(PLAN):
        out = net(x)
    torch.testing.assert_close(out, PLAN(net[0](x).transpose(0, 1)).transpose(0, 1))


def test_a_part_before_a_time_major_one_is_free():
    net = nn.Sequential(nn.Linear(D, D), nn.GRU(D, 3))
    LatentMixing(net, "0")
    LatentMixing(nn.ModuleDict({"rnn": nn.GRU(D, 3), "head": nn.Linear(3, 2)}), "head")


@pytest.mark.parametrize("t", [T, N])
def test_time_major_transformers_mix_along_the_batch(t):
    net, x = encoder(batch_first=False), tokens(t=t).transpose(0, 1)
    with LatentMixing(net, "layers.1", dim=1)(PLAN):
        out = net(x)
    h = net.layers[0](x)
    torch.testing.assert_close(out, net.layers[1](PLAN(h.transpose(0, 1)).transpose(0, 1)), rtol=1e-5, atol=1e-6)


def test_packed_sequences_are_refused():
    net = Recurrent(nn.GRU, True)
    packed = nn.utils.rnn.pack_padded_sequence(tokens(), LENGTHS, batch_first=True, enforce_sorted=False)
    with pytest.raises(TypeError, match=r"is a packed sequence.*pad it.*plan.longest"), LatentMixing(net, "rnn")(PLAN):
        net.rnn(packed)
    with pytest.raises(TypeError, match="is a packed sequence"), LatentMixing(net, "rnn", inputs="input")(PLAN):
        net.rnn(packed)


# -- other inputs ------------------------------------------------------------------------------------------------------


class Rotary(nn.Module):
    """As in Llama: a table [1, T, d], a number, a bias, a float mask of n rows and a step [] beside the hidden states."""

    def forward(self, hidden_states, attention_mask=None, position_embeddings=None, relative_bias=None, **kwargs):
        self.seen = (hidden_states, attention_mask, position_embeddings, relative_bias, kwargs)
        return hidden_states


@pytest.mark.parametrize("n", [N, 1])
def test_tables_biases_masks_and_numbers_pass(n):
    plan = PLAN if n == N else MixPlan(torch.zeros(1, dtype=torch.int64), torch.full((1,), 0.7))
    net = nn.ModuleDict({"layer": Rotary()})
    x, mask = tokens(n=n), torch.where(torch.rand(n, 1, T, T) > 0.5, 0.0, torch.finfo(torch.float32).min)
    tables = (torch.rand(n, T, D), torch.rand(n, T, D))  # as large as the hidden states
    with LatentMixing(net, "layer")(plan):
        net["layer"](
            attention_mask=mask,
            position_embeddings=tables,
            hidden_states=x,
            relative_bias=torch.rand(n, 2, T, T),
            num_items_in_batch=torch.tensor(3.0),
        )
    h, m, (cos, sin), _, extra = net["layer"].seen
    assert torch.equal(h, plan(x))
    assert m is mask
    assert cos is tables[0]
    assert sin is tables[1]
    assert extra["num_items_in_batch"].item() == 3.0


def test_a_mask_under_another_name_is_refused_on_the_first_pass():
    class Odd(nn.Module):
        def forward(self, weights, x):
            return x + weights[..., None]

    added = torch.where(PAD, -torch.inf, 0.0)
    net = nn.ModuleDict({"odd": Odd()})
    with pytest.raises(ValueError, match=r"holds -inf, as masks do.*say inputs="), LatentMixing(net, "odd")(PLAN):
        net["odd"](added, tokens())
    latent = LatentMixing(net, "odd", inputs="x")
    with latent(PLAN):
        out = net["odd"](torch.zeros(N, T), tokens())
    torch.testing.assert_close(out, PLAN(tokens()))

    latent.remove()
    latent = LatentMixing(net, "odd", inputs=["x", "weights"])
    with pytest.raises(ValueError, match="'weights' of the module 'odd' holds -inf"), latent(PLAN):  # whichever it is
        net["odd"](added, tokens())
    latent.remove()
    latent = LatentMixing(net, "odd")
    for _ in range(2):  # refused is not told: the next pass is refused as well
        with pytest.raises(ValueError, match="holds -inf"), latent(PLAN):
            net["odd"](added, tokens())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_an_additive_mask_is(dtype):
    hidden = PAD[:, None]
    for low in (-torch.inf, torch.finfo(dtype).min, -10000.0):
        assert is_additive_mask(torch.where(hidden, low, 0.0).to(dtype))
    for other in (torch.where(hidden, -0.5, 0.0), torch.where(hidden, -10000.0, 0.5), torch.zeros(3), torch.ones(0, 4)):
        assert not is_additive_mask(other.to(dtype))
    assert not is_additive_mask(PAD)


NEVER = """
    mask src_mask attn_mask key_padding_mask keyPaddingMask srcmask attention_mask head_mask bias attn_bias position_bias
    relative_position_bias alibi position_embeddings position_ids pos_emb rel_pos rotary_pos_emb freqs_cis cos sin
    hx h0 cx state states past_key_values layer_past kv_cache cache_position mems num_items_in_batch
"""
MAYBE = "x input src tgt hidden_states hidden_state query_states encoder_hidden_states composition singular posterior"


def test_names_of_what_is_never_mixed():
    assert [name for name in NEVER.split() if not is_never(name)] == []
    assert [name for name in MAYBE.split() if is_never(name)] == []


def test_a_representation_with_the_name_of_a_state_is_named():
    class Policy(nn.Module):
        def forward(self, state):
            return state * 2

    net, x = nn.ModuleDict({"policy": Policy()}), torch.randn(N, D)
    told = r"'state' of the module 'policy' is a mask, a table, or a state.*say inputs='state'"
    with pytest.raises(TypeError, match=told), LatentMixing(net, "policy")(PLAN):
        net["policy"](x)
    with LatentMixing(net, "policy", inputs="state")(PLAN):
        assert torch.equal(net["policy"](x), PLAN(x) * 2)


def test_token_ids_before_the_mixed_input_are_told():
    """A decoder that embeds its tokens itself, beside what an encoder made: only the latter could be mixed."""

    class Decoder(nn.Module):
        def forward(self, input_ids, encoder_hidden_states):
            return encoder_hidden_states + input_ids[..., None]

    net, ids, x = nn.ModuleDict({"decoder": Decoder()}), torch.ones(N, T, dtype=torch.int64), tokens()
    told = "'input_ids' of the module 'decoder' holds integers, which are not mixed"
    with pytest.warns(UserWarning, match=told), LatentMixing(net, "decoder")(PLAN):
        out = net["decoder"](ids, x)
    torch.testing.assert_close(out, PLAN(x) + 1)
    with LatentMixing(net, "decoder", inputs="encoder_hidden_states")(PLAN):
        net["decoder"](ids, x)


def test_inputs_without_what_is_mixed_stay_the_objects_that_they_are():
    """A cache is written to; a copy of it would be lost."""

    class Caching(nn.Module):
        def forward(self, *args, **kwargs):
            kwargs["memo"]["x"] = args[0]
            return args[0]

    net, memo, x = nn.ModuleDict({"caching": Caching()}), {"past": torch.randn(N, 2)}, tokens()
    with LatentMixing(net, "caching")(PLAN):
        net["caching"](x, memo=memo)
    assert torch.equal(memo["x"], PLAN(x))


def test_a_wrapper_hands_its_inputs_on():
    """Without names of its own, it is known by the names that it is called with, in their order."""

    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.MultiheadAttention(D, 2, batch_first=True)

        def forward(self, *args, **kwargs):
            return self.inner(*args, **kwargs)

    net, x, mask = Wrapper(), tokens(), nn.Transformer.generate_square_subsequent_mask(T)
    with LatentMixing(net, "")(PLAN):
        out, _ = net(attn_mask=mask, query=x, key=x, value=x)
    mixed = PLAN(x)
    torch.testing.assert_close(out, net.inner(mixed, mixed, mixed, attn_mask=mask)[0])


def test_cells_mix_their_input_and_not_their_state():
    cell, x, state = nn.LSTMCell(D, D), torch.randn(N, D), (torch.randn(N, D), torch.randn(N, D))
    with LatentMixing(cell, "")(PLAN):
        out = cell(x, state)
    torch.testing.assert_close(out, cell(PLAN(x), state))


def test_inputs_that_are_not_there_are_refused():
    net = encoder()
    with pytest.raises(ValueError, match=r"'layers.0' has no input 'memory'; it has \['src', 'src_mask'"):
        LatentMixing(net, "layers.0", inputs="memory")
    with pytest.raises(ValueError, match="has no input 9"):
        LatentMixing(net, "layers.0", inputs=9)
    with pytest.raises(ValueError, match=r"'layers\.1\.norm1' has no input 'src'; it has \['input'\]"):
        LatentMixing(net, ["layers.0", "layers.1.norm1"], inputs="src")
    assert not any(module._forward_pre_hooks for module in net.modules())  # of the first one
    latent = LatentMixing(net, "layers.0", inputs="src_mask")
    with pytest.raises(TypeError, match=r"'src_mask' .* holds no floating-point tensor of 4 rows"), latent(PLAN):
        net(tokens())


# -- several layers ----------------------------------------------------------------------------------------------------


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(D, D) for _ in range(3)])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).tanh()
        return x


NAMES = ["layers.0", "layers.1", "layers.2"]


def test_the_layer_is_drawn_by_the_key_uniformly_and_replays():
    net, x = Stack(), torch.randn(N, D)
    latent, mixup = LatentMixing(net, NAMES), v.Mixup(1.0, seed=3)
    drawn, weights = [], []
    for step in range(600):
        plan = mixup.plan(N, step=step)
        with latent(plan):
            out = net(x)
        drawn.append(NAMES.index(latent.at))
        weights.append(float(plan.weight[0]))
        if step < 20:
            h = x
            for i, layer in enumerate(net.layers):
                h = layer(plan(h) if i == drawn[-1] else h).tanh()
            torch.testing.assert_close(out, h)
            kept = v.plan_from_dict(plan.to_dict())
            with latent(kept):
                assert torch.equal(net(x), out)
    counts = torch.bincount(torch.tensor(drawn), minlength=3)
    assert ((counts - 200).abs() < 4 * (600 * 2 / 9) ** 0.5).all()
    correlation = torch.corrcoef(torch.tensor([drawn, weights], dtype=torch.float64))[0, 1]
    assert abs(float(correlation)) < 4 / 600**0.5


def test_plans_of_all_vicinities_draw_a_layer():
    net, x = Stack(), torch.randn(N, D)
    latent = LatentMixing(net, NAMES)
    for vicinity in (v.Chain([v.Mixup(1.0), v.GaussianNoise(0.1)]), v.GaussianNoise(0.1), v.Choice([v.Mixup(1.0)])):
        seen_names = set()
        for step in range(40):
            with latent(vicinity.plan(N, step=step)):
                net(x)
            seen_names.add(latent.at)
        assert seen_names == set(NAMES)
    with latent(v.ERM().plan(N, step=0)):
        unmixed = net(x)
    assert torch.equal(unmixed, net(x))


def test_a_plan_without_a_key_says_which_layer():
    net, x = Stack(), torch.randn(N, D)
    latent = LatentMixing(net, NAMES)
    with pytest.raises(ValueError, match=r"no key to draw a layer by.*latent\(plan, at='layers.0'\)"), latent(PLAN):
        net(x)
    with latent(PLAN, at="layers.2"):
        out = net(x)
    h = net.layers[1](net.layers[0](x).tanh()).tanh()
    torch.testing.assert_close(out, net.layers[2](PLAN(h)).tanh())
    with pytest.raises(ValueError, match="'nowhere' is not among the modules given"), latent(PLAN, at="nowhere"):
        net(x)
    for names in ([], ["layers.0", "layers.0"]):
        with pytest.raises(ValueError, match="at is the name of a module, or several different ones"):
            LatentMixing(net, names)
    latent.remove()
    assert not any(layer._forward_pre_hooks for layer in net.layers)
    net.alias = net.layers[1]
    with pytest.raises(ValueError, match=r"'alias' and 'layers\.1' are one module"):  # it would be drawn twice as often
        LatentMixing(net, ["layers.0", "alias", "layers.1"])
    with pytest.raises(ValueError, match=r"'layers' only holds modules .* name one of \['layers\.0', 'layers\.1'"):
        LatentMixing(net, "layers")


@installed.traces_targets
@pytest.mark.slow
def test_several_layers_compile_to_a_graph_each():
    torch._dynamo.reset()
    net, x, counter = Stack(), torch.randn(N, D), CompileCounter()
    latent, mixup = LatentMixing(net, NAMES), v.Mixup(1.0, seed=3)
    compiled = torch.compile(net, backend=counter, fullgraph=True)
    for step in range(30):
        plan = mixup.plan(N, step=step)
        with latent(plan):
            got = compiled(x)
        with latent(plan):
            torch.testing.assert_close(got, net(x))
    torch.testing.assert_close(compiled(x), net(x))
    assert counter.frame_count == 4
    torch._dynamo.reset()


@pytest.mark.slow
def test_the_error_of_a_network_compiled_before_names_the_cure():
    torch._dynamo.reset()
    baseline = torch.compile(Stack(), backend="eager")
    baseline(torch.randn(N, D))
    net = Stack()
    latent = LatentMixing(net, "layers.1")
    compiled = torch.compile(net, backend="eager")
    with pytest.raises(RuntimeError, match=r"torch\._dynamo\.reset\(\)"), latent(PLAN):
        compiled(torch.randn(N, D))
    torch._dynamo.reset()
    x = torch.randn(N, D)
    with latent(PLAN):
        got = compiled(x)
    torch.testing.assert_close(got, net.layers[2](net.layers[1](PLAN(net.layers[0](x).tanh())).tanh()).tanh())
    torch._dynamo.reset()


# -- residual branches -------------------------------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self, pre_norm):
        super().__init__()
        self.norm, self.branch = nn.LayerNorm(D), nn.Sequential(nn.Linear(D, D), nn.Tanh())
        self.pre_norm = pre_norm

    def forward(self, x):
        return x + self.branch(self.norm(x)) if self.pre_norm else self.norm(x + self.branch(x))


class Deep(nn.Module):
    def __init__(self, pre_norm=True, how="plain"):
        super().__init__()
        self.stem = nn.Linear(D, D)
        self.blocks = nn.ModuleList([Residual(pre_norm), Residual(pre_norm)])
        self.how = how

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x) if self.how == "plain" else checkpoint(block, x, use_reentrant=self.how == "reentrant")
        return x


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.layer, self.last = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(2 * D, 3)

    def forward(self, x):
        x = self.stem(x)
        return self.last(torch.cat([x, self.layer(x)], 1))


class OnData(nn.Module):
    """Data go straight into a residual block, and have no gradients."""

    def __init__(self, inplace=False):
        super().__init__()
        self.branch, self.inplace = nn.Linear(D, D), inplace

    def forward(self, x):
        if self.inplace:
            x -= 0.5
        return x + self.branch(x)


def run_once(net, at, x, **arguments):
    latent = LatentMixing(net, at, **arguments)
    with latent(PLAN):
        out = net(x)
        out.sum().backward()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # told once
        with latent(PLAN):
            net(x).sum().backward()
    latent.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize(
    ("net", "at", "where"),
    [
        (Deep(), "blocks.1.branch", r"of 'blocks\.1': mix before the whole"),
        (Deep(), "blocks.1.branch.1", r"of 'blocks\.1'"),
        (Deep(), "blocks.0.branch.0", r"of 'blocks\.0'"),
        (Deep(), "blocks.0.norm", r"of 'blocks\.0'"),
        (Deep(pre_norm=False), "blocks.1.branch", r"of 'blocks\.1'"),
        (Dense(), "layer", "of the model"),
        (OnData(), "branch", "of the model"),
        (OnData(inplace=True), "branch", "of the model"),
        (nn.Sequential(OnData(), nn.Linear(D, 3)), "0.branch", "of '0': mix before the whole"),
        (encoder(), "layers.1.self_attn", r"of 'layers\.1'"),
        (encoder(norm_first=True), "layers.1.linear1", r"of 'layers\.1'"),
    ],
)
def test_inside_a_residual_branch_it_warns(net, at, where):
    x = tokens() if isinstance(net, nn.TransformerEncoder) else torch.randn(N, D)
    with pytest.warns(UserWarning, match=f"inside a residual branch {where}"):
        run_once(net.train(), at, x)


@pytest.mark.parametrize(
    ("net", "at"),
    [
        (Deep(), "blocks.0"),
        (Deep(), "blocks.1"),
        (Deep(), "stem"),
        (Deep(how="reentrant"), "blocks.1"),
        (Deep(how="saved"), "blocks.1"),
        (Dense(), "stem"),
        (Dense(), "last"),
        (Stack(), "layers.1"),
        (OnData(), ""),
        (nn.Sequential(OnData(), OnData(), nn.Linear(D, 3)), "0"),
        (nn.Sequential(OnData(), OnData(), nn.Linear(D, 3)), "1"),
        (encoder(), "layers.1"),
        (encoder(norm_first=True), "layers.0"),
        (nn.Sequential(nn.Linear(D, D), nn.Sequential(nn.Linear(D, D), nn.ReLU()), nn.Linear(D, 2)), "1.1"),
    ],
)
def test_between_blocks_it_does_not(net, at):
    x = tokens() if isinstance(net, nn.TransformerEncoder) else torch.randn(N, D)
    run_once(net, at, x)
    run_once(net, at, x.requires_grad_())


class Conditioned(nn.Module):
    """Token ids, and two numbers for each row that condition the last layer: no representation flows past."""

    def __init__(self):
        super().__init__()
        self.embedding, self.condition = nn.Embedding(9, D), nn.Linear(2, D)
        self.layer, self.head = nn.Linear(D, D), nn.Linear(D, 3)

    def forward(self, ids, numbers):
        condition = self.condition(numbers)
        return self.head(self.layer(self.embedding(ids)).tanh() * condition[:, None])


def test_conditions_beside_token_ids_are_no_residual_branch():
    net = Conditioned()
    with LatentMixing(net, "layer")(PLAN):
        net(torch.randint(0, 9, (N, T)), torch.randn(N, 2))


@pytest.mark.parametrize("early_stop", [True, False])
def test_checkpoints_that_run_again_are_not_looked_at(early_stop):
    net = nn.ModuleDict({"stem": nn.Linear(D, D), "body": Stack()})
    latent = LatentMixing(net, "body.layers.1")
    with set_checkpoint_early_stop(early_stop), latent(PLAN):
        checkpoint(net["body"], net["stem"](torch.randn(N, D)), use_reentrant=False).sum().backward()


def test_the_pass_that_is_looked_at_computes_what_every_pass_does():
    net, x = nn.Sequential(OnData(), nn.Linear(D, 3)), torch.randn(N, D)
    latent, results = LatentMixing(net, "1"), []
    for _ in range(2):
        net.zero_grad()
        with latent(PLAN):
            out = net(x)
        out.square().sum().backward()
        results.append([out, *(p.grad.clone() for p in net.parameters())])
        assert not x.requires_grad
        assert x.grad is None
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_frozen_parts_make_no_graph():
    net = nn.Sequential(Deep(), nn.Linear(D, 3))
    net[0].requires_grad_(False)
    with LatentMixing(net, "1")(PLAN):
        seen_by_head = []
        net[1].register_forward_pre_hook(lambda module, args: seen_by_head.append(args[0]))
        net(torch.randn(N, D))
    assert not seen_by_head[0].requires_grad


def test_function_transforms_go_on():
    net, x = Deep(), torch.randn(N, D)
    latent = LatentMixing(net, "blocks.1")

    def loss(parameters):
        return torch.func.functional_call(net, parameters, (x,)).square().sum()

    with latent(PLAN):
        got = torch.func.grad(loss)(dict(net.named_parameters()))
    with latent(PLAN):
        net(x).square().sum().backward()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad)


def test_copies_and_files_of_a_network_with_hooks():
    """Made at any time, inside a block too, they compute as the network does without a mix; without hooks, `remove`."""
    net, x, file = Deep(), torch.randn(N, D), io.BytesIO()
    latent = LatentMixing(net, "blocks.1")
    with latent(PLAN):
        mixed = net(x)
        average = copy.deepcopy(net)
        torch.save(net, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    with latent(PLAN):
        assert torch.equal(net(x), mixed)
        plain = average(x)
    assert torch.equal(plain, net(x))
    assert torch.equal(loaded(x), plain)
    assert not torch.equal(mixed, plain)
    latent.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize(("at", "warns"), [("blocks.1.branch", True), ("blocks.1", False)])
def test_frozen_networks_are_looked_at_too(at, warns):
    net = Deep().requires_grad_(False)
    latent = LatentMixing(net, at)
    for _ in range(2):
        with latent(PLAN), torch.no_grad():
            net(torch.randn(N, D))
    told = pytest.warns(UserWarning, match=r"branch of 'blocks\.1'") if warns else contextlib.nullcontext()
    with told, latent(PLAN):
        net(torch.randn(N, D))
    for _ in range(3):
        with latent(PLAN):
            net(torch.randn(N, D))


# -- the look changes nothing ------------------------------------------------------------------------------------------


class Statistics(nn.Module):
    """Keeps statistics of its data, reads them as numbers, and keeps the data themselves."""

    def __init__(self, marks=False):
        super().__init__()
        self.a, self.b = nn.Linear(D, D), nn.Linear(D, 2)
        self.register_buffer("mean", torch.zeros(D))
        self.marks = marks

    def forward(self, x):
        assert not x.requires_grad
        self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        self.largest, self.kept = float(x.numpy().max()), x
        if self.marks:
            x.requires_grad = True  # as transformers' Wav2Vec2 does
        return self.b(self.a(x - self.mean))


@pytest.mark.parametrize("marks", [False, True])
def test_the_data_that_a_network_sees_are_the_data(marks):
    net = Statistics(marks)
    latent = LatentMixing(net, "b")
    for _ in range(3):
        x = torch.rand(N, D)
        with latent(PLAN):
            net(x).sum().backward()
        assert net.kept is x
    copy.deepcopy(net.mean)


class Raw(nn.Module):
    """A residual block that gets the data themselves."""

    def __init__(self, how):
        super().__init__()
        self.b, self.how = nn.Linear(D, D), how

    def forward(self, x):
        if self.how == "add":
            return x + self.b(x)
        if self.how == "cat":
            return torch.cat([x * 2, self.b(x)], 1)
        if self.how == "sizes":
            return self.b(x) + torch.ones_like(x) + x.new_zeros(x.shape)
        return self.b(x) * (x.sum() > 0)


@pytest.mark.parametrize(("how", "warns"), [("add", True), ("cat", True), ("sizes", False), ("compare", False)])
@pytest.mark.parametrize("trained", [True, False])
def test_past_data_something_flows_too(how, warns, trained):
    for net, at in ((Raw(how), "b"), (nn.Sequential(Raw(how), nn.ReLU()), "0.b")):
        net.requires_grad_(trained)
        latent = LatentMixing(net, at)
        if warns:
            with pytest.warns(UserWarning, match="inside a residual branch"), latent(PLAN):
                net(torch.randn(N, D))
        else:
            with latent(PLAN):
                net(torch.randn(N, D))
        with pytest.raises(ValueError, match="stop"), latent(PLAN):
            raise ValueError("stop", net(torch.randn(N, D)))
        assert torch.overrides._get_current_function_mode_stack() == []


def test_a_pass_that_breaks_off_leaves_no_mode():
    class Breaks(nn.Module):
        def __init__(self):
            super().__init__()
            self.b = nn.Linear(D, D)

        def forward(self, x):
            self.b(x)
            raise KeyError("inside")

    net = Breaks()
    with pytest.raises(KeyError, match="inside"), LatentMixing(net, "b")(PLAN):
        net(torch.randn(N, D))
    assert torch.overrides._get_current_function_mode_stack() == []


def test_positions_that_are_the_same_for_all_rows_are_no_representation():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.Linear(D, D)

        def forward(self, h, pos):
            return h + self.f(h + pos)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.token, self.position = nn.Embedding(9, D), nn.Embedding(T, D)
            self.blocks, self.head = nn.ModuleList([Block(), Block()]), nn.Linear(D, 2)

        def forward(self, t):
            h, pos = self.token(t), self.position(torch.arange(T)[None].expand(len(t), T))
            for block in self.blocks:
                h = block(h, pos)
            return self.head(h.mean(1))

    net = Net()
    with LatentMixing(net, "blocks.1")(PLAN):
        net(torch.randint(0, 9, (N, T)))


# -- names that say little ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("state", "action"), ("x_num", "x_cat"), ("pos", "feats")])
def test_a_first_input_that_is_none_by_its_name_alone_is_told(names):
    first, second = names
    made: dict[str, type] = {"nn": nn, "torch": torch}
    body = f"return torch.cat([{first}, {second}], 1)"
    exec(f"class Net(nn.Module):\n    def forward(self, {first}, {second}):\n        {body}", made)
    net, a, b = made["Net"](), torch.randn(N, 3), torch.randn(N, 2)
    with pytest.warns(UserWarning, match=f"{first!r} of the module '' is a table or a state.*say inputs="):
        with_one = mixed_by(net, (a, b))
    torch.testing.assert_close(with_one, torch.cat([a, PLAN(b)], 1))
    both = mixed_by(net, (a, b), inputs=[first, second])
    torch.testing.assert_close(both, PLAN(torch.cat([a, b], 1)))


def mixed_by(net, given, **arguments):
    with LatentMixing(net, "", **arguments)(PLAN):
        return net(*given)


def test_inputs_in_a_dict_go_by_their_keys_and_not_by_its_order():
    class Net(nn.Module):
        def forward(self, batch):
            return batch["hidden"] * batch["mask"][..., None]

    hidden, mask = tokens(), (torch.rand(N, T) > 0.3).float()
    for batch in ({"hidden": hidden, "mask": mask}, {"mask": mask, "hidden": hidden}):
        torch.testing.assert_close(mixed_by(Net(), (batch,)), PLAN(hidden) * mask[..., None])


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of lerp under vmap
def test_an_ensemble_by_vmap_is_mixed():
    nets = [nn.Sequential(nn.Linear(D, D), nn.Linear(D, 2)) for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(nets)
    latent, x = LatentMixing(nets[0], "1"), torch.randn(N, D)

    def run(p, b):
        return torch.func.functional_call(nets[0], (p, b), (x,))

    with latent(PLAN):
        got = torch.func.vmap(run)(parameters, buffers)
    expected = torch.stack([net[1](PLAN(net[0](x))) for net in nets])
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@installed.traces_targets
@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf"
)  # of what goes on after a break
def test_a_step_that_draws_its_layer_inside_compiles_a_few_times():
    torch._dynamo.reset()
    counters.clear()
    net, mixup = Stack(), v.Mixup(1.0, seed=3)
    latent, x = LatentMixing(net, NAMES), torch.randn(N, D)

    def step(x, i):
        with latent(mixup.plan(len(x), step=i)) as plan:
            return F.cross_entropy(net(x), plan.target(torch.arange(N) % 3))

    compiled = torch.compile(step, backend="eager")
    for i in range(30):
        torch.testing.assert_close(compiled(x, i), step(x, i), rtol=1e-5, atol=1e-6)
    assert counters["stats"]["unique_graphs"] <= 12
    torch._dynamo.reset()
