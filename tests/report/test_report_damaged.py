"""One damaged run must not take the report from the others: it is named, and they are compared."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from run_folders import make_run

from backattn.common.errors import MissingError, ModelError, RecipeError
from backattn.common.safe_text import quoted
from backattn.report.tables import ReportFiles, make_report

pytestmark = pytest.mark.slow


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "es" / "runs"
    folder.mkdir(parents=True)
    return folder


def figures(report: ReportFiles) -> Any:
    """All numbers of a report."""
    (lang,) = report.to_json()["langs"].values()
    return lang["tables"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b"\xff", b"[" * 100_000, b'{"format": 1}', b'{"format": 9}', b"9" * 5000,
     b"\x1b[31m"],
    ids=quoted,
)  # fmt: skip
def test_the_others_are_reported_and_it_is_named(runs: Path, tmp_path: Path, content: bytes) -> None:
    for inputs in ("words", "words+transfer"):
        make_run(runs, inputs, 1)
    expected = figures(make_report(["es"], tmp_path))
    bad = runs / "bad"
    bad.mkdir()
    (bad / "run.json").write_bytes(content)
    report = make_report(["es"], tmp_path)
    assert figures(report) == expected
    (warning,) = report.warnings
    assert warning.startswith("not counted: ")
    assert str(bad) in warning
    assert warning.isprintable()
    assert "remove the folder and train again" in warning
    assert "Not counted: 1 damaged run: bad (" in report.to_text()
    for name in ("report.md", "report.html"):
        assert "Not counted: 1 damaged run: bad (" in (tmp_path / "es/report" / name).read_text("utf-8")
    saved = json.loads((tmp_path / "es/report/report.json").read_text("utf-8"))
    assert [run["name"] for run in saved["damaged"]] == ["bad"]


def test_whole_runs_give_no_warning(runs: Path, tmp_path: Path) -> None:
    make_run(runs)
    report = make_report(["es"], tmp_path)
    assert report.warnings == ()
    assert "damaged run" not in report.to_text()


def test_without_any_whole_run_the_damage_is_the_error(runs: Path, tmp_path: Path) -> None:
    (runs / "started").mkdir()
    with pytest.raises(MissingError, match="no finished run, 1 not finished"):
        make_report(["es"], tmp_path)
    (make_run(runs) / "run.json").write_text("{")
    with pytest.raises(ModelError, match=r"run\.json: damaged .*remove the folder and train again"):
        make_report(["es"], tmp_path)
    assert not (tmp_path / "es/report").exists()


@pytest.mark.parametrize("name", ["run.json", "epochs.jsonl"])
def test_what_is_no_file_is_not_waited_for(runs: Path, tmp_path: Path, name: str) -> None:
    make_run(runs)
    bad = make_run(runs, seed=2)
    (bad / name).unlink()
    os.mkfifo(bad / name)
    (runs / "started").mkdir()
    os.mkfifo(runs / "started" / "epochs.jsonl")
    (warning,) = make_report(["es"], tmp_path).warnings
    assert str(bad) in warning


@pytest.mark.parametrize("lang", ["", ".", "..", "../es", "a/b", "x\n", "..toml", "\x1b[31m"])
def test_a_lang_is_no_path(tmp_path: Path, lang: str) -> None:
    with pytest.raises(RecipeError, match=r"LANG .*: expected the name of a recipe"):
        make_report([lang], tmp_path)
