"""Plan the stores of a corpus and a recipe, and find what they lack. Loads no model.

The identity of a store is the identity version and a digest of everything that changes its numbers. The keys
of a recipe that do not change them are listed once, in :data:`NOT_IN_IDENTITY`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from msgspec import structs

from backattn.common.digests import digest
from backattn.common.errors import (
    CorpusError,
    MissingError,
    NotFetchedError,
    RecipeError,
    StaleError,
    StoreError,
)
from backattn.common.writing import writes_blanks
from backattn.corpus import Corpus, Sentence
from backattn.models.model_digests import (
    COMMIT,
    Part,
    embedding_files,
    missing_models,
    needs_transfer,
    transfer_files,
    translator_files,
)
from backattn.models.trained_files import require_as_trained
from backattn.recipe import (
    LICENCE,
    DictionaryRecipe,
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

# Keys of a recipe that do not change the numbers: how a model was made and where it is stored (its digest
# counts, and the commit that was fetched), its licence, and the size of batches.
NOT_IN_IDENTITY = frozenset(
    {"batch_tokens", "training", "checkpoint", "revision", "sha256", "vectors", "path", "links_path", LICENCE}
)

# Names of shards, and stems of stores, their locks and folders of shards: no other files are removed from a
# cache.
SHARD = r"[0-9a-f]{16}\.h5"
STORE = r"[0-9]+-[0-9a-f]+"

# Versions of the rules by which dictionary and copy translators work (which gloss translates a headword,
# ...). Raised when they change, so that their stores are made anew.
_COPY_VERSION = 1
_DICTIONARY_VERSION = 2


@dataclass(frozen=True)
class Stage:
    """One store of a plan: its identity, its path, and the sentences that it must hold.

    :param name: name for messages, and folder of the store below ``cache/LANG``.
    :param models: name of each model file -> its sha256; and the commit of a model of the Hugging Face hub.
    :param corpora: for each split the name of its file, the sha256 of the file, and its number of sentences.
    :param sentences: the sentences that the store must hold, each once.
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
    def model_key(self) -> str:
        """Key of the recipe that names its model, as ``embeddings.bert``."""
        return {"translation": "translator", "transfer": "english"}.get(
            self.kind, self.name.replace("/", ".")
        )

    @property
    def shards(self) -> Path:
        """Folder of the finished shards of a run that has not finished."""
        return self.path.with_suffix(".shards")

    @property
    def lock(self) -> Path:
        """Lock file: one process at a time writes the store."""
        return self.path.with_suffix(".lock")

    def open(self) -> StoreReader | None:
        """Open the store; None when the file does not exist.

        :raises StoreError: the file is not a complete store of this identity.
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
        """List the sentences that none of the sources holds."""
        held = [source for source in sources if source is not None]
        return tuple(s for s in self.sentences if not any(s.key in source for source in held))


@dataclass(frozen=True)
class UnfetchedStage:
    """A store whose name is not known yet, because a model of a hub that makes it was not fetched.

    :param reason: which model, and what fetches it.
    """

    kind: Kind
    name: str
    reason: str
    sentences: tuple[Sentence, ...]


@dataclass(frozen=True)
class Plan:
    """The stores of a recipe. The identity of each is computed on access, when its models must exist.

    :param part: part of the recipe to which :attr:`stages` is limited.
    :raises MissingError: (by the properties) a model does not exist; names the command that makes it.
    :raises ModelError: (by the properties) a model differs from what its training wrote.
    """

    recipe: Recipe
    corpus: Corpus
    part: Part = "all"

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stores of the part, each after those from which it is made.

        :raises MissingError: models do not exist; names all of them.
        """
        with self._naming_all_missing():
            return tuple(make() for _, _, make in self._makers())

    @property
    def outlook(self) -> tuple[Stage | UnfetchedStage, ...]:
        """As :attr:`stages`, including stores that wait for a model of a hub.

        :raises MissingError: models do not exist that nothing fetches; names all of them.
        """
        found: list[Stage | UnfetchedStage] = []
        with self._naming_all_missing():
            for kind, name, make in self._makers():
                try:
                    found.append(make())
                except NotFetchedError as error:
                    found.append(UnfetchedStage(kind, name, str(error), self.corpus.unique))
        return tuple(found)

    def _makers(self) -> list[tuple[Kind, str, Callable[[], Stage]]]:
        """Kind and name of each store of the part, in order, and what computes its identity."""
        makers: list[tuple[Kind, str, Callable[[], Stage]]] = []
        if needs_transfer(self.recipe, self.part):
            makers.append(("translation", "translation", lambda: self.translation))
            makers.append(("transfer", "transfer", lambda: self.transfer))
        if self.part != "transfer":
            for name in self.recipe.tagger.embeddings:
                makers.append(("embedding", f"embeddings/{name}", partial(self._embedding, name)))
        return makers

    @contextmanager
    def _naming_all_missing(self) -> Iterator[None]:
        """Where a model is missing, raise an error that names all missing models."""
        try:
            yield
        except MissingError as error:
            missing = missing_models(self.recipe, self.part).values()
            if len(missing) < 2:
                raise
            messages = [str(one) for one in missing]
            if not all(isinstance(one, NotFetchedError) for one in missing):
                messages.append(
                    f"`backattn models {self.recipe.name}` (with the same --set) trains what a recipe "
                    "describes"
                )
            kind = NotFetchedError if isinstance(error, NotFetchedError) else MissingError
            raise kind("; ".join(messages)) from error

    def models(self, stage: Stage) -> dict[str, str]:
        """Compute the sha256 of each model file of a stage, as the files are now."""
        if stage.kind == "translation":
            return translator_files(self.recipe)
        if stage.kind == "transfer":
            return transfer_files(self.recipe)
        return embedding_files(self.recipe, stage.recipe["embedding"])

    @cached_property
    def translation(self) -> Stage:
        """The store of English tokens and A."""
        models, translator = translator_files(self.recipe), self.recipe.translator
        if isinstance(translator, ModelTranslator):
            if translator.checkpoint:
                require_as_trained(model_path(translator.checkpoint), models)
            settings = _identity(translator)
        elif isinstance(translator, DictionaryRecipe):  # of the language, only its blanks matter
            settings = {
                "kind": "dictionary",
                "version": _DICTIONARY_VERSION,
                "blanks": writes_blanks(translator.source),
            }
        else:
            settings = {"kind": "copy", "version": _COPY_VERSION}
        identity = {"translator": settings, "model": digest(models), **_commit(models)}
        return self._stage("translation", "translation", identity, models)

    @cached_property
    def transfer(self) -> Stage:
        """The store of T = A R and of the English tags."""
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
        """The stores of the frozen embeddings that the tagger reads, in its order."""
        return {name: self._embedding(name) for name in self.recipe.tagger.embeddings}

    @cached_property
    def _known_embeddings(self) -> dict[EmbeddingName, Stage]:
        return {}

    def _embedding(self, name: EmbeddingName) -> Stage:
        if name not in self._known_embeddings:
            self._known_embeddings[name] = self._plan_embedding(name)
        return self._known_embeddings[name]

    def _plan_embedding(self, name: EmbeddingName) -> Stage:
        models, table = embedding_files(self.recipe, name), getattr(self.recipe.embeddings, name)
        if name in ("charlm", "fasttext") and table.checkpoint:
            require_as_trained(model_path(table.checkpoint), models)
        identity = {
            "embedding": name,
            name: _identity(table),
            "dtype": self.recipe.embeddings.dtype,
            # The name of a file of vectors does not matter; other models have files of different purposes.
            "model": digest(list(models.values()) if name == "fasttext" else models),
            **_commit(models),
        }
        return self._stage("embedding", f"embeddings/{name}", identity, models)

    def _stage(self, kind: Kind, name: str, identity: Mapping[str, Any], models: Mapping[str, str]) -> Stage:
        whole = {"format": IDENTITY_VERSION, "kind": kind, **identity}
        recipe_id = f"{IDENTITY_VERSION}-{digest(whole)}"
        path = cache_root() / self.recipe.name / name / f"{recipe_id[:14]}.h5"
        facts = _corpora(self.recipe, self.corpus)
        if (count := len(self.corpus.unique)) > (most := most_sentences(kind)):
            # Refused here, and not days later when the finished store is sealed.
            raise CorpusError(
                f"recipe {self.recipe.name}: its corpus has {count:,} different sentences, a {kind} store "
                f"holds at most {most:,}; cut the corpus into several recipes"
            )
        return Stage(kind, name, recipe_id, whole, path, models, facts, self.corpus.unique)


def require_same_translation(
    plan: Plan, sentence: Sentence, english: Sequence[str], english_tags: Sequence[str]
) -> None:
    """Check that T and its tags were made from the present translation of a sentence.

    A translation store that was made anew on another device may hold other translations.

    :raises StaleError: the translation has another number of tokens.
    """
    if len(english) != len(english_tags):
        raise StaleError(
            f"{plan.transfer.path}: was made from other translations than those in {plan.translation.path} "
            f"({' '.join(sentence.tokens)!r}); delete it, then run `backattn features {plan.recipe.name}`"
        )


def make_plan(recipe: Recipe, corpus: Corpus, part: Part = "all") -> Plan:
    """Plan the stores of a corpus and a recipe; none where it names neither an English tagger nor embeddings.

    :raises RecipeError: the part is embeddings or T, and the recipe names no embeddings or no English tagger.
    """
    if part == "embeddings" and not recipe.tagger.embeddings:
        raise RecipeError(f"recipe {recipe.name}: tagger.embeddings is empty; name the embeddings there")
    if part == "transfer":
        _ = recipe.english_tagger  # raises where the recipe has none
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


def _commit(models: Mapping[str, str]) -> dict[str, str]:
    """The commit of a model of the hub, beside the digest in which it is counted, so that it can be named."""
    return {COMMIT: models[COMMIT]} if COMMIT in models else {}


def _used(transfer: TransferRecipe) -> TransferRecipe:
    """Reset the keys of the table that its ``attention`` does not read to their defaults."""
    if transfer.attention != "translator":
        transfer = structs.replace(transfer, eos="drop")
    return transfer if transfer.attention == "links" else structs.replace(transfer, links=None)


def _identity(part: Any) -> dict[str, Any]:
    return _without_excluded(as_json(part))


def _without_excluded(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_excluded(value) if isinstance(value, Mapping) else value
        for key, value in table.items()
        if key not in NOT_IN_IDENTITY
    }
