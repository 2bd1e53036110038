"""Train the runs of a grid from a recipe and its stores.

torch is imported by the first run that must be trained: a finished grid is returned without it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from backattn.common.cores import usable_cores
from backattn.common.errors import NotFetchedError, StaleError
from backattn.common.jobs import run_parallel, start_server
from backattn.common.progress import bar_disabled, log_line, time_left
from backattn.corpus import Corpus
from backattn.corpus.statistics_warnings import corpus_warnings, sample_warnings
from backattn.experiments.grid import Cell, RunGrid, sample_sizes
from backattn.experiments.trainer import TRANSFER, Trainer, stores_of
from backattn.features.plan import make_plan
from backattn.models.model_digests import missing_models
from backattn.recipe import Recipe, cache_root
from backattn.tagger.frozen_features import Inputs
from backattn.tagger.run import Run, RunFolder, read_run

if TYPE_CHECKING:
    from backattn.cluster import Cluster


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


def train_grid(
    recipe: Recipe,
    corpus: Corpus,
    grid: RunGrid,
    *,
    device: str,
    threads: int = 1,
    jobs: int | None = 1,
    cluster: "Callable[[], AbstractContextManager[Cluster]] | None" = None,
) -> Trained:
    """Train the runs of a grid that are not finished. A failing run does not stop the others.

    The numbers of a run depend on ``threads``, but not on ``jobs``.

    :param device: ``cpu``, ``cuda`` or ``auto``.
    :param threads: CPU threads of each run.
    :param jobs: number of runs in parallel, each in its own process; None for :func:`fitting_jobs`, or one on
        a GPU. A single job runs in this process.
    :param cluster: opens a cluster whose nodes train the runs instead; ``device`` and ``jobs`` do not apply.
    :raises StaleError: a store lacks sentences of this corpus.
    :raises RecipeError: the recipe does not fit the corpus or the inputs.
    """
    stores = fresh_stores(recipe, corpus, grid.inputs)
    trainer = Trainer(recipe, corpus, corpus.digest, stores, threads)
    folders = {cell: trainer.folder(cell) for cell in grid.cells(len(corpus.train))}
    pending = [cell for cell, folder in folders.items() if not RunFolder(folder).manifest.is_file()]
    outcomes: dict[Cell, Exception | None] = {}
    if pending and cluster is not None:
        from backattn.experiments.cluster_runs import train_on_cluster

        with cluster() as opened, _bar([folders[cell] for cell in pending], recipe.tagger.epochs) as tick:
            outcomes.update(train_on_cluster(opened, trainer, pending, tick))
    elif pending:
        if len(pending) > 1 and jobs != 1:
            # The server imports torch in parallel; not needed on a GPU, where the runs follow each other.
            start_server(("backattn.experiments.trainer", "backattn.tagger.training"))
        from backattn.common.device import pick_device, takes_bfloat16

        device = pick_device(device)
        takes_bfloat16(recipe.tagger.precision, device)  # warns here, once for all processes
        if jobs is None:
            jobs = 1 if device != "cpu" else fitting_jobs(len(pending), usable_cores() // threads)
        if min(jobs, len(pending)) > 1:
            train = partial(trainer.train, device=device)
            with _bar([folders[cell] for cell in pending], recipe.tagger.epochs) as tick:
                outcomes.update(zip(pending, run_parallel(train, pending, jobs, tick), strict=True))
    # The other cells: a finished run is only read and compared; a single job trains here, one run at a time.
    errors = {cell: outcomes[cell] if cell in outcomes else trainer.attempt(cell, device) for cell in folders}
    return Trained(
        runs=tuple(read_run(folder) for cell, folder in folders.items() if errors[cell] is None),
        errors=tuple(error for error in errors.values() if error is not None),
    )


def training_warnings(corpus: Corpus, grid: RunGrid) -> tuple[str, ...]:
    """Warn of what makes the runs of a grid, or their scores, worth little: the corpus, or its samples.

    :raises RecipeError: a share of the grid is less than one sentence.
    """
    sizes = [size for size in sample_sizes(grid.sentences, len(corpus.train)) if size != "all"]
    return corpus_warnings(corpus) + sample_warnings(corpus, sizes)


def unmade_transfer(recipe: Recipe) -> str:
    """Name what is missing to make T of a recipe, if no store of it exists; empty if nothing is missing.

    What ``backattn features`` can fetch is not missing. :func:`train_grid` reports what is wrong with a store
    that exists.
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
    names = list(dict.fromkeys(name for kind in inputs for name in stores_of(recipe, kind)))
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
