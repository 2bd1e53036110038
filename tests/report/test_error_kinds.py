"""Kinds of errors against every possible pairing, and parts of the entities against the overall score."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise, permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from backattn.corpus.scoring import count, entities, total
from backattn.corpus.spans import Span, from_spans
from backattn.report.error_kinds import (
    BOTH,
    BOUNDARY,
    KINDS,
    LENGTHS,
    MISSED,
    NEW,
    REPEATED,
    RIGHT,
    SEEN,
    SPURIOUS,
    TYPE,
    UNSEEN,
    Finding,
    by_length,
    by_novelty,
    by_repetition,
    confusion,
    count_kinds,
    entity_words,
    pair,
)
from examples import examples

PERSON, PLACE = Span(0, 2, "PER"), Span(3, 4, "LOC")


@st.composite
def side(draw: st.DrawFn, length: int = 9) -> frozenset[Span]:
    """Entities that do not overlap."""
    cuts = sorted(draw(st.sets(st.integers(0, length), max_size=8)))
    return frozenset(
        Span(start, end, draw(st.sampled_from("AB")))
        for start, end in pairwise(cuts)
        if draw(st.integers(0, 3))
    )


def test_each_kind_has_its_example() -> None:
    gold = frozenset([PERSON, PLACE])
    examples = {
        RIGHT: PERSON,
        TYPE: Span(0, 2, "ORG"),
        BOUNDARY: Span(1, 3, "PER"),
        BOTH: Span(0, 1, "ORG"),
    }
    for kind, guess in examples.items():
        assert pair(gold, frozenset([guess]))[0] == Finding(PERSON, guess)
        assert pair(gold, frozenset([guess]))[0].kind == kind
        assert pair(gold, frozenset([guess]))[1].kind == MISSED
    assert [finding.kind for finding in pair(frozenset(), gold)] == [SPURIOUS, SPURIOUS]


def pairings(gold: Sequence[Span], predicted: Sequence[Span]) -> Iterator[Counter[str]]:
    """The kinds of every way to pair entities that overlap, each once at most."""
    blank: list[Span | None] = [None] * len(gold)
    for row in set(permutations([*predicted, *blank], len(gold))):
        if all(p is None or (g.start < p.end and p.start < g.end) for g, p in zip(gold, row, strict=True)):
            kinds = Counter(Finding(g, p).kind for g, p in zip(gold, row, strict=True))
            yield kinds + Counter({SPURIOUS: len(set(predicted) - set(row))})


@settings(max_examples=examples(60))
@given(side(5), side(5))
def test_no_pairing_is_better(gold: frozenset[Span], predicted: frozenset[Span]) -> None:
    """First as many of the same borders as there can be, then with these of the same type that overlap."""
    found = count_kinds(pair(gold, predicted))
    every = list(pairings(sorted(gold), sorted(predicted)))
    assert Counter(found) in every
    best = max((row[RIGHT] + row[TYPE], row[BOUNDARY]) for row in every)
    assert (found[RIGHT] + found[TYPE], found[BOUNDARY]) == best
    # As many pairs as the pairs before allow: no gold entity that is missed overlaps a spurious one.
    findings = pair(gold, predicted)
    missed = [one.gold for one in findings if one.gold and not one.predicted]
    spurious = [one.predicted for one in findings if one.predicted and not one.gold]
    assert not [1 for g in missed for p in spurious if g.start < p.end and p.start < g.end]


@settings(max_examples=examples(40))
@given(st.lists(st.tuples(side(), side()), max_size=3))
def test_kinds_and_types_sum_to_the_score(rows: list[tuple[frozenset[Span], frozenset[Span]]]) -> None:
    whole = count([gold for gold, _ in rows], [predicted for _, predicted in rows])
    findings = [finding for gold, predicted in rows for finding in pair(gold, predicted)]
    kinds, types = count_kinds(findings), confusion(findings)
    assert tuple(kinds) == KINDS
    paired = kinds[TYPE] + kinds[BOUNDARY] + kinds[BOTH]
    assert (kinds[RIGHT], paired + kinds[SPURIOUS], paired + kinds[MISSED]) == (whole.tp, whole.fp, whole.fn)
    assert sum(number for (gold, _), number in types.items() if gold) == whole.support
    assert sum(types[name, name] for name in "AB") == kinds[RIGHT] + kinds[BOUNDARY]
    assert sum(number for (_, guess), number in types.items() if guess is None) == kinds[MISSED]


@settings(max_examples=examples(40))
@given(st.lists(st.tuples(side(), side()), min_size=1, max_size=3), side())
def test_parts_sum_to_the_whole(
    rows: list[tuple[frozenset[Span], frozenset[Span]]], train: frozenset[Span]
) -> None:
    """Each part is the score of the tags with the other entities taken out, and together they are all."""
    gold, predicted = [g for g, _ in rows], [p for _, p in rows]
    tokens = [tuple("abcabcabc"[number:] + "xyz"[:number]) for number in range(len(rows))]
    known = entity_words([tuple("abcabcabc")], [train])
    whole = count(gold, predicted)
    lengths, novelty = by_length(gold, predicted), by_novelty(tokens, gold, predicted, known)
    repetition = by_repetition(tokens, gold, predicted, {tokens[0]})  # the sentences are all different
    assert total(repetition.values()) == whole
    assert repetition == {REPEATED: count(gold[:1], predicted[:1]), NEW: count(gold[1:], predicted[1:])}
    assert by_repetition(tokens, gold, predicted, known) == {}
    assert (list(lengths), list(novelty)) == (list(LENGTHS), [SEEN, UNSEEN])
    assert total(lengths.values()) == total(novelty.values()) == whole

    def kept(side: list[frozenset[Span]]) -> list[frozenset[Span]]:
        tags = [
            from_spans([s for s in sorted(row) if " ".join(words[s.start : s.end]) in texts], 9)
            for words, row in zip(tokens, side, strict=True)
        ]
        return [frozenset(found) for found in entities(tags)]

    texts = {" ".join(words) for words in known}
    assert novelty[SEEN] == count(kept(gold), kept(predicted))
    assert lengths["4 and more"].support == sum(s.end - s.start > 3 for row in gold for s in row)
