"""The recipe's tables of trainings: how the models of stage one are made where none are at hand."""

from dataclasses import dataclass
from typing import Literal

from backattn.recipe.data_files import DictionaryFile, EnglishFile, ParallelFile
from backattn.recipe.embeddings import CharLmTraining


@dataclass(frozen=True, kw_only=True)
class BackTranslation:
    """English text that is translated back into the foreign language, to be more pairs whose English is real
    (Sennrich, Haddow and Birch 2016, arXiv:1511.06709).

    Who translates it learns from the very pairs that the translator does, with all of its settings but these.

    :param parallel: files of any pair of languages, of which the English sides are taken where both sides are
        there; with ``english = 0`` plain text, a sentence a line.
    :param columns: column files, of which the tokens of training sentences are: those of the English tagger.
    :param learning_rates, average: of the training in the other direction.
    """

    parallel: tuple[ParallelFile, ...] = ()
    columns: tuple[EnglishFile, ...] = ()
    learning_rates: tuple[float, ...] = (0.5, 0.5, 0.35, 0.15)
    average: int = 2


@dataclass(frozen=True, kw_only=True)
class TranslatorTraining:
    """How ``backattn translator train`` makes the checkpoint.

    :param dictionaries: more pairs, of words and names, beside those of ``parallel``.
    :param back_translation: English text for more pairs.
    :param architecture: fairseq's name of the model (``fconv_iwslt_de_en``, ``transformer_iwslt_de_en``).
    :param pieces: size of the joint sentencepiece vocabulary.
    :param parent: folder of a translator into English, of the same architecture, whose weights the training
        begins with; empty to begin with random ones.
    :param learning_rates: one for each epoch; their number is the number of epochs.
    :param max_tokens: target pieces of a batch.
    :param max_pieces: longer training pairs are left out, and counted.
    :param average: how many of the last epochs' checkpoints are averaged into the result.
    :param keep: every epoch's weights are kept as well, each as a translator of its own with its BLEU:
        ``<checkpoint>.epochs/3`` beside ``<checkpoint>``. It does not change the numbers.
    :param precision: arithmetic of the training step; ``bfloat16`` is autocast, on devices that know it;
        others take float32.
    :param valid, test: held-out pairs for the perplexity and for BLEU; they are taken out of ``parallel``.
    :param test_limit: translate only so many test sentences for BLEU; 0 for all.
    """

    parallel: tuple[ParallelFile, ...]
    valid: ParallelFile
    test: ParallelFile
    dictionaries: tuple[DictionaryFile, ...] = ()
    back_translation: BackTranslation | None = None
    architecture: str = "fconv_iwslt_de_en"
    pieces: int = 4000
    parent: str = ""
    learning_rates: tuple[float, ...] = (0.5, 0.5, 0.5, 0.5, 0.35, 0.2, 0.1)
    optimizer: Literal["nag", "adam"] = "nag"
    clip_norm: float = 0.1
    dropout: float = 0.1
    label_smoothing: float = 0.1
    max_tokens: int = 3500
    max_pieces: int = 175
    average: int = 3
    keep: bool = False
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    seed: int = 1
    test_limit: int = 500


@dataclass(frozen=True, kw_only=True)
class EnglishCharLm:
    """Character language models of English.

    :param checkpoint: their folder, which lies outside of the tagger's.
    :param training: how `backattn english train` makes them first, of the tagger's own training sentences and
        the files that are named there; left out where they are there already.
    """

    checkpoint: str
    training: CharLmTraining | None = None


@dataclass(frozen=True, kw_only=True)
class EnglishTraining:
    """How ``backattn english train`` makes the tagger with flair's own trainer.

    :param charlm: character language models whose states it reads beside words and characters; they stay as
        they are.
    """

    files: tuple[EnglishFile, ...]
    charlm: EnglishCharLm | None = None
    word_dimensions: int = 100
    character_dimensions: int = 25
    min_count: int = 2
    hidden: int = 256
    dropout: float = 0.1
    optimizer: Literal["sgd", "adam"] = "adam"
    learning_rate: float = 0.002
    batch: int = 32
    epochs: int = 8
    seed: int = 1
