"""The paper's figures beside ours: where they stand, what is a dash, what is said of missing runs."""

import json
import re
import shlex
from pathlib import Path
from typing import get_args

import pytest
from run_folders import make_run

from backattn.common.errors import MissingError, RecipeError
from backattn.recipe import PIPELINES, available_recipes, load_recipe
from backattn.report.comparison import OVERALL
from backattn.report.paper_comparison import paper_grid, paper_notes, supply
from backattn.report.tables import make_report
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
table = "Table 4"
figures = {figures}
[translator]
kind = "fairseq"
{translator}
source = "zh"
[english]
checkpoint = "english/tagger.pt"
"""
FIGURES = """[
    { model = "CharLM+BiLSTM+CRF", base = 51.5, ban = 50 },
    { model = "CharLM+BiLSTM+CRF", measure = "NE", base = 40.25 },
    { model = "BERT+BiLSTM+CRF", lift = 2.5 },
    { measure = "", base = 33.18, ban = 43.57 },
]"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    return tmp_path


def write(home: Path, figures: str = FIGURES, translator: str = 'checkpoint = "zh/translator"') -> None:
    (home / "pipelines").mkdir(exist_ok=True)
    text = RECIPE.format(home=home, figures=figures.replace("\n", " "), translator=translator)
    (home / "pipelines" / "zh.toml").write_text(text.replace(", ]", "]"), "utf-8")


def train(
    home: Path, inputs: str, seed: int, *, embeddings: tuple[str, ...] = (), sentences: int | str = "all"
) -> None:
    make_run(
        home / "zh" / "runs", inputs, seed,
        tagger={"embeddings": list(embeddings), "sentences": sentences, "fusion": "output"},
        embeddings=dict.fromkeys(embeddings, "1-aa"), skill=0.5 if inputs == "words" else 0.6,
    )  # fmt: skip


def cells(home: Path) -> dict[str, dict[str, str]]:
    """The grid by model and column."""
    report = make_report(["zh"], home).langs[0]
    assert report.recipe is not None
    assert report.recipe.paper is not None
    grid = paper_grid(report.tables[0], report.recipe.paper)
    return {row[0]: dict(zip(grid.header, row, strict=True)) for row in grid.rows}


def test_a_figure_stands_beside_the_row_of_its_name_and_a_missing_one_is_a_dash(home: Path) -> None:
    for seed in (1, 2):
        for inputs in ("words", "words+transfer"):
            train(home, inputs, seed, embeddings=("charlm",))
            train(home, inputs, seed)
    found = cells(home)
    assert list(found) == [
        "CharLM+BiLSTM+CRF", "CharLM+BiLSTM+CRF+BAN", "BERT+BiLSTM+CRF", "BERT+BiLSTM+CRF+BAN",
        "BiLSTM+CRF", "BiLSTM+CRF+BAN",
    ]  # fmt: skip
    rows = {row.model: row for row in make_report(["zh"], home).langs[0].tables[0].rows}
    paper = {model: row["Overall F1, paper"] for model, row in found.items()}
    assert paper == {
        "CharLM+BiLSTM+CRF": "51.50", "CharLM+BiLSTM+CRF+BAN": "50.00", "BERT+BiLSTM+CRF": "–",
        "BERT+BiLSTM+CRF+BAN": "–", "BiLSTM+CRF": "–", "BiLSTM+CRF+BAN": "–",
    }  # fmt: skip
    lifts = {model: row["Lift, paper"] for model, row in found.items()}
    assert lifts["CharLM+BiLSTM+CRF+BAN"] == "−1.50"
    assert lifts["BERT+BiLSTM+CRF+BAN"] == "+2.50"
    assert {lifts[name] for name in lifts if not name.endswith("+BAN")} == {"–"}
    for model, row in found.items():
        if model.startswith("BERT"):
            assert (row["Overall F1, here"], row["Lift, here"], row["Seeds"]) == ("–", "–", "–")
            continue
        assert row["Overall F1, here"].startswith(f"{100 * rows[model].measures[OVERALL].mean:.2f} ± ")
        assert row["Seeds"] == "2"
    assert found["BiLSTM+CRF+BAN"]["Lift, here"].startswith("+")


def test_only_runs_on_all_sentences_stand_there(home: Path) -> None:
    train(home, "words", 1, sentences=500)
    found = cells(home)
    assert {row["Overall F1, here"] for row in found.values()} == {"–"}
    assert "BiLSTM+CRF" not in found
    make_run(home / "zh" / "runs", sentences=100)
    train(home, "words", 1)
    for sizes, shown in (((), True), ((100,), False), ((100, "all"), True), (("all",), True)):
        text = make_report(["zh"], home, sizes=sizes).to_text()
        assert ("Beside Table 4" in text) == shown
        assert ("no runs here" in text) == shown


def test_groups_have_columns_of_their_own(home: Path) -> None:
    train(home, "words", 1)
    folder = next((home / "zh" / "runs").iterdir())
    value = json.loads((folder / "run.json").read_text("utf-8"))
    rest = [[0, 0, 0]] * (len(value["test"]["sentences"]) - 1)
    value["test"]["group_sentences"] = {"NE": [[1, 0, 0], *rest], "NM": [[0, 1, 1], *rest]}
    (folder / "run.json").write_text(json.dumps(value), "utf-8")
    found = cells(home)
    assert found["CharLM+BiLSTM+CRF"]["NE F1, paper"] == "40.25"
    assert found["CharLM+BiLSTM+CRF+BAN"]["NE F1, paper"] == "–"
    assert found["CharLM+BiLSTM+CRF"]["NM F1, paper"] == "–"
    assert (found["BiLSTM+CRF"]["NE F1, here"], found["BiLSTM+CRF"]["NM F1, here"]) == ("100.00", "0.00")


def test_what_has_no_row_and_what_has_no_runs_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provide_models(home, monkeypatch)
    train(home, "words", 1)
    report = make_report(["zh"], home)
    text = report.to_text()
    assert (
        "- Known of Table 4 of the paper, but not of which model and measure: 33.18 without Back Attention, "
        "43.57 with Back Attention, a lift of +10.39." in text
    )
    assert (
        "- BERT+BiLSTM+CRF, with and without +BAN: no runs here; write [embeddings.bert] (the folder of a "
        "transformers model, or a hub's name), then `backattn features zh --set "
        "'tagger.embeddings=[\"bert\"]'`, then `backattn train zh --set 'tagger.embeddings=[\"bert\"]'`."
        in text
    )
    assert "CharLM+BiLSTM+CRF, with and without +BAN: no runs here" in text
    html = (home / "zh" / "report" / "report.html").read_text("utf-8")
    assert "Beside Table 4 of the paper, all training sentences" in html
    saved = json.loads((home / "zh" / "report" / "report.json").read_text("utf-8"))
    assert saved["paper"]["table"] == "Table 4"
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
        r"/here/zh\.vec: not there; fetch a \.vec file from fasttext\.cc, or .*; "
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
    ("figures", "message"),
    [
        (
            '[{ model = "ELMo+CRF" }]',
            r"paper\.figures\[0\]\.model: expected a name such as BiLSTM\+CRF, CharLM\+BiLSTM",
        ),
        ('[{ model = "BiLSTM+CRF+BAN" }]', r"paper\.figures\[0\]\.model: expected a name"),
        ('[{ measure = "XX" }]', r"figures\[0\]\.measure: expected one of Overall, NE, NM \(corpus\.groups"),
        ("[{ base = 101 }]", r"paper\.figures\[0\]\.base: expected an F1 in percent; found 101"),
        ("[{ ban = -1 }]", r"paper\.figures\[0\]\.ban: expected an F1 in percent; found -1"),
        ("[{ base = 1, ban = 2, lift = 1 }]", r"figures\[0\]\.lift: is already ban - base"),
        ("[{ f1 = 3 }]", r"paper\.figures\[0\]\.f1: unknown key"),
    ],
)
def test_a_figure_that_cannot_stand_beside_ours_is_refused(home: Path, figures: str, message: str) -> None:
    write(home, figures)
    with pytest.raises(RecipeError, match=message):
        load_recipe("zh")
    train(home, "words", 1)
    with pytest.raises(RecipeError, match=message):  # nor does a report leave it out in silence
        make_report(["zh"], home)


def test_the_committed_figures_are_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weibo 33.18 -> 43.57 (+10.39) and Spanish +2.79; every other one is a dash until it is known."""
    monkeypatch.chdir(Path(__file__).parents[2])
    known = {}
    for name in available_recipes():
        paper = load_recipe(name).paper
        for figure in paper.figures if paper else ():
            if (figure.base, figure.ban, figure.difference) != (None, None, None):
                known[name, figure.model] = figure
    assert known.keys() == {("zh", ""), ("es", "")}
    assert round(known["zh", ""].difference, 2) == 10.39
    assert known["es", ""].difference == 2.79


def test_notes_know_which_models_have_runs(home: Path) -> None:
    train(home, "words+transfer", 1, embeddings=("bert",))
    report = make_report(["zh"], home).langs[0]
    assert report.recipe is not None
    notes = paper_notes(report.tables[0], report.recipe)
    assert [note.split(",")[0] for note in notes if "no runs here;" in note] == ["CharLM+BiLSTM+CRF"]


def test_the_commands_that_the_recipes_give_for_each_row_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comments hold a command for each row of the paper: models by their names, inputs that exist."""
    monkeypatch.chdir(Path(__file__).parents[2])
    given: dict[str, set[str]] = {}
    for path in PIPELINES.glob("*.toml"):
        for line in re.findall(r"^#   (backattn train .*)$", path.read_text("utf-8"), re.M):
            words = shlex.split(re.split(r"\s{4,}", line)[0])
            assert words[:3] == ["backattn", "train", path.stem]
            options = list(zip(words[3::2], words[4::2], strict=True))
            recipe = load_recipe(path.stem, [value for name, value in options if name == "--set"])
            inputs = [part for name, value in options if name == "--inputs" for part in value.split(",")]
            assert set(inputs) <= set(get_args(Inputs))
            assert {name for name, _ in options} <= {"--set", "--inputs"}
            names = {model_name(kind, recipe.tagger) for kind in inputs or ("words", "words+transfer")}
            given.setdefault(path.stem, set()).update(names)
    for name in available_recipes():
        paper = load_recipe(name).paper
        models = {figure.model for figure in paper.figures if figure.model} if paper else set()
        if name != "de-wmt19":  # the corpus of de-conll2003, with other models
            assert models <= given.get(name, set())
            assert {f"{model}+BAN" for model in models} <= given.get(name, set())
    for name in ("es", "zh"):  # Table 5
        assert {"BiLSTM+CRF", "BiLSTM+CRF+BAN", "BAN+CRF", "BiLSTM+CRF+random"} <= given[name]
