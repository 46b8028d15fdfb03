"""The models: their sizes are the published ones, their values those of the definition, and any one can be built."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vicinal import LatentMixing, Mixup
from vicinal.lab.errors import UserError
from vicinal.lab.models import MODELS, build
from vicinal.lab.models.densenet import DenseNet
from vicinal.lab.models.preact_resnet import PreActResNet18
from vicinal.lab.models.resnet import CifarResNet, ResNet
from vicinal.lab.models.small import SmallCNN
from vicinal.lab.models.speech import VGG11, LeNet
from vicinal.lab.models.wide_resnet import WideResNet

CIFAR, IMAGENET, SPEECH = (3, 32, 32), (3, 224, 224), (1, 160, 101)

# one small model of each kind, the shape of its input, and the modules before which it may be mixed
LAYERS3, LAYERS4 = ("layer1", "layer2", "layer3"), ("layer1", "layer2", "layer3", "layer4")
KINDS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int], tuple[str, ...]]] = {
    "preact": (PreActResNet18, (3, 16, 16), (*LAYERS4, "linear")),  # a quarter of the work of 32 x 32
    "wide": (lambda: WideResNet(10, depth=10, width=2), CIFAR, (*LAYERS3, "linear")),
    "dense": (lambda: DenseNet(10, depth=16, growth=4), CIFAR, (*LAYERS3, "linear")),
    "resnet": (lambda: ResNet(10, (1, 2, 1, 1)), (3, 64, 64), (*LAYERS4, "fc")),
    "resnext": (lambda: ResNet(10, (1, 2, 1, 1), groups=32, group_width=4), (3, 64, 64), (*LAYERS4, "fc")),
    "cifar": (lambda: CifarResNet(10, depth=14), CIFAR, (*LAYERS3, "linear")),
    "small": (SmallCNN, CIFAR, (*LAYERS4, "linear")),
    "lenet": (lambda: LeNet(10, (40, 37)), (1, 40, 37), ("conv1", "conv2", "fc1", "fc2")),
    "vgg": (lambda: VGG11(10, (65, 32)), (1, 65, 32), ("features", "fc1", "fc2")),
}
EVERY = pytest.mark.parametrize("kind", KINDS)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def keyed(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Build a float64 model whose parameters and BN statistics are drawn from its own key."""
    with torch.device("meta"):
        net = make().double()
    net.to_empty(device="cpu")
    g = generator(seed)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if value.dtype != torch.float64:
                value.zero_()  # the count of batches
            elif value.ndim > 1:
                value.normal_(0, math.sqrt(2 / value[0].numel()), generator=g)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 1.5, generator=g)
            elif name.endswith("weight"):
                value.uniform_(-0.5, 1.5, generator=g)  # of both signs: pooling before BN is not pooling after it
            else:
                value.normal_(0, 0.1, generator=g)
    return net


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def multiply_adds(net: nn.Module, shape: tuple[int, ...]) -> int:
    """Of an input on the device meta: nothing is computed."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        net.eval()(torch.empty(1, *shape))
    return counter.get_total_flops() // 2


# sizes: published by the sources named, and by hand

# classes; parameters; millions of multiply-adds, how far ours may be from them, and who published them
# PreAct: thop, which counts BN as well. pytorchcv counts BN, ReLU and pooling as well; its ResNet-20 has 1x1 shortcuts.
PUBLISHED = {
    "preact-resnet-18": (10, 11_171_146, 556.52, 0.003, "thop, of kuangliu's"),
    "wrn-28-10": (10, 36_479_194, 5246.98, 0.001, "pytorchcv"),
    "densenet-bc-190-40": (10, 25_624_430, 9400.45, 0.011, "pytorchcv"),
    "resnet-20": (10, 269_722, 41.29, 0.02, "pytorchcv"),
    "resnet-50": (1000, 25_557_032, 4089, 1.3e-4, "torchvision, 4 digits"),
    "resnet-101": (1000, 44_549_160, 7801, 1e-4, "torchvision, 4 digits"),
    "resnext-101-32x4d": (1000, 44_177_704, 8000, 0.007, "timm, 1 decimal of 8.0 G"),
    "resnext-101-64x4d": (1000, 83_455_272, 15460, 4e-4, "torchvision, 4 digits"),
}


@cache
def size(name: str) -> tuple[int, int]:
    """Return the parameters and multiply-adds of a model of the paper."""
    cifar = name.startswith("small") or name == "preact-resnet-18-narrow"
    classes = PUBLISHED[name][0] if name in PUBLISHED else 10 if cifar else 30
    with torch.device("meta"):
        net = build(name, classes)
    return parameters(net), multiply_adds(net, {10: CIFAR, 30: SPEECH, 1000: IMAGENET}[classes])


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_the_published_ones(name: str) -> None:
    _, published, millions, tolerance, _ = PUBLISHED[name]
    count, operations = size(name)
    assert count == published
    assert operations / 1e6 == pytest.approx(millions, rel=tolerance)


def conv(inputs: int, outputs: int, side: int) -> int:
    return inputs * outputs * side**2


def bn(channels: int) -> int:
    return 2 * channels


def by_hand_preact(classes: int) -> int:
    total = conv(3, 64, 3)
    for inputs, outputs in ((64, 64), (64, 128), (128, 256), (256, 512)):
        total += bn(inputs) + 3 * bn(outputs) + conv(inputs, outputs, 3) + 3 * conv(outputs, outputs, 3)
        total += conv(inputs, outputs, 1) if inputs != outputs else 0
    return total + 512 * classes + classes


def by_hand_wide(classes: int, depth: int, width: int) -> int:
    n = (depth - 4) // 6
    total, inputs = conv(3, 16, 3), 16
    for outputs in (16 * width, 32 * width, 64 * width):
        total += bn(inputs) + (2 * n - 1) * bn(outputs) + conv(inputs, outputs, 3)
        total += (2 * n - 1) * conv(outputs, outputs, 3) + (conv(inputs, outputs, 1) if inputs != outputs else 0)
        inputs = outputs
    return total + bn(inputs) + inputs * classes + classes


def by_hand_dense(classes: int, depth: int, growth: int) -> int:
    channels = 2 * growth
    total = conv(3, channels, 3)
    for stage in range(3):
        if stage:
            total += bn(channels) + conv(channels, channels // 2, 1)
            channels //= 2
        for _ in range((depth - 4) // 6):
            total += bn(channels) + conv(channels, 4 * growth, 1) + bn(4 * growth) + conv(4 * growth, growth, 3)
            channels += growth
    return total + bn(channels) + channels * classes + classes


def test_sizes_are_those_counted_by_hand() -> None:
    with torch.device("meta"):
        for classes in (10, 100):
            assert parameters(PreActResNet18(classes)) == by_hand_preact(classes)
            assert parameters(WideResNet(classes)) == by_hand_wide(classes, 28, 10)
            assert parameters(DenseNet(classes)) == by_hand_dense(classes, 190, 40)
        assert parameters(WideResNet(7, depth=16, width=1)) == by_hand_wide(7, 16, 1)
        assert parameters(DenseNet(7, depth=22, growth=6)) == by_hand_dense(7, 22, 6)
        # the speech models: convolutions have biases
        lenet, vgg = LeNet(), VGG11()
        assert lenet.fc1.in_features == LeNet(size=(161, 101)).fc1.in_features == 16280  # as in GCommandsPytorch
        assert vgg.fc1.in_features == VGG11(size=(161, 101)).fc1.in_features == 7680
        assert parameters(lenet) == (25 * 20 + 20) + (25 * 400 + 20) + (16280 * 1000 + 1000) + (1000 * 30 + 30)
        widths = [1, 64, 128, 256, 256, 512, 512, 512, 512]
        convs = sum(9 * a * b + b + 2 * b for a, b in pairwise(widths))
        assert parameters(vgg) == convs + (7680 * 512 + 512) + (512 * 30 + 30)
        assert parameters(SmallCNN()) == 9 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 128) + 2 * 352 + 128 * 10 + 10
    places = [156 * 97, 74 * 44]  # of the convolutions' outputs
    assert multiply_adds(lenet, SPEECH) == 25 * 20 * places[0] + 25 * 400 * places[1] + 16280 * 1000 + 1000 * 30


@pytest.mark.parametrize("name", MODELS)
def test_the_sizes_in_the_docstring_of_each_file_are_true(name: str) -> None:
    count, operations = size(name)
    factory = MODELS[name]
    text = sys.modules[getattr(factory, "func", factory).__module__].__doc__ or ""
    assert f"{count:,}" in text
    assert f"{operations / 1e9:.2f} G" in text or f"{operations / 1e6:.1f} M" in text


# values: against the definition, written out


class State:
    """A state dict in eval mode: the convolutions, BN and linear layers of a model, by name."""

    def __init__(self, net: nn.Module) -> None:
        self.values = net.state_dict()

    def conv(self, name: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.values[f"{name}.weight"]
        return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, groups)

    def bn(self, name: str, x: Tensor) -> Tensor:
        mean, var, scale, shift = (
            self.values[f"{name}.{key}"][:, None, None] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.values[f"{name}.weight"].T + self.values[f"{name}.bias"]

    def preact_block(self, name: str, x: Tensor, stride: int) -> Tensor:
        active = self.bn(f"{name}.bn1", x).relu()
        hidden = self.conv(f"{name}.conv1", active, stride)
        hidden = self.conv(f"{name}.conv2", self.bn(f"{name}.bn2", hidden).relu())
        if f"{name}.shortcut.weight" in self.values:
            return hidden + self.conv(f"{name}.shortcut", active, stride)
        return hidden + x

    def bottleneck(self, name: str, x: Tensor, stride: int, groups: int) -> Tensor:
        hidden = self.bn(f"{name}.bn1", self.conv(f"{name}.conv1", x)).relu()
        hidden = self.bn(f"{name}.bn2", self.conv(f"{name}.conv2", hidden, stride, groups)).relu()
        hidden = self.bn(f"{name}.bn3", self.conv(f"{name}.conv3", hidden))
        if f"{name}.downsample.0.weight" in self.values:
            x = self.bn(f"{name}.downsample.1", self.conv(f"{name}.downsample.0", x, stride))
        return (hidden + x).relu()


def by_definition_preact(s: State, x: Tensor) -> Tensor:
    x = s.conv("conv1", x)
    for layer, stride in ((1, 1), (2, 2), (3, 2), (4, 2)):
        x = s.preact_block(f"layer{layer}.0", x, stride)
        x = s.preact_block(f"layer{layer}.1", x, 1)
    return s.linear("linear", F.adaptive_avg_pool2d(x, 1).flatten(1))


def by_definition_wide(s: State, x: Tensor) -> Tensor:
    x = s.conv("conv1", x)
    for layer, stride in ((1, 1), (2, 2), (3, 2)):
        x = s.preact_block(f"layer{layer}.0", x, stride)
    return s.linear("linear", F.avg_pool2d(s.bn("bn", x).relu(), 8).flatten(1))


def by_definition_dense(s: State, x: Tensor) -> Tensor:
    x = s.conv("conv1", x)
    for layer in (1, 2, 3):
        if layer > 1:
            x = F.avg_pool2d(s.conv(f"layer{layer}.0.conv", s.bn(f"layer{layer}.0.bn", x).relu()), 2)
        for i in range(2):
            name = f"layer{layer}.{i + (layer > 1)}"
            hidden = s.conv(f"{name}.conv1", s.bn(f"{name}.bn1", x).relu())
            x = torch.cat([x, s.conv(f"{name}.conv2", s.bn(f"{name}.bn2", hidden).relu())], 1)
    return s.linear("linear", F.avg_pool2d(s.bn("bn", x).relu(), 8).flatten(1))


def by_definition_resnet(s: State, x: Tensor, groups: int = 1) -> Tensor:
    x = F.max_pool2d(s.bn("bn1", s.conv("conv1", x, 2)).relu(), 3, 2, 1)
    for name, stride in (("1.0", 1), ("2.0", 2), ("2.1", 1), ("3.0", 2), ("4.0", 2)):
        x = s.bottleneck(f"layer{name}", x, stride, groups)
    return s.linear("fc", F.avg_pool2d(x, 2).flatten(1))


def by_definition_cifar(s: State, x: Tensor) -> Tensor:
    x = s.bn("bn1", s.conv("conv1", x)).relu()
    for layer in (1, 2, 3):
        for i in (0, 1):
            name, stride = f"layer{layer}.{i}", 2 if layer > 1 and i == 0 else 1
            hidden = s.bn(f"{name}.bn1", s.conv(f"{name}.conv1", x, stride)).relu()
            hidden = s.bn(f"{name}.bn2", s.conv(f"{name}.conv2", hidden))
            if stride == 2:
                x = F.avg_pool2d(x, 1, 2)
                x = torch.cat([x, 0 * x], 1)
            x = (hidden + x).relu()
    return s.linear("linear", F.avg_pool2d(x, 8).flatten(1))


def by_definition_small(s: State, x: Tensor) -> Tensor:
    for layer in (1, 2, 3, 4):
        x = s.bn(f"layer{layer}.2", F.max_pool2d(s.conv(f"layer{layer}.0", x), 2)).relu()
    return s.linear("linear", F.avg_pool2d(x, 2).flatten(1))


def by_definition_lenet(s: State, x: Tensor) -> Tensor:
    for i in (1, 2):
        x = F.conv2d(x, s.values[f"conv{i}.weight"], s.values[f"conv{i}.bias"])
        x = F.max_pool2d(x, 2).relu()
    return s.linear("fc2", s.linear("fc1", x.flatten(1)).relu())


def by_definition_vgg(s: State, x: Tensor) -> Tensor:
    at = 0
    for convs in (1, 1, 2, 2, 2):
        for _ in range(convs):
            hidden = s.conv(f"features.{at}", x) + s.values[f"features.{at}.bias"][:, None, None]
            x = s.bn(f"features.{at + 1}", hidden).relu()
            at += 3
        x = F.max_pool2d(x, 2)
        at += 1
    return s.linear("fc2", s.linear("fc1", x.flatten(1)))


DEFINITIONS: dict[str, Callable[[State, Tensor], Tensor]] = {
    "preact": by_definition_preact,
    "wide": by_definition_wide,
    "dense": by_definition_dense,
    "resnet": by_definition_resnet,
    "resnext": lambda s, x: by_definition_resnet(s, x, 32),
    "cifar": by_definition_cifar,
    "small": by_definition_small,
    "lenet": by_definition_lenet,
    "vgg": by_definition_vgg,
}


@EVERY
def test_values_are_those_of_the_definition(kind: str) -> None:
    make, shape, _ = KINDS[kind]
    net = keyed(make).eval()
    x = randn(3, *shape)
    with torch.no_grad():
        out, expected = net(x), DEFINITIONS[kind](State(net), x)
        assert out.std() > 0.05  # it says something
        torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
        assert torch.equal(net(x), out)  # in eval mode nothing is drawn or kept
        torch.testing.assert_close(net(x[1:2]), out[1:2], rtol=1e-10, atol=1e-10)  # nor seen of the other examples


def transformers_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict of transformers' ResNet under the names here."""
    named = {}
    for key, value in state.items():
        for theirs, ours in (
            ("resnet.embedder.embedder.convolution", "conv1"),
            ("resnet.embedder.embedder.normalization", "bn1"),
            ("classifier.1", "fc"),
            ("shortcut.convolution", "downsample.0"),
            ("shortcut.normalization", "downsample.1"),
            *((f"resnet.encoder.stages.{i}.layers", f"layer{i + 1}") for i in range(4)),
            *((f"layer.{i}.convolution", f"conv{i + 1}") for i in range(3)),
            *((f"layer.{i}.normalization", f"bn{i + 1}") for i in range(3)),
        ):
            key = key.replace(theirs, ours)
        named[key] = value
    return named


@pytest.mark.parametrize(("name", "depths"), [("resnet-50", [3, 4, 6, 3]), ("resnet-101", [3, 4, 23, 3])])
def test_values_are_those_of_transformers(name: str, depths: list[int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from transformers import ResNetConfig, ResNetForImageClassification
        except ImportError as error:
            pytest.skip(f"transformers cannot be imported ({error})")
        config = ResNetConfig(depths=depths, num_labels=1000)
        theirs = keyed(lambda: ResNetForImageClassification(config))
    ours = keyed(lambda: build(name, 1000), seed=1)
    ours.load_state_dict(transformers_names(theirs.state_dict()))
    x = randn(2, 3, 96, 96)
    with torch.no_grad():
        for training in (False, True):  # last, because it moves the statistics
            expected = theirs.train(training)(x).logits
            out = ours.train(training)(x)
            assert (out - expected).abs().max() <= 1e-10 * expected.abs().max()


# training


@EVERY
def test_gradients_reach_every_parameter(kind: str) -> None:
    make, shape, _ = KINDS[kind]
    net = keyed(make).train()
    F.cross_entropy(net(randn(4, *shape)), torch.arange(4)).backward()
    dead = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # what comes after dropout or ReLU may be zero in places, never as a whole
    assert not dead


@EVERY
def test_channels_last_is_the_same_and_bfloat16_nearly(kind: str) -> None:
    make, shape, _ = KINDS[kind]
    x, y = randn(8, *shape).float(), torch.arange(8)
    layouts = []

    def run(layout: torch.memory_format, half: bool) -> tuple[Tensor, Tensor]:
        net = keyed(make).float().to(memory_format=layout).train()
        for module in net.modules():
            if isinstance(module, (nn.Dropout, nn.Dropout2d)):
                module.p = 0.0  # the same model every time
            if isinstance(module, nn.Conv2d):
                module.register_forward_pre_hook(
                    lambda _, inputs: layouts.append(inputs[0].is_contiguous(memory_format=layout))
                )
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = net(x.contiguous(memory_format=layout))
        F.cross_entropy(out.float(), y).backward()
        return out.detach().float(), torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])

    plain, plain_gradient = run(torch.contiguous_format, False)
    for half, error, alike in ((False, 1e-4, 0.9999), (True, 0.05, 0.9)):
        out, gradient = run(torch.channels_last, half)
        assert (out - plain).norm() < error * plain.norm()
        assert F.cosine_similarity(gradient, plain_gradient, 0) > alike
    assert all(layouts)  # no layer loses the layout, which is most of the speed


def test_dropout_is_between_the_convolutions_and_in_training_alone() -> None:
    net, without = keyed(lambda: PreActResNet18(dropout=0.7)), keyed(PreActResNet18)
    x = randn(2, *CIFAR)
    assert torch.equal(net.eval()(x), without.eval()(x))
    seen = {}
    for name, module in net.named_modules():
        module.register_forward_hook(lambda _, inputs, out, name=name: seen.update({name: (inputs[0], out)}))
    net.train()(x)
    layers = [name for name, module in net.named_modules() if isinstance(module, nn.Dropout)]
    assert len(layers) == 8  # one in each block
    for name in layers:
        before, after = seen[name]
        block = name.removesuffix("dropout")
        assert torch.equal(before, seen[f"{block}bn2"][1].relu())
        assert after is seen[f"{block}conv2"][0]
        kept = after != 0
        torch.testing.assert_close(after[kept], before[kept] / 0.3)
        assert kept.sum() / (before > 0).sum() == pytest.approx(0.3, abs=0.03)
    for same in (without.train(), keyed(lambda: WideResNet(depth=10, width=1)).train()):
        assert torch.equal(same(x), same(x))  # no dropout unless asked for


def test_lenet_drops_in_training_alone() -> None:
    net = keyed(lambda: LeNet(5, (40, 37)))
    x = randn(2, 1, 40, 37)
    assert not torch.equal(net.train()(x), net(x))
    assert torch.equal(net.eval()(x), net(x))


@pytest.mark.parametrize("size", [(160, 101), (161, 101), (32, 32), (33, 64)])
def test_speech_models_take_spectrograms_of_any_size(size: tuple[int, int]) -> None:
    with torch.device("meta"):
        for model in (LeNet, VGG11):
            assert model(12, size)(torch.empty(3, 1, *size)).shape == (3, 12)


def test_initial_values_are_those_of_the_sources() -> None:
    wide = WideResNet(depth=10, width=4)
    scales = wide.layer3[0].bn2.weight.detach()
    assert scales.min() >= 0
    assert scales.max() <= 1
    assert scales.mean() == pytest.approx(0.5, abs=0.1)
    for weight in (wide.layer3[0].conv2.weight, DenseNet(depth=10).layer2[1].conv2.weight):
        fan_out = weight.shape[0] * 9
        assert weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
    block = ResNet(blocks=(2, 1, 1, 1)).layer1[1]
    x = randn(2, 256, 4, 4).float()
    torch.testing.assert_close(block(x), x.relu())  # each block starts as the identity
    assert not torch.equal(ResNet(blocks=(2, 1, 1, 1), zero_init=False).layer1[1](x), x.relu())


# latent mixing


@EVERY
def test_latent_mixing_is_the_mix_of_what_enters_the_stage(kind: str) -> None:
    make, shape, places = KINDS[kind]
    net = keyed(make).eval()
    x = randn(3, *shape)
    plan = Mixup(1.0).plan(3, step=1)
    entered: dict[str, Tensor] = {}
    hooks = [
        net.get_submodule(place).register_forward_pre_hook(
            lambda _, inputs, place=place: entered.update({place: inputs[0]})
        )
        for place in places
    ]
    with torch.no_grad():
        plain = net(x)
        for hook in hooks:
            hook.remove()
        for place in places:
            mixed = plan(entered[place])
            hook = net.get_submodule(place).register_forward_pre_hook(lambda _, inputs, mixed=mixed: (mixed,))
            expected = net(x)
            hook.remove()
            latent = LatentMixing(net, place)
            with latent(plan):
                out = net(x)
            latent.remove()
            assert torch.equal(out, expected)
            # from the last layer on, the model is linear; and VGG's two last have nothing between
            linear = place in ("linear", "fc", "fc2") or (kind, place) == ("vgg", "fc1")
            assert torch.allclose(out, plan(plain), rtol=1e-5, atol=1e-5) == linear
        assert torch.equal(net(x), plain)  # outside the blocks the model is what it was


def test_mixing_before_the_pooling_and_before_the_linear_layer_are_one() -> None:
    net = keyed(PreActResNet18).eval()
    x = randn(4, *CIFAR)
    plan = Mixup(1.0).plan(4, step=1)
    latent = LatentMixing(net, "linear")
    with torch.no_grad():
        with latent(plan):
            out = net(x)
        net.get_submodule("layer4").register_forward_hook(lambda _, inputs, features: plan(features))
        torch.testing.assert_close(net(x), out)


# building


def test_every_name_builds_its_model() -> None:
    with torch.device("meta"):
        for name in MODELS:
            net = build(name, 7)
            last = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
            assert last.out_features == 7, name
        assert build("preact-resnet-18", 10, dropout=0.5).layer1[0].dropout.p == 0.5
        assert parameters(build("wrn-28-10", 10, depth=16, width=4)) == by_hand_wide(10, 16, 4)


@pytest.mark.parametrize(
    ("name", "classes", "options", "sentence"),
    [
        ("wrn-28-1", 10, {}, "there is no model 'wrn-28-1'; did you mean 'wrn-28-10'\\?"),
        ("PreAct_ResNet18", 10, {}, "did you mean 'preact-resnet-18'\\?"),
        ("transformer", 10, {}, "the models are preact-resnet-18, .*, vgg-11-narrow, and any package.module:factory"),
        ("", 10, {}, "the models are"),
        ("small", 0, {}, "1 class or more, found num_classes=0"),
        ("small", 10, {"depth": 3}, "called with num_classes, depth, but it takes num_classes"),
        ("wrn-28-10", 10, {"depth": 27}, r"'wrn-28-10': the depth of a wide ResNet is .*\(6 n \+ 4\), found 27"),
        ("densenet-bc-190-40", 10, {"depth": 5}, r"\(6 n \+ 4\), found 5"),
        ("densenet-bc-190-40", 10, {"compression": 1.5}, r"compression .* in \(0, 1\], found 1.5"),
        ("resnet-20", 10, {"depth": 21}, r"\(6 n \+ 2\), found 21"),
        ("preact-resnet-18", 10, {"dropout": 1.5}, "'preact-resnet-18': dropout probability"),
        ("lenet", 10, {"size": (15, 40)}, "16 x 16 or more, found 15 x 40"),
        ("vgg-11", 10, {"size": (40, 31)}, "32 x 32 or more, found 40 x 31"),
        (":Net", 10, {}, "write package.module:factory"),
        ("net:", 10, {}, "write package.module:factory"),
        ("nets/net.py:Net", 10, {}, "write package.module:factory"),
        ("no_such_package.nets:Net", 10, {}, "there is no module 'no_such_package', .* install it, or set PYTHONPATH"),
        ("torch.no_such_module:Net", 10, {}, "there is no module 'torch.no_such_module'"),
    ],
)
def test_what_cannot_be_built_is_said(name: str, classes: int, options: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        build(name, classes, **options)


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's module."""
    name = f"nets_of_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Linear):\n"
        "    def __init__(self, num_classes, width=3):\n"
        "        super().__init__(width, num_classes)\n"
        "    @classmethod\n"
        "    def wide(cls, num_classes): return cls(num_classes, 30)\n"
        "def text(num_classes): return 'net'\n"
        "def fixed(): return nn.Identity()\n"
        "number = 3\n"
    )
    (tmp_path / f"{name}_broken.py").write_text("import no_such_package_here\n")
    (tmp_path / f"{name}_raises.py").write_text("raise RuntimeError('no GPU')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_a_model_of_ones_own_is_built(nets: str) -> None:
    assert build(f"{nets}:Net", 4).weight.shape == (4, 3)
    assert build(f"{nets}:Net", 4, width=5).weight.shape == (4, 5)
    assert build(f"{nets}:Net.wide", 4).weight.shape == (4, 30)


@pytest.mark.parametrize(
    ("attribute", "sentence"),
    [
        (":net", "has no 'net'; did you mean .*:Net\\?"),
        (":text", "gave a str; it must give a torch.nn.Module"),
        (":number", "is a int; it must be a function or class"),
        (":fixed", "called with num_classes, but it takes nothing"),
        ("_broken:Net", "importing .* failed \\(ModuleNotFoundError: No module named 'no_such_package_here'\\)"),
        ("_raises:Net", "importing .* failed \\(RuntimeError: no GPU\\)"),
    ],
)
def test_what_is_wrong_with_a_model_of_ones_own_is_said(nets: str, attribute: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        build(f"{nets}{attribute}", 4)
