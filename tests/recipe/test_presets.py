"""Presets: fixed settings before ``--set``; the paper's, by its own words."""

import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from backattn import cli
from backattn.cli.options import recipe_options, with_overrides
from backattn.recipe import load_recipe
from backattn.recipe.presets import PRESETS, preset_overrides
from users_folder import make_home

# Section 3.2 and eq. 5, 7, written out once more.
SECTION_3_2 = [
    "tagger.epochs=150", "tagger.learning_rate=0.1", "tagger.patience=3", "tagger.anneal=0.5",
    "tagger.hidden=256", "tagger.batch=16", "tagger.word_dropout=0.1", "tagger.dropout=0.5",
    "tagger.clip_norm=0", "tagger.standardise=false", 'tagger.characters="none"', "tagger.fusion=output",
    "transfer.normalise=none", "tagger.precision=float32", "transfer.source_states=false",
    "transfer.states=lstm", "transfer.attention=translator",
]  # fmt: skip
# Every key that the preset has to change.
OTHERS = """
[transfer]
states = "tags"
source_states = true
attention = "uniform"
normalise = "source"
[tagger]
epochs = 1
learning_rate = 1
patience = 9
anneal = 0.1
hidden = 2
batch = 1
word_dropout = 0
dropout = 0
clip_norm = 1
characters = "cnn"
fusion = "gate"
word_dimensions = 7
precision = "bfloat16"
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_home(tmp_path, monkeypatch, OTHERS)


def test_the_preset_is_these_settings_and_no_other(home: Path) -> None:
    assert load_recipe("toy", preset_overrides("paper")) == load_recipe("toy", SECTION_3_2)
    assert len(PRESETS["paper"]) == len(SECTION_3_2)
    before, after = load_recipe("toy"), load_recipe("toy", preset_overrides("paper"))
    assert (after.tagger.word_dimensions, after.translator) == (7, before.translator)


def test_each_preset_is_of_keys_that_recipes_have(home: Path) -> None:
    for name in PRESETS:
        load_recipe("toy", preset_overrides(name))
        for setting in preset_overrides(name):
            load_recipe("toy", [setting])


def test_can_is_where_the_states_come_from_and_where_they_go(home: Path) -> None:
    settings = ["transfer.states=embeddings", "transfer.source_states=false",
                "transfer.attention=translator", "tagger.fusion=input"]  # fmt: skip
    assert load_recipe("toy", preset_overrides("can")) == load_recipe("toy", settings)


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli.main, list(arguments))
    return done.exit_code, done.output


@pytest.mark.parametrize("before", [True, False])
def test_set_comes_after_the_preset_wherever_it_stands(home: Path, before: bool) -> None:
    """The run of a preset is the run of its settings: the same folder, not trained again."""
    options = ["--set", "tagger.epochs=2", "--set", "tagger.hidden=4"]
    preset = ["--preset", "paper"]
    command = ["train", "toy", "--inputs", "words", "--seeds", "1"]
    assert run(*command, *(options + preset if before else preset + options))[0] == 0
    written = {path: path.stat().st_mtime_ns for path in home.glob("cache/toy/runs/*/weights*")}
    assert len(written) == 1
    settings = [part for setting in SECTION_3_2 for part in ("--set", setting)]
    assert run(*command, *settings, *options)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in home.glob("cache/toy/runs/*/weights*")} == written


def test_a_preset_that_is_none(home: Path) -> None:
    status, out = run("train", "toy", "--preset", "papers")
    assert status == 2
    assert "'papers' is not 'paper'" in out.replace("one of ", "")


@pytest.mark.parametrize(("options", "message"), [
    (["--preset", "paper", "--preset", "can"], "found paper, can, expected one; give what"),
    (["--preset", ""], "Invalid value for '--preset': '' is not one of"),
    (["--preset", "PAPER"], "'PAPER' is not one of 'paper', 'can'"),
    (["--preset", "pa\x1b[1mper"], "'pa\\x1b[1mper' is not one of"),
    (["--preset", "paper", "--set", "preset=can"], "preset: unknown key"),
    (["--preset", "paper", "--set", "tagger.hidden=x"], "tagger.hidden: expected a whole number"),
    (["--preset", "can", "--set", "translator.kind=given"], "translator.kind: given is planned"),
])  # fmt: skip
def test_odd_presets_are_refused(home: Path, options: list[str], message: str) -> None:
    status, out = run("corpus", "toy", *options)
    assert (status, message in out, "\x1b" in out) == (2, True, False), out


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_beside_recipes_that_need_less(home: Path, preset: str) -> None:
    """It has settings of T also where the recipe has no T, and of no translator alone."""
    path = home / "pipelines/toy.toml"
    text = path.read_text()
    path.write_text(text.replace('kind = "fairseq"\ncheckpoint = "toy/translator"', 'kind = "copy"'))
    assert "there is no store yet" in run("check", "toy", "--preset", preset)[1]
    path.write_text(text[: text.index("[english]")] + text[text.index("[transfer]") :])
    status, out = run("check", "toy", "--preset", preset)
    assert (status, "names no [english], which T needs" in out) == (0, True)


@pytest.mark.parametrize("preset", [None, *PRESETS])
def test_the_next_command_names_the_preset_and_reads_as_the_command_before_it(preset: str | None) -> None:
    seen: list[tuple[str, tuple[str, ...]]] = []

    @click.command()
    @recipe_options
    def command(lang: str, overrides: tuple[str, ...]) -> None:
        seen.append((lang, overrides))

    chosen = ["--preset", preset] if preset else []
    typed = ["zh", *chosen, "--set", 'tagger.embeddings=["fasttext"]', "--set", "tagger.epochs=3"]
    command.main(typed, standalone_mode=False)
    told = with_overrides(*seen[0])
    assert told == shlex.join(typed)
    command.main(shlex.split(told), standalone_mode=False)
    assert seen[1] == seen[0]
