"""Tag schemes IOB1, IOB2, BIOES and BMES: checks, and conversion to BIOES.

The meaning of a tag depends on its two neighbours at most, so a conversion is a table over ``(previous,
current, next)``. :func:`_convert` computes an entry when a corpus first needs it, and caches it.
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


def split_tag(tag: str) -> tuple[str, str]:
    """``B-PER.NAM`` -> ``("B", "PER.NAM")``; ``O`` -> ``("O", "")``."""
    prefix, _, kind = tag.partition("-")
    return prefix, kind


def is_type(kind: str) -> bool:
    """Whether a text can be an entity type: a blank inside is a column that was not split."""
    return kind.split() == [kind]


def parse_tag(tag: str, scheme: Scheme) -> tuple[str, str]:
    """Prefix and type of a tag.

    :raises ValueError: the tag is not of the scheme's form.
    """
    prefix, kind = split_tag(tag)
    table = _TABLES[scheme]
    if tag != OUTSIDE and (prefix not in table.begin | table.inside or not is_type(kind)):
        raise ValueError(f"found tag {quoted(tag)}, expected {_forms(table)}")
    return prefix, kind


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
    before, here, after = (parse_tag(tag, scheme) for tag in (previous, current, following))
    if not (_may_follow(table, before, here) and _may_follow(table, here, after)):
        raise ValueError
    if current == OUTSIDE:
        return OUTSIDE
    first, last = not _goes_on(table, before, here), not _goes_on(table, here, after)
    return "IBES"[first + 2 * last] + "-" + here[1]


def _forms(table: _Table) -> str:
    return "O or one of " + ", ".join(f"{prefix}-TYPE" for prefix in sorted(table.begin | table.inside))


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
            one, other = parse_tag(previous, scheme), parse_tag(tag, scheme)
        except ValueError:
            return TagError(position, f"tag {quoted(tag)}", _forms(table))
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
