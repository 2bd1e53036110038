"""What a store holds: columns of ragged arrays, one entry for each sentence.

A column is one flat dataset over all sentences and an ``offsets`` dataset of sentences + 1 borders
(thinc's ``Ragged``): entry i of a column is ``data[offsets[i] : offsets[i + 1]]``. Flat contiguous data
are as fast to read as a memory map, because a memory map is what reads them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

# Raised when the meaning or the place of any byte changes; CHANGELOG.md says what changed.
FORMAT_VERSION = 1

KEYS = "keys"
KEY_BYTES = 32

Kind = Literal["translation", "transfer"]
# One sentence's arrays by column name.
Entry = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Column:
    """One ragged array of a store.

    :param name: name of the dataset.
    :param dtype: numpy name of the items.
    :param width: columns of a two-dimensional dataset; 0 for a flat one.
    """

    name: str
    dtype: str
    width: int = 0

    @property
    def offsets(self) -> str:
        """Name of the dataset that holds this column's borders."""
        return "offsets" if self.name == "vectors" else f"{self.name}_offsets"

    def shape(self, rows: int) -> tuple[int, ...]:
        """Shape of the dataset when it holds ``rows`` rows."""
        return (rows, self.width) if self.width else (rows,)

    def empty(self) -> NDArray[Any]:
        """The entry of a sentence that has nothing in this column."""
        return np.empty(self.shape(0), dtype=self.dtype)


# A with its end-of-sentence row and column, flattened; the n English tokens as UTF-8, one a line; the
# number of segments that the translator needed.
TRANSLATION = (Column("attention", "float16"), Column("english", "uint8"), Column("segments", "int32"))


def transfer_columns(dtype: str, width: int) -> tuple[Column, ...]:
    """T, m rows of d values a sentence; the n English tags as UTF-8, one a line."""
    return (Column("vectors", dtype, width), Column("english_tags", "uint8"))


@dataclass(frozen=True, kw_only=True)
class Header:
    """Where a store's numbers come from; written into its attributes as JSON.

    :param kind: what the columns mean.
    :param recipe_id: the store's identity; see :mod:`backattn.features.plan`.
    :param recipe: everything that went into the identity, in the open.
    :param versions: versions of the packages that made the numbers.
    :param device: what computed them, in words.
    """

    kind: Kind
    recipe_id: str
    recipe: Mapping[str, Any]
    versions: Mapping[str, str]
    device: str


def encode_lines(tokens: tuple[str, ...]) -> NDArray[np.uint8]:
    """Tokens -> UTF-8 bytes, one token a line.

    :raises ValueError: for a token that would not come back as it is.
    """
    if any(not token or "\n" in token for token in tokens):
        raise ValueError(f"an empty token or one with a line break: {tokens!r}")
    return np.frombuffer("\n".join(tokens).encode("utf-8"), dtype=np.uint8)


def decode_lines(data: NDArray[np.uint8]) -> tuple[str, ...]:
    """The inverse of :func:`encode_lines`."""
    return tuple(data.tobytes().decode("utf-8").split("\n")) if len(data) else ()
