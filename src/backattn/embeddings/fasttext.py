"""Look up words in a file of fastText vectors in text format (``.vec``).

The file, often gigabytes, is read once to index it: the offset of each word's line is kept in memory, 24
bytes a word, so that the words of any text can be looked up later.
"""

import unicodedata
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from backattn.common.atomic_files import is_file
from backattn.common.errors import CorpusError, MissingError
from backattn.common.regular_files import open_regular
from backattn.common.text_lines import LONGEST_LINE
from backattn.corpus.normalisation import normalised_forms

_LONGEST_HEADER = 100
_BLOCK = 1 << 20
_FIRST_LINE = 2  # number of the line after the header


class FastText:
    """The vectors of a file (an ``Embedder``). A word without a vector in any normalised form gets zeros.

    Words with combining accents are looked up in their composed form (NFC) as well.

    :param path: a text file: a line with the number of vectors and their width, then a word and its numbers
        on each line (Bojanowski et al. 2017; Grave et al. 2018).

    :raises MissingError: there is no such file.
    :raises CorpusError: it is not in fastText's text format; names file and line.
    """

    opened = "text"

    def __init__(self, path: Path) -> None:
        if not is_file(path):
            raise MissingError(
                f"{path}: not there; fetch a .vec or .bin file from fasttext.cc, or point "
                "embeddings.fasttext.vectors at one"
            )
        self._path = path
        with open_regular(path) as file:
            count, self.width = _header(path, file.readline(_LONGEST_HEADER))
            self._words = _index(path, file)
        if len(self._words) != count:
            raise CorpusError(
                f"{path}: line 1 promises {count} vectors, but {len(self._words)} follow; fetch it again"
            )

    def embed(self, sentences: Sequence[tuple[str, ...]]) -> list[NDArray[np.float32]]:
        """Look up sentences, in the given order. *Shape:* (m, width) each"""
        with open_regular(self._path) as file:
            return by_form(sentences, self.width, lambda form: self._vector(file, form))

    def _vector(self, file: BinaryIO, form: str) -> NDArray[np.float32] | None:
        """Return the vector of the first known spelling of a word; None if none is known."""
        found = (self._find(file, known.encode("utf-8")) for known in lookup_forms(form))
        return next((vector for vector in found if vector is not None), None)

    def _find(self, file: BinaryIO, word: bytes) -> NDArray[np.float32] | None:
        """Return the vector of exactly this word, the first if the file has several; None if it has none."""
        for number, start in self._words.places(word):
            file.seek(start)
            found, _, rest = file.readline().partition(b" ")
            if found == word:
                return _vector(self._path, number + _FIRST_LINE, rest, self.width)
        return None


class WordIndex:
    """Index of the words of a file: hash -> offset, in 24 bytes a word."""

    def __init__(self) -> None:
        self._hashes, self._starts = array("q"), array("q")

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, word: bytes, start: int) -> None:
        """Append the next word of the file and its offset."""
        self._hashes.append(hash(word))
        self._starts.append(start)

    def places(self, word: bytes) -> Iterator[tuple[int, int]]:
        """Yield number, from 0, and offset of each word with this word's hash, in the order of the file."""
        hashes, numbers = self._by_hash
        hashed = hash(word)
        place = int(np.searchsorted(hashes, hashed))
        while place < len(hashes) and hashes[place] == hashed:
            yield int(numbers[place]), self._starts[int(numbers[place])]
            place += 1

    @cached_property
    def _by_hash(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The sorted hashes, and the number of the word of each."""
        found = np.array(self._hashes, np.int64)
        del self._hashes  # all words have been added
        order = np.argsort(found, kind="stable")
        return found[order], order


def by_form(
    sentences: Sequence[tuple[str, ...]], width: int, vector: Callable[[str], NDArray[np.float32] | None]
) -> list[NDArray[np.float32]]:
    """Look up each different token of sentences once; one without a vector gets zeros.

    :returns: *Shape:* (m, width) each
    """
    forms = sorted({token for tokens in sentences for token in tokens})
    row = {form: number for number, form in enumerate(forms)}
    # shape: (forms, width)
    table = np.zeros((len(forms), width), np.float32)
    for form, number in row.items():
        found = vector(form)
        if found is not None:
            table[number] = found
    return [table[[row[token] for token in tokens]] for tokens in sentences]


def lookup_forms(token: str) -> Iterator[str]:
    """Yield the spellings under which a token is looked up, best first."""
    yield from normalised_forms(token)
    if (composed := unicodedata.normalize("NFC", token)) != token:
        yield from normalised_forms(composed)


def _index(path: Path, file: BinaryIO) -> WordIndex:
    words = WordIndex()
    place = file.tell()
    for line in iter(lambda: file.readline(LONGEST_LINE + 1), b""):
        end = line.find(b" ") if len(line) <= LONGEST_LINE else -1
        if end < 0:
            if not line.strip() and not any(rest.strip() for rest in iter(lambda: file.read(_BLOCK), b"")):
                break  # nothing but empty lines is left
            number = len(words) + _FIRST_LINE
            raise CorpusError(f"{path}, line {number}: expected a word and its numbers with spaces between")
        words.add(line[:end], place)
        place += len(line)
    return words


def _header(path: Path, line: bytes) -> tuple[int, int]:
    try:
        count, width = map(int, line.split())
    except ValueError:
        count = width = 0
    if count < 1 or width < 1:
        raise CorpusError(
            f"{path}, line 1: expected the number and the width of the vectors, as in `2000000 300`; "
            "embeddings.fasttext.vectors takes fastText's text or binary format, unpacked"
        )
    if 2 * count * width > path.stat().st_size:  # each number takes a digit and a space at least
        raise CorpusError(
            f"{path}: line 1 promises {count} vectors of {width} numbers, which the file is too small for; "
            "fetch it again"
        )
    return count, width


def _vector(path: Path, number: int, text: bytes, width: int) -> NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):  # refused below
            vector = np.array(text.split(), dtype=np.float32)
    except ValueError:
        raise CorpusError(f"{path}, line {number}: expected a word and {width} numbers") from None
    if len(vector) != width:
        raise CorpusError(f"{path}, line {number}: expected {width} numbers, found {len(vector)}")
    if not np.isfinite(vector).all():
        raise CorpusError(f"{path}, line {number}: a number is not finite")
    return vector
