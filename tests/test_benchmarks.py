"""`make bench` with no part named: it must not fail after an hour, or at once."""

import dataclasses
import json
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import tagger
from benchmarks.measure import Ratios, Row, table


def test_all_parts_are_measured_where_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmarks, "PARTS", ("crf",))
    monkeypatch.setattr("sys.argv", ["benchmarks", "--repeats", "1", "--out", str(tmp_path)])
    benchmarks.main()
    rows = json.loads((tmp_path / "bench.json").read_text("utf-8"))
    assert [row["part"] for row in rows] == ["CRF, forward and backward", "CRF, decoding"]
    assert all(row["ratio"]["median"] > 0 for row in rows)
    assert (tmp_path / "bench.md").read_text("utf-8") in capsys.readouterr().out


@pytest.mark.slow
def test_the_peers_of_stage_two_learn_from_what_ours_does(tmp_path: Path) -> None:
    _, corpus, recipe = tagger.labelled(60, 20)
    recipe = dataclasses.replace(recipe, hidden=32, batch=8)
    vectors = tagger.stored(tmp_path, corpus)
    like_flair = dataclasses.replace(recipe, characters="lstm")
    flair = tagger.FlairPeer(tagger.Ours(tmp_path / "flair", corpus, vectors, like_flair).setup, like_flair)
    ours = tagger.Ours(tmp_path / "torchcrf", corpus, vectors, recipe)
    plain = tagger.TorchcrfPeer(ours.setup, recipe)
    for side in (ours, flair, plain):
        for _ in range(6):
            side.epoch()
        assert 0 < side.f1() <= 1, side  # T knows three tags in four


def test_an_unknown_part_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "speed"])
    with pytest.raises(SystemExit, match="2"):
        benchmarks.main()
    assert "invalid choice: 'speed'" in capsys.readouterr().err


@pytest.mark.parametrize(("median", "reached"), [(0.79, "NO"), (0.8, "yes"), (0.95, "aim")])
def test_a_goal_that_is_missed_is_told(median: float, reached: str) -> None:
    row = Row(part="p", peer="q", unit="MB", rate=1.0, ratio=Ratios(0.1, median, 2.0), must=0.8, aim=0.95)
    assert f"| 0.8 x | 0.95 x | {reached} |" in table([row])
