"""The command line and strangers' pickles: what came with a model does not vouch for it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from backattn.common.digests import file_digest
from backattn.corpus import Corpus
from backattn.features.plan import make_plan
from backattn.models.hub import record_place
from backattn.recipe import from_json
from users_folder import make_home, run

pytest.importorskip("flair")

import torch
from flair.models import SequenceTagger

from backattn.models.flair_serialisation import dump_tagger
from tiny_english import Bomb, other_tagger, save_pickle

PICKLE = Path("cache/toy/english/tagger.pt")
TABLES = "[tagger]\nepochs = 1\nhidden = 4\nword_dimensions = 4\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe whose English tagger is a flair pickle; its translator copies."""
    make_home(tmp_path, monkeypatch, TABLES)
    save_pickle(other_tagger("bio"), PICKLE)
    recipe = Path("pipelines/toy.toml")
    fairseq = 'kind = "fairseq"\ncheckpoint = "toy/translator"\n'
    text = recipe.read_text().replace(fairseq, 'kind = "copy"\n')
    assert fairseq not in text
    recipe.write_text(text.replace("tagger.pt", f'tagger.pt"\nsha256 = "{file_digest(PICKLE)}'))
    return tmp_path


@pytest.fixture
def finished(home: Path) -> Path:
    """A run that reads T."""
    assert run("features", "toy", "--device", "cpu")[0] == 0
    options = ("--inputs", "words+transfer", "--seeds", "1", "--device", "cpu", "--json")
    status, out, errors = run("train", "toy", *options)
    assert status == 0, errors
    (home / "text").write_text("emil singt\n")  # no store has it: the models are opened
    return Path(json.loads(out)[0]["folder"])


def tag(folder: Path, *options: str) -> tuple[int, str, str]:
    return run("tag", str(folder), "text", "--device", "cpu", *options)


def forge(folder: Path, **english: Any) -> None:
    """Another English tagger in a run, which then says that it has learnt from that one."""
    path, manifest = folder / "recipe.json", folder / "run.json"
    recipe = {**json.loads(path.read_text()), "english": english}
    path.write_text(json.dumps(recipe))
    plan = make_plan(from_json(recipe, "forged"), Corpus((), (), ()))
    value = json.loads(manifest.read_text())
    value["request"]["transfer"] = plan.transfer.recipe_id
    manifest.write_text(json.dumps(value))


def refused(answer: tuple[int, str, str]) -> str:
    """The one line."""
    status, out, errors = answer
    assert (status, out, errors.count("\n")) == (2, "", 1), errors
    return errors


def test_a_runs_own_pin_does_not_vouch(finished: Path) -> None:
    digest = file_digest(PICKLE)
    assert json.loads((finished / "recipe.json").read_text())["english"]["sha256"] == digest
    line = refused(tag(finished))
    assert f"{PICKLE}: a flair file is a pickle and can run code" in line
    assert line.endswith(f"pass --trust-sha256 {digest}, or --trust\n")
    expected = tag(finished, "--trust")
    assert (expected[0], expected[1].count("\n")) == (0, 3)
    assert tag(finished, "--trust-sha256", "0" * 64, "--trust-sha256", digest.upper()) == expected


@pytest.mark.parametrize("pinned", [True, False])
def test_a_strangers_run_does_not_run_its_pickle(finished: Path, tmp_path: Path, pinned: bool) -> None:
    trace = tmp_path / "trace"
    bomb = finished / "model.pt"
    torch.save(Bomb(trace), bomb)
    forge(finished, checkpoint=str(bomb.resolve()), sha256=file_digest(bomb) if pinned else "")
    assert "is a pickle and can run code" in refused(tag(finished))
    assert "is a pickle and can run code" in refused(tag(finished, "--trust-sha256", "0" * 64))
    assert not trace.exists()
    refused(tag(finished, "--trust-sha256", file_digest(bomb)))
    assert trace.exists()  # the bomb was live


def test_a_runs_pin_that_differs_is_refused_whoever_vouches(finished: Path) -> None:
    forge(finished, checkpoint="toy/english/tagger.pt", sha256="0" * 64)
    for options in (("--trust",), ("--trust-sha256", file_digest(PICKLE))):
        assert "the file was changed" in refused(tag(finished, *options))


@pytest.mark.parametrize("pin", ["1" * 64, ""])
def test_a_strangers_run_fetches_nothing_of_a_hub(
    finished: Path, monkeypatch: pytest.MonkeyPatch, pin: str
) -> None:
    asked: list[str] = []

    def fetch(name: str) -> str:
        asked.append(name)
        return str(PICKLE)

    monkeypatch.setattr(SequenceTagger, "_fetch_model", fetch)
    # Its stranger has fetched the model, which this machine has not.
    record_place("flair tagger", "flair/ner-english", PICKLE)
    forge(finished, hub="flair/ner-english", sha256=pin)
    shutil.rmtree(finished.parents[2] / ".hub")
    assert "flair/ner-english: a flair file is a pickle" in refused(tag(finished))
    if pin:
        assert f"--trust-sha256 {pin}, or --trust\n" in refused(tag(finished, "--trust-sha256", "0" * 64))
    assert not asked
    if not pin:
        assert tag(finished, "--trust-sha256", file_digest(PICKLE))[0] == 0
        assert asked == ["flair/ner-english"]


@pytest.mark.parametrize("value", [None, 5, ["2-0"], {}])
def test_a_run_that_does_not_say_what_it_has_read(finished: Path, value: object) -> None:
    manifest = finished / "run.json"
    told = json.loads(manifest.read_text())
    told["request"]["transfer"] = value
    if value is None:
        del told["request"]["transfer"]
    manifest.write_text(json.dumps(told))
    found = refused(tag(finished))
    assert "damaged run" in found
    assert "transfer" in found
    assert "remove the folder and train again with `backattn train LANG`" in found


def test_no_sha256(home: Path) -> None:
    status, _, errors = run("tag", "there", "--trust-sha256", "abc")
    assert (status, errors.splitlines()[-1]) == (
        2, "Error: Invalid value for '--trust-sha256': 'abc': expected the 64 hexadecimal digits of a sha256",
    )  # fmt: skip


def test_only_a_recipe_of_pipelines_vouches(home: Path) -> None:
    digest = file_digest(PICKLE)
    (home / "stranger").mkdir()
    shutil.copyfile("pipelines/toy.toml", "stranger/toy.toml")
    line = refused(run("features", "stranger/toy.toml", "--device", "cpu"))
    assert "outside of pipelines/, does not vouch" in line
    assert line.endswith(f"pass --trust-sha256 {digest}, or --trust\n")
    assert not list(home.glob("cache/toy/transl*/*.h5"))  # before anything was computed
    assert run("features", "stranger/toy.toml", "--device", "cpu", "--trust-sha256", digest)[0] == 0
    (store,) = home.glob("cache/toy/transfer/*.h5")
    assert (
        json.loads(run("show", str(store), "--json")[1])["origins"][0]["opened"] == "pickle, --trust-sha256"
    )


@pytest.mark.parametrize("name", ["toy", "pipelines/toy.toml", "./cache/../pipelines/toy.toml"])
def test_a_recipe_of_pipelines_vouches_by_its_name_and_by_its_path(home: Path, name: str) -> None:
    assert run("features", name, "--device", "cpu")[0] == 0
    (store,) = home.glob("cache/toy/transfer/*.h5")
    opened = json.loads(run("show", str(store), "--json")[1])["origins"][0]["opened"]
    assert opened == "pickle, digest pinned in the recipe"


def test_a_pin_that_differs_is_refused_before_anything_is_computed(home: Path) -> None:
    torch.save({}, PICKLE)
    assert "the file was changed" in refused(run("features", "toy", "--device", "cpu", "--trust"))
    assert not list(home.glob("cache/toy/transl*/*.h5"))


def test_nobody_builds_on_a_trained_tagger_with_a_changed_bit(home: Path) -> None:
    path = PICKLE.with_suffix(".safetensors")
    path.write_bytes(dump_tagger(other_tagger("bio"), "here"))
    manifest = path.with_name("training.json")
    manifest.write_text(json.dumps({"files": {path.name: file_digest(path)}}))
    native = ("--set", "english={ checkpoint = 'toy/english/tagger.safetensors' }")
    assert run("features", "toy", "--device", "cpu", *native)[0] == 0
    options = ("--inputs", "words+transfer", "--seeds", "1", "--device", "cpu", "--json")
    folder = Path(json.loads(run("train", "toy", *options, *native)[1])[0]["folder"])
    (home / "text").write_text("emil singt\n")  # no store has it: the models are opened
    expected = tag(folder)
    assert expected[0] == 0
    data = bytearray(path.read_bytes())
    data[-4] ^= 1  # the last bit of a weight
    path.write_bytes(data)
    commands = ("features", "toy", "--device", "cpu"), ("check", "toy"), ("gc", "toy", "--others")
    for command in commands:
        assert f"{path}: sha256 is " in refused(run(*command, *native))
    assert f"{path}: sha256 is " in refused(tag(folder))
    data[-4] ^= 1
    path.write_bytes(data)
    assert tag(folder) == expected
