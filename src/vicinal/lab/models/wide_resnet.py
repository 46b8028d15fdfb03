"""Wide ResNet for 32 x 32 images: WRN-28-10, the paper's widest CIFAR model (section 3.2).

After Zagoruyko and Komodakis, "Wide Residual Models" (2016), and their szagoruyko/wide-residual-models.
WRN-28-10: 36,479,194 parameters for 10 classes; 5.24 G multiply-adds for an image of 32 x 32.
"""

from __future__ import annotations

from torch import Tensor, nn

from vicinal.lab.models.preact_resnet import PreActBlock


class WideResNet(nn.Module):
    """Three stages of pre-activation blocks, `layer1` to `layer3`, then BN, ReLU, average pooling and `linear`.

    Initial values are those of the source: normal with variance 2 / fan-out for convolutions, and scales of BN uniform in
    [0, 1], where most later versions have 1.

    Args:
        num_classes: width of the output.
        depth: number of convolutions, 6 n + 4 for n blocks in a stage.
        width: the stages have 16, 32 and 64 channels times this.
        dropout: probability to drop each value between the convolutions of a block; the paper uses none.

    Raises:
        ValueError: depth is not of that form.

    """

    def __init__(self, num_classes: int = 10, depth: int = 28, width: int = 10, dropout: float = 0.0) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 4, 6)
        if blocks < 1 or rest:
            raise ValueError(f"the depth of a wide ResNet is 10, 16, 22, 28, ... (6 n + 4), found {depth}")

        def stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            rest = [PreActBlock(outputs, outputs, 1, dropout) for _ in range(blocks - 1)]
            return nn.Sequential(PreActBlock(inputs, outputs, stride, dropout), *rest)

        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.layer1 = stage(16, 16 * width, 1)
        self.layer2 = stage(16 * width, 32 * width, 2)
        self.layer3 = stage(32 * width, 64 * width, 2)
        self.bn = nn.BatchNorm2d(64 * width)
        self.linear = nn.Linear(64 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits [n, num_classes] for images [n, 3, 32, 32]; other sizes are pooled whole, too."""
        x = self.conv1(x)  # [n, 16, 32, 32]
        x = self.layer1(x)  # [n, 16 width, 32, 32]
        x = self.layer2(x)  # [n, 32 width, 16, 16]
        x = self.layer3(x)  # [n, 64 width, 8, 8]
        x = self.bn(x).relu()
        return self.linear(x.mean((2, 3)))
