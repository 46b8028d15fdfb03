"""Memory that runs short: which errors say so, and a sentence with figures."""

from __future__ import annotations

import errno
import re
from pathlib import Path

_GIB = 2**30
# what PyTorch, NumPy, CUDA and the system's loader of libraries say; errors of Python's and of the system have their types
_SAYS = re.compile(
    r"can't allocate memory|not enough memory|out of memory|unable to allocate|cannot allocate memory|"
    r"failed to map segment|can't start new thread",
    re.IGNORECASE,
)
_ASKED = re.compile(r"(?:tried|unable) to allocate (\d+(?:\.\d+)?) (bytes|[KMGTPE]i?B)", re.IGNORECASE)
_UNITS = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50, "e": 2**60}


def is_short(error: BaseException) -> bool:
    """Return True if an error says that there is not enough memory."""
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | ImportError | OSError) and _SAYS.search(str(error)) is not None
    )


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
        group = Path("/proc/self/cgroup").read_text().strip().rsplit(":", 1)[-1].strip("/")
        root, left = Path("/sys/fs/cgroup"), []
        for folder in (root / group, *(root / group).parents):
            limit = folder / "memory.max"
            if folder.is_relative_to(root) and limit.is_file() and (most := limit.read_text().strip()) != "max":
                left.append(max(0, int(most) - int((folder / "memory.current").read_text())))
    except (OSError, ValueError):  # there are none
        return None
    return min(left, default=None)


def _status(name: str) -> int | None:
    return _field(Path("/proc/self/status"), name)


def _field(path: Path, name: str) -> int | None:
    """Return a size that Linux states in kB."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB$", path.read_text(), re.MULTILINE)
    except OSError:  # another system
        return None
    return None if found is None else int(found[1]) * 1024


def _shown(size: int) -> str:
    return f"{size / _GIB:.1f} GiB" if size >= _GIB else f"{size / 2**20:.0f} MiB"
