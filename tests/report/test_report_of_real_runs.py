"""Stores, training and report together: the report reads what training writes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from backattn.corpus import Corpus, Sentence
from backattn.experiments.alignment import AlignmentReport, AlignmentScore, keep_alignment
from backattn.experiments.grid import RunGrid, parse_grid, parse_sizes
from backattn.experiments.runs import train_grid
from backattn.features.build import build_transfers, build_translations
from backattn.features.plan import make_plan
from backattn.models.training_manifest import MANIFEST
from backattn.recipe import Recipe, as_json, from_json
from backattn.report.comparison import OVERALL
from backattn.report.lineage import StoreLineage
from backattn.report.sentence_list import inspect
from backattn.report.tables import make_report
from backattn.store.reader import StoreReader
from backattn.tagger.run import RunFolder
from fakes import FakeEnglishTagger, FakeTranslator, make_recipe

WORDS = ("ana", "rio", "casa", "luis", "mar")
SENTENCES = tuple(
    Sentence((WORDS[i % 5], "vai", WORDS[i % 3], str(i)), ("S-PER" if i % 2 else "S-LOC", "O", "O", "O"))
    for i in range(24)
)
CORPUS = Corpus(SENTENCES[:12], SENTENCES[12:18], SENTENCES[18:])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("toy/translator/checkpoint.pt", "toy/english/tagger.pt"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"model")
    return tmp_path


def toy(**tagger: Any) -> Recipe:
    """A small recipe of the models that ``cache`` holds."""
    settings = {"epochs": 20, "batch": 2, "hidden": 8, "word_dimensions": 8, **tagger}
    recipe = from_json({**as_json(make_recipe()), "tagger": settings}, "toy")
    corpus = structs.replace(recipe.corpus, groups={"P": "PER", "L": "LOC"})
    return structs.replace(recipe, corpus=corpus)


def build(recipe: Recipe) -> None:
    plan = make_plan(recipe, CORPUS)
    build_translations(plan.translation, FakeTranslator, "cpu")
    translations = StoreReader(plan.translation.path)
    build_transfers(plan.transfer, translations, recipe.transfer, FakeEnglishTagger, "cpu")


def test_a_report_of_runs_that_were_really_trained(cache: Path) -> None:
    recipe = toy()
    build(recipe)
    grid = parse_grid("words,words+transfer", "50%,100%,all", "1,2", default_sentences="all")
    runs = train_grid(recipe, CORPUS, grid, device="cpu").whole()
    assert len(runs) == 8  # 100 % are the runs of all

    report = make_report(["toy"], cache)
    (table,) = report.langs[0].tables
    base, ban = "BiLSTM+CRF", "BiLSTM+CRF+BAN"
    assert [(r.sentences, r.model, r.setting, r.whole) for r in table.rows] == [
        (6, base, (), False), (6, ban, (), False), (12, base, (), True), (12, ban, (), True),
    ]  # fmt: skip
    assert list(table.rows[0].measures) == ["P", "L", OVERALL]
    for run in runs:
        row = next(r for r in table.rows if (r.sentences, r.inputs) == (run.sentences, run.inputs))
        assert row.measures[OVERALL].values[row.seeds.index(run.seed)] == pytest.approx(run.test.overall.f1)
    assert all(row.difference for row in table.rows[1::2])
    assert "Recipe: `scheme:IOBES|mode:strict|" in report.to_text()
    assert {table.origin(row).bleu for row in table.rows} == {None}  # nobody measured this translator

    (whole,) = make_report(["toy"], cache, sizes=parse_sizes("all")).langs[0].tables
    assert [row.sentences for row in whole.rows] == [12, 12]

    made = inspect(recipe, CORPUS, ["test:1", "dev:1"], runs[1].folder, cache)
    assert all(len(p.tags) == 4 for inspection in made.inspections for p in inspection.predictions)
    assert [len(inspection.predictions) for inspection in made.inspections] == [2, 2]


def test_every_fusion_has_the_one_base(cache: Path) -> None:
    """`words` always runs as fusion = output; the others are compared with it all the same."""
    build(toy())
    for fusion in ("output", "input", "gate"):
        grid = RunGrid(inputs=("words", "words+transfer"), sentences=("all",), seeds=(1,))
        train_grid(toy(fusion=fusion), CORPUS, grid, device="cpu").whole()
    train_grid(
        toy(), CORPUS, RunGrid(inputs=("transfer",), sentences=("all",), seeds=(1,)), device="cpu"
    ).whole()
    (table,) = make_report(["toy"], cache).langs[0].tables
    assert [(row.model, row.base, bool(row.difference)) for row in table.rows] == [
        ("BiLSTM+CRF", "BiLSTM+CRF", False),
        ("BiLSTM+CRF+BAN", "BiLSTM+CRF", True),
        ("BiLSTM+CRF+BAN(gate)", "BiLSTM+CRF", True),
        ("BiLSTM+CRF+BAN(input)", "BiLSTM+CRF", True),
        ("BAN+CRF", "BiLSTM+CRF", True),
    ]


def test_lift_over_the_quality_of_the_translator(cache: Path) -> None:
    """Two checkpoints of one training, each with its BLEU; a figure is taken only of the very translator."""
    bleus = {"toy/translator.epochs/1": 4.5, "toy/translator.epochs/2": 15.6}
    early, late = bleus
    for checkpoint, score in bleus.items():
        (cache / checkpoint).mkdir(parents=True)
        (cache / checkpoint / "checkpoint.pt").write_bytes(checkpoint.encode())
        (cache / checkpoint / MANIFEST).write_text(json.dumps({"bleu": {"score": score}}), "utf-8")
        recipe = toy()
        recipe = structs.replace(recipe, translator=structs.replace(recipe.translator, checkpoint=checkpoint))
        build(recipe)
        grid = RunGrid(inputs=("words", "words+transfer"), sentences=("all",), seeds=(1, 2))
        train_grid(recipe, CORPUS, grid, device="cpu").whole()
        links = AlignmentScore(10, 10, round(score / 2), 10)
        report = AlignmentReport("gold", 1, 10, 10, {"translator": {"foreign word": links}})
        keep_alignment(report, recipe)

    def found() -> list[float | None]:
        (table,) = make_report(["toy"], cache).langs[0].tables
        assert table.origin(table.rows[0]) == StoreLineage()  # words owe nothing to a translator
        return sorted((table.origin(row).bleu for row in table.rows[1:]), key=str)

    assert found() == [15.6, 4.5]
    (table,) = make_report(["toy"], cache).langs[0].tables
    told = [(row.setting, table.origin(row).bleu, table.origin(row).aer) for row in table.rows[1:]]
    assert told == [
        ((f"translator.checkpoint={early}",), 4.5, pytest.approx(0.4)),
        ((f"translator.checkpoint={late}",), 15.6, pytest.approx(0.1)),
    ]
    text = make_report(["toy"], cache).to_text()
    assert " BLEU |" in text
    assert "BLEU: of the translator behind T" in text
    assert " AER |" in text
    assert "| 15.6 | 0.100 |" in text
    assert "AER: alignment error rate of A on gold word alignments" in text
    html = (cache / "toy/report/report.html").read_text("utf-8")
    for quality in ("BLEU of the translator", "alignment error rate of A"):
        assert f"Lift by {quality} (band: 95 % interval)" in html
        (drawing,) = re.findall(rf"<title>Lift by {quality}</title>.*?</svg>", html)
        assert drawing.count("<circle") == 2  # one line of both checkpoints
    (cache / late / "checkpoint.pt").write_bytes(b"trained anew in its place")
    assert found() == [4.5, None]
    assert "Lift and translator quality" not in (cache / "toy/report/report.html").read_text("utf-8")
    for damaged in ("{", "[]", '{"bleu": 3}', '{"bleu": {"score": "x"}}', '{"bleu": {"score": true}}'):
        (cache / early / MANIFEST).write_text(damaged, "utf-8")
        assert found() == [None, None]


def test_a_stand_in_for_a_has_its_own_alignment_error_rate(cache: Path) -> None:
    recipe = toy()
    rates = {"translator": 5, "diagonal": 2}
    links = {name: {"foreign word": AlignmentScore(10, 10, found, found)} for name, found in rates.items()}
    path = keep_alignment(AlignmentReport("gold", 1, 10, 10, links), recipe)
    for attention in ("translator", "diagonal", "uniform"):
        changed = structs.replace(recipe.transfer, attention=attention)
        other = structs.replace(recipe, transfer=changed)
        build(other)
        train_grid(other, CORPUS, RunGrid(("words+transfer",), ("all",), (1,)), device="cpu").whole()

    def found() -> dict[tuple[str, ...], float | None]:
        (table,) = make_report(["toy"], cache).langs[0].tables
        return {row.setting: table.origin(row).aer for row in table.rows}

    names = [(f"transfer.attention={attention}",) for attention in ("translator", "diagonal", "uniform")]
    assert found() == dict(zip(names, (0.5, 0.8, None), strict=True))
    for damaged in ("{", "[]", '{"scores": 3}', '{"scores": {"translator": {"foreign word": {"aer": 2}}}}'):
        path.write_text(damaged, "utf-8")
        assert found() == dict.fromkeys(names)


def test_the_names_are_those_that_training_writes() -> None:
    """Users' scripts, and caches of older versions, know them too."""
    assert (RunFolder(Path()).recipe.name, MANIFEST) == ("recipe.json", "training.json")
