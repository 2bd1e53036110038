"""Files of others: fetched from a hub, and unpickled once somebody vouches for them.

flair's own model files are pickles, which can run code when they are opened. Here is the only line of the
library that opens one; :mod:`~backattn.features.vouchers` says who vouches.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from backattn.errors import MissingError
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


def unpickle(data: bytes) -> Any:
    """What is in a pickle that somebody vouches for; it may raise, and do, anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # older files name classes that have moved
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)


def first_line(error: Exception) -> str:
    """What a foreign error says, in short."""
    return shortened((str(error).strip() or type(error).__name__).splitlines()[0])
