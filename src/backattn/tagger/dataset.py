"""Encode sentences and make padded batches with their stored vectors, bucketed by length."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backattn.common import batching
from backattn.tagger.frozen_features import RowSource, Sources
from backattn.tagger.vocabulary import TaggerVocabulary

# Training shuffles all sentences, then sorts by length inside pools of this many batches: little padding,
# and still other batches in every epoch.
_POOL_BATCHES = 32
# Prediction cuts batches by tokens, padding included; the size does not change the result.
_PREDICTION_TOKENS = 2048
# Most characters of a batch's different tokens, padding included, that are one tensor, as in nearly all
# batches. More are cut into tensors of at most _SPELLED_IN_PARTS: it is smaller, so that few tokens are
# padded to a long one. Neither changes the vectors of a token.
_SPELLED_CHARACTERS = 1 << 16
_SPELLED_IN_PARTS = 1 << 14

Ints = NDArray[np.int64]
SmallInts = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Batch:
    """b sentences of at most m tokens, with u different tokens among them.

    Each different token is embedded once (its characters too) and then copied to its positions.

    :param words: word number of each different token. *Shape:* (u,)
    :param characters: its character numbers, 0 is padding; in several tensors, one token after the other,
        where a long token would pad all others to its length. *Shape:* (part of u, c) each
    :param positions: for each token of each sentence, which of the u it is. *Shape:* (b, m)
    :param lengths: tokens of each sentence. *Shape:* (b,)
    :param tags: gold tag numbers, 0 on padding; None when there is no gold. *Shape:* (b, m)
    :param transfer: T, or random rows; None for words alone. *Shape:* (b, m, d) float32
    :param embeddings: the frozen features, one tensor a source. *Shape:* (b, m, e) float32 each
    """

    words: Tensor
    characters: tuple[Tensor, ...]
    positions: Tensor
    lengths: Tensor
    tags: Tensor | None = None
    transfer: Tensor | None = None
    embeddings: tuple[Tensor, ...] = ()

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return Batch(
            words=self.words.to(device),
            characters=tuple(part.to(device) for part in self.characters),
            positions=self.positions.to(device),
            lengths=self.lengths.to(device),
            tags=None if self.tags is None else self.tags.to(device),
            transfer=None if self.transfer is None else self.transfer.to(device),
            embeddings=tuple(rows.to(device) for rows in self.embeddings),
        )


@dataclass(frozen=True, eq=False)
class Encoded:
    """Encoded sentences, with every different token (form) encoded once.

    The numbers of all sentences stand one after the other in one array: an array object for each sentence
    would take more memory than its numbers.

    :param tokens: the sentences.
    :param lengths: tokens of each sentence. *Shape:* (sentences,) int64
    :param words: word number of each form. *Shape:* (forms,) int32
    :param characters: character numbers of all forms, one form after the other. *Shape:* (characters,) int32
    :param spelled: number of characters of each form. *Shape:* (forms,) int64
    :param forms: the form of each token of all sentences. *Shape:* (tokens,) int32
    :param tags: the gold tag number of each token; None when there is no gold. *Shape:* (tokens,) int32
    """

    tokens: tuple[tuple[str, ...], ...]
    lengths: Ints
    words: SmallInts
    characters: SmallInts
    spelled: Ints
    forms: SmallInts
    tags: SmallInts | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def _begins(self) -> Ints:
        """Where each sentence begins among all tokens. *Shape:* (sentences,)"""
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def _form_begins(self) -> Ints:
        """Where each form begins among all characters. *Shape:* (forms,)"""
        return np.cumsum(self.spelled) - self.spelled

    def batch(self, indices: Ints, sources: Sources) -> Batch:
        """Pad the sentences of these indices to a batch; stored rows are read now, not before."""
        lengths = self.lengths[indices]
        place = np.arange(lengths.max())
        # shape: (b, m), True on tokens and False on padding
        real = place < lengths[:, None]
        # Places of the batch's tokens among all tokens, in the order of the True values of `real`.
        where = (self._begins[indices][:, None] + place)[real]
        forms, positions = np.unique(self.forms[where], return_inverse=True)
        parts = self._parts(forms)
        if len(parts) > 1:  # the forms come in the order of the parts
            order = np.concatenate(parts)
            forms, positions = forms[order], np.argsort(order)[positions]
            parts = np.split(np.arange(len(forms)), np.cumsum([len(part) for part in parts[:-1]]))
        return Batch(
            words=_numbers(self.words[forms]),
            characters=tuple(self._spellings(forms[part]) for part in parts),
            positions=_padded(positions, real),
            lengths=torch.from_numpy(lengths),
            tags=None if self.tags is None else _padded(self.tags[where], real),
            transfer=None if sources.transfer is None else self.rows(indices, sources.transfer),
            embeddings=tuple(self.rows(indices, source) for source in sources.embeddings.values()),
        )

    def _parts(self, forms: NDArray[np.integer[Any]]) -> list[Ints]:
        """Cut forms into parts whose characters are one tensor each, nearly always one part, as places."""
        lengths = self.spelled[forms]
        if lengths.max() * len(lengths) <= _SPELLED_CHARACTERS:
            return [np.arange(len(forms))]
        return [np.array(part) for part in batching.batches(lengths.tolist(), _SPELLED_IN_PARTS)]

    def _spellings(self, forms: NDArray[np.integer[Any]]) -> Tensor:
        """Character numbers of some forms, padded with 0. *Shape:* (u, c)"""
        lengths = self.spelled[forms]
        place = np.arange(max(1, lengths.max()))
        real = place < lengths[:, None]
        return _padded(self.characters[(self._form_begins[forms][:, None] + place)[real]], real)

    def rows(self, indices: Ints, source: RowSource) -> Tensor:
        """Read the vectors of these sentences from a source; pad with zeros. *Shape:* (b, m, width)"""
        padded = torch.zeros(len(indices), int(self.lengths[indices].max()), source.width)
        for row, index in zip(padded.numpy(), indices, strict=True):
            rows = source.rows(self.tokens[index])
            row[: len(rows)] = rows
        return padded


def encode(
    sentences: Sequence[tuple[str, ...]],
    vocabulary: TaggerVocabulary,
    tags: Sequence[tuple[str, ...]] | None = None,
) -> Encoded:
    """Encode sentences, and their gold tags if given."""
    numbers: dict[str, int] = {}
    forms = np.fromiter(
        (numbers.setdefault(token, len(numbers)) for token in chain.from_iterable(sentences)), np.int32
    )
    spellings = chain.from_iterable(vocabulary.spell(token) for token in numbers)
    return Encoded(
        tokens=tuple(sentences),
        lengths=np.array([len(tokens) for tokens in sentences], dtype=np.int64),
        words=np.array([vocabulary.word(token) for token in numbers], dtype=np.int32),
        characters=np.fromiter(spellings, np.int32),
        spelled=np.array(list(map(len, numbers)), dtype=np.int64),
        forms=forms,
        tags=None
        if tags is None
        else np.fromiter((vocabulary.tag(tag) for tag in chain.from_iterable(tags)), np.int32),
    )


def training_order(lengths: Ints, batch: int, generator: np.random.Generator) -> list[Ints]:
    """Cut an epoch into shuffled batches of sentences of similar length; every sentence comes once.

    :mod:`backattn.common.batching` does not fit: a step of the optimizer takes a number of sentences, not of
    tokens, and batches are drawn at random.
    """
    order = generator.permutation(len(lengths))
    pool = batch * _POOL_BATCHES
    batches: list[Ints] = []
    for begin in range(0, len(order), pool):
        part = order[begin : begin + pool]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + batch] for i in range(0, len(part), batch)]
    return [batches[i] for i in generator.permutation(len(batches))]


def prediction_order(lengths: Ints, tokens: int = _PREDICTION_TOKENS) -> list[Ints]:
    """Cut sentences, longest first, into batches of at most ``tokens`` padded tokens."""
    return [np.array(batch) for batch in batching.batches(lengths.tolist(), tokens)]


def _padded(values: NDArray[np.integer[Any]], real: NDArray[np.bool_]) -> Tensor:
    """Write the values, one after the other, where a token is, and 0 on padding. (tokens,) -> (b, m)"""
    padded = np.zeros(real.shape, dtype=np.int64)
    padded[real] = values
    return torch.from_numpy(padded)


def _numbers(values: SmallInts) -> Tensor:
    """Convert to int64, which torch needs for look-ups."""
    return torch.from_numpy(values.astype(np.int64))
