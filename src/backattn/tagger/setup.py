"""What a training stands on: the sample, its vocabulary, the network and the scale of T."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from backattn.corpus import Corpus, Sentence
from backattn.errors import RecipeError
from backattn.recipe import TaggerRecipe, data_path
from backattn.tagger.dataset import Encoded, RandomRows, RowSource, StoredRows, TransferVectors, encode
from backattn.tagger.network import NetworkShape, Standardise, Tagger
from backattn.tagger.run import Inputs
from backattn.tagger.vocabulary import Vocabulary, build_vocabulary, singletons, spellings
from backattn.tagger.word_vectors import read_word_vectors

# Width of the random vectors when no store says another: flair's default tagger has 2 x 256.
RANDOM_WIDTH = 512
# Deviation that T is brought to before it stands beside r^s, whose states begin about as small. Measured on
# CoNLL-2002 Spanish (1,000 sentences, 20 epochs, made-up T that knows three tags in four; dev F1 0.65
# without T): 1.0 -> 0.80, unscaled (0.5) -> 0.86, 0.3 -> 0.87, 0.05 to 0.15 -> 0.88; and with random
# vectors 1.0 -> 0.46, 0.3 -> 0.59, 0.1 and 0.05 -> 0.65: at 0.1 noise does no harm.
TRANSFER_DEVIATION = 0.1


@dataclass(frozen=True, eq=False)
class Setup:
    """All that does not change during a training, and the network that does.

    :param corpus: with the training sample in place of all training sentences.
    :param source: what stands beside r^s; None for words alone.
    """

    corpus: Corpus
    vocabulary: Vocabulary
    shape: NetworkShape
    network: Tagger
    source: RowSource | None
    train: Encoded
    dev: Encoded
    device: torch.device

    def encode(self, sentences: Sequence[Sentence]) -> Encoded:
        """Sentences by number, without their gold tags."""
        return encode([sentence.tokens for sentence in sentences], self.vocabulary)


def prepare(
    corpus: Corpus,
    vectors: TransferVectors | None,
    recipe: TaggerRecipe,
    inputs: Inputs,
    *,
    reduced: bool,
    device: str,
) -> Setup:
    """Take the sample, number it and make the network, with torch's generator as it stands.

    :raises ValueError: the inputs need vectors and there are none.
    """
    if recipe.characters == "lstm" and recipe.character_dimensions % 2:
        raise RecipeError(
            f"tagger.character_dimensions: {recipe.character_dimensions} for an lstm in two directions; "
            "expected an even number"
        )
    corpus = replace(corpus, train=nested_sample(corpus.train, sample_size(corpus, recipe)))
    source = _source(inputs, vectors)
    given = _given_vectors(corpus, recipe) if inputs != "transfer" else None
    vocabulary = build_vocabulary(corpus.train, given[0] if given else None)
    shape = _shape(recipe, vocabulary, inputs, source, given[1].shape[1] if given else recipe.word_dimensions)
    network = Tagger(shape, reduced=reduced)
    tokens = [sentence.tokens for sentence in corpus.train]
    _fill(network, vocabulary, corpus, given[1] if given else None)
    if network.standardise is not None and source is not None:
        fit_standardise(network.standardise, source, tokens)
    return Setup(
        corpus, vocabulary, shape, network.to(device), source,
        train=encode(tokens, vocabulary, [sentence.tags for sentence in corpus.train]),
        dev=encode([sentence.tokens for sentence in corpus.dev], vocabulary),
        device=torch.device(device),
    )  # fmt: skip


def sample_size(corpus: Corpus, recipe: TaggerRecipe) -> int:
    """How many training sentences the recipe takes.

    :raises RecipeError: more than there are.
    """
    if recipe.sentences > len(corpus.train):
        raise RecipeError(
            f"tagger.sentences: {recipe.sentences} asked for, but the training file has {len(corpus.train)}; "
            "0 takes all"
        )
    return recipe.sentences or len(corpus.train)


def transfer_name(inputs: Inputs, vectors: TransferVectors | None) -> str | None:
    """What identifies the numbers beside r^s: the store, or the width of random vectors; None for words."""
    if inputs == "random":
        return f"random-{_random_width(vectors)}"
    return None if inputs == "words" or vectors is None else vectors.identity


def nested_sample(sentences: Sequence[Sentence], size: int) -> tuple[Sentence, ...]:
    """A sample that is part of every larger one: the sentences of the smallest keys, in file order."""
    by_key = sorted(range(len(sentences)), key=lambda i: (sentences[i].key, i))
    return tuple(sentences[i] for i in sorted(by_key[:size]))


def fit_standardise(module: Standardise, source: RowSource, sentences: Sequence[tuple[str, ...]]) -> None:
    """Set the mean of each direction and the one scale from the training sample, read one by one."""
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
    # Rows that are all alike say nothing at any scale.
    module.scale.fill_(TRANSFER_DEVIATION / variance**0.5 if variance > 0 else 1.0)


def _source(inputs: Inputs, vectors: TransferVectors | None) -> RowSource | None:
    if inputs == "words":
        return None
    if inputs == "random":
        return RandomRows(_random_width(vectors))
    if vectors is None:
        raise ValueError(f"inputs {inputs} need transfer vectors")
    return StoredRows(vectors)


def _random_width(vectors: TransferVectors | None) -> int:
    return RANDOM_WIDTH if vectors is None else vectors.width


def _given_vectors(
    corpus: Corpus, recipe: TaggerRecipe
) -> tuple[tuple[str, ...], NDArray[np.float32]] | None:
    """The recipe's word vectors for all words of the corpus; dev and test words gain by them too."""
    if not recipe.embeddings:
        return None
    tokens = {token for _, sentences in corpus.splits() for s in sentences for token in s.tokens}
    wanted = {form for token in tokens for form in spellings(token)}
    return read_word_vectors(data_path(recipe.embeddings), wanted)


def _shape(
    recipe: TaggerRecipe,
    vocabulary: Vocabulary,
    inputs: Inputs,
    source: RowSource | None,
    word_dimensions: int,
) -> NetworkShape:
    return NetworkShape(
        words=0 if inputs == "transfer" else vocabulary.n_words,
        word_dimensions=word_dimensions,
        frozen_words=bool(recipe.embeddings),
        alphabet=vocabulary.n_characters,
        characters=recipe.characters,
        character_dimensions=recipe.character_dimensions,
        hidden=recipe.hidden,
        transfer=source.width if source is not None else 0,
        tags=vocabulary.tags,
        word_dropout=recipe.word_dropout,
        dropout=recipe.dropout,
    )


def _fill(network: Tagger, vocabulary: Vocabulary, corpus: Corpus, given: NDArray[np.float32] | None) -> None:
    """Give the word encoder its vectors, or the words that teach the unknown one."""
    if network.words is None:
        return
    if given is None:
        network.words.rare.copy_(torch.from_numpy(singletons(vocabulary, corpus.train)))
        return
    weight = network.words.embedding.weight.data
    weight[0] = 0  # a word without a vector says nothing
    weight[1:] = torch.from_numpy(given)
