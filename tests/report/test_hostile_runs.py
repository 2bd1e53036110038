"""Runs by strangers: any JSON value at any place of a run's files gives a result or a line."""

import json
import shutil
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_folders import make_run

from backattn.common.errors import BackattnError
from backattn.report.runs import find_runs
from backattn.report.tables import make_report
from backattn.tagger.run import read_run
from hostile import JSON_VALUES, with_odd_value

pytestmark = pytest.mark.slow

DEEP: Any = 0
for _ in range(300):
    DEEP = [DEEP]
VALUES = JSON_VALUES | st.sampled_from(
    [0, -1, 2**62, 10**400, 1e308, "\ud800", "\x1b[31m", {}, [], [[]], DEEP, {"a": DEEP}]
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two good runs and a third one, ``odd``, that a test may break."""
    cache = tmp_path_factory.mktemp("cache")
    for seed in (1, 2):
        make_run(cache / "es/runs", "words", seed, recipe={}, groups=None)
    third = make_run(cache / "es/runs", "words+transfer", recipe={"tagger": {"characters": "cnn"}})
    third.rename(cache / "whole")
    return cache


def check(cache: Path, name: str, text: str) -> None:
    """The odd run is read or named; the others stay. One that is refused alone is named in the report."""
    odd = cache / "es/runs/odd"
    shutil.rmtree(odd, ignore_errors=True)
    shutil.copytree(cache / "whole", odd)
    (odd / name).write_text(text, "utf-8", "surrogatepass")
    try:
        run = read_run(odd)
        refused = False
    except BackattnError as error:
        refused = True
        assert str(error).isprintable()  # noqa: PT017
        assert str(odd) in str(error)  # noqa: PT017
    else:
        assert run.inputs
        assert (run.sentences > 0, run.seed >= 0) == (True, True)
    runs = find_runs(cache, "es")
    assert not refused or "odd" in {run.name for run in runs.damaged}
    report = make_report(["es"], cache)
    assert json.dumps(report.to_json(), allow_nan=False)
    assert report.to_text()
    assert {run.folder.name for run in runs.finished} >= {
        run.name for run in (cache / "es/runs").iterdir()
    } - {"odd"}
    assert len(runs.finished) + len(runs.damaged) == 3
    assert len(report.warnings) == len(runs.damaged)


@given(data=st.data(), value=VALUES, name=st.sampled_from(["run.json", "recipe.json", "epochs.jsonl"]))
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_any_value_anywhere(cache: Path, data: st.DataObject, value: Any, name: str) -> None:
    lines = [json.loads(line) for line in (cache / "whole" / name).read_text("utf-8").splitlines()]
    check(cache, name, "".join(json.dumps(line) + "\n" for line in with_odd_value(lines, data, value)))


@pytest.mark.parametrize(
    ("way", "value"),
    [
        (("request", "sentences"), 0),
        (("request", "sentences"), -1),
        (("request", "transfer"), None),
        (("request", "transfer"), 3),
        (("request", "transfer"), ["a"]),
        (("request", "inputs"), ["words"]),
        (("request", "tagger", "epochs"), 0),
        (("request", "tagger", "hidden"), DEEP),
        (("request", "corpus"), 3),
        (("request", "embeddings"), {"elmo": "x"}),
        (("request", "seed"), True),
        (("best_epoch",), 0),
        (("best_epoch",), 1.5),
        (("seconds",), 1e400),
        (("environment",), {"device": DEEP}),
        (("test", "sentences"), []),
        (("test", "sentences"), {}),
        (("test", "sentences"), [[1, 2, 3, 4]]),
        (("test", "sentences"), [[1.5, 0, 0]]),
        (("test", "sentences"), [[2**63, 0, 0]]),
        (("test", "types"), {"LOC": {"tp": 1e308, "fp": 0, "fn": 0}}),
        (("test", "group_sentences"), {"NE": [[1, 0, 0]]}),
        (("test", "signature"), 3),
        (("dev", "signature"), "\ud800"),
    ],
)
def test_what_ended_a_report_is_a_damaged_run(cache: Path, way: tuple[str, ...], value: Any) -> None:
    table = json.loads((cache / "whole/run.json").read_text("utf-8"))
    reduce(getitem, way[:-1], table)[way[-1]] = value
    check(cache, "run.json", json.dumps(table))
    assert [run.name for run in find_runs(cache, "es").damaged] == ["odd"]


def test_a_recipe_without_an_english_tagger_does_not_end_a_report(cache: Path) -> None:
    table = json.loads((cache / "whole/recipe.json").read_text("utf-8"))
    check(cache, "recipe.json", json.dumps({**table, "english": None}))


def test_a_run_that_cannot_be_read_hides_no_other(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from backattn.report import runs

    check(cache, "run.json", (cache / "whole/run.json").read_text("utf-8"))

    def read(folder: Path) -> Any:
        if folder.name == "odd":
            raise PermissionError(13, "Permission denied", str(folder))
        return whole(folder)

    whole = runs.read_record
    monkeypatch.setattr(runs, "read_record", read)
    (warning,) = make_report(["es"], cache).warnings
    assert "odd: cannot be read (Permission denied)" in warning


def test_types_without_number_do_not_hold_up_the_report(tmp_path: Path) -> None:
    """The report compares each with all others."""
    odd = make_run(tmp_path / "es/runs", types={f"T{number}": (1, 0, 0) for number in range(3001)})
    make_run(tmp_path / "es/runs", seed=2)
    runs = find_runs(tmp_path, "es")
    assert (len(runs.finished), [run.name for run in runs.damaged]) == (1, [odd.name])
    assert "3,001 entity types, expected at most 3,000" in runs.damaged[0].reason
