"""Tables of a recipe that describe how the models of stage one are trained."""

from typing import Annotated, Literal

from msgspec import Meta

from backattn.recipe.constraints import Large, Medium, Natural, Positive, PositiveNumber, Share, Table, Width
from backattn.recipe.data_files import DictionaryFile, EnglishFile, ParallelFile
from backattn.recipe.embeddings import CharLmTraining

# One rate for each epoch.
LearningRates = Annotated[tuple[PositiveNumber, ...], Meta(min_length=1)]


class BackTranslation(Table, frozen=True, kw_only=True):
    """Back-translation (Sennrich, Haddow and Birch 2016, arXiv:1511.06709): English text is translated into
    the foreign language, which gives more training pairs.

    The translator out of English is trained on the same pairs, with the same settings except those below.

    :param parallel: sentence pairs of any languages, of which the English sides are taken; with
        ``english = 0`` plain text, one sentence a line.
    :param columns: column files, such as those of the English tagger, of which the tokens of the training
        sentences are taken.
    :param learning_rates: learning rates of the translator out of English, one for each epoch.
    :param average: number of its last epochs whose weights are averaged.
    """

    parallel: tuple[ParallelFile, ...] = ()
    columns: tuple[EnglishFile, ...] = ()
    learning_rates: LearningRates = (0.5, 0.5, 0.35, 0.15)
    average: Positive = 2


class TranslatorTraining(Table, frozen=True, kw_only=True):
    """Training of a translator by ``backattn translator train``, with fairseq.

    :param parallel: files of training pairs.
    :param valid: held-out pairs for the perplexity; they are removed from the training pairs.
    :param test: held-out pairs for BLEU; they are removed from the training pairs.
    :param dictionaries: dictionaries whose entries are further training pairs.
    :param back_translation: English text to translate back into further training pairs.
    :param architecture: fairseq's name of the architecture (``fconv_iwslt_de_en``,
        ``transformer_iwslt_de_en``).
    :param pieces: size of the joint sentencepiece vocabulary.
    :param parent: folder of a translator into English, of the same architecture, whose weights initialise
        this one; empty for random weights.
    :param learning_rates: learning rates, one for each epoch; their number is the number of epochs.
    :param optimizer: fairseq's name of the optimizer.
    :param clip_norm: largest norm of the gradient; a larger one is scaled down.
    :param dropout: dropout rate.
    :param label_smoothing: probability that label smoothing spreads over the vocabulary.
    :param max_tokens: target pieces of a batch.
    :param max_pieces: training pairs of more pieces are left out, and counted.
    :param average: number of the last epochs whose weights are averaged into the result.
    :param keep: also keep the weights of each epoch as a translator with its own BLEU, in
        ``<checkpoint>.epochs/1``, ``2``, ... This does not change the results.
    :param precision: number format of a training step; ``bfloat16`` is autocast where the device has it,
        elsewhere float32 is used.
    :param seed: seed of the random numbers.
    :param test_limit: largest number of test sentences to translate for BLEU; 0 for all.
    """

    parallel: Annotated[tuple[ParallelFile, ...], Meta(min_length=1)]
    valid: ParallelFile
    test: ParallelFile
    dictionaries: tuple[DictionaryFile, ...] = ()
    back_translation: BackTranslation | None = None
    architecture: str = "fconv_iwslt_de_en"
    pieces: Large = 4000
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

    :param checkpoint: folder of the models, outside the folder of the tagger.
    :param training: training of the models by `backattn english train`, before the tagger, on the training
        sentences of the tagger and on these files; left out where the models exist already.
    """

    checkpoint: str
    training: CharLmTraining | None = None


class EnglishTraining(Table, frozen=True, kw_only=True):
    """Training of the English tagger by ``backattn english train``, with flair.

    :param files: column files of English sentences with tags.
    :param charlm: character language models whose states the tagger reads besides words and characters; they
        are frozen.
    :param word_dimensions: width of the word embeddings.
    :param character_dimensions: width of character embeddings, and of one direction of the character LSTM.
    :param min_count: words that occur less often in the training sentences are treated as unknown.
    :param hidden: number of LSTM states of one direction; d, the width of R, is twice that.
    :param dropout: dropout rate.
    :param optimizer: name of the optimizer.
    :param learning_rate: learning rate of the first epoch; it falls linearly to a tenth in the last one.
    :param batch: sentences of a batch.
    :param epochs: number of epochs; the one with the best dev F1 is kept, of equally good ones the last.
    :param seed: seed of the random numbers.
    """

    files: Annotated[tuple[EnglishFile, ...], Meta(min_length=1)]
    charlm: EnglishCharLm | None = None
    word_dimensions: Width = 100
    character_dimensions: Width = 25
    min_count: Positive = 2
    hidden: Width = 256
    dropout: Share = 0.1
    optimizer: Literal["sgd", "adam"] = "adam"
    learning_rate: PositiveNumber = 0.002
    batch: Medium = 32
    epochs: Medium = 8
    seed: Natural = 1
