"""What is there, what is missing: the two stores that a corpus and a recipe ask for. Loads no model.

A store's identity is the format version and a digest of everything that changes its numbers. What does
not change them is named once, in :data:`NOT_IN_IDENTITY`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backattn.corpus import Corpus, Sentence
from backattn.errors import MissingError, StoreError
from backattn.fingerprint import digest, file_digest
from backattn.recipe import Recipe, as_json, cache_root, model_path
from backattn.store.layout import FORMAT_VERSION, Kind
from backattn.store.reader import StoreReader

# Keys of a recipe that leave the numbers alone: how a model was made and where it lies (its digest
# counts), and how the work is cut.
NOT_IN_IDENTITY = frozenset({"batch_tokens", "training", "checkpoint", "sha256"})


@dataclass(frozen=True)
class Stage:
    """One of the two stores: its name, its recipe, and where it lies.

    :param models: name of each model file -> its sha256.
    :param corpora: for each split its file, that file's sha256, and its number of sentences.
    :param sentences: the sentences that it must hold, each once.
    """

    kind: Kind
    recipe_id: str
    recipe: Mapping[str, Any]
    path: Path
    models: Mapping[str, str]
    corpora: Mapping[str, Mapping[str, Any]]
    sentences: tuple[Sentence, ...]

    @property
    def shards(self) -> Path:
        """Folder of the finished shards of a run that has not ended."""
        return self.path.with_suffix(".shards")

    @property
    def lock(self) -> Path:
        """Lock file of the one writer."""
        return self.path.with_suffix(".lock")

    def open(self) -> StoreReader | None:
        """The store, or nothing when there is none.

        :raises StoreError: there is a file, but it is not a whole store of this identity.
        """
        if not self.path.exists():
            return None
        store = StoreReader(self.path)
        if (store.kind, store.recipe_id) != (self.kind, self.recipe_id):
            raise StoreError(
                f"{self.path}: holds the {store.kind} store {store.recipe_id}, its name says {self.kind} "
                f"{self.recipe_id}; files were swapped: delete it, then `backattn features` makes it anew"
            )
        return store

    def missing(self, *sources: Mapping[bytes, Any] | None) -> tuple[Sentence, ...]:
        """The sentences that none of the sources holds."""
        held = [source for source in sources if source is not None]
        return tuple(s for s in self.sentences if not any(s.key in source for source in held))


@dataclass(frozen=True)
class Plan:
    """Both stores of a LANG."""

    translation: Stage
    transfer: Stage


def make_plan(recipe: Recipe, corpus: Corpus) -> Plan:
    """Name the two stores.

    :raises MissingError: a model that the recipe names is not there; says what makes it.
    """
    translator, english = translator_files(recipe), english_files(recipe)
    translation = {
        "format": FORMAT_VERSION,
        "kind": "translation",
        "translator": _identity(recipe.translator),
        "model": digest(translator),
    }
    translation_id = _recipe_id(translation)
    transfer = {
        "format": FORMAT_VERSION,
        "kind": "transfer",
        "translation": translation_id,
        "english": _identity(recipe.english),
        "model": digest(sorted(english.values())),
        "transfer": as_json(recipe.transfer),
    }
    facts = _corpora(recipe, corpus)
    folder = cache_root() / recipe.name

    def stage(kind: Kind, identity: Mapping[str, Any], models: Mapping[str, str]) -> Stage:
        recipe_id = _recipe_id(identity)
        path = folder / kind / f"{recipe_id[:14]}.h5"
        return Stage(kind, recipe_id, identity, path, models, facts, corpus.unique)

    return Plan(stage("translation", translation, translator), stage("transfer", transfer, english))


def translator_files(recipe: Recipe) -> dict[str, str]:
    """Sha256 of each of the translator's files; a model of the hub is known by its name."""
    if recipe.translator.hub:
        return {"hub": recipe.translator.hub}
    folder = model_path(recipe.translator.checkpoint)
    if not (folder / "checkpoint.pt").is_file():
        own = recipe.name if recipe.translator.training else folder.parent.name
        raise MissingError(
            f"{folder}: no translator there (checkpoint.pt); make it with `backattn translator train {own}`, "
            f"or point translator.checkpoint in the recipe at one"
        )
    files = sorted(path for path in folder.iterdir() if path.suffix in {".pt", ".txt", ".model"})
    return {path.name: file_digest(path) for path in files}


def english_files(recipe: Recipe) -> dict[str, str]:
    """Sha256 of the English tagger's file; a model of the hub is known by its name."""
    if recipe.english.hub:
        return {"hub": recipe.english.hub}
    path = model_path(recipe.english.checkpoint)
    if not path.is_file():
        own = recipe.name if recipe.english.training else "english"
        raise MissingError(
            f"{path}: no English tagger there; make it with `backattn english train {own}`, "
            f"or point english.checkpoint in the recipe at a flair model"
        )
    return {path.name: file_digest(path)}


def _corpora(recipe: Recipe, corpus: Corpus) -> dict[str, dict[str, Any]]:
    return {
        split: {
            "file": getattr(recipe.corpus, split),
            "sha256": corpus.sha256.get(split, ""),
            "sentences": len(sentences),
        }
        for split, sentences in corpus.splits()
    }


def _identity(part: Any) -> dict[str, Any]:
    return {key: value for key, value in as_json(part).items() if key not in NOT_IN_IDENTITY}


def _recipe_id(identity: Mapping[str, Any]) -> str:
    return f"{FORMAT_VERSION}-{digest(identity)}"
