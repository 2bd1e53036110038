"""Read the files of a corpus of any format; this module itself reads column files, with one token a line.

Such are CoNLL-2003, CoNLL-2002, Weibo, OntoNotes-like and other files.

A file is decoded as a whole and split at line feeds alone, so that the other separators of Unicode (U+2028,
U+0085, ...) may be part of a token. A line that does not fit the format is refused with file and line. Every
line is a token, except blank lines, and comments and document separators, which are counted.
"""

import codecs
import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from backattn.common.atomic_files import is_file
from backattn.common.errors import CorpusError, MissingError, RecipeError
from backattn.common.regular_files import read_regular
from backattn.common.safe_text import listed, quoted, shortened
from backattn.common.text_lines import BYTE_ORDER_MARK, unpacked
from backattn.corpus import SPLITS, Corpus, Sentence
from backattn.corpus.conllu import parse_conllu
from backattn.corpus.jsonl import parse_jsonl
from backattn.corpus.labelled import (
    DOCSTART,
    IOB2,
    MOST_BYTES,
    LabelledFile,
    SentenceMaker,
    check_labels,
    check_sentences,
    count,
    places,
)
from backattn.corpus.other_forms import of_brat, other_binary, other_form
from backattn.corpus.tags import (
    OUTSIDE,
    TagError,
    is_tag,
    schemes_of,
)
from backattn.recipe import (
    ColumnFormat,
    ConlluFormat,
    CorpusFormat,
    CorpusRecipe,
    JsonlFormat,
    data_path,
)

_BLANKS = " \t"
# Python has these text encodings, too; but no corpus is written in them, and decoding them may give lone
# surrogates or resolve escapes, or take time that grows with the square of a line's length.
_NO_FILE_ENCODINGS = {"idna", "punycode", "unicode-escape", "raw-unicode-escape", "utf-7", "undefined"}


def read_corpus(recipe: CorpusRecipe) -> Corpus:
    """Read the three splits that a recipe names.

    :raises MissingError: files do not exist; the message names all, their source and their places.
    :raises CorpusError: a file does not fit the recipe's format; names file and line.
    """
    paths = {split: data_path(getattr(recipe, split)) for split in SPLITS}
    missing = [(name, path) for name, path in paths.items() if not is_file(path) and not os.path.isdir(path)]
    if missing:
        (split, path), *more = missing
        them = "them" if more else "it"
        nor = "".join(f", nor {other} (corpus.{name})" for name, other in more)
        raise MissingError(
            f"{path}: no such file (corpus.{split}){nor}; get {them} from {shortened(recipe.source)}; put "
            f"{them} there, or set BACKATTN_DATA to the folder that holds the recipe's data"
        )
    return corpus_of({split: parse_file(path, recipe.format) for split, path in paths.items()})


def corpus_of(files: Mapping[str, LabelledFile]) -> Corpus:
    """Build a corpus from three files that were read, by the names of the splits."""
    return Corpus(
        **{split: file.sentences for split, file in files.items()},
        documents={split: file.documents for split, file in files.items()},
        orphans={split: file.orphans for split, file in files.items()},
        comments={split: file.comments for split, file in files.items()},
        no_tokens={split: file.no_tokens for split, file in files.items()},
        sha256={split: file.sha256 for split, file in files.items()},
    )


def parse_file(path: Path, format: CorpusFormat) -> LabelledFile:
    """Read a labelled file by its format.

    :raises MissingError: there is no such file.
    :raises CorpusError: the file does not fit the format; names file and line.
    :raises RecipeError: the format's keys contradict each other.
    """
    match format:
        case ColumnFormat():
            return parse_column_file(path, format)
        case ConlluFormat():
            return parse_conllu(path, format)
        case JsonlFormat():
            return parse_jsonl(path, format)


def read_column_file(path: Path, format: ColumnFormat) -> list[Sentence]:
    """Read the sentences of one column file, with tags in BIOES.

    :raises MissingError: there is no such file.
    :raises CorpusError: the file does not fit the format; names file and line.
    :raises RecipeError: the format's encoding is unknown, or its keys contradict each other.
    """
    return list(parse_column_file(path, format).sentences)


def parse_column_file(path: Path, format: ColumnFormat) -> LabelledFile:
    """Read a column file, which may be packed by gzip (``.gz``), and count the lines that are no tokens.

    Raises as :func:`read_column_file`.
    """
    _check_format(path, format)
    if os.path.isdir(path) and (found := of_brat(path)):
        raise CorpusError(f"{path}: expected a column file; this looks like {found}")
    if not is_file(path):  # reading a pipe or a device may never end
        raise MissingError(f"{path}: cannot be read (not a file); put a column file there")
    try:
        packed = read_regular(path, MOST_BYTES)
    except OSError as error:
        raise MissingError(f"{path}: cannot be read ({error.strerror}); put a column file there") from None
    data = unpacked(path, packed, MOST_BYTES) if path.suffix == ".gz" else packed
    if found := other_binary(path, data):
        raise CorpusError(f"{path}: expected a column file, found {found}")
    text = _decode(data, path, format.encoding)
    if found := other_form(text):
        raise CorpusError(f"{path}:1: expected a column file; this looks like {found}")
    reader = _Reader(path, format)
    try:
        sentences = tuple(reader.sentences(text.split("\n")))
    except CorpusError:
        if found := of_brat(path):
            raise CorpusError(f"{path}:1: expected a column file; this looks like {found}") from None
        raise
    check_sentences(path, sentences)
    digest = hashlib.sha256(packed).hexdigest()
    return LabelledFile(
        sentences,
        documents=reader.rows.documents,
        orphans=reader.maker.orphans,
        comments=reader.rows.comments,
        sha256=digest,
        document_of=tuple(reader.document_of),
        ends=tuple(reader.maker.ends),
    )


def _check_format(path: Path, format: ColumnFormat) -> None:
    """Check a format's keys.

    :raises RecipeError: they contradict each other, or a type or the encoding is not valid.
    """
    check_labels(path, format)
    try:
        # Python imports a module for a name with a dot, and refuses one with a NUL with another exception.
        known = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _:-]{0,39}", format.encoding)
        name = codecs.lookup(format.encoding).name if known else ""
    except LookupError:
        name = ""
    if not name or name.replace("_", "-") in _NO_FILE_ENCODINGS:
        raise _no_encoding(path, format.encoding)


def _no_encoding(path: Path, encoding: str) -> RecipeError:
    return RecipeError(
        f"{path}: the recipe reads it in encoding {quoted(encoding)}, which Python does not know as an "
        "encoding of text files; expected a name like utf-8 or iso-8859-1"
    )


# Characters of comments at the head of a file that are kept until the first line of another kind.
_MOST_AHEAD = 1 << 20
# Ids of CoNLL-U that are no tokens: 2-3 comes before the tokens 2 and 3, 4.1 after token 4.
_NO_TOKEN_ID = re.compile(r"([0-9]{1,6})([.-])[0-9]{1,6}")


class Row(NamedTuple):
    """A token line of a column file, or the end of a sentence, which has no columns."""

    number: int
    line: str
    columns: list[str]


class ColumnRows:
    """Reader of lines in columns: tells tokens, comments, document separators and ends of sentences apart.

    Files of a corpus and new text in columns are both read through it.

    :param name: name of the file, for messages.
    :param types: the bare types of the file, which distinguish comments from tokens; only the scheme IO needs
        them, in which any word could be a tag.
    """

    def __init__(self, name: str, format: ColumnFormat, types: Collection[str] = ()) -> None:
        self.name = name
        self.format = format
        self.split = split_at_tabs if format.separator == "tab" else split_columns
        self.documents = 0
        self.comments = 0
        self._types = types
        # Number of columns of the first line that cannot be a comment, and whether it has a tag.
        self._columns = 0
        self._tagged = False

    def read(self, numbered: Iterable[tuple[int, str]]) -> Iterator[Row]:
        """Yield the token lines, and a row without columns after each sentence.

        :param numbered: lines and their numbers.
        :raises CorpusError: a line is a separator of documents that the format does not name, a range or an
            empty node of CoNLL-U, or a comment in the middle of a sentence.
        """
        ids: list[str] = []  # the first column of each row of the sentence
        comment = 0  # line number of the first comment inside the sentence
        mark, docstart, place = self.format.comment, self.format.docstart, self.format.token
        split = self.split
        for number, line in self._with_look_ahead(iter(numbered)):
            columns = split(line)
            if not line or ((docstart or line[0] in _BLANKS) and self._ends_sentence(line, columns)):
                if ids:
                    yield Row(number, line, [])
                ids, comment = [], 0
                continue
            if DOCSTART in line and DOCSTART in split_columns(line):
                raise self._docstart(number)
            if mark and line.startswith(mark) and self._is_comment(columns, head=not ids):
                self.comments += 1
                comment = comment or (number if ids else 0)
                continue
            has_ids = place and place % len(columns) != 0
            if comment:
                if not (has_ids and _start_again(ids, columns[0])):
                    raise self._comment_inside(comment)
                yield Row(number, line, [])
                ids, comment = [], 0
            if has_ids and not columns[0].isdecimal():
                self._check_id(columns[0], ids[-1] if ids else "0", number)
            ids.append(columns[0])
            yield Row(number, line, columns)
        if ids:
            yield Row(number, "", [])

    def _ends_sentence(self, line: str, columns: list[str]) -> bool:
        """Return whether a line is blank, or separates documents; count the separators."""
        docstart = self.format.docstart
        if docstart and docstart in line and (docstart in columns or split_columns(line)[:1] == [docstart]):
            self.documents += 1
            return True
        return not line.strip(_BLANKS)

    def _with_look_ahead(self, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
        """Yield the lines, after reading ahead to the first that cannot be a comment, for its columns."""
        ahead: list[tuple[int, str]] = []
        characters = 0
        for number, line in lines if self.format.comment else ():
            ahead.append((number, line))
            characters += len(line) + 1
            if line.strip(_BLANKS) and not line.startswith(self.format.comment):
                columns = self.split(line)
                if not self.format.docstart or self.format.docstart not in split_columns(line):
                    self._columns, self._tagged = len(columns), self._has_tag(columns)
                    break
            if characters > _MOST_AHEAD:
                break
        return chain(ahead, lines)

    def _is_comment(self, columns: list[str], *, head: bool) -> bool:
        """Return whether a line that begins like a comment is one.

        It is one if it lacks the columns or the tag of a token, or is one field at the head of a sentence.
        """
        if head and len(columns) == 1:
            return True
        if self._columns and len(columns) != self._columns:
            return True
        return (self._tagged or not self._columns) and not self._has_tag(columns)

    def _has_tag(self, columns: list[str]) -> bool:
        """Return whether the columns hold a token and a tag of the scheme."""
        token, tag = places(self.format, len(columns))
        if token == tag or not (0 <= token < len(columns) and 0 <= tag < len(columns)):
            return False
        found = columns[tag]
        known = self.format.scheme != "IO" or found == OUTSIDE or found in self._types
        return known and is_tag(found, self.format.scheme, self.format.type)

    def _check_id(self, found: str, previous: str, number: int) -> None:
        """Refuse a range or an empty node of CoNLL-U."""
        row = _NO_TOKEN_ID.fullmatch(found)
        if row and previous.isdecimal() and int(row[1]) == int(previous[:6]) + (row[2] == "-"):
            what = "a range of tokens" if row[2] == "-" else "an empty node"
            raise CorpusError(
                f"{self.name}:{number}: found the id {found}, {what} of CoNLL-U, expected a token; set "
                'corpus.format.kind = "conllu" in the recipe, or take the line out'
            )

    def _docstart(self, number: int) -> CorpusError:
        return CorpusError(
            f"{self.name}:{number}: found {DOCSTART!r}, expected a token, not a separator of documents; set "
            f'docstart = "{DOCSTART}" in the recipe\'s format'
        )

    def _comment_inside(self, number: int) -> CorpusError:
        return CorpusError(
            f"{self.name}:{number}: found a comment in the middle of a sentence, expected it before one, or "
            "ids that start again after it; put an empty line before it, or mend the line if it is a token"
        )


def _start_again(ids: list[str], following: str) -> bool:
    """Return whether an id begins a new sentence: it equals the first id, 0 or 1, of this one."""
    return following == ids[0] in ("0", "1") and (len(ids) == 1 or ids[-1] != following)


class _Reader:
    """Reader of the sentences of one file."""

    def __init__(self, path: Path, format: ColumnFormat) -> None:
        self.path = path
        self.format = format
        self.rows = ColumnRows(str(path), format)
        self.maker = SentenceMaker(path, format)
        self.document_of: list[int] = []
        # Columns of the first token line, and that line; the others must have as many.
        self._columns = 0
        self._first = (0, "")

    def sentences(self, lines: list[str]) -> Iterator[Sentence]:
        """Yield the sentences of a file's lines.

        :raises CorpusError: a line does not fit the format; names file and line.
        """
        if self.format.scheme == "IO" and self.format.comment:
            self.rows = ColumnRows(str(self.path), self.format, self._bare_types(lines))
        rows: list[Row] = []
        for row in self.rows.read(enumerate(lines, 1)):
            if row.columns:
                if len(row.columns) != self._columns:
                    self._check_columns(row)
                if not rows:
                    self.document_of.append(self.rows.documents)
                rows.append(row)
            elif rows:
                yield self._sentence(rows)
                rows = []

    def _bare_types(self, lines: list[str]) -> set[str]:
        """Collect the types on lines that cannot be comments."""
        sure = (line for line in lines if not line.startswith(self.format.comment))
        return {tag for line in sure for tag in self.rows.split(line)[self.format.tag :][:1]}

    def _check_columns(self, row: Row) -> None:
        number, line, columns = row
        width = len(columns)
        comment = 'set comment = "#" in the recipe\'s format if this is a comment; else mend the line'
        if self._columns and self._looks_like_comment(self._first[1]):
            expected = f"{width} as in line {number}"
            raise self.maker.error(self._first[0], count(self._columns, "column"), expected, comment)
        if self._columns:
            advice = "mend the line, or the format's separator or comment in the recipe"
            raise self.maker.error(
                number, count(width, "column"), f"{self._columns} as in the lines before",
                comment if self._looks_like_comment(line) else advice,
            )  # fmt: skip
        token, tag = places(self.format, width)
        if token == tag and 0 <= token < width > 1:
            raise self.maker.error(
                number, count(width, "column"),
                f"the token and the tag in two columns, but column {self.format.token} and column "
                f"{self.format.tag} are the same one", "mend the format's token and tag in the recipe",
            )  # fmt: skip
        if token == tag or not (0 <= token < width and 0 <= tag < width):
            advice = "mend the line, or the format's token, tag and separator in the recipe"
            raise self.maker.error(
                number, count(width, "column"),
                f"the token in column {self.format.token} and the tag in column {self.format.tag}",
                comment if self._looks_like_comment(line) else advice,
            )  # fmt: skip
        self._columns, self._first = width, (number, line)

    def _looks_like_comment(self, line: str) -> bool:
        return line.startswith("#") and not self.format.comment

    def _token(self, row: Row) -> str:
        number, token = row.number, row.columns[self.format.token]
        if self.format.segmentation_digit:
            if token[-1:] not in set("0123456789"):
                raise self.maker.error(
                    number, quoted(token), "a token with its segmentation digit (0 to 9) at the end",
                    "mend the line, or set segmentation_digit = false in the recipe",
                )  # fmt: skip
            token = token[:-1]
        return self.maker.token(token, number)

    def _sentence(self, rows: list[Row]) -> Sentence:
        tokens = [self._token(row) for row in rows]
        tags = [row.columns[self.format.tag] for row in rows]
        return self.maker.sentence(
            tokens,
            tags,
            [row.number for row in rows],
            lambda error: self._tag_advice(error, tags[error.position], rows[error.position].line),
        )

    def _tag_advice(self, error: TagError, tag: str, line: str) -> str:
        if error.orphan and self.format.scheme in IOB2:
            return 'mend the tag, or let it begin an entity: orphans = "begin" in the recipe\'s format'
        if self._looks_like_comment(line):
            return 'set comment = "#" in the recipe\'s format if this is a comment; else mend the tag'
        if is_tag(tag, self.format.scheme, self.format.type):
            return "mend the tag, or the format's scheme and tag column in the recipe"
        if self.format.type:
            return "mend the tag, or take type out of the recipe's format if tags have their types"
        if is_tag(tag, self.format.scheme, "any"):
            return 'name the type of all entities in the recipe\'s format (type = "PER"), or mend the tag'
        # IO comes last: nearly any text is a tag of IO.
        others = [scheme for scheme in schemes_of(tag) if scheme != "IO"] or schemes_of(tag)
        such = f" ({listed([*others])} {'has' if len(others) == 1 else 'have'} such tags)" if others else ""
        return f"mend the tag, or the format's scheme{such} and tag column in the recipe"


def split_at_tabs(line: str) -> list[str]:
    """Split a line at tabs; a column may hold spaces, or be empty."""
    return line.split("\t")


def split_columns(line: str) -> list[str]:
    """Split a line at spaces and tabs; ``str.split()`` would split at every Unicode blank."""
    columns = line.replace("\t", " ").split(" ")
    return [column for column in columns if column] if "" in columns else columns


def _decode(data: bytes, path: Path, encoding: str) -> str:
    """Decode a file's bytes; remove a byte order mark, and end every line with a line feed alone."""
    try:
        text = data.decode(encoding)
    except LookupError:  # hex, zlib, ... are codecs from bytes to bytes
        raise _no_encoding(path, encoding) from None
    except UnicodeDecodeError as error:
        # error.object may be shorter than the data: it lacks a byte order mark. Lines are counted in
        # characters, not bytes: not every encoding writes a line feed as 0x0a.
        line = error.object[: error.start].decode(encoding, "replace").count("\n") + 1
        found = error.object[error.start : error.start + 1].hex()
        raise CorpusError(
            f"{path}:{line}: found byte 0x{found}, expected text in {encoding}; "
            "give the format its encoding in the recipe (iso-8859-1 for the first CoNLL-2003 edition)"
        ) from None
    text = text.removeprefix(BYTE_ORDER_MARK).replace("\r\n", "\n").removesuffix("\r")
    lines, convert = "lines that end in a line feed", "convert the file, or give the format its encoding"
    no_marks = "take it out (sed 's/\\xef\\xbb\\xbf//g' FILE takes all out of UTF-8)"
    for character, found, expected, advice in (
        ("\r", "a carriage return inside the line", f"{lines}, in {encoding}", convert),
        ("\0", "a NUL character", f"{lines}, in {encoding}", convert),
        # It is invisible, and makes another token of the same word; mostly it comes from joining files.
        (BYTE_ORDER_MARK, "a byte order mark (U+FEFF)", "it at the head of the file alone", no_marks),
    ):
        position = text.find(character)
        if position >= 0:
            number = text.count("\n", 0, position) + 1
            in_recipe = " in the recipe" if advice == convert else ""
            raise CorpusError(f"{path}:{number}: found {found}, expected {expected}; {advice}{in_recipe}")
    return text
