"""Compute what the stores hold: the entries of a few sentences, from a loaded model."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from backattn.common.errors import ModelError
from backattn.corpus import Sentence
from backattn.embeddings import Embedder
from backattn.english import EnglishTagger
from backattn.features.attention import TransferAttention, transfer_attention
from backattn.features.back_attention import back_attention
from backattn.features.engines.shard import ShardModel
from backattn.recipe import TransferRecipe
from backattn.store.layout import (
    DICTIONARY_TRANSLATION,
    TRANSLATION,
    Entry,
    decode_lines,
    embedding_columns,
    encode_lines,
    transfer_columns,
)
from backattn.translation import Translation, Translator


def translation_model(counted: bool, load: Callable[[], Translator]) -> ShardModel:
    """Load what computes the shards of a translation store.

    :param counted: count the tokens that the translator does not know, as a dictionary does.
    """
    translator = load()
    return ShardModel(
        DICTIONARY_TRANSLATION if counted else TRANSLATION,
        lambda sentences, _: translation_entries(translator, sentences),
        translator.opened,
    )


def transfer_model(recipe: TransferRecipe, load: Callable[[], EnglishTagger]) -> ShardModel:
    """Load what computes the shards of a transfer store."""
    attend, tagger = transfer_attention(recipe), load()
    return ShardModel(
        transfer_columns(recipe.dtype, transfer_width(tagger, recipe)),
        lambda sentences, translations: transfer_entries(tagger, attend, recipe, sentences, translations),
        tagger.opened,
    )


def embedding_model(dtype: str, load: Callable[[], Embedder]) -> ShardModel:
    """Load what computes the shards of an embedding's store."""
    embedder = load()
    return ShardModel(
        embedding_columns(dtype, embedder.width),
        lambda sentences, _: embedding_entries(embedder, sentences, dtype),
        embedder.opened,
    )


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
