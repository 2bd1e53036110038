"""Tokenise and detokenise text (Moses), and split tokens into subword pieces (BPE)."""

import html
from collections.abc import Iterable, Sequence
from functools import lru_cache
from heapq import heappop, heappush
from pathlib import Path
from typing import Protocol

from sacremoses import MosesDetokenizer, MosesTokenizer

from backattn.common.errors import MissingError, ModelError
from backattn.common.regular_files import read_regular
from backattn.common.writing import base_language
from backattn.recipe import Unit
from backattn.translation.attention_merging import (
    CONTINUED,
    UNKNOWN,
    MergedWords,
    words_of_bpe,
)

# Size of the cache of tokens and their pieces, and characters of the longest token in it: others hardly
# repeat, and would fill the memory.
CACHED_TOKENS = 1 << 17
LONGEST_CACHED = 100
_WORD_END = "</w>"


class TokenPieces(Protocol):
    """Splits source tokens into pieces, and merges target pieces into words."""

    def pieces(self, token: str) -> list[str]:
        """The pieces of one source token, at least one."""

    def words(self, pieces: Sequence[str]) -> MergedWords:
        """The English words of target pieces."""


class BpeCodes:
    """The tokenisation of fairseq's public models: Moses words split by fastBPE codes.

    Moses may split a source token further (``Baden @-@ Württemberg``) and writes ``'`` as ``&apos;``;
    :meth:`words` undoes both on the English side.

    :param codes: the merges, best first.
    :param language: source language, for Moses.
    """

    def __init__(self, codes: Iterable[tuple[str, str]], language: str) -> None:
        self._ranks = {pair: rank for rank, pair in enumerate(codes)}
        self._language = language
        self._encode = lru_cache(maxsize=CACHED_TOKENS)(self._pieces)

    @classmethod
    def load(cls, path: Path, language: str) -> "BpeCodes":
        """Read a file of fastBPE codes: two symbols and a count a line.

        :raises MissingError: there is no such file.
        :raises ModelError: it is not a file of codes.
        """
        try:
            rows = [line.split() for line in read_regular(path).decode("utf-8").splitlines()]
        except OSError:
            raise MissingError(f"{path}: no BPE codes there; fetch the model's archive again") from None
        except UnicodeDecodeError:
            rows = []
        if not rows or any(len(row) != 3 for row in rows):
            raise ModelError(f"{path}: expected lines of two symbols and a count (fastBPE codes)")
        return cls(((left, right) for left, right, _ in rows), language)

    def pieces(self, token: str) -> list[str]:
        """The pieces of one token, at least one; all but the last of a Moses word end in ``@@``."""
        return list((self._encode if len(token) <= LONGEST_CACHED else self._pieces)(token))

    def words(self, pieces: Sequence[str]) -> MergedWords:
        """The words that BPE pieces make up, with Moses' escapes and split hyphens undone."""
        words = words_of_bpe(pieces)
        return MergedWords(tuple(map(html.unescape, words.texts)), words.word_index)

    def _pieces(self, token: str) -> tuple[str, ...]:
        words = _tokeniser(self._language).tokenize(token, aggressive_dash_splits=True, escape=True)
        return tuple(piece for word in words for piece in self._cut(word)) or (UNKNOWN,)

    def _cut(self, word: str) -> list[str]:
        """Split a word into symbols: the best merge of its symbols is applied everywhere, until none is left.

        The symbols are a linked list, so that the time grows with their number and not with its square.
        """
        symbols = [*word[:-1], word[-1] + _WORD_END]
        after, before = list(range(1, len(symbols) + 1)), list(range(-1, len(symbols) - 1))
        places: dict[int, list[int]] = {}  # rank of a merge -> left symbols of its pairs
        waiting: list[int] = []  # the ranks, a heap

        def note(left: int) -> None:
            pair = (symbols[left], symbols[after[left]]) if left >= 0 and after[left] < len(symbols) else None
            rank = self._ranks.get(pair) if pair else None
            if rank is not None:
                if rank not in places:
                    heappush(waiting, rank)
                places.setdefault(rank, []).append(left)

        for left in range(len(symbols)):
            note(left)
        while waiting:
            rank = heappop(waiting)
            merged = []
            for left in sorted(places.pop(rank)):
                right = after[left]
                # Another merge may have taken one of the two.
                if right < len(symbols) and self._ranks.get((symbols[left], symbols[right])) == rank:
                    symbols[left], symbols[right] = symbols[left] + symbols[right], ""
                    after[left] = after[right]
                    if after[right] < len(symbols):
                        before[after[right]] = left
                    merged.append(left)
            for left in merged:
                note(before[left])
                note(left)
        found = [symbol for symbol in symbols if symbol]
        return [*(symbol + CONTINUED for symbol in found[:-1]), found[-1].removesuffix(_WORD_END)]


def tokenise(text: str, language: str, unit: Unit) -> list[str]:
    """Split raw text as the corpora are split: into words (Moses), or into characters."""
    return split_characters(text) if unit == "character" else split_words(text, language)


def split_words(text: str, language: str) -> list[str]:
    """Split text into Moses words, without escapes."""
    tokens: list[str] = _tokeniser(language).tokenize(text, escape=False)
    return tokens


def split_characters(text: str) -> list[str]:
    """Split text into characters; white space is dropped."""
    return [character for character in text if not character.isspace()]


def letters(text: str) -> str:
    """Text without white space, equal for any tokenisation: "do n't" and "don 't" are "don't"."""
    return "".join(text.split())


def detokenise(words: Sequence[str], language: str = "en") -> str:
    """Join Moses words to running text, which is also the form that BLEU expects."""
    text: str = _detokeniser(language).detokenize(list(words), unescape=False)
    return text


@lru_cache
def _tokeniser(language: str) -> MosesTokenizer:
    return MosesTokenizer(base_language(language))


@lru_cache
def _detokeniser(language: str) -> MosesDetokenizer:
    return MosesDetokenizer(base_language(language))
