"""Train fastText vectors with gensim, one epoch at a time; the only importer of gensim."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from gensim.models import FastText
from gensim.models.fasttext import save_facebook_model
from numpy.typing import NDArray
from safetensors import SafetensorError

from backattn.common.errors import ModelError
from backattn.recipe import FastTextTraining

# gensim warns of small corpora and of every epoch that begins where another ended.
logging.getLogger("gensim").setLevel(logging.ERROR)

# Frequent words are left out at random above this share of the text; gensim's default is ten times that of
# fastText.
_SAMPLE = 1e-4
_LAST_RATE = 1e-4  # the learning rate at the end, as a share of that at the beginning
# Most tokens of a sentence: gensim drops the rest, so longer sentences are cut.
_LONGEST_SENTENCE = 10_000


class Vectors:
    """fastText vectors in training: skip-grams with n-grams of characters.

    With one worker, the same text and settings give the same numbers, in one process or in several.

    :param sentences: the tokens of the text.
    :param workers: threads of gensim.
    """

    def __init__(self, sentences: Iterable[Sequence[str]], training: FastTextTraining, workers: int) -> None:
        self._training = training
        self._sentences = [
            sentence[begin : begin + _LONGEST_SENTENCE]
            for sentence in sentences
            for begin in range(0, len(sentence), _LONGEST_SENTENCE)
        ]
        self._model: Any = FastText(
            sg=1, negative=training.negatives, sample=_SAMPLE, vector_size=training.dimensions,
            window=training.window, min_count=training.min_count, min_n=training.shortest,
            max_n=training.longest, bucket=training.buckets, workers=workers, seed=_seed(training, 0),
        )  # fmt: skip
        self._model.build_vocab(corpus_iterable=self._sentences)

    @property
    def vocabulary(self) -> frozenset[str]:
        """The words with vectors of their own."""
        return frozenset(self._model.wv.key_to_index)

    def train_epoch(self, epoch: int) -> None:
        """Train one epoch, from 0; its random numbers depend on its number alone."""
        model, training = self._model, self._training
        model.random = np.random.RandomState(_seed(training, epoch + 1))
        model.train(
            corpus_iterable=self._sentences,
            total_examples=len(self._sentences),
            epochs=1,
            start_alpha=_rate(training, epoch),
            end_alpha=_rate(training, epoch + 1),
        )

    def dump(self) -> bytes:
        """All numbers that an epoch changes, as safetensors."""
        return safetensors.numpy.save(self._arrays())

    def restore(self, data: bytes, name: str) -> "Vectors":
        """Restore the numbers that :meth:`dump` has returned.

        :param name: of its file, for messages.
        :raises ModelError: it is not of a training of this text and these settings.
        """
        own = self._arrays()
        try:
            found: Mapping[str, NDArray[Any]] = safetensors.numpy.load(data)
        except (SafetensorError, ValueError, TypeError, KeyError) as error:
            raise ModelError(f"{name}: not the numbers of a training ({error})") from None
        kinds = [
            {key: (array.shape, array.dtype) for key, array in arrays.items()} for arrays in (found, own)
        ]
        if kinds[0] != kinds[1]:
            raise ModelError(f"{name}: holds the vectors of another text or of other settings")
        for key, array in own.items():
            array[:] = found[key]
        return self

    def write(self, path: Path) -> None:
        """Write the vectors in fastText's binary format; equal vectors give equal bytes.

        :raises ModelError: the training diverged.
        """
        if not all(np.isfinite(array).all() for array in self._arrays().values()):
            raise ModelError(
                f"{path}: the training diverged (a number is not finite); lower the learning_rate of "
                "embeddings.fasttext.training"
            )
        self._model.epochs = self._training.epochs
        save_facebook_model(self._model, str(path))

    def _arrays(self) -> dict[str, NDArray[np.float32]]:
        model = self._model
        return {
            "words": model.wv.vectors_vocab,
            "ngrams": model.wv.vectors_ngrams,
            "contexts": model.syn1neg,
        }


def _rate(training: FastTextTraining, epoch: int) -> float:
    return training.learning_rate * max(_LAST_RATE, 1 - epoch / training.epochs)


def _seed(training: FastTextTraining, epoch: int) -> int:
    return (training.seed * 1000 + epoch) % 2**32  # numpy takes no more
