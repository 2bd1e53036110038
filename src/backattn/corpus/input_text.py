"""Read new text to tag: a sentence a line, or columns as in the files of a run's corpus.

A file does not say which of the two forms it has, and each can be read as the other. Text that is clearly of
the other form is refused, mostly by its first lines, so that no tag is tagged as a word and no word is lost.
"""

import sys
from collections.abc import Collection, Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO, cast

from backattn.common.errors import CorpusError, MissingError
from backattn.common.safe_text import quoted
from backattn.corpus.formats import LONGEST_MEAN, LONGEST_TOKEN, split_columns
from backattn.corpus.tags import OUTSIDE, split_tag
from backattn.recipe import ColumnFormat, Unit

Tokens = tuple[str, ...]

_BLANKS = " \t"
# Consecutive lines that look like the other form before the text is refused; fewer may be a coincidence.
_CONSECUTIVE = 5
# Characters. A longer line is not text: a device, or a file without line feeds.
_LONGEST_LINE = 1 << 24


def read_lines(
    source: TextIO, unit: Unit, name: str, format: ColumnFormat, types: Collection[str]
) -> Iterator[Tokens]:
    """Yield the tokens of text with a sentence a line and spaces between tokens; empty lines are skipped.

    Where the unit is a character, every character but a blank is a token.

    :param format: of the run's corpus: the column of the tag, by which column files are recognised.
    :param types: the entity types of such tags.
    :raises CorpusError: a byte cannot be decoded, or the lines look like those of a column file: one has a
        tab, five in a row have a tag, all have a tag and one of these is an entity's, or all are one token
        with empty lines between; names file and line.
    """
    number = read = tagged = entities = row = single = empty = 0
    for number, line in enumerate(_lines(source, name), 1):
        if "\t" in line:
            raise _columns(f"{name}:{number}: found a tab")
        words = line.split() if unit == "character" else split_columns(line)
        if not words:
            empty += 1
            continue
        tokens = tuple("".join(words)) if unit == "character" else tuple(words)
        read += 1
        single += len(tokens) == 1
        tag = _tag(words, format, types)
        tagged, row = tagged + bool(tag), row + 1 if tag else 0
        entities += tag not in (None, OUTSIDE)
        if row == _CONSECUTIVE:
            raise _columns(f"{name}:{number}: {row} lines in a row have a tag, as here {quoted(tag)}")
        if single == read >= _CONSECUTIVE and empty:
            raise _columns(f"{name}:{number}: every line so far is one token, some lines are empty")
        _check_lengths(tokens, f"{name}:{number}")
        yield tokens
    if tagged == read and entities:
        raise _columns(f"{name}:{number}: every line has a tag")


def _check_lengths(tokens: Collection[str], where: str) -> None:
    longest = max(map(len, tokens))
    if longest > LONGEST_TOKEN:
        raise CorpusError(
            f"{where}: found a token of {longest:,} characters, expected at most {LONGEST_TOKEN:,}; mend "
            "the line"
        )


def _columns(found: str) -> CorpusError:
    return CorpusError(
        f"{found}, expected a sentence a line with spaces between its tokens; is it a file of columns? Then "
        "say --format columns"
    )


def _tag(words: list[str], format: ColumnFormat, types: Collection[str]) -> str | None:
    """The tag in the corpus' tag column or in the last column; None where neither holds one."""
    if len(words) < 2:
        return None
    places = [format.tag] if -len(words) <= format.tag < len(words) else []
    return next((words[place] for place in (*places, -1) if _is_tag(words[place], types)), None)


def _is_tag(word: str, types: Collection[str]) -> bool:
    prefix, kind = split_tag(word)
    return word == OUTSIDE or (prefix in tuple("BIESM") and kind in types)


def read_columns(
    source: TextIO, unit: Unit, name: str, format: ColumnFormat, types: Collection[str]
) -> Iterator[Tokens]:
    """Yield the sentences of text with a token a line and an empty line between sentences.

    :param format: of the run's corpus: the separator of columns, the token's column (a line of one column is
        the token), comments and document separators. Other columns are ignored. A segmentation digit is
        removed where there is one.
    :param types: the entity types of a column of tags.
    :raises CorpusError: a byte cannot be decoded, the number of columns differs from the lines before, the
        token's column does not exist, the lines look like sentences, or a token has several letters where the
        unit is a character.
    """
    pending: list[str] = []
    columns = 0  # of the first token line; the others must have as many
    number = read = spaced = words = sentences = 0
    for number, line in enumerate(_lines(source, name), 1):
        if format.comment and line.startswith(format.comment):
            continue
        cells = line.split("\t") if format.separator == "tab" else split_columns(line)
        if not line.strip(_BLANKS) or (format.docstart and format.docstart in cells):
            if pending:
                yield tuple(pending)
                pending, sentences = [], sentences + 1
            continue
        columns = columns or len(cells)
        column = format.token if columns > 1 else 0
        if len(cells) != columns:
            count = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
            raise _no_columns(f"{name}:{number}: found {count}", f"{columns} as in the lines before")
        if not -columns <= column < columns:
            raise CorpusError(
                f"{name}:{number}: found {columns} columns, expected the token in column {column}, as in "
                "the run's corpus (corpus.format.token of its recipe.json)"
            )
        read += 1
        tabs = "\t" in line
        spaced += columns == 1 and not tabs and " " in line.strip(_BLANKS)
        words += columns > 1 and not tabs and _tag(cells, format, types) is None
        if spaced == read == _CONSECUTIVE:
            raise _no_columns(f"{name}:{number}: every line has spaces", "tabs between columns")
        token = cells[column]
        if format.segmentation_digit and len(token) > 1 and token[-1] in "0123456789":
            token = token[:-1]
        if not token.strip(" ") or (
            unit == "character" and not format.split_characters and sum(map(str.isalpha, token)) > 1
        ):
            raise CorpusError(f"{name}:{number}: found {token!r}, expected one {unit} in column {column}")
        _check_lengths([token], f"{name}:{number}")
        pending += token if format.split_characters else [token]
        if not sentences and len(pending) > LONGEST_MEAN:  # the empty lines between sentences are missing
            raise _no_columns(
                f"{name}:{number}: found {len(pending):,} tokens", "an empty line after each sentence"
            )
    if read and spaced == read:
        raise _no_columns(f"{name}:{number}: every line has spaces", "tabs between columns")
    if read == words == 1:
        raise _no_columns(f"{name}:{number}: found one line of {columns} words", "a token a line")
    if pending:
        yield tuple(pending)


def _no_columns(found: str, expected: str) -> CorpusError:
    return CorpusError(
        f"{found}, expected {expected}; mend the file, or the run's corpus.format (recipe.json: separator, "
        "comment, docstart). Is it a file of a sentence a line? Then leave out --format columns"
    )


def _lines(source: TextIO, name: str) -> Iterator[str]:
    try:
        for number, line in enumerate(iter(lambda: source.readline(_LONGEST_LINE + 1), "")):
            if len(line) > _LONGEST_LINE:
                raise CorpusError(
                    f"{name}:{number + 1}: a line of more than {_LONGEST_LINE:,} characters; expected text"
                )
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
