"""What a recipe says: frozen dataclasses, one for each table. Defaults live here and nowhere deeper.

The tables of files are in :mod:`~backattn.recipe.data_files`, those of frozen word features in
:mod:`~backattn.recipe.embeddings`, those of trainings in :mod:`~backattn.recipe.trainings`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from backattn.recipe.data_files import CorpusRecipe
from backattn.recipe.embeddings import EmbeddingName, EmbeddingsRecipe
from backattn.recipe.trainings import EnglishTraining, TranslatorTraining

EosPolicy = Literal["drop", "renormalise", "keep"]
Normalisation = Literal["none", "source"]
States = Literal["lstm", "tags"]


@dataclass(frozen=True, kw_only=True)
class TranslatorRecipe:
    """The translator and how it is asked.

    :param checkpoint: folder with ``checkpoint.pt``, ``dict.<source>.txt``, ``dict.en.txt`` and
        ``joint.model`` (fairseq), or of a Marian model of transformers; empty when ``hub`` is given.
    :param hub: a fairseq hub name (``transformer.wmt19.de-en``), or that of a Marian model of transformers
        (``Helsinki-NLP/opus-mt-es-en``); empty when ``checkpoint`` is given.
    :param revision: commit of a Marian model on the hub; empty for the newest, which may change.
    :param copy: no translation, to learn what one is worth: the English tagger reads the source as it is, and
        A is the identity. Then neither of the two is opened.
    :param dictionary: a file in the form of CC-CEDICT, below ``data/``, by which each word is translated for
        itself, where no translator is good enough. Nor are they then.
    :param source: language code of the source side; a Marian model is given Chinese (``zh``) and others that
        write so without spaces.
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
    revision: str = ""
    copy: bool = False
    dictionary: str = ""
    source: str
    beam: int = 4
    max_len_a: float = 1.3
    max_len_b: int = 10
    segment_pieces: int = 175
    batch_tokens: int = 4000
    layers: Literal["mean", "last"] = "mean"
    precision: Literal["float32", "bfloat16"] = "float32"
    training: TranslatorTraining | None = None

    @property
    def is_model(self) -> bool:
        """Whether a model translates."""
        return not (self.copy or self.dictionary)


@dataclass(frozen=True, kw_only=True)
class EnglishRecipe:
    """The English tagger.

    :param checkpoint: a ``.safetensors`` file of ``english train`` or ``english convert``, or a flair file
        under any other name; empty when ``hub`` is given.
    :param hub: a flair hub name (``flair/ner-english``); empty when ``checkpoint`` is given.
    :param sha256: digest that the file must have; empty for none. flair files are pickles, which can run
        code: one without a pin needs ``--trust``.
    :param batch_tokens: English tokens of a batch; does not change the numbers.
    """

    checkpoint: str = ""
    hub: str = ""
    sha256: str = ""
    batch_tokens: int = 4000
    training: EnglishTraining | None = None


@dataclass(frozen=True, kw_only=True)
class AlignmentRecipe:
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


@dataclass(frozen=True, kw_only=True)
class TransferRecipe:
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


@dataclass(frozen=True, kw_only=True)
class TaggerRecipe:
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
    :param sentences: train on a nested sample of so many training sentences; 0 takes all.
    :param precision: arithmetic of the BiLSTM's training step. ``bfloat16`` is autocast: other numbers,
        within the noise of seeds, and up to twice as fast on processors that know it; others take float32.
    """

    embeddings: tuple[EmbeddingName, ...] = ()
    fusion: Literal["output", "input", "both", "gate"] = "output"
    word_dimensions: int = 100
    characters: Literal["none", "cnn", "lstm"] = "none"
    character_dimensions: int = 50
    hidden: int = 256
    word_dropout: float = 0.1
    dropout: float = 0.5
    learning_rate: float = 0.1
    clip_norm: float = 5.0
    patience: int = 3
    anneal: float = 0.5
    batch: int = 16
    epochs: int = 150
    sentences: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"


@dataclass(frozen=True, kw_only=True)
class ProjectionRecipe:
    """How ``backattn project`` names what the English tagger finds.

    :param types: entity type of the English tagger -> type of the corpus; "" makes it O. Empty keeps all
        types as they are; otherwise a type that is not listed is refused.
    """

    types: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PaperFigure:
    """What the paper printed of one model and the same with Back Attention, F1 in percent.

    What is not known for certain is left out, and prints as a dash.

    :param model: the paper's name of the base (``CharLM+BiLSTM+CRF``); empty where a figure is known, but
        not of which row it is.
    :param measure: ``Overall``, or one of ``corpus.groups``; empty where it is not known of which.
    :param base, ban: without Back Attention, and with it.
    :param lift: what it adds, in points, where the two are not known themselves.
    """

    model: str = ""
    measure: str = "Overall"
    base: float | None = None
    ban: float | None = None
    lift: float | None = None

    @property
    def difference(self) -> float | None:
        """What Back Attention adds, in points."""
        return self.lift if self.base is None or self.ban is None else self.ban - self.base


@dataclass(frozen=True, kw_only=True)
class PaperRecipe:
    """The paper's table of this corpus (Sun, Yi and Chen 2019, arXiv:1906.01183), for ``backattn report``.

    :param table: its number there (``Table 4``); empty where that is not known for certain.
    """

    table: str = ""
    figures: tuple[PaperFigure, ...] = ()

    @property
    def name(self) -> str:
        """The table's, for a reader."""
        return f"{self.table} of the paper" if self.table else "the paper"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One LANG: the whole way from column files to scores."""

    name: str
    corpus: CorpusRecipe
    translator: TranslatorRecipe
    english: EnglishRecipe
    transfer: TransferRecipe = field(default_factory=TransferRecipe)
    embeddings: EmbeddingsRecipe = field(default_factory=EmbeddingsRecipe)
    tagger: TaggerRecipe = field(default_factory=TaggerRecipe)
    projection: ProjectionRecipe = field(default_factory=ProjectionRecipe)
    alignment: AlignmentRecipe | None = None
    paper: PaperRecipe | None = None
