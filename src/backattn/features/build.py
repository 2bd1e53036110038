"""Build the stores of stage one: translations, transfer vectors, embeddings. Computes missing sentences only.

Sentences are sorted by length and cut into shards. A shard is a small store of its own, written atomically,
so that a killed run loses only the shard that it was computing. Then the shards and the old store are merged.
The cuts depend only on the corpus and on the missing sentences, so a resumed run makes the same batches, and
the same bytes, as an uninterrupted one. Every store that is read is verified first: a damaged number must
not get a new digest.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from backattn.common.atomic_files import is_own_file, remove_files, remove_leftovers
from backattn.common.digests import digest
from backattn.common.errors import MissingError, ModelError, StoreError, UnreadableError
from backattn.common.file_lock import writer_lock
from backattn.common.progress import bar_disabled, log_line, time_left
from backattn.corpus import Sentence
from backattn.embeddings import Embedder
from backattn.english import EnglishTagger
from backattn.features.attention import TransferAttention, transfer_attention
from backattn.features.back_attention import back_attention
from backattn.features.environment import header_of, new_origin
from backattn.features.merge import merge_stores
from backattn.features.plan import SHARD, Stage
from backattn.recipe import TransferRecipe
from backattn.store.layout import (
    DICTIONARY_TRANSLATION,
    ORIGIN,
    TRANSLATION,
    Column,
    Entry,
    Header,
    Origin,
    decode_lines,
    embedding_columns,
    encode_lines,
    transfer_columns,
)
from backattn.store.reader import StoreReader
from backattn.store.writer import write_store
from backattn.translation import Translation, Translator

# tqdm's monitor thread is not needed, and where memory is short it cannot even start.
tqdm.monitor_interval = 0

# Source tokens of a shard: a few seconds of work on a CPU; and characters of one for each token, which only
# tokens that are no words exceed.
SHARD_TOKENS = 8000
_TOKEN_CHARACTERS = 16
# Shards of a large corpus are larger: all are open while they are merged, and a process may open 1,024 files.
_MAX_SHARDS = 256
_LOG_SECONDS = 60

# Computes the entries of one shard's sentences, without their origin.
Compute = Callable[[Sequence[Sentence]], list[Entry]]


@dataclass(frozen=True)
class _LoadedModel:
    """A loaded model, and how it computes entries.

    :param opened: how the model's file was opened.
    """

    columns: tuple[Column, ...]
    compute: Compute
    opened: str


@dataclass(frozen=True)
class Built:
    """Result of building one store.

    :param sentences: number of sentences of the corpus.
    :param computed: number of sentences that this run computed.
    :param resumed: number of sentences found in the shards of an interrupted run.
    :param counts: counts of the whole store.
    """

    path: Path
    sentences: int
    computed: int
    resumed: int
    counts: Mapping[str, int]


def build_translations(stage: Stage, load: Callable[[], Translator], device: str) -> Built:
    """Bring the translation store up to date; ``load`` is called only when a sentence is missing."""

    def prepare() -> _LoadedModel:
        translator = load()
        counted = stage.recipe["translator"]["kind"] == "dictionary"
        return _LoadedModel(
            DICTIONARY_TRANSLATION if counted else TRANSLATION,
            lambda shard: translation_entries(translator, shard),
            translator.opened,
        )

    return _build(stage, prepare, device, "translate")


def build_transfers(
    stage: Stage,
    translations: StoreReader,
    recipe: TransferRecipe,
    load: Callable[[], EnglishTagger],
    device: str,
) -> Built:
    """Bring the transfer store up to date from the translations of the same sentences."""

    def prepare() -> _LoadedModel:
        translations.verify()
        attend, tagger = transfer_attention(recipe), load()
        return _LoadedModel(
            transfer_columns(recipe.dtype, transfer_width(tagger, recipe)),
            lambda shard: transfer_entries(tagger, attend, recipe, shard, translations),
            tagger.opened,
        )

    return _build(stage, prepare, device, "transfer")


def build_embeddings(stage: Stage, load: Callable[[], Embedder], device: str) -> Built:
    """Bring the store of an embedding up to date."""
    dtype = stage.recipe["dtype"]

    def prepare() -> _LoadedModel:
        embedder = load()
        return _LoadedModel(
            embedding_columns(dtype, embedder.width),
            lambda shard: embedding_entries(embedder, shard, dtype),
            embedder.opened,
        )

    return _build(stage, prepare, device, stage.name.rpartition("/")[2])


def translation_entries(translator: Translator, sentences: Sequence[Sentence]) -> list[Entry]:
    """Translate a shard.

    :raises ModelError: the translator's source length disagrees with the sentence, or A is not finite.
    """
    translations = translator.translate([sentence.tokens for sentence in sentences])
    return [_translation_entry(s, t) for s, t in zip(sentences, translations, strict=True)]


def transfer_width(tagger: EnglishTagger, recipe: TransferRecipe) -> int:
    """Compute the width of the stored vectors: d, or 2d with the states of the source."""
    return tagger.width * (2 if recipe.source_states else 1)


def transfer_entries(
    tagger: EnglishTagger,
    attend: TransferAttention,
    recipe: TransferRecipe,
    sentences: Sequence[Sentence],
    translations: Mapping[bytes, Entry],
) -> list[Entry]:
    """Compute T = A R for a shard (eq. 5), with ``source_states`` joined by the states of the source itself.

    A R is 0 for a sentence with an empty translation.

    :param attend: makes A, by the same recipe.
    :raises ModelError: R or T is not finite.
    """
    english = [decode_lines(translations[s.key]["english"]) for s in sentences]
    readings = iter(tagger.read([tokens for tokens in english if tokens]))
    own = tagger.read([sentence.tokens for sentence in sentences]) if recipe.source_states else None
    entries: list[Entry] = []
    for number, (sentence, tokens) in enumerate(zip(sentences, english, strict=True)):
        tags: tuple[str, ...] = ()
        # shape: (m, d)
        transfer: NDArray[np.floating] = np.zeros((len(sentence), tagger.width), np.float32)
        if tokens:
            reading = next(readings)
            tags = reading.tags
            _finite(reading.states, sentence, "R")
            whole = translations[sentence.key]["attention"].reshape(len(sentence) + 1, len(tokens) + 1)
            attention = attend(sentence.tokens, tokens, whole.astype(np.float32))
            transfer = back_attention(torch.from_numpy(attention), torch.from_numpy(reading.states)).numpy()
        if own is not None:
            transfer = np.concatenate([transfer, _finite(own[number].states, sentence, "R")], axis=1)
        with np.errstate(over="ignore"):  # an overflow is refused, with the sentence, in the next line
            vectors = _finite(transfer.astype(recipe.dtype), sentence, "T")
        entries.append({"vectors": vectors, "english_tags": encode_lines(tags)})
    return entries


def embedding_entries(embedder: Embedder, sentences: Sequence[Sentence], dtype: str) -> list[Entry]:
    """Embed the sentences of a shard; a token with a zero vector counts as unknown.

    :param dtype: dtype of the stored vectors, ``embeddings.dtype`` of the recipe.
    :raises ModelError: the number of vectors is not that of the tokens, or a vector is not finite.
    """
    found = embedder.embed([sentence.tokens for sentence in sentences])
    return [_embedding_entry(s, v, embedder.width, dtype) for s, v in zip(sentences, found, strict=True)]


def _embedding_entry(sentence: Sentence, vectors: NDArray[np.float32], width: int, dtype: str) -> Entry:
    if vectors.shape != (len(sentence), width):
        raise ModelError(
            f"features of shape {vectors.shape}, expected {(len(sentence), width)}, for the sentence "
            f"{' '.join(sentence.tokens)!r}"
        )
    with np.errstate(over="ignore"):  # an overflow is refused, with the sentence, in the next line
        stored = _finite(vectors.astype(dtype), sentence, "the embedding", "embeddings.dtype")
    return {"vectors": stored, "unknown": np.array([(~vectors.any(axis=1)).sum()], dtype=np.int32)}


def _translation_entry(sentence: Sentence, translation: Translation) -> Entry:
    if len(translation.attention) != len(sentence) + 1:
        raise ModelError(
            f"the translator saw {len(translation.attention) - 1} source tokens, the sentence has "
            f"{len(sentence)}: {' '.join(sentence.tokens)}"
        )
    return {
        "attention": _finite(translation.attention.astype(np.float16), sentence, "A").reshape(-1),
        "english": encode_lines(translation.english),
        "segments": np.array([translation.segments], dtype=np.int32),
        "limited": np.array([translation.limited], dtype=np.int32),
        "unknown": np.array([translation.unknown], dtype=np.int32),
    }


def _finite(
    array: NDArray[np.floating], sentence: Sentence, name: str, key: str = "transfer.dtype"
) -> NDArray[np.floating]:
    if not np.isfinite(array).all():
        raise ModelError(
            f"{name} is not finite as {array.dtype} for the sentence {' '.join(sentence.tokens)!r}; "
            f"the model is broken, or {key} must be float32"
        )
    return array


def _build(stage: Stage, prepare: Callable[[], _LoadedModel], device: str, label: str) -> Built:
    with writer_lock(stage.lock):
        old = stage.open()
        shards = [shard for shard in _open_shards(stage) if old is None or not set(shard) <= set(old)]
        missing = stage.missing(old, *shards)
        resumed = len(stage.missing(old)) - len(missing)
        if old is not None and not missing and not resumed:
            if not shards:  # an earlier run was killed after the merge, before it removed them
                _remove_shards(stage)
            return Built(stage.path, len(stage.sentences), 0, 0, old.counts)
        if old is not None:
            old.verify()
        sources = shards if old is None else [old, *shards]
        header = header_of(stage, device)
        if missing:
            model = prepare()
            origin = new_origin(header, model.opened)
            tokens = max(SHARD_TOKENS, sum(map(len, stage.sentences)) // _MAX_SHARDS)
            for part in _cut(missing, tokens, label):
                sources.append(_write_shard(stage, header, model, origin, part))
        # Sentences that left the corpus are kept: another branch of it, or the next edit, may have them. `gc`
        # removes them.
        keys = dict.fromkeys(sentence.key for sentence in stage.sentences)
        for source in sources:
            keys.update(dict.fromkeys(source))
        counts = merge_stores(stage, header, list(keys), sources)
        _remove_shards(stage)
        return Built(stage.path, len(stage.sentences), len(missing), resumed, counts)


def _cut(missing: Sequence[Sentence], size: int, label: str) -> Iterator[list[Sentence]]:
    """Cut the missing sentences into shards of about ``size`` tokens, longest first; show the progress.

    What a shard takes in memory is bounded by its characters as well.

    Not by :mod:`backattn.common.batching`: a shard is a unit of storage and has no padding, and where the
    cuts lie must not depend on the order of the corpus.
    """
    ordered = sorted(missing, key=lambda s: (-len(s), s.key))
    with tqdm(total=len(ordered), desc=label, unit="sentence", disable=bar_disabled(bool(ordered))) as bar:
        part: list[Sentence] = []
        tokens = characters = done = 0
        begin = logged = time.monotonic()
        tokens_done, all_tokens = 0, sum(map(len, ordered))
        for sentence in ordered:
            part.append(sentence)
            tokens += len(sentence)
            characters += sum(map(len, sentence.tokens))
            if tokens >= size or characters >= _TOKEN_CHARACTERS * size:
                yield part
                bar.update(len(part))
                done, tokens_done = done + len(part), tokens_done + tokens
                if time.monotonic() - logged > _LOG_SECONDS:
                    rate = done / (time.monotonic() - begin)
                    log_line(
                        f"{label}: {done} of {len(ordered)} sentences, {rate:.1f} sentences/s, "
                        f"{time_left(begin, tokens_done, all_tokens)}",
                        progress=True,
                    )
                    logged = time.monotonic()
                part, tokens, characters = [], 0, 0
        if part:
            yield part
            bar.update(len(part))


def _write_shard(
    stage: Stage, header: Header, model: _LoadedModel, origin: Origin, part: Sequence[Sentence]
) -> StoreReader:
    start = time.monotonic()
    computed = model.compute(part)
    done = origin.after(sum(map(len, part)), time.monotonic() - start)
    mark = np.frombuffer(bytes.fromhex(done.id), dtype=np.uint8)
    entries = {s.key: {**entry, ORIGIN.name: mark} for s, entry in zip(part, computed, strict=True)}
    path = stage.shards / f"{digest([key.hex() for key in entries])[:16]}.h5"
    write_store(path, header, model.columns, list(entries), entries, counts={}, origins={done.id: done})
    return StoreReader(path)


def _open_shards(stage: Stage) -> list[StoreReader]:
    """Open the finished shards of an interrupted run; remove damaged and partly written ones.

    :raises StoreError: the folder of shards is a link, which may lead to files of others.
    """
    if stage.shards.is_symlink():
        raise StoreError(
            f"{stage.shards}: is a link, expected a folder of shards; remove the link, then run again"
        )
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
