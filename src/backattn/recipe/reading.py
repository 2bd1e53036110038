"""``pipelines/*.toml`` -> :class:`Recipe`. A recipe is read once, checked whole and then only passed on.

Unknown keys, missing keys and values of the wrong type or range are refused with file and key.
"""

import dataclasses
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from backattn.errors import MissingError, RecipeError
from backattn.recipe.schema import EnglishRecipe, Recipe

PIPELINES = Path("pipelines")


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
            f"choose one of {', '.join(available_recipes()) or 'none here'}"
        )
    recipe = _build(Recipe, {"name": path.stem, **table}, str(path), "")
    for key, part in (("translator", recipe.translator), ("english", recipe.english)):
        if bool(part.checkpoint) == bool(part.hub):
            raise RecipeError(f"{path}: {key}: give exactly one of checkpoint and hub")
    _check_ranges(recipe, str(path))
    return recipe


def load_english(name: str, overrides: Sequence[str] = ()) -> EnglishRecipe:
    """Read the ``[english]`` table alone, with the training that it must hold.

    A recipe that only describes an English tagger (``pipelines/english.toml``) needs nothing else.
    """
    table, path = _read(name, overrides)
    if "training" not in table.get("english", {}):
        raise RecipeError(
            f"{path}: no [english.training]: this recipe says nothing about training an English "
            "tagger; `backattn english train english` does"
        )
    recipe = _build(EnglishRecipe, table["english"], str(path), "english")
    _check_ranges(recipe, str(path), "english.")
    return recipe


def available_recipes() -> list[str]:
    """Names of the recipes of ``pipelines/`` that describe a LANG."""
    return sorted(
        path.stem
        for path in PIPELINES.glob("*.toml")
        if re.search(r"^\[corpus\]", path.read_text("utf-8"), re.M)
    )


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
    """The inverse of :func:`as_json` for a whole recipe (a run folder keeps its own)."""
    return _build(Recipe, table, where, "")


def _read(name: str, overrides: Sequence[str]) -> tuple[dict[str, Any], Path]:
    path = Path(name) if name.endswith(".toml") else PIPELINES / f"{name}.toml"
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        known = ", ".join(available_recipes()) or "none: run from the folder that holds pipelines/"
        raise MissingError(f"{path}: no such recipe; here are {known}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"{path}: not readable as TOML: {error}") from None
    for override in overrides:
        _override(table, override)
    return table, path


def _override(table: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise RecipeError(f"--set {override}: expected KEY=VALUE, as in tagger.epochs=3")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string: --set transfer.eos=keep
    *parents, last = dotted.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {override}: {parent} is a value, not a table")
    table[last] = value


_T = TypeVar("_T")


def _build(cls: type[_T], table: Any, path: str, key: str) -> _T:
    """Fill a dataclass from a TOML table, refusing what does not fit, with file and key."""
    if not isinstance(table, Mapping):
        raise RecipeError(f"{path}: {key}: expected a table, found {table!r}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    dotted = f"{key}." if key else ""
    for name in table:
        if name not in fields:
            raise RecipeError(f"{path}: {dotted}{name}: unknown key; expected one of {', '.join(fields)}")
    values = {name: _convert(hints[name], value, path, dotted + name) for name, value in table.items()}
    for name, described in fields.items():
        required = (
            described.default is dataclasses.MISSING and described.default_factory is dataclasses.MISSING
        )
        if required and name not in values:
            raise RecipeError(f"{path}: {dotted}{name}: missing key")
    return cls(**values)


def _convert(hint: Any, value: Any, path: str, key: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in arguments or isinstance(value, bool):
            choices = ", ".join(map(str, arguments))
            raise RecipeError(f"{path}: {key}: expected one of {choices}; found {value!r}")
        return value
    if origin is types.UnionType:  # only `X | None`
        return None if value is None else _convert(arguments[0], value, path, key)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise RecipeError(f"{path}: {key}: expected a list, found {value!r}")
        return tuple(_convert(arguments[0], item, path, f"{key}[{i}]") for i, item in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise RecipeError(f"{path}: {key}: expected a table, found {value!r}")
        return {name: _convert(arguments[1], item, path, f"{key}.{name}") for name, item in value.items()}
    if origin is None and dataclasses.is_dataclass(hint):
        return _build(typing.cast(type[Any], hint), value, path, key)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise RecipeError(f"{path}: {key}: expected {hint.__name__}, found {value!r}")
    return value


# Keys that must be above zero, and keys that are a share of one: checked for the whole recipe at once.
_POSITIVE = {"beam", "max_len_b", "segment_pieces", "batch_tokens", "word_dimensions", "hidden",
             "learning_rate", "batch", "epochs", "character_dimensions", "patience", "pieces",
             "max_tokens", "max_pieces", "average", "repeat", "clip_norm", "min_count"}  # fmt: skip
_SHARES = {"word_dropout", "dropout", "anneal", "label_smoothing"}
_NATURAL = {"sentences", "limit", "test_limit", "seed"}


def _check_ranges(part: Any, path: str, key: str = "") -> None:
    for name in (f.name for f in dataclasses.fields(part)):
        value, dotted = getattr(part, name), f"{key}{name}"
        if dataclasses.is_dataclass(value):
            _check_ranges(value, path, f"{dotted}.")
        elif isinstance(value, tuple):
            for number, item in enumerate(filter(dataclasses.is_dataclass, value)):
                _check_ranges(item, path, f"{dotted}[{number}].")
        elif name in _POSITIVE and not value > 0:
            raise RecipeError(f"{path}: {dotted}: expected more than 0, found {value}")
        elif name in _SHARES and not 0 <= value < 1:
            raise RecipeError(f"{path}: {dotted}: expected at least 0 and below 1, found {value}")
        elif name in _NATURAL and value < 0:
            raise RecipeError(f"{path}: {dotted}: expected 0 or more, found {value}")
