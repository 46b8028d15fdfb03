"""LatentMixing: what goes into one module of a network is mixed by the plan, and nothing else changes."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.utils.checkpoint import checkpoint

import installed
from vicinal import ERM, CutMix, Dirichlet, GaussianNoise, LatentMixing, Mixup, Plan

N = 6


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def keyed(net: nn.Module, seed: int = 0) -> nn.Module:
    """Return the network float64 parameters of its own key."""
    g = generator(seed)
    with torch.no_grad():
        for parameter in net.double().parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=g, dtype=torch.float64) / 2)
    return net


class Mlp(nn.Module):
    """Four layers; from `at` on, forward runs on what `change` makes of the representation."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(5, 7), nn.Linear(7, 7), nn.Linear(7, 7), nn.Linear(7, 3)])

    def forward(self, x: Tensor, at: int = -1, change=None) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(change(x) if i == at else x)
            x = x.tanh() if i < 3 else x
        return x


class Cnn(nn.Module):
    """Convolutions, batch norm, pooling; the stages are called by name, as the paper's five places are."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Tanh())
        self.layer1 = nn.Sequential(nn.BatchNorm2d(4), nn.Tanh(), nn.Conv2d(4, 6, 3, padding=1))
        self.layer2 = nn.Sequential(nn.BatchNorm2d(6), nn.Tanh(), nn.Conv2d(6, 6, 3, stride=2, padding=1))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))

    def forward(self, x: Tensor, at: str = "none", change=None) -> Tensor:
        for name, stage in self.named_children():
            x = stage(change(x) if name == at else x)
        return x


PLANS = {
    "pairs": Mixup(1.0).plan(N, step=0),
    "per example, three": Mixup(Dirichlet(1.0, k=3, per="example")).plan(N, step=1),
}


def by_hand(plan: Plan, x: Tensor) -> Tensor:
    """Row i as the weighted sum of the rows that the plan names."""
    rows = []
    for i in range(len(x)):
        row = plan.shares[i, 0].to(x.dtype) * x[i]
        for j, partner in enumerate(plan.partners[i].tolist()):
            row = row + plan.shares[i, j + 1].to(x.dtype) * x[partner]
        rows.append(row)
    return torch.stack(rows)


def inputs(net: nn.Module) -> Tensor:
    shape = (N, 5) if isinstance(net, Mlp) else (N, 2, 6, 6)
    return torch.randn(shape, generator=generator(1), dtype=torch.float64)


def gradients(loss: Tensor, net: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(net.parameters())))


def close(got: Tensor, expected: Tensor) -> None:
    # shares are float32, and a mix of two is computed as a + w * (b - a)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize(
    ("build", "places"),
    [
        (Mlp, {"layers.0": 0, "layers.1": 1, "layers.2": 2, "layers.3": 3}),
        (Cnn, {"stem": "stem", "layer1": "layer1", "layer2": "layer2", "head": "head"}),
    ],
    ids=["mlp", "cnn"],
)
def test_every_layer_is_mixed_as_by_hand_with_its_gradients(build, places, plan, training):
    net = keyed(build()).train(training)
    x, y = inputs(net), torch.randint(0, 3, (N,), generator=generator(2))
    target = plan.target(y)
    outputs = {"nowhere": net(x)}
    for name, at in places.items():
        latent = LatentMixing(net, name)
        with latent(plan) as same:
            assert same is plan
            got = net(x)
        expected = net(x, at, lambda h: by_hand(plan, h))
        close(got, expected)
        for a, b in zip(
            gradients(F.cross_entropy(got, target), net), gradients(F.cross_entropy(expected, target), net), strict=True
        ):
            close(a, b)
        outputs[name] = got
        latent.remove()
    # the layers are places of their own: no two of them give the same, and none gives the unmixed output
    names = list(outputs)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert (outputs[a] - outputs[b]).abs().max() > 1e-4, (a, b)


def test_the_whole_network_and_its_input():
    net, plan = keyed(Mlp()), PLANS["pairs"]
    x = inputs(net)
    with LatentMixing(net, "")(plan):
        got = net(x)
    close(got, net(by_hand(plan, x)))


def test_outside_the_block_the_network_is_what_it_was():
    net, plan = keyed(Mlp()), PLANS["pairs"]
    x = inputs(net)
    before = net(x)
    latent = LatentMixing(net, "layers.2")
    assert torch.equal(net(x), before)
    with latent(plan):
        assert not torch.equal(net(x), before)
    assert torch.equal(net(x), before)
    latent.remove()
    assert torch.equal(net(x), before)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in net.modules())
    with pytest.raises(RuntimeError, match=r"'layers\.2' did not run inside the block"), latent(plan):
        net(x)


def test_the_representation_itself_is_left_as_it_is():
    net, plan = keyed(Mlp()), PLANS["pairs"]
    x = inputs(net)
    kept = x.clone()
    with LatentMixing(net, "layers.0")(plan):
        net(x)
    assert torch.equal(x, kept)


class Block(nn.Module):
    """As in a transformer: a representation, keyword inputs, a nest, and things that are no representation."""

    def forward(self, h: Tensor, *, scale: Tensor, mask: Tensor, extra: dict, size: int, nothing: None = None):
        self.seen = {"h": h, "scale": scale, "mask": mask, "extra": extra, "size": size, "nothing": nothing}
        return h * scale * mask[..., None] + extra["bias"][0] + size


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.block = Block()

    def forward(self, tokens: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        mask = tokens > 2
        return self.block(self.embed(tokens), scale=scale, mask=mask, extra={"bias": [bias]}, size=3)


def test_the_first_input_is_mixed_and_others_where_they_are_named():
    net, plan = keyed(Attending()), PLANS["pairs"]
    tokens = torch.randint(0, 9, (N, 3), generator=generator(3))
    scale, bias = torch.randn(2, N, 3, 4, generator=generator(4), dtype=torch.float64)
    for inputs in (["h"], ["h", "scale"], ["scale", "extra", 0]):
        latent = LatentMixing(net, "block", inputs=inputs)
        with latent(plan):
            got = net(tokens, scale, bias)
        latent.remove()
        seen = net.block.seen
        close(seen["h"], by_hand(plan, net.embed(tokens)))
        close(seen["scale"], by_hand(plan, scale) if "scale" in inputs else scale)
        close(seen["extra"]["bias"][0], by_hand(plan, bias) if "extra" in inputs else bias)
        assert torch.equal(seen["mask"], tokens > 2)
        assert seen["size"] == 3
        assert seen["nothing"] is None
        close(got, seen["h"] * seen["scale"] * (tokens > 2)[..., None] + seen["extra"]["bias"][0] + 3)


def test_names_cannot_be_mixed():
    """Before the embedding there is nothing to mix, and mixed labels would go with unmixed tokens."""
    net, plan = keyed(Attending()), PLANS["pairs"]
    tokens, one = torch.zeros(N, 3, dtype=torch.int64), torch.ones(N, 3, 4)
    sentence = r"'embed' hold no floating-point tensor .* after the embedding"
    with pytest.raises(TypeError, match=sentence), LatentMixing(net, "embed")(plan):
        net(tokens, one, one)


@pytest.mark.parametrize(
    "representation", [torch.zeros(N + 1, 5), torch.zeros(3, N, 5), torch.zeros(1, 5), torch.tensor(1.0)], ids=str
)
def test_a_representation_without_the_batch_in_front_is_refused(representation):
    net = nn.Sequential(nn.Identity())
    sentence = "cannot be mixed by a plan of 6 rows: dimension 0 must be the batch"
    with pytest.raises(ValueError, match=sentence), LatentMixing(net, "0")(PLANS["pairs"]):
        net(representation)


def test_two_layers_mixed_by_two_plans():
    net, first, second = keyed(Mlp()), PLANS["pairs"], PLANS["per example, three"]
    x = inputs(net)
    early, late = LatentMixing(net, "layers.1"), LatentMixing(net, "layers.3")
    with early(first), late(second):
        got = net(x)
    h = by_hand(first, net.layers[0](x).tanh())
    h = by_hand(second, net.layers[2](net.layers[1](h).tanh()).tanh())
    close(got, net.layers[3](h))
    with late(second):
        alone = net(x)
    close(alone, net(x, 3, lambda h: by_hand(second, h)))


def test_two_networks_with_one_class_do_not_meet():
    """A copy of the network, such as a moving average of it, is not mixed by the block of the original."""
    net, plan = keyed(Mlp()), PLANS["pairs"]
    x = inputs(net)
    latent = LatentMixing(net, "layers.1")
    average = copy.deepcopy(net)
    plain = net(x)
    with latent(plan):
        assert torch.equal(average(x), plain)
        assert not torch.equal(net(x), plain)


# -- errors ------------------------------------------------------------------------------------------------------------


def test_a_wrong_name_lists_the_right_ones():
    with pytest.raises(ValueError, match=r"no module 'layer9'; it has \['layers', 'layers\.0', 'layers\.1'"):
        LatentMixing(Mlp(), "layer9")


def test_a_module_of_two_names_goes_by_both():
    net = Mlp()
    net.alias = net.layers[2]
    keyed(net)
    with LatentMixing(net, "alias")(PLANS["pairs"]):
        got = net(inputs(net))
    close(got, net(inputs(net), 2, lambda h: by_hand(PLANS["pairs"], h)))


def test_a_block_in_which_nothing_was_mixed_is_an_error():
    net = keyed(Mlp())
    latent = LatentMixing(net, "layers.1")
    sentence = r"'layers\.1' did not run inside the block, so nothing was mixed"
    with pytest.raises(RuntimeError, match=sentence), latent(PLANS["pairs"]):
        pass
    with latent(PLANS["pairs"]):  # and the next block is as good as ever
        net(inputs(net))
    with pytest.raises(RuntimeError, match="did not run inside the block"), latent(PLANS["pairs"]):
        pass


def test_nested_blocks_are_refused_and_the_outer_one_goes_on():
    net, plan = keyed(Mlp()), PLANS["pairs"]
    x = inputs(net)
    latent = LatentMixing(net, "layers.1")
    with latent(plan):
        sentence = "mixed by another plan already: leave its block first"
        with pytest.raises(RuntimeError, match=sentence), latent(PLANS["per example, three"]):
            pass
        got = net(x)
    close(got, net(x, 1, lambda h: by_hand(plan, h)))


def test_an_exception_inside_the_block_passes_and_leaves_all_in_order():
    net, plan = keyed(Mlp()), PLANS["pairs"]
    x = inputs(net)
    plain = net(x)
    latent = LatentMixing(net, "layers.1")
    with pytest.raises(KeyError, match="stop"), latent(plan):
        raise KeyError("stop", net(x))
    with pytest.raises(KeyError, match="early"), latent(plan):
        raise KeyError("early")  # not hidden by "did not run"
    assert torch.equal(net(x), plain)
    with latent(plan):
        got = net(x)
    close(got, net(x, 1, lambda h: by_hand(plan, h)))


def test_a_second_run_would_mix_twice():
    """A module that the network shares, and a second forward pass, would mix again what the labels mix once."""
    shared = nn.Sequential(nn.Linear(5, 5), nn.ReLU())
    shared.append(shared[1])
    net, plan = keyed(shared), PLANS["pairs"]
    x = torch.randn(N, 5, generator=generator(5), dtype=torch.float64)
    sentence = r"'1' ran twice inside the block, .* a block of its own"
    with pytest.raises(RuntimeError, match=sentence), LatentMixing(net, "1")(plan):
        net(x)
    latent = LatentMixing(net, "0")
    with pytest.raises(RuntimeError, match="'0' ran twice inside the block"), latent(plan):
        net(net(x))
    with latent(plan):
        first = net(x)
    with latent(plan):
        assert torch.equal(net(x), first)


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.stem = nn.Linear(5, 5)
        self.body = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3))
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.body, self.stem(x), use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("at", ["body", "body.2"])
def test_activation_checkpointing_mixes_again_inside_the_block_and_never_outside(at, reentrant):
    plan, x = PLANS["pairs"], torch.randn(N, 5, generator=generator(6), dtype=torch.float64)
    y = plan.target(torch.arange(N) % 3)
    net = keyed(Checkpointed(reentrant))
    h = net.stem(x)
    out = net.body(by_hand(plan, h)) if at == "body" else net.body[2](by_hand(plan, net.body[:2](h)))
    expected = gradients(F.cross_entropy(out, y), net)
    latent = LatentMixing(net, at)
    with latent(plan):
        F.cross_entropy(net(x), y).backward()
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        close(parameter.grad, gradient)
    with latent(plan):
        loss = F.cross_entropy(net(x), y)
    with pytest.raises(RuntimeError, match="call backward inside the block"):
        loss.backward()
    net(x).sum().backward()  # a pass that was never mixed needs no block


# -- what plans can do -------------------------------------------------------------------------------------------------


def test_the_identity_counts_as_mixed():
    net = keyed(Mlp())
    with LatentMixing(net, "layers.1")(ERM().plan(N, step=0)):
        got = net(inputs(net))
    assert torch.equal(got, net(inputs(net)))


def test_noise_is_drawn_for_each_input():
    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return torch.stack([a, b])

    net, zero = nn.ModuleDict({"two": Two()}), torch.zeros(N, 50)
    plan = GaussianNoise(1.0).plan(N, step=0)
    with LatentMixing(net, "two", inputs=["a", "b"])(plan):
        a, b = net["two"](zero, zero.clone())
    assert torch.equal(a, plan(zero))
    assert not torch.equal(a, b)


def test_boxes_are_for_maps_of_their_grid():
    net = keyed(Cnn())
    plan = CutMix(1.0).plan(N, x=inputs(net), step=0)
    with LatentMixing(net, "layer1")(plan):  # the stem keeps the grid
        got = net(inputs(net))
    close(got, net(inputs(net), "layer1", plan))
    with pytest.raises(ValueError, match="does not lie on the grid"), LatentMixing(net, "head")(plan):
        net(inputs(net))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_channels_last_stays_channels_last(dtype):
    """The representation keeps its layout and dtype, and so does everything after it."""
    seen = []

    class Look(nn.Module):
        def forward(self, h: Tensor) -> Tensor:
            seen.append(h)
            return h

    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Look()).to(memory_format=torch.channels_last, dtype=dtype)
    x = torch.randn(N, 3, 6, 6, generator=generator(7)).to(memory_format=torch.channels_last, dtype=dtype)
    plain = net(x)
    with torch.no_grad(), LatentMixing(net, "1")(PLANS["pairs"]):
        net(x)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert seen[1].is_contiguous(memory_format=torch.channels_last)
    assert seen[1].dtype == dtype
    tolerance = 1e-6 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(
        seen[1].double(), by_hand(PLANS["pairs"], plain.detach().double()), rtol=tolerance, atol=tolerance
    )


def test_autocast_mixes_what_autocast_computes():
    net, plan = keyed(Mlp()).float(), PLANS["pairs"]
    x = inputs(net).float()
    with torch.autocast("cpu", torch.bfloat16), LatentMixing(net, "layers.2")(plan):
        got = net(x)
    assert got.dtype == torch.bfloat16
    expected = net(x, 2, lambda h: by_hand(plan, h))
    torch.testing.assert_close(got.float(), expected, rtol=5e-2, atol=5e-2)


# -- compiled ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def _fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@installed.traces_targets
@pytest.mark.usefixtures("_fresh_dynamo")
@pytest.mark.parametrize(("build", "places"), [(Mlp, ["layers.0", "layers.2"]), (Cnn, ["stem", "layer2"])])
def test_compiled_networks_are_mixed_too(build, places):
    for name in places:
        net = keyed(build()).eval()
        x, y = inputs(net), torch.arange(N) % 3
        latent, counter = LatentMixing(net, name), CompileCounter()
        compiled = torch.compile(net, backend=counter, fullgraph=True)
        outputs = []
        for step in range(4):
            plan = Mixup(1.0).plan(N, step=step)
            with latent(plan):
                got = compiled(x)
            with latent(plan):
                expected = net(x)
            close(got, expected)
            for a, b in zip(
                gradients(F.cross_entropy(got, plan.target(y)), net),
                gradients(F.cross_entropy(expected, plan.target(y)), net),
                strict=True,
            ):
                close(a, b)
            outputs.append(got)
        assert counter.frame_count == 1
        assert len({round(out.sum().item(), 9) for out in outputs}) == 4
        close(compiled(x), net(x))  # outside the block, by a graph of its own
        assert counter.frame_count == 2


@installed.traces_targets
@pytest.mark.usefixtures("_fresh_dynamo")
def test_batches_of_several_sizes_compile_once_more():
    net, counter = keyed(Mlp()), CompileCounter()
    latent = LatentMixing(net, "layers.2")
    compiled = torch.compile(net, backend=counter, fullgraph=True)
    for step, n in enumerate([16, 16, 7, 16, 11, 13, 9]):
        x = torch.randn(n, 5, generator=generator(step), dtype=torch.float64)
        plan = Mixup(1.0).plan(n, step=step)
        with latent(plan):
            got = compiled(x)
        close(got, net(x, 2, lambda h, plan=plan: by_hand(plan, h)))
    assert counter.frame_count == 2


@pytest.mark.usefixtures("_fresh_dynamo")
def test_a_hook_that_came_too_late_for_a_compiled_network_is_noticed():
    net = keyed(Mlp())
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    compiled(inputs(net))
    latent = LatentMixing(net, "layers.2")
    with pytest.raises(RuntimeError, match="build LatentMixing before its first call"), latent(PLANS["pairs"]):
        compiled(inputs(net))
