"""Marks the tests that need a published data set: `make test-real` runs these alone."""

import pytest


@pytest.hookimpl(tryfirst=True)  # before `-m` takes its choice
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what asks for the fixture `real_data`."""
    for item in items:
        if "real_data" in getattr(item, "fixturenames", ()):
            item.add_marker("real")
