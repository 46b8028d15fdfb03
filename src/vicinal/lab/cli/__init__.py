"""The command line: one module per command, with its arguments beside their use; each imports what it needs when it runs.

Nothing is imported here but what hears Ctrl-C, so that it is heard while everything else is imported.
"""

from __future__ import annotations

from vicinal.lab.cli import interrupts

TYPE_CHECKING = False  # as of typing, which would be imported before Ctrl-C is heard
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: its arguments; without them this process is the command, with those that it was started with.

    Returns:
        The exit code: 0; 1 if memory is short, a worker process died, or a check found faults; 2 for a problem with what
        was given, with the disk or with stdout; 128 and the number of the signal that stopped it: 130 after Ctrl-C, of
        which the first counts, 143 after SIGTERM, 129 after the terminal was closed.

    """
    with interrupts.Interrupts(program=argv is None):
        try:
            from vicinal.lab.cli import commands

            code = commands.run(argv)
        except KeyboardInterrupt as error:  # while the end was told
            code = 128 + getattr(error, "number", interrupts.SIGINT)
        if argv is None:
            interrupts.end(code)
        return code


def parser() -> ArgumentParser:
    """Return the parser of all commands."""
    from vicinal.lab.cli import commands

    return commands.parser()


def parse(argv: Sequence[str]) -> Namespace:
    """Read the arguments of a command."""
    from vicinal.lab.cli import commands

    return commands.parse(argv)
