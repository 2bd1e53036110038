"""Define the tables of a recipe, one immutable class each. Defaults stand here, and in no other package.

The tables of files are in :mod:`~backattn.recipe.data_files`, those of frozen word features in
:mod:`~backattn.recipe.embeddings`, those of trainings in :mod:`~backattn.recipe.training`.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta

from backattn.common.errors import RecipeError
from backattn.common.safe_text import listed, quoted
from backattn.recipe.constraints import (
    Ending,
    Language,
    Medium,
    NaturalNumber,
    OptionalDigest,
    OptionalWidth,
    PaperModel,
    Percent,
    Positive,
    PositiveNumber,
    Share,
    Small,
    Table,
    Width,
    one_of,
)
from backattn.recipe.data_files import UNKNOWN, CorpusRecipe, ParallelFile
from backattn.recipe.embeddings import EmbeddingName, EmbeddingsRecipe
from backattn.recipe.training import EnglishTraining, TranslatorTraining

EosPolicy = Literal["drop", "renormalise", "keep"]
Normalisation = Literal["none", "source"]
States = Literal["lstm", "tags", "embeddings"]
# Number of training sentences.
SampleSize = Positive | Literal["all"]
# A name becomes a folder below cache/.
NAME = re.compile(r"\w[\w.-]{0,99}")


class ModelTranslator(Table, frozen=True, kw_only=True, tag_field="kind"):
    """Settings that fairseq and transformers models share: the place of the model and its beam search.

    :param checkpoint: folder of the model; empty when ``hub`` is given. For fairseq it holds
        ``checkpoint.pt``, ``dict.<source>.txt``, ``dict.en.txt`` and ``joint.model``; for transformers, what
        ``save_pretrained`` writes.
    :param hub: name of a public model (fairseq: ``transformer.wmt19.de-en``; transformers:
        ``Helsinki-NLP/opus-mt-es-en``); empty when ``checkpoint`` is given.
    :param licence: licence of the model, as ``corpus.licence``.
    :param source: language code of the source side. A transformers model gets Chinese (``zh``) and other
        languages written without spaces as text without spaces.
    :param beam: width of the beam search.
    :param max_len_a: factor of the length limit: a translation has at most max_len_a * source pieces +
        max_len_b pieces. A tight limit cuts repetitions.
    :param max_len_b: constant part of that limit.
    :param segment_pieces: split a source of more pieces into segments and translate each; A becomes
        block-diagonal. A value below the limit of the model helps where it was trained on short sentences.
    :param batch_tokens: source pieces of a batch, padding included; does not change the results.
    :param layers: take A as the mean over the attention layers (eq. 3), or from the last layer alone.
    :param precision: number format of the matrix products on a CPU (a GPU uses float16). ``bfloat16`` changes
        the results slightly, at an equal BLEU, and is faster where the processor has it; elsewhere float32 is
        used.
    """

    checkpoint: str = ""
    hub: str = ""
    licence: str = UNKNOWN
    source: Language
    beam: Small = 4
    max_len_a: NaturalNumber = 1.3
    max_len_b: Positive = 10
    segment_pieces: Positive = 175
    batch_tokens: Positive = 4000
    layers: Literal["mean", "last"] = "mean"
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        one_of(self, "checkpoint", "hub")


class FairseqRecipe(ModelTranslator, frozen=True, kw_only=True, tag="fairseq"):
    """A fairseq model: a public one, or one that `backattn translator train` makes."""

    training: TranslatorTraining | None = None


class TransformersRecipe(ModelTranslator, frozen=True, kw_only=True, tag="transformers"):
    """A Marian model of transformers (opus-mt).

    :param revision: commit, tag or branch on the hub; empty for the newest that was fetched. Stores record
        its commit.
    """

    revision: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.revision and not self.hub:
            raise ValueError("revision: a commit of a hub, but hub is empty; remove revision, or name a hub")


class DictionaryRecipe(Table, frozen=True, kw_only=True, tag_field="kind", tag="dictionary"):
    """Word-by-word translation from a dictionary, where no translator is good enough.

    :param dictionary: a file below ``data/``, in the format of CC-CEDICT or with a headword, a tab and its
        English translation on a line.
    :param licence: licence of the file, as ``corpus.licence``.
    :param source: language code of the source side; it says whether there are blanks between words.
    :param endings: endings to strip from a word without an entry: the first that leaves a headword
        (``["ene", "et", "s"]`` finds ``hus`` for ``husene``).
    """

    dictionary: str
    licence: str = UNKNOWN
    source: Language
    endings: tuple[Ending, ...] = ()


class CopyRecipe(Table, frozen=True, kw_only=True, tag_field="kind", tag="copy"):
    """No translation, for ablations: the English tagger reads the source tokens, and A is the identity.

    :param source: language code of the source side.
    """

    source: Language


TranslatorRecipe = FairseqRecipe | TransformersRecipe | DictionaryRecipe | CopyRecipe


class EnglishRecipe(Table, frozen=True, kw_only=True, tag_field="kind", tag="flair"):
    """The English tagger, a flair ``SequenceTagger``. The table may be left out where nothing reads T
    (`backattn train --inputs words`).

    :param checkpoint: a ``.safetensors`` file of ``english train`` or ``english convert``, or a flair file
        of any other name; empty when ``hub`` is given.
    :param hub: name on flair's hub (``flair/ner-english``); empty when ``checkpoint`` is given.
    :param sha256: sha256 that the file must have; empty for any. A flair file is a pickle, which can run
        code: without a digest here it needs ``--trust-sha256`` or ``--trust``. A digest counts only in a
        recipe of ``pipelines/``, or of the package.
    :param licence: licence of the model, as ``corpus.licence``.
    :param batch_tokens: English tokens of a batch; does not change the results.
    """

    checkpoint: str = ""
    hub: str = ""
    sha256: OptionalDigest = ""
    licence: str = UNKNOWN
    batch_tokens: Positive = 4000
    training: EnglishTraining | None = None

    def __post_init__(self) -> None:
        one_of(self, "checkpoint", "hub")


class AlignmentRecipe(Table, frozen=True, kw_only=True):
    """Word-aligned sentence pairs, made by people or by a word aligner.

    :param path: a file with one sentence pair a line, its words separated by spaces.
    :param links_path: a file with the links of one pair a line; empty where they are the third column of
        ``path``.
    :param separator: separator of the columns of ``path``.
    :param order: order of the two columns, and of the two numbers of a link: ``3-4`` is a sure link, ``3p4``
        a possible one.
    :param first: number of the first word of a sentence.
    """

    path: str
    links_path: str = ""
    separator: Literal["tab", "|||"] = "tab"
    order: Literal["foreign-english", "english-foreign"] = "foreign-english"
    first: Literal[0, 1] = 0


class TransferRecipe(Table, frozen=True, kw_only=True):
    """How T is computed from A and R ("From pieces to tokens" in docs/architecture.md).

    :param states: R: the BiLSTM outputs of the English tagger (``lstm``, eq. 4); the probabilities of its
        tags, the softmax of its linear layer (``tags``: some twenty numbers instead of hundreds); or, in
        its place, the tagger's word, character and CharLM embeddings E (``embeddings``; with
        ``tagger.fusion = "input"`` our reading of the abstract of CAN).
    :param source_states: append the states of the English tagger over the source tokens to A R, since many
        names are the same in all languages of one script. T is then twice as wide.
    :param attention: A: the attention of the translator; or, for ablations, a uniform or diagonal matrix, or
        the word alignments of ``links``.
    :param links: sure links of a word aligner between each sentence and its translation, as `backattn pairs`
        prints them.
    :param eos: what to do with the end-of-sentence mark (EOS) in A: ``drop`` its row and column;
        ``renormalise``: drop them and scale each column to sum to 1; ``keep``: count it as a piece of the
        last token.
    :param normalise: ``source`` scales each row of A (a source token) to sum to 1; ``none`` leaves
        A as it is.
    :param dtype: number format of the store.
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
                "attention: 'links' needs a table [transfer.links]; write one, with the path of the output "
                "of `backattn pairs` and that of the links that an aligner made of it"
            )


class TaggerRecipe(Table, frozen=True, kw_only=True):
    """The BiLSTM-CRF of stage two (section 3.2 of the paper). Some defaults differ from the paper; `backattn
    train LANG --preset paper` sets these to the paper's values.

    :param embeddings: frozen embeddings, concatenated with the trained word vectors; each needs its table
        ``[embeddings.NAME]``.
    :param fusion: where T is concatenated: ``output``, with the states of the BiLSTM (BAN, eq. 7); ``input``,
        with the word features (our reading of the abstract of CAN, which augments the representations
        themselves); ``both``; ``gate``, with the states, after a learnt gate for each token.
    :param standardise: subtract the mean of each dimension from T and the frozen embeddings, and scale all
        dimensions alike, by the training sample; ``false`` reads them as stage one computed them.
    :param word_dimensions: width of the word vectors trained from scratch; 0 for none, which needs
        ``embeddings``, or a ``fusion`` that brings T to the input: T alone as the embedding (Table 5 of the
        paper).
    :param characters: encoder of the characters of a word; ``none`` for Chinese.
    :param character_dimensions: width of the output of that encoder.
    :param hidden: number of LSTM states of one direction.
    :param word_dropout: dropout rate of the input of the BiLSTM.
    :param dropout: dropout rate of r, the input of the linear layer.
    :param learning_rate: learning rate of SGD at the beginning.
    :param clip_norm: largest norm of the gradient; a larger one is scaled down. 0 for no limit.
    :param patience: number of epochs without a lower training loss than any before, after which the learning
        rate is reduced.
    :param anneal: factor by which the learning rate is reduced.
    :param batch: sentences of a batch.
    :param epochs: number of epochs; the one with the best dev F1 is kept, of equally good ones the last.
    :param sentences: number of training sentences, a sample that every larger sample contains; or all.
    :param precision: number format of the BiLSTM in a training step. ``bfloat16`` (autocast) changes the
        results within the noise of seeds and is up to twice as fast where the processor has it; elsewhere
        float32 is used.
    """

    embeddings: tuple[EmbeddingName, ...] = ()
    fusion: Literal["output", "input", "both", "gate"] = "output"
    standardise: bool = True
    word_dimensions: OptionalWidth = 100
    characters: Literal["none", "cnn", "lstm"] = "none"
    character_dimensions: Width = 50
    hidden: Width = 256
    word_dropout: Share = 0.1
    dropout: Share = 0.5
    learning_rate: PositiveNumber = 0.1
    clip_norm: NaturalNumber = 5.0
    patience: Positive = 3
    anneal: Share = 0.5
    batch: Medium = 16
    epochs: Medium = 150
    sentences: SampleSize = "all"
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if not self.word_dimensions and not self.embeddings and self.fusion not in ("input", "both"):
            raise ValueError(
                "word_dimensions: expected 1 or more where there are no embeddings, and T is not among the "
                "inputs (fusion), found 0"
            )
        for number, name in enumerate(self.embeddings):
            if name in self.embeddings[:number]:
                raise ValueError(f"embeddings[{number}]: {name!r} is listed twice; remove one")


class ProjectionRecipe(Table, frozen=True, kw_only=True):
    """How ``backattn project`` maps the entity types of the English tagger to those of the corpus.

    :param types: entity type of the English tagger -> type of the corpus; "" turns it into O. A type that is
        not listed keeps its name.
    """

    types: Mapping[str, str] = {}


class PaperSentences(Table, frozen=True, kw_only=True):
    """Number of sentences of each split in Table 1 of the paper."""

    train: Positive
    dev: Positive
    test: Positive


class PaperRow(Table, frozen=True, kw_only=True):
    """A row of Tables 2 to 5 of the paper, with the row "+BAN" below it if it has one: F1 in percent.

    :param table: number of the table.
    :param row: its name there.
    :param models: names in `backattn report` of the models that it is compared with, the nearest first; empty
        for the systems that the paper cites.
    :param base: F1 without Back Attention: ``Overall``, or a name of ``corpus.groups`` -> figure.
    :param ban: F1 with Back Attention.
    """

    table: Annotated[int, Meta(ge=2, le=5)]
    row: str
    models: tuple[PaperModel, ...] = ()
    base: Mapping[str, Percent] = {}
    ban: Mapping[str, Percent] = {}

    def lift(self, measure: str) -> float | None:
        """The points that Back Attention adds; None where the paper has only one of the two figures."""
        if measure not in self.base or measure not in self.ban:
            return None
        return self.ban[measure] - self.base[measure]


class PaperRecipe(Table, frozen=True, kw_only=True):
    """The paper's figures of this corpus (Sun, Yi and Chen 2019, arXiv:1906.01183), for `backattn report`."""

    sentences: PaperSentences | None = None
    rows: tuple[PaperRow, ...] = ()


class Recipe(Table, frozen=True, kw_only=True):
    """A recipe: all settings from column files to scores."""

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
                "name: expected letters, digits, . _ and -, not beginning with . or -; "
                f"found {quoted(self.name)}"
            )
        for number, name in enumerate(self.tagger.embeddings):
            if getattr(self.embeddings, name) is None:
                raise ValueError(
                    f"tagger.embeddings[{number}]: {name!r} needs a table [embeddings.{name}]; write one"
                )
        measures = ["Overall", *self.corpus.groups]
        for number, row in enumerate(self.paper.rows if self.paper else ()):
            for measure in [*row.base, *row.ban]:
                if measure not in measures:
                    raise ValueError(
                        f"paper.rows[{number}]: expected figures of {listed(measures)} (corpus.groups names "
                        f"them); found {quoted(measure)}"
                    )

    @property
    def own_translator(self) -> tuple[FairseqRecipe, TranslatorTraining]:
        """The translator that the recipe trains, and its training.

        :raises RecipeError: the recipe describes no training of a translator.
        """
        translator = self.translator
        if not isinstance(translator, FairseqRecipe) or translator.training is None:
            raise RecipeError(
                f"recipe {self.name}: no [translator.training]: it describes no training of a translator"
            )
        return translator, translator.training

    @property
    def parallel_text(self) -> tuple[ParallelFile, ...]:
        """The files of pairs that the recipe trains its translator on; empty if it trains none."""
        training = self.translator.training if isinstance(self.translator, FairseqRecipe) else None
        return training.parallel if training else ()

    @property
    def english_tagger(self) -> EnglishRecipe:
        """The English tagger, for commands that need one.

        :raises RecipeError: the recipe has no ``[english]``.
        """
        if self.english is None:
            raise RecipeError(
                f"recipe {self.name}: english: missing table, which T needs; write [english] with kind and "
                "checkpoint; without T there are `--only embeddings` (features, check, gc) and `--inputs "
                "words` (train)"
            )
        return self.english
