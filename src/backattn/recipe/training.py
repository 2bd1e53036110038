"""The recipe's tables of trainings: how the models of stage one are made where none are at hand."""

from typing import Annotated, Literal

from msgspec import Meta

from backattn.recipe.constraints import Natural, Positive, PositiveNumber, Share, Table
from backattn.recipe.data_files import DictionaryFile, EnglishFile, ParallelFile
from backattn.recipe.embeddings import CharLmTraining

# One for each epoch.
LearningRates = Annotated[tuple[PositiveNumber, ...], Meta(min_length=1)]


class BackTranslation(Table, frozen=True, kw_only=True):
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
    learning_rates: LearningRates = (0.5, 0.5, 0.35, 0.15)
    average: Positive = 2


class TranslatorTraining(Table, frozen=True, kw_only=True):
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

    parallel: Annotated[tuple[ParallelFile, ...], Meta(min_length=1)]
    valid: ParallelFile
    test: ParallelFile
    dictionaries: tuple[DictionaryFile, ...] = ()
    back_translation: BackTranslation | None = None
    architecture: str = "fconv_iwslt_de_en"
    pieces: Positive = 4000
    parent: str = ""
    learning_rates: LearningRates = (0.5, 0.5, 0.5, 0.5, 0.35, 0.2, 0.1)
    optimizer: Literal["nag", "adam"] = "nag"
    clip_norm: PositiveNumber = 0.1
    dropout: Share = 0.1
    label_smoothing: Share = 0.1
    max_tokens: Positive = 3500
    max_pieces: Positive = 175
    average: Positive = 3
    keep: bool = False
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    seed: Natural = 1
    test_limit: Natural = 500


class EnglishCharLm(Table, frozen=True, kw_only=True):
    """Character language models of English.

    :param checkpoint: their folder, which lies outside of the tagger's.
    :param training: how `backattn english train` makes them first, of the tagger's own training sentences and
        the files that are named there; left out where they are there already.
    """

    checkpoint: str
    training: CharLmTraining | None = None


class EnglishTraining(Table, frozen=True, kw_only=True):
    """How ``backattn english train`` makes the tagger with flair's own trainer.

    :param charlm: character language models whose states it reads beside words and characters; they stay as
        they are.
    """

    files: Annotated[tuple[EnglishFile, ...], Meta(min_length=1)]
    charlm: EnglishCharLm | None = None
    word_dimensions: Positive = 100
    character_dimensions: Positive = 25
    min_count: Positive = 2
    hidden: Positive = 256
    dropout: Share = 0.1
    optimizer: Literal["sgd", "adam"] = "adam"
    learning_rate: PositiveNumber = 0.002
    batch: Positive = 32
    epochs: Positive = 8
    seed: Natural = 1
