"""Scores on other files, kept in runs: lifts against those of the test set and a count by hand; odd files."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import draw_counts, make_run

from backattn.report.comparison import OtherFile, Row
from backattn.report.tables import ReportFiles, make_report

COUNTS = [[2, 0, 1], [1, 1, 0], [0, 2, 3]]


def keep(run: Path, counts: Any, common: Any = None, *, name: str = "news.tsv", **values: Any) -> Path:
    """What `backattn evaluate` leaves in a run, without the values that a report does not read."""
    kept = {
        "format": 2, "file": f"/data/{name}", "sha256": "0" * 64, "counts": counts,
        "common_types_counts": counts if common is None else common, **values,
    }  # fmt: skip
    path = run / "evaluations" / f"{name}-00000000.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(kept))
    return path


def report_of(cache: Path) -> tuple[ReportFiles, tuple[Row, ...]]:
    report = make_report(["es"], cache)
    return report, report.langs[0].tables[0].rows


def only(row: Row) -> OtherFile:
    (other,) = row.other_files
    return other


def test_the_test_set_as_another_file_has_the_lift_of_the_test_set(tmp_path: Path) -> None:
    for inputs, skill in (("words", 0.5), ("words+transfer", 0.6)):
        for seed in (1, 2, 3):
            counts = draw_counts(skill, seed)
            common = counts // 2
            keep(
                make_run(tmp_path / "es/runs", inputs, seed, counts=counts), counts.tolist(), common.tolist()
            )
    report, (words, transfer) = report_of(tmp_path)
    assert transfer.difference is not None
    assert (only(words).lift, only(transfer).lift) == (None, transfer.difference)
    assert only(transfer).common_lift not in (None, transfer.difference)
    for row in (words, transfer):
        assert only(row).overall.values == pytest.approx(row.measures["Overall"].values)
        assert only(row).common.mean != only(row).overall.mean
    (lines,) = (line for line in report.to_text().split("\n\n") if "news.tsv" in line)
    cells = [cell.strip() for cell in lines.splitlines()[-1].split("|")]
    low, high = (f"{100 * border:+.2f}".replace("-", "−") for border in (
        transfer.difference.low, transfer.difference.high
    ))  # fmt: skip
    assert cells[6] == f"+{100 * transfer.difference.value:.2f} [{low}, {high}]"
    assert "[+" in (tmp_path / "es/report/report.html").read_text()
    rows = report.to_json()["langs"]["es"]["tables"][0]["rows"]
    (kept,) = rows[1]["other_files"]
    assert kept["difference"] == rows[1]["difference"]
    assert rows[0]["other_files"][0]["difference"] is None


def test_three_sentences_are_resampled_as_by_hand(tmp_path: Path) -> None:
    """There are 27 resamples, of 3.7 % each: 95 % reach from the least difference to the greatest."""
    base, system = np.array(COUNTS), np.array([[3, 0, 0], [1, 0, 0], [1, 2, 2]])
    for inputs, counts in (("words", base), ("words+transfer", system)):
        keep(make_run(tmp_path / "es/runs", inputs), counts.tolist())

    def f1(counts: np.ndarray) -> float:
        tp, fp, fn = counts.sum(0)
        return float(2 * tp / (2 * tp + fp + fn))

    drawn = [f1(system[list(rows)]) - f1(base[list(rows)]) for rows in product(range(3), repeat=3)]
    _, (_, transfer) = report_of(tmp_path)
    lift = only(transfer).lift
    assert lift is not None
    assert lift.value == pytest.approx(f1(system) - f1(base))
    assert (lift.low, lift.high) == pytest.approx((min(drawn), max(drawn)))
    assert only(transfer).entities == 7


def test_a_lift_is_of_the_seeds_that_both_have(tmp_path: Path) -> None:
    for inputs, seeds in (("words", (1, 2)), ("words+transfer", (2, 3))):
        for seed in seeds:
            keep(make_run(tmp_path / "es/runs", inputs, seed), COUNTS)
    report, (_, transfer) = report_of(tmp_path)
    lift = only(transfer).lift
    assert lift is not None
    assert (lift.seeds, only(transfer).seeds) == ((2,), (2, 3))
    assert "| +0.00 (seeds 2) [+0.00, +0.00] |" in report.to_text()


@pytest.mark.parametrize("other", [{"sha256": "1" * 64}, {"counts": COUNTS[:2]}])
def test_no_lift_without_the_same_sentences(tmp_path: Path, other: dict[str, Any]) -> None:
    """The same bytes are other sentences where another recipe's format reads them."""
    keep(make_run(tmp_path / "es/runs", "words"), COUNTS)
    keep(make_run(tmp_path / "es/runs", "words+transfer"), **{"counts": COUNTS, **other})
    report, (words, transfer) = report_of(tmp_path)
    assert not report.warnings
    assert (only(words).lift, only(transfer).lift) == (None, None)


def test_nothing_is_compared_where_nobody_has_learnt(tmp_path: Path) -> None:
    for inputs in ("words", "words+transfer"):
        nothing = np.zeros((200, 3), np.int64)
        nothing[:, 2] = 1
        keep(make_run(tmp_path / "es/runs", inputs, counts=nothing), COUNTS)
    _, (_, transfer) = report_of(tmp_path)
    assert (transfer.difference, only(transfer).lift) == (None, None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": 1}, "format: expected 2; found 1"),
        ({"counts": []}, "counts"),
        ({"counts": [[1, 0]] * 3}, "counts: expected tp, fp and fn of each sentence; found 2 numbers"),
        ({"counts": [[1, 0, -1]] * 3}, "counts[0][2]: expected a whole number from 0 to 10,000; found -1"),
        ({"counts": [[1, 0, 10**30]] * 3}, "counts"),
        ({"counts": [[1, 0, 0.5]] * 3}, "counts"),
        (
            {"counts": COUNTS[:2]},
            "common_types_counts: expected the 2 sentences of counts, at most 1,000,000; found 3",
        ),
        ({"common_types_counts": None}, "common_types_counts"),
        ({"sha256": "../../x"}, "sha256: expected a digest of 64 hexadecimal digits"),
    ],
)
def test_an_odd_file_is_named_and_left_out(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    run = make_run(tmp_path / "es/runs")
    keep(run, COUNTS)
    odd = keep(run, COUNTS, name="odd.tsv")
    odd.write_text(json.dumps({**json.loads(odd.read_text()), **values}))
    report, (row,) = report_of(tmp_path)
    (warning,) = report.warnings
    assert warning.startswith(f"not counted: {odd}: ")
    assert message in warning
    assert warning.endswith("; remove it, then make it again with `backattn evaluate RUN FILE`")
    assert only(row).file == "news.tsv"
