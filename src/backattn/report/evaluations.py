"""Score a run on other labelled files than its own test set, and keep the scores in the run's folder."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backattn.common.atomic_files import write_text
from backattn.common.safe_text import printable
from backattn.corpus.scoring import Counts, Entities, Score, count
from backattn.report.significance import intervals
from backattn.tagger.run import RunFolder

EVALUATION_FORMAT = 2
_LONGEST_NAME = 60


@dataclass(frozen=True)
class Figure:
    """Counts of a part of the entities, and the 95 % interval of their F1 over resampled sentences."""

    counts: Counts
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; F1 in [0, 1]."""
        return {"f1": self.counts.f1, "low": self.low, "high": self.high, "support": self.counts.support,
                "precision": self.counts.precision, "recall": self.counts.recall}  # fmt: skip

    def to_text(self) -> str:
        """F1 and its interval in percent."""
        return f"{100 * self.counts.f1:.2f} ({100 * self.low:.2f} to {100 * self.high:.2f})"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The score of a run on a file.

    :param run: folder of the run.
    :param file: path of the file, as it was given.
    :param sha256: digest of its bytes.
    :param gold, predicted: the entities of each sentence.
    :param known: entity types that the run can predict.
    :param score: over all types, known or not.
    """

    run: Path
    file: Path
    sha256: str
    gold: Sequence[Entities]
    predicted: Sequence[Entities]
    known: frozenset[str]
    score: Score

    @cached_property
    def unknown(self) -> Mapping[str, int]:
        """Types of the file that the run cannot predict, and their entities: all of them are missed."""
        return {name: counts.support for name, counts in self.score.types.items() if name not in self.known}

    @cached_property
    def figures(self) -> Mapping[str, Figure]:
        """The figures over all types (""), and of each type."""
        names = list(self.score.types)
        return dict(zip(["", *names], self._figures([None, *({name} for name in names)]), strict=True))

    @cached_property
    def absent(self) -> Mapping[str, int]:
        """Types that the run predicts and the file has none of, and their predictions: all are wrong."""
        found = {
            name: counts.tp + counts.fp for name, counts in self.score.types.items() if not counts.support
        }
        return {name: predictions for name, predictions in found.items() if predictions}

    @cached_property
    def common(self) -> Figure:
        """The figure over :attr:`common_types`."""
        return self._figures([self.common_types])[0]

    @property
    def common_types(self) -> frozenset[str]:
        """The types that the file has and the run can predict."""
        return self.known - self.absent.keys()

    def _figures(self, parts: Sequence[frozenset[str] | set[str] | None]) -> list[Figure]:
        arrays = [self._counts(part) for part in parts]
        borders = intervals(np.stack(arrays))
        return [
            Figure(Counts(*map(int, array.sum(0))), float(low), float(high))
            for array, (low, high) in zip(arrays, borders, strict=True)
        ]

    def _counts(self, types: frozenset[str] | set[str] | None) -> NDArray[np.int64]:
        """Counts of each sentence, of these types alone. *Shape:* (sentences, 3)"""

        def part(entities: Entities) -> Entities:
            return entities if types is None else {entity for entity in entities if entity.type in types}

        rows = [count([part(g)], [part(p)]) for g, p in zip(self.gold, self.predicted, strict=True)]
        return np.array([(row.tp, row.fp, row.fn) for row in rows], np.int64)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; F1 in [0, 1]."""
        return {
            "run": str(self.run),
            "file": str(self.file),
            "sha256": self.sha256,
            "sentences": len(self.gold),
            **self.figures[""].to_json(),
            "types": {name: figure.to_json() for name, figure in self.figures.items() if name},
            "unknown_types": dict(self.unknown),
            "absent_types": dict(self.absent),
            "common_types": self.common.to_json(),
            "signature": self.score.signature,
        }

    def to_text(self) -> str:
        """One line for the file, one about types that only one side has, and one for each type."""
        whole = self.figures[""]
        lines = [
            f"{self.file}: F1 {whole.to_text()}, precision {100 * whole.counts.precision:.2f}, recall "
            f"{100 * whole.counts.recall:.2f}; {whole.counts.support:,} entities in {len(self.gold):,} "
            "sentences"
        ]
        sides = (
            (self.unknown, "entities have types that the run does not know, and are counted as missed"),
            (self.absent, "predictions have types that the file has none of, and are counted as wrong"),
        )
        for types, text in sides:
            if types:
                each = ", ".join(f"{name} {number:,}" for name, number in types.items())
                lines.append(f"  {sum(types.values()):,} {text}: {each}")
        if self.unknown or self.absent:
            lines.append(f"  F1 over the types of both: {self.common.to_text()}")
        lines += [
            f"  {name}: F1 {figure.to_text()}, {figure.counts.support:,} entities"
            for name, figure in self.figures.items()
            if name
        ]
        return "\n".join(map(printable, lines))

    @property
    def path(self) -> Path:
        """File of the evaluation in the folder of its run; its name depends on the file's name and digest."""
        name = re.sub(r"[^\w.-]", "_", self.file.name, flags=re.ASCII)[:_LONGEST_NAME]
        return RunFolder(self.run).evaluations / f"{name}-{self.sha256[:8]}.json"

    def save(self) -> None:
        """Write the evaluation into its run's folder, with the counts of each sentence, for resampling.

        :raises StoreError: the folder cannot be written, or is a link.
        """
        value = {
            "format": EVALUATION_FORMAT,
            **self.to_json(),
            "counts": self._counts(None).tolist(),
            "common_types_counts": self._counts(self.common_types).tolist(),
        }
        write_text(self.path, json.dumps(value, ensure_ascii=False) + "\n")
