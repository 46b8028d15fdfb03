"""DenseNet-BC for 32 x 32 images: depth 190 and growth rate 40, as in the paper's section 3.2 and figure 3b.

After Huang et al., "Densely Connected Convolutional Models" (2017), and andreasveit/densenet-pytorch, which the paper
names. DenseNet-BC-190-40: 25,624,430 parameters for 10 classes; 9.30 G multiply-adds for an image of 32 x 32.
Training keeps 350 MB of float32 values for each image of a batch: 45 GB for the 128 of the paper.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DenseLayer(nn.Module):
    """BN, ReLU, 1x1 convolution to 4 growth channels, BN, ReLU, 3x3 convolution to `growth`; joined to the input."""

    def __init__(self, inputs: int, growth: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Compute [n, inputs + growth, h, w] for x [n, inputs, h, w]."""
        new = self.dropout(self.conv1(self.bn1(x).relu()))
        new = self.dropout(self.conv2(self.bn2(new).relu()))
        return torch.cat([x, new], 1)


class Transition(nn.Module):
    """BN, ReLU, 1x1 convolution, and average pooling to half the height and width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Compute [n, outputs, h / 2, w / 2] for x [n, inputs, h, w]."""
        return self.pool(self.conv(self.bn(x).relu()))


class DenseNet(nn.Module):
    """Three dense stages, `layer1` to `layer3`, then BN, ReLU, average pooling and `linear`.

    `layer2` and `layer3` open with the transition into them. Initial values of convolutions are normal with variance
    2 / fan-out.

    Args:
        num_classes: width of the output.
        depth: number of convolutions and the linear layer, 6 n + 4 for n layers in a stage.
        growth: channels that each layer adds; the first convolution gives twice as many.
        compression: share of the channels that a transition keeps.
        dropout: probability to drop each value after each convolution of a layer; the paper uses none.

    Raises:
        ValueError: depth is not of that form, or compression not in (0, 1].

    """

    def __init__(
        self,
        num_classes: int = 10,
        depth: int = 190,
        growth: int = 40,
        compression: float = 0.5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers, rest = divmod(depth - 4, 6)
        if layers < 1 or rest:
            raise ValueError(f"the depth of a DenseNet-BC is 10, 16, 22, ..., 190, ... (6 n + 4), found {depth}")
        if not 0 < compression <= 1:
            raise ValueError(f"compression is the share of channels kept, in (0, 1], found {compression}")
        added = layers * growth
        first = 2 * growth
        second = int((first + added) * compression)
        third = int((second + added) * compression)

        def stage(inputs: int) -> list[nn.Module]:
            return [DenseLayer(inputs + i * growth, growth, dropout) for i in range(layers)]

        self.conv1 = nn.Conv2d(3, first, 3, padding=1, bias=False)
        self.layer1 = nn.Sequential(*stage(first))
        self.layer2 = nn.Sequential(Transition(first + added, second), *stage(second))
        self.layer3 = nn.Sequential(Transition(second + added, third), *stage(third))
        self.bn = nn.BatchNorm2d(third + added)
        self.linear = nn.Linear(third + added, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits [n, num_classes] for images [n, 3, 32, 32]; other sizes are pooled whole, too."""
        x = self.conv1(x)  # [n, 80, 32, 32]; the channels here are those of depth 190 and growth 40
        x = self.layer1(x)  # [n, 1320, 32, 32]
        x = self.layer2(x)  # [n, 1900, 16, 16]
        x = self.layer3(x)  # [n, 2190, 8, 8]
        x = self.bn(x).relu()
        return self.linear(x.mean((2, 3)))
