"""Look up words in a file of fastText vectors in text format (``.vec``).

The file, often gigabytes, is read once to index it: the offset of each word's line is kept in memory, 24
bytes a word, so that the words of any text can be looked up later.
"""

import unicodedata
from array import array
from collections.abc import Iterator, Sequence
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
                f"{path}: not there; fetch a .vec file from fasttext.cc, or point "
                "embeddings.fasttext.vectors at one"
            )
        self._path = path
        with open_regular(path) as file:
            count, self.width = _header(path, file.readline(_LONGEST_HEADER))
            self._hashes, self._starts, self._lines = _index(path, file)
        if len(self._starts) != count:
            raise CorpusError(
                f"{path}: line 1 promises {count} vectors, but {len(self._starts)} follow; fetch it again"
            )

    def embed(self, sentences: Sequence[tuple[str, ...]]) -> list[NDArray[np.float32]]:
        """Vectors of sentences, in the given order. *Shape:* (m, width) each"""
        forms = sorted({token for tokens in sentences for token in tokens})
        row = {form: number for number, form in enumerate(forms)}
        # shape: (forms, width)
        table = np.zeros((len(forms), self.width), np.float32)
        with open_regular(self._path) as file:
            for form, number in row.items():
                vectors = (self._find(file, known.encode("utf-8")) for known in _lookup_forms(form))
                table[number] = next((vector for vector in vectors if vector is not None), 0)
        return [table[[row[token] for token in tokens]] for tokens in sentences]

    def _find(self, file: BinaryIO, word: bytes) -> NDArray[np.float32] | None:
        """The vector of exactly this word: the first, where a file has several."""
        hashed = hash(word)
        place = int(np.searchsorted(self._hashes, hashed))
        while place < len(self._hashes) and self._hashes[place] == hashed:
            file.seek(int(self._starts[place]))
            found, _, rest = file.readline().partition(b" ")
            if found == word:
                return _vector(self._path, int(self._lines[place]), rest, self.width)
            place += 1
        return None


def _lookup_forms(token: str) -> Iterator[str]:
    yield from normalised_forms(token)
    if (composed := unicodedata.normalize("NFC", token)) != token:
        yield from normalised_forms(composed)


def _index(path: Path, file: BinaryIO) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Index the file: hash of each word, offset and number of its line; sorted by hash, then offset."""
    hashes, starts = array("q"), array("q")
    place = file.tell()
    for line in iter(lambda: file.readline(LONGEST_LINE + 1), b""):
        end = line.find(b" ") if len(line) <= LONGEST_LINE else -1
        if end < 0:
            if not line.strip() and not any(rest.strip() for rest in iter(lambda: file.read(_BLOCK), b"")):
                break  # nothing but empty lines is left
            number = len(starts) + _FIRST_LINE
            raise CorpusError(f"{path}, line {number}: expected a word and its numbers with spaces between")
        hashes.append(hash(line[:end]))
        starts.append(place)
        place += len(line)
    found = np.array(hashes, np.int64)
    order = np.argsort(found, kind="stable")
    return found[order], np.array(starts, np.int64)[order], order + _FIRST_LINE


def _header(path: Path, line: bytes) -> tuple[int, int]:
    try:
        count, width = map(int, line.split())
    except ValueError:
        count = width = 0
    if count < 1 or width < 1:
        raise CorpusError(
            f"{path}, line 1: expected the number and the width of the vectors, as in `2000000 300`; "
            "embeddings.fasttext.vectors takes fastText's text format, unpacked"
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
