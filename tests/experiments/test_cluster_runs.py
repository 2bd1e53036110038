"""The runs of a grid on a Ray cluster: the same as here, whoever dies; and what is refused."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from ray_cluster import Cluster, time_limit  # before ray: it sets the token

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = pytest.mark.slow

from backattn.cluster import Answer, open_cluster  # noqa: E402
from backattn.common.errors import BackattnError, BusyError, ModelError  # noqa: E402
from backattn.common.file_lock import writer_lock  # noqa: E402
from backattn.experiments.cluster_runs import RunTask, _pack, _receive, _unpack  # noqa: E402
from backattn.experiments.grid import Cell, RunGrid  # noqa: E402
from backattn.experiments.runs import fresh_stores, train_grid  # noqa: E402
from backattn.experiments.trainer import Trainer  # noqa: E402
from backattn.recipe import Recipe  # noqa: E402
from backattn.tagger.run import RunFolder  # noqa: E402
from engine_models import DyingTraining, Elsewhere, Junk, loads  # noqa: E402
from fakes import FakeEnglishTagger  # noqa: E402
from tiny_grid import CORPUS, GRID, left_behind, put_recipe  # noqa: E402
from users_folder import fill  # noqa: E402

CELL = Cell("all", 1, "words+transfer")
EPOCHS = 3


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    (tmp_path / "traces").mkdir()
    return put_recipe(tmp_path, monkeypatch)


@pytest.fixture
def trainer(recipe: Recipe) -> Trainer:
    return Trainer(recipe, CORPUS, CORPUS.digest, fresh_stores(recipe, CORPUS, GRID.inputs), threads=1)


class TestOfTheDriver:
    """Without a cluster: what is sent, and what is taken."""

    def test_a_training_in_pieces_is_the_training(self, trainer: Trainer, tmp_path: Path) -> None:
        folder = trainer.folder(CELL)
        for number in range(EPOCHS):
            assert not RunFolder(folder).manifest.exists()
            assert RunFolder(folder).count_epochs() == number
            trainer.train_for(0.0, CELL, folder, "cpu")
        in_pieces = left_behind(tmp_path)
        shutil.rmtree(tmp_path / "toy/runs")
        train_grid(trainer.recipe, CORPUS, RunGrid((CELL.inputs,), ("all",), (1,)), device="cpu").whole()
        whole = left_behind(tmp_path)
        del whole[f"toy/runs/{folder.name}/recipe.json"]
        assert in_pieces == whole

    def test_files_travel_as_they_are(self, trainer: Trainer, tmp_path: Path) -> None:
        assert _unpack(_pack(tmp_path / "none")) == {}
        folder = tmp_path / "run"
        trainer.train_for(0.0, CELL, folder, "cpu")
        (folder / "epochs.jsonl").write_bytes(b"")
        (folder / "other").touch()
        sent = _unpack(_pack(folder))
        assert sent == {name: (folder / name).read_bytes() for name in sent}
        assert {path.name for path in folder.iterdir()} - sent.keys() == {"lock", "other"}

    @pytest.mark.parametrize(
        "make",
        [
            lambda files: b"",
            lambda files: b"\x80\x04]\x94.",
            lambda files: save(files)[:-1],
            lambda files: save({}),
            lambda files: save({**files, "../x": b"x"}),
            lambda files: save({**files, "lock": b"x"}),
            lambda files: save({**files, "weights.safetensors": b"no weights"}),
            lambda files: save({**files, "checkpoint.safetensors": files["weights.safetensors"]}),
            lambda files: save({**files, "run.json": b"{}"}),
            lambda files: save({"run.json": b"{}"}),
        ],
        ids=["nothing", "pickle", "cut", "empty", "outside", "lock", "weights", "checkpoint", "run", "alone"],
    )  # fmt: skip
    def test_what_is_not_the_run_is_refused(
        self, make: Callable[[dict[str, bytes]], bytes], trainer: Trainer, tmp_path: Path
    ) -> None:
        trainer.train_for(0.0, CELL, tmp_path / "sent", "cpu")
        data = make(_unpack(_pack(tmp_path / "sent")))
        folder = trainer.folder(CELL)
        folder.mkdir(parents=True)
        with pytest.raises(
            ModelError, match=r"^the node x sent something else than the run that was asked for \("
        ):
            _receive(Answer(RunTask(CELL, folder), "x", data), trainer)
        assert [path.name for path in folder.parent.iterdir()] == [folder.name]
        assert not list(folder.iterdir())

    def test_another_run_is_refused(self, trainer: Trainer, tmp_path: Path) -> None:
        other = Cell("all", 2, CELL.inputs)
        folder = trainer.folder(CELL)
        folder.mkdir(parents=True)
        for seconds in (0.0, 1e6):  # unfinished, finished
            trainer.train_for(seconds, other, tmp_path / "sent", "cpu")
            with pytest.raises(ModelError, match="holds a run with another seed"):
                _receive(Answer(RunTask(CELL, folder), "x", _pack(tmp_path / "sent")), trainer)
        assert not list(folder.iterdir())


def save(files: dict[str, bytes]) -> bytes:
    return safetensors.numpy.save({name: np.frombuffer(data, np.uint8) for name, data in files.items()})


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node of two CPUs."""
    cluster = Cluster(tmp_path_factory.mktemp("ray"), cpus=2)
    try:
        yield cluster
    finally:
        cluster.stop()


class TestOnANode:
    @pytest.fixture(autouse=True)
    def limited(self) -> Iterator[None]:
        with time_limit():
            yield

    @pytest.fixture
    def alone(self, recipe: Recipe, tmp_path: Path) -> dict[str, bytes]:
        """What this process trains alone; the runs are then removed."""
        train_grid(recipe, CORPUS, GRID, device="cpu").whole()
        found = left_behind(tmp_path)
        shutil.rmtree(tmp_path / "toy/runs")
        return found

    def test_killed_workers_cost_the_epochs_in_hand(
        self, node: Cluster, recipe: Recipe, alone: dict[str, bytes], tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        loads(monkeypatch, DyingTraining, tmp_path / "traces", 2)
        opened = partial(open_cluster, node.address, "cpu", 2, 1)
        trained = train_grid(recipe, CORPUS, GRID, device="cpu", cluster=opened)
        assert [(run.inputs, run.seed) for run in trained.whole()] == [
            ("words", 1), ("words+transfer", 1), ("words", 2), ("words+transfer", 2),
        ]  # fmt: skip
        assert left_behind(tmp_path) == alone
        assert len(list((tmp_path / "traces").glob("death-*"))) == 2
        assert len(list((tmp_path / "traces").glob("epoch-*"))) == 4 * EPOCHS  # no other one was lost
        # What is finished is only read: no cluster is opened for it.
        again = train_grid(recipe, CORPUS, GRID, device="cpu", cluster=refuse_to_open)
        assert again.whole() == trained.whole()

    @pytest.mark.cluster
    def test_a_stopped_command_goes_on_there_or_here(
        self, node: Cluster, recipe: Recipe, alone: dict[str, bytes], tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        loads(monkeypatch, DyingTraining, tmp_path / "traces")
        answers = iter([None, None, None, KeyboardInterrupt])
        monkeypatch.setattr("backattn.experiments.cluster_runs._receive", partial(stop_at, answers, _receive))
        with pytest.raises(KeyboardInterrupt):
            train_grid(
                recipe, CORPUS, GRID, device="cpu", cluster=partial(open_cluster, node.address, "cpu", 1, 1)
            )
        assert list((tmp_path / "toy/runs").glob("*/checkpoint.safetensors"))
        train_grid(recipe, CORPUS, GRID, device="cpu").whole()
        assert left_behind(tmp_path) == alone

    @pytest.mark.cluster
    def test_a_run_that_fails_or_is_held_does_not_stop_the_others(
        self, node: Cluster, recipe: Recipe, tmp_path: Path
    ) -> None:
        trainer = Trainer(recipe, CORPUS, CORPUS.digest, fresh_stores(recipe, CORPUS, GRID.inputs), 1)
        damaged, held = (trainer.folder(Cell("all", seed, "words")) for seed in (1, 2))
        damaged.mkdir(parents=True)
        (damaged / "checkpoint.safetensors").write_bytes(b"damaged")
        with writer_lock(RunFolder(held).lock):
            trained = train_grid(
                recipe, CORPUS, GRID, device="cpu", cluster=partial(open_cluster, node.address, "cpu", 2, 1)
            )
        assert [(run.inputs, run.seed) for run in trained.runs] == [
            ("words+transfer", 1), ("words+transfer", 2),
        ]  # fmt: skip
        first, second = trained.errors
        assert "checkpoint.safetensors: damaged (" in str(first)
        assert "(on the node " in str(first)
        assert isinstance(second, BusyError)

    @pytest.mark.cluster
    def test_a_node_with_other_stores_is_refused(
        self, node: Cluster, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        elsewhere = tmp_path / "elsewhere"
        loads(monkeypatch, Elsewhere, elsewhere)
        opened = partial(open_cluster, node.address, "cpu", 1, 1)
        with pytest.raises(
            BackattnError, match=r"\.h5: missing; copy the file of .* \(on the node \S+, proc"
        ):
            train_grid(recipe, CORPUS, GRID, device="cpu", cluster=opened)
        for name in ("toy/translator/checkpoint.pt", "toy/english/tagger.pt"):
            (elsewhere / name).parent.mkdir(parents=True)
            (elsewhere / name).write_bytes(b"model")
        with monkeypatch.context() as there:
            there.setenv("BACKATTN_CACHE", str(elsewhere))
            fill(recipe, CORPUS, tagger=partial(FakeEnglishTagger, 2.0))
        with pytest.raises(BackattnError, match=r"\.h5: has other arrays than .* \(on the node \S+, process"):
            train_grid(recipe, CORPUS, GRID, device="cpu", cluster=opened)

    @pytest.mark.cluster
    def test_bytes_that_are_not_the_run_fail_it(
        self, node: Cluster, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loads(monkeypatch, Junk)
        trained = train_grid(
            recipe, CORPUS, GRID, device="cpu", cluster=partial(open_cluster, node.address, "cpu", 1, 1)
        )
        assert len(trained.errors) == 4
        assert "sent something else than the run that was asked for" in str(trained.errors[0])


def stop_at(errors: Iterator[Any], receive: Callable[..., bool], *arguments: Any) -> bool:
    """Receive an answer; then the error, if there is one for it."""
    finished, error = receive(*arguments), next(errors, None)
    if error is not None:
        raise error
    return finished


def refuse_to_open() -> Any:
    raise AssertionError("a cluster is opened")
