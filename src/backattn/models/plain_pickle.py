"""Read files of torch as plain data: no code in a pickle runs, and nothing grows beyond the size of the file.

Kept on purpose beside ``torch.load(weights_only=True)``, which bounds neither what an archive unpacks to nor
what a pickle builds.
"""

import os
import struct
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, _weights_only_unpickler

from backattn.common.regular_files import open_regular

_ZIP = b"PK\3\4"
# The end of an archive: the record of a large archive, its locator, and the record of any archive.
_END = struct.Struct("<4s 44x Q 4s 4x Q 4x 4s 12x I H")


def load_plain(path: Path) -> Any:
    """Load a file of torch as plain data; its weights are memory-mapped where the format allows.

    Classes beyond torch's own are those of the ``torch.serialization.safe_globals`` that are active.

    :raises pickle.UnpicklingError: it asks for anything else.
    :raises Exception: it is damaged; or it claims more weights than it has bytes.
    """
    with open_regular(path) as file:
        zipped = file.read(len(_ZIP)) == _ZIP  # as torch decides it
        size = file.seek(0, os.SEEK_END)
        if not size:
            raise ValueError("empty")
        if zipped:
            _refuse_bomb(file, size)
    with _nothing_grows():
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    model = state.get("model", state) if isinstance(state, dict) else None
    if isinstance(model, dict) and _bytes_of(model.values()) > size:
        raise ValueError("it claims more weights than it has bytes")
    return state


def _refuse_bomb(file: BinaryIO, size: int) -> None:
    """Refuse an archive that is smaller than what it unpacks to; torch never compresses.

    Python looks for an archive's directory before its end, torch at the place that the end names: an archive
    could have a different directory for each.

    :raises ValueError: it is smaller, or has two directories.
    """
    file.seek(max(0, size - _END.size))
    end = file.read().rjust(_END.size, b"\0")
    record64, begin64, locator, place64, record, begin, comment = _END.unpack(end)
    if locator == b"PK\6\7":
        begin = begin64 if (record64, place64) == (b"PK\6\6", size - _END.size) else -1
    with zipfile.ZipFile(file) as archive:
        if (record, begin, comment) != (b"PK\5\6", archive.start_dir, 0):
            raise ValueError("an archive that torch did not write")
        if sum(member.file_size for member in archive.infolist()) > size:
            raise ValueError("a compressed archive, which torch does not write")


@contextmanager
def _nothing_grows() -> Iterator[None]:
    """Keep torch's safe reader from building anything larger than what it reads.

    It lets a pickle call ``bytearray`` and ``codecs.encode`` with any argument. ``bytearray(1 << 40)`` is a
    terabyte of zeros, and each encoding to hexadecimal digits doubles its input.
    """
    allowed = _weights_only_unpickler._get_allowed_globals()
    before = dict(allowed)
    del allowed["builtins.bytearray"]
    allowed["_codecs.encode"] = _latin
    try:
        yield
    finally:
        allowed.clear()
        allowed.update(before)


def _latin(text: str, encoding: str) -> bytes:
    """Encode text as Latin-1, the form in which pickles of torch hold bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in another form than pickles have")
    return text.encode(encoding)


def _bytes_of(weights: Iterable[Any]) -> int:
    """Count the bytes of tensors; shared storage counts once."""
    stores = (weight.untyped_storage() for weight in weights if isinstance(weight, Tensor))
    return sum({store.data_ptr(): store.nbytes() for store in stores}.values())
