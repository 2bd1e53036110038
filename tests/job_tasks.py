"""Tasks for processes of their own; without torch, which takes longer to import than they do."""

import os
import signal
import sys
import time
from pathlib import Path

from backattn.common.errors import StaleError


class Square:
    """Writes the square of a number into a folder, or ends in one of the ways in which a task may end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, task: int) -> None:
        if task == 3:
            raise StaleError("three is stale")
        if task == 4:
            raise ZeroDivisionError("of no kind that is known")
        if task == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        if task == 6:
            time.sleep(3600)
        if task == 7:
            (self.folder / "7").write_text(f"{os.getcwd()} {os.environ['BACKATTN_CACHE']}")
            return
        (self.folder / str(task)).write_text(str(task**2))


class Threads:
    """Writes down the process that it was forked from, its threads, and what of torch was at work here."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def __call__(self, task: int) -> None:
        server, torch = os.getppid(), sys.modules.get("torch")
        threads = len(os.listdir(f"/proc/{server}/task"))
        told = (server, threads, torch is not None, torch is not None and torch.cuda.is_initialized())
        (self.folder / str(task)).write_text(" ".join(map(str, told)))
