"""The command line: one line and a status for each mistake, JSON for machines, make's LANG."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from users_folder import build_stores, make_home, run

ROOT = Path(__file__).parents[2]
TAGGER = """
[tagger]
hidden = 4
word_dimensions = 4
epochs = 2
"""
TRAINING = "[english.training]\nfiles = [{ path = 'english.conll' }]\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_home(tmp_path, monkeypatch, TAGGER)


def test_help_names_every_command() -> None:
    status, out, _ = run("--help")
    assert status == 0
    for command in (
        "corpus",
        "features",
        "check",
        "train",
        "tag",
        "report",
        "inspect",
        "translator",
        "english",
    ):
        assert f"\n  {command} " in out


@pytest.mark.parametrize(
    ("break_it", "arguments", "message"),
    [
        ("", ["corpus", "nope"], "pipelines/nope.toml: no such recipe; here are de, "),
        ("", ["corpus", "tyo"], "pipelines/tyo.toml: no such recipe; did you mean toy? here are de, "),
        (
            "",
            ["corpus", "toy", "--set", "tagger.epoch=1"],
            "toy.toml with --set: tagger.epoch: unknown key; did you mean epochs?",
        ),
        ("", ["corpus", "toy", "--set", "Taggr.epochs=1"], ": Taggr: unknown key; did you mean tagger?"),
        (
            "",
            ["corpus", "toy", "--set", "epochs=1"],
            ": epochs: unknown key; did you mean tagger.epochs or english.training.epochs or ",
        ),
        ("", ["keys", "taggr"], "'taggr': no such key; did you mean tagger? the tables of a recipe are"),
        (
            "",
            ["train", "toy", "--inputs", "words", "--device", "gpu"],
            "--device 'gpu': did you mean cuda? expected cpu, cuda, cuda:N or auto",
        ),
        ("rm data/toy.dev", ["corpus", "toy"], "data/toy.dev"),
        (
            "rm cache/toy/translator/checkpoint.pt",
            ["check", "toy"],
            "make it with `backattn translator train",
        ),
        (
            "rm cache/toy/english/tagger.pt",
            ["check", "toy"],
            "no English tagger there; none of the recipes here trains it (english.training); or point",
        ),
        ("", ["train", "toy", "--inputs", "word"], "--inputs word: expected one of words, words+transfer"),
        ("", ["train", "toy", "--seeds", "1,x"], "--seeds x: expected numbers"),
        ("", ["report", "toy"], "backattn train"),
        ("", ["tag", "cache/toy/runs/none"], "holds no run; `backattn train LANG` makes it"),
        ("", ["english", "train", "toy"], "no [english.training]"),
        ("", ["translator", "train", "toy"], "no [translator.training]"),
    ],
)
def test_a_users_mistake_is_one_line_and_status_2(
    home: Path, break_it: str, arguments: list[str], message: str
) -> None:
    if break_it:
        (home / break_it.removeprefix("rm ")).unlink()
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("backattn: ")
    assert err.count("\n") == 1
    assert message in err


def test_a_missing_english_tagger_names_the_recipe_that_makes_it(home: Path) -> None:
    (home / "cache/toy/english/tagger.pt").unlink()
    (home / "pipelines/broken.toml").write_text("[english")
    (home / "pipelines/other.toml").write_text(english := "[english]\ncheckpoint = 'other.pt'\n" + TRAINING)
    (home / "pipelines/shared.toml").write_text(english.replace("other.pt", "toy/english/tagger.pt"))
    status, _, err = run("check", "toy")
    assert status == 2
    assert "the recipe shared trains it, with `backattn english train shared`; or point" in err
    with (home / "pipelines/toy.toml").open("a") as file:
        file.write(TRAINING)
    assert "the recipe toy trains it, with `backattn english train toy`" in run("check", "toy")[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["corpsu", "toy"], "No such command 'corpsu'. (Did you mean one of: 'corpus', 'vectors'?)"),
        (["english", "trian"], "No such command 'trian'. Did you mean 'train'?"),
        (["corpus", "toy", "--jsno"], "No such option '--jsno'. Did you mean '--json'?"),
        (["--hlep"], "No such option '--hlep'. Did you mean '--help'?"),
    ],
)
def test_the_nearest_command_and_option_are_named(home: Path, arguments: list[str], message: str) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1] == f"Error: {message}"


def test_a_recipe_may_begin_with_a_byte_order_mark(home: Path) -> None:
    recipe = home / "pipelines/toy.toml"
    plain = run("corpus", "toy", "--json")
    recipe.write_bytes(b"\xef\xbb\xbf" + recipe.read_bytes().lstrip())
    assert recipe.read_bytes().startswith(b"\xef\xbb\xbf[corpus]")
    assert run("corpus", "toy", "--json") == plain
    assert "toy" in json.dumps(json.loads(run("recipes", "--json")[1]))
    recipe.write_bytes(b"\xef\xbb\xbf" + recipe.read_bytes())  # a second one is a character
    assert "not readable as TOML" in run("corpus", "toy")[2]


def test_check_features_and_train_agree_about_the_cache(home: Path) -> None:
    assert run("check", "toy")[0] == 1
    status, _, err = run("train", "toy", "--inputs", "words+transfer", "--seeds", "1")
    assert status == 1
    assert "4 of 4 sentences have no transfer vectors; run `backattn features toy`" in err
    build_stores()
    status, out, _ = run("check", "toy", "--deep", "--json")
    assert status == 0
    assert [stage["state"] for stage in json.loads(out)] == ["fresh", "fresh"]
    assert run("features", "toy")[0] == 0
    with (home / "data/toy.train").open("a") as file:
        file.write("\nemil B-PER\n")
    status, out, _ = run("features", "toy", "--dry-run")
    assert status == 0
    assert "translation: stale; 5 sentences, 1 to compute" in out
    assert "sentence not in the store: emil" in out
    status, out, _ = run("check", "toy")
    assert status == 1
    store = next((home / "cache/toy/transfer").glob("*.h5"))
    store.write_bytes(store.read_bytes()[:2000])
    status, out, _ = run("check", "toy")
    assert status == 2
    assert "transfer: corrupt" in out
    assert "were written; delete it, then `backattn features` makes it anew" in out
    status, out, _ = run("check", "toy", "--json")
    assert (status, [stage["state"] for stage in json.loads(out)]) == (2, ["stale", "corrupt"])
    for command in (["features"], ["features", "--dry-run"], ["gc"], ["train", "--inputs", "words+transfer"]):
        status, out, err = run(command[0], "toy", *command[1:])
        assert (status, out) == (2, ""), command
        assert "delete it, then `backattn features` makes it anew" in err


def test_runs_are_trained_once_and_reported(home: Path) -> None:
    build_stores()
    arguments = ("train", "toy", "--seeds", "1,2", "--threads", "1", "--json")
    status, out, _ = run(*arguments)
    assert status == 0
    first = json.loads(out)
    assert len(first) == 4
    assert all("scheme:IOBES" in row["signature"] for row in first)
    assert json.loads(run(*arguments)[1]) == first
    # How the work is cut is no part of a run's identity.
    again = run(*arguments, "--set", "translator.batch_tokens=7")
    assert json.loads(again[1]) == first
    status, out, _ = run("report", "toy")
    assert status == 0
    assert "words+transfer" in out
    for option, expected in (("all", 0), ("100%", 0), ("50%", 2)):
        status, out, err = run("report", "toy", "--sentences", option, "--json")
        assert status == expected
    assert "no finished run of toy has 1 sentences; there are 2" in err


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_train_tells_what_is_unusual_once_before_it_begins(
    home: Path, capfd: pytest.CaptureFixture[str], jobs: str
) -> None:
    """With several runs in several processes, too; and of what concerns a sample alone."""
    names = ["anna", "ben", "carla", "dirk", "ede", "finn", "gerd", "hanna"]
    corpus = {
        "train": "\n".join(f"{name} O\nsingt O\n" for name in names) + "\nida B-PER\nda O\n",
        "dev": "die O\nFrau O\n\nsie O\n",
        "test": "ida B-PER\nda O\n\njan B-GPE\n",
    }
    for split, text in corpus.items():
        (home / f"data/toy.{split}").write_text(text)
    arguments = ("toy", "--inputs", "words", "--sentences", "1,all", "--seeds", "1,2", "--jobs", jobs)
    status, out, err = run("train", *arguments, "--json")
    assert status == 0, err
    assert len(json.loads(out)) == 4
    assert [row["best_epoch"] for row in json.loads(out)] == [2] * 4  # all epochs are equal
    everything = err + capfd.readouterr().err
    told = json.loads(run("corpus", "toy", "--json")[1])["warnings"]
    assert [line.split(":")[0] for line in told] == ["dev", "test", "test"]
    sample = "train: the sample of 1 has no entity"
    for line in (*told, sample):
        assert everything.count(line) == 1, line
    first = [line for line in everything.splitlines() if line][: len(told) + 1]
    assert all(line.startswith("backattn: ") for line in first)


def test_check_and_idle_features_never_import_torch(home: Path) -> None:
    build_stores()
    code = (
        "import sys; from backattn.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'torch', 'flair', 'fairseq', 'transformers'} & set(sys.modules)\n"
    )
    for command in ("check", "features"):
        done = subprocess.run([sys.executable, "-c", code, command, "toy"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_a_missing_package_of_stage_one_is_one_line(home: Path) -> None:
    with (home / "pipelines/toy.toml").open("a") as file:
        file.write(TRAINING)
    code = (
        "import sys\n"
        "sys.modules['flair'] = None\n"  # Python's own way to say that there is none
        "import backattn.cli as cli\n"
        "cli.main(['english', 'train', 'toy'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "backattn: the English tagger's training: not installed here: flair; type: "
        "pip install 'backattn[flair]'\n"
    )


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
class TestMake:
    def make(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        return subprocess.run(
            ["make", "--no-print-directory", *arguments],
            cwd=ROOT,
            env={**variables, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def test_lang_must_stand_on_the_command_line(self) -> None:
        for environment in ({}, {"LANG": "de_DE.UTF-8"}):
            done = self.make("--dry-run", "features", **environment)
            assert done.returncode == 2
            assert "say which language: make features LANG=de (the recipes: " in done.stderr

    def test_lang_is_passed_on_and_is_nobodys_locale(self, tmp_path: Path) -> None:
        done = self.make("--dry-run", "train", "LANG=de", "ARGS=--seeds 1")
        assert 'backattn train --seeds 1 -- "$BACKATTN_RECIPE"' in done.stdout
        probe = tmp_path / "probe.mk"
        probe.write_text(
            f"include {ROOT}/Makefile\n"
            "probe:\n\t@echo recipe=$(RECIPE) locale=$${LANG-unset},$${LC_ALL-unset}\n"
        )
        done = self.make("--file", str(probe), "probe", "LANG=de")
        assert done.stdout == "recipe=de locale=unset,unset\n", done.stderr
