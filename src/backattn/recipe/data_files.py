"""Tables of a recipe that describe data files: their paths and their formats."""

from collections.abc import Mapping
from typing import Literal

from backattn.recipe.constraints import Natural, OptionalColumn, Positive, Table

Scheme = Literal["IOB1", "IOB2", "BIO", "BIOES", "BILOU", "BMES", "BMEWO", "IO"]
Unit = Literal["word", "character"]


class ColumnFormat(Table, frozen=True, kw_only=True, tag_field="kind", tag="columns"):
    """Format of a column file: one token a line, its tag in another column, empty lines between sentences.

    :param token: column of the token, from 0; negative counts from the end of the line.
    :param tag: column of the tag, counted in the same way.
    :param scheme: tag scheme of the file; tags are converted to BIOES. BIO is IOB2; BILOU, BMES and BMEWO are
        BIOES in other letters. IO has bare types (``PER``, ``O``): adjacent tokens of a type are one entity.
    :param type: entity type of a file whose tags are prefixes without a type (``B``, ``I``, ``O``); empty
        where the tags have types.
    :param orphans: what to do with an I- tag of IOB2 that continues no entity: refuse the file, or begin an
        entity there, as conlleval does, and count it. The released CoNLL-2002 and Weibo files have a few.
    :param separator: separator of the columns.
    :param encoding: name of a Python codec.
    :param comment: skip and count lines that start with this text and are not tokens: they lack the columns
        or the tag of a token line, or begin a sentence with a single field. Inside of a sentence, one ends it
        where a first column of ids starts again, and is refused elsewhere. Empty for none.
    :param docstart: token of the lines that separate documents (``-DOCSTART-``), which are skipped; empty for
        none.
    :param segmentation_digit: remove the digit that ends each token (Weibo).
    :param split_characters: split the words of the file into characters, one token each, for languages
        written without spaces; entities keep their extent.
    :param types: entity type of the file -> type of the corpus; "" turns it into O. Empty keeps all types;
        otherwise a type that is not listed is refused.
    """

    token: int = 0
    tag: int = -1
    scheme: Scheme = "IOB2"
    type: str = ""
    orphans: Literal["refuse", "begin"] = "refuse"
    separator: Literal["whitespace", "tab"] = "whitespace"
    encoding: str = "utf-8"
    comment: str = ""
    docstart: str = ""
    segmentation_digit: bool = False
    split_characters: bool = False
    types: Mapping[str, str] = {}


class CorpusRecipe(Table, frozen=True, kw_only=True):
    """The corpus: its three files and their format.

    :param train, dev, test: path of this part, below ``data/`` or ``$BACKATTN_DATA``; may be packed by gzip
        (``.gz``).
    :param source: where to get the data; printed when a file is missing.
    :param unit: whether a token is a word, or one character (Chinese).
    :param groups: extra scores: name -> suffix of the entity types that are counted (Weibo: NE = ".NAM").
    """

    train: str
    dev: str
    test: str
    source: str
    unit: Unit = "word"
    format: ColumnFormat = ColumnFormat()
    groups: Mapping[str, str] = {}


class ParallelFile(Table, frozen=True, kw_only=True):
    """A file of sentence pairs for training a translator.

    :param path: a TSV file; or, with ``english_path``, a file with one foreign sentence a line.
    :param english_path: file with one English sentence a line; empty where English is a column of ``path``.
    :param foreign: column of the foreign sentence, from 0.
    :param english: column of the English sentence, from 0.
    :param header: whether the first line names the columns.
    :param group: column that names the origin of a pair; -1 for none.
    :param only: use only pairs with these values of ``group``; empty for all.
    :param exclude: leave out pairs with these values of ``group``.
    :param repeat: number of times that each pair occurs in an epoch.
    :param limit: largest number of pairs, taken evenly over the file; 0 for all.
    """

    path: str
    english_path: str = ""
    foreign: Natural = 0
    english: Natural = 1
    header: bool = False
    group: OptionalColumn = -1
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    repeat: Positive = 1
    limit: Natural = 0


class DictionaryFile(Table, frozen=True, kw_only=True):
    """A bilingual dictionary in the format of CC-CEDICT; each entry gives one short pair.

    :param path: the file as released: plain text, or compressed (``.gz``).
    :param repeat: number of times that each entry occurs in an epoch.
    :param limit: largest number of entries, taken evenly over the file; 0 for all.
    """

    path: str
    repeat: Positive = 1
    limit: Natural = 0


class TextFile(Table, frozen=True, kw_only=True):
    """A file of sentences in one language, one a line.

    :param path: plain text or a TSV file, below ``data/``.
    :param column: column of the sentence in a TSV file, from 0; -1 for the whole line.
    :param header: whether the first line names the columns.
    :param limit: largest number of lines, taken evenly over the file; 0 for all.
    """

    path: str
    column: OptionalColumn = -1
    header: bool = False
    limit: Natural = 0


class EnglishFile(Table, frozen=True, kw_only=True):
    """An English column file.

    :param path: path of the file, below ``data/``.
    :param use: whether its sentences are for ``train``, ``dev`` or ``test``; or ``split``: every tenth
        sentence is test, the one before it dev, the others train.
    :param limit: largest number of sentences, taken evenly over the file; 0 for all.
    """

    path: str
    use: Literal["train", "dev", "test", "split"] = "train"
    format: ColumnFormat = ColumnFormat()
    limit: Natural = 0
