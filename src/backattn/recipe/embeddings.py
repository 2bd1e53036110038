"""Tables of a recipe that describe frozen embeddings, and the training of those that can be trained here."""

from typing import Literal

from backattn.recipe.constraints import (
    Digest,
    Large,
    Medium,
    Natural,
    NgramLength,
    Positive,
    PositiveNumber,
    Share,
    Small,
    Table,
    Width,
    one_of,
)
from backattn.recipe.data_files import UNKNOWN, TextFile


class FastTextTraining(Table, frozen=True, kw_only=True):
    """Training of fastText vectors (Bojanowski et al. 2017, skip-grams) by ``backattn vectors train``, with
    gensim.

    The training sentences of the corpus, without their labels, and the foreign sides of
    ``translator.training.parallel`` are part of the text.

    :param files: more text of the source language; it is tokenised like the corpus.
    :param dimensions: width of the vectors.
    :param epochs: number of epochs.
    :param min_count: words that occur less often in the text have no vector of their own, only those of
        their n-grams.
    :param window: largest distance of two words of a skip-gram.
    :param negatives: number of negative samples (random words) for each word that is predicted.
    :param shortest: number of characters of the shortest n-gram of a word; the marks of its two ends count.
    :param longest: number of characters of the longest n-gram.
    :param buckets: number of vectors that the n-grams share by hash; each takes 4 * dimensions bytes.
    :param learning_rate: learning rate at the beginning; it falls linearly towards 0.
    :param seed: seed of the random numbers.
    """

    files: tuple[TextFile, ...] = ()
    dimensions: Width = 300
    epochs: Medium = 5
    min_count: Positive = 2
    window: Small = 5
    negatives: Small = 5
    shortest: NgramLength = 3
    longest: NgramLength = 6
    buckets: Large = 200_000
    learning_rate: PositiveNumber = 0.05
    seed: Natural = 1

    def __post_init__(self) -> None:
        if self.shortest > self.longest:
            raise ValueError(f"longest: expected at least shortest, {self.shortest}; found {self.longest}")


class FastTextRecipe(Table, frozen=True, kw_only=True):
    """fastText vectors of the source words.

    :param vectors: a file in fastText's text or binary format (``.vec``, ``.bin``), uncompressed, below
        ``data/``; empty when ``checkpoint`` is given. A word that a binary file does not have gets the mean
        of its n-grams.
    :param checkpoint: folder of vectors that `backattn vectors train` makes (``vectors.bin``); empty when
        ``vectors`` is given.
    :param licence: licence of the vectors, as ``corpus.licence``.
    """

    vectors: str = ""
    checkpoint: str = ""
    licence: str = UNKNOWN
    training: FastTextTraining | None = None

    def __post_init__(self) -> None:
        one_of(self, "vectors", "checkpoint")
        if self.training and not self.checkpoint:
            raise ValueError(
                "training: makes the vectors of checkpoint, but checkpoint is empty; name the folder "
                "in place of vectors, or remove training"
            )


class CharLmTraining(Table, frozen=True, kw_only=True):
    """Training of both directions of a character language model by ``backattn charlm train``, with flair.

    The training sentences of the corpus, without their labels, are part of the text.

    :param files: more text, tokenised in the same way as the corpus.
    :param hidden: number of LSTM states of one direction.
    :param dropout: dropout rate of flair's language model.
    :param sequence: characters of one step of truncated backpropagation through time.
    :param batch: sequences of a batch.
    :param learning_rate: learning rate of SGD at the beginning.
    :param epochs: number of epochs.
    :param seed: seed of the random numbers.
    """

    files: tuple[TextFile, ...] = ()
    hidden: Width = 512
    dropout: Share = 0.1
    sequence: Medium = 100
    batch: Medium = 16
    learning_rate: PositiveNumber = 20.0
    epochs: Medium = 4
    seed: Natural = 1


class CharLmRecipe(Table, frozen=True, kw_only=True):
    """Contextual string embeddings (Akbik et al. 2018): flair's character language models, both directions.

    :param checkpoint: folder with ``forward.safetensors`` and ``backward.safetensors``; empty when ``hub``
        is given.
    :param hub: flair's name without the direction (``de`` for ``de-forward``, ``de-backward``); empty when
        ``checkpoint`` is given.
    :param sha256: sha256 of the two files of the hub, forward first; empty for any, which needs ``--trust``
        or ``--trust-sha256``.
    :param licence: licence of the models, as ``corpus.licence``.
    :param batch_tokens: source tokens of a batch; does not change the results.
    """

    checkpoint: str = ""
    hub: str = ""
    sha256: tuple[Digest, ...] = ()
    licence: str = UNKNOWN
    batch_tokens: Positive = 4000
    training: CharLmTraining | None = None

    def __post_init__(self) -> None:
        one_of(self, "checkpoint", "hub")
        if self.sha256 and not self.hub:
            raise ValueError("sha256: pins files of a hub, but hub is empty; remove sha256, or name a hub")
        if len(self.sha256) not in (0, 2):
            raise ValueError(
                f"sha256: expected two digests, forward first, or none; found {len(self.sha256)}"
            )


class BertRecipe(Table, frozen=True, kw_only=True):
    """A frozen BERT-like encoder of transformers.

    :param checkpoint: folder of a transformers model (safetensors); empty when ``hub`` is given.
    :param hub: name on the hub (``bert-base-multilingual-cased``); empty when ``checkpoint`` is given.
    :param revision: commit, tag or branch on the hub; empty for the newest that was fetched. Stores record
        its commit.
    :param licence: licence of the model, as ``corpus.licence``.
    :param layers: states of the last layer, or the mean over the last four layers.
    :param pieces: vector of a token: that of its first subword piece, or the mean over its pieces.
    :param window: largest number of pieces in one pass, [CLS] and [SEP] included; longer sentences are read
        in windows that overlap by half. 0 for the limit of the model.
    :param batch_tokens: pieces of a batch, padding included; does not change the results. The default fits
        the caches of a CPU (4000 take half as long again); a GPU takes more.
    """

    checkpoint: str = ""
    hub: str = ""
    revision: str = ""
    licence: str = UNKNOWN
    layers: Literal["last", "mean-4"] = "mean-4"
    pieces: Literal["first", "mean"] = "first"
    window: Natural = 0
    batch_tokens: Positive = 500

    def __post_init__(self) -> None:
        one_of(self, "checkpoint", "hub")
        if self.revision and not self.hub:
            raise ValueError("revision: a commit of a hub, but hub is empty; remove revision, or name a hub")


EmbeddingName = Literal["fasttext", "charlm", "bert"]


class EmbeddingsRecipe(Table, frozen=True, kw_only=True):
    """Frozen features of the source words, each kind in a store of its own; the tagger reads those that
    ``tagger.embeddings`` names.

    :param dtype: number format of the stores.
    """

    fasttext: FastTextRecipe | None = None
    charlm: CharLmRecipe | None = None
    bert: BertRecipe | None = None
    dtype: Literal["float16", "float32"] = "float16"
