"""Train one run of a grid: its specification from a recipe and its stores, its folder.

torch is imported by the first run that must be trained.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from msgspec import structs
from numpy.typing import NDArray

from backattn.common.atomic_files import is_file, write_whole_text
from backattn.common.digests import digest
from backattn.common.file_lock import writer_lock
from backattn.corpus import Corpus
from backattn.experiments.grid import Cell
from backattn.recipe import EmbeddingName, Recipe, as_json, cache_root
from backattn.store.layout import Entry
from backattn.store.reader import StoreReader
from backattn.tagger.frozen_features import Inputs
from backattn.tagger.run import Run, RunFolder, finished_run
from backattn.tagger.run_spec import RunSpec, effective_recipe

# Name of the store of T among the stores of a recipe; the others are named after the embeddings.
TRANSFER: Literal["transfer"] = "transfer"
StoreName = EmbeddingName | Literal["transfer"]


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


@dataclass(frozen=True)
class Trainer:
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
            names = stores_of(self.recipe, cell.inputs)
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
        keep_recipe(self.recipe, folder)
        run = finished_run(folder, spec.request)
        if run is not None:
            return run
        from backattn.tagger.training import train_run

        self._verify_stores()
        return train_run(spec, folder, device=device, threads=self.threads, progress=progress)

    def train_for(self, seconds: float, cell: Cell, folder: Path, device: str) -> None:
        """Resume a run in any folder, up to the end of the epoch in which the time runs out."""
        from backattn.tagger.training import train_for

        self._verify_stores()
        train_for(seconds, self.spec(cell), folder, device=device, threads=self.threads)

    def _verify_stores(self) -> None:
        """Read all bytes of the stores, once in each process that trains."""
        while self._unverified:
            self._unverified[-1].verify()
            self._unverified.pop()

    def attempt(self, cell: Cell, device: str) -> Exception | None:
        """Train one run; returns the exception if it fails."""
        try:
            self.train(cell, device, progress=True)
        except Exception as error:
            return error
        return None


def stores_of(recipe: Recipe, inputs: Inputs) -> tuple[StoreName, ...]:
    """Names of the stores that runs on these inputs read (``random`` reads only the width of T)."""
    embeddings = effective_recipe(inputs, recipe.tagger).embeddings
    return embeddings if inputs == "words" else (TRANSFER, *embeddings)


def keep_recipe(recipe: Recipe, folder: Path) -> None:
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
