"""Find the form of column files by looking at them: separator, columns, scheme, encoding, comments, unit.

The columns are found in the head of each file. What was found is then tried: the whole files are read by it,
so that what is returned reads them. What could be otherwise is told, with the key that says so.
"""

import codecs
import gzip
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, cast

from msgspec import structs

from backattn.common.atomic_files import is_file
from backattn.common.errors import CorpusError, MissingError
from backattn.common.regular_files import open_regular, read_regular
from backattn.common.safe_text import listed, quoted, shortened
from backattn.common.text_lines import BYTE_ORDER_MARK, unpacked
from backattn.common.writing import is_spaced, writes_blanks
from backattn.corpus.formats import (
    DOCSTART,
    MOST_BYTES,
    ColumnFile,
    parse_column_file,
    split_at_tabs,
    split_columns,
)
from backattn.corpus.other_forms import of_brat, other_binary, other_form
from backattn.corpus.tags import MOST_TYPES, OUTSIDE, is_tag, split_tag
from backattn.recipe import ColumnFormat, Scheme, Unit

# Bytes of a file in which its columns are found.
_HEAD = 1 << 20
_BLOCK = 1 << 20
_SHOWN = 3  # values of a column that a line names
# Schemes with prefixes. Where a file fits several, all read the same entities in it.
_PREFIXED: tuple[Scheme, ...] = ("IOB2", "BIOES", "BILOU", "BMES", "BMEWO")
# Types of a column of chunks, which CoNLL-2000 and CoNLL-2003 have before that of the entities.
_CHUNKS = frozenset(("NP", "VP", "PP", "ADVP", "SBAR", "ADJP", "PRT", "CONJP", "INTJ", "LST", "UCP", "PC"))
# Name of the type that entities get whose tags have none.
NO_TYPE = "ENTITY"
_NUMBER = re.compile(r"[0-9]+([-.][0-9]+)?")
# Of the different values of the richest column: a column of tokens, or of their lemmas, has no fewer.
_RICH = 0.5
# Fewer rows do not tell digits of places in words from digits.
_ENOUGH = 5
# Tokens by which the unit is found, and the share of single characters among them.
_SAMPLE = 100_000
_SINGLE = 0.98
_BYTE_ORDER_MARKS = {  # the longer one first: it begins as the shorter one does
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}
# The kinds of a column of tags, the surest first.
_Kind = Literal["prefixed", "untyped", "bare", "outside"]
_KINDS: tuple[_Kind, ...] = ("prefixed", "untyped", "bare", "outside")


@dataclass(frozen=True)
class Detected:
    """The form of files.

    :param format: by which they were read.
    :param files: their contents, in the order in which they were given.
    :param notes: what could be otherwise, with the key of the recipe that changes it; a line each.
    """

    format: ColumnFormat
    unit: Unit
    files: tuple[ColumnFile, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Table:
    """The rows of the heads of all files.

    :param sentences: the token lines of each sentence, split into columns.
    :param hashes: the columns of lines that begin with ``#``, which may be comments or tokens.
    """

    separator: Literal["tab", "whitespace"]
    sentences: tuple[tuple[list[str], ...], ...]
    hashes: tuple[list[str], ...]
    width: int

    def column(self, place: int) -> list[str]:
        return [row[place] for sentence in self.sentences for row in sentence]


@dataclass(frozen=True)
class _Columns:
    """The columns of a table that matter.

    :param tag: column of the tag.
    :param others: other columns that hold tags of the same kind.
    :param twins: other columns that could hold the tokens.
    """

    kind: _Kind
    token: int
    tag: int
    others: tuple[int, ...]
    twins: tuple[int, ...]


def detect(paths: Sequence[Path], language: str = "") -> Detected:
    """Find the form of the files of a corpus, and read them.

    :param language: code of their language; empty where it is not known.
    :raises MissingError: a file cannot be read.
    :raises CorpusError: a file is of another form, its columns are not found, or it does not fit the form
        that its head shows; names file and line.
    """
    raw = [_head(path) for path in paths]
    encoding, docstart, signs = _survey(paths, raw)
    heads = [_lines(path, data, encoding) for path, data in zip(paths, raw, strict=True)]
    table, columns = _table_and_columns(paths, heads)
    found, files = _read(paths, list(_formats(table, columns, encoding, docstart, signs)))
    notes = [*_column_notes(table, columns), *_format_notes(found, files)]
    if encoding not in ("utf-8", *_BYTE_ORDER_MARKS):
        notes.append(_encoding_note(encoding, heads))
    unit = _unit(files, language)
    if unit == "word" and language and not writes_blanks(language):
        notes.append(
            "the tokens are words; to have each character a token: corpus.format.split_characters = true "
            'and corpus.unit = "character"'
        )
    return Detected(found, unit, files, tuple(notes))


def _head(path: Path) -> bytes:
    """The first bytes of a file, unpacked.

    :raises MissingError: it is none that can be read.
    :raises CorpusError: it is of another form.
    """
    if os.path.isdir(path) and (found := of_brat(path)):
        raise CorpusError(f"{path}: expected a column file; this looks like {found}")
    if not is_file(path):
        what = "not a file" if os.path.lexists(path) else "no such file"
        raise MissingError(f"{path}: cannot be read ({what}); name a column file")
    try:
        with open_regular(path) as plain:
            data = gzip.GzipFile(fileobj=plain).read(_HEAD) if path.suffix == ".gz" else plain.read(_HEAD)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise CorpusError(f"{path}: not whole, or not packed by gzip; fetch it again") from None
    except OSError as error:
        raise MissingError(f"{path}: cannot be read ({error.strerror}); name a column file") from None
    if found := other_binary(path, data):
        raise CorpusError(f"{path}: expected a column file, found {found}")
    return data


def _lines(path: Path, data: bytes, encoding: str) -> list[str]:
    """The lines of a head; the last one, which may be cut, only where the file ends there.

    :raises CorpusError: the text is of another form.
    """
    text = codecs.getincrementaldecoder(encoding)("replace").decode(data).removeprefix(BYTE_ORDER_MARK)
    if found := other_form(text):
        raise CorpusError(f"{path}:1: expected a column file; this looks like {found}")
    lines = text.split("\n")
    return [line.removesuffix("\r") for line in (lines[:-1] if len(data) == _HEAD else lines)]


def _survey(paths: Sequence[Path], heads: Sequence[bytes]) -> tuple[str, bool, bool]:
    """The encoding of files, and whether one has document separators, and lines that begin with ``#``."""
    for encoding, marks in _BYTE_ORDER_MARKS.items():
        if all(head.startswith(marks) for head in heads):
            return encoding, any(DOCSTART in head.decode(encoding, "replace") for head in heads), True
    docstart, signs, utf8, western = False, False, True, True
    for path in paths:
        decoder, before = codecs.getincrementaldecoder("utf-8")(), b"\n"
        for block in chain(_blocks(path), [b""]):
            docstart = docstart or DOCSTART.encode() in before + block
            signs = signs or b"\n#" in before[-1:] + block
            before = (before + block)[-len(DOCSTART) :]
            western = western and not re.search(rb"[\x80-\x9f]", block)
            try:
                utf8 = utf8 and decoder.decode(block, final=not block) is not None
            except UnicodeDecodeError:
                utf8 = False
    # The bytes 0x80 to 0x9f are signs in Windows' encoding, and invisible in the other one.
    return ("utf-8" if utf8 else "iso-8859-1" if western else "cp1252"), docstart, signs


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        if path.suffix == ".gz":
            yield unpacked(path, read_regular(path, MOST_BYTES), MOST_BYTES)
            return
        with open_regular(path) as file:
            yield from iter(lambda: file.read(_BLOCK), b"")
    except OSError as error:
        raise MissingError(f"{path}: cannot be read ({error.strerror}); name a column file") from None


def _table_and_columns(paths: Sequence[Path], heads: Sequence[list[str]]) -> tuple[_Table, _Columns]:
    """Split the heads at tabs, else at blanks, and find the columns.

    :raises CorpusError: the lines have different numbers of columns, or no column holds tags.
    """
    tables = [table for separator in ("tab", "whitespace") if (table := _table(heads, separator))]
    for table in tables:
        if columns := _find_columns(table):
            return table, columns
    if not tables:
        raise _ragged(paths, heads)
    shown = "; ".join(
        f"column {place} has {_some(tables[0].column(place))}" for place in range(min(tables[0].width, 8))
    )
    raise CorpusError(
        f"{paths[0]}:1: found no column of tags ({shown}), expected one with O and tags such as B-PER, B or "
        "PER; mend the file, or convert it (`backattn convert`)"
    )


def _table(heads: Sequence[list[str]], separator: str) -> _Table | None:
    """The rows of the heads; None where they have no or different numbers of columns."""
    split = split_at_tabs if separator == "tab" else split_columns
    sentences: list[tuple[list[str], ...]] = []
    hashes = []
    for head in heads:
        rows: list[list[str]] = []
        for line in [*head, ""]:
            if not line.strip(" \t") or split_columns(line)[:1] == [DOCSTART]:
                sentences += [tuple(rows)] if rows else []
                rows = []
            elif line.startswith("#"):
                hashes.append(split(line))
            else:
                rows.append(split(line))
    if not sentences:
        sentences, hashes = [(row,) for row in hashes], []
    widths = {len(row) for sentence in sentences for row in sentence}
    if len(widths) != 1 or (width := widths.pop()) < 2:
        return None
    kind = cast(Literal["tab", "whitespace"], separator)
    return _Table(kind, tuple(sentences), tuple(hashes), width)


def _ragged(paths: Sequence[Path], heads: Sequence[list[str]]) -> CorpusError:
    """The error for lines whose columns cannot be told."""
    lines = [
        (f"{path}:{number}", line)
        for path, head in zip(paths, heads, strict=True)
        for number, line in enumerate(head, 1)
        if line.strip(" \t") and not line.startswith("#") and DOCSTART not in line
    ]
    if not lines:
        return CorpusError(
            f"{paths[0]}:1: found no token, expected a token a line; put the whole file in place"
        )
    split = split_at_tabs if any("\t" in line for _, line in lines) else split_columns
    widths = Counter(len(split(line)) for _, line in lines)
    usual = max(widths, key=lambda width: (widths[width], width))
    expected = "a token and its tag on each line, in columns of tabs or blanks"
    where, line = next(((w, one) for w, one in lines if len(split(one)) != usual or usual < 2), lines[0])
    count = len(split(line))
    found = f"{count} column{'s' if count > 1 else ''} ({quoted(shortened(line, 40))})"
    most = f", {usual} as on most lines," if count != usual else ","
    return CorpusError(f"{where}: found {found}, expected {expected}{most} and empty lines between sentences")


def _find_columns(table: _Table) -> _Columns | None:
    """The columns of the token and of the tag; None where no column holds tags."""
    values = [Counter(table.column(place)) for place in range(table.width)]
    kinds = [_kind_of(found) for found in values]
    kind = next((kind for kind in _KINDS if kind in kinds), None)
    if kind is None:
        return None
    places = [place for place, found in enumerate(kinds) if found == kind]
    entities = {place: values[place].total() - values[place][OUTSIDE] for place in places}
    chunks = [place for place in places if {split_tag(tag)[1] for tag in values[place]} <= {*_CHUNKS, ""}]
    named = [place for place in places if place not in chunks] if kind == "prefixed" else places
    # Of several layers, the outer one has the most entities. Bare words that are no tags stand before them.
    of_layers = max(named or places, key=lambda place: (entities[place], place))
    tag = of_layers if kind in ("prefixed", "untyped") else places[-1]
    tokens = _token_columns(table, values, {place for place, found in enumerate(kinds) if found == kind})
    tokens = tokens or [place for place in range(table.width) if place != tag]
    others = tuple(place for place in places if place not in (tag, tokens[0]) and place not in chunks)
    return _Columns(kind, tokens[0], tag, others, tuple(tokens[1:]))


def _kind_of(values: Counter[str]) -> _Kind | None:
    """What kind of tags a column holds, if it holds tags."""
    entities = values.keys() - {OUTSIDE}
    if not entities:
        return "outside"
    if any(all(is_tag(tag, scheme) for tag in entities) for scheme in _PREFIXED):
        return "prefixed"
    if any(all(is_tag(tag, scheme, NO_TYPE) for tag in entities) for scheme in _PREFIXED):
        return "untyped"
    # Words are as legal as types; types are few, and come again.
    bare = OUTSIDE in values and len(entities) <= MOST_TYPES and 2 * len(entities) <= values.total()
    return "bare" if bare and all(is_tag(tag, "IO") for tag in entities) else None


def _token_columns(table: _Table, values: Sequence[Counter[str]], tags: set[int]) -> list[int]:
    """The columns that could hold tokens, the likeliest first: not ids or tags, and with many values."""
    words = [
        place
        for place in range(table.width)
        if place not in tags and not all(_NUMBER.fullmatch(value) for value in values[place])
    ]
    most = max((len(values[place]) for place in words), default=0)
    return [place for place in words if len(values[place]) >= _RICH * most]


def _formats(
    table: _Table, columns: _Columns, encoding: str, docstart: bool, signs: bool
) -> Iterator[ColumnFormat]:
    """The formats that the heads allow, the likeliest first.

    :param docstart, signs: as of :func:`_survey`.
    """
    kind = NO_TYPE if columns.kind == "untyped" else ""
    tags = set(table.column(columns.tag))
    schemes: Iterable[Scheme] = _PREFIXED
    if columns.kind == "bare":
        schemes = ("IO",)
    allowed = [scheme for scheme in schemes if all(is_tag(tag, scheme, kind) for tag in tags)]
    base = ColumnFormat(
        token=columns.token,
        tag=-1 if columns.tag == table.width - 1 else columns.tag,
        type=kind,
        separator=table.separator,
        encoding=encoding,
        docstart=DOCSTART if docstart else "",
        segmentation_digit=_has_digits(table, columns.token),
    )
    comments = (
        ("#",) if _has_comments(table, columns, allowed[0], tags, kind) else ("", "#") if signs else ("",)
    )
    for comment in comments:
        for scheme in allowed:
            found = structs.replace(base, comment=comment, scheme=scheme)
            yield found
            if scheme == "IOB2":  # an I- that continues nothing: by rule, or by mistake
                mended = {"orphans": "begin"} if _begins_by_b(table, columns) else {"scheme": "IOB1"}
                yield structs.replace(found, **mended)


def _has_comments(table: _Table, columns: _Columns, scheme: Scheme, tags: set[str], kind: str) -> bool:
    """Whether one of the lines that begin with ``#`` is no token line."""
    for row in table.hashes:
        tag = row[columns.tag] if len(row) == table.width else ""
        # A word may be a bare type, but a comment has no tabs.
        bare = tag in tags or (table.separator == "tab" and is_tag(tag, scheme))
        if not (bare if scheme == "IO" else is_tag(tag, scheme, kind)):
            return True
    return False


def _begins_by_b(table: _Table, columns: _Columns) -> bool:
    """Whether an entity begins with B- where IOB1 has I-: no entity of its type is before it."""
    for sentence in table.sentences:
        before = ("", "")
        for row in sentence:
            tag = split_tag(row[columns.tag])
            if tag[0] == "B" and (before[0] not in ("B", "I") or before[1] != tag[1]):
                return True
            before = tag
    return False


def _has_digits(table: _Table, token: int) -> bool:
    """Whether each token ends in the digit of its place in a word, as those of Weibo do."""
    count = 0
    for sentence in table.sentences:
        expected = {"0"}
        for row in sentence:
            digit = row[token][-1:]
            if len(row[token]) < 2 or digit not in expected:
                return False
            expected = {"0", str(min(int(digit) + 1, 9))}
            count += 1
    return count >= _ENOUGH


def _read(
    paths: Sequence[Path], formats: Sequence[ColumnFormat]
) -> tuple[ColumnFormat, tuple[ColumnFile, ...]]:
    """Read the files by the first format that reads all.

    :raises CorpusError: none does: the error of the one that came farthest.
    """
    farthest, place = None, (-1, -1)
    for format in formats:
        files: list[ColumnFile] = []
        try:
            for path in paths:
                files.append(parse_column_file(path, format))
            return format, tuple(files)
        except CorpusError as error:
            line = re.match(rf"{re.escape(str(paths[len(files)]))}:(\d+)", str(error))
            here = len(files), int(line[1]) if line else 0
            if here > place:
                farthest, place = error, here
    assert farthest is not None
    raise farthest


def _unit(files: Sequence[ColumnFile], language: str) -> Unit:
    """Whether the tokens are characters: nearly all of scripts without blanks are single ones."""
    if language and writes_blanks(language):
        return "word"
    sample = [token for file in files for sentence in file.sentences for token in sentence.tokens][:_SAMPLE]
    letters = [token for token in sample if token.isalpha()]
    unspaced = [token for token in letters if not is_spaced(token[0])]
    single = sum(len(token) == 1 for token in unspaced)
    few = 2 * len(unspaced) < len(letters) or not unspaced
    return "word" if few or single < _SINGLE * len(unspaced) else "character"


def _column_notes(table: _Table, columns: _Columns) -> Iterator[str]:
    for place in columns.twins:
        yield (
            f"column {place} could hold the tokens too ({_some(table.column(place))}); to take it: "
            f"corpus.format.token = {place}"
        )
    for place in columns.others:
        shown = [value for value in table.column(place) if value != OUTSIDE]
        yield (
            f"column {place} holds tags too ({_some(shown) or 'O'}); to take it: corpus.format.tag = {place}"
        )


def _format_notes(format: ColumnFormat, files: Sequence[ColumnFile]) -> Iterator[str]:
    if format.type:
        yield (
            f'the tags have no types: all entities are {NO_TYPE}; to name them: corpus.format.type = "PER"'
        )
    if orphans := sum(file.orphans for file in files):
        yield (
            f"I- tags that continue no entity, read as the beginning of one: {orphans:,}; to refuse them: "
            'corpus.format.orphans = "refuse"'
        )


def _encoding_note(encoding: str, heads: Iterable[Iterable[str]]) -> str:
    word = next(
        (word for head in heads for line in head for word in split_columns(line) if not word.isascii()), ""
    )
    example = f" ({quoted(word)})" if word else ""
    return (
        f"the files are not UTF-8 and were read as {encoding}{example}; if such words look wrong, name their "
        "encoding: corpus.format.encoding"
    )


def _some(values: Iterable[str]) -> str:
    return listed(list(dict.fromkeys(values))[:_SHOWN])
