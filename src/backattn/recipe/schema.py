"""What a recipe says: one immutable class for each table. Defaults live here and nowhere deeper.

The tables of files are in :mod:`~backattn.recipe.data_files`, those of frozen word features in
:mod:`~backattn.recipe.embeddings`, those of trainings in :mod:`~backattn.recipe.training`.
"""

import re
from collections.abc import Mapping
from typing import Literal

from backattn.common.errors import RecipeError
from backattn.common.safe_text import listed, quoted
from backattn.recipe.constraints import (
    Language,
    Natural,
    NaturalNumber,
    OptionalDigest,
    PaperModel,
    Percent,
    Positive,
    PositiveNumber,
    Share,
    Table,
    one_of,
)
from backattn.recipe.data_files import CorpusRecipe
from backattn.recipe.embeddings import EmbeddingName, EmbeddingsRecipe
from backattn.recipe.training import EnglishTraining, TranslatorTraining

EosPolicy = Literal["drop", "renormalise", "keep"]
Normalisation = Literal["none", "source"]
States = Literal["lstm", "tags"]
# How many training sentences are learnt from.
SampleSize = Positive | Literal["all"]
# A name becomes a folder below cache/.
NAME = re.compile(r"\w[\w.-]{0,99}")


class ModelTranslator(Table, frozen=True, kw_only=True, tag_field="kind"):
    """What the two kinds of translation models have in common: where one lies and how it is asked.

    :param checkpoint: folder of the model; empty when ``hub`` is given.
    :param hub: name of a public model; empty when ``checkpoint`` is given.
    :param source: language code of the source side.
    :param beam: width of the beam search.
    :param max_len_a, max_len_b: a translation has at most a * pieces + b pieces (tight: runaways).
    :param segment_pieces: a longer source is translated in segments; A becomes block-diagonal. Below the
        model's own limit it helps a translator that learnt from short sentences.
    :param batch_tokens: source pieces of a batch, padding included; does not change the numbers.
    :param layers: A is the mean over the translator's attention layers (eq. 3), or its last layer's alone.
    :param precision: arithmetic of the products with weights on a CPU (a GPU takes float16). ``bfloat16``
        gives other numbers, at an equal BLEU, and is faster on processors that know it; others take float32.
    """

    checkpoint: str = ""
    hub: str = ""
    source: Language
    beam: Positive = 4
    max_len_a: NaturalNumber = 1.3
    max_len_b: Positive = 10
    segment_pieces: Positive = 175
    batch_tokens: Positive = 4000
    layers: Literal["mean", "last"] = "mean"
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        one_of(self, "checkpoint", "hub")


class FairseqRecipe(ModelTranslator, frozen=True, kw_only=True, tag="fairseq"):
    """A translation model of fairseq: a public one, or one that `backattn translator train` makes.

    :param checkpoint: folder with ``checkpoint.pt``, ``dict.<source>.txt``, ``dict.en.txt`` and
        ``joint.model``; empty when ``hub`` is given.
    :param hub: one of fairseq's public models (``transformer.wmt19.de-en``); empty when ``checkpoint`` is
        given.
    """

    training: TranslatorTraining | None = None


class TransformersRecipe(ModelTranslator, frozen=True, kw_only=True, tag="transformers"):
    """A Marian model of transformers (opus-mt).

    :param checkpoint: folder of the model, as ``save_pretrained`` leaves it; empty when ``hub`` is given.
    :param hub: its name on the hub (``Helsinki-NLP/opus-mt-es-en``); empty when ``checkpoint`` is given.
    :param revision: commit on the hub; empty for the newest, which may change.
    :param source: language code of the source side; Chinese (``zh``) and others that are written so are given
        to the model without spaces.
    """

    revision: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.revision and not self.hub:
            raise ValueError("revision: a commit of the hub, and here is none; take it away")


class DictionaryRecipe(Table, frozen=True, kw_only=True, tag_field="kind", tag="dictionary"):
    """A dictionary that translates each word for itself, where no translator is good enough.

    :param dictionary: a file in the form of CC-CEDICT, below ``data/``.
    :param source: language code of the source side.
    """

    dictionary: str
    source: Language


class CopyRecipe(Table, frozen=True, kw_only=True, tag_field="kind", tag="copy"):
    """No translation, to learn what one is worth: the English tagger reads the source as it is, A is the
    identity.

    :param source: language code of the source side.
    """

    source: Language


TranslatorRecipe = FairseqRecipe | TransformersRecipe | DictionaryRecipe | CopyRecipe


class EnglishRecipe(Table, frozen=True, kw_only=True, tag_field="kind", tag="flair"):
    """The English tagger, a model of flair's architecture.

    :param checkpoint: a ``.safetensors`` file of ``english train`` or ``english convert``, or a flair file
        under any other name; empty when ``hub`` is given.
    :param hub: a flair hub name (``flair/ner-english``); empty when ``checkpoint`` is given.
    :param sha256: digest that the file must have; empty for none. flair files are pickles, which can run
        code: one without a pin needs ``--trust``.
    :param batch_tokens: English tokens of a batch; does not change the numbers.
    """

    checkpoint: str = ""
    hub: str = ""
    sha256: OptionalDigest = ""
    batch_tokens: Positive = 4000
    training: EnglishTraining | None = None

    def __post_init__(self) -> None:
        one_of(self, "checkpoint", "hub")


class AlignmentRecipe(Table, frozen=True, kw_only=True):
    """Files of sentence pairs whose words are linked, by people or by an aligner.

    :param path: a file with a sentence pair a line, words with spaces between.
    :param links_path: a file whose lines hold the links of those pairs; empty when they are a third column.
    :param separator: what stands between the columns of ``path``.
    :param order: of the two columns, and of the two numbers of a link: ``3-4`` is sure, ``3p4`` possible.
    :param first: the number that the first word of a sentence has.
    """

    path: str
    links_path: str = ""
    separator: Literal["tab", "|||"] = "tab"
    order: Literal["foreign-english", "english-foreign"] = "foreign-english"
    first: Literal[0, 1] = 0


class TransferRecipe(Table, frozen=True, kw_only=True):
    """From A and R to T (section "From pieces to tokens" of the README).

    :param states: R is the English tagger's BiLSTM outputs (eq. 4); or what they say: the probability of each
        of its tags, softmax of the linear layer. That is some twenty numbers instead of hundreds.
    :param source_states: T also has, beside A R, the states of the English tagger over the source tokens as
        they are: names are names in every language of one script. T is then twice as wide.
    :param attention: A is the translator's; or, to learn what that is worth, the uniform or the diagonal one
        stands in its place, or that of ``links``.
    :param links: an aligner's (sure) links between each sentence and its translation, as `backattn pairs`
        prints the two.
    :param eos: what becomes of the translator's end of the sentence.
    :param normalise: ``source`` makes each source token's row of A sum to 1.
    """

    states: States = "lstm"
    source_states: bool = False
    attention: Literal["translator", "uniform", "diagonal", "links"] = "translator"
    links: AlignmentRecipe | None = None
    eos: EosPolicy = "drop"
    normalise: Normalisation = "none"
    dtype: Literal["float16", "float32"] = "float16"

    def __post_init__(self) -> None:
        if self.attention == "links" and self.links is None:
            raise ValueError(
                "attention: 'links' has no table; write one, [transfer.links], with the paths of what "
                "`backattn pairs` printed and of what an aligner made of it"
            )


class TaggerRecipe(Table, frozen=True, kw_only=True):
    """Stage two: the BiLSTM-CRF of section 3.2. The defaults are the paper's settings.

    :param embeddings: frozen features beside the trained word vectors; each needs its ``[embeddings]`` table.
    :param fusion: where T goes: ``output``, beside the BiLSTM's states (BAN, eq. 7); ``input``, beside the
        word features (our reading of the abstract of CAN, which augments the representations themselves);
        ``both``; ``gate``, beside the states after a learnt gate of each token.
    :param word_dimensions: width of the word vectors trained from scratch; 0 for none, where there are
        ``embeddings``.
    :param characters: encoder of the characters of a word; ``none`` for Chinese.
    :param character_dimensions: width of its result.
    :param patience: epochs without a lower training loss before the learning rate is annealed.
    :param anneal: factor of that annealing.
    :param sentences: train on a nested sample of so many training sentences, or on all of them.
    :param precision: arithmetic of the BiLSTM's training step. ``bfloat16`` is autocast: other numbers,
        within the noise of seeds, and up to twice as fast on processors that know it; others take float32.
    """

    embeddings: tuple[EmbeddingName, ...] = ()
    fusion: Literal["output", "input", "both", "gate"] = "output"
    word_dimensions: Natural = 100
    characters: Literal["none", "cnn", "lstm"] = "none"
    character_dimensions: Positive = 50
    hidden: Positive = 256
    word_dropout: Share = 0.1
    dropout: Share = 0.5
    learning_rate: PositiveNumber = 0.1
    clip_norm: PositiveNumber = 5.0
    patience: Positive = 3
    anneal: Share = 0.5
    batch: Positive = 16
    epochs: Positive = 150
    sentences: SampleSize = "all"
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if not self.word_dimensions and not self.embeddings:
            raise ValueError("word_dimensions: expected 1 or more where there are no embeddings, found 0")
        for number, name in enumerate(self.embeddings):
            if name in self.embeddings[:number]:
                raise ValueError(f"embeddings[{number}]: {name!r} is there twice; take one away")


class ProjectionRecipe(Table, frozen=True, kw_only=True):
    """How ``backattn project`` names what the English tagger finds.

    :param types: entity type of the English tagger -> type of the corpus; "" makes it O. Empty keeps all
        types as they are; otherwise a type that is not listed is refused.
    """

    types: Mapping[str, str] = {}


class PaperFigure(Table, frozen=True, kw_only=True):
    """What the paper printed of one model and the same with Back Attention, F1 in percent.

    What is not known for certain is left out, and prints as a dash.

    :param model: the paper's name of the base (``CharLM+BiLSTM+CRF``); empty where a figure is known, but
        not of which row it is.
    :param measure: ``Overall``, or one of ``corpus.groups``; empty where it is not known of which.
    :param base, ban: without Back Attention, and with it.
    :param lift: what it adds, in points, where the two are not known themselves.
    """

    model: PaperModel = ""
    measure: str = "Overall"
    base: Percent | None = None
    ban: Percent | None = None
    lift: float | None = None

    def __post_init__(self) -> None:
        if self.lift is not None and self.base is not None and self.ban is not None:
            raise ValueError("lift: is ban less base already; take one of the three away")

    @property
    def difference(self) -> float | None:
        """What Back Attention adds, in points."""
        return self.lift if self.base is None or self.ban is None else self.ban - self.base


class PaperRecipe(Table, frozen=True, kw_only=True):
    """The paper's table of this corpus (Sun, Yi and Chen 2019, arXiv:1906.01183), for ``backattn report``.

    :param table: its number there (``Table 4``); empty where that is not known for certain.
    """

    table: str = ""
    figures: tuple[PaperFigure, ...] = ()

    @property
    def name(self) -> str:
        """The table's, for a reader."""
        return f"{self.table} of the paper" if self.table else "the paper"


class Recipe(Table, frozen=True, kw_only=True):
    """One LANG: the whole way from column files to scores.

    :param english: may be left out where nothing reads T (``backattn train --inputs words``).
    """

    name: str
    corpus: CorpusRecipe
    translator: TranslatorRecipe
    english: EnglishRecipe | None = None
    transfer: TransferRecipe = TransferRecipe()
    embeddings: EmbeddingsRecipe = EmbeddingsRecipe()
    tagger: TaggerRecipe = TaggerRecipe()
    projection: ProjectionRecipe = ProjectionRecipe()
    alignment: AlignmentRecipe | None = None
    paper: PaperRecipe | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(
                "name: expected letters, digits, . _ and -, with none of the last two first; "
                f"found {quoted(self.name)}"
            )
        for number, name in enumerate(self.tagger.embeddings):
            if getattr(self.embeddings, name) is None:
                raise ValueError(
                    f"tagger.embeddings[{number}]: {name!r} has no table; write one, [embeddings.{name}]"
                )
        measures = ["", "Overall", *self.corpus.groups]
        for number, figure in enumerate(self.paper.figures if self.paper else ()):
            if figure.measure not in measures:
                raise ValueError(
                    f"paper.figures[{number}].measure: expected one of {listed(measures[1:])} (corpus.groups "
                    f"names them); found {quoted(figure.measure)}"
                )

    @property
    def own_translator(self) -> tuple[FairseqRecipe, TranslatorTraining]:
        """The translator that a training makes, and how.

        :raises RecipeError: the recipe describes none.
        """
        translator = self.translator
        if not isinstance(translator, FairseqRecipe) or translator.training is None:
            raise RecipeError(
                f"recipe {self.name}: no [translator.training]: it says nothing about training a translator"
            )
        return translator, translator.training

    @property
    def english_tagger(self) -> EnglishRecipe:
        """The English tagger, for what cannot do without one.

        :raises RecipeError: the recipe has no ``[english]``.
        """
        if self.english is None:
            raise RecipeError(
                f"recipe {self.name}: english: missing table, which T needs; write [english] with kind and "
                "checkpoint, or take --inputs words"
            )
        return self.english
