"""One row of a batch as it is drawn, and what kinds of drawings there are: by which rules, of which shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

Kind = Literal["image", "spectrogram", "signal", "table"]

_CHANNELS = (1, 3, 4)  # of images: gray, RGB, RGBA
_FEW = 4  # channels of a signal [n, t, channels]
_MANY = 16  # channels of a signal, at most: more are the frequencies of a spectrogram
_COLUMNS = 64  # of a table, at most: longer rows are signals
_LOUD = 10  # what gray values do not span, if some are negative: a spectrogram in decibels


@dataclass(frozen=True)
class Panel:
    """One row of a batch, as it is drawn."""

    name: str  # "row 3", or "mix"
    label: str  # its target in words; "" if it has none that fits into a title
    values: np.ndarray  # image [h, w] or [h, w, c], spectrogram [f, t], signal [channels, t], row of a table [features]
    share: float | None = None  # what the mix of its group has of it; None for the mix, and where there is none
    mix: bool = False
    note: str = ""  # a second line of the title
    mask: tuple[np.ndarray, np.ndarray] | None = None  # class indices [k, h, w], and shares that broadcast to them
    box: tuple[tuple[int, int], ...] | None = None  # (start, stop) per dimension of a box that is another row's
    taken: np.ndarray | None = None  # bool, of the cells that are another row's by a mask

    @property
    def title(self) -> str:
        """Words above the drawing."""
        title = (self.label or self.name) if self.mix else f"{self.name}: {self.label}" if self.label else self.name
        return f"{title}\n{self.note}" if self.note else title


class Layout(NamedTuple):
    """How rows of a tensor are drawn."""

    kind: Kind
    grid_dims: int  # dimensions of what is drawn, without channels
    channels: int | None  # the dimension of channels, if there is one

    def values(self, x: Tensor, rows: list[int]) -> list[np.ndarray]:
        """Return rows of x in the shapes of `Panel.values`."""
        x = x.detach()[torch.tensor(rows, device=x.device)].cpu()
        x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        if self.kind == "table":
            x = x.reshape(len(rows), -1)
        elif self.kind == "signal":
            x = x[:, None] if self.channels is None else x.movedim(self.channels, 1)
        elif self.channels is not None:
            x = x.movedim(self.channels, -1)
            x = x[..., 0] if x.shape[-1] == 1 else x
        return list(x.numpy())


class _Rule(NamedTuple):
    """What a kind is drawn of."""

    shapes: str
    dims: int  # without channels
    channels: Sequence[int]
    counts: str  # of channels, in words


_RULES: dict[Kind, _Rule] = {
    "image": _Rule("[n, c, h, w], [n, h, w, c] or [n, h, w]", 3, _CHANNELS, "1, 3 or 4"),
    "spectrogram": _Rule("[n, f, t] or [n, 1, f, t]", 3, (1,), "1"),
    "signal": _Rule("[n, t], [n, c, t] or [n, t, c]", 2, range(1, _MANY + 1), f"1 to {_MANY}"),
    "table": _Rule("[n, features]", 1, (), ""),
}


def layout_of(x: Tensor, kind: Kind | None, channels_last: bool | None) -> Layout:
    """Return how x is drawn; see `show` for the rules."""
    if kind not in (None, *_RULES):
        raise ValueError(f"kind must be one of {', '.join(map(repr, _RULES))} or None, got {kind!r}")
    if 0 in x.shape:
        raise ValueError(f"there are no values to show in an input of shape {list(x.shape)}")
    last = -1 if (_is_channels_last(x, kind) if channels_last is None else channels_last) else 1
    kind = _kind(x, last) if kind is None else kind
    rule = _RULES[kind]
    if x.ndim not in (rule.dims, rule.dims + 1):
        raise ValueError(f"{kind}s are drawn of {rule.shapes}, got {list(x.shape)}")
    channels = last if x.ndim > rule.dims else None
    count = 1 if channels is None else x.shape[channels]
    if rule.channels and count not in rule.channels:
        raise ValueError(
            f"{kind}s are drawn of {rule.counts} channels, got {count} in {list(x.shape)}: choose some, x[:, :1], or "
            "say channels_last="
        )
    return Layout(kind, rule.dims - 1, channels)


def _is_channels_last(x: Tensor, kind: Kind | None) -> bool:
    """Return True where the last dimension only can be that of channels."""
    if x.ndim == 4:
        return x.shape[-1] in _CHANNELS and x.shape[1] not in _CHANNELS
    return x.ndim == 3 and kind in (None, "signal") and x.shape[-1] <= _FEW < x.shape[1]


def _kind(x: Tensor, channels: int) -> Kind:
    if x.ndim > 4:
        raise ValueError(
            f"show draws images, spectrograms, signals and tables, got {list(x.shape)}: choose a frame, x[:, :, 0]"
        )
    if x.ndim < 3:
        return "signal" if x.ndim == 2 and x.shape[1] > _COLUMNS else "table"
    if x.dtype == torch.uint8:
        return "image"
    if x.ndim == 3 and x.shape[1] != x.shape[2]:
        return "signal" if channels == -1 or x.shape[1] <= _MANY else "spectrogram"
    is_gray = x.ndim == 3 or x.shape[channels] == 1
    return "spectrogram" if is_gray and _is_loud(x) else "image"


def _is_loud(x: Tensor) -> bool:
    """Return True if some values are negative and they span more than gray values do."""
    values = x.detach()
    values = values[values.isfinite()]
    return bool(values.numel()) and float(values.min()) < 0 and float(values.max()) - float(values.min()) > _LOUD
