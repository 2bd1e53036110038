"""Attention over subword pieces -> attention over tokens. Pure numpy.

A translator sees pieces and an end-of-sentence mark (EOS); the project's A is over tokens. Rows SUM over
the pieces of a source token, because probability mass adds up. Columns are the MEAN over the pieces of an
English token, because each is a distribution of its own. So a column goes on summing to 1 (eq. 2).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backattn.recipe import EosPolicy, Normalisation

Array = NDArray[np.float32]
# The index of the token that a piece spells a part of; where it spells several, all of theirs.
Owner = int | tuple[int, ...]

# Before the first piece of a word (sentencepiece), or after every piece but the last one (BPE).
WORD_START = "▁"
CONTINUED = "@@"
UNKNOWN = "<unk>"


@dataclass(frozen=True)
class MergedWords:
    """The English words that target pieces make up.

    :param texts: the n words, none of them empty.
    :param owners: for each piece, the index of its word, or of its words; n for a piece that belongs to none.
    """

    texts: tuple[str, ...]
    owners: tuple[Owner, ...]


def words_of_sentencepieces(pieces: Sequence[str]) -> MergedWords:
    """Group sentencepieces: ``▁`` starts a word, and so does the first piece whatever it is.

    A ``▁`` that stands alone goes with the word after it, so that no word is empty; at the end of the
    sentence it is a piece of no word.
    """
    texts: list[str] = []
    owners: list[int] = []
    starts = True
    for piece in pieces:
        starts = starts or piece.startswith(WORD_START)
        text = piece.replace(WORD_START, "")
        if starts and text:
            texts.append("")
            starts = False
        owners.append(len(texts) if starts else len(texts) - 1)
        if text:
            texts[-1] += text
    return MergedWords(tuple(texts), tuple(owners))


def words_of_bpe(pieces: Sequence[str]) -> MergedWords:
    """Group BPE pieces: ``@@`` at the end of a piece says that its word goes on.

    ``@-@``, the hyphen that Moses cuts out, joins its neighbours again.
    """
    texts: list[str] = []
    owners: list[int] = []
    goes_on = False
    for piece in pieces:
        hyphen = piece == "@-@" and bool(texts)
        if not (goes_on or hyphen):
            texts.append("")
        owners.append(len(texts) - 1)
        texts[-1] += "-" if piece == "@-@" else piece.removesuffix(CONTINUED) or piece
        goes_on = hyphen or piece.endswith(CONTINUED)
    return MergedWords(tuple(texts), tuple(owners))


def cut_segments(pieces: Sequence[Sequence[str]], limit: int) -> list[list[tuple[int, str]]]:
    """Cut a sentence into as few segments of at most ``limit`` pieces as token borders allow, evenly.

    A token is cut only when it has more than ``limit`` pieces by itself. Nothing is left out.

    :param pieces: the pieces of each token.
    :return: at least one segment; each piece comes with the index of its token.
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


def merge_pieces(attention: Array, owners: Sequence[Owner], tokens: int, words: MergedWords) -> Array:
    """Bring the attention of one (segment of a) sentence from pieces to tokens, EOS last on both sides.

    :param attention: p source and q target pieces, each followed by EOS. *Shape:* (p + 1, q + 1)
    :param owners: for each of the p source pieces, the index of its token; what goes to a piece of several
        tokens is divided evenly among them.
    :param tokens: m, tokens of the whole sentence; those outside a segment get rows of zeros.
    :param words: the n English words of the q target pieces. A piece of no word counts with EOS.
    :return: *Shape:* (m + 1, n + 1), float32
    :raises ValueError: the shape does not fit the pieces.
    """
    if attention.shape != (len(owners) + 1, len(words.owners) + 1):
        raise ValueError(
            f"attention of shape {attention.shape} for {len(owners)} source and {len(words.owners)} target "
            "pieces and the end of the sentence on both sides"
        )
    # Two small matrices say who belongs to whom: sum on the left, mean on the right.
    left = _shares([*owners, tokens], tokens + 1)  # shape: (p + 1, m + 1)
    right = _shares([*words.owners, len(words.texts)], len(words.texts) + 1)  # shape: (q + 1, n + 1)
    merged: Array = left.T @ attention.astype(np.float32) @ (right / right.sum(axis=0))
    return merged


def _shares(owners: Sequence[Owner], count: int) -> Array:
    """How much of each piece belongs to each of ``count`` tokens; rows sum to 1. *Shape:* (pieces, count)"""
    each = [owner if isinstance(owner, tuple) else (owner,) for owner in owners]
    sizes = np.array(list(map(len, each)))
    shares = np.zeros((len(each), count), np.float32)
    shares[np.arange(len(each)).repeat(sizes), np.concatenate(each)] = (1 / sizes).repeat(sizes)
    return shares


def join_segments(parts: Sequence[Array]) -> Array:
    """Put the segments of an over-long sentence side by side: A becomes block-diagonal.

    Each part has the rows of the whole sentence, zero outside its segment. The segments' EOS rows thus
    become one; their EOS columns are averaged into one.

    :param parts: at least one. *Shape of each:* (m + 1, n_k + 1)
    :return: *Shape:* (m + 1, n_1 + n_2 + ... + 1)
    """
    end = np.mean([part[:, -1:] for part in parts], axis=0, dtype=np.float32)
    joined: Array = np.concatenate([*(part[:, :-1] for part in parts), end], axis=1)
    return joined


def copy_unknown(words: Sequence[str], attention: Array, source: Sequence[str]) -> tuple[str, ...]:
    """Write source tokens for the words that the translator could not spell.

    Pieces that are not in its dictionary come out as ``<unk>``; what they stand for is nearly always a
    name or a number to be copied, so such a word becomes the source token that it looked at most.

    :param attention: token-level, EOS last. *Shape:* (m + 1, n + 1)
    """
    return tuple(
        source[int(attention[:-1, i].argmax())] if UNKNOWN in word else word for i, word in enumerate(words)
    )


def token_attention(attention: Array, *, eos: EosPolicy, normalise: Normalisation) -> Array:
    """A as back attention wants it: the EOS row and column dealt with, rows normalised if asked.

    :param attention: token-level, EOS last on both sides. *Shape:* (m + 1, n + 1)
    :param eos: ``drop`` takes the EOS row and column away and leaves the rest as it is; ``renormalise``
        does so and scales every column to sum 1 again (one of zeros stays); ``keep`` treats EOS as one
        more piece of the last token: its row is added to the last source token's, its column is averaged
        with the last English token's.
    :param normalise: ``none``, the paper's eq. 5; ``source`` scales each row that is not zero to sum 1.
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
