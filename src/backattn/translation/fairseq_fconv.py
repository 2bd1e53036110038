"""fairseq's fconv model, arranged for translating. Pure torch, knows no fairseq.

The weights and the arithmetic are fairseq's (a test compares the two), the order of work is not: weights are
laid out once a model, and what depends on the sentence alone is kept once a sentence, not once a hypothesis.
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
    """A linear layer whose weights are laid out once, where the processor has a layout of its own.

    torch multiplies float32 matrices with MKL, which on processors of another maker reaches less than half
    of the rate of oneDNN, torch's other library. Its layer is called by a name that torch does not promise
    to keep, and not every processor multiplies in bfloat16: where it fails, the ordinary one is used.
    """

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype | None = None) -> None:
        """Lay the weights out.

        :param weight: *Shape:* (out, in)
        :param dtype: of the product; what comes and goes keeps its own. None for that of the weights.
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
    """A convolution with its gated linear unit, and its residual connection.

    :param width: how many positions it sees.
    :param channels: of each of them.
    :param reach: how many layers back the residual comes from; 0 for none.
    :param projection: brings the residual to this layer's channels.
    """

    weights: Dense
    width: int
    channels: int
    reach: int
    projection: Dense | None

    def __call__(self, windows: Tensor) -> Tensor:
        """:param windows: the channels of ``width`` positions, side by side."""
        return F.glu(self.weights(windows), -1)

    def add_residual(self, x: Tensor, states: Sequence[Tensor]) -> Tensor:
        """:param states: the results of all layers before."""
        if not self.reach:
            return x
        residual = states[-self.reach]
        return (x + (self.projection(residual) if self.projection else residual)) * _HALF


@dataclass(frozen=True)
class _Attention:
    """The projections of an attention layer: what it asks with, and what it makes of the answer."""

    question: Dense
    answer: Dense


class ConvolutionalModel:
    """A fairseq ``FConvModel``.

    :param model: without weight normalisation, and without an adaptive softmax.
    :param dtype: of the products with weights; None for that of the weights.
    :param last: give the last layer's attention alone, not the mean over the layers (eq. 3).
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
    """A :class:`~backattn.translation.beam_search.Decoder` over an encoded batch.

    :param states, sums: the encoder's states, and the same with its embeddings.
        *Shape:* (sentences, source, embedding)
    """

    def __init__(self, model: ConvolutionalModel, states: Tensor, sums: Tensor, padding: Tensor) -> None:
        self._model = model
        self._step, self._beam = 0, 1
        self._keys = (states * _HALF).transpose(1, 2).contiguous()
        # fairseq scales by the length of the source, so that a mean over it does not shrink with it.
        self._values = sums * (~padding).sum(1).to(sums.dtype).sqrt()[:, None, None]
        self._mask = torch.zeros_like(states[:, None, :, 0]).masked_fill_(padding[:, None], -torch.inf)
        # What each convolution saw: all its positions but the newest.
        self._seen = [
            states.new_zeros(len(states), (layer.width - 1) * layer.channels) for layer in model.layers
        ]

    def step(self, pieces: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the next piece, and the attention: averaged (eq. 3), or the last layer's."""
        sentences, beam = order.shape
        if sentences < len(self._keys):
            self._keep(order[:, 0] // self._beam)
        self._beam, order = beam, order.flatten()
        model = self._model
        embedded = model.pieces.index_select(0, pieces.flatten())
        if model.positions is not None:
            embedded += model.positions[self._step]
        self._step += 1
        x = model.decoder_in(embedded)
        states, looked = [x], []
        for number, (layer, attention) in enumerate(zip(model.layers, model.attentions, strict=True)):
            windows = torch.cat([self._seen[number].index_select(0, order), x], 1)
            self._seen[number] = windows[:, layer.channels :]
            x = layer(windows)
            if attention is not None:
                question = (attention.question(x) + embedded).view(sentences, beam, -1)
                weights = torch.baddbmm(self._mask, question, self._keys).softmax(-1)
                looked.append(weights)
                x = (attention.answer(torch.bmm(weights, self._values).flatten(0, 1)) + x) * _HALF
            x = layer.add_residual(x, states)
            states.append(x)
        log_probs = model.vocabulary(model.decoder_out(x)).log_softmax(-1, torch.float32)
        looked, layers = (looked[-1:], 1) if model.last else (looked, len(model.layers))
        return log_probs, _mean(looked, layers, x.new_empty(len(x), 0))

    def _keep(self, sentences: Tensor) -> None:
        """Let go of the sentences that are done."""
        parts = (self._keys, self._values, self._mask)
        self._keys, self._values, self._mask = (part.index_select(0, sentences) for part in parts)


def _mean(looked: Sequence[Tensor], layers: int, nothing: Tensor) -> Tensor:
    """*Shapes:* (sentences, beam, source) -> (hypotheses, source)"""
    return torch.stack(list(looked)).sum(0).flatten(0, 1) / layers if looked else nothing


def _windows(x: Tensor, width: int) -> Tensor:
    """The channels of ``width`` positions around each, side by side. *Shape:* (..., positions, channels)"""
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
            reach=reach,
            projection=projection and _dense(projection, dtype),
        )
        for layer, reach, projection in parts
    ]
