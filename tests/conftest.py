"""What all tests share: one thread, keyed hypothesis, and batches drawn from keys."""

import contextlib
import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings

import pytest
import torch
from hypothesis import HealthCheck, settings

from vicinal.lab import filelock

# the same examples on every machine and in every run; time limits would measure the machine, not the code
settings.register_profile(
    "keyed", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("keyed")

# a shell that starts the tests in its background has Ctrl-C ignored, and processes inherit that
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Put slow tests first: what several processes have left in the end is short."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def worker_server():
    """Start the server that forks workers with all that they import, which takes seconds; Windows has none."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return
    from multiprocessing import forkserver

    multiprocessing.set_forkserver_preload(["vicinal.lab.cli", "vicinal.lab.training.loop", "torch._dynamo"])
    forkserver.ensure_running()


@pytest.fixture(scope="session")
def one_at_a_time(tmp_path_factory):
    """`with one_at_a_time("name") as folder`: a folder that all processes of the tests share, held by one at a time."""
    ours = tmp_path_factory.getbasetemp()
    shared = ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours

    @contextlib.contextmanager
    def hold(name):
        with (shared / f"{name}.lock").open("w") as lock, contextlib.ExitStack() as stack:
            while True:
                with contextlib.suppress(BlockingIOError):
                    stack.enter_context(filelock.held(lock))
                    break
                time.sleep(0.1)
            folder = shared / f"{name}-of-all"
            folder.mkdir(exist_ok=True)
            yield folder

    return hold


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _as_in_a_new_process(monkeypatch):
    """Let vicinities without a seed draw the same in every run of a test, and say again what is said once."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(0)
    monkeypatch.setattr("vicinal._state._INSTANCES", itertools.count(1))
    monkeypatch.setattr("vicinal._warn._TOLD", set())
    yield
    torch.set_rng_state(before)


FORKED = """
import json, os, sys, tempfile, traceback
import numpy, torch
for line in sys.stdin:
    with tempfile.TemporaryFile() as printed:
        if os.fork() == 0:
            os.dup2(printed.fileno(), 1)
            status = 0
            try:
                exec(json.loads(line), {"__name__": "__main__"})
            except BaseException:
                traceback.print_exc(file=sys.stdout)
                status = 1
            sys.stdout.flush()
            os._exit(status)
        status = os.wait()[1]
        printed.seek(0)
        print(json.dumps([status, printed.read().decode()]), flush=True)
"""


@pytest.fixture(scope="session")
def run_fresh():
    """`run_fresh(code)` runs code in a process that has imported PyTorch and NumPy and nothing else; returns its output.

    Each is a fork of one process, since importing PyTorch takes seconds; where there is no fork, it is a process of its own.
    """
    if not hasattr(os, "fork"):

        def run_alone(code):
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        yield run_alone
        return
    with subprocess.Popen(
        [sys.executable, "-c", FORKED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:

        def run(code):
            print(json.dumps(code), file=server.stdin, flush=True)
            status, printed = json.loads(server.stdout.readline())
            assert status == 0, printed
            return printed

        yield run
        server.kill()  # workers that were forked meanwhile may hold its input open


@pytest.fixture
def alone_is_fine():
    """Let batches of one example pass without their warning, in tests that are about something else."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="a batch of one example")
        yield
