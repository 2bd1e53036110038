"""Read and format the scores on other files that ``backattn evaluate`` wrote into the folders of runs."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from backattn.common.atomic_files import is_own_folder
from backattn.common.errors import MissingError, ModelError, RecipeError
from backattn.common.json_files import read_table
from backattn.corpus.labelled import LONGEST_SENTENCE
from backattn.corpus.scoring import Counts
from backattn.recipe.constraints import Digest
from backattn.recipe.constraints import Table as Struct
from backattn.recipe.conversion import convert
from backattn.report.comparison import BASE, Measure, OtherFile, Row, Table, base_of, learnt_nothing
from backattn.report.evaluations import EVALUATION_FORMAT
from backattn.report.significance import Difference, paired_bootstrap
from backattn.report.text_tables import TextTable, difference_cell, rows_grid, spread
from backattn.tagger.run import RunFolder

_ADVICE = "remove it, then make it again with `backattn evaluate RUN FILE`"
_Count = Annotated[int, Meta(ge=0, le=LONGEST_SENTENCE)]
# tp, fp and fn of each sentence.
_Counts = Annotated[tuple[tuple[_Count, ...], ...], Meta(min_length=1)]
# Sentences; to resample more takes minutes.
_MOST = 1_000_000


class KeptEvaluation(Struct, frozen=True, forbid_unknown_fields=False):
    """What a report reads of the scores of a run on a file.

    :param counts: over all types.
    :param common_types_counts: over the types that the file has and the run knows.
    """

    format: Literal[EVALUATION_FORMAT]  # type: ignore[valid-type]
    file: str
    sha256: Digest
    counts: _Counts
    common_types_counts: _Counts

    def __post_init__(self) -> None:
        sentences = len(self.counts)
        if len(self.common_types_counts) != sentences or sentences > _MOST:
            raise ValueError(
                f"common_types_counts: expected the {sentences:,} sentences of counts, at most {_MOST:,}; "
                f"found {len(self.common_types_counts):,}"
            )
        odd = next((row for row in chain(self.counts, self.common_types_counts) if len(row) != 3), None)
        if odd is not None:
            raise ValueError(f"counts: expected tp, fp and fn of each sentence; found {len(odd)} numbers")

    @property
    def overall(self) -> Counts:
        """The counts of the file over all types."""
        return _total(self.counts)

    @property
    def common(self) -> Counts:
        """The counts of the file over the common types."""
        return _total(self.common_types_counts)


# (digest of a file's bytes, number of its sentences as the run reads it) -> seed -> the evaluation.
_ByFile = Mapping[tuple[str, int], Mapping[int, KeptEvaluation]]


def kept_evaluations(run: Path) -> tuple[KeptEvaluation, ...]:
    """Read the evaluations in the folder of a run, in the order of their names; damaged ones are left out."""
    return _read(run)[0]


def with_other_files(table: Table) -> Table:
    """Add to each row the files on which its runs were evaluated, with the lift to its base there."""
    damaged: list[str] = []
    found = [_by_file(row, damaged) for row in table.rows]
    rows = []
    for row, own in zip(table.rows, found, strict=True):
        base = None if row.inputs == BASE else base_of(row, table.rows)
        comparable = base is not None and not learnt_nothing(base, row)
        beside = found[table.rows.index(base)] if base is not None and comparable else {}
        made = [_other_file(own[key], beside.get(key, {})) for key in own]
        rows.append(replace(row, other_files=tuple(sorted(made, key=lambda one: (one.file, one.sha256)))))
    return replace(table, rows=tuple(rows), damaged_evaluations=tuple(damaged))


def _by_file(row: Row, damaged: list[str]) -> _ByFile:
    """Read the evaluations of a row's runs; add the reasons why others cannot be read to ``damaged``."""
    found: dict[tuple[str, int], dict[int, KeptEvaluation]] = defaultdict(dict)
    for run in row.runs:
        evaluations, reasons = _read(run.folder)
        damaged += reasons
        for kept in evaluations:
            found[kept.sha256, len(kept.counts)][run.seed] = kept
    return found


def _other_file(own: Mapping[int, KeptEvaluation], base: Mapping[int, KeptEvaluation]) -> OtherFile:
    """Combine the evaluations of a row's runs on one file.

    :param own, base: seed -> the evaluation of the row, and of its base.
    """
    first = next(iter(own.values()))
    shared = tuple(seed for seed in own if seed in base)
    overall = [np.array([kept[seed].counts for seed in shared]) for kept in (base, own)]
    common = [np.array([kept[seed].common_types_counts for seed in shared]) for kept in (base, own)]
    lift = _difference(overall, shared)
    return OtherFile(
        file=Path(first.file).name,
        sha256=first.sha256,
        entities=first.overall.support,
        seeds=tuple(own),
        overall=Measure(tuple(kept.overall.f1 for kept in own.values())),
        common=Measure(tuple(kept.common.f1 for kept in own.values())),
        lift=lift,
        common_lift=lift if all(map(np.array_equal, overall, common)) else _difference(common, shared),
        remark="" if not shared or shared == tuple(own) == tuple(base) else "not of all seeds",
    )


def _difference(counts: Sequence[NDArray[np.int64]], seeds: tuple[int, ...]) -> Difference | None:
    return paired_bootstrap(*counts, seeds=seeds) if seeds else None


def _total(counts: _Counts) -> Counts:
    return Counts(*map(sum, zip(*counts, strict=True)))


def other_files_grid(table: Table) -> TextTable | None:
    """Format one line for each row and file; None where no run was evaluated."""
    names = ("File", "Entities", "F1", "Lift", "F1 of common types", "Lift of common types", "Seeds")
    lines = [
        (row, (
            one.file, f"{one.entities:,}",
            spread(one.overall), difference_cell(one.lift, one.remark, row.dead),
            spread(one.common), difference_cell(one.common_lift, one.remark, row.dead),
            str(len(one.seeds)),
        ))
        for row in table.rows
        for one in row.other_files
    ]  # fmt: skip
    title = (
        "F1 on other files (`backattn evaluate`); a type that only the file has counts as missed, one that "
        "only the run has as wrong; lifts with their intervals as above, over the sentences of the file"
    )
    return rows_grid(title, table, names, lines, words=1) if lines else None


def _read(run: Path) -> tuple[tuple[KeptEvaluation, ...], tuple[str, ...]]:
    """Read the evaluations in the folder of a run, and the reasons why others cannot be read."""
    folder = RunFolder(run).evaluations
    kept: dict[str, KeptEvaluation] = {}
    damaged: list[str] = []
    for path in sorted(folder.glob("*.json")) if is_own_folder(folder) else []:
        try:
            found = convert(KeptEvaluation, read_table(path, _ADVICE), str(path))
            kept.setdefault(found.sha256, found)
        except (MissingError, ModelError) as error:
            damaged.append(str(error))
        except RecipeError as error:
            damaged.append(f"{error}; {_ADVICE}")
        except OSError as error:
            damaged.append(f"{path}: cannot be read ({error.strerror}); mend that")
    return tuple(kept.values()), tuple(damaged)
