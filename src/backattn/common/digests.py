"""What a thing is called: digests over canonical JSON and file bytes. No pickle, no fallback.

Everything that the project caches is named after its content, so that equal inputs share a name on
every machine and a changed input can never be mistaken for the old one.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from backattn.common.regular_files import open_regular

DIGEST_BYTES = 32
_READ_BYTES = 1 << 20
# json.dumps would make one for each call: half of the time that a sentence's key takes.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: object) -> str:
    """Serialise to the one JSON text of a value: sorted keys, no spaces, no NaN.

    :raises TypeError: for a value that JSON does not know; nothing is guessed or stringified.
    :raises ValueError: for NaN and infinity.
    """
    return _ENCODER.encode(value)


def digest(value: object) -> str:
    """Sha256 (64 hexadecimal digits) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode("utf-8")).hexdigest()


def file_digest(path: Path) -> str:
    """Sha256 (64 hexadecimal digits) of a file's bytes."""
    state = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(_READ_BYTES):
            state.update(block)
    return state.hexdigest()


def sentence_key(tokens: Sequence[str]) -> bytes:
    """The 32 bytes that name a sentence: sha256 over its exact token sequence, labels left out.

    JSON keeps the token borders, so ``["a b"]`` and ``["a", "b"]`` have different keys.
    """
    return hashlib.sha256(canonical_json(list(tokens)).encode("utf-8")).digest()
