"""Convert plain tables into the classes of a recipe with msgspec; errors name file, key and expected value.

msgspec checks types, ranges and unknown keys. This module rewrites its errors in the terms of a recipe, and
first refuses values that no recipe holds (half a surrogate pair, an integer of 1000 digits, deep nesting).
"""

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from backattn.common.errors import RecipeError
from backattn.common.safe_text import plain, quoted, shortened
from backattn.recipe.keys import fields_of, in_words, kinds_of, recipe_keys, type_at
from backattn.recipe.schema import Recipe

_T = TypeVar("_T")
# Kinds with reserved names that this version cannot read.
_NOT_BUILT = {
    "translator.kind": ("given",),
    "english.kind": ("transformers", "spacy"),
}
# Kind of a corpus.format that does not name its kind.
_FORMAT_KIND = "columns"
_DEEPEST = 16
# TOML's own integers.
_INTEGERS = range(-(2**63), 2**63)
# msgspec ends a message with the place of the value.
_PLACE = re.compile(r"(?P<message>.*?)(?: - at (?:`key` in )?`\$(?P<path>[^`]*)`)?", re.S)
# A message of a class's own check that begins with the name of a key.
_KEY_FIRST = re.compile(r"\w+(\[\d+\]|\.\w+)*: ")


def convert(cls: type[_T], table: Any, where: str, key: str = "") -> _T:
    """Convert a plain table into a recipe, or into one of its tables.

    :param where: the file, for messages.
    :param key: dotted key of the table in the recipe; empty for a whole recipe.
    :raises RecipeError: names ``where``, the key, what was expected and what was found.
    """
    _check_values(table, where, key)
    table = _with_format_kind(table)
    try:
        return msgspec.convert(table, cls)
    except msgspec.ValidationError as error:
        raise RecipeError(f"{where}: {_explain(str(error), cls, table, key)}") from None


def replace_kinds(table: dict[str, Any], overrides: Sequence[tuple[str, Any]]) -> None:
    """Drop from the tables of the file the keys that a ``kind`` given by ``--set`` does not have.

    :param overrides: key and value of each ``--set``.
    """
    for dotted, value in overrides:
        for *above, name in (["translator"], ["english"], ["corpus", "format"]):
            parent = _value(table, above)
            part = parent.get(name) if isinstance(parent, dict) else None
            if dotted == ".".join([*above, name, "kind"]) and isinstance(part, dict):
                known = kinds_of(type_at(Recipe, {}, [*above, name])).get(str(value))
                if known is not None and part.get("kind", _FORMAT_KIND) != value:
                    parent[name] = {k: v for k, v in part.items() if k in fields_of(known)}


def _with_format_kind(table: Any) -> Any:
    """Add the kind ``columns`` to a ``corpus.format`` that does not name its kind."""
    corpus = table.get("corpus") if isinstance(table, dict) else None
    part = corpus.get("format") if isinstance(corpus, dict) else None
    if not isinstance(corpus, dict) or not isinstance(part, dict) or "kind" in part:
        return table
    return {**table, "corpus": {**corpus, "format": {"kind": _FORMAT_KIND, **part}}}


def _explain(error: str, cls: type[Any], table: Any, key: str) -> str:
    found = _PLACE.fullmatch(error)
    assert found is not None
    message, path = found["message"], found["path"] or ""
    steps = re.findall(r"\.{3}|[^.\[\]]+", path)
    at = f"{key}{path}".lstrip(".")
    dotted = f"{at}." if at else ""
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", message, re.S):
        known = list(fields_of(type_at(cls, table, steps), _value(table, steps)))
        near = difflib.get_close_matches(unknown[1].lower(), known, 1) or _elsewhere(unknown[1], cls)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        beside = _value(table, [*steps, "kind"])
        kind = f" beside kind = {quoted(beside)}" if isinstance(beside, str) else ""
        return f"{dotted}{plain(unknown[1])}: unknown key{kind}; {meant}expected one of {', '.join(known)}"
    if missing := re.fullmatch(r"Object missing required field `(.*)`", message, re.S):
        hint = type_at(cls, table, [*steps, missing[1]])
        return f"{dotted}{missing[1]}: missing key; expected {in_words(hint)}"
    if not re.match(r"(Expected|Invalid) ", message):  # raised by a class's own check
        return f"{dotted if _KEY_FIRST.match(message) else f'{at}: ' if at else ''}{message}"
    hint, value = type_at(cls, table, steps), _value(table, steps)
    if steps[-1:] == ["..."]:  # msgspec does not name the key of a table whose keys are free
        name, value = next((name, v) for name, v in value.items() if not _fits(v, hint))
        at = f"{at.removesuffix('[...]')}.{plain(name)}"
    if value in _NOT_BUILT.get(at, ()):
        return f"{at}: {value} is planned and not built yet; expected {in_words(hint)}"
    return f"{at or 'the recipe'}: expected {in_words(hint)}; found {quoted(value)}"


def _fits(value: Any, hint: Any) -> bool:
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError:
        return False
    return True


def _elsewhere(name: str, cls: type[Any]) -> list[str]:
    """Up to three dotted keys of a recipe that end with this name: for ``--set epochs=3``, tagger.epochs."""
    keys = [key.name for key in recipe_keys()] if cls is Recipe else []
    return sorted((key for key in keys if key.endswith(f".{name}")), key=lambda key: key.count("."))[:3]


def _value(table: Any, steps: Sequence[str]) -> Any:
    """Return the value at a place; the enclosing table where the last step has no name."""
    for step in steps:
        if isinstance(table, Mapping) and step != "...":
            table = table.get(step)
        elif isinstance(table, list | tuple) and step.isdigit():
            table = table[int(step)]
    return table


def _check_values(value: Any, where: str, key: str, depth: int = 0) -> None:
    """Refuse values that no recipe holds: NUL (illegal in paths), half a surrogate pair, deep nesting."""
    if depth > _DEEPEST:
        raise RecipeError(f"{where}: {key}: nested too deep; found {quoted(value)}")
    if isinstance(value, Mapping):
        for name, item in value.items():
            dotted = shortened(f"{key}.{plain(str(name))}".lstrip("."))
            _check_values(name, where, dotted, _DEEPEST)
            _check_values(item, where, dotted, depth + 1)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            _check_values(item, where, f"{key}[{number}]", depth + 1)
    elif isinstance(value, str) and re.search("[\0\ud800-\udfff]", value):
        raise RecipeError(f"{where}: {key}: expected text, found {quoted(value)}")
    elif type(value) is int and value not in _INTEGERS:
        raise RecipeError(f"{where}: {key}: expected a number of at most 64 bits, found {quoted(value)}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"{where}: {key}: expected a finite number, found {value}")
