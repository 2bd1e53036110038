"""Define what a store holds: columns of ragged arrays, one entry for each sentence.

A column is one flat dataset over all sentences and an ``offsets`` dataset of sentences + 1 borders
(thinc's ``Ragged``): entry i of a column is ``data[offsets[i] : offsets[i + 1]]``. The data are contiguous
and uncompressed, so that they are read through a memory map.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from backattn.common.digests import digest

# Raised by a release in which the meaning or the place of any byte of the file differs from the release
# before; CHANGELOG.md says what changed. A store of another version is refused.
FORMAT_VERSION = 1
# Part of every store's name (recipe id). Raised by a release that computes other numbers from the same
# models and recipe, so that all stores are made anew.
IDENTITY_VERSION = 1

KEYS = "keys"
KEY_BYTES = 32
INDEX = "index"

Kind = Literal["translation", "transfer", "embedding"]
# The arrays of one sentence by column name.
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
        """Name of the dataset that holds the borders of this column."""
        return "offsets" if self.name == "vectors" else f"{self.name}_offsets"

    def shape(self, rows: int) -> tuple[int, ...]:
        """Shape of the dataset when it holds ``rows`` rows."""
        return (rows, self.width) if self.width else (rows,)

    def empty(self) -> NDArray[Any]:
        """Make an entry of no rows."""
        return np.empty(self.shape(0), dtype=self.dtype)


# The id of the run that computed a sentence (:attr:`Origin.id`), in bytes.
ORIGIN = Column("origin", "uint8")
ORIGIN_BYTES = 8

# A with its end-of-sentence row and column, flattened; the n English tokens as UTF-8, one a line; the
# number of segments in which the sentence was translated, and how many of their translations reached the
# length limit.
TRANSLATION = (
    Column("attention", "float16"),
    Column("english", "uint8"),
    Column("segments", "int32"),
    Column("limited", "int32"),
    ORIGIN,
)


# Columns of a dictionary's translations: also the number of source tokens that it does not have.
DICTIONARY_TRANSLATION = (*TRANSLATION, Column("unknown", "int32"))


def transfer_columns(dtype: str, width: int) -> tuple[Column, ...]:
    """Columns of a transfer store: T, m rows of d values a sentence; the n English tags as UTF-8 lines."""
    return (Column("vectors", dtype, width), Column("english_tags", "uint8"), ORIGIN)


def embedding_columns(dtype: str, width: int) -> tuple[Column, ...]:
    """Columns of an embedding store: m rows a sentence; how many of its tokens have a zero vector."""
    return (Column("vectors", dtype, width), Column("unknown", "int32"), ORIGIN)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A run that computed sentences. A store that grew over months has several.

    :param started: start of the run, in UTC.
    :param device: name of the device that computed.
    :param versions: versions of Python and of the packages that made the numbers.
    :param commit: commit of the package's own git checkout; empty where it was not run from one.
    :param opened: how the model's file was opened, such as ``pickle, --trust``.
    :param tokens: number of source tokens that the run computed for this store.
    :param seconds: wall time of that, without the loading of the model.
    """

    started: str
    device: str
    versions: Mapping[str, str]
    commit: str
    opened: str
    tokens: int = 0
    seconds: float = 0.0

    @property
    def id(self) -> str:
        """Hexadecimal digest of everything but ``tokens`` and ``seconds``."""
        return digest({**asdict(self), "tokens": 0, "seconds": 0.0})[: 2 * ORIGIN_BYTES]

    def after(self, tokens: int, seconds: float) -> "Origin":
        """Add tokens and seconds to the work of the run."""
        return replace(self, tokens=self.tokens + tokens, seconds=round(self.seconds + seconds, 3))


def merge_origins(origins: Iterable[Origin]) -> dict[str, Origin]:
    """Index origins by id, and add up the work of those with the same id."""
    merged: dict[str, Origin] = {}
    for origin in origins:
        known = merged.get(origin.id)
        merged[origin.id] = known.after(origin.tokens, origin.seconds) if known else origin
    return merged


@dataclass(frozen=True, kw_only=True)
class Header:
    """The provenance of a store, written into its attributes.

    :param kind: which columns the store has.
    :param recipe_id: identity of the store; see :mod:`backattn.features.plan`.
    :param recipe: the values from which the identity is computed.
    :param corpora: for each split the name of its file, the sha256 of the file, and its number of sentences.
    :param models: name of each model file -> its sha256.
    :param versions: versions of the packages of the process that wrote the file.
    :param device: name of the device of that process.
    :param commit: as in :class:`Origin`.
    """

    kind: Kind
    recipe_id: str
    recipe: Mapping[str, Any]
    corpora: Mapping[str, Mapping[str, Any]]
    models: Mapping[str, str]
    versions: Mapping[str, str]
    device: str
    commit: str


def encode_lines(tokens: tuple[str, ...]) -> NDArray[np.uint8]:
    """Encode tokens as UTF-8 bytes, one token a line.

    :raises ValueError: a token is empty or has a line break, and could not be decoded again.
    """
    if any(not token or "\n" in token for token in tokens):
        raise ValueError(f"an empty token or one with a line break: {tokens!r}")
    return np.frombuffer("\n".join(tokens).encode("utf-8"), dtype=np.uint8)


def decode_lines(data: NDArray[np.uint8]) -> tuple[str, ...]:
    """Decode what :func:`encode_lines` encoded."""
    return tuple(data.tobytes().decode("utf-8").split("\n")) if len(data) else ()
