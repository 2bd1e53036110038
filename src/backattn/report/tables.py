"""Write the runs of each LANG as Markdown, JSON and one self-contained page (``backattn report``)."""

import html
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from msgspec import structs

from backattn.common.atomic_files import write_text
from backattn.common.errors import BackattnError, MissingError, RecipeError
from backattn.common.safe_text import listed, printable
from backattn.corpus import Corpus
from backattn.corpus.formats import read_corpus
from backattn.experiments.grid import Share, Size, sample_sizes
from backattn.recipe import Recipe, as_json, available_recipes, load_recipe, recipe_name
from backattn.report.comparison import LangReport, Measure, OtherFile, Row, Table, build_tables
from backattn.report.error_tables import error_notes, kind_grid, part_grid
from backattn.report.kept_evaluations import other_files_grid, with_other_files
from backattn.report.lineage import store_origins
from backattn.report.markup import LIST_PAGE, REPORT_PAGE
from backattn.report.page import page
from backattn.report.paper_comparison import missing_inputs, paper_grids, paper_lines, paper_notes
from backattn.report.row_errors import table_errors
from backattn.report.runs import RunRecord, find_runs
from backattn.report.significance import LEVEL, RESAMPLES, SEED, Difference
from backattn.report.systems import beside_systems, system_json
from backattn.report.text_tables import (
    TextTable,
    corpus_name,
    findings,
    left_out_notes,
    notes,
    score_grid,
    type_grid,
)

# Characters that begin or end an element or a character reference; the "<" of "< 0.001" does not.
_MARKUP = re.compile("<(?=[A-Za-z/!?])|>|&(?=[#A-Za-z])")
_CODE = re.compile("(`(?:backattn|store=)[^`]*`)|`")
_BACKTICK = r"\u0060"


@dataclass(frozen=True, eq=False)
class ReportFiles:
    """Result of ``backattn report``.

    :param written: files of each LANG: Markdown, JSON, HTML; none with overrides or sizes.
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
        """Lines for standard error, one for each damaged run or evaluation, which no table contains.

        The report is written and the exit status is 0, because no number depends on these.
        """
        damaged = [run.reason for report in self.langs for run in report.damaged]
        files = [
            line for report in self.langs for table in report.tables for line in table.damaged_evaluations
        ]
        return tuple(f"not counted: {reason}" for reason in (*damaged, *files))

    def to_text(self) -> str:
        """Markdown, and the paths of the files."""
        texts = [markdown(report).rstrip("\n") for report in self.langs]
        if self.written:
            texts.append("\n".join(printable(f"Written: {path}") for path in self.written))
        return "\n\n".join(texts)


def make_report(
    langs: Sequence[str],
    cache: Path,
    *,
    overrides: Sequence[str] = (),
    sizes: Sequence[Size] = (),
    systems: Sequence[str] = (),
) -> ReportFiles:
    """Read the runs of each LANG, compare, and write ``cache/<lang>/report/report.{md,json,html}``.

    Nothing is written unless every LANG has a run. The tables need only the runs; the recipe, if there is a
    file of it, adds the paper's figures.

    :param langs: names of recipes, or paths of their files.
    :param overrides: ``key=value`` texts that change the recipe with which the rows are compared.
    :param sizes: numbers of training sentences, to select runs. With overrides or sizes nothing is written:
        the files always hold all runs, compared with the unchanged recipe.
    :param systems: ``NAME=FILE`` texts, predictions of other systems of the test split of the one LANG.
    :raises MissingError: a LANG has no finished run (of these sizes); names what its recipe needs and lacks.
    :raises RecipeError: a LANG is not the name of a recipe, or its recipe cannot be read.
    :raises ModelError: all runs of a LANG are damaged.
    """
    named = {recipe_name(lang): lang for lang in reversed(langs)}
    names = dict.fromkeys(map(recipe_name, langs))
    if systems and len(names) > 1:
        raise RecipeError(
            f"--with: predictions are of one corpus, found {len(names)} LANGs; report them one by one"
        )
    recipes = {name: _recipe(named[name], overrides) for name in names}
    reports = tuple(_lang_report(name, recipe, cache, sizes) for name, recipe in recipes.items())
    if systems:
        reports = (_beside(reports[0], recipes[reports[0].lang], systems),)
    if sizes or overrides:
        return ReportFiles(reports, ())
    return ReportFiles(reports, tuple(path for report in reports for path in _write(report, cache)))


def markdown(report: LangReport) -> str:
    """Format the tables of one LANG as Markdown."""
    blocks = []
    for table, errors in zip(report.tables, report.errors, strict=True):
        blocks.append(f"## {_prose(report.lang + corpus_name(table, report))}")
        blocks.append(_grid_markdown(score_grid(table)))
        blocks.append("\n".join(f"- {_prose(line)}" for line in (*findings(table), *notes(table))))
        if table.support:
            grid = type_grid(table)
            blocks += [f"{grid.title}:", _grid_markdown(grid)]
        if any(errors.rows):
            for grid in (kind_grid(table, errors), part_grid(table, errors)):
                blocks += [f"{grid.title}:", _grid_markdown(grid)]
            blocks.append("\n".join(f"- {_prose(line)}" for line in error_notes(errors)))
        others = other_files_grid(table)
        if others:
            blocks += [f"{_prose(others.title)}:", _grid_markdown(others)]
        if report.recipe and report.recipe.paper:
            for grid in paper_grids(table, report.recipe.paper):
                blocks += [f"{_prose(grid.title)}:", _grid_markdown(grid)]
            blocks.append("\n".join(f"- {_prose(line)}" for line in paper_notes(table, report.recipe)))
        blocks.append(f"Recipe: {_code(table.signature)}")
    blocks += map(_prose, left_out_notes(report))
    return "\n\n".join(blocks) + "\n"


def lang_json(report: LangReport) -> dict[str, Any]:
    """Convert the report of one LANG to plain JSON values."""
    paper = report.recipe.paper if report.recipe else None
    return {
        "tables": [
            {
                **_table_json(table),
                "errors": errors.to_json(),
                "beside_paper": [line.to_json() for line in paper_lines(table, paper)] if paper else [],
            }
            for table, errors in zip(report.tables, report.errors, strict=True)
        ],
        "unfinished": [asdict(run) for run in report.unfinished],
        "damaged": [asdict(run) for run in report.damaged],
        "paper": as_json(paper) if paper else None,
        "bootstrap": {"resamples": RESAMPLES, "seed": SEED, "level": LEVEL},
    }


def _recipe(lang: str, overrides: Sequence[str]) -> Recipe | None:
    """Load the recipe of a LANG; None without a file of it, because reports need only the runs."""
    try:
        return load_recipe(lang, overrides)
    except MissingError:
        if overrides:  # they need a recipe
            raise
        return None


def _lang_report(lang: str, recipe: Recipe | None, cache: Path, sizes: Sequence[Size]) -> LangReport:
    try:
        runs = find_runs(cache, lang)
    except MissingError as error:
        needed = missing_inputs(recipe) if recipe else _recipes_here()
        raise MissingError(f"{error}; {needed}" if needed else str(error)) from None
    finished = _of_sizes(runs.finished, lang, recipe, sizes) if sizes else runs.finished
    corpus = _corpus(recipe)
    tables = tuple(
        map(
            with_other_files,
            build_tables(finished, store_origins(finished), recipe, corpus.digest if corpus else ""),
        )
    )
    errors = tuple(table_errors([row.runs for row in table.rows], table.corpus, corpus) for table in tables)
    if recipe and sizes and not any(row.whole for table in tables for row in table.rows):
        # Its rows are not selected, and would appear as missing runs.
        recipe = structs.replace(recipe, paper=None)
    return LangReport(lang, tables, runs.unfinished, runs.damaged, recipe, errors)


def _beside(report: LangReport, recipe: Recipe | None, systems: Sequence[str]) -> LangReport:
    """Add the predictions of other systems, whose tokens are compared with those of the corpus.

    :raises MissingError: there is no file of the recipe.
    """
    recipe = recipe or load_recipe(report.lang)
    tables = beside_systems(report.tables, systems, recipe, read_corpus(recipe.corpus))
    return replace(report, tables=tables)


def _recipes_here() -> str:
    return f"no recipe of that name either; here are {listed(available_recipes()) or 'none'}"


def _corpus(recipe: Recipe | None) -> Corpus | None:
    """Read the recipe's corpus; None if it cannot be read."""
    try:
        return read_corpus(recipe.corpus) if recipe else None
    except BackattnError:
        return None


def _of_sizes(
    runs: Sequence[RunRecord], lang: str, recipe: Recipe | None, sizes: Sequence[Size]
) -> Sequence[RunRecord]:
    """Select the runs of some sizes; only shares need the size of the corpus.

    :raises MissingError: no run has one of these sizes.
    """
    shares = any(isinstance(size, Share) for size in sizes)
    training = len(read_corpus((recipe or load_recipe(lang)).corpus).train) if shares else 0
    default = recipe.tagger.sentences if recipe else "all"  # what `train --sentences all` takes
    wanted = sample_sizes([default if size == "all" else size for size in sizes], training)
    kept = [run for run in runs if run.sentences in wanted or (run.whole and "all" in wanted)]
    if not kept:
        found = ", ".join(map(str, sorted({run.sentences for run in runs})))
        expected = ", ".join(map(str, wanted))
        raise MissingError(
            f"--sentences: no finished run of {lang} has {expected} sentences; there are {found}"
        )
    return kept


def _write(report: LangReport, cache: Path) -> tuple[Path, ...]:
    folder = cache / report.lang / "report"
    texts = {
        folder / "report.md": markdown(report),
        folder / "report.json": printable(
            json.dumps(lang_json(report), ensure_ascii=False, indent=1), keep="\n"
        )
        + "\n",
        folder / REPORT_PAGE: page(report, sentences=(folder / LIST_PAGE).is_file()),
    }
    for path, text in texts.items():
        write_text(path, text)
    return tuple(texts)


def _grid_markdown(grid: TextTable) -> str:
    """Format a table with aligned columns, readable in a terminal as well."""
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
    """Escape foreign text for the cell of a table."""
    return _inert(re.sub(r"[\\|`*]", r"\\\g<0>", text.replace("\n", " ")))


def _prose(text: str) -> str:
    """Escape a sentence with foreign text in it; only commands of backattn and `store=` stay code."""
    return _inert(_CODE.sub(lambda found: found[1] or r"\`", text.replace("\n", " ")))


def _code(text: str) -> str:
    """Quote foreign text as code; a backtick in it cannot end the code."""
    return f"`{_inert(text).replace('`', _BACKTICK)}`"


def _inert(text: str) -> str:
    """Escape what Markdown would turn into an HTML element, a link or a picture."""
    escaped = _MARKUP.sub(lambda found: html.escape(found[0]), printable(text))
    return escaped.replace("](", r"]\(")


def _table_json(table: Table) -> dict[str, Any]:
    return {
        "corpus": table.corpus,
        "earlier": table.earlier,
        "support": dict(table.support),
        "signature": table.signature,
        "common": list(table.common),
        "systems": [system_json(one) for one in table.systems],
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
        "dead": row.dead,
        "dev_entities": row.dev_entities,
        "small_dev": row.small_dev,
        "other_files": [_other_file_json(one) for one in row.other_files],
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


def _other_file_json(one: OtherFile) -> dict[str, Any]:
    return {
        "file": one.file,
        "sha256": one.sha256,
        "entities": one.entities,
        "seeds": list(one.seeds),
        "f1": list(one.overall.values),
        "common_types_f1": list(one.common.values),
        "difference": _difference_json(one.lift) if one.lift else None,
        "common_types_difference": _difference_json(one.common_lift) if one.common_lift else None,
    }


def _difference_json(difference: Difference) -> dict[str, Any]:
    return {**asdict(difference), "seeds": list(difference.seeds)}


def _measure_json(measure: Measure) -> dict[str, Any]:
    return {"mean": measure.mean, "deviation": measure.deviation, "values": list(measure.values)}
