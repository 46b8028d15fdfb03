"""Manifold Mixup in networks of torchvision: between the blocks it is silent, within one it warns."""

import pytest
import torch

from vicinal import LatentMixing, MixPlan

models = pytest.importorskip("torchvision.models", reason="needs torchvision: make test-vision")

PLAN = MixPlan(torch.tensor([1, 0]), torch.full((2,), 0.7))


def run(net: torch.nn.Module, at: str) -> None:
    torch.random.manual_seed(0)
    latent = LatentMixing(net, at)
    with latent(PLAN):
        assert net(torch.randn(2, 3, 64, 64)).isfinite().all()
    latent.remove()


@pytest.fixture(scope="module")
def networks() -> dict[str, torch.nn.Module]:
    return {
        "resnet": models.resnet18(),
        "densenet": models.densenet121(),
        "vit": models.vit_b_16(image_size=64),
        "mobilenet": models.mobilenet_v3_small(),
    }


@pytest.mark.parametrize(
    ("name", "at"),
    [
        *(("resnet", at) for at in ("", "conv1", "layer1", "layer2", "layer2.0", "layer3.1", "avgpool", "fc")),
        *(("densenet", f"features.{at}") for at in ("denseblock1", "transition1", "denseblock2", "norm5")),
        *(("vit", at) for at in ("encoder", "encoder.layers.encoder_layer_1", "heads")),
        *(("mobilenet", f"features.{at}") for at in ("4", "5")),
    ],
)
def test_between_blocks_all_of_it_is_mixed(networks, name, at):
    run(networks[name], at)  # warnings are errors


@pytest.mark.filterwarnings("ignore:.*looks like a representation, too")  # the list that a dense layer is given
@pytest.mark.parametrize(
    ("name", "at", "around"),
    [
        ("resnet", "layer1.0.conv1", "layer1.0"),
        ("resnet", "layer2.0.downsample", "layer2.0"),
        ("resnet", "layer3.1.bn2", "layer3.1"),
        ("densenet", "features.denseblock1.denselayer1", "features.denseblock1"),
        ("densenet", "features.denseblock1.denselayer2", "features.denseblock1"),
        ("densenet", "features.denseblock2.denselayer3.conv1", "features.denseblock2"),
        ("vit", "encoder.layers.encoder_layer_1.mlp", "encoder.layers.encoder_layer_1"),
        ("vit", "encoder.layers.encoder_layer_1.self_attention", "encoder.layers.encoder_layer_1"),
        ("mobilenet", "features.5.block.2", "features.5"),
    ],
)
def test_within_a_block_it_warns(networks, name, at, around):
    with pytest.warns(UserWarning, match=f"past the module '{at}' is not mixed.*residual branch of '{around}'"):
        run(networks[name], at)
