"""What a killed training leaves, and what takes its place: stopped at every step, taken up, refused."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from backattn.errors import BusyError, ModelError, RecipeError
from backattn.features.work_folder import (
    MANIFEST,
    WorkFolder,
    data_digest,
    read_manifest,
    refuse_strange_folder,
    request_of,
    told_if_damaged,
)
from backattn.fingerprint import file_digest

REQUEST = {"epochs": 2, "data": {"a": "0f"}}


def work_of(folder: Path, **changes: object) -> WorkFolder:
    return WorkFolder(folder=folder / "model", request={**REQUEST, **changes})


def train(work: WorkFolder, step: Callable[[str], None] = lambda name: None) -> bool:
    """As the trainings do it; gives whether anything was to do, and tells of each step."""
    with work.alone():
        if not work.needed():
            return False
        path = work.claim()
        step("claimed")
        (path / "epoch1").write_text("1")
        step("trained")
        result = work.fresh_result()
        (result / "weights").write_text("w")
        step("filled")
        work.publish(result, {work.name: work.request, "report": 5}, ("backattn",))
        step("published")
    return True


@pytest.mark.parametrize("last", ["claimed", "trained", "filled", "published"])
def test_a_training_that_is_stopped_anywhere_is_taken_up(tmp_path: Path, last: str) -> None:
    def stop(name: str) -> None:
        if name == last:
            raise KeyboardInterrupt

    work = work_of(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(work, stop)
    assert work.path.exists()
    assert work.folder.exists() == (last == "published")
    with pytest.raises(RecipeError, match=r"model\.work: holds the unfinished training of another recipe or"):
        train(work_of(tmp_path, epochs=3))
    assert train(work) == (last != "published")
    assert not train(work)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.lock"]


def test_the_manifest_tells_what_it_was_made_from(tmp_path: Path) -> None:
    train(work_of(tmp_path))
    manifest = read_manifest(tmp_path / "model")
    assert request_of(tmp_path / "model") == manifest["request"] == REQUEST
    assert manifest["report"] == 5
    assert set(manifest["versions"]) == {"python", "backattn"}
    assert manifest["files"] == {"weights": file_digest(tmp_path / "model/weights")}
    assert request_of(tmp_path / "nothing") is None


def test_what_another_recipe_has_trained_is_not_replaced(tmp_path: Path) -> None:
    """A recipe that was copied names the first one's folder, until somebody thinks of it."""

    def trained(lang: str, epochs: int) -> bool:
        work = dataclasses.replace(work_of(tmp_path, epochs=epochs), lang=lang, replace=True)
        with work.alone():
            if not work.needed():
                return False
            work.claim()
            work.publish(work.fresh_result(), {"request": work.request}, ("backattn",))
        return True

    assert trained("es", 2)
    assert trained("es", 3)  # its own recipe, edited
    assert not trained("pt", 3)  # nothing to do
    with pytest.raises(
        RecipeError, match=r"model: was trained by recipe 'es', and is not replaced by that of pt"
    ):
        trained("pt", 4)
    assert not (tmp_path / "model.work").exists()
    (tmp_path / "model").rename(tmp_path / "moved")
    assert trained("pt", 4)


def test_a_finished_model_is_replaced_only_where_that_is_said(tmp_path: Path) -> None:
    """Hours of work, and the runs that have learnt from it."""
    train(work_of(tmp_path))
    made = (tmp_path / "model" / MANIFEST).read_bytes()
    other = work_of(tmp_path, epochs=3, data={"a": "f" * 64})
    with pytest.raises(
        RecipeError,
        match=r"model: was trained with other settings or data \(data\.a: '0f', now 'fff.* \.\.\. .*', "
        r"epochs: 2, now 3\), .* add --replace to train it anew, or name another folder",
    ):
        train(other)
    assert (tmp_path / "model" / MANIFEST).read_bytes() == made
    assert not other.path.exists()
    assert train(dataclasses.replace(other, replace=True))
    assert request_of(tmp_path / "model") == other.request
    (tmp_path / "model/weights").write_text("damaged")  # there is nothing to lose
    assert train(work_of(tmp_path))


def test_data_that_are_gone_have_not_changed(tmp_path: Path) -> None:
    """A model is carried to another machine without what it was trained on."""
    work = work_of(tmp_path, epochs=[1, {"rate": 2}])
    train(work)
    assert not train(work_of(tmp_path, epochs=[1, {"rate": 2}], data={"a": ""}))
    with pytest.raises(RecipeError, match=r"\(epochs\[1\]\.rate: 2, now 3\)"):
        train(work_of(tmp_path, epochs=[1, {"rate": 3}], data={"a": ""}))


def test_what_a_user_has_moved_away_stays(tmp_path: Path) -> None:
    """`.old` is the name that people take when they are told to move a folder."""
    (tmp_path / "model.old").mkdir()
    (tmp_path / "model.old/mine").write_text("precious")
    (tmp_path / "model.work.old").mkdir()
    assert train(work_of(tmp_path))
    assert train(dataclasses.replace(work_of(tmp_path, epochs=3), replace=True))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "model",
        "model.lock",
        "model.old",
        "model.work.old",
    ]
    assert (tmp_path / "model.old/mine").read_text() == "precious"


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("v")])
def test_a_damaged_result_is_made_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    train(work_of(tmp_path))
    damage(tmp_path / "model/weights")
    assert train(work_of(tmp_path))
    assert (tmp_path / "model/weights").read_text() == "w"
    assert not train(work_of(tmp_path))


def test_another_trainings_work_is_left_where_it_is(tmp_path: Path) -> None:
    """The finished one asks for nothing of it."""
    train(work_of(tmp_path))
    other = work_of(tmp_path, epochs=3)
    (other.claim() / "epoch1").write_text("precious")
    assert not train(work_of(tmp_path))
    assert (other.path / "epoch1").read_text() == "precious"


def test_two_at_a_time(tmp_path: Path) -> None:
    with work_of(tmp_path).alone(), pytest.raises(BusyError):
        train(work_of(tmp_path))


def test_a_claim_that_is_no_text_is_another_trainings(tmp_path: Path) -> None:
    work = work_of(tmp_path)
    work.claim()
    (work.path / "request.json").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="another recipe"):
        work.claim()


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000, "\ufeff{}"])
def test_a_damaged_manifest_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST).write_text(content, "utf-8")
    with pytest.raises(ModelError, match=r"training\.json: damaged .*; delete .* to train anew"):
        request_of(tmp_path)


@pytest.mark.parametrize("value", [{}, {"epochs": 3}, {"epochs": [[1]]}, {"epochs": [{"loss": "x"}]}])
def test_what_does_not_fit_is_damage(tmp_path: Path, value: object) -> None:
    path = tmp_path / "epochs.json"
    path.write_text(json.dumps(value))
    with pytest.raises(ModelError) as caught, told_if_damaged(path):
        [float(epoch["loss"]) for epoch in json.loads(path.read_text())["epochs"]]
    assert str(caught.value).startswith(f"{path}: damaged (")
    assert str(caught.value).endswith(f"; delete {tmp_path} to train anew")
    assert "\n" not in str(caught.value)


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(RecipeError, match=r"is no model, and is not replaced; .* another folder in a\.key"):
        refuse_strange_folder(tmp_path, MANIFEST, "is no model", "a.key")
    (tmp_path / MANIFEST).touch()
    refuse_strange_folder(tmp_path, MANIFEST, "is no model", "a.key")
    refuse_strange_folder(tmp_path / "nothing", MANIFEST, "is no model", "a.key")


def test_a_missing_data_file_has_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKATTN_DATA", str(tmp_path))
    assert data_digest("text") == ""
    (tmp_path / "text").write_text("x")
    assert data_digest("text") == file_digest(tmp_path / "text")
