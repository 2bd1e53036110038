"""The configuration of a flair ``SequenceTagger``: frozen dataclasses, validated when they are made.

The names of classes and fields are flair's, so that flair's documentation explains them. Each part lists the
names and shapes of its tensors without importing flair: a file's tensors are compared with them before
anything is built.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

FORMAT = 1
# Suffix of safetensors files; defined here, so that names are compared without importing torch.
SUFFIX = ".safetensors"
_LONGEST_DELIMITER = 100  # characters; flair's is one
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
Shape = tuple[int, ...]


class _Checked:
    """Base of all parts: checks that sizes are positive and dropouts in [0, 1)."""

    SIZES: ClassVar[tuple[str, ...]] = ()
    SHARES: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for field in self.SIZES:
            _require(getattr(self, field) > 0, f"{field}: expected more than 0")
        for field in self.SHARES:
            _require(0 <= getattr(self, field) < 1, f"{field}: expected at least 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class ItemDictionary(_Checked):
    """A flair ``Dictionary``: the index of an item is its position.

    :param unknown: any other item has index 0; if false, it is an error.
    """

    items: tuple[str, ...]
    unknown: bool

    def __post_init__(self) -> None:
        _require(bool(self.items), "items: expected at least one")
        _require(len(set(self.items)) == len(self.items), "items: one occurs twice")


@dataclass(frozen=True, kw_only=True)
class WordEmbeddingsConfig(_Checked):
    """``WordEmbeddings``; the last vector, after those of ``vocab``, is for all other words."""

    kind: Literal["WordEmbeddings"] = "WordEmbeddings"
    name: str
    vocab: tuple[str, ...]
    embedding_length: int
    fine_tune: bool
    stable: bool
    SIZES = ("embedding_length",)

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(len(set(self.vocab)) == len(self.vocab), "vocab: a word occurs twice")

    @property
    def width(self) -> int:
        """Width of a token's vector."""
        return self.embedding_length

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        """Names and shapes of its tensors."""
        yield "embedding.weight", (len(self.vocab) + 1, self.embedding_length)
        if self.stable and self.fine_tune:  # flair's layer norm is trained only with the vectors
            yield from _layer_norm(self.embedding_length)


@dataclass(frozen=True, kw_only=True)
class OneHot(_Checked):
    """``OneHotEmbeddings`` of the text."""

    kind: Literal["OneHotEmbeddings"] = "OneHotEmbeddings"
    name: str
    vocabulary: ItemDictionary
    embedding_length: int
    stable: bool
    SIZES = ("embedding_length",)

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.vocabulary.unknown, "vocabulary: has no index for unknown words")

    @property
    def width(self) -> int:
        """Width of a token's vector."""
        return self.embedding_length

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        """Names and shapes of its tensors."""
        yield "embedding_layer.weight", (len(self.vocabulary.items), self.embedding_length)
        if self.stable:
            yield from _layer_norm(self.embedding_length)


@dataclass(frozen=True, kw_only=True)
class Characters(_Checked):
    """``CharacterEmbeddings``: a BiLSTM over the letters of a word."""

    kind: Literal["CharacterEmbeddings"] = "CharacterEmbeddings"
    name: str
    vocabulary: ItemDictionary
    char_embedding_dim: int
    hidden_size_char: int
    SIZES = ("char_embedding_dim", "hidden_size_char")

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.vocabulary.unknown, "vocabulary: has no index for unknown characters")

    @property
    def width(self) -> int:
        """Width of a token's vector."""
        return 2 * self.hidden_size_char

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        """Names and shapes of its tensors."""
        yield "char_embedding.weight", (len(self.vocabulary.items), self.char_embedding_dim)
        yield from _rnn("char_rnn", "LSTM", self.char_embedding_dim, self.hidden_size_char, 1, 2)


@dataclass(frozen=True, kw_only=True)
class CharacterModel(_Checked):
    """``FlairEmbeddings``: the states of a character language model.

    :param nout: width of the model's projection; 0 for none.
    """

    kind: Literal["FlairEmbeddings"] = "FlairEmbeddings"
    name: str
    vocabulary: ItemDictionary
    is_forward_lm: bool
    recurrent_type: Literal["LSTM", "GRU"]
    embedding_size: int
    hidden_size: int
    nlayers: int
    nout: int
    document_delimiter: str
    dropout: float
    has_decoder: bool
    fine_tune: bool
    chars_per_chunk: int
    with_whitespace: bool
    tokenized_lm: bool
    is_lower: bool
    SIZES = ("embedding_size", "hidden_size", "nlayers", "chars_per_chunk")
    SHARES = ("dropout",)

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.nout >= 0, "nout: expected 0 or more")
        _require(" " in self.vocabulary.items or self.vocabulary.unknown, "vocabulary: has no space")
        # Every sentence begins with the delimiter, so a long one would cost time in each.
        _require(len(self.document_delimiter) <= _LONGEST_DELIMITER, "document_delimiter: too long")

    @property
    def width(self) -> int:
        """Width of a token's vector."""
        return self.nout or self.hidden_size

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        """Names and shapes of its tensors."""
        characters = len(self.vocabulary.items)
        yield "lm.encoder.weight", (characters, self.embedding_size)
        yield from _rnn("lm.rnn", self.recurrent_type, self.embedding_size, self.hidden_size, self.nlayers, 1)
        if self.nout:
            yield from _linear("lm.proj", self.hidden_size, self.nout)
        if self.has_decoder:
            yield from _linear("lm.decoder", self.width, characters)


Embedding = WordEmbeddingsConfig | OneHot | Characters | CharacterModel


@dataclass(frozen=True, kw_only=True)
class Description(_Checked):
    """The configuration of a flair ``SequenceTagger`` with an RNN. The names are flair's.

    :param stacked: the embeddings are a ``StackedEmbeddings``, which joins them in the order of their names.
    :param labels: the tags, with those of the CRF.
    :param loss_weights: weights of the labels in training; empty for none.
    """

    format: int = FORMAT
    embeddings: tuple[Embedding, ...]
    stacked: bool
    labels: ItemDictionary
    tag_type: str
    tag_format: Literal["BIOES", "BIO"]
    rnn_type: Literal["LSTM", "GRU", "RNN"]
    hidden_size: int
    rnn_layers: int
    bidirectional: bool
    use_crf: bool
    reproject_embeddings: bool
    train_initial_hidden_state: bool
    dropout: float
    word_dropout: float
    locked_dropout: float
    loss_weights: Mapping[str, float]
    SIZES = ("hidden_size", "rnn_layers")
    SHARES = ("dropout", "word_dropout", "locked_dropout")

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [embedding.name for embedding in self.embeddings]
        _require(bool(names) and all(names), "embeddings: expected at least one, and a name for each")
        _require(len(set(names)) == len(names), "embeddings: two have the same name")
        _require(self.stacked or len(names) == 1, "embeddings: several, but not stacked")
        ends = {"<START>", "<STOP>"} <= set(self.labels.items)
        _require(ends or not self.use_crf, "labels: a CRF needs <START> and <STOP>")
        weights = self.loss_weights.values()
        _require(all(map(math.isfinite, weights)), "loss_weights: expected finite numbers")

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        """Names (flair's) and shapes of all tensors."""
        for number, embedding in enumerate(self.embeddings):
            prefix = f"embeddings.list_embedding_{number}" if self.stacked else "embeddings"
            yield from ((f"{prefix}.{name}", shape) for name, shape in embedding.shapes())
        inputs = sum(embedding.width for embedding in self.embeddings)
        directions = 2 if self.bidirectional else 1
        tags = len(self.labels.items)
        if self.reproject_embeddings:
            yield from _linear("embedding2nn", inputs, inputs)
        yield from _rnn("rnn", self.rnn_type, inputs, self.hidden_size, self.rnn_layers, directions)
        yield from _linear("linear", directions * self.hidden_size, tags)
        if self.train_initial_hidden_state:
            for state in ("lstm_init_h", "lstm_init_c"):
                yield state, (self.rnn_layers * directions, self.hidden_size)
        if self.use_crf:
            yield "crf.transitions", (tags, tags)
        elif self.loss_weights:
            yield "loss_function.weight", (tags,)


def _rnn(
    prefix: str, kind: str, inputs: int, hidden: int, layers: int, directions: int
) -> Iterator[tuple[str, Shape]]:
    """Names and shapes of the parameters of an RNN of torch."""
    rows = _GATES[kind] * hidden
    for layer in range(layers):
        for end in ("", "_reverse")[:directions]:
            yield f"{prefix}.weight_ih_l{layer}{end}", (rows, inputs if not layer else directions * hidden)
            yield f"{prefix}.weight_hh_l{layer}{end}", (rows, hidden)
            yield f"{prefix}.bias_ih_l{layer}{end}", (rows,)
            yield f"{prefix}.bias_hh_l{layer}{end}", (rows,)


def _linear(prefix: str, inputs: int, outputs: int) -> Iterator[tuple[str, Shape]]:
    yield f"{prefix}.weight", (outputs, inputs)
    yield f"{prefix}.bias", (outputs,)


def _layer_norm(width: int) -> Iterator[tuple[str, Shape]]:
    yield "layer_norm.weight", (width,)
    yield "layer_norm.bias", (width,)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
