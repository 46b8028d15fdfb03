"""One row of a batch, as `_show.py` describes it and `_draw.py` draws it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["image", "spectrogram", "signal", "table"]


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

    @property
    def title(self) -> str:
        """Words above the drawing."""
        title = (self.label or self.name) if self.mix else f"{self.name}: {self.label}" if self.label else self.name
        return f"{title}\n{self.note}" if self.note else title
