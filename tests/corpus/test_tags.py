"""Tag schemes: golden rows, named offences, and brute force over short sequences."""

from itertools import product

import numpy as np
import pytest
from seqeval.scheme import IOBES, Entities

from backattn.corpus.spans import Span, from_spans
from backattn.corpus.tags import TagError, check_bioes, legal_transitions, other_spelling, to_bioes
from backattn.recipe import Scheme

GOLDEN: list[tuple[Scheme, str, str]] = [
    ("IOB2", "", ""),
    ("IOB2", "O", "O"),
    ("IOB2", "B-A", "S-A"),
    ("IOB2", "B-A I-A", "B-A E-A"),
    ("IOB2", "B-A I-A I-A O", "B-A I-A E-A O"),
    ("IOB2", "B-A B-A I-A B-B", "S-A B-A E-A S-B"),
    ("IOB1", "I-A", "S-A"),
    ("IOB1", "I-A I-A O I-A", "B-A E-A O S-A"),
    ("IOB1", "I-A I-B I-B", "S-A B-B E-B"),
    ("IOB1", "I-A B-A I-A", "S-A B-A E-A"),
    ("IOB1", "B-A I-A B-A", "B-A E-A S-A"),
    ("BIOES", "O S-A B-B I-B E-B", "O S-A B-B I-B E-B"),
    ("BMES", "O S-A B-B M-B M-B E-B", "O S-A B-B I-B I-B E-B"),
    ("IOB2", "B-PER.NAM I-PER.NAM", "B-PER.NAM E-PER.NAM"),
    ("IOB2", "B-A-B I-A-B", "B-A-B E-A-B"),
]


@pytest.mark.parametrize(("scheme", "tags", "expected"), GOLDEN)
def test_golden(scheme: Scheme, tags: str, expected: str) -> None:
    assert to_bioes(tags.split(), scheme) == tuple(expected.split())


OFFENCES: list[tuple[Scheme, str, int, str]] = [
    ("IOB2", "I-A", 0, "I-A at the start of the sentence, expected B-A to begin an entity"),
    ("IOB2", "O I-A", 1, "I-A after O, expected B-A"),
    ("IOB2", "B-A I-B", 1, "I-B after B-A, expected B-B"),
    ("IOB2", "B-A I-A S-A", 2, "tag 'S-A', expected O or one of B-TYPE, I-TYPE"),
    ("IOB2", "O PER", 1, "tag 'PER'"),
    ("IOB2", "O-PER", 0, "tag 'O-PER'"),
    ("IOB2", "B-", 0, "tag 'B-'"),
    ("IOB2", "o", 0, "tag 'o'"),
    ("IOB2", "O I-A X", 1, "I-A after O"),
    ("BIOES", "B-A O", 1, "O after B-A, expected I-A or E-A to go on with the entity"),
    ("BIOES", "O B-A", 1, "B-A at the end of the sentence, expected I-A or E-A"),
    ("BIOES", "B-A I-B E-B", 1, "I-B after B-A, expected I-A or E-A"),
    ("BIOES", "S-A E-A", 1, "E-A after S-A, expected B-A or S-A to begin an entity"),
    ("BIOES", "B-A B-A E-A", 1, "B-A after B-A, expected I-A or E-A"),
    ("BMES", "B-A I-A E-A", 1, "tag 'I-A', expected O or one of B-TYPE, E-TYPE, M-TYPE, S-TYPE"),
    ("BMES", "M-A", 0, "M-A at the start of the sentence, expected B-A or S-A"),
]


@pytest.mark.parametrize(("scheme", "tags", "position", "message"), OFFENCES)
def test_the_first_offence_is_named(scheme: Scheme, tags: str, position: int, message: str) -> None:
    with pytest.raises(TagError) as caught:
        to_bioes(tags.split(), scheme)
    assert caught.value.position == position
    assert message in str(caught.value)


def test_a_blank_inside_a_type_is_a_column_that_was_not_split() -> None:
    with pytest.raises(TagError, match="'B-PER '"):
        to_bioes(["O", "B-PER "], "IOB2")


BIOES = ["O", *(f"{prefix}-{kind}" for kind in "AB" for prefix in "BIES")]


def test_legal_transitions_allow_just_what_is_legal() -> None:
    """Brute force: a sequence is legal exactly where it is its entities, written again."""
    legal = legal_transitions(BIOES)
    assert legal.shape == (10, 10)
    assert legal.dtype == np.bool_
    for length in (1, 2, 3):
        for path in product(range(len(BIOES)), repeat=length):
            tags = [BIOES[tag] for tag in path]
            # Entities of whatever the tags mean to a lenient eye; legal tags alone survive the round trip.
            found = [(e.start, e.end, e.tag) for e in Entities([tags], IOBES).entities[0]]
            rewritten = from_spans([Span(*entity) for entity in found], length)
            expected = list(rewritten) == tags
            by_table = all(legal[i, j] for i, j in zip([-1, *path], [*path, -1], strict=True))
            assert by_table == expected, tags
            if expected:
                check_bioes(tags)
            else:
                with pytest.raises(TagError):
                    check_bioes(tags)


@pytest.mark.parametrize(
    ("types", "spelled"),
    [
        (["B_PER", "I_PER", "B_LOC"], ["B-PER", "I-PER", "B-LOC"]),
        (["PER-B", "PER-I"], ["B-PER", "I-PER"]),
        (["PER_S", "PER_B", "PER_E"], ["S-PER", "B-PER", "E-PER"]),
        (["b-per", "i-per"], ["B-per", "I-per"]),
        (["B:X-1", "L:X-1", "U:Y"], ["B-X-1", "L-X-1", "U-Y"]),
        (["B_PER"], ["B-PER"]),
        (["B_PER", "I_PER", "LOC"], []),  # not all
        (["PER", "LOC"], []),
        (["vitamin-B"], []),  # one alone is a type
        (["S_ORG", "W_ART"], []),  # no beginning
        (["B_PER", "I_LOC", "group"], []),
        ([], []),
    ],
    ids=str,
)
def test_prefixes_in_another_spelling_are_told_from_types(types: list[str], spelled: list[str]) -> None:
    assert other_spelling(types) == dict(zip(types, spelled, strict=bool(spelled)))
