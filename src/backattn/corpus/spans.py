"""Entity spans of BIOES tags: the one definition of an entity that every score, page and projection uses."""

from collections.abc import Sequence
from typing import NamedTuple

from backattn.corpus.tags import OUTSIDE, check_bioes


class Span(NamedTuple):  # not a dataclass: dev is scored after every epoch, and tuples are hashed faster
    """An entity: tokens ``start`` up to, not including, ``end``, of one type."""

    start: int
    end: int
    type: str


def spans(tags: Sequence[str]) -> tuple[Span, ...]:
    """Find the entities of one sentence's legal BIOES tags, in order.

    :raises TagError: the tags are not legal BIOES.
    """
    check_bioes(tags)
    return predicted_spans(tags)


def predicted_spans(tags: Sequence[str]) -> tuple[Span, ...]:
    """Find the entities of one sentence's tags, which may be illegal BIOES, in order.

    An entity is one ``S-X``; or ``B-X``, any number of ``I-X``, and ``E-X`` side by side, all of exactly the
    same type X. No other tag belongs to an entity. This equals seqeval's strict mode with its scheme IOBES,
    except for types that begin or end with a hyphen, which seqeval strips.
    """
    found = []
    start, open_type = 0, ""
    for position, tag in enumerate(tags):
        kind = tag[2:]
        if not kind:  # O, or malformed
            open_type = ""
            continue
        prefix = tag[:2]
        if prefix == "B-":
            start, open_type = position, kind
            continue
        if prefix == "S-":
            found.append(Span(position, position + 1, kind))
        elif kind == open_type:
            if prefix == "I-":
                continue
            if prefix == "E-":
                found.append(Span(start, position + 1, kind))
        open_type = ""
    return tuple(found)


def from_spans(entities: Sequence[Span], length: int) -> tuple[str, ...]:
    """Make the BIOES tags of ``length`` tokens, the inverse of :func:`spans`; entities must not overlap."""
    tags = [OUTSIDE] * length
    for entity in entities:
        inside = [f"I-{entity.type}"] * (entity.end - entity.start)
        inside[0], inside[-1] = f"B-{entity.type}", f"E-{entity.type}"
        tags[entity.start : entity.end] = inside if len(inside) > 1 else [f"S-{entity.type}"]
    return tuple(tags)
