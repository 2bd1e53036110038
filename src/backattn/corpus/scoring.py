"""Gold and predicted tags -> a score that carries its recipe. The only importer of seqeval.

Entities are cut by seqeval's own IOBES table, which is what ``mode="strict", scheme=IOBES`` uses; strict
mode without the scheme scores leniently in silence.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from seqeval.scheme import IOBES, Entities

from backattn.common.safe_text import quoted
from backattn.common.version import __version__
from backattn.corpus.tags import MOST_TYPES

_MOST_ENTITIES = 1 << 40  # sums of larger counts could overflow
_FILES = 3  # of a corpus; each may have types of its own
# An entity of one sentence: (type, first token, end token exclusive).
_Entity = tuple[str, int, int]


@dataclass(frozen=True)
class Counts:
    """True positives, false positives and false negatives: what every measure is made of."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def support(self) -> int:
        """Entities in gold."""
        return self.tp + self.fn

    @property
    def precision(self) -> float:
        """Share of the predicted entities that are right; 0 when nothing was predicted."""
        return self.tp / (self.tp + self.fp) if self.tp else 0.0

    @property
    def recall(self) -> float:
        """Share of the gold entities that were found; 0 when there are none."""
        return self.tp / self.support if self.tp else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, in [0, 1]."""
        return 2 * self.tp / (2 * self.tp + self.fp + self.fn) if self.tp else 0.0


@dataclass(frozen=True)
class Score:
    """Micro-averaged entity scores of one prediction.

    :param sentences: counts of every sentence, in order; they sum to the overall counts, and serve
        bootstrap and paired tests without decoding anything again.
    :param types: counts of each entity type, sorted by name.
    :param groups: for each named group (Weibo: NE, NM) the counts of every sentence, as above.
    :param signature: one line with everything needed to make the number again.
    """

    sentences: tuple[Counts, ...]
    types: Mapping[str, Counts]
    groups: Mapping[str, tuple[Counts, ...]]
    signature: str

    @property
    def overall(self) -> Counts:
        """Counts over all types."""
        return total(self.sentences)

    def group(self, name: str) -> Counts:
        """Counts over the types of one group."""
        return total(self.groups[name])

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: the counts of :meth:`from_json`, and the measures for human readers."""
        return {
            "overall": _measures(self.overall),
            "groups": {name: _measures(self.group(name)) for name in self.groups},
            "types": {name: _measures(counts) for name, counts in self.types.items()},
            "signature": self.signature,
            "sentences": _rows(self.sentences),
            "group_sentences": {name: _rows(counts) for name, counts in self.groups.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Score":
        """The inverse of :meth:`to_json`.

        :raises ValueError, TypeError, KeyError, AttributeError: the value is none of it.
        """
        found = cls(
            sentences=_counts(value["sentences"]),
            types={n: _three(row["tp"], row["fp"], row["fn"]) for n, row in value["types"].items()},
            groups={name: _counts(rows) for name, rows in value["group_sentences"].items()},
            signature=value["signature"],
        )
        if len(found.types) > _FILES * MOST_TYPES:
            raise ValueError(f"{len(found.types):,} entity types, expected at most {_FILES * MOST_TYPES:,}")
        whole = value["overall"]
        if not found.sentences or found.overall != _three(whole["tp"], whole["fp"], whole["fn"]):
            raise ValueError("the counts of the sentences are not those of the whole")
        if not all(len(rows) == len(found.sentences) for rows in found.groups.values()):
            raise ValueError("a group has other sentences than the whole")
        "".join([found.signature, *found.types, *found.groups]).encode("utf-8")
        return found


def score(
    gold: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    groups: Mapping[str, str] | None = None,
    about: Mapping[str, object] | None = None,
) -> Score:
    """Score BIOES tags strictly.

    :param gold, predicted: the tags of the same sentences, token by token.
    :param groups: name -> suffix; a group counts the entities whose type ends so, and no others.
    :param about: facts about the prediction (inputs, seed, ...) that the signature repeats.
    :raises ValueError: the two differ in sentences or lengths, or a tag is not BIOES.
    """
    if [len(tags) for tags in gold] != [len(tags) for tags in predicted]:
        raise ValueError("gold and predicted tags differ in their number of sentences or tokens")
    pairs = list(zip(_entities(gold), _entities(predicted), strict=True))
    types = sorted({entity[0] for pair in pairs for entities in pair for entity in entities})
    return Score(
        sentences=tuple(_compare(*pair) for pair in pairs),
        types=_by_type(types, pairs),
        groups={
            name: tuple(_compare(_ending(a, suffix), _ending(b, suffix)) for a, b in pairs)
            for name, suffix in (groups or {}).items()
        },
        signature=_signature(about or {}),
    )


def total(counts: Iterable[Counts]) -> Counts:
    """The sum of counts."""
    return sum(counts, Counts())


def legal_spans(sentences: Iterable[Sequence[str]]) -> set[_Entity]:
    """Entities of *legal* BIOES sequences, numbered through the whole text.

    A hundred times faster than seqeval, for the score on dev after every epoch; on legal sequences
    (gold is, and decoding gives no other) the two agree, which a test proves.
    """
    spans, position, first = set(), 0, 0
    for tags in sentences:
        for position, tag in enumerate(tags, position):  # noqa: B020 - counts on over all sentences
            if tag[0] in "BS":
                first = position
            if tag[0] in "ES":
                spans.add((tag[2:], first, position + 1))
        position += 1
    return spans


def span_f1(gold: set[_Entity], predicted: set[_Entity]) -> float:
    """F1 in [0, 1] of two sets of entities."""
    right = len(gold & predicted)
    return 2 * right / (len(gold) + len(predicted)) if right else 0.0


def _entities(sentences: Sequence[Sequence[str]]) -> list[set[_Entity]]:
    try:
        found = Entities([list(tags) for tags in sentences], scheme=IOBES).entities
    except KeyError as error:
        raise ValueError(f"a tag begins with {error}; expected B-, I-, O, E- or S-") from None
    return [{(entity.tag, entity.start, entity.end) for entity in entities} for entities in found]


def _compare(gold: set[_Entity], predicted: set[_Entity]) -> Counts:
    right = len(gold & predicted)
    return Counts(right, len(predicted) - right, len(gold) - right)


def _ending(entities: set[_Entity], suffix: str) -> set[_Entity]:
    return {entity for entity in entities if entity[0].endswith(suffix)}


def _by_type(types: list[str], pairs: list[tuple[set[_Entity], set[_Entity]]]) -> dict[str, Counts]:
    right = Counter(entity[0] for gold, predicted in pairs for entity in gold & predicted)
    wrong = Counter(entity[0] for gold, predicted in pairs for entity in predicted - gold)
    missed = Counter(entity[0] for gold, predicted in pairs for entity in gold - predicted)
    return {name: Counts(right[name], wrong[name], missed[name]) for name in types}


def _signature(about: Mapping[str, object]) -> str:
    facts = {"scheme": "IOBES", "mode": "strict", "average": "micro", "seqeval": version("seqeval"),
             "backattn": __version__, **about}  # fmt: skip
    return "|".join(f"{name}:{value}" for name, value in facts.items())


def _measures(counts: Counts) -> dict[str, float | int]:
    return {
        "precision": counts.precision,
        "recall": counts.recall,
        "f1": counts.f1,
        "support": counts.support,
        **asdict(counts),
    }


def _rows(counts: Iterable[Counts]) -> list[list[int]]:
    return [[c.tp, c.fp, c.fn] for c in counts]


def _counts(rows: Any) -> tuple[Counts, ...]:
    if not isinstance(rows, list):
        raise TypeError("expected a list of counts")
    return tuple(_three(*row) for row in rows)


def _three(*values: Any) -> Counts:
    if len(values) != 3 or not all(type(value) is int and 0 <= value < _MOST_ENTITIES for value in values):
        raise ValueError(f"expected three counts of entities, found {quoted(values)}")
    return Counts(*values)
