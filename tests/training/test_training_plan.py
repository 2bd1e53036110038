"""Who trains the models of a recipe: its own tables, another recipe's, or nobody."""

import json
from pathlib import Path

import pytest

from backattn.recipe import load_recipe
from backattn.training.training_plan import trainings
from users_folder import run

PAIRS = "{ path = 'pairs.tsv' }"
TRAINING = f"[translator.training]\nparallel = [{PAIRS}]\nvalid = {PAIRS}\ntest = {PAIRS}\n"
ENGLISH = "[english]\ncheckpoint = 'english/tagger.safetensors'\n"
ENGLISH_TRAINING = "[english.training]\nfiles = [{ path = 'english.conll' }]\n"


def write(name: str, translator: str, rest: str = ENGLISH, *, kind: str = "fairseq") -> None:
    Path(f"pipelines/{name}.toml").write_text(
        "[corpus]\ntrain = 'a'\ndev = 'b'\ntest = 'c'\nsource = 'made here'\n"
        f"[translator]\nkind = '{kind}'\nsource = '{name[:2]}'\n{translator}\n{rest}",
        "utf-8",
    )


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BACKATTN_CACHE", "cache")
    Path("pipelines").mkdir()
    Path("pipelines/english.toml").write_text(ENGLISH + ENGLISH_TRAINING, "utf-8")
    return tmp_path


def needed(name: str, *overrides: str) -> list[tuple[str, str, str, bool]]:
    found = trainings(load_recipe(name, overrides))
    return [(t.kind, t.lang, str(t.folder), t.own) for t in found]


def own(lang: str, *, asked: bool = True) -> tuple[str, str, str, bool]:
    return "translator", lang, f"cache/{lang}/translator", asked


SHARED = ("English tagger", "english", "cache/english", False)


def test_a_parent_is_trained_first_and_the_english_tagger_is_shared() -> None:
    write("es", f"checkpoint = 'es/translator'\n{TRAINING}")
    write("de", f"checkpoint = 'de/translator'\n{TRAINING}parent = 'es/translator'\n")
    write("de-other", "checkpoint = 'de/translator'")
    assert needed("es") == [own("es"), SHARED]
    assert needed("de") == [own("es", asked=False), own("de"), SHARED]
    assert needed("de-other") == [own("es", asked=False), own("de", asked=False), SHARED]


@pytest.mark.parametrize(
    ("lang", "trained"),
    [
        ("sample", ["translator of sample", "English tagger of sample"]),
        ("es", ["translator of es", "English tagger of english"]),
        ("de", ["translator of es", "translator of de", "English tagger of english"]),
        ("de-germeval", ["translator of es", "translator of de", "English tagger of english"]),
        ("zh", ["English tagger of english"]),  # a dictionary translates
        ("de-wmt19", []),  # all of hubs
    ],
)
def test_the_recipes_of_this_project(monkeypatch: pytest.MonkeyPatch, lang: str, trained: list[str]) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    assert [f"{t.kind} of {t.lang}" for t in trainings(load_recipe(lang))] == trained


def test_models_that_nobody_describes_have_no_training() -> None:
    write("es", "checkpoint = 'elsewhere/translator'", "[english]\ncheckpoint = 'mine/tagger.safetensors'\n")
    write("fr", "hub = 'Helsinki-NLP/opus-mt-fr-en'", "[english]\nhub = 'ner'\n", kind="transformers")
    write("zh", "dictionary = 'cedict.txt'", kind="dictionary")
    write("zh-fairseq", f"checkpoint = 'zh-fairseq/translator'\n{TRAINING}")
    write("it", f"checkpoint = 'it/translator'\n{TRAINING}parent = 'pt/translator'\n")
    write("pt", f"checkpoint = 'pt/model'\n{TRAINING}")  # into another folder
    write("zh-other", "checkpoint = 'zh-fairseq/translator'")
    assert needed("es") == needed("fr") == []
    assert run("models", "fr")[:2] == (
        0,
        "nothing to train: the models are there, or come from a hub\n",
    )
    assert needed("zh") == [SHARED]
    assert needed("it") == [own("it"), SHARED]
    assert needed("zh-other") == [own("zh-fairseq", asked=False), SHARED]
    Path("pipelines/english.toml").write_text("[english]\nhub = 'ner'\n")
    assert needed("it") == [own("it")]


def test_two_that_name_each_other_as_parents_end() -> None:
    write("es", f"checkpoint = 'es/translator'\n{TRAINING}parent = 'de/translator'\n")
    write("de", f"checkpoint = 'de/translator'\n{TRAINING}parent = 'es/translator'\n")
    assert needed("de") == [own("es", asked=False), own("de"), SHARED]


def test_character_models_are_trained_where_the_tagger_reads_them() -> None:
    charlm = "[embeddings.charlm]\ncheckpoint = '{0}/charlm'\n"
    training = "training = { files = [{ path = 'text' }] }\n"
    write("es", f"checkpoint = 'es/translator'\n{TRAINING}", ENGLISH + charlm.format("es") + training)
    write("es-other", "checkpoint = 'es/translator'", ENGLISH + charlm.format("es"))
    reads = "tagger.embeddings=['charlm']"
    assert needed("es") == [own("es"), SHARED]
    found = ("character language models", "es", "cache/es/charlm")
    assert needed("es", reads) == [own("es"), SHARED, (*found, True)]
    assert needed("es-other", reads) == [own("es", asked=False), SHARED, (*found, False)]


def test_the_command_says_what_is_there_and_names_all_that_is_missing() -> None:
    write("es", f"checkpoint = 'es/translator'\n{TRAINING}")
    write("de", "checkpoint = 'brought/translator'")
    Path("cache/english").mkdir(parents=True)
    Path("cache/english/training.json").write_text("{}")
    status, out, _ = run("models", "es", "--dry-run", "--json")
    assert status == 0
    assert [(m["kind"], m["recipe"], m["state"]) for m in json.loads(out)] == [
        ("translator", "es", "to train"), ("English tagger", "english", "there"),
    ]  # fmt: skip
    Path("cache/english/training.json").write_text('{"files": {"tagger.safetensors": "0"}}')
    assert "English tagger of english (cache/english): to train\n" in run("models", "es", "--dry-run")[1]
    Path("cache/english/training.json").rename("cache/english/tagger.safetensors")
    assert "English tagger of english (cache/english): brought\n" in run("models", "es", "--dry-run")[1]
    Path("cache/english/tagger.safetensors").unlink()

    status, out, _ = run("models", "de", "--dry-run")
    assert status == 0
    assert "English tagger of english (cache/english): to train\n" in out
    assert "missing: cache/brought/translator: no translator there" in out
    status, out, err = run("models", "de")  # before the English tagger is trained
    assert (status, out) == (2, "")
    assert "cache/brought/translator: no translator there" in err
    assert "tagger.safetensors" not in err
    for command in ("check", "features"):
        for split in "abc":
            Path("data").mkdir(exist_ok=True)
            Path(f"data/{split}").write_text("x O\n")
        status, _, err = run(command, "de")
        assert status == 2
        assert "no translator there" in err
        assert "no English tagger there" in err
        assert "`backattn models de` (with the same --set) trains what a recipe describes" in err


def test_every_file_that_will_be_missed_is_named_and_whose_it_is() -> None:
    write("es", f"checkpoint = 'es/translator'\n{TRAINING}")
    write(
        "de",
        "checkpoint = 'de/translator'\n[translator.training]\nparent = 'es/translator'\n"
        "parallel = [{ path = 'one.de', english_path = 'one.en' }, { path = 'there.tsv' }]\n"
        "valid = { path = 'there.tsv' }\ntest = { path = 'gone.tsv' }\n"
        "dictionaries = [{ path = 'cedict.gz' }]\n"
        "back_translation = { columns = [{ path = 'more.conll' }], parallel = [{ path = 'plain' }] }\n",
    )
    put("data/there.tsv")
    for split in "abc":
        put(f"data/{split}", "x O\n")
    training = "translator.training"
    files = [
        (f"{training}.parallel[0].path", "pairs.tsv", "other recipe es"),
        (f"{training}.valid.path", "pairs.tsv", "other recipe es"),
        (f"{training}.test.path", "pairs.tsv", "other recipe es"),
        (f"{training}.parallel[0].path", "one.de", "recipe de"),
        (f"{training}.parallel[0].english_path", "one.en", "recipe de"),
        (f"{training}.test.path", "gone.tsv", "recipe de"),
        (f"{training}.dictionaries[0].path", "cedict.gz", "recipe de"),
        (f"{training}.back_translation.columns[0].path", "more.conll", "recipe de"),
        (f"{training}.back_translation.parallel[0].path", "plain", "recipe de"),
        ("english.training.files[0].path", "english.conll", "other recipe english"),
    ]
    status, out, _ = run("models", "de", "--dry-run")
    assert status == 0
    expected = {f"missing: data/{name}: no such file ({key} of the {whose}" for key, name, whose in files}
    named = [line.rpartition(", for its ")[0] for line in out.splitlines()]
    assert {line for line in named if line} == expected
    status, out, err = run("models", "de")  # before hours of training
    assert (status, out) == (2, "")
    assert err.startswith("backattn: data/pairs.tsv: no such file (translator.training.parallel[0].path")
    assert "and 7 more; `backattn models de --dry-run` lists them" in err
    status, out, err = run("features", "de", "--dry-run")
    assert (status, out) == (2, "")
    named = [line.rpartition(", for its ")[0] for line in err.splitlines()]
    assert {line for line in named if line} == expected
    assert err.splitlines()[-1].startswith("backattn: cache/de/translator: no translator there")
    Path("data/a").rename("data/kept")
    status, out, err = run("features", "de", "--dry-run")  # whatever else is missing
    assert (status, out) == (2, "")
    named = [line.rpartition(", for its ")[0] for line in err.splitlines()]
    assert {line for line in named if line} == expected
    assert err.splitlines()[-1].startswith("backattn: data/a: no such file (corpus.train); get it from")
    Path("data/kept").rename("data/a")
    assert "pairs.tsv" not in run("check", "de")[2]
    # A translator of another language at the place: its dictionaries will be missed.
    for name in ("de/translator/checkpoint.pt", "de/translator/dict.es.txt", "english/tagger.safetensors"):
        put(f"cache/{name}")
    status, out, err = run("features", "de", "--dry-run")
    assert status == 0
    for name in ("dict.de.txt", "dict.en.txt", "joint.model"):
        assert f"missing: cache/de/translator/{name}: not there; translator.checkpoint of the recipe" in out
    assert 'note: recipe de: translator.source is "de", but translator.checkpoint (de/translator)' in err


def put(path: str, text: str = "") -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, "utf-8")


def states(name: str, *, replace: bool = False) -> list[tuple[str, str]]:
    return [(t.kind, t.state()) for t in trainings(load_recipe(name), replace=replace)]


def test_a_translator_that_is_there_needs_no_parent() -> None:
    write("es", f"checkpoint = 'es/translator'\n{TRAINING}")
    write("de", f"checkpoint = 'de/translator'\n{TRAINING}parent = 'es/translator'\n")
    tagger = ("English tagger", "to train")
    assert states("de") == [("translator", "to train"), ("translator", "to train"), tagger]
    put("cache/de/translator/checkpoint.pt")
    assert needed("de") == [own("de"), SHARED]
    assert states("de") == [("translator", "brought"), tagger]
    put("cache/de/translator/training.json", "{}")
    assert states("de") == [("translator", "there"), tagger]
    # But it is needed where what is there may be replaced.
    assert states("de", replace=True) == [("translator", "to train"), ("translator", "there"), tagger]
    put("cache/es/translator/training.json", '{"files": {"checkpoint.pt": "0"}}')  # a part of it was deleted
    assert states("de") == [("translator", "there"), tagger]
    put("cache/es/translator/training.json", "{}")  # a parent that is there may have changed
    assert states("de") == [("translator", "there"), ("translator", "there"), tagger]
    put("cache/de/translator/training.json", '{"files": {"checkpoint.pt": "0"}}')
    Path("cache/es/translator/training.json").unlink()
    assert states("de") == [("translator", "to train"), ("translator", "to train"), tagger]


def test_a_recipe_may_train_its_english_tagger_and_bring_the_character_models() -> None:
    charlm = "[english.training.charlm]\ncheckpoint = 'english-charlm'\n"
    embedding = "[embeddings.charlm]\ncheckpoint = 'mine/charlm'\n"
    english = "[english]\ncheckpoint = 'es/english/tagger.safetensors'\n"
    write("es", "checkpoint = 'mine/translator'", english + ENGLISH_TRAINING + charlm + embedding)
    reads = "tagger.embeddings=['charlm']"
    assert needed("es", reads) == [("English tagger", "es", "cache/es/english", True)]
    put("data/english.conll")
    status, _, err = run("models", "es", "--set", reads)  # before the English tagger is trained
    assert status == 2
    assert "cache/mine/translator: no translator there" in err
    assert "cache/mine/charlm/backward.safetensors: not there" in err
    assert "english" not in err.replace("english-charlm", "")
    for name in ("translator/checkpoint.pt", "charlm/backward.safetensors", "charlm/forward.safetensors"):
        put(f"cache/mine/{name}")
    assert "missing" not in run("models", "es", "--dry-run", "--set", reads)[1]
