"""``pipelines/*.toml`` -> :class:`Recipe`. A recipe is read once, checked whole and then only passed on.

Unknown keys, missing keys and values of the wrong type or range are refused with file and key.
"""

import dataclasses
import math
import os
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from backattn.errors import MissingError, RecipeError
from backattn.files import is_file
from backattn.quoting import listed, plain, quoted, shortened
from backattn.recipe.paths import EPOCHS, model_path
from backattn.recipe.ranges import check_ranges
from backattn.recipe.schema import EnglishRecipe, Recipe
from backattn.regular_files import open_regular

PIPELINES = Path("pipelines")
# A recipe is read on one screen. tomllib takes time with the square of a key's dots, and its own errors
# for what is nested too deep.
_LONGEST = 1 << 17
_MOST_DOTS = 1000
# A name becomes a folder below cache/.
_NAME = re.compile(r"\w[\w.-]{0,99}")
# TOML's own integers.
_INTEGERS = range(-(2**63), 2**63)


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read ``pipelines/<name>.toml``, or a path that ends in ``.toml``.

    :param overrides: ``key.path=value`` texts that replace single values (``tagger.epochs=3``).
    :raises MissingError: there is no such recipe.
    :raises RecipeError: names the file and the key.
    """
    table, path = _read(name, overrides)
    if "corpus" not in table:
        raise RecipeError(
            f"{path}: no [corpus] table: this recipe has no LANG to run; "
            f"choose one of {listed(available_recipes()) or 'none here'}"
        )
    # A wrong value need not stand in the file.
    return from_json({"name": path.stem, **table}, f"{path} with --set" if overrides else str(path))


def recipe_name(lang: str) -> str:
    """The name that a recipe has by its LANG: itself, or that of its file.

    :raises RecipeError: it is no name, so that nothing below ``cache/`` can be called so.
    """
    name = Path(lang).stem if lang.endswith(".toml") else lang
    if not _NAME.fullmatch(name):
        raise RecipeError(
            f"LANG {quoted(lang)}: expected the name of a recipe (letters, digits, . _ and -) or the path of "
            f"one that ends in .toml; here are {listed(available_recipes()) or 'none'}"
        )
    return name


def load_english(name: str, overrides: Sequence[str] = ()) -> EnglishRecipe:
    """Read the ``[english]`` table alone, with the training that it must hold.

    A recipe that only describes an English tagger (``pipelines/english.toml``) needs nothing else.
    """
    table, path = _read(name, overrides)
    english = table.get("english")
    if not isinstance(english, dict) or "training" not in english:
        raise RecipeError(
            f"{path}: no [english.training]: this recipe says nothing about training an English "
            "tagger; `backattn english train english` does"
        )
    recipe = _build(EnglishRecipe, english, str(path), "english")
    check_ranges(recipe, str(path), "english.")
    return recipe


def available_recipes() -> list[str]:
    """Names of the recipes of ``pipelines/`` that describe a LANG."""
    return sorted(path.stem for path in PIPELINES.glob("*.toml") if _describes_a_lang(path))


def trained_by(checkpoint: str) -> str:
    """The recipe whose training leaves a model there, for a message.

    ``zh`` for ``zh/translator``, and for one of its epochs (``zh/translator.epochs/3``); ``LANG`` where no
    recipe has that name.
    """
    folder = model_path(checkpoint).parent
    name = (folder.parent if folder.suffix == EPOCHS else folder).name
    return name if name in available_recipes() else "LANG"


def _describes_a_lang(path: Path) -> bool:
    """Looked at, not parsed: a recipe that cannot be read must not hide the others from a message."""
    try:
        with open_regular(path) as file:
            return bool(re.search(rb"^\[corpus\]", file.read(_LONGEST), re.M))
    except OSError:
        return False


def as_json(recipe: Any) -> dict[str, Any]:
    """A (part of a) recipe as plain JSON values, for digests and for the artefacts."""
    return typing.cast(dict[str, Any], _plain(recipe))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def from_json(table: Mapping[str, Any], where: str) -> Recipe:
    """The inverse of :func:`as_json` for a whole recipe (a run folder keeps its own).

    :raises RecipeError: names ``where`` and the key.
    """
    recipe = _build(Recipe, table, where, "")
    if not _NAME.fullmatch(recipe.name):
        raise RecipeError(
            f"{where}: name: expected letters, digits, . _ and -, with none of the last two first; "
            f"found {quoted(recipe.name)}"
        )
    for key, part in (("translator", recipe.translator), ("english", recipe.english)):
        if bool(part.checkpoint) == bool(part.hub):
            raise RecipeError(f"{where}: {key}: give exactly one of checkpoint and hub")
    if recipe.translator.revision and "/" not in recipe.translator.hub:
        raise RecipeError(
            f"{where}: translator.revision: a commit of a Marian model on the hub, as in "
            "Helsinki-NLP/opus-mt-de-en, and here is none; take it away"
        )
    if recipe.translator.copy and recipe.translator.dictionary:
        raise RecipeError(f"{where}: translator: give at most one of copy and dictionary")
    if recipe.transfer.attention == "links" and recipe.transfer.links is None:
        raise RecipeError(
            f"{where}: transfer.attention: 'links' has no table; write one, [transfer.links], with the paths "
            "of what `backattn pairs` printed and of what an aligner made of it"
        )
    _check_embeddings(recipe, where)
    check_ranges(recipe, where)
    return recipe


def _check_embeddings(recipe: Recipe, where: str) -> None:
    """What the tagger reads is described, once, and each description is of one model."""
    tables, names = recipe.embeddings, recipe.tagger.embeddings
    for number, name in enumerate(names):
        key = f"tagger.embeddings[{number}]"
        if getattr(tables, name) is None:
            raise RecipeError(f"{where}: {key}: {name!r} has no table; write one, [embeddings.{name}]")
        if name in names[:number]:
            raise RecipeError(f"{where}: {key}: {name!r} is there twice; take one away")
    for name in ("charlm", "bert"):
        part = getattr(tables, name)
        if part is not None and bool(part.checkpoint) == bool(part.hub):
            raise RecipeError(f"{where}: embeddings.{name}: give exactly one of checkpoint and hub")
    if tables.bert is not None and tables.bert.revision and not tables.bert.hub:
        raise RecipeError(f"{where}: embeddings.bert.revision: a commit of the hub; take it away")
    if tables.charlm is not None and tables.charlm.sha256 and not tables.charlm.hub:
        raise RecipeError(
            f"{where}: embeddings.charlm.sha256: pins files of the hub, and here is none; take it away"
        )
    if tables.charlm is not None and len(tables.charlm.sha256) not in (0, 2):
        raise RecipeError(
            f"{where}: embeddings.charlm.sha256: expected two digests, forward first, or none; "
            f"found {len(tables.charlm.sha256)}"
        )


def _read(name: str, overrides: Sequence[str]) -> tuple[dict[str, Any], Path]:
    known = recipe_name(name)
    path = Path(name) if name.endswith(".toml") else PIPELINES / f"{known}.toml"
    if not is_file(path):
        if os.path.exists(path):
            raise RecipeError(f"{path}: not a file; name a recipe, or the path of one")
        names = listed(available_recipes()) or "none: run from the folder that holds pipelines/"
        raise MissingError(f"{path}: no such recipe; here are {names}")
    try:
        with open_regular(path) as file:
            table = _parse(file.read(_LONGEST + 1).decode("utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: not readable as TOML: {shortened(str(error))}") from None
    for override in overrides:
        _override(table, override)
    return table, path


def _parse(text: str) -> dict[str, Any]:
    """:raises ValueError: it is no TOML, or not of the size of a recipe."""
    if len(text) > _LONGEST:
        raise ValueError(f"longer than {_LONGEST:,} characters")
    if any(line.count(".") > _MOST_DOTS for line in text.split("\n")):
        raise ValueError(f"a line with more than {_MOST_DOTS:,} dots")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _override(table: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise RecipeError(f"--set {plain(override)}: expected KEY=VALUE, as in tagger.epochs=3")
    try:
        parsed = _parse(f"value = {text}")
    except ValueError:
        parsed = {}
    # A bare word is a string: --set transfer.eos=keep. So is a text that would be several lines of TOML.
    value = parsed["value"] if parsed.keys() == {"value"} else text
    *parents, last = dotted.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {plain(override)}: {plain(parent)} is a value, not a table")
    table[last] = value


_T = TypeVar("_T")


def _build(cls: type[_T], table: Any, path: str, key: str) -> _T:
    """Fill a dataclass from a TOML table, refusing what does not fit, with file and key."""
    if not isinstance(table, Mapping):
        raise RecipeError(f"{path}: {key}: expected a table, found {quoted(table)}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    dotted = f"{key}." if key else ""
    for name in table:
        if name not in fields:
            raise RecipeError(
                f"{path}: {dotted}{plain(name)}: unknown key; expected one of {', '.join(fields)}"
            )
    values = {name: _convert(hints[name], value, path, dotted + name) for name, value in table.items()}
    required = (
        name
        for name, described in fields.items()
        if described.default is dataclasses.MISSING and described.default_factory is dataclasses.MISSING
    )
    missing = [f"{dotted}{name}" for name in required if name not in values]
    if missing:
        raise RecipeError(f"{path}: {', '.join(missing)}: missing {'key' if len(missing) == 1 else 'keys'}")
    return cls(**values)


def _convert(hint: Any, value: Any, path: str, key: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in arguments or isinstance(value, bool):
            choices = ", ".join(map(str, arguments))
            raise RecipeError(f"{path}: {key}: expected one of {choices}; found {quoted(value)}")
        return value
    if origin is types.UnionType:  # only `X | None`
        return None if value is None else _convert(arguments[0], value, path, key)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise RecipeError(f"{path}: {key}: expected a list, found {quoted(value)}")
        return tuple(_convert(arguments[0], item, path, f"{key}[{i}]") for i, item in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise RecipeError(f"{path}: {key}: expected a table, found {quoted(value)}")
        for name in value:
            _check_text(name, path, f"{key}.{plain(name)}")
        return {
            name: _convert(arguments[1], item, path, f"{key}.{plain(name)}") for name, item in value.items()
        }
    if origin is None and dataclasses.is_dataclass(hint):
        return _build(typing.cast(type[Any], hint), value, path, key)
    if type(value) is int and hint in (int, float) and value not in _INTEGERS:
        raise RecipeError(f"{path}: {key}: expected a number of at most 64 bits, found {quoted(value)}")
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise RecipeError(f"{path}: {key}: expected {hint.__name__}, found {quoted(value)}")
    if type(value) is float and not math.isfinite(value):
        raise RecipeError(f"{path}: {key}: expected a finite number, found {value}")
    if type(value) is str:
        _check_text(value, path, key)
    return value


def _check_text(text: str, path: str, key: str) -> None:
    """Refuse what is no text: no path may hold a NUL, and no file a lone surrogate (JSON can name one)."""
    if re.search("[\0\ud800-\udfff]", text):
        raise RecipeError(f"{path}: {key}: expected text, found {quoted(text)}")
