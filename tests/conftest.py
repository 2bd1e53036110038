"""Shared by all tests: the helpers beside this file can be imported, and torch keeps to one thread."""

import os
import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Shared machines are slow now and then: an example that takes long says nothing about the code.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")
