"""The digest of an array's bytes: XXH3 of 128 bits.

It shows damage, not forgery: a program that can write an array can write its digest. So a digest that is not
cryptographic serves, at a tenth of the cost of writing the array; sha256 costs as much as the writing.
"""

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128

# Bytes that are hashed at a time; Ctrl-C waits for the end of a block.
_BLOCK_BYTES = 1 << 24


def new_digest() -> xxh3_128:
    """Start the digest of an array that comes in contiguous parts: ``update``, then ``hexdigest``."""
    return xxh3_128()


def array_digest(data: NDArray[np.uint8]) -> str:
    """Compute the digest of an array's bytes.

    :param data: *Shape:* (bytes,)
    """
    state = new_digest()
    for start in range(0, len(data), _BLOCK_BYTES):
        state.update(data[start : start + _BLOCK_BYTES].data)
    return state.hexdigest()
