"""Write entries to an HDF5 file, atomically.

The file is written under a temporary name, with ``complete`` as its last attribute; then it is closed,
sealed, synced and renamed. A process killed at any moment leaves the old file or the new one, never a part.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from backattn.common.atomic_files import new_partial
from backattn.common.digests import canonical_json
from backattn.common.errors import StoreError
from backattn.common.interrupts import interrupts_to
from backattn.common.safe_text import error_text
from backattn.store.digests import array_digest, new_digest
from backattn.store.layout import FORMAT_VERSION, INDEX, KEY_BYTES, KEYS, Column, Entry, Header, Origin
from backattn.store.seal import BIG, SEAL_BYTES, BrokenSeal, Extent, write_seal

# Entries are written in blocks of about this size, and of no more arrays than one system call takes.
_BLOCK_BYTES = 8 << 20
_BLOCK_ARRAYS = 1000
# Smaller entries are copied into one buffer first, which costs less than to pass each to the system.
_SMALL_BYTES = 1 << 11
# Write-back to the disk is started whenever this much was written, so that the final sync is short.
_AHEAD_BYTES = 32 << 20
# Numbers that are not aligned are slow to read from a memory map.
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

    Memory does not grow with the store: each entry is looked up twice, for its length and for its data.

    :param entries: the entry of each key; may be a reader of another store.
    :param counts: facts about the sentences for the user (empty translations, ...).
    :param origins: the runs that computed the entries, by id.
    :raises StoreError: the file cannot be written; the old file, if there was one, stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_partial(path) as (partial, descriptor):
            disk = _Disk(descriptor, "w+")  # closed last: the HDF5 library writes once more when interrupted
            with disk.keeping_interrupts():
                guarded = _write_file(disk, header, columns, keys, entries, counts, origins)
                write_seal(os.dup(descriptor), *guarded)
                os.fsync(descriptor)
                os.replace(partial, path)
                _sync_folder(path.parent)
            disk.check()
            disk.close()
    except (OSError, BrokenSeal) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error_text(error)
        raise StoreError(
            f"{path}: cannot be written ({reason}); free space or fix the folder, then run again"
        ) from None


class _Disk(FileIO):
    """The file that the HDF5 library writes to; hides from it a full disk and Ctrl-C.

    After a failed write the library can neither continue nor stop: it prints several tracebacks and keeps
    the file open. So the failure is kept here, and raised by :meth:`check`.
    """

    _failure: BaseException | None = None

    def write(self, data: Any) -> int:
        """Write all of the data; after a failure do nothing."""
        rest = memoryview(data)
        size = len(rest)
        try:
            while rest and self._failure is None:
                rest = rest[super().write(rest) :]
        except BaseException as error:
            self._failure = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Change the size of the file; after a failure do nothing."""
        try:
            if self._failure is None:
                return super().truncate(size)
        except BaseException as error:
            self._failure = error
        return size or 0

    def check(self) -> None:
        """Raise the failure that was kept, if there is one."""
        if isinstance(self._failure, KeyboardInterrupt):
            # A new exception: the traceback of the kept one refers to objects of the library, which would be
            # freed at some later moment, when the next Ctrl-C could interrupt them.
            raise KeyboardInterrupt
        if self._failure is not None:
            raise self._failure

    def keeping_interrupts(self) -> AbstractContextManager[None]:
        """Keep Ctrl-C as a failure, instead of raising it inside of the HDF5 library.

        Raised there it is lost, or becomes a TypeError.
        """
        return interrupts_to(self._interrupted)

    def _interrupted(self) -> None:
        self._failure = self._failure or KeyboardInterrupt()


def _write_file(
    disk: _Disk,
    header: Header,
    columns: Sequence[Column],
    keys: Sequence[bytes],
    entries: Mapping[bytes, Entry],
    counts: Mapping[str, int],
    origins: Mapping[str, Origin],
) -> tuple[Extent, list[Extent]]:
    """Write everything but the seal; return the places of the index and of the big arrays.

    A function of its own, so that the library's objects are freed on return, while Ctrl-C is still kept.
    """
    with h5py.File(disk, "w", userblock_size=SEAL_BYTES, **_ALIGNED) as file:
        digests = _write_datasets(file, disk, columns, keys, entries)
        attributes = _attributes(header, columns, len(keys), counts, origins, digests)
        guarded = _write_index(file, columns, attributes, digests)
        for name, value in attributes.items():
            file.attrs[name] = value if isinstance(value, str | int) else canonical_json(value)
        file.attrs["complete"] = 1
    disk.check()
    return guarded


def _write_datasets(
    file: h5py.File,
    disk: _Disk,
    columns: Sequence[Column],
    keys: Sequence[bytes],
    entries: Mapping[bytes, Entry],
) -> dict[str, str]:
    digests = {KEYS: _create(file, KEYS, np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES))}
    stream = _Stream(disk)
    for column in columns:
        name, dtype = column.name, np.dtype(column.dtype)
        offsets = np.zeros(len(keys) + 1, np.int64)
        np.cumsum([len(entries[key][name]) for key in keys], out=offsets[1:])
        digests[column.offsets] = _create(file, column.offsets, offsets)
        stream.begin(name, _allocate(file, column, int(offsets[-1])))
        for first, last, size in _blocks(column, offsets):
            stream.write([np.ascontiguousarray(entries[key][name], dtype) for key in keys[first:last]], size)
    return digests | stream.finish()


def _create(file: h5py.File, name: str, data: NDArray[Any]) -> str:
    file.create_dataset(name, data=data)
    return array_digest(data.reshape(-1).view(np.uint8))


def _allocate(file: h5py.File, column: Column, rows: int) -> int:
    """Allocate the dataset of a column; return its offset in the file."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    dataset = file.create_dataset(column.name, shape=column.shape(rows), dtype=column.dtype, dcpl=properties)
    return dataset.id.get_offset() or 0  # an empty dataset has no offset


def _blocks(column: Column, offsets: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """Iterate over the entries that are written together: first, last + 1, and their size in bytes."""
    borders = offsets * np.dtype(column.dtype).itemsize * max(1, column.width)
    cost = borders + np.arange(len(borders)) * (_BLOCK_BYTES // _BLOCK_ARRAYS)
    first = 0
    while first < len(borders) - 1:
        last = max(first + 1, int(np.searchsorted(cost, cost[first] + _BLOCK_BYTES, "right")) - 1)
        yield first, last, int(borders[last] - borders[first])
        first = last


class _Stream:
    """Write arrays into allocated datasets without HDF5, which would copy them once more.

    The digests are computed along the way, while the system writes to the disk. No thread is used for that:
    where memory is short, Python can wait for ever for a thread that never started.
    """

    def __init__(self, disk: _Disk) -> None:
        self._disk, self._descriptor = disk, disk.fileno()
        self._digests: dict[str, Any] = {}
        # Offset of the next byte; end of the part whose write-back was started.
        self._place = self._started = 0

    def begin(self, name: str, place: int) -> None:
        """Start the array ``name``, at the offset ``place``."""
        self._digests[name] = self._digest = new_digest()
        self._place = self._started = place

    def write(self, arrays: Sequence[Any], size: int) -> None:
        """Write a block of ``size`` bytes, unless an earlier write failed."""
        self._disk.check()
        if size < len(arrays) * _SMALL_BYTES:
            arrays = [np.frombuffer(b"".join(arrays), np.uint8)]
        written = os.pwritev(self._descriptor, arrays, self._place)
        if written != size:  # the disk is nearly full, or one call cannot write as much
            data = memoryview(b"".join(arrays))
            assert len(data) == size, "entries of another shape than their column's"
            while written < size:
                written += os.pwrite(self._descriptor, data[written:], self._place + written)
        for array in arrays:
            self._digest.update(array)
        self._place += size
        if self._place - self._started >= _AHEAD_BYTES:
            self._start_write_back()

    def finish(self) -> dict[str, str]:
        """Sync the file; return the digest of each array."""
        # Linux may report a failed write-back only to descriptors that were open at that time.
        os.fsync(self._descriptor)
        return {name: digest.hexdigest() for name, digest in self._digests.items()}

    def _start_write_back(self) -> None:
        # When it is advised that pages are not needed, Linux begins to write them, without waiting.
        if hasattr(os, "posix_fadvise"):
            size = self._place - self._started
            os.posix_fadvise(self._descriptor, self._started, size, os.POSIX_FADV_DONTNEED)
        self._started = self._place


def _write_index(
    file: h5py.File, columns: Sequence[Column], attributes: Mapping[str, Any], names: Iterable[str]
) -> tuple[Extent, list[Extent]]:
    """Write the index: attributes and places of arrays, as JSON. Return its extent and the big arrays."""
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


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
