"""The list of sentences by interest, the runs that it compares, and the errors that a report counts."""

import json
import os
import re
from pathlib import Path

import pytest
from predicted_runs import CORPUS, EVIL, ROWS, make_example, make_predicted_run

from backattn.common.errors import BackattnError
from backattn.corpus.scoring import count, entities
from backattn.recipe import Recipe
from backattn.report.inspection import RunPredictions
from backattn.report.row_errors import table_errors
from backattn.report.run_pair import choose_runs
from backattn.report.runs import read_record
from backattn.report.sentence_list import inspect, judge
from backattn.report.tables import make_report
from fakes import make_recipe

Example = tuple[Recipe, Path, Path, Path]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Example:
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    recipe = make_recipe()
    return recipe, tmp_path, *make_example(recipe, tmp_path)


def test_sentences_are_judged_by_their_errors(example: Example) -> None:
    _, _, *folders = example
    runs = [RunPredictions.of(read_record(folder)) for folder in folders]
    judged = {name: judge(sentence, runs) for name, sentence in zip(ROWS, CORPUS.test, strict=True)}
    assert {name: one.category for name, one in judged.items()} == {
        **{name: name for name in ROWS}, "more mended": "mended",
    }  # fmt: skip
    for number, name in enumerate(ROWS):
        for run, errors in zip(runs, judged[name].errors, strict=True):
            counts = run.run.test.sentences[number]
            assert errors == counts.fp + counts.fn
    assert judge(CORPUS.train[0], runs).category == "unpredicted"
    assert judge(CORPUS.test[0], runs[:1]).category == "wrong"


def test_the_list_is_sorted_by_interest_and_links_to_every_page(example: Example) -> None:
    recipe, cache, base, _ = example
    made = inspect(recipe, CORPUS, [], None, cache)
    assert made.listed is not None
    path, counts = made.listed
    assert counts == {"mended": 2, "broken": 1, "disputed": 1, "wrong": 1}
    assert [i.places for i in made.inspections] == [
        ("test:6",), ("test:1",), ("test:2",), ("test:3",), ("test:4",),
    ]  # fmt: skip
    html = path.read_text("utf-8")
    assert re.findall(r'<li class="sentence[^"]*"><a href="([^"]*)">', html) == [p.name for p in made.pages]
    assert all(page.is_file() for page in made.pages)
    assert "errors 4 → 0" in html
    assert base.name in html
    assert EVIL not in html
    assert "     2  Mended by T" in made.to_text()
    assert '<p class="soft">Missed: Ana (PER), Luis (PER), Rio (LOC)</p>' in made.pages[0].read_text("utf-8")
    assert made.to_text().endswith(f"page: {path} (5 sentences)")
    few = inspect(recipe, CORPUS, [], None, cache, most=1)
    assert [i.places for i in few.inspections] == [("test:6",), ("test:2",), ("test:3",), ("test:4",)]
    assert "Shown are 1 of 2." in path.read_text("utf-8")
    # The report links to the list once it is there, and the list to the report.
    make_report(["toy"], cache)
    assert '<a href="sentences.html">' in (cache / "toy/report/report.html").read_text("utf-8")
    inspect(recipe, CORPUS, [], None, cache)
    assert '<a href="report.html">' in path.read_text("utf-8")


def test_a_list_without_runs_shows_the_first_sentences(example: Example) -> None:
    recipe, cache, *folders = example
    for folder in folders:
        folder.rename(cache / folder.name)
    made = inspect(recipe, CORPUS, [], None, cache, most=3)
    assert [i.places for i in made.inspections] == [("test:1",), ("test:2",), ("test:3",)]
    assert "There are no runs of this corpus" in (cache / "toy/report/sentences.html").read_text("utf-8")


def test_a_run_is_shown_beside_its_counterpart(example: Example) -> None:
    _, cache, base, transferred = example
    test, dev = [s.tags for s in CORPUS.test], [s.tags for s in CORPUS.dev]
    runs = cache / "toy" / "runs"
    make_predicted_run(runs, CORPUS, "words", test, dev, seed=2)
    alone = make_predicted_run(runs, CORPUS, "words+transfer", test, dev, tagger={"hidden": 8})

    def chosen(run: Path | None, corpus: str = CORPUS.digest) -> list[Path]:
        return [one.folder for one in choose_runs(cache, "toy", corpus, run)]

    # alone is better on dev, but has no base.
    assert chosen(None) == chosen(base) == chosen(transferred) == [base, transferred]
    assert chosen(alone) == [alone]
    assert chosen(None, "another corpus") == []


def test_the_errors_of_a_report_are_those_of_its_runs(example: Example) -> None:
    _, cache, *_ = example
    report = make_report(["toy"], cache)
    (table,) = report.langs[0].tables
    found = table_errors([row.runs for row in table.rows], table.corpus, CORPUS)
    before, after = (row for row in found.rows if row)
    assert dict(before.kinds) == {
        "right": 2, "type": 1, "boundary": 1, "type and boundary": 0, "missed": 5, "spurious": 2,
    }  # fmt: skip
    assert dict(after.kinds) == {
        "right": 6, "type": 0, "boundary": 1, "type and boundary": 0, "missed": 2, "spurious": 1,
    }  # fmt: skip
    assert before.confusion["LOC", "ORG"] == 1
    assert before.confusion[None, "PER"] == 1
    # Ana and Rio are entities of training, Rio of another type.
    assert (after.parts["seen"].entities, after.parts["unseen"].entities) == (6, 3)
    assert list(after.parts)[2:] == ["1 token", "2 tokens", "3 tokens", "4 and more"]
    gold = entities(s.tags for s in CORPUS.test)
    whole = count(gold, entities(row[3].split() for row in ROWS.values()))
    assert sum(part.entities for name, part in after.parts.items() if "seen" in name) == whole.support
    assert table_errors([row.runs for row in table.rows], table.corpus, None).remarks == (
        "Seen and unseen entities are not told apart: that needs the corpus of these runs.",
    )
    text = report.to_text()
    assert re.search(r"\| right \| type \| boundary \| type and boundary \| missed \| spurious \|\n.*\n"
                     r"\| +2 \| BiLSTM\+CRF +\| +2 \| +1 \| +1 \| +0 \| +5 \| +2 \|", text)  # fmt: skip
    html = (cache / "toy/report/report.html").read_text("utf-8")
    assert "Confusion of types" in html
    errors = json.loads((cache / "toy/report/report.json").read_text("utf-8"))["tables"][0]["errors"]
    assert errors[1]["kinds"] == dict(after.kinds)
    assert {"gold": "LOC", "predicted": None, "entities": 1} in errors[1]["confusion"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "predictions.test.tsv: missing; remove the folder and train again"),
        ("a\tb\n", "expected token, gold and predicted tag; train again"),
        ("Ana\tS-PER\tO\n", "the predictions of test have other counts than run.json"),
        (b"\xff\xfe", "not readable"),
    ],
)
def test_damaged_predictions_cost_only_their_row(
    example: Example, text: str | bytes | None, reason: str
) -> None:
    recipe, cache, _, transferred = example
    path = transferred / "predictions.test.tsv"
    path.unlink()
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    report = make_report(["toy"], cache)
    (errors,) = report.langs[0].errors
    assert [row is None for row in errors.rows] == [False, True]
    assert errors.remarks[0].startswith("Errors of 1 of 2 rows are not counted (")
    assert reason in errors.remarks[0]
    assert reason in (cache / "toy/report/report.html").read_text("utf-8")
    if "counts" not in reason:  # what is read of single sentences needs no counts
        with pytest.raises(BackattnError, match=re.escape(reason)):
            inspect(recipe, CORPUS, [], None, cache)


def test_a_pipe_in_place_of_predictions_is_not_waited_for(example: Example) -> None:
    recipe, cache, base, _ = example
    (base / "predictions.dev.tsv").unlink()
    os.mkfifo(base / "predictions.dev.tsv")
    with pytest.raises(BackattnError, match=r"predictions\.dev\.tsv: not readable \(.*not a regular file"):
        inspect(recipe, CORPUS, ["test:1"], base, cache)


def test_many_types_share_a_row_of_the_confusion(example: Example) -> None:
    _, cache, *_ = example
    test = [[f"S-T{number}{i}" for i in range(len(s))] for number, s in enumerate(CORPUS.test)]
    dev = [s.tags for s in CORPUS.dev]
    make_predicted_run(cache / "toy/runs", CORPUS, "random", test, dev, transfer="random-5")
    types = {tag for row in test for tag in row}
    make_report(["toy"], cache)
    html = (cache / "toy/report/report.html").read_text("utf-8")
    assert len(types) == 19
    assert html.count('<th scope="row" class="words">no entity</th>') == 3
    assert html.count('<th scope="row" class="words">other types</th>') == 1
