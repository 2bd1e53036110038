"""Read new text to tag: tokens, a sentence a line; columns as in the files of a run's corpus; or CoNLL-U.

A file does not say which form it has, and each can be read as another. Text that is clearly of another form
is refused, mostly by its first lines, so that no tag is read as a word and no word is lost.
:mod:`backattn.corpus.input_raw` reads text that is not tokenised, and JSON lines.
"""

import gzip
import sys
import threading
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from msgspec import structs

from backattn.common.errors import CorpusError, MissingError
from backattn.common.regular_files import open_regular
from backattn.common.safe_text import quoted
from backattn.common.text_lines import BYTE_ORDER_MARK
from backattn.corpus.conllu import ConlluRows
from backattn.corpus.documents import (
    Document,
    check_characters,
    check_tokens,
    found_in,
    joined,
)
from backattn.corpus.formats import ColumnRows, Row, split_columns
from backattn.corpus.labelled import DOCSTART, LONGEST_SENTENCE
from backattn.corpus.other_forms import other_form
from backattn.corpus.tags import OUTSIDE, split_tag
from backattn.recipe import ColumnFormat, ConlluFormat, CorpusFormat, JsonlFormat, Unit

_BLANKS = " \t"
# Consecutive lines that look like another form before the text is refused; fewer may be a coincidence.
_CONSECUTIVE = 5
# Lines that end in a tab and a tag before the text is refused: a sentence hardly ends so.
_TABBED = 2
# Bytes. A longer line is not text: a device, or a file without line feeds.
_LONGEST_LINE = 1 << 22
# How long to wait for a program that writes to a pipe.
_WRITER_SECONDS = 5.0


@dataclass(frozen=True)
class InputForm:
    """The form of an input: its name, and the unit, format and types of the run's corpus.

    :param name: name of the file, for messages.
    :param unit: whether a token is a word, or one character.
    :param format: format of the run's corpus: columns, comments, separators, names of fields.
    :param types: the entity types of tags, by which columns of tags are recognised.
    :param tell: prints a line for the user.
    """

    name: str
    unit: Unit
    format: CorpusFormat
    types: Collection[str]
    tell: Callable[[str], None] = lambda _: None

    @property
    def columns(self) -> ColumnFormat:
        """The format by which columns are read: that of the run's corpus, else the default."""
        return self.format if isinstance(self.format, ColumnFormat) else ColumnFormat()

    @property
    def conllu(self) -> ConlluFormat:
        """The format by which CoNLL-U is read: that of the run's corpus, else the default."""
        return self.format if isinstance(self.format, ConlluFormat) else ConlluFormat()

    @property
    def fields(self) -> JsonlFormat:
        """The format by which JSON lines are read: that of the run's corpus, else the default."""
        return self.format if isinstance(self.format, JsonlFormat) else JsonlFormat()

    def characters(self, tokens: Sequence[str], where: str) -> Sequence[str]:
        """Split tokens into characters if the format of the run's corpus does; else check and return them.

        :param where: file and line, for messages.
        :raises CorpusError: a token should be one character, and has several letters.
        """
        if self.format.split_characters:
            return [character for token in tokens for character in token]
        check_characters(tokens, self.unit, where)
        return tokens


@contextmanager
def open_input(file: Path | None) -> Iterator[BinaryIO]:
    """Open a file, or standard input (None), to tag; ``.gz`` is unpacked as it is read.

    For a pipe, this waits a few seconds for its writer: it may be that of ``tag RUN <(command)``.

    :raises MissingError: it cannot be read, is a device, which might never end, or a pipe without a writer.
    """
    if file is None:
        if sys.stdin is None:
            raise MissingError("standard input: is closed; name a text file")
        yield sys.stdin.buffer
        return
    try:
        opened = _open_pipe(file) if file.is_fifo() else open_regular(file)
    except OSError as error:
        raise MissingError(
            f"{file}: cannot be read ({error.strerror}); name a text file, or give the text on standard input"
        ) from None
    with opened:
        if file.suffix != ".gz":
            yield opened
            return
        with gzip.open(opened) as unpacked:
            yield unpacked  # type: ignore[misc]  # has all that is read here


def _open_pipe(file: Path) -> BinaryIO:
    """Open a pipe in a thread: the call blocks until a program opens the pipe for writing.

    :raises MissingError: no program does so in time.
    :raises OSError: the pipe cannot be opened.
    """
    found: list[BinaryIO | OSError] = []

    def open_it() -> None:
        try:
            found.append(file.open("rb"))
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=open_it, daemon=True)
    thread.start()
    thread.join(_WRITER_SECONDS)
    if not found:
        raise MissingError(
            f"{file}: is a pipe, and no program writes to it; name a text file, or give the text on standard "
            "input"
        )
    if isinstance(found[0], OSError):
        raise found[0]
    return found[0]


def numbered_lines(source: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    """Yield ``(line number, line)`` without its line feed, and the carriage return before it.

    :raises CorpusError: a line is too long, is not UTF-8, or has a carriage return or a NUL inside; or a
        packed file is damaged.
    :raises MissingError: reading fails.
    """
    for number, raw in enumerate(_raw_lines(source, name), 1):
        if len(raw) > _LONGEST_LINE:
            raise CorpusError(
                f"{name}:{number}: a line of more than {_LONGEST_LINE:,} bytes; expected text with line feeds"
            )
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise CorpusError(
                f"{name}:{number}: byte {error.start + 1} of the line is not UTF-8; convert the file to UTF-8"
            ) from None
        line = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
        line = line.removesuffix("\n").removesuffix("\r")
        for character, found in (("\r", "a carriage return inside the line"), ("\0", "a NUL character")):
            if character in line:
                raise CorpusError(
                    f"{name}:{number}: found {found}, expected UTF-8 text with lines that end in a line "
                    "feed; convert the file"
                )
        yield number, line


def _raw_lines(source: BinaryIO, name: str) -> Iterator[bytes]:
    try:
        yield from iter(lambda: source.readline(_LONGEST_LINE + 1), b"")
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise CorpusError(f"{name}: not whole, or not packed by gzip; fetch it again") from None
    except OSError as error:  # unconverted, it would be reported as an error of the output
        raise MissingError(f"{name}: cannot be read ({error.strerror}); name a text file") from None


def text_lines(source: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of text that is not in JSON.

    :raises CorpusError: as :func:`numbered_lines`; or the first line is JSON.
    """
    seen = False
    for number, line in numbered_lines(source, name):
        if not seen and line.strip():
            seen = True
            if line.lstrip(" [").startswith("{") and other_form(line):
                raise CorpusError(f"{name}:{number}: found JSON; for JSON lines say --input jsonl")
        yield number, line


def is_docstart(line: str, format: ColumnFormat) -> bool:
    """Return whether a line separates documents."""
    return line.split(None, 1)[:1] in ([DOCSTART], [format.docstart])


def read_tokens(source: BinaryIO, form: InputForm) -> Iterator[Document]:
    """Yield the lines of text with a sentence a line and spaces between tokens.

    Where the unit is a character, every character but a blank is a token.

    :raises CorpusError: a line cannot be read, or the lines are those of a column file: one has a tab, or as
        :class:`ColumnSuspicion` says; names file and line.
    """
    suspicion = ColumnSuspicion(form)
    for number, line in text_lines(source, form.name):
        where = f"{form.name}:{number}"
        if "\t" in line:
            raise columns_instead(f"{where}: found a tab", "a sentence a line with spaces between its tokens")
        if is_docstart(line, form.columns):
            yield Document(line, separator=True)
            continue
        words = line.split() if form.unit == "character" else split_columns(line)
        tokens = list("".join(words)) if form.unit == "character" else words
        suspicion.look(number, line, words, len(tokens))
        check_tokens(tokens, where)
        yield Document(line, (found_in(line, tokens, where),) if tokens else ())
    suspicion.end()


class ColumnSuspicion:
    """Detects lines of a column file in text, and refuses them.

    It refuses five lines in a row that end in a tag; two lines that end in a tab and a tag; an input of which
    every line ends in a tag, one of them of an entity; and lines of one token each with empty lines between.
    """

    def __init__(self, form: InputForm) -> None:
        self._form = form
        self._number = self._read = self._tagged = self._entities = 0
        self._row = self._single = self._empty = self._tabbed = 0

    def look(self, number: int, line: str, words: list[str], tokens: int) -> None:
        """Look at a line.

        :param words: the texts between its blanks.
        :param tokens: number of its tokens.
        """
        self._number = number
        if not words:
            self._empty += 1
            return
        self._read += 1
        self._single += tokens == 1
        tag = tag_of(words, self._form)
        self._tagged, self._row = self._tagged + bool(tag), self._row + 1 if tag else 0
        self._entities += tag not in (None, OUTSIDE)
        if self._row == _CONSECUTIVE:
            raise self._columns(f"{self._row} lines in a row have a tag, as here {quoted(tag)}")
        behind_tab = tag_of(line.split("\t"), self._form)  # of a line without a tab, None
        self._tabbed += behind_tab is not None
        if self._tabbed == _TABBED:
            raise self._columns(f"{_TABBED} lines have a tab and a tag, as here {quoted(behind_tab)}")
        if self._single == self._read >= _CONSECUTIVE and self._empty:
            raise self._columns("every line so far is one token, some lines are empty")

    def end(self) -> None:
        """Look at all lines together, after the last one."""
        if self._tagged == self._read and self._entities:
            raise self._columns("every line has a tag")

    def _columns(self, found: str) -> CorpusError:
        return columns_instead(f"{self._form.name}:{self._number}: {found}", "sentences on lines")


def columns_instead(found: str, expected: str) -> CorpusError:
    """Make the error for a column file that was given as text."""
    return CorpusError(f"{found}, expected {expected}; is it a file of columns? Then say --input columns")


def tag_of(words: list[str], form: InputForm) -> str | None:
    """Return the tag in the tag column of the corpus, else in the last column; None if neither holds one."""
    if len(words) < 2:
        return None
    column = form.columns.tag
    places = [column] if -len(words) <= column < len(words) else []
    return next((words[place] for place in (*places, -1) if is_tag(words[place], form.types)), None)


def is_tag(word: str, types: Collection[str]) -> bool:
    """Return whether a word is O, or a prefix of any scheme with one of the types."""
    prefix, kind = split_tag(word)
    return word == OUTSIDE or (prefix in tuple("BIESMLUW") and kind in types)


def read_columns(source: BinaryIO, form: InputForm) -> Iterator[Document]:
    """Yield the sentences of text with a token a line and an empty line between sentences.

    The format of the run's corpus gives the separator, the column of the token (a line of one column is the
    token), comments, which are counted, and document separators. Other columns are ignored. A segmentation
    digit is removed if the format has it.

    :raises CorpusError: a line cannot be read, the number of columns differs from the lines before, the
        token's column does not exist or holds tags, the lines look like sentences, or a token has several
        letters where the unit is a character.
    """
    format = structs.replace(form.columns, docstart=form.columns.docstart or DOCSTART)
    rows, columns = ColumnRows(form.name, format, form.types), _Columns(form)
    pending: list[str] = []
    separators = 0
    for row in rows.read(text_lines(source, form.name)):
        if row.columns:
            # New separators can only stand before the first row of a sentence, so before this row.
            for _ in range(separators, rows.documents):
                yield Document(format.docstart, separator=True)
            separators = rows.documents
            pending += columns.tokens(row)
            if len(pending) > LONGEST_SENTENCE:
                check_tokens(pending, f"{form.name}:{row.number}")
        else:
            yield joined(pending, form.unit)
            pending = []
    columns.end()
    for _ in range(separators, rows.documents):
        yield Document(format.docstart, separator=True)
    if rows.comments:
        form.tell(f"{form.name}: passed over {rows.comments:,} comment line{'s'[: rows.comments > 1]}")


class _Columns:
    """Takes the tokens from rows of columns; refuses other forms of text, and a wrong column of tokens."""

    def __init__(self, form: InputForm) -> None:
        self._form, self._format = form, form.columns
        self._columns = 0  # of the first row; the others must have as many
        self._number = self._read = self._spaced = self._words = self._tags = self._entities = 0
        self._ids = self._id = 0  # rows whose token is an id of CoNLL-U, and the last of these

    def tokens(self, row: Row) -> Sequence[str]:
        """Return the token of a row, or its characters if the format splits words."""
        number, line, cells = row
        self._number = number
        where = f"{self._form.name}:{number}"
        self._columns = self._columns or len(cells)
        column = self._format.token if self._columns > 1 else 0
        if len(cells) != self._columns:
            count = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
            raise _no_columns(f"{where}: found {count}", f"{self._columns} as in the lines before")
        if not -self._columns <= column < self._columns:
            raise CorpusError(
                f"{where}: found {self._columns} columns, expected the token in column {column}, as in the "
                "run's corpus (corpus.format.token of its recipe.json)"
            )
        tabs = "\t" in line
        self._read += 1
        self._spaced += self._columns == 1 and not tabs and " " in line.strip(_BLANKS)
        self._words += self._columns > 1 and not tabs and tag_of(cells, self._form) is None
        if self._spaced == self._read == _CONSECUTIVE:
            raise _no_columns(f"{where}: every line has spaces", "tabs between columns")
        token = cells[column]
        self._look_for_tags(token, where)
        self._look_for_ids(token, where)
        if self._format.segmentation_digit and len(token) > 1 and token[-1] in "0123456789":
            token = token[:-1]
        one = self._form.unit == "word" or self._format.split_characters or sum(map(str.isalpha, token)) < 2
        if not token.strip(" ") or not one:
            raise CorpusError(f"{where}: found {token!r}, expected one {self._form.unit} in column {column}")
        check_tokens([token], where)
        return token if self._format.split_characters else [token]

    def _look_for_tags(self, token: str, where: str) -> None:
        """Refuse a column of tokens that holds only tags in the first rows."""
        if self._columns > 1 and is_tag(token, self._form.types):
            self._tags += 1
            self._entities += token != OUTSIDE
        if self._tags == self._read == _CONSECUTIVE:
            raise self._tagged(where)

    def _look_for_ids(self, token: str, where: str) -> None:
        """Refuse a column of tokens that holds only ids of CoNLL-U in the first rows."""
        if self._columns > 2 and token in ("1", str(self._id + 1)):
            self._ids, self._id = self._ids + 1, int(token)
        if self._ids == self._read == _CONSECUTIVE:
            raise self._numbered(where)

    def _numbered(self, where: str) -> CorpusError:
        return CorpusError(
            f"{where}: the column that would be read as tokens, {self._format.token}, counts from 1, "
            "expected words; is it CoNLL-U? Then say --input conllu"
        )

    def _tagged(self, where: str) -> CorpusError:
        return CorpusError(
            f"{where}: the column that would be read as tokens, {self._format.token}, holds tags; expected "
            "the columns of the run's corpus (corpus.format.token of its recipe.json); is it a file of "
            "predictions? Then give the tokens alone, one a line"
        )

    def end(self) -> None:
        """Look at all rows together, after the last one."""
        where = f"{self._form.name}:{self._number}"
        if self._read and self._spaced == self._read:
            raise _no_columns(f"{where}: every line has spaces", "tabs between columns")
        if self._read == self._words == 1:
            raise _no_columns(f"{where}: found one line of {self._columns} words", "a token a line")
        if self._tags == self._read and self._entities:
            raise self._tagged(where)
        if self._ids == self._read > 1:
            raise self._numbered(where)


def read_conllu(source: BinaryIO, form: InputForm) -> Iterator[Document]:
    """Yield the sentences of CoNLL-U; tags are not read, and may be missing.

    The token is in the column of the run's corpus, if that is CoNLL-U. Comments, multiword ranges and empty
    nodes are counted.

    :raises CorpusError: a line cannot be read, or is not CoNLL-U; names file and line.
    """
    rows = ConlluRows(Path(form.name), form.conllu, tagged=False)
    for sentence in rows.read(text_lines(source, form.name)):
        tokens: list[str] = []
        for number, columns in sentence:
            token, where = columns[form.conllu.token], f"{form.name}:{number}"
            check_tokens([token], where)
            tokens += form.characters([token], where)
        check_tokens(tokens, f"{form.name}:{sentence[0][0]}")
        yield joined(tokens, form.unit)
    passed = {"comment lines": rows.comments, **rows.no_tokens}
    if found := [
        f"{number:,} {what if number > 1 else what.removesuffix('s')}"
        for what, number in passed.items()
        if number
    ]:
        form.tell(f"{form.name}: passed over {', '.join(found)}")


def _no_columns(found: str, expected: str) -> CorpusError:
    return CorpusError(
        f"{found}, expected {expected}; mend the file, or the run's corpus.format (recipe.json: separator, "
        "comment, docstart). Is it a file of a sentence a line? Then say --input tokens, or text"
    )
