"""Tagged words for people: how wide they are, and where their entities lie."""

import unicodedata
from collections.abc import Sequence

from backattn.common.safe_text import printable
from backattn.corpus.spans import predicted_spans


def width(word: str) -> int:
    """Columns of a terminal: a Chinese character takes two, a combining mark or a joiner none."""
    return sum(map(_columns, printable(word)))


def pad(word: str, columns: int) -> str:
    """Fill up with spaces to so many columns of a terminal."""
    return printable(word) + " " * (columns - width(word))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def bracketed(tokens: Sequence[str], tags: Sequence[str], gap: str = " ") -> str:
    """A sentence as one line, entities in brackets with their type: ``[Angela Merkel PER] lacht``.

    :param gap: what stands between two tokens; nothing for Chinese.
    """
    parts, position = [], 0
    for first, end, kind in predicted_spans(tags):
        parts += [*tokens[position:first], f"[{gap.join(tokens[first:end])} {kind}]"]
        position = end
    return gap.join([*parts, *tokens[position:]])
