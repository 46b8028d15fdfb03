"""A small model for 32 x 32 images that a CPU trains fast; it is not in the paper.

242,474 parameters for 10 classes; 12.7 M multiply-adds for an image of 32 x 32. In bfloat16 and channels_last, one core
trains an epoch of CIFAR-10 in about 20 seconds. Two narrow ones, for the study of when mixup helps: half as wide, 61,338
parameters and 3.4 M multiply-adds; an eighth as wide, 4,110 parameters and 0.3 M multiply-adds.
"""

from __future__ import annotations

from torch import Tensor, nn


class SmallCNN(nn.Module):
    """3x3 convolutions to w, 2w, 4w and 4w channels, `layer1` to `layer4`, with pooling, BN and ReLU; then `linear`.

    The pooling is before BN and ReLU, which then have a quarter of the values to work on.

    Args:
        num_classes: width of the output.
        channels: of the images.
        width: channels w of the first stage.

    """

    def __init__(self, num_classes: int = 10, channels: int = 3, width: int = 32) -> None:
        super().__init__()

        def stage(inputs: int, outputs: int) -> nn.Sequential:
            conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            return nn.Sequential(conv, nn.MaxPool2d(2), nn.BatchNorm2d(outputs), nn.ReLU())

        self.layer1 = stage(channels, width)
        self.layer2 = stage(width, 2 * width)
        self.layer3 = stage(2 * width, 4 * width)
        self.layer4 = stage(4 * width, 4 * width)
        self.linear = nn.Linear(4 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits [n, num_classes] for images [n, channels, 32, 32]; other sizes of 16 x 16 and more, too."""
        x = self.layer1(x)  # [n, 32, 16, 16]
        x = self.layer2(x)  # [n, 64, 8, 8]
        x = self.layer3(x)  # [n, 128, 4, 4]
        x = self.layer4(x)  # [n, 128, 2, 2]
        return self.linear(x.mean((2, 3)))
