"""Delete what a cache no longer needs: leftovers of killed runs, sentences that left the corpus.

Whole stores of other recipes may be the work of other people, or an earlier ablation: they are deleted only
on demand. Each store is changed under its lock; a store whose lock is held is skipped. Only files whose names
this program gives are deleted; links and other files are kept, and listed in the result.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from backattn.common.atomic_files import is_leftover, is_own_file, is_own_folder, is_partial, remove_files
from backattn.common.errors import BusyError
from backattn.common.file_lock import writer_lock
from backattn.features.environment import header_of
from backattn.features.merge import merge_stores
from backattn.features.plan import SHARD, STORE, Plan, Stage
from backattn.recipe import cache_root
from backattn.store.reader import StoreReader

_OTHER = "not made by backattn"
_LINK = "a link, which gc does not follow"


@dataclass(frozen=True)
class Garbage:
    """A file or folder that can be deleted, or one in a folder of the cache that is kept.

    :param bytes: its size; for a store that is rewritten, the share of the deleted sentences.
    :param reason: why it is not needed, or why it is kept.
    :param left: it is kept.
    """

    path: str
    bytes: int
    reason: str
    left: bool = False


@dataclass(frozen=True)
class _Find:
    garbage: Garbage
    remove: Callable[[], object]


def collect_garbage(plan: Plan, *, others: bool, dry_run: bool) -> list[Garbage]:
    """Delete what is no longer needed in the cache of a recipe.

    :param others: delete whole stores of other recipes, and their unfinished shards, too; also those of
        embeddings that this recipe does not name.
    :param dry_run: delete nothing, only list.
    :raises StoreError: a store of this recipe is corrupt; nothing is deleted.
    :raises BusyError: a run is writing one of the stores.
    """
    for stage in plan.stages:
        stage.open()
    own = {stage.path.with_suffix("") for stage in plan.stages}
    folders = [folder for folder in _folders(plan) if not _behind_link(folder)]
    left = [_left(folder, _LINK) for folder in _folders(plan) if folder not in folders]
    for folder in folders:
        left += _foreign_files(folder)
    found = _take(_leftovers(cache_root() / plan.recipe.name), dry_run)
    # A store that loses sentences is written anew, which takes space: others are deleted first.
    for folder in folders:
        stems = {path.stem for path in folder.iterdir() if _is_made(path) and not is_partial(path.name)}
        for base in sorted({folder / stem for stem in stems} - own):
            found += _take_other(base, others, dry_run)
    for stage in plan.stages:
        if stage.path.parent in folders:
            with nullcontext() if dry_run else writer_lock(stage.lock):
                found += _take(_own(stage), dry_run)
    return found + left


def _folders(plan: Plan) -> list[Path]:
    """List the folders in which stores of the plan's part may be."""
    folders = {stage.path.parent for stage in plan.stages}
    if plan.part != "transfer":
        folders.update((cache_root() / plan.recipe.name / "embeddings").glob("*"))
    return sorted(folder for folder in folders if folder.is_dir())


def _behind_link(folder: Path) -> bool:
    """Return whether a link below the root of the cache leads to a folder; the root itself may be one."""
    root = cache_root()
    below = (path for path in (folder, *folder.parents) if path != root and path.is_relative_to(root))
    return any(path.is_symlink() for path in below)


def _left(path: Path, reason: str) -> Garbage:
    return Garbage(str(path), 0, reason, left=True)


def _is_made(path: Path) -> bool:
    """Return whether a path has name and file type of a store, lock, folder of shards or partial file."""
    if re.fullmatch(rf"{STORE}\.shards", path.name):
        return is_own_folder(path)
    named = is_partial(path.name) or re.fullmatch(rf"{STORE}\.(h5|lock)", path.name)
    return bool(named) and is_own_file(path)


def _foreign_files(folder: Path) -> Iterator[Garbage]:
    """Iterate over the files in a folder of stores, and in its folders of shards, that were not made here."""
    for path in sorted(folder.iterdir()):
        if not _is_made(path):
            yield _left(path, _LINK if path.is_symlink() else _OTHER)
        elif path.suffix == ".shards":
            for shard in sorted(path.iterdir()):
                if not (is_own_file(shard) and (is_partial(shard.name) or re.fullmatch(SHARD, shard.name))):
                    yield _left(shard, _LINK if shard.is_symlink() else _OTHER)


def _take(finds: Iterator[_Find], dry_run: bool) -> list[Garbage]:
    taken = []
    for find in finds:
        if not dry_run:
            find.remove()
        taken.append(find.garbage)
    return taken


def _leftovers(top: Path) -> Iterator[_Find]:
    """Iterate over partly written files of killed processes, anywhere in the cache of a recipe."""
    if _behind_link(top):
        return
    for parent, folders, names in os.walk(top):
        folders.sort()
        for path in (Path(parent, name) for name in sorted(names) if is_partial(name)):
            if is_leftover(path):
                garbage = Garbage(str(path), _bytes(path), "half-written by a run that was stopped")
                yield _Find(garbage, lambda path=path: is_leftover(path, remove=True))  # type: ignore[misc]


def _own(stage: Stage) -> Iterator[_Find]:
    """Iterate over what a store of the recipe no longer needs: merged shards, sentences not in the corpus."""
    store = stage.open()
    if store is None:
        return
    if not stage.missing(store):
        yield from _shards(stage.shards, "shards that have been merged")
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
    merge_stores(stage, header_of(stage, str(store.attributes["device"])), kept, [store])


def _take_other(base: Path, others: bool, dry_run: bool) -> list[Garbage]:
    """Delete a store of another recipe and its shards, if ``others`` allows it; then a lock without them."""
    lock, shards = base.with_suffix(".lock"), base.with_suffix(".shards")
    store = base.with_suffix(".h5")
    if os.path.lexists(lock) and not _is_made(lock):
        return []  # without its lock, the store may be in use
    try:
        with nullcontext() if dry_run else writer_lock(lock):
            taken = _take(_other(store, shards), dry_run) if others else []
            if not (dry_run or os.path.lexists(store) or os.path.lexists(shards)):
                lock.unlink()
            return taken
    except BusyError:
        return []


def _other(store: Path, shards: Path) -> Iterator[_Find]:
    yield from _shards(shards, "an unfinished run of another recipe")
    if is_own_file(store):
        yield _Find(Garbage(str(store), _bytes(store), "a store of another recipe"), store.unlink)


def _shards(folder: Path, reason: str) -> Iterator[_Find]:
    held = list(folder.iterdir()) if is_own_folder(folder) else None
    own = [path for path in held or () if re.fullmatch(SHARD, path.name) and is_own_file(path)]
    if own or held == []:
        size = sum(map(_bytes, own))
        yield _Find(Garbage(str(folder), size, reason), lambda: remove_files(folder, SHARD))


def _bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:  # a dry run holds no lock: another process deleted it
        return 0
