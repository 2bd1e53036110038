"""Read CoNLL-U files, and those of Universal NER (``.iob2``): the tag in a column, or in MISC by its key.

Only lines whose id is a whole number are tokens. Comments, multiword ranges (``2-3``) and empty nodes
(``4.1``) are counted. Ids must count from 1 in each sentence, so that two sentences are never read as one.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from backattn.common.safe_text import quoted
from backattn.corpus import Sentence
from backattn.corpus.labelled import (
    LONGEST_SENTENCE,
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

# Place of the last column of CoNLL-U, which holds KEY=VALUE|KEY=VALUE.
MISC = 9
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
    rows = ConlluRows(path, format)
    sentences = tuple(_sentences(rows, labelled_lines(path, "a CoNLL-U file")))
    check_sentences(path, sentences)
    return LabelledFile(
        sentences,
        orphans=rows.maker.orphans,
        comments=rows.comments,
        no_tokens=rows.no_tokens,
        sha256=whole_digest(path),
        ends=tuple(rows.maker.ends),
    )


def _sentences(rows: "ConlluRows", lines: Iterable[tuple[int, str]]) -> Iterator[Sentence]:
    token, tag, key = rows.format.token, rows.format.tag, rows.format.tag_key
    for sentence in rows.read(lines):
        tokens = [rows.maker.token(columns[token], number) for number, columns in sentence]
        tags = [misc_tag(columns[tag], key) if key else columns[tag] for _, columns in sentence]
        made = rows.maker.sentence(tokens, tags, [number for number, _ in sentence])
        rows.maker.ends[-1] = rows.last_line  # an empty node may follow the last token
        yield made


class ConlluRows:
    """Reader of the token lines of CoNLL-U; counts the other lines.

    Files of a corpus and new text are both read through it.

    :param path: the file, for messages.
    :param tagged: whether the column of the tag must exist.
    :ivar last_line: number of the last line of the sentence that was yielded last.
    """

    def __init__(self, path: Path, format: ConlluFormat, *, tagged: bool = True) -> None:
        self.maker = SentenceMaker(path, format)
        self.format = format
        self.comments = 0
        self.no_tokens = {RANGES: 0, EMPTY_NODES: 0}
        self.last_line = 0
        self._tagged = tagged
        self._columns = 0  # of the first line; the others must have as many

    def read(self, lines: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, list[str]]]]:
        """Yield the sentences: a list with the line number and the columns of each token.

        :raises CorpusError: a line is not CoNLL-U; names file and line.
        """
        rows: list[tuple[int, list[str]]] = []
        for number, line in lines:
            if not line.strip(" \t"):
                if rows:
                    yield rows
                rows = []
                continue
            self.last_line = number
            if line.startswith("#"):
                if rows:
                    raise self.maker.error(
                        number, "a line that begins with # in the middle of a sentence",
                        "comments before the first token of a sentence", "put an empty line before it",
                    )  # fmt: skip
                self.comments += 1
            elif columns := self._token_columns(line.split("\t"), number, len(rows) + 1):
                rows.append((number, columns))
                if len(rows) > LONGEST_SENTENCE:
                    raise self.maker.error(
                        number, f"a sentence of more than {LONGEST_SENTENCE:,} tokens",
                        "an empty line after each sentence", "put them in",
                    )  # fmt: skip
        if rows:
            yield rows

    def _token_columns(self, columns: list[str], number: int, expected: int) -> list[str]:
        """Check a line; return its columns if it is a token, else (range, empty node) an empty list."""
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
        has_tag = 0 < tag < len(columns) and token != tag
        if not 0 < token < len(columns) or (self._tagged and not has_tag):
            and_tag = f" and the tag in column {self.format.tag}" if self._tagged else ""
            raise self.maker.error(
                number, found, f"the id in column 0, the token in column {self.format.token}{and_tag}",
                "mend the line, or the format's token and tag in the recipe",
            )  # fmt: skip
        self._columns = len(columns)


def misc_tag(column: str, key: str) -> str:
    """Return the value of a key in the column MISC (``KEY=VALUE|KEY=VALUE``); O if the key is missing."""
    return next((value for name, value in misc_pairs(column) if name == key), OUTSIDE)


def misc_pairs(column: str) -> Iterator[tuple[str, str]]:
    """Yield the keys and values of the column MISC; a key without ``=`` has an empty value."""
    for pair in column.split("|"):
        key, _, value = pair.partition("=")
        yield key, value
