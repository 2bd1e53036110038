"""A trained tagger -> tags for sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from backattn.errors import ModelError
from backattn.quoting import shortened
from backattn.tagger.dataset import (
    Encoded,
    RandomRows,
    RowSource,
    StoredRows,
    TransferVectors,
    encode,
    prediction_order,
)
from backattn.tagger.network import NetworkShape, Tagger
from backattn.tagger.run import Inputs, Run, RunFolder, read_json, read_run, read_tensors
from backattn.tagger.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class TaggerModel:
    """A finished run, ready to tag.

    :param width: d of the vectors that it needs; 0 when it reads words alone.
    """

    run: Run
    network: Tagger
    vocabulary: Vocabulary
    width: int

    @property
    def needs_transfer(self) -> bool:
        """Whether :func:`predict` must be given transfer vectors."""
        return self.run.inputs in ("words+transfer", "transfer")


def load_run(folder: Path, device: str = "cpu") -> TaggerModel:
    """Load the best epoch of a finished run.

    :raises MissingError: there is no finished run, or a file of it is missing.
    :raises ModelError: a file is damaged or does not fit the others.
    """
    run, files = read_run(folder), RunFolder(folder)
    weights, about = read_tensors(files.weights)
    try:
        vocabulary = Vocabulary.from_json(read_json(files.vocabulary))
        shape = NetworkShape(**{**about["shape"], "tags": tuple(about["shape"]["tags"])})
        _check_fit(run.inputs, shape, vocabulary, weights)
        network = Tagger(shape)
        network.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = shortened(f"{type(error).__name__}: {error}".split("\n")[0])
        raise ModelError(f"{folder}: its files do not fit together ({reason}); train again") from None
    return TaggerModel(run, network.to(device).eval(), vocabulary, shape.transfer)


def _check_fit(
    inputs: Inputs, shape: NetworkShape, vocabulary: Vocabulary, weights: Mapping[str, Tensor]
) -> None:
    """Compare what the files say of each other, before a network of that shape takes memory.

    :raises ValueError: they differ.
    """
    # The CRF looks at all pairs of tags: a file must hold a weight for each before we do.
    pairs = tuple(weights["crf.chain.transitions"].shape)
    if pairs != (len(shape.tags), len(shape.tags)) or shape.tags != vocabulary.tags:
        raise ValueError(f"{pairs} transitions, {len(shape.tags)} and {len(vocabulary.tags)} tags")
    if not all(isinstance(text, str) for part in vocabulary.to_json().values() for text in part):
        raise ValueError("the vocabulary is not of texts")
    if shape.words not in (0, vocabulary.n_words) or shape.alphabet != vocabulary.n_characters:
        raise ValueError(f"{shape.words} words, {vocabulary.n_words} in the vocabulary")
    if bool(shape.words) != (inputs != "transfer") or bool(shape.transfer) != (inputs != "words"):
        raise ValueError(f"inputs {inputs}, but {shape.words} words and transfer vectors of {shape.transfer}")
    with torch.device("meta"):  # shapes alone, no memory
        expected = Tagger(shape).state_dict()
    found = {name: tensor.shape for name, tensor in weights.items()}
    if found != {name: tensor.shape for name, tensor in expected.items()}:
        raise ValueError("the weights are not of the network's shape")


def predict(
    model: TaggerModel, sentences: Sequence[tuple[str, ...]], vectors: TransferVectors | None = None
) -> list[tuple[str, ...]]:
    """Tag sentences of at least one token; results come in the given order.

    :param vectors: the transfer vectors of these sentences, when the run reads them.
    :raises ModelError: vectors are needed and not given, or have another width.
    :raises StaleError: a sentence has no vectors.
    """
    if model.needs_transfer and (vectors is None or vectors.width != model.width):
        found = "none were given" if vectors is None else f"found vectors of width {vectors.width}"
        raise ModelError(
            f"{model.run.folder}: this tagger reads transfer vectors of width {model.width}; {found}"
        )
    source = row_source(model.run.inputs, vectors, model.width)
    return decode(model.network, model.vocabulary, encode(sentences, model.vocabulary), source)


def decode(
    network: Tagger, vocabulary: Vocabulary, encoded: Encoded, source: RowSource | None
) -> list[tuple[str, ...]]:
    """The best legal tags of every sentence, in order. Leaves the network in evaluation mode."""
    network.eval()
    device = network.linear.weight.device
    found: list[tuple[str, ...]] = [()] * len(encoded.forms)
    with torch.inference_mode():
        for indices in prediction_order(encoded.lengths):
            batch = encoded.batch(indices, source)
            numbers = network.decode(batch.to(device)).tolist()
            for index, row, length in zip(indices, numbers, batch.lengths.tolist(), strict=True):
                found[index] = tuple(vocabulary.tags[number] for number in row[:length])
    return found


def row_source(inputs: Inputs, vectors: TransferVectors | None, width: int) -> RowSource | None:
    """What stands beside r^s for these inputs."""
    if inputs == "words":
        return None
    if inputs == "random":
        return RandomRows(width)
    assert vectors is not None
    return StoredRows(vectors)
