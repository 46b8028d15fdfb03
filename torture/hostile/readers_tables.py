"""Readers of tables, for hostile input."""

from __future__ import annotations

from torture.hostile.engine import Reader
from torture.hostile.mutations import mutate_text
from vicinal.lab.data.tables import load

READERS: list[Reader] = [
    Reader(
        "csv",
        lambda: [
            b"a,b,y\n"
            + b"".join(b"%d,%s,%s\n" % (i, (b"u", b"v")[i % 2], (b"yes", b"no")[i % 3 % 2]) for i in range(20))
        ],
        lambda path: load(str(path), target="y"),
        mutate_text,
        suffix=".csv",
    )
]
