"""What the command prints: a table while it runs and at the end."""

from __future__ import annotations

import multiprocessing
import sys
import time
from types import TracebackType
from typing import Any, Self

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

_PLAIN_EVERY = 10.0  # seconds between lines where there is no terminal
_MOVES_EVERY = 0.2  # seconds between changes of a line on a terminal
_WIDE = 1000  # columns where there is no terminal: whoever reads it wraps it


class Clock:
    """Time left, from the speed since the first work done: what was found done, and starting up, say nothing of it."""

    def __init__(self) -> None:
        self._found: int | None = None
        self._since: tuple[float, int] | None = None

    def left(self, done: int, total: int) -> float | None:
        """Give seconds left, or None before there is any speed to go by."""
        now = time.monotonic()
        if self._found is None:
            self._found = done
        if self._since is None and done > self._found:
            self._since = now, done
        if self._since is None or now - self._since[0] < 1 or done == self._since[1]:
            return None
        return (now - self._since[0]) / (done - self._since[1]) * (total - done)


class _Moving:
    """An image on stderr that moves while the `with` lasts, where that is a terminal that can."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, markup=False, emoji=False, highlight=False)
        self._clock = Clock()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)  # it is called often enough
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()


class Display(_Moving):
    """Progress on stderr: a live table on a terminal, a line now and then elsewhere."""

    def __init__(self, title: str, methods: list[str], measure: str) -> None:
        super().__init__()
        self._title, self._methods, self._measure = title, methods, measure
        self._said = -_PLAIN_EVERY
        self._whole: bool | None = None  # whether everything was done before this command

    def __call__(self, done: int, total: int, runs: list[dict[str, Any]]) -> None:
        """Show how far the comparison is: run-epochs done, of how many, and the runs finished."""
        left = self._clock.left(done, total)
        share = f"{100 * done // total:3d} %"
        self._whole = done == total if self._whole is None else self._whole
        if done == total and not self._whole:
            share += ", keeping the best model"  # which trains it once more
        line = f"{self._title}: {share}" + ("" if left is None or done == total else f", {duration(left)} left")
        if self._live is not None:
            self._live.update(Group(self._so_far(runs), Text(line)), refresh=True)
        elif time.monotonic() - self._said >= _PLAIN_EVERY:
            self._said = time.monotonic()
            self._console.print(line, soft_wrap=True)

    def _so_far(self, runs: list[dict[str, Any]]) -> Table:
        table = Table("method", "seeds done", f"test {self._measure} so far", box=None)
        for name in self._methods:
            values = [run["test"][self._measure] for run in runs if run["method"] == name]
            mean = _number(sum(values) / len(values), self._measure) if values else ""
            table.add_row(name, str(len(values)), mean)
        return table


class Training(_Moving):
    """Progress of one training run on stderr: a line that moves on a terminal, and a line for each epoch everywhere.

    Args:
        title: name of the run.
        epochs: how many there are.
        epoch_steps: steps of one.
        steps: of the whole run.

    """

    def __init__(self, title: str, epochs: int, epoch_steps: int, steps: int) -> None:
        super().__init__()
        self._title, self._epochs, self._epoch_steps, self._steps = title, epochs, epoch_steps, steps
        self._shown = -_MOVES_EVERY

    def step(self, epoch: int, in_epoch: int, done: int, speed: float) -> None:
        """Show that so many steps of an epoch (from 1) and of the run are done, at so many examples a second."""
        if self._live is None or time.monotonic() - self._shown < _MOVES_EVERY:
            return
        self._shown = time.monotonic()
        left = self._clock.left(done, self._steps)
        line = (
            f"{self._title}: epoch {epoch} of {self._epochs}, step {in_epoch} of {self._epoch_steps}, "
            f"{speed:,.0f} examples/s" + ("" if left is None else f", {duration(left)} left")
        )
        self._live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)

    def epoch(self, line: dict[str, Any]) -> None:
        """Print the figures of an epoch: a line of metrics.jsonl."""
        whose = f"{self._title}: " if multiprocessing.parent_process() else ""  # others train beside it
        self._console.print(
            f"{whose}epoch {line['epoch']:3d}  mixed loss {line['train_mixed_loss']:.4f}  "
            f"test error {100 * line['test_error']:.2f} %  {line['examples_per_second'] or 0.0:.0f} examples/s",
            soft_wrap=True,
        )


def duration(seconds: float) -> str:
    """Write a time in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _number(value: float, measure: str) -> str:
    return f"{100 * value:.2f} %" if measure == "error" else f"{value:.4g}"


def _interval(of: dict[str, float], measure: str) -> str:
    if measure == "error":
        return f"{100 * of['mean']:.2f} [{100 * max(0.0, of['low']):.2f}, {100 * min(1.0, of['high']):.2f}]"
    return f"{of['mean']:.4g} [{of['low']:.4g}, {of['high']:.4g}]"


def _difference(of: dict[str, Any], measure: str) -> str:
    mean, low, high = (of[name] for name in ("difference", "low", "high"))
    if measure == "error":
        mean, low, high = (f"{round(100 * value, 2) + 0.0:+.2f}" for value in (mean, low, high))  # never -0
    else:
        mean, low, high = (f"{value + 0.0:+.3g}" for value in (mean, low, high))
    return f"{mean} [{low}, {high}]"


def _p(value: float) -> str:
    return "<0.0001" if value < 1e-4 else f"{value:.2g}"


def stdout() -> Console:
    """Return the console of results, which wraps lines on a terminal alone."""
    console = Console(file=sys.stdout, markup=False, emoji=False, highlight=False)
    if console.is_terminal:
        return console
    return Console(file=sys.stdout, markup=False, emoji=False, highlight=False, width=_WIDE)


def print_results(results: dict[str, Any]) -> None:
    """Print the table of methods and the verdict on stdout."""
    console = stdout()
    data, protocol = results["data"], results["protocol"]
    of = f"{len(data['classes'])} classes" if data["classes"] else f"regression of {data['target']}"
    console.print(
        f"{data['name']}: {_size(data)}, {of}; {protocol['seeds']} seeds, "
        f"{protocol['epochs']} epochs. ERM is training without mixing; [...] are 95 % intervals."
    )
    columns = _columns(results)
    while len(columns) > 4 and _width(columns) > console.width:  # the report has them all
        columns.popitem()
    console.print(_table(columns, wrap=_width(columns) > console.width))
    verdict = results["verdict"]
    console.print()
    console.print(Text(verdict["sentence"], style="bold"))
    console.print(verdict["advice"])


def _size(data: dict[str, Any]) -> str:
    kind = data.get("kind", "table")
    if kind == "table":
        return f"{data['rows']} rows, {data['inputs']} inputs"
    return f"{data['rows']} {kind} of {data['shape'][1]} x {data['shape'][2]}"


def _columns(results: dict[str, Any]) -> dict[str, list[str]]:
    """Give the cells of the table under the titles of its columns, the most wanted first."""
    measure, perturb = results["protocol"]["measure"], results["protocol"]["perturb"]
    unit = "error %" if measure == "error" else "RMSE"
    summary = results["summary"]
    compared = {c["method"]: c for c in results["comparisons"]}

    def means(part: str) -> list[str]:
        return [_number(of[part][measure]["mean"], measure).removesuffix(" %") for of in summary.values()]

    columns = {
        "method": list(summary),
        f"test {unit}": [_interval(of["test"][measure], measure) for of in summary.values()],
        "minus ERM": [_difference(compared[name], measure) if name in compared else "" for name in summary],
        "p (Holm)": [_p(compared[name]["p_holm"]) if name in compared else "" for name in summary],
    }
    if perturb is not None:
        columns[f"perturbed {unit}"] = means("perturbed")
    others = {"NLL": "nll", "Brier": "brier", "ECE": "ece"} if measure == "error" else {"MAE": "mae", "R2": "r2"}
    for title, other in others.items():
        columns[title] = [f"{of['test'][other]['mean']:.3f}" for of in summary.values()]
    columns[f"train {unit}"] = means("train")
    columns["s/run"] = [f"{of['seconds']:.2f}" for of in summary.values()]
    return columns


def _width(columns: dict[str, list[str]]) -> int:
    """Give how wide the table is with names of methods wrapped."""
    widths = [max(map(cell_len, (title, *cells))) for title, cells in columns.items()]
    return min(widths[0], 12) + sum(2 + width for width in widths[1:])


def _table(columns: dict[str, list[str]], wrap: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in columns:
        if title == "method":
            table.add_column(title, overflow="fold")
        else:
            table.add_column(title, justify="right", no_wrap=not wrap, overflow="fold")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table
