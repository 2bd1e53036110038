"""Sentences and columns for a terminal: the width of text, and entities in brackets."""

from collections.abc import Sequence

from wcwidth import wcswidth

from backattn.common.safe_text import printable
from backattn.corpus.spans import predicted_spans


def width(text: str) -> int:
    """Count the columns that a text takes once it is printable: two for a Chinese character."""
    return wcswidth(printable(text))


def pad(text: str, columns: int) -> str:
    """Fill up with spaces to so many columns."""
    return printable(text) + " " * (columns - width(text))


def spans(tokens: Sequence[str], tags: Sequence[str], gap: str = " ") -> list[tuple[str, str]]:
    """Split a sentence into ``(text, type)``, one for each entity; the type of any other token is empty.

    :param gap: printed between two tokens; empty for Chinese.
    """
    found, position = [], 0
    for first, end, kind in predicted_spans(tags):
        found += [(token, "") for token in tokens[position:first]]
        found.append((gap.join(tokens[first:end]), kind))
        position = end
    return [*found, *((token, "") for token in tokens[position:])]


def bracketed(tokens: Sequence[str], tags: Sequence[str], gap: str = " ") -> str:
    """Write a sentence as one line, entities in brackets with their type: ``[Angela Merkel PER] lacht``."""
    return gap.join(f"[{text} {kind}]" if kind else text for text, kind in spans(tokens, tags, gap))
