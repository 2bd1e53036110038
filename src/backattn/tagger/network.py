"""The network of stage two: word features -> BiLSTM (eq. 6) -> [r^s ; T] (eq. 7) -> CRF (eq. 8).

T stands where the recipe's fusion puts it; ``output`` is the paper's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from backattn.common.sequence_reversal import reversal_indices, run_reversed
from backattn.tagger.crf import BioesCrf
from backattn.tagger.dataset import Batch
from backattn.tagger.vocabulary import PADDING_CHARACTER, UNKNOWN, UNKNOWN_CHARACTER

# Ma and Hovy 2016, section 2.1: a convolution over three characters.
_CHARACTER_WIDTH = 25
_WINDOW = 3
# Characters of a word that are convolved at once; the maximum over all parts is that over the word.
_MOST_CONVOLVED = 4096
Fusion = Literal["output", "input", "both", "gate"]
# Where T is concatenated: with the features that the BiLSTM reads, and with its states.
_AT_INPUT = ("input", "both")
_AT_OUTPUT = ("output", "both", "gate")
# Name of T among the frozen features.
TRANSFER = "transfer"
# Initial bias of the gate: at first it lets a quarter of T through, sigmoid(-1).
_GATE_BIAS = -1.0


@dataclass(frozen=True, kw_only=True)
class NetworkShape:
    """Sizes and choices that determine the parameters of the network.

    :param words: size of the vocabulary; 0 leaves the words and the BiLSTM out (inputs ``transfer``).
    :param word_dimensions: width of a word vector; 0 for none.
    :param alphabet: number of characters, padding and the unknown character included.
    :param characters, character_dimensions: encoder of a word's characters and the width of its result.
    :param embeddings: width of each kind of frozen features, by name.
    :param hidden: h, width of one direction of the BiLSTM.
    :param transfer: d; 0 leaves T out (inputs ``words``).
    :param fusion: where T is concatenated (``fusion`` of the recipe).
    :param tags: the k tags.
    :param word_dropout: dropout on all that the BiLSTM reads (0.1 in section 3.2).
    :param dropout: dropout on r, the linear layer's whole input (0.5 in section 3.2).
    """

    words: int
    word_dimensions: int
    alphabet: int
    characters: Literal["none", "cnn", "lstm"]
    character_dimensions: int
    embeddings: Mapping[str, int]
    hidden: int
    transfer: int
    fusion: Fusion
    tags: tuple[str, ...]
    word_dropout: float
    dropout: float


class Tagger(nn.Module):
    """BiLSTM-CRF with the transfer vectors at the input of the BiLSTM, beside its states, or both.

    :param reduced: run the training step of the BiLSTM in bfloat16 (autocast); the weights, the CRF and all
        of prediction stay in float32.
    """

    def __init__(self, shape: NetworkShape, *, reduced: bool = False) -> None:
        super().__init__()
        self.dropout = shape.dropout
        self.reduced = reduced
        at_input, at_output = shape.fusion in _AT_INPUT, shape.fusion in _AT_OUTPUT
        # T beside the words is one more of the frozen features.
        frozen = {**shape.embeddings, **({TRANSFER: shape.transfer} if shape.transfer and at_input else {})}
        self.frozen = nn.ModuleDict({name: Standardise(width) for name, width in frozen.items()})
        self.words = WordEncoder(shape, sum(frozen.values())) if shape.words else None
        self.bilstm = BiLstm(self.words.width, shape.hidden) if self.words is not None else None
        self.standardise = Standardise(shape.transfer) if shape.transfer and at_output else None
        width = (2 * shape.hidden if shape.words else 0) + (shape.transfer if at_output else 0)
        self.linear = nn.Linear(width, len(shape.tags))
        self.crf = BioesCrf(shape.tags)
        self.gate = Gate(width) if shape.transfer and shape.fusion == "gate" else None

    def loss(self, batch: Batch) -> Tensor:
        """Compute the negative log-likelihood of the gold tags, summed over tokens, averaged over sentences.

        :returns: *Shape:* ()
        """
        assert batch.tags is not None
        return -self.crf.log_likelihood(self.emissions(batch), batch.tags, batch.lengths).mean()

    def decode(self, batch: Batch) -> Tensor:
        """Decode the best legal tags; 0 on padding. *Shape:* (b, m)"""
        return self.crf.decode(self.emissions(batch), batch.lengths)

    def emissions(self, batch: Batch) -> Tensor:
        """Compute a score for each tag of each token. *Shape:* (b, m, k)"""
        parts = []
        if self.words is not None and self.bilstm is not None:
            given = batch.embeddings
            if TRANSFER in self.frozen:
                assert batch.transfer is not None
                given = (*given, batch.transfer)
            # shape: (b, m, e) each
            frozen = [module(rows) for module, rows in zip(self.frozen.values(), given, strict=True)]
            # shape: (b, m, w)
            features = self.words(batch, frozen)
            with torch.autocast(features.device.type, torch.bfloat16, self.reduced and self.training):
                # r^s, shape: (b, m, 2h)
                states = self.bilstm(features, batch.lengths)
            parts.append(states.float())
        if self.standardise is not None:
            assert batch.transfer is not None
            # T, shape: (b, m, d)
            transfer = self.standardise(batch.transfer)
            parts.append(transfer if self.gate is None else self.gate(parts[0], transfer))
        # r = [r^s ; T] (eq. 7), shape: (b, m, 2h + d)
        emissions: Tensor = self.linear(drop(_joined(parts), self.dropout, self.training))
        return emissions


class WordEncoder(nn.Module):
    """Concatenate word vectors, encoded characters, and frozen vectors.

    Each different token is encoded once. Dropout applies to all of them alike, so that the BiLSTM does not
    rely on one of its inputs.

    :param beside: total width of the frozen vectors that :meth:`forward` gets.
    """

    rare: Tensor  # shape: (words,) bool: words that occur once in training

    def __init__(self, shape: NetworkShape, beside: int = 0) -> None:
        super().__init__()
        self.dropout = shape.word_dropout
        self.embedding = _word_embedding(shape) if shape.word_dimensions else None
        self.register_buffer("rare", torch.zeros(shape.words, dtype=torch.bool), persistent=False)
        self.characters = _character_encoder(shape)
        characters = shape.character_dimensions if self.characters is not None else 0
        self.width = shape.word_dimensions + characters + beside

    def forward(self, batch: Batch, beside: Sequence[Tensor] = ()) -> Tensor:
        """Compute the features of each token.

        :param beside: frozen features, and T if the fusion puts it here. *Shape:* (b, m, e) each
        :returns: *Shape:* (b, m, w)
        """
        # Features of each different token, shape: (u, ...) each
        parts = []
        if self.embedding is not None:
            parts.append(self.embedding(self._words(batch.words)))
        if self.characters is not None:
            parts.append(torch.cat([self.characters(part) for part in batch.characters]))
        # Features of each token, shape: (b, m, ...) each
        tokens = [functional.embedding(batch.positions, _joined(parts))] if parts else []
        return drop(_joined([*tokens, *beside]), self.dropout, self.training)

    def _words(self, words: Tensor) -> Tensor:
        """In training, replace words that occur once by the unknown word in half of the cases."""
        if not self.training:
            return words
        coin = torch.rand(words.shape, device=words.device) < 0.5
        return words.masked_fill(self.rare[words] & coin, UNKNOWN)


class CharacterCnn(nn.Module):
    """The maximum of a convolution over a word's characters.

    An alphabet is small, so the contribution of each character at each place of the window is computed once
    for a batch and then looked up: a third of the time of convolving every word.
    """

    def __init__(self, alphabet: int, width: int) -> None:
        super().__init__()
        self.embedding = _character_embedding(alphabet)
        self.convolution = nn.Conv1d(_CHARACTER_WIDTH, width, _WINDOW, padding=_WINDOW // 2)

    def forward(self, characters: Tensor) -> Tensor:
        """(u, c) character numbers -> (u, width)."""
        # The vectors of all characters, through the embedding, so that padding gets no gradient.
        alphabet = self.embedding(torch.arange(self.embedding.num_embeddings, device=characters.device))
        # shape: (alphabet, width) each
        left, middle, right = torch.einsum("ae,wep->paw", alphabet, self.convolution.weight)
        # Padding must not win the maximum, or a word would depend on the longest word of its batch.
        padding = torch.tensor(PADDING_CHARACTER, device=characters.device)
        middle = (middle + self.convolution.bias).index_fill(0, padding, float("-inf"))
        around = functional.pad(characters, (1, 1), value=PADDING_CHARACTER)
        maxima = []
        for begin in range(0, characters.shape[1], _MOST_CONVOLVED):
            part = around[:, begin : begin + _MOST_CONVOLVED + 2]
            # shape: (u, characters of the part, width)
            convolved = (
                functional.embedding(part[:, :-2], left)
                + functional.embedding(part[:, 1:-1], middle)
                + functional.embedding(part[:, 2:], right)
            )
            maxima.append(convolved.max(dim=1).values)
        return maxima[0] if len(maxima) == 1 else torch.stack(maxima).max(dim=0).values


class CharacterLstm(nn.Module):
    """The two final states of a BiLSTM over a word's characters."""

    def __init__(self, alphabet: int, width: int) -> None:
        super().__init__()
        self.embedding = _character_embedding(alphabet)
        self.bilstm = BiLstm(_CHARACTER_WIDTH, width // 2)

    def forward(self, characters: Tensor) -> Tensor:
        """(u, c) character numbers -> (u, width)."""
        lengths = (characters != PADDING_CHARACTER).sum(dim=1)
        # shape: (u, c, width)
        states = self.bilstm(self.embedding(characters), lengths)
        last = states[torch.arange(len(lengths), device=lengths.device), lengths - 1]
        forward, backward = last.chunk(2, dim=1)[0], states[:, 0].chunk(2, dim=1)[1]
        return torch.cat([forward, backward], dim=1)


class BiLstm(nn.Module):
    """A bidirectional LSTM over padded sentences of mixed length.

    Equal to ``nn.LSTM(bidirectional=True)`` over packed sequences, and on a CPU 2.5 times as fast: two
    one-direction LSTMs, the second over each sentence reversed *within its own length*, never see padding
    before a token, so that the fused kernel for rectangular input can be used.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.rightward = nn.LSTM(width, hidden, batch_first=True)
        self.leftward = nn.LSTM(width, hidden, batch_first=True)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """(b, m, width) -> (b, m, 2 hidden): forward states, then backward states."""
        forward = self.rightward(inputs)[0]
        backward = run_reversed(self.leftward, inputs, reversal_indices(lengths, inputs.shape[1]))
        return torch.cat([forward, backward], dim=2)


class Gate(nn.Module):
    """Scale T by a gate at each token: g * T with g = sigmoid(W [r^s ; T] + b).

    The gate is one number for each token: where the translation or the alignment is wrong, all of T is wrong,
    and the linear layer learns which dimensions are useful. A gate for each dimension would have d (2h + d)
    weights: half a million, most of the network, to be learnt from a thousand sentences. W begins at zero, so
    that at first every token is treated alike.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, _GATE_BIAS)

    def forward(self, states: Tensor, transfer: Tensor) -> Tensor:
        """(b, m, 2h), (b, m, d) -> (b, m, d)."""
        return torch.sigmoid(self.linear(torch.cat([states, transfer], dim=2))) * transfer


class Standardise(nn.Module):
    """Centre T and bring it to one common scale: (T - mean) * scale, both fixed from the training sample.

    T comes from a frozen model at whatever scale its states have, while r^s begins small. Unscaled, T
    takes most of the gradient, whose norm is clipped, and the BiLSTM hardly learns (figures beside
    ``TRANSFER_DEVIATION``). One scale for all d dimensions keeps their relations: a dimension that hardly
    varies is not blown up to noise. Frozen features beside the word vectors are standardised in the same way.
    Unfitted (``tagger.standardise = false``) it changes nothing.
    """

    mean: Tensor  # shape: (d,)
    scale: Tensor  # shape: ()

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, transfer: Tensor) -> Tensor:
        """(b, m, d) -> (b, m, d)."""
        return (transfer - self.mean) * self.scale


def drop(inputs: Tensor, share: float, training: bool) -> Tensor:
    """Dropout: set the given share of values to 0, and scale the others up so that the mean stays.

    On a CPU torch draws a number for every value, which takes longer than the CRF; four 16-bit draws
    from each 64-bit number (shares in steps of 1/65536) are three times as fast.
    """
    if not training or share == 0:
        return inputs
    if inputs.device.type != "cpu":
        return functional.dropout(inputs, share)
    draws = torch.empty((inputs.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    bits = draws.view(torch.int16)[: inputs.numel()].view(inputs.shape)
    kept = torch.ge(bits, round(share * 2**16) - 2**15, out=torch.empty_like(inputs, requires_grad=False))
    return inputs * kept.mul_(1 / (1 - share))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate in the last dimension; a single tensor is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=-1)


def _word_embedding(shape: NetworkShape) -> nn.Embedding:
    # Sparse: a step touches a few hundred of the rows.
    embedding = nn.Embedding(shape.words, shape.word_dimensions, sparse=True)
    # Vectors of unit length to begin with, whatever their width (as a uniform sqrt(3 / width) gives).
    bound = (3 / shape.word_dimensions) ** 0.5
    nn.init.uniform_(embedding.weight, -bound, bound)
    return embedding


def _character_encoder(shape: NetworkShape) -> nn.Module | None:
    if shape.characters == "cnn":
        return CharacterCnn(shape.alphabet, shape.character_dimensions)
    if shape.characters == "lstm":
        return CharacterLstm(shape.alphabet, shape.character_dimensions)
    return None


def _character_embedding(alphabet: int) -> nn.Embedding:
    embedding = nn.Embedding(alphabet, _CHARACTER_WIDTH, padding_idx=PADDING_CHARACTER)
    bound = (3 / _CHARACTER_WIDTH) ** 0.5
    nn.init.uniform_(embedding.weight, -bound, bound)
    # The unknown character never occurs in training, so its vector must not be random.
    embedding.weight.data[[PADDING_CHARACTER, UNKNOWN_CHARACTER]] = 0
    return embedding
