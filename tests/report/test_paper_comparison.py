"""The paper's figures beside ours: where they stand, what is a dash, what is said of missing runs."""

import json
import re
import shlex
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from run_folders import draw_counts, make_run

from backattn.common.errors import MissingError, RecipeError
from backattn.recipe import PIPELINES, as_json, available_recipes, load_recipe
from backattn.recipe.presets import preset_overrides
from backattn.report.comparison import OVERALL
from backattn.report.paper_comparison import paper_grids, paper_notes, supply
from backattn.report.significance import paired_bootstrap
from backattn.report.tables import make_report
from backattn.report.text_tables import points
from backattn.tagger.frozen_features import Inputs
from backattn.tagger.run_spec import model_name

RECIPE = """
[corpus]
train = "{home}/train"
dev = "{home}/dev"
test = "{home}/test"
source = "the moon"
groups = {{ NE = ".NAM", NM = ".NOM" }}
[paper]
{paper}
[translator]
kind = "fairseq"
{translator}
source = "zh"
[english]
checkpoint = "english/tagger.pt"
"""
PAPER = """
sentences = { train = 1350, dev = 270, test = 270 }
rows = [
    { table = 4, row = "Others (2018)", base = { NE = 55.5, Overall = 58 } },
    { table = 4, row = "Char", models = ["fastText+BiLSTM+CRF", "BiLSTM+CRF"], base = { NE = 40.25, Overall = 51.5 }, ban = { NE = 39, Overall = 50 } },
    { table = 4, row = "Large", models = ["BERT+BiLSTM+CRF"], ban = { Overall = 80.21 } },
    { table = 5, row = "Random Embedding", models = ["Random Embedding+BiLSTM+CRF"], base = { Overall = 10.33 } },
]"""  # noqa: E501


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    return tmp_path


def write(home: Path, paper: str = PAPER, translator: str = 'checkpoint = "zh/translator"') -> None:
    (home / "pipelines").mkdir(exist_ok=True)
    text = RECIPE.format(home=home, paper=paper, translator=translator)
    (home / "pipelines" / "zh.toml").write_text(text, "utf-8")


GROUPS = {
    name: np.where(np.arange(200)[:, None] % 2 == parity, 1, 0) for parity, name in enumerate(("NE", "NM"))
}


def train(
    home: Path,
    inputs: str,
    seed: int,
    *,
    embeddings: tuple[str, ...] = (),
    sentences: int | str = "all",
    **tagger: Any,
) -> None:
    skill = 0.5 if inputs == "words" else 0.6
    counts = draw_counts(skill, seed)
    make_run(
        home / "zh" / "runs", inputs, seed, counts=counts,
        tagger={"embeddings": list(embeddings), "sentences": sentences, "fusion": "output", **tagger},
        embeddings=dict.fromkeys(embeddings, "1-aa"), groups={n: counts * part for n, part in GROUPS.items()},
    )  # fmt: skip


def beside(home: Path) -> dict[int, list[dict[str, str]]]:
    """The grids: number of the table -> lines by column."""
    report = make_report(["zh"], home).langs[0]
    assert report.recipe is not None
    assert report.recipe.paper is not None
    grids = paper_grids(report.tables[0], report.recipe.paper)
    return {
        int(grid.header[0].split()[1]): [dict(zip(grid.header, row, strict=True)) for row in grid.rows]
        for grid in grids
    }


def test_each_figure_stands_in_its_table_beside_the_runs_of_its_models(home: Path) -> None:
    for seed in (1, 2):
        for inputs in ("words", "words+transfer"):
            train(home, inputs, seed)
            train(home, inputs, seed, embeddings=("charlm",))  # which the paper has not here
        train(home, "random", seed, fusion="input", word_dimensions=0, characters="none")
    found = beside(home)
    assert list(found) == [1, 4, 5]
    assert found[1] == [
        {"Table 1": "train", "Paper": "1,350", "Here": "500"},
        {"Table 1": "dev", "Paper": "270", "Here": "200"},
        {"Table 1": "test", "Paper": "270", "Here": "200"},
    ]
    names = [(line["Table 4"], line["Here"], line["F1 of"]) for line in found[4]]
    assert names == [
        ("Others (2018)", "–", "NE"), ("Others (2018)", "–", "Overall"),
        ("Char", "BiLSTM+CRF", "NE"), ("Char", "BiLSTM+CRF", "Overall"), ("Large", "–", "Overall"),
    ]  # fmt: skip
    figures = [[line[n] for n in ("Paper", "Paper +BAN", "Paper lift")] for line in found[4]]
    assert figures == [
        ["55.50", "–", "–"], ["58.00", "–", "–"],
        ["40.25", "39.00", "−1.25"], ["51.50", "50.00", "−1.50"], ["–", "80.21", "–"],
    ]  # fmt: skip
    rows = {row.model: row for row in make_report(["zh"], home).langs[0].tables[0].rows}
    for line in found[4]:
        ours = [line["Here F1"], line["Here +BAN"]]
        if line["Table 4"] != "Char":
            assert {*ours, line["Here lift"], line["Less the paper's lift"], line["Seeds"]} == {"–"}
            continue
        measure = line["F1 of"]
        for cell, model in zip(ours, ("BiLSTM+CRF", "BiLSTM+CRF+BAN"), strict=True):
            assert cell.startswith(f"{100 * rows[model].measures[measure].mean:.2f} ± ")
        assert line["Seeds"] == "2"
    (random,) = found[5]
    f1 = rows["Random Embedding+BiLSTM+CRF"].measures[OVERALL].mean
    assert (random["Paper"], random["Here"]) == ("10.33", "Random Embedding+BiLSTM+CRF")
    assert "Paper +BAN" not in random  # nor any other column of lifts
    assert random["Here F1"].startswith(f"{100 * f1:.2f} ± ")


def test_the_lift_of_a_group_is_bootstrapped_and_the_papers_taken_from_it(home: Path) -> None:
    """Against the counts themselves: the group's lift, and its interval moved by the paper's."""
    for seed in (1, 2, 3):
        for inputs in ("words", "words+transfer"):
            train(home, inputs, seed)
    report = make_report(["zh"], home)
    (table,) = report.to_json()["langs"]["zh"]["tables"]
    lines = [line for line in table["beside_paper"] if line["row"] == "Char"]
    for line, group, lift in zip(lines, (GROUPS["NE"], 1), (-1.25, -1.5), strict=True):
        counts = [np.stack([draw_counts(skill, seed) * group for seed in (1, 2, 3)]) for skill in (0.5, 0.6)]
        ours = paired_bootstrap(*counts, seeds=(1, 2, 3))
        assert line["paper_lift"] == pytest.approx(lift)
        for name in ("value", "low", "high"):
            assert line["lift"][name] == pytest.approx(getattr(ours, name))
            assert line["less_paper_lift"][name] == pytest.approx(getattr(ours, name) - lift / 100)
    text = beside(home)[4][2]["Less the paper's lift"]
    found = lines[0]["less_paper_lift"]
    assert text == f"{points(found['value'])} [{points(found['low'])}, {points(found['high'])}]"


def test_each_setting_has_lines_of_its_own_and_the_nearest_model_comes_first(home: Path) -> None:
    for inputs in ("words", "words+transfer"):
        train(home, inputs, 1)
        train(home, inputs, 1, hidden=100)
        train(home, inputs, 1, embeddings=("fasttext",))
    train(home, "words+transfer", 1, dropout=0.25)  # without a base
    lines = [line for line in beside(home)[4] if (line["Table 4"], line["F1 of"]) == ("Char", "Overall")]
    found = [
        (line["Here"], "tagger.hidden=100" in line["Setting"], line["Here lift"] == "–") for line in lines
    ]
    assert found == [
        ("fastText+BiLSTM+CRF", False, False), ("BiLSTM+CRF", False, False), ("BiLSTM+CRF", True, False),
        ("BiLSTM+CRF", False, True),
    ]  # fmt: skip
    assert lines[-1]["Here F1"] == "–"


def test_only_runs_on_all_sentences_stand_there(home: Path) -> None:
    train(home, "words", 1, sentences=500)
    found = beside(home)
    assert {line["Here"] for line in found[4]} == {"–"}
    assert found[1][0]["Here"] == "–"
    make_run(home / "zh" / "runs", sentences=100)
    train(home, "words", 1)
    for sizes, shown in (((), True), ((100,), False), ((100, "all"), True), (("all",), True)):
        text = make_report(["zh"], home, sizes=sizes).to_text()
        assert ("Table 4 of the paper, and the runs" in text) == shown
        assert ("no runs here" in text) == shown


def test_what_has_no_runs_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provide_models(home, monkeypatch)
    train(home, "words", 1)
    report = make_report(["zh"], home)
    text = report.to_text()
    assert (
        "- Large, Table 4: no runs here of BERT+BiLSTM+CRF; write [embeddings.bert] (the folder of a "
        "transformers model, or a hub's name), then `backattn features zh --set "
        "'tagger.embeddings=[\"bert\"]'`, then `backattn train zh --set 'tagger.embeddings=[\"bert\"]'`."
        in text
    )
    alone = "--inputs random --set tagger.fusion=input --set tagger.word\\_dimensions=0"
    assert "no runs here of Random Embedding+BiLSTM+CRF; `backattn features zh`, then" in text
    assert alone.replace("\\_", "_") in text
    assert "Others (2018), Table" not in text  # which nobody can train here
    assert "- The paper's models without CharLM or BERT read fastText vectors;" in text
    html = (home / "zh" / "report" / "report.html").read_text("utf-8")
    assert "Table 5 of the paper, and the runs on all training sentences" in html
    saved = json.loads((home / "zh" / "report" / "report.json").read_text("utf-8"))
    assert saved["paper"]["rows"][3]["base"] == {"Overall": 10.33}
    assert [row["model"] for row in saved["tables"][0]["rows"]] == ["BiLSTM+CRF"]


def provide_models(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty files in the places of the translator and the English tagger."""
    monkeypatch.setenv("BACKATTN_CACHE", str(home))
    for name in ("zh/translator/checkpoint.pt", "english/tagger.pt"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()


def test_a_row_whose_models_are_not_here_says_what_makes_them(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One command for all that a recipe describes; what nobody describes is named, and how to get it."""
    monkeypatch.setenv("BACKATTN_CACHE", str(home))
    recipe = load_recipe(
        "zh",
        ["embeddings.charlm.checkpoint=other/charlm", "embeddings.bert.checkpoint=bert",
         "embeddings.fasttext.vectors=/here/zh.vec"],
    )  # fmt: skip
    option = """ --set 'tagger.embeddings=["fasttext", "charlm", "bert"]'`"""
    expected = (
        rf"{home}/zh/translator: no translator there \(checkpoint\.pt\); make it with .*; "
        rf"{home}/english/tagger\.pt: no English tagger there; none of the recipes here trains it .*; "
        r"/here/zh\.vec: not there; fetch a \.vec or \.bin file from fasttext\.cc, or .*; "
        rf"{home}/other/charlm/backward\.safetensors: not there; make both directions with .*; "
        rf"{home}/bert/config\.json: not there; point .*; "
        rf"`backattn features zh{re.escape(option)}, then `backattn train zh{re.escape(option)}"
    )
    assert re.fullmatch(expected, supply("fastText+CharLM+BERT+BiLSTM+CRF", recipe))
    monkeypatch.chdir(Path(__file__).parents[2])
    described = load_recipe("de")
    assert supply("BiLSTM+CRF", described) == (
        "`backattn models de`, then `backattn features de`, then `backattn train de`"
    )
    monkeypatch.chdir(home)
    provide_models(home, monkeypatch)
    assert supply("BiLSTM+CRF", recipe) == "`backattn features zh`, then `backattn train zh`"
    with pytest.raises(MissingError, match=r"its data: .*; they come from the moon$"):
        make_report(["zh"], home)


@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("de-conll2003", r"`backattn models de-conll2003` \(with the same --set\) trains its models"),
        ("de-germeval", r"`backattn models de-germeval` \(with the same --set\) trains its models"),
        ("zh-ontonotes", r"`backattn models zh-ontonotes` \(with the same --set\) trains its models"),
        (
            "zh",
            r".*mdbg\.txt\.gz: no such file .*; `backattn models zh` \(.*\) trains its other models",
        ),
        ("de-wmt19", r"its models: .*transformer\.wmt19\.de-en, flair/ner-english \(from their hubs"),
    ],
)
def test_the_committed_recipes_say_what_to_supply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, models: str
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setenv("BACKATTN_DATA", str(tmp_path))
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path))
    source = re.escape(load_recipe(name).corpus.source)
    expected = (
        rf"runs: no finished run; train some with `backattn train {name}`; its data: .* are not there; "
    )
    with pytest.raises(MissingError, match=rf"{expected}they come from {source}; {models}"):
        make_report([name], tmp_path)


def test_a_recipe_that_has_the_features_needs_only_the_commands(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe("zh", ["embeddings.charlm.hub=zh", "embeddings.bert.hub=x"])
    provide_models(home, monkeypatch)
    assert "write" not in supply("CharLM+BiLSTM+CRF", recipe)
    assert supply("BiLSTM+CRF", recipe) == "`backattn features zh`, then `backattn train zh`"
    assert 'tagger.embeddings=["charlm", "bert"]' in supply("CharLM+BERT+BiLSTM+CRF", recipe)


def test_a_recipe_of_frozen_features_alone_says_the_same(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without word vectors of its own, as in the paper's settings, it is no recipe if they are left out."""
    charlm = ["embeddings.charlm.hub=zh"]
    frozen = [*charlm, 'tagger.embeddings=["charlm"]', "tagger.word_dimensions=0"]
    provide_models(home, monkeypatch)
    for model in ("BiLSTM+CRF", "CharLM+BiLSTM+CRF", "BAN Embedding+BiLSTM+CRF"):
        assert supply(model, load_recipe("zh", frozen)) == supply(model, load_recipe("zh", charlm))


def test_no_runs_at_all_says_what_the_recipe_needs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home, translator='hub = "transformer.x"')
    provide_models(home, monkeypatch)
    (home / "dev").write_text("")
    with pytest.raises(MissingError) as caught:
        make_report(["zh"], home)
    assert str(caught.value) == (
        f"{home}/zh/runs: no finished run; train some with `backattn train zh`; its data: {home}/train, "
        f"{home}/test are not there; they come from the moon; its models: transformer.x "
        "(from their hubs, when online)"
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            'models = ["ELMo+CRF"]',
            r"paper\.rows\[0\]\.models\[0\]: expected a name such as BiLSTM\+CRF, CharLM\+BiLSTM",
        ),
        ('models = ["BiLSTM+CRF+BAN"]', r"paper\.rows\[0\]\.models\[0\]: expected a name"),
        ("base = { XX = 1 }", r"paper\.rows\[0\]: expected figures of Overall, NE, NM \(corpus\.groups"),
        (
            "base = { NE = 1, Overall = 101 }",
            r"rows\[0\]\.base\.Overall: expected an F1 in percent; found 101",
        ),
        ("ban = { NE = -1 }", r"paper\.rows\[0\]\.ban\.NE: expected an F1 in percent; found -1"),
        ('ban = { NE = "x" }', r"paper\.rows\[0\]\.ban\.NE: expected an F1 in percent; found 'x'"),
        ("table = 6", r"paper\.rows\[0\]\.table: expected a whole number from 2 to 5; found 6"),
        ("f1 = 3", r"paper\.rows\[0\]\.f1: unknown key"),
    ],
)
def test_a_figure_that_cannot_stand_beside_ours_is_refused(home: Path, row: str, message: str) -> None:
    table = "" if row.startswith("table") else "table = 4, "
    write(home, f'rows = [{{ {table}row = "x", {row} }}]')
    with pytest.raises(RecipeError, match=message):
        load_recipe("zh")
    train(home, "words", 1)
    with pytest.raises(RecipeError, match=message):  # nor does a report leave it out in silence
        make_report(["zh"], home)


def test_the_committed_figures_are_the_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables 2 to 5, typed once more: base and +BAN; and the lifts that the paper's text names."""
    monkeypatch.chdir(Path(__file__).parents[2])
    known: dict[str, dict[tuple[int, str, str], tuple[float | None, float | None]]] = {}
    sentences = {}
    for name in available_recipes():
        paper = load_recipe(name).paper
        for row in paper.rows if paper else ():
            for measure in {*row.base, *row.ban}:
                figures = (row.base.get(measure), row.ban.get(measure))
                known.setdefault(name, {})[row.table, row.row.split(" (")[0], measure] = figures
        if paper and paper.sentences:
            sentences[name] = [*as_json(paper.sentences).values()]
    assert sentences == {
        "es": [8323, 1915, 1517], "zh": [1350, 270, 270], "zh-ontonotes": [15509, 4405, 4462],
        "de-conll2003": [12705, 3068, 3160], "de-wmt19": [12705, 3068, 3160],
    }  # fmt: skip
    german = {
        (2, "Lample et al.", OVERALL): (78.76, None), (2, "Akbik et al.", OVERALL): (88.32, None),
        (2, "BiLSTM+CRF", OVERALL): (82.25, 84.23), (2, "CharLM+BiLSTM+CRF", OVERALL): (88.25, 88.36),
    }  # fmt: skip
    weibo = {
        "Peng and Dredze": [55.28, 62.97, 58.99], "He and Sun": [54.50, 62.17, 58.23],
        "Zhang and Yang": [53.04, 62.25, 58.79],
        "Char+BiLSTM+CRF": [(32.35, 44.13), (35.31, 42.57), (33.18, 43.57)],
        "BERT+BiLSTM+CRF": [(70.24, 72.16), (68.51, 69.27), (69.53, 70.76)],
    }  # fmt: skip
    assert known == {
        "de-conll2003": german,
        "de-wmt19": german,
        "es": {
            (2, "Lample et al.", OVERALL): (85.75, None), (2, "Feng et al.", OVERALL): (86.42, None),
            (2, "BiLSTM+CRF", OVERALL): (82.22, 85.01), (2, "CharLM+BiLSTM+CRF", OVERALL): (86.76, 88.11),
        },
        "zh-ontonotes": {
            (3, "Yang et al.", OVERALL): (76.40, None), (3, "Che et al.", OVERALL): (75.02, None),
            (3, "Wang et al.", OVERALL): (74.32, None), (3, "Feng et al.", OVERALL): (83.07, None),
            (3, "Zhang and Yang", OVERALL): (73.88, None), (3, "Char+BiLSTM+CRF", OVERALL): (63.25, 72.15),
            (3, "+BERT+BAN", OVERALL): (None, 80.21),
        },
        "zh": {
            (4, name, measure): figure if isinstance(figure, tuple) else (figure, None)
            for name, figures in weibo.items()
            for measure, figure in zip(("NE", "NM", OVERALL), figures, strict=True)
        }
        | {
            (5, "FASTTEXT+BiLSTM+CRF", OVERALL): (33.18, None),
            (5, "BAN Embedding+BiLSTM+CRF", OVERALL): (34.14, None),
            (5, "Random Embedding+BiLSTM+CRF", OVERALL): (10.33, None),
        },
    }  # fmt: skip
    lifts = {
        (name, row.row): row.lift(OVERALL)
        for name in ("es", "zh")
        for row in load_recipe(name).paper.rows
        if row.ban
    }
    assert lifts["zh", "Char+BiLSTM+CRF"] == pytest.approx(10.39)
    assert lifts["es", "BiLSTM+CRF"] == pytest.approx(2.79)
    for path in PIPELINES.glob("*.toml"):
        assert "not known" not in path.read_text("utf-8")


def test_notes_know_which_models_have_runs(home: Path) -> None:
    train(home, "words+transfer", 1, embeddings=("bert",))
    report = make_report(["zh"], home).langs[0]
    assert report.recipe is not None
    notes = paper_notes(report.tables[0], report.recipe)
    assert [note.split(",")[0] for note in notes if "no runs here" in note] == ["Char", "Random Embedding"]


def test_the_commands_that_the_recipes_give_for_each_row_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comments hold a command for each row of the paper: models by their names, inputs that exist."""
    monkeypatch.chdir(Path(__file__).parents[2])
    given: dict[str, set[str]] = {}
    for path in PIPELINES.glob("*.toml"):
        for line in re.findall(r"^#   (backattn train .*)$", path.read_text("utf-8"), re.M):
            words = shlex.split(re.split(r"\s{4,}", line)[0])
            assert words[:3] == ["backattn", "train", path.stem]
            options = list(zip(words[3::2], words[4::2], strict=True))
            preset = [one for name, value in options if name == "--preset" for one in preset_overrides(value)]
            recipe = load_recipe(path.stem, preset + [value for name, value in options if name == "--set"])
            inputs = [part for name, value in options if name == "--inputs" for part in value.split(",")]
            assert set(inputs) <= set(get_args(Inputs))
            assert {name for name, _ in options} <= {"--set", "--inputs", "--preset"}
            names = {model_name(kind, recipe.tagger) for kind in inputs or ("words", "words+transfer")}
            given.setdefault(path.stem, set()).update(names)
    for name in available_recipes():
        paper = load_recipe(name).paper
        for row in paper.rows if paper and name != "de-wmt19" else ():  # the corpus of de-conll2003
            assert not row.models or {*row.models} & given[name], (name, row.row)
            assert not row.models or not row.ban or {f"{m}+BAN" for m in row.models} & given[name]
    for name in ("es", "zh"):  # ablations
        assert {"BiLSTM+CRF", "BiLSTM+CRF+BAN", "BAN+CRF", "BiLSTM+CRF+random"} <= given[name]
