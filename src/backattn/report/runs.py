"""Read run folders as records, without torch: a report needs only the JSON of a run."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backattn.common.digests import canonical_json
from backattn.common.errors import MissingError, ModelError
from backattn.common.safe_text import one_line
from backattn.corpus.scoring import Counts
from backattn.tagger.run import ADVICE, Run, RunFolder, read_run
from backattn.tagger.run_spec import model_name

# Name of the store of T among the stores that a run reads.
TRANSFER = "transfer"

# True positives, false positives and false negatives of each test sentence. Shape: (sentences, 3)
CountArray = NDArray[np.int64]


class RunRecord(Run):
    """A finished run as a report uses it: its test counts as arrays, its names in the paper's tables."""

    @property
    def model(self) -> str:
        """Name of the model in the paper's tables."""
        return model_name(self.inputs, self.facts.tagger)

    @property
    def base(self) -> str:
        """Name of the model that it is compared with: the same on words alone.

        T alone reads no frozen features, so its base has none either.
        """
        return model_name("words", self.facts.tagger)

    @property
    def device(self) -> str:
        """The device that trained it; empty if not recorded."""
        return str(self.environment.get("device", ""))

    @cached_property
    def dev_f1(self) -> float:
        """Dev F1 of the best epoch."""
        return self.dev.overall.f1

    @cached_property
    def counts(self) -> CountArray:
        """Counts of each test sentence. *Shape:* (sentences, 3)"""
        return count_array(self.test.sentences)

    @cached_property
    def groups(self) -> Mapping[str, CountArray]:
        """Counts of each test sentence for each named group (Weibo: NE, NM). *Shape:* (sentences, 3) each"""
        return {name: count_array(rows) for name, rows in self.test.groups.items()}

    @cached_property
    def types(self) -> Mapping[str, tuple[int, int, int]]:
        """Counts of each entity type over the test set."""
        return {name: astuple(counts) for name, counts in self.test.types.items()}

    @property
    def curve(self) -> tuple[float, ...]:
        """Dev F1 after each epoch."""
        return tuple(float(row["dev_f1"]) for row in self.history)

    @property
    def signature(self) -> str:
        """Settings that reproduce the test score, as ``name:value|name:value``."""
        return self.test.signature

    @cached_property
    def row(self) -> str:
        """Key of the row: equal for runs that differ only in the seed."""
        return canonical_json({key: value for key, value in self.request.items() if key != "seed"})

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return self.facts.tagger.epochs

    @property
    def whole(self) -> bool:
        """Whether it was trained on all sentences, as the paper's rows are."""
        return self.facts.tagger.sentences == "all"

    @property
    def stores(self) -> Mapping[str, str]:
        """Id of each store that it read -> :data:`TRANSFER`, or the name of the embedding."""
        found: dict[str, str] = {store: name for name, store in self.facts.embeddings.items()}
        return found if self.store is None else {**found, self.store: TRANSFER}


@dataclass(frozen=True)
class Damaged:
    """A run folder whose ``run.json`` or ``epochs.jsonl`` is damaged, or contradicts other runs.

    :param reason: what is wrong and what to do, in one line.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Unfinished:
    """A run folder without ``run.json``: still in training, or stopped.

    :param epochs: epochs that it has finished.
    """

    name: str
    epochs: int


@dataclass(frozen=True, eq=False)
class Runs:
    """All run folders of a LANG, in the order of their names."""

    finished: tuple[RunRecord, ...]
    unfinished: tuple[Unfinished, ...]
    damaged: tuple[Damaged, ...]


def find_runs(cache: Path, lang: str) -> Runs:
    """Read all runs of a LANG, as :func:`scan_runs`.

    :raises MissingError: there is not one finished run.
    :raises ModelError: there is none, and one is damaged or of another format.
    """
    runs = scan_runs(cache, lang)
    if not runs.finished and runs.damaged:
        raise ModelError(runs.damaged[0].reason)
    if not runs.finished:
        started = f", {len(runs.unfinished)} not finished" if runs.unfinished else ""
        raise MissingError(
            f"{cache / lang / 'runs'}: no finished run{started}; train some with `backattn train {lang}`"
        )
    return runs


def scan_runs(cache: Path, lang: str) -> Runs:
    """Read all runs of a LANG. A damaged one is set apart: the others' numbers do not depend on it."""
    finished: list[RunRecord] = []
    unfinished: list[Unfinished] = []
    damaged: list[Damaged] = []
    for path in sorted(path for path in (cache / lang / "runs").glob("*") if path.is_dir()):
        if not os.path.lexists(RunFolder(path).manifest):
            unfinished.append(Unfinished(path.name, _finished_epochs(path)))
            continue
        try:
            finished.append(read_record(path))
        except (ModelError, MissingError) as error:
            damaged.append(Damaged(path.name, str(error)))
        except OSError as error:
            reason = f"{path}: cannot be read ({error.strerror}); mend that, or remove the folder"
            damaged.append(Damaged(path.name, one_line(reason)))
    finished, odd = _comparable(finished)
    return Runs(tuple(finished), tuple(unfinished), tuple(sorted([*damaged, *odd], key=lambda run: run.name)))


def read_record(folder: Path) -> RunRecord:
    """Read one finished run.

    :raises MissingError: there is none.
    :raises ModelError: it is damaged or of another format.
    """
    run = read_run(folder)
    return RunRecord(**{field.name: getattr(run, field.name) for field in fields(run)})


def count_array(rows: Sequence[Counts]) -> CountArray:
    """The counts of sentences as an array. *Shape:* (sentences, 3)"""
    return np.array([(row.tp, row.fp, row.fn) for row in rows], dtype=np.int64)


def _comparable(runs: Sequence[RunRecord]) -> tuple[list[RunRecord], list[Damaged]]:
    """Split runs into those that can be compared, and the others, each with the reason why not."""
    difference = "another number of test sentences than other runs of its corpus"
    kept, odd = _most_alike(runs, lambda run: run.facts.corpus, lambda run: len(run.counts), difference)
    difference = "other groups of types than other runs of its recipe"
    kept, others = _most_alike(kept, lambda run: run.row, lambda run: sorted(run.groups), difference)
    odd += others
    first: dict[tuple[str, int], RunRecord] = {}
    for run in kept:
        known = first.setdefault((run.row, run.seed), run)
        if known is not run:
            reason = f"{run.folder}: the same run as {known.folder} (seed {run.seed}); remove one of them"
            odd.append(Damaged(run.folder.name, reason))
    return list(first.values()), odd


def _most_alike(
    runs: Sequence[RunRecord],
    group: Callable[[RunRecord], str],
    fact: Callable[[RunRecord], Any],
    difference: str,
) -> tuple[list[RunRecord], list[Damaged]]:
    """Split runs into those that share a fact with most of their group, and the others."""
    facts: dict[str, Counter[str]] = defaultdict(Counter)
    for run in runs:
        facts[group(run)][str(fact(run))] += 1
    usual = {name: counter.most_common(1)[0][0] for name, counter in facts.items()}
    kept = [run for run in runs if str(fact(run)) == usual[group(run)]]
    odd = [run for run in runs if str(fact(run)) != usual[group(run)]]
    return kept, [
        Damaged(run.folder.name, f"{run.folder}: scores {difference}; if it is damaged, {ADVICE}")
        for run in odd
    ]


def _finished_epochs(folder: Path) -> int:
    try:
        return RunFolder(folder).count_epochs()
    except OSError:
        return 0
