"""Stores, training and report together: the report reads what training writes."""

import dataclasses
from pathlib import Path

import pytest

from backattn.corpus import Corpus, Sentence
from backattn.experiments import Grid, train_grid
from backattn.features.build import build_transfers, build_translations
from backattn.features.plan import make_plan
from backattn.recipe import as_json, from_json
from backattn.report.comparison import OVERALL
from backattn.report.inspection import inspect
from backattn.report.tables import make_report
from backattn.store.reader import StoreReader
from fakes import FakeEnglishTagger, FakeTranslator, make_recipe

WORDS = ("ana", "rio", "casa", "luis", "mar")
SENTENCES = tuple(
    Sentence((WORDS[i % 5], "vai", WORDS[i % 3], str(i)), ("S-PER" if i % 2 else "S-LOC", "O", "O", "O"))
    for i in range(24)
)
CORPUS = Corpus(SENTENCES[:12], SENTENCES[12:18], SENTENCES[18:])


def test_a_report_of_runs_that_were_really_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path))
    for name in ("toy/translator/checkpoint.pt", "toy/english/tagger.pt"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"model")
    tagger = {"epochs": 2, "hidden": 8, "word_dimensions": 8}
    recipe = from_json({**as_json(make_recipe()), "tagger": tagger}, "toy")
    recipe = dataclasses.replace(
        recipe, corpus=dataclasses.replace(recipe.corpus, groups={"P": "PER", "L": "LOC"})
    )
    plan = make_plan(recipe, CORPUS)
    build_translations(plan.translation, FakeTranslator, "cpu")
    translations = StoreReader(plan.translation.path)
    build_transfers(plan.transfer, translations, recipe.transfer, FakeEnglishTagger, "cpu")
    grid = Grid(inputs=("words", "words+transfer"), sentences=(6, 0), seeds=(1, 2))
    runs = train_grid(recipe, CORPUS, grid, device="cpu").whole()

    report = make_report(["toy"], tmp_path)
    (table,) = report.langs[0].tables
    assert [(r.sentences, r.inputs, r.setting) for r in table.rows] == [
        (6, "words", ()), (6, "words+transfer", ()), (12, "words", ()), (12, "words+transfer", ()),
    ]  # fmt: skip
    assert list(table.rows[0].measures) == ["P", "L", OVERALL]
    for run in runs:
        row = next(r for r in table.rows if (r.sentences, r.inputs) == (run.sentences, run.inputs))
        assert row.measures[OVERALL].values[row.seeds.index(run.seed)] == pytest.approx(run.test.overall.f1)
    assert all(row.difference for row in table.rows[1::2])
    assert "Recipe: `scheme:IOBES|mode:strict|" in report.to_text()

    made = inspect(recipe, CORPUS, ["test:1", "dev:1"], runs[1].folder, tmp_path)
    assert all(len(inspection.predicted or ()) == 4 for inspection in made.inspections)
