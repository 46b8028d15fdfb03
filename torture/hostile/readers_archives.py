"""Readers of archives, for hostile input."""

from __future__ import annotations

from torture.hostile.engine import Reader

READERS: list[Reader] = []
