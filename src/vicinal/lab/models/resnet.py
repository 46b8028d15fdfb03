"""ResNets: the paper's ImageNet models (sections 3.1 and 3.5), and the small ResNet-20 for CIFAR.

After He et al., "Deep Residual Learning for Image Recognition" (2016); the stride in the 3x3 convolutions ("v1.5") and
the initial values after Goyal et al., "Accurate, Large Minibatch SGD" (2017), whose recipe the paper follows; groups after
Xie et al., "Aggregated Residual Transformations for Deep Neural Models" (2017).

Parameters, and multiply-adds for an image of 224 x 224 (1000 classes) or of 32 x 32 (10 classes):

    ResNet-50               25,557,032    4.09 G
    ResNet-101              44,549,160    7.80 G
    ResNeXt-101 32x4d       44,177,704    7.97 G
    ResNeXt-101 64x4d       83,455,272   15.46 G
    ResNet-20                  269,722    40.6 M
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution, each with BN, added to the shortcut before the last ReLU.

    Where the shape changes, the shortcut is a 1x1 convolution with BN.

    Args:
        inputs: channels of the input.
        hidden: channels of the 3x3 convolution.
        outputs: channels of the output.
        stride: of the 3x3 convolution and of the shortcut.
        groups: of the 3x3 convolution.

    """

    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Compute [n, outputs, h / stride, w / stride] for x [n, inputs, h, w]."""
        hidden = self.bn1(self.conv1(x)).relu()
        hidden = self.bn2(self.conv2(hidden)).relu()
        return (self.bn3(self.conv3(hidden)) + self.downsample(x)).relu()


class ResNet(nn.Module):
    """Four stages of bottlenecks, `layer1` to `layer4`, average pooling and `fc`; names of parameters as in torchvision.

    Args:
        num_classes: width of the output.
        blocks: number of blocks in each stage.
        groups: of the 3x3 convolutions; 1 is a ResNet, more a ResNeXt.
        group_width: channels of a group in the first stage, doubled in each later one.
        zero_init: start each block as the identity, by scale 0 in its last BN (Goyal et al., section 5.1).

    """

    def __init__(
        self,
        num_classes: int = 1000,
        blocks: Sequence[int] = (3, 4, 6, 3),
        groups: int = 1,
        group_width: int = 64,
        zero_init: bool = True,
    ) -> None:
        super().__init__()

        def stage(i: int) -> nn.Sequential:
            hidden, outputs = groups * group_width * 2**i, 256 * 2**i
            inputs, stride = (64, 1) if i == 0 else (outputs // 2, 2)
            rest = [Bottleneck(outputs, hidden, outputs, 1, groups) for _ in range(blocks[i] - 1)]
            return nn.Sequential(Bottleneck(inputs, hidden, outputs, stride, groups), *rest)

        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = (stage(i) for i in range(4))
        self.fc = nn.Linear(2048, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, Bottleneck) and zero_init:
                nn.init.zeros_(module.bn3.weight)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits [n, num_classes] for images [n, 3, 224, 224]; other sizes are pooled whole, too."""
        x = self.bn1(self.conv1(x)).relu()  # [n, 64, 112, 112]
        x = self.maxpool(x)  # [n, 64, 56, 56]
        x = self.layer1(x)  # [n, 256, 56, 56]
        x = self.layer2(x)  # [n, 512, 28, 28]
        x = self.layer3(x)  # [n, 1024, 14, 14]
        x = self.layer4(x)  # [n, 2048, 7, 7]
        return self.fc(x.mean((2, 3)))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BN, added to the shortcut before the last ReLU.

    The shortcut is He et al.'s option A, which has no parameters: every stride-th pixel, and channels of zeros where there
    are too few.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.added = outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Compute [n, outputs, h / stride, w / stride] for x [n, inputs, h, w]."""
        hidden = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        if self.stride != 1 or self.added:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))
        return (hidden + x).relu()


class CifarResNet(nn.Module):
    """Three stages of basic blocks, `layer1` to `layer3`, average pooling and `linear` (He et al., section 4.2).

    Args:
        num_classes: width of the output.
        depth: number of convolutions and the linear layer, 6 n + 2 for n blocks in a stage.

    Raises:
        ValueError: depth is not of that form.

    """

    def __init__(self, num_classes: int = 10, depth: int = 20) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if blocks < 1 or rest:
            raise ValueError(f"the depth of a CIFAR ResNet is 8, 14, 20, 26, ... (6 n + 2), found {depth}")

        def stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            rest = [BasicBlock(outputs, outputs) for _ in range(blocks - 1)]
            return nn.Sequential(BasicBlock(inputs, outputs, stride), *rest)

        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = stage(16, 16, 1)
        self.layer2 = stage(16, 32, 2)
        self.layer3 = stage(32, 64, 2)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits [n, num_classes] for images [n, 3, 32, 32]; other sizes are pooled whole, too."""
        x = self.bn1(self.conv1(x)).relu()  # [n, 16, 32, 32]
        x = self.layer1(x)  # [n, 16, 32, 32]
        x = self.layer2(x)  # [n, 32, 16, 16]
        x = self.layer3(x)  # [n, 64, 8, 8]
        return self.linear(x.mean((2, 3)))
