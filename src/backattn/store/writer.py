"""Entries -> one HDF5 file, whole or not at all.

The file grows under a temporary name; ``complete`` is its last attribute; then it is closed, sealed,
synced and renamed. A process killed at any moment leaves the old file, or the new one, never a part.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from backattn.errors import StoreError
from backattn.files import PARTIAL
from backattn.fingerprint import canonical_json
from backattn.store.layout import FORMAT_VERSION, INDEX, KEY_BYTES, KEYS, Column, Entry, Header, Origin
from backattn.store.seal import BIG, SEAL_BYTES, BrokenSeal, Extent, write_seal

# Rows are gathered up to about this many bytes before they go to the file.
_BLOCK_BYTES = 8 << 20
# A memory map of numbers that lie across their natural borders is slow to read.
_ALIGNED = {"alignment_threshold": 1, "alignment_interval": 8}


def write_store(
    path: Path,
    header: Header,
    columns: Sequence[Column],
    keys: Sequence[bytes],
    entries: Mapping[bytes, Entry],
    *,
    counts: Mapping[str, int],
    origins: Mapping[str, Origin],
) -> None:
    """Write the entries of ``keys``, in that order, as a store.

    Memory stays flat: each entry is looked up twice, once for its length and once for its data.

    :param entries: gives an entry for each key; readers of other stores will do.
    :param counts: what a user should know of the sentences (empty translations, ...).
    :param origins: the runs that computed the entries, by id.
    :raises StoreError: when the disk refuses; the old file, if there was one, stays.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(partial, "w", userblock_size=SEAL_BYTES, **_ALIGNED) as file:
            digests = _write_datasets(file, columns, keys, entries)
            attributes = _attributes(header, columns, len(keys), counts, origins, digests)
            index, big = _write_index(file, columns, attributes, digests)
            for name, value in attributes.items():
                file.attrs[name] = value if isinstance(value, str | int) else canonical_json(value)
            file.attrs["complete"] = 1
        write_seal(partial, index, big)
        _sync(partial)
        os.replace(partial, path)
        _sync(path.parent)
    except (OSError, RuntimeError, BrokenSeal) as error:  # h5py has RuntimeError for a disk that is full
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        reason = " ".join(str(error).split())
        raise StoreError(
            f"{path}: cannot be written ({reason}); free space or fix the folder, then run again"
        ) from None


def _write_datasets(
    file: h5py.File, columns: Sequence[Column], keys: Sequence[bytes], entries: Mapping[bytes, Entry]
) -> dict[str, str]:
    digests = {KEYS: _create(file, KEYS, np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES))}
    for column in columns:
        lengths = [len(entries[key][column.name]) for key in keys]
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
        digests[column.offsets] = _create(file, column.offsets, offsets)
        digests[column.name] = _stream(file, column, int(offsets[-1]), keys, entries)
    return digests


def _create(file: h5py.File, name: str, data: NDArray[Any]) -> str:
    file.create_dataset(name, data=data)
    return sha256(data.tobytes()).hexdigest()


def _stream(
    file: h5py.File, column: Column, rows: int, keys: Sequence[bytes], entries: Mapping[bytes, Entry]
) -> str:
    """Copy one column block by block; the digest is taken on the way."""
    dataset = file.create_dataset(column.name, shape=column.shape(rows), dtype=column.dtype)
    state, start = sha256(), 0
    block: list[NDArray[Any]] = []

    def flush() -> None:
        nonlocal start, block
        if not block:
            return
        data = np.concatenate(block)
        if len(data):
            dataset[start : start + len(data)] = data
            state.update(data.data)
        start, block = start + len(data), []

    pending = 0
    for key in keys:
        array = np.ascontiguousarray(entries[key][column.name], dtype=column.dtype)
        block.append(array)
        pending += array.nbytes
        if pending >= _BLOCK_BYTES:
            flush()
            pending = 0
    flush()
    return state.hexdigest()


def _write_index(
    file: h5py.File, columns: Sequence[Column], attributes: Mapping[str, Any], names: Iterable[str]
) -> tuple[Extent, list[Extent]]:
    """Which array lies where, and all attributes, as one JSON text; gives its place, and the big arrays."""
    arrays = {
        name: {
            "offset": file[name].id.get_offset() or 0,
            "dtype": str(file[name].dtype),
            "shape": file[name].shape,
        }
        for name in names
    }
    text = canonical_json({"attributes": attributes, "arrays": arrays}).encode("utf-8")
    dataset = file.create_dataset(INDEX, data=np.frombuffer(text, dtype=np.uint8))
    sizes = {column.name: file[column.name].nbytes for column in columns}
    big = [(arrays[name]["offset"], size) for name, size in sizes.items() if size >= BIG]
    return (dataset.id.get_offset(), len(text)), big


def _attributes(
    header: Header,
    columns: Sequence[Column],
    sentences: int,
    counts: Mapping[str, int],
    origins: Mapping[str, Origin],
    digests: Mapping[str, str],
) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "kind": header.kind,
        "recipe_id": header.recipe_id,
        "recipe": dict(header.recipe),
        "columns": [[c.name, c.dtype, c.width] for c in columns],
        "sentences": sentences,
        "d": max(c.width for c in columns),
        "counts": dict(counts),
        "digests": dict(digests),
        "corpora": {split: dict(facts) for split, facts in header.corpora.items()},
        "models": dict(header.models),
        "origins": {name: asdict(origin) for name, origin in origins.items()},
        "versions": dict(header.versions),
        "device": header.device,
        "commit": header.commit,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
