"""What is there, what is missing: the stores that a corpus and a recipe ask for. Loads no model.

A store's identity is the identity version and a digest of everything that changes its numbers. What does
not change them is named once, in :data:`NOT_IN_IDENTITY`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from msgspec import structs

from backattn.common.digests import digest
from backattn.common.errors import CorpusError, MissingError, RecipeError, StaleError, StoreError
from backattn.corpus import Corpus, Sentence
from backattn.models.model_digests import (
    Part,
    embedding_files,
    missing_models,
    transfer_files,
    translator_files,
)
from backattn.models.trained_files import require_as_trained
from backattn.recipe import (
    EmbeddingName,
    ModelTranslator,
    Recipe,
    TransferRecipe,
    as_json,
    cache_root,
    model_path,
)
from backattn.store.layout import IDENTITY_VERSION, Kind
from backattn.store.reader import StoreReader
from backattn.store.seal import most_sentences

# Keys of a recipe that leave the numbers alone: how a model was made and where it lies (its digest
# counts), and how the work is cut.
NOT_IN_IDENTITY = frozenset(
    {"batch_tokens", "training", "checkpoint", "sha256", "vectors", "path", "links_path"}
)

# Names of shards, and of stores with what lies beside them: only these are removed from a cache.
SHARD = r"[0-9a-f]{16}\.h5"
STORE = r"[0-9]+-[0-9a-f]+"

# How a dictionary is read (which gloss stands for a headword) and said; another way makes other stores.
_DICTIONARY_VERSION = 1


@dataclass(frozen=True)
class Stage:
    """One store: its name, its recipe, and where it lies.

    :param name: what it is called where a person reads it, and its folder below ``cache/LANG``.
    :param models: name of each model file -> its sha256.
    :param corpora: for each split its file, that file's sha256, and its number of sentences.
    :param sentences: the sentences that it must hold, each once.
    """

    kind: Kind
    name: str
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
    """The stores of a LANG. Each is named when it is asked for, so that nobody needs another one's model.

    :param part: what :attr:`stages` is held to.
    :raises MissingError: (of its properties) a model is not there; says what makes it.
    :raises ModelError: (of its properties) a model is not what its training left.
    """

    recipe: Recipe
    corpus: Corpus
    part: Part = "all"

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stores of the wanted part, each after those that it is made from.

        :raises MissingError: models are not there; names them all.
        """
        try:
            transfer = (
                ()
                if self.part == "embeddings" or not self._has_transfer
                else (self.translation, self.transfer)
            )
            return transfer + (() if self.part == "transfer" else tuple(self.embeddings.values()))
        except MissingError as error:
            missing = [str(one) for one in missing_models(self.recipe, self.part).values()]
            if len(missing) < 2:
                raise
            hint = (
                f"`backattn models {self.recipe.name}` (with the same --set) trains what a recipe describes"
            )
            raise MissingError("; ".join([*missing, hint])) from error

    def models(self, stage: Stage) -> dict[str, str]:
        """Sha256 of each model file of one of the stages, as the files are now."""
        if stage.kind == "translation":
            return translator_files(self.recipe)
        if stage.kind == "transfer":
            return transfer_files(self.recipe)
        return embedding_files(self.recipe, stage.recipe["embedding"])

    @property
    def _has_transfer(self) -> bool:
        """Whether T is wanted: by the recipe's ``[english]``, or because somebody asks for T alone."""
        return self.part == "transfer" or self.recipe.english is not None

    @cached_property
    def translation(self) -> Stage:
        """English tokens and A."""
        models, translator = translator_files(self.recipe), self.recipe.translator
        if isinstance(translator, ModelTranslator):
            if translator.checkpoint:
                require_as_trained(model_path(translator.checkpoint), models)
            asked = _identity(translator)
        else:  # neither the language counts, nor where a dictionary lies
            asked = {"kind": as_json(translator)["kind"], "version": _DICTIONARY_VERSION}
        identity = {"translator": asked, "model": digest(models)}
        return self._stage("translation", "translation", identity, models)

    @cached_property
    def transfer(self) -> Stage:
        """T = A R and the English tags."""
        models, english = transfer_files(self.recipe), self.recipe.english_tagger
        if english.checkpoint:
            require_as_trained(model_path(english.checkpoint).parent, models)
        identity = {
            "translation": self.translation.recipe_id,
            "english": _identity(english),
            "model": digest(sorted(models.values())),
            "transfer": _identity(_used(self.recipe.transfer)),
        }
        return self._stage("transfer", "transfer", identity, models)

    @cached_property
    def embeddings(self) -> Mapping[EmbeddingName, Stage]:
        """The frozen embeddings that the tagger reads, in its order."""
        return {name: self._embedding(name) for name in self.recipe.tagger.embeddings}

    def _embedding(self, name: EmbeddingName) -> Stage:
        models, charlm = embedding_files(self.recipe, name), self.recipe.embeddings.charlm
        if name == "charlm" and charlm is not None and charlm.checkpoint:
            require_as_trained(model_path(charlm.checkpoint), models)
        identity = {
            "embedding": name,
            name: _identity(getattr(self.recipe.embeddings, name)),
            "dtype": self.recipe.embeddings.dtype,
            # What a file of vectors is called says nothing; the other models have files of different use.
            "model": digest(list(models.values()) if name == "fasttext" else models),
        }
        return self._stage("embedding", f"embeddings/{name}", identity, models)

    def _stage(self, kind: Kind, name: str, identity: Mapping[str, Any], models: Mapping[str, str]) -> Stage:
        whole = {"format": IDENTITY_VERSION, "kind": kind, **identity}
        recipe_id = f"{IDENTITY_VERSION}-{digest(whole)}"
        path = cache_root() / self.recipe.name / name / f"{recipe_id[:14]}.h5"
        facts = _corpora(self.recipe, self.corpus)
        if (count := len(self.corpus.unique)) > (most := most_sentences(kind)):
            # Said here, and not when days later the finished store is to be sealed.
            raise CorpusError(
                f"recipe {self.recipe.name}: its corpus has {count:,} different sentences, a {kind} store "
                f"holds at most {most:,}; cut the corpus into several recipes"
            )
        return Stage(kind, name, recipe_id, whole, path, models, facts, self.corpus.unique)


def require_same_translation(
    plan: Plan, sentence: Sentence, english: Sequence[str], english_tags: Sequence[str]
) -> None:
    """Of one sentence of both stores.

    A translation store that was made anew on another device may say it in other words.

    :raises StaleError: T was made from another translation.
    """
    if len(english) != len(english_tags):
        raise StaleError(
            f"{plan.transfer.path}: was made from other translations than those in {plan.translation.path} "
            f"({' '.join(sentence.tokens)!r}); delete it, then run `backattn features {plan.recipe.name}`"
        )


def make_plan(recipe: Recipe, corpus: Corpus, part: Part = "all") -> Plan:
    """Name the stores that a corpus and a recipe ask for.

    :raises RecipeError: embeddings are wanted and the recipe names none.
    """
    if part == "embeddings" and not recipe.tagger.embeddings:
        raise RecipeError(
            f"recipe {recipe.name}: tagger.embeddings is empty; name those that are wanted there"
        )
    if part == "transfer" or not recipe.tagger.embeddings:
        _ = recipe.english_tagger  # without it there is nothing to make
    return Plan(recipe, corpus, part)


def _corpora(recipe: Recipe, corpus: Corpus) -> dict[str, dict[str, Any]]:
    return {
        split: {
            "file": getattr(recipe.corpus, split),
            "sha256": corpus.sha256.get(split, ""),
            "sentences": len(sentences),
        }
        for split, sentences in corpus.splits()
    }


def _used(transfer: TransferRecipe) -> TransferRecipe:
    """The table without what its ``attention`` does not ask for."""
    if transfer.attention != "translator":
        transfer = structs.replace(transfer, eos="drop")
    return transfer if transfer.attention == "links" else structs.replace(transfer, links=None)


def _identity(part: Any) -> dict[str, Any]:
    return _deciding(as_json(part))


def _deciding(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _deciding(value) if isinstance(value, Mapping) else value
        for key, value in table.items()
        if key not in NOT_IN_IDENTITY
    }
