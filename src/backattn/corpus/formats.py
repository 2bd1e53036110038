"""Read column files: CoNLL-2003, CoNLL-2002, Weibo, OntoNotes-like, and other files with a token a line.

A file is decoded as a whole and split at line feeds alone, so that the other separators of Unicode (U+2028,
U+0085, ...) may be part of a token. A line that does not fit the format is refused with file and line. Every
line is a token but comments, blank lines and document separators, and document separators are counted.
"""

import codecs
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backattn.common.atomic_files import is_file
from backattn.common.errors import CorpusError, MissingError, RecipeError
from backattn.common.regular_files import read_regular
from backattn.common.safe_text import listed, plain, quoted, shortened
from backattn.corpus import SPLITS, Corpus, Sentence
from backattn.corpus.tags import MOST_TYPES, OUTSIDE, TagError, is_type, to_bioes
from backattn.recipe import ColumnFormat, CorpusRecipe, data_path

_BLANKS = " \t"
# Some sixty million tokens; in memory they take twenty times as much.
_MOST_BYTES = 1 << 30
# Characters of a token: a word takes the memory of its longest neighbour, and time by the square of its own.
LONGEST_TOKEN = 10_000
# Tokens. A file whose sentences are longer than this on average has lost the empty lines between them. A
# single sentence may be longer: CoNLL-2002 has one of 1,238 tokens.
LONGEST_MEAN = 1000
# Python has these text encodings too, but no corpus is written in them, and decoding them may give lone
# surrogates or resolve escapes, or take time that grows with the square of a line's length.
_NO_FILE_ENCODINGS = {"idna", "punycode", "unicode-escape", "raw-unicode-escape", "utf-7", "undefined"}


@dataclass(frozen=True)
class ColumnFile:
    """The contents of a column file.

    :param sentences: in file order, tags in BIOES.
    :param documents: number of document separators (``-DOCSTART-``).
    :param orphans: number of I- tags without an entity to continue, which were read as the beginning of one.
    :param sha256: digest of the file's bytes.
    """

    sentences: tuple[Sentence, ...]
    documents: int
    orphans: int
    sha256: str


def read_corpus(recipe: CorpusRecipe) -> Corpus:
    """Read the three splits that a recipe names.

    :raises MissingError: a file does not exist; the message names its source and its place.
    :raises CorpusError: a file does not fit the recipe's format; names file and line.
    """
    paths = {split: data_path(getattr(recipe, split)) for split in SPLITS}
    for split, path in paths.items():
        if not is_file(path):
            raise MissingError(
                f"{path}: no such file (corpus.{split}); get it from {shortened(recipe.source)}; put it "
                "there, or set BACKATTN_DATA to the folder that holds the recipe's data"
            )
    files = {split: parse_column_file(path, recipe.format) for split, path in paths.items()}
    return Corpus(
        **{split: file.sentences for split, file in files.items()},
        documents={split: file.documents for split, file in files.items()},
        orphans={split: file.orphans for split, file in files.items()},
        sha256={split: file.sha256 for split, file in files.items()},
    )


def read_column_file(path: Path, format: ColumnFormat) -> list[Sentence]:
    """The sentences of one column file, tags in BIOES.

    :raises MissingError: there is no such file.
    :raises CorpusError: the file does not fit the format; names file and line.
    :raises RecipeError: the format's encoding is unknown, or its keys contradict each other.
    """
    return list(parse_column_file(path, format).sentences)


def parse_column_file(path: Path, format: ColumnFormat) -> ColumnFile:
    """Read a column file, and count document separators and orphans; raises as :func:`read_column_file`."""
    _check_format(path, format)
    if not is_file(path):  # reading a pipe or a device may never end
        raise MissingError(f"{path}: cannot be read (not a file); put a column file there")
    try:
        data = read_regular(path, _MOST_BYTES)
    except OSError as error:
        raise MissingError(f"{path}: cannot be read ({error.strerror}); put a column file there") from None
    reader = _Reader(path, format)
    sentences = tuple(reader.sentences(_decode(data, path, format.encoding)))
    if not sentences:
        raise CorpusError(
            f"{path}:1: found no sentence, expected at least one token; put the whole file in place"
        )
    tokens = sum(map(len, sentences))
    if tokens > LONGEST_MEAN * len(sentences):
        raise CorpusError(
            f"{path}:1: found {tokens:,} tokens in {_count(len(sentences), 'sentence')}, expected an empty "
            "line after each sentence; put them in"
        )
    types = {tag[2:] for tag in set().union(*(sentence.tags for sentence in sentences))}
    if len(types) > MOST_TYPES:
        raise CorpusError(
            f"{path}:1: found {len(types):,} entity types, expected at most {MOST_TYPES:,}; name the column "
            "of the tags in the recipe's format (tag)"
        )
    return ColumnFile(sentences, reader.documents, reader.orphans, hashlib.sha256(data).hexdigest())


def _check_format(path: Path, format: ColumnFormat) -> None:
    """Check a format's keys.

    :raises RecipeError: they contradict each other, or a type or the encoding is not valid.
    """
    if format.orphans == "begin" and format.scheme != "IOB2":
        raise RecipeError(
            f'{path}: its format says orphans = "begin" with scheme {format.scheme}; expected that only with '
            "IOB2; take one of the two out of the recipe"
        )
    for name, kind in format.types.items():
        if kind and not is_type(kind):
            raise RecipeError(
                f"{path}: its format maps the type {quoted(name)} to {quoted(kind)}; expected a type without "
                'blanks, or "" for none; mend the format\'s types in the recipe'
            )
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


# The document separator of CoNLL-2003.
_DOCSTART = "-DOCSTART-"


class _Reader:
    """Reader of the lines of one file, which counts document separators and orphans."""

    def __init__(self, path: Path, format: ColumnFormat) -> None:
        self.path = path
        self.format = format
        self.documents = 0
        self.orphans = 0
        self._columns = 0  # of the first token line; the others must have as many
        self._known: dict[str, str] = {}  # token -> token: one string in memory for all occurrences

    def sentences(self, text: str) -> Iterator[Sentence]:
        """Yield the sentences of a file's text.

        :raises CorpusError: a line does not fit the format; names file and line.
        """
        tab, comment = self.format.separator == "tab", self.format.comment
        tokens: list[str] = []
        tags: list[str] = []
        numbers: list[int] = []  # the line of each token
        # The additional blank line ends the last sentence.
        for number, line in enumerate([*text.split("\n"), ""], start=1):
            if comment and line.startswith(comment):
                continue
            columns = line.split("\t") if tab else split_columns(line)
            if self._separates(line, columns):
                if tokens:
                    yield self._sentence(tokens, tags, numbers)
                    tokens, tags, numbers = [], [], []
                continue
            if len(columns) != self._columns:
                self._check_columns(columns, number)
            tokens.append(self._token(columns[self.format.token], number))
            tags.append(columns[self.format.tag])
            numbers.append(number)

    def _separates(self, line: str, columns: list[str]) -> bool:
        """Whether a line separates sentences: a blank line or a document separator, which is counted."""
        if self.format.docstart and self.format.docstart in columns:
            self.documents += 1
            return True
        return not line or not line.strip(_BLANKS)

    def _check_columns(self, columns: list[str], number: int) -> None:
        count = len(columns)
        if self._columns:
            raise self._error(
                number, _count(count, "column"), f"{self._columns} as in the lines before",
                "mend the line, or the format's separator or comment in the recipe",
            )  # fmt: skip
        token, tag = (c + count if c < 0 else c for c in (self.format.token, self.format.tag))
        if token == tag or not (0 <= token < count and 0 <= tag < count):
            raise self._error(
                number, _count(count, "column"),
                f"the token in column {self.format.token} and the tag in column {self.format.tag}",
                "mend the line, or the format's token, tag and separator in the recipe",
            )  # fmt: skip
        self._columns = count

    def _token(self, token: str, number: int) -> str:
        if self.format.segmentation_digit:
            if token[-1:] not in set("0123456789"):
                raise self._error(
                    number, quoted(token), "a token with its segmentation digit (0 to 9) at the end",
                    "mend the line, or set segmentation_digit = false in the recipe",
                )  # fmt: skip
            token = token[:-1]
        if token == _DOCSTART:  # otherwise it would become a sentence of the corpus
            raise self._error(
                number, quoted(token), "a token, not a separator of documents",
                f'set docstart = "{_DOCSTART}" in the recipe\'s format',
            )  # fmt: skip
        if len(token) > LONGEST_TOKEN:
            raise self._error(
                number, f"a token of {len(token):,} characters", f"at most {LONGEST_TOKEN:,}", "mend the line"
            )
        if not token.strip(_BLANKS):
            raise self._error(number, "an empty token", "some text in the token column", "mend the line")
        return self._known.setdefault(token, token)

    def _sentence(self, tokens: list[str], tags: list[str], numbers: list[int]) -> Sentence:
        mending = self.format.orphans == "begin"
        try:
            # IOB1 differs from IOB2 only in that an I- may begin an entity.
            converted = to_bioes(tags, "IOB1" if mending else self.format.scheme)
        except TagError as error:
            advice = "mend the tag, or the format's scheme and tag column in the recipe"
            if error.orphan and self.format.scheme == "IOB2":
                advice = 'mend the tag, or let it begin an entity: orphans = "begin" in the recipe\'s format'
            raise self._error(numbers[error.position], error.found, error.expected, advice) from None
        if mending:
            self.orphans += sum(t[0] == "I" and c[0] in "BS" for t, c in zip(tags, converted, strict=True))
        if self.format.types:
            converted = self._renamed(converted, numbers)
        if self.format.split_characters:
            return Sentence(*_characters(tokens, converted))
        return Sentence(tuple(tokens), converted)

    def _renamed(self, tags: tuple[str, ...], numbers: list[int]) -> tuple[str, ...]:
        """Replace entity types after the conversion to BIOES, so that two adjacent entities stay two."""
        renamed = []
        for tag, number in zip(tags, numbers, strict=True):
            try:
                renamed.append(_rename(tag, self.format.types))
            except KeyError as error:
                raise self._error(
                    number, f"type {plain(error.args[0])}", f"one of {listed(list(self.format.types))}",
                    'give it a type (or "" for none) in the format\'s types in the recipe',
                ) from None  # fmt: skip
        return tuple(renamed)

    def _error(self, number: int, found: str, expected: str, advice: str) -> CorpusError:
        return CorpusError(f"{self.path}:{number}: found {found}, expected {expected}; {advice}")


def _characters(words: Sequence[str], tags: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split words into characters, and their BIOES tags accordingly."""
    characters: list[str] = []
    found: list[str] = []
    for word, tag in zip(words, tags, strict=True):
        for place, character in enumerate(word, 1):
            begins, ends = place == 1 and tag[0] in "BS", place == len(word) and tag[0] in "ES"
            prefix = "S" if begins and ends else "B" if begins else "E" if ends else "I"
            characters.append(character)
            found.append(tag if tag == OUTSIDE else f"{prefix}{tag[1:]}")
    return tuple(characters), tuple(found)


def _rename(tag: str, types: Mapping[str, str]) -> str:
    """A BIOES tag with its type replaced; O where the new type is empty.

    :raises KeyError: the type is not among ``types``.
    """
    if tag == OUTSIDE:
        return tag
    renamed = types[tag[2:]]
    return f"{tag[:2]}{renamed}" if renamed else OUTSIDE


def split_columns(line: str) -> list[str]:
    """Split a line at spaces and tabs; ``str.split()`` would split at every Unicode blank."""
    columns = line.replace("\t", " ").split(" ")
    return [column for column in columns if column] if "" in columns else columns


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


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
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\r")
    for character, name in (("\r", "a carriage return inside the line"), ("\0", "a NUL character")):
        position = text.find(character)
        if position >= 0:
            raise CorpusError(
                f"{path}:{text.count(chr(10), 0, position) + 1}: found {name}, expected lines that end in a "
                f"line feed, in {encoding}; convert the file, or give the format its encoding in the recipe"
            )
    return text
