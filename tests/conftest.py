"""What all tests share: one thread, keyed hypothesis, and batches drawn from keys."""

import itertools
import warnings

import pytest
import torch
from hypothesis import HealthCheck, settings

# the same examples on every machine and in every run; time limits would measure the machine, not the code
settings.register_profile(
    "keyed", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("keyed")


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


@pytest.fixture
def alone_is_fine():
    """Let batches of one example pass without their warning, in tests that are about something else."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="a batch of one example")
        yield
