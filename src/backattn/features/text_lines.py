"""Lines of the text files that a training reads, each with its number."""

import errno
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from backattn.errors import CorpusError, MissingError
from backattn.files import is_file

BYTE_ORDER_MARK = "\ufeff"


def text_lines(path: Path, remedy: str) -> Iterator[tuple[int, str]]:
    """Yield ``(line number, line)``; only a line feed ends a line, other separators are text.

    :param path: a file that gzip has packed ends in ``.gz``.
    :param remedy: what to do where the file cannot be read.
    :raises MissingError: it cannot be.
    :raises CorpusError: a line is not UTF-8; names file, line and byte.
    """
    try:
        if not is_file(path):  # a pipe or a device may never end
            raise FileNotFoundError(errno.ENOENT, "no such file")
        plain = path.open("rb")
    except OSError as error:
        raise MissingError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    with plain, gzip.open(plain) if path.suffix == ".gz" else plain as file:
        for number, raw in _numbered(path, file):
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise CorpusError(
                    f"{path}:{number}: byte {error.start + 1} of the line is not UTF-8; "
                    "convert the file to UTF-8"
                ) from None
            yield number, line.rstrip("\r\n")


def _numbered(path: Path, file: IO[bytes] | gzip.GzipFile) -> Iterator[tuple[int, bytes]]:
    try:
        yield from enumerate(file, 1)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise CorpusError(f"{path}: not whole, or not packed by gzip; fetch it again") from None
