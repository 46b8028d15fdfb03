"""Errors of memory are known by what they say, and told with figures."""

from __future__ import annotations

import errno
import re
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch

from vicinal.lab import memory
from vicinal.lab.errors import UserError

HUGE = 2**50


def error_of(call: object) -> BaseException:
    with pytest.raises((MemoryError, RuntimeError)) as error:
        call()  # type: ignore[operator]
    return error.value


def test_what_is_asked_for_is_read_off_the_errors_themselves() -> None:
    by_torch = error_of(lambda: torch.empty(HUGE, dtype=torch.uint8))
    by_numpy = error_of(lambda: np.empty(HUGE, np.uint8))
    for error in (by_torch, by_numpy):
        assert memory.is_short(error)
        assert memory.asked(error) == HUGE
        assert memory.sentence(error).startswith("there is not enough memory (1048576.0 GiB were asked for at once, ")
    assert memory.asked(RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has")) == 20 * 2**20
    assert memory.asked(MemoryError()) is None


def test_other_errors_are_not_of_memory() -> None:
    for other in (RuntimeError("shapes differ"), OSError(errno.ENOSPC, "full"), ValueError("out of memory"), None):
        assert other is None or not memory.is_short(other)
    caused = ValueError("x")
    caused.__cause__ = MemoryError()
    assert memory.is_short(caused)
    assert memory.is_short(OSError(errno.ENOMEM, "Cannot allocate memory"))
    assert memory.is_short(ImportError("libtorch_cpu.so: failed to map segment from shared object"))


def test_the_figures_are_those_of_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    free, why = memory.available()
    assert free is not None
    assert 0 < free < 2**50
    used = memory._status("VmSize")
    assert used is not None
    monkeypatch.setattr(resource, "getrlimit", lambda _: (used + 2**20, used + 2**20))
    free, why = memory.available()
    assert why == "under this process's limit (ulimit -v)"
    assert free is not None
    assert free <= 2**20
    assert re.fullmatch(r"[01] MiB are free under .*, this process uses \d+(\.\d)? [MG]iB", memory.figures())
    with pytest.raises(UserError, match=r"may take [01] MiB more .* take about 1\.0 GiB: raise the limit$"):
        memory.check_limit(2**30)
    memory.check_limit(0)


def test_no_limit_is_no_trouble() -> None:
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        pytest.skip("these tests run under a limit of their own")
    memory.check_limit(HUGE)


def test_it_imports_nothing_that_needs_memory() -> None:
    code = "import sys, vicinal.lab.memory as m; print(m.figures()); assert 'torch' not in sys.modules"
    assert "are free" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
