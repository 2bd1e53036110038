"""Find the files of a recipe's models and compute their digests, without loading a model.

A model of a hub is identified by what was fetched: its commit, and the digests of the files that are opened.
Nothing here asks a hub.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from backattn.common.atomic_files import is_file
from backattn.common.digests import file_digest
from backattn.common.errors import MissingError, NotFetchedError
from backattn.models.cedict import PUBLISHED
from backattn.models.hub import OtherHub, hub_cache, local_snapshot, recorded_place
from backattn.models.transformers_folder import CONFIG, lacks_encoder_parts, marian_files, read_encoder
from backattn.recipe import (
    CopyRecipe,
    DictionaryRecipe,
    EmbeddingName,
    FairseqRecipe,
    FastTextRecipe,
    ModelTranslator,
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

# Name of the commit among the digests of a model of the Hugging Face hub.
COMMIT = "commit"
CHARLM_DIRECTIONS = ("forward", "backward")
# Name of the file of vectors in the folder of their training.
VECTORS = "vectors.bin"


def needs_transfer(recipe: Recipe, part: Part) -> bool:
    """Whether T is computed: it is the part that is asked for, or the recipe has ``[english]``."""
    return part == "transfer" or (part == "all" and recipe.english is not None)


def missing_models(recipe: Recipe, part: Part = "all") -> dict[str, MissingError]:
    """Errors for the models that are missing, each of which says how to get the model.

    Keys are ``translator``, ``english``, ``links`` (an aligner's, instead of A), or the name of an embedding.

    :param part: the part of stage one whose models are checked.
    """
    checks: dict[str, Callable[..., object]] = {}
    if needs_transfer(recipe, part):
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
    """Sha256 of each of the translator's files, and the commit of a model of the hub."""
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
    folder = translator_folder(recipe)
    if isinstance(translator, TransformersRecipe):
        commit = {COMMIT: folder.name} if translator.hub else {}
        return commit | {name: digest(folder / name) for name in marian_files(folder)}
    dictionaries = [f"dict.{language}.txt" for language in (translator.source, "en")]
    if translator.hub:
        opened = [*folder.glob("model*.pt"), *(folder / name for name in (*dictionaries, "bpecodes"))]
        return {path.name: digest(path) for path in sorted(opened) if is_file(path)}
    if not (folder / "checkpoint.pt").is_file():
        own = recipe.name if translator.training else trained_by(translator.checkpoint)
        raise MissingError(
            f"{folder}: no translator there (checkpoint.pt); make it with `backattn translator train {own}`, "
            f"or point translator.checkpoint in the recipe at one"
        )
    # Other files in the folder (notes, older checkpoints) are not opened.
    files = (folder / name for name in ("checkpoint.pt", *dictionaries, "joint.model"))
    return {path.name: digest(path) for path in sorted(files) if is_file(path)}


def translator_folder(recipe: Recipe) -> Path:
    """The folder of a translator's files; for a model of a hub, where it was fetched to.

    :raises NotFetchedError: it was not fetched.
    """
    translator = recipe.translator
    assert isinstance(translator, ModelTranslator)
    if not translator.hub:
        return model_path(translator.checkpoint)
    if not isinstance(translator, TransformersRecipe):
        return _recorded(recipe, "fairseq", translator.hub)
    folder = _snapshot(recipe, translator.hub, translator.revision)
    try:
        marian_files(folder)
    except MissingError as error:
        raise _not_fetched(recipe, translator.hub, str(error)) from None
    return folder


def absent_parts(recipe: Recipe) -> list[str]:
    """Files beside a fairseq checkpoint that its loading will miss, a line each."""
    translator = recipe.translator
    if not isinstance(translator, FairseqRecipe) or not translator.checkpoint:
        return []
    folder = model_path(translator.checkpoint)
    names = (f"dict.{translator.source}.txt", "dict.en.txt", "joint.model")
    return [
        f"{folder / name}: not there; translator.checkpoint of the recipe {recipe.name} names a translator "
        f"from {translator.source}, whose folder needs checkpoint.pt, {', '.join(names[:-1])} and {names[-1]}"
        for name in names
        if is_file(folder / "checkpoint.pt") and not is_file(folder / name)
    ]


def _snapshot(recipe: Recipe, name: str, revision: str) -> Path:
    """The folder of a model's snapshot; its name is the commit."""
    snapshot = local_snapshot(name, revision)
    if snapshot is None:
        raise _not_fetched(recipe, name, f"{hub_cache()} has no snapshot of it")
    return snapshot.folder


def _recorded(recipe: Recipe, hub: OtherHub, name: str) -> Path:
    place = recorded_place(hub, name)
    if place is None:
        raise _not_fetched(
            recipe, name, f"no record of where it is; {hub.split()[0]} may have it in its own cache"
        )
    return place


def _not_fetched(recipe: Recipe, name: str, reason: str) -> NotFetchedError:
    return NotFetchedError(
        f"{name}: not fetched yet ({reason}); `backattn features {recipe.name}` fetches it; until then the "
        "name of its store is not known"
    )


def transfer_files(recipe: Recipe) -> dict[str, str]:
    """Sha256 of each file that T is computed with, given the translations."""
    return english_files(recipe) | links_files(recipe)


def english_files(recipe: Recipe, digest: Digest = file_digest) -> dict[str, str]:
    """Sha256 of the English tagger's file; the pinned one of a model of the hub, which is compared later."""
    english = recipe.english_tagger
    if english.hub and english.sha256:
        return {english.hub: english.sha256.lower()}
    path = english_path(recipe)
    return {english.hub or path.name: digest(path)}


def english_path(recipe: Recipe) -> Path:
    """The English tagger's file; for a model of flair's hub, where it was fetched to.

    :raises NotFetchedError: it was not fetched.
    :raises MissingError: there is no such file; says how to get one.
    """
    english = recipe.english_tagger
    if english.hub:
        return _recorded(recipe, "flair tagger", english.hub)
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
            "model, or name a public one (english.hub); `train --inputs words` needs none"
        )
    return path


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


def embedding_files(recipe: Recipe, name: EmbeddingName, digest: Digest = file_digest) -> dict[str, str]:
    """Sha256 of each file of an embedding's model, and the commit of a model of the hub.

    :raises MissingError: they are not there; says how to get them.
    """
    tables = recipe.embeddings
    if name == "fasttext":
        assert tables.fasttext is not None  # validated in the recipe
        files = [fasttext_path(tables.fasttext)]
        advice = "fetch a .vec or .bin file from fasttext.cc, or point embeddings.fasttext.vectors at one"
        if checkpoint := tables.fasttext.checkpoint:
            own = recipe.name if tables.fasttext.training else trained_by(checkpoint)
            advice = f"make it with `backattn vectors train {own}`"
    elif name == "charlm":
        assert tables.charlm is not None
        if tables.charlm.hub:
            pins = tables.charlm.sha256 or map(digest, charlm_paths(recipe))
            return {name: pin.lower() for name, pin in zip(CHARLM_DIRECTIONS, pins, strict=True)}
        folder = model_path(tables.charlm.checkpoint)
        files = [folder / "backward.safetensors", folder / "forward.safetensors"]
        own = recipe.name if tables.charlm.training else trained_by(tables.charlm.checkpoint)
        advice = f"make both directions with `backattn charlm train {own}`"
    else:
        assert tables.bert is not None
        folder = bert_folder(recipe)
        if tables.bert.hub:
            return {COMMIT: folder.name} | {own: digest(folder / own) for own in read_encoder(folder).files}
        files = [folder / CONFIG]
        if is_file(files[0]):
            files = [folder / name for name in read_encoder(folder).files]
        advice = "point embeddings.bert.checkpoint at the folder of a transformers model, or name a hub's"
    for path in files:
        if not is_file(path):
            raise MissingError(f"{path}: not there; {advice}")
    return {path.name: digest(path) for path in sorted(set(files))}


def fasttext_path(fasttext: FastTextRecipe) -> Path:
    """The file of fastText vectors: one from elsewhere, or that of a training here."""
    folder = fasttext.checkpoint
    return model_path(folder) / VECTORS if folder else data_path(fasttext.vectors)


def charlm_paths(recipe: Recipe) -> list[Path]:
    """The two files of flair's hub, forward first, where they were fetched to.

    :raises NotFetchedError: they were not fetched.
    """
    charlm = recipe.embeddings.charlm
    assert charlm is not None
    names = [f"{charlm.hub}-{direction}" for direction in CHARLM_DIRECTIONS]
    return [_recorded(recipe, "flair language model", name) for name in names]


def bert_folder(recipe: Recipe) -> Path:
    """The folder of a BERT-like encoder; for a model of the hub, where it was fetched to.

    :raises NotFetchedError: it was not fetched.
    """
    bert = recipe.embeddings.bert
    assert bert is not None
    if not bert.hub:
        return model_path(bert.checkpoint)
    folder = _snapshot(recipe, bert.hub, bert.revision)
    if lacks_encoder_parts(folder):
        raise _not_fetched(recipe, bert.hub, f"{folder} is not whole")
    return folder
