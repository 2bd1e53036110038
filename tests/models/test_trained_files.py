"""A model of ours with a changed bit is refused where it is opened, and before a store is named after it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from backattn.common.digests import file_digest
from backattn.common.errors import ModelError
from backattn.features.plan import make_plan
from backattn.models.trained_files import require_as_trained
from backattn.models.vouchers import NOBODY
from fakes import make_corpus, make_recipe

pytest.importorskip("fairseq")
pytest.importorskip("flair")

from backattn.embeddings.charlm import CharLm
from backattn.embeddings.charlm_hub import dump_model
from backattn.english.flair import FlairTagger
from backattn.features.pipeline import load_translator
from backattn.models.flair_serialisation import dump_tagger
from backattn.recipe import FairseqRecipe
from backattn.training.translator.initialisation import parent_files
from backattn.translation import fairseq
from backattn.translation.fairseq import FairseqTranslator
from tiny_english import other_tagger, random_charlm
from tiny_translator import make_translator

pytestmark = pytest.mark.slow


def translator(folder: Path) -> Callable[[], object]:
    make_translator(folder)
    return lambda: FairseqTranslator.load(folder, FairseqRecipe(checkpoint="x", source="de"), device="cpu")


def parent(folder: Path) -> Callable[[], object]:
    make_translator(folder)
    return lambda: parent_files(str(folder))


def english(folder: Path) -> Callable[[], object]:
    folder.mkdir()
    path = folder / "tagger.safetensors"
    path.write_bytes(dump_tagger(other_tagger("bio"), "here"))
    return lambda: FlairTagger.load(path, sha256="", vouchers=NOBODY, batch_tokens=60, device="cpu")


def charlm(folder: Path) -> Callable[[], object]:
    folder.mkdir()
    for direction in ("forward", "backward"):
        model = random_charlm(forward=direction == "forward").lm
        (folder / f"{direction}.safetensors").write_bytes(dump_model(model, direction))
    return lambda: CharLm.load(folder, batch_tokens=60, device="cpu")


def write_manifest(folder: Path) -> None:
    """As a training does, last."""
    files = {path.name: file_digest(path) for path in sorted(folder.iterdir())}
    (folder / "training.json").write_text(json.dumps({"files": files}))


def flip(path: Path) -> None:
    """One bit, of a number or a letter: nothing but a digest tells."""
    data = bytearray(path.read_bytes())
    place = data.rindex(b" ") + 1 if path.suffix == ".txt" else len(data) * 2 // 3
    data[place] ^= 1
    path.write_bytes(bytes(data))


OPENED = [
    *((translator, name) for name in ("checkpoint.pt", "dict.de.txt", "dict.en.txt", "joint.model")),
    *((parent, name) for name in ("checkpoint.pt", "dict.en.txt")),
    (english, "tagger.safetensors"),
    *((charlm, name) for name in ("forward.safetensors", "backward.safetensors")),
]


@pytest.mark.parametrize(("make", "name"), OPENED)
def test_a_changed_file_is_refused_where_it_is_opened(
    tmp_path: Path, make: Callable[[Path], Callable[[], object]], name: str
) -> None:
    folder = tmp_path / "model"
    load = make(folder)
    load()  # brought from elsewhere
    write_manifest(folder)
    load()
    if make is parent:  # of two dictionaries that differ it has another word to say
        (folder / "dict.de.txt").unlink()
    trained = file_digest(folder / name)
    flip(folder / name)
    found = file_digest(folder / name)
    with pytest.raises(ModelError) as caught:
        load()
    message = str(caught.value)
    assert message.startswith(f"{folder / name}: sha256 is {found[:9]} ... {found[-9:]}, but training.json")
    assert f"says {trained[:9]} ... {trained[-9:]}: damaged" in message
    assert f"delete {folder} to train anew" in message


@pytest.mark.parametrize(
    ("make", "place", "name", "stage"),
    [
        (translator, "toy/translator", "checkpoint.pt", lambda plan: plan.translation),
        (english, "toy/english", "tagger.safetensors", lambda plan: plan.transfer),
        (charlm, "toy/charlm", "backward.safetensors", lambda plan: plan.embeddings["charlm"]),
    ],
)
def test_no_store_is_named_after_a_changed_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], object],
    place: str,
    name: str,
    stage: Callable[[object], object],
) -> None:
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path))
    (tmp_path / "toy").mkdir()
    make(tmp_path / place)
    write_manifest(tmp_path / place)
    recipe = make_recipe(
        translator={"kind": "fairseq", "checkpoint": "toy/translator", "source": "de"}
        if make is translator
        else {"kind": "copy", "source": "de"},
        english={"checkpoint": "toy/english/tagger.safetensors"},
        embeddings={"charlm": {"checkpoint": "toy/charlm"}},
        tagger={"embeddings": ["charlm"]},
    )
    stage(make_plan(recipe, make_corpus(["x"])))
    flip(tmp_path / place / name)
    with pytest.raises(ModelError, match=rf"{place}/{name}: sha256 is .*, but training\.json"):
        stage(make_plan(recipe, make_corpus(["x"])))


def test_a_file_that_the_training_did_not_write(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text('{"files": {"other": "1"}}')
    require_as_trained(tmp_path, {"checkpoint.pt": "2"})
    (tmp_path / "training.json").write_text("{}")
    require_as_trained(tmp_path, {"checkpoint.pt": "2"})


@pytest.mark.parametrize(
    "content", ["", "[]", '{"files": 5}', '{"files": ["abc"]}', '{"files": null}', "[" * 9999]
)
def test_a_damaged_manifest(tmp_path: Path, content: str) -> None:
    (tmp_path / "training.json").write_text(content)
    with pytest.raises(ModelError, match=r"training\.json: damaged .*delete .* to train anew"):
        require_as_trained(tmp_path, {"checkpoint.pt": "2"})


@pytest.mark.parametrize("value", [5, None, ["x"], {"a": 1}, "9" * 100_000])
def test_a_digest_that_is_none(tmp_path: Path, value: object) -> None:
    (tmp_path / "training.json").write_text(json.dumps({"files": {"checkpoint.pt": value}}))
    with pytest.raises(ModelError, match=r"checkpoint\.pt: sha256 is 2, but training\.json") as caught:
        require_as_trained(tmp_path, {"checkpoint.pt": "2"})
    assert len(str(caught.value)) < 600


def test_a_translator_is_not_digested_again_where_its_store_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan has done it, and features does it once more when the model is open."""

    def refuse(path: Path) -> str:
        raise AssertionError(f"{path}: digested")

    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path))
    make_translator(tmp_path / "toy/translator")
    monkeypatch.setattr(fairseq, "file_digest", refuse)
    assert load_translator(make_recipe(), "cpu", compared=True).translate([("am",)])
    with pytest.raises(AssertionError, match=r"checkpoint\.pt: digested"):
        load_translator(make_recipe(), "cpu")
