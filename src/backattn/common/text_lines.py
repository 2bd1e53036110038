"""Read the lines of text files with their numbers."""

import gzip
import zlib
from collections.abc import Iterator
from io import BufferedReader, BytesIO, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from backattn.common.errors import CorpusError, MissingError
from backattn.common.regular_files import open_regular

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BYTE_ORDER_MARK = "\ufeff"
# Bytes of a line; a longer one is a file without line feeds, or a sparse file.
LONGEST_LINE = 1 << 24
# Text compresses to about a tenth of its size, a decompression bomb to a thousandth; small files pass.
_MOST_UNPACKED = 50
_NEVER_TOO_MUCH = 1 << 24
_BLOCK = 1 << 20
_PACKED_BYTES = 4  # the first bytes of a file, which show whether it is compressed


def text_lines(path: Path, remedy: str) -> Iterator[tuple[int, str]]:
    """Yield ``(line number, line)``; only a line feed ends a line, other separators are text.

    :param path: the file; one that ends in ``.gz`` is decompressed.
    :param remedy: what to do if the file cannot be read, for the message.
    :raises MissingError: the file cannot be read.
    :raises CorpusError: a line is not UTF-8, or longer than any sentence (names file and line), or the file
        unpacks to far more than text does, or is compressed although its name does not end in ``.gz``.
    """
    try:
        plain = open_regular(path)
    except OSError as error:
        raise MissingError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    packed = path.suffix == ".gz"
    if not packed:
        start = plain.read(_PACKED_BYTES)
        plain.seek(0)
        if found := packed_form(path, start):
            plain.close()
            raise CorpusError(f"{path}: expected text, found {found}")
    # The buffer is larger than the size that always passes: a bomb is refused while the buffer is filled,
    # before its first line takes memory.
    with plain, BufferedReader(_Unpacked(path, plain), _NEVER_TOO_MUCH + 1) if packed else plain as file:
        for number, raw in _numbered(path, file):
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise CorpusError(
                    f"{path}:{number}: byte {error.start + 1} of the line is not UTF-8; "
                    "convert the file to UTF-8"
                ) from None
            yield number, line.rstrip("\r\n")


def unpacked(path: Path, packed: bytes, most: int) -> bytes:
    """Unpack the contents of a gzip file.

    :param path: the file, for messages.
    :param packed: its bytes.
    :param most: largest number of bytes of the contents.
    :raises CorpusError: it is damaged, or unpacks to more than ``most`` or to far more than text does.
    """
    file = _Unpacked(path, BytesIO(packed))
    blocks = []
    try:
        while block := file.read(_BLOCK):
            blocks.append(block)
            if file.size > most:
                raise CorpusError(f"{path}: unpacks to more than {most:,} bytes, which no corpus has")
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise _damaged(path) from None
    return b"".join(blocks)


class _Unpacked(RawIOBase):
    """A stream of the contents of a gzip file that refuses decompression bombs.

    :param path: the file, for messages.
    :raises CorpusError: while reading, when more bytes were unpacked than text of this packed size can have.
    """

    def __init__(self, path: Path, packed: BinaryIO) -> None:
        self.size = 0
        self._path = path
        self._packed = packed
        self._file = gzip.GzipFile(fileobj=packed)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        count = self._file.readinto(buffer)
        self.size += count
        packed = self._packed.tell()
        most = max(_NEVER_TOO_MUCH, _MOST_UNPACKED * packed)
        if self.size > most:
            raise CorpusError(
                f"{self._path}: unpacks to more than {most:,} bytes from its first {packed:,} "
                f"({_MOST_UNPACKED} times as many, or {_NEVER_TOO_MUCH >> 20} MiB), which no text does; if "
                "it is one, unpack it by hand (gunzip) and name that file"
            )
        return count


def _numbered(path: Path, file: BinaryIO | BufferedReader) -> Iterator[tuple[int, bytes]]:
    try:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), 1):
            if len(line) > LONGEST_LINE:
                raise CorpusError(
                    f"{path}:{number}: more than {LONGEST_LINE >> 20} MiB on a line; expected a sentence"
                )
            yield number, line
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise _damaged(path) from None


def packed_form(path: Path, data: bytes) -> str:
    """Say by its first bytes what kind of compressed file this is, and what to do; empty for any other file.

    A gzip file whose name ends in ``.gz`` is read as it is: empty, too.
    """
    if data.startswith(b"\x1f\x8b") and path.suffix == ".dz":
        return (
            "a dictionary of dictd, packed by gzip; convert it to lines of a headword, a tab and its English "
            "translation, and name that file"
        )
    if data.startswith(b"\x1f\x8b") and path.suffix != ".gz":
        return "a file packed by gzip; end its name in .gz, or unpack it (gunzip)"
    if data.startswith(b"PK\x03\x04"):
        return "a zip archive; unpack it (unzip), and name a file of it"
    return ""


def _damaged(path: Path) -> CorpusError:
    return CorpusError(f"{path}: not whole, or not packed by gzip; fetch it again")
