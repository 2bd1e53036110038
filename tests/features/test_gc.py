"""What gc takes, and what it must not take."""

from pathlib import Path

import pytest

from backattn.common.errors import BusyError, StoreError
from backattn.common.file_lock import writer_lock
from backattn.corpus import Corpus
from backattn.features import build
from backattn.features.check import check
from backattn.features.gc import Garbage, collect_garbage
from backattn.features.plan import Plan, make_plan
from backattn.recipe import Recipe
from backattn.store.reader import StoreReader
from fakes import FakeEnglishTagger, FakeTranslator, make_corpus, make_recipe, make_sentence

TEXTS = [f"{'word ' * (i % 7)}sentence {i}" for i in range(40)]


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Model files for the digests; the fakes never open them."""
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path))
    (tmp_path / "toy/translator").mkdir(parents=True)
    (tmp_path / "toy/translator/checkpoint.pt").write_text("translator")
    (tmp_path / "toy/english").mkdir()
    (tmp_path / "toy/english/tagger.pt").write_text("tagger")
    return tmp_path


def made(corpus: Corpus, recipe: Recipe | None = None) -> Plan:
    recipe = recipe or make_recipe()
    plan = make_plan(recipe, corpus)
    build.build_translations(plan.translation, FakeTranslator, "cpu")
    store = StoreReader(plan.translation.path)
    build.build_transfers(plan.transfer, store, recipe.transfer, FakeEnglishTagger, "cpu")
    return plan


def everything(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but lock files, which hold no data."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def names(garbage: list[Garbage]) -> list[str]:
    return [f"{Path(item.path).name}: {item.reason}" for item in garbage]


def test_a_tidy_cache_is_left_as_it_is(models: Path) -> None:
    plan = made(make_corpus(TEXTS))
    before = everything(models)
    assert collect_garbage(plan, others=True, dry_run=False) == []
    assert everything(models) == before


def test_sentences_that_left_the_corpus_go_and_the_rest_stays_bit_for_bit() -> None:
    whole = StoreReader(made(make_corpus(TEXTS)).transfer.path)
    plan = make_plan(make_recipe(), make_corpus(TEXTS[:10]))
    found = collect_garbage(plan, others=False, dry_run=False)
    assert [item.reason for item in found] == ["30 of 42 sentences are no longer in the corpus"] * 2
    assert sum(item.bytes for item in found) > 0
    assert [(s.state, s.extra) for s in check(plan, deep=True)] == [("fresh", 0)] * 2
    kept = StoreReader(plan.transfer.path)
    assert set(kept) == {make_sentence(text).key for text in [*TEXTS[:10], "a b", "c d"]}
    for key in kept:
        assert kept[key]["vectors"].tobytes() == whole[key]["vectors"].tobytes()
        assert kept[key]["origin"].tobytes() == whole[key]["origin"].tobytes()
    assert kept.origins == whole.origins
    assert collect_garbage(plan, others=False, dry_run=False) == []


def test_leftovers_of_killed_runs_go_and_unfinished_shards_stay(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "SHARD_TOKENS", 50)
    corpus = make_corpus(TEXTS)
    plan = make_plan(make_recipe(), corpus)
    stopped = FakeTranslator(stop_after=20)
    with pytest.raises(KeyboardInterrupt):
        build.build_translations(plan.translation, lambda: stopped, "cpu")
    shards = everything(models)
    stage = plan.translation
    (stage.shards / f"{16 * '0'}.h5.01234567.partial").write_bytes(b"half")
    stage.path.with_name(f"{stage.path.name}.89abcdef.partial").write_bytes(b"half")
    other = stage.path.with_name("2-0123456789ab.h5.01234567.partial")
    other.write_bytes(b"half")
    found = collect_garbage(plan, others=False, dry_run=False)
    assert {item.reason for item in found} == {"half-written by a run that was stopped"}
    assert len(found) == 3
    assert everything(models) == shards
    made(corpus)
    stage.shards.mkdir()
    (stage.shards / f"{16 * '0'}.h5").write_bytes(b"a shard whose run was killed after the join")
    assert names(collect_garbage(plan, others=False, dry_run=False)) == [
        f"{stage.shards.name}: shards that have been merged"
    ]
    assert not stage.shards.exists()


def test_stores_of_other_recipes_go_only_on_demand(models: Path) -> None:
    corpus = make_corpus(TEXTS)
    other = made(corpus, make_recipe(transfer={"eos": "keep"}))
    plan = made(corpus)
    assert collect_garbage(plan, others=False, dry_run=False) == []
    assert other.transfer.path.exists()
    before = everything(models)
    dry = collect_garbage(plan, others=True, dry_run=True)
    assert everything(models) == before
    assert names(dry) == [f"{other.transfer.path.name}: a store of another recipe"]
    assert collect_garbage(plan, others=True, dry_run=False) == dry
    assert not other.transfer.path.exists()
    assert not other.transfer.lock.exists()
    assert [status.state for status in check(plan, deep=True)] == ["fresh", "fresh"]


def test_what_a_running_process_holds_is_left_alone() -> None:
    corpus = make_corpus(TEXTS)
    other = made(corpus, make_recipe(transfer={"eos": "keep"}))
    plan = made(corpus)
    with writer_lock(other.transfer.lock):
        assert collect_garbage(plan, others=True, dry_run=False) == []
    assert other.transfer.path.exists()
    with writer_lock(plan.transfer.lock), pytest.raises(BusyError, match="held by process"):
        collect_garbage(plan, others=True, dry_run=False)


def test_a_corrupt_store_is_refused_and_never_gets_a_new_digest(models: Path) -> None:
    plan = made(make_corpus(TEXTS))
    data = bytearray(plan.transfer.path.read_bytes())
    with plan.transfer.path.open("wb") as file:
        data[-40] ^= 1
        file.write(data)
    before = everything(models)
    for corpus in (make_corpus(TEXTS), make_corpus(TEXTS[:10])):
        with pytest.raises(StoreError, match="differ from their digest"):
            collect_garbage(make_plan(make_recipe(), corpus), others=True, dry_run=False)
    assert everything(models) == before
