"""One writer at a time, by a lock that a dead process does not keep."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from backattn.errors import BusyError, StoreError


@contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Hold the lock file at ``path``; the kernel frees it when the process ends, however it ends.

    :raises BusyError: another process holds it; says which.
    :raises StoreError: the lock file cannot be made: a read-only folder, a full disk.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _lock(path)
    except OSError as error:
        raise StoreError(
            f"{path}: the lock cannot be made ({error.strerror}); make the folder writable, or set "
            "BACKATTN_CACHE to one that is, then run again"
        ) from None
    with file:
        yield


def _lock(path: Path) -> FileIO:
    while True:
        file = FileIO(path, "a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().decode("utf-8", "replace").strip() or "another process"
            file.close()
            raise BusyError(f"{path}: held by {holder}; wait for it to end, then run again") from None
        # `gc` takes lock files away: a lock on a file that is no longer at its path locks nothing.
        if _is_at(path, file):
            break
        file.close()
    with suppress(OSError):  # the lock holds on a full disk too, which `gc` is to make free
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return file


def _is_at(path: Path, file: FileIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
