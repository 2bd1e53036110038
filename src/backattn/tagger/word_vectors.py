"""fastText vectors in text format (``.vec``): only the words that a corpus needs."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backattn.errors import CorpusError, MissingError


def read_word_vectors(path: Path, wanted: Collection[str]) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Read the vectors of the wanted words; the rest of the file (often gigabytes) is only passed over.

    :returns: the words found, in file order, and their vectors. *Shape:* (words, width)
    :raises MissingError: there is no such file.
    :raises CorpusError: names file and line of what is not fastText text.
    """
    if not path.is_file():
        raise MissingError(
            f"{path}: no word vectors; fetch a .vec file from fasttext.cc, or leave "
            "tagger.embeddings empty to train word vectors from scratch"
        )
    sought = {word.encode("utf-8") for word in wanted}
    found: dict[bytes, NDArray[np.float32]] = {}
    with path.open("rb") as file:
        count, width = _header(path, file.readline())
        number = 1
        for number, line in enumerate(file, 2):
            word, _, rest = line.partition(b" ")
            if word in sought and word not in found:
                found[word] = _vector(path, number, rest, width)
    if number - 1 != count:
        raise CorpusError(
            f"{path}: line 1 promises {count} vectors, but {number - 1} follow; fetch the file again"
        )
    words = tuple(word.decode("utf-8") for word in found)
    return words, np.stack(list(found.values())) if found else np.zeros((0, width), np.float32)


def _header(path: Path, line: bytes) -> tuple[int, int]:
    try:
        count, width = map(int, line.split())
    except ValueError:
        raise CorpusError(
            f"{path}, line 1: expected the number and the width of the vectors, as in `2000000 300`; "
            "tagger.embeddings takes fastText's text format"
        ) from None
    return count, width


def _vector(path: Path, number: int, text: bytes, width: int) -> NDArray[np.float32]:
    try:
        vector = np.array(text.split(), dtype=np.float32)
    except ValueError:
        raise CorpusError(f"{path}, line {number}: expected a word and {width} numbers") from None
    if len(vector) != width:
        raise CorpusError(f"{path}, line {number}: expected {width} numbers, found {len(vector)}")
    if not np.isfinite(vector).all():
        raise CorpusError(f"{path}, line {number}: a number is not finite")
    return vector
