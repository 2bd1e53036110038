"""Build the stores of stage one: translations, transfer vectors, embeddings. Computes missing sentences only.

Sentences are sorted by length and cut into shards. A shard is a small store of its own, written atomically,
so that a killed run loses only the shards that were being computed. An engine has them computed
(:mod:`backattn.features.engines`); then the shards and the old store are merged. The cuts depend only on the
corpus and on the sentences that the old store lacks, so a resumed run makes the same batches, and the same
bytes, as an uninterrupted one, whichever engine computes. Every store that is read is verified first: a
damaged number must not get a new digest.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from backattn.common.atomic_files import is_own_file, remove_files, remove_leftovers
from backattn.common.errors import MissingError, StaleError, StoreError, UnreadableError
from backattn.common.file_lock import writer_lock
from backattn.common.progress import bar_disabled, log_line, time_left
from backattn.corpus import Sentence
from backattn.embeddings import Embedder
from backattn.english import EnglishTagger
from backattn.features.engine_options import Share
from backattn.features.engines.local import LocalEngine
from backattn.features.engines.shard import Engine, ShardModel, ShardTask, ShardWork, read_shard
from backattn.features.entries import embedding_model, transfer_model, translation_model
from backattn.features.environment import header_of, now
from backattn.features.merge import merge_stores
from backattn.features.plan import SHARD, Stage
from backattn.recipe import TransferRecipe
from backattn.store.layout import Entry
from backattn.store.reader import Chain, StoreReader
from backattn.translation import Translator

# tqdm's monitor thread is not needed, and where memory is short it cannot even start.
tqdm.monitor_interval = 0

# Source tokens of a shard: a few seconds of work on a CPU.
SHARD_TOKENS = 8000
# Most characters of a shard, per token of its size. Only tokens that are no words reach it.
_TOKEN_CHARACTERS = 16
# Shards of a large corpus are larger: all are open while they are merged, and a process may open 1,024 files.
_MAX_SHARDS = 256
_LOG_SECONDS = 60


@dataclass(frozen=True)
class Computing:
    """The engine that computes the shards, and which of them it computes.

    :param share: compute these, and leave the merging to :func:`collect`; None computes and merges all.
    :param device: name of the device, where it is not the one of this machine.
    """

    engine: Engine = LocalEngine()  # noqa: RUF009 - it is frozen
    share: Share | None = None
    device: str = ""


_HERE = Computing()


@dataclass(frozen=True)
class Built:
    """Result of building one store, or of computing a share of its shards.

    :param path: the store, or the folder of its shards.
    :param sentences: number of sentences of the corpus, or of the share.
    :param computed: number of sentences that this run computed.
    :param resumed: number of sentences found in the shards of an interrupted run.
    :param counts: counts of the whole store; of a share its shards, and those that wait for translations.
    """

    path: Path
    sentences: int
    computed: int
    resumed: int
    counts: Mapping[str, int]


def build_translations(
    stage: Stage, load: Callable[[], Translator], device: str, computing: Computing = _HERE
) -> Built:
    """Bring the translation store up to date.

    :param load: loads the model; called only when a sentence is missing, in each worker of the engine.
    :param device: name of the device that computes, for the provenance.
    """
    counted = stage.recipe["translator"]["kind"] == "dictionary"
    return _build(stage, partial(translation_model, counted, load), device, computing, "translate")


def build_transfers(
    stage: Stage,
    translations: Mapping[bytes, Entry],
    recipe: TransferRecipe,
    load: Callable[[], EnglishTagger],
    device: str,
    computing: Computing = _HERE,
) -> Built:
    """Bring the transfer store up to date from the translations of the same sentences.

    :param translations: a store, which is verified first; for a share, what :func:`translations_of` gives.
    """
    model = partial(transfer_model, recipe, load)
    return _build(stage, model, device, computing, "transfer", translations)


def build_embeddings(
    stage: Stage, load: Callable[[], Embedder], device: str, computing: Computing = _HERE
) -> Built:
    """Bring the store of an embedding up to date."""
    model = partial(embedding_model, stage.recipe["dtype"], load)
    return _build(stage, model, device, computing, stage.name.rpartition("/")[2])


def collect(stage: Stage) -> Built:
    """Merge the shards that shares (``--shard``) made into the store; compute nothing.

    :raises StaleError: sentences are in no shard.
    """
    return _build(stage, None, "cpu", _HERE, "")


def translations_of(stage: Stage, share: Share) -> Mapping[bytes, Entry]:
    """The translations that one command of several has: those of the old store, and of its own shards."""
    old = stage.open()
    if old is not None:
        old.verify()
    shards = [_finished(stage, task) for task in _share_tasks(stage, old, share)]
    return Chain([source for source in (old, *shards) if source is not None])


def _build(
    stage: Stage,
    load: Callable[[], ShardModel] | None,
    device: str,
    computing: Computing,
    label: str,
    translations: Mapping[bytes, Entry] | None = None,
) -> Built:
    """Bring a store up to date, or compute a share of its shards.

    :param load: None if nothing may be computed.
    """
    if computing.share is not None and load is not None:
        return _build_share(stage, load, device, computing.engine, computing.share, label, translations)
    with writer_lock(stage.lock):
        old = stage.open()
        shards = [shard for shard in _open_shards(stage) if old is None or not set(shard) <= set(old)]
        missing = stage.missing(old, *shards)
        resumed = len(stage.missing(old)) - len(missing)
        if old is not None and not missing and not resumed:
            if not shards:  # all are merged: an earlier run was killed before it removed them
                _remove_shards(stage)
            return Built(stage.path, len(stage.sentences), 0, 0, old.counts)
        if old is not None:
            old.verify()
        sources = shards if old is None else [old, *shards]
        header = header_of(stage, device)
        if missing:
            if load is None:
                raise StaleError(
                    f"{stage.path}: {len(missing)} of {len(stage.sentences)} sentences are in no shard yet; "
                    "run `backattn features` with --shard i/N for each i, then with --collect again"
                )
            if isinstance(translations, StoreReader):
                translations.verify()
            tasks = _rest(_cut(stage.missing(old), _shard_tokens(stage)), shards, translations)
            work = ShardWork(header, load, now(), stage.shards)
            sources += _compute(work, tasks, computing.engine, label)
        _refuse_other_columns(sources)
        # Sentences that left the corpus are kept: another branch of it, or the next edit, may have them. `gc`
        # removes them.
        keys = dict.fromkeys(sentence.key for sentence in stage.sentences)
        for source in sources:
            keys.update(dict.fromkeys(source))
        counts = merge_stores(stage, header, list(keys), sources)
        _remove_shards(stage)
        return Built(stage.path, len(stage.sentences), len(missing), resumed, counts)


def _build_share(
    stage: Stage,
    load: Callable[[], ShardModel],
    device: str,
    engine: Engine,
    share: Share,
    label: str,
    translations: Mapping[bytes, Entry] | None,
) -> Built:
    """Compute the shards of a share that are not there yet. Several processes may do so at the same time.

    No lock is needed: each writes files of its own, and a store changes only when all shards are there. Nor
    is anything removed, because what looks like a leftover of a killed process may be written on another
    machine, whose file locks are not seen here.
    """
    _refuse_link(stage)
    tasks = _share_tasks(stage, stage.open(), share, translations)
    ready = [
        task for task in tasks
        if translations is None or all(s.key in translations for s in task.sentences)
    ]  # fmt: skip
    missing = [task for task in ready if _finished(stage, task) is None]
    work = ShardWork(header_of(stage, device), load, now(), stage.shards)
    for _ in _compute(work, missing, engine, label):
        pass
    counts = {"shards": len(tasks)}
    if translations is not None:
        counts["waiting"] = len(tasks) - len(ready)
    computed, held = (sum(len(task.sentences) for task in some) for some in (missing, ready))
    return Built(stage.shards, sum(len(task.sentences) for task in tasks), computed, held - computed, counts)


def _share_tasks(
    stage: Stage, old: StoreReader | None, share: Share, translations: Mapping[bytes, Entry] | None = None
) -> list[ShardTask]:
    """List the shards of a share, finished or not, in an order that all of the commands agree on."""
    parts = list(_cut(stage.missing(old), _shard_tokens(stage)))[share.number - 1 :: share.of]
    return [ShardTask(part, translations or {}) for part in parts]


def _refuse_other_columns(sources: Sequence[StoreReader]) -> None:
    """Refuse to merge stores whose columns differ: one is of another program, or of another translator."""
    for source in sources:
        if source.columns != sources[0].columns:
            raise StoreError(
                f"{source.path}: has other columns than {sources[0].path}; delete the one that was not made "
                "here, then run again"
            )


def _finished(stage: Stage, task: ShardTask) -> StoreReader | None:
    """Open the shard of a task; None if it is not there, or damaged: then it is computed and replaced."""
    try:
        return read_shard(stage.shards / task.name, stage.kind, stage.recipe_id, task)
    except UnreadableError:
        raise
    except (MissingError, StoreError, KeyError, ValueError):
        return None


def _shard_tokens(stage: Stage) -> int:
    """Source tokens of a shard; depends on nothing but the corpus."""
    return max(SHARD_TOKENS, sum(map(len, stage.sentences)) // _MAX_SHARDS)


def _cut(missing: Sequence[Sentence], size: int) -> Iterator[tuple[Sentence, ...]]:
    """Cut sentences into shards of about ``size`` tokens, longest first.

    A shard also ends at a number of characters, which bounds its memory.

    :mod:`backattn.common.batching` is not used: a shard is a unit of storage without padding, and the cuts
    must not depend on the order of the corpus.
    """
    part: list[Sentence] = []
    tokens = characters = 0
    for sentence in sorted(missing, key=lambda s: (-len(s), s.key)):
        part.append(sentence)
        tokens += len(sentence)
        characters += sum(map(len, sentence.tokens))
        if tokens >= size or characters >= _TOKEN_CHARACTERS * size:
            yield tuple(part)
            part, tokens, characters = [], 0, 0
    if part:
        yield tuple(part)


def _rest(
    parts: Iterator[tuple[Sentence, ...]],
    shards: Sequence[StoreReader],
    translations: Mapping[bytes, Entry] | None,
) -> list[ShardTask]:
    """List the tasks that the finished shards leave to do.

    They are whole shards of the cuts that the interrupted run made; only if the corpus was edited since then
    is a task a part of one.
    """
    held = {key for shard in shards for key in shard}
    rests = (tuple(sentence for sentence in part if sentence.key not in held) for part in parts)
    return [ShardTask(rest, translations or {}) for rest in rests if rest]


def _compute(
    work: ShardWork, tasks: Sequence[ShardTask], engine: Engine, label: str
) -> Iterator[StoreReader]:
    """Have shards computed; open each as soon as it is finished, and show the progress."""
    parts = {task.name: task.sentences for task in tasks}
    with _progress([*parts.values()], label) as advance, closing(engine.run(work, tasks)) as paths:
        for path in paths:
            yield StoreReader(path)
            advance(parts[path.name])


@contextmanager
def _progress(
    parts: Sequence[Sequence[Sentence]], label: str
) -> Iterator[Callable[[Sequence[Sentence]], None]]:
    """Show a bar, or a line now and then; yields the function that counts a finished part.

    The time that is left is estimated by tokens, because long sentences come first.
    """
    begin = logged = time.monotonic()
    total, all_tokens = sum(map(len, parts)), sum(len(sentence) for part in parts for sentence in part)
    with tqdm(total=total, desc=label, unit="sentence", disable=bar_disabled(bool(total))) as bar:
        done = tokens = 0

        def advance(part: Sequence[Sentence]) -> None:
            nonlocal done, tokens, logged
            done, tokens = done + len(part), tokens + sum(map(len, part))
            bar.update(len(part))
            if time.monotonic() - logged > _LOG_SECONDS:
                rate = done / (time.monotonic() - begin)
                log_line(
                    f"{label}: {done} of {total} sentences, {rate:.1f} sentences/s, "
                    f"{time_left(begin, tokens, all_tokens)}",
                    progress=True,
                )
                logged = time.monotonic()

        yield advance


def _refuse_link(stage: Stage) -> None:
    if stage.shards.is_symlink():
        raise StoreError(
            f"{stage.shards}: is a link, expected a folder of shards; remove the link, then run again"
        )


def _open_shards(stage: Stage) -> list[StoreReader]:
    """Open the finished shards of an interrupted run; remove damaged and partly written ones.

    :raises StoreError: the folder of shards is a link, which may lead to files of others.
    """
    _refuse_link(stage)
    remove_leftovers(stage.shards)
    remove_leftovers(stage.path.parent, stage.path.name)
    readers = []
    for path in sorted(stage.shards.glob("*.h5")):
        if not (re.fullmatch(SHARD, path.name) and is_own_file(path)):
            continue  # not written by a run
        try:
            reader = StoreReader(path)
            reader.verify()
            if reader.recipe_id != stage.recipe_id:
                raise StoreError(f"{path}: of another recipe")
        except UnreadableError:
            raise
        except (MissingError, StoreError):  # a shard can be computed again
            path.unlink()
            continue
        readers.append(reader)
    return readers


def _remove_shards(stage: Stage) -> None:
    with suppress(OSError):  # `gc` can remove them later
        remove_files(stage.shards, SHARD)
