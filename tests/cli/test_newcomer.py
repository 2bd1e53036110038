"""What a new user meets: no models yet, a run that has learnt nothing, and wrong arguments."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from backattn.report.comparison import build_tables
from backattn.report.runs import read_record
from users_folder import MODELS, ORDINARY, build_stores, make_home, run

SMALL = "\n[tagger]\nepochs = 1\nhidden = 4\nword_dimensions = 4\n"
DEAD = "\n[tagger]\nepochs = 2\nhidden = 4\nword_dimensions = 4\n"
WITHOUT = "backattn: only words are trained, without Back Attention (words+transfer): "


def train(*options: str) -> tuple[int, str, str]:
    return run("train", "toy", "--seeds", "1", "--threads", "1", *options)


def runs() -> list[str]:
    return sorted(path.name.rpartition("-all-")[0] for path in Path("cache/toy/runs").glob("*"))


@pytest.mark.parametrize(
    ("models", "lacking"),
    [
        (
            (),
            "cache/toy/translator: no translator there (checkpoint.pt) and cache/toy/english/tagger.pt: no ",
        ),
        (
            MODELS[:1],
            "cache/toy/english/tagger.pt: no English tagger there. To have it: `backattn models toy`",
        ),
        (MODELS[1:], "cache/toy/translator: no translator there (checkpoint.pt). To have it: `backattn mod"),
    ],
    ids=["neither", "no tagger", "no translator"],
)
def test_without_models_words_are_trained_and_the_rest_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models: tuple[str, ...], lacking: str
) -> None:
    make_home(tmp_path, monkeypatch, SMALL, corpus=ORDINARY, models=models)
    status, out, err = train()
    assert (status, runs()) == (0, ["words"]), err
    (line,) = [line for line in err.splitlines() if line.startswith("backattn: ")]
    assert line.startswith(WITHOUT + lacking)
    assert line.endswith("`backattn features toy`, then this command again")
    assert err.splitlines()[-1].endswith("; for Back Attention: backattn models toy --dry-run")
    assert out.startswith("words, 2 sentences, seed 1: ")


def test_what_was_asked_for_by_name_is_refused_without_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_home(tmp_path, monkeypatch, SMALL, corpus=ORDINARY, models=())
    for inputs in ("words+transfer", "words,words+transfer", "transfer"):
        status, out, err = train("--inputs", inputs)
        assert (status, out) == (2, "")
        assert "no English tagger there" in err
    assert train("--inputs", "")[0] == 2
    assert runs() == []


def test_a_store_is_never_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a stale one, not a damaged one, and not one whose models are gone."""
    home = make_home(tmp_path, monkeypatch, SMALL, corpus=ORDINARY)
    status, _, err = train()  # the models are there: stage one is one command away
    assert (status, "run `backattn features toy`" in err) == (1, True)
    build_stores()
    text = (home / "data/toy.dev").read_text()
    (home / "data/toy.dev").write_text(text + "\nneu O\n")
    status, _, err = train()
    assert (status, "have no transfer vectors" in err) == (1, True)
    (home / "data/toy.dev").write_text(text)
    (store,) = (home / "cache/toy/transfer").glob("*.h5")
    whole = store.read_bytes()
    store.write_bytes(whole[: len(whole) // 2])
    status, _, err = train()
    assert (status, str(store.relative_to(home)) in err) == (2, True)
    store.write_bytes(whole)
    (home / "cache" / MODELS[1]).unlink()
    status, _, err = train()
    assert (status, "no English tagger there" in err) == (2, True)
    assert runs() == []


@pytest.fixture(scope="module")
def dead(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a user whose runs have learnt nothing, with and without T."""
    home = tmp_path_factory.mktemp("dead")
    with pytest.MonkeyPatch.context() as monkeypatch:
        train_file = ORDINARY["train"].replace("B-PER", "O")  # nothing is to be learnt, whatever the seed
        make_home(home, monkeypatch, DEAD, corpus={**ORDINARY, "train": train_file})
        build_stores()
        status, _, err = train()
        assert status == 0, err
    return home


FAILURE = (
    "F1 is 0 on dev and test: none of the 4 entities there is tagged right after 2 epochs on 2 sentences; "
    "train for more epochs (--set tagger.epochs=150) or on more labelled sentences"
)


def test_a_run_that_has_learnt_nothing_is_no_success(dead: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(dead)
    status, out, err = train("--inputs", "words")
    first, second, *_ = out.splitlines()
    assert (status, second) == (0, f"  {FAILURE}")
    assert "test F1 0.00 (dev 0.00" in first
    assert err.splitlines()[-1] == "next: backattn report toy"  # and not how to tag with it
    (told,) = json.loads(train("--inputs", "words", "--json")[1])
    assert told["learnt_nothing"] is True
    folder = told["folder"]
    Path("text").write_text("anna singt\n")
    status, out, err = run("tag", folder, "text", "--input", "tokens")
    assert (status, err) == (0, f"backattn: {folder}: {FAILURE}\n")
    status, _, err = run("package", folder, "packaged")
    assert (status, err) == (0, f"backattn: {folder}: {FAILURE}\n")
    assert f"\n**Not fit for use: {FAILURE}.**\n" in Path("packaged/README.md").read_text("utf-8")
    assert run("tag", "packaged", "text", "--input", "tokens")[2] == f"backattn: packaged: {FAILURE}\n"


def test_two_runs_that_have_learnt_nothing_have_no_lift(dead: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(dead)
    (table,) = build_tables([read_record(path) for path in Path("cache/toy/runs").glob("words*")])
    assert [row.difference for row in table.rows] == [None, None]
    status, out, _ = run("report", "toy")
    base, ban = [line for line in out.splitlines() if line.startswith("|         2 | BiLSTM+CRF")][:2]
    nothing = "has learnt nothing in 2 epochs on 2 sentences"
    assert (status, f"| 0.00 (dev has 2 entities; {nothing}) " in " ".join(base.split())) == (0, True)
    assert f"as the base, it {nothing}" in ban
    assert [re.split(r" *\| *", line)[4:7] for line in (base, ban)] == [["–", "–", "–"]] * 2
    assert "cannot be distinguished" not in out


def test_a_run_that_found_something_is_not_doubted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same = dict.fromkeys(ORDINARY, ORDINARY["train"])
    tables = "\n[tagger]\nepochs = 40\nhidden = 8\nword_dimensions = 8\nlearning_rate = 0.5\n"
    make_home(tmp_path, monkeypatch, tables, corpus=same)
    _, out, err = train("--inputs", "words")
    assert "F1 is 0" not in out
    assert err.splitlines()[-1] == "next: backattn report toy; to tag new text: backattn tag toy --best"
    assert json.loads(train("--inputs", "words", "--json")[1])[0]["learnt_nothing"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tag", "nothing", "text"], "nothing: holds no run"),
        (["tag", "toy", "text"], "toy: is a LANG, expected a run"),
        (["tag", "toy", "--best", "no-file"], "no-file: cannot be read"),
        (["evaluate", "nothing", "text"], "nothing: holds no run"),
        (["package", "nothing", "new"], "nothing: holds no run"),
        (["package", "toy", "--best", "data"], "data: is there already; add --replace"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_refused_before_torch_is_imported(
    dead: Path, arguments: list[str], message: str
) -> None:
    (dead / "text").touch()
    code = f"import sys\nsys.modules['torch'] = None\nfrom backattn.cli import main\nmain({arguments!r})\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=dead, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr.splitlines()[-1]


def test_missing_data_says_where_it_comes_from_and_how_little_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder without recipes of one's own, as after the installation of the wheel."""
    make_home(tmp_path, monkeypatch, corpus=ORDINARY, models=())
    assert run("init", "my", *(f"data/toy.{split}" for split in ORDINARY))[0] == 0
    status, out, _ = run("models", "my", "--dry-run")
    where, enough = out.splitlines()[-2:]
    sources = Path(where.removeprefix("where each file comes from: "))
    missing = re.findall(r"^missing: data/ner/(\S+)/[^/]+: no such file", out, re.M)
    assert (status, len(missing)) == (0, 7)
    text = sources.read_text("utf-8")
    assert all(name.split("/")[-1] in text for name in missing), missing
    assert enough.startswith("one column file of English is enough to begin with")
    words = shlex.split(enough.partition("backattn ")[2].replace("FILE", "english.conll"))
    (tmp_path / "data/english.conll").write_text("Ada B-PER\nsings O\n")
    status, _, err = run(*words)  # the command is legal; of a single sentence nothing can be split off
    assert (status, "english.training.files: no dev sentences" in err) == (2, True), err
    (tmp_path / "pipelines/DATA.md").write_text("ours")
    assert "where each file comes from: pipelines/DATA.md\n" in run("models", "my", "--dry-run")[1]
