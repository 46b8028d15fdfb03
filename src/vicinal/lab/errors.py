"""The one error that a user of the command line is meant to see."""

from __future__ import annotations

import re
from collections.abc import Sequence


class UserError(Exception):
    """A problem with what the user gave: the message is one sentence that says what was found and what to do.

    The command line prints ``vicinal: <message>`` and ends with exit code 2. Names and cells of data stand in such
    sentences, and in damaged data they may be as long as the file: then they are cut.
    """

    def __init__(self, *args: str) -> None:
        super().__init__(*map(_cut, args))


_MOST = 30  # problems that are told
_LONG_LINE, _LONG_WORD, _KEPT = 4000, 300, 100  # characters
_LONG_WORDS = re.compile(rf"""'[^'\n]{{{_LONG_WORD},}}'|"[^"\n]{{{_LONG_WORD},}}"|\S{{{_LONG_WORD},}}""")


def _cut(sentence: str) -> str:
    """Cut long words, and what is quoted and long, in lines that no one would read."""
    if len(sentence) <= _LONG_LINE:
        return sentence
    return "\n".join(line if len(line) <= _LONG_LINE else _cut_line(line) for line in sentence.split("\n"))


def _cut_line(line: str) -> str:
    line = _LONG_WORDS.sub(lambda word: f"{word[0][:_KEPT]}... ({len(word[0]):,} characters)", line)
    return line if len(line) <= _LONG_LINE else f"{line[: _LONG_LINE // 2]} ... {line[-_LONG_LINE // 2 :]}"


def of_all(name: str, problems: Sequence[str]) -> UserError:
    """Return one error about several problems, a line for each; one problem is its own sentence."""
    if len(problems) == 1:
        return UserError(problems[0])
    told = [*problems[:_MOST], *([f"and {len(problems) - _MOST} more"] if len(problems) > _MOST else [])]
    return UserError(f"{name!r} has {len(problems)} problems:" + "".join(f"\n  {problem}" for problem in told))


class UnreadableFile(UserError):
    """A file among many that cannot be used.

    Args:
        path: where it is.
        reason: what is wrong with it, as "it is cut off".
        says: the same as a sentence that begins with the path goes on.
        advice: what to do.

    """

    def __init__(self, path: str, reason: str, says: str, advice: str) -> None:
        super().__init__(path, reason, says, advice)
        self.path, self.reason, self.says, self.advice = path, reason, says, advice

    def __str__(self) -> str:
        """Return the sentence."""
        return f"'{self.path}' {self.says}: {self.advice}"
