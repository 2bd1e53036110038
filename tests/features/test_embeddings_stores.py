"""Stores of embeddings: named by what decides their numbers, built, resumed, checked and freed as T is."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from backattn.common.errors import MissingError, ModelError, StaleError
from backattn.corpus import Corpus
from backattn.experiments.runs import fresh_stores
from backattn.features import build
from backattn.features.check import check
from backattn.features.estimate import estimate
from backattn.features.gc import collect_garbage
from backattn.features.plan import Stage, make_plan
from backattn.recipe import Recipe
from backattn.store.reader import StoreReader
from fakes import make_corpus, make_recipe, make_sentence
from tiny_bert import save_bert
from users_folder import make_home, run

pytestmark = pytest.mark.slow

TEXTS = [f"{'word ' * (i % 7)}sentence {i}" for i in range(60)]
VECTORS = "3 2\nanna 1 2\nsingt 3 4\nben 0.5 6\n"


class FakeEmbedder:
    """A token's vector is made of its letters; the word "nothing" has none."""

    opened = "made up"
    width = 3

    def __init__(self, *, scale: float = 1.0, stop_after: int | None = None) -> None:
        self.seen: list[tuple[str, ...]] = []
        self._scale = np.float32(scale)
        self._stop_after = stop_after

    def embed(self, sentences: Sequence[tuple[str, ...]]) -> list[np.ndarray]:
        if self._stop_after is not None and len(self.seen) >= self._stop_after:
            raise KeyboardInterrupt
        self.seen += sentences
        return [self._scale * np.array([self._one(token) for token in tokens]) for tokens in sentences]

    @staticmethod
    def _one(token: str) -> np.ndarray:
        letters = [0, 0, 0] if token == "nothing" else [1 + ord(c) % 7 for c in (token * 3)[:3]]
        return np.array(letters, np.float32)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of vectors, and files for digests where two more models would be. There is no translator."""
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BACKATTN_DATA", str(tmp_path / "data"))
    for name in ("data/toy.vec", "cache/lm/forward.safetensors", "cache/lm/backward.safetensors",
                 "cache/bert/config.json", "cache/bert/model.safetensors",
                 "cache/bert/vocab.txt"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(VECTORS if name.endswith(".vec") else name)
    # What it says decides which files are the model's.
    (tmp_path / "cache/bert/config.json").write_text('{"model_type": "bert"}')
    return tmp_path


def recipe_with(*names: str, **tables: object) -> Recipe:
    known: dict[str, object] = {
        "fasttext": {"vectors": "toy.vec"},
        "charlm": {"checkpoint": "lm"},
        "bert": {"checkpoint": "bert"},
    }
    return make_recipe(embeddings={**known, **tables}, tagger={"embeddings": list(names)})


def stage_of(corpus: Corpus, name: str = "fasttext", **tables: object) -> Stage:
    return make_plan(recipe_with(name, **tables), corpus).embeddings[name]  # type: ignore[index]


def test_the_store_holds_the_vectors_and_counts_the_tokens_without_one(home: Path) -> None:
    stage = stage_of(make_corpus(["ab nothing cd", "nothing", "ab nothing cd"]))
    built = build.build_embeddings(stage, FakeEmbedder, "cpu")
    assert (built.sentences, built.computed, built.counts) == (4, 4, {"unknown": 2})
    store = StoreReader(stage.path)
    assert stage.path.parent == home / "cache/toy/embeddings/fasttext"
    assert (store.kind, store.attributes["d"]) == ("embedding", 3)
    expected = FakeEmbedder().embed([("ab", "nothing", "cd")])[0]
    found = store[make_sentence("ab nothing cd").key]["vectors"]
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, expected)
    assert [origin.opened for origin in store.origins.values()] == ["made up"]


def test_a_stopped_run_goes_on_and_an_edit_costs_its_new_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SHARD_TOKENS", 50)
    stage = stage_of(make_corpus(TEXTS))
    stopped = FakeEmbedder(stop_after=20)
    with pytest.raises(KeyboardInterrupt):
        build.build_embeddings(stage, lambda: stopped, "cpu")
    rest = FakeEmbedder()
    built = build.build_embeddings(stage, lambda: rest, "cpu")
    assert built.resumed == len(stopped.seen) > 0
    assert not set(rest.seen) & set(stopped.seen)
    resumed = StoreReader(stage.path).digests
    stage.path.unlink()
    build.build_embeddings(stage, FakeEmbedder, "cpu")
    fresh = StoreReader(stage.path).digests
    assert {k: v for k, v in fresh.items() if k != "origin"} == {
        k: v for k, v in resumed.items() if k != "origin"
    }
    more = FakeEmbedder()
    built = build.build_embeddings(stage_of(make_corpus([*TEXTS, "brand new"])), lambda: more, "cpu")
    assert (built.computed, more.seen) == (1, [("brand", "new")])


def test_unusable_vectors_are_refused_with_the_sentence() -> None:
    stage = stage_of(make_corpus(["a b"], test=["a b"]))
    with pytest.raises(ModelError, match=r"not finite as float16 for the sentence 'a b'.*embeddings.dtype"):
        build.build_embeddings(stage, lambda: FakeEmbedder(scale=1e9), "cpu")
    with pytest.raises(ModelError, match="the embedding is not finite"):
        build.build_embeddings(stage, lambda: FakeEmbedder(scale=float("nan")), "cpu")
    wide = stage_of(make_corpus(["a b"], test=["a b"]), dtype="float32")
    build.build_embeddings(wide, lambda: FakeEmbedder(scale=1e9), "cpu")

    class Short(FakeEmbedder):
        def embed(self, sentences: Sequence[tuple[str, ...]]) -> list[np.ndarray]:
            return [found[:1] for found in super().embed(sentences)]

    with pytest.raises(ModelError, match=r"features of shape \(1, 3\), expected \(2, 3\), .*'a b'"):
        build.build_embeddings(stage, Short, "cpu")


def test_identity_follows_the_numbers_alone(home: Path) -> None:
    corpus = make_corpus(["x"])

    def identity(name: str, **tables: object) -> str:
        return stage_of(corpus, name, **tables).recipe_id

    names = ("fasttext", "charlm", "bert")
    base = {name: identity(name) for name in names}
    assert len(set(base.values())) == 3
    (home / "data/moved.vec").write_text(VECTORS)
    for folder in ("lm", "bert"):
        (home / "cache" / folder).rename(home / f"cache/moved-{folder}")
    moved = {
        "fasttext": {"vectors": "moved.vec"},
        "charlm": {"checkpoint": "moved-lm", "batch_tokens": 7},
        "bert": {"checkpoint": "moved-bert", "batch_tokens": 7},
    }
    assert {name: identity(name, **moved) for name in names} == base
    assert all(identity(name, **moved, dtype="float32") != base[name] for name in names)
    for key, value in {"layers": "last", "pieces": "mean", "window": 9}.items():
        changed = {**moved, "bert": {"checkpoint": "moved-bert", key: value}}
        assert identity("bert", **changed) != base["bert"]
        assert identity("charlm", **changed) == base["charlm"]
    for name, file in (
        ("fasttext", "data/moved.vec"),
        ("charlm", "cache/moved-lm/backward.safetensors"),
        ("bert", "cache/moved-bert/config.json"),
    ):
        (home / file).write_text('{"model_type": "bert", "hidden_size": 6}')
        assert identity(name, **moved) != base[name]
    before = identity("bert", **moved)
    (home / "cache/moved-bert/tokenizer.json").write_text("{}")
    assert identity("bert", **moved) != before
    pins = [("a" * 64, "b" * 64), ("b" * 64, "a" * 64)]
    assert len({identity("charlm", charlm={"hub": "es", "sha256": pin}) for pin in pins}) == 2
    # What transformers does not open is no part of a model.
    before = identity("bert", **moved)
    for name in ("notes.txt", "trainer_state.json", "README.md"):
        (home / "cache/moved-bert" / name).write_text("a note")
    assert identity("bert", **moved) == before


def test_who_needs_no_translator_is_not_sent_to_one(home: Path) -> None:
    recipe, corpus = recipe_with("fasttext"), make_corpus(["x"])
    with pytest.raises(StaleError, match="run `backattn features toy --only embeddings`"):
        fresh_stores(recipe, corpus, ["words"])


@pytest.mark.parametrize(
    ("gone", "name", "message"),
    [
        ("data/toy.vec", "fasttext", "toy.vec: not there; fetch a .vec or .bin file from fasttext.cc"),
        (
            "cache/lm/forward.safetensors",
            "charlm",
            "forward.safetensors: not there; make both directions with",
        ),
        ("cache/bert/config.json", "bert", "config.json: not there; point embeddings.bert.checkpoint"),
    ],
)
def test_a_missing_model_is_missed_by_its_own_store_alone(
    home: Path, gone: str, name: str, message: str
) -> None:
    (home / gone).unlink()
    plan = make_plan(recipe_with(name), make_corpus(["x"]))
    with pytest.raises(MissingError) as caught:
        plan.embeddings  # noqa: B018
    assert message in str(caught.value)
    others = [other for other in ("fasttext", "charlm", "bert") if other != name]
    assert len(make_plan(recipe_with(*others), make_corpus(["x"]), "embeddings").stages) == 2
    with pytest.raises(MissingError, match="no translator there"):
        make_plan(recipe_with(*others), make_corpus(["x"])).stages  # noqa: B018


def test_check_and_estimate_speak_of_each_store(home: Path) -> None:
    corpus = make_corpus(TEXTS)
    plan = make_plan(recipe_with("bert", "fasttext"), corpus, "embeddings")
    assert [(s.name, s.state) for s in check(plan)] == [
        ("embeddings/bert", "missing"), ("embeddings/fasttext", "missing"),
    ]  # fmt: skip
    assert [time.name for time in estimate(plan, check(plan))] == ["embeddings/bert", "embeddings/fasttext"]
    for stage in plan.stages:
        build.build_embeddings(stage, FakeEmbedder, "cpu")
    assert [status.state for status in check(plan, deep=True)] == ["fresh", "fresh"]
    changed = make_plan(
        recipe_with("bert", bert={"checkpoint": "bert", "pieces": "mean"}), corpus, "embeddings"
    )
    (status,) = check(changed)
    old = plan.embeddings["bert"].path.name
    assert (status.state, status.reasons) == ("missing", (f"bert.pieces: 'first' in {old}, 'mean' now",))
    (home / "cache/toy/embeddings/bert" / old).write_bytes(plan.embeddings["fasttext"].path.read_bytes())
    assert "files were swapped" in check(plan)[0].reasons[0]


def test_gc_frees_what_left_the_corpus_and_on_demand_other_embeddings(home: Path) -> None:
    plan = make_plan(recipe_with("bert", "fasttext"), make_corpus(TEXTS), "embeddings")
    for stage in plan.stages:
        build.build_embeddings(stage, FakeEmbedder, "cpu")
    fewer = make_plan(recipe_with("fasttext"), make_corpus(TEXTS[:10]), "embeddings")
    assert [item.reason for item in collect_garbage(fewer, others=False, dry_run=False)] == [
        "50 of 62 sentences are no longer in the corpus"
    ]
    assert StoreReader(fewer.embeddings["fasttext"].path).counts == {"unknown": 0}
    (found,) = collect_garbage(fewer, others=True, dry_run=False)
    assert found.path == str(plan.embeddings["bert"].path)
    assert not plan.embeddings["bert"].path.exists()
    assert [status.state for status in check(fewer, deep=True)] == ["fresh"]


TABLES = """
[embeddings]
dtype = "float32"
[embeddings.fasttext]
vectors = "toy.vec"
[embeddings.bert]
checkpoint = "tiny"
layers = "last"
[tagger]
embeddings = ["fasttext", "bert"]
"""


@pytest.fixture
def lang(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe with real models of both kinds, a corpus, and neither a translator nor an English tagger."""
    save_bert(home / "cache/tiny")
    return make_home(home, monkeypatch, TABLES, models=())


def test_embeddings_alone_need_no_translator(lang: Path) -> None:
    status, out, err = run("features", "toy")
    assert (status, out) == (2, "")
    assert "no translator there" in err
    status, out, _ = run("features", "toy", "--only", "embeddings", "--dry-run")
    assert status == 0
    assert "embeddings/bert: missing; 4 sentences, 4 to compute" in out
    assert "embeddings/bert: time unknown until 100 sentences are done" in out
    status, out, err = run("features", "toy", "--only", "embeddings", "--json")
    assert status == 0, err
    made = json.loads(out)
    assert {name: built["counts"]["unknown"] for name, built in made.items()} == {
        "embeddings/fasttext": 2, "embeddings/bert": 0,
    }  # fmt: skip
    status, out, _ = run("check", "toy", "--only", "embeddings", "--deep")
    assert status == 0
    assert out.count(": fresh; 4 sentences, 0 to compute; unknown: ") == 2
    (vectors,) = (lang / "cache/toy/embeddings/fasttext").glob("*.h5")
    found = StoreReader(vectors)[make_sentence("ben singt").key]["vectors"]
    assert found.tolist() == [[0.5, 6], [3, 4]]
    status, out, _ = run("show", str(vectors))
    assert f"{vectors}: an embedding store" in out
    assert "embedding = fasttext" in out
    assert "toy.vec" in out
    (bert,) = (lang / "cache/toy/embeddings/bert").glob("*.h5")
    assert StoreReader(bert)[make_sentence("ben singt").key]["vectors"].shape == (2, 12)
    assert run("gc", "toy", "--only", "embeddings") == (0, "nothing to free\n", "")


def test_check_and_idle_features_import_no_model_library(lang: Path) -> None:
    assert run("features", "toy", "--only", "embeddings")[0] == 0
    code = (
        "import sys; from backattn.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'torch', 'flair', 'fairseq', 'transformers', 'tokenizers'} & set(sys.modules)\n"
    )
    for command in ("check", "features", "gc"):
        arguments = [sys.executable, "-c", code, command, "toy", "--only", "embeddings"]
        done = subprocess.run(arguments, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_embeddings_alone_load_without_the_packages_of_the_translator(lang: Path) -> None:
    code = (
        "import sys; sys.modules['fairseq'] = sys.modules['flair'] = None\n"
        "from backattn.cli import main; main(['features', 'toy', '--only', 'embeddings'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_mistakes_of_the_command_line_are_one_line(lang: Path) -> None:
    for arguments, message in (
        (("features", "toy", "--only", "embeddings", "--set", "tagger.embeddings=[]"),
         "recipe toy: tagger.embeddings is empty"),
        (("charlm", "train", "toy"), "recipe toy: no [embeddings.charlm.training]"),
        (("check", "toy", "--set", "tagger.embeddings=['charlm']"),
         "tagger.embeddings[0]: 'charlm' needs a table [embeddings.charlm]; write one"),
    ):  # fmt: skip
        status, out, err = run(*arguments)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert message in err
