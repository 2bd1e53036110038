"""Recipe + stores -> many runs: inputs x training sentences x seeds. Where both wings meet."""

import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from numpy.typing import NDArray

from backattn.corpus import Corpus
from backattn.device import pick_device
from backattn.errors import RecipeError, StaleError
from backattn.features.plan import make_plan
from backattn.files import write_whole_text
from backattn.fingerprint import digest
from backattn.recipe import Recipe, as_json, cache_root
from backattn.store.layout import Entry
from backattn.store.reader import StoreReader
from backattn.tagger.run import Inputs, Run
from backattn.tagger.training import train_run

# Inputs whose runs need the transfer store (``random`` takes its width from there).
WITH_STORE = frozenset({"words+transfer", "transfer", "random"})
# The recipe that a run was made with, in its folder.
RECIPE = "recipe.json"


@dataclass(frozen=True)
class Grid:
    """Which runs are wanted.

    :param sentences: sizes of the nested training samples; 0 is all.
    """

    inputs: tuple[Inputs, ...]
    sentences: tuple[int, ...]
    seeds: tuple[int, ...]

    def __iter__(self) -> Iterator[tuple[int, int, Inputs]]:
        """Seeds outermost, so that a stopped grid leaves comparable runs."""
        return ((n, seed, inputs) for seed in self.seeds for n in self.sentences for inputs in self.inputs)


@dataclass(frozen=True)
class StoredVectors:
    """T of each sentence, as stage two asks for it (its ``TransferVectors``)."""

    entries: Mapping[bytes, Entry]
    width: int
    identity: str

    @classmethod
    def of(cls, store: StoreReader) -> "StoredVectors":
        """The vectors of an open transfer store."""
        return cls(store, int(store.attributes["d"]), store.recipe_id)

    def vectors(self, key: bytes) -> NDArray[Any]:
        """T of the sentence of this key. *Shape:* (m, d)"""
        return self.entries[key]["vectors"]


def parse_grid(inputs: str, sentences: str, seeds: str, *, default_sentences: int) -> Grid:
    """Read the comma-separated options of ``backattn train``.

    :raises RecipeError: names the option, what was found and what was expected.
    """
    known = get_args(Inputs)
    for name in inputs.split(","):
        if name not in known:
            raise RecipeError(f"--inputs {name}: expected one of {', '.join(known)}")
    sizes = [str(default_sentences) if part == "all" else part for part in sentences.split(",")]
    return Grid(
        inputs=tuple(inputs.split(",")),  # type: ignore[arg-type]
        sentences=_numbers("--sentences", sizes, "numbers above 0, or all"),
        seeds=_numbers("--seeds", seeds.split(","), "numbers"),
    )


def train_grid(recipe: Recipe, corpus: Corpus, grid: Grid, *, device: str, threads: int | None) -> list[Run]:
    """Train what is not there yet; results come in the grid's order.

    :param device: ``cpu``, ``cuda`` or ``auto``.
    :param threads: CPU threads; None for all cores.
    :raises StaleError: the transfer store lacks sentences of this corpus.
    """
    vectors = open_vectors(recipe, corpus) if WITH_STORE & set(grid.inputs) else None
    runs = []
    facts = {"lang": recipe.name, "corpus": corpus_digest(corpus), "groups": as_json(recipe.corpus.groups)}
    for sentences, seed, inputs in grid:
        tagger = dataclasses.replace(recipe.tagger, sentences=sentences)
        store = vectors.identity if vectors is not None and inputs in WITH_STORE else None
        name = digest([facts, as_json(tagger), inputs, seed, store])[:8]
        folder = _runs(recipe) / f"{inputs}-{sentences or 'all'}-seed{seed}-{name}"
        if sys.stderr.isatty():
            print(f"{folder.name}", file=sys.stderr)
        _keep_recipe(recipe, folder)
        runs.append(
            train_run(
                corpus,
                vectors if inputs in WITH_STORE else None,
                tagger,
                inputs=inputs,
                seed=seed,
                folder=folder,
                identity=facts,
                groups=recipe.corpus.groups,
                progress=sys.stderr.isatty(),
                device=pick_device(device),
                threads=threads or os.cpu_count() or 1,
            )
        )
    return runs


def open_vectors(recipe: Recipe, corpus: Corpus) -> StoredVectors:
    """The transfer store of a corpus and recipe, up to date and verified to its last byte.

    :raises StaleError: it is missing, or lacks sentences of the corpus.
    :raises StoreError: it is corrupt.
    """
    stage = make_plan(recipe, corpus).transfer
    store = stage.open()
    missing = stage.missing(store)
    if store is None or missing:
        raise StaleError(
            f"{stage.path}: {len(missing)} of {len(stage.sentences)} sentences have no transfer vectors; "
            f"run `backattn features {recipe.name}` (with the same --set), then train"
        )
    store.verify()
    return StoredVectors.of(store)


def corpus_digest(corpus: Corpus) -> str:
    """Name of a corpus with its labels: the same tokens and tags in the same order and splits."""
    return digest({name: [[s.tokens, s.tags] for s in sentences] for name, sentences in corpus.splits()})


def _keep_recipe(recipe: Recipe, folder: Path) -> None:
    """Leave the whole recipe beside a run, for ``backattn tag``: it also says where the models lie.

    It is not part of the run's identity, which holds only what decides the numbers.
    """
    path = folder / RECIPE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_whole_text(path, json.dumps(as_json(recipe), ensure_ascii=False, indent=1) + "\n")


def _runs(recipe: Recipe) -> Path:
    return cache_root() / recipe.name / "runs"


def _numbers(option: str, parts: list[str], expected: str) -> tuple[int, ...]:
    for part in parts:
        if not part.strip().isdecimal():
            raise RecipeError(f"{option} {part}: expected {expected}, separated by commas")
    return tuple(int(part) for part in parts)
