"""The recipe's tables of data: where files lie and how to read them."""

from collections.abc import Mapping
from typing import Literal

from backattn.recipe.constraints import Natural, OptionalColumn, Positive, Table

Scheme = Literal["IOB1", "IOB2", "BIOES", "BMES"]
Unit = Literal["word", "character"]


class ColumnFormat(Table, frozen=True, kw_only=True, tag_field="kind", tag="columns"):
    """How to read one column file.

    :param token: column of the token, from 0; negative counts from the end of the line.
    :param tag: column of the tag.
    :param scheme: the tag scheme of the file; everything becomes BIOES.
    :param orphans: an I- of IOB2 that continues nothing is refused, or (as conlleval reads it) begins an
        entity and is counted. The released CoNLL-2002 and Weibo files have a few.
    :param separator: what stands between columns.
    :param encoding: a Python codec name.
    :param comment: lines that start with this text are no tokens; empty for none.
    :param docstart: token of lines that separate documents (``-DOCSTART-``); empty for none.
    :param segmentation_digit: each token ends in a digit that is no part of it (Weibo).
    :param split_characters: the file's tokens are words of a language that writes no blanks; each of their
        characters becomes a token, and an entity keeps its extent.
    :param types: entity type of the file -> type in the project; "" makes it O. Empty keeps all
        types as they are; otherwise a type that is not listed is refused.
    """

    token: int = 0
    tag: int = -1
    scheme: Scheme = "IOB2"
    orphans: Literal["refuse", "begin"] = "refuse"
    separator: Literal["whitespace", "tab"] = "whitespace"
    encoding: str = "utf-8"
    comment: str = ""
    docstart: str = ""
    segmentation_digit: bool = False
    split_characters: bool = False
    types: Mapping[str, str] = {}


class CorpusRecipe(Table, frozen=True, kw_only=True):
    """Where the three splits lie and how to read them.

    :param source: where a user gets the data; printed when a file is missing.
    :param unit: what a source token is: a word, or one Chinese character.
    :param groups: name of a score -> suffix of the entity types it counts (Weibo: NE = ".NAM").
    """

    train: str
    dev: str
    test: str
    source: str
    unit: Unit = "word"
    format: ColumnFormat = ColumnFormat()
    groups: Mapping[str, str] = {}


class ParallelFile(Table, frozen=True, kw_only=True):
    """One file of sentence pairs for training a translator.

    :param path: a TSV file; or, with ``english_path``, a file with one foreign sentence a line.
    :param english_path: the file whose lines are the English side; empty when it is a column.
    :param foreign, english: columns of the two sides, from 0.
    :param header: the first line names the columns.
    :param group: column that says where a pair comes from; -1 when there is none.
    :param only, exclude: values of ``group`` to take alone, or to leave out.
    :param repeat: how often the file counts in training.
    :param limit: take at most so many pairs, evenly spread; 0 takes all.
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
    """A bilingual dictionary in the form of CC-CEDICT; each entry gives one short pair.

    :param path: as it is released: plain text, or packed (``.gz``).
    :param repeat: how often the file counts in training.
    :param limit: take at most so many entries, evenly spread; 0 takes all.
    """

    path: str
    repeat: Positive = 1
    limit: Natural = 0


class TextFile(Table, frozen=True, kw_only=True):
    """One file of plain sentences in the source language, one a line.

    :param column: column of the sentence in a TSV file, from 0; -1 takes the whole line.
    :param header: the first line names the columns.
    :param limit: take at most so many lines, evenly spread; 0 takes all.
    """

    path: str
    column: OptionalColumn = -1
    header: bool = False
    limit: Natural = 0


class EnglishFile(Table, frozen=True, kw_only=True):
    """One English column file for training the English tagger.

    :param use: ``train``, ``dev``, ``test``, or ``split`` (every tenth sentence is test, the one
        before it dev, the rest train).
    :param limit: take at most so many sentences, evenly spread; 0 takes all.
    """

    path: str
    use: Literal["train", "dev", "test", "split"] = "train"
    format: ColumnFormat = ColumnFormat()
    limit: Natural = 0
