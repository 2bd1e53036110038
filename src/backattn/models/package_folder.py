"""Read a packaged run: the folder of a run with its models, or with their names and digests.

The folder may come from a stranger, so nothing outside of it is opened but the caches of hubs and, where it
only names its models, files below the user's own folders. No link in it is followed, and no path of its
``recipe.json``: a model lies in ``models/KEY``, or where ``package.json`` names a place without ``..``. The
digests of ``package.json`` find damage. They vouch for no pickle, since a stranger could have written them.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from msgspec import Meta
from msgspec.structs import replace

from backattn.common.atomic_files import is_file
from backattn.common.digests import file_digest
from backattn.common.errors import MissingError, ModelError, RecipeError
from backattn.common.json_files import read_table
from backattn.common.safe_text import quoted, shortened
from backattn.recipe import (
    CopyRecipe,
    DictionaryRecipe,
    EmbeddingsRecipe,
    FairseqRecipe,
    Recipe,
    TransformersRecipe,
    data_path,
    model_path,
)
from backattn.recipe.constraints import Digest, Table
from backattn.recipe.conversion import convert

# Marks a folder as a packaged run; lists its files.
PACKAGE = "package.json"
PACKAGE_FORMAT = 1
# Folder of the models in it, each in a folder named after its table in the recipe.
MODELS = "models"
ADVICE = "get the package anew, or make it anew with `backattn package RUN DIR`"
_MOST_FILES = 10_000
_SHOWN = 24  # characters of a digest in messages: its two ends
_Digests = Mapping[str, Digest]
# Tables of a recipe that name a model.
ModelKey = Literal["translator", "english", "embeddings.fasttext", "embeddings.charlm", "embeddings.bert"]


class PackagedModel(Table, frozen=True, kw_only=True):
    """A model that the run needs.

    :param hub: its name on a hub, for one that is fetched.
    :param commit: its commit on the Hugging Face hub; empty where the hub has none.
    :param files: name -> sha256 of the files that are opened.
    :param below: the files are not in the package: the folder where they are looked for, ``BACKATTN_CACHE``
        or ``BACKATTN_DATA``; empty where they are in the package.
    :param place: their folder below that one.
    """

    hub: str = ""
    commit: Annotated[str, Meta(pattern=r"^([0-9a-f]{40})?\Z")] = ""
    files: Mapping[str, Digest] = {}
    below: Literal["", "BACKATTN_CACHE", "BACKATTN_DATA"] = ""
    place: str = ""

    def __post_init__(self) -> None:
        for name in self.files:
            if not is_file_name(name):
                raise ValueError(f"files: expected names of files without a folder, found {quoted(name)}")
        if not is_place(self.place):
            raise ValueError(f"place: expected folders without .. and ${{}}, found {quoted(self.place)}")


class PackageManifest(Table, frozen=True, kw_only=True):
    """The values of ``package.json``.

    :param run: name -> sha256 of the files of the run.
    :param models: table of the recipe (``translator``, ``embeddings.charlm``) -> its model.
    """

    format: Literal[PACKAGE_FORMAT]  # type: ignore[valid-type]
    lang: str
    run: _Digests
    models: Mapping[ModelKey, PackagedModel]

    @property
    def files(self) -> set[str]:
        """The files of the run, and of the models in the package, as paths with slashes."""
        held = {key: model for key, model in self.models.items() if not (model.hub or model.below)}
        return {*self.run, *(f"{MODELS}/{key}/{name}" for key, model in held.items() for name in model.files)}


def is_file_name(name: str) -> bool:
    """Whether a text names a file in a folder, and nothing else."""
    return name not in ("", ".", "..") and not set("/\\\0") & set(name)


def is_place(place: str) -> bool:
    """Whether a text is a relative path that leads below its root; empty for the root itself."""
    unusual = place.startswith("/") or "${" in place or "\0" in place
    return not unusual and ".." not in PurePosixPath(place).parts


@dataclass(frozen=True)
class Package:
    """A packaged run whose files are those that its manifest lists."""

    folder: Path
    manifest: PackageManifest

    def recipe(self, recipe: Recipe) -> Recipe:
        """Return a recipe with the places of the package's models instead of its own paths.

        :raises RecipeError: the folder has a name that a recipe cannot hold, or the run needs an aligner's
            links.
        """
        if recipe.transfer.attention == "links":
            raise RecipeError(
                f"{self.folder}: was trained on an aligner's links (transfer.attention), and nobody has "
                "linked new text; package a run on the translator's own attention"
            )
        return replace(
            recipe,
            translator=self._translator(recipe),
            english=recipe.english
            and replace(
                recipe.english,
                checkpoint="" if recipe.english.hub else self._file("english"),
                sha256=next(iter(self._pins("english")), recipe.english.sha256),
                training=None,
            ),
            embeddings=self._embeddings(recipe.embeddings),
            transfer=replace(recipe.transfer, links=None),
            alignment=None,
        )

    def _translator(self, recipe: Recipe) -> Any:
        translator = recipe.translator
        if isinstance(translator, CopyRecipe):
            return translator
        if isinstance(translator, DictionaryRecipe):
            return replace(translator, dictionary=self._file("translator"))
        checkpoint = "" if translator.hub else str(self.place("translator"))
        if isinstance(translator, FairseqRecipe):
            return replace(translator, checkpoint=checkpoint, training=None)
        assert isinstance(translator, TransformersRecipe)
        revision = self._commit("translator", translator.revision)
        return replace(translator, checkpoint=checkpoint, revision=revision)

    def _embeddings(self, tables: EmbeddingsRecipe) -> EmbeddingsRecipe:
        fasttext, charlm, bert = tables.fasttext, tables.charlm, tables.bert
        return replace(
            tables,
            fasttext=fasttext
            and replace(fasttext, vectors=self._file("embeddings.fasttext"), checkpoint="", training=None),
            charlm=charlm
            and replace(
                charlm,
                checkpoint="" if charlm.hub else str(self.place("embeddings.charlm")),
                sha256=self._pins("embeddings.charlm") or charlm.sha256,
                training=None,
            ),
            bert=bert
            and replace(
                bert,
                checkpoint="" if bert.hub else str(self.place("embeddings.bert")),
                revision=self._commit("embeddings.bert", bert.revision),
            ),
        )

    def _model(self, key: ModelKey) -> PackagedModel:
        return self.manifest.models.get(key, PackagedModel())

    def _commit(self, key: ModelKey, revision: str) -> str:
        return self._model(key).commit or revision

    def _pins(self, key: ModelKey) -> tuple[str, ...]:
        """The digests of the files of a hub's model, in the order of the recipe."""
        model = self._model(key)
        return tuple(model.files.values()) if model.hub else ()

    def place(self, key: ModelKey) -> Path:
        """The folder of a model's files.

        :raises RecipeError: its path holds what a recipe reads as a variable, or is not UTF-8.
        """
        model = self._model(key)
        if model.below:
            root = data_path if model.below == "BACKATTN_DATA" else model_path
            path = root("") / model.place
        else:
            path = self.folder / MODELS / key
        path = path.absolute()
        if "${" in str(path) or any("\ud800" <= character <= "\udfff" for character in str(path)):
            raise RecipeError(
                f"{path}: a packaged run does not work in a folder of that name (no UTF-8, or ${{ in it); "
                "rename it"
            )
        return path

    def _file(self, key: ModelKey) -> str:
        """The one file of a model; one that is not there where the package has no such model."""
        return str(self.place(key) / next(iter(self._model(key).files), "missing"))

    def require_models(self) -> None:
        """Require that the files of the models are there.

        :raises MissingError: one is not; names its digest where the package does not hold it.
        """
        for key, name, path, sha256 in self._files():
            if not is_file(path):
                below = self.manifest.models[key].below
                raise MissingError(
                    f"{path}: no such file; {self.folder} names this model ({key}) and does not hold it: put "
                    f"{shortened(name)} with sha256 {sha256} there, below {below}"
                    if below
                    else f"{path}: missing in this package; {ADVICE}"
                )

    def require_digests(self) -> None:
        """Require that the models are those that the package names.

        :raises ModelError: a file differs.
        """
        for key, _, path, sha256 in self._files():
            _require_digest(path, sha256, f"(model {key})")

    def _files(self) -> list[tuple[ModelKey, str, Path, str]]:
        """Key, name, path and digest of each file of a model that is no hub's."""
        return [
            (key, name, self.place(key) / name, sha256.lower())
            for key, model in self.manifest.models.items()
            if not model.hub
            for name, sha256 in model.files.items()
        ]


def open_package(folder: Path) -> Package | None:
    """Open a packaged run; None for the folder of any other run.

    :raises ModelError: it holds a link or a file that its manifest does not list, or a file was changed.
    """
    if not os.path.lexists(folder / PACKAGE):
        return None
    found = _files_without_links(folder)
    where = str(folder / PACKAGE)
    manifest = read_manifest(folder)
    for name, sha256 in manifest.run.items():
        if not is_file_name(name) or name not in found:
            raise ModelError(f"{where}: lists {quoted(name)}, which is no file there; {ADVICE}")
        _require_digest(folder / name, sha256.lower(), "")
    read = (name for name in found if "/" not in name and name.endswith((".json", ".safetensors")))
    unlisted = sorted({*read} - {*manifest.run, PACKAGE})
    if unlisted:  # there is no digest to compare it with
        raise ModelError(f"{where}: does not list {quoted(unlisted[0])}, which the folder holds; {ADVICE}")
    stray = sorted(name for name in found - manifest.files if name.startswith(f"{MODELS}/"))
    if stray:
        raise ModelError(f"{folder}: holds {quoted(stray[0])}, which {PACKAGE} does not list; remove it")
    return Package(folder, manifest)


def read_manifest(folder: Path) -> PackageManifest:
    """Read the ``package.json`` of a folder.

    :raises MissingError: there is none.
    :raises ModelError: it is damaged, or another program's.
    """
    path = folder / PACKAGE
    try:
        return convert(PackageManifest, read_table(path, ADVICE), str(path))
    except RecipeError as error:
        raise ModelError(f"{error}; {ADVICE}") from None


def _files_without_links(folder: Path) -> set[str]:
    """List the files below a folder, as paths with slashes.

    :raises ModelError: something is neither a file nor a folder, or there are very many.
    """
    found: set[str] = set()
    entries = 0
    for parent, folders, files in os.walk(folder):
        entries += len(folders) + len(files)
        for name in (*folders, *files):
            path = Path(parent, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                found.add(path.relative_to(folder).as_posix())
            elif not stat.S_ISDIR(mode):
                raise ModelError(f"{path}: is a link, a pipe or a device, which no package has; remove it")
        if entries > _MOST_FILES:
            raise ModelError(
                f"{folder}: holds more than {_MOST_FILES:,} files, which no package does; {ADVICE}"
            )
    return found


def _require_digest(path: Path, sha256: str, what: str) -> None:
    found = file_digest(path)
    if found != sha256:
        raise ModelError(
            f"{path}: sha256 is {shortened(found, _SHOWN)}, but {PACKAGE} says {shortened(sha256, _SHOWN)}"
            f"{f' {what}' if what else ''}: damaged or changed; {ADVICE}"
        )
