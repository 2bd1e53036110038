"""Tagged words for people: how wide they are, and where their entities lie."""

import unicodedata
from collections.abc import Sequence

from backattn.common.safe_text import printable


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


def entities(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """``(first, end, type)`` of BIOES tags, ends exclusive; what is not legal is shown as it stands.

    An I- or E- that continues nothing begins an entity: a page shows what a model said, it does not judge.
    """
    found: list[tuple[int, int, str]] = []
    first = 0
    for index, tag in enumerate(tags):
        kind = tag[2:]
        goes_on = tag[:1] in ("I", "E") and index > first and tags[index - 1][:1] in ("B", "I")
        if not (goes_on and tags[index - 1][2:] == kind):
            first = index
        ends = index + 1 == len(tags) or tags[index + 1][:1] not in ("I", "E") or tags[index + 1][2:] != kind
        if kind and (ends or tag[:1] in ("E", "S")):
            found.append((first, index + 1, kind))
            first = index + 1
    return found


def bracketed(tokens: Sequence[str], tags: Sequence[str], gap: str = " ") -> str:
    """A sentence as one line, entities in brackets with their type: ``[Angela Merkel PER] lacht``.

    :param gap: what stands between two tokens; nothing for Chinese.
    """
    parts, position = [], 0
    for first, end, kind in entities(tags):
        parts += [*tokens[position:first], f"[{gap.join(tokens[first:end])} {kind}]"]
        position = end
    return gap.join([*parts, *tokens[position:]])
