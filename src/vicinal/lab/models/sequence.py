"""A small convolutional classifier of sequences; padding does not change what it says of a row."""

from __future__ import annotations

from torch import Tensor, nn

BLOCKS = ("block1", "block2")


class MaskedBlock(nn.Module):
    """A convolution over 5 steps, layer normalization and ReLU; padded steps count as 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 5, padding=2)
        self.norm = nn.LayerNorm(width)

    def forward(self, hidden: Tensor, valid: Tensor) -> Tensor:
        """Compute hidden states from hidden states, [n, t, width]; `valid` is bool [n, t]."""
        hidden = hidden * valid[..., None]
        return self.norm(self.conv(hidden.transpose(1, 2)).transpose(1, 2)).relu()


class SequenceClassifier(nn.Module):
    """An embedding or a linear map of each step, two blocks, the mean over time, a linear layer.

    Args:
        inputs: number of channels, or of tokens with that of padding (0).
        classes: number of classes.
        tokens: the inputs are tokens.
        width: of the hidden states.

    """

    def __init__(self, inputs: int, classes: int, tokens: bool = False, width: int = 32) -> None:
        super().__init__()
        self.entry = nn.Embedding(inputs, width, padding_idx=0) if tokens else nn.Linear(inputs, width)
        self.block1, self.block2 = MaskedBlock(width), MaskedBlock(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Compute logits [n, classes] for channels [n, t, inputs] or tokens [n, t]; `valid` is False where padded."""
        hidden = self.block2(self.block1(self.entry(x), valid), valid)
        kept = valid[..., None]
        return self.head((hidden * kept).sum(1) / kept.sum(1))
