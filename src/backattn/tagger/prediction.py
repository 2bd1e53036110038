"""Load a trained tagger and tag sentences with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from backattn.common.errors import ModelError
from backattn.common.safe_text import named_error_text, quoted
from backattn.corpus.spans import Span, predicted_spans
from backattn.corpus.tags import OUTSIDE, is_type
from backattn.tagger.checkpoint_io import read_tensors
from backattn.tagger.dataset import Encoded, encode, prediction_order
from backattn.tagger.frozen_features import Sources, StoredFeatures, make_sources
from backattn.tagger.network import Fusion, NetworkShape, Tagger
from backattn.tagger.run import WITH_STORE, Run, RunFolder, read_json, read_run
from backattn.tagger.vocabulary import TaggerVocabulary

_PREFIXES = ("B-", "I-", "E-", "S-")


@dataclass(frozen=True, eq=False)
class TaggerModel:
    """A finished run, ready to tag."""

    run: Run
    network: Tagger
    vocabulary: TaggerVocabulary
    shape: NetworkShape

    @property
    def needs_transfer(self) -> bool:
        """Whether :func:`predict` needs transfer vectors."""
        return self.run.inputs in WITH_STORE

    @property
    def embeddings(self) -> tuple[str, ...]:
        """Names of the frozen features that :func:`predict` needs."""
        return tuple(self.shape.embeddings)


class ScoredSpan(NamedTuple):
    """An entity and the marginal probability, from 0 to 1, of exactly this span with this type."""

    span: Span
    score: float


@dataclass(frozen=True)
class Prediction:
    """The predicted BIOES tags of a sentence and their entities, in order."""

    tags: tuple[str, ...]
    entities: tuple[ScoredSpan, ...] = ()


def load_run(folder: Path, device: str = "cpu") -> TaggerModel:
    """Load the best epoch of a finished run.

    :raises MissingError: there is no finished run, or a file of it is missing.
    :raises ModelError: a file is damaged or does not fit the others.
    """
    run, files = read_run(folder), RunFolder(folder)
    weights, about = read_tensors(files.weights)
    try:
        vocabulary = TaggerVocabulary.from_json(read_json(files.vocabulary))
        found = about["shape"]
        shape = NetworkShape(
            **{**found, "tags": tuple(found["tags"]), "embeddings": dict(found["embeddings"])}
        )
        _check_fit(run, shape, vocabulary, weights)
        network = Tagger(shape)
        network.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ModelError(
            f"{folder}: its files do not fit together ({named_error_text(error)}); train again"
        ) from None
    return TaggerModel(run, network.to(device).eval(), vocabulary, shape)


def _check_fit(
    run: Run, shape: NetworkShape, vocabulary: TaggerVocabulary, weights: Mapping[str, Tensor]
) -> None:
    """Check that the files of a run agree, before a network of that shape takes memory.

    :raises ValueError: they do not.
    """
    # The CRF's tables hold all pairs of tags: the file must hold a weight for each before they are made.
    pairs = tuple(weights["crf.chain.transitions"].shape)
    if pairs != (len(shape.tags), len(shape.tags)) or shape.tags != vocabulary.tags:
        raise ValueError(f"{pairs} transitions, {len(shape.tags)} and {len(vocabulary.tags)} tags")
    if not all(tag == OUTSIDE or (tag[:2] in _PREFIXES and is_type(tag[2:])) for tag in shape.tags):
        raise ValueError("a tag is not of BIOES")  # a line feed or a tab in it would break the output
    # Without the full set of tags, some sentences have no legal path, and entities no probability.
    full = {OUTSIDE, *(prefix + tag[2:] for tag in shape.tags if tag != OUTSIDE for prefix in _PREFIXES)}
    if sorted(full) != sorted(shape.tags):
        raise ValueError(f"{len(shape.tags)} tags, expected O and the four of each type, once")
    if not all(isinstance(text, str) for part in vocabulary.to_json().values() for text in part):
        raise ValueError("the vocabulary is not of texts")
    if shape.words not in (0, vocabulary.n_words) or shape.alphabet != vocabulary.n_characters:
        raise ValueError(f"{shape.words} words, {vocabulary.n_words} in the vocabulary")
    inputs = run.inputs
    if bool(shape.words) != (inputs != "transfer") or bool(shape.transfer) != (inputs != "words"):
        raise ValueError(f"inputs {inputs}, but {shape.words} words and transfer vectors of {shape.transfer}")
    if shape.fusion not in (get_args(Fusion) if shape.words else ("output",)):
        raise ValueError(f"fusion {quoted(shape.fusion)}")
    if set(shape.embeddings) != set(run.facts.embeddings):
        raise ValueError(f"embeddings {quoted(shape.embeddings)}, but {quoted(run.facts.embeddings)}")
    with _NoInitialisation(), torch.device("meta"):  # shapes alone, no memory
        expected = Tagger(shape).state_dict()
    found = {name: tensor.shape for name, tensor in weights.items()}
    if found != {name: tensor.shape for name, tensor in expected.items()}:
        raise ValueError("the weights are not of the network's shape")


class _NoInitialisation(TorchFunctionMode):
    """Skips ``torch.nn.init``: meta tensors have no values, and to draw one, torch would import its compiler,
    which takes seconds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return None
        return func(*args, **(kwargs or {}))


def predict(
    model: TaggerModel,
    sentences: Sequence[tuple[str, ...]],
    transfer: StoredFeatures | None = None,
    embeddings: Mapping[str, StoredFeatures] = MappingProxyType({}),
) -> list[tuple[str, ...]]:
    """Tag sentences of at least one token, in the given order.

    :param transfer: the transfer vectors of these sentences, if the run reads them.
    :param embeddings: the frozen features that the run reads, by name.
    :raises ModelError: needed vectors are missing, or have another width.
    :raises StaleError: a sentence has no vectors.
    """
    sources = _sources(model, transfer, embeddings)
    return decode(model.network, model.vocabulary, encode(sentences, model.vocabulary), sources)


def predict_scored(
    model: TaggerModel,
    sentences: Sequence[tuple[str, ...]],
    transfer: StoredFeatures | None = None,
    embeddings: Mapping[str, StoredFeatures] = MappingProxyType({}),
) -> list[Prediction]:
    """Tag sentences as :func:`predict`; also return the entities with their probabilities under the CRF."""
    sources, vocabulary = _sources(model, transfer, embeddings), model.vocabulary
    encoded = encode(sentences, vocabulary)
    crf, device = model.network.crf, model.network.linear.weight.device
    found: list[Prediction] = [Prediction(())] * len(encoded)
    with torch.inference_mode():
        for indices in prediction_order(encoded.lengths):
            batch = encoded.batch(indices, sources).to(device)
            emissions = model.network.emissions(batch)
            numbers = crf.decode(emissions, batch.lengths)
            tags = [
                tuple(vocabulary.tags[number] for number in row[:length])
                for row, length in zip(numbers.tolist(), batch.lengths.tolist(), strict=True)
            ]
            spans = [(row, span) for row, own in enumerate(tags) for span in predicted_spans(own)]
            places = torch.tensor([(row, s.start, s.end - 1) for row, s in spans], dtype=torch.int64)
            scores = crf.span_probabilities(
                emissions, batch.lengths, numbers, places.reshape(-1, 3).to(device)
            )
            entities: list[list[ScoredSpan]] = [[] for _ in tags]
            for (row, span), score in zip(spans, scores.tolist(), strict=True):
                entities[row].append(ScoredSpan(span, score))
            for index, own, scored in zip(indices, tags, entities, strict=True):
                found[index] = Prediction(own, tuple(scored))
    return found


def _sources(
    model: TaggerModel, transfer: StoredFeatures | None, embeddings: Mapping[str, StoredFeatures]
) -> Sources:
    if model.needs_transfer:
        _check_given(model, "transfer", transfer, model.shape.transfer)
    for name, width in model.shape.embeddings.items():
        _check_given(model, name, embeddings.get(name), width)
    frozen = {name: embeddings[name] for name in model.embeddings}
    return make_sources(model.run.inputs, transfer, frozen, model.shape.transfer)


def _check_given(model: TaggerModel, name: str, features: StoredFeatures | None, width: int) -> None:
    if features is None or features.width != width:
        found = "none were given" if features is None else f"found vectors of width {features.width}"
        raise ModelError(f"{model.run.folder}: this tagger reads {name} vectors of width {width}; {found}")


def decode(
    network: Tagger, vocabulary: TaggerVocabulary, encoded: Encoded, sources: Sources
) -> list[tuple[str, ...]]:
    """Decode the best legal tags of each sentence, in order. Leaves the network in evaluation mode."""
    network.eval()
    device = network.linear.weight.device
    found: list[tuple[str, ...]] = [()] * len(encoded)
    with torch.inference_mode():
        for indices in prediction_order(encoded.lengths):
            batch = encoded.batch(indices, sources)
            numbers = network.decode(batch.to(device)).tolist()
            for index, row, length in zip(indices, numbers, batch.lengths.tolist(), strict=True):
                found[index] = tuple(vocabulary.tags[number] for number in row[:length])
    return found
