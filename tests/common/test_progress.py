"""A long work under nohup says how far it is; on a terminal a bar does."""

import io
import sys
from pathlib import Path

import pytest
from tqdm import tqdm

from backattn.common.progress import bar_disabled, log_line
from backattn.experiments.grid import RunGrid
from backattn.experiments.runs import train_grid
from fakes import make_corpus, make_recipe


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("progress", [True, False])
@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_or_lines_and_never_both(
    monkeypatch: pytest.MonkeyPatch, progress: bool, terminal: bool
) -> None:
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    for _ in tqdm(range(3), disable=bar_disabled(progress), file=stream, desc="bar"):
        log_line("line", progress)
    assert ("bar" in stream.getvalue()) == (progress and terminal)
    assert stream.getvalue().count("line") == (3 if progress and not terminal else 0)


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_run_of_a_grid_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], jobs: int
) -> None:
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path))
    recipe = make_recipe(tagger={"epochs": 1, "hidden": 4, "word_dimensions": 4})
    corpus = make_corpus(["anna singt in ulm", "ben singt"], test=["emil singt"])
    for expected in (3, 0):  # the second time, nothing is to do
        runs = train_grid(
            recipe, corpus, RunGrid(("words",), ("all",), (1, 2, 3)), device="cpu", jobs=jobs
        ).whole()
        told = capsys.readouterr().err
        assert [told.count(run.folder.name) for run in runs] == [int(expected > 0)] * 3
