"""Both stages with real models on the embedded sample, through the command line, small enough for CI."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from backattn import cli
from backattn.corpus.formats import read_corpus
from backattn.recipe import load_recipe

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
# What makes the sample's recipe small: a few hundred pairs, one epoch of everything.
SMALL = {
    "translator.beam": "2",
    "translator.training.learning_rates": "[0.5, 0.25]",
    "translator.training.average": "1",
    "translator.training.test_limit": "40",
    "translator.training.parallel": '[{ path = "${BACKATTN_CACHE}/sample/data/parallel.train.tsv", limit = 600 }]',  # noqa: E501
    "english.training.epochs": "1",
    "english.training.hidden": "16",
    "tagger.epochs": "2",
    "tagger.hidden": "16",
}
OVERRIDES = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]


def run(*arguments: str, text: str | None = None) -> str:
    result = CliRunner().invoke(cli.main, list(arguments), input=text)
    if result.exit_code:
        raise AssertionError(f"{arguments}: {result.stderr}") from result.exception
    return result.stdout


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's data, a real translator and a real English tagger."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("BACKATTN_CACHE", str(folder))
        run("sample")
        translator = json.loads(run("translator", "train", "sample", "--threads", "1", "--json", *OVERRIDES))
        english = json.loads(run("english", "train", "sample", "--threads", "1", "--json", *OVERRIDES[:]))
    first, second = (epoch["valid_perplexity"] for epoch in translator["epochs"])
    assert second < 0.9 * first
    assert english["dev"]["f1"] > 0.3
    return folder


@pytest.fixture(autouse=True)
def at_home(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("BACKATTN_CACHE", str(cache))


def test_from_a_corpus_to_tags_of_new_text(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe("sample", [f"{key}={value}" for key, value in SMALL.items()])
    corpus = read_corpus(recipe.corpus)
    made = json.loads(run("features", "sample", "--device", "cpu", "--json", *OVERRIDES))
    assert made["translation"]["sentences"] == made["transfer"]["computed"] == len(corpus.unique)
    run("check", "sample", "--deep", *OVERRIDES)

    # A label edit costs nothing; a new sentence costs itself.
    train = cache / "sample/data/german.train"
    before = train.read_text("utf-8")
    train.write_text(before.replace(" B-PER", " B-ORG", 1) + "\nGanz O\nneu O\n", "utf-8")
    again = json.loads(run("features", "sample", "--device", "cpu", "--json", *OVERRIDES))
    assert (again["translation"]["computed"], again["transfer"]["computed"]) == (1, 1)
    train.write_text(before, "utf-8")

    options = ("--seeds", "1", "--inputs", "words+transfer", "--threads", "1", "--device", "cpu", "--json")
    folder = json.loads(run("train", "sample", *options, *OVERRIDES))[0]["folder"]
    predicted = (Path(folder) / "predictions.test.tsv").read_text("utf-8").rstrip("\n")
    wanted = [[line.split("\t")[2] for line in block.split("\n")] for block in predicted.split("\n\n")]
    lines = "".join(" ".join(sentence.tokens) + "\n" for sentence in corpus.test)
    tagged = run("tag", folder, "--input", "tokens", "--device", "cpu", text=lines).rstrip("\n")
    found = [[line.split("\t")[1] for line in block.split("\n")] for block in tagged.split("\n\n")]
    # Other batches round otherwise: a tie may fall the other way, no more.
    assert sum(a == b for a, b in zip(found, wanted, strict=True)) >= 0.99 * len(wanted)

    run("report", "sample")
    report = json.loads((cache / "sample/report/report.json").read_text("utf-8"))
    rows = [row for table in report["tables"] for row in table["rows"]]
    assert {reported["folder"] for row in rows for reported in row["runs"]} == {Path(folder).name}
    page = run("inspect", "sample", "test:1", "--run", folder, *OVERRIDES)
    assert corpus.test[0].tokens[0] in page

    made = json.loads(run("package", folder, str(tmp_path / "made"), "--json"))
    assert set(made["models"]) == {"translator", "english"}
    assert [line for line in made["warnings"] if "F1 is 0 on" not in line] == []  # after two epochs it may be
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path / "nothing"))
    lines = "".join(" ".join(sentence.tokens) + "\n" for sentence in corpus.test[:40])
    again = run("tag", "made", "--input", "tokens", "--device", "cpu", text=lines).rstrip("\n").split("\n\n")
    same = sum(a == b for a, b in zip(again, tagged.split("\n\n"), strict=False))
    assert (len(again), same >= 39) == (40, True)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
