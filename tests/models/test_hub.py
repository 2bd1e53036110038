"""The hub's local cache: where it is, which commit is the newest in it, and what a hostile one leads to."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest
from huggingface_hub import constants

from backattn.common.errors import ModelError, NotFetchedError
from backattn.models.hub import Snapshot, hub_cache, local_snapshot, record_place, recorded_place
from backattn.models.model_digests import english_files, translator_files
from backattn.recipe import Recipe
from fakes import make_recipe
from hub_cache import COMMIT, put_in_cache

FILES = ("config.json", "model.safetensors", "source.spm", "target.spm", "vocab.json")
OTHER = "b" * 40


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "hub"


def make_files(folder: Path, text: str) -> Path:
    """What is digested of a Marian model; a plan does not open it."""
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text(f"{name} {text}")
    return folder


def opus(**keys: str) -> Recipe:
    return make_recipe(translator={"kind": "transformers", "hub": "someone/opus", "source": "de", **keys})


def fresh_constants() -> ModuleType:
    """The hub's own settings, read anew from the environment."""
    assert constants.__file__
    spec = importlib.util.spec_from_file_location("fresh_constants", constants.__file__)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"XDG_CACHE_HOME": "/x"},
        {"HF_HOME": "~/hf"},
        {"HF_HOME": "$HOME/hf", "XDG_CACHE_HOME": "/x"},
        {"HUGGINGFACE_HUB_CACHE": "/older"},
        {"HF_HUB_CACHE": "~/newer", "HUGGINGFACE_HUB_CACHE": "/older", "HF_HOME": "/home"},
        {"HF_HUB_CACHE": "${HOME}/newer"},
    ],
)
def test_the_cache_is_where_the_hubs_own_package_looks(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CACHE_HOME", "HF_HOME", "HUGGINGFACE_HUB_CACHE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(hub_cache()) == fresh_constants().HF_HUB_CACHE


def test_the_newest_that_was_fetched_and_the_pinned_one(tmp_path: Path, cache: Path) -> None:
    assert local_snapshot("someone/opus", "") is None
    one = put_in_cache(make_files(tmp_path / "one", "1"), "someone/opus", cache)
    other = put_in_cache(make_files(tmp_path / "other", "2"), "someone/opus", cache, OTHER)
    assert local_snapshot("someone/opus", "") == Snapshot(OTHER, other)
    assert local_snapshot("someone/opus", "main") == Snapshot(OTHER, other)
    assert local_snapshot("someone/opus", COMMIT) == Snapshot(COMMIT, one)
    assert local_snapshot("someone/opus", "c" * 40) is None
    assert local_snapshot("someone/opus", "v1.0") is None
    (cache / "models--someone--opus/refs/v1").mkdir()
    (cache / "models--someone--opus/refs/v1/0").write_text(f"{COMMIT}\n")
    assert local_snapshot("someone/opus", "v1/0") == Snapshot(COMMIT, one)


@pytest.mark.parametrize("text", ["../../elsewhere", "", "A" * 40, f"{COMMIT}/..", "\x00", "\xff"])
def test_a_branch_that_is_no_commit_is_refused(tmp_path: Path, cache: Path, text: str) -> None:
    put_in_cache(make_files(tmp_path / "one", "1"), "someone/opus", cache)
    make_files(cache / "elsewhere", "evil")
    (cache / "models--someone--opus/refs/main").write_text(text, "latin-1")
    with pytest.raises(ModelError, match=r"refs/main: expected a commit \(40 hexadecimal digits\), found"):
        local_snapshot("someone/opus", "")


def test_a_branch_that_never_ends_is_refused(cache: Path) -> None:
    refs = cache / "models--someone--opus/refs"
    refs.mkdir(parents=True)
    os.mkfifo(refs / "main")
    assert local_snapshot("someone/opus", "") is None
    (refs / "main").unlink()
    (refs / "main").symlink_to("/dev/zero")
    assert local_snapshot("someone/opus", "") is None
    (refs / "main").unlink()
    with open(refs / "main", "wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(ModelError, match="expected a commit"):
        local_snapshot("someone/opus", "")


@pytest.mark.parametrize("revision", ["../../../secret", "..", "a/../../b", "/etc/passwd", "a//b", "."])
def test_a_revision_leads_nowhere_else(cache: Path, revision: str) -> None:
    (cache / "models--someone--opus/refs").mkdir(parents=True)
    for place in (cache / "secret", cache / "models--someone--opus/b", cache.parent / "secret"):
        place.write_text(COMMIT)
    assert local_snapshot("someone/opus", revision) is None


def test_a_snapshot_that_is_a_link_is_refused(tmp_path: Path, cache: Path) -> None:
    snapshot = put_in_cache(make_files(tmp_path / "one", "1"), "someone/opus", cache)
    snapshot.rename(tmp_path / "elsewhere")
    snapshot.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="is a link, expected a folder of the hub's cache; delete"):
        local_snapshot("someone/opus", "")


def test_the_identity_is_the_commit_and_the_bytes_that_are_opened(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(NotFetchedError, match=r"someone/opus: not fetched yet .*`backattn features toy`"):
        translator_files(opus())
    snapshot = put_in_cache(make_files(tmp_path / "one", "1"), "someone/opus", cache)
    one = translator_files(opus())
    assert one.keys() == {"commit", *FILES}
    assert one["commit"] == COMMIT
    assert translator_files(opus(revision=COMMIT)) == one
    # The same bytes under another commit, and other bytes behind a link out of the cache.
    put_in_cache(tmp_path / "one", "someone/opus", cache, OTHER)
    assert translator_files(opus()) == {**one, "commit": OTHER}
    (tmp_path / "outside").write_text("outside")
    (snapshot / "vocab.json").unlink()
    (snapshot / "vocab.json").symlink_to(tmp_path / "outside")
    outside = translator_files(opus(revision=COMMIT))
    assert {name for name in one if one[name] != outside[name]} == {"vocab.json"}
    (tmp_path / "outside").write_text("changed")
    assert translator_files(opus(revision=COMMIT)) not in (one, outside)
    (snapshot / "vocab.json").unlink()
    with pytest.raises(NotFetchedError, match=r"someone/opus: not fetched yet \(.*vocab\.json: not there"):
        translator_files(opus(revision=COMMIT))


def test_models_of_other_hubs_are_the_bytes_of_their_files(tmp_path: Path) -> None:
    fairseq = make_recipe(translator={"kind": "fairseq", "hub": "transformer.wmt19.de-en", "source": "de"})
    flair = make_recipe(english={"hub": "flair/ner-english"})
    for recipe, files in ((fairseq, translator_files), (flair, english_files)):
        with pytest.raises(NotFetchedError, match="not fetched yet"):
            files(recipe)
    folder = tmp_path / "unpacked"
    folder.mkdir()
    for name in ("model1.pt", "model2.pt", "dict.de.txt", "dict.en.txt", "bpecodes", "README"):
        (folder / name).write_text(name)
    record_place("fairseq", "transformer.wmt19.de-en", folder)
    found = translator_files(fairseq)
    assert found.keys() == {"model1.pt", "model2.pt", "dict.de.txt", "dict.en.txt", "bpecodes"}
    (folder / "model2.pt").write_text("another")
    assert translator_files(fairseq) != found
    record_place("flair tagger", "flair/ner-english", folder / "model1.pt")
    one = english_files(flair)
    (folder / "model1.pt").write_text("another")
    assert english_files(flair) != one
    (folder / "model1.pt").unlink()
    with pytest.raises(NotFetchedError):
        english_files(flair)


@pytest.mark.parametrize(
    "text", ['{"place": 3}', '{"place": ""}', '{"place": "../x"}', "{}", "[]", "no json"]
)
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    record_place("fairseq", "x", tmp_path)
    assert recorded_place("fairseq", "x") == tmp_path
    (record,) = (tmp_path / "cache/.hub").iterdir()
    record.write_text(text)
    with pytest.raises(ModelError, match=r"\.json: damaged .*`backattn features` fetches the model again"):
        recorded_place("fairseq", "x")
