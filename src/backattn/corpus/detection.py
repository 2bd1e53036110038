"""Detect the format of a corpus from its files: columns, scheme, encoding, comments, unit.

The beginnings of the files suggest formats; the first format that reads the whole files is returned. A note
names each uncertain choice, with the key of the recipe that changes it.
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

from msgspec import structs

from backattn.common.atomic_files import is_file
from backattn.common.errors import CorpusError, MissingError
from backattn.common.regular_files import open_regular, read_regular
from backattn.common.safe_text import quoted, shortened
from backattn.common.strict_json import parse_strictly
from backattn.common.text_lines import BYTE_ORDER_MARK, unpacked
from backattn.common.writing import is_spaced, writes_blanks
from backattn.corpus.column_roles import (
    NO_TYPE,
    Roles,
    Table,
    find_roles,
    labellings,
    refuse_other_spelling,
    role_notes,
)
from backattn.corpus.conllu import MISC, misc_pairs, misc_tag
from backattn.corpus.formats import parse_file, split_at_tabs, split_columns
from backattn.corpus.jsonl_detection import jsonl_formats
from backattn.corpus.labelled import DOCSTART, MOST_BYTES, LabelledFile
from backattn.corpus.other_forms import of_brat, other_binary, other_form
from backattn.corpus.tags import is_tag
from backattn.recipe import ColumnFormat, ConlluFormat, CorpusFormat, Unit

# Bytes of a file in which its columns are found.
_HEAD = 1 << 20
_BLOCK = 1 << 20
# Fewer rows than this do not show whether final digits are segmentation digits.
_ENOUGH = 5
# Tokens from which the unit is found, and the share of single characters that makes it "character".
_SAMPLE = 100_000
_SINGLE = 0.98
_BYTE_ORDER_MARKS = {  # the longer one first: it begins as the shorter one does
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}
# Ids of CoNLL-U that are no tokens.
_NO_TOKEN_ID = re.compile(r"[0-9]+[-.][0-9]+")
# Names of the column of tags in a heading line.
_HEADINGS = frozenset({"label", "labels", "ner", "ner_tag", "ner_tags", "tag", "tags"})


@dataclass(frozen=True)
class Detected:
    """The detected form of a corpus.

    :param format: the format by which the files were read.
    :param files: their contents, in the order in which they were given.
    :param notes: a line for each uncertain choice, with the key of the recipe that changes it.
    """

    format: CorpusFormat
    unit: Unit
    files: tuple[LabelledFile, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Lines:
    """The rows of the heads of all files.

    :param tabs: whether columns are separated by tabs, not blanks.
    :param hashes: the columns of each line that begins with ``#``: a comment or a token.
    :param counted: whether the first column counts the tokens of each sentence from 1, as in CoNLL-U.
    """

    table: Table
    tabs: bool
    hashes: tuple[list[str], ...]
    counted: bool


def detect(paths: Sequence[Path], language: str = "") -> Detected:
    """Detect the format of the files of a corpus, and read them.

    :param language: code of their language; empty where it is not known.
    :raises MissingError: a file cannot be read.
    :raises CorpusError: a file is of another form, its columns are not found, or it does not fit the form
        that its head shows; names file and line.
    """
    raw = [_head(path) for path in paths]
    encoding, docstart, signs = _survey(paths, raw)
    texts = [_text(data, encoding) for data in raw]
    if all(map(_is_json_lines, texts)):
        formats, notes = jsonl_formats(paths, language)
        found, files = _read(paths, formats)
    else:
        heads = [_lines(path, text) for path, text in zip(paths, texts, strict=True)]
        lines, roles = _columns(paths, heads)
        columns = list(_column_formats(lines, roles, encoding, docstart, signs))
        # CoNLL-U has none of these. It is tried first: only its readers find tags in the column MISC.
        other = encoding != "utf-8" or docstart or any(one.segmentation_digit for one in columns)
        conllu = [] if other else list(_conllu_formats(lines, roles))
        found, files = _read(paths, [*conllu, *columns])
        notes = list(role_notes(lines.table, roles, "token", "tag"))
        if encoding not in ("utf-8", *_BYTE_ORDER_MARKS):
            notes.append(_encoding_note(encoding, heads))
    unit = _unit(files, language)
    if unit == "word" and language and not writes_blanks(language):
        notes.append(
            "the tokens are words; to have each character a token: corpus.format.split_characters = true "
            'and corpus.unit = "character"'
        )
    return Detected(found, unit, files, (*notes, *_label_notes(found, files)))


def _head(path: Path) -> bytes:
    """Read the first bytes of a file, unpacked.

    :raises MissingError: the file cannot be read.
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


def _text(data: bytes, encoding: str) -> str:
    """Decode a head without its last line, which may be cut off, unless the file ends there."""
    text = codecs.getincrementaldecoder(encoding)("replace").decode(data).removeprefix(BYTE_ORDER_MARK)
    return text.rpartition("\n")[0] if len(data) == _HEAD else text


def _is_json_lines(text: str) -> bool:
    line = next((line for line in text.split("\n") if line.strip()), "")
    try:
        return line.startswith("{") and isinstance(parse_strictly(line), dict)
    except ValueError:
        return False


def _lines(path: Path, text: str) -> list[str]:
    """Split a head into lines.

    :raises CorpusError: the text is of another form.
    """
    if found := other_form(text):
        raise CorpusError(f"{path}:1: expected a column file; this looks like {found}")
    return [line.removesuffix("\r") for line in text.split("\n")]


def _survey(paths: Sequence[Path], heads: Sequence[bytes]) -> tuple[str, bool, bool]:
    """Find the encoding of files, and whether any has document separators or lines that begin with ``#``."""
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
    # The bytes 0x80 to 0x9f are visible characters in cp1252, and control characters in ISO 8859-1.
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


def _columns(paths: Sequence[Path], heads: Sequence[list[str]]) -> tuple[_Lines, Roles]:
    """Split the heads at tabs, else at blanks, and find the columns.

    :raises CorpusError: the lines have different numbers of columns, or no column holds tags.
    """
    found = [lines for tabs in (True, False) if (lines := _split(heads, tabs))]
    for lines in found:
        if lines.counted and (keyed := _misc_tags(lines.table)):
            return lines, keyed[1]
        if roles := find_roles(lines.table):
            refuse_other_spelling(paths[0], lines.table, roles)
            _refuse_headings(paths, heads, lines.tabs, roles.tag)
            return lines, roles
    if not found:
        raise _ragged(paths, heads)
    _refuse_headings(paths, heads, found[0].tabs)
    raise CorpusError(
        f"{paths[0]}:1: found no column of tags ({found[0].table.shown()}), expected one with O and "
        "tags such as B-PER, B or PER; mend the file, or convert it (`backattn convert`)"
    )


def _refuse_headings(
    paths: Sequence[Path], heads: Sequence[list[str]], tabs: bool, tag: int | None = None
) -> None:
    """Refuse a first line that names the columns: read as a token, its tag would be a type.

    :param tag: the column of tags, where it is known.
    :raises CorpusError: names file and line.
    """
    for path, head in zip(paths, heads, strict=True):
        lines = ((n, line) for n, line in enumerate(head, 1) if line.strip(" \t") and line[0] != "#")
        number, line = next(lines, (1, ""))
        row = split_at_tabs(line) if tabs else split_columns(line)
        names = row[1:] if tag is None else row[tag : tag + 1]
        if any(name.lower() in _HEADINGS for name in names):
            raise CorpusError(
                f"{path}:{number}: found {quoted(shortened(line, 40))}, the names of columns, expected a "
                "token and its tag; remove the line"
            )


def _split(heads: Sequence[list[str]], tabs: bool) -> _Lines | None:
    """Split the heads into rows; None if rows have different numbers of columns, or only one."""
    split = split_at_tabs if tabs else split_columns
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
    plain = [tuple(row for row in rows if not _NO_TOKEN_ID.fullmatch(row[0])) for rows in sentences]
    counted = tabs and all(
        [row[0] for row in rows] == [str(number) for number in range(1, len(rows) + 1)] for rows in plain
    )
    kept = [rows for rows in plain if rows] if counted else sentences
    names = tuple(map(str, range(width)))
    return _Lines(Table(tuple(kept), names), tabs, tuple(hashes), counted) if kept else None


def _ragged(paths: Sequence[Path], heads: Sequence[list[str]]) -> CorpusError:
    """Make the error for lines with different numbers of columns."""
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


def _conllu_formats(lines: _Lines, roles: Roles) -> Iterator[ConlluFormat]:
    """Yield the formats of CoNLL-U that the heads allow, the likeliest first; none without ids from 1."""
    if not lines.counted:
        return
    keyed = _misc_tags(lines.table)
    table = keyed[2] if keyed else lines.table
    base = ConlluFormat(token=roles.token, tag=roles.tag, tag_key=keyed[0] if keyed else "")
    for labels in labellings(table, roles):
        yield structs.replace(base, **labels)


def _misc_tags(table: Table) -> tuple[str, Roles, Table] | None:
    """Find the key of the tags in MISC, CoNLL-U's last column, if no other column holds tags.

    :return: the key, the roles, and the table with the values of the key in place of MISC; None if no key
        has tags.
    """
    plain = find_roles(table)
    if len(table.names) != MISC + 1 or (plain and plain.kind != "outside"):
        return None
    keys = Counter(key for column in table.column(MISC) for key, _ in misc_pairs(column))
    for key, _ in keys.most_common():
        sentences = tuple(
            tuple([*row[:MISC], misc_tag(row[MISC], key)] for row in rows) for rows in table.sentences
        )
        filled = Table(sentences, table.names)
        roles = find_roles(filled)
        if key and roles and roles.kind == "prefixed" and roles.tag == MISC:
            return key, roles, filled
    return None


def _column_formats(
    lines: _Lines, roles: Roles, encoding: str, docstart: bool, signs: bool
) -> Iterator[ColumnFormat]:
    """Yield the column formats that the heads allow, the likeliest first.

    :param docstart, signs: as of :func:`_survey`.
    """
    table = lines.table
    base = ColumnFormat(
        token=roles.token,
        tag=-1 if roles.tag == len(table.names) - 1 else roles.tag,
        separator="tab" if lines.tabs else "whitespace",
        encoding=encoding,
        docstart=DOCSTART if docstart else "",
        segmentation_digit=_has_digits(table, roles.token),
    )
    formats = [structs.replace(base, **labels) for labels in labellings(table, roles)]
    comments = (
        ("#",) if formats and _has_comments(lines, roles, formats[0]) else ("", "#") if signs else ("",)
    )
    for comment in comments:
        for format in formats:
            yield structs.replace(format, comment=comment)


def _has_comments(lines: _Lines, roles: Roles, format: ColumnFormat) -> bool:
    """Return whether a line that begins with ``#`` is a comment, not a token."""
    tags = set(lines.table.column(roles.tag))
    for row in lines.hashes:
        tag = row[roles.tag] if len(row) == len(lines.table.names) else ""
        # The last word of a comment could be a bare type; but a comment has no tabs.
        known = tag in tags or lines.tabs or format.scheme != "IO"
        if not (known and is_tag(tag, format.scheme, format.type)):
            return True
    return False


def _has_digits(table: Table, token: int) -> bool:
    """Return whether each token ends in a segmentation digit, its place in a word, as in Weibo."""
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
    paths: Sequence[Path], formats: Sequence[CorpusFormat]
) -> tuple[CorpusFormat, tuple[LabelledFile, ...]]:
    """Read the files by the first format that fits all of them.

    :raises CorpusError: no format fits; the error is that of the format that came farthest.
    """
    farthest, place = None, (-1, -1)
    for format in formats:
        files: list[LabelledFile] = []
        try:
            for path in paths:
                files.append(parse_file(path, format))
            return format, tuple(files)
        except CorpusError as error:
            line = re.match(rf"{re.escape(str(paths[len(files)]))}:(\d+)", str(error))
            here = len(files), int(line[1]) if line else 0
            if here > place:
                farthest, place = error, here
    assert farthest is not None
    raise farthest


def _unit(files: Sequence[LabelledFile], language: str) -> Unit:
    """Find the unit: character, if nearly all tokens of scripts without blanks are single characters."""
    if language and writes_blanks(language):
        return "word"
    sample = [token for file in files for sentence in file.sentences for token in sentence.tokens][:_SAMPLE]
    letters = [token for token in sample if token.isalpha()]
    unspaced = [token for token in letters if not is_spaced(token[0])]
    single = sum(len(token) == 1 for token in unspaced)
    few = 2 * len(unspaced) < len(letters) or not unspaced
    return "word" if few or single < _SINGLE * len(unspaced) else "character"


def _label_notes(format: CorpusFormat, files: Sequence[LabelledFile]) -> Iterator[str]:
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
