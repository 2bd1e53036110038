"""Compute one shard: a few sentences become a small store of their own, a file or its bytes.

A shard needs a loaded model (:class:`ShardModel`) and a task (:class:`ShardTask`). Everything that a worker
in another process receives can be pickled; what it gives back is a file, checked as files are.
"""

import os
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from backattn.common.atomic_files import new_partial
from backattn.common.digests import digest
from backattn.common.errors import MissingError, StoreError
from backattn.corpus import Sentence
from backattn.features.environment import new_origin
from backattn.store.layout import ORIGIN, Column, Entry, Header, Origin, decode_lines
from backattn.store.reader import StoreReader
from backattn.store.writer import write_store

# Computes the entries of sentences, without their origin; T from the translations of the same sentences.
Compute = Callable[[Sequence[Sentence], Mapping[bytes, Entry]], list[Entry]]

# The columns of a translation that T is computed from.
_TRANSLATED = ("english", "attention")


@dataclass(frozen=True)
class ShardModel:
    """A loaded model, and how it computes entries.

    :param opened: how the model's file was opened.
    """

    columns: tuple[Column, ...]
    compute: Compute
    opened: str


@dataclass(frozen=True)
class ShardTask:
    """The sentences of one shard.

    :param translations: where T is computed, entries that hold the translations of these sentences.
    """

    sentences: tuple[Sentence, ...]
    translations: Mapping[bytes, Entry] = field(default_factory=dict)

    def packed(self) -> "ShardTask":
        """Copy the task for another process: with the translations of its own sentences alone."""
        if not self.translations:
            return self
        own = {sentence.key: self.translations[sentence.key] for sentence in self.sentences}
        entries = {key: {name: np.array(entry[name]) for name in _TRANSLATED} for key, entry in own.items()}
        return ShardTask(self.sentences, entries)

    @cached_property
    def name(self) -> str:
        """Name of the shard's file: a digest of its sentences."""
        return f"{digest([sentence.key.hex() for sentence in self.sentences])[:16]}.h5"

    @property
    def size(self) -> int:
        """Number of source tokens."""
        return sum(map(len, self.sentences))


@dataclass(frozen=True)
class ShardWork:
    """What all shards of a store have in common, for every worker.

    :param load: loads the model, once in each worker.
    :param started: start of the run, in UTC.
    :param folder: where the shards are written.
    """

    header: Header
    load: Callable[[], ShardModel]
    started: str
    folder: Path


class Engine(Protocol):
    """Computes the shards of a store."""

    def run(self, work: ShardWork, tasks: Sequence[ShardTask]) -> Generator[Path]:
        """Compute shards and yield the path of each, in any order, when it lies in the folder.

        No model is loaded where there are no tasks.
        """


class ShardWorker:
    """Computes one shard after the other with one loaded model; each worker of an engine has one.

    :param device: name of the device that computes, for the provenance; that of the header by default.
    """

    def __init__(self, work: ShardWork, device: str = "") -> None:
        self._work, self._model = work, work.load()
        self._origin = new_origin(work.started, device or work.header.device, self._model.opened)

    def compute(self, task: ShardTask) -> Path:
        """Compute a shard, and write it into the folder."""
        path = self._work.folder / task.name
        compute_shard(self._model, self._origin, self._work.header, task, path)
        return path

    def compute_bytes(self, task: ShardTask) -> bytes:
        """Compute a shard, and return the bytes of its file."""
        with tempfile.TemporaryDirectory(prefix="backattn-") as folder:
            path = Path(folder) / task.name
            compute_shard(self._model, self._origin, self._work.header, task, path)
            return path.read_bytes()


def compute_shard(model: ShardModel, origin: Origin, header: Header, task: ShardTask, path: Path) -> None:
    """Compute the entries of a shard's sentences and write them, atomically.

    :param origin: the run; the shard records its tokens and seconds.
    """
    start = time.monotonic()
    computed = model.compute(task.sentences, task.translations)
    done = origin.after(task.size, time.monotonic() - start)
    mark = np.frombuffer(bytes.fromhex(done.id), dtype=np.uint8)
    entries = {s.key: {**entry, ORIGIN.name: mark} for s, entry in zip(task.sentences, computed, strict=True)}
    write_store(path, header, model.columns, list(entries), entries, counts={}, origins={done.id: done})


def read_shard(path: Path, kind: str, recipe_id: str, task: ShardTask) -> StoreReader:
    """Open the shard of a task, and verify it down to its last byte.

    :raises MissingError: it is not there.
    :raises StoreError: it is damaged, or it is not the shard of this task.
    """
    reader = StoreReader(path)
    reader.verify()
    if (reader.kind, reader.recipe_id) != (kind, recipe_id):
        raise StoreError(f"{path}: a shard of the {reader.kind} store {reader.recipe_id}")
    if list(reader) != [sentence.key for sentence in task.sentences]:
        raise StoreError(f"{path}: holds other sentences than those that were asked for")
    for sentence in task.sentences:
        if not _fits(reader[sentence.key], kind, len(sentence)):
            raise StoreError(f"{path}: holds arrays of another size than its sentences")
    return reader


def _fits(entry: Entry, kind: str, tokens: int) -> bool:
    """Return whether the arrays of a sentence are as long as it is."""
    if kind != "translation":
        return len(entry["vectors"]) == tokens
    return len(entry["attention"]) == (tokens + 1) * (len(decode_lines(entry["english"])) + 1)


def receive_shard(data: bytes, work: ShardWork, task: ShardTask, sender: str) -> Path:
    """Check that bytes from another machine are the shard of a task, and write them into the folder.

    :param sender: the machine, for the message.
    :raises StoreError: they are not that shard, or cannot be written.
    """
    path = work.folder / task.name
    try:
        work.folder.mkdir(parents=True, exist_ok=True)
        with new_partial(path) as (partial, descriptor), open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
            _require_sound(partial, work.header, task, sender)
            os.replace(partial, path)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}); free space or fix the folder, then run again"
        ) from None
    return path


def _require_sound(path: Path, header: Header, task: ShardTask, sender: str) -> None:
    try:
        read_shard(path, header.kind, header.recipe_id, task)
    except (
        StoreError,
        MissingError,
        KeyError,
        ValueError,
    ) as error:  # a column may be missing, or its text not UTF-8
        reason = str(error).removeprefix(f"{path}: ").partition(";")[0]
        raise StoreError(
            f"{sender} sent something else than the shard that was asked for ({reason}); check which "
            "program and version run there"
        ) from None
