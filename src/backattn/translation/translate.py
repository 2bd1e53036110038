"""Source tokens -> English tokens and A, with any model that writes piece by piece; knows none.

tokens -> pieces -> segments -> batches -> beam search -> best hypothesis -> words and A over tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from backattn.common.errors import ModelError
from backattn.recipe import ModelTranslator
from backattn.translation import Translation
from backattn.translation.attention_merging import (
    Array,
    MergedWords,
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
from backattn.translation.segments import MOST_SENTENCES, Segment, make_batches


class SubwordTokenizer(Protocol):
    """Tokens on both sides <-> pieces, as the numbers that a model has for them."""

    def segments(self, tokens: tuple[str, ...], limit: int) -> list[Segment]:
        """A source of at least one token, cut into segments of at most ``limit`` pieces."""

    def written(self, pieces: Sequence[int]) -> MergedWords:
        """The English words of the pieces that a model wrote."""

    def given(self, english: tuple[str, ...]) -> tuple[MergedWords, tuple[int, ...]]:
        """English words that a model is to write, and their pieces."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PieceModel:
    """A model, ready to write.

    :param start: begins the translation of a batch of sources, padded to one length.
        *Shape:* (sentences, source)
    :param beam: that it was made for.
    :param symbols: of its English side.
    :param end, padding: of its source side: what ends a source, and what fills up a batch.
    :param pads_left: padding stands before the source, not behind it.
    :param longest: most pieces of a source and of a translation, EOS not among them.
    """

    spelling: SubwordTokenizer
    start: Callable[[Tensor], Decoder]
    beam: int
    symbols: Symbols
    end: int
    padding: int
    pads_left: bool
    longest: tuple[int, int]


@dataclass(frozen=True)
class _Part:
    """What became of a segment.

    :param words: its n English words.
    :param attention: with the rows of the whole sentence. *Shape:* (m + 1, n + 1)
    :param limited: the translation went on to its length limit.
    """

    words: tuple[str, ...]
    attention: Array
    limited: bool


@dataclass(frozen=True, eq=False)
class _Given:
    """A source and a translation that is given.

    :param words: the n English words, and who owns which of their q pieces.
    :param pieces: those, as indices in the target dictionary.
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

        English words that hold an unknown piece become the source token that they looked at most
        (:func:`~backattn.translation.attention_merging.copy_unknown`).

        :raises ModelError: the model gives no attention, or numbers that are not finite.
        """
        spelling, limit = self.model.spelling, self._segment_pieces
        segments = {tokens: spelling.segments(tokens, limit) for tokens in sentences}
        queue = [segment for parts in segments.values() for segment in parts]
        done: dict[int, _Part] = {}
        with torch.inference_mode():
            for batch in self._batches(queue):
                done |= zip(map(id, batch), self._translate_batch(batch), strict=True)
        finished = {tokens: _join([done[id(s)] for s in parts]) for tokens, parts in segments.items()}
        return [finished[tokens] for tokens in sentences]

    def align(self, pairs: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]) -> list[Array]:
        """A of given translations, as the protocol says.

        :raises ModelError: as :meth:`translate`; or a side has more pieces than the model reads in one go,
            and nobody knows where to cut a translation that is given.
        """
        given = [self._given(source, english) for source, english in pairs]
        by_segment = {id(pair.source): pair for pair in given}
        done: dict[int, Array] = {}
        with torch.inference_mode():
            for batch in self._batches([pair.source for pair in given]):
                aligned = self._align_batch([by_segment[id(segment)] for segment in batch])
                done |= zip(map(id, batch), aligned, strict=True)
        return [done[id(pair.source)] for pair in given]

    def _given(self, tokens: tuple[str, ...], english: tuple[str, ...]) -> _Given:
        if not english:
            raise ValueError("a translation has at least one token")
        # Whole, however the recipe cuts what it translates: nobody knows where to cut what is given.
        longest_source, longest_target = self.model.longest
        segments = self.model.spelling.segments(tokens, longest_source)
        words, pieces = self.model.spelling.given(english)
        if len(segments) > 1 or len(pieces) > longest_target:
            raise ModelError(
                f"a pair is too long to be read in one go ({longest_source} source pieces, "
                f"{longest_target} English ones); leave it out: {segments[0].text!r}"
            )
        return _Given(segments[0], words, pieces)

    def _align_batch(self, batch: Sequence[_Given]) -> list[Array]:
        model = self.model
        decoder = model.start(self._inputs([pair.source for pair in batch]))
        pieces = [pair.pieces for pair in batch]
        read = force_decode(decoder, pieces, model.beam, model.symbols.eos, self._device)
        return [
            merge_pieces(
                self._over_pieces(pair.source, found), pair.source.owners, len(pair.source.tokens), pair.words
            )
            for pair, found in zip(batch, read, strict=True)
        ]

    def _batches(self, segments: Sequence[Segment]) -> Iterator[list[Segment]]:
        most = MOST_SENTENCES[torch.device(self._device).type]
        return make_batches(segments, self._recipe.batch_tokens, most)

    def _translate_batch(self, batch: Sequence[Segment]) -> list[_Part]:
        model = self.model
        limits = torch.tensor([self._limit(segment) for segment in batch], device=self._device)
        try:
            best = beam_search(model.start(self._inputs(batch)), limits, model.beam, model.symbols)
        except NotFinite as error:
            raise _not_finite(batch[error.sentence]) from None
        return [self._part(segment, hypothesis) for segment, hypothesis in zip(batch, best, strict=True)]

    def _limit(self, segment: Segment) -> int:
        """Most pieces that a translation may have, EOS not among them."""
        wanted = self._recipe.max_len_a * len(segment.pieces) + self._recipe.max_len_b
        return max(1, min(int(wanted), self.model.longest[1]))

    def _inputs(self, batch: Sequence[Segment]) -> Tensor:
        """Pieces and EOS, padded to one length. *Shape:* (sentences, longest)"""
        tokens = torch.full((len(batch), max(map(len, batch))), self.model.padding)
        for row, segment in zip(tokens, batch, strict=True):
            row[self._place(segment, len(row))] = torch.tensor([*segment.pieces, self.model.end])
        return tokens.to(self._device)

    def _place(self, segment: Segment, longest: int) -> slice:
        """Where a segment and its EOS stand among so many."""
        start = longest - len(segment) if self.model.pads_left else 0
        return slice(start, start + len(segment))

    def _part(self, segment: Segment, hypothesis: Hypothesis) -> _Part:
        pieces = self._over_pieces(segment, hypothesis)
        words = self.model.spelling.written(hypothesis.pieces)
        merged = merge_pieces(pieces, segment.owners, len(segment.tokens), words)
        limited = len(hypothesis.pieces) >= self._limit(segment)
        return _Part(copy_unknown(words.texts, merged, segment.tokens), merged, limited)

    def _over_pieces(self, segment: Segment, hypothesis: Hypothesis) -> Array:
        """The attention of a hypothesis without padding. *Shape:* (p + 1, q + 1)

        :raises ModelError: there is none, or it is not finite.
        """
        attention = hypothesis.attention
        if not attention.numel():
            raise ModelError(f"the translator gives no attention for the sentence {segment.text!r}")
        pieces: Array = attention[self._place(segment, len(attention))].float().cpu().numpy()
        if not np.isfinite(pieces).all():
            raise _not_finite(segment)
        return pieces


def _join(parts: Sequence[_Part]) -> Translation:
    words = tuple(word for part in parts for word in part.words)
    attention = join_segments([part.attention for part in parts])
    limited = sum(part.limited for part in parts)
    return Translation(words, attention, segments=len(parts), limited=limited)


def _not_finite(segment: Segment) -> ModelError:
    return ModelError(
        f"the translator's numbers are not finite for the sentence {segment.text!r}; its checkpoint is "
        "broken, or it must run on the CPU (float32)"
    )
