"""Recipes that need little: no model to translate with, or no English tagger where nothing reads one."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from backattn import cli

SENTENCES = (
    "Lunedì\tO\nil\tO\nsindaco\tO\ndi\tO\nSan\tB-LOC\nRemo\tI-LOC\n\nAda\tB-PER\nè\tO\na\tO\nRoma\tB-LOC\n\n"
)
RECIPE = """
[corpus]
train = "{folder}/train.tsv"
dev = "{folder}/train.tsv"
test = "{folder}/train.tsv"
source = "here"
[corpus.format]
kind = "columns"
[translator]
{translator}
source = "it"
{more}
[tagger]
epochs = 1
hidden = 4
word_dimensions = 4
{tagger}
"""
TRANSLATORS = {
    "copy": 'kind = "copy"',
    "dictionary": 'kind = "dictionary"\ndictionary = "{folder}/it.tsv"',
    "a model that is not there": 'kind = "fairseq"\ncheckpoint = "nowhere"',
}
FASTTEXT = '[embeddings.fasttext]\nvectors = "{folder}/it.vec"\n'


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, list(arguments))


@pytest.fixture(params=TRANSLATORS)
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):
    """Writes a recipe without [english] and returns its path."""
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "train.tsv").write_text(SENTENCES, encoding="utf-8")
    (tmp_path / "it.tsv").write_text("lunedì\tMonday\nSan Remo\tSanremo\nsindaco\tmayor\n", encoding="utf-8")
    (tmp_path / "it.vec").write_text("2 3\nRoma 1 0 0\nil 0 1 0\n", encoding="utf-8")

    def written(more: str = "", tagger: str = "") -> str:
        translator = TRANSLATORS[request.param].format(folder=tmp_path)
        text = RECIPE.format(
            folder=tmp_path, translator=translator, more=more.format(folder=tmp_path), tagger=tagger
        )
        (tmp_path / "light.toml").write_text(text, encoding="utf-8")
        return str(tmp_path / "light.toml")

    return written


def test_a_recipe_of_words_alone_goes_through_every_command(write) -> None:
    lang = write()
    assert run("corpus", lang).exit_code == 0
    for command in (("check",), ("features",), ("features", "--dry-run"), ("check", "--deep")):
        done = run(command[0], lang, *command[1:])
        assert done.exit_code == 0, done.output
        assert "nothing to compute: it names no [english], which T needs, and no tagger.emb" in done.stdout
    assert json.loads(run("check", lang, "--json").stdout) == []
    assert run("gc", lang).exit_code == 0
    trained = run("train", lang, "--inputs", "words", "--seeds", "1")
    assert trained.exit_code == 0, trained.output
    assert run("report", lang).exit_code == 0


def test_embeddings_need_neither_translator_nor_english_tagger(write) -> None:
    lang = write(FASTTEXT, 'embeddings = ["fasttext"]')
    assert run("check", lang).exit_code == 1  # missing
    made = run("features", lang, "--only", "embeddings")
    assert made.exit_code == 0, made.output
    assert run("features", lang).exit_code == 0
    assert run("check", lang).exit_code == 0
    trained = run("train", lang, "--inputs", "words", "--seeds", "1")
    assert trained.exit_code == 0, trained.output
    assert run("report", lang).exit_code == 0


@pytest.mark.parametrize(
    "arguments", [("train", "--seeds", "1"), ("features", "--only", "transfer"), ("pairs",)]
)
def test_what_reads_t_asks_for_the_english_tagger(write, arguments: tuple[str, ...]) -> None:
    refused = run(arguments[0], write(), *arguments[1:])
    said = [line for line in refused.stderr.splitlines() if "stand in train" not in line]  # train's warnings
    assert (refused.exit_code, len(said)) == (2, 1)
    assert "english: missing table, which T needs" in said[0]
