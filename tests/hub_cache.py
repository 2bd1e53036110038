"""The cache of transformers' hub, as huggingface_hub lays it out, for a process that is offline."""

import os
import shutil
import subprocess
import sys
from pathlib import Path


def run_offline(folder: Path, name: str, home: Path, code: str, *arguments: str) -> list[str]:
    """Run code where the hub's cache holds one model; gives the lines that it prints.

    :param folder: of the model: a snapshot of it is kept, and the name of the newest one.
    :param name: ``owner/model``.
    :param home: where the cache is made.
    """
    kept = home / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, kept / "snapshots/abc")
    (kept / "refs").mkdir()
    (kept / "refs/main").write_text("abc")
    environment = {**os.environ, "HF_HUB_CACHE": str(home), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()
