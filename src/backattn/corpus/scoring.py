"""Precision, recall and F1 of predicted tags, with a signature that names what the number depends on.

The only importer of seqeval, which checks every score with the entities of ``mode="strict", scheme=IOBES``.
(Its strict mode without a scheme scores leniently, and gives no warning.)
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from typing import Any

from seqeval.scheme import IOBES
from seqeval.scheme import Entities as SeqevalEntities

from backattn.common.safe_text import quoted
from backattn.common.version import __version__, package_versions
from backattn.corpus.spans import Span, predicted_spans
from backattn.corpus.tags import MOST_TYPES, parse_tag

_MOST_ENTITIES = 1 << 40  # sums of larger counts could overflow
_FILES = 3  # files of a corpus, each of which may have types of its own
# The entities of one sentence.
Entities = AbstractSet[Span]


@dataclass(frozen=True)
class Counts:
    """True positives, false positives and false negatives, and the measures computed from them."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def support(self) -> int:
        """Number of gold entities."""
        return self.tp + self.fn

    @property
    def precision(self) -> float:
        """Share of the predicted entities that are correct; 0 when nothing was predicted."""
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

    :param sentences: counts of every sentence, in order; they sum to the overall counts, and are what
        bootstrap and paired tests resample, without decoding again.
    :param types: counts of each entity type, sorted by name.
    :param groups: for each named group (Weibo: NE, NM) the counts of every sentence, as above.
    :param signature: one line with everything needed to reproduce the number; ``differs`` after seqeval's
        version says that seqeval finds other entities.
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
        """Return plain JSON values: the counts, which :meth:`from_json` reads, and the measures."""
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

        :raises ValueError, TypeError, KeyError, AttributeError: the value is not such JSON.
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
            raise ValueError("the counts of the sentences do not sum to the overall counts")
        if not all(len(rows) == len(found.sentences) for rows in found.groups.values()):
            raise ValueError("a group has another number of sentences than the score")
        "".join([found.signature, *found.types, *found.groups]).encode("utf-8")
        return found


def score(
    gold: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    groups: Mapping[str, str] | None = None,
    about: Mapping[str, object] | None = None,
) -> Score:
    """Score predicted BIOES tags by strict matching: an entity counts where both borders and the type agree.

    :param gold, predicted: the tags of the same sentences, token by token.
    :param groups: name -> suffix; a group counts the entities whose type ends with it, and no others.
    :param about: facts about the prediction (inputs, seed, ...) that the signature repeats.
    :raises ValueError: the two differ in sentences or lengths, or a tag is malformed.
    """
    if [len(tags) for tags in gold] != [len(tags) for tags in predicted]:
        raise ValueError("gold and predicted tags differ in their number of sentences or tokens")
    for tag in {tag for tags in (*gold, *predicted) for tag in tags}:
        parse_tag(tag, "BIOES")
    truth, guess = entities(gold), entities(predicted)
    agrees = _seqeval_agrees(gold, truth) and _seqeval_agrees(predicted, guess)
    return Score(
        sentences=_by_sentence(truth, guess),
        types=count_types(truth, guess),
        groups={
            name: _by_sentence(_ending(truth, suffix), _ending(guess, suffix))
            for name, suffix in (groups or {}).items()
        },
        signature=_signature(agrees, about or {}),
    )


def total(counts: Iterable[Counts]) -> Counts:
    """Sum counts."""
    return sum(counts, Counts())


def entities(sentences: Iterable[Sequence[str]]) -> list[Entities]:
    """Find the entities of each sentence's BIOES tags, legal or not (see :func:`.spans.predicted_spans`)."""
    return [frozenset(predicted_spans(tags)) for tags in sentences]


def count(gold: Sequence[Entities], predicted: Sequence[Entities]) -> Counts:
    """Count over all sentences and types."""
    right = sum(len(truth & guess) for truth, guess in zip(gold, predicted, strict=True))
    return Counts(right, sum(map(len, predicted)) - right, sum(map(len, gold)) - right)


def count_types(gold: Sequence[Entities], predicted: Sequence[Entities]) -> dict[str, Counts]:
    """Count each type over all sentences; the result is sorted by type."""
    tp, fp, fn = Counter[str](), Counter[str](), Counter[str]()
    for truth, guess in zip(gold, predicted, strict=True):
        tp.update(entity.type for entity in truth & guess)
        fp.update(entity.type for entity in guess - truth)
        fn.update(entity.type for entity in truth - guess)
    return {kind: Counts(tp[kind], fp[kind], fn[kind]) for kind in sorted({*tp, *fp, *fn})}


def _by_sentence(gold: Sequence[Entities], predicted: Sequence[Entities]) -> tuple[Counts, ...]:
    return tuple(count([truth], [guess]) for truth, guess in zip(gold, predicted, strict=True))


def _ending(sentences: Sequence[Entities], suffix: str) -> list[Entities]:
    return [frozenset(entity for entity in row if entity.type.endswith(suffix)) for row in sentences]


def _seqeval_agrees(sentences: Sequence[Sequence[str]], found: Sequence[Entities]) -> bool:
    """Return whether seqeval finds the same entities; it does not where types begin or end with a hyphen.

    seqeval takes thirty times longer than :func:`entities`: too long for the score on dev after every epoch.
    """
    theirs = SeqevalEntities([list(tags) for tags in sentences], IOBES).entities
    return found == [{Span(entity.start, entity.end, entity.tag) for entity in row} for row in theirs]


def _signature(seqeval_agrees: bool, about: Mapping[str, object]) -> str:
    seqeval = package_versions(["seqeval"])["seqeval"] + ("" if seqeval_agrees else " differs")
    facts = {"scheme": "IOBES", "mode": "strict", "average": "micro", "seqeval": seqeval,
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
