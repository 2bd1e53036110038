"""New text to tag -> sentences: a sentence a line, or columns as in the files of a run's corpus.

Nobody has marked which of the two a file is, and either can be read as the other: what is plainly the
other one is refused, before words are lost or tags are tagged.
"""

import re
import sys
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO, cast

from backattn.corpus.formats import split_columns
from backattn.errors import CorpusError, MissingError
from backattn.quoting import quoted
from backattn.recipe import ColumnFormat, Unit

Tokens = tuple[str, ...]

_BLANKS = " \t"
_LIKE_A_TAG = re.compile(r"O|[BIESM]-\S+")
# So many lines like those of a file of columns, from its beginning, are one.
_ENOUGH = 5


def read_lines(source: TextIO, unit: Unit, name: str) -> Iterator[Tokens]:
    """One sentence a line, with spaces between the tokens; an empty line is no sentence.

    Where the unit is a character, every character but a blank is a token.

    :raises CorpusError: an undecodable byte, or lines as those of a file of columns: with a tab, all with a
        tag at the end, or all of one token with empty lines between; names file and line.
    """
    number = read = tagged = single = empty = 0
    for number, line in enumerate(_lines(source, name), 1):
        if "\t" in line:
            raise _columns(f"{name}:{number}: found a tab")
        words = line.split() if unit == "character" else split_columns(line)
        if not words:
            empty += 1
            continue
        tokens = tuple("".join(words)) if unit == "character" else tuple(words)
        read += 1
        tagged += len(words) > 1 and bool(_LIKE_A_TAG.fullmatch(words[-1]))
        single += len(tokens) == 1
        if tagged == read == _ENOUGH:
            raise _columns(
                f"{name}:{number}: every line so far ends in a tag, as here in {quoted(words[-1])}"
            )
        if single == read >= _ENOUGH and empty:
            raise _columns(f"{name}:{number}: every line so far is one token, some lines are empty")
        yield tokens
    if 1 < tagged == read:
        raise _columns(f"{name}:{number}: all {read} lines end in a tag")


def _columns(found: str) -> CorpusError:
    return CorpusError(
        f"{found}, expected a sentence a line with spaces between its tokens; is it a file of columns? Then "
        "say --format columns"
    )


def read_columns(source: TextIO, unit: Unit, name: str, format: ColumnFormat) -> Iterator[Tokens]:
    """One token a line, an empty line between sentences.

    :param format: of the run's corpus: what separates columns, where token and tag stand (a line of one
        column is the token), and which lines are comments or stand between documents. The tags and other
        columns are not read. A segmentation digit is taken off, where there is one.
    :raises CorpusError: an undecodable byte, not as many columns as in the lines before, no column of that
        number, a line of words without a tag, as a sentence is, or a token of several characters where the
        unit is one.
    """
    pending: list[str] = []
    columns = 0  # of the first token line; the others must have as many
    for number, line in enumerate(_lines(source, name), 1):
        if format.comment and line.startswith(format.comment):
            continue
        cells = line.split("\t") if format.separator == "tab" else split_columns(line)
        if not line.strip(_BLANKS) or (format.docstart and format.docstart in cells):
            if pending:
                yield tuple(pending)
                pending = []
            continue
        columns = columns or len(cells)
        column = format.token if columns > 1 else 0
        if len(cells) != columns:
            raise _no_columns(f"{name}:{number}", cells, f"{columns} as in the lines before")
        if not -columns <= column < columns:
            raise CorpusError(
                f"{name}:{number}: found {columns} columns, expected the token in column {column}, as in "
                "the run's corpus (corpus.format.token of its recipe.json)"
            )
        if "\t" not in line and " " in line.strip(_BLANKS):
            # Columns or words? Only a tag in its place tells.
            tag = cells[format.tag] if columns > 1 and -columns <= format.tag < columns else ""
            if not _LIKE_A_TAG.fullmatch(tag):
                raise _no_columns(
                    f"{name}:{number}", split_columns(line), f"a tag in column {format.tag}, or tabs between"
                )
        token = cells[column]
        if format.segmentation_digit and len(token) > 1 and token[-1] in "0123456789":
            token = token[:-1]
        if not token.strip(" ") or (unit == "character" and len(token) > 1 and not format.split_characters):
            raise CorpusError(f"{name}:{number}: found {token!r}, expected one {unit} in column {column}")
        pending += token if format.split_characters else [token]
    if pending:
        yield tuple(pending)


def _no_columns(place: str, cells: list[str], expected: str) -> CorpusError:
    count = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
    return CorpusError(
        f"{place}: found {count}, expected {expected}; is it a file of a sentence a line? Then leave out "
        "--format columns"
    )


def _lines(source: TextIO, name: str) -> Iterator[str]:
    try:
        for number, line in enumerate(source):
            text = line.removeprefix("\ufeff") if number == 0 else line  # a byte order mark
            yield text.rstrip("\n").rstrip("\r")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{name}: not UTF-8 ({error}); convert it, then run again") from None


def open_text(file: Path | None) -> TextIO:
    """Open a file, or standard input, to tag.

    :raises MissingError: it cannot be read.
    """
    if file is None:
        cast(TextIOWrapper, sys.stdin).reconfigure(encoding="utf-8")  # whatever the locale says
        return sys.stdin
    try:
        return file.open(encoding="utf-8", newline="\n")
    except OSError as error:
        raise MissingError(f"{file}: cannot be read ({error.strerror}); name a text file, or none") from None
