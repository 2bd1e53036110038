"""Shared by all tests: the helpers here and in report/ can be imported, and torch keeps to one thread."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "report")]
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers of pytest-xdist would fight for two cores
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Shared machines are slow now and then: an example that takes long says nothing about the code.
settings.register_profile("shared", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=25)
settings.load_profile("shared")


def pytest_configure(config: pytest.Config) -> None:
    """The quick tests (``-m "not slow"``) take fewer examples of a property, and do not wait for the disk."""
    if config.option.markexpr == "not slow":
        settings.load_profile("quick")
        os.fsync = lambda fd: None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that hold slow tests: a worker that gets one last keeps the others waiting."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
