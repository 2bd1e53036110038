"""Let one process at a time write, by a lock that the kernel frees when a process dies.

Kept on purpose, instead of a package such as filelock: the lock file is opened without following links, a
file of other content is never overwritten, the message names the process that holds the lock, and `gc` may
delete lock files.

Some network and FUSE file systems have no such locks. There, ``BACKATTN_LOCK=file`` makes the existence of
the file the lock, see :mod:`~backattn.common.existence_lock`.
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

from backattn.common.errors import BusyError, RecipeError, StoreError
from backattn.common.existence_lock import MOST_BYTES, is_holder, no_lock, release, take
from backattn.common.safe_text import quoted

# A link in place of a lock may lead to a file of the user, and opening a pipe may wait for ever.
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
# Content of a lock file; a file of other content must not be overwritten. A power cut leaves zeros.
_CONTENT = re.compile(rb"(process \d+ on [^\n,]*\n?)?\0*")
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}


@contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Hold the lock file at ``path``; the kernel frees it when the process ends, however it ends.

    :raises BusyError: another process holds it; names the process.
    :raises StoreError: the lock file cannot be created (a read-only folder, a full disk), the file system has
        no locks, or a link, a pipe or a file of other content lies in its place.
    :raises RecipeError: ``BACKATTN_LOCK`` has an unknown value.
    """
    kind = os.environ.get("BACKATTN_LOCK", "")
    if kind not in ("", "file"):
        raise RecipeError(
            f"the environment variable BACKATTN_LOCK is {quoted(kind)}; set it to file where the file system "
            "has no locks, or unset it"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = take(path) if kind else _lock(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise no_lock(path, "a link") from None
        raise StoreError(
            f"{path}: the lock cannot be made ({error.strerror}); make the folder writable, or set "
            "BACKATTN_CACHE to one that is, then run again"
        ) from None
    try:
        yield
    finally:
        if isinstance(held, FileIO):
            held.close()
        else:
            release(path, held)


def _lock(path: Path) -> FileIO:
    while True:
        descriptor, made = _open(path)
        file = FileIO(descriptor, "a+")
        try:
            _acquire(path, file, made)
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


def _open(path: Path) -> tuple[int, bool]:
    """Open a lock file; also return whether it was created."""
    with suppress(FileExistsError):
        return os.open(path, _FLAGS | os.O_EXCL, 0o666), True
    return os.open(path, _FLAGS, 0o666), False


def _acquire(path: Path, file: FileIO, made: bool) -> None:
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        raise no_lock(path, "a pipe or a device")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        busy = False
    except BlockingIOError:
        busy = True
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        if made:  # with BACKATTN_LOCK=file, a file that exists counts as locked
            path.unlink(missing_ok=True)
        raise StoreError(
            f"{path}: its file system has no locks ({error.strerror}); set BACKATTN_LOCK=file for every "
            "process that uses this cache, then run again"
        ) from None
    content = os.pread(file.fileno(), MOST_BYTES, 0)
    if is_holder(content):
        raise BusyError(
            f"{path}: was locked with BACKATTN_LOCK=file; set that for every process that uses this cache, "
            "then run again"
        )
    if not _CONTENT.fullmatch(content):
        raise no_lock(path, "a file of other content")
    if busy:
        holder = content.decode("utf-8", "replace").strip("\0\n ") or "another process"
        raise BusyError(f"{path}: held by {holder}; wait for it to end, then run again")


def _is_at(path: Path, file: FileIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False
