"""Derive from the names of licences what a run's data and models may be used for."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from backattn.recipe import (
    UNKNOWN,
    CopyRecipe,
    DictionaryFile,
    EnglishFile,
    EnglishRecipe,
    EnglishTraining,
    FairseqRecipe,
    ParallelFile,
    Recipe,
    TranslatorTraining,
)
from backattn.recipe.embeddings import CharLmTraining

NO_COMMERCE = "not for commercial use"
NO_PASSING_ON = "not to be passed on"
NO_CHANGES = "not to be passed on when changed, as by training on it"
NOT_KNOWN = "not known: ask who made it before you pass it on"
# What the text of a licence contains -> what that means; in any case of letters.
_RESTRICTIONS = (
    (re.compile(r"\bNC\b|non-?commercial|no commercial|\bresearch\b", re.I), NO_COMMERCE),
    (re.compile(r"\bND\b|no-?deriv", re.I), NO_CHANGES),
    (re.compile(r"\bLDC|no passing on|not be passed on|no redistribution", re.I), NO_PASSING_ON),
)
# Licences of which the hub's model cards know the name: that name is their identifier in lower case.
_OF_THE_HUB = frozenset(
    {"mit", "apache-2.0", "cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0",
     "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "bsd-3-clause",
     "gpl-3.0", "lgpl-3.0", "odbl"}
)  # fmt: skip


@dataclass(frozen=True)
class Licensed:
    """Data or a model that a run was made from.

    :param what: key of the recipe, and for a file its path.
    :param licence: as the recipe says it.
    """

    what: str
    licence: str

    @property
    def restrictions(self) -> tuple[str, ...]:
        """What the licence forbids, and :data:`NOT_KNOWN` if it is unknown."""
        found = tuple(meaning for pattern, meaning in _RESTRICTIONS if pattern.search(self.licence))
        unknown = self.licence.lower().startswith(UNKNOWN)
        return (*found, NOT_KNOWN) if unknown else found


def licensed_parts(recipe: Recipe, tables: Iterable[str]) -> tuple[Licensed, ...]:
    """List the corpus, and the models of some tables of a recipe with the files that they were trained on.

    :param tables: those whose models the run reads (``translator``, ``embeddings.charlm``).
    """
    found = [Licensed("corpus", recipe.corpus.licence)]
    for key in tables:
        found += dict.fromkeys(_parts(recipe, key))
    return tuple(found)


def _parts(recipe: Recipe, key: str) -> Iterator[Licensed]:
    if key == "translator":
        translator = recipe.translator
        if not isinstance(translator, CopyRecipe):
            yield Licensed(key, translator.licence)
        if isinstance(translator, FairseqRecipe) and translator.training:
            yield from _of_translator(translator.training)
        return
    table: Any = recipe.english
    if key != "english":
        table = getattr(recipe.embeddings, key.removeprefix("embeddings."))
    yield Licensed(key, table.licence)
    training = getattr(table, "training", None)
    if isinstance(table, EnglishRecipe) and training:
        yield from _of_english(training)
    elif training:
        yield from _of_charlm(training, key)
        translator = recipe.translator
        if key == "embeddings.fasttext" and isinstance(translator, FairseqRecipe) and translator.training:
            for file in translator.training.parallel:  # their foreign sides
                yield Licensed(f"{key}.training: {shown_path(file.path)}", file.licence)


def _of_translator(training: TranslatorTraining) -> Iterator[Licensed]:
    back = training.back_translation
    files: list[ParallelFile | DictionaryFile | EnglishFile] = [*training.parallel, *training.dictionaries]
    files += [*back.parallel, *back.columns] if back else []
    for file in files:
        yield Licensed(f"translator.training: {shown_path(file.path)}", file.licence)


def _of_english(training: EnglishTraining) -> Iterator[Licensed]:
    for file in training.files:
        if file.use != "test":
            yield Licensed(f"english.training: {shown_path(file.path)}", file.licence)
    if training.charlm and training.charlm.training:
        yield from _of_charlm(training.charlm.training, "english.training.charlm")


def _of_charlm(training: CharLmTraining, key: str) -> Iterator[Licensed]:
    for file in training.files:
        yield Licensed(f"{key}.training: {shown_path(file.path)}", file.licence)


def shown_path(path: str) -> str:
    """Return a path as it is published: of an absolute one, which may name a person, the last part."""
    return PurePosixPath(path).name if path.startswith(("/", "$")) else path


def warnings(parts: Sequence[Licensed]) -> tuple[str, ...]:
    """One line for each restriction of use, with the parts that have it; none for what is not known."""
    lines = []
    for _, meaning in _RESTRICTIONS:
        named = [f"{part.what} ({part.licence})" for part in parts if meaning in part.restrictions]
        if named:
            lines.append(f"{meaning}: {'; '.join(named)}")
    return tuple(lines)


def hub_licence(parts: Iterable[Licensed]) -> str:
    """The licence in the terms of the hub's model cards: ``other`` where there are several."""
    found = {part.licence.lower() for part in parts}
    if all(licence.startswith(UNKNOWN) for licence in found):
        return UNKNOWN
    (one, *more) = found
    return one if not more and one in _OF_THE_HUB else "other"
