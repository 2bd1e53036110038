"""Errors of the rows of a report on test: by kind, of seen and unseen entities, by length, by type."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backattn.common.errors import BackattnError, ModelError
from backattn.corpus import Corpus, nested_sample
from backattn.corpus.scoring import Counts, count, entities
from backattn.report.error_kinds import (
    KINDS,
    Tokens,
    by_length,
    by_novelty,
    by_repetition,
    confusion,
    count_kinds,
    entity_words,
    pair,
)
from backattn.report.predictions import read_predictions
from backattn.report.runs import RunRecord

Confusion = Mapping[tuple[str | None, str | None], float]


@dataclass(frozen=True)
class Part:
    """F1 of a part of the entities over the seeds of a row.

    :param f1: one value in [0, 1] for each run of the row.
    :param entities: gold entities of the part.
    """

    f1: tuple[float, ...]
    entities: int


@dataclass(frozen=True, eq=False)
class RowErrors:
    """Errors of a row on test, each number a mean over its seeds.

    :param kinds: number of entities of each kind, in the order of :data:`.error_kinds.KINDS`.
    :param parts: if the training sentences are known, seen and unseen entities, and those in new and in
        repeated sentences, if any is repeated; then each length.
    :param confusion: number of entities of each gold and predicted type; None is no entity.
    """

    kinds: Mapping[str, float]
    parts: Mapping[str, Part]
    confusion: Confusion


@dataclass(frozen=True)
class _Training:
    """What the training sentences hold: the words of their entities, and the sentences."""

    entities: frozenset[Tokens]
    sentences: frozenset[Tokens]


@dataclass(frozen=True, eq=False)
class TableErrors:
    """Errors of the rows of a table.

    :param rows: in the order of the table; None where a run of the row has no predictions to count.
    :param remarks: why rows, or the parts seen and unseen, were not counted.
    """

    rows: tuple[RowErrors | None, ...]
    remarks: tuple[str, ...]

    def to_json(self) -> list[dict[str, Any] | None]:
        """Plain JSON values; F1 in [0, 1]."""
        return [None if row is None else _row_json(row) for row in self.rows]


def table_errors(
    rows: Sequence[Sequence[RunRecord]], corpus_digest: str, corpus: Corpus | None
) -> TableErrors:
    """Count the errors of all rows of a table.

    :param rows: the runs of each, which differ only in the seed.
    :param corpus_digest: digest of their corpus.
    :param corpus: the corpus that the recipe's files hold now; if it is another one, or None, seen and unseen
        entities are not told apart.
    """
    known: dict[int, _Training] = {}
    if corpus is not None and corpus.digest == corpus_digest:
        for size in {runs[0].sentences for runs in rows}:
            sample = nested_sample(corpus.train, size)
            tokens = [sentence.tokens for sentence in sample]
            words = entity_words(tokens, entities(sentence.tags for sentence in sample))
            known[size] = _Training(words, frozenset(tokens))
    found: list[RowErrors | None] = []
    reasons: list[str] = []
    for runs in rows:
        try:
            found.append(_row_errors(runs, known.get(runs[0].sentences)))
        except BackattnError as error:
            found.append(None)
            reasons.append(str(error))
    remarks = (
        [f"Errors of {len(reasons)} of {len(rows)} rows are not counted ({reasons[0]})."] if reasons else []
    )
    if not known and any(found):
        remarks.append("Seen and unseen entities are not told apart: that needs the corpus of these runs.")
    return TableErrors(tuple(found), tuple(remarks))


def _row_errors(runs: Sequence[RunRecord], known: _Training | None) -> RowErrors:
    """Count the errors of a row.

    :raises MissingError, ModelError: a run has no predictions, or they are damaged.
    """
    found = [_run_errors(run, known) for run in runs]
    kinds: Counter[str] = Counter()
    pairs: Counter[tuple[str | None, str | None]] = Counter()
    for run_kinds, _, run_pairs in found:
        kinds.update(run_kinds)
        pairs.update(run_pairs)
    first = found[0][1]
    return RowErrors(
        {kind: kinds[kind] / len(runs) for kind in KINDS},
        {name: Part(tuple(parts[name].f1 for _, parts, _ in found), first[name].support) for name in first},
        {types: number / len(runs) for types, number in pairs.items()},
    )


def _run_errors(
    run: RunRecord, known: _Training | None
) -> tuple[dict[str, int], dict[str, Counts], Counter[tuple[str | None, str | None]]]:
    """Kinds, parts and confusion of one run."""
    rows = read_predictions(run.folder, "test")
    tokens = [row.tokens for row in rows]
    gold, predicted = entities(row.gold for row in rows), entities(row.tags for row in rows)
    whole, other = run.test.overall, count(gold, predicted)
    if len(rows) != len(run.test.sentences) or whole != other:
        raise ModelError(
            f"{run.folder}: the predictions of test have other counts than run.json; remove the folder and "
            "train again"
        )
    findings = [finding for pairs in map(pair, gold, predicted) for finding in pairs]
    parts = by_length(gold, predicted)
    if known is not None:
        novelty = by_novelty(tokens, gold, predicted, known.entities)
        parts = {**novelty, **by_repetition(tokens, gold, predicted, known.sentences), **parts}
    return count_kinds(findings), parts, confusion(findings)


def _row_json(row: RowErrors) -> dict[str, Any]:
    return {
        "kinds": dict(row.kinds),
        "parts": {name: {"f1": list(part.f1), "entities": part.entities} for name, part in row.parts.items()},
        "confusion": [
            {"gold": gold, "predicted": predicted, "entities": number}
            for (gold, predicted), number in sorted(row.confusion.items(), key=str)
        ],
    }
