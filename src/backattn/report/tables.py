"""``backattn report``: the runs of each LANG as Markdown, JSON and one self-contained page."""

import html
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from msgspec import structs

from backattn.common.atomic_files import write_text
from backattn.common.errors import BackattnError, MissingError
from backattn.common.safe_text import listed, printable
from backattn.corpus.formats import read_corpus
from backattn.experiments.grid import Share, Size, sample_sizes
from backattn.recipe import Recipe, as_json, available_recipes, load_recipe, recipe_name
from backattn.report.comparison import LangReport, Measure, Row, Table, build_tables
from backattn.report.lineage import store_origins
from backattn.report.page import page
from backattn.report.paper_comparison import missing_inputs, paper_grid, paper_notes
from backattn.report.runs import RunRecord, find_runs
from backattn.report.significance import LEVEL, RESAMPLES, SEED, Difference
from backattn.report.text_tables import (
    TextTable,
    corpus_name,
    findings,
    left_out_notes,
    notes,
    score_grid,
    type_grid,
)

# What begins or ends an element or a character's name; "< 0.001" begins none.
_MARKUP = re.compile("<(?=[A-Za-z/!?])|>|&(?=[#A-Za-z])")
_CODE = re.compile("(`(?:backattn|store=)[^`]*`)|`")
_BACKTICK = r"\u0060"


@dataclass(frozen=True, eq=False)
class ReportFiles:
    """What ``backattn report`` says.

    :param written: the files, LANG by LANG: Markdown, JSON, HTML; none where only some runs were asked for,
        or another recipe to tell them beside.
    """

    langs: tuple[LangReport, ...]
    written: tuple[Path, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; F1 in [0, 1]."""
        return {
            "langs": {report.lang: lang_json(report) for report in self.langs},
            "written": [str(path) for path in self.written],
        }

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each run that is damaged and therefore in no table; for standard error.

        The report is made all the same, and its exit status is 0: no number in it depends on them.
        """
        return tuple(f"not counted: {run.reason}" for report in self.langs for run in report.damaged)

    def to_text(self) -> str:
        """Markdown, and where the files are."""
        texts = [markdown(report).rstrip("\n") for report in self.langs]
        if self.written:
            texts.append("\n".join(printable(f"Written: {path}") for path in self.written))
        return "\n\n".join(texts)


def make_report(
    langs: Sequence[str], cache: Path, *, overrides: Sequence[str] = (), sizes: Sequence[Size] = ()
) -> ReportFiles:
    """Read the runs of each LANG, compare, and write ``cache/<lang>/report/report.{md,json,html}``.

    Nothing is written unless every LANG has a run. The runs alone make the tables; the recipe, where its
    file is at hand, adds the paper's figures.

    :param langs: names of recipes, or paths of their files.
    :param overrides: ``key=value`` texts: what the rows are told beside is the recipe with these values.
    :param sizes: only runs of so many training sentences. With either of these two nothing is written: the
        files always hold all runs, beside the recipe as it is.
    :raises MissingError: a LANG has no finished run (of these sizes); says what its recipe needs that is not
        here.
    :raises RecipeError: a LANG is no name of a recipe, or its recipe cannot be read.
    :raises ModelError: two folders hold the same run, or all runs of a LANG are damaged.
    """
    named = {recipe_name(lang): lang for lang in reversed(langs)}
    names = dict.fromkeys(map(recipe_name, langs))
    reports = tuple(_lang_report(name, _recipe(named[name], overrides), cache, sizes) for name in names)
    if sizes or overrides:
        return ReportFiles(reports, ())
    return ReportFiles(reports, tuple(path for report in reports for path in _write(report, cache)))


def markdown(report: LangReport) -> str:
    """The tables of one LANG as Markdown."""
    blocks = []
    for table in report.tables:
        blocks.append(f"## {_prose(report.lang + corpus_name(table, report))}")
        blocks.append(_grid_markdown(score_grid(table)))
        blocks.append("\n".join(f"- {_prose(line)}" for line in (*findings(table), *notes(table))))
        if table.support:
            grid = type_grid(table)
            blocks += [f"{grid.title}:", _grid_markdown(grid)]
        if report.recipe and report.recipe.paper:
            grid = paper_grid(table, report.recipe.paper)
            lines = "\n".join(f"- {_prose(line)}" for line in paper_notes(table, report.recipe))
            blocks += [f"{_prose(grid.title)}:", _grid_markdown(grid), lines]
        blocks.append(f"Recipe: {_code(table.signature)}")
    blocks += map(_prose, left_out_notes(report))
    return "\n\n".join(blocks) + "\n"


def lang_json(report: LangReport) -> dict[str, Any]:
    """One LANG as plain JSON values."""
    return {
        "tables": [_table_json(table) for table in report.tables],
        "unfinished": [asdict(run) for run in report.unfinished],
        "damaged": [asdict(run) for run in report.damaged],
        "paper": as_json(report.recipe.paper) if report.recipe and report.recipe.paper else None,
        "bootstrap": {"resamples": RESAMPLES, "seed": SEED, "level": LEVEL},
    }


def _recipe(lang: str, overrides: Sequence[str]) -> Recipe | None:
    """What a LANG's recipe says now, if there is one: runs can be read anywhere."""
    try:
        return load_recipe(lang, overrides)
    except MissingError:
        if overrides:  # of what?
            raise
        return None


def _lang_report(lang: str, recipe: Recipe | None, cache: Path, sizes: Sequence[Size]) -> LangReport:
    try:
        runs = find_runs(cache, lang)
    except MissingError as error:
        needed = missing_inputs(recipe) if recipe else _recipes_here()
        raise MissingError(f"{error}; {needed}" if needed else str(error)) from None
    finished = _of_sizes(runs.finished, lang, recipe, sizes) if sizes else runs.finished
    tables = build_tables(finished, store_origins(finished), recipe, _today(recipe))
    if recipe and sizes and not any(row.whole for table in tables for row in table.rows):
        # Its rows were not asked for, and would seem to have no runs.
        recipe = structs.replace(recipe, paper=None)
    return LangReport(lang, tables, runs.unfinished, runs.damaged, recipe)


def _recipes_here() -> str:
    return f"no recipe of that name either; here are {listed(available_recipes()) or 'none'}"


def _today(recipe: Recipe | None) -> str:
    """Digest of the recipe's corpus; empty where it cannot be read."""
    try:
        return read_corpus(recipe.corpus).digest if recipe else ""
    except BackattnError:
        return ""


def _of_sizes(
    runs: Sequence[RunRecord], lang: str, recipe: Recipe | None, sizes: Sequence[Size]
) -> Sequence[RunRecord]:
    """Those of so many training sentences; only shares ask how many there are.

    :raises MissingError: there is none.
    """
    shares = any(isinstance(size, Share) for size in sizes)
    training = len(read_corpus((recipe or load_recipe(lang)).corpus).train) if shares else 0
    default = recipe.tagger.sentences if recipe else "all"  # what `train --sentences all` takes
    wanted = sample_sizes([default if size == "all" else size for size in sizes], training)
    kept = [run for run in runs if run.sentences in wanted or (run.whole and "all" in wanted)]
    if not kept:
        there = ", ".join(map(str, sorted({run.sentences for run in runs})))
        asked = ", ".join(map(str, wanted))
        raise MissingError(f"--sentences: no finished run of {lang} has {asked} sentences; there are {there}")
    return kept


def _write(report: LangReport, cache: Path) -> tuple[Path, ...]:
    folder = cache / report.lang / "report"
    texts = {
        folder / "report.md": markdown(report),
        folder / "report.json": printable(
            json.dumps(lang_json(report), ensure_ascii=False, indent=1), keep="\n"
        )
        + "\n",
        folder / "report.html": page(report),
    }
    for path, text in texts.items():
        write_text(path, text)
    return tuple(texts)


def _grid_markdown(grid: TextTable) -> str:
    """A table with aligned columns: as easy to read in a terminal as on a page."""
    cells = [[_cell(text) for text in row] for row in (grid.header, *grid.rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(grid.header))]

    def line(row: Sequence[str]) -> str:
        padded = (
            text.ljust(width) if column in grid.text_columns else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )  # fmt: skip
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * width if column in grid.text_columns else "-" * (width - 1) + ":"
        for column, width in enumerate(widths)
    ]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])])


def _cell(text: str) -> str:
    """Foreign text as the cell of a table."""
    return _inert(re.sub(r"[\\|`*]", r"\\\g<0>", text.replace("\n", " ")))


def _prose(text: str) -> str:
    """A sentence of ours with foreign text in it: only our own commands and keys stand as code."""
    return _inert(_CODE.sub(lambda found: found[1] or r"\`", text.replace("\n", " ")))


def _code(text: str) -> str:
    """Foreign text as code, which nothing in it can end."""
    return f"`{_inert(text).replace('`', _BACKTICK)}`"


def _inert(text: str) -> str:
    """Text of which Markdown makes no element of HTML, no link and no picture."""
    escaped = _MARKUP.sub(lambda found: html.escape(found[0]), printable(text))
    return escaped.replace("](", r"]\(")


def _table_json(table: Table) -> dict[str, Any]:
    return {
        "corpus": table.corpus,
        "earlier": table.earlier,
        "support": dict(table.support),
        "signature": table.signature,
        "common": list(table.common),
        "rows": [
            {
                **_row_json(row),
                "made_with": dict(table.origin(row).keys),
                "bleu": table.origin(row).bleu,
                "aer": table.origin(row).aer,
            }
            for row in table.rows
        ],
    }


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "sentences": row.sentences,
        "inputs": row.inputs,
        "model": row.model,
        "base": row.base,
        "setting": list(row.setting),
        "epochs": row.epochs,
        "seeds": list(row.seeds),
        "test_f1": {name: _measure_json(measure) for name, measure in row.measures.items()},
        "types_f1": {name: _measure_json(measure) for name, measure in row.types.items()},
        "difference": _difference_json(row.difference) if row.difference else None,
        "from_recipe": _difference_json(row.from_recipe) if row.from_recipe else None,
        "remark": row.remark,
        "runs": [
            {
                "folder": run.folder.name,
                "seed": run.seed,
                "dev_f1": run.dev_f1,
                "best_epoch": run.best_epoch,
                "seconds": run.seconds,
                "device": run.device,
                "signature": run.signature,
            }
            for run in row.runs
        ],
    }


def _difference_json(difference: Difference) -> dict[str, Any]:
    return {**asdict(difference), "seeds": list(difference.seeds)}


def _measure_json(measure: Measure) -> dict[str, Any]:
    return {"mean": measure.mean, "deviation": measure.deviation, "values": list(measure.values)}
