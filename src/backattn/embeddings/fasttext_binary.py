"""Read vectors of any word from a fastText model in binary format (``.bin``), public or trained here.

A word's vector is the mean of the rows of its own and of its character n-grams; a word out of the vocabulary
has the n-grams alone. The rows, often gigabytes, stay in the file: only the words are indexed. The file holds
counts, words and numbers, and no code; every count is compared with the size of the file before it is used.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from backattn.common.atomic_files import is_file
from backattn.common.errors import CorpusError
from backattn.common.regular_files import open_regular
from backattn.common.safe_text import quoted
from backattn.embeddings.fasttext import FastText, WordIndex, by_form, lookup_forms

# The first four bytes of the file; what follows is little-endian.
MAGIC = struct.pack("<i", 793712314)
_VERSIONS = (11, 12)
# After the version: width, window, epochs, min_count, negatives, n-grams of words, loss, model, buckets, the
# shortest and the longest n-gram, updates of the rate; threshold of samples.
_SETTINGS = struct.Struct("<i12id")
# Words and labels together, words, labels, tokens, pruned n-grams.
_COUNTS = struct.Struct("<3i2q")
_ENTRY = 9  # bytes after a word's zero: its count, and whether it is a label
_QUANTISED = struct.Struct("<?2q")
_MODELS = (1, 2)  # CBOW, skip-gram; 3 is a classifier
_LONGEST_WORD = 1 << 16
_LONGEST_NGRAM = 100  # characters; fastText's default is 6
_BLOCK = 1 << 20
_FNV_OFFSET, _FNV_PRIME, _32_BITS = 2166136261, 16777619, 0xFFFFFFFF
_BEGIN, _END = b"<", b">"
_LINE_END = b"</s>"  # fastText's word at the end of a line, which has no n-grams


@dataclass(frozen=True)
class _Layout:
    """The sizes in the header of a file.

    :param buckets: number of rows that the n-grams share by hash.
    :param shortest, longest: characters of an n-gram; ``longest`` is 0 for a model without.
    :param words: size of the vocabulary.
    """

    width: int
    buckets: int
    shortest: int
    longest: int
    words: int


def open_fasttext(path: Path) -> "FastText | FastTextBinary":
    """Open a file of fastText vectors in text or binary format, which its first bytes show.

    :raises MissingError: there is no such file.
    :raises CorpusError: it is in neither format, or damaged.
    """
    if is_file(path):
        with open_regular(path) as file:
            if file.read(len(MAGIC)) == MAGIC:
                return FastTextBinary(path)
    return FastText(path)


class FastTextBinary:
    """The vectors of a binary fastText model (an ``Embedder``).

    A token is looked up in the vocabulary by its normalised forms, as in a text file. A token out of the
    vocabulary gets the mean of its n-grams, or zeros if it has none.

    :raises CorpusError: the file is damaged, quantised, or a classifier.
    """

    opened = "binary"

    def __init__(self, path: Path) -> None:
        self._path = path
        with open_regular(path) as file:
            self._size = file.seek(0, 2)
            file.seek(len(MAGIC))
            self._layout = self._read_header(file)
            self._words, place = self._read_words(file)
            self._rows = self._read_shape(file, place)

    @property
    def width(self) -> int:
        """Width of a vector."""
        return self._layout.width

    def embed(self, sentences: Sequence[tuple[str, ...]]) -> list[NDArray[np.float32]]:
        """Look up sentences, in the given order. *Shape:* (m, width) each"""
        with open_regular(self._path) as file:
            return by_form(sentences, self.width, lambda form: self._vector(file, form))

    def _vector(self, file: BinaryIO, form: str) -> NDArray[np.float32] | None:
        known = self._number(file, form)
        number, word = known or (None, form.encode("utf-8"))
        rows = [] if number is None else [number]
        rows += [self._layout.words + bucket for bucket in self._buckets(word)]
        if not rows:
            return None
        # An n-gram may occur twice, and two may share a row.
        wanted, times = np.unique(np.array(rows, np.int64), return_counts=True)
        # shape: (different rows, width)
        found = np.stack([self._row(file, int(row)) for row in wanted])
        mean = times @ found.astype(np.float64) / len(rows)
        if not np.isfinite(mean).all():
            raise self._damaged(f"a number of the vector of {quoted(form)} is not finite")
        return mean.astype(np.float32)

    def _number(self, file: BinaryIO, form: str) -> tuple[int, bytes] | None:
        """Return the number and spelling of the first form of a token that the vocabulary has, else None."""
        for spelling in lookup_forms(form):
            word = spelling.encode("utf-8")
            for number, start in self._words.places(word):
                file.seek(start)
                if file.read(len(word) + 1) == word + b"\0":
                    return number, word
        return None

    def _buckets(self, word: bytes) -> Iterator[int]:
        layout = self._layout
        if layout.longest and word != _LINE_END:
            for hashed in ngram_hashes(word, layout.shortest, layout.longest):
                yield hashed % layout.buckets

    def _row(self, file: BinaryIO, number: int) -> NDArray[np.float32]:
        size = 4 * self.width
        file.seek(self._rows + number * size)
        data = file.read(size)
        if len(data) != size:
            raise self._damaged("it was cut short while it was read")
        return np.frombuffer(data, "<f4")

    def _read_header(self, file: BinaryIO) -> _Layout:
        version, *settings, _ = self._unpack(file, _SETTINGS)
        width, buckets, shortest, longest = (settings[place] for place in (0, 8, 9, 10))
        if version not in _VERSIONS:
            raise self._damaged(f"version {version} of fastText's binary format, expected 11 or 12")
        entries, words, labels, _, pruned = self._unpack(file, _COUNTS)
        if labels or settings[7] not in _MODELS:
            raise CorpusError(
                f"{self._path}: a fastText classifier, expected a model of word vectors (CBOW or skip-gram); "
                "fetch a .vec or .bin file from fasttext.cc"
            )
        if pruned > 0:
            raise self._quantised()
        wrong = [
            f"{name} {value}"
            for name, value, least, most in (
                ("width", width, 1, self._size // 4),
                ("words", words, 1, self._size // (_ENTRY + 1)),
                ("entries", entries, words, words),
                ("longest n-gram", longest, 0, _LONGEST_NGRAM),
                ("shortest n-gram", shortest, 0, _LONGEST_NGRAM),
                ("buckets", buckets, 1 if longest > 0 else 0, self._size // 4),
            )
            if not least <= value <= most
        ]
        if wrong:
            raise self._damaged(f"its header has {wrong[0]}, which cannot be")
        return _Layout(width, buckets, shortest, longest, words)

    def _read_words(self, file: BinaryIO) -> tuple[WordIndex, int]:
        """Index the vocabulary; also return the offset of what follows it."""
        words = WordIndex()
        place, rest = file.tell(), b""
        while len(words) < self._layout.words:
            block = file.read(_BLOCK)
            rest += block
            begin = 0
            while len(words) < self._layout.words:
                end = rest.find(b"\0", begin, begin + _LONGEST_WORD)
                if end < 0 or end + 1 + _ENTRY > len(rest):
                    break
                words.add(rest[begin:end], place + begin)
                begin = end + 1 + _ENTRY
            place, rest = place + begin, rest[begin:]
            if len(words) < self._layout.words and (not block or len(rest) > _LONGEST_WORD + _ENTRY):
                raise self._damaged(
                    f"its header promises {self._layout.words:,} words, but there are {len(words):,}"
                )
        return words, place

    def _read_shape(self, file: BinaryIO, place: int) -> int:
        """Check the shape of the rows; return their offset."""
        file.seek(place)
        quantised, rows, width = self._unpack(file, _QUANTISED)
        if quantised:
            raise self._quantised()
        expected = (self._layout.words + self._layout.buckets, self._layout.width)
        if (rows, width) != expected:
            raise self._damaged(f"rows of shape {(rows, width)}, expected {expected} by its header")
        begin = place + _QUANTISED.size
        if (missing := begin + 4 * rows * width - self._size) > 0:
            raise self._damaged(f"{missing:,} bytes of its {rows:,} rows are missing")
        return begin

    def _unpack(self, file: BinaryIO, form: struct.Struct) -> tuple[int, ...]:
        data = file.read(form.size)
        if len(data) != form.size:
            raise self._damaged("it ends in its header")
        return form.unpack(data)

    def _damaged(self, reason: str) -> CorpusError:
        return CorpusError(f"{self._path}: a damaged fastText model: {reason}; fetch or train it again")

    def _quantised(self) -> CorpusError:
        return CorpusError(
            f"{self._path}: a quantised fastText model (.ftz), expected one with full vectors; fetch the "
            ".vec or .bin file"
        )


def ngram_hashes(word: bytes, shortest: int, longest: int) -> Iterator[int]:
    """Hash the character n-grams of ``<word>`` as fastText does: FNV-1a of 32 bits, of signed bytes.

    :param word: in UTF-8.
    """
    text = _BEGIN + word + _END
    for start in range(len(text)):
        if _continues(text[start]):
            continue
        hashed, length = _FNV_OFFSET, 0
        for place in range(start, len(text)):
            byte = text[place]
            signed = byte | 0xFFFFFF00 if byte >= 0x80 else byte
            hashed = (hashed ^ signed) * _FNV_PRIME & _32_BITS
            if place + 1 < len(text) and _continues(text[place + 1]):
                continue  # within a character
            length += 1
            alone = length == 1 and (start == 0 or place + 1 == len(text))  # mark of a word's end
            if length >= shortest and not alone:
                yield hashed
            if length == longest:
                break


def _continues(byte: int) -> bool:
    """Return whether a byte of UTF-8 continues a character."""
    return byte & 0xC0 == 0x80
