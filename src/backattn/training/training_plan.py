"""Plan the trainings of a recipe's stage-one models, in the order of their dependencies.

Loads no model: the packages of a training are imported when it begins.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from backattn.common.atomic_files import is_file
from backattn.common.errors import MissingError, NotFetchedError, RecipeError
from backattn.common.extras import Extra
from backattn.models.model_digests import VECTORS, missing_models
from backattn.models.training_manifest import MANIFEST
from backattn.recipe import (
    FairseqRecipe,
    ModelTranslator,
    Recipe,
    data_path,
    load_english,
    load_recipe,
    model_path,
    trained_by,
)
from backattn.recipe.file_keys import file_keys
from backattn.training.training_job import is_whole

SHARED_ENGLISH = "english"


class TrainingReport(Protocol):
    """The report of a training."""

    def to_text(self) -> str:
        """The report for a reader."""

    def to_json(self) -> dict[str, object]:
        """The report as plain JSON values."""


@dataclass(frozen=True)
class Training:
    """A training that a recipe needs.

    :param lang: the recipe that describes it.
    :param folder: of its result.
    :param own: it is described by the recipe that the plan is for, not by another one.
    :param reads: key and path of each data file that it reads.
    :param files: model files; one of them without a manifest is a model from elsewhere.
    :param run: ``run(threads, replace)`` trains; see the trainings' own functions.
    """

    kind: Literal["translator", "English tagger", "character language models", "fastText vectors"]
    lang: str
    folder: Path
    own: bool
    reads: tuple[tuple[str, str], ...]
    files: tuple[str, ...]
    run: Callable[[int | None, bool], TrainingReport]

    @property
    def extra(self) -> Extra:
        """The extra of the installation that brings the packages of the training."""
        found: dict[str, Extra] = {"translator": "fairseq", "fastText vectors": "vectors"}
        return found.get(self.kind, "flair")

    def begins(self, *, replace: bool = False, others: bool = False) -> bool:
        """Whether ``backattn models`` runs it: no model is there, or the model's settings must be compared.

        The model of another recipe may have other settings than that recipe has now.

        :param replace: models that have other settings are trained anew.
        :param others: those of other recipes as well.
        """
        state = self.state()
        return state == "to train" or (state == "there" and (self.own or (replace and others)))

    def state(self) -> Literal["there", "to train", "brought"]:
        """``there``: trained, with whatever settings; ``brought``: the user has put a model there."""
        if is_file(self.folder / MANIFEST):
            return "there" if is_whole(self.folder) else "to train"
        return "brought" if any(is_file(self.folder / name) for name in self.files) else "to train"


def missing_data(found: Sequence[Training]) -> list[MissingError]:
    """List the data files that are missing for trainings still to be done, with recipe and key."""
    return [
        MissingError(
            f"{data_path(name)}: no such file ({key} of the {'' if training.own else 'other '}recipe "
            f"{training.lang}, for its {training.kind})"
        )
        for training in found
        if training.state() == "to train"
        for key, name in training.reads
        if not is_file(data_path(name))
    ]


def trainings(recipe: Recipe, *, replace: bool = False) -> list[Training]:
    """List the trainings that a recipe's models need, in the order in which they must be done.

    A model of the hub, or one that no recipe of ``pipelines/`` describes, has none. A parent translator that
    is gone is not listed when its child is there.

    :param replace: models that are there may be trained anew, so that their parents are needed as well.
    :raises RecipeError: another recipe that describes a model cannot be read.
    """
    return [
        *_translator(recipe, recipe.name, (), replace),
        *_english(recipe),
        *_charlm(recipe),
        *_vectors(recipe),
    ]


def untrained(recipe: Recipe, found: Sequence[Training]) -> list[MissingError]:
    """List the missing models of a recipe that none of the trainings makes."""
    charlm, fasttext = recipe.embeddings.charlm, recipe.embeddings.fasttext
    places = {
        "charlm": model_path(charlm.checkpoint if charlm else ""),
        "fasttext": model_path(fasttext.checkpoint if fasttext else ""),
    }
    if isinstance(recipe.translator, ModelTranslator):
        places["translator"] = model_path(recipe.translator.checkpoint)
    if recipe.english:
        places["english"] = model_path(recipe.english.checkpoint).parent
    made = {training.folder for training in found}
    missing = missing_models(recipe)
    missing.pop("links", None)  # not a model: made from the translations, once they are there
    return [
        error
        for name, error in missing.items()
        if places.get(name) not in made and not isinstance(error, NotFetchedError)
    ]


def _translator(recipe: Recipe, asked: str, children: tuple[str, ...], replace: bool) -> Iterator[Training]:
    """List the training of the translator, by this or another recipe, after those of its parents."""
    translator = recipe.translator
    if not isinstance(translator, FairseqRecipe) or translator.hub:
        return
    training = translator.training
    own = _translator_training(recipe, translator, asked) if training else None
    descendants = (*children, recipe.name)
    other = _described(training.parent if training else translator.checkpoint, descendants)
    if other:
        # A parent that is gone is not trained for a child that is there.
        there = own is not None and own.state() in (("brought",) if replace else ("brought", "there"))
        if not there or _translator_training(*other, asked).state() != "to train":
            yield from _translator(other[0], asked, descendants, replace)
    if own:
        yield own


def _described(checkpoint: str, but: tuple[str, ...]) -> tuple[Recipe, FairseqRecipe] | None:
    """Find the recipe that trains a translator, none of ``but``, and its table; None if no recipe does."""
    if checkpoint and (name := trained_by(checkpoint)) not in but:
        with suppress(MissingError):  # no recipe has that name
            other = load_recipe(name)
            table = other.translator
            if isinstance(table, FairseqRecipe) and table.training and _same(table.checkpoint, checkpoint):
                return other, table
    return None


def _translator_training(recipe: Recipe, translator: FairseqRecipe, asked: str) -> Training:
    folder = model_path(translator.checkpoint)

    def run(threads: int | None, replace: bool) -> TrainingReport:
        from backattn.training.translator.train import train_translator

        return train_translator(recipe, folder=folder, threads=threads, progress=True, replace=replace)

    files = ("checkpoint.pt", "config.json")
    reads = tuple(file_keys(translator.training, "translator.training"))
    return Training("translator", recipe.name, folder, recipe.name == asked, reads, files, run)


def _english(recipe: Recipe) -> Iterator[Training]:
    english, lang = recipe.english, recipe.name
    if english is None or english.hub:
        return
    if english.training is None:
        with suppress(MissingError, RecipeError):  # not there, or without a training
            shared = load_english(SHARED_ENGLISH)
            if _same(shared.checkpoint, english.checkpoint):
                english, lang = shared, SHARED_ENGLISH
    if english.training is None:
        return
    described, folder = english, model_path(english.checkpoint).parent

    def run(threads: int | None, replace: bool) -> TrainingReport:
        from backattn.training.english.train import train_english

        return train_english(
            described, lang=lang, folder=folder, threads=threads, progress=True, replace=replace
        )

    files = (model_path(english.checkpoint).name,)
    reads = tuple(file_keys(english.training, "english.training"))
    yield Training("English tagger", lang, folder, lang == recipe.name, reads, files, run)


def _describing(recipe: Recipe, name: Literal["charlm", "fasttext"]) -> tuple[Recipe, Any] | None:
    """Find the recipe that trains an embedding, this or another one, and its table; None if none does."""
    table = getattr(recipe.embeddings, name)
    if name not in recipe.tagger.embeddings or table is None or not table.checkpoint:
        return None
    if table.training:
        return recipe, table
    with suppress(MissingError):
        other = load_recipe(trained_by(table.checkpoint))
        found = getattr(other.embeddings, name)
        if found and found.training and _same(found.checkpoint, table.checkpoint):
            return other, found
    return None


def _charlm(recipe: Recipe) -> Iterator[Training]:
    found = _describing(recipe, "charlm")
    if found is None:
        return
    described, table = found
    folder = model_path(table.checkpoint)

    def run(threads: int | None, replace: bool) -> TrainingReport:
        from backattn.training.charlm.train import train_charlm

        return train_charlm(described, folder=folder, threads=threads, progress=True, replace=replace)

    files = ("forward.safetensors",)
    reads = tuple(file_keys(table.training, "embeddings.charlm.training"))
    yield Training(
        "character language models", described.name, folder, described is recipe, reads, files, run
    )


def _vectors(recipe: Recipe) -> Iterator[Training]:
    found = _describing(recipe, "fasttext")
    if found is None:
        return
    described, table = found
    folder = model_path(table.checkpoint)

    def run(threads: int | None, replace: bool) -> TrainingReport:
        from backattn.training.vectors.train import train_vectors

        return train_vectors(described, folder=folder, threads=threads, progress=True, replace=replace)

    reads = [
        *file_keys(table.training, "embeddings.fasttext.training"),
        *file_keys(described.parallel_text, "translator.training.parallel"),
    ]
    own = described is recipe
    yield Training("fastText vectors", described.name, folder, own, tuple(reads), (VECTORS,), run)


def _same(one: str, other: str) -> bool:
    return bool(one) and model_path(one) == model_path(other)
