"""One writer at a time, by a lock that a dead process does not keep."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backattn.errors import BusyError


@contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Hold the lock file at ``path``; the kernel frees it when the process ends, however it ends.

    :raises BusyError: another process holds it; says which.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise BusyError(f"{path}: held by {holder}; wait for it to end, then run again") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
