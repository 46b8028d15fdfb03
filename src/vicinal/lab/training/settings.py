"""What is chosen for a run next to its recipe and changes no result; light, since `vicinal train --help` reads it."""

from __future__ import annotations

from dataclasses import dataclass

from vicinal.lab.errors import UserError
from vicinal.lab.option import option


@dataclass(frozen=True)
class RunSettings:
    """When a run writes, and how long it waits."""

    save_every: float = option(60.0, "seconds between checkpoints within an epoch", "SECONDS")
    timeout: float = option(300.0, "seconds to wait for a lost process", "SECONDS")
    tensorboard: bool = option(False, "also write the figures for TensorBoard, into FOLDER/tensorboard")
    stop_at_nonfinite: bool = (
        True  # end where inf or nan appear; False: train on, as a study does that counts such runs
    )

    def __post_init__(self) -> None:
        if not self.save_every >= 0:
            raise UserError(f"--save-every is seconds and must be 0 or more, got {self.save_every:g}")
        if not 0 < self.timeout < 1e6:
            raise UserError(f"--timeout is seconds and must be more than 0, got {self.timeout:g}")
