"""A few of every fault on the cache; ``python -m faults`` tries them all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fairseq")
pytest.importorskip("flair")

TESTS = Path(__file__).parents[1]


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_damaged_is_taken_for_whole() -> None:
    # In a process of its own: its trials are forks, which must not find a torch that has computed.
    places = {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "faults", "--quick"], env=os.environ | places, capture_output=True, text=True
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-3000:]
