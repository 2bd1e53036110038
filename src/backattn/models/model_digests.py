"""Find the files of a recipe's models and compute their digests, without loading a model."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from backattn.common.atomic_files import is_file
from backattn.common.digests import file_digest
from backattn.common.errors import MissingError
from backattn.models.cedict import PUBLISHED
from backattn.models.transformers_folder import CONFIG, marian_files, read_encoder
from backattn.recipe import (
    CopyRecipe,
    DictionaryRecipe,
    EmbeddingName,
    Recipe,
    TransformersRecipe,
    data_path,
    english_trained_by,
    model_path,
    trained_by,
)

# What a command computes: T with the translations, or the frozen embeddings.
Part = Literal["all", "transfer", "embeddings"]
Digest = Callable[[Path], str]


def missing_models(recipe: Recipe, part: Part = "all") -> dict[str, MissingError]:
    """Errors for the models that are missing, each of which says how to get the model.

    Keys are ``translator``, ``english``, ``links`` (an aligner's, instead of A), or the name of an embedding.

    :param part: the part of stage one whose models are checked.
    """
    checks: dict[str, Callable[..., object]] = {}
    if part != "embeddings":
        checks |= {"translator": partial(translator_files, recipe), "english": partial(english_files, recipe)}
        checks |= {"links": partial(links_files, recipe)}
    if part != "transfer":
        checks |= {name: partial(embedding_files, recipe, name) for name in recipe.tagger.embeddings}
    found = {}
    for name, check in checks.items():
        try:
            check(digest=str)  # do not read gigabytes to check for existence
        except MissingError as error:
            found[name] = error
    return found


def translator_files(recipe: Recipe, digest: Digest = file_digest) -> dict[str, str]:
    """Sha256 of each of the translator's files; the name of a model of the hub."""
    translator = recipe.translator
    if isinstance(translator, CopyRecipe):
        return {}
    if isinstance(translator, DictionaryRecipe):
        path = data_path(translator.dictionary)
        if not is_file(path):
            raise MissingError(
                f"{path}: no such file (translator.dictionary of the recipe); put {PUBLISHED} there, or "
                "another one in its form"
            )
        return {"dictionary": digest(path)}
    if translator.hub:
        return {"hub": translator.hub}
    folder = model_path(translator.checkpoint)
    if isinstance(translator, TransformersRecipe):
        return {name: digest(folder / name) for name in marian_files(folder)}
    if not (folder / "checkpoint.pt").is_file():
        own = recipe.name if translator.training else trained_by(translator.checkpoint)
        raise MissingError(
            f"{folder}: no translator there (checkpoint.pt); make it with `backattn translator train {own}`, "
            f"or point translator.checkpoint in the recipe at one"
        )
    # Other files in the folder (notes, older checkpoints) are not opened.
    dictionaries = (f"dict.{language}.txt" for language in (translator.source, "en"))
    files = (folder / name for name in ("checkpoint.pt", *dictionaries, "joint.model"))
    return {path.name: digest(path) for path in sorted(files) if is_file(path)}


def transfer_files(recipe: Recipe) -> dict[str, str]:
    """Sha256 of each file that T is computed with, given the translations."""
    return english_files(recipe) | links_files(recipe)


def english_files(recipe: Recipe, digest: Digest = file_digest) -> dict[str, str]:
    """Sha256 of the English tagger's file; the name of a model of the hub."""
    english = recipe.english_tagger
    if english.hub:
        return _of_hub(english.hub, english.sha256)
    path = model_path(english.checkpoint)
    if not path.is_file():
        own = recipe.name if english.training else english_trained_by(english.checkpoint)
        made = (
            f"the recipe {own} trains it, with `backattn english train {own}`"
            if own
            else "none of the recipes here trains it (english.training)"
        )
        raise MissingError(
            f"{path}: no English tagger there; {made}; or point english.checkpoint in the recipe at a flair "
            "model"
        )
    return {path.name: digest(path)}


def links_files(recipe: Recipe, digest: Digest = file_digest) -> dict[str, str]:
    """Sha256 of each file of an aligner's links, where the recipe uses them instead of A."""
    links = recipe.transfer.links if recipe.transfer.attention == "links" else None
    paths = [data_path(name) for name in (links.path, links.links_path) if name] if links else []
    for path in paths:
        if not is_file(path):
            raise MissingError(
                f"{path}: no such file (transfer.links of the recipe); `backattn pairs {recipe.name}` prints "
                "the pairs for the aligner"
            )
    return {f"links {number}": digest(path) for number, path in enumerate(paths, 1)}


def _of_hub(name: str, pin: str) -> dict[str, str]:
    """Identity of a model of the hub: its name, and its digest if the recipe pins it."""
    return {"hub": name, "sha256": pin.lower()} if pin else {"hub": name}


def embedding_files(recipe: Recipe, name: EmbeddingName, digest: Digest = file_digest) -> dict[str, str]:
    """Sha256 of each file of an embedding's model; the name of a model of the hub.

    :raises MissingError: they are not there; says how to get them.
    """
    tables = recipe.embeddings
    if name == "fasttext":
        assert tables.fasttext is not None  # validated in the recipe
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
        files = [folder / CONFIG]
        if is_file(files[0]):
            files = [folder / name for name in read_encoder(folder).files]
        advice = "point embeddings.bert.checkpoint at the folder of a transformers model, or name a hub's"
    for path in files:
        if not is_file(path):
            raise MissingError(f"{path}: not there; {advice}")
    return {path.name: digest(path) for path in sorted(set(files))}
