"""Read the lines of text files with their numbers."""

import gzip
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from backattn.common.errors import CorpusError, MissingError
from backattn.common.regular_files import open_regular

BYTE_ORDER_MARK = "\ufeff"
# Bytes of a line; a longer one is a file without line feeds, or a sparse file.
LONGEST_LINE = 1 << 24
# Text compresses to about a tenth of its size, a decompression bomb to a thousandth; small files pass.
_MOST_UNPACKED = 50
_NEVER_TOO_MUCH = 1 << 24
_BLOCK = 1 << 20


def text_lines(path: Path, remedy: str) -> Iterator[tuple[int, str]]:
    """Yield ``(line number, line)``; only a line feed ends a line, other separators are text.

    :param path: the file; one that ends in ``.gz`` is decompressed.
    :param remedy: what to do if the file cannot be read, for the message.
    :raises MissingError: the file cannot be read.
    :raises CorpusError: a line is not UTF-8, or longer than any sentence (names file and line), or the file
        unpacks to far more than text does.
    """
    try:
        plain = open_regular(path)
    except OSError as error:
        raise MissingError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    with plain, gzip.open(plain) if path.suffix == ".gz" else plain as file:
        for number, raw in _numbered(path, file, plain):
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise CorpusError(
                    f"{path}:{number}: byte {error.start + 1} of the line is not UTF-8; "
                    "convert the file to UTF-8"
                ) from None
            yield number, line.rstrip("\r\n")


def unpacked(path: Path, packed: bytes, most: int) -> bytes:
    """The contents of a gzip file.

    :param path: the file, for messages.
    :param packed: its bytes.
    :param most: largest number of bytes of the contents.
    :raises CorpusError: it is damaged, or unpacks to more than ``most`` or to far more than text does.
    """
    blocks, size, source = [], 0, BytesIO(packed)
    try:
        with gzip.open(source) as file:
            while block := file.read(_BLOCK):
                blocks.append(block)
                size += len(block)
                _refuse_bomb(path, size, source.tell())
                if size > most:
                    raise CorpusError(f"{path}: unpacks to more than {most:,} bytes, which no corpus has")
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise _damaged(path) from None
    return b"".join(blocks)


def _numbered(path: Path, file: BinaryIO | gzip.GzipFile, plain: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their numbers.

    :param plain: the file below ``file``, which tells how many packed bytes were read.
    """
    size = 0
    try:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), 1):
            if isinstance(file, gzip.GzipFile):
                size += len(line)
                _refuse_bomb(path, size, plain.tell())
            if len(line) > LONGEST_LINE:
                raise CorpusError(
                    f"{path}:{number}: more than {LONGEST_LINE >> 20} MiB on a line; expected a sentence"
                )
            yield number, line
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise _damaged(path) from None


def _refuse_bomb(path: Path, size: int, packed: int) -> None:
    """Refuse a file whose first ``packed`` bytes have given ``size`` bytes, if no text packs so well."""
    most = max(_NEVER_TOO_MUCH, _MOST_UNPACKED * packed)
    if size > most:
        raise CorpusError(
            f"{path}: unpacks to more than {most:,} bytes from its first {packed:,} ({_MOST_UNPACKED} times "
            f"as many, or {_NEVER_TOO_MUCH >> 20} MiB), which no text does; if it is one, unpack it by hand "
            "(gunzip) and name that file"
        )


def _damaged(path: Path) -> CorpusError:
    return CorpusError(f"{path}: not whole, or not packed by gzip; fetch it again")
