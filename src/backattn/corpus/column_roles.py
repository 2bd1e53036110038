"""Find the columns of a table that hold the tokens and the tags."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backattn.common.errors import CorpusError
from backattn.common.safe_text import listed
from backattn.corpus.tags import MOST_TYPES, OUTSIDE, is_tag, other_spelling, split_tag
from backattn.recipe import Scheme

# Schemes with prefixes. Where a file fits several, all read the same entities in it.
PREFIXED: tuple[Scheme, ...] = ("IOB2", "BIOES", "BILOU", "BMES", "BMEWO")
# Type of entities whose tags have no type.
NO_TYPE = "ENTITY"
# Types of a column of chunks, which CoNLL-2000 and CoNLL-2003 have before the column of entities.
_CHUNKS = frozenset(("NP", "VP", "PP", "ADVP", "SBAR", "ADJP", "PRT", "CONJP", "INTJ", "LST", "UCP", "PC"))
_NUMBER = re.compile(r"[0-9]+([-.][0-9]+)?")
# Share of the different values of the richest column: a column of tokens, or of their lemmas, has no fewer.
_RICH = 0.5
_SHOWN = 3  # values that a message names
# The kinds of a column of tags, the most certain first: with prefix and type (B-PER), prefix alone (B), type
# alone (PER), O alone.
Kind = Literal["prefixed", "untyped", "bare", "outside"]
_KINDS: tuple[Kind, ...] = ("prefixed", "untyped", "bare", "outside")


@dataclass(frozen=True)
class Table:
    """The token rows of the beginnings of all files.

    :param sentences: the rows of each sentence, split into columns.
    :param names: names of the columns in the recipe: their numbers, or the fields of JSON.
    """

    sentences: tuple[tuple[Sequence[str], ...], ...]
    names: tuple[str, ...]

    def column(self, place: int) -> list[str]:
        """Return the values of a column, in the order of the files."""
        return [row[place] for sentence in self.sentences for row in sentence]

    def shown(self) -> str:
        """Describe the columns by their first values, for messages."""
        return "; ".join(
            f"{self.named(place)} has {some(self.column(place))}" for place in range(len(self.names))[:8]
        )

    def named(self, place: int) -> str:
        """Return ``column 1``, or ``the field "words"``."""
        name = self.names[place]
        return f"the field {name}" if name.startswith('"') else f"column {name}"


@dataclass(frozen=True)
class Roles:
    """The places of the columns of tokens and tags.

    :param others: other columns that hold tags of the same kind.
    :param twins: other columns that could hold the tokens.
    """

    kind: Kind
    token: int
    tag: int
    others: tuple[int, ...]
    twins: tuple[int, ...]


def find_roles(table: Table) -> Roles | None:
    """Find the columns of the token and of the tag; None if no column holds tags."""
    values = [Counter(table.column(place)) for place in range(len(table.names))]
    kinds = [_kind_of(found) for found in values]
    kind = next((kind for kind in _KINDS if kind in kinds), None)
    if kind is None:
        return None
    places = [place for place, found in enumerate(kinds) if found == kind]
    entities = {place: values[place].total() - values[place][OUTSIDE] for place in places}
    chunks = [place for place in places if {split_tag(tag)[1] for tag in values[place]} <= {*_CHUNKS, ""}]
    named = [place for place in places if place not in chunks] if kind == "prefixed" else places
    # Of several layers of tags, the outer one has the most entities. Columns of other bare words (parts of
    # speech) stand before the tags.
    of_layers = max(named or places, key=lambda place: (entities[place], place))
    tag = of_layers if kind in ("prefixed", "untyped") else places[-1]
    tokens = _token_columns(table, values, {place for place, found in enumerate(kinds) if found == kind})
    tokens = tokens or [place for place in range(len(table.names)) if place != tag]
    others = tuple(place for place in places if place not in (tag, tokens[0]) and place not in chunks)
    return Roles(kind, tokens[0], tag, others, tuple(tokens[1:]))


def refuse_other_spelling(path: Path, table: Table, roles: Roles) -> None:
    """Refuse tags whose prefix is written otherwise (``B_PER``, ``PER-B``): they would be read as bare types.

    :raises CorpusError: names a tag with its right spelling.
    """
    tags = dict.fromkeys(table.column(roles.tag))
    if spelled := other_spelling([tag for tag in tags if tag != OUTSIDE] if roles.kind == "bare" else ()):
        found, expected = listed([*spelled][:_SHOWN]), listed([*spelled.values()][:_SHOWN])
        raise CorpusError(
            f"{path}: {table.named(roles.tag)} holds the tags {found}, expected {expected}: prefix, hyphen, "
            'type; write them so (if these are types, write the recipe by hand with scheme = "IO")'
        )


def _kind_of(values: Counter[str]) -> Kind | None:
    """Return the kind of tags that a column holds; None if it does not hold tags."""
    entities = values.keys() - {OUTSIDE}
    if not entities:
        return "outside"
    if any(all(is_tag(tag, scheme) for tag in entities) for scheme in PREFIXED):
        return "prefixed"
    if any(all(is_tag(tag, scheme, NO_TYPE) for tag in entities) for scheme in PREFIXED):
        return "untyped"
    # Any word could be a type; but types are few, and each occurs often.
    bare = OUTSIDE in values and len(entities) <= MOST_TYPES and 2 * len(entities) <= values.total()
    return "bare" if bare and all(is_tag(tag, "IO") for tag in entities) else None


def _token_columns(table: Table, values: Sequence[Counter[str]], tags: set[int]) -> list[int]:
    """List the columns that could hold tokens, the likeliest first: not ids or tags, and with many values."""
    words = [
        place
        for place in range(len(table.names))
        if place not in tags and not all(_NUMBER.fullmatch(value) for value in values[place])
    ]
    most = max((len(values[place]) for place in words), default=0)
    return [place for place in words if len(values[place]) >= _RICH * most]


def allowed_schemes(table: Table, roles: Roles) -> list[Scheme]:
    """List the schemes that have all tags of the column of tags."""
    kind = NO_TYPE if roles.kind == "untyped" else ""
    tags = set(table.column(roles.tag))
    schemes: Iterable[Scheme] = ("IO",) if roles.kind == "bare" else PREFIXED
    return [scheme for scheme in schemes if all(is_tag(tag, scheme, kind) for tag in tags)]


def begins_by_b(table: Table, roles: Roles) -> bool:
    """Return whether an entity begins with B- where IOB1 has I-: no entity of its type precedes it."""
    for sentence in table.sentences:
        before = ("", "")
        for row in sentence:
            tag = split_tag(row[roles.tag])
            if tag[0] == "B" and (before[0] not in ("B", "I") or before[1] != tag[1]):
                return True
            before = tag
    return False


def role_notes(table: Table, roles: Roles, token_key: str, tag_key: str) -> Iterator[str]:
    """Yield a line for each other column that could be meant.

    :param token_key, tag_key: keys of the recipe's format.
    """
    for place in roles.twins:
        yield (
            f"{table.named(place)} could hold the tokens too ({some(table.column(place))}); to take it: "
            f"corpus.format.{token_key} = {table.names[place]}"
        )
    for place in roles.others:
        shown = [value for value in table.column(place) if value != OUTSIDE]
        yield (
            f"{table.named(place)} holds tags too ({some(shown) or OUTSIDE}); to take it: "
            f"corpus.format.{tag_key} = {table.names[place]}"
        )


def some(values: Iterable[str]) -> str:
    """List the first different values of a column, for messages."""
    return listed(list(dict.fromkeys(values))[:_SHOWN])


def labellings(table: Table, roles: Roles) -> Iterator[dict[str, str]]:
    """Yield the values of scheme, type and orphans that the tags allow, the likeliest first."""
    kind = {"type": NO_TYPE} if roles.kind == "untyped" else {}
    for scheme in allowed_schemes(table, roles):
        yield {"scheme": scheme, **kind}
        if scheme == "IOB2":  # an I- that continues no entity is legal in IOB1, and a mistake in IOB2
            if begins_by_b(table, roles):
                yield {"scheme": scheme, "orphans": "begin", **kind}
            else:
                yield {"scheme": "IOB1", **kind}
