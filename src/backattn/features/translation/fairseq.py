"""Source tokens -> English tokens and A, with a fairseq model. The inference half of the fairseq door.

tokens -> pieces -> segments -> batches -> beam search -> best hypothesis -> words and A over tokens.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backattn.errors import ModelError
from backattn.features.translation import Translation
from backattn.features.translation.convolutional import ConvolutionalModel
from backattn.features.translation.opening import dictionaries, hub_folder, load_models, need
from backattn.features.translation.pieces import (
    Array,
    copy_unknown,
    cut_segments,
    join_segments,
    merge_pieces,
)
from backattn.features.translation.quiet import untouched_logging
from backattn.features.translation.search import Decoder, Hypothesis, NotFinite, Symbols, beam_search
from backattn.features.translation.segments import Segment, make_batches
from backattn.features.translation.vocabulary import BpeCodes, PieceModel, Vocabulary
from backattn.recipe import TranslatorRecipe

with untouched_logging():
    from fairseq.data import Dictionary
    from fairseq.models.fconv import FConvDecoder
    from fairseq.models.transformer import TransformerDecoderBase
    from fairseq.sequence_generator import EnsembleModel

# Begins the translation of a batch of padded sources. *Shape:* (sentences, source)
_Start = Callable[[Tensor], Decoder]


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
        self._models = [_prepare(model, self._beam, device) for model in models]
        reduced = recipe.precision == "bfloat16" and device == "cpu"
        self._start = _starter(self._models, self._beam, reduced=reduced)
        self._recipe, self._device = recipe, device
        # fairseq counts EOS among its positions, the recipe does not.
        longest = [min(model.max_positions()[side] for model in models) - 1 for side in (0, 1)]
        self._segment_pieces = min(recipe.segment_pieces, int(longest[0]))
        self._longest_target = int(longest[1])
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
        segments = {tokens: self._segments(tokens) for tokens in sentences}
        queue = [segment for parts in segments.values() for segment in parts]
        done: dict[int, _Part] = {}
        with torch.inference_mode():
            for batch in make_batches(queue, self._recipe.batch_tokens):
                done |= zip(map(id, batch), self._translate_batch(batch), strict=True)
        finished = {tokens: _join([done[id(s)] for s in parts]) for tokens, parts in segments.items()}
        return [finished[tokens] for tokens in sentences]

    def _segments(self, tokens: tuple[str, ...]) -> list[Segment]:
        if not tokens:
            raise ValueError("a sentence has at least one token")
        cuts = cut_segments([self._pieces.pieces(token) for token in tokens], self._segment_pieces)
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
        if not hypothesis.attention.numel():
            raise ModelError(f"the translator gives no attention for the sentence {segment.text!r}")
        # The first rows are padding. shape: (p + 1, q + 1)
        pieces: Array = hypothesis.attention[-len(segment) :].float().cpu().numpy()
        if not np.isfinite(pieces).all():
            raise _not_finite(segment)
        symbols = [self._target[index] for index in hypothesis.pieces]
        words = self._pieces.words(symbols)
        merged = merge_pieces(pieces, segment.owners, len(segment.tokens), words)
        limited = len(symbols) >= self._limit(segment)
        return _Part(copy_unknown(words.texts, merged, segment.tokens), merged, limited)


class _Ensemble(EnsembleModel):  # type: ignore[misc]
    """fairseq's ensemble, without its copy of the encoder's states at every step.

    The beams of a sentence have equal states, so an order within sentences changes nothing; only when
    sentences leave the batch must their rows go.
    """

    def forward_encoder(self, net_input: dict[str, Tensor]) -> Any:
        """Encode a new batch."""
        self._rows = 0
        return super().forward_encoder(net_input)

    def reorder_incremental_state(self, incremental_states: Any, new_order: Tensor) -> None:
        """Reorder what the decoders remember; an fconv decoder remembers the encoder's states as well."""
        kept = FConvDecoder if self._rows == len(new_order) else ()
        for model, state in zip(self.models, incremental_states, strict=True):
            for module in model.decoder.modules():
                if hasattr(module, "reorder_incremental_state") and not isinstance(module, kept):
                    module.reorder_incremental_state(state, new_order)

    def reorder_encoder_out(self, encoder_outs: Any, new_order: Tensor) -> Any:
        """Repeat the rows for the beams, or leave out those of finished sentences."""
        if self._rows == len(new_order):
            return encoder_outs
        self._rows = len(new_order)
        return super().reorder_encoder_out(encoder_outs, new_order)


class _Stepwise:
    """A :class:`~backattn.features.translation.search.Decoder` over fairseq's own decoders."""

    def __init__(self, ensemble: _Ensemble, beam: int, tokens: Tensor) -> None:
        self._ensemble, self._beam = ensemble, beam
        lengths = tokens.ne(ensemble.single_model.encoder.padding_idx).sum(1)
        encoded = ensemble.forward_encoder({"src_tokens": tokens, "src_lengths": lengths})
        # fairseq wants a row for each hypothesis from the first step on, where those of a sentence are equal.
        rows = torch.arange(len(tokens), device=tokens.device).repeat_interleave(beam)
        self._encoded = ensemble.reorder_encoder_out(encoded, rows)
        self._states: list[dict[str, Any]] = [{} for _ in ensemble.models]
        self._read = tokens.new_empty(len(rows), 0)

    def step(self, pieces: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the next piece, and the attention averaged over the layers (eq. 3)."""
        step = self._read.shape[1]
        if step == 0:
            pieces = pieces.expand(-1, self._beam)
        else:
            order = order.flatten() * (self._beam if step == 1 else 1)
            self._ensemble.reorder_incremental_state(self._states, order)
            self._encoded = self._ensemble.reorder_encoder_out(self._encoded, order)
            self._read = self._read[order]
        self._read = torch.cat([self._read, pieces.reshape(-1, 1)], 1)
        log_probs, attention = self._ensemble.forward_decoder(self._read, self._encoded, self._states)
        if attention is None:
            attention = log_probs.new_empty(len(log_probs), 0)
        asked = slice(None, None, self._beam if step == 0 else 1)
        return log_probs[asked], attention[asked]


def _starter(models: Sequence[Any], beam: int, *, reduced: bool = False) -> _Start:
    """One fconv model has a decoder here that is faster than its own; ensembles and transformers have not.

    :param reduced: multiply in bfloat16.
    """
    if len(models) == 1 and _is_plain_fconv(models[0]):
        return ConvolutionalModel(models[0], torch.bfloat16 if reduced else None).start
    ensemble = _Ensemble([model.bfloat16() if reduced else model for model in models])
    ensemble.set_decoder_beam_size(beam)
    return functools.partial(_Stepwise, ensemble, beam)


def _is_plain_fconv(model: Any) -> bool:
    return isinstance(model.decoder, FConvDecoder) and model.decoder.adaptive_softmax is None


def _prepare(model: Any, beam: int, device: str) -> Any:
    """Make a model ready to generate, and to give attention that is averaged over its layers (eq. 3)."""
    fconv = isinstance(model.decoder, FConvDecoder)
    if fconv:
        # It averages by itself. This also takes the weight normalisation into the weights.
        model.make_generation_fast_(beamable_mm_beam_size=beam if beam > 1 else None, need_attn=True)
    else:
        _average_layers(model.decoder)
    model.eval()
    model = (model.half() if device.startswith("cuda") else model).to(device)
    if fconv:
        for convolution in model.decoder.convolutions:  # else laid out anew at every step
            convolution._linearized_weight = convolution._get_linearized_weight()
    return model


def _average_layers(decoder: TransformerDecoderBase) -> None:
    """Let a transformer's decoder return the mean over all its layers' attention (eq. 3) and their heads.

    By itself it returns its last layer's. Hooks collect the others'; the last one hands on the mean.
    """
    collected: list[Tensor] = []
    attentions = [layer.encoder_attn for layer in decoder.layers]

    def collect(module: Any, _inputs: Any, output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        states, weights = output
        # shape: (sentences * beam, target, source), in the last layer (heads, ...)
        collected.append(weights.mean(0) if weights.ndim == 4 else weights)
        if module is not attentions[-1]:
            return output
        mean = torch.stack(collected).mean(0)
        collected.clear()
        return states, mean[None]  # fairseq takes the mean over the first axis, the heads

    for attention in attentions:
        attention.register_forward_hook(collect)


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
