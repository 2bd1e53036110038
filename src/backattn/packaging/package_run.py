"""Package a finished run: its files, its models or their digests, and a model card, in one folder."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from msgspec import structs

from backattn.common.atomic_files import (
    entries_below,
    is_own_file,
    new_partial_folder,
    publish_folder,
    write_whole_text,
)
from backattn.common.digests import file_digest
from backattn.common.errors import (
    BackattnError,
    ModelError,
    RecipeError,
    StaleError,
    StoreError,
)
from backattn.common.regular_files import open_regular
from backattn.common.safe_text import printable, quoted
from backattn.corpus import Corpus
from backattn.corpus.formats import read_corpus
from backattn.corpus.statistics import CorpusStatistics, corpus_statistics
from backattn.corpus.tags import OUTSIDE, split_tag
from backattn.features.plan import Plan, Stage, make_plan
from backattn.models.flair_config import SUFFIX
from backattn.models.model_digests import COMMIT, fasttext_path
from backattn.models.package_folder import (
    MODELS,
    PACKAGE,
    PACKAGE_FORMAT,
    ModelKey,
    PackagedModel,
    PackageManifest,
    is_place,
    read_manifest,
)
from backattn.packaging.licences import licensed_parts, shown_path, warnings
from backattn.packaging.model_card import Card
from backattn.recipe import (
    CopyRecipe,
    DictionaryRecipe,
    FairseqRecipe,
    FastTextRecipe,
    Recipe,
    TransformersRecipe,
    as_json,
    data_path,
    from_json,
    model_path,
)
from backattn.tagger.run import WITH_STORE, Run, RunFolder, read_json, read_run

CARD = "README.md"
MOST_BYTES = 8 << 30  # of models that are copied; a mistake would fill a disk
Models = Literal["copy", "names"]
_Root = Literal["BACKATTN_CACHE", "BACKATTN_DATA"]
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Packaged:
    """Result of ``backattn package``: the new folder.

    :param bytes: its size.
    :param models: table of the recipe -> its model.
    :param warnings: that the run has learnt nothing, what licences forbid, and what the card lacks, a line
        each.
    """

    folder: Path
    bytes: int
    models: Mapping[ModelKey, PackagedModel]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        models = {key: as_json(model) for key, model in self.models.items()}
        return {**asdict(self), "folder": str(self.folder), "models": models, "warnings": list(self.warnings)}

    def to_text(self) -> str:
        """The folder with its models, and how to use it."""
        lines = [f"{self.folder}: {self.bytes:,} bytes; tag with it: backattn tag {self.folder} FILE"]
        for key, model in self.models.items():
            place = f"below {model.below}: {model.place}" if model.below else "copied"
            lines.append(f"  {key}: {f'of the hub: {model.hub}' if model.hub else place}")
        return "\n".join(map(printable, lines))


@dataclass(frozen=True)
class _Model:
    """A model with the places of its files.

    :param paths: name -> path of each file that the recipe names by a path.
    """

    packaged: PackagedModel
    paths: Mapping[str, Path]


def package_run(run: Path, folder: Path, *, models: Models = "copy", replace: bool = False) -> Packaged:
    """Package a finished run into a folder, which appears whole.

    :param models: copy those that lie in files, or write only their names and digests.
    :param replace: replace the folder if it is a packaged run.
    :raises MissingError: the run, its predictions or a model are missing.
    :raises RecipeError: the run cannot be packaged, the folder cannot be replaced, or the models are too
        large or have paths that no other machine has.
    :raises ModelError: the run is damaged.
    :raises StaleError: a model is not the one that the run has learnt from.
    :raises StoreError: the folder cannot be written.
    """
    found = read_run(run)
    _refuse_target(run, folder, replace=replace)
    if os.path.lexists(run / PACKAGE):
        raise RecipeError(f"{run}: is a packaged run already; copy the folder as it is")
    recipe = from_json(read_json(RunFolder(run).recipe), str(RunFolder(run).recipe))
    read = _models(found, recipe, models)
    _refuse_size({key: model for key, model in read.items() if not model.packaged.below})
    statistics, remarks = _statistics(found, recipe)
    licences = licensed_parts(recipe, read)
    named = {key: model.packaged for key, model in read.items()}
    card = Card(
        run=found, recipe=recipe, types=_types(run), models=named, statistics=statistics, licences=licences,
        pickles=_pickles(named),
    ).to_markdown()  # fmt: skip
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with new_partial_folder(folder) as made:
            _fill(made, found, recipe, read, card)
            size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
            _refuse_target(run, folder, replace=replace)  # another process may have made it meanwhile
            publish_folder(made, folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"{folder}: cannot be written ({reason}); free space or fix the folder") from None
    failure = [f"{run}: {found.failure}"] if found.failure else []
    return Packaged(folder, size, named, (*failure, *warnings(licences), *remarks))


def _refuse_target(run: Path, folder: Path, *, replace: bool) -> None:
    """Refuse a folder that may hold the user's own things, or would be part of the run.

    :raises RecipeError: names it.
    """
    place, source = folder.resolve(), run.resolve()
    if place == source or source in place.parents or place in source.parents:
        raise RecipeError(f"{folder}: lies in the run {run}, or around it; name a folder elsewhere")
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir() or os.path.ismount(folder):
        raise RecipeError(
            f"{folder}: is a link, a file or a disk, and is not replaced; name a folder that is not there"
        )
    if not replace:
        raise RecipeError(f"{folder}: is there already; add --replace, or name another folder")
    if not any(folder.iterdir()):
        return
    if not is_own_file(folder / PACKAGE):
        raise RecipeError(f"{folder}: is no packaged run (no {PACKAGE}), and is not replaced; name another")
    # npm's projects have a package.json too; and a package may have become a repository of git.
    try:
        written = {*read_manifest(folder).files, PACKAGE, CARD}
    except ModelError as error:
        raise RecipeError(f"{folder}: is no packaged run, and is not replaced ({error})") from None
    foreign = min((name for name in entries_below(folder) if name not in written), default="")
    if foreign:
        raise RecipeError(
            f"{folder}: holds {quoted(foreign)}, which no package does, and is not replaced; move that away, "
            "or name another folder"
        )


def _models(run: Run, recipe: Recipe, models: Models) -> dict[ModelKey, _Model]:
    """List the models that the run reads, in the order in which they are used.

    :raises StaleError: one is not the one that the run has learnt from.
    """
    if run.store is not None and recipe.transfer.attention == "links":
        raise RecipeError(
            f"{run.folder}: was trained on an aligner's links (transfer.attention), and nobody has linked "
            "new text; package a run on the translator's own attention"
        )
    plan = make_plan(recipe, Corpus((), (), ()))  # a store's id does not depend on the corpus
    found: dict[ModelKey, _Model] = {}
    if run.inputs in WITH_STORE and run.store is not None:
        _require_same(run, plan.transfer, run.store)
        if not isinstance(recipe.translator, CopyRecipe):
            found["translator"] = _translator(recipe, plan, models)
        found["english"] = _english(recipe, plan, models)
    for name, store in run.facts.embeddings.items():
        if name not in plan.embeddings:
            raise ModelError(f"{run.folder}: read {quoted(name)}, which its recipe.json lacks; train again")
        stage = plan.embeddings[name]
        _require_same(run, stage, store)
        table: Any = getattr(recipe.embeddings, name)
        key: Any = f"embeddings.{name}"
        if name == "fasttext":
            (sha256,) = stage.models.values()
            text, below = _fasttext_place(table)
            found[key] = _of_file(text, below, sha256, models)
        else:
            found[key] = _of_folder(table, stage.models, models)
    return found


def _fasttext_place(table: FastTextRecipe) -> tuple[str, _Root]:
    """Path of the vectors, and the folder that it is below."""
    if table.checkpoint:
        return f"{table.checkpoint}/{fasttext_path(table).name}", "BACKATTN_CACHE"
    return table.vectors, "BACKATTN_DATA"


def _require_same(run: Run, stage: Stage, store: str) -> None:
    if stage.recipe_id != store:
        raise StaleError(
            f"{run.folder}: has learnt from the {stage.kind} store {store[:14]}; the models that its "
            f"recipe.json names make {stage.recipe_id[:14]} now. Put those back, or train again"
        )


def _translator(recipe: Recipe, plan: Plan, models: Models) -> _Model:
    translator, digests = recipe.translator, plan.translation.models
    if isinstance(translator, DictionaryRecipe):
        return _of_file(translator.dictionary, "BACKATTN_DATA", digests["dictionary"], models)
    assert isinstance(translator, FairseqRecipe | TransformersRecipe)
    return _of_folder(translator, digests, models)


def _english(recipe: Recipe, plan: Plan, models: Models) -> _Model:
    english = recipe.english_tagger
    (sha256,) = plan.transfer.models.values()
    if english.hub:
        return _Model(PackagedModel(hub=english.hub, files={Path(english.hub).name: sha256}), {})
    return _of_file(english.checkpoint, "BACKATTN_CACHE", sha256, models)


def _of_folder(table: Any, digests: Mapping[str, str], models: Models) -> _Model:
    """A model of several files, of a hub or in a folder below the cache."""
    files = {name: sha256 for name, sha256 in digests.items() if name != COMMIT}
    if table.hub:
        return _Model(PackagedModel(hub=table.hub, commit=digests.get(COMMIT, ""), files=files), {})
    folder = model_path(table.checkpoint)
    paths = {name: folder / name for name in files}
    if models == "copy":
        return _Model(PackagedModel(files=files), paths)
    _refuse_place(table.checkpoint)
    return _Model(PackagedModel(files=files, below="BACKATTN_CACHE", place=table.checkpoint), paths)


def _of_file(text: str, below: _Root, sha256: str, models: Models) -> _Model:
    """A model of one file, named by a path of the recipe."""
    path = data_path(text) if below == "BACKATTN_DATA" else model_path(text)
    files, paths = {path.name: sha256}, {path.name: path}
    if models == "copy":
        return _Model(PackagedModel(files=files), paths)
    _refuse_place(text)
    place = Path(text).parent.as_posix()
    return _Model(PackagedModel(files=files, below=below, place="" if place == "." else place), paths)


def _refuse_place(text: str) -> None:
    if not is_place(text):
        raise RecipeError(
            f"--models names: the recipe names {quoted(text)}, which no other machine has; expected a path "
            "below BACKATTN_CACHE or BACKATTN_DATA without .., or --models copy"
        )


def _refuse_size(models: Mapping[ModelKey, _Model]) -> None:
    sizes = {key: sum(path.stat().st_size for path in model.paths.values()) for key, model in models.items()}
    if sum(sizes.values()) > MOST_BYTES:
        named = ", ".join(f"{key} {size / (1 << 30):.1f} GiB" for key, size in sizes.items() if size)
        raise RecipeError(
            f"the models have {sum(sizes.values()) / (1 << 30):.1f} GiB ({named}), and at most "
            f"{MOST_BYTES >> 30} GiB are copied; with --models names the folder holds their names and digests"
        )


def _types(run: Path) -> list[str]:
    """The entity types that the run can predict."""
    tags = read_json(RunFolder(run).vocabulary).get("tags")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ModelError(f"{RunFolder(run).vocabulary}: damaged (tags); train again")
    return sorted({split_tag(tag)[1] for tag in tags if tag != OUTSIDE})


def _pickles(models: Mapping[ModelKey, PackagedModel]) -> list[str]:
    """Digests of the models that are flair's own pickles."""
    found: list[str] = []
    for key, model in models.items():
        pickled = model.hub or not all(name.lower().endswith(SUFFIX) for name in model.files)
        if pickled and (key == "english" or (key == "embeddings.charlm" and model.hub)):
            found += model.files.values()
    return found


def _statistics(run: Run, recipe: Recipe) -> tuple[CorpusStatistics | None, list[str]]:
    """Count the corpus, if its files are those of the run; else return a line that says why not."""
    try:
        corpus = read_corpus(recipe.corpus)
    except (BackattnError, OSError) as error:
        return None, [f"the card has no statistics of the corpus: {error}"]
    if corpus.digest != run.facts.corpus:
        return None, [
            "the card has no statistics of the corpus: its files are not those that the run was trained on"
        ]
    return corpus_statistics(corpus), []


def _fill(made: Path, run: Run, recipe: Recipe, models: Mapping[ModelKey, _Model], card: str) -> None:
    """Write the files of a package into a new folder; ``package.json`` last."""
    files, own = RunFolder(run.folder), RunFolder(made)
    # Not the predictions: they hold the sentences of the corpus, which may not be passed on.
    for path in (files.manifest, files.vocabulary, files.epochs, files.weights):
        if not is_own_file(path):
            raise ModelError(f"{path}: is a link or missing, expected a file of the run; train again")
        _copy(path, made / path.name, file_digest(path))
    text = json.dumps(as_json(_impersonal(recipe)), ensure_ascii=False, indent=1)
    write_whole_text(own.recipe, text + "\n")
    for key, model in models.items():
        if model.packaged.below or model.packaged.hub:
            continue
        place = made / MODELS / key
        place.mkdir(parents=True)
        for name, path in model.paths.items():
            _copy(path, place / name, model.packaged.files[name])
    write_whole_text(made / CARD, card)
    manifest = PackageManifest(
        format=PACKAGE_FORMAT,
        lang=recipe.name,
        run={
            path.name: file_digest(path)
            for path in sorted(made.iterdir())
            if path.is_file() and path.name != CARD
        },
        models={key: model.packaged for key, model in models.items()},
    )
    write_whole_text(made / PACKAGE, json.dumps(as_json(manifest), ensure_ascii=False, indent=1) + "\n")


def _copy(source: Path, target: Path, sha256: str) -> None:
    """Copy a file while its digest is computed.

    :raises StaleError: it is not the file of that digest.
    """
    state = hashlib.sha256()
    with open_regular(source) as old, target.open("xb") as new:
        while block := old.read(_BLOCK):
            state.update(block)
            new.write(block)
        new.flush()
        os.fsync(new.fileno())
    if state.hexdigest() != sha256.lower():
        raise StaleError(f"{source}: was changed while this command ran; run it again")


def _impersonal(recipe: Recipe) -> Recipe:
    """Return the recipe without this machine's paths; those of models become unused placeholders."""
    corpus, translator, tables = recipe.corpus, recipe.translator, recipe.embeddings

    def placed(table: Any, key: str) -> Any:
        if table is None or isinstance(table, CopyRecipe):
            return table
        changed = dict.fromkeys(_places(table), f"{MODELS}/{key}")
        return structs.replace(table, **changed, **({"training": None} if hasattr(table, "training") else {}))

    return structs.replace(
        recipe,
        corpus=structs.replace(
            corpus, train=shown_path(corpus.train), dev=shown_path(corpus.dev), test=shown_path(corpus.test)
        ),
        translator=placed(translator, "translator"),
        english=placed(recipe.english, "english"),
        embeddings=structs.replace(
            tables,
            fasttext=placed(tables.fasttext, "embeddings.fasttext"),
            charlm=placed(tables.charlm, "embeddings.charlm"),
            bert=placed(tables.bert, "embeddings.bert"),
        ),
        transfer=structs.replace(
            recipe.transfer,
            links=None,
            attention="translator" if recipe.transfer.attention == "links" else recipe.transfer.attention,
        ),
        alignment=None,
    )


def _places(table: Any) -> Iterator[str]:
    """The keys of a table that hold the path of a model."""
    for name in ("checkpoint", "vectors", "dictionary"):
        if getattr(table, name, ""):
            yield name
