"""Five seeds: side by side in processes of one thread against one after the other."""

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from backattn.corpus import Corpus
from backattn.experiments import Grid, fitting_jobs, train_grid
from backattn.recipe import Recipe
from benchmarks.materials import workplace
from benchmarks.measure import Row, compare
from benchmarks.tagger import labelled
from fakes import make_recipe

TRAIN, DEV, EPOCHS = 600, 100, 5
GRID = Grid(inputs=("words",), sentences=(0,), seeds=(1, 2, 3, 4, 5))


def rows(repeats: int) -> Iterator[Row]:
    """Whole commands: start of the processes, training, scoring, files."""
    cores = os.cpu_count() or 1
    jobs = fitting_jobs(len(GRID.seeds), cores)
    text, corpus, tagger = labelled(TRAIN, DEV)
    recipe = dataclasses.replace(make_recipe(), tagger=dataclasses.replace(tagger, epochs=EPOCHS))
    note = f"{EPOCHS} epochs of {text}; --jobs {jobs} of one thread; equal predictions"
    with workplace() as folder:
        cache = folder / "cache"
        _same(recipe, corpus, cache, jobs)
        for threads in sorted({1, cores}):
            yield compare(
                part=f"5 seeds on {cores} cores",
                peer_name=f"one after the other, {threads} thread{'s' * (threads > 1)}",
                unit="runs", repeats=repeats, must=1.7, note=note,
                ours=lambda: _train(recipe, corpus, cache, jobs=jobs),
                peer=lambda threads=threads: _train(recipe, corpus, cache, threads=threads),
            )  # fmt: skip


def _train(recipe: Recipe, corpus: Corpus, cache: Path, *, jobs: int = 1, threads: int = 1) -> float:
    shutil.rmtree(cache, ignore_errors=True)
    torch.set_num_threads(threads)
    runs = train_grid(recipe, corpus, GRID, device="cpu", threads=threads, jobs=jobs).whole()
    return float(len(runs))


def _same(recipe: Recipe, corpus: Corpus, cache: Path, jobs: int) -> None:
    """Two epochs on a few sentences give the same files either way."""
    short = dataclasses.replace(recipe, tagger=dataclasses.replace(recipe.tagger, epochs=2))
    few = Corpus(corpus.train[:100], corpus.dev[:50], corpus.test[:50])
    found = []
    for count in (1, jobs):
        _train(short, few, cache, jobs=count)
        names = ("weights.safetensors", "predictions.dev.tsv", "predictions.test.tsv")
        found.append({p.relative_to(cache): p.read_bytes() for p in cache.rglob("*") if p.name in names})
    assert found[0] == found[1]
    assert len(found[0]) == 3 * len(GRID.seeds)
