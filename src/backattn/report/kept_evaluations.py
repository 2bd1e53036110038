"""Read and format the scores on other files that ``backattn evaluate`` wrote into the folders of runs."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from backattn.common.atomic_files import is_own_folder
from backattn.common.errors import MissingError, ModelError, RecipeError
from backattn.common.json_files import read_table
from backattn.recipe.constraints import Digest, Natural
from backattn.recipe.constraints import Table as Struct
from backattn.recipe.conversion import convert
from backattn.report.comparison import Measure, Row, Table
from backattn.report.evaluations import EVALUATION_FORMAT
from backattn.report.text_tables import TextTable, rows_grid, spread
from backattn.tagger.run import RunFolder

_ADVICE = "remove it, then make it again with `backattn evaluate RUN FILE`"
_F1 = Annotated[float, Meta(ge=0, le=1)]


class _CommonTypes(Struct, frozen=True, forbid_unknown_fields=False):
    f1: _F1


class _Kept(Struct, frozen=True, forbid_unknown_fields=False):
    """The values of a kept evaluation that a report reads."""

    format: Literal[EVALUATION_FORMAT]  # type: ignore[valid-type]
    file: str
    sha256: Digest
    f1: _F1
    support: Natural
    common_types: _CommonTypes


@dataclass(frozen=True, eq=False)
class OtherFile:
    """F1 of a row on one file, over the seeds that were evaluated on it.

    :param overall: over all entities.
    :param common: over the types that the file has and the runs know.
    """

    file: str
    sha256: str
    entities: int
    seeds: tuple[int, ...]
    overall: Measure
    common: Measure

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; F1 in [0, 1]."""
        return {
            "file": self.file,
            "sha256": self.sha256,
            "entities": self.entities,
            "seeds": list(self.seeds),
            "f1": list(self.overall.values),
            "common_types_f1": list(self.common.values),
        }


def kept_evaluations(run: Path) -> tuple[_Kept, ...]:
    """Read the evaluations in the folder of a run, in the order of their names; damaged ones are left out."""
    return _read(run)[0]


def other_files(row: Row) -> list[OtherFile]:
    """List the files on which runs of a row were evaluated, by name; equal files count as one."""
    by_file: dict[str, list[tuple[int, _Kept]]] = defaultdict(list)
    for run in row.runs:
        for kept in _read(run.folder)[0]:
            by_file[kept.sha256].append((run.seed, kept))
    made = [
        OtherFile(
            file=Path(rows[0][1].file).name,
            sha256=sha256,
            entities=rows[0][1].support,
            seeds=tuple(seed for seed, _ in rows),
            overall=Measure(tuple(kept.f1 for _, kept in rows)),
            common=Measure(tuple(kept.common_types.f1 for _, kept in rows)),
        )
        for sha256, rows in by_file.items()
    ]
    return sorted(made, key=lambda other: (other.file, other.sha256))


def other_files_grid(table: Table) -> TextTable | None:
    """Format one line for each row and file; None where no run was evaluated."""
    names = ("File", "Entities", "F1", "F1 of common types", "Seeds")
    lines = [
        (row, (one.file, f"{one.entities:,}", spread(one.overall), spread(one.common), str(len(one.seeds))))
        for row in table.rows
        for one in other_files(row)
    ]
    title = (
        "F1 on other files (`backattn evaluate`); a type that only the file has counts as missed, one that "
        "only the run has as wrong"
    )
    return rows_grid(title, table, names, lines, words=1) if lines else None


def damaged_evaluations(table: Table) -> list[str]:
    """Lines about the files that cannot be read, which no table contains."""
    return [line for row in table.rows for run in row.runs for line in _read(run.folder)[1]]


def _read(run: Path) -> tuple[tuple[_Kept, ...], tuple[str, ...]]:
    """Read the evaluations in the folder of a run, and the reasons why others cannot be read."""
    folder = RunFolder(run).evaluations
    kept: dict[str, _Kept] = {}
    damaged: list[str] = []
    for path in sorted(folder.glob("*.json")) if is_own_folder(folder) else []:
        try:
            found = convert(_Kept, read_table(path, _ADVICE), str(path))
            kept.setdefault(found.sha256, found)
        except (MissingError, ModelError) as error:
            damaged.append(str(error))
        except RecipeError as error:
            damaged.append(f"{error}; {_ADVICE}")
        except OSError as error:
            damaged.append(f"{path}: cannot be read ({error.strerror}); mend that")
    return tuple(kept.values()), tuple(damaged)
