"""What is there, what is missing: the stores that a corpus and a recipe ask for. Loads no model.

A store's identity is the identity version and a digest of everything that changes its numbers. What does
not change them is named once, in :data:`NOT_IN_IDENTITY`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from backattn.corpus import Corpus, Sentence
from backattn.errors import MissingError, RecipeError, StaleError, StoreError
from backattn.features.translation.cedict import PUBLISHED
from backattn.files import is_file
from backattn.fingerprint import digest, file_digest
from backattn.recipe import (
    EmbeddingName,
    Recipe,
    TransferRecipe,
    TranslatorRecipe,
    as_json,
    cache_root,
    data_path,
    model_path,
    trained_by,
)
from backattn.store.layout import IDENTITY_VERSION, Kind
from backattn.store.reader import StoreReader

# Keys of a recipe that leave the numbers alone: how a model was made and where it lies (its digest
# counts), and how the work is cut.
NOT_IN_IDENTITY = frozenset(
    {"batch_tokens", "training", "checkpoint", "sha256", "vectors", "path", "links_path"}
)

# Keys younger than the identity version, with the value that stands for what was done before:
# stores made then keep their names.
_YOUNGER = {
    "states": "lstm", "links": None, "copy": False, "dictionary": "", "source_states": False, "revision": ""
}  # fmt: skip

# How a dictionary is read (which gloss stands for a headword) and said; another way makes other stores.
_DICTIONARY_VERSION = 1

# What a Marian model of transformers is read from; its weights are a pickle where there is no other file.
_MARIAN_FILES = ("config.json", "source.spm", "target.spm", "vocab.json")
_MARIAN_WEIGHTS = ("model.safetensors", "pytorch_model.bin")

# What a command may be held to: T and what it is made from, or the frozen embeddings.
Part = Literal["all", "transfer", "embeddings"]

# The files that a transformers model and its tokenizer are read from; what else lies there is not opened.
_BERT_FILES = (
    "config.json", "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt",
    "*.model", "*.safetensors", "*.safetensors.index.json",
)  # fmt: skip


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
    """

    recipe: Recipe
    corpus: Corpus
    part: Part = "all"

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stores of the wanted part, each after those that it is made from."""
        transfer = () if self.part == "embeddings" else (self.translation, self.transfer)
        return transfer + (() if self.part == "transfer" else tuple(self.embeddings.values()))

    def models(self, stage: Stage) -> dict[str, str]:
        """Sha256 of each model file of one of the stages, as the files are now."""
        if stage.kind == "translation":
            return translator_files(self.recipe)
        if stage.kind == "transfer":
            return transfer_files(self.recipe)
        return embedding_files(self.recipe, stage.recipe["embedding"])

    @cached_property
    def translation(self) -> Stage:
        """English tokens and A."""
        models, translator = translator_files(self.recipe), self.recipe.translator
        asked = _identity(translator)
        if not translator.is_model:  # nothing else of the table is asked for, nor where a dictionary lies
            asked = {"copy": True} if translator.copy else {"dictionary": _DICTIONARY_VERSION}
        identity = {"translator": asked, "model": digest(models)}
        return self._stage("translation", "translation", identity, models)

    @cached_property
    def transfer(self) -> Stage:
        """T = A R and the English tags."""
        models = transfer_files(self.recipe)
        identity = {
            "translation": self.translation.recipe_id,
            "english": _identity(self.recipe.english),
            "model": digest(sorted(models.values())),
            "transfer": _identity(_used(self.recipe.transfer)),
        }
        return self._stage("transfer", "transfer", identity, models)

    @cached_property
    def embeddings(self) -> Mapping[EmbeddingName, Stage]:
        """The frozen embeddings that the tagger reads, in its order."""
        return {name: self._embedding(name) for name in self.recipe.tagger.embeddings}

    def _embedding(self, name: EmbeddingName) -> Stage:
        models = embedding_files(self.recipe, name)
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
    return Plan(recipe, corpus, part)


def translator_files(recipe: Recipe) -> dict[str, str]:
    """Sha256 of each of the translator's files; a model of the hub is known by its name."""
    if recipe.translator.copy:
        return {}
    if recipe.translator.dictionary:
        path = data_path(recipe.translator.dictionary)
        if not is_file(path):
            raise MissingError(
                f"{path}: no such file (translator.dictionary of the recipe); put {PUBLISHED} there, or "
                "another one in its form"
            )
        return {"dictionary": file_digest(path)}
    if recipe.translator.hub:
        return {"hub": recipe.translator.hub}
    folder = model_path(recipe.translator.checkpoint)
    if is_transformers_model(recipe.translator):
        return _marian_files(folder)
    if not (folder / "checkpoint.pt").is_file():
        own = recipe.name if recipe.translator.training else trained_by(recipe.translator.checkpoint)
        raise MissingError(
            f"{folder}: no translator there (checkpoint.pt); make it with `backattn translator train {own}`, "
            f"or point translator.checkpoint in the recipe at one"
        )
    # What else lies there (notes, other checkpoints of the training) is not opened.
    dictionaries = (f"dict.{language}.txt" for language in (recipe.translator.source, "en"))
    files = (folder / name for name in ("checkpoint.pt", *dictionaries, "joint.model"))
    return {path.name: file_digest(path) for path in sorted(files) if is_file(path)}


def is_transformers_model(translator: TranslatorRecipe) -> bool:
    """Whether it is transformers' and not fairseq's: by what lies there; on the hub, by its name's form."""
    if translator.hub:
        return "/" in translator.hub
    folder = model_path(translator.checkpoint)
    return is_file(folder / "config.json") and not is_file(folder / "checkpoint.pt")


def _marian_files(folder: Path) -> dict[str, str]:
    weights = next((name for name in _MARIAN_WEIGHTS if is_file(folder / name)), _MARIAN_WEIGHTS[0])
    names = [*_MARIAN_FILES, weights]
    for name in names:
        if not is_file(folder / name):
            raise MissingError(f"{folder / name}: not there; copy the Marian model's folder whole")
    names += [name for name in ("target_vocab.json",) if is_file(folder / name)]
    return {name: file_digest(folder / name) for name in sorted(names)}


def transfer_files(recipe: Recipe) -> dict[str, str]:
    """Sha256 of each file that makes T of the translations."""
    return english_files(recipe) | links_files(recipe)


def english_files(recipe: Recipe) -> dict[str, str]:
    """Sha256 of the English tagger's file; a model of the hub is known by its name."""
    if recipe.english.hub:
        return _of_hub(recipe.english.hub, recipe.english.sha256)
    path = model_path(recipe.english.checkpoint)
    if not path.is_file():
        own = recipe.name if recipe.english.training else "english"
        raise MissingError(
            f"{path}: no English tagger there; make it with `backattn english train {own}`, "
            f"or point english.checkpoint in the recipe at a flair model"
        )
    return {path.name: file_digest(path)}


def links_files(recipe: Recipe) -> dict[str, str]:
    """Sha256 of each file of an aligner's links, where they stand in A's place."""
    links = recipe.transfer.links if recipe.transfer.attention == "links" else None
    paths = [data_path(name) for name in (links.path, links.links_path) if name] if links else []
    for path in paths:
        if not is_file(path):
            raise MissingError(
                f"{path}: no such file (transfer.links of the recipe); `backattn pairs {recipe.name}` prints "
                "the pairs that an aligner is to link"
            )
    return {f"links {number}": file_digest(path) for number, path in enumerate(paths, 1)}


def _of_hub(name: str, pin: str) -> dict[str, str]:
    """A model of the hub is known by its name; where its digest is pinned, by that as well."""
    return {"hub": name, "sha256": pin.lower()} if pin else {"hub": name}


def embedding_files(recipe: Recipe, name: EmbeddingName) -> dict[str, str]:
    """Sha256 of each file of an embedding's model; a model of the hub is known by its name.

    :raises MissingError: they are not there; says what gives them.
    """
    tables = recipe.embeddings
    if name == "fasttext":
        assert tables.fasttext is not None  # as the recipe was checked to have
        files = [data_path(tables.fasttext.vectors)]
        advice = "fetch a .vec file from fasttext.cc, or point embeddings.fasttext.vectors at one"
    elif name == "charlm":
        assert tables.charlm is not None
        if tables.charlm.hub:
            return _of_hub(tables.charlm.hub, ",".join(tables.charlm.sha256))
        folder = model_path(tables.charlm.checkpoint)
        files = [folder / "backward.safetensors", folder / "forward.safetensors"]
        own = recipe.name if tables.charlm.training else trained_by(tables.charlm.checkpoint)
        advice = f"make both directions with `backattn charlm train {own}`"
    else:
        assert tables.bert is not None
        if tables.bert.hub:
            return {"hub": tables.bert.hub}
        folder = model_path(tables.bert.checkpoint)
        files = [folder / "config.json"]
        files += (path for pattern in _BERT_FILES for path in folder.glob(pattern) if is_file(path))
        advice = "point embeddings.bert.checkpoint at the folder of a transformers model, or name a hub's"
    for path in files:
        if not is_file(path):
            raise MissingError(f"{path}: not there; {advice}")
    return {path.name: file_digest(path) for path in sorted(set(files))}


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
        transfer = replace(transfer, eos="drop")
    return transfer if transfer.attention == "links" else replace(transfer, links=None)


def _identity(part: Any) -> dict[str, Any]:
    return _deciding(as_json(part))


def _deciding(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _deciding(value) if isinstance(value, Mapping) else value
        for key, value in table.items()
        if key not in NOT_IN_IDENTITY and (key, value) not in _YOUNGER.items()
    }
