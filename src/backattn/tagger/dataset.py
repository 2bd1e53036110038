"""Sentences and the vectors beside them -> padded batches, bucketed by length."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backattn.tagger.sources import RowSource, Sources
from backattn.tagger.vocabulary import Vocabulary

# Training shuffles all sentences, then sorts by length inside pools of this many batches: little padding,
# and still another batch for every sentence in every epoch.
_POOL_BATCHES = 32
# Prediction cuts batches by tokens, padding included; the size does not change the result.
_PREDICTION_TOKENS = 2048

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Batch:
    """b sentences of at most m tokens, with u different tokens among them.

    Each different token is embedded once (its characters too) and then copied to its positions.

    :param words: word number of each different token. *Shape:* (u,)
    :param characters: its character numbers, 0 is padding. *Shape:* (u, c)
    :param positions: for each token of each sentence, which of the u it is. *Shape:* (b, m)
    :param lengths: tokens of each sentence. *Shape:* (b,)
    :param tags: gold tag numbers, 0 on padding; None when there is no gold. *Shape:* (b, m)
    :param transfer: T, or random rows; None for words alone. *Shape:* (b, m, d) float32
    :param embeddings: the frozen features, one tensor a source. *Shape:* (b, m, e) float32 each
    """

    words: Tensor
    characters: Tensor
    positions: Tensor
    lengths: Tensor
    tags: Tensor | None = None
    transfer: Tensor | None = None
    embeddings: tuple[Tensor, ...] = ()

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return Batch(
            words=self.words.to(device),
            characters=self.characters.to(device),
            positions=self.positions.to(device),
            lengths=self.lengths.to(device),
            tags=None if self.tags is None else self.tags.to(device),
            transfer=None if self.transfer is None else self.transfer.to(device),
            embeddings=tuple(rows.to(device) for rows in self.embeddings),
        )


@dataclass(frozen=True, eq=False)
class Encoded:
    """Sentences by number, with every different token (form) encoded once.

    :param tokens: the sentences.
    :param words: word number of each form. *Shape:* (forms,)
    :param characters: character numbers of each form, 0 is padding. *Shape:* (forms, c)
    :param forms: for each sentence, the form of each token. *Shape:* (m,) each
    :param tags: for each sentence its gold tag numbers. *Shape:* (m,) each
    """

    tokens: tuple[tuple[str, ...], ...]
    words: Ints
    characters: Ints
    forms: tuple[Ints, ...]
    tags: tuple[Ints, ...] | None = None

    @property
    def lengths(self) -> Ints:
        """Tokens of each sentence. *Shape:* (sentences,)"""
        return np.array([len(forms) for forms in self.forms], dtype=np.int64)

    def batch(self, indices: Ints, sources: Sources) -> Batch:
        """Pad the sentences of these indices to a batch; stored rows are read now, not before."""
        forms, positions = np.unique(np.concatenate([self.forms[i] for i in indices]), return_inverse=True)
        lengths = self.lengths_of(indices)
        characters = self.characters[forms]
        used = max(1, int((characters != 0).sum(1).max()))
        return Batch(
            words=torch.from_numpy(self.words[forms]),
            characters=torch.from_numpy(characters[:, :used]),
            positions=torch.from_numpy(_pad(np.split(positions, np.cumsum(lengths)[:-1]), lengths)),
            lengths=torch.from_numpy(lengths),
            tags=None
            if self.tags is None
            else torch.from_numpy(_pad([self.tags[i] for i in indices], lengths)),
            transfer=None if sources.transfer is None else self.rows(indices, sources.transfer),
            embeddings=tuple(self.rows(indices, source) for source in sources.embeddings.values()),
        )

    def lengths_of(self, indices: Ints) -> Ints:
        """Tokens of some of the sentences. *Shape:* (indices,)"""
        return np.array([len(self.forms[i]) for i in indices], dtype=np.int64)

    def rows(self, indices: Ints, source: RowSource) -> Tensor:
        """What a source says of these sentences, padded with zeros. *Shape:* (b, m, width)"""
        padded = torch.zeros(len(indices), int(self.lengths_of(indices).max()), source.width)
        for row, index in zip(padded.numpy(), indices, strict=True):
            rows = source.rows(self.tokens[index])
            row[: len(rows)] = rows
        return padded


def encode(
    sentences: Sequence[tuple[str, ...]],
    vocabulary: Vocabulary,
    tags: Sequence[tuple[str, ...]] | None = None,
) -> Encoded:
    """Number sentences, and their gold tags when there are any."""
    numbers: dict[str, int] = {}
    forms = tuple(
        np.array([numbers.setdefault(token, len(numbers)) for token in tokens], dtype=np.int64)
        for tokens in sentences
    )
    spelt = [vocabulary.spell(token) for token in numbers]
    characters = np.zeros((len(spelt), max(map(len, spelt), default=1)), dtype=np.int64)
    for row, spelling in zip(characters, spelt, strict=True):
        row[: len(spelling)] = spelling
    return Encoded(
        tokens=tuple(sentences),
        words=np.array([vocabulary.word(token) for token in numbers], dtype=np.int64),
        characters=characters,
        forms=forms,
        tags=None
        if tags is None
        else tuple(np.array([vocabulary.tag(tag) for tag in row], dtype=np.int64) for row in tags),
    )


def training_order(lengths: Ints, batch: int, generator: np.random.Generator) -> list[Ints]:
    """Cut an epoch into shuffled batches of sentences of like length; every sentence comes once."""
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
    order = np.argsort(-lengths, kind="stable")
    batches, begin = [], 0
    while begin < len(order):
        size = max(1, tokens // int(lengths[order[begin]]))
        batches.append(order[begin : begin + size])
        begin += size
    return batches


def _pad(rows: Sequence[Ints], lengths: Ints) -> Ints:
    padded = np.zeros((len(rows), int(lengths.max())), dtype=np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded
