"""Compute digests of canonical JSON and of file bytes. No pickle, no fallback.

The cache names everything after its content, so that equal inputs have the same name on every machine and a
changed input is never mistaken for the old one.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from backattn.common.regular_files import open_regular

DIGEST_BYTES = 32
_READ_BYTES = 1 << 20
# json.dumps would build an encoder for each call: half of the time of a sentence key.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: object) -> str:
    """Serialise a value to its canonical JSON text: sorted keys, no spaces, no NaN.

    :raises TypeError: for a value that is not JSON; nothing is converted to text.
    :raises ValueError: for NaN and infinity.
    """
    return _ENCODER.encode(value)


def digest(value: object) -> str:
    """Return the sha256 (64 hexadecimal digits) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode("utf-8")).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 (64 hexadecimal digits) of the bytes of a file."""
    state = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(_READ_BYTES):
            state.update(block)
    return state.hexdigest()


def sentence_key(tokens: Sequence[str]) -> bytes:
    """Return the key of a sentence: sha256 (32 bytes) of its exact token sequence, without labels.

    JSON keeps the token boundaries, so ``["a b"]`` and ``["a", "b"]`` have different keys.
    """
    return hashlib.sha256(canonical_json(list(tokens)).encode("utf-8")).digest()
