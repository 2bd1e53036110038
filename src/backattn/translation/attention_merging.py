"""Merge subword attention to tokens. Pure numpy.

A translator works on subword pieces and an end-of-sentence piece (EOS); A is over tokens. Rows are the SUM
over the pieces of a source token, because probability mass adds up. Columns are the MEAN over the pieces of
an English token, because each is a distribution of its own. So each column of A still sums to 1 (eq. 2).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backattn.recipe import EosPolicy, Normalisation

Array = NDArray[np.float32]
# The index of the token that a piece is part of; a tuple of indices where it covers parts of several tokens.
TokenIndex = int | tuple[int, ...]

# Marks the first piece of a word (sentencepiece), and every piece of a word but the last (BPE).
WORD_START = "▁"
CONTINUED = "@@"
UNKNOWN = "<unk>"
# Characters of a token that is copied for an unknown word.
_LONGEST_COPIED = 1000


@dataclass(frozen=True)
class MergedWords:
    """The English words that target pieces make up.

    :param texts: the n words, none of them empty.
    :param word_index: for each piece, the index of its word, or of its words; n for a piece of no word.
    """

    texts: tuple[str, ...]
    word_index: tuple[TokenIndex, ...]


def words_of_sentencepieces(pieces: Sequence[str]) -> MergedWords:
    """Group sentencepieces into words: the first piece and every piece with ``▁`` start one.

    A ``▁`` alone belongs to the next word, so that no word is empty; at the end of the sentence it belongs to
    none.
    """
    texts: list[str] = []
    token_index: list[int] = []
    starts = True
    for piece in pieces:
        starts = starts or piece.startswith(WORD_START)
        text = piece.replace(WORD_START, "")
        if starts and text:
            texts.append("")
            starts = False
        token_index.append(len(texts) if starts else len(texts) - 1)
        if text:
            texts[-1] += text
    return MergedWords(tuple(texts), tuple(token_index))


def words_of_bpe(pieces: Sequence[str]) -> MergedWords:
    """Group BPE pieces into words: a piece that ends in ``@@`` is continued by the next one.

    ``@-@``, a hyphen that Moses has split off, is joined with both neighbours again.
    """
    texts: list[str] = []
    token_index: list[int] = []
    goes_on = False
    for piece in pieces:
        hyphen = piece == "@-@" and bool(texts)
        if not (goes_on or hyphen):
            texts.append("")
        token_index.append(len(texts) - 1)
        texts[-1] += "-" if piece == "@-@" else piece.removesuffix(CONTINUED) or piece
        goes_on = hyphen or piece.endswith(CONTINUED)
    return MergedWords(tuple(texts), tuple(token_index))


def cut_segments(pieces: Sequence[Sequence[str]], limit: int) -> list[list[tuple[int, str]]]:
    """Cut a sentence at token borders into few segments of similar length, at most ``limit`` pieces each.

    A token is cut only when it has more than ``limit`` pieces by itself. No piece is left out.

    :param pieces: the pieces of each token.
    :return: at least one segment; a segment is a list of (index of the token, piece).
    """
    total = sum(map(len, pieces))
    enough = math.ceil(total / math.ceil(total / limit))
    segments: list[list[tuple[int, str]]] = [[]]
    for owner, token in enumerate(pieces):
        for start in range(0, len(token), limit):
            chunk = token[start : start + limit]
            if len(segments[-1]) >= enough or len(segments[-1]) + len(chunk) > limit:
                segments.append([])
            segments[-1] += [(owner, piece) for piece in chunk]
    return segments


@dataclass(frozen=True)
class Segment:
    """The part of a sentence of m tokens that is translated at once; nearly always the whole sentence.

    :param tokens: the m tokens of the whole sentence.
    :param pieces: ids of the segment's p pieces, without EOS.
    :param token_index: for each piece, the index of its token, or of its tokens.
    """

    tokens: tuple[str, ...]
    pieces: tuple[int, ...]
    token_index: tuple[TokenIndex, ...]

    @property
    def text(self) -> str:
        """The sentence, for messages."""
        return " ".join(self.tokens)

    def __len__(self) -> int:
        """Number of pieces with EOS."""
        return len(self.pieces) + 1


def merge_pieces(
    attention: Array, token_index: Sequence[TokenIndex], tokens: int, words: MergedWords
) -> Array:
    """Merge the attention of a sentence, or of a segment, from pieces to tokens; EOS is last on both sides.

    :param attention: p source and q target pieces, each followed by EOS. *Shape:* (p + 1, q + 1)
    :param token_index: for each of the p source pieces, the index of its token; the weight of a piece of
        several tokens is divided evenly among them.
    :param tokens: m, tokens of the whole sentence; those outside the segment get rows of zeros.
    :param words: the n English words of the q target pieces. A piece of no word is merged with EOS.
    :return: *Shape:* (m + 1, n + 1), float32
    :raises ValueError: the shape does not fit the pieces.
    """
    if attention.shape != (len(token_index) + 1, len(words.word_index) + 1):
        raise ValueError(
            f"attention of shape {attention.shape} for {len(token_index)} source and "
            f"{len(words.word_index)} target pieces and the end of the sentence on both sides"
        )
    # Multiply by the membership of pieces in tokens: a sum on the left, a mean on the right.
    left = _shares([*token_index, tokens], tokens + 1)  # shape: (p + 1, m + 1)
    right = _shares([*words.word_index, len(words.texts)], len(words.texts) + 1)  # shape: (q + 1, n + 1)
    merged: Array = left.T @ attention.astype(np.float32) @ (right / right.sum(axis=0))
    return merged


def _shares(token_index: Sequence[TokenIndex], count: int) -> Array:
    """Share of each piece in each of ``count`` tokens; rows sum to 1. *Shape:* (pieces, count)"""
    each = [index if isinstance(index, tuple) else (index,) for index in token_index]
    sizes = np.array(list(map(len, each)))
    shares = np.zeros((len(each), count), np.float32)
    shares[np.arange(len(each)).repeat(sizes), np.concatenate(each)] = (1 / sizes).repeat(sizes)
    return shares


def join_segments(parts: Sequence[Array]) -> Array:
    """Concatenate the attention of the segments of an over-long sentence: A becomes block-diagonal.

    Each part has the rows of the whole sentence, zero outside its segment. The parts share one EOS row; their
    EOS columns are averaged into one.

    :param parts: at least one. *Shape of each:* (m + 1, n_k + 1)
    :return: *Shape:* (m + 1, n_1 + n_2 + ... + 1)
    """
    end = np.mean([part[:, -1:] for part in parts], axis=0, dtype=np.float32)
    joined: Array = np.concatenate([*(part[:, :-1] for part in parts), end], axis=1)
    return joined


def copy_unknown(words: Sequence[str], attention: Array, source: Sequence[str]) -> tuple[str, ...]:
    """Replace words with an unknown piece by the source token with the largest attention weight.

    A word that is not in the translator's vocabulary comes out as ``<unk>``; it is nearly always a name or a
    number that should be copied. A token that is far longer than any name is not copied: it is translated in
    segments, and each of many thousand unknown words would become a copy of it.

    :param attention: token-level, EOS last. *Shape:* (m + 1, n + 1)
    """

    def copied(column: int) -> str:
        token = source[int(attention[:-1, column].argmax())]
        return token if len(token) <= _LONGEST_COPIED else UNKNOWN

    return tuple(copied(i) if UNKNOWN in word else word for i, word in enumerate(words))


def token_attention(attention: Array, *, eos: EosPolicy, normalise: Normalisation) -> Array:
    """Make the A of back attention: apply the EOS policy, then normalise the rows if ``normalise`` says so.

    :param attention: token-level, EOS last on both sides. *Shape:* (m + 1, n + 1)
    :param eos: ``drop`` removes the EOS row and column and leaves the rest as it is; ``renormalise``
        removes them and scales every column that is not zero to sum 1 again; ``keep`` treats EOS as one
        more piece of the last token: its row is added to the last source token's row, its column is averaged
        with the last English token's column.
    :param normalise: ``none`` as in the paper's eq. 5; ``source`` scales each row that is not zero to sum 1.
    :return: *Shape:* (m, n), float32
    """
    result: Array = attention[:-1, :-1].astype(np.float32)
    if eos == "keep" and result.size:
        result[-1] += attention[-1, :-1]
        last = attention[:-1, -1].astype(np.float32)
        last[-1] += attention[-1, -1]
        result[:, -1] = (result[:, -1] + last) / 2
    elif eos == "renormalise":
        result = _scaled(result, axis=0)
    return _scaled(result, axis=1) if normalise == "source" else result


def _scaled(array: Array, axis: int) -> Array:
    total = array.sum(axis=axis, keepdims=True)
    scaled: Array = np.divide(array, total, out=np.zeros_like(array), where=total != 0)
    return scaled
