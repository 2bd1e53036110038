"""Subword tokenizer of models trained on raw text, where one piece may cover parts of several tokens.

Tokens are detokenised before they are encoded. Pieces are aligned with tokens by character offsets: without
white space, both are the same text.
"""

import bisect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backattn.common.writing import join_unspaced, writes_blanks
from backattn.translation.attention_merging import (
    UNKNOWN,
    WORD_START,
    MergedWords,
    Segment,
    TokenIndex,
    cut_segments,
    words_of_sentencepieces,
)
from backattn.translation.sentencepieces import SentencePieceModel
from backattn.translation.tokenisation import detokenise, split_words

# Replaces an unknown piece while Moses splits the text: a letter, so that Moses does not split at it, and one
# that occurs in a single old manuscript only.
_PLACEHOLDER = "\ua66e"

# Pieces, each with the indices of the tokens that it covers.
AlignedPieces = list[tuple[tuple[int, ...], str]]


@dataclass(frozen=True, eq=False)
class SideVocabulary:
    """Vocabulary of one side of a model.

    :param sentencepiece: splits text into pieces.
    :param ids: piece -> id.
    :param unk_id: the id of all other pieces.
    """

    sentencepiece: SentencePieceModel
    ids: Mapping[str, int]
    unk_id: int

    def piece_to_id(self, piece: str) -> int:
        """The id of a piece, or the unknown one."""
        return self.ids.get(piece, self.unk_id)


class RawTextTokenizer:
    """Tokenizer of a model that reads and writes raw text (a ``SubwordTokenizer``).

    :param language: source language, which decides how its tokens are written as text.
    """

    def __init__(self, source: SideVocabulary, target: SideVocabulary, language: str) -> None:
        self._source, self._target, self._language = source, target, language
        self._piece_by_id = {piece_id: piece for piece, piece_id in target.ids.items()}

    def encode_source(self, tokens: tuple[str, ...], limit: int) -> list[Segment]:
        """Encode a source in segments; tokens that share a piece stay in one segment."""
        if not tokens:
            raise ValueError("a sentence has at least one token")
        # A text that normalisation deletes is one unknown piece.
        pieces = align_pieces(self._text(tokens), tokens, self._source.sentencepiece) or [
            (tuple(range(len(tokens))), UNKNOWN)
        ]
        token_index = (covered for covered, _ in pieces)
        return [
            Segment(
                tokens,
                tuple(self._source.piece_to_id(piece) for _, piece in cut),
                tuple(itertools.islice(token_index, len(cut))),
            )
            for cut in cut_segments(_group_by_token(pieces), limit)
        ]

    def decode(self, pieces: Sequence[int]) -> MergedWords:
        """The Moses words of the output pieces."""
        symbols = [self._piece_by_id.get(piece_id, UNKNOWN) for piece_id in pieces]
        bare = [_PLACEHOLDER if symbol == UNKNOWN else _bare(symbol) for symbol in symbols]
        text = "".join(
            symbol.replace(WORD_START, " ") if spelled == _bare(symbol) else spelled
            for symbol, spelled in zip(symbols, bare, strict=True)
        )
        words = split_words(text, "en")
        if "".join(words) != "".join(bare):  # Moses has replaced a character, so offsets do not match
            return words_of_sentencepieces(symbols)
        texts = tuple(word.replace(_PLACEHOLDER, UNKNOWN) for word in words)
        token_index = overlaps(list(map(len, bare)), list(map(len, words)))
        return MergedWords(texts, tuple(covered or len(texts) for covered in token_index))

    def encode_target(self, english: tuple[str, ...]) -> tuple[MergedWords, tuple[int, ...]]:
        """Encode English tokens as text; a token that no piece covers gets an unknown one."""
        pieces = align_pieces(detokenise(english), english, self._target.sentencepiece)
        covered = {index for indices, _ in pieces for index in indices}
        pieces += [((index,), UNKNOWN) for index in range(len(english)) if index not in covered]
        pieces.sort(key=lambda piece: piece[0])
        token_index: tuple[TokenIndex, ...] = tuple(indices for indices, _ in pieces)
        return MergedWords(english, token_index), tuple(
            self._target.piece_to_id(piece) for _, piece in pieces
        )

    def _text(self, tokens: Sequence[str]) -> str:
        spaced = writes_blanks(self._language)
        return detokenise(tokens, self._language) if spaced else join_unspaced(tokens)


def align_pieces(text: str, tokens: Sequence[str], sentencepiece: SentencePieceModel) -> AlignedPieces:
    """Split a text into pieces, each with the indices of the tokens that it covers, at least one.

    Where the normalised text differs from the normalised tokens (a normalisation across their border), each
    token is encoded by itself. A token that normalisation deletes has no piece.

    :param text: the detokenised ``tokens``.
    """
    each = [_drop_unknown(sentencepiece.pieces(token)) for token in tokens]
    pieces = _drop_unknown(sentencepiece.text_pieces(text))
    bare = list(map(_bare, pieces))
    lengths = [sum(len(_bare(piece)) for piece in own) for own in each]
    if "".join(bare) != "".join(_bare(piece) for own in each for piece in own):
        return [((index,), piece) for index, own in enumerate(each) for piece in own]
    token_index = overlaps(list(map(len, bare)), lengths)
    last = max((index for index, length in enumerate(lengths) if length), default=0)
    return [(covered or (last,), piece) for covered, piece in zip(token_index, pieces, strict=True)]


def overlaps(pieces: Sequence[int], tokens: Sequence[int]) -> list[tuple[int, ...]]:
    """Find the indices of the tokens that each piece overlaps, by character offsets in the same text.

    A piece without characters belongs to the token that begins at its offset, and at the end of the text to
    none.

    :param pieces, tokens: lengths in characters, of equal sum.
    """
    filled = [index for index, length in enumerate(tokens) if length]
    ends = list(itertools.accumulate(tokens[index] for index in filled))
    token_index: list[tuple[int, ...]] = []
    start = 0
    for length in pieces:
        end = start + max(length, 1)
        # The first token that ends after the piece's start, up to the last that begins before its end.
        first, last = bisect.bisect_right(ends, start), bisect.bisect_left(ends, end)
        token_index.append(tuple(filled[first : last + 1]))
        start += length
    return token_index


def _group_by_token(pieces: AlignedPieces) -> list[list[str]]:
    """Group pieces so that no two groups share a token; the groups are as small as possible."""
    groups: list[list[str]] = []
    reached = -1
    for covered, piece in pieces:
        if covered[0] > reached:
            groups.append([])
        groups[-1].append(piece)
        reached = max(reached, covered[-1])
    return groups


def _drop_unknown(pieces: list[str]) -> list[str]:
    """Drop the single unknown piece that stands for a text which normalisation deletes."""
    return [] if pieces == [UNKNOWN] else pieces


def _bare(piece: str) -> str:
    return piece.replace(WORD_START, "")
