"""Stepwise decoders of fairseq's models that return their attention."""

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

# Encodes a batch of padded sources and returns its decoder. *Shape:* (sentences, source)
DecoderFactory = Callable[[Tensor], Decoder]


def prepare_model(model: Any, beam: int, device: str, *, last: bool = False) -> Any:
    """Prepare a model for generation with attention.

    :param last: return the attention of the last layer, not the mean over the layers (eq. 3).
    """
    fconv = isinstance(model.decoder, FConvDecoder)
    if fconv:
        # need_attn: fconv returns the mean. The call also folds weight normalisation into the weights.
        model.make_generation_fast_(beamable_mm_beam_size=beam if beam > 1 else None, need_attn=True)
        if last:
            _keep_last_layer(model.decoder)
    elif not last:  # a transformer returns its last layer's attention by default
        _average_layers(model.decoder)
    model.eval()
    model = (model.half() if device.startswith("cuda") else model).to(device)
    if fconv:
        for convolution in model.decoder.convolutions:  # cached, else computed at every step
            convolution._linearized_weight = convolution._get_linearized_weight()
    return model


def decoder_factory(
    models: Sequence[Any], beam: int, *, bfloat16: bool = False, last: bool = False
) -> DecoderFactory:
    """The function that starts decoding a batch.

    A single fconv model gets this project's faster decoder; ensembles and transformers get fairseq's.

    :param models: as :func:`prepare_model` made them, with the same ``last``.
    :param bfloat16: multiply in bfloat16.
    """
    if len(models) == 1 and _is_plain_fconv(models[0]):
        return ConvolutionalModel(models[0], torch.bfloat16 if bfloat16 else None, last=last).start
    ensemble = _Ensemble([model.bfloat16() if bfloat16 else model for model in models])
    ensemble.set_decoder_beam_size(beam)
    return functools.partial(_FairseqDecoder, ensemble, beam)


def _is_plain_fconv(model: Any) -> bool:
    return isinstance(model.decoder, FConvDecoder) and model.decoder.adaptive_softmax is None


def _keep_last_layer(decoder: FConvDecoder) -> None:
    """Make an fconv decoder return the attention of its last attention layer.

    fairseq returns the mean over the layers: hooks multiply the last one by their number, the others by 0.
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
    """Make a transformer's decoder return the mean attention over all layers (eq. 3) and heads.

    By default it returns its last layer's. Hooks collect the attention of each layer; the last layer's hook
    returns the mean.
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
        return states, mean[None]  # fairseq then averages over the first axis, the heads

    for attention in attentions:
        attention.register_forward_hook(collect)


class _Ensemble(EnsembleModel):  # type: ignore[misc]
    """fairseq's ensemble that does not copy the encoder's states at every step.

    All hypotheses of a sentence share them, so they are reordered only when sentences leave the batch.
    """

    def forward_encoder(self, net_input: dict[str, Tensor]) -> Any:
        """Encode a batch."""
        self._rows = 0
        return super().forward_encoder(net_input)

    def reorder_incremental_state(self, incremental_states: Any, new_order: Tensor) -> None:
        """Reorder the decoders' caches; an fconv decoder caches the encoder's states as well."""
        kept = FConvDecoder if self._rows == len(new_order) else ()
        for model, state in zip(self.models, incremental_states, strict=True):
            for module in model.decoder.modules():
                if hasattr(module, "reorder_incremental_state") and not isinstance(module, kept):
                    module.reorder_incremental_state(state, new_order)

    def reorder_encoder_out(self, encoder_outs: Any, new_order: Tensor) -> Any:
        """Repeat the rows for the beam, or drop those of finished sentences."""
        if self._rows == len(new_order):
            return encoder_outs
        self._rows = len(new_order)
        return super().reorder_encoder_out(encoder_outs, new_order)


class _FairseqDecoder:
    """Adapts fairseq's decoders to :class:`~backattn.translation.beam_search.Decoder`."""

    def __init__(self, ensemble: _Ensemble, beam: int, tokens: Tensor) -> None:
        self._ensemble, self._beam = ensemble, beam
        lengths = tokens.ne(ensemble.single_model.encoder.padding_idx).sum(1)
        encoded = ensemble.forward_encoder({"src_tokens": tokens, "src_lengths": lengths})
        # fairseq has a row for each hypothesis from the first step on, when those of a sentence are equal.
        rows = torch.arange(len(tokens), device=tokens.device).repeat_interleave(beam)
        self._encoded = ensemble.reorder_encoder_out(encoded, rows)
        self._states: list[dict[str, Any]] = [{} for _ in ensemble.models]
        self._prefix = tokens.new_empty(len(rows), 0)

    def step(self, pieces: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the next piece, and the attention: averaged (eq. 3), or the last layer's."""
        step = self._prefix.shape[1]
        if step == 0:
            pieces = pieces.expand(-1, self._beam)
        else:
            order = order.flatten() * (self._beam if step == 1 else 1)
            self._ensemble.reorder_incremental_state(self._states, order)
            self._encoded = self._ensemble.reorder_encoder_out(self._encoded, order)
            self._prefix = self._prefix[order]
        self._prefix = torch.cat([self._prefix, pieces.reshape(-1, 1)], 1)
        log_probs, attention = self._ensemble.forward_decoder(self._prefix, self._encoded, self._states)
        if attention is None:
            attention = log_probs.new_empty(len(log_probs), 0)
        requested = slice(None, None, self._beam if step == 0 else 1)
        return log_probs[requested], attention[requested]
