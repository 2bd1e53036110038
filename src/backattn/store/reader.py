"""One HDF5 file -> entries by sentence key. What is not a whole, consistent store is refused.

Everything small (attributes, keys, offsets) is verified against its digest when the file is opened; the
big arrays are memory maps whose bytes are verified by :meth:`StoreReader.verify` (``check --deep``).
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from backattn.errors import StoreError
from backattn.fingerprint import digest
from backattn.store.layout import FORMAT_VERSION, KEY_BYTES, KEYS, Column, Entry

_ATTRIBUTES = {
    "format_version": int, "kind": str, "recipe_id": str, "recipe": str, "columns": str, "sentences": int,
    "d": int, "counts": str, "digests": str, "versions": str, "device": str, "created": str,
}  # fmt: skip
_HASH_BLOCK = 1 << 24
_DTYPES = {"float16", "float32", "uint8", "int32"}


class StoreReader(Mapping[bytes, Entry]):
    """A finished store; ``reader[key]`` gives the arrays of one sentence as views of a memory map.

    The HDF5 library is left once the file is mapped, so a reader may cross a fork.

    :raises StoreError: the file is not a store, not complete, of another format version, or does not
        agree with its own digests; names the file and what rebuilds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with h5py.File(path, "r", locking=False) as file:
                self.attributes = self._read_attributes(file)
                self.columns = self._read_columns()
                self.keys_array = self._read_small(file, KEYS, np.uint8, (self.sentences, KEY_BYTES))
                self._offsets = {c.name: self._read_offsets(file, c) for c in self.columns}
                self._data = {c.name: self._map(file, c) for c in self.columns}
        except StoreError:
            raise
        except Exception as error:  # h5py has no error class of its own; a damaged file may raise any
            raise self._refuse(f"not readable as HDF5 ({type(error).__name__}: {error})") from None

    @property
    def sentences(self) -> int:
        """Number of sentences."""
        return int(self.attributes["sentences"])

    @property
    def recipe_id(self) -> str:
        """The identity of the numbers in the store."""
        return str(self.attributes["recipe_id"])

    @property
    def recipe(self) -> dict[str, Any]:
        """What went into the identity."""
        return dict(json.loads(self.attributes["recipe"]))

    @property
    def counts(self) -> dict[str, int]:
        """What the writer counted: empty translations, segmented sentences, ..."""
        return dict(json.loads(self.attributes["counts"]))

    @cached_property
    def index(self) -> dict[bytes, int]:
        """Sentence key -> position."""
        raw = self.keys_array.tobytes()
        return {raw[i : i + KEY_BYTES]: i // KEY_BYTES for i in range(0, len(raw), KEY_BYTES)}

    def __getitem__(self, key: bytes) -> Entry:
        position = self.index[key]
        return {column.name: self._slice(column.name, position) for column in self.columns}

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.index)

    def __len__(self) -> int:
        return self.sentences

    def __contains__(self, key: object) -> bool:
        return key in self.index

    def column(self, name: str, key: bytes) -> NDArray[Any]:
        """One array of one sentence, as a view of the memory map.

        :raises KeyError: the sentence is not in the store.
        """
        return self._slice(name, self.index[key])

    def verify(self) -> None:
        """Read every byte and compare with the digests.

        :raises StoreError: names the dataset that differs.
        """
        for column in self.columns:
            state, flat = sha256(), self._data[column.name].reshape(-1).view(np.uint8)
            for start in range(0, len(flat), _HASH_BLOCK):
                state.update(flat[start : start + _HASH_BLOCK].data)
            if state.hexdigest() != self._digests[column.name]:
                raise self._refuse(f"{column.name} differs from its digest")

    @cached_property
    def _digests(self) -> dict[str, str]:
        return dict(json.loads(self.attributes["digests"]))

    def _slice(self, name: str, position: int) -> NDArray[Any]:
        offsets = self._offsets[name]
        return self._data[name][offsets[position] : offsets[position + 1]]

    def _read_attributes(self, file: h5py.File) -> dict[str, Any]:
        found = {name: file.attrs[name] for name in file.attrs}
        version = found.get("format_version")
        if version is not None and int(version) != FORMAT_VERSION:
            raise self._refuse(f"format version {version}, this backattn reads {FORMAT_VERSION}")
        if int(found.pop("complete", 0)) != 1:
            raise self._refuse("not complete: its writer was stopped")
        expected = found.pop("attributes_digest", "")
        if set(found) != set(_ATTRIBUTES):
            raise self._refuse(f"attributes {sorted(set(found) ^ set(_ATTRIBUTES))} missing or unknown")
        attributes = {name: kind(found[name]) for name, kind in _ATTRIBUTES.items()}
        if digest(attributes) != expected:
            raise self._refuse("attributes differ from their digest")
        return attributes

    def _read_columns(self) -> tuple[Column, ...]:
        columns = tuple(Column(*values) for values in json.loads(self.attributes["columns"]))
        if any(column.dtype not in _DTYPES for column in columns):
            raise self._refuse(f"columns of unknown type: {columns}")
        return columns

    def _read_small(self, file: h5py.File, name: str, dtype: type, shape: tuple[int, ...]) -> NDArray[Any]:
        dataset = self._dataset(file, name)
        if dataset.shape != shape or dataset.dtype != dtype:
            raise self._refuse(f"{name} is {dataset.dtype} {dataset.shape}, expected {shape}")
        data: NDArray[Any] = dataset[()]
        if sha256(data.tobytes()).hexdigest() != self._digests.get(name):
            raise self._refuse(f"{name} differs from its digest")
        return data

    def _read_offsets(self, file: h5py.File, column: Column) -> NDArray[np.int64]:
        offsets = self._read_small(file, column.offsets, np.int64, (self.sentences + 1,))
        if offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise self._refuse(f"{column.offsets} do not rise from 0")
        return offsets

    def _map(self, file: h5py.File, column: Column) -> NDArray[Any]:
        dataset = self._dataset(file, column.name)
        rows = int(self._offsets[column.name][-1])
        if dataset.shape != column.shape(rows) or dataset.dtype != column.dtype:
            raise self._refuse(f"{column.name} is {dataset.dtype} {dataset.shape}, expected {rows} rows")
        if rows == 0:
            return column.empty()
        return np.memmap(
            self.path, dtype=column.dtype, mode="r", offset=dataset.id.get_offset(), shape=dataset.shape
        )

    def _dataset(self, file: h5py.File, name: str) -> h5py.Dataset:
        """A plain dataset inside this file: a claim of more bytes than the file has is refused here."""
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            raise self._refuse(f"{name} is missing or a link out of the file")
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset) or dataset.chunks or dataset.external or dataset.is_virtual:
            raise self._refuse(f"{name} is not a contiguous dataset")
        offset, size = dataset.id.get_offset(), os.path.getsize(self.path)
        if dataset.nbytes and (offset is None or offset + dataset.nbytes > size):
            raise self._refuse(f"{name} claims {dataset.nbytes} bytes, the file has {size}")
        return dataset

    def _refuse(self, reason: str) -> StoreError:
        return StoreError(f"{self.path}: {reason}; delete it, then `backattn features` makes it anew")


class Chain(Mapping[bytes, Entry]):
    """Several sources of entries as one: the first that has a key gives it."""

    def __init__(self, sources: Sequence[Mapping[bytes, Entry]]) -> None:
        self._sources = tuple(sources)

    def __getitem__(self, key: bytes) -> Entry:
        for source in self._sources:
            if key in source:
                return source[key]
        raise KeyError(key.hex())

    def __iter__(self) -> Iterator[bytes]:
        return iter(dict.fromkeys(key for source in self._sources for key in source))

    def __len__(self) -> int:
        return len(dict.fromkeys(iter(self)))
