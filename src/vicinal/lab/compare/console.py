"""What `vicinal compare` prints: progress while it runs, and at the end the table of methods and the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from vicinal.lab.compare.comparison import ERM_FAMILY
from vicinal.lab.compare.results import ERM, DataInfo, Results, RunRecord
from vicinal.lab.compare.view import View
from vicinal.lab.console import LiveProgress, stdout
from vicinal.lab.format import counted

_FEWEST = 4  # columns shown at any width


class ComparisonProgress(LiveProgress):
    """Progress on stderr: a table and a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, title: str, methods: Sequence[str], measure: str) -> None:
        self._methods, self._measure = methods, measure
        self._runs: Sequence[RunRecord] = ()
        self._complete: bool | None = None  # True if everything was done before this command
        super().__init__(title)  # which draws it

    def __call__(self, done: int, total: int, runs: Sequence[RunRecord]) -> None:
        """Show run-epochs done and in all, and the runs finished."""
        self._runs = runs
        self._complete = done == total if self._complete is None else self._complete
        # which is trained once more
        self.show(done, total, ", keeping the best model" if done == total and not self._complete else "")

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the table of what is finished, and the bar."""
        table = Table("method", "seeds done", f"test {self._measure} so far", box=None)
        for name in self._methods:
            values = [run.test[self._measure] for run in self._runs if run.method == name and self._measure in run.test]
            table.add_row(name, str(len(values)), self._mean(values) if values else "")
        yield table
        yield from super().get_renderables()

    def _mean(self, values: Sequence[float]) -> str:
        mean = sum(values) / len(values)
        return f"{100 * mean:.2f} %" if self._measure == "error" else f"{mean:.4g}"


def print_results(results: Results) -> None:
    """Print the table of methods and the verdict on stdout."""
    console, data, protocol = stdout(), results.data, results.protocol
    of = f"{len(data.classes)} classes" if data.classes else f"regression of {data.target}"
    console.print(
        f"{data.name}: {_size(data)}, {of}; {protocol.seeds} seeds, {counted(protocol.epochs, 'epoch')}. ERM is training "
        "without mixing; [...] are 95 % intervals."
    )
    columns = _columns(View(results))
    while len(columns) > _FEWEST and _width(columns) > console.width:  # the report has them all
        columns.popitem()
    console.print(_table(columns, wrap=_width(columns) > console.width))
    console.print()
    console.print(Text(results.verdict.sentence, style="bold"))
    console.print(results.verdict.advice)


def _size(data: DataInfo) -> str:
    if data.table is not None:
        return f"{data.examples} rows, {counted(data.table.inputs, 'input')}"
    assert data.folder is not None
    return f"{data.examples} {data.noun} of {data.folder.shape[1]} x {data.folder.shape[2]}"


def _columns(view: View) -> dict[str, list[str]]:
    """Return the cells of the table under the titles of its columns; the first two numbers with their intervals."""
    shown = [i for i, name in enumerate(view.rows) if view.families.get(name) != ERM_FAMILY or name == ERM]
    columns = {"method": [view.rows[i] for i in shown]}  # ERM's single weight decays are in the report
    for place, column in enumerate(view.columns()):
        cells = [f"{cell.text} {cell.interval}" if cell.interval and place < 2 else cell.text for cell in column.cells]
        columns[column.short] = [cells[i] for i in shown]
    return columns


def _width(columns: Mapping[str, Sequence[str]]) -> int:
    """Return the width of the table with names of methods wrapped."""
    widths = [max(map(cell_len, (title, *cells))) for title, cells in columns.items()]
    return min(widths[0], 12) + sum(2 + width for width in widths[1:])


def _table(columns: Mapping[str, Sequence[str]], wrap: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in columns:
        if title == "method":
            table.add_column(title, overflow="fold")
        else:
            table.add_column(title, justify="right", no_wrap=not wrap, overflow="fold")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table
