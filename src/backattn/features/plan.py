"""What is there, what is missing: the two stores that a corpus and a recipe ask for. Loads no model.

A store's identity is the format version and a digest of everything that changes its numbers. What does
not change them is named once, in :data:`NOT_IN_IDENTITY`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backattn.corpus import Corpus, Sentence
from backattn.errors import MissingError
from backattn.fingerprint import digest, files_digest
from backattn.recipe import Recipe, as_json, cache_root, model_path
from backattn.store.layout import FORMAT_VERSION, Kind
from backattn.store.reader import StoreReader

# Keys of a recipe that leave the numbers alone: how a model was made and where it lies (its digest
# counts), and how the work is cut.
NOT_IN_IDENTITY = frozenset({"batch_tokens", "training", "checkpoint", "sha256"})


@dataclass(frozen=True)
class Stage:
    """One of the two stores: its name, its recipe, and where it lies.

    :param sentences: the sentences that it must hold, each once.
    """

    kind: Kind
    recipe_id: str
    recipe: Mapping[str, Any]
    path: Path
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
        return StoreReader(self.path) if self.path.exists() else None

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
    translation = {
        "format": FORMAT_VERSION,
        "kind": "translation",
        "translator": _identity(recipe.translator),
        "model": translator_digest(recipe),
    }
    translation_id = _recipe_id(translation)
    transfer = {
        "format": FORMAT_VERSION,
        "kind": "transfer",
        "translation": translation_id,
        "english": _identity(recipe.english),
        "model": english_digest(recipe),
        "transfer": as_json(recipe.transfer),
    }
    transfer_id = _recipe_id(transfer)
    return Plan(
        translation=_stage(recipe, "translation", translation_id, translation, corpus),
        transfer=_stage(recipe, "transfer", transfer_id, transfer, corpus),
    )


def translator_digest(recipe: Recipe) -> str:
    """Name of the translator's numbers: the digest of its files, or its hub name."""
    if recipe.translator.hub:
        return f"hub:{recipe.translator.hub}"
    folder = model_path(recipe.translator.checkpoint)
    if not (folder / "checkpoint.pt").is_file():
        own = recipe.name if recipe.translator.training else folder.parent.name
        raise MissingError(
            f"{folder}: no translator there (checkpoint.pt); make it with `backattn translator train {own}`, "
            f"or point translator.checkpoint in the recipe at one"
        )
    return files_digest(sorted(p for p in folder.iterdir() if p.suffix in {".pt", ".txt", ".model"}))


def english_digest(recipe: Recipe) -> str:
    """Name of the English tagger's numbers: the digest of its file, or its hub name."""
    if recipe.english.hub:
        return f"hub:{recipe.english.hub}"
    path = model_path(recipe.english.checkpoint)
    if not path.is_file():
        own = recipe.name if recipe.english.training else "english"
        raise MissingError(
            f"{path}: no English tagger there; make it with `backattn english train {own}`, "
            f"or point english.checkpoint in the recipe at a flair model"
        )
    return files_digest([path])


def _identity(part: Any) -> dict[str, Any]:
    return {key: value for key, value in as_json(part).items() if key not in NOT_IN_IDENTITY}


def _recipe_id(identity: Mapping[str, Any]) -> str:
    return f"{FORMAT_VERSION}-{digest(identity)}"


def _stage(recipe: Recipe, kind: Kind, recipe_id: str, identity: Mapping[str, Any], corpus: Corpus) -> Stage:
    folder = cache_root() / recipe.name / kind
    return Stage(kind, recipe_id, identity, folder / f"{recipe_id[:14]}.h5", corpus.unique)
