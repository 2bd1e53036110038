"""Train the runs of a grid on the nodes of a Ray cluster.

An actor gets the files of a run, resumes its training for some minutes, and returns the files. The driver
checks them, writes them into the folder of the run, and hands the run out again until it is finished. So a
run can be stopped and resumed anywhere, as on one machine, and the nodes need no common folder of runs. They
need the stores: at the same path below their own BACKATTN_CACHE, with the same arrays.
"""

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from backattn.cluster import Answer, Cluster, Compute
from backattn.common.atomic_files import is_file, new_partial_folder, write_whole
from backattn.common.errors import BackattnError, MissingError, ModelError, StaleError
from backattn.common.file_lock import writer_lock
from backattn.common.regular_files import read_regular
from backattn.experiments.grid import Cell
from backattn.experiments.trainer import Trainer, keep_recipe
from backattn.recipe import cache_root
from backattn.store.layout import ORIGIN
from backattn.store.reader import StoreReader
from backattn.tagger.checkpoint_io import read_tensors
from backattn.tagger.run import RunFolder, check_request, finished_run, read_run

# Seconds after which an actor ends the current epoch and returns the run: about what a node's death costs.
# Preparing the training anew each time takes a second or two.
_SECONDS = 120.0
# The files that a node sends back, in the order in which they are moved into the run's folder: ``run.json``
# comes last, because it marks a finished run.
_FILES = (
    "vocabulary.json", "weights.safetensors", "predictions.dev.tsv", "predictions.test.tsv",
    "checkpoint.safetensors", "epochs.jsonl", "run.json",
)  # fmt: skip


@dataclass(frozen=True)
class RunTask:
    """A run to resume.

    :param folder: the run's folder on the driver.
    :param files: the bytes of its files, as :func:`_pack` gives them.
    :param size: see :class:`backattn.cluster.Task`; all runs count as equal.
    """

    cell: Cell
    folder: Path
    files: bytes = b""
    size: int = 1

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return self.folder.name

    def packed(self) -> "RunTask":
        """Add the files that the run has now."""
        return replace(self, files=_pack(self.folder))


def train_on_cluster(
    cluster: Cluster, trainer: Trainer, cells: Sequence[Cell], tick: Callable[[], None]
) -> dict[Cell, Exception | None]:
    """Train runs that are not finished; returns the exception of each that fails, else None.

    :param tick: called after each answer of a node, to show the progress.
    :raises BackattnError: the nodes cannot train: they lack the stores, or die again and again.
    """
    outcomes: dict[Cell, Exception | None] = {}
    with ExitStack() as locks:
        tasks = deque[RunTask]()
        for cell in cells:
            task = RunTask(cell, trainer.folder(cell))
            try:
                keep_recipe(trainer.recipe, task.folder)
                locks.enter_context(writer_lock(RunFolder(task.folder).lock))
                if finished_run(task.folder, trainer.spec(cell).request):
                    outcomes[cell] = None
                else:
                    tasks.append(task)
            except BackattnError as error:
                outcomes[cell] = error
        load = _Load(
            trainer, {name: _arrays(store) for name, store in trainer.opened.items()}, cluster.device
        )
        with closing(cluster.run(load, tasks)) as answers:
            for answer in answers:
                try:
                    if _receive(answer, trainer):
                        outcomes[answer.task.cell] = None
                    else:
                        tasks.appendleft(answer.task)
                except (BackattnError, OSError) as error:
                    outcomes[answer.task.cell] = error
                tick()
    return outcomes


@dataclass(frozen=True)
class _Load:
    """Opens the stores in an actor.

    :param arrays: digests of the arrays of each of the driver's stores; the actor's must have the same.
    """

    trainer: Trainer
    arrays: Mapping[str, Mapping[str, str]]
    device: str

    def __getstate__(self) -> dict[str, object]:
        below = {name: path.relative_to(cache_root()) for name, path in self.trainer.stores.items()}
        return {**self.__dict__, "trainer": replace(self.trainer, stores=below)}

    def __call__(self) -> Compute:
        stores = {name: cache_root() / path for name, path in self.trainer.stores.items()}
        trainer = replace(self.trainer, stores=stores)
        for name, path in stores.items():
            copied = "copy the file of the machine that runs the command, or share BACKATTN_CACHE"
            if not is_file(path):
                raise MissingError(f"{path}: missing; {copied}")
            if _arrays(trainer.opened[name]) != self.arrays[name]:
                raise StaleError(f"{path}: has other arrays than where the command runs; {copied}")
        return _Train(trainer, self.device)


@dataclass(frozen=True)
class _Train:
    """Resumes a run in an actor; returns its files."""

    trainer: Trainer
    device: str

    def __call__(self, task: RunTask) -> bytes:
        with TemporaryDirectory(prefix="backattn-") as place:
            folder = Path(place) / task.name
            folder.mkdir()
            for name, data in _unpack(task.files).items():
                write_whole(folder / name, data)
            self.trainer.train_for(_SECONDS, task.cell, folder, self.device)
            return _pack(folder)


def _receive(answer: Answer[RunTask], trainer: Trainer) -> bool:
    """Check that the files which a node sent are of its run, then write them into the run's folder.

    :return: whether the run is finished.
    :raises BackattnError: they are of another run or damaged, or the training failed.
    """
    folder, data = answer.task.folder, answer.result()
    with new_partial_folder(folder) as partial:
        try:
            files = _unpack(data)
            for name, content in files.items():
                write_whole(partial / name, content)
            _require_sound(partial, trainer, answer.task.cell)
        except (BackattnError, ValueError, KeyError, SafetensorError) as error:
            reason = str(error).replace(str(partial), folder.name).partition(";")[0]
            raise ModelError(
                f"the node {answer.node} sent something else than the run that was asked for ({reason}); "
                "check which program and version run there"
            ) from None
        for name in files:
            os.replace(partial / name, folder / name)
        partial.rmdir()
    finished = "run.json" in files
    if finished:
        RunFolder(folder).checkpoint.unlink(missing_ok=True)
    return finished


def _require_sound(folder: Path, trainer: Trainer, cell: Cell) -> None:
    """Check the files of a run, finished or not, as they are checked where they are read."""
    files, request = RunFolder(folder), trainer.spec(cell).request
    read_tensors(files.weights)
    if is_file(files.manifest):
        check_request(folder, read_run(folder).request, request)
    else:
        check_request(folder, read_tensors(files.checkpoint)[1]["request"], request)


def _arrays(store: StoreReader) -> dict[str, str]:
    """Return the digests of a store's arrays, without the origins, which may differ between machines."""
    return {name: digest for name, digest in store.digests.items() if name != ORIGIN.name}


def _pack(folder: Path) -> bytes:
    """Join the files of a run as safetensors, because opening that executes and decompresses nothing."""
    present = [folder / name for name in _FILES if is_file(folder / name)]
    return safetensors.numpy.save(
        {path.name: np.frombuffer(read_regular(path), np.uint8) for path in present}
    )


def _unpack(data: bytes) -> dict[str, bytes]:
    """The inverse of :func:`_pack`, in the order of :data:`_FILES`.

    :raises SafetensorError, ValueError: the bytes are damaged, or hold a file that no run has.
    """
    files = safetensors.numpy.load(data)
    if not files.keys() <= set(_FILES) or any(file.dtype != np.uint8 for file in files.values()):
        raise ValueError("other files than those of a run")
    return {name: files[name].tobytes() for name in _FILES if name in files}
