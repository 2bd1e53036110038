"""Recipes by strangers: mutated ones, deep and huge ones, names that are paths, and what is no file."""

import copy
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backattn.common.errors import BackattnError, MissingError, RecipeError
from backattn.common.safe_text import quoted
from backattn.recipe import (
    PIPELINES,
    as_json,
    cache_root,
    data_path,
    from_json,
    known_recipes,
    load_english,
    load_recipe,
    model_path,
    recipe_name,
)
from hostile import answer, check_english_file, check_recipe_file, check_recipe_json, places

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MINIMAL = """
[corpus]
train = "a"
dev = "b"
test = "c"
source = "made here"
[corpus.format]
types = { PER = "PER", TIM = "" }
[translator]
kind = "fairseq"
checkpoint = "toy/translator"
source = "de"
[english]
checkpoint = "english/tagger.pt"
"""
COMMITTED = [
    (ROOT / "pipelines" / f"{name}.toml").read_text("utf-8") for name in ("de", "zh", "sample", "english")
]
PIECES = st.sampled_from(
    [
        "[",
        "]",
        "[[",
        "{",
        "}",
        '"',
        "'''",
        "=",
        ".",
        ",",
        "\n",
        "#",
        "\\",
        "\\u0000",
        "0x",
        "inf",
        "nan",
        "-1",
        "1e999",
        "true",
        "1979-05-27",
        "name",
        "corpus",
        "tagger",
        "epochs = 0\n",
        "[tagger]\n",
        "é",
        "\x1b",
        "\0",
        "9" * 5000,
        'name = "../x"\n',
        "seed = 9999999999999999999\n",
    ]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIXTURE = [HealthCheck.function_scoped_fixture]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], str]:
    def write_recipe(text: str) -> str:
        path = tmp_path / "toy.toml"
        path.write_text(text, "utf-8")
        return str(path)

    return write_recipe


@given(text=st.sampled_from([MINIMAL, *COMMITTED]), data=st.data())
@settings(max_examples=300, suppress_health_check=FIXTURE)
def test_a_mutated_recipe_is_taken_whole_or_refused_in_a_line(
    tmp_path: Path, text: str, data: st.DataObject
) -> None:
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(text)))
        text = text[:place] + data.draw(PIECES) + text[place + data.draw(st.integers(0, 6)) :]
    check_recipe_file(tmp_path / "toy.toml", text.encode())
    check_english_file(tmp_path / "toy.toml", text.encode())


@given(data=st.binary(max_size=100))
@settings(max_examples=100, suppress_health_check=FIXTURE)
def test_noise_is_refused_in_a_line(tmp_path: Path, data: bytes) -> None:
    assert check_recipe_file(tmp_path / "toy.toml", data) is None


@given(name=st.sampled_from(["de", "zh", "sample"]), data=st.data(), value=VALUES)
@settings(max_examples=300)
def test_a_mutated_recipe_of_a_run_folder_is_taken_whole_or_refused_in_a_line(
    name: str, data: st.DataObject, value: Any
) -> None:
    """One value of the JSON replaced, removed, or a key put beside it."""
    table = as_json(load_recipe(str(ROOT / "pipelines" / f"{name}.toml")))
    *parents, last = data.draw(st.sampled_from([way for way in places(table) if way]))
    part: Any = table
    for key in parents:
        part = part[key]
    action = data.draw(st.sampled_from(["replace", "remove", "add"]))
    if action == "remove":
        del part[last]
    elif action == "replace" or isinstance(part, list):
        part[last] = value
    else:
        part[data.draw(st.text(st.characters(codec=None), max_size=8))] = value
    check_recipe_json(copy.deepcopy(table))


@given(override=st.text(st.characters(codec=None), max_size=30) | st.lists(PIECES, max_size=8).map("".join))
@settings(max_examples=300, suppress_health_check=FIXTURE)
def test_any_override_is_taken_or_refused_in_a_line(tmp_path: Path, override: str) -> None:
    check_recipe_file(tmp_path / "toy.toml", MINIMAL.encode(), (override,), name=" ")
    for key in ("tagger.epochs", "corpus.groups", "corpus.format.encoding", "name", "translator.training"):
        check_recipe_file(tmp_path / "toy.toml", MINIMAL.encode(), (f"{key}={override}",), name=" ")


@pytest.mark.parametrize(
    ("addition", "message"),
    [
        ("[tagger]\nepochs = " + "9" * 5000, "not readable as TOML: Exceeds the limit"),
        ("[tagger]\nepochs = 0x" + "f" * 5000, "tagger.epochs: expected a number of at most 64 bits"),
        ("[tagger]\nepochs = 9223372036854775808", "tagger.epochs: expected a number of at most 64 bits"),
        ("[tagger]\ndropout = nan", "tagger.dropout: expected a finite number, found nan"),
        ("[tagger]\nlearning_rate = inf", "tagger.learning_rate: expected a finite number, found inf"),
        ("[tagger]\nlearning_rate = 1e999", "tagger.learning_rate: expected a finite number, found inf"),
        ("[tagger]\nclip_norm = 0x" + "f" * 400, "tagger.clip_norm: expected a number of at most 64 bits"),
        ("[embeddings.fasttext]\nvectors = 'a\\u0000'", None),
        ('[embeddings.fasttext]\nvectors = "a\\u0000"', r"fasttext.vectors: expected text, found 'a\x00'"),
        ("[tagger]\ncharacters = '" + "x" * 10**5 + "'", 'tagger.characters: expected "none" | "cnn"'),
        ("[tagger]\n'a\\nb\x1b' = 1", "not readable as TOML"),
        ('[tagger]\n"a\\nb\\u001b" = 1', r"tagger.'a\nb\x1b': unknown key"),
        ("[tagger]\n" + "x" * 10**5 + " = 1", "unknown key; expected one of embeddings"),
        ("x = " + "[" * 60000, "not readable as TOML: nested too deep"),
        ("x = " + "{a=" * 20000, "not readable as TOML: nested too deep"),
        ("x." * 1200 + "y = 1", "not readable as TOML: a line with more than 1,000 dots"),
        ("# " + "x" * 2**17, "not readable as TOML: longer than 131,072 characters"),
        ("[translator.training]\nparallel = []\nvalid={path=''}\ntest={path=''}",
         "translator.training.parallel: expected a non-empty list of tables; found []"),
        (
            "[english.training]\nfiles = []",
            "english.training.files: expected a non-empty list of tables; found []",
        ),
    ],
    ids=quoted,
)  # fmt: skip
def test_odd_values_are_named(write: Callable[[str], str], addition: str, message: str | None) -> None:
    path = write(MINIMAL + addition)
    if message is None:
        fasttext = load_recipe(path).embeddings.fasttext
        assert fasttext is not None
        assert fasttext.vectors == "a\\u0000"
        return
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    found = str(caught.value)
    assert found.startswith(path)
    assert message in found
    assert found.isprintable()
    assert len(found) < 600 + len(path)


TRAINING = """
[translator.training]
parallel = [{ path = "a" }]
valid = { path = "b" }
test = { path = "c" }
"""


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "translator.training.learning_rates=[]",
            "learning_rates: expected a non-empty list, each entry a number above 0",
        ),
        (
            "translator.training.learning_rates=[0.5, -1]",
            "learning_rates[1]: expected a number above 0; found -1",
        ),
        ("translator.training.learning_rates=[nan]", "learning_rates[0]: expected a finite number"),
        (
            "translator.training.valid={path='b', foreign=-1}",
            "valid.foreign: expected a whole number of at least 0; found -1",
        ),
        ("translator.training.test={path='b', group=-2}", "test.group: expected a column from 0, or -1"),
        ("translator.max_len_a=-1", "translator.max_len_a: expected a number of at least 0; found -1"),
        ("translator.source=../../x", "translator.source: expected a language code such as de or zh_CN"),
        ("translator.source=--user-dir=x", "translator.source: expected a language code"),
        ("translator.source=", "translator.source: expected a language code"),
        ("corpus.groups={NE=1}", "corpus.groups.NE: expected text; found 1"),
        ("corpus.groups={'a\x1b'=1}", r"--set"),
        ("corpus.format.types." + "a." * 50000 + "b=1", ": nested too deep; found {'a': {"),
        ("a." * 50000 + "b=1", ": nested too deep; found {"),
        (".".join("'\x05" + name * 99 for name in "abcdef") + "='\0'", ": expected text, found "),
        ("x" * 10**6, "expected KEY=VALUE"),
        ("tagger.epochs=" + "9" * 10**5, "tagger.epochs: expected a whole number from 1 to 100,000; found"),
        (
            "tagger.epochs=3\nhidden = 4",
            r"tagger.epochs: expected a whole number from 1 to 100,000; found '3\nhidden = 4'",
        ),
        ("name=../../x", "name: expected letters, digits"),
    ],
    ids=quoted,
)  # fmt: skip
def test_odd_overrides_are_named(write: Callable[[str], str], override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(MINIMAL + TRAINING), [override])
    found = str(caught.value)
    assert message in found or message == "--set"
    assert found.isprintable()
    assert len(found) < 600


NO_NAMES = ["", ".", "..", "../x", "../../x", "a/b", "/etc/passwd", "a\\b", "-x", ".hidden", "a b", "a\nb",
            "a\0b", "\x1b[31m", "x" * 101, "~", "$HOME", "a;b", "\ud800", "a\u2028"]  # fmt: skip


@pytest.mark.parametrize("name", NO_NAMES, ids=quoted)
def test_a_name_is_a_name_and_no_path(write: Callable[[str], str], name: str) -> None:
    """It becomes a folder below cache/, which some commands write, and some delete."""
    table = {**as_json(load_recipe(write(MINIMAL))), "name": name}
    with pytest.raises(RecipeError, match=r"run/recipe\.json: name: expected "):
        from_json(table, "run/recipe.json")
    for call in (lambda: load_recipe(name), lambda: load_english(name), lambda: recipe_name(name)):
        with pytest.raises(RecipeError, match=r"LANG .*: expected the name of a recipe") as caught:
            call()
        assert str(caught.value).isprintable()
    with pytest.raises(RecipeError):
        recipe_name(
            f"folder/{name}.toml" if "/" not in name and "\\" not in name and name else "folder/..toml"
        )


@pytest.mark.parametrize("name", ["de", "de-wmt19", "zh_CN.v2", "español", "王", "1"])
def test_names_of_all_languages_are_names(write: Callable[[str], str], name: str) -> None:
    assert recipe_name(name) == recipe_name(f"/some/where/{name}.toml") == name
    assert load_recipe(write(f'name = "{name}"\n{MINIMAL}')).name == name


def test_what_is_no_file_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    (tmp_path / "folder.toml").mkdir()
    for name in ("pipe", "zero", "folder"):
        with pytest.raises(
            RecipeError, match=rf"{name}\.toml: not a regular file; expected the name or path of a recipe"
        ):
            load_recipe(str(tmp_path / f"{name}.toml"))
    for name in ("none", "x" * 300):
        with pytest.raises((MissingError, RecipeError)) as caught:
            load_recipe(str(tmp_path / f"{name}.toml"))
        assert str(caught.value).isprintable()


def test_what_lies_in_pipelines_cannot_break_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of the known recipes looks into all of them, whatever they are."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "pipelines"
    folder.mkdir()
    (folder / "good.toml").write_text(MINIMAL)
    (folder / "latin.toml").write_bytes("# für\n[corpus]\n".encode("latin-1"))
    (folder / "a\x1bb.toml").write_text(MINIMAL)
    (folder / "folder.toml").mkdir()
    os.mkfifo(folder / "pipe.toml")
    assert [one.name for one in known_recipes() if one.path.parent == PIPELINES] == [
        "a\x1bb",
        "good",
        "latin",
    ]
    with pytest.raises(MissingError, match=r"nope\.toml: no such recipe; here are 'a\\x1bb', de, "):
        load_recipe("nope")


def test_no_recipe_takes_long_to_read(write: Callable[[str], str]) -> None:
    """tomllib takes time with the square of a key's dots: 65,536 characters of them took 20 seconds."""
    texts = [
        "a." * 60_000 + "a = 1",
        ("a." * 900 + "a = 1\n") * 70,
        "[" + "a." * 900 + "a]\n",
        "a = [" * 30_000,
    ]
    texts += ["\n" * 130_000, 'a = "' + "\\n" * 60_000 + '"', "".join(f"k{i} = 1\n" for i in range(10_000))]
    begin = time.process_time()
    for text in texts:
        assert answer(lambda text=text: load_recipe(write(text)), "toy.toml") is None
    assert time.process_time() - begin < 20


def test_an_english_part_of_any_kind_is_refused_in_a_line(write: Callable[[str], str]) -> None:
    for text in (
        "english = 3",
        "english = []",
        "[[english]]",
        "[english]\ntraining = 3",
        "[english.training]",
    ):
        with pytest.raises(RecipeError, match=r"toy\.toml: .*english"):
            load_english(write(text))


def test_a_variable_that_is_not_set_is_named_in_a_line() -> None:
    with pytest.raises(RecipeError) as caught:
        data_path("${NOT_SET}/\x1b[31m\n" + "x" * 10**6)
    assert "NOT_SET is not set" in str(caught.value)
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


def test_json_of_any_kind_is_no_recipe() -> None:
    for value in ({}, {"name": "x"}, {"corpus": []}, {"\ud800": 1}, json.loads("[" * 500 + "]" * 500)):
        with pytest.raises(BackattnError, match=r"run/recipe\.json: "):
            from_json(value, "run/recipe.json")


@pytest.mark.parametrize("variable", ["BACKATTN_CACHE", "BACKATTN_DATA"])
def test_a_path_that_is_not_utf8_is_told(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of JSON name it, and messages."""
    monkeypatch.setitem(os.environb, variable.encode("ascii"), b"/tmp/caf\xe9")
    with pytest.raises(RecipeError, match=rf"the environment variable {variable} is .*, not UTF-8; set it"):
        model_path("x") if variable == "BACKATTN_CACHE" else data_path("x")


@pytest.mark.parametrize("name", ["${x}", "a b", "%s", "'\"", "a\nb", "a:b", "#"])
def test_a_path_may_have_any_other_name(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path / name))
    assert model_path("x") == tmp_path / name / "x"
    assert cache_root() == tmp_path / name
