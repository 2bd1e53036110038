"""Load recipes (``pipelines/*.toml``, or the package's own) as :class:`Recipe`, checked completely.

Unknown keys, missing keys and values of the wrong type or range are refused with file and key.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec

from backattn.common.atomic_files import is_file
from backattn.common.errors import MissingError, RecipeError
from backattn.common.regular_files import open_regular
from backattn.common.safe_text import listed, plain, quoted, shortened
from backattn.recipe.conversion import convert, replace_kinds
from backattn.recipe.paths import EPOCHS, model_path
from backattn.recipe.schema import NAME, EnglishRecipe, Recipe

PIPELINES = Path("pipelines")
# Key of the licence of a file or a model, in many tables.
LICENCE = "licence"
# The recipes that are installed with the package; a link to the repository's pipelines/ in a source tree.
PACKAGED = Path(__file__).parents[1] / "pipelines"
# Far more than a recipe has. The time that tomllib takes grows with the square of a key's dots, and what is
# nested too deep raises a RecursionError in it.
_LONGEST = 1 << 17
_MOST_DOTS = 1000


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Load ``pipelines/<name>.toml``, else the package's recipe, or a path that ends in ``.toml``.

    :param overrides: ``key.path=value`` texts that replace single values (``tagger.epochs=3``).
    :raises MissingError: there is no such recipe.
    :raises RecipeError: names the file and the key.
    """
    table, path = _read(name, overrides)
    if "corpus" not in table:
        raise RecipeError(
            f"{path}: no [corpus] table, so it cannot be run as LANG; "
            f"choose one of {listed(available_recipes()) or 'none here'}"
        )
    # The wrong value may come from --set.
    return from_json({"name": path.stem, **table}, f"{path} with --set" if overrides else str(path))


def recipe_name(lang: str) -> str:
    """Return the name of a recipe that is given by its name or path.

    :raises RecipeError: it is not a valid name of a folder below ``cache/``.
    """
    name = Path(lang).stem if lang.endswith(".toml") else lang
    if not NAME.fullmatch(name):
        raise RecipeError(
            f"LANG {quoted(lang)}: expected the name of a recipe (letters, digits, . _ and -) or the path of "
            f"one that ends in .toml; here are {listed(available_recipes()) or 'none'}"
        )
    return name


def load_english(name: str, overrides: Sequence[str] = ()) -> EnglishRecipe:
    """Load only the ``[english]`` table, which must have a training.

    A recipe that only describes an English tagger (``pipelines/english.toml``) needs no other table.
    """
    table, path = _read(name, overrides)
    english = table.get("english")
    if not isinstance(english, dict) or "training" not in english:
        raise RecipeError(
            f"{path}: no [english.training]: this recipe describes no training of an English "
            "tagger; `backattn english train english` trains the one of pipelines/english.toml"
        )
    return convert(EnglishRecipe, english, str(path), "english")


def available_recipes() -> list[str]:
    """List the names of the recipes that have a corpus: those of ``pipelines/`` and of the package."""
    return [known.name for known in known_recipes()]


@dataclass(frozen=True)
class KnownRecipe:
    """A recipe that commands find by its name.

    :param about: the comment in its first line; empty where it begins otherwise.
    """

    name: str
    path: Path
    about: str


def known_recipes() -> list[KnownRecipe]:
    """Find the recipes with a corpus, sorted by name."""
    return list(_with_a_corpus(_paths()))


def _paths() -> list[Path]:
    """List the files of recipes, sorted by name; one of ``pipelines/`` hides the package's of that name."""
    found = {path.stem: path for folder in (PACKAGED, PIPELINES) for path in folder.glob("*.toml")}
    return [path for _, path in sorted(found.items())]


def trained_by(checkpoint: str) -> str:
    """Name the recipe whose training writes a checkpoint, for a message.

    ``zh`` for ``zh/translator``, and for one of its epochs (``zh/translator.epochs/3``); ``LANG`` where no
    recipe has that name.
    """
    folder = model_path(checkpoint).parent
    name = (folder.parent if folder.suffix == EPOCHS else folder).name
    return name if name in available_recipes() else "LANG"


def english_trained_by(checkpoint: str) -> str:
    """Name the recipe whose training writes the checkpoint of an English tagger; empty where none does."""
    for path in _paths():
        with suppress(RecipeError, MissingError):  # without such a training, or not readable
            if model_path(load_english(str(path)).checkpoint) == model_path(checkpoint):
                return path.stem
    return ""


def _with_a_corpus(paths: Iterable[Path]) -> Iterator[KnownRecipe]:
    """Yield the recipes with a corpus, without parsing: a damaged recipe must not hide the others."""
    for path in paths:
        try:
            with open_regular(path) as file:
                text = file.read(_LONGEST).decode("utf-8", "replace").removeprefix("\ufeff")
        except OSError:
            continue
        if re.search(r"^\[corpus\]", text, re.M):
            first = re.match(r"#\s*(.*)", text)
            yield KnownRecipe(path.stem, path, shortened(first[1].rstrip()) if first else "")


def as_json(part: Any) -> dict[str, Any]:
    """Convert a recipe, or one of its tables, to plain JSON values, for digests and artefacts."""
    return cast(dict[str, Any], msgspec.json.decode(msgspec.json.encode(part)))


def without_licences(value: Any) -> Any:
    """Leave out the licences of plain JSON values: they do not affect results."""
    if isinstance(value, Mapping):
        return {key: without_licences(item) for key, item in value.items() if key != LICENCE}
    return [without_licences(item) for item in value] if isinstance(value, list) else value


def from_json(table: Any, where: str) -> Recipe:
    """Convert plain JSON values to a recipe, the inverse of :func:`as_json`.

    :raises RecipeError: names ``where`` and the key.
    """
    return convert(Recipe, table, where)


def _read(name: str, overrides: Sequence[str]) -> tuple[dict[str, Any], Path]:
    known = recipe_name(name)
    path = Path(name) if name.endswith(".toml") else _path_of(known)
    if not is_file(path):
        if os.path.exists(path):
            raise RecipeError(f"{path}: not a regular file; expected the name or path of a recipe")
        near = difflib.get_close_matches(known, available_recipes(), 1)
        meant = f"did you mean {plain(near[0])}? " if near else ""
        raise MissingError(f"{path}: no such recipe; {meant}here are {listed(available_recipes()) or 'none'}")
    try:
        with open_regular(path) as file:
            table = _parse(file.read(_LONGEST + 1).decode("utf-8").removeprefix("\ufeff"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: not readable as TOML: {shortened(str(error))}") from None
    values = [_override_value(override) for override in overrides]
    replace_kinds(table, values)
    for (key, value), override in zip(values, overrides, strict=True):
        _set(table, key, value, override)
    return table, path


def _path_of(name: str) -> Path:
    own, packaged = (folder / f"{name}.toml" for folder in (PIPELINES, PACKAGED))
    return packaged if is_file(packaged) and not os.path.lexists(own) else own


def _parse(text: str) -> dict[str, Any]:
    """Parse TOML.

    :raises ValueError: it is not TOML, or larger than a recipe may be.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"longer than {_LONGEST:,} characters")
    if any(line.count(".") > _MOST_DOTS for line in text.split("\n")):
        raise ValueError(f"a line with more than {_MOST_DOTS:,} dots")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _override_value(override: str) -> tuple[str, Any]:
    """Split a ``--set`` into key and value."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise RecipeError(f"--set {plain(override)}: expected KEY=VALUE, as in tagger.epochs=3")
    try:
        parsed = _parse(f"value = {text}")
    except ValueError:
        parsed = {}
    # A bare word is a string: --set transfer.eos=keep. So is text that would be several lines of TOML.
    return dotted, parsed["value"] if parsed.keys() == {"value"} else text


def _set(table: dict[str, Any], dotted: str, value: Any, override: str) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {plain(override)}: {plain(parent)} is a value, not a table")
    table[last] = value
