"""Tables as plain cells, made once for Markdown and for HTML. F1 is in percent here, as in the paper."""

from collections.abc import Sequence
from dataclasses import dataclass

from backattn.report.comparison import OVERALL, LangReport, Measure, Row, Table
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
    """A table of texts.

    :param text_columns: which columns hold words and not figures.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: range


def score_grid(table: Table) -> TextTable:
    """Training sentences x models, as the paper's Tables 3 to 5, with what T adds."""
    measures = table.measures
    settings = any(row.setting for row in table.rows)
    against = any(row.from_recipe for row in table.rows)
    translators = _translators(table)
    header = (
        "Sentences", "Model", *(["Setting"] if settings else []), *translators,
        *(f"{name} F1" for name in measures), DIFFERENCE, INTERVAL, "p",
        *([AGAINST] if against else []), "Seeds", "Epochs",
    )  # fmt: skip
    rows = tuple(
        (
            *_lead(row, settings),
            *(_quality(table.origin(row), name) for name in translators),
            *(spread(row.measures[name]) if name in row.measures else NOTHING for name in measures),
            *difference_cells(row.difference, row.remark),
            *([_against(row)] if against else []), str(len(row.seeds)), str(row.epochs),
        )
        for row in table.rows
    )  # fmt: skip
    return TextTable("Test F1", header, rows, range(1, 3 if settings else 2))


def _lead(row: Row, settings: bool) -> tuple[str, ...]:
    """The cells that name a row: training sentences, model, and the setting where rows differ in one."""
    return (f"{row.sentences:,}", row.model, *([", ".join(row.setting)] if settings else []))


def type_grid(table: Table) -> TextTable:
    """Test F1 of each entity type; the header says how many entities the test set has."""
    settings = any(row.setting for row in table.rows)
    header = (
        "Sentences", "Model", *(["Setting"] if settings else []),
        *(f"{name} ({count:,})" for name, count in table.support.items()),
    )  # fmt: skip
    rows = tuple(
        (
            *_lead(row, settings),
            *(spread(row.types[name]) for name in table.support),
        )
        for row in table.rows
    )  # fmt: skip
    return TextTable(
        "Test F1 by entity type (entities in the test set)", header, rows, range(1, 3 if settings else 2)
    )


def run_grid(table: Table) -> TextTable:
    """Every run by itself."""
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
    """How to read the table, what limits it, and the recipe of its numbers."""
    # Where there is a difference, its own cell says over which seeds.
    without = [row for row in table.rows if row.remark and not row.difference]
    remarks = [f"{row.sentences:,} sentences, {row.name}: {row.remark}." for row in without]
    compared = [row.difference for row in table.rows if row.difference]
    if few := [difference for difference in compared if len(difference.seeds) < _FEW_SEEDS]:
        remarks.append(
            f"{len(few)} of {len(compared)} intervals are over fewer than {_FEW_SEEDS} seeds: they know "
            "little of the spread between seeds, and where that is large they are too narrow."
        )
    alone = (
        " T alone (BAN+CRF) reads no frozen features, so its base is BiLSTM+CRF."
        if any(row.inputs == "transfer" for row in table.rows)
        else ""
    )
    base = ", ".join(dict.fromkeys(row.base for row in table.rows))
    told = {
        BLEU: "BLEU: of the translator behind T, as its training measured it on held-out text.",
        AER: "AER: alignment error rate of A on gold word alignments, each foreign word linked to the "
        "English word that looked at it most (`backattn align`).",
    }
    settings = (
        ["Setting: what a row has otherwise than the recipe says now, or, where no recipe is at hand, than "
         "other rows. `store=`: a T that its recipe does not make any more."]
        if any(row.setting for row in table.rows)
        else []
    )  # fmt: skip
    against = (
        [f"{AGAINST}: F1 less that of the recipe's own row, over the seeds of both; the same bootstrap."]
        if any(row.from_recipe for row in table.rows)
        else []
    )
    return (
        "F1 on test, in percent, after the epoch best on dev: mean ± standard deviation over the seeds.",
        f"Lift: F1 less that of the base, the same model without Back Attention ({base}), at the same "
        f"sentences and settings.{alone} Paired bootstrap over test sentences and seeds, {RESAMPLES:,} "
        f"resamples, seed {SEED}; percentile interval, two-sided p.",
        *against,
        *settings,
        *([f"All rows: {', '.join(table.common)}, where the recipe says otherwise."] if table.common else []),
        *(told[name] for name in _translators(table)),
        *remarks,
    )


def findings(table: Table) -> tuple[str, ...]:
    """One sentence a comparison: better, worse, or not to be told apart.

    Where there are many, only of the recipe's own rows, or of the first.
    """
    compared = [row for row in table.rows if row.difference]
    own = [row for row in compared if not row.setting]
    told = compared if len(compared) <= _MOST_FINDINGS else own or compared[:_MOST_FINDINGS]
    epochs = len({row.epochs for row in compared}) > 1
    found = [_finding(row, row.difference, epochs) for row in told if row.difference]
    if left := len(compared) - len(told):
        found.append(f"{left} more comparisons stand in the table.")
    return tuple(found)


def left_out_notes(report: LangReport) -> tuple[str, ...]:
    """The runs that are not in the tables, by name."""
    unfinished = [f"{run.name} ({run.epochs} epochs done)" for run in report.unfinished]
    damaged = [f"{run.name} ({run.reason})" for run in report.damaged]
    return tuple(
        f"Not counted: {len(names)} {kind} {'run' if len(names) == 1 else 'runs'}: {', '.join(names)}."
        for kind, names in (("unfinished", unfinished), ("damaged", damaged))
        if names
    )


def corpus_name(table: Table, report: LangReport) -> str:
    """What tells a corpus from others, as the end of a heading; nothing where there is one, today's."""
    if len(report.tables) < 2 and not table.earlier:
        return ""
    return f", corpus {table.corpus[:10]}{', not that of the files now' if table.earlier else ''}"


def percent(value: float) -> str:
    """An F1 in [0, 1] as percent with two decimals."""
    return f"{100 * value:.2f}"


def spread(measure: Measure) -> str:
    """Mean and deviation; the mean alone where there is one seed."""
    if measure.deviation is None:
        return percent(measure.mean)
    return f"{percent(measure.mean)} ± {percent(measure.deviation)}"


def points(value: float) -> str:
    """A difference in percentage points, signed."""
    rounded = round(100 * value, 2) + 0.0  # + 0.0 makes a negative zero positive
    return f"{rounded:+.2f}".replace("-", "−")  # a true minus: it is as wide as the plus


def difference_cells(difference: Difference | None, remark: str = "") -> Sequence[str]:
    """Value, interval and p.

    :param remark: what limits it; where there is one, it is over fewer seeds than the F1 beside it.
    """
    if difference is None:
        return NOTHING, NOTHING, NOTHING
    interval = f"[{points(difference.low)}, {points(difference.high)}]"
    p = f"< {_SMALLEST_P}" if difference.p < _SMALLEST_P else f"{difference.p:.3f}"
    seeds = f" (seeds {', '.join(map(str, difference.seeds))})" if remark else ""
    return points(difference.value) + seeds, interval, p


def _against(row: Row) -> str:
    if row.from_recipe is None:
        return NOTHING
    value, interval, _ = difference_cells(row.from_recipe)
    return f"{value} {interval}"


def _translators(table: Table) -> list[str]:
    """What is known of the translators behind T: columns of the table."""
    known = [table.origin(row) for row in table.rows]
    found = {BLEU: [origin.bleu for origin in known], AER: [origin.aer for origin in known]}
    return [name for name, values in found.items() if any(value is not None for value in values)]


def _quality(origin: StoreLineage, name: str) -> str:
    value, digits = (origin.bleu, 1) if name == BLEU else (origin.aer, 3)
    return NOTHING if value is None else f"{value:.{digits}f}"


def _finding(row: Row, difference: Difference, epochs: bool) -> str:
    verdict = "above" if difference.low > 0 else "below" if difference.high < 0 else ""
    size = f"{percent(abs(difference.value))} points"
    alone = "; one seed" if len(difference.seeds) == 1 else ""  # whose luck no interval knows
    interval = f"{INTERVAL} {points(difference.low)} to {points(difference.high)}{alone}"
    where = f"{row.sentences:,} sentences{f', {row.epochs} epochs' if epochs else ''}: {row.name}"
    if verdict:
        return f"{where} is {size} {verdict} {row.base} ({interval})."
    return f"{where} cannot be told from {row.base} ({points(difference.value)} points, {interval})."


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
