"""A faster inference implementation of fairseq's fconv model. Pure torch.

Weights and results are fairseq's (a test compares the two). It is faster because weights are packed once for
a model, and states of the source are kept once for a sentence, not for each hypothesis.
"""

import contextlib
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_HALF = math.sqrt(0.5)


class Dense:
    """A linear layer whose weights are packed once in oneDNN's layout, where the CPU supports it.

    torch multiplies float32 matrices with MKL, which on CPUs not made by Intel reaches less than half of the
    rate of oneDNN. torch has no public name for oneDNN's packed layer, so a private operator is called; where
    it is missing, or the CPU does not support bfloat16, ``F.linear`` is used.
    """

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype | None = None) -> None:
        """Pack the weights.

        :param weight: *Shape:* (out, in)
        :param dtype: of the multiplication; inputs and outputs keep their own. None for that of the weights.
        """
        self._dtype = dtype or weight.dtype
        self._weight = weight.detach().to(self._dtype).contiguous()
        self.bias = bias.detach().to(self._dtype)
        self.width = weight.shape[1]
        self.packed = False
        if weight.device.type == "cpu":
            with contextlib.suppress(AttributeError, RuntimeError):
                packed = torch.ops.mkldnn._reorder_linear_weight(self._weight)
                _packed_product(self._weight[:1], packed, self.bias)
                self._weight, self.packed = packed, True

    def __call__(self, x: Tensor) -> Tensor:
        """*Shapes:* (..., in) -> (..., out)"""
        product = _packed_product if self.packed else F.linear
        return product(x.to(self._dtype), self._weight, self.bias).to(x.dtype)


def _packed_product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


@dataclass(frozen=True)
class _Convolution:
    """A convolution with its gated linear unit and residual connection.

    :param width: kernel size.
    :param channels: input channels.
    :param residual_distance: how many layers back the residual comes from; 0 for none.
    :param projection: maps the residual to this layer's channels.
    """

    weights: Dense
    width: int
    channels: int
    residual_distance: int
    projection: Dense | None

    def __call__(self, windows: Tensor) -> Tensor:
        """Convolve: ``windows`` holds the channels of ``width`` positions, concatenated."""
        return F.glu(self.weights(windows), -1)

    def add_residual(self, x: Tensor, states: Sequence[Tensor]) -> Tensor:
        """Add the residual; ``states`` are the outputs of all earlier layers."""
        if not self.residual_distance:
            return x
        residual = states[-self.residual_distance]
        return (x + (self.projection(residual) if self.projection else residual)) * _HALF


@dataclass(frozen=True)
class _Attention:
    """Input and output projections of an attention layer."""

    query: Dense
    output: Dense


class ConvolutionalModel:
    """Inference of a fairseq ``FConvModel``.

    :param model: without weight normalisation, and without an adaptive softmax.
    :param dtype: of multiplications with weights; None for that of the weights.
    :param last: return the attention of the last layer, not the mean over the layers (eq. 3).
    """

    def __init__(self, model: Any, dtype: torch.dtype | None = None, *, last: bool = False) -> None:
        decoder, self.encoder, self.last = model.decoder, model.encoder, last
        dense = functools.partial(_dense, dtype=dtype)
        self._encoder_in, self._encoder_out = dense(self.encoder.fc1), dense(self.encoder.fc2)
        self._encoder_layers = _convolutions(self.encoder, dtype)
        self.pieces = decoder.embed_tokens.weight.detach()
        positions = decoder.embed_positions
        self.positions = None if positions is None else positions.weight.detach()[positions.padding_idx + 1 :]
        self.decoder_in, self.decoder_out = dense(decoder.fc1), dense(decoder.fc2)
        self.vocabulary = dense(decoder.fc3)
        self.layers = _convolutions(decoder, dtype)
        self.attentions = [
            layer and _Attention(dense(layer.in_projection), dense(layer.out_projection))
            for layer in decoder.attention
        ]

    def start(self, tokens: Tensor) -> "ConvolutionalDecoder":
        """Encode a batch, padded on the left. *Shape:* (sentences, source)"""
        padding = tokens == self.encoder.padding_idx
        embedded = self.encoder.embed_tokens(tokens) + self.encoder.embed_positions(tokens)
        x = self._encoder_in(embedded)
        states = [x]
        for layer in self._encoder_layers:
            x = layer(_windows(x.masked_fill(padding[..., None], 0), layer.width))
            x = layer.add_residual(x, states)
            states.append(x)
        x = self._encoder_out(x).masked_fill(padding[..., None], 0)
        return ConvolutionalDecoder(self, x, (x + embedded) * _HALF, padding)


class ConvolutionalDecoder:
    """The :class:`~backattn.translation.beam_search.Decoder` of an encoded batch.

    :param states, sums: encoder states, and encoder states plus embeddings.
        *Shape:* (sentences, source, embedding)
    """

    def __init__(self, model: ConvolutionalModel, states: Tensor, sums: Tensor, padding: Tensor) -> None:
        self._model = model
        self._step, self._beam = 0, 1
        self._keys = (states * _HALF).transpose(1, 2).contiguous()
        # As fairseq, scale by the length of the source: a mean over more positions has less variance.
        self._values = sums * (~padding).sum(1).to(sums.dtype).sqrt()[:, None, None]
        self._mask = torch.zeros_like(states[:, None, :, 0]).masked_fill_(padding[:, None], -torch.inf)
        # The inputs of each convolution at all its positions but the newest.
        self._history = [
            states.new_zeros(len(states), (layer.width - 1) * layer.channels) for layer in model.layers
        ]

    def step(self, pieces: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the next piece, and the attention: averaged (eq. 3), or the last layer's."""
        sentences, beam = order.shape
        if sentences < len(self._keys):
            self._select_sentences(order[:, 0] // self._beam)
        self._beam, order = beam, order.flatten()
        model = self._model
        embedded = model.pieces.index_select(0, pieces.flatten())
        if model.positions is not None:
            embedded += model.positions[self._step]
        self._step += 1
        x = model.decoder_in(embedded)
        states, weights_by_layer = [x], []
        for number, (layer, attention) in enumerate(zip(model.layers, model.attentions, strict=True)):
            windows = torch.cat([self._history[number].index_select(0, order), x], 1)
            self._history[number] = windows[:, layer.channels :]
            x = layer(windows)
            if attention is not None:
                query = (attention.query(x) + embedded).view(sentences, beam, -1)
                weights = torch.baddbmm(self._mask, query, self._keys).softmax(-1)
                weights_by_layer.append(weights)
                x = (attention.output(torch.bmm(weights, self._values).flatten(0, 1)) + x) * _HALF
            x = layer.add_residual(x, states)
            states.append(x)
        log_probs = model.vocabulary(model.decoder_out(x)).log_softmax(-1, torch.float32)
        weights_by_layer, layers = (
            (weights_by_layer[-1:], 1) if model.last else (weights_by_layer, len(model.layers))
        )
        return log_probs, _mean(weights_by_layer, layers, x.new_empty(len(x), 0))

    def _select_sentences(self, sentences: Tensor) -> None:
        """Keep only the sentences that are not done."""
        parts = (self._keys, self._values, self._mask)
        self._keys, self._values, self._mask = (part.index_select(0, sentences) for part in parts)


def _mean(weights_by_layer: Sequence[Tensor], layers: int, empty: Tensor) -> Tensor:
    """Mean attention over the layers. *Shapes:* (sentences, beam, source) -> (hypotheses, source)"""
    return torch.stack(list(weights_by_layer)).sum(0).flatten(0, 1) / layers if weights_by_layer else empty


def _windows(x: Tensor, width: int) -> Tensor:
    """Concatenate the channels of ``width`` positions around each. *Shape:* (..., positions, channels)"""
    positions = x.shape[-2]
    padded = F.pad(x, (0, 0, (width - 1) // 2, width // 2))
    return torch.cat([padded[..., shift : shift + positions, :] for shift in range(width)], -1)


def _dense(layer: Any, dtype: torch.dtype | None) -> Dense:
    return Dense(layer.weight, layer.bias, dtype)


def _convolutions(coder: Any, dtype: torch.dtype | None) -> list[_Convolution]:
    parts = zip(coder.convolutions, coder.residuals, coder.projections, strict=True)
    return [
        _Convolution(
            # shape: (width, in, out) -> (out, width * in)
            weights=Dense(layer.weight.permute(2, 0, 1).flatten(1), layer.bias, dtype),
            width=layer.kernel_size[0],
            channels=layer.in_channels,
            residual_distance=residual_distance,
            projection=projection and _dense(projection, dtype),
        )
        for layer, residual_distance, projection in parts
    ]
