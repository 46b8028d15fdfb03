"""The one error that a user of the command line is meant to see."""

from __future__ import annotations


class UserError(Exception):
    """A problem with what the user gave: the message is one sentence that says what was found and what to do.

    The command line prints ``vicinal: <message>`` and ends with exit code 2.
    """
