"""Corpus -> translation store -> transfer store, computing only what is missing.

Sentences are sorted by length and cut into shards; a shard is a small store of its own, written and
renamed, so that a killed run loses the shard in hand. The shards and the old store are then joined.
Where the cuts lie depends on the missing sentences alone, so a resumed run makes the same batches, and
the same bytes, as one that was never stopped.
"""

import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from backattn.corpus import Sentence
from backattn.errors import ModelError, StoreError
from backattn.features.back_attention import back_attention
from backattn.features.english import EnglishTagger
from backattn.features.plan import Stage
from backattn.features.translation import Translation, Translator
from backattn.features.translation.pieces import token_attention
from backattn.files import PARTIAL
from backattn.fingerprint import digest
from backattn.recipe import TransferRecipe
from backattn.store.layout import (
    TRANSLATION,
    Column,
    Entry,
    Header,
    decode_lines,
    encode_lines,
    transfer_columns,
)
from backattn.store.lock import writer_lock
from backattn.store.reader import Chain, StoreReader
from backattn.store.writer import write_store

# Source tokens of a shard: a few seconds of work on a CPU.
SHARD_TOKENS = 8000
_PACKAGES = ("backattn", "torch", "numpy", "h5py", "fairseq-fixed", "flair", "sentencepiece")

# Computes the entries of one shard's sentences.
Compute = Callable[[Sequence[Sentence]], list[Entry]]


@dataclass(frozen=True)
class Built:
    """What one stage did.

    :param computed: sentences that were computed in this run.
    :param resumed: sentences found in the shards of a run that had not ended.
    :param counts: of the whole store.
    """

    path: Path
    sentences: int
    computed: int
    resumed: int
    counts: Mapping[str, int]


def build_translations(stage: Stage, load: Callable[[], Translator], device: str) -> Built:
    """Bring the translation store up to date; ``load`` is called only when a sentence is missing."""

    def prepare() -> tuple[tuple[Column, ...], Compute]:
        translator = load()
        return TRANSLATION, lambda shard: translation_entries(translator, shard)

    return _build(stage, prepare, device, "translate")


def build_transfers(
    stage: Stage,
    translations: Mapping[bytes, Entry],
    recipe: TransferRecipe,
    load: Callable[[], EnglishTagger],
    device: str,
) -> Built:
    """Bring the transfer store up to date from the translations of the same sentences."""

    def prepare() -> tuple[tuple[Column, ...], Compute]:
        tagger = load()
        columns = transfer_columns(recipe.dtype, tagger.width)
        return columns, lambda shard: transfer_entries(tagger, recipe, shard, translations)

    return _build(stage, prepare, device, "transfer")


def translation_entries(translator: Translator, sentences: Sequence[Sentence]) -> list[Entry]:
    """Translate a shard.

    :raises ModelError: the translator's source length disagrees with the sentence, or A is not finite.
    """
    translations = translator.translate([sentence.tokens for sentence in sentences])
    return [_translation_entry(s, t) for s, t in zip(sentences, translations, strict=True)]


def transfer_entries(
    tagger: EnglishTagger,
    recipe: TransferRecipe,
    sentences: Sequence[Sentence],
    translations: Mapping[bytes, Entry],
) -> list[Entry]:
    """T = A R for a shard (eq. 5). A sentence with an empty translation gets T = 0."""
    english = [decode_lines(translations[s.key]["english"]) for s in sentences]
    readings = iter(tagger.read([tokens for tokens in english if tokens]))
    entries: list[Entry] = []
    for sentence, tokens in zip(sentences, english, strict=True):
        if not tokens:
            vectors: NDArray[np.floating] = np.zeros((len(sentence), tagger.width), recipe.dtype)
            entries.append({"vectors": vectors, "english_tags": encode_lines(())})
            continue
        reading = next(readings)
        whole = translations[sentence.key]["attention"].reshape(len(sentence) + 1, len(tokens) + 1)
        attention = token_attention(whole.astype(np.float32), eos=recipe.eos, normalise=recipe.normalise)
        # shape: (m, d)
        transfer = back_attention(torch.from_numpy(attention), torch.from_numpy(reading.states))
        with np.errstate(over="ignore"):  # an overflow is refused, with the sentence, in the next line
            vectors = _finite(transfer.numpy().astype(recipe.dtype), sentence, "T")
        entries.append({"vectors": vectors, "english_tags": encode_lines(reading.tags)})
    return entries


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
    }


def _finite(array: NDArray[np.floating], sentence: Sentence, name: str) -> NDArray[np.floating]:
    if not np.isfinite(array).all():
        raise ModelError(
            f"{name} is not finite as {array.dtype} for the sentence {' '.join(sentence.tokens)!r}; "
            "the model is broken, or transfer.dtype must be float32"
        )
    return array


def _build(
    stage: Stage, prepare: Callable[[], tuple[tuple[Column, ...], Compute]], device: str, label: str
) -> Built:
    with writer_lock(stage.lock):
        old = stage.open()
        shards = [shard for shard in _open_shards(stage) if old is None or not set(shard) <= set(old)]
        missing = stage.missing(old, *shards)
        resumed = len(stage.missing(old)) - len(missing)
        if old is not None and not missing and not resumed:
            return Built(stage.path, old.sentences, 0, 0, old.counts)
        header = _header(stage, device)
        sources = shards if old is None else [old, *shards]
        if missing:
            columns, compute = prepare()
            for part in _cut(missing, label):
                entries = dict(zip((s.key for s in part), compute(part), strict=True))
                sources.append(_write_shard(stage, header, columns, entries))
        else:  # a run was stopped between its last shard and the join; no model is needed
            columns = sources[0].columns
        keys = [sentence.key for sentence in stage.sentences]
        chain = Chain(sources)
        counts = _counts(stage, keys, chain)
        write_store(stage.path, header, columns, keys, chain, counts)
        shutil.rmtree(stage.shards, ignore_errors=True)
        return Built(stage.path, len(keys), len(missing), resumed, counts)


def _cut(missing: Sequence[Sentence], label: str) -> Iterator[list[Sentence]]:
    """Shards of about :data:`SHARD_TOKENS` tokens, longest sentences first; shows the progress."""
    ordered = sorted(missing, key=lambda s: (-len(s), s.key))
    with tqdm(total=len(ordered), desc=label, unit="sentence", disable=None if ordered else True) as bar:
        part: list[Sentence] = []
        tokens = 0
        for sentence in ordered:
            part.append(sentence)
            tokens += len(sentence)
            if tokens >= SHARD_TOKENS:
                yield part
                bar.update(len(part))
                part, tokens = [], 0
        if part:
            yield part
            bar.update(len(part))


def _write_shard(
    stage: Stage, header: Header, columns: tuple[Column, ...], entries: Mapping[bytes, Entry]
) -> StoreReader:
    name = digest([key.hex() for key in entries])[:16]
    path = stage.shards / f"{name}.h5"
    write_store(path, header, columns, list(entries), entries, {})
    return StoreReader(path)


def _open_shards(stage: Stage) -> list[StoreReader]:
    """The finished shards of an earlier run; what it left half-written is cleared away."""
    for leftover in [
        *stage.shards.glob(f"*{PARTIAL}"),
        *stage.path.parent.glob(f"{stage.path.name}{PARTIAL}"),
    ]:
        leftover.unlink()
    readers = []
    for path in sorted(stage.shards.glob("*.h5")):
        try:
            reader = StoreReader(path)
            reader.verify()
        except StoreError:  # a shard holds nothing that cannot be computed again
            path.unlink()
            continue
        readers.append(reader)
    return readers


def _counts(stage: Stage, keys: Sequence[bytes], sources: Mapping[bytes, Entry]) -> dict[str, int]:
    if stage.kind == "translation":
        return {
            "empty": sum(not len(sources[key]["english"]) for key in keys),
            "segmented": sum(int(sources[key]["segments"][0]) > 1 for key in keys),
        }
    return {"empty": sum(not len(sources[key]["english_tags"]) for key in keys)}


def _header(stage: Stage, device: str) -> Header:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return Header(
        kind=stage.kind, recipe_id=stage.recipe_id, recipe=stage.recipe, versions=versions, device=device
    )
