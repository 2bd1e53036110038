"""The digest of an array's bytes, by the rule of a file's format version.

It shows damage, not forgery: who can write an array can write its digest. So version 4 takes XXH3 (128
bits), at a tenth of what the writing costs. The sha256 of the versions before cost as much as the writing;
version 3 had several threads take it, block by block.
"""

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128

# Of version 3.
_TREE_BLOCK = 1 << 20
# What is read at a time: Ctrl-C has to wait for it.
_SPAN = 1 << 24


def new_digest() -> xxh3_128:
    """Today's digest of an array that comes in contiguous parts: ``update``, then ``hexdigest``."""
    return xxh3_128()


def array_digest(data: NDArray[np.uint8], version: int) -> str:
    """The digest of an array's bytes in a file of this format version.

    :param data: *Shape:* (bytes,)
    """
    if version == 3:
        return _tree_digest(data)
    state = sha256() if version == 2 else new_digest()
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
