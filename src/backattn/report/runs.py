"""Run folders -> records, without torch: of a run, a report needs only the JSON."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backattn.common.digests import canonical_json
from backattn.common.errors import MissingError, ModelError
from backattn.common.safe_text import one_line
from backattn.corpus.scoring import Counts
from backattn.recipe import TaggerRecipe
from backattn.tagger.run import ADVICE, WITH_STORE, RunFolder, read_run
from backattn.tagger.run_spec import model_name

# The store of T, among those that a run reads.
TRANSFER = "transfer"

# True positives, false positives and false negatives of each test sentence. Shape: (sentences, 3)
CountArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RunRecord:
    """What a report uses of a finished run.

    :param request: everything that decides its numbers: inputs, seed, sentences, tagger, corpus, ...
    :param model, base: what the paper calls it, and the model that it is compared with: the same on words
        alone. T alone reads no frozen features, so its base has none either.
    :param dev_f1: of the best epoch.
    :param counts: of the test set, sentence by sentence. *Shape:* (sentences, 3)
    :param groups: the same for each named group (Weibo: NE, NM).
    :param types: tp, fp, fn of each entity type over the test set.
    :param curve: dev F1 after each epoch.
    :param signature: what makes the test score again, as ``name:value|name:value``.
    """

    folder: Path
    request: Mapping[str, Any]
    model: str
    base: str
    best_epoch: int
    seconds: float
    device: str
    dev_f1: float
    counts: CountArray
    groups: Mapping[str, CountArray]
    types: Mapping[str, tuple[int, int, int]]
    curve: tuple[float, ...]
    signature: str

    @property
    def seed(self) -> int:
        """The seed of everything random in it."""
        return int(self.request["seed"])

    @property
    def row(self) -> str:
        """Equal for runs that differ in the seed alone."""
        return canonical_json({key: value for key, value in self.request.items() if key != "seed"})

    @property
    def inputs(self) -> str:
        """What the CRF saw: ``words``, ``words+transfer``, ..."""
        return str(self.request["inputs"])

    @property
    def sentences(self) -> int:
        """How many training sentences it learnt from."""
        return int(self.request["sentences"])

    @property
    def epochs(self) -> int:
        """How many epochs it was trained."""
        return int(self.request["tagger"]["epochs"])

    @property
    def whole(self) -> bool:
        """Did it learn from all of them, as the paper's rows do?"""
        return bool(self.request["tagger"].get("sentences") == "all")

    @property
    def stores(self) -> Mapping[str, str]:
        """Id of each store that it read -> :data:`TRANSFER`, or the name of the embedding."""
        found = {store: str(name) for name, store in self.request.get("embeddings", {}).items()}
        if self.store is not None:
            found[self.store] = TRANSFER
        return found

    @property
    def store(self) -> str | None:
        """Id of the store of T that it read."""
        return self.request.get("transfer") if self.inputs in WITH_STORE else None


@dataclass(frozen=True)
class Damaged:
    """A run folder whose ``run.json`` or ``epochs.jsonl`` cannot be believed.

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
    """Read all runs of a LANG. A damaged one is set apart: the others' numbers do not depend on it.

    :raises MissingError: there is not one finished run.
    :raises ModelError: there is none, and one is damaged or of another format.
    """
    folder = cache / lang / "runs"
    finished: list[RunRecord] = []
    unfinished: list[Unfinished] = []
    damaged: list[Damaged] = []
    for path in sorted(path for path in folder.glob("*") if path.is_dir()):
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
    damaged = sorted([*damaged, *odd], key=lambda run: run.name)
    if not finished and damaged:
        raise ModelError(damaged[0].reason)
    if not finished:
        started = f", {len(unfinished)} not finished" if unfinished else ""
        raise MissingError(f"{folder}: no finished run{started}; train some with `backattn train {lang}`")
    return Runs(tuple(finished), tuple(unfinished), tuple(damaged))


def read_record(folder: Path) -> RunRecord:
    """Read one finished run.

    :raises MissingError: there is none.
    :raises ModelError: it is damaged or of another format.
    """
    run = read_run(folder)
    if "corpus" not in run.request:
        raise ModelError(f"{folder}: damaged run (its request names no corpus); {ADVICE}")
    tagger = _named_by(run.request["tagger"])
    return RunRecord(
        folder=folder,
        request=run.request,
        model=model_name(run.inputs, tagger),
        base=model_name("words", tagger),
        best_epoch=run.best_epoch,
        seconds=run.seconds,
        device=str(run.environment.get("device", "")),
        dev_f1=run.dev.overall.f1,
        counts=_array(run.test.sentences),
        groups={name: _array(rows) for name, rows in run.test.groups.items()},
        types={name: astuple(counts) for name, counts in run.test.types.items()},
        curve=tuple(float(row["dev_f1"]) for row in run.history),
        signature=run.test.signature,
    )


def _named_by(tagger: Mapping[str, Any]) -> TaggerRecipe:
    """What of a tagger's recipe is part of its name; older runs, from before a choice, have the defaults."""
    embeddings, fusion = tagger.get("embeddings", []), tagger.get("fusion", "output")
    return TaggerRecipe(embeddings=tuple(embeddings), fusion=fusion)


def _array(rows: Sequence[Counts]) -> CountArray:
    return np.array([(row.tp, row.fp, row.fn) for row in rows], dtype=np.int64)


def _comparable(runs: Sequence[RunRecord]) -> tuple[list[RunRecord], list[Damaged]]:
    """The runs that can be told side by side, and the others, each with what is odd about it."""
    same = "another number of test sentences than other runs of its corpus"
    kept, odd = _most_alike(runs, lambda run: run.request["corpus"], lambda run: len(run.counts), same)
    same = "other groups of types than other runs of its recipe"
    kept, others = _most_alike(kept, lambda run: run.row, lambda run: sorted(run.groups), same)
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
    """The runs that share a fact with most of their group, and the others."""
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
