"""Let one process at a time write, by a lock that the kernel frees when a process dies.

Kept on purpose, instead of a package such as filelock: the lock file is opened without following links, a
file of other content is never overwritten, the message names the process that holds the lock, and `gc` may
delete lock files.
"""

import errno
import fcntl
import os
import re
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from backattn.common.errors import BusyError, StoreError

# A link in place of a lock may lead to a file of the user, and opening a pipe may wait for ever.
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
# Content of a lock file; a file of other content must not be overwritten. A power cut leaves zeros.
_CONTENT = re.compile(rb"(process \d+ on [^\n]*\n?)?\0*")
_MOST_BYTES = 512


@contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Hold the lock file at ``path``; the kernel frees it when the process ends, however it ends.

    :raises BusyError: another process holds it; names the process.
    :raises StoreError: the lock file cannot be created (a read-only folder, a full disk), or a link, a pipe
        or a file of other content lies in its place.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _lock(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _no_lock(path, "a link") from None
        raise StoreError(
            f"{path}: the lock cannot be made ({error.strerror}); make the folder writable, or set "
            "BACKATTN_CACHE to one that is, then run again"
        ) from None
    with file:
        yield


def _lock(path: Path) -> FileIO:
    while True:
        file = FileIO(os.open(path, _FLAGS, 0o666), "a+")
        try:
            _acquire(path, file)
            # `gc` removes lock files: a lock on a file that is no longer at its path has no effect.
            if _is_at(path, file):
                break
        except BaseException:
            file.close()
            raise
        file.close()
    with suppress(OSError):  # the lock also works on a full disk, on which `gc` must run
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return file


def _acquire(path: Path, file: FileIO) -> None:
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        raise _no_lock(path, "a pipe or a device")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        busy = False
    except BlockingIOError:
        busy = True
    content = os.pread(file.fileno(), _MOST_BYTES, 0)
    if not _CONTENT.fullmatch(content):
        raise _no_lock(path, "a file of other content")
    if busy:
        holder = content.decode("utf-8", "replace").strip("\0\n ") or "another process"
        raise BusyError(f"{path}: held by {holder}; wait for it to end, then run again")


def _no_lock(path: Path, found: str) -> StoreError:
    return StoreError(f"{path}: is {found}, expected a lock file; move it away, then run again")


def _is_at(path: Path, file: FileIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False
