"""Tag schemes IOB1, IOB2, IO, and BIOES with its other letters: checks, and conversion to BIOES.

The meaning of a tag depends on its two neighbours at most, so a conversion is a table over ``(previous,
current, next)``. :func:`_convert` computes an entry when a corpus first needs it, and caches it.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from backattn.common.safe_text import plain, quoted
from backattn.recipe import Scheme

OUTSIDE = "O"
# Output schemes -> prefix of BIOES -> prefix of the scheme, where they differ.
OutputScheme = Literal["BIOES", "IOB2", "BILOU"]
_FROM_BIOES: dict[OutputScheme, dict[str, str]] = {
    "BIOES": {},
    "IOB2": {"S": "B", "E": "I"},
    "BILOU": {"S": "U", "E": "L"},
}
# Entity types of a file: the memory of a CRF grows with the square of its tags.
MOST_TYPES = 1000
_TABLE_SIZE = 1 << 14  # a corpus needs a few hundred entries; a file of noise must not fill the memory


@dataclass(frozen=True)
class _Table:
    """The prefixes of a scheme, grouped by the entity boundary that they mark.

    :param begin: prefixes of the first token of an entity.
    :param inside: prefixes of a token that continues the entity of the token before (in IOB1 also of a first
        token).
    :param end: prefixes of the last token of an entity; in a scheme without them, an entity ends before the
        first token that does not continue it.
    :param opens_inside: an ``inside`` prefix may begin an entity (IOB1 and IO).
    :param bare: tags are types without a prefix (IO); each is read as ``inside``.
    """

    begin: frozenset[str]
    inside: frozenset[str]
    end: frozenset[str] = frozenset()
    opens_inside: bool = False
    bare: bool = False

    @property
    def marks_end(self) -> bool:
        """Whether the scheme marks the end of every entity."""
        return bool(self.end)


_IOB2 = _Table(begin=frozenset("B"), inside=frozenset("I"))
_TABLES: dict[Scheme, _Table] = {
    # In IOB1, B- is needed only between two adjacent entities of one type; elsewhere it is redundant but
    # means the same as I-, so it is accepted.
    "IOB1": _Table(begin=frozenset("B"), inside=frozenset("I"), opens_inside=True),
    "IOB2": _IOB2,
    "BIO": _IOB2,
    "BIOES": _Table(begin=frozenset("BS"), inside=frozenset("IE"), end=frozenset("ES")),
    "BILOU": _Table(begin=frozenset("BU"), inside=frozenset("IL"), end=frozenset("LU")),
    "BMES": _Table(begin=frozenset("BS"), inside=frozenset("ME"), end=frozenset("ES")),
    "BMEWO": _Table(begin=frozenset("BW"), inside=frozenset("ME"), end=frozenset("EW")),
    "IO": _Table(begin=frozenset(), inside=frozenset("I"), opens_inside=True, bare=True),
}


# A prefix of a scheme before or after a type, joined by any sign.
_AFFIXED = re.compile(r"([BIESLUMW])[-_:./|=+](.+)|(.+)[-_:./|=+]([BIESLUMW])", re.IGNORECASE)


class TagError(ValueError):
    """A tag sequence violates its scheme.

    :param position: index of the first illegal tag.
    :param found, expected: the two halves of the message.
    :param orphan: the tag is well-formed, but has no entity to continue.
    """

    def __init__(self, position: int, found: str, expected: str, *, orphan: bool = False) -> None:
        super().__init__(f"tag {position}: found {found}, expected {expected}")
        self.position = position
        self.found = found
        self.expected = expected
        self.orphan = orphan


def split_tag(tag: str) -> tuple[str, str]:
    """Split a tag: ``B-PER.NAM`` -> ``("B", "PER.NAM")``; ``O`` -> ``("O", "")``."""
    prefix, _, kind = tag.partition("-")
    return prefix, kind


def is_type(kind: str) -> bool:
    """Return whether a text can be an entity type: not empty, no blank (which would be an unsplit column)."""
    return kind.split() == [kind]


def parse_tag(tag: str, scheme: Scheme) -> tuple[str, str]:
    """Split a tag into prefix and type, and check it.

    :raises ValueError: the tag is not of the scheme's form.
    """
    table = _TABLES[scheme]
    prefix, kind = ("I", tag) if table.bare and tag != OUTSIDE else split_tag(tag)
    legal = _is_bare_type(kind) if table.bare else prefix in _prefixes(table) and is_type(kind)
    if tag != OUTSIDE and not legal:
        raise ValueError(f"found tag {quoted(tag)}, expected {_forms(table)}")
    return prefix, kind


def _is_bare_type(kind: str) -> bool:
    """Return whether a tag of IO is a type.

    A tag of another scheme (``B-PER``) is not, and neither is another sign for O.
    """
    return (
        is_type(kind) and split_tag(kind)[0] not in ("B", "I") and kind != "o" and any(map(str.isalpha, kind))
    )


def other_spelling(types: Collection[str]) -> dict[str, str]:
    """Find tags in another spelling (``B_PER``, ``PER-B``, ``b-PER``) that were read as bare types.

    They are tags if all have such a prefix, and either a type has B and another prefix, or all begin with B.

    :return: tag -> its spelling here; empty if these are types.
    """
    spelled = {}
    for kind in types:
        if not (match := _AFFIXED.fullmatch(kind)):
            return {}
        before, name, other_name, after = match.groups()
        spelled[kind] = f"{(before or after).upper()}-{name or other_name}"
    tags = set(spelled.values())
    paired = any(f"{other}-{tag[2:]}" in tags for tag in tags if tag[0] == "B" for other in "IELM")
    return spelled if paired or all(kind[0] in "Bb" for kind in types) else {}


def is_tag(tag: str, scheme: Scheme, kind: str = "") -> bool:
    """Return whether a text is a tag of a scheme.

    :param kind: type of all entities, if the tags are prefixes without a type; else empty.
    """
    if kind:
        return tag == OUTSIDE or tag in _prefixes(_TABLES[scheme])
    try:
        parse_tag(tag, scheme)
    except ValueError:
        return False
    return True


def schemes_of(tag: str) -> list[Scheme]:
    """List the schemes that have a tag, for messages."""
    return [scheme for scheme in _TABLES if scheme != "BIO" and is_tag(tag, scheme)]


def with_type(tags: Sequence[str], scheme: Scheme, kind: str) -> list[str]:
    """Give tags without types (``B``, ``I``, ``O``) a type.

    :raises TagError: names the first one that is not a prefix of the scheme.
    """
    prefixes = _prefixes(_TABLES[scheme])
    for position, tag in enumerate(tags):
        if tag != OUTSIDE and tag not in prefixes:
            expected = f"O or one of {', '.join(sorted(prefixes))}"
            raise TagError(position, f"tag {quoted(tag)}", f"{expected} without a type")
    return [tag if tag == OUTSIDE else f"{tag}-{kind}" for tag in tags]


def _prefixes(table: _Table) -> frozenset[str]:
    return table.begin | table.inside


def to_bioes(tags: Sequence[str], scheme: Scheme) -> tuple[str, ...]:
    """Convert the tags of one sentence from their scheme to BIOES.

    :raises TagError: names the first tag that is malformed, that has no entity to continue, or (where the
        scheme marks ends) that follows an unfinished entity.
    """
    padded = [OUTSIDE, *tags, OUTSIDE]
    try:
        return tuple([_convert(scheme, *triple) for triple in zip(padded, tags, padded[2:], strict=False)])
    except ValueError:
        raise _first_error(tags, scheme) from None


def from_bioes(tags: Sequence[str], scheme: OutputScheme) -> list[str]:
    """Convert legal BIOES tags to another scheme."""
    prefixes = _FROM_BIOES[scheme]
    return [prefixes.get(tag[0], tag[0]) + tag[1:] for tag in tags]


def check_bioes(tags: Sequence[str]) -> None:
    """Check that tags are legal BIOES.

    :raises TagError: names the first one that is not.
    """
    to_bioes(tags, "BIOES")


def legal_transitions(tags: Sequence[str]) -> NDArray[np.bool_]:
    """Compute the legal transitions between BIOES tags, and at the start and end of a sentence.

    :param tags: the k tags, each once.
    :returns: ``[i, j]``: tag j may follow tag i; ``[k, j]``: a sentence may begin with j; ``[i, k]``: a
        sentence may end with i. *Shape:* (k + 1, k + 1), bool; ``[k, k]``, the empty sentence, is False.
    """
    bordered = [*(split_tag(tag) for tag in tags), (OUTSIDE, "")]
    legal = np.array([[_may_follow(_TABLES["BIOES"], one, other) for other in bordered] for one in bordered])
    legal[-1, -1] = False
    return legal


@lru_cache(_TABLE_SIZE)
def _convert(scheme: Scheme, previous: str, current: str, following: str) -> str:
    """Convert the tag ``current`` between its neighbours to BIOES.

    :raises ValueError: a tag is malformed, or may not follow the one before it.
    """
    table = _TABLES[scheme]
    before, here, after = (parse_tag(tag, scheme) for tag in (previous, current, following))
    if not (_may_follow(table, before, here) and _may_follow(table, here, after)):
        raise ValueError
    if current == OUTSIDE:
        return OUTSIDE
    first, last = not _continues(table, before, here), not _continues(table, here, after)
    return "IBES"[first + 2 * last] + "-" + here[1]


def _forms(table: _Table) -> str:
    if table.bare:
        return "O or a type without a prefix, like PER"
    return "O or one of " + ", ".join(f"{prefix}-TYPE" for prefix in sorted(_prefixes(table)))


def _continues(table: _Table, one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Return whether the second of two adjacent tags continues the entity of the first."""
    return other[0] in table.inside and one[1] == other[1] and one[0] not in table.end


def _may_follow(table: _Table, one: tuple[str, str], other: tuple[str, str]) -> bool:
    must_continue = other[0] in table.inside and not table.opens_inside
    return _continues(table, one, other) if _unfinished(table, one) or must_continue else True


def _unfinished(table: _Table, tag: tuple[str, str]) -> bool:
    """Return whether the entity of a tag needs another token."""
    return table.marks_end and tag[0] != OUTSIDE and tag[0] not in table.end


def _first_error(tags: Sequence[str], scheme: Scheme) -> TagError:
    """Make the error for the first illegal tag of a sequence."""
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
    raise AssertionError("the sequence is legal")


def _expectation(table: _Table, one: tuple[str, str], other: tuple[str, str]) -> str:
    if _unfinished(table, one):
        continuing = " or ".join(plain(f"{prefix}-{one[1]}") for prefix in sorted(table.inside, reverse=True))
        return f"{continuing} to go on with the entity"
    return (
        f"{' or '.join(plain(f'{prefix}-{other[1]}') for prefix in sorted(table.begin))} to begin an entity"
    )
