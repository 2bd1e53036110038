"""Five seeds: side by side in processes of one thread against one after the other."""

import dataclasses
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from msgspec import structs

from backattn.corpus import Corpus
from backattn.experiments.grid import RunGrid
from backattn.experiments.runs import fitting_jobs, train_grid
from backattn.recipe import Recipe
from benchmarks.materials import workplace
from benchmarks.measure import Ratios, Row, condition, rate
from benchmarks.tagger import labelled
from fakes import make_recipe

TRAIN, DEV, EPOCHS = 600, 100, 10
_BARE = """
import sys, time, torch
torch.set_num_threads(1)
lstm, inputs = torch.nn.LSTM(150, 256, batch_first=True, bidirectional=True), torch.randn(16, 32, 150)
print(flush=True)
sys.stdin.readline()
end, steps = time.perf_counter() + 4, 0
while time.perf_counter() < end:
    lstm(inputs)[0].sum().backward()
    steps += 1
print(steps)
"""
GRID = RunGrid(inputs=("words",), sentences=("all",), seeds=(1, 2, 3, 4, 5))


def rows(repeats: int) -> Iterator[Row]:
    """Whole commands: start of the processes, training, scoring, files."""
    cores = os.cpu_count() or 1
    jobs = fitting_jobs(len(GRID.seeds), cores)
    text, corpus, tagger = labelled(TRAIN, DEV)
    recipe = structs.replace(make_recipe(), tagger=structs.replace(tagger, epochs=EPOCHS))
    with workplace() as folder:
        cache = folder / "cache"
        yield _same(recipe, corpus, cache, jobs)
        turns = [
            _Turn(
                ours=rate(lambda: _train(recipe, corpus, cache, jobs=jobs)),
                one_thread=rate(lambda: _train(recipe, corpus, cache)),
                all_threads=rate(lambda: _train(recipe, corpus, cache, threads=cores)),
                cores=_steps(cores) / _steps(1),
            )
            for _ in range(repeats)
        ]
    row = Row(
        part=f"5 seeds on {cores} cores", peer="one after the other, 1 thread", unit="runs",
        rate=statistics.median(turn.ours for turn in turns), must=1.7,
        ratio=Ratios.of([turn.ours / turn.one_thread for turn in turns]),
        floor=Ratios.of([turn.ours / turn.one_thread / turn.cores for turn in turns]),
        floor_name=f"what {cores} processes of a bare nn.LSTM gain over one: "
        f"{Ratios.of([turn.cores for turn in turns]).to_text()}",
        note=f"{EPOCHS} epochs of {text}; --jobs {jobs} of one thread",
    )  # fmt: skip
    yield row
    threaded = Ratios.of([turn.ours / turn.all_threads for turn in turns])
    yield dataclasses.replace(
        row, peer=f"one after the other, {cores} threads", ratio=threaded, must=None, floor=None
    )


@dataclasses.dataclass(frozen=True)
class _Turn:
    """Runs a second, and how much work so many cores do of what one does: less than their number."""

    ours: float
    one_thread: float
    all_threads: float
    cores: float


def _steps(processes: int) -> int:
    """Training steps of a bare LSTM in all of so many processes that start at one moment."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _BARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(processes)
    ]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()  # it is ready
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return sum(int(process.communicate()[0]) for process in started)


def _train(recipe: Recipe, corpus: Corpus, cache: Path, *, jobs: int = 1, threads: int = 1) -> float:
    shutil.rmtree(cache, ignore_errors=True)
    torch.set_num_threads(threads)
    runs = train_grid(recipe, corpus, GRID, device="cpu", threads=threads, jobs=jobs).whole()
    return float(len(runs))


def _same(recipe: Recipe, corpus: Corpus, cache: Path, jobs: int) -> Row:
    """Whether two epochs on a few sentences give the same files either way."""
    short = structs.replace(recipe, tagger=structs.replace(recipe.tagger, epochs=2))
    few = Corpus(corpus.train[:100], corpus.dev[:50], corpus.test[:50])
    found = []
    for count in (1, jobs):
        _train(short, few, cache, jobs=count)
        names = ("weights.safetensors", "predictions.dev.tsv", "predictions.test.tsv")
        found.append({p.relative_to(cache): p.read_bytes() for p in cache.rglob("*") if p.name in names})
    equal = sum(data == found[1].get(path) for path, data in found[0].items())
    return condition(
        f"{len(GRID.seeds)} seeds in processes", "weights and predictions of one after the other",
        held=equal == len(found[0]) == len(found[1]) == 3 * len(GRID.seeds),
        found=f"{equal} of {3 * len(GRID.seeds)} files are equal",
    )  # fmt: skip
