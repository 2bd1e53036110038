"""A real browser for the tests of this folder; without one they are skipped."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The helpers that make a cache with runs.
sys.path.append(str(Path(__file__).parents[1] / "report"))

import chromium


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Chromium]:
    """One tab."""
    if chromium.PROGRAM is None:
        pytest.skip("no Chromium: `apt-get install chromium`, as .ci/run does where it is root with CI=true")
    with chromium.started(tmp_path_factory.mktemp("chromium")) as tab:
        yield tab
