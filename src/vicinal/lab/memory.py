"""Memory that runs short: which errors say so, and a sentence with figures."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from vicinal.lab.errors import UserError

_GIB = 2**30
# what PyTorch, NumPy, CUDA and the system's loader of libraries say; errors of Python's and of the system have their types
_SAYS = re.compile(
    r"can't allocate memory|not enough memory|out of memory|unable to allocate|cannot allocate memory|"
    r"failed to map segment|can't start new thread|could not spawn threads|could not create a primitive",
    re.IGNORECASE,
)
_ASKED = re.compile(r"(?:tried|unable) to allocate (\d+(?:\.\d+)?) (bytes|[KMGTPE]i?B)", re.IGNORECASE)
_UNITS = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50, "e": 2**60}


def is_short(error: BaseException) -> bool:
    """Return True if an error, or one that it comes from, says that there is not enough memory."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or (isinstance(seen, OSError) and seen.errno == errno.ENOMEM):
            return True
        # polars' errors in Rust have a type of their own, beside Exception
        speaks = isinstance(seen, RuntimeError | ImportError | OSError) or type(seen).__name__ == "PanicException"
        if speaks and _SAYS.search(str(seen)):
            return True
        # polars says so where the system refuses memory for its library, but also if its installation is damaged
        if isinstance(seen, UserWarning) and "binary is missing" in str(seen) and _limit_of_process() is not None:
            return True
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return False


def sentence(error: BaseException) -> str:
    """Return what to tell about an error for which `is_short` is True."""
    return (
        f"there is not enough memory ({figures(error)}); give less at once: fewer rows or columns, a smaller --size or "
        "batch_size, fewer --jobs"
    )


def figures(error: BaseException | None = None) -> str:
    """Return how much was asked for, if an error says so, and how much there is."""
    free, why = available()
    parts = [] if (size := asked(error)) is None else [f"{_shown(size)} were asked for at once"]
    parts += [] if free is None else [f"{_shown(free)} are free {why}"]
    parts += [] if (used := _status("VmRSS")) is None else [f"this process uses {_shown(used)}"]
    return ", ".join(parts) or "this system does not say how much there is"


def check_limit(needed: int) -> None:
    """Refuse a limit of this process under which its libraries would not load: some abort it there, or wait for ever.

    Args:
        needed: bytes of address space.

    Raises:
        UserError: the limit leaves less.

    """
    if (free := _limit_of_process()) is not None and free < needed:
        raise UserError(
            f"this process may take {_shown(free)} more under its limit (ulimit -v), and the libraries of this command take "
            f"about {_shown(needed)}: raise the limit"
        )


def asked(error: BaseException | None) -> int | None:
    """Return the bytes that an allocation asked for, if its error says so.

    Example:
        >>> asked(RuntimeError("can't allocate memory: you tried to allocate 4096 bytes."))
        4096

    """
    found = _ASKED.search(str(error))
    return None if found is None else round(float(found[1]) * _UNITS[found[2][0].lower()])


def available() -> tuple[int | None, str]:
    """Return the bytes that this process may still take, and what limits them; None where the system does not say."""
    limits = [(_limit_of_process(), "under this process's limit (ulimit -v)"), (_limit_of_group(), "in its cgroup")]
    limits.append((_field(Path("/proc/meminfo"), "MemAvailable"), "on this machine"))
    known = [(free, why) for free, why in limits if free is not None]
    return min(known) if known else (None, "")


def _limit_of_process() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit, used = resource.getrlimit(resource.RLIMIT_AS)[0], _status("VmSize")
    return None if limit == resource.RLIM_INFINITY or used is None else max(0, limit - used)


def _limit_of_group() -> int | None:
    """Return what is left of the least limit of the cgroups (version 2) that hold this process."""
    try:
        group = Path("/proc/self/cgroup").read_text(encoding="utf-8").strip().rsplit(":", 1)[-1].strip("/")
        root, left = Path("/sys/fs/cgroup"), []
        for folder in (root / group, *(root / group).parents):
            limit = folder / "memory.max"
            if (
                folder.is_relative_to(root)
                and limit.is_file()
                and (most := limit.read_text(encoding="ascii").strip()) != "max"
            ):
                left.append(max(0, int(most) - int((folder / "memory.current").read_text(encoding="ascii"))))
    except (OSError, ValueError):  # there are none
        return None
    return min(left, default=None)


def _status(name: str) -> int | None:
    return _field(Path("/proc/self/status"), name)


def _field(path: Path, name: str) -> int | None:
    """Return a size that Linux states in kB."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB$", path.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:  # another system
        return None
    return None if found is None else int(found[1]) * 1024


def _shown(size: int) -> str:
    return f"{size / _GIB:.1f} GiB" if size >= _GIB else f"{size / 2**20:.0f} MiB"
