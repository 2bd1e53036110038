"""Open regular files only: a pipe or a device could block or never end."""

import errno
import os
import stat
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

# Most bytes of a file that is read as a whole; the largest taggers have half of them.
MOST_BYTES = 1 << 32
# In a file larger than _SMALL, at least one byte in _HOLES must have been written; the others may be holes,
# which some tools make of zeros.
_SMALL = 1 << 30
_HOLES = 16


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading in binary mode.

    A file of size 0 reads as empty: files of the kernel (``/proc/kmsg``, ``/proc/self/mem``) claim to be
    regular and of that size, but may have endless content.

    :raises OSError: there is none, or it is a pipe, a device, a socket or a folder; or it is large and
        nearly all holes: a few bytes of an archive can unpack to such a file of a terabyte.
    """
    # Checked before it is opened, since opening a device may have effects; and afterwards, since another file
    # may have taken its place (O_NONBLOCK keeps the open from waiting for a pipe).
    _require_regular(path, os.stat(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        _require_regular(path, status)
        if status.st_size:
            _require_written(path, descriptor, status.st_size)
            return os.fdopen(descriptor, "rb")
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return BytesIO()


def read_regular(path: Path, most: int = MOST_BYTES) -> bytes:
    """Read all bytes of a regular file.

    :raises OSError: as :func:`open_regular`; or there are more than ``most``.
    """
    with open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        if size > most:
            raise OSError(errno.EFBIG, f"{size:,} bytes, expected at most {most:,}", str(path))
        file.seek(0)
        return file.read(size)  # read(most) would allocate `most` bytes first


def _require_written(path: Path, descriptor: int, size: int) -> None:
    if size <= _SMALL:
        return
    place = written = 0
    try:
        while written * _HOLES < size:
            place = os.lseek(descriptor, place, os.SEEK_DATA)
            begin, place = place, os.lseek(descriptor, place, os.SEEK_HOLE)
            written += place - begin
    except OSError as error:
        if error.errno != errno.ENXIO:  # a file system that does not tell
            written = size
    os.lseek(descriptor, 0, os.SEEK_SET)
    if written * _HOLES < size:
        raise OSError(errno.EINVAL, f"{size:,} bytes, of which only {written:,} were written", str(path))


def _require_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
