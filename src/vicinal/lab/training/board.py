"""The figures of each epoch as TensorBoard reads them: those of metrics.jsonl, under the same names.

`train_mixed_accuracy` is `train/mixed_accuracy` there, never `accuracy`: it is one of mixed labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vicinal.lab.errors import UserError


def check() -> None:
    """Raise UserError where TensorBoard is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise UserError("TensorBoard is not installed; pip install tensorboard") from error


class Board:
    """The event file of a run; made anew each time from the lines that stand, so that no step is there twice.

    Args:
        folder: of the event files; those in it are removed.
        lines: of metrics.jsonl so far.

    """

    def __init__(self, folder: Path, lines: Sequence[dict[str, Any]]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if folder.exists():
            for old in folder.glob("events.out.tfevents.*"):
                old.unlink()
        self._writer = SummaryWriter(str(folder))
        for line in lines:
            self._add(line)
        self._writer.flush()

    def write(self, line: dict[str, Any]) -> None:
        """Write an epoch, at its step."""
        self._add(line)
        self._writer.flush()

    def _add(self, line: dict[str, Any]) -> None:
        for name, value in line.items():
            if name != "step" and value is not None:
                group, _, rest = name.partition("_")
                tag = f"{group}/{rest}" if group in ("train", "test") else name
                self._writer.add_scalar(tag, value, line["step"])

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
