"""Files of others: fetched from a hub, vouched for by a digest or by the user, and only then unpickled.

flair's own model files are pickles, which can run code when they are opened. Here is the only line of the
library that opens one.
"""

import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from backattn.errors import MissingError, ModelError
from backattn.features.english.model_file import SUFFIX
from backattn.fingerprint import file_digest
from backattn.quoting import shortened


@contextmanager
def fetching(name: str, instead: str) -> Iterator[None]:
    """Around the call of a hub's client, which raises what it likes.

    :param instead: what a user does who cannot go online.
    :raises MissingError: whatever it raised.
    """
    try:
        yield
    except Exception as error:
        raise MissingError(
            f"{name}: cannot be fetched from the hub ({first_line(error)}); go online, or {instead}"
        ) from None


def require_voucher(name: str, *, pinned: bool, trust: bool, key: str) -> None:
    """Refuse a pickle that nobody vouches for, before it is fetched.

    :param key: of the recipe, which pins a digest.
    :raises ModelError: neither a pinned digest nor the user does.
    """
    if not (pinned or trust):
        raise ModelError(
            f"{name}: a flair file is a pickle and can run code; pin its digest as {key}, or pass --trust"
        )


def require_voucher_for_file(path: Path, *, pinned: bool, trust: bool) -> None:
    """Refuse the pickle of an English tagger that nobody vouches for.

    :raises ModelError: neither a pinned digest nor the user does.
    """
    if not (pinned or trust):
        raise ModelError(
            f"{path}: a flair file is a pickle and can run code; if you know where it comes from, make it a "
            f"safetensors file once (`backattn english convert {path} {path.with_suffix(SUFFIX)} --sha256 "
            f"{file_digest(path)}`), pin that digest in the recipe (english.sha256), or pass --trust"
        )


def check_digest(name: str, data: bytes, pinned: str) -> None:
    """Compare the bytes that are about to be opened: nobody can change the file in between.

    :param pinned: the recipe's digest; empty for none.
    :raises ModelError: it is another one.
    """
    found = hashlib.sha256(data).hexdigest()
    if pinned and found != pinned.lower():
        raise ModelError(
            f"{name}: sha256 is {found}, expected {pinned}; the file was changed: make or fetch it again, or "
            "pin the new digest if you know where it comes from"
        )


def unpickle(data: bytes) -> Any:
    """What is in a pickle that somebody vouches for; it may raise, and do, anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # older files name classes that have moved
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)


def how_opened(*, pinned: bool) -> str:
    """How a pickle was opened, in words: for the provenance of its numbers."""
    return "pickle, digest pinned in the recipe" if pinned else "pickle, --trust"


def first_line(error: Exception) -> str:
    """What a foreign error says, in short."""
    return shortened((str(error).strip() or type(error).__name__).splitlines()[0])
