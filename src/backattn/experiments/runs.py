"""Recipe + stores -> many runs, those of a grid. Where both wings meet.

torch is imported by the first run that must be trained: a grid that is finished is answered without it.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from msgspec import structs
from numpy.typing import NDArray
from tqdm import tqdm

from backattn.common.atomic_files import is_file, write_whole_text
from backattn.common.digests import digest
from backattn.common.errors import StaleError
from backattn.common.file_lock import writer_lock
from backattn.common.jobs import run_parallel, start_server
from backattn.common.progress import bar_disabled, log_line
from backattn.corpus import Corpus
from backattn.experiments.grid import Cell, RunGrid
from backattn.features.plan import make_plan
from backattn.recipe import EmbeddingName, Recipe, TaggerRecipe, as_json, cache_root
from backattn.store.layout import Entry
from backattn.store.reader import StoreReader
from backattn.tagger.frozen_features import Inputs
from backattn.tagger.run import Run, RunFolder, finished_run, read_run
from backattn.tagger.run_spec import effective_recipe, make_request

# The store of T among the stores of a recipe; the others have the names of the embeddings.
TRANSFER: Literal["transfer"] = "transfer"
_StoreName = EmbeddingName | Literal["transfer"]


@dataclass(frozen=True)
class Trained:
    """What became of a grid.

    :param runs: those that are finished, in the grid's order.
    :param errors: what the others raised.
    """

    runs: tuple[Run, ...]
    errors: tuple[Exception, ...]

    def whole(self) -> tuple[Run, ...]:
        """All runs of the grid.

        :raises Exception: what the first that failed raised.
        """
        if self.errors:
            raise self.errors[0]
        return self.runs


@dataclass(frozen=True)
class StoredVectors:
    """T or frozen features of each sentence, as stage two asks for them (its ``StoredFeatures``)."""

    entries: Mapping[bytes, Entry]
    width: int
    identity: str

    @classmethod
    def of(cls, store: StoreReader) -> "StoredVectors":
        """The vectors of an open store."""
        return cls(store, int(store.attributes["d"]), store.recipe_id)

    def vectors(self, key: bytes) -> NDArray[Any]:
        """Of the sentence of this key. *Shape:* (m, width)"""
        return self.entries[key]["vectors"]


def train_grid(
    recipe: Recipe, corpus: Corpus, grid: RunGrid, *, device: str, threads: int = 1, jobs: int | None = 1
) -> Trained:
    """Train what is not there yet. A run that fails does not keep the others from theirs.

    The numbers of a run depend on ``threads``, but not on ``jobs``.

    :param device: ``cpu``, ``cuda`` or ``auto``.
    :param threads: CPU threads of each run.
    :param jobs: runs side by side, each in a process of its own; None for :func:`fitting_jobs`, or one on
        a GPU. With a single one everything stays in this process.
    :raises StaleError: a store lacks sentences of this corpus.
    :raises RecipeError: the recipe does not fit the corpus or the inputs.
    """
    stores = fresh_stores(recipe, corpus, grid.inputs)
    trainer = _Trainer(recipe, corpus, corpus.digest, stores, device, threads)
    folders = {cell: trainer.folder(cell) for cell in grid.cells(len(corpus.train))}
    ahead = [cell for cell, folder in folders.items() if not RunFolder(folder).manifest.is_file()]
    if ahead:
        if len(ahead) > 1 and jobs != 1:
            # It imports torch beside us; on a GPU, where one run follows the other, for nothing.
            start_server(("backattn.experiments.runs", "backattn.tagger.training"))
        from backattn.common.device import pick_device, takes_bfloat16

        device = pick_device(device)
        takes_bfloat16(recipe.tagger.precision, device)  # said here, once for all processes
        trainer = dataclasses.replace(trainer, device=device)
    if jobs is None:
        jobs = 1 if device != "cpu" else fitting_jobs(len(ahead), _cores() // threads)
    outcomes: dict[Cell, Exception | None] = {}
    if min(jobs, len(ahead)) > 1:
        with _bar([folders[cell] for cell in ahead], recipe.tagger.epochs) as tick:
            outcomes.update(zip(ahead, run_parallel(trainer.train, ahead, jobs, tick), strict=True))
    # What is finished already is only read and compared.
    errors = {cell: outcomes[cell] if cell in outcomes else trainer.attempt(cell) for cell in folders}
    return Trained(
        runs=tuple(read_run(folder) for cell, folder in folders.items() if errors[cell] is None),
        errors=tuple(error for error in errors.values() if error is not None),
    )


def _cores() -> int:
    """Those that this process may use: a container or a batch system may lend a few of many."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def fitting_jobs(runs: int, cores: int) -> int:
    """One run a core, or a few more, so that the last ones leave no core idle.

    Five runs on two cores: two at a time take the time of three (2 + 2 + 1), three at a time that of 2.5.
    """
    cores = max(1, min(runs, cores))
    fitting = (jobs for jobs in range(cores, runs) if runs % jobs == 0 or runs % jobs >= cores)
    return next(fitting, runs)


@dataclass(frozen=True)
class _Trainer:
    """What all runs of a grid share. It is pickled to go to other processes; each opens the store itself.

    :param stores: paths of the stores that a run of the grid needs, by name.
    """

    recipe: Recipe
    corpus: Corpus
    corpus_digest: str
    stores: Mapping[str, Path]
    device: str
    threads: int

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @cached_property
    def opened(self) -> dict[str, StoreReader]:
        """The stores, opened once in each process."""
        return {name: StoreReader(path) for name, path in self.stores.items()}

    @cached_property
    def verified(self) -> dict[str, StoreReader]:
        """The same, read to their last byte; once in each process that trains."""
        for store in self.opened.values():
            store.verify()
        return self.opened

    def folder(self, cell: Cell) -> Path:
        """Where a run lies: its name tells what decides its numbers."""
        name = digest(self.request(cell))[:8]
        folder = cache_root() / self.recipe.name / "runs"
        return folder / f"{cell.inputs}-{cell.sentences}-seed{cell.seed}-{name}"

    def request(self, cell: Cell) -> dict[str, Any]:
        """Everything that decides the numbers of a run."""
        return make_request(
            self.corpus,
            *self._features(cell, self.opened),
            self._recipe(cell),
            inputs=cell.inputs,
            seed=cell.seed,
            identity=self._facts,
        )

    def train(self, cell: Cell, progress: bool = False) -> Run:
        """Train one run, or give the one that is there."""
        folder = self.folder(cell)
        _keep_recipe(self.recipe, folder)
        run = finished_run(folder, self.request(cell))
        if run is not None:
            return run
        from backattn.tagger.training import train_run

        transfer, embeddings = self._features(cell, self.verified)
        return train_run(
            self.corpus,
            transfer,
            self._recipe(cell),
            inputs=cell.inputs,
            seed=cell.seed,
            folder=folder,
            identity=self._facts,
            embeddings=embeddings,
            groups=self.recipe.corpus.groups,
            progress=progress,
            device=self.device,
            threads=self.threads,
        )

    def attempt(self, cell: Cell) -> Exception | None:
        """Train one run; gives what it raised."""
        try:
            self.train(cell, progress=True)
        except Exception as error:
            return error
        return None

    @property
    def _facts(self) -> dict[str, Any]:
        groups = as_json(self.recipe.corpus.groups)
        return {"lang": self.recipe.name, "corpus": self.corpus_digest, "groups": groups}

    def _features(
        self, cell: Cell, stores: Mapping[str, StoreReader]
    ) -> tuple[StoredVectors | None, dict[str, StoredVectors]]:
        """T and the frozen features that a run reads."""
        names = _read(self.recipe, cell.inputs)
        vectors: dict[str, StoredVectors] = {name: StoredVectors.of(stores[name]) for name in names}
        return vectors.pop(TRANSFER, None), vectors

    def _recipe(self, cell: Cell) -> TaggerRecipe:
        return structs.replace(self.recipe.tagger, sentences=cell.sentences)


@contextmanager
def _bar(folders: Sequence[Path], epochs: int) -> Iterator[Callable[[], None]]:
    """One progress bar for runs in several processes, read from what they leave on the disk."""
    files = [RunFolder(folder) for folder in folders]
    told = set[Path]()
    with tqdm(total=epochs * len(files), unit="epoch", disable=bar_disabled(True)) as bar:

        def tick() -> None:
            bar.n = sum(run.count_epochs() for run in files)
            finished = [run.path for run in files if run.manifest.is_file()]
            bar.set_postfix(finished=f"{len(finished)} of {len(files)} runs")
            for path in finished:
                if path not in told:
                    told.add(path)
                    log_line(f"{path.name}: finished, {len(told)} of {len(files)} runs", progress=True)

        yield tick


def fresh_stores(recipe: Recipe, corpus: Corpus, inputs: Sequence[Inputs]) -> dict[str, Path]:
    """The stores that runs on these inputs need, by name (:data:`TRANSFER`, or that of an embedding).

    :raises StaleError: one is missing, or lacks sentences of the corpus.
    :raises StoreError: one is corrupt.
    """
    names = list(dict.fromkeys(name for kind in inputs for name in _read(recipe, kind)))
    if not names:
        return {}  # nor need there be any model
    plan = make_plan(recipe, corpus)
    paths: dict[str, Path] = {}
    for name in names:
        stage = plan.transfer if name == TRANSFER else plan.embeddings[name]
        store = stage.open()
        missing = stage.missing(store)
        if store is None or missing:
            alone = "" if TRANSFER in names else " --only embeddings"  # which needs no translator
            raise StaleError(
                f"{stage.path}: {len(missing)} of {len(stage.sentences)} sentences have no {name} vectors; "
                f"run `backattn features {recipe.name}{alone}` (with the same --set), then train"
            )
        paths[name] = stage.path
    return paths


def _read(recipe: Recipe, inputs: Inputs) -> tuple[_StoreName, ...]:
    """Names of the stores that runs on these inputs read (``random`` takes its width from that of T)."""
    embeddings = effective_recipe(inputs, recipe.tagger).embeddings
    return embeddings if inputs == "words" else (TRANSFER, *embeddings)


def _keep_recipe(recipe: Recipe, folder: Path) -> None:
    """Leave the whole recipe beside a run, for ``backattn tag``: it also says where the models lie now.

    It is not part of the run's identity, which holds only what decides the numbers.
    """
    files = RunFolder(folder)
    files.refuse_link()
    text = json.dumps(as_json(recipe), ensure_ascii=False, indent=1) + "\n"
    if is_file(files.recipe) and files.recipe.read_bytes() == text.encode("utf-8"):
        return
    with writer_lock(files.lock):  # two that begin the same run at once
        write_whole_text(files.recipe, text)
