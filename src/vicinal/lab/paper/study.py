"""A study of the paper: its section, what was published, its runs at three scales, and its table.

A study is a class with the protocol in its docstring, in a file named after the section's subject, and one table of
scales. It cuts its work into jobs; `reproduce` runs those whose results are missing, and sets the study's rows next to
the published numbers.
"""

from __future__ import annotations

import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from vicinal.lab.paper.claims import Claim
from vicinal.lab.statistics import Interval, interval

Scale = Literal["smoke", "small", "paper"]  # seconds; minutes to an hour on two cores; the protocol in full
Results = Mapping[str, dict[str, Any]]  # of finished jobs, by their names


@dataclass(frozen=True)
class Published:
    """A number of the paper; `confirmed` unless it is from memory alone.

    Confirmed are numbers read in the paper or digitized from its figures, and of its last version those in its authors'
    code or in others' notes.
    """

    value: float
    confirmed: bool = True


@dataclass(frozen=True)
class Row:
    """One line of a study's table.

    Args:
        name: unique within the table, as "Abalone, mixup".
        measure: with its unit, as "test error, %".
        published: the paper's number.
        values: ours, one per seed in the order of the seeds; empty if it was not run. Of two rows that are compared, one
            may have fewer: those of the first seeds.
        against: the name of the row with which the paper compares this one, as its ERM row; None for those themselves.
        note: what a reader must know, as why it was not run.
        test_share: test rows over training rows, where seeds draw new splits of one table, which overlap: intervals
            are then those of the corrected resampled t (Nadeau and Bengio, 2003). 0: seeds are independent.

    """

    name: str
    measure: str
    published: Published | None = None
    values: tuple[float, ...] = ()
    against: str | None = None
    note: str = ""
    test_share: float = 0.0

    @property
    def interval(self) -> Interval | None:
        """Mean with its 95 % interval over seeds (Student's t); None for fewer than two."""
        return interval(self.values, self.test_share) if len(self.values) > 1 else None


@dataclass(frozen=True)
class AtScale:
    """What a study needs at one scale, and how it differs from the paper there; studies add fields of their own.

    Args:
        data: what must be in the folder that VICINAL_DATA names.
        minutes: about, on the device.
        seeds: number of repeats.
        deviations: sentences on what is smaller or otherwise than in the paper.
        device: on which the minutes were measured or reckoned.
        full: the numbers themselves compare with the published ones, and not only their differences.
        test_examples: on which errors are measured, for the tolerance of single runs.

    """

    data: str
    minutes: float
    seeds: int = 1
    deviations: tuple[str, ...] = ()
    device: str = "2 CPU cores"
    full: bool = False
    test_examples: int = 0


@dataclass(frozen=True)
class Job:
    """A part of a study that runs by itself.

    Args:
        name: of its results file: letters, digits, dots and hyphens; everything that decides the result is in it or
            in the scale.
        run: called with a folder of its own for checkpoints; returns the results as JSON holds them.
        decided_by: what else decides the result and may change while the name stays, as a recipe's fingerprint.
        kind: type of its results, as `records.from_json` reads them.
        ready: its data are there; else it is passed over, and its rows say why. Results from before still count.

    """

    name: str
    run: Callable[[Path], dict[str, Any]]
    decided_by: str = ""
    kind: Any = dict[str, Any]
    ready: bool = True


class Study(ABC):
    """One section of the paper; the docstring of each is its protocol."""

    name: ClassVar[str]
    section: ClassVar[str]  # "3.6, table 4"
    title: ClassVar[str]
    scales: ClassVar[Mapping[Scale, AtScale]]

    @property
    def section_title(self) -> str:
        """Place in the paper, for a heading; of a study that has none, what it is."""
        return f"section {self.section}" if self.section[0].isdigit() else self.section

    @abstractmethod
    def jobs(self, scale: Scale) -> Sequence[Job]:
        """Return the parts, most telling first."""

    @abstractmethod
    def rows(self, scale: Scale, done: Results) -> Sequence[Row]:
        """Return the table of the jobs that are done; rows of the others are there too, without values."""

    def claims(self, scale: Scale, done: Results) -> Sequence[Claim]:
        """Return what the paper claims in this section, with what the jobs that are done say about it."""
        return ()

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw the figures of the section as SVG files in `folder`, and return their paths."""
        return ()


def format_value(value: float) -> str:
    """Write a number of a table: two decimals from 1 up, three significant digits below.

    Example:
        >>> format_value(12.345), format_value(0.012345)
        ('12.35', '0.0123')

    """
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def format_ours(row: Row) -> str:
    """Write a row's mean with its interval; empty if it was not run."""
    if not row.values:
        return ""
    mean, own = format_value(statistics.fmean(row.values)), row.interval
    return mean if own is None else f"{mean} [{format_value(own.low)}, {format_value(own.high)}]"


def format_published(row: Row) -> str:
    """Write a row's published number, with a mark if it was not read in the paper."""
    if row.published is None:
        return ""
    return f"{row.published.value:g}{'' if row.published.confirmed else ' (recalled)'}"
