"""Run folders -> rows, differences and files; which runs share a row, and which errors are told."""

import dataclasses
import json
import re
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from run_folders import RECIPE, draw_counts, make_run

from backattn.common.errors import MissingError, ModelError
from backattn.corpus.formats import read_corpus
from backattn.experiments.grid import parse_sizes
from backattn.recipe import load_recipe, loading
from backattn.report.comparison import OVERALL, LangReport, build_tables
from backattn.report.lineage import StoreLineage
from backattn.report.runs import find_runs
from backattn.report.significance import paired_bootstrap
from backattn.report.tables import make_report
from backattn.report.text_tables import findings, points, score_grid


@pytest.fixture(autouse=True)
def no_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs alone make these tables, not even the package's recipes; test_paper_comparison.py has recipes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "PACKAGED", tmp_path / "pipelines")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "es" / "runs"


def grid(runs: Path, sizes: tuple[int, ...] = (500,), seeds: tuple[int, ...] = (1, 2, 3)) -> None:
    for sentences in sizes:
        for seed in seeds:
            make_run(runs, "words", seed, sentences=sentences, skill=0.5)
            make_run(runs, "words+transfer", seed, sentences=sentences, skill=0.7)


def only_text(cache: Path) -> str:
    return make_report(["es"], cache).to_text()


def only(cache: Path) -> LangReport:
    return make_report(["es"], cache).langs[0]


def test_rows_are_means_over_seeds_and_differences_to_words(runs: Path, tmp_path: Path) -> None:
    grid(runs, (2000, 500))
    (table,) = only(tmp_path).tables
    assert [(row.sentences, row.inputs) for row in table.rows] == [
        (500, "words"), (500, "words+transfer"), (2000, "words"), (2000, "words+transfer"),
    ]  # fmt: skip
    text = only_text(tmp_path)
    names = "- Inputs (`backattn train --inputs`): BiLSTM+CRF is words, BiLSTM+CRF+BAN is words+transfer. "
    assert text.count(names) == 1
    assert names[2:] in (tmp_path / "es/report/report.html").read_text("utf-8")
    row = table.rows[1]
    scores = []
    for seed in (1, 2, 3):
        tp, fp, fn = draw_counts(0.7, seed).sum(0)
        scores.append(2 * tp / (2 * tp + fp + fn))
    assert row.seeds == (1, 2, 3)
    assert row.measures[OVERALL].mean == pytest.approx(statistics.mean(scores))
    assert row.measures[OVERALL].deviation == pytest.approx(statistics.stdev(scores))
    assert table.rows[0].difference is None
    assert row.difference is not None
    assert row.difference.low > 0
    base = table.rows[0].measures[OVERALL].mean
    assert row.difference.value == pytest.approx(row.measures[OVERALL].mean - base)


def test_equal_runs_differ_by_zero(runs: Path, tmp_path: Path) -> None:
    for inputs in ("words", "words+transfer"):
        make_run(runs, inputs, counts=draw_counts(0.6, 4))
    found = only(tmp_path).tables[0].rows[1].difference
    assert found is not None
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert (
        "BiLSTM+CRF+BAN cannot be distinguished from BiLSTM+CRF (+0.00 points"
        in make_report(["es"], tmp_path).to_text()
    )


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"tagger": {"dropout": 0.3}}, "tagger.dropout=0.3"),
        ({"tagger": {"precision": "bfloat16"}}, "tagger.precision=bfloat16"),
        ({"store": "1-9999999999"}, "store=1-99999999"),
        ({"tagger": {"sentences": "all"}}, "tagger.sentences=all"),
        ({"epochs": 9}, "| 3 |"),
    ],
)
def test_rows_never_mix_recipes(runs: Path, tmp_path: Path, change: dict, shown: str) -> None:
    grid(runs, seeds=(1, 2))
    for seed in (1, 2, 3):
        make_run(runs, "words+transfer", seed, **change)
    report = make_report(["es"], tmp_path)
    (table,) = report.langs[0].tables
    assert sorted(len(row.runs) for row in table.rows) == [2, 2, 3]
    for row in table.rows:
        assert len({json.dumps({**run.request, "seed": 0}, sort_keys=True) for run in row.runs}) == 1
    names = [(row.sentences, row.epochs, row.name) for row in table.rows]
    assert len(set(names)) == len(names)
    assert shown in report.to_text().replace("      ", " ").replace("     ", " ")


def test_another_corpus_is_another_table(runs: Path, tmp_path: Path) -> None:
    make_run(runs, "words", corpus="aa" * 32)
    make_run(runs, "words+transfer", corpus="bb" * 32)
    first, second = only(tmp_path).tables
    assert (first.corpus, second.corpus) == ("aa" * 32, "bb" * 32)
    assert second.rows[0].difference is None
    assert second.rows[0].remark == ("no runs of its base, BiLSTM+CRF, with the same sentences and settings")


def test_a_difference_is_over_common_seeds_and_says_so(runs: Path, tmp_path: Path) -> None:
    grid(runs, seeds=(1, 2))
    make_run(runs, "words+transfer", 3, skill=0.7)
    row = only(tmp_path).tables[0].rows[1]
    assert row.difference is not None
    assert row.difference.seeds == (1, 2)
    assert row.seeds == (1, 2, 3)
    text = make_report(["es"], tmp_path).to_text()
    assert row.remark == "difference over the 2 seeds that BiLSTM+CRF has too"
    assert f"{points(row.difference.value)} (seeds 1, 2) |" in text


def test_of_many_comparisons_only_the_recipes_own_are_put_into_words(runs: Path, tmp_path: Path) -> None:
    grid(runs, (83, 500))
    for hidden in range(1, 12):
        for inputs, skill in (("words", 0.5), ("words+transfer", 0.7)):
            make_run(runs, inputs, sentences=83, skill=skill, tagger={"hidden": hidden})
    (table,) = make_report(["es"], tmp_path).langs[0].tables
    assert all(row.setting for row in table.rows if row.sentences == 83)
    assert findings(table)[12:] == ("1 more comparisons are in the table.",)
    rows = tuple(
        dataclasses.replace(row, setting=() if row.sentences == 500 else row.setting) for row in table.rows
    )
    own, rest = findings(dataclasses.replace(table, rows=rows))
    assert own.startswith("500 sentences: BiLSTM+CRF+BAN")
    assert rest == "12 more comparisons are in the table."


def test_no_common_seed_gives_no_difference(runs: Path, tmp_path: Path) -> None:
    make_run(runs, "words", 1)
    make_run(runs, "words+transfer", 2)
    row = only(tmp_path).tables[0].rows[1]
    assert (row.difference, row.remark) == (None, "no seed in common with BiLSTM+CRF")


@pytest.mark.parametrize("fusion", ["input", "both", "gate"])
def test_where_t_goes_is_no_setting_of_the_base(runs: Path, tmp_path: Path, fusion: str) -> None:
    """Words alone have no fusion, and their runs always say `output`."""
    for seed in (1, 2):
        make_run(runs, "words", seed, tagger={"fusion": "output"}, skill=0.5)
        make_run(runs, "words+transfer", seed, tagger={"fusion": "output"}, skill=0.6)
        make_run(runs, "words+transfer", seed, tagger={"fusion": fusion}, skill=0.7)
        make_run(runs, "random", seed, tagger={"fusion": fusion}, skill=0.4, transfer="random-512")
    (table,) = only(tmp_path).tables
    assert [(row.model, row.setting, row.base) for row in table.rows] == [
        ("BiLSTM+CRF", (), "BiLSTM+CRF"),
        ("BiLSTM+CRF+BAN", (), "BiLSTM+CRF"),
        (f"BiLSTM+CRF+BAN({fusion})", (), "BiLSTM+CRF"),
        (f"BiLSTM+CRF+random({fusion})", (), "BiLSTM+CRF"),
    ]
    base = table.rows[0].measures[OVERALL].mean
    for row in table.rows[1:]:
        assert row.difference is not None
        assert row.difference.value == pytest.approx(row.measures[OVERALL].mean - base)


def test_each_row_has_the_base_of_its_frozen_features(runs: Path, tmp_path: Path) -> None:
    """T alone reads none: it stands beside plain words, and beside nothing where there are none."""
    embedded = {"tagger": {"embeddings": ["charlm"]}, "embeddings": {"charlm": "1-aa"}}
    plain = {"tagger": {"embeddings": []}, "embeddings": {}}
    make_run(runs, "words", **embedded, skill=0.6)
    make_run(runs, "words+transfer", **embedded, skill=0.7)
    make_run(runs, "transfer", **plain, skill=0.3)
    rows = {row.model: row for row in only(tmp_path).tables[0].rows}
    assert list(rows) == ["BAN+CRF", "CharLM+BiLSTM+CRF", "CharLM+BiLSTM+CRF+BAN"]
    assert rows["BAN+CRF"].remark == "no runs of its base, BiLSTM+CRF, with the same sentences and settings"
    assert rows["CharLM+BiLSTM+CRF+BAN"].difference is not None
    make_run(runs, "words", **plain, skill=0.5)
    make_run(runs, "words+transfer", **plain, skill=0.5)
    rows = {row.model: row for row in only(tmp_path).tables[0].rows}
    assert list(rows) == [
        "BiLSTM+CRF", "BiLSTM+CRF+BAN", "BAN+CRF", "CharLM+BiLSTM+CRF", "CharLM+BiLSTM+CRF+BAN",
    ]  # fmt: skip
    means = {name: row.measures[OVERALL].mean for name, row in rows.items()}
    for name, base in (("BAN+CRF", "BiLSTM+CRF"), ("CharLM+BiLSTM+CRF+BAN", "CharLM+BiLSTM+CRF")):
        difference = rows[name].difference
        assert difference is not None
        assert difference.value == pytest.approx(means[name] - means[base])


def settings(cache: Path, model: str = "BiLSTM+CRF+BAN") -> list[str]:
    """What the table says of each row of a model."""
    rows = make_report(["es"], cache).langs[0].tables[0].rows
    return [", ".join(row.setting) for row in rows if row.model == model]


def of_store(runs: Path, store: str, **tables: dict) -> None:
    for seed in (1, 2):
        make_run(runs, "words+transfer", seed, store=f"2-{store}", recipe=tables)


def test_another_t_is_told_by_the_keys_of_its_recipe(runs: Path, tmp_path: Path) -> None:
    grid(runs, seeds=(1, 2))
    make_run(runs, "random", transfer="random-512")
    of_store(runs, "aa", english={"checkpoint": "english/tagger.safetensors", "batch_tokens": 7})
    of_store(runs, "bb", transfer={"attention": "uniform", "eos": "drop"})
    of_store(
        runs,
        "cc",
        translator={
            "kind": "fairseq",
            "checkpoint": "es/translator.epochs/3",
            "source": "es",
            "layers": "last",
        },
    )
    of_store(runs, "dd", english={"checkpoint": "other.safetensors"})
    told = settings(tmp_path)
    assert told == sorted(told)
    default = ("english.checkpoint=english/tagger.safetensors", "transfer.attention=translator",
               "translator.checkpoint=es/translator", "translator.layers=mean")  # fmt: skip
    assert (
        set(told)
        == {
            "store=1-abcdef0123",  # its recipe is gone
            ", ".join(default),
            ", ".join(default).replace("=translator,", "=uniform,"),
            ", ".join(
                (*default[:2], "translator.checkpoint=es/translator.epochs/3", "translator.layers=last")
            ),
            ", ".join(("english.checkpoint=other.safetensors", *default[1:])),
        }
    )
    assert settings(tmp_path, "BiLSTM+CRF+random") == [""]
    assert settings(tmp_path, "BiLSTM+CRF") == [""]


def write_recipe(folder: Path) -> None:
    (folder / "pipelines").mkdir()
    tables = {name: table for name, table in RECIPE.items() if name != "name"}
    lines = [
        f"{table}.{key} = {json.dumps(value)}" for table in tables for key, value in tables[table].items()
    ]
    (folder / "pipelines/es.toml").write_text("\n".join(lines), "utf-8")


def test_what_the_recipe_says_now_is_not_told(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row of the LANG's own recipe is the reference: the others say what they have otherwise."""
    make_run(runs, "words")
    of_store(runs, "aa")
    of_store(runs, "bb", transfer={"attention": "uniform"})
    of_store(
        runs, "cc", translator={"kind": "fairseq", "checkpoint": "es/translator.epochs/3", "source": "es"}
    )
    write_recipe(tmp_path)
    assert settings(tmp_path) == [
        "", "transfer.attention=uniform", "translator.checkpoint=es/translator.epochs/3"
    ]  # fmt: skip
    text = make_report(["es"], tmp_path).to_text()
    assert "Setting: the keys in which a row differs from the current recipe" in text
    beside = make_report(["es"], tmp_path, overrides=["transfer.attention=uniform"])
    assert (beside.written, "Written" in beside.to_text()) == ((), False)
    (table,) = beside.langs[0].tables
    assert sorted(row.setting for row in table.rows if row.model == "BiLSTM+CRF+BAN") == [
        (), ("transfer.attention=translator",),
        ("transfer.attention=translator", "translator.checkpoint=es/translator.epochs/3"),
    ]  # fmt: skip
    with pytest.raises(MissingError, match=r"pipelines/de.toml: no such recipe"):
        make_report(["de"], tmp_path, overrides=["transfer.attention=uniform"])


def test_an_ablation_is_compared_with_the_recipes_own_row(runs: Path, tmp_path: Path) -> None:
    """Over the seeds of both: two lifts, each over its own seeds, do not say which of two is better."""
    for seed in (1, 2, 3):
        make_run(runs, "words", seed, skill=0.5)
        make_run(runs, "words+transfer", seed, skill=0.7, store="2-aa", recipe={})
        make_run(runs, "random", seed, transfer="random-512")
    for seed in (2, 3, 4):
        make_run(runs, "words+transfer", seed, skill=0.72, store="2-bb", recipe={"transfer": {"eos": "keep"}})
    write_recipe(tmp_path)
    report = only(tmp_path)
    own, other = [row for row in report.tables[0].rows if row.inputs == "words+transfer"]
    assert (own.setting, other.setting) == ((), ("transfer.eos=keep",))
    counts = [np.stack([draw_counts(skill, seed) for seed in (2, 3)]) for skill in (0.7, 0.72)]
    assert other.from_recipe == paired_bootstrap(*counts, seeds=(2, 3))
    assert [row.from_recipe for row in report.tables[0].rows if row is not other] == [None] * 3
    text = make_report(["es"], tmp_path).to_text()
    assert "Against the recipe: F1 minus that of the recipe's own row, over the seeds of both" in text
    value = other.from_recipe
    assert value is not None
    assert f"| {points(value.value)} [{points(value.low)}, {points(value.high)}] |" in text


def test_without_a_recipe_no_row_is_its_own(runs: Path, tmp_path: Path) -> None:
    for fusion in ("output", "gate"):
        make_run(runs, "words+transfer", tagger={"fusion": fusion}, store="2-aa", recipe={})
    assert [row.from_recipe for row in only(tmp_path).tables[0].rows] == [None, None]


def test_the_tagger_is_told_beside_the_recipe_too(runs: Path, tmp_path: Path) -> None:
    make_run(runs, "words", tagger={"dropout": 0.3})
    make_run(runs, "words", tagger={"precision": "bfloat16", "dropout": 0.5})
    write_recipe(tmp_path)

    def told(*overrides: str) -> list[tuple[str, ...]]:
        return [r.setting for r in make_report(["es"], tmp_path, overrides=overrides).langs[0].tables[0].rows]

    assert told() == [("tagger.dropout=0.3",), ("tagger.precision=bfloat16",)]
    assert told("tagger.dropout=0.3") == [(), ("tagger.dropout=0.5", "tagger.precision=bfloat16")]
    # What no row has as the recipe says is told once.
    text = make_report(["es"], tmp_path, overrides=["tagger.hidden=9", "tagger.batch=3"]).to_text()
    assert "- All rows: tagger.batch=16, tagger.hidden=256; the recipe has other values.\n" in text
    assert told("tagger.hidden=9") == told()
    assert "All rows" not in make_report(["es"], tmp_path).to_text()


def test_a_t_that_its_recipe_does_not_make_any_more_is_told(runs: Path, tmp_path: Path) -> None:
    """A translator that was trained anew in its place: the row is not the recipe's own."""
    make_run(runs, "words+transfer", store="2-aa", recipe={})
    (run,) = find_runs(tmp_path, "es").finished
    for current, setting in ((False, ("store=2-aa",)), (True, ()), (None, ())):
        (table,) = build_tables([run], {"2-aa": StoreLineage({"transfer.eos": "drop"}, current)})
        assert table.rows[0].setting == setting


def test_the_corpus_of_today_comes_first_and_others_are_named(runs: Path, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / "abc"[number]).write_text(f"word{number} O\n")
    write_recipe(tmp_path)
    today = read_corpus(load_recipe("es").corpus).digest
    for corpus in (today, "0" * 48, "f" * 48):
        make_run(runs, corpus=corpus)
    (report,) = make_report(["es"], tmp_path).langs
    assert [(table.corpus, table.earlier) for table in report.tables] == [
        (today, False), ("0" * 48, True), ("f" * 48, True),
    ]  # fmt: skip
    text = make_report(["es"], tmp_path).to_text()
    (tmp_path / "data" / "a").write_text("another O\n")
    for run in runs.glob("*"):  # one that is not today's is told where it is alone, too
        if json.loads((run / "run.json").read_text())["request"]["corpus"] != today:
            shutil.rmtree(run)
    assert f"## es, corpus {today[:10]}, not the current files\n" in only_text(tmp_path)
    assert f"## es, corpus {today[:10]}\n" in text
    assert "## es, corpus 0000000000, not the current files\n" in text


def test_an_ablation_alone_is_never_taken_for_the_recipes_row(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows share it, and the recipe says otherwise."""
    make_run(runs, "words")
    of_store(runs, "bb", transfer={"attention": "uniform"})
    assert settings(tmp_path) == [""]  # nobody knows the recipe
    write_recipe(tmp_path)
    assert settings(tmp_path) == ["transfer.attention=uniform"]
    (_, row) = json.loads((tmp_path / "es/report/report.json").read_text("utf-8"))["tables"][0]["rows"]
    assert row["made_with"]["transfer.attention"] == "uniform"


def test_how_a_model_was_trained_is_told_by_its_name_alone(runs: Path, tmp_path: Path) -> None:
    training = {name: {"path": f"{name}.tsv"} for name in ("valid", "test")}
    translator = {**RECIPE["translator"], "training": {**training, "parallel": []}}
    translator["training"]["parallel"] = [{"path": "train.tsv"}]  # type: ignore[index]
    of_store(runs, "aa")
    of_store(runs, "bb", translator=translator, transfer={"attention": "uniform"})
    assert settings(tmp_path) == ["transfer.attention=translator", "transfer.attention=uniform"]


def test_models_trained_anew_in_their_place_are_told_by_the_store(runs: Path, tmp_path: Path) -> None:
    of_store(runs, "aa")
    of_store(runs, "bb")
    of_store(runs, "cc", transfer={"attention": "uniform"})
    attention = "transfer.attention="
    assert settings(tmp_path) == [
        f"{attention}translator, store=2-aa", f"{attention}translator, store=2-bb", f"{attention}uniform",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"name": "es"}', "\xff", '{"translator": {"beam": "x"}}'])
def test_a_damaged_recipe_beside_a_run_costs_the_keys_alone(runs: Path, tmp_path: Path, text: str) -> None:
    for store in ("2-aa", "2-bb"):
        folder = make_run(runs, "words+transfer", store=store)
        (folder / "recipe.json").write_bytes(text.encode("latin-1"))
    assert settings(tmp_path) == ["store=2-aa", "store=2-bb"]


def test_a_run_with_t_that_names_no_store_is_damaged(runs: Path, tmp_path: Path) -> None:
    """Nobody writes such a run; a report that reads one must not break."""
    make_run(runs, "words+transfer", store="2-aa")
    odd = make_run(runs, "words+transfer", transfer=None)
    (warning,) = make_report(["es"], tmp_path).warnings
    assert f"{odd}: damaged run (run.json: request.transfer: expected the id of a store" in warning


def test_frozen_features_are_told_by_their_keys(runs: Path, tmp_path: Path) -> None:
    for store, layers in (("1-aa", "last"), ("1-bb", "mean-4")):
        features = {"tagger": {"embeddings": ["bert"]}, "embeddings": {"bert": store}}
        recipe = {"embeddings": {"bert": {"hub": "b", "layers": layers}, "fasttext": {"vectors": layers}}}
        make_run(runs, "words", **features, recipe=recipe)
    assert settings(tmp_path, "BERT+BiLSTM+CRF") == [
        "embeddings.bert.layers=last", "embeddings.bert.layers=mean-4"
    ]  # fmt: skip


def test_features_of_two_models_are_two_settings_and_two_bases(runs: Path, tmp_path: Path) -> None:
    for store, skill in (("1-aa", 0.5), ("1-bb", 0.6)):
        features = {"tagger": {"embeddings": ["bert"]}, "embeddings": {"bert": store}}
        make_run(runs, "words", **features, skill=skill)
        make_run(runs, "words+transfer", **features, skill=skill)
    rows = only(tmp_path).tables[0].rows
    assert [(row.model, row.setting) for row in rows] == [
        (model, (f"embeddings.bert={store}",))
        for model in ("BERT+BiLSTM+CRF", "BERT+BiLSTM+CRF+BAN")
        for store in ("1-aa", "1-bb")
    ]
    # Equal skill and seed are equal counts: only the right base gives nothing.
    assert [row.difference.value for row in rows if row.difference] == [0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"tagger": {"embeddings": ["elmo"]}},
            r"request\.tagger\.embeddings\[0\]: expected \"fasttext\" \| \"charlm\" \| \"bert\"; found",
        ),
        ({"tagger": {"embeddings": "bert"}}, r"request\.tagger\.embeddings: expected a list"),
        ({"tagger": {"fusion": 3}}, r"request\.tagger\.fusion: expected .*; found 3"),
        ({"transfer": 3}, r"request\.transfer: expected text; found 3"),
    ],
)
def test_what_names_a_model_is_checked(runs: Path, tmp_path: Path, change: dict, message: str) -> None:
    make_run(runs, **change)
    with pytest.raises(ModelError, match=message):
        make_report(["es"], tmp_path)


def test_unknown_inputs_are_a_damaged_run(runs: Path, tmp_path: Path) -> None:
    make_run(runs, "magic")
    with pytest.raises(ModelError, match=r"request\.inputs: expected \"words\" \| .*; found 'magic'"):
        make_report(["es"], tmp_path)


def test_groups_have_their_columns(runs: Path, tmp_path: Path) -> None:
    counts = draw_counts(0.6, 1)
    make_run(runs, counts=counts, groups={"NE": counts * [1, 0, 0], "NM": counts * [0, 1, 1]})
    text = make_report(["es"], tmp_path).to_text()
    assert "| NE F1 | NM F1 | Overall F1 |" in " ".join(text.split())
    assert "100.00" in text
    assert "0.00" in text
    # A row without groups does not take them from another.
    make_run(runs, counts=counts, sentences=83, tagger={"sentences": 83})
    (table,) = make_report(["es"], tmp_path).langs[0].tables
    assert [list(row.measures) for row in table.rows] == [["Overall"], ["NE", "NM", "Overall"]]
    assert score_grid(table).header[2:5] == ("NE F1", "NM F1", "Overall F1")
    assert score_grid(table).rows[0][2:4] == ("–", "–")


def test_types_that_a_run_never_saw_count_as_missed(runs: Path, tmp_path: Path) -> None:
    make_run(runs, seed=1, types={"PER": (3, 1, 2)})
    make_run(runs, seed=2, types={"PER": (3, 1, 2), "MISC": (0, 4, 0)})
    table = only(tmp_path).tables[0]
    assert table.support == {"MISC": 0, "PER": 5}
    assert table.rows[0].types["MISC"].values == (0, 0)
    assert table.rows[0].types["PER"].mean == pytest.approx(6 / 9)


def test_unfinished_runs_are_counted_and_named(runs: Path, tmp_path: Path) -> None:
    make_run(runs)
    (runs / "words-500-seed9-12345678").mkdir()
    (runs / "words-500-seed9-12345678" / "epochs.jsonl").write_text("{}\n{}\n", "utf-8")
    report = make_report(["es"], tmp_path)
    line = "Not counted: 1 unfinished run: words-500-seed9-12345678 (2 epochs done)."
    assert line in report.to_text()
    assert report.to_json()["langs"]["es"]["unfinished"] == [
        {"name": "words-500-seed9-12345678", "epochs": 2}
    ]


def test_files_are_written_whole_and_say_the_same(runs: Path, tmp_path: Path) -> None:
    grid(runs)
    report = make_report([str(tmp_path / "es.toml")], tmp_path)
    folder = tmp_path / "es" / "report"
    assert report.written == tuple(folder / f"report.{kind}" for kind in ("md", "json", "html"))
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json", "report.md"]
    assert (folder / "report.md").read_text("utf-8").rstrip() in report.to_text()
    assert json.loads((folder / "report.json").read_text("utf-8")) == report.to_json()["langs"]["es"]
    assert f"Written: {folder / 'report.html'}" in report.to_text()
    assert (
        "Recipe: `scheme:IOBES|mode:strict|split:test|inputs:words,words+transfer|seed:1,2,3|"
        in report.to_text()
    )


def test_markdown_cells_keep_their_borders(runs: Path, tmp_path: Path) -> None:
    make_run(runs, types={"A|B": (1, 0, 0)})
    assert "A\\|B (1)" in make_report(["es"], tmp_path).to_text()


def test_no_run_at_all_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        MissingError, match=r"es/runs: no finished run; train some with `backattn train es`; no r"
    ):
        make_report(["es"], tmp_path)
    with pytest.raises(MissingError, match=r"; no recipe of that name either; here are none$"):
        make_report(["es"], tmp_path)
    (tmp_path / "es" / "runs" / "a").mkdir(parents=True)
    with pytest.raises(MissingError, match=r"no finished run, 1 not finished; train some"):
        make_report(["es"], tmp_path)


def test_a_finding_of_one_seed_says_so(runs: Path, tmp_path: Path) -> None:
    grid(runs, seeds=(1,))
    assert "; one seed)." in make_report(["es"], tmp_path).to_text()
    grid(runs, sizes=(700,), seeds=(1, 2))
    text = make_report(["es"], tmp_path).to_text()
    (line,) = [line for line in text.splitlines() if line.startswith("- 700 sentences:")]
    assert "one seed" not in line


def test_of_some_sizes_only_these_rows_are_printed_and_the_files_of_all_runs_stay(
    runs: Path, tmp_path: Path
) -> None:
    grid(runs, (83, 500))
    make_run(runs, "words", 1, sentences=8323, tagger={"sentences": "all"})
    whole = make_report(["es"], tmp_path)
    files = {path: path.read_bytes() for path in whole.written}

    def sizes(option: str) -> list[int]:
        report = make_report(["es"], tmp_path, sizes=parse_sizes(option))
        assert (report.written, "Written" in report.to_text()) == ((), False)
        return [row.sentences for row in report.langs[0].tables[0].rows]

    assert sizes("83") == [83, 83]
    assert sizes("all") == sizes("8323") == [8323]
    assert sizes("500,all") == [500, 500, 8323]
    write_recipe(tmp_path)
    (tmp_path / "pipelines/es.toml").open("a", encoding="utf-8").write("\ntagger.sentences = 500")
    assert sizes("all") == [500, 500]  # as `train --sentences all` takes them
    assert {path: path.read_bytes() for path in whole.written} == files
    rows = make_report(["es"], tmp_path, sizes=parse_sizes("500")).langs[0].tables[0].rows
    assert rows[1].difference == whole.langs[0].tables[0].rows[3].difference
    with pytest.raises(
        MissingError, match=r"no finished run of es has 84 sentences; there are 83, 500, 8323$"
    ):
        sizes("84")


def test_nothing_is_written_where_one_lang_has_no_run(runs: Path, tmp_path: Path) -> None:
    make_run(runs)
    with pytest.raises(MissingError):
        make_report(["es", "de"], tmp_path)
    assert not (tmp_path / "es" / "report").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda value: {**value, "format": 99},
            "run.json: format 99, this program reads 1; remove the folder",
        ),
        (lambda value: {k: v for k, v in value.items() if k != "test"}, r"damaged run \(KeyError: 'test'\)"),
        (lambda value: {**value, "epochs": 4}, "epoch 2 of 4 is best, epochs.jsonl has 3"),
        (lambda value: {**value, "best_epoch": 4}, "epoch 4 of 3 is best, epochs.jsonl has 3"),
        (
            lambda value: {**value, "best_epoch": 1.5},
            r"best_epoch: expected a whole number from 1 to 1,000,000,000; found 1\.5",
        ),
        (lambda value: [], r"run\.json: damaged \(not a table\)"),
    ],
)
def test_a_damaged_run_is_named(runs: Path, tmp_path: Path, damage, message: str) -> None:
    path = make_run(runs) / "run.json"
    path.write_text(json.dumps(damage(json.loads(path.read_text("utf-8")))), "utf-8")
    with pytest.raises(ModelError, match=message):
        make_report(["es"], tmp_path)


def test_a_copied_run_does_not_count_twice(runs: Path, tmp_path: Path) -> None:
    first = make_run(runs)
    copy = runs / "copy"
    copy.mkdir()
    for name in ("run.json", "epochs.jsonl"):
        (copy / name).write_bytes((first / name).read_bytes())
    report = make_report(["es"], tmp_path)
    (warning,) = report.warnings
    assert re.search(r"the same run as .*copy \(seed 1\); remove one of them", warning)
    assert [row.seeds for row in report.langs[0].tables[0].rows] == [(1,)]


def test_runs_of_one_corpus_score_the_same_sentences(runs: Path, tmp_path: Path) -> None:
    make_run(runs, counts=draw_counts(0.5, 1, 20))
    make_run(runs, counts=draw_counts(0.5, 1, 20), seed=2)
    odd = make_run(runs, "words+transfer", counts=draw_counts(0.5, 1, 21))
    report = make_report(["es"], tmp_path)
    (warning,) = report.warnings
    assert f"{odd}: scores another number of test sentences" in warning
    assert [row.seeds for row in report.langs[0].tables[0].rows] == [(1, 2)]


DEAD = "the base has learnt nothing in 3 epochs on 500 sentences"


def found_nothing(counts: np.ndarray) -> np.ndarray:
    """The counts of a run that finds none of the same entities."""
    return np.stack([0 * counts[:, 0], 0 * counts[:, 0], counts[:, 0] + counts[:, 2]], axis=1)


@pytest.mark.parametrize("split", ["dev", "test"])
@pytest.mark.parametrize(
    ("dead", "told"), [((), ""), ((1, 2), DEAD), ((2,), f"{DEAD} with 1 of 2 seeds")], ids=str
)
def test_a_lift_over_a_base_that_has_learnt_nothing_says_so(
    runs: Path, tmp_path: Path, split: str, dead: Sequence[int], told: str
) -> None:
    for seed in (1, 2):
        alive = draw_counts(0.2, seed, 40)
        counts = found_nothing(alive) if seed in dead else alive
        of_splits = {"counts": counts} if split == "test" else {"counts": alive, "dev": counts}
        make_run(runs, "words", seed, **of_splits)
        make_run(runs, "words+transfer", seed, counts=draw_counts(0.9, seed, 40))
    (table,) = only(tmp_path).tables
    base, row = table.rows
    assert row.difference is not None
    assert (base.dead, row.dead) == (told.removeprefix("the base "), told)
    written = json.loads((tmp_path / "es/report/report.json").read_text("utf-8"))["tables"][0]["rows"]
    assert [entry["dead"] for entry in written] == [base.dead, row.dead]
    html = (tmp_path / "es/report/report.html").read_text("utf-8")
    cell = points(row.difference.value) + (f" ({told})" if told else "")
    for text in (only_text(tmp_path), (tmp_path / "es/report/report.md").read_text("utf-8")):
        assert f"| {cell} |" in text
        assert (f"; {told})." in text) == bool(told)
    assert f">{cell}</td>" in html
    assert ('class="good"' in html) == (not dead)
    if not told:
        assert "has learnt nothing" not in html


@pytest.mark.parametrize(
    ("entities", "told"), [(1, "dev has 1 entity"), (19, "dev has 19 entities"), (20, "")]
)
def test_a_dev_of_few_entities_is_told_beside_f1(
    runs: Path, tmp_path: Path, entities: int, told: str
) -> None:
    counts = np.array([[1, 0, 0]] * entities)
    for seed in (1, 2):
        make_run(runs, "words", seed, counts=counts)
        make_run(runs, "words+transfer", seed, counts=counts)
    text = only_text(tmp_path)
    html = (tmp_path / "es/report/report.html").read_text("utf-8")
    overall = text.partition("Test F1 by entity type")[0], html.partition("Test F1 by entity type")[0]
    cell = f"100.00 ± 0.00 ({told})" if told else "100.00 ± 0.00"
    assert overall[0].count(f"| {cell} |") == overall[1].count(f">{cell}</td>") == 2
    assert ("which epoch it chooses is mostly chance" in text) == bool(told)
    written = json.loads((tmp_path / "es/report/report.json").read_text("utf-8"))["tables"][0]["rows"]
    assert [(row["dev_entities"], row["small_dev"]) for row in written] == [(entities, told)] * 2


def test_a_run_that_found_nothing_scores_zero(runs: Path, tmp_path: Path) -> None:
    make_run(runs, counts=np.tile([0, 0, 1], (30, 1)))
    make_run(runs, "words+transfer", counts=np.tile([0, 0, 1], (30, 1)))
    (table,) = only(tmp_path).tables
    assert [row.measures[OVERALL].mean for row in table.rows] == [0, 0]
