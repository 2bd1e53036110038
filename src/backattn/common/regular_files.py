"""Open regular files only: a pipe or a device could block or never end."""

import errno
import os
import stat
from io import BytesIO
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading in binary mode.

    A file of size 0 reads as empty: files of the kernel (``/proc/kmsg``, ``/proc/self/mem``) claim to be
    regular and of that size, but may have endless content.

    :raises OSError: it is missing, or it is a pipe, a device, a socket or a folder.
    """
    # Checked before it is opened, since opening a device may have effects; and afterwards, since another file
    # may have taken its place (O_NONBLOCK keeps the open from waiting for a pipe).
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
    """Read all bytes of a regular file; see :func:`open_regular`."""
    with open_regular(path) as file:
        return file.read()


def _require_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
