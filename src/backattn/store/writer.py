"""Entries -> one HDF5 file, whole or not at all.

The file grows under a temporary name; ``complete`` is its last attribute; then it is closed, sealed,
synced and renamed. A process killed at any moment leaves the old file, or the new one, never a part.
"""

import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from backattn.store.digests import array_digest, new_digest
from backattn.store.layout import FORMAT_VERSION, INDEX, KEY_BYTES, KEYS, Column, Entry, Header, Origin
from backattn.store.seal import BIG, SEAL_BYTES, BrokenSeal, Extent, write_seal

# Entries are written in blocks of about so many bytes, and of no more arrays than the system takes at once.
_BLOCK_BYTES = 8 << 20
_BLOCK_ARRAYS = 1000
# Entries below this size cost less when they are put together first.
_SMALL_BYTES = 1 << 11
# Whenever so much has been written, the disk is set to work on it: it is ready sooner.
_AHEAD_BYTES = 32 << 20
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_partial(path) as (partial, descriptor):
            disk = _Disk(descriptor, "w+")  # not closed in haste: an interrupted library writes once more
            with disk.keeping_interrupts():
                guarded = _write_file(disk, header, columns, keys, entries, counts, origins)
                write_seal(os.dup(descriptor), *guarded)
                os.fsync(descriptor)
                os.replace(partial, path)
                _sync_folder(path.parent)
            disk.check()
            disk.close()
    except (OSError, BrokenSeal) as error:
        reason = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())
        raise StoreError(
            f"{path}: cannot be written ({reason}); free space or fix the folder, then run again"
        ) from None


class _Disk(FileIO):
    """What the HDF5 library writes to. It never learns that a disk is full, or of Ctrl-C.

    After a write that failed, the library can neither go on nor end: it prints several tracebacks and keeps
    the file open. So the failure is kept here until somebody asks.
    """

    _failure: BaseException | None = None

    def write(self, data: Any) -> int:
        """All of the data; after a failure nothing, in silence."""
        rest = memoryview(data)
        size = len(rest)
        try:
            while rest and self._failure is None:
                rest = rest[super().write(rest) :]
        except BaseException as error:
            self._failure = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Likewise."""
        try:
            if self._failure is None:
                return super().truncate(size)
        except BaseException as error:
            self._failure = error
        return size or 0

    def check(self) -> None:
        """Say what failed, if anything did."""
        if isinstance(self._failure, KeyboardInterrupt):
            # A new one: the kept one's traceback would lead back here, and the library's objects in it would
            # end at some later moment, which the next Ctrl-C could hit.
            raise KeyboardInterrupt
        if self._failure is not None:
            raise self._failure

    @contextmanager
    def keeping_interrupts(self) -> Iterator[None]:
        """Ctrl-C is kept as a failure is.

        Raised inside of the HDF5 library it is lost, or comes out as a TypeError.
        """
        # Another thread never gets it, and a program with a handler of its own knows what it does.
        ours = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if not ours:
            yield
            return
        signal.signal(signal.SIGINT, self._interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _interrupted(self, *_: object) -> None:
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
    """All but the seal; gives the places that it is to guard.

    A frame of its own: the library's objects end with it, while Ctrl-C is still kept.
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
    """Make room for a column; gives its place in the file."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    dataset = file.create_dataset(column.name, shape=column.shape(rows), dtype=column.dtype, dcpl=properties)
    return dataset.id.get_offset() or 0  # where there are no rows, there is no place


def _blocks(column: Column, offsets: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """First, and last + 1, of the entries that are written together, and how many bytes they are."""
    borders = offsets * np.dtype(column.dtype).itemsize * max(1, column.width)
    cost = borders + np.arange(len(borders)) * (_BLOCK_BYTES // _BLOCK_ARRAYS)
    first = 0
    while first < len(borders) - 1:
        last = max(first + 1, int(np.searchsorted(cost, cost[first] + _BLOCK_BYTES, "right")) - 1)
        yield first, last, int(borders[last] - borders[first])
        first = last


class _Stream:
    """Arrays on their way into room that is made for them, straight from the memory where they lie.

    HDF5 would copy them once more. Their digests are taken on the way, and the disk works on what is there
    while more comes. No thread waits for it: where memory is short Python can wait for ever for one that
    never began.
    """

    def __init__(self, disk: _Disk) -> None:
        self._disk, self._descriptor = disk, disk.fileno()
        self._digests: dict[str, Any] = {}
        # Where the next byte goes; up to where the disk has been asked for.
        self._place = self._asked = 0

    def begin(self, name: str, place: int) -> None:
        """What comes now belongs to this array, from this place on."""
        self._digests[name] = self._digest = new_digest()
        self._place = self._asked = place

    def write(self, arrays: Sequence[Any], size: int) -> None:
        """Write a block of so many bytes; what the disk has kept is said before."""
        self._disk.check()
        if size < len(arrays) * _SMALL_BYTES:
            arrays = [np.frombuffer(b"".join(arrays), np.uint8)]
        written = os.pwritev(self._descriptor, arrays, self._place)
        if written != size:  # the disk is nearly full, or it is more than the system writes at once
            data = memoryview(b"".join(arrays))
            assert len(data) == size, "entries of another shape than their column's"
            while written < size:
                written += os.pwrite(self._descriptor, data[written:], self._place + written)
        for array in arrays:
            self._digest.update(array)
        self._place += size
        if self._place - self._asked >= _AHEAD_BYTES:
            self._ask_disk()

    def finish(self) -> dict[str, str]:
        """Digest of each array, when all is on the disk."""
        # Linux may tell of what failed on the way only to those who had the file open then.
        os.fsync(self._descriptor)
        return {name: digest.hexdigest() for name, digest in self._digests.items()}

    def _ask_disk(self) -> None:
        # To be told that pages will not be needed, Linux begins to write them, and waits for none.
        if hasattr(os, "posix_fadvise"):
            size = self._place - self._asked
            os.posix_fadvise(self._descriptor, self._asked, size, os.POSIX_FADV_DONTNEED)
        self._asked = self._place


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


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
