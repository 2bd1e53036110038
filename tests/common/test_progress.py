"""A long work under nohup says how far it is; on a terminal a bar does."""

import io
import re
import sys
import time
from pathlib import Path

import pytest
from tqdm import tqdm

from backattn.common.progress import bar_disabled, log_line, time_left
from backattn.experiments.grid import RunGrid
from backattn.experiments.runs import train_grid
from backattn.features import build
from fakes import make_corpus, make_recipe
from users_folder import build_stores, make_home


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


@pytest.mark.parametrize(
    ("elapsed", "done", "total", "expected"),
    [
        (10, 1, 2, "10 s left"),
        (60, 1, 3, "2 min left"),
        (7200, 2, 3, "60 min left"),
        (7200, 1, 3, "4.0 h left"),
        (5, 7, 7, "0 s left"),
    ],
)
def test_the_rest_takes_its_share_of_the_time(elapsed: int, done: int, total: int, expected: str) -> None:
    assert time_left(time.monotonic() - elapsed, done, total) == expected


def test_stage_one_tells_its_rate_and_the_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_home(tmp_path, monkeypatch)
    monkeypatch.setattr(build, "_LOG_SECONDS", -1)
    monkeypatch.setattr(build, "SHARD_TOKENS", 1)
    build_stores()
    lines = [line for line in capsys.readouterr().err.split("\n") if line.startswith("translate: ")]
    for done, line in enumerate(lines, 1):
        assert re.fullmatch(rf"translate: {done} of 4 sentences, [0-9.]+ sentences/s, \d+ s left", line)
    assert len(lines) == 4
    assert lines[-1].endswith(" 0 s left")
