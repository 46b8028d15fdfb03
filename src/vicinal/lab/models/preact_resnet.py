"""Pre-activation ResNet-18 for 32 x 32 images: the paper's main CIFAR model (sections 3.2, 3.4 and 3.8).

After kuangliu/pytorch-cifar, models/preact_resnet.py, which the paper names, and He et al., "Identity Mappings in Deep
Residual Models" (2016). Unlike He et al., it has no BN and ReLU after the last block.
11,171,146 parameters for 10 classes; 555.4 M multiply-adds for an image of 32 x 32. The narrow one, for a CPU and not in
the paper: 176,050 parameters and 8.9 M multiply-adds.
"""

from __future__ import annotations

from torch import Tensor, nn


class PreActBlock(nn.Module):
    """Two 3x3 convolutions, each after BN and ReLU, added to the shortcut.

    Where the shape changes, the shortcut is a 1x1 convolution of relu(bn1(x)); elsewhere it is x itself.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        stride: of the first convolution and of the shortcut.
        dropout: probability to drop each value after the ReLU between the convolutions (section 3.4).

    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same = stride == 1 and inputs == outputs
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Compute [n, outputs, h / stride, w / stride] for x [n, inputs, h, w]."""
        active = self.bn1(x).relu()
        shortcut = x if self.shortcut is None else self.shortcut(active)
        hidden = self.bn2(self.conv1(active)).relu()
        return self.conv2(self.dropout(hidden)) + shortcut


class PreActResNet18(nn.Module):
    """Four stages of two blocks, `layer1` to `layer4`, and `linear`.

    These five names are the paper's five places of latent mixing. Its fifth is before the average pooling; mixing before
    `linear` is the same, because a mean of mixed values is the mix of their means.

    Args:
        num_classes: width of the output.
        dropout: as in each block; the paper tries 0.5, 0.7, 0.8 and 0.9 in section 3.4, and 0 elsewhere.
        width: channels of the first stage; each of the others has twice those of the one before it.

    """

    def __init__(self, num_classes: int = 10, dropout: float = 0.0, width: int = 64) -> None:
        super().__init__()

        def stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                PreActBlock(inputs, outputs, stride, dropout), PreActBlock(outputs, outputs, 1, dropout)
            )

        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.layer1 = stage(width, width, 1)
        self.layer2 = stage(width, 2 * width, 2)
        self.layer3 = stage(2 * width, 4 * width, 2)
        self.layer4 = stage(4 * width, 8 * width, 2)
        self.linear = nn.Linear(8 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits [n, num_classes] for images [n, 3, 32, 32]; other sizes are pooled whole, too."""
        x = self.conv1(x)  # [n, 64, 32, 32]
        x = self.layer1(x)  # [n, 64, 32, 32]
        x = self.layer2(x)  # [n, 128, 16, 16]
        x = self.layer3(x)  # [n, 256, 8, 8]
        x = self.layer4(x)  # [n, 512, 4, 4]
        return self.linear(x.mean((2, 3)))
