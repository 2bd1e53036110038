"""Tables of a recipe that describe data files: their paths and their formats."""

from collections.abc import Mapping
from typing import Literal

from backattn.recipe.constraints import Natural, OptionalColumn, OptionalLanguage, Small, Table

Scheme = Literal["IOB1", "IOB2", "BIO", "BIOES", "BILOU", "BMES", "BMEWO", "IO"]
Unit = Literal["word", "character"]
# Licence of a file or a model whose licence is not known.
UNKNOWN = "unknown"


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
        or the tag of a token line, or begin a sentence with a single field. Inside a sentence, such a line
        ends it if the ids of the first column start again after it; else it is refused. Empty for none.
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


class _Labels(Table, frozen=True, kw_only=True):
    """Keys that the formats CoNLL-U and JSON lines share; column files have them too.

    :param scheme: tag scheme of the file; tags are converted to BIOES.
    :param type: entity type of a file whose tags are prefixes without a type (``B``, ``I``, ``O``); empty
        where the tags have types.
    :param orphans: what to do with an I- tag of IOB2 that continues no entity: refuse the file, or begin an
        entity there, as conlleval does, and count it.
    :param split_characters: split the words of the file into characters, one token each.
    :param types: entity type of the file -> type of the corpus; "" turns it into O. Empty keeps all types;
        otherwise a type that is not listed is refused.
    """

    scheme: Scheme = "IOB2"
    type: str = ""
    orphans: Literal["refuse", "begin"] = "refuse"
    split_characters: bool = False
    types: Mapping[str, str] = {}


class ConlluFormat(_Labels, frozen=True, kw_only=True, tag_field="kind", tag="conllu"):
    """Format of a CoNLL-U file, or one of Universal NER (``.iob2``): ids, tab-separated columns, UTF-8.
    Multiword ranges (``2-3``), empty nodes (``4.1``) and comments are no tokens; they are counted.

    :param token: column of the token, from 0; negative counts from the end of the line.
    :param tag: column of the tag, counted in the same way.
    :param tag_key: key of the tag where its column is a list of ``KEY=VALUE``, as MISC is (``tag = 9``); a
        token without the key is O. Empty where the column is the tag.
    """

    token: int = 1
    tag: int = 2
    tag_key: str = ""


class JsonlFormat(_Labels, frozen=True, kw_only=True, tag_field="kind", tag="jsonl"):
    """Format of JSON lines: a sentence a line, as tokens with their tags, or as text with spans. UTF-8.

    :param tokens: field of the list of tokens.
    :param tags: field of the list of tags: texts, or numbers that ``names`` spells.
    :param names: the tags that the numbers stand for, from 0; empty where tags are texts.
    :param text: field of running text, which is split into sentences and tokens; empty where the lines have
        tokens. It is read instead of ``tokens`` and ``tags``.
    :param spans: field of the entities of ``text``: tables with ``start``, ``end`` and ``label``, or lists
        of these three. Offsets count characters (code points) from 0; the end is not part of the entity.
    :param language: language code of ``text``, for splitting it into tokens as Moses does; Chinese and other
        languages without spaces are split into characters.
    """

    tokens: str = "tokens"
    tags: str = "ner_tags"
    names: tuple[str, ...] = ()
    text: str = ""
    spans: str = "spans"
    language: OptionalLanguage = ""

    def __post_init__(self) -> None:
        if self.text and not self.language:
            raise ValueError("language: expected a language code such as de beside text, found none")
        if self.language and not self.text:
            raise ValueError(
                "language: splits text, but text is empty; name the field of text, or remove language"
            )
        if self.names and self.text:
            raise ValueError("names: spell tags, but text has spans; remove names, or text")


CorpusFormat = ColumnFormat | ConlluFormat | JsonlFormat


class CorpusRecipe(Table, frozen=True, kw_only=True):
    """The corpus: its three files and their format.

    :param train, dev, test: path of this part, below ``data/`` or ``$BACKATTN_DATA``; may be packed by gzip
        (``.gz``).
    :param source: where to get the data; printed when a file is missing.
    :param licence: an SPDX identifier (``CC-BY-SA-4.0``), or words (``research only``); `backattn package`
        says how it restricts the use of a run. No key of a licence changes the results.
    :param unit: whether a token is a word, or one character (Chinese).
    :param groups: extra scores: name -> suffix of the entity types that are counted (Weibo: NE = ".NAM").
    """

    train: str
    dev: str
    test: str
    source: str
    licence: str = UNKNOWN
    unit: Unit = "word"
    format: CorpusFormat = ColumnFormat()
    groups: Mapping[str, str] = {}


class ParallelFile(Table, frozen=True, kw_only=True):
    """A file of sentence pairs for training a translator.

    :param path: a TSV file; or, with ``english_path``, a file with one foreign sentence a line.
    :param english_path: file with one English sentence a line; empty where English is a column of ``path``.
    :param licence: licence of the file, as ``corpus.licence``.
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
    licence: str = UNKNOWN
    foreign: Natural = 0
    english: Natural = 1
    header: bool = False
    group: OptionalColumn = -1
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    repeat: Small = 1
    limit: Natural = 0


class DictionaryFile(Table, frozen=True, kw_only=True):
    """A bilingual dictionary; each entry gives one short pair. Its format is CC-CEDICT, or a line has a
    headword, a tab and its English translation.

    :param path: the file as released: plain text, or compressed (``.gz``).
    :param licence: licence of the file, as ``corpus.licence``.
    :param repeat: number of times that each entry occurs in an epoch.
    :param limit: largest number of entries, taken evenly over the file; 0 for all.
    """

    path: str
    licence: str = UNKNOWN
    repeat: Small = 1
    limit: Natural = 0


class TextFile(Table, frozen=True, kw_only=True):
    """A file of sentences in one language, one a line.

    :param path: plain text or a TSV file, below ``data/``.
    :param licence: licence of the file, as ``corpus.licence``.
    :param column: column of the sentence in a TSV file, from 0; -1 for the whole line.
    :param header: whether the first line names the columns.
    :param limit: largest number of lines, taken evenly over the file; 0 for all.
    """

    path: str
    licence: str = UNKNOWN
    column: OptionalColumn = -1
    header: bool = False
    limit: Natural = 0


class EnglishFile(Table, frozen=True, kw_only=True):
    """An English column file.

    :param path: path of the file, below ``data/``.
    :param licence: licence of the file, as ``corpus.licence``.
    :param use: whether its sentences are for ``train``, ``dev`` or ``test``; or ``split``: every tenth
        sentence is test, the one before it dev, the others train.
    :param limit: largest number of sentences, taken evenly over the file; 0 for all.
    """

    path: str
    licence: str = UNKNOWN
    use: Literal["train", "dev", "test", "split"] = "train"
    format: ColumnFormat = ColumnFormat()
    limit: Natural = 0
