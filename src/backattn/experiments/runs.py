"""Train the runs of a grid from a recipe and its stores.

torch is imported by the first run that must be trained: a finished grid is returned without it.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from msgspec import structs
from numpy.typing import NDArray
from tqdm import tqdm

from backattn.common.atomic_files import is_file, write_whole_text
from backattn.common.cores import usable_cores
from backattn.common.digests import digest
from backattn.common.errors import NotFetchedError, StaleError
from backattn.common.file_lock import writer_lock
from backattn.common.jobs import run_parallel, start_server
from backattn.common.progress import bar_disabled, log_line, time_left
from backattn.corpus import Corpus
from backattn.corpus.statistics_warnings import corpus_warnings, sample_warnings
from backattn.experiments.grid import Cell, RunGrid, sample_sizes
from backattn.features.plan import make_plan
from backattn.models.model_digests import missing_models
from backattn.recipe import EmbeddingName, Recipe, as_json, cache_root
from backattn.store.layout import Entry
from backattn.store.reader import StoreReader
from backattn.tagger.frozen_features import Inputs
from backattn.tagger.run import Run, RunFolder, finished_run, read_run
from backattn.tagger.run_spec import RunSpec, effective_recipe

# Name of the store of T among the stores of a recipe; the others are named after the embeddings.
TRANSFER: Literal["transfer"] = "transfer"
_StoreName = EmbeddingName | Literal["transfer"]


@dataclass(frozen=True)
class Trained:
    """Result of training a grid.

    :param runs: the finished runs, in the grid's order.
    :param errors: exceptions of the other runs.
    """

    runs: tuple[Run, ...]
    errors: tuple[Exception, ...]

    def whole(self) -> tuple[Run, ...]:
        """All runs of the grid.

        :raises Exception: that of the first failed run.
        """
        if self.errors:
            raise self.errors[0]
        return self.runs


@dataclass(frozen=True)
class StoredVectors:
    """T or frozen features of each sentence (a ``StoredFeatures`` of stage two)."""

    entries: Mapping[bytes, Entry]
    width: int
    identity: str

    @classmethod
    def of(cls, store: StoreReader) -> "StoredVectors":
        """The vectors of an open store."""
        return cls(store, int(store.attributes["d"]), store.recipe_id)

    def vectors(self, key: bytes) -> NDArray[Any]:
        """The vectors of a sentence by its key. *Shape:* (m, width)"""
        return self.entries[key]["vectors"]


def train_grid(
    recipe: Recipe, corpus: Corpus, grid: RunGrid, *, device: str, threads: int = 1, jobs: int | None = 1
) -> Trained:
    """Train the runs of a grid that are not finished. A failing run does not stop the others.

    The numbers of a run depend on ``threads``, but not on ``jobs``.

    :param device: ``cpu``, ``cuda`` or ``auto``.
    :param threads: CPU threads of each run.
    :param jobs: number of runs in parallel, each in its own process; None for :func:`fitting_jobs`, or one on
        a GPU. A single job runs in this process.
    :raises StaleError: a store lacks sentences of this corpus.
    :raises RecipeError: the recipe does not fit the corpus or the inputs.
    """
    stores = fresh_stores(recipe, corpus, grid.inputs)
    trainer = _Trainer(recipe, corpus, corpus.digest, stores, threads)
    folders = {cell: trainer.folder(cell) for cell in grid.cells(len(corpus.train))}
    pending = [cell for cell, folder in folders.items() if not RunFolder(folder).manifest.is_file()]
    if pending:
        if len(pending) > 1 and jobs != 1:
            # The server imports torch in parallel; not needed on a GPU, where the runs follow each other.
            start_server(("backattn.experiments.runs", "backattn.tagger.training"))
        from backattn.common.device import pick_device, takes_bfloat16

        device = pick_device(device)
        takes_bfloat16(recipe.tagger.precision, device)  # warns here, once for all processes
    if jobs is None:
        jobs = 1 if device != "cpu" else fitting_jobs(len(pending), usable_cores() // threads)
    outcomes: dict[Cell, Exception | None] = {}
    if min(jobs, len(pending)) > 1:
        train = partial(trainer.train, device=device)
        with _bar([folders[cell] for cell in pending], recipe.tagger.epochs) as tick:
            outcomes.update(zip(pending, run_parallel(train, pending, jobs, tick), strict=True))
    # Finished runs are only read and compared.
    errors = {cell: outcomes[cell] if cell in outcomes else trainer.attempt(cell, device) for cell in folders}
    return Trained(
        runs=tuple(read_run(folder) for cell, folder in folders.items() if errors[cell] is None),
        errors=tuple(error for error in errors.values() if error is not None),
    )


def training_warnings(corpus: Corpus, grid: RunGrid) -> tuple[str, ...]:
    """Say what makes the runs of a grid, or their scores, worth little: the corpus, and its samples.

    :raises RecipeError: a share of the grid is less than one sentence.
    """
    sizes = [size for size in sample_sizes(grid.sentences, len(corpus.train)) if size != "all"]
    return corpus_warnings(corpus) + sample_warnings(corpus, sizes)


def unmade_transfer(recipe: Recipe) -> str:
    """Say what T of a recipe lacks where it was never made and ``backattn features`` cannot make it; else
    empty.

    Where a store is there, it is for :func:`train_grid` to say what is wrong with it.
    """
    if any(
        path for name in ("translation", TRANSFER) for path in (cache_root() / recipe.name / name).glob("*")
    ):
        return ""
    missing = missing_models(recipe, "transfer").values()
    # The rest of each message says how to get the model.
    lacking = [str(error).partition(";")[0] for error in missing if not isinstance(error, NotFetchedError)]
    return " and ".join(lacking)


def fitting_jobs(runs: int, cores: int) -> int:
    """Number of parallel runs: one per core, or a few more, so that the last runs leave no core idle.

    Five runs on two cores: two at a time take the time of three (2 + 2 + 1), three at a time that of 2.5.
    """
    cores = max(1, min(runs, cores))
    fitting = (jobs for jobs in range(cores, runs) if runs % jobs == 0 or runs % jobs >= cores)
    return next(fitting, runs)


@dataclass(frozen=True)
class _Trainer:
    """Settings that all runs of a grid share. Pickled for other processes; each opens the stores itself.

    :param stores: paths of the stores that a run of the grid needs, by name.
    """

    recipe: Recipe
    corpus: Corpus
    corpus_digest: str
    stores: Mapping[str, Path]
    threads: int

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @cached_property
    def opened(self) -> dict[str, StoreReader]:
        """The stores, opened once in each process."""
        return {name: StoreReader(path) for name, path in self.stores.items()}

    @cached_property
    def _unverified(self) -> list[StoreReader]:
        return list(self.opened.values())

    @cached_property
    def specs(self) -> dict[Cell, RunSpec]:
        """Specifications that were made in this process."""
        return {}

    def folder(self, cell: Cell) -> Path:
        """Folder of a run: its name ends in a digest of the run's request."""
        name = digest(self.spec(cell).request)[:8]
        folder = cache_root() / self.recipe.name / "runs"
        return folder / f"{cell.inputs}-{cell.sentences}-seed{cell.seed}-{name}"

    def spec(self, cell: Cell) -> RunSpec:
        """Specification of a run, made once in each process."""
        if cell not in self.specs:
            names = _stores_of(self.recipe, cell.inputs)
            vectors: dict[str, StoredVectors] = {name: StoredVectors.of(self.opened[name]) for name in names}
            groups = self.recipe.corpus.groups
            self.specs[cell] = RunSpec(
                corpus=self.corpus,
                recipe=structs.replace(self.recipe.tagger, sentences=cell.sentences),
                inputs=cell.inputs,
                seed=cell.seed,
                identity={"lang": self.recipe.name, "corpus": self.corpus_digest, "groups": as_json(groups)},
                transfer=vectors.pop(TRANSFER, None),
                embeddings=vectors,
                groups=groups,
            )
        return self.specs[cell]

    def train(self, cell: Cell, device: str, progress: bool = False) -> Run:
        """Train one run, or read it if it is finished."""
        spec, folder = self.spec(cell), self.folder(cell)
        _keep_recipe(self.recipe, folder)
        run = finished_run(folder, spec.request)
        if run is not None:
            return run
        from backattn.tagger.training import train_run

        # Read all bytes of the stores, once in each process that trains.
        while self._unverified:
            self._unverified[-1].verify()
            self._unverified.pop()
        return train_run(spec, folder, device=device, threads=self.threads, progress=progress)

    def attempt(self, cell: Cell, device: str) -> Exception | None:
        """Train one run; returns the exception if it fails."""
        try:
            self.train(cell, device, progress=True)
        except Exception as error:
            return error
        return None


@contextmanager
def _bar(folders: Sequence[Path], epochs: int) -> Iterator[Callable[[], None]]:
    """One progress bar for runs in several processes, read from their files."""
    files = [RunFolder(folder) for folder in folders]
    logged = set[Path]()
    total, begin = epochs * len(files), time.monotonic()
    before = sum(run.count_epochs() for run in files)
    with tqdm(total=total, unit="epoch", disable=bar_disabled(True)) as bar:

        def tick() -> None:
            bar.n = sum(run.count_epochs() for run in files)
            finished = [run.path for run in files if run.manifest.is_file()]
            bar.set_postfix(finished=f"{len(finished)} of {len(files)} runs")
            for path in finished:
                if path not in logged:
                    logged.add(path)
                    done = max(bar.n - before, 1)
                    log_line(
                        f"{path.name}: finished, {len(logged)} of {len(files)} runs, "
                        f"{time_left(begin, done, max(total - before, done))}",
                        progress=True,
                    )

        yield tick


def fresh_stores(recipe: Recipe, corpus: Corpus, inputs: Sequence[Inputs]) -> dict[str, Path]:
    """Check the stores that runs on these inputs read; returns their paths by name.

    :raises StaleError: one is missing, or lacks sentences of the corpus.
    :raises StoreError: one is corrupt.
    """
    names = list(dict.fromkeys(name for kind in inputs for name in _stores_of(recipe, kind)))
    if not names:
        return {}  # no model is needed either
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
                f"run `backattn features {recipe.name}{alone}` (with the same --preset and --set), then train"
            )
        paths[name] = stage.path
    return paths


def _stores_of(recipe: Recipe, inputs: Inputs) -> tuple[_StoreName, ...]:
    """Names of the stores that runs on these inputs read (``random`` reads only the width of T)."""
    embeddings = effective_recipe(inputs, recipe.tagger).embeddings
    return embeddings if inputs == "words" else (TRANSFER, *embeddings)


def _keep_recipe(recipe: Recipe, folder: Path) -> None:
    """Write the whole recipe into a run's folder, for ``backattn tag``, which needs the paths of the models.

    The file is not part of the run's identity, which holds only what decides the numbers.
    """
    files = RunFolder(folder)
    files.refuse_link()
    text = json.dumps(as_json(recipe), ensure_ascii=False, indent=1) + "\n"
    if is_file(files.recipe) and files.recipe.read_bytes() == text.encode("utf-8"):
        return
    with writer_lock(files.lock):  # two processes may begin the same run
        write_whole_text(files.recipe, text)
