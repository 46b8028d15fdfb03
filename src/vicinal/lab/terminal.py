r"""What reaches stdout and stderr: control characters are shown escaped, and what cannot be written is told once.

A name in somebody's data (of a file, column, class or cell) may hold characters that a terminal obeys: they could restyle
it, hide a line, or type for the user. `streams` puts a stream before each of the two that shows them as Python would write
them (``\x1b``), so that warnings, errors of argparse and everything printed pass through it. What a program writes for
terminals on purpose (a bar of `vicinal.lab.console`) goes to `plain`, and data for other programs go by `write_data`.
"""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

# C0 but tab and newline, DEL, C1, marks and overrides of the direction of text, and halves of surrogate pairs
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Return a text with its control characters escaped; newlines and tabs stay.

    Example:
        >>> printable("caf\N{LATIN SMALL LETTER E WITH ACUTE}\x1b[2J\u202e")
        'café\\x1b[2J\\u202e'

    """
    return _CONTROL.sub(_escaped, text) if not text.isprintable() else text


def json_printable(text: str) -> str:
    """Return JSON with control characters escaped as JSON does."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class OutputLost(Exception):
    """Results that stdout does not take: the message is a sentence."""


class _Stream:
    """A text stream before another one, which answers to everything else."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.stream)

    def write(self, text: str) -> int:
        """Write a text."""
        self.stream.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts."""
        for line in lines:
            self.write(line)

    def write_bytes(self, data: bytes) -> None:
        """Write bytes as they are, in their place among the texts."""
        self.stream.flush()
        self.stream.buffer.write(data)
        self.stream.buffer.flush()

    def flush(self) -> None:
        """Write out what is held back."""
        self.stream.flush()


class PlainStream(_Stream):
    """A stream that does not fail where nobody reads it.

    Args:
        stream: stdout or stderr.
        must_be_written: it carries results: an error of the disk is raised, as OutputLost. What stderr does not take is
            dropped: it is for people, and no work ends for want of them.

    """

    def __init__(self, stream: Any, must_be_written: bool) -> None:
        super().__init__(stream)
        self._must_be_written, self._lost = must_be_written, False

    def write(self, text: str) -> int:
        """Write a text."""
        self._try(lambda: self.stream.write(text))
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        """Write bytes as they are, in their place among the texts."""
        self._try(lambda: _Stream.write_bytes(self, data))

    def flush(self) -> None:
        """Write out what is held back."""
        self._try(self.stream.flush)

    def _try(self, do: Callable[[], object]) -> None:
        if self.stream.closed:  # by a program that ran here
            return
        try:
            do()
        except OSError as error:
            broken = error.errno == errno.EPIPE  # its reader has seen enough
            if broken or self._must_be_written:
                self._drop_the_rest()
            if self._must_be_written and not broken and not self._lost:
                self._lost = True
                reason = (error.strerror or str(error)).lower()
                raise OutputLost(f"the output cannot be written to stdout ({reason})") from error

    def _drop_the_rest(self) -> None:
        """Send what follows, and what is held back, nowhere: Python would complain of it when it ends."""
        with suppress(OSError, ValueError):  # it has no descriptor
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)
            self.stream.flush()


class PrintableStream(_Stream):
    """A stream that shows control characters escaped."""

    def write(self, text: str) -> int:
        """Write a text."""
        self.stream.write(printable(text))
        return len(text)


@contextmanager
def streams(for_good: bool = False) -> Iterator[None]:
    """Show what is printed by `PrintableStream` on stdout and stderr.

    Args:
        for_good: this process is the command: they stay so after the `with`, for what Python prints while it ends.

    """
    if for_good:
        _open_missing()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _shown(sys.stdout, True), _shown(sys.stderr, False)
    try:
        yield
    finally:
        sys.stderr.flush()
        if not for_good:
            sys.stdout.flush()
            sys.stdout, sys.stderr = before


def show_errors() -> None:
    """Show what a worker process prints on stderr by `PrintableStream`, for good."""
    if not isinstance(sys.stderr, PrintableStream):
        sys.stderr = _shown(sys.stderr, False)


def _shown(stream: IO[str] | None, must_be_written: bool) -> Any:
    if isinstance(stream, PrintableStream):
        return stream
    if stream is None:
        stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # as long as the process
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")  # a name that this terminal cannot show
    return PrintableStream(PlainStream(stream, must_be_written))


def plain(stream: Any) -> Any:
    """Return the stream before which `streams` has put one: what is written there reaches the terminal as it is."""
    return stream.stream if isinstance(stream, PrintableStream) else stream


def write_data(text: str, escape: Callable[[str], str] = printable) -> None:
    """Write data for other programs to stdout: exactly, in UTF-8 whatever the locale; to a terminal as people can read it.

    Args:
        text: all of it. What Python made of the bytes of a file's name becomes these bytes again.
        escape: what is done to it for a terminal.

    """
    out = sys.stdout
    if out.isatty() or not hasattr(out, "buffer"):
        plain(out).write(escape(text) if out.isatty() else text)
    elif isinstance(out, PrintableStream):
        out.stream.write_bytes(text.encode("utf-8", "surrogateescape"))
    else:
        _Stream(out).write_bytes(text.encode("utf-8", "surrogateescape"))


def _open_missing() -> None:
    """Take the places of stdin, stdout and stderr where they are closed, lest a file of the command gets their numbers.

    Nothing can be read there, and writing to stdout fails, as it does where it is closed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            place = os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
            if place != number:
                os.dup2(place, number)
                os.close(place)
            if getattr(sys, name) is None:
                mode = "r" if number == 0 else "w"
                setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  # as long as the process
