"""Streams of keyed draws: no two uses share numbers."""

from vicinal.lab.streams import Stream


def test_no_two_streams_are_one() -> None:
    assert len({int(stream) for stream in Stream.__members__.values()}) == len(Stream.__members__)


def test_a_series_meets_no_other_stream() -> None:
    """`DROPOUT` and `PGD_START` are each the first of a series, 8 apart."""
    for first in (Stream.DROPOUT, Stream.PGD_START):
        series = set(range(first, first + 8 * 1000, 8))
        assert series & set(Stream) == {first}
