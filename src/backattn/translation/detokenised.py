"""Tokens <-> the pieces of a model that reads and writes raw text: a piece may spell parts of several tokens.

Pieces and tokens are matched by their characters: white space apart, both spell the same text.
"""

import bisect
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backattn.translation.attention_merging import (
    UNKNOWN,
    WORD_START,
    MergedWords,
    Owner,
    cut_segments,
    words_of_sentencepieces,
)
from backattn.translation.segments import Segment
from backattn.translation.tokenisation import SentencePieceModel, detokenise, split_words

# Languages that write no space between words.
_UNSPACED = frozenset({"zh", "yue", "ja", "th", "lo", "km", "my"})
# Stands for what a model could not spell while Moses cuts the text: a letter, so that its word stays one; it
# is of a single old manuscript.
_PLACEHOLDER = "\ua66e"

Cut = list[tuple[tuple[int, ...], str]]


@dataclass(frozen=True, eq=False)
class SideVocabulary:
    """One side of a model.

    :param vocabulary: cuts text into pieces.
    :param numbers: piece -> its number.
    :param unknown: the number of all others.
    """

    vocabulary: SentencePieceModel
    numbers: Mapping[str, int]
    unknown: int

    def number(self, piece: str) -> int:
        """The number of a piece."""
        return self.numbers.get(piece, self.unknown)


class RawTextTokenizer:
    """Pieces of raw text (a ``SubwordTokenizer``).

    :param language: of the source: how its tokens are written as text.
    """

    def __init__(self, source: SideVocabulary, target: SideVocabulary, language: str) -> None:
        self._source, self._target, self._language = source, target, language
        self._names = {number: piece for piece, number in target.numbers.items()}

    def segments(self, tokens: tuple[str, ...], limit: int) -> list[Segment]:
        """A source in segments; tokens that share a piece are kept together."""
        if not tokens:
            raise ValueError("a sentence has at least one token")
        # What normalisation leaves nothing of at all is one unknown piece.
        pieces = cut_text(self._text(tokens), tokens, self._source.vocabulary) or [
            (tuple(range(len(tokens))), UNKNOWN)
        ]
        owners = (owner for owner, _ in pieces)
        return [
            Segment(
                tokens,
                tuple(self._source.number(piece) for _, piece in cut),
                tuple(itertools.islice(owners, len(cut))),
            )
            for cut in cut_segments(_kept_together(pieces), limit)
        ]

    def written(self, pieces: Sequence[int]) -> MergedWords:
        """The Moses words of what was written."""
        symbols = [self._names.get(number, UNKNOWN) for number in pieces]
        bare = [_PLACEHOLDER if symbol == UNKNOWN else _bare(symbol) for symbol in symbols]
        text = "".join(
            symbol.replace(WORD_START, " ") if spelled == _bare(symbol) else spelled
            for symbol, spelled in zip(symbols, bare, strict=True)
        )
        words = split_words(text, "en")
        if "".join(words) != "".join(bare):  # Moses has changed a character
            return words_of_sentencepieces(symbols)
        texts = tuple(word.replace(_PLACEHOLDER, UNKNOWN) for word in words)
        owners = overlaps(list(map(len, bare)), list(map(len, words)))
        return MergedWords(texts, tuple(owner or len(texts) for owner in owners))

    def given(self, english: tuple[str, ...]) -> tuple[MergedWords, tuple[int, ...]]:
        """English tokens as text, and its pieces; an unknown one for a token that is spelled by none."""
        pieces = cut_text(detokenise(english), english, self._target.vocabulary)
        spelled = {number for owner, _ in pieces for number in owner}
        pieces += [((number,), UNKNOWN) for number in range(len(english)) if number not in spelled]
        pieces.sort(key=lambda piece: piece[0])
        owners: tuple[Owner, ...] = tuple(owner for owner, _ in pieces)
        return MergedWords(english, owners), tuple(self._target.number(piece) for _, piece in pieces)

    def _text(self, tokens: Sequence[str]) -> str:
        unspaced = re.split("[-_]", self._language)[0].lower() in _UNSPACED
        return "".join(tokens) if unspaced else detokenise(tokens, self._language)


def cut_text(text: str, tokens: Sequence[str], vocabulary: SentencePieceModel) -> Cut:
    """The pieces of a text, each with the tokens that it spells, at least one.

    Where text and tokens are not spelled alike (a normalisation across their border), each token is cut by
    itself. A token that normalisation leaves nothing of owns no piece.

    :param tokens: of the text.
    """
    each = [_spelled(vocabulary.pieces(token)) for token in tokens]
    pieces = _spelled(vocabulary.text_pieces(text))
    bare = list(map(_bare, pieces))
    lengths = [sum(len(_bare(piece)) for piece in own) for own in each]
    if "".join(bare) != "".join(_bare(piece) for own in each for piece in own):
        return [((number,), piece) for number, own in enumerate(each) for piece in own]
    owners = overlaps(list(map(len, bare)), lengths)
    last = max((number for number, length in enumerate(lengths) if length), default=0)
    return [(owner or (last,), piece) for owner, piece in zip(owners, pieces, strict=True)]


def overlaps(pieces: Sequence[int], tokens: Sequence[int]) -> list[tuple[int, ...]]:
    """Which tokens each piece spells a part of, where both spell the same characters.

    A piece of no character goes with the token that begins there; at the end of the text it has none.

    :param pieces, tokens: numbers of characters, of equal sum.
    """
    filled = [number for number, length in enumerate(tokens) if length]
    ends = list(itertools.accumulate(tokens[number] for number in filled))
    owners: list[tuple[int, ...]] = []
    start = 0
    for length in pieces:
        end = start + max(length, 1)
        # The first token that ends behind the start, and all that begin before the end.
        first, last = bisect.bisect_right(ends, start), bisect.bisect_left(ends, end)
        owners.append(tuple(filled[first : last + 1]))
        start += length
    return owners


def _kept_together(pieces: Cut) -> list[list[str]]:
    """Pieces in groups that share no token."""
    groups: list[list[str]] = []
    reached = -1
    for owner, piece in pieces:
        if owner[0] > reached:
            groups.append([])
        groups[-1].append(piece)
        reached = max(reached, owner[-1])
    return groups


def _spelled(pieces: list[str]) -> list[str]:
    """None where normalisation leaves nothing of a text."""
    return [] if pieces == [UNKNOWN] else pieces


def _bare(piece: str) -> str:
    return piece.replace(WORD_START, "")
