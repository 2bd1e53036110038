"""Translate with any autoregressive subword model: source tokens -> English tokens and A.

tokens -> pieces -> segments -> batches -> beam search -> best hypothesis -> words and A over tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from backattn.common.batching import batches
from backattn.common.errors import ModelError
from backattn.recipe import ModelTranslator
from backattn.translation import Translation
from backattn.translation.attention_merging import (
    Array,
    MergedWords,
    Segment,
    copy_unknown,
    join_segments,
    merge_pieces,
)
from backattn.translation.beam_search import (
    Decoder,
    Hypothesis,
    NotFinite,
    Symbols,
    beam_search,
    force_decode,
)

# Sentences of a batch; bounds the (sentences x beam, vocabulary) scores of one search step. On a CPU, 48 to
# 256 sentences are translated at one speed.
_MOST_SENTENCES = {"cpu": 64, "cuda": 256}


class SubwordTokenizer(Protocol):
    """Converts tokens of both sides to ids of subword pieces, and pieces back to tokens."""

    def encode_source(self, tokens: tuple[str, ...], limit: int) -> list[Segment]:
        """Encode a source of at least one token, cut into segments of at most ``limit`` pieces."""

    def decode(self, pieces: Sequence[int]) -> MergedWords:
        """The English words that a model's output pieces make up."""

    def encode_target(self, english: tuple[str, ...]) -> tuple[MergedWords, tuple[int, ...]]:
        """Encode a given translation: its English words, and their pieces."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PieceModel:
    """A translation model with its tokenizer, ready for decoding.

    :param start: encodes a batch of sources, padded to one length, and returns its decoder.
        *Shape:* (sentences, source)
    :param beam: beam size.
    :param symbols: special pieces of the English side.
    :param end, padding: ids of EOS and of padding on the source side.
    :param pads_left: padding stands before the source, not after it.
    :param longest: most pieces of a source and of a translation, without EOS.
    """

    tokenizer: SubwordTokenizer
    start: Callable[[Tensor], Decoder]
    beam: int
    symbols: Symbols
    end: int
    padding: int
    pads_left: bool
    longest: tuple[int, int]


@dataclass(frozen=True)
class _TranslatedSegment:
    """The translation of one segment.

    :param words: its n English words.
    :param attention: over all tokens of the sentence. *Shape:* (m + 1, n + 1)
    :param limited: the translation was stopped at its length limit.
    """

    words: tuple[str, ...]
    attention: Array
    limited: bool


@dataclass(frozen=True, eq=False)
class _ForcedPair:
    """A source and a given translation, encoded.

    :param words: the n English words, and to which of them each of the q pieces belongs.
    :param pieces: ids of the q pieces.
    """

    source: Segment
    words: MergedWords
    pieces: tuple[int, ...]


class SearchTranslator:
    """A :class:`~backattn.translation.Translator` by beam search over a :class:`PieceModel`.

    :param opened: how the model's files were opened, in words.
    """

    def __init__(self, model: PieceModel, recipe: ModelTranslator, *, opened: str, device: str) -> None:
        self.model, self.opened = model, opened
        self._recipe, self._device = recipe, device
        self._segment_pieces = min(recipe.segment_pieces, model.longest[0])

    def translate(self, sentences: Sequence[tuple[str, ...]]) -> list[Translation]:
        """Translate sentences of at least one token each; equal ones are translated once.

        An English word with an unknown piece becomes the source token with the largest attention weight
        (:func:`~backattn.translation.attention_merging.copy_unknown`).

        :raises ModelError: the model gives no attention, or numbers that are not finite.
        """
        tokenizer, limit = self.model.tokenizer, self._segment_pieces
        segments = {tokens: tokenizer.encode_source(tokens, limit) for tokens in sentences}
        queue = [segment for parts in segments.values() for segment in parts]
        done: dict[int, _TranslatedSegment] = {}
        with torch.inference_mode():
            for batch in self._batches(queue):
                done |= zip(map(id, batch), self._translate_batch(batch), strict=True)
        finished = {tokens: _join([done[id(s)] for s in parts]) for tokens, parts in segments.items()}
        return [finished[tokens] for tokens in sentences]

    def align(self, pairs: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]) -> list[Array]:
        """A of given translations by forced decoding.

        :raises ModelError: as :meth:`translate`; or a side has more pieces than the model reads at once.
        """
        forced = [self._forced_pair(source, english) for source, english in pairs]
        by_segment = {id(pair.source): pair for pair in forced}
        done: dict[int, Array] = {}
        with torch.inference_mode():
            for batch in self._batches([pair.source for pair in forced]):
                aligned = self._align_batch([by_segment[id(segment)] for segment in batch])
                done |= zip(map(id, batch), aligned, strict=True)
        return [done[id(pair.source)] for pair in forced]

    def _forced_pair(self, tokens: tuple[str, ...], english: tuple[str, ...]) -> _ForcedPair:
        if not english:
            raise ValueError("a translation has at least one token")
        # Not cut at the recipe's segment_pieces: where to cut the given translation is unknown.
        longest_source, longest_target = self.model.longest
        segments = self.model.tokenizer.encode_source(tokens, longest_source)
        words, pieces = self.model.tokenizer.encode_target(english)
        if len(segments) > 1 or len(pieces) > longest_target:
            raise ModelError(
                f"a pair is too long to be read in one go ({longest_source} source pieces, "
                f"{longest_target} English ones); leave it out: {segments[0].text!r}"
            )
        return _ForcedPair(segments[0], words, pieces)

    def _align_batch(self, batch: Sequence[_ForcedPair]) -> list[Array]:
        model = self.model
        decoder = model.start(self._inputs([pair.source for pair in batch]))
        pieces = [pair.pieces for pair in batch]
        read = force_decode(decoder, pieces, model.beam, model.symbols.eos, self._device)
        return [
            merge_pieces(
                self._piece_attention(pair.source, found),
                pair.source.token_index,
                len(pair.source.tokens),
                pair.words,
            )
            for pair, found in zip(batch, read, strict=True)
        ]

    def _batches(self, segments: Sequence[Segment]) -> Iterator[list[Segment]]:
        most = _MOST_SENTENCES[torch.device(self._device).type]
        for batch in batches(list(map(len, segments)), self._recipe.batch_tokens, most):
            yield [segments[i] for i in batch]

    def _translate_batch(self, batch: Sequence[Segment]) -> list[_TranslatedSegment]:
        model = self.model
        limits = torch.tensor([self._limit(segment) for segment in batch], device=self._device)
        try:
            best = beam_search(model.start(self._inputs(batch)), limits, model.beam, model.symbols)
        except NotFinite as error:
            raise _not_finite(batch[error.sentence]) from None
        return [
            self._translated(segment, hypothesis) for segment, hypothesis in zip(batch, best, strict=True)
        ]

    def _limit(self, segment: Segment) -> int:
        """Most pieces of a segment's translation, without EOS."""
        wanted = self._recipe.max_len_a * len(segment.pieces) + self._recipe.max_len_b
        return max(1, int(min(wanted, self.model.longest[1])))

    def _inputs(self, batch: Sequence[Segment]) -> Tensor:
        """Pieces and EOS, padded to one length. *Shape:* (sentences, longest)"""
        tokens = torch.full((len(batch), max(map(len, batch))), self.model.padding)
        for row, segment in zip(tokens, batch, strict=True):
            row[self._span(segment, len(row))] = torch.tensor([*segment.pieces, self.model.end])
        return tokens.to(self._device)

    def _span(self, segment: Segment, longest: int) -> slice:
        """Positions of a segment and its EOS in a row padded to ``longest``."""
        start = longest - len(segment) if self.model.pads_left else 0
        return slice(start, start + len(segment))

    def _translated(self, segment: Segment, hypothesis: Hypothesis) -> _TranslatedSegment:
        pieces = self._piece_attention(segment, hypothesis)
        words = self.model.tokenizer.decode(hypothesis.pieces)
        merged = merge_pieces(pieces, segment.token_index, len(segment.tokens), words)
        limited = len(hypothesis.pieces) >= self._limit(segment)
        return _TranslatedSegment(copy_unknown(words.texts, merged, segment.tokens), merged, limited)

    def _piece_attention(self, segment: Segment, hypothesis: Hypothesis) -> Array:
        """Attention of a hypothesis over pieces, without padding. *Shape:* (p + 1, q + 1)

        :raises ModelError: there is none, or it is not finite.
        """
        attention = hypothesis.attention
        if not attention.numel():
            raise ModelError(f"the translator gives no attention for the sentence {segment.text!r}")
        pieces: Array = attention[self._span(segment, len(attention))].float().cpu().numpy()
        if not np.isfinite(pieces).all():
            raise _not_finite(segment)
        return pieces


def _join(parts: Sequence[_TranslatedSegment]) -> Translation:
    words = tuple(word for part in parts for word in part.words)
    attention = join_segments([part.attention for part in parts])
    limited = sum(part.limited for part in parts)
    return Translation(words, attention, segments=len(parts), limited=limited)


def _not_finite(segment: Segment) -> ModelError:
    return ModelError(
        f"the translator's numbers are not finite for the sentence {segment.text!r}; its checkpoint is "
        "broken, or it must run on the CPU (float32)"
    )
