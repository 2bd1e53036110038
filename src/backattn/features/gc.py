"""What a cache no longer needs: leftovers of killed runs, sentences that the corpus no longer has.

Whole stores of other recipes are other people's work, or yesterday's ablation: they go only on demand.
Everything is done under the lock of the store concerned; a store whose lock is held is left alone.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from backattn.errors import BusyError
from backattn.features.join import join
from backattn.features.plan import Plan, Stage
from backattn.features.surroundings import header_of
from backattn.files import PARTIAL
from backattn.recipe import cache_root
from backattn.store.lock import writer_lock
from backattn.store.reader import StoreReader

_ENDINGS = (".h5", ".shards", ".lock", PARTIAL)


@dataclass(frozen=True)
class Garbage:
    """Something that can go.

    :param bytes: what it takes; for a store that is rewritten, the share of the sentences that go.
    :param reason: why it is not needed.
    """

    path: str
    bytes: int
    reason: str


@dataclass(frozen=True)
class _Find:
    garbage: Garbage
    remove: Callable[[], None]


def collect_garbage(plan: Plan, *, others: bool, dry_run: bool) -> list[Garbage]:
    """Free what nobody needs in the store folders of a LANG.

    :param others: take whole stores of other recipes, and their unfinished shards, as well: also those of
        embeddings that this recipe does not name.
    :param dry_run: only say what would go.
    :raises StoreError: a store of this recipe is corrupt; nothing is touched.
    :raises BusyError: a run is writing one of the stores.
    """
    for stage in plan.stages:
        stage.open()
    own = {stage.path.with_suffix("") for stage in plan.stages}
    found: list[Garbage] = []
    # A store that loses sentences is written anew, which takes space: others make room first.
    for folder in _folders(plan):
        stems = {path.name.split(".", 1)[0] for path in folder.iterdir() if path.name.endswith(_ENDINGS)}
        for base in sorted({folder / stem for stem in stems} - own):
            found += _take_other(base, others, dry_run)
    for stage in plan.stages:
        if not stage.path.parent.is_dir():
            continue
        with nullcontext() if dry_run else writer_lock(stage.lock):
            found += _take(_own(stage), dry_run)
    return found


def _folders(plan: Plan) -> list[Path]:
    """Where stores of the plan's part may lie."""
    folders = {stage.path.parent for stage in plan.stages}
    if plan.part != "transfer":
        folders.update((cache_root() / plan.recipe.name / "embeddings").glob("*"))
    return sorted(folder for folder in folders if folder.is_dir())


def _take(finds: Iterator[_Find], dry_run: bool) -> list[Garbage]:
    taken = []
    for find in finds:
        if not dry_run:
            find.remove()
        taken.append(find.garbage)
    return taken


def _own(stage: Stage) -> Iterator[_Find]:
    """What can go around the store that the recipe asks for."""
    for path in [stage.path.with_name(stage.path.name + PARTIAL), *stage.shards.glob(f"*{PARTIAL}")]:
        if path.exists():
            yield _file(path, "half-written by a run that was stopped")
    store = stage.open()
    if store is None:
        return
    if stage.shards.is_dir() and not stage.missing(store):
        yield _folder(stage.shards, "shards that have been joined")
    kept = [sentence.key for sentence in stage.sentences if sentence.key in store]
    extra = store.sentences - len(kept)
    if extra and kept:
        yield _Find(
            Garbage(
                str(stage.path),
                stage.path.stat().st_size * extra // store.sentences,
                f"{extra} of {store.sentences} sentences are no longer in the corpus",
            ),
            lambda: _compact(stage, store, kept),
        )


def _compact(stage: Stage, store: StoreReader, kept: Sequence[bytes]) -> None:
    store.verify()
    join(stage, header_of(stage, str(store.attributes["device"])), kept, [store])


def _take_other(base: Path, others: bool, dry_run: bool) -> list[Garbage]:
    """What can go around a store of another recipe."""
    lock, shards = base.with_suffix(".lock"), base.with_suffix(".shards")
    store = base.with_suffix(".h5")
    try:
        with nullcontext() if dry_run else writer_lock(lock):
            finds = [
                _file(path, "half-written by a run that was stopped")
                for path in [store.with_name(store.name + PARTIAL), *shards.glob(f"*{PARTIAL}")]
                if path.exists()
            ]
            if others and shards.is_dir():
                finds.append(_folder(shards, "an unfinished run of another recipe"))
            if others and store.exists():
                finds.append(_file(store, "a store of another recipe"))
            taken = _take(iter(finds), dry_run)
            if not (dry_run or store.exists() or shards.exists()):
                lock.unlink()
            return taken
    except BusyError:
        return []


def _file(path: Path, reason: str) -> _Find:
    return _Find(Garbage(str(path), _bytes(path), reason), path.unlink)


def _folder(path: Path, reason: str) -> _Find:
    size = sum(map(_bytes, path.glob("*")))
    return _Find(Garbage(str(path), size, reason), lambda: shutil.rmtree(path))


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # a dry run holds no lock: the file was another process's, and went
        return 0
