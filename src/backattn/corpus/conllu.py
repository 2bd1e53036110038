"""Read CoNLL-U files, and those of Universal NER (``.iob2``): the tag in a column, or in MISC by its key.

Only lines whose id is a whole number are tokens. Comments, multiword ranges (``2-3``) and empty nodes
(``4.1``) are counted. Ids count from 1 in each sentence, so that two sentences are never read as one.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from backattn.common.safe_text import quoted
from backattn.corpus import Sentence
from backattn.corpus.labelled import (
    LabelledFile,
    SentenceMaker,
    check_labels,
    check_sentences,
    count,
    places,
)
from backattn.corpus.labelled_lines import labelled_lines, whole_digest
from backattn.corpus.tags import OUTSIDE
from backattn.recipe import ConlluFormat

_TOKEN_ID = re.compile("[0-9]{1,9}")
_RANGE = re.compile("[0-9]{1,9}-[0-9]{1,9}")
_EMPTY_NODE = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}")
RANGES, EMPTY_NODES = "multiword ranges", "empty nodes"


def parse_conllu(path: Path, format: ConlluFormat) -> LabelledFile:
    """Read a CoNLL-U file, which may be packed by gzip (``.gz``).

    :raises MissingError: there is no such file.
    :raises CorpusError: it does not fit the format; names file and line.
    :raises RecipeError: the format's keys contradict each other.
    """
    check_labels(path, format)
    reader = _Reader(path, format)
    sentences = tuple(reader.sentences(labelled_lines(path, "a CoNLL-U file")))
    check_sentences(path, sentences)
    return LabelledFile(
        sentences,
        orphans=reader.maker.orphans,
        comments=reader.comments,
        no_tokens=reader.no_tokens,
        sha256=whole_digest(path),
    )


class _Reader:
    """Reader of the sentences of one file; counts what is no token."""

    def __init__(self, path: Path, format: ConlluFormat) -> None:
        self.maker = SentenceMaker(path, format)
        self.format = format
        self.comments = 0
        self.no_tokens = {RANGES: 0, EMPTY_NODES: 0}
        self._columns = 0  # of the first line; the others must have as many

    def sentences(self, lines: Iterable[tuple[int, str]]) -> Iterator[Sentence]:
        """Yield the sentences.

        :raises CorpusError: a line is not CoNLL-U; names file and line.
        """
        tokens: list[str] = []
        tags: list[str] = []
        numbers: list[int] = []
        for number, line in lines:
            if not line.strip(" \t"):
                if tokens:
                    yield self.maker.sentence(tokens, tags, numbers)
                tokens, tags, numbers = [], [], []
            elif line.startswith("#"):
                if tokens:
                    raise self.maker.error(
                        number, "a line that begins with # in the middle of a sentence",
                        "comments before the first token of a sentence", "put an empty line before it",
                    )  # fmt: skip
                self.comments += 1
            elif columns := self._token_columns(line.split("\t"), number, len(tokens) + 1):
                tokens.append(self.maker.token(columns[self.format.token], number))
                tags.append(self._tag(columns[self.format.tag]))
                numbers.append(number)
        if tokens:
            yield self.maker.sentence(tokens, tags, numbers)

    def _token_columns(self, columns: list[str], number: int, expected: int) -> list[str]:
        """The columns of a token's line; empty for a range or an empty node."""
        if len(columns) != self._columns:
            self._check_columns(columns, number)
        if _RANGE.fullmatch(columns[0]):
            self.no_tokens[RANGES] += 1
            return []
        if _EMPTY_NODE.fullmatch(columns[0]):
            self.no_tokens[EMPTY_NODES] += 1
            return []
        if not _TOKEN_ID.fullmatch(columns[0]) or int(columns[0]) != expected:
            advice = "put an empty line before it" if columns[0] == "1" else "mend the line"
            raise self.maker.error(
                number, f"the id {quoted(columns[0])}", f"{expected}, a range like 2-3 or a node like 4.1",
                f'{advice}; or, if the file has no ids, set corpus.format.kind = "columns" in the recipe',
            )  # fmt: skip
        return columns

    def _check_columns(self, columns: list[str], number: int) -> None:
        found = count(len(columns), "tab-separated column")
        if self._columns:
            expected = f"{self._columns} as in the lines before"
            raise self.maker.error(number, found, expected, "mend the line")
        token, tag = places(self.format, len(columns))
        if not (0 < token < len(columns) and 0 < tag < len(columns)) or token == tag:
            raise self.maker.error(
                number, found,
                f"the id in column 0, the token in column {self.format.token} and the tag in column "
                f"{self.format.tag}", "mend the line, or the format's token and tag in the recipe",
            )  # fmt: skip
        self._columns = len(columns)

    def _tag(self, column: str) -> str:
        return misc_tag(column, self.format.tag_key) if self.format.tag_key else column


def misc_tag(column: str, key: str) -> str:
    """The value of a key in the column MISC (``KEY=VALUE|KEY=VALUE``); O where it has none."""
    pairs = (pair.partition("=") for pair in column.split("|"))
    return next((value for name, _, value in pairs if name == key), OUTSIDE)
