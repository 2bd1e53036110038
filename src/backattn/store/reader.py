"""Read a store: entries by sentence key. A file that is not a complete, consistent store is refused.

Everything but the big arrays is verified against its digest when the file is opened. The big arrays are
memory maps; :meth:`StoreReader.verify` verifies their bytes (``check --deep``, and before every merge of
stores and every training).

Kept on purpose, instead of reading with h5py: a hostile file reaches only a JSON parser, checks of bounds and
numpy, not the HDF5 library (:mod:`backattn.store.seal` says why).
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from backattn.common.errors import MissingError, StoreError, UnreadableError, is_environment_error
from backattn.common.regular_files import open_regular
from backattn.store.digests import array_digest
from backattn.store.layout import FORMAT_VERSION, KEY_BYTES, KEYS, ORIGIN, ORIGIN_BYTES, Column, Entry, Origin
from backattn.store.seal import BrokenSeal, check_seal

_ATTRIBUTES = {
    "format_version": int, "kind": str, "recipe_id": str, "recipe": dict, "columns": list, "sentences": int,
    "d": int, "counts": dict, "digests": dict, "corpora": dict, "models": dict, "origins": dict,
    "versions": dict, "device": str, "commit": str, "created": str,
}  # fmt: skip
_DTYPES = {"float16", "float32", "uint8", "int32", "int64"}
_DEEPEST = 12
_MOST = 1 << 53

_T = TypeVar("_T")


class StoreReader(Mapping[bytes, Entry]):
    """A complete store; ``reader[key]`` returns the arrays of one sentence as views of a memory map.

    The file is opened once: if it is replaced later, the reader goes on with the old one. A reader works
    after a fork, and uses one of the open files that a process may have.

    :raises MissingError: the file does not exist.
    :raises UnreadableError: the system cannot read the file, which may be intact.
    :raises StoreError: the file is not a store, not complete, of another format version, or does not
        agree with its own digests; names the file and what rebuilds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open_regular(path) as file:
                self._seal, text = check_seal(file)
                self._bytes: NDArray[np.uint8] = np.asarray(np.memmap(file, np.uint8, "r"))
            index = json.loads(text)
            self._refuse_deep(index)
            self.attributes = self._read_attributes(index["attributes"])
            self._arrays: dict[str, dict[str, Any]] = index["arrays"]
            self.columns = self._read_columns()
            self.keys_array = self._small(KEYS, "uint8", (self.sentences, KEY_BYTES))
            self._offsets = {column.name: self._read_offsets(column) for column in self.columns}
            self._data = {column.name: self._read_data(column) for column in self.columns}
            self.origins = self._read_origins()
        except FileNotFoundError:
            raise MissingError(f"{path}: no such store; `backattn features` makes it") from None
        except BrokenSeal as error:
            raise self._refuse(str(error)) from None
        except (StoreError, MemoryError):
            raise
        except Exception as error:  # the index of a hostile file may hold anything
            if is_environment_error(error):
                reason = getattr(error, "strerror", None) or error
                raise UnreadableError(
                    f"{path}: cannot be read ({reason}); mend that, then run the same command again"
                ) from None
            raise self._refuse(f"not readable ({type(error).__name__}: {error})") from None

    @property
    def sentences(self) -> int:
        """Number of sentences."""
        return self._attribute("sentences", int)

    @property
    def kind(self) -> str:
        """Kind of the store: ``translation``, ``transfer`` or ``embedding``."""
        return self._attribute("kind", str)

    @property
    def recipe_id(self) -> str:
        """Identity of the numbers in the store."""
        return self._attribute("recipe_id", str)

    @property
    def recipe(self) -> dict[str, Any]:
        """Values from which the identity was computed."""
        return self._attribute("recipe", dict)

    @property
    def counts(self) -> dict[str, int]:
        """Counts made by the writer: empty translations, segmented sentences, ..."""
        return self._attribute("counts", dict)

    @property
    def digests(self) -> dict[str, str]:
        """Digest of the bytes of each array."""
        return self._attribute("digests", dict)

    @cached_property
    def index(self) -> dict[bytes, int]:
        """Position of each sentence key."""
        raw = self.keys_array.tobytes()
        return {raw[i : i + KEY_BYTES]: i // KEY_BYTES for i in range(0, len(raw), KEY_BYTES)}

    @cached_property
    def origin_sentences(self) -> dict[str, int]:
        """Number of sentences that each origin computed, by its id."""
        names, numbers = np.unique(self._data[ORIGIN.name].view(np.uint64), return_counts=True)
        return {name.tobytes().hex(): int(number) for name, number in zip(names, numbers, strict=True)}

    def __getitem__(self, key: bytes) -> Entry:
        return _Row(self, self.index[key])

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.index)

    def __len__(self) -> int:
        return self.sentences

    def __contains__(self, key: object) -> bool:
        return key in self.index

    def column(self, name: str, key: bytes) -> NDArray[Any]:
        """Return one array of one sentence, as a view of the memory map.

        :raises KeyError: the sentence is not in the store.
        """
        return self.cut(name, self.index[key])

    def cut(self, name: str, position: int) -> NDArray[Any]:
        """Return one array of the sentence at a position, as a view of the memory map."""
        offsets = self._offsets[name]
        return self._data[name][offsets[position] : offsets[position + 1]]

    def verify(self) -> None:
        """Read every byte and compare it with the digests.

        :raises StoreError: an array differs from its digest.
        """
        for name in self._arrays:
            if array_digest(self._raw(name)) != self.digests[name]:
                raise self._refuse(f"{name} differs from its digest")

    def _attribute(self, name: str, kind: type[_T]) -> _T:
        value = self.attributes[name]
        assert isinstance(value, kind)  # checked by _read_attributes
        return value

    def _read_attributes(self, found: dict[str, Any]) -> dict[str, Any]:
        if different := found.keys() ^ _ATTRIBUTES.keys():
            raise self._refuse(f"attributes {sorted(different)[:5]} missing or unknown")
        for name, kind in _ATTRIBUTES.items():
            if type(found[name]) is not kind:
                raise self._refuse(f"attribute {name} is not of type {kind.__name__}")
        if found["format_version"] != FORMAT_VERSION:
            raise self._refuse("attribute format_version differs from its seal")
        if not all(type(number) is int for number in found["counts"].values()):
            raise self._refuse("attribute counts holds more than numbers")
        for facts in found["corpora"].values():
            if type(facts) is not dict or facts.keys() != {"file", "sha256", "sentences"}:
                raise self._refuse("attribute corpora is of another form")
        return found

    def _read_columns(self) -> tuple[Column, ...]:
        columns = tuple(Column(*values) for values in self.attributes["columns"])
        expected = {KEYS, *(c.name for c in columns), *(c.offsets for c in columns)}
        if ORIGIN not in columns or self._arrays.keys() != expected or self.digests.keys() != expected:
            raise self._refuse("its arrays are not those of its columns")
        if self.attributes["d"] != max(column.width for column in columns):
            raise self._refuse("d is not the width of its columns")
        return columns

    def _read_origins(self) -> dict[str, Origin]:
        if (np.diff(self._offsets[ORIGIN.name]) != ORIGIN_BYTES).any():
            raise self._refuse("origins of another length")
        origins = {name: Origin(**values) for name, values in self.attributes["origins"].items()}
        for name, origin in origins.items():
            if name != origin.id or not _well_formed(origin):
                raise self._refuse("an origin differs from its name, or is of another form")
        if not set(self.origin_sentences) <= set(origins):
            raise self._refuse("sentences of an origin that it does not name")
        return origins

    def _read_offsets(self, column: Column) -> NDArray[np.int64]:
        offsets = self._small(column.offsets, "int64", (self.sentences + 1,))
        if offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise self._refuse(f"{column.offsets} do not rise from 0")
        return offsets

    def _read_data(self, column: Column) -> NDArray[Any]:
        return self._array(column.name, column.dtype, column.shape(int(self._offsets[column.name][-1])))

    def _small(self, name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return an array of the frame, whose bytes were verified."""
        array = self._array(name, dtype, shape)
        if array.nbytes and not self._seal.frames((self._arrays[name]["offset"], array.nbytes)):
            raise self._refuse(f"{name} is outside of what is verified on opening")
        return array

    def _array(self, name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        claimed = self._arrays[name]["dtype"], tuple(self._arrays[name]["shape"])
        if claimed != (dtype, shape) or dtype not in _DTYPES:
            raise self._refuse(f"{name} is {claimed[0]} {claimed[1]}, expected {dtype} {shape}")
        return self._raw(name).view(dtype).reshape(shape)

    def _raw(self, name: str) -> NDArray[np.uint8]:
        """Return the bytes of an array as a view, without reading them."""
        array = self._arrays[name]
        size = math.prod(array["shape"]) * np.dtype(array["dtype"]).itemsize
        start = array["offset"] if size else 0
        if not 0 <= start <= start + size <= len(self._bytes):
            raise self._refuse(f"{name} claims {size} bytes, the file has {len(self._bytes)}")
        return self._bytes[start : start + size]

    def _refuse_deep(self, value: Any) -> None:
        """Refuse nesting deeper than any recipe's: it would exceed the recursion limit of later code."""
        level = [value]
        for _ in range(_DEEPEST):
            values = (v.values() if type(v) is dict else v for v in level if type(v) in {dict, list})
            level = [item for items in values for item in items]
        if level:
            raise self._refuse("attributes nested too deep")

    def _refuse(self, reason: str) -> StoreError:
        shown = " ".join(reason.split())[:300]
        return StoreError(f"{self.path}: {shown}; delete it, then `backattn features` makes it anew")


def _well_formed(origin: Origin) -> bool:
    texts = (origin.started, origin.device, origin.commit, origin.opened, *origin.versions.values())
    numbers = type(origin.tokens) is int and type(origin.seconds) in {int, float}
    amounts = numbers and 0 <= origin.tokens < _MOST and 0 <= origin.seconds < _MOST
    return amounts and all(type(text) is str for text in texts)


class _Row(Mapping[str, NDArray[Any]]):
    """The entry of one sentence: each array is sliced on access, so that unused ones cost nothing."""

    __slots__ = ("_position", "_store")

    def __init__(self, store: StoreReader, position: int) -> None:
        self._store = store
        self._position = position

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._store.cut(name, self._position)

    def __iter__(self) -> Iterator[str]:
        return (column.name for column in self._store.columns)

    def __len__(self) -> int:
        return len(self._store.columns)


class Chain(Mapping[bytes, Entry]):
    """Several mappings of entries as one; the first that has a key provides its entry."""

    def __init__(self, sources: Sequence[Mapping[bytes, Entry]]) -> None:
        self._source: dict[bytes, Mapping[bytes, Entry]] = {}
        for source in sources:
            for key in source:
                self._source.setdefault(key, source)

    def __getitem__(self, key: bytes) -> Entry:
        return self._source[key][key]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._source)

    def __len__(self) -> int:
        return len(self._source)
