"""fairseq's fconv model, arranged for translating. Pure torch, knows no fairseq.

fairseq's own decoder repeats for every piece of every hypothesis what depends on the sentence alone. Here the
two projections of each attention layer are multiplied into the encoder's states once a sentence (they are
linear, and stand next to products with those states), weights are laid out once a model, and no state is
kept once a beam where one a sentence will do. The numbers are the same but for rounding.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_HALF = math.sqrt(0.5)


class Dense:
    """A linear layer whose weights are laid out once, for a processor that has such a layout."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """:param weight: *Shape:* (out, in)"""
        self._weight, self._bias = weight.detach().contiguous(), bias.detach().contiguous()
        self._packed = _pack(self._weight)

    def __call__(self, x: Tensor) -> Tensor:
        """*Shapes:* (..., in) -> (..., out)"""
        if self._packed is None:
            return F.linear(x, self._weight, self._bias)
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")


def _pack(weight: Tensor) -> Tensor | None:
    """oneDNN's own layout. Where torch takes MKL by itself, this is up to 2.5 times as fast (AMD)."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return None
    try:
        return torch.ops.mkldnn._reorder_linear_weight(weight)
    except (AttributeError, RuntimeError):  # not a public function of torch; a version may lack it
        return None


@dataclass(frozen=True)
class _Convolution:
    """A convolution with its gated linear unit, and where its residual connection comes from.

    :param width: its positions.
    :param reach: how many layers back the residual is; 0 for none.
    :param projection: brings the residual to this layer's channels.
    """

    weights: Dense
    width: int
    reach: int
    projection: Dense | None

    def __call__(self, windows: Tensor) -> Tensor:
        """:param windows: the channels of ``width`` positions, side by side."""
        return F.glu(self.weights(windows), -1)

    def residual(self, states: Sequence[Tensor]) -> Tensor | None:
        """What is added, from the results of all layers before."""
        if not self.reach:
            return None
        state = states[-self.reach]
        return state if self.projection is None else self.projection(state)


@dataclass(frozen=True)
class _Attention:
    """The two projections of an attention layer. *Shapes:* (embedding, channels), (channels, embedding)"""

    into: Tensor
    into_bias: Tensor
    out: Tensor
    out_bias: Tensor


class ConvolutionalModel:
    """The weights of a fairseq ``FConvModel``.

    :param model: without weight normalisation, and without an adaptive softmax.
    """

    def __init__(self, model: Any) -> None:
        encoder, decoder = model.encoder, model.decoder
        self.padding = encoder.padding_idx
        self.encoder = encoder
        self.encoder_in, self.encoder_out = _dense(encoder.fc1), _dense(encoder.fc2)
        self.encoder_layers = _convolutions(encoder)
        self.pieces = decoder.embed_tokens.weight.detach()
        positions = decoder.embed_positions
        self.positions = None if positions is None else positions.weight.detach()[positions.padding_idx + 1 :]
        self.decoder_in, self.decoder_out = _dense(decoder.fc1), _dense(decoder.fc2)
        self.vocabulary = _dense(decoder.fc3)
        self.decoder_layers = _convolutions(decoder)
        self.attentions = [layer and _attention(layer) for layer in decoder.attention]

    def encode(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The encoder's states, the same with the embeddings added, and which positions are padding.

        :param tokens: *Shape:* (sentences, source)
        """
        padding = tokens == self.padding
        embedded = self.encoder.embed_tokens(tokens) + self.encoder.embed_positions(tokens)
        x = self.encoder_in(embedded)
        states = [x]
        for layer in self.encoder_layers:
            residual = layer.residual(states)
            x = layer(_windows(x.masked_fill(padding[..., None], 0), layer.width))
            if residual is not None:
                x = (x + residual) * _HALF
            states.append(x)
        x = self.encoder_out(x).masked_fill(padding[..., None], 0)
        return x, (x + embedded) * _HALF, padding

    def start(self, tokens: Tensor) -> "ConvolutionalDecoder":
        """Encode a batch. *Shape:* (sentences, source)"""
        return ConvolutionalDecoder(self, *self.encode(tokens))


@dataclass(frozen=True)
class _Memory:
    """What an attention layer knows of the sentences.

    :param keys: *Shape:* (sentences, channels, source)
    :param bias: -inf for padding. *Shape:* (sentences, 1, source)
    :param values: *Shape:* (sentences, source, channels)
    """

    keys: Tensor
    bias: Tensor
    values: Tensor

    def of(self, sentences: Tensor) -> "_Memory":
        """Of some of the sentences."""
        return _Memory(self.keys[sentences], self.bias[sentences], self.values[sentences])


class ConvolutionalDecoder:
    """A :class:`~backattn.features.translation.search.Decoder` over an encoded batch.

    :param states, sums: the encoder's states, and the same with the embeddings.
        *Shape:* (sentences, source, embedding)
    """

    def __init__(self, model: ConvolutionalModel, states: Tensor, sums: Tensor, padding: Tensor) -> None:
        self._model = model
        self._step = 0
        self._beam = 1
        self._embedding_keys = (states * _HALF).transpose(1, 2).contiguous()
        masked = torch.zeros_like(states[..., 0]).masked_fill(padding, -torch.inf)[:, None]
        scale = (~padding).sum(1).to(states.dtype).sqrt()[:, None, None]
        self._memories = [
            attention
            and _Memory(
                torch.matmul(attention.into.T * _HALF, states.transpose(1, 2)),
                masked + torch.matmul(attention.into_bias, self._embedding_keys)[:, None],
                (torch.matmul(sums, attention.out.T) * scale + attention.out_bias) * _HALF,
            )
            for attention in model.attentions
        ]
        # What each convolution saw before, all its positions but the newest.
        self._before = [
            states.new_zeros(len(states), (layer.width - 1) * layer.channels) for layer in model.decoder_layers
        ]
