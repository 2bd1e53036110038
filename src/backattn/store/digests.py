"""The digest of an array's bytes, by the rule of a file's format version.

It shows damage, not forgery: who can write an array can write its digest. So version 4 takes XXH3 (128
bits), at a tenth of what the writing costs. The sha256 of the versions before cost as much as the writing;
version 3 had several threads take it, block by block.
"""

from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128

# Of version 3.
_TREE_BLOCK = 1 << 20
# What is read at a time: Ctrl-C has to wait for it.
_SPAN = 1 << 24


class ArrayDigest:
    """The digest of an array (32 hexadecimal digits) that comes in parts: XXH3 over its bytes in order."""

    def __init__(self) -> None:
        self._state = xxh3_128()

    def update(self, part: NDArray[Any]) -> None:
        """The next part of the array, contiguous."""
        self._state.update(part.data)

    def to_text(self) -> str:
        """Of all parts so far."""
        return self._state.hexdigest()


def array_digest(data: NDArray[np.uint8], version: int) -> str:
    """The digest of an array's bytes in a file of this format version.

    :param data: *Shape:* (bytes,)
    """
    match version:
        case 2:
            return _plain_digest(data)
        case 3:
            return _tree_digest(data)
        case _:
            digest = ArrayDigest()
            for start in range(0, len(data), _SPAN):
                digest.update(data[start : start + _SPAN])
            return digest.to_text()


def _plain_digest(data: NDArray[np.uint8]) -> str:
    """One sha256 over all."""
    state = sha256()
    for start in range(0, len(data), _SPAN):
        state.update(data[start : start + _SPAN].data)
    return state.hexdigest()


def _tree_digest(data: NDArray[np.uint8]) -> str:
    """Each block has a sha256 of its own (the last block may be shorter; an empty array has none), and the
    digest is the sha256 over these, in order."""
    state = sha256()
    for start in range(0, len(data), _TREE_BLOCK):
        state.update(sha256(data[start : start + _TREE_BLOCK].data).digest())
    return state.hexdigest()
