"""A run's scores on other labelled files, against a count by hand and a bootstrap in a loop."""

import json
import os
import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from backattn.corpus.scoring import entities, score
from backattn.report.evaluations import Evaluation
from users_folder import make_home, run

TAGGER = "\n[tagger]\nhidden = 8\nword_dimensions = 8\nepochs = 8\n"
NAMES = ("anna", "ben", "carl", "dora")
TRAIN = "\n".join(f"{name} B-PER\nsingt O\nin O\nulm B-LOC\n" for name in NAMES)
# TIME is a type that the run does not know.
OTHER = (
    "anna B-PER\nsingt O\n\nheute B-TIME\nin O\nulm B-LOC\n\n"
    "ulm B-PER\nsingt O\nmorgens B-TIME\nfrueh I-TIME\n"
)
PLAIN = "ben B-PER\nin O\nulm B-LOC\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = tmp_path_factory.mktemp("home")
        make_home(folder, monkeypatch, TAGGER, corpus=dict.fromkeys(("train", "dev", "test"), TRAIN))
        (folder / "other.conll").write_text(OTHER)
        (folder / "plain.conll").write_text(PLAIN)
        status, _, err = run("train", "toy", "--inputs", "words", "--seeds", "1,2", "--jobs", "1")
        assert status == 0, err
        yield folder


@pytest.fixture
def folder(home: Path) -> str:
    return str(sorted(Path("cache/toy/runs").iterdir())[0])


def spans_of(text: str) -> list[set[tuple[str, int, int]]]:
    """The entities of the sentences of `tag`'s columns, or of IOB2 without neighbours of one type."""
    found = []
    for block in text.strip().split("\n\n"):
        tags = [line.split()[-1] for line in block.split("\n")]
        entities: list[tuple[str, int, int]] = []
        for place, tag in enumerate(tags):
            if tag[0] in "BS":
                entities.append((tag[2:], place, place + 1))
            elif tag[0] in "IE" and entities:
                entities[-1] = (*entities[-1][:2], place + 1)
        found.append(set(entities))
    return found


def f1(pairs: list[tuple[set, set]]) -> float:
    tp = sum(len(gold & found) for gold, found in pairs)
    both = sum(len(gold) + len(found) for gold, found in pairs)
    return 2 * tp / both if tp else 0.0


def interval(pairs: list[tuple[set, set]]) -> list[float]:
    """Of three sentences there are 27 resamples, of 3.7 % each: 95 % reach from the worst to the best."""
    scores = [f1(list(drawn)) for drawn in product(pairs, repeat=3)]
    return [min(scores), max(scores)]


def test_scores_are_those_of_the_tags_that_tag_prints(home: Path, folder: str) -> None:
    (home / "text").write_text("".join(" ".join(row.split()[0] for row in block.split("\n")) + "\n"
                                       for block in OTHER.strip().split("\n\n")))  # fmt: skip
    tagged = run("tag", folder, "text")[1]
    pairs = list(zip(spans_of(OTHER), spans_of(tagged), strict=True))
    status, out, err = run("evaluate", folder, "other.conll", "--json")
    assert (status, err) == (0, "")
    (found,) = json.loads(out)
    assert found["sentences"] == 3
    assert found["support"] == 5
    assert found["f1"] == pytest.approx(f1(pairs))
    assert [found["low"], found["high"]] == pytest.approx(interval(pairs))
    assert found["unknown_types"] == {"TIME": 2}
    assert found["types"].keys() >= {"PER", "LOC", "TIME"}
    for name, figures in found["types"].items():
        part = [tuple({e for e in side if e[0] == name} for side in pair) for pair in pairs]
        assert figures["f1"] == pytest.approx(f1(part)), name
        assert [figures["low"], figures["high"]] == pytest.approx(interval(part)), name
        assert figures["support"] == sum(len(gold) for gold, _ in part)
    known = [tuple({e for e in side if e[0] != "TIME"} for side in pair) for pair in pairs]
    assert found["common_types"]["f1"] == pytest.approx(f1(known))
    assert found["common_types"]["support"] == 3
    assert found["absent_types"] == {}


def test_types_of_one_side_are_named_and_left_out_of_a_second_f1(tmp_path: Path) -> None:
    gold = [("S-PER", "O", "S-LOC"), ("S-TIME", "S-PER", "O")]
    predicted = [("S-PER", "S-MISC", "S-LOC"), ("S-MISC", "S-PER", "O")]
    made = Evaluation(
        run=tmp_path, file=Path("other"), sha256="0" * 64, gold=entities(gold), predicted=entities(predicted),
        known=frozenset({"PER", "LOC", "MISC", "ORG"}), score=score(gold, predicted, {}, {}),
    )  # fmt: skip
    assert (made.unknown, made.absent) == ({"TIME": 1}, {"MISC": 2})
    assert made.score.overall.f1 == pytest.approx(2 * 3 / (4 + 5))
    assert (made.common.counts.f1, made.common.counts.support) == (1, 3)
    assert [line for line in made.to_text().splitlines() if "types" in line] == [
        "  1 entities have types that the run does not know, and are counted as missed: TIME 1",
        "  2 predictions have types that the file has none of, and are counted as wrong: MISC 2",
        "  F1 over the types of both: 100.00 (100.00 to 100.00)",
    ]


def test_several_files_are_several_rows_and_kept_in_the_run(home: Path, folder: str) -> None:
    (home / "a b").mkdir()
    (home / "a b/plain.conll").write_text(PLAIN + "\n" + PLAIN)
    status, out, _ = run("evaluate", folder, "other.conll", "plain.conll", "a b/plain.conll")
    assert status == 0
    assert [line.split(":")[0] for line in out.splitlines() if not line.startswith(" ")] == [
        "other.conll", "plain.conll", "a b/plain.conll",
    ]  # fmt: skip
    assert (
        "  2 entities have types that the run does not know, and are counted as missed: TIME 2\n"
        "  F1 over the types of both: "
    ) in out
    assert out.count("does not know") == 1
    kept = sorted((Path(folder) / "evaluations").iterdir())
    assert [path.name.rpartition("-")[0] for path in kept] == ["other.conll", "plain.conll", "plain.conll"]
    values = [json.loads(path.read_text()) for path in kept]
    assert {value["format"] for value in values} == {2}
    assert values[0]["counts"] != values[0]["common_types_counts"]
    assert np.sum(values[0]["counts"], 0)[[0, 2]].sum() == values[0]["support"]
    (again,) = json.loads(run("evaluate", folder, "other.conll", "--json")[1])
    assert {key: values[0][key] for key in again} == again
    assert "|sha256:" in again["signature"]
    assert sorted((Path(folder) / "evaluations").iterdir()) == kept  # the same file, not one more


def test_the_best_run_of_a_lang_is_evaluated(home: Path) -> None:
    best = json.loads(run("runs", "toy", "--json")[1])["toy"]["finished"][0]
    status, out, err = run("evaluate", "toy", "plain.conll", "--best", "--json")
    assert status == 0
    assert json.loads(out)[0]["run"] == best["folder"]
    assert err == f"backattn: {best['folder']} (dev F1 {100 * best['dev_f1']:.2f})\n"
    (home / "plain.txt").write_text("ben in ulm\n")
    assert run("tag", "toy", "plain.txt", "--best")[1] == run("tag", best["folder"], "plain.txt")[1]


def test_the_report_prints_them_beside_the_test(home: Path) -> None:
    folders = sorted(Path("cache/toy/runs").iterdir())
    for folder in folders:
        for path in (folder / "evaluations").glob("*"):
            path.unlink()
    assert "other files" not in run("report", "toy")[1]
    expected = [json.loads(run("evaluate", str(folder), "other.conll", "--json")[1])[0] for folder in folders]
    run("evaluate", str(folders[0]), "plain.conll")
    (folders[0] / "evaluations/broken-00000000.json").write_text("{")
    (folders[0] / "evaluations/wrong-00000000.json").write_text(
        json.dumps({**expected[0], "format": 2, "counts": [[0, 0, 1]], "common_types_counts": [[0, 2]]})
    )
    os.mkfifo(folders[0] / "evaluations/pipe-00000000.json")
    (folders[1] / "evaluations/link-00000000.json").symlink_to(home / "none")
    status, out, err = run("report", "toy")
    assert status == 0
    first, second = (100 * one["f1"] for one in expected)
    mean, deviation = np.mean([first, second]), np.std([first, second], ddof=1)
    cells = [cell.strip() for line in out.splitlines() if " other.conll " in line for cell in line.split("|")]
    assert cells[3:6] == ["other.conll", "5", f"{mean:.2f} ± {deviation:.2f}"]
    assert cells[8:10] == ["–", "2"]
    assert sum(" plain.conll " in line for line in out.splitlines()) == 1
    assert "F1 on other files (`backattn evaluate`); a type that only the file has counts as missed, " in out
    reasons = err.splitlines()
    assert [line.partition("-00000000.json: ")[0].rpartition("/")[2] for line in reasons] == [
        "broken", "pipe", "wrong", "link",
    ]  # fmt: skip
    assert all(line.startswith("backattn: not counted: cache/toy/runs/") for line in reasons)
    assert all(line.endswith("make it again with `backattn evaluate RUN FILE`") for line in reasons)
    assert ": counts: expected tp, fp and fn of each sentence; found 2 numbers" in reasons[2]
    (row,) = json.loads(run("report", "toy", "--json")[1])["langs"]["toy"]["tables"][0]["rows"]
    assert [one["file"] for one in row["other_files"]] == ["other.conll", "plain.conll"]
    assert row["other_files"][0]["f1"] == [one["f1"] for one in expected]
    assert row["other_files"][0]["common_types_f1"] == [one["common_types"]["f1"] for one in expected]
    page = Path("cache/toy/report/report.html").read_text("utf-8")
    assert "other.conll" in page
    for folder in folders:
        for path in (folder / "evaluations").glob("*-00000000.json"):
            path.unlink()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["plain.conll", "none.conll"], "none.conll: cannot be read (not a file)"),
        (["plain.conll", "pipe"], "pipe: cannot be read (not a file)"),
        (["broken"], "broken:2: found 1 column, expected 2 as in the lines before"),
        (["empty"], "empty:1: found no sentence"),
    ],
)
def test_a_wrong_file_is_one_line_before_the_work(
    home: Path, folder: str, files: list[str], message: str
) -> None:
    (home / "broken").write_text("ben B-PER\nsingt\n")
    (home / "empty").write_text("\n")
    if not (home / "pipe").exists():
        os.mkfifo(home / "pipe")
    status, out, err = run("evaluate", folder, *files)
    assert (status, out) == (2, "")
    assert err.startswith(f"backattn: {message}")
    assert err.count("\n") == 1


def test_a_link_in_the_run_is_not_written_through(home: Path) -> None:
    folder = sorted(Path("cache/toy/runs").iterdir())[1]
    (home / "victim").mkdir()
    shutil.rmtree(folder / "evaluations", ignore_errors=True)
    (folder / "evaluations").symlink_to(home / "victim")
    status, out, err = run("evaluate", str(folder), "plain.conll")
    assert status == 2
    assert out.startswith("plain.conll: F1 ")  # what was computed is told
    assert "evaluations" in err
    assert "is a link, expected a folder of the cache's own" in err
    assert not any((home / "victim").iterdir())
    (folder / "evaluations").unlink()


def test_a_name_of_a_file_leads_nowhere(home: Path, folder: str) -> None:
    name = "..\\é " + "x" * 200
    (home / name).write_text(PLAIN)
    assert run("evaluate", folder, name)[0] == 0
    found = [path.name for path in (Path(folder) / "evaluations").iterdir() if "xxx" in path.name]
    assert len(found) == 1
    assert found[0].startswith("..___xxx")
    assert len(found[0]) < 80
