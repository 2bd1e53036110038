"""Errors of predicted entities by kind, the confusion of their types, and F1 of parts of the entities.

:mod:`~backattn.corpus.spans` defines what an entity is; :mod:`~backattn.corpus.scoring` counts.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from backattn.corpus.scoring import Counts, Entities, count
from backattn.corpus.spans import Span

RIGHT = "right"
TYPE = "type"
BOUNDARY = "boundary"
BOTH = "type and boundary"
MISSED = "missed"
SPURIOUS = "spurious"
KINDS = (RIGHT, TYPE, BOUNDARY, BOTH, MISSED, SPURIOUS)
# The lengths of entities that are counted apart; the last one includes all longer entities.
LENGTHS = ("1 token", "2 tokens", "3 tokens", "4 and more")
SEEN, UNSEEN = "seen", "unseen"
NEW, REPEATED = "in new sentences", "in repeated sentences"

Tokens = tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """A gold entity with the predicted one that stands for it; either may be None, not both."""

    gold: Span | None
    predicted: Span | None

    @property
    def kind(self) -> str:
        """One of :data:`KINDS`."""
        if self.predicted is None:
            return MISSED
        if self.gold is None:
            return SPURIOUS
        if self.gold == self.predicted:
            return RIGHT
        if self.gold[:2] == self.predicted[:2]:
            return TYPE
        return BOUNDARY if self.gold.type == self.predicted.type else BOTH


def pair(gold: Entities, predicted: Entities) -> tuple[Finding, ...]:
    """Pair the entities of a sentence: each is in one finding.

    Entities with the same borders are paired first, then those of one type that overlap, then any that
    overlap. Each step pairs as many as possible, from left to right.

    :param gold, predicted: neither has two entities that overlap.
    """
    left, right = sorted(gold), sorted(predicted)
    findings: list[Finding] = []
    for alike in (_same_borders, _same_type, _overlap):
        for entity in list(left):
            # Take the leftmost free one: the others may still overlap later entities.
            other = next((guess for guess in right if alike(entity, guess)), None)
            if other is not None:
                findings.append(Finding(entity, other))
                left.remove(entity)
                right.remove(other)
    findings += [Finding(entity, None) for entity in left]
    findings += [Finding(None, entity) for entity in right]
    return tuple(sorted(findings, key=_place))


def count_kinds(findings: Sequence[Finding]) -> dict[str, int]:
    """Count the findings of each kind, in the order of :data:`KINDS`."""
    found = Counter(finding.kind for finding in findings)
    return {kind: found[kind] for kind in KINDS}


def confusion(findings: Sequence[Finding]) -> Counter[tuple[str | None, str | None]]:
    """Count the pairs of gold and predicted type; None stands for no entity."""
    return Counter(
        (finding.gold and finding.gold.type, finding.predicted and finding.predicted.type)
        for finding in findings
    )


def by_length(gold: Sequence[Entities], predicted: Sequence[Entities]) -> dict[str, Counts]:
    """Count the entities of each length; gold and predicted ones each by their own length."""
    longest = len(LENGTHS)
    return _parts(LENGTHS, lambda _, span: LENGTHS[min(span.end - span.start, longest) - 1], gold, predicted)


def by_novelty(
    sentences: Sequence[Tokens], gold: Sequence[Entities], predicted: Sequence[Entities],
    known: AbstractSet[Tokens],
) -> dict[str, Counts]:  # fmt: skip
    """Count the entities whose words are an entity of training, of whichever type, and the others.

    :param sentences: their tokens.
    :param known: the words of all entities of training (see :func:`entity_words`).
    """

    def novelty(number: int, span: Span) -> str:
        return SEEN if sentences[number][span.start : span.end] in known else UNSEEN

    return _parts((SEEN, UNSEEN), novelty, gold, predicted)


def by_repetition(
    sentences: Sequence[Tokens], gold: Sequence[Entities], predicted: Sequence[Entities],
    known: AbstractSet[Tokens],
) -> dict[str, Counts]:  # fmt: skip
    """Count the entities of sentences that stand in training too, and of the others.

    :param sentences: their tokens.
    :param known: the sentences of training.
    :return: nothing where no sentence stands in training.
    """
    repeated = [tokens in known for tokens in sentences]
    if not any(repeated):
        return {}
    return _parts((NEW, REPEATED), lambda number, _: REPEATED if repeated[number] else NEW, gold, predicted)


def entity_words(sentences: Sequence[Tokens], gold: Sequence[Entities]) -> frozenset[Tokens]:
    """The words of all entities."""
    return frozenset(
        tokens[span.start : span.end]
        for tokens, entities in zip(sentences, gold, strict=True)
        for span in entities
    )


def _parts(
    names: Sequence[str],
    name_of: Callable[[int, Span], str],
    gold: Sequence[Entities],
    predicted: Sequence[Entities],
) -> dict[str, Counts]:
    """Count the entities of each part; ``name_of`` maps sentence number and span to the part."""

    def chosen(rows: Sequence[Entities], name: str) -> list[Entities]:
        return [
            frozenset(span for span in row if name_of(number, span) == name)
            for number, row in enumerate(rows)
        ]

    return {name: count(chosen(gold, name), chosen(predicted, name)) for name in names}


def _same_borders(first: Span, second: Span) -> bool:
    return first[:2] == second[:2]


def _overlap(first: Span, second: Span) -> bool:
    return first.start < second.end and second.start < first.end


def _same_type(first: Span, second: Span) -> bool:
    return first.type == second.type and _overlap(first, second)


def _place(finding: Finding) -> tuple[int, int]:
    spans = [span for span in (finding.gold, finding.predicted) if span is not None]
    return min(span.start for span in spans), max(span.end for span in spans)
