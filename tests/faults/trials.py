"""What a fault must not do to a cache, whichever fault it is: a command, a fault, and then the questions.

After the fault, ``check --deep`` finds nothing corrupt, whatever lies under its final name opens and
verifies, nothing that was finished is gone, and the command, run again, ends with the bytes of one that
nothing befell.
"""

import argparse
import itertools
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch

from backattn.common.atomic_files import PARTIAL
from backattn.features import build
from backattn.store.layout import ORIGIN
from backattn.store.reader import StoreReader
from backattn.tagger.checkpoint_io import read_tensors
from backattn.tagger.run import RunFolder, read_json, read_run
from faults.workshop import CHECK, NOTES, STAGE_ONE, TRAIN, Lost, Outcome, Workshop, copy

# What a training, or a long `features`, says where no terminal is, and after the work, before it ends.
_PROGRESS = re.compile(
    r".*epoch \d+/\d+: .*|words[^ ]*(: finished, .*)?|[a-z]+: \d+ of \d+ sentences|next: .*"
)
# What torch logs by itself, and its library of processors, when no file can be opened any more.
_OF_TORCH = re.compile(r"W\d{4} [\d:.]+ \d+ (\S*/)?torch/|Error in cpuinfo: ")

# Of a store's attributes, what does not name the run that computed it.
OF_THE_RUN = {ORIGIN.name, ORIGIN.offsets}
OF_THE_CLOCK = {"seconds", "tokens_per_second"}
SECOND, THIRD = ("--set", "translator.beam=1"), ("--set", "translator.beam=3")

Fact = tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """A command that is to survive.

    :param data: the state of the corpus.
    :param start: the cache that it begins with.
    """

    name: str
    arguments: tuple[str, ...]
    data: str
    start: Path


@dataclass(frozen=True)
class Reference:
    """What a run that nothing befalls leaves behind."""

    facts: frozenset[Fact]
    result: Any
    seconds: float


class After(NamedTuple):
    """What a trial found.

    :param status: how the command ended, 0 when the fault did not stop it.
    :param left: seconds that the command needs to come to its end.
    :param notes: which operation on the disk the fault met.
    """

    status: int
    left: float
    notes: str


class Trials:
    """The trials of one job."""

    def __init__(self, shop: Workshop, job: Job) -> None:
        self.shop, self.job = shop, job
        self.folder = Path(tempfile.mkdtemp(prefix="trial-", dir=shop.root))
        self.folder.chmod(0o755)
        self.cache, self.spare = self.folder / "cache", self.folder / "spare"
        copy(job.start, self.spare)
        seconds = self._end(self.spare)
        self.reference = Reference(facts(self.spare), result(self.spare), seconds)

    def fresh(self) -> None:
        """Begin again with what the job begins with."""
        copy(self.job.start, self.cache)

    def trial(
        self,
        place: str,
        *,
        before: Callable[[], object] = lambda: None,
        stop: tuple[float, int] | None = None,
        statuses: frozenset[int],
        mend: Callable[[], object] = lambda: None,
        rounded: bool = False,
    ) -> "After":
        """One fault in the cache as it is.

        :param before, stop: the fault, as for :meth:`Workshop.command`.
        :param statuses: how the command may end because of it; above 0, it says why in one line.
        :param mend: takes the fault away.
        :param rounded: a translator's weights may differ from those of the reference by rounding.
        :raises Lost: names the fault, and the promise that was broken.
        """
        had = facts(self.cache) & self.reference.facts
        outcome = self.shop.command(
            self.cache, *self.job.arguments, data=self.job.data, before=before, stop=stop
        )
        mend()
        try:
            if outcome.status not in {0, *statuses}:
                raise Lost(f"ended with {outcome.status}")
            if outcome.status > 0:
                one_line(outcome)
            self._check()
            if gone := had - facts(self.cache):
                raise Lost(f"{len(gone)} finished things are gone, such as {min(gone)}")
            seconds = self._compare(rounded=rounded)
        except Exception as error:
            said = f"{outcome.notes}{outcome.err}".strip()[-2000:]
            raise Lost(f"{self.job.name}: {place}: {error}\n{said}\n{listing(self.cache)}") from error
        return After(outcome.status, seconds, outcome.notes)

    def mishap(self, place: str) -> None:
        """The command goes on in a cache that something has been done to, to the same result.

        :raises Lost: names the mishap.
        """
        try:
            self._compare()
        except Exception as error:
            raise Lost(f"{self.job.name}: {place}: {error}\n{listing(self.cache)}") from error

    def _compare(self, *, rounded: bool = False) -> float:
        """Bring a copy to its end (the cache stays for the next fault) and compare; gives the seconds."""
        seconds = self._end(copy(self.cache, self.spare))
        found, wanted = result(self.spare), self.reference.result
        if found != wanted:
            differing = sorted(n for n in {*found, *wanted} if found.get(n) != wanted.get(n))
            if not (rounded and all(is_rounded(found.get(n), wanted.get(n)) for n in differing)):
                raise Lost(f"another result than that of a run that nothing befell: {differing}")
        return seconds

    def _check(self) -> None:
        outcome = self.shop.command(self.cache, *CHECK, data=self.job.data)
        if outcome.status not in {0, 1} or outcome.err:
            raise Lost(f"check says {outcome.status}: {outcome.out} {outcome.err}")

    def _end(self, cache: Path) -> float:
        """Let the command end, and take leftovers away; gives the seconds of the command."""
        outcome = self.shop.command(cache, *self.job.arguments, data=self.job.data)
        tidy = self.shop.command(cache, "gc", "toy", data=self.job.data)
        if outcome.status or tidy.status:
            raise Lost(f"does not go on: {outcome.err} {tidy.err}")
        return outcome.seconds


def one_line(outcome: Outcome) -> None:
    """:raises Lost: standard error is not one line of ours, after what a long work says while it goes on."""
    *before, last = [line for line in outcome.err.splitlines() if not _OF_TORCH.match(line)] or [""]
    if not last.startswith("backattn: ") or not all(map(_PROGRESS.fullmatch, before)):
        raise Lost(f"not one line on standard error, status {outcome.status}: {outcome.err}")


def facts(cache: Path) -> frozenset[Fact]:
    """What is finished in a cache: sentences of stores and shards, epochs of runs.

    :raises Exception: something that bears its final name does not open or verify.
    """
    found: set[Fact] = set()
    for path, reader in _stores(cache):
        reader.verify()
        stem = path.name if path.parent.name in {"translation", "transfer"} else path.parent.name
        found |= {(reader.kind, stem.split(".")[0], key.hex()) for key in reader}
    for folder in cache.glob("*/runs/*"):
        files = RunFolder(folder)
        epochs = 0
        for table in (files.vocabulary, folder / "recipe.json"):
            if table.exists():
                read_json(table)
        if files.epochs.exists():
            [json.loads(line) for line in files.epochs.read_text("utf-8").splitlines()]
        if files.weights.exists():
            read_tensors(files.weights)
        if files.checkpoint.exists():
            epochs = read_tensors(files.checkpoint)[1]["state"]["epoch"]
        if files.manifest.exists():
            epochs = len(read_run(folder).history)
            found.add(("run", folder.name))
        found |= {("epoch", folder.name, str(number)) for number in range(epochs)}
    for manifest in cache.glob("learn/*/training.json"):
        read_json(manifest)
        found.add(("model", manifest.parent.name))
    return frozenset(found)


def result(cache: Path) -> dict[str, Any]:
    """All that a cache holds, file by file, but for what names the run and the hour."""
    found: dict[str, Any] = {str(path.relative_to(cache)): None for path in cache.rglob("*")}
    for path, reader in _stores(cache):
        arrays = {name: value for name, value in reader.digests.items() if name not in OF_THE_RUN}
        plain = {name: reader.attributes[name] for name in ("recipe_id", "sentences", "d")}
        found[str(path.relative_to(cache))] = [arrays, plain, reader.counts, reader.attributes["corpora"]]
    for path in cache.glob("*/runs/*/*"):
        name = str(path.relative_to(cache))
        if path.suffix in {".tsv", ".safetensors"} or path.name == "vocabulary.json":
            found[name] = path.read_bytes()
        elif path.name == "run.json":
            run = read_run(path.parent)
            rows = [{k: v for k, v in row.items() if k not in OF_THE_CLOCK} for row in run.history]
            found[name] = [rows, run.best_epoch, run.dev, run.test, run.request]
    for path in cache.glob("learn/*/*"):
        name = str(path.relative_to(cache))
        if path.name == "checkpoint.pt":
            with torch.serialization.safe_globals([argparse.Namespace]):
                model = torch.load(path, weights_only=True)["model"]
            found[name] = {key: tensor.numpy().tobytes() for key, tensor in model.items()}
        elif path.name != "training.json":
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def is_rounded(found: Any, wanted: Any) -> bool:
    """Whether the weights of two translators differ by no more than 0.0003; rounding alone made 0.0001."""
    if not isinstance(found, dict) or not isinstance(wanted, dict) or found.keys() != wanted.keys():
        return False
    pairs = [[np.frombuffer(side[key], np.float32) for side in (found, wanted)] for key in wanted]
    return all(one.shape == other.shape and np.abs(one - other).max() < 3e-4 for one, other in pairs)


def listing(cache: Path) -> str:
    """The files of a cache, for a message."""
    files = sorted(path for path in cache.rglob("*") if path.is_file())
    return "\n".join(f"  {path.stat().st_size:8} {path.relative_to(cache)}" for path in files)


def at_operation(number: int, act: Callable[[], object]) -> Callable[[], None]:
    """What is to be called in a child, so that it does this before its so-manyth operation on the disk."""

    def arm() -> None:
        count = itertools.count(1)

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            if _changes_the_disk(event, arguments) and next(count) == number:
                os.write(NOTES, f"{event} {[str(a) for a in arguments]}\n".encode())
                act()

        # The HDF5 library opens and writes without Python's knowledge.
        for owner, name in (
            (h5py.h5f, "create"), (h5py.Group, "create_dataset"), (h5py.Dataset, "__setitem__"),
            (h5py.File, "close"), (os, "fsync"),
        ):  # fmt: skip
            _announce(owner, name)
        sys.addaudithook(watch)

    return arm


def _announce(owner: Any, name: str) -> None:
    plain = getattr(owner, name)

    def announced(*arguments: Any, **named: Any) -> Any:
        sys.audit(f"faults.{name}", *map(repr, arguments[1:2]))
        return plain(*arguments, **named)

    setattr(owner, name, announced)


_CHANGES = {
    "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod",
    "shutil.rmtree", "shutil.copyfile", "shutil.move", "fcntl.flock",
}  # fmt: skip


def _changes_the_disk(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        flags = arguments[2]
        return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
    return event in _CHANGES or event.startswith("faults.")


def _stores(cache: Path) -> Iterator[tuple[Path, StoreReader]]:
    for path in sorted(cache.rglob("*.h5")):
        yield path, StoreReader(path)


def jobs(shop: Workshop) -> list[Job]:
    """Stage one from nothing, from shards, after an edit; gc with garbage of every kind; the trainings."""
    empty = shop.root / "empty"
    empty.mkdir()
    built = shop.root / "built"
    _expect(shop.command(built, *STAGE_ONE))
    stopped = shop.root / "stopped"
    stop_before_joining("transfer", shop, stopped)
    littered = _litter(shop, shop.root / "littered")
    return [
        Job("features, from nothing", STAGE_ONE, "old", empty),
        Job("features, going on", STAGE_ONE, "old", stopped),
        Job("features, after an edit", STAGE_ONE, "new", built),
        Job("gc", ("gc", "toy"), "less", littered),
        Job("gc --others", ("gc", "toy", "--others"), "less", littered),
        Job("train", TRAIN, "old", built),
        Job("english train", ("english", "train", "learn", "--threads", "1"), "old", empty),
        Job("translator train", ("translator", "train", "learn", "--threads", "1"), "old", empty),
    ]


def _litter(shop: Workshop, cache: Path) -> Path:
    """A cache with every kind of garbage, for a corpus that has shrunk (``less``).

    The translation store has sentences too many, and shards that have been merged; the transfer store has
    only the shards of a run that was stopped, and they are no garbage. A second recipe has finished, a third
    was stopped. Half-written files are everywhere.
    """
    stop_before_joining("translation", shop, cache)
    joined = next(cache.glob("toy/translation/*.shards"))
    copy(joined, shop.root / "joined")
    stop_before_joining("transfer", shop, cache)
    copy(shop.root / "joined", joined)
    _expect(shop.command(cache, *STAGE_ONE, *SECOND))
    stop_before_joining("translation", shop, cache, *THIRD)
    for path in list(cache.glob("toy/*/*")):
        half = path / f"{16 * '0'}.h5" if path.is_dir() else path.with_suffix(".h5")
        half.with_name(f"{half.name}.01234567{PARTIAL}").write_bytes(b"half")
    return cache


def stop_before_joining(kind: str, shop: Workshop, cache: Path, *options: str) -> None:
    join = build.merge_stores  # type: ignore[attr-defined]

    def stop(stage: Any, *arguments: Any) -> Any:
        if stage.kind == kind:
            os.kill(os.getpid(), signal.SIGKILL)
        return join(stage, *arguments)

    outcome = shop.command(cache, *STAGE_ONE, *options, before=lambda: setattr(build, "merge_stores", stop))
    if outcome.status != -signal.SIGKILL:
        raise Lost(f"not stopped before joining: {outcome}")


def _expect(outcome: Outcome) -> None:
    if outcome.status:
        raise Lost(outcome.err)
