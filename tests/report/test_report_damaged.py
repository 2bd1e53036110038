"""One damaged run must not take the report from the others: it is named, and they are compared."""

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_folders import make_run

from backattn.common.errors import BackattnError, MissingError, ModelError, RecipeError
from backattn.common.safe_text import quoted
from backattn.report.runs import read_record
from backattn.report.tables import ReportFiles, make_report
from hostile import places

pytestmark = pytest.mark.slow

VALUES = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5)
    | st.lists(st.integers(-1, 3), max_size=3) | st.dictionaries(st.text(max_size=3), st.booleans())
)  # fmt: skip


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


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A cache with two runs, the folder of one, and what its run.json says."""
    cache = tmp_path_factory.mktemp("cache")
    make_run(cache / "es/runs", "words")
    folder = make_run(cache / "es/runs", "words+transfer")
    return cache, folder, json.loads((folder / "run.json").read_text("utf-8"))


@given(data=st.data(), value=VALUES)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_one_odd_value_is_taken_or_told_in_a_line(
    pair: tuple[Path, Path, dict[str, Any]], data: st.DataObject, value: Any
) -> None:
    cache, folder, whole = pair
    table = copy.deepcopy(whole)
    *parents, last = data.draw(st.sampled_from([way for way in places(table) if way]))
    part: Any = table
    for key in parents:
        part = part[key]
    if data.draw(st.booleans()):
        del part[last]
    else:
        part[last] = value
    (folder / "run.json").write_text(json.dumps(table), "utf-8")
    try:
        read_record(folder)
        taken = True
    except ModelError as error:
        taken = False
        assert str(error).isprintable()  # noqa: PT017
    try:
        report = make_report(["es"], cache)
    except BackattnError as error:  # it scores other sentences, or is the same run as the other
        assert taken
        assert str(error).isprintable()  # noqa: PT017
    else:
        assert bool(report.warnings) is not taken
        assert json.dumps(report.to_json(), allow_nan=False)
