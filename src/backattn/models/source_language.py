"""Compare a recipe's source language with the languages that its files and models are named after.

A recipe that was copied from one for another language may still name files of that language, and runs.
"""

import re
from collections.abc import Iterator
from pathlib import PurePath

from backattn.common.atomic_files import is_file
from backattn.recipe import CharLmRecipe, FairseqRecipe, ModelTranslator, Recipe, model_path
from backattn.recipe.file_keys import file_keys

# A pair of languages in a name: es-en, en_es. Codes of three letters would match other words (wmt-en).
_PAIR = re.compile(r"(?<![A-Za-z])(?:([a-z]{2})[-_]en|en[-_]([a-z]{2}))(?![A-Za-z])")
_SUFFIX = re.compile(r"\.([a-z]{2})")
# Codes of one language, or of languages that corpora put together.
_SAME = ({"no", "nb", "nn"}, {"he", "iw"}, {"id", "in"}, {"sr", "hr", "bs", "sh"})


def source_disagreements(recipe: Recipe) -> list[str]:
    """One line for each key whose files are named after another language than ``translator.source``."""
    source = recipe.translator.source
    return [
        f'recipe {recipe.name}: translator.source is "{source}", but {key} ({name}) is of "{other}"; change '
        "one of the two, if this recipe was copied from one for another language"
        for key, name, other in _languages(recipe)
        if not _same(source, other)
    ]


def _languages(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    """Iterate over keys that name something of a language: the key, what it names, and the language."""
    translator, charlm = recipe.translator, recipe.embeddings.charlm
    seen: set[tuple[str, str]] = set()  # a line for each table and language, not for each of its files
    for table, key in (
        (translator, "translator"),
        (recipe.alignment, "alignment"),
        (charlm.training if isinstance(charlm, CharLmRecipe) else None, "embeddings.charlm.training"),
    ):
        for own, name in file_keys(table, key):
            other = _language_of(name)
            if ".back_translation." not in own and other and (key, other) not in seen:
                seen.add((key, other))
                yield own, name, other
    if isinstance(translator, ModelTranslator) and translator.hub and (other := _language_of(translator.hub)):
        yield "translator.hub", translator.hub, other
    if isinstance(translator, FairseqRecipe):
        yield from _fairseq_languages(translator, {other for key, other in seen if key == "translator"})


def _fairseq_languages(translator: FairseqRecipe, of_files: set[str]) -> Iterator[tuple[str, str, str]]:
    """The language of the trained translator, and of its parent.

    Parents are of another language on purpose; one is reported only if the parallel files are of it, too.
    """
    if translator.checkpoint and (other := _recorded_language(translator.checkpoint, translator.source)):
        yield "translator.checkpoint", translator.checkpoint, other
    training = translator.training
    if training and training.parent:
        other = _recorded_language(training.parent, translator.source)
        if other in of_files:
            yield "translator.training.parent", training.parent, other


def _recorded_language(checkpoint: str, source: str) -> str:
    """The other language than English of a translator's dictionaries; empty where ``source`` has one."""
    folder = model_path(checkpoint)
    if is_file(folder / f"dict.{source}.txt"):
        return ""
    names = sorted(path.name for path in folder.glob("dict.*.txt"))
    return next((name.split(".")[1] for name in names if name != "dict.en.txt"), "")


def _language_of(name: str) -> str:
    """The language that a name pairs with English, or that its suffix says; empty where it says none."""
    pairs: set[str] = {one or other for one, other in _PAIR.findall(name)}
    if len(pairs) == 1:
        return pairs.pop()
    suffix = _SUFFIX.fullmatch(PurePath(name).suffix)
    return str(suffix[1]) if suffix and suffix[1] in pairs else ""


def _same(one: str, other: str) -> bool:
    first, second = (re.split("[-_]", code.lower())[0] for code in (one, other))
    return first == second or any({first, second} <= group for group in _SAME)
