"""The digest of an array: a tree of depth one, so that several threads take it.

Sha256 goes through its bytes one after the other, at less than the speed at which they are written. Here
each block of :data:`DIGEST_BLOCK` bytes, from the array's first byte on, has a sha256 of its own (the last
block may be shorter; an empty array has none), and the digest is the sha256 over these, in order. What lies
in a block cannot be taken for such a list: the index says how many bytes an array has.
"""

import os
from collections.abc import Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backattn.store.layout import DIGEST_BLOCK

# More do not read faster from one disk.
_MOST_THREADS = 4
# What a thread takes at a time, in whole blocks.
_SPAN = 16 * DIGEST_BLOCK


def digest_threads(busy: int = 0) -> ThreadPoolExecutor:
    """Threads to take digests with: one for each core, up to four, but for so many cores that are busy."""
    return ThreadPoolExecutor(max(1, min(_MOST_THREADS, (os.cpu_count() or 1) - busy)))


def leaves(data: NDArray[Any]) -> bytes:
    """Sha256 of each block, one after the other (32 bytes each).

    :param data: (bytes,) uint8: an array, or a part of one that begins at a block.
    """
    blocks = (data[start : start + DIGEST_BLOCK] for start in range(0, len(data), DIGEST_BLOCK))
    return b"".join(sha256(block.data).digest() for block in blocks)


def root(parts: Iterable[bytes]) -> str:
    """The digest of an array (64 hexadecimal digits), from the leaves of its parts in order."""
    return sha256(b"".join(parts)).hexdigest()


def tree_digest(data: NDArray[np.uint8], threads: Executor) -> str:
    """The digest of an array's bytes, (bytes,) uint8, as of format version 3."""
    return root(threads.map(leaves, (data[start : start + _SPAN] for start in range(0, len(data), _SPAN))))


def plain_digest(data: NDArray[np.uint8]) -> str:
    """That of format version 2: one sha256 over all."""
    state = sha256()
    for start in range(0, len(data), _SPAN):
        state.update(data[start : start + _SPAN].data)
    return state.hexdigest()
