"""fairseq's models, made ready to go piece by piece and to say where they look. The decoding part of the
fairseq door.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from backattn.models.import_logging import keep_root_logging
from backattn.translation.beam_search import Decoder
from backattn.translation.fairseq_fconv import ConvolutionalModel

with keep_root_logging():
    from fairseq.models.fconv import FConvDecoder
    from fairseq.models.transformer import TransformerDecoderBase
    from fairseq.sequence_generator import EnsembleModel

# Begins the translation of a batch of padded sources. *Shape:* (sentences, source)
Start = Callable[[Tensor], Decoder]


def prepare(model: Any, beam: int, device: str, *, last: bool = False) -> Any:
    """Make a model ready to generate, and to give attention.

    :param last: of its last layer alone, not averaged over its layers (eq. 3).
    """
    fconv = isinstance(model.decoder, FConvDecoder)
    if fconv:
        # It averages by itself. This also takes the weight normalisation into the weights.
        model.make_generation_fast_(beamable_mm_beam_size=beam if beam > 1 else None, need_attn=True)
        if last:
            _silence_layers(model.decoder)
    elif not last:  # a transformer returns its last layer's by itself
        _average_layers(model.decoder)
    model.eval()
    model = (model.half() if device.startswith("cuda") else model).to(device)
    if fconv:
        for convolution in model.decoder.convolutions:  # else laid out anew at every step
            convolution._linearized_weight = convolution._get_linearized_weight()
    return model


def starter(models: Sequence[Any], beam: int, *, reduced: bool = False, last: bool = False) -> Start:
    """One fconv model has a decoder here that is faster than its own; ensembles and transformers have not.

    :param models: as :func:`prepare` made them, with the same ``last``.
    :param reduced: multiply in bfloat16.
    """
    if len(models) == 1 and _is_plain_fconv(models[0]):
        return ConvolutionalModel(models[0], torch.bfloat16 if reduced else None, last=last).start
    ensemble = _Ensemble([model.bfloat16() if reduced else model for model in models])
    ensemble.set_decoder_beam_size(beam)
    return functools.partial(_FairseqDecoder, ensemble, beam)


def _is_plain_fconv(model: Any) -> bool:
    return isinstance(model.decoder, FConvDecoder) and model.decoder.adaptive_softmax is None


def _silence_layers(decoder: FConvDecoder) -> None:
    """Let fairseq's mean over an fconv decoder's layers be its last attention layer's.

    Hooks make the others' nothing, and the last one's as large as the mean will make it small.
    """
    attentions = [attention for attention in decoder.attention if attention is not None]
    for attention in attentions:
        factor = len(decoder.attention) * (attention is attentions[-1])
        attention.register_forward_hook(functools.partial(_scale_attention, factor))


def _scale_attention(
    factor: int, _module: Any, _inputs: Any, output: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    return output[0], output[1] * factor


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


class _FairseqDecoder:
    """A :class:`~backattn.translation.beam_search.Decoder` over fairseq's own decoders."""

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
        """Log-probabilities of the next piece, and the attention: averaged (eq. 3), or the last layer's."""
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
