"""Source tokens -> English tokens and A, with a fairseq model. The inference half of the fairseq door.

tokens -> pieces -> segments -> batches -> beam search -> best hypothesis -> words and A over tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backattn.errors import ModelError
from backattn.features.translation import Translation
from backattn.features.translation.opening import dictionaries, hub_folder, load_models, need
from backattn.features.translation.pieces import (
    Array,
    Words,
    copy_unknown,
    cut_segments,
    join_segments,
    merge_pieces,
)
from backattn.features.translation.quiet import untouched_logging
from backattn.features.translation.search import (
    Hypothesis,
    NotFinite,
    Symbols,
    beam_search,
    read_given,
)
from backattn.features.translation.segments import MOST_SENTENCES, Segment, make_batches
from backattn.features.translation.stepwise import prepare, starter
from backattn.features.translation.vocabulary import BpeCodes, PieceModel, Vocabulary
from backattn.recipe import TranslatorRecipe

with untouched_logging():
    from fairseq.data import Dictionary


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
    words: Words
    pieces: tuple[int, ...]


class FairseqTranslator:
    """A :class:`~backattn.features.translation.Translator` over fairseq's fconv and transformer models.

    :param models: one model, or an ensemble whose probabilities and attention are averaged.
    :param source, target: their dictionaries.
    :param pieces: cuts source tokens, puts target pieces together.
    """

    opened = "plain data (weights_only, closed list of classes)"

    def __init__(
        self,
        models: Sequence[Any],
        source: Dictionary,
        target: Dictionary,
        pieces: PieceModel,
        recipe: TranslatorRecipe,
        *,
        device: str,
    ) -> None:
        self._source, self._target, self._pieces = source, target, pieces
        self._beam = min(recipe.beam, len(target) - 1)
        last = recipe.layers == "last"
        self._models = [prepare(model, self._beam, device, last=last) for model in models]
        reduced = recipe.precision == "bfloat16" and device == "cpu"
        self._start = starter(self._models, self._beam, reduced=reduced, last=last)
        self._recipe, self._device = recipe, device
        # fairseq counts EOS among its positions, the recipe does not.
        longest = [min(model.max_positions()[side] for model in models) - 1 for side in (0, 1)]
        self._longest_source, self._longest_target = map(int, longest)
        self._segment_pieces = min(recipe.segment_pieces, self._longest_source)
        # Symbols that stand for nothing: fairseq fills a dictionary up to a multiple of eight.
        meaningless = [target.bos_word, *(s for s in target.symbols if s.startswith("madeupword"))]
        self._symbols = Symbols(target.eos(), (target.pad(), *map(target.index, meaningless)))

    @classmethod
    def load(cls, folder: Path, recipe: TranslatorRecipe, *, device: str) -> "FairseqTranslator":
        """Load ``checkpoint.pt``, ``dict.<source>.txt``, ``dict.en.txt`` and ``joint.model`` of a folder.

        :param device: ``cpu`` (float32) or ``cuda`` (float16).
        :raises MissingError: one of these files is not there.
        :raises ModelError: a file is damaged, holds code instead of data, or does not fit the others.
        """
        checkpoint = folder / "checkpoint.pt"
        need(checkpoint, *dictionaries(folder, recipe))
        pieces = Vocabulary.load(folder / "joint.model")
        return cls(*load_models([checkpoint], recipe), pieces, recipe, device=device)

    @classmethod
    def from_hub(cls, recipe: TranslatorRecipe, *, device: str) -> "FairseqTranslator":
        """Load one of fairseq's public models into English, as ``recipe.hub`` names it.

        The archive is fetched into fairseq's own cache (``PYTORCH_FAIRSEQ_CACHE``). Its ``model*.pt``
        form an ensemble.

        :raises RecipeError: fairseq has no such model into English.
        :raises MissingError: the archive is not in the cache and cannot be fetched.
        :raises ModelError: as for :meth:`load`.
        """
        folder = hub_folder(recipe.hub)
        checkpoints = sorted(folder.glob("model*.pt"))
        need(*dictionaries(folder, recipe), *(checkpoints or [folder / "model.pt"]))
        pieces = BpeCodes.load(folder / "bpecodes", recipe.source)
        return cls(*load_models(checkpoints, recipe), pieces, recipe, device=device)

    def translate(self, sentences: Sequence[tuple[str, ...]]) -> list[Translation]:
        """Translate sentences of at least one token each; equal ones are translated once.

        English words that hold an unknown piece become the source token that they looked at most
        (:func:`~backattn.features.translation.pieces.copy_unknown`).

        :raises ModelError: the model gives no attention, or numbers that are not finite.
        """
        segments = {tokens: self._segments(tokens, self._segment_pieces) for tokens in sentences}
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
        segments = self._segments(tokens, self._longest_source)
        pieces = [(owner, piece) for owner, word in enumerate(english) for piece in self._pieces.pieces(word)]
        if len(segments) > 1 or len(pieces) > self._longest_target:
            raise ModelError(
                f"a pair is too long to be read in one go ({self._longest_source} source pieces, "
                f"{self._longest_target} English ones); leave it out: {segments[0].text!r}"
            )
        return _Given(
            segments[0],
            Words(english, tuple(owner for owner, _ in pieces)),
            tuple(self._target.index(piece) for _, piece in pieces),
        )

    def _align_batch(self, batch: Sequence[_Given]) -> list[Array]:
        decoder = self._start(self._inputs([pair.source for pair in batch]))
        pieces = [pair.pieces for pair in batch]
        read = read_given(decoder, pieces, self._beam, self._symbols.eos, self._device)
        return [
            merge_pieces(
                _over_pieces(pair.source, found), pair.source.owners, len(pair.source.tokens), pair.words
            )
            for pair, found in zip(batch, read, strict=True)
        ]

    def _batches(self, segments: Sequence[Segment]) -> Iterator[list[Segment]]:
        most = MOST_SENTENCES[torch.device(self._device).type]
        return make_batches(segments, self._recipe.batch_tokens, most)

    def _segments(self, tokens: tuple[str, ...], limit: int) -> list[Segment]:
        if not tokens:
            raise ValueError("a sentence has at least one token")
        cuts = cut_segments([self._pieces.pieces(token) for token in tokens], limit)
        return [
            Segment(
                tokens,
                tuple(self._source.index(piece) for _, piece in cut),
                tuple(owner for owner, _ in cut),
            )
            for cut in cuts
        ]

    def _translate_batch(self, batch: Sequence[Segment]) -> list[_Part]:
        limits = torch.tensor([self._limit(segment) for segment in batch], device=self._device)
        try:
            best = beam_search(self._start(self._inputs(batch)), limits, self._beam, self._symbols)
        except NotFinite as error:
            raise _not_finite(batch[error.sentence]) from None
        return [self._part(segment, hypothesis) for segment, hypothesis in zip(batch, best, strict=True)]

    def _limit(self, segment: Segment) -> int:
        """Most pieces that a translation may have, EOS not among them."""
        wanted = self._recipe.max_len_a * len(segment.pieces) + self._recipe.max_len_b
        return max(1, min(int(wanted), self._longest_target))

    def _inputs(self, batch: Sequence[Segment]) -> Tensor:
        """Pieces and EOS, padded on the left as fairseq trains. *Shape:* (sentences, longest)"""
        tokens = torch.full((len(batch), max(map(len, batch))), self._source.pad())
        for row, segment in zip(tokens, batch, strict=True):
            row[-len(segment) :] = torch.tensor([*segment.pieces, self._source.eos()])
        return tokens.to(self._device)

    def _part(self, segment: Segment, hypothesis: Hypothesis) -> _Part:
        pieces = _over_pieces(segment, hypothesis)
        symbols = [self._target[index] for index in hypothesis.pieces]
        words = self._pieces.words(symbols)
        merged = merge_pieces(pieces, segment.owners, len(segment.tokens), words)
        limited = len(symbols) >= self._limit(segment)
        return _Part(copy_unknown(words.texts, merged, segment.tokens), merged, limited)


def _over_pieces(segment: Segment, hypothesis: Hypothesis) -> Array:
    """The attention of a hypothesis without padding. *Shape:* (p + 1, q + 1)

    :raises ModelError: there is none, or it is not finite.
    """
    if not hypothesis.attention.numel():
        raise ModelError(f"the translator gives no attention for the sentence {segment.text!r}")
    pieces: Array = hypothesis.attention[-len(segment) :].float().cpu().numpy()  # the first rows are padding
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
