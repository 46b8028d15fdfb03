"""From the results of jobs to rows of a table: records are read, and methods are compared with ERM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import TypeVar

from vicinal.lab.paper.study import Published, Results, Row
from vicinal.lab.records import from_json

ERM = "ERM"
T = TypeVar("T")


def first_done(kind: type[T], done: Results, jobs: Iterable[str]) -> list[T]:
    """Return the results of the first of these jobs that are done, as records: those of two methods pair by their places."""
    return [from_json(kind, done[name]) for name in takewhile(done.__contains__, jobs)]


def by_method(
    name: str,
    measure: str,
    values: Mapping[str, Sequence[float]],
    published: Mapping[str, Published] | None = None,
    note: str = "",
) -> list[Row]:
    """Return one row per method, compared with that of ERM; in the name, {} stands for the method."""
    return [
        Row(
            name.format(method),
            measure,
            (published or {}).get(method),
            tuple(of),
            None if method == ERM else name.format(ERM),
            note,
        )
        for method, of in values.items()
    ]
