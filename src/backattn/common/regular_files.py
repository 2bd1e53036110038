"""Opening what must be a regular file, whoever put it there: nothing here can wait or go on for ever."""

import errno
import os
import stat
from io import BytesIO
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read its bytes.

    A file of size 0 is empty, whatever it would give: the kernel's own files (``/proc/kmsg``,
    ``/proc/self/mem``) claim to be regular, and are of that size.

    :raises OSError: there is none, or it is a pipe, a device, a socket or a folder.
    """
    # Looked at before it is opened, because to open a device may already do something; and after, because
    # another file may have taken its place, which O_NONBLOCK then does not wait for.
    _require_regular(path, os.stat(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        _require_regular(path, status)
        if status.st_size:
            return os.fdopen(descriptor, "rb")
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return BytesIO()


def read_regular(path: Path) -> bytes:
    """All bytes of a regular file; as :func:`open_regular`."""
    with open_regular(path) as file:
        return file.read()


def _require_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
