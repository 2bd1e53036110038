"""Recipes: what is refused, and with which line; the committed ones; overrides."""

from pathlib import Path

import pytest

from backattn.common.errors import MissingError, RecipeError
from backattn.recipe import (
    PIPELINES,
    as_json,
    available_recipes,
    data_path,
    from_json,
    load_english,
    load_recipe,
    model_path,
)

ROOT = Path(__file__).parents[2]
MINIMAL = """
[corpus]
train = "a"
dev = "b"
test = "c"
source = "made here"
[translator]
kind = "fairseq"
checkpoint = "toy/translator"
source = "de"
[english]
checkpoint = "english/tagger.pt"
"""


@pytest.fixture
def write(tmp_path: Path):
    def write_recipe(text: str) -> str:
        path = tmp_path / "toy.toml"
        path.write_text(text, "utf-8")
        return str(path)

    return write_recipe


def test_defaults_are_the_papers_settings(write) -> None:
    tagger = load_recipe(write(MINIMAL)).tagger
    assert (tagger.hidden, tagger.learning_rate, tagger.patience, tagger.batch, tagger.epochs) == (
        256,
        0.1,
        3,
        16,
        150,
    )
    assert (tagger.word_dropout, tagger.dropout) == (0.1, 0.5)


def test_json_round_trip(write) -> None:
    overrides = [
        "transfer.eos=keep",
        "tagger.characters=cnn",
        "embeddings.bert.hub=x",
        "embeddings.charlm.hub=x",
    ]
    recipe = load_recipe(write(MINIMAL), [*overrides, 'tagger.embeddings=["charlm", "bert"]'])
    assert recipe.tagger.embeddings == ("charlm", "bert")
    assert from_json(as_json(recipe), "here") == recipe


def test_a_character_model_may_learn_from_the_corpus_alone(write) -> None:
    charlm = load_recipe(
        write(MINIMAL + "[embeddings.charlm]\ncheckpoint = 'x'\ntraining = {}")
    ).embeddings.charlm
    assert charlm is not None
    assert charlm.training is not None
    assert charlm.training.files == ()


@pytest.mark.parametrize(
    ("addition", "message"),
    [
        (
            "[tagger]\nepoch = 3",
            r"toy\.toml: tagger\.epoch: unknown key; did you mean epochs\? expected one of .*epochs",
        ),
        (
            "[tagger]\nepochs = 'x'",
            r"toy\.toml: tagger\.epochs: expected a whole number from 1 to 100,000; found 'x'",
        ),
        ("[tagger]\nepochs = true", r"tagger\.epochs: expected a whole number from 1 to 100,000; found True"),
        ("[tagger]\nepochs = 0", r"tagger\.epochs: expected a whole number from 1 to 100,000; found 0"),
        ("[tagger]\ndropout = 1.0", r"tagger\.dropout: expected a number from 0 to below 1; found 1.0"),
        (
            "[tagger]\nsentences = -1",
            r"""tagger\.sentences: expected a whole number from 1 to 1,000,000,000 or "all"; found -1""",
        ),
        (
            "[transfer]\neos = 'x'",
            r"""transfer\.eos: expected "drop" \| "renormalise" \| "keep"; found 'x'""",
        ),
        ("[oops]\na = 1", r"toy\.toml: oops: unknown key"),
        ("tagger = 3", r"english\.tagger: unknown key"),
        (
            "[english.training]\nfiles = [{ path = 'x', limit = -1 }]",
            r"english\.training\.files\[0\]\.limit: expected a whole number of at least 0; found -1",
        ),
        ("hub = 'x/y'", r"english: give exactly one of checkpoint and hub"),
        (
            "[tagger]\nembeddings = 'x'",
            r"""embeddings: expected a list, each entry "fasttext" \| "charlm" \| "bert"; found 'x'""",
        ),
        (
            "[tagger]\nembeddings = ['x']",
            r"""embeddings\[0\]: expected "fasttext" \| "charlm" \| "bert"; found 'x'""",
        ),
        (
            "[tagger]\nembeddings = ['bert']",
            r"toy\.toml: tagger\.embeddings\[0\]: 'bert' needs a table \[embeddings\.bert\]; write one",
        ),
        (
            "[tagger]\nembeddings = ['bert', 'bert']\n[embeddings]\nbert = { hub = 'x' }",
            r"tagger\.embeddings\[1\]: 'bert' is listed twice; remove one",
        ),
        ("[embeddings.fasttext]", r"embeddings\.fasttext: give exactly one of vectors and checkpoint"),
        ("[embeddings.bert]", r"embeddings\.bert: give exactly one of checkpoint and hub"),
        ("[embeddings.charlm]", r"embeddings\.charlm: give exactly one of checkpoint and hub"),
        (
            "[embeddings]\nbert = { hub = 'x', window = -1 }",
            r"bert\.window: expected a whole number of at least 0; found -1",
        ),
        ("[embeddings]\nbert = { hub = 'x', pieces = 'last' }", r'bert\.pieces: expected "first" \| "mean"'),
        (
            "[embeddings]\ncharlm = { hub = 'x', sha256 = ['" + 64 * "a" + "'] }",
            r"charlm\.sha256: expected two digests, forward first, or none; found 1",
        ),
        (
            "[embeddings]\ncharlm = { hub = 'x', sha256 = ['', ''] }",
            r"charlm\.sha256\[0\]: expected a digest of 64 hexadecimal digits; found ''",
        ),
        (
            f"[embeddings]\ncharlm = {{ checkpoint = 'x', sha256 = ['{'a' * 64}', '{'b' * 64}'] }}",
            r"charlm\.sha256: pins files of a hub, but hub is empty; remove sha256",
        ),
        ("sha256 = 'zz'", r"english\.sha256: expected a digest of 64 hexadecimal digits; found 'zz'"),
        (
            "[embeddings]\nbert = { checkpoint = 'x', revision = 'y' }",
            r"bert\.revision: a commit of a hub, but hub is empty",
        ),
        (
            "[embeddings.charlm]\ncheckpoint = 'x'\ntraining = { files = [{ path = 'a', column = -2 }] }",
            r"training\.files\[0\]\.column: expected a column from 0, or -1 for none; found -2",
        ),
        (
            "[embeddings]\ncharlm = { checkpoint = 'x', training = { sequence = 0 } }",
            r"charlm\.training\.sequence: expected a whole number from 1 to 100,000; found 0",
        ),
    ],
)
def test_bad_values_name_file_and_key(write, addition: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(write(MINIMAL + addition))


def test_a_missing_key_is_named(write) -> None:
    with pytest.raises(RecipeError, match=r"toy\.toml: translator\.source: missing key"):
        load_recipe(write(MINIMAL.replace('source = "de"', "")))


def test_what_is_not_toml_is_one_line(write) -> None:
    with pytest.raises(RecipeError, match=r"toy\.toml: not readable as TOML"):
        load_recipe(write("= ="))


def test_an_unknown_recipe_names_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(MissingError, match=r"nope\.toml: no such recipe; here are .*sample"):
        load_recipe("nope")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tagger.epochs", "expected KEY=VALUE"),
        ("tagger.epochs=x", r"tagger\.epochs: expected a whole number from 1 to 100,000; found 'x'"),
        ("corpus.train.x=1", "train is a value, not a table"),
    ],
)
def test_bad_overrides_are_one_line(write, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(write(MINIMAL), [override])


def test_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BACKATTN_DATA", raising=False)
    monkeypatch.setenv("BACKATTN_CACHE", "/elsewhere")
    monkeypatch.setenv("MY_CORPORA", "/corpora")
    assert data_path("x/y") == Path("data/x/y")
    assert data_path("${MY_CORPORA}/y") == Path("/corpora/y")
    assert data_path("/abs") == Path("/abs")
    assert model_path("es/translator") == Path("/elsewhere/es/translator")
    assert data_path("${BACKATTN_CACHE}/sample") == Path("/elsewhere/sample")
    with pytest.raises(RecipeError, match="the environment variable NOT_SET is not set"):
        data_path("${NOT_SET}/y")


def test_every_committed_recipe_loads_and_fits_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert {"de", "de-wmt19", "es", "sample", "zh", "zh-ontonotes"} <= set(available_recipes())
    for name in available_recipes():
        load_recipe(name)
    assert load_english("english").training is not None
    for path in PIPELINES.glob("*.toml"):
        assert len(path.read_text("utf-8").splitlines()) <= 110, path


def test_an_english_only_recipe_is_no_lang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(RecipeError, match=r"english\.toml: no \[corpus\] table"):
        load_recipe("english")
