"""Write the report of one LANG as one self-contained page."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from markupsafe import Markup

from backattn.report.comparison import OVERALL, LangReport, Row, Table
from backattn.report.error_tables import confusion_grids, error_notes, kind_grid, part_grid
from backattn.report.kept_evaluations import other_files_grid
from backattn.report.lineage import StoreLineage
from backattn.report.markup import LIST_PAGE, render
from backattn.report.paper_comparison import paper_grids, paper_notes
from backattn.report.plots import Point, Series, legend_line, line_chart, spread_mark
from backattn.report.row_errors import TableErrors
from backattn.report.significance import Difference
from backattn.report.text_tables import (
    DIFFERENCE,
    INTERVAL,
    corpus_name,
    findings,
    left_out_notes,
    notes,
    run_grid,
    score_grid,
    type_grid,
)


def page(report: LangReport, *, sentences: bool = False) -> str:
    """Write the page of one LANG: HTML with inline SVG, without a script or anything from elsewhere.

    :param sentences: whether the page of sentences lies beside it, to link to.
    """
    return render(
        "report.html.j2",
        title=f"{report.lang}: backattn report",
        lang=report.lang,
        runs=sum(len(row.runs) for table in report.tables for row in table.rows),
        left_out=left_out_notes(report),
        sections=[_section(*pair, report) for pair in zip(report.tables, report.errors, strict=True)],
        sentences=LIST_PAGE if sentences else "",
    )


def _section(table: Table, errors: TableErrors, report: LangReport) -> dict[str, object]:
    """Collect everything that the page shows of one table."""
    paper = report.recipe.paper if report.recipe else None
    styles = _styles(table)
    plots = (_learning_curve(table, styles), _lift_by_translator(table), _training_curves(table, styles))
    return {
        "corpus": corpus_name(table, report),
        "findings": findings(table),
        "scores": score_grid(table),
        "verdicts": _verdicts(table),
        "notes": notes(table),
        "paper": paper_grids(table, paper) if paper else (),
        "paper_notes": paper_notes(table, report.recipe) if report.recipe and paper else (),
        "plots": [group for group in plots if group],
        "types": type_grid(table) if table.support else None,
        "errors": [kind_grid(table, errors), part_grid(table, errors)] if any(errors.rows) else [],
        "confusions": confusion_grids(table, errors),
        "error_notes": error_notes(errors),
        "others": other_files_grid(table),
        "runs": run_grid(table),
        "signature": table.signature.split("|"),
    }


def _verdicts(table: Table) -> dict[tuple[int, int], str]:
    """Choose the colours of the differences whose interval excludes 0; their sign shows the same."""
    column = score_grid(table).header.index(DIFFERENCE)
    found = {}
    for number, row in enumerate(table.rows):
        # The difference of one seed may be luck, and one to a base that has learnt nothing is no merit.
        several = row.difference and len(row.difference.seeds) > 1 and not row.dead
        if row.difference and several and (row.difference.low > 0 or row.difference.high < 0):
            found[number, column] = "good" if row.difference.low > 0 else "bad"
    return found


def _styles(table: Table) -> dict[str, int]:
    """Number the style of each line. Styles are few, so lines of the learning curve come first."""
    sizes: dict[str, set[int]] = defaultdict(set)
    for row in table.rows:
        sizes[_line_name(row, table)].add(row.sentences)
    ordered = sorted(sizes, key=lambda name: len(sizes[name]) == 1)
    return {name: style for style, name in enumerate(ordered)}


def _line_name(row: Row, table: Table) -> str:
    """Name the line of a row.

    A line joins the sizes of one setting, each at the most frequent epochs of that size, so that lines can
    be compared at each size; rows with other epochs are separate lines.
    """
    counts = Counter(other.epochs for other in table.rows if other.sentences == row.sentences)
    sizes = {(other.epochs, other.sentences) for other in table.rows}
    elsewhere = Counter(epochs for epochs, _ in sizes)
    usual = max(counts, key=lambda epochs: (counts[epochs], elsewhere[epochs], epochs))
    return row.name if row.epochs == usual else f"{row.name}, {row.epochs} epochs"


def _learning_curve(table: Table, styles: dict[str, int]) -> dict[str, object] | None:
    """Plot F1 of base and +BAN, and the lift, over the number of training sentences.

    A line has two sizes or more; models of one size are only in the table.
    """
    by_name: dict[str, list[Row]] = defaultdict(list)
    for row in table.rows:
        by_name[_line_name(row, table)].append(row)
    lines = {name: rows for name, rows in by_name.items() if len({row.sentences for row in rows}) > 1}
    if not lines:
        return None
    drawn = [row for rows in lines.values() for row in rows]
    sizes = sorted({row.sentences for row in drawn})
    series = [
        Series(name, styles[name], tuple(_f1_point(row) for row in rows)) for name, rows in lines.items()
    ]
    gains = [
        Series(name, styles[name], points)
        for name, rows in lines.items()
        if (points := tuple(_lift_point(r.sentences, r.difference) for r in rows if r.difference))
    ]
    x_label = "training sentences (logarithmic)"
    deviation = f"± standard deviation over {_seed_count(drawn)}"
    epochs = sorted({row.epochs for row in drawn})
    joined = f"; trained {epochs[0]} to {epochs[-1]} epochs" if len(epochs) > 1 else ""
    charts = [
        (
            _caption("Test F1 by training sentences", series, deviation) + joined,
            line_chart(series, title="Test F1 by training sentences", x_label=x_label, y_label="test F1",
                       x_ticks=sizes),
        )
    ]  # fmt: skip
    if gains:
        charts.append((
            _caption("Lift over the base by training sentences", gains, INTERVAL) + joined,
            line_chart(gains, title="Lift by training sentences", x_label=x_label, y_label="points of F1",
                       x_ticks=sizes),
        ))  # fmt: skip
    return _plots("Learning curve", charts, series)


def _lift_by_translator(table: Table) -> dict[str, object] | None:
    """Plot the lift over translator quality: a line for each model whose rows differ in the translator."""
    charts: list[tuple[str, Markup]] = []
    shown: dict[str, Series] = {}
    qualities: dict[str, Callable[[StoreLineage], float | None]] = {
        "BLEU of the translator": lambda origin: origin.bleu,
        "alignment error rate of A": lambda origin: origin.aer,
    }
    for label, quality in qualities.items():
        lines: dict[str, list[Point]] = defaultdict(list)
        for row in table.rows:
            x = quality(table.origin(row))
            if row.difference and x is not None:
                lines[_translated_name(row)].append(_lift_point(x, row.difference))
        lines = {name: points for name, points in lines.items() if len({p.x for p in points}) > 1}
        if not lines:
            continue
        names = dict.fromkeys([*shown, *lines])
        series = [
            Series(name, list(names).index(name), tuple(sorted(points, key=lambda p: p.x)))
            for name, points in lines.items()
        ]
        shown |= {line.name: line for line in series}
        title = f"Lift by {label}"
        chart = line_chart(series, title=title, x_label=label, y_label="points of F1")
        charts.append((_caption(title, series, INTERVAL), chart))
    if not charts:
        return None
    return _plots("Lift and translator quality", charts, shown.values())


def _translated_name(row: Row) -> str:
    """Name a row without its translator."""
    setting = [part for part in row.setting if not part.startswith(("store=", "translator.checkpoint="))]
    return ", ".join([row.model, *setting, f"{row.sentences:,} sentences", f"{row.epochs} epochs"])


def _f1_point(row: Row) -> Point:
    measure = row.measures[OVERALL]
    mean, spread = 100 * measure.mean, 100 * (measure.deviation or 0.0)
    return Point(row.sentences, mean, mean - spread, mean + spread)


def _lift_point(x: float, difference: Difference) -> Point:
    return Point(x, 100 * difference.value, 100 * difference.low, 100 * difference.high)


def _seed_count(rows: Sequence[Row]) -> str:
    fewest, most = min(len(row.seeds) for row in rows), max(len(row.seeds) for row in rows)
    if fewest == most:
        return "one seed" if most == 1 else f"{most} seeds"
    return f"{fewest} to {most} seeds"


def _training_curves(table: Table, styles: dict[str, int]) -> dict[str, object] | None:
    """Plot dev F1 after each epoch, mean and range over the seeds; one plot for each size."""
    charts: list[tuple[str, Markup]] = []
    shown: dict[str, Series] = {}
    for size in sorted({row.sentences for row in table.rows}):
        rows = [row for row in table.rows if row.sentences == size]
        series = [
            Series(name, styles[name], points)
            for row in rows
            if (points := _mean_curve(row))
            for name in [_line_name(row, table)]
        ]
        if not series:
            continue
        shown |= {line.name: line for line in series}
        title = f"Dev F1 by epoch, {size:,} training sentences"
        caption = _caption(f"{title}, mean over {_seed_count(rows)}", series, "range")
        charts.append((caption, line_chart(series, title=title, x_label="epoch", y_label="dev F1")))
    if not charts:
        return None
    return _plots("Training curves", charts, shown.values())


def _mean_curve(row: Row) -> tuple[Point, ...]:
    curves = [run.curve for run in row.runs]
    epochs = min(map(len, curves))
    columns = [[100 * curve[epoch] for curve in curves] for epoch in range(epochs)]
    return tuple(
        Point(epoch, sum(values) / len(values), min(values), max(values))
        for epoch, values in enumerate(columns, 1)
    )


def _plots(title: str, charts: list[tuple[str, Markup]], lines: Iterable[Series]) -> dict[str, object]:
    """Collect the plots below one heading, each with its caption, and the legend of their lines."""
    return {
        "title": title,
        "charts": charts,
        "legend": [(line.name, legend_line(line.style)) for line in lines],
    }


def _caption(title: str, series: Sequence[Series], spread: str) -> str:
    """Write the caption of a plot; it explains the spread only if that is drawn."""
    mark = spread_mark(series)
    return f"{title} ({mark}: {spread})" if mark else title
