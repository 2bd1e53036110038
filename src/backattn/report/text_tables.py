"""Format tables and notes as text for Markdown and HTML. F1 is in percent, as in the paper."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backattn.report.comparison import FEW_ENTITIES, OVERALL, LangReport, Measure, Row, System, Table
from backattn.report.lineage import StoreLineage
from backattn.report.significance import LEVEL, RESAMPLES, SEED, Difference

NOTHING = "–"
BLEU, AER = "BLEU", "AER"
DIFFERENCE = "Lift"
AGAINST = "Against the recipe"
INTERVAL = f"{100 * LEVEL:.0f} % interval"
_SMALLEST_P = 0.001
_FEW_SEEDS = 5
_MOST_FINDINGS = 12


@dataclass(frozen=True)
class TextTable:
    """A table of text cells.

    :param text_columns: columns of words; all others hold numbers.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: range


def score_grid(table: Table) -> TextTable:
    """Format training sentences x models, as in Tables 3 to 5 of the paper, with the lift of T."""
    measures = table.measures
    against = any(row.from_recipe for row in table.rows) or any(one.difference for one in table.systems)
    translators = _translators(table)
    names = (
        *translators, *(f"{name} F1" for name in measures), DIFFERENCE, INTERVAL, "p",
        *([AGAINST] if against else []), "Seeds", "Epochs",
    )  # fmt: skip
    rows = (
        (row, (
            *(_quality(table.origin(row), name) for name in translators),
            *(f1_cell(row, name) for name in measures), *lift_cells(row),
            *([difference_cell(row.from_recipe)] if against else []), str(len(row.seeds)), str(row.epochs),
        ))
        for row in table.rows
    )  # fmt: skip
    systems = (
        (one, (
            *([NOTHING] * len(translators)), *(spread(one.measures[name]) for name in measures),
            *difference_cells(None), *([difference_cell(one.difference, one.remark)] if against else []),
            str(len(one.files)), NOTHING,
        ))
        for one in table.systems
    )  # fmt: skip
    return rows_grid("Test F1", table, names, [*rows, *systems])


def rows_grid(
    title: str,
    table: Table,
    names: Iterable[str],
    lines: Iterable[tuple[Row | System, Iterable[str]]],
    *,
    words: int = 0,
) -> TextTable:
    """Format lines that begin with training sentences, model, and setting if rows of the table have one.

    :param names: headings of the cells.
    :param lines: a row, or another system, and its cells.
    :param words: how many of the first cells hold words; the others hold numbers.
    """
    width = 3 if any(row.setting for row in table.rows) else 2
    rows = tuple((*_lead(one)[:width], *cells) for one, cells in lines)
    header = (*("Sentences", "Model", "Setting")[:width], *names)
    return TextTable(title, header, rows, range(1, width + words))


def _lead(one: Row | System) -> tuple[str, str, str]:
    if isinstance(one, System):
        return NOTHING, one.name, ""
    return f"{one.sentences:,}", one.model, ", ".join(one.setting)


def type_grid(table: Table) -> TextTable:
    """Format test F1 of each entity type; the header has the number of entities in the test set."""
    every: tuple[Row | System, ...] = (*table.rows, *table.systems)
    lines = ((one, [spread(one.types[name]) for name in table.support]) for one in every)
    names = (f"{name} ({count:,})" for name, count in table.support.items())
    return rows_grid("Test F1 by entity type (entities in the test set)", table, names, lines)


def run_grid(table: Table) -> TextTable:
    """Format one line for each run."""
    settings = any(row.setting for row in table.rows)
    header = (
        "Run", *(["Setting"] if settings else []), "Seed", "Test F1", "Dev F1", "Best epoch", "Time", "Device"
    )  # fmt: skip
    rows = tuple(
        (
            run.folder.name,
            *([", ".join(row.setting)] if settings else []),
            str(run.seed),
            percent(row.measures[OVERALL].values[index]),
            percent(run.dev_f1),
            f"{run.best_epoch} of {len(run.curve)}",
            _time(run.seconds),
            run.device,
        )
        for row in table.rows
        for index, run in enumerate(row.runs)
    )
    return TextTable("Runs", header, rows, range(2 if settings else 1))


def notes(table: Table) -> tuple[str, ...]:
    """Explain the columns of a table and the limits of its numbers."""
    # Where there is a difference, its cell names the seeds.
    without = [row for row in table.rows if row.remark and not row.difference]
    remarks = [f"{row.sentences:,} sentences, {row.name}: {row.remark}." for row in without]
    compared = [row.difference for row in table.rows if row.difference]
    if few := [difference for difference in compared if len(difference.seeds) < _FEW_SEEDS]:
        remarks.append(
            f"{len(few)} of {len(compared)} intervals are over fewer than {_FEW_SEEDS} seeds, which show "
            "little of the variation between seeds; where that is large, these intervals are too narrow."
        )
    if any(row.small_dev for row in table.rows):
        remarks.append(
            f"Dev has fewer than {FEW_ENTITIES} entities: which epoch it chooses is mostly chance; "
            "take a larger dev."
        )
    alone = (
        " T alone (BAN+CRF) reads no frozen features, so its base is BiLSTM+CRF."
        if any(row.inputs == "transfer" for row in table.rows)
        else ""
    )
    base = ", ".join(dict.fromkeys(row.base for row in table.rows))
    names = dict.fromkeys(f"{row.model} is {row.inputs}" for row in table.rows)
    quality = {
        BLEU: "BLEU: of the translator behind T, as its training measured it on held-out text.",
        AER: "AER: alignment error rate of A on gold word alignments, each foreign word linked to the "
        "English word with the most attention to it (`backattn align`).",
    }
    settings = (
        ["Setting: the keys in which a row differs from the current recipe or, without a recipe, from other "
         "rows. `store=`: a T that the recipe of its run no longer produces."]
        if any(row.setting for row in table.rows)
        else []
    )  # fmt: skip
    against = (
        [f"{AGAINST}: F1 minus that of the recipe's own row, over the seeds of both; the same bootstrap."]
        if any(row.from_recipe for row in table.rows)
        else []
    )
    return (
        "Test F1 in percent, of the epoch with the best dev F1 (of equals the last): mean ± standard "
        "deviation over the seeds.",
        f"Inputs (`backattn train --inputs`): {', '.join(names)}. BiLSTM+CRF: the small "
        "tagger, a bidirectional LSTM and a conditional random field; +BAN: with Back Attention.",
        f"Lift: F1 minus that of the base, the same model without Back Attention ({base}), at the same "
        f"sentences and settings.{alone} Paired bootstrap over test sentences and seeds, {RESAMPLES:,} "
        f"resamples, seed {SEED}; percentile interval, two-sided p.",
        *against,
        *_systems(table.systems),
        *settings,
        *([f"All rows: {', '.join(table.common)}; the recipe has other values."] if table.common else []),
        *(quality[name] for name in _translators(table)),
        *remarks,
    )


def _systems(systems: Sequence[System]) -> list[str]:
    """Explain the rows of other systems."""
    if not systems:
        return []
    names = ", ".join(one.name for one in systems)
    against = dict.fromkeys(one.against for one in systems if one.against)
    beside = "".join(
        f" {AGAINST}: F1 minus that of {name}; one file of a system stands against each of its seeds."
        for name in against
    )
    return [f"{names}: predictions given with --with, a file for each seed, scored as the runs are.{beside}"]


def findings(table: Table) -> tuple[str, ...]:
    """Write one sentence for each comparison: better, worse or no clear difference.

    If there are many, only for the rows of the unchanged recipe, or else for the first.
    """
    compared = [row for row in table.rows if row.difference]
    own = [row for row in compared if not row.setting]
    chosen = compared if len(compared) <= _MOST_FINDINGS else own or compared[:_MOST_FINDINGS]
    epochs = len({row.epochs for row in compared}) > 1
    found = [_finding(row, row.difference, epochs) for row in chosen if row.difference]
    if left := len(compared) - len(chosen):
        found.append(f"{left} more comparisons are in the table.")
    return tuple(found)


def left_out_notes(report: LangReport) -> tuple[str, ...]:
    """Name the runs that are not in the tables."""
    unfinished = [f"{run.name} ({run.epochs} epochs done)" for run in report.unfinished]
    damaged = [f"{run.name} ({run.reason})" for run in report.damaged]
    return tuple(
        f"Not counted: {len(names)} {kind} {'run' if len(names) == 1 else 'runs'}: {', '.join(names)}."
        for kind, names in (("unfinished", unfinished), ("damaged", damaged))
        if names
    )


def corpus_name(table: Table, report: LangReport) -> str:
    """Name the corpus of a table, as the end of a heading; empty if there is only the current one."""
    if len(report.tables) < 2 and not table.earlier:
        return ""
    return f", corpus {table.corpus[:10]}{', not the current files' if table.earlier else ''}"


def percent(value: float) -> str:
    """Format an F1 in [0, 1] as percent with two decimals."""
    return f"{100 * value:.2f}"


def spread(measure: Measure) -> str:
    """Format mean and standard deviation; for one seed the mean alone."""
    if measure.deviation is None:
        return percent(measure.mean)
    return f"{percent(measure.mean)} ± {percent(measure.deviation)}"


def points(value: float) -> str:
    """Format a difference as percentage points with a sign."""
    rounded = round(100 * value, 2) + 0.0  # + 0.0 makes a negative zero positive
    return f"{rounded:+.2f}".replace("-", "−")  # the minus sign is as wide as the plus


def f1_cell(row: Row | None, measure: str) -> str:
    """Format an F1 of a row; the overall F1 is followed by remarks that limit its worth."""
    if row is None or measure not in row.measures:
        return NOTHING
    doubts = [row.small_dev, "" if row.difference else row.dead] if measure == OVERALL else []
    return _beside(spread(row.measures[measure]), *doubts)


def lift_cells(row: Row | None) -> Sequence[str]:
    """Format value, interval and p of the difference to the base; remarks that limit it follow the value."""
    if row is None:
        return difference_cells(None)
    value, *rest = difference_cells(row.difference, row.remark)
    return _beside(value, row.dead if row.difference else ""), *rest


def _beside(cell: str, *doubts: str) -> str:
    remarks = "; ".join(filter(None, doubts))
    return f"{cell} ({remarks})" if remarks else cell


def difference_cells(difference: Difference | None, remark: str = "") -> Sequence[str]:
    """Format value, interval and p.

    :param remark: limits of the difference: with one, it is over fewer seeds than the F1 beside it.
    """
    if difference is None:
        return NOTHING, NOTHING, NOTHING
    interval = f"[{points(difference.low)}, {points(difference.high)}]"
    p = f"< {_SMALLEST_P}" if difference.p < _SMALLEST_P else f"{difference.p:.3f}"
    seeds = f" (seeds {', '.join(map(str, difference.seeds))})" if remark else ""
    return points(difference.value) + seeds, interval, p


def difference_cell(difference: Difference | None, remark: str = "", doubt: str = "") -> str:
    """Format value and interval in one cell.

    :param remark: as of :func:`difference_cells`.
    :param doubt: what weakens the difference; it stands beside the value.
    """
    if difference is None:
        return NOTHING
    value, interval, _ = difference_cells(difference, remark)
    return f"{_beside(value, doubt)} {interval}"


def _translators(table: Table) -> list[str]:
    """List the measures of translators that any row has; each is a column of the table."""
    known = [table.origin(row) for row in table.rows]
    found = {BLEU: [origin.bleu for origin in known], AER: [origin.aer for origin in known]}
    return [name for name, values in found.items() if any(value is not None for value in values)]


def _quality(origin: StoreLineage, name: str) -> str:
    value, digits = (origin.bleu, 1) if name == BLEU else (origin.aer, 3)
    return NOTHING if value is None else f"{value:.{digits}f}"


def _finding(row: Row, difference: Difference, epochs: bool) -> str:
    verdict = "above" if difference.low > 0 else "below" if difference.high < 0 else ""
    size = f"{percent(abs(difference.value))} points"
    # The interval of one seed is over sentences only, and does not show the luck of the seed.
    alone = "; one seed" if len(difference.seeds) == 1 else ""
    doubts = "".join(f"; {doubt}" for doubt in (row.dead, row.small_dev) if doubt)
    interval = f"{INTERVAL} {points(difference.low)} to {points(difference.high)}{alone}{doubts}"
    where = f"{row.sentences:,} sentences{f', {row.epochs} epochs' if epochs else ''}: {row.name}"
    if verdict:
        return f"{where} is {size} {verdict} {row.base} ({interval})."
    return f"{where} cannot be distinguished from {row.base} ({points(difference.value)} points, {interval})."


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
