"""Prepare a training: the sample, its vocabulary, the network and the scale of frozen features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from backattn.common.device import takes_bfloat16
from backattn.common.errors import RecipeError
from backattn.corpus import Corpus, Sentence, nested_sample
from backattn.recipe import TaggerRecipe
from backattn.tagger.dataset import Encoded, encode
from backattn.tagger.frozen_features import Inputs, RowSource, Sources, make_sources
from backattn.tagger.network import TRANSFER, NetworkShape, Standardise, Tagger
from backattn.tagger.run_spec import RunSpec
from backattn.tagger.vocabulary import TaggerVocabulary, build_vocabulary, singletons

# Standard deviation of T beside r^s, whose states are about as small at first. Measured on
# CoNLL-2002 Spanish (1,000 sentences, 20 epochs, made-up T that knows three tags in four; dev F1 0.65
# without T): 1.0 -> 0.80, unscaled (0.5) -> 0.86, 0.3 -> 0.87, 0.05 to 0.15 -> 0.88; and with random
# vectors 1.0 -> 0.46, 0.3 -> 0.59, 0.1 and 0.05 -> 0.65: at 0.1 noise does no harm.
TRANSFER_DEVIATION = 0.1
# The same for frozen features, and T, beside the word vectors. Measured on CoNLL-2002 Spanish (600 sentences,
# 15 epochs, dev F1 0.54 without): states of a translator's Spanish encoder, whose own deviation is 0.125: raw
# 0.59, 0.1 -> 0.58, 0.3 -> 0.61, 1.0 -> 0.62, raw times ten 0.63: the scale matters, and that of a model is
# arbitrary. Made-up T (as above): 0.1 -> 0.89, 0.3 -> 0.89 and in half of the epochs, 1.0 -> 0.89. Random
# vectors: 0.1 -> 0.54, 0.3 -> 0.51, 1.0 -> 0.35: noise at that scale is learnt by heart.
FROZEN_DEVIATION = 0.3


@dataclass(frozen=True, eq=False)
class Setup:
    """Constants of a training, and its network.

    :param corpus: the corpus, with the training sample instead of all training sentences.
    :param sources: sources of the vectors that the network reads but does not train.
    """

    corpus: Corpus
    vocabulary: TaggerVocabulary
    shape: NetworkShape
    network: Tagger
    sources: Sources
    train: Encoded
    dev: Encoded
    device: torch.device

    def encode(self, sentences: Sequence[Sentence]) -> Encoded:
        """Encode sentences without their gold tags."""
        return encode([sentence.tokens for sentence in sentences], self.vocabulary)


def prepare(spec: RunSpec, *, device: str) -> Setup:
    """Encode the training sample and make the network, with torch's generator in its current state.

    :raises RecipeError: the recipe does not fit the corpus.
    :raises ValueError: the inputs need transfer vectors and there are none.
    """
    recipe = spec.tagger
    if recipe.characters == "lstm" and recipe.character_dimensions % 2:
        raise RecipeError(
            f"tagger.character_dimensions: {recipe.character_dimensions} for an lstm in two directions; "
            "expected an even number"
        )
    corpus = replace(spec.corpus, train=nested_sample(spec.corpus.train, spec.sentences))
    sources = make_sources(spec.inputs, spec.transfer, spec.frozen, spec.random_width)
    vocabulary = build_vocabulary(corpus.train)
    shape = _shape(recipe, vocabulary, spec.inputs, sources)
    network = Tagger(shape, reduced=takes_bfloat16(recipe.precision, device))
    tokens = [sentence.tokens for sentence in corpus.train]
    if network.words is not None:
        network.words.rare.copy_(torch.from_numpy(singletons(vocabulary, corpus.train)))
    if recipe.standardise:
        _standardise(network, sources, tokens)
    return Setup(
        corpus, vocabulary, shape, network.to(device), sources,
        train=encode(tokens, vocabulary, [sentence.tags for sentence in corpus.train]),
        dev=encode([sentence.tokens for sentence in corpus.dev], vocabulary),
        device=torch.device(device),
    )  # fmt: skip


def _standardise(network: Tagger, sources: Sources, tokens: Sequence[tuple[str, ...]]) -> None:
    """Fit the scale of T and of the frozen features; without it, they are read as they are."""
    given = dict(sources.embeddings)
    if sources.transfer is not None:
        given[TRANSFER] = sources.transfer
    for name, module in network.frozen.items():
        assert isinstance(module, Standardise)
        fit_standardise(module, given[name], tokens, FROZEN_DEVIATION)
    if network.standardise is not None:
        fit_standardise(network.standardise, given[TRANSFER], tokens, TRANSFER_DEVIATION)


def fit_standardise(
    module: Standardise, source: RowSource, sentences: Sequence[tuple[str, ...]], deviation: float
) -> None:
    """Set the mean of each dimension and the common scale from the training sentences, read one at a time.

    :param deviation: standard deviation of the result, over all dimensions.
    """
    count = 0
    # shape: (d,)
    total, squares = np.zeros(source.width), np.zeros(source.width)
    for tokens in sentences:
        rows = source.rows(tokens).astype(np.float32)
        count += len(rows)
        total += rows.sum(axis=0, dtype=np.float64)
        squares += np.square(rows).sum(axis=0, dtype=np.float64)
    mean = total / count
    variance = float((squares / count - mean**2).mean())
    module.mean.copy_(torch.from_numpy(mean))
    # Equal rows carry no information at any scale.
    module.scale.fill_(deviation / variance**0.5 if variance > 0 else 1.0)


def _shape(
    recipe: TaggerRecipe, vocabulary: TaggerVocabulary, inputs: Inputs, sources: Sources
) -> NetworkShape:
    return NetworkShape(
        words=0 if inputs == "transfer" else vocabulary.n_words,
        word_dimensions=recipe.word_dimensions,
        alphabet=vocabulary.n_characters,
        characters=recipe.characters,
        character_dimensions=recipe.character_dimensions,
        embeddings={name: source.width for name, source in sources.embeddings.items()},
        hidden=recipe.hidden,
        transfer=sources.transfer.width if sources.transfer is not None else 0,
        fusion=recipe.fusion,
        tags=vocabulary.tags,
        word_dropout=recipe.word_dropout,
        dropout=recipe.dropout,
    )
