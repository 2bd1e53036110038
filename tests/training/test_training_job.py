"""What a killed training leaves, and what takes its place: stopped at every step, taken up, refused."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backattn.common.digests import canonical_json, file_digest
from backattn.common.errors import BusyError, ModelError, RecipeError
from backattn.models.training_manifest import MANIFEST, damage_as_model_error, read_manifest
from backattn.training.training_job import (
    TrainingJob,
    data_digest,
    real_folder,
    refuse_strange_folder,
    request_of,
)

REQUEST = {"epochs": 2, "data": {"a": "0f"}}


def work_of(folder: Path, **changes: object) -> TrainingJob:
    return TrainingJob(
        folder=folder / "model", request={**REQUEST, **changes}, packages=("backattn", "not-installed")
    )


def train(work: TrainingJob, step: Callable[[str], None] = lambda name: None) -> bool:
    """As the trainings do it; gives whether anything was to do, and tells of each step."""

    def epochs(data: str, path: Path) -> str:
        step("claimed")
        (path / "epoch1").write_text("1")
        step("trained")
        return "w"

    def write(data: str, trained: str, result: Path) -> dict[str, int]:
        (result / "weights").write_text(trained)
        step("filled")
        return {"report": 5}

    class Observed(TrainingJob):
        def publish(self, *arguments: Any, **options: Any) -> None:
            super().publish(*arguments, **options)
            step("published")

    observed = Observed(**{item.name: getattr(work, item.name) for item in dataclasses.fields(work)})
    return observed.run(prepare=lambda: "data", train=epochs, write=write)


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
        return train(dataclasses.replace(work_of(tmp_path, epochs=epochs), lang=lang, replace=True))

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


def test_what_no_training_has_left_in_a_folder_stays(tmp_path: Path) -> None:
    train(work_of(tmp_path))
    note = tmp_path / "model" / "my notes"
    note.mkdir()
    again = dataclasses.replace(work_of(tmp_path, epochs=3), replace=True)
    with pytest.raises(RecipeError, match=r"model: holds my notes, which no training has left, and is not"):
        train(again)
    assert note.is_dir()
    assert not train(work_of(tmp_path))  # nothing to do
    note.rename(tmp_path / "notes")
    assert train(again)


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
    with work_of(tmp_path).locked(), pytest.raises(BusyError):
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
    with pytest.raises(ModelError) as caught, damage_as_model_error(path):
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


class TestUsersOwn:
    """What carries no claim and no manifest of ours is not ours."""

    @pytest.mark.parametrize("name", ["notes.txt", "epoch1", "request.json.partial", ".hidden"])
    def test_a_folder_at_the_name_of_the_work_folder(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "model.work").mkdir()
        (tmp_path / "model.work" / name).write_text("precious")
        with pytest.raises(
            RecipeError, match=r"model\.work: is no work folder of a training, .* move it away"
        ):
            train(work_of(tmp_path))
        assert [path.read_text() for path in (tmp_path / "model.work").iterdir()] == ["precious"]
        assert not (tmp_path / "model").exists()

    def test_also_when_nothing_is_to_do(self, tmp_path: Path) -> None:
        train(work_of(tmp_path))
        (tmp_path / "model.work").mkdir()
        (tmp_path / "model.work/notes.txt").write_text("precious")
        assert not train(work_of(tmp_path))
        assert (tmp_path / "model.work/notes.txt").read_text() == "precious"

    def test_a_file_at_its_name(self, tmp_path: Path) -> None:
        (tmp_path / "model.work").write_text("precious")
        with pytest.raises(RecipeError, match="is no work folder"):
            train(work_of(tmp_path))

    @pytest.mark.parametrize("name", [None, "request.json.01234567.partial"])
    def test_what_a_kill_has_left_before_the_claim_is_no_obstacle(
        self, tmp_path: Path, name: str | None
    ) -> None:
        (tmp_path / "model.work").mkdir()
        if name:
            (tmp_path / "model.work" / name).write_text("{")
        assert train(work_of(tmp_path))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.lock"]

    def test_a_link_at_its_name(self, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/request.json").write_text("precious")
        (tmp_path / "model.work").symlink_to(tmp_path / "mine")
        with pytest.raises(RecipeError, match="is no work folder"):
            train(work_of(tmp_path))
        (tmp_path / "mine/request.json").write_text(canonical_json(REQUEST))  # as if it were ours
        with pytest.raises(RecipeError, match="is no work folder"):
            train(work_of(tmp_path))
        assert (tmp_path / "mine/request.json").exists()

    @pytest.mark.parametrize("name", ["epoch1", "flair.log", "result", "back-translation/x", "state.pt.tmp"])
    def test_links_in_a_work_folder_that_was_received(self, tmp_path: Path, name: str) -> None:
        """It has our claim, which anybody can write."""
        work = work_of(tmp_path)
        link = work.claim() / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(tmp_path / "victim")
        (tmp_path / "victim").write_text("precious")
        with pytest.raises(
            RecipeError, match=rf"{name}: is a link, a pipe or a device, .* delete .*model\.work"
        ):
            train(work)
        assert (tmp_path / "victim").read_text() == "precious"

    @pytest.mark.parametrize("content", [{}, {"epochs": 3, "loss": [1]}, {"files": {}}])
    def test_a_manifest_of_another_program(self, tmp_path: Path, content: object) -> None:
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / MANIFEST).write_text(json.dumps(content))
        (tmp_path / "model/precious").touch()
        for replace in (False, True):
            with pytest.raises(RecipeError, match=r"model: its training\.json was not written by backattn"):
                train(dataclasses.replace(work_of(tmp_path), replace=replace))
        assert (tmp_path / "model/precious").exists()

    def test_a_folder_at_the_name_under_which_an_older_result_waits(self, tmp_path: Path) -> None:
        """It was one name; a link there stopped every later ``--replace``."""
        train(work_of(tmp_path))
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/photo").touch()
        (tmp_path / ".model.replaced.partial").symlink_to(tmp_path / "mine")
        (tmp_path / ".model.01234567.replaced.partial").symlink_to(tmp_path / "mine")
        (tmp_path / ".model.89abcdef.replaced.partial").mkdir()  # left by a kill
        for epochs in (3, 4):
            assert train(dataclasses.replace(work_of(tmp_path, epochs=epochs), replace=True))
        assert (tmp_path / "mine/photo").exists()
        assert not (tmp_path / ".model.89abcdef.replaced.partial").exists()


class TestLinkToAnotherDisk:
    """``cache/m/model -> /disk/model``: followed once, and kept."""

    @pytest.fixture
    def disk(self, tmp_path: Path) -> Path:
        (tmp_path / "cache").mkdir()
        (tmp_path / "disk").mkdir()
        (tmp_path / "cache/model").symlink_to(tmp_path / "disk/model")
        return tmp_path / "disk"

    def train(self, folder: Path, **changes: object) -> bool:
        work = TrainingJob(folder=real_folder(folder), request={**REQUEST, **changes}, replace=True)
        return train(work)

    def test_everything_lies_beside_what_it_leads_to(self, disk: Path, tmp_path: Path) -> None:
        link = tmp_path / "cache/model"
        assert self.train(link)
        assert not self.train(link)
        for epochs in (3, 4):
            assert self.train(link, epochs=epochs)
            assert request_of(link) == {**REQUEST, "epochs": epochs}
            assert link.is_symlink()
        assert [path.name for path in link.parent.iterdir()] == ["model"]
        assert sorted(path.name for path in disk.iterdir()) == ["model", "model.lock"]

    def test_a_killed_training_goes_on_there(self, disk: Path, tmp_path: Path) -> None:
        work = TrainingJob(folder=real_folder(tmp_path / "cache/model"), request=REQUEST)
        assert work.claim() == disk / "model.work"
        assert self.train(tmp_path / "cache/model")
        assert not (disk / "model.work").exists()

    def test_a_link_to_a_link_and_a_linked_folder_above(self, disk: Path, tmp_path: Path) -> None:
        (tmp_path / "second").symlink_to(tmp_path / "cache/model")
        (tmp_path / "above").symlink_to(tmp_path / "cache")
        assert real_folder(tmp_path / "second") == disk / "model"
        assert real_folder(tmp_path / "above/model") == disk / "model"
        assert real_folder(tmp_path / "above/other") == tmp_path / "above/other"

    def test_a_users_folder_behind_it_is_not_replaced(self, disk: Path, tmp_path: Path) -> None:
        (disk / "model").mkdir()
        (disk / "model/photo").touch()
        with pytest.raises(RecipeError, match="is no model, and is not replaced"):
            refuse_strange_folder(real_folder(tmp_path / "cache/model"), MANIFEST, "is no model", "a.key")

    def test_links_that_lead_nowhere(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to(tmp_path / "unmounted/disk/model")
        (tmp_path / "b").symlink_to(tmp_path / "b")
        for name in "ab":
            with pytest.raises(
                RecipeError, match=rf"{name}: is a link that leads nowhere; make what it leads to"
            ):
                real_folder(tmp_path / name)
        assert not (tmp_path / "unmounted").exists()

    def test_the_root_of_a_disk(self, tmp_path: Path) -> None:
        (tmp_path / "model").symlink_to("/proc")
        for folder in (Path("/proc"), tmp_path / "model"):
            with pytest.raises(RecipeError, match="/proc: is the root of a disk"):
                real_folder(folder)


def test_a_missing_data_file_has_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKATTN_DATA", str(tmp_path))
    assert data_digest("text") == ""
    (tmp_path / "text").write_text("x")
    assert data_digest("text") == file_digest(tmp_path / "text")
