"""Each number can be asked where it comes from."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from backattn import cli
from backattn.common.digests import file_digest
from backattn.corpus.formats import read_corpus
from backattn.features import build
from backattn.features.plan import Plan, make_plan
from backattn.recipe import load_recipe
from backattn.store import provenance
from backattn.store.layout import FORMAT_VERSION, Origin, merge_origins
from backattn.store.reader import StoreReader
from fakes import FakeEnglishTagger, FakeTranslator

RECIPE = """
corpus = { train = "toy.train", dev = "toy.dev", test = "toy.test", source = "here" }
translator = { kind = "fairseq", checkpoint = "toy/translator", source = "de" }
english = { checkpoint = "toy/english/tagger.pt" }
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("BACKATTN_DATA", "BACKATTN_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("pipelines", "data", "cache/toy/translator", "cache/toy/english"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "pipelines/toy.toml").write_text(RECIPE)
    for split, words in (("train", "anna ben"), ("dev", "carl"), ("test", "anna dora")):
        lines = [f"{word} B-PER\nsingt O\n" for word in words.split()]
        (tmp_path / f"data/toy.{split}").write_text("\n".join(lines))
    (tmp_path / "cache/toy/translator/checkpoint.pt").write_text("translator")
    (tmp_path / "cache/toy/english/tagger.pt").write_text("tagger")
    return tmp_path


def make_stores(*, trust: bool = False) -> Plan:
    recipe = load_recipe("toy")
    plan = make_plan(recipe, read_corpus(recipe.corpus))
    tagger = FakeEnglishTagger()
    if trust:
        tagger.opened = "pickle, --trust"
    build.build_translations(plan.translation, FakeTranslator, "cpu")
    store = StoreReader(plan.translation.path)
    build.build_transfers(plan.transfer, store, recipe.transfer, lambda: tagger, "cpu")
    return plan


def test_show_names_corpora_models_recipe_and_counts(home: Path) -> None:
    plan = make_stores(trust=True)
    result = CliRunner().invoke(cli.main, ["show", str(plan.transfer.path), "--json"])
    assert result.exit_code == 0, result.stderr
    shown = json.loads(result.stdout)
    assert shown["corpora"]["train"] == {
        "file": "toy.train",
        "sha256": file_digest(home / "data/toy.train"),
        "sentences": 2,
    }
    assert shown["models"] == {"tagger.pt": file_digest(home / "cache/toy/english/tagger.pt")}
    policy = {"eos": "drop", "normalise": "none", "dtype": "float16", "attention": "translator",
              "states": "lstm", "source_states": False, "links": None}  # fmt: skip
    assert shown["recipe"]["transfer"] == policy
    assert shown["recipe"]["translation"] == StoreReader(plan.translation.path).recipe_id
    assert shown["sentences"] == sum(origin["sentences"] for origin in shown["origins"]) == 4
    assert shown["origins"][0]["opened"] == "pickle, --trust"
    assert shown["written"]["versions"]["backattn"]
    text = CliRunner().invoke(cli.main, ["show", str(plan.translation.path)]).stdout
    kind = f"a translation store, format version {FORMAT_VERSION}"
    for expected in (kind, "empty: 0, limited: 0, segmented: 0",
                     "translator.beam = 4", file_digest(home / "data/toy.dev")):  # fmt: skip
        assert expected in text


def test_a_store_that_grew_names_each_run_and_what_it_computed(home: Path) -> None:
    first = StoreReader(make_stores().transfer.path)
    with (home / "data/toy.train").open("a") as file:
        file.write("\nemil B-PER\n")
    store = StoreReader(make_stores(trust=True).transfer.path)
    origins = provenance.to_json(store)["origins"]
    assert sorted((origin["opened"], origin["sentences"]) for origin in origins) == [
        ("made up", 4),
        ("pickle, --trust", 1),
    ]
    for key in first:
        assert store[key]["origin"].tobytes() == first[key]["origin"].tobytes()
    (new,) = set(store) - set(first)
    assert store.origins[store[new]["origin"].tobytes().hex()].opened == "pickle, --trust"


def test_equal_origins_add_up_and_others_stay_apart() -> None:
    run = Origin(started="1", device="cpu", versions={}, commit="", opened="x")
    other = Origin(started="2", device="cpu", versions={}, commit="", opened="x")
    merged = merge_origins([run.after(10, 1.5), other.after(1, 1.0), run.after(5, 0.25)])
    assert merged == {run.id: run.after(15, 1.75), other.id: other.after(1, 1.0)}
