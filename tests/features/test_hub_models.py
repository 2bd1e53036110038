"""A model of a hub that changes between two runs: one store never has numbers of both."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants, file_download

from backattn.common.errors import NotFetchedError
from backattn.embeddings.bert import Bert
from backattn.features import build
from backattn.features.check import check, new_identities
from backattn.features.gc import collect_garbage
from backattn.features.plan import make_plan
from backattn.recipe import BertRecipe
from backattn.store.reader import StoreReader
from fakes import FakeTranslator, make_corpus, make_recipe
from hub_cache import COMMIT, HubServer, put_in_cache, serve_hub
from tiny_bert import save_bert
from users_folder import make_home, run

OTHER = "b" * 40
BERT = """
[embeddings.bert]
hub = "someone/bert"
[tagger]
embeddings = ["bert"]
"""
FEATURES = ("features", "toy", "--only", "embeddings")
CHECK = ("check", "toy", "--only", "embeddings")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A server that stands in for the hub, and an empty local cache."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with serve_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        template = f"{server.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server


def vectors(path: Path) -> dict[bytes, np.ndarray]:
    store = StoreReader(path)
    return {key: np.array(store[key]["vectors"]) for key in store}


def test_a_store_goes_on_with_the_model_that_it_was_begun_with(
    tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path, monkeypatch, BERT, models=())
    models = {COMMIT: save_bert(tmp_path / "one", layers=5), OTHER: save_bert(tmp_path / "other", layers=4)}
    hub.publish("someone/bert", COMMIT, models[COMMIT])
    # Nothing is fetched by a command that only looks.
    for command, expected in ((CHECK, 1), ((*FEATURES, "--dry-run"), 0)):
        status, out, err = run(*command)
        assert (status, err) == (expected, ""), out
        assert "embeddings/bert: missing; 4 sentences, 4 to compute (its name is not known yet)" in out
        assert "someone/bert: not fetched yet" in out
        assert "`backattn features toy` fetches it; until then the name" in out
    for command in (("gc", "toy", "--only", "embeddings", "--others"), ("train", "toy", "--inputs", "words")):
        status, out, err = run(*command)
        assert (status, out) == (2, ""), err
        assert err.splitlines()[-1].startswith("backattn: someone/bert: not fetched yet")  # after warnings
    assert not hub.asked
    assert run(*FEATURES)[0] == 0
    (first,) = (home / "cache/toy/embeddings/bert").glob("*.h5")
    assert StoreReader(first).recipe["commit"] == COMMIT
    assert StoreReader(first).attributes["models"]["commit"] == COMMIT

    # The hub has another one now: what was fetched is still what the store is made with.
    hub.publish("someone/bert", OTHER, models[OTHER])
    hub.asked.clear()
    (home / "data/toy.test").write_text("anna B-PER\nneu O\n")
    status, out, err = run(*FEATURES)
    assert (status, err) == (0, "next: backattn train toy\n"), out
    assert not hub.asked
    assert run(*CHECK)[0] == 0
    status, out, _ = run(*CHECK, "--online")
    assert status == 0
    newest = f"embeddings.bert: someone/bert: the hub's newest is another one, {OTHER}"
    assert f"{newest}; this machine has {COMMIT}, " in out

    # Asked for, the newest one begins a store of its own, and says so.
    grown = first.read_bytes()
    status, out, err = run(*FEATURES, "--online")
    assert status == 0, err
    assert "embeddings/bert: begins a new store, 1-" in err
    assert f"commit: '{COMMIT}' in {first.name}, '{OTHER}' now" in err
    second = next(p for p in (home / "cache/toy/embeddings/bert").glob("*.h5") if p != first)
    assert first.read_bytes() == grown
    assert f"is the hub's newest ({OTHER})" in run(*CHECK, "--online")[1]
    for path, commit in ((first, COMMIT), (second, OTHER)):
        bert = Bert.load(models[commit], BertRecipe(hub="someone/bert"), device="cpu")
        found = vectors(path)
        corpus = make_corpus(["anna singt", "ben singt"], ["carl singt"], ["dora singt", "anna neu"])
        known = [s for s in corpus.unique if s.key in found]
        assert len(known) == len(found) == (5 if commit == COMMIT else 4)
        for sentence, expected in zip(known, bert.embed([s.tokens for s in known]), strict=True):
            np.testing.assert_allclose(found[sentence.key], expected, atol=2e-3)
    assert not np.allclose(*[next(iter(vectors(path).values()))[:1] for path in (first, second)], atol=0.01)
    # Pinned, the older one is the first store again, as it is.
    assert run(*CHECK, "--set", f"embeddings.bert.revision={COMMIT}")[0] == 0


def test_a_run_that_was_stopped_is_not_finished_with_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the store's own building, with shards of the first model left behind."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "SHARD_TOKENS", 8)
    (tmp_path / "cache/toy/english").mkdir(parents=True)
    (tmp_path / "cache/toy/english/tagger.pt").write_text("a model")
    recipe = make_recipe(translator={"kind": "transformers", "hub": "someone/opus", "source": "de"})
    corpus = make_corpus([f"one two three {i}" for i in range(20)])

    def publish(text: str, commit: str) -> None:
        folder = tmp_path / text
        folder.mkdir()
        for name in ("config.json", "model.safetensors", "source.spm", "target.spm", "vocab.json"):
            (folder / name).write_text(f"{name} {text}")
        put_in_cache(folder, "someone/opus", tmp_path / "hub", commit)

    assert check(make_plan(recipe, corpus))[0].path == ""
    publish("one", COMMIT)
    first = make_plan(recipe, corpus)
    assert list(new_identities(first)) == []
    with pytest.raises(KeyboardInterrupt):
        build.build_translations(first.translation, lambda: FakeTranslator(stop_after=8), "cpu")
    left = sorted(first.translation.shards.iterdir())
    assert left
    publish("other", OTHER)
    second = make_plan(recipe, corpus)
    assert second.translation.path != first.translation.path
    (line, *_) = new_identities(second)
    assert f"commit: '{COMMIT}' in {first.translation.shards.name}, '{OTHER}' now" in line
    whole = FakeTranslator()
    built = build.build_translations(second.translation, lambda: whole, "cpu")
    assert (built.computed, built.resumed, len(whole.seen)) == (22, 0, 22)
    assert sorted(first.translation.shards.iterdir()) == left
    # With the cache of the hub gone, nobody can say which of them is this recipe's: none is removed.
    (tmp_path / "hub/models--someone--opus/refs/main").unlink()
    with pytest.raises(NotFetchedError, match="someone/opus: not fetched yet"):
        collect_garbage(make_plan(recipe, corpus), others=True, dry_run=False)
    assert second.translation.path.exists()
