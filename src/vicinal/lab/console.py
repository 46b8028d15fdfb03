"""What commands print: progress on stderr, results on stdout."""

from __future__ import annotations

import math
import multiprocessing
import sys
import time
from collections.abc import Iterable
from typing import Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text

from vicinal.lab import terminal

_PLAIN_EVERY = 10.0  # seconds between lines where there is no terminal
_MOVES_EVERY = 0.2  # seconds between changes of a line on a terminal
_WIDE = 1000  # columns where there is no terminal: whoever reads it wraps it
_REMEMBERED = 300.0  # seconds over which the speed is averaged


class Console(rich.console.Console):
    """A console that shows control characters in texts escaped, and writes its own past `terminal.PrintableStream`."""

    def __init__(self, stderr: bool = False, width: int | None = None) -> None:
        file = terminal.plain(sys.stderr if stderr else sys.stdout)
        super().__init__(file=file, markup=False, emoji=False, highlight=False, width=width)

    def render_str(self, text: str, **options: Any) -> Text:  # before the text is measured
        """Return a string as rich's text."""
        return super().render_str(terminal.printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of what is shown."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=terminal.printable(segment.text))


def stdout() -> Console:
    """Return the console of results, which wraps lines on a terminal alone."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDE)


class TerminalProgress(Progress):
    """Rich's progress, during which what is printed by others is shown as it is without a bar."""

    def start(self) -> None:
        """Show the bar; what is printed goes above it, and its control characters are escaped before rich reads them."""
        before = sys.stdout, sys.stderr
        super().start()
        if sys.stdout is not before[0]:
            sys.stdout = terminal.PrintableStream(sys.stdout)
        if sys.stderr is not before[1]:
            sys.stderr = terminal.PrintableStream(sys.stderr)


def duration(seconds: float) -> str:
    """Write a time in the unit that suits it.

    Example:
        >>> duration(42), duration(600), duration(9000)
        ('42 s', '10 min', '2.5 h')

    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class LiveProgress(TerminalProgress):
    """Progress of one task on stderr: a bar where that is a terminal that can move one. It runs no thread."""

    def __init__(self, title: str) -> None:
        console = Console(stderr=True)
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(20),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
            transient=True,
            speed_estimate_period=_REMEMBERED,
            get_time=lambda: time.monotonic(),
            disable=not console.is_terminal or console.is_dumb_terminal,
        )
        self._title, self._shown = title, -math.inf

    def show(self, done: int, total: int, text: str = "") -> None:
        """Show that `done` of `total` are done; what the first call finds done says nothing of the speed."""
        if not self.tasks:
            self.add_task(self._title, total=total, completed=done)
        self.update(self.tasks[0].id, completed=done, description=self._title + text)
        every = _PLAIN_EVERY if self.disable else _MOVES_EVERY
        if time.monotonic() - self._shown >= every:
            self._shown = time.monotonic()
            self.refresh()
            if self.disable:
                self.print_line(text)

    def print_line(self, text: str) -> None:
        """Print how far it is where no bar can move."""
        task = self.tasks[0]
        left = "" if task.finished or task.time_remaining is None else f", {duration(task.time_remaining)} left"
        self.console.print(f"{self._title}: {task.percentage:3.0f} %{left}{text}", soft_wrap=True)


class TrainingProgress(LiveProgress):
    """Progress of one training run on stderr: a bar that moves on a terminal, and a line per epoch everywhere.

    Args:
        title: name of the run.
        epochs: number of epochs.
        epoch_steps: steps per epoch.
        steps: of the whole run.

    """

    def __init__(self, title: str, epochs: int, epoch_steps: int, steps: int) -> None:
        super().__init__(title)
        self._epochs, self._epoch_steps, self._steps = epochs, epoch_steps, steps

    def print_line(self, text: str) -> None:
        """Print nothing between epochs."""

    def step(self, epoch: int, in_epoch: int, done: int, speed: float) -> None:
        """Show the steps done in an epoch (from 1) and in the run, and the examples per second."""
        if not self.disable:
            where = f"epoch {epoch} of {self._epochs}, step {in_epoch} of {self._epoch_steps}"
            self.show(done, self._steps, f": {where}, {speed:,.0f} examples/s")

    def epoch(self, line: dict[str, Any]) -> None:
        """Print the figures of an epoch: a line of metrics.jsonl."""
        whose = f"{self._title}: " if multiprocessing.parent_process() else ""  # others train next to it
        self.console.print(
            f"{whose}epoch {line['epoch']:3d}  mixed loss {line['train_mixed_loss']:.4f}  "
            f"test error {100 * line['test_error']:.2f} %  {line['examples_per_second'] or 0.0:.0f} examples/s",
            soft_wrap=True,
        )
