"""Tables of the errors of a report's rows: by kind, of seen and unseen entities, by length, by type."""

import math
from collections.abc import Iterable

from backattn.report.comparison import Measure, Row, Table
from backattn.report.error_kinds import KINDS
from backattn.report.row_errors import Confusion, Part, TableErrors
from backattn.report.text_tables import NOTHING, TextTable, rows_grid, spread

_MOST_TYPES = 20  # of a confusion; the rarer ones are shown as one
_OTHERS = "other types"
_NO_ENTITY = "no entity"


def kind_grid(table: Table, errors: TableErrors) -> TextTable:
    """Format the number of entities of each kind."""
    cells = ([_number(row.kinds[kind]) if row else NOTHING for kind in KINDS] for row in errors.rows)
    lines = zip(table.rows, cells, strict=True)
    return rows_grid("Errors on test by kind (mean over the seeds)", table, KINDS, lines)


def part_grid(table: Table, errors: TableErrors) -> TextTable:
    """Format test F1 of seen and unseen entities and of each length, with the number of entities."""
    names = list(dict.fromkeys(name for row in errors.rows if row for name in row.parts))
    cells = ([_part_cell(row.parts[name]) if row else NOTHING for name in names] for row in errors.rows)
    title = "Test F1 by seen and unseen entities and by length (entities in the test set)"
    return rows_grid(title, table, names, zip(table.rows, cells, strict=True))


def confusion_grids(table: Table, errors: TableErrors) -> tuple[TextTable, ...]:
    """Format the types of each row: gold down, predicted across."""
    return tuple(
        _confusion_grid(row, found.confusion)
        for row, found in zip(table.rows, errors.rows, strict=True)
        if found and found.confusion
    )


def error_notes(errors: TableErrors) -> tuple[str, ...]:
    """Explain the tables, and what they leave out."""
    if not any(errors.rows):
        return errors.remarks
    return (
        "Kinds: a gold and a predicted entity of the same borders but another type are an error of type; "
        "two of one type that overlap, of boundary; two that only overlap, of both. Each entity is in one "
        "pair at most; those without are missed and spurious. Seen: the same words are an entity of the "
        "training sentences, of whichever type. Repeated: the sentence stands among the training sentences, "
        "so that a tagger may know it by heart.",
        *errors.remarks,
    )


def _confusion_grid(row: Row, found: Confusion) -> TextTable:
    frequent: dict[str, float] = {}
    for types, number in found.items():
        for name in {*types} - {None}:
            frequent[str(name)] = frequent.get(str(name), 0) + number
    kept = set(sorted(frequent, key=lambda name: (-frequent[name], name))[:_MOST_TYPES])
    cells: dict[tuple[str, str], float] = {}
    for (gold, predicted), number in found.items():
        place = _shown(gold, kept), _shown(predicted, kept)
        cells[place] = cells.get(place, 0) + number
    names = sorted(kept)
    names += [_OTHERS] if len(frequent) > len(kept) else []
    names.append(_NO_ENTITY)
    cells[_NO_ENTITY, _NO_ENTITY] = math.nan  # nothing is counted there
    rows = tuple((name, *(_number(cells.get((name, other), 0)) for other in names)) for name in names)
    title = f"{row.sentences:,} sentences, {row.name}: gold types down, predicted types across"
    return TextTable(title, ("Gold", *names), rows, range(1))


def _shown(name: str | None, kept: Iterable[str]) -> str:
    return _NO_ENTITY if name is None else name if name in kept else _OTHERS


def _number(value: float) -> str:
    if math.isnan(value):
        return NOTHING
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def _part_cell(part: Part) -> str:
    return f"{spread(Measure(part.f1))} ({part.entities:,})" if part.entities else NOTHING
