"""Tag schemes as tables; every scheme becomes BIOES, and BIOES becomes spans.

What a tag means never depends on more than its two neighbours, so a scheme is a table over
``(previous, current, next)``: :func:`_convert` fills it as a corpus asks, and a lookup does the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from backattn.common.safe_text import plain, quoted
from backattn.recipe import Scheme

OUTSIDE = "O"
# Of entities in a file: a CRF takes memory by the square of its tags.
MOST_TYPES = 1000
_TABLE_SIZE = 1 << 14  # a corpus needs a few hundred entries; a file of noise must not fill the memory


@dataclass(frozen=True)
class _Table:
    """The prefixes of a scheme, by what they say of the entity's borders.

    :param begin: the entity begins here.
    :param inside: the entity goes on from the token before (in IOB1: or begins here).
    :param end: the entity ends here; where the scheme marks no end, it ends before whatever does not
        continue it.
    :param marks_end: the scheme marks the end of every entity.
    :param opens_inside: an ``inside`` prefix may open an entity (IOB1 alone).
    """

    begin: frozenset[str]
    inside: frozenset[str]
    end: frozenset[str] = frozenset()
    opens_inside: bool = False

    @property
    def marks_end(self) -> bool:
        return bool(self.end)


_TABLES: dict[Scheme, _Table] = {
    # In IOB1, B- is needed only between two neighbours of one type; elsewhere it is superfluous but
    # says the same as I-, so it is read.
    "IOB1": _Table(begin=frozenset("B"), inside=frozenset("I"), opens_inside=True),
    "IOB2": _Table(begin=frozenset("B"), inside=frozenset("I")),
    "BIOES": _Table(begin=frozenset("BS"), inside=frozenset("IE"), end=frozenset("ES")),
    "BMES": _Table(begin=frozenset("BS"), inside=frozenset("ME"), end=frozenset("ES")),
}


class TagError(ValueError):
    """A tag sequence is not of its scheme.

    :param position: index of the first tag at fault.
    :param found, expected: halves of the message.
    :param orphan: the tag is of the scheme's form, but continues nothing.
    """

    def __init__(self, position: int, found: str, expected: str, *, orphan: bool = False) -> None:
        super().__init__(f"tag {position}: found {found}, expected {expected}")
        self.position = position
        self.found = found
        self.expected = expected
        self.orphan = orphan


@dataclass(frozen=True, order=True)
class Span:
    """An entity: tokens ``start`` up to, not including, ``end``, of one type."""

    start: int
    end: int
    type: str


def split_tag(tag: str) -> tuple[str, str]:
    """``B-PER.NAM`` -> ``("B", "PER.NAM")``; ``O`` -> ``("O", "")``."""
    prefix, _, kind = tag.partition("-")
    return prefix, kind


def is_type(kind: str) -> bool:
    """Whether a text can be an entity type: a blank inside is a column that was not split."""
    return kind.split() == [kind]


def to_bioes(tags: Sequence[str], scheme: Scheme) -> tuple[str, ...]:
    """Bring the tags of one sentence from their scheme to BIOES.

    :raises TagError: at the first tag that is not of the scheme, or that continues nothing, or (where
        the scheme marks ends) before which an entity was left open.
    """
    padded = [OUTSIDE, *tags, OUTSIDE]
    try:
        return tuple([_convert(scheme, *triple) for triple in zip(padded, tags, padded[2:], strict=False)])
    except ValueError:
        raise _offence(tags, scheme) from None


def check_bioes(tags: Sequence[str]) -> None:
    """Say whether tags are legal BIOES.

    :raises TagError: at the first one that is not.
    """
    to_bioes(tags, "BIOES")


def spans(tags: Sequence[str]) -> tuple[Span, ...]:
    """The entities of one sentence's BIOES tags, in order.

    :raises TagError: the tags are no legal BIOES.
    """
    check_bioes(tags)
    found = []
    start = 0
    for position, tag in enumerate(tags):
        prefix, kind = split_tag(tag)
        if prefix in "BS":
            start = position
        if prefix in "ES":
            found.append(Span(start, position + 1, kind))
    return tuple(found)


def from_spans(entities: Sequence[Span], length: int) -> tuple[str, ...]:
    """The inverse of :func:`spans` for a sentence of ``length`` tokens; entities must not overlap."""
    tags = [OUTSIDE] * length
    for entity in entities:
        inside = [f"I-{entity.type}"] * (entity.end - entity.start)
        inside[0], inside[-1] = f"B-{entity.type}", f"E-{entity.type}"
        tags[entity.start : entity.end] = inside if len(inside) > 1 else [f"S-{entity.type}"]
    return tuple(tags)


def legal_transitions(tags: Sequence[str]) -> NDArray[np.bool_]:
    """Which BIOES tag may follow which, the borders of the sentence included.

    :param tags: the k tags, each once.
    :returns: ``[i, j]``: tag i may stand right before tag j; ``[k, j]``: j may begin a sentence;
        ``[i, k]``: i may end one. *Shape:* (k + 1, k + 1), bool; ``[k, k]``, the empty sentence, is False.
    """
    bordered = [*(split_tag(tag) for tag in tags), (OUTSIDE, "")]
    legal = np.array([[_may_follow(_TABLES["BIOES"], one, other) for other in bordered] for one in bordered])
    legal[-1, -1] = False
    return legal


@lru_cache(_TABLE_SIZE)
def _convert(scheme: Scheme, previous: str, current: str, following: str) -> str:
    """One entry of a scheme's table. :raises ValueError: the entry is empty."""
    table = _TABLES[scheme]
    before, here, after = (_parse(tag, scheme) for tag in (previous, current, following))
    if not (_may_follow(table, before, here) and _may_follow(table, here, after)):
        raise ValueError
    if current == OUTSIDE:
        return OUTSIDE
    first, last = not _goes_on(table, before, here), not _goes_on(table, here, after)
    return "IBES"[first + 2 * last] + "-" + here[1]


def _parse(tag: str, scheme: Scheme) -> tuple[str, str]:
    """Prefix and type. :raises ValueError: the tag is not of the scheme's form."""
    prefix, kind = split_tag(tag)
    table = _TABLES[scheme]
    if tag != OUTSIDE and (prefix not in table.begin | table.inside or not is_type(kind)):
        raise ValueError
    return prefix, kind


def _goes_on(table: _Table, one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether two neighbours, legal as they stand, are of one entity."""
    return other[0] in table.inside and one[1] == other[1] and one[0] not in table.end


def _may_follow(table: _Table, one: tuple[str, str], other: tuple[str, str]) -> bool:
    left_open = table.marks_end and one[0] != OUTSIDE and one[0] not in table.end
    continues = other[0] in table.inside and not table.opens_inside
    return _goes_on(table, one, other) if left_open or continues else True


def _offence(tags: Sequence[str], scheme: Scheme) -> TagError:
    """The first offence of a sequence that has one: its position and words for it."""
    table = _TABLES[scheme]
    for position, (previous, tag) in enumerate(pairwise([OUTSIDE, *tags, OUTSIDE])):
        try:
            one, other = _parse(previous, scheme), _parse(tag, scheme)
        except ValueError:
            forms = ", ".join(f"{prefix}-TYPE" for prefix in sorted(table.begin | table.inside))
            return TagError(position, f"tag {quoted(tag)}", f"O or one of {forms}")
        if _may_follow(table, one, other):
            continue
        expected = _expectation(table, one, other)
        if position == len(tags):
            return TagError(position - 1, f"{plain(previous)} at the end of the sentence", expected)
        here = plain(tag)
        found = f"{here} after {plain(previous)}" if position else f"{here} at the start of the sentence"
        return TagError(position, found, expected, orphan=other[0] in table.inside)
    raise AssertionError("a sequence without an offence")


def _expectation(table: _Table, one: tuple[str, str], other: tuple[str, str]) -> str:
    if table.marks_end and one[0] != OUTSIDE and one[0] not in table.end:
        going_on = " or ".join(plain(f"{prefix}-{one[1]}") for prefix in sorted(table.inside, reverse=True))
        return f"{going_on} to go on with the entity"
    return (
        f"{' or '.join(plain(f'{prefix}-{other[1]}') for prefix in sorted(table.begin))} to begin an entity"
    )
