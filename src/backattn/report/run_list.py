"""List the runs of each LANG, the best on dev first (``backattn runs``), and choose one of them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backattn.common.atomic_files import is_file
from backattn.common.errors import MissingError
from backattn.common.safe_text import printable
from backattn.recipe import recipe_name
from backattn.recipe.schema import NAME
from backattn.report.runs import RunRecord, Runs, find_runs, scan_runs
from backattn.tagger.run import RunFolder, require_run

# Runs that a message names.
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class RunList:
    """The runs of several LANGs."""

    langs: dict[str, Runs]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; F1 in [0, 1]."""
        return {
            lang: {
                "finished": [_row(run) for run in by_dev_f1(runs)],
                "unfinished": [{"name": run.name, "epochs": run.epochs} for run in runs.unfinished],
                "damaged": [{"name": run.name, "reason": run.reason} for run in runs.damaged],
            }
            for lang, runs in self.langs.items()
        }

    def to_text(self) -> str:
        """A table of all runs; a line for each LANG with unfinished ones, and for each damaged one."""
        rows = [[lang, *_cells(_row(run))] for lang, runs in self.langs.items() for run in by_dev_f1(runs)]
        head = ["LANG", "dev F1", "test F1", "model", "inputs", "sentences", "seed", "run"]
        widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head) - 1)]
        lines = [_line(row, widths) for row in [head, *rows]] if rows else []
        for lang, runs in self.langs.items():
            if runs.unfinished:
                started = ", ".join(f"{run.name} ({run.epochs} epochs)" for run in runs.unfinished)
                lines.append(f"{lang}: not finished, `backattn train` goes on: {started}")
            lines += [f"{lang}: not counted: {run.reason}" for run in runs.damaged]
        return "\n".join(map(printable, lines))


def list_runs(cache: Path, lang: str | None) -> RunList:
    """Read the runs of a LANG, or of all below the cache.

    :raises MissingError: there is no run, not even a damaged or an unfinished one.
    :raises RecipeError: LANG is not the name or path of a recipe.
    """
    langs = [recipe_name(lang)] if lang else sorted(path.parent.name for path in cache.glob("*/runs"))
    found = {name: scan_runs(cache, name) for name in langs}
    found = {name: runs for name, runs in found.items() if runs.finished or runs.unfinished or runs.damaged}
    if not found:
        place = cache / langs[0] / "runs" if lang else cache
        name = langs[0] if lang else "LANG"
        raise MissingError(f"{place}: no finished run; train some with `backattn train {name}`")
    return RunList(found)


def by_dev_f1(runs: Runs) -> list[RunRecord]:
    """The finished runs, the one with the best dev F1 first; equal ones by name."""
    return sorted(runs.finished, key=lambda run: (-run.dev_f1, run.folder.name))


def named_run(run: Path, cache: Path) -> Path:
    """Resolve the name of a run to its folder, if only one below the cache has it; keep any other path."""
    # os.path returns False for a name that is too long; Path raises.
    if os.path.exists(run) or len(run.parts) != 1:
        return run
    found = [runs / run for runs in cache.glob("*/runs") if os.path.isdir(runs / run)]
    return found[0] if len(found) == 1 else run


def run_folder(run: Path, cache: Path, *, best: bool) -> Path:
    """Find the folder of a run that is given by its folder, its name, or a LANG.

    :raises MissingError, ModelError: as :func:`chosen_run`.
    """
    found = chosen_run(named_run(run, cache), cache, best=best)
    return found if isinstance(found, Path) else found.folder


def chosen_run(run: Path, cache: Path, *, best: bool) -> RunRecord | Path:
    """Resolve the argument RUN of a command, which may be a LANG whose runs are below the cache.

    :param run: folder of a run, or a LANG: its name, or the path of its recipe.
    :param best: take the run of the LANG with the best dev F1.
    :return: the folder as it is; of a LANG, the best run.
    :raises MissingError: it is a LANG, and ``best`` was not asked for: names its runs; or there is none.
    :raises ModelError: all runs of the LANG are damaged.
    """
    lang = run.stem if run.suffix == ".toml" else str(run)
    if is_file(RunFolder(run).manifest) or not (NAME.fullmatch(lang) and (cache / lang / "runs").is_dir()):
        if best:
            raise MissingError(
                f"--best: {run} is not a LANG with runs below {cache}; name one that `backattn runs` lists, "
                "or leave --best out"
            )
        require_run(run)
        return run
    found = by_dev_f1(find_runs(cache, lang))
    if best:
        return found[0]
    named = ", ".join(f"{one.folder.name} ({100 * one.dev_f1:.2f})" for one in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more (`backattn runs {lang}`)" if len(found) > _SHOWN else ""
    raise MissingError(
        f"{lang}: is a LANG, expected a run; take the best on dev with --best, or name one of (dev F1): "
        f"{named}{more}"
    )


def _row(run: RunRecord) -> dict[str, Any]:
    return {
        "dev_f1": run.dev_f1,
        "test_f1": run.test.overall.f1,
        "model": run.model,
        "inputs": run.inputs,
        "sentences": run.sentences,
        "seed": run.seed,
        "folder": str(run.folder),
    }


def _cells(row: dict[str, Any]) -> list[str]:
    return [f"{100 * value:.2f}" if name.endswith("_f1") else str(value) for name, value in row.items()]


def _line(cells: list[str], widths: list[int]) -> str:
    texts = {0, 3, 4}
    padded = (
        cell.ljust(width) if column in texts else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells[:-1], widths, strict=True))
    )
    return "  ".join([*padded, cells[-1]])
