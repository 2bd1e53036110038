"""Entity spans: round trips through every scheme, illegal tags, and seqeval as a second opinion."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.scheme import IOB1, IOB2, IOBES, Entities

from backattn.corpus.spans import Span, from_spans, predicted_spans, spans
from backattn.corpus.tags import TagError, to_bioes
from backattn.recipe import Scheme

SEQEVAL = {"IOB1": IOB1, "IOB2": IOB2, "BIOES": IOBES}


def by_seqeval(sentences: list[list[str]], scheme: Scheme = "BIOES") -> list[list[Span]]:
    found = Entities(sentences, SEQEVAL[scheme]).entities
    return [[Span(entity.start, entity.end, entity.tag) for entity in row] for row in found]


def encode(entities: list[Span], length: int, scheme: Scheme) -> list[str]:
    """A second implementation: write entities in any scheme, one after the other."""
    tags = ["O"] * length
    for number, entity in enumerate(entities):
        touches = number and entities[number - 1].end == entity.start
        same = touches and entities[number - 1].type == entity.type
        for position in range(entity.start, entity.end):
            first, last = position == entity.start, position == entity.end - 1
            if scheme == "IOB1":
                prefix = "B" if first and same else "I"
            elif scheme == "IOB2":
                prefix = "B" if first else "I"
            elif first and last:
                prefix = "S"
            else:
                prefix = "B" if first else "E" if last else {"BIOES": "I", "BMES": "M"}[scheme]
            tags[position] = f"{prefix}-{entity.type}"
    return tags


@st.composite
def sentences(draw: st.DrawFn) -> tuple[list[Span], int]:
    """Entities of one to four tokens with gaps of none to three, so that neighbours often touch."""
    entities, position = [], 0
    for _ in range(draw(st.integers(0, 5))):
        start = position + draw(st.integers(0, 3))
        position = start + draw(st.integers(1, 4))
        entities.append(Span(start, position, draw(st.sampled_from(["PER", "LOC", "ORG.NOM", "X-Y"]))))
    return entities, position + draw(st.integers(0, 2))


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "BIOES", "BMES"])
@given(sentence=sentences())
def test_entities_survive_every_scheme(scheme: Scheme, sentence: tuple[list[Span], int]) -> None:
    entities, length = sentence
    converted = to_bioes(encode(entities, length, scheme), scheme)
    assert converted == from_spans(entities, length)
    assert list(spans(converted)) == list(predicted_spans(converted)) == entities
    assert to_bioes(converted, "BIOES") == converted


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "BIOES"])
@given(sentence=sentences())
def test_seqeval_finds_the_same_entities(scheme: Scheme, sentence: tuple[list[Span], int]) -> None:
    entities, length = sentence
    tags = encode(entities, length, scheme)
    assert by_seqeval([tags], scheme)[0] == list(spans(to_bioes(tags, scheme)))


def test_seqeval_finds_the_same_entities_in_every_short_sequence() -> None:
    """Brute force over all sequences of up to four tags of two types, most of them illegal."""
    tags = ["O", *(f"{prefix}-{kind}" for kind in "AB" for prefix in "BIES")]
    every = [list(path) for length in range(1, 5) for path in product(tags, repeat=length)]
    assert len(every) == 9 + 9**2 + 9**3 + 9**4
    assert [list(predicted_spans(path)) for path in every] == by_seqeval(every)


# Types that seqeval can spell: it strips hyphens at both ends.
TYPES = st.text("AB-_.ä", min_size=1, max_size=4).filter(lambda kind: kind.strip("-") == kind)


@given(st.data())
def test_seqeval_finds_the_same_entities_of_all_types_that_it_can_spell(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(TYPES, min_size=1, max_size=2))
    tags = st.sampled_from(["O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BIES")])
    drawn = data.draw(st.lists(tags, min_size=1, max_size=12))
    assert list(predicted_spans(drawn)) == by_seqeval([drawn])[0]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O O", []),
        ("S-A B-A E-A", [(0, 1, "A"), (1, 3, "A")]),
        ("B-A I-A E-A S-B", [(0, 3, "A"), (3, 4, "B")]),
        ("B-A E-A E-A", [(0, 2, "A")]),
        ("O I-A I-A O", []),
        ("B-A I-B O B-A", []),
        ("B-A I-A B-A E-A", [(2, 4, "A")]),
        ("B-A O E-A", []),
        ("B-A S-A E-A", [(1, 2, "A")]),
        ("A B- E- S- XS-A BA EA", []),  # malformed
        # Hyphens are part of a type.
        ("S-A- S--A S-A", [(0, 1, "A-"), (1, 2, "-A"), (2, 3, "A")]),
        ("B-A E-A- B-- E--", [(2, 4, "-")]),
    ],
)
def test_entities_of_legal_and_illegal_tags(tags: str, expected: list[tuple[int, int, str]]) -> None:
    assert list(predicted_spans(tags.split())) == expected


@pytest.mark.parametrize("tags", ["B-A", "O I-A", "B-A E-B", "A"])
def test_spans_of_a_corpus_refuse_illegal_tags(tags: str) -> None:
    with pytest.raises(TagError):
        spans(tags.split())
