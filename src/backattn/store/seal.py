"""Write and verify the seal: the first 512 bytes of a store, which protect all others.

HDF5 leaves a block at the start of a file (the user block) to the application. The seal records there the
size of the file, the place of its index (a JSON text of all attributes and of the place of each array), the
places of its big arrays, and the digest of every byte outside of them: the frame. The big arrays have
digests of their own in the index, which is part of the frame.

Kept on purpose, instead of reading with h5py: the HDF5 library trusts what it parses, and one changed byte in
a hundred makes it read memory out of bounds. Other programs can still open a store as plain HDF5.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from backattn.common.digests import canonical_json
from backattn.store.layout import (
    FORMAT_VERSION,
    KEY_BYTES,
    TRANSLATION,
    Kind,
    embedding_columns,
    transfer_columns,
)

SEAL_BYTES = 512
# Smaller arrays belong to the frame, whose bytes are verified whenever a store is opened.
BIG = 1 << 20
# Memory that an open store may take: the keys and offsets of about seven million sentences.
MOST_FRAME_BYTES = 1 << 29
MOST_INDEX_BYTES = 1 << 24

_MAGIC = b"backattn store\n"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_BLOCK = 1 << 20
_OFFSET_BYTES = 8

Extent = tuple[int, int]


class BrokenSeal(Exception):
    """A file is not a complete store; the message gives the reason, without path and advice."""


@dataclass(frozen=True)
class Seal:
    """The contents of the first 512 bytes of a store.

    :param size: size of the file in bytes.
    :param index: offset and length of the index.
    :param big: offset and length of each big array, in file order.
    :param frame: sha256 of all other bytes after the seal.
    """

    size: int
    index: Extent
    big: tuple[Extent, ...]
    frame: str

    def frames(self, extent: Extent) -> bool:
        """Return whether a part of the file lies in the frame, whose bytes were verified."""
        start, length = extent
        inside = start >= SEAL_BYTES and 0 <= length <= self.size - start
        return inside and all(start + length <= a or a + b <= start for a, b in self.big)

    def to_bytes(self) -> bytes:
        """Encode the seal as it is written to the file."""
        values = {"format": FORMAT_VERSION, "bytes": self.size, "index": self.index, "big": self.big,
                  "frame": self.frame}  # fmt: skip
        text = _MAGIC + canonical_json(values).encode("ascii")
        if len(text) >= SEAL_BYTES:
            raise ValueError(f"a seal of {len(text)} bytes: too many big arrays")
        return text.ljust(SEAL_BYTES - 1) + b"\n"


def most_sentences(kind: Kind) -> int:
    """Compute how many sentences a store of a kind can hold: their keys and offsets are in its frame.

    The size of the largest index is left for everything else in the frame.
    """
    columns = {
        "translation": TRANSLATION,
        "transfer": transfer_columns("float16", 1),
        "embedding": embedding_columns("float16", 1),
    }
    return (MOST_FRAME_BYTES - MOST_INDEX_BYTES) // (KEY_BYTES + _OFFSET_BYTES * len(columns[kind]))


def write_seal(path: Path | int, index: Extent, big: Sequence[Extent]) -> None:
    """Seal a finished HDF5 file that has a user block.

    :param path: path, or a file descriptor, which is closed.
    :param index: offset and length of its index.
    :param big: offset and length of the arrays that are not verified on opening.
    :raises BrokenSeal: the frame is larger than what a reader loads into memory.
    """
    with open(path, "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        extents = tuple(sorted(big))
        seal = Seal(size, index, extents, _frame_digest(file, size, extents))
        file.seek(0)
        file.write(seal.to_bytes())


def check_seal(file: BinaryIO) -> tuple[Seal, bytes]:
    """Verify the size of a file and every byte of its frame, then read its index.

    :raises BrokenSeal: the file is not a store, of another format version, or differs from what was written.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    block = file.read(SEAL_BYTES)
    if block.startswith(_HDF5):
        raise BrokenSeal("an HDF5 file that is not a store of backattn")
    if not block.strip(b"\0"):
        raise BrokenSeal("not complete: its writer was stopped" if block else "an empty file")
    seal = _parse(block)
    if seal.size != size:
        raise BrokenSeal(f"{size} bytes, {seal.size} were written")
    if _frame_digest(file, seal.size, seal.big) != seal.frame:
        raise BrokenSeal("its keys, offsets or attributes differ from their digest")
    start, length = seal.index
    if length > MOST_INDEX_BYTES or not seal.frames(seal.index):
        raise BrokenSeal("a seal whose index leaves the frame")
    file.seek(start)
    return seal, file.read(length)


def _parse(block: bytes) -> Seal:
    if not block.startswith(_MAGIC):
        raise BrokenSeal("not a store of backattn")
    try:
        values = json.loads(block[len(_MAGIC) :])
        version = int(values["format"])
        if version != FORMAT_VERSION:
            raise BrokenSeal(f"format version {version}, expected {FORMAT_VERSION}")
        big = tuple((int(start), int(length)) for start, length in values["big"])
        start, length = values["index"]
        seal = Seal(int(values["bytes"]), (int(start), int(length)), big, str(values["frame"]))
        canonical = seal.to_bytes() == block  # the encoding is unique: not even a space may differ
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise BrokenSeal("a damaged seal (its first 512 bytes)") from None
    if not canonical:
        raise BrokenSeal("a damaged seal (its first 512 bytes)")
    return seal


def _frame_digest(file: BinaryIO, size: int, big: Sequence[Extent]) -> str:
    state, total = hashlib.sha256(), 0
    for start, length in _gaps(size, big):
        total += length
        if total > MOST_FRAME_BYTES:
            raise BrokenSeal(f"keys and offsets of more than {MOST_FRAME_BYTES >> 20} MiB")
        file.seek(start)
        while length:
            data = file.read(min(length, _BLOCK))
            if not data:
                raise BrokenSeal("shorter than it was written")
            state.update(data)
            length -= len(data)
    return state.hexdigest()


def _gaps(size: int, big: Sequence[Extent]) -> Iterator[Extent]:
    """Iterate over the parts of the file between the big arrays.

    :raises BrokenSeal: the arrays overlap, or lie outside of the file.
    """
    place = SEAL_BYTES
    for start, length in big:
        if start < place or length <= 0:
            raise BrokenSeal("a seal whose arrays overlap")
        yield place, start - place
        place = start + length
    if place > size:
        raise BrokenSeal("a seal whose arrays leave the file")
    yield place, size - place
