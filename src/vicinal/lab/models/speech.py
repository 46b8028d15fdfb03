"""LeNet and VGG-11 for spectrograms of spoken commands (section 3.3).

After adiyoss/GCommandsPytorch, in all likelihood the code that the paper used: it names only the models. That code feeds
161 x 101 values, the paper 160 x 101; both give the linear layers the same width. Its models end in log-softmax, which
the cross entropy makes no difference of; these give logits.

Parameters for 30 classes, and multiply-adds for a spectrogram of 160 x 101:

    LeNet      16,321,570     56.4 M
    VGG-11     13,172,894     2.33 G

VGG-11 of an eighth of the width, for a CPU and not in the paper, has 208,558 and 37.4 M.
"""

from __future__ import annotations

from torch import Tensor, nn


class LeNet(nn.Module):
    """Two 5x5 convolutions of 20 channels, each pooled by 2, and two linear layers; dropout 0.5 before and between.

    Args:
        num_classes: width of the output.
        size: height and width of the spectrograms: frequencies, frames.

    Raises:
        ValueError: the spectrograms are too small.

    """

    def __init__(self, num_classes: int = 30, size: tuple[int, int] = (160, 101)) -> None:
        super().__init__()
        height, width = (((side - 4) // 2 - 4) // 2 for side in size)
        if height < 1 or width < 1:
            raise ValueError(f"LeNet needs spectrograms of 16 x 16 or more, found {size[0]} x {size[1]}")
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 20, 5)
        self.dropout2d = nn.Dropout2d(0.5)  # whole channels
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(20 * height * width, 1000)
        self.dropout = nn.Dropout(0.5)
        self.fc2 = nn.Linear(1000, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits [n, num_classes] for spectrograms [n, 1, height, width]."""
        x = self.pool(self.conv1(x)).relu()  # [n, 20, 78, 48] of 160 x 101
        x = self.pool(self.dropout2d(self.conv2(x))).relu()  # [n, 20, 37, 22]
        x = self.fc1(x.flatten(1)).relu()  # [n, 1000]
        return self.fc2(self.dropout(x))


class VGG11(nn.Module):
    """Eight 3x3 convolutions with BN and ReLU, pooled by 2 five times, and two linear layers with nothing between.

    Args:
        num_classes: width of the output.
        size: height and width of the spectrograms: frequencies, frames.
        first: channels of the first convolution; the others have 2, 4 and 8 times as many.

    Raises:
        ValueError: the spectrograms are too small.

    """

    def __init__(self, num_classes: int = 30, size: tuple[int, int] = (160, 101), first: int = 64) -> None:
        super().__init__()
        height, width = (side // 2**5 for side in size)
        if height < 1 or width < 1:
            raise ValueError(f"VGG-11 needs spectrograms of 32 x 32 or more, found {size[0]} x {size[1]}")
        layers: list[nn.Module] = []
        inputs = 1
        for stage in ([1], [2], [4, 4], [8, 8], [8, 8]):
            for outputs in (first * times for times in stage):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.fc1 = nn.Linear(8 * first * height * width, 8 * first)
        self.fc2 = nn.Linear(8 * first, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits [n, num_classes] for spectrograms [n, 1, height, width]."""
        x = self.features(x)  # [n, 512, 5, 3] of 160 x 101
        return self.fc2(self.fc1(x.flatten(1)))
