"""The one error that a user of the command line is meant to see."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """A problem with what the user gave: the message is one sentence that says what was found and what to do.

    The command line prints ``vicinal: <message>`` and ends with exit code 2.
    """


def of_all(name: str, problems: Sequence[str]) -> UserError:
    """Return one error about several problems, a line for each; one problem is its own sentence."""
    if len(problems) == 1:
        return UserError(problems[0])
    return UserError(f"{name!r} has {len(problems)} problems:" + "".join(f"\n  {problem}" for problem in problems))


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
