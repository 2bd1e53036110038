"""Every key of a recipe, with its default and what its dataclass' docstring says of it."""

import dataclasses
import inspect
import json
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from backattn.errors import RecipeError
from backattn.quoting import listed, quoted
from backattn.recipe.schema import Recipe

# ":param a, b: meaning", up to the next field of the docstring.
_PARAM = re.compile(r":param ([\w, ]+): (.*?)(?=\n\s*:\w+|\Z)", re.S)
_NOUNS = {str: "text", int: "whole number", float: "number", bool: "true or false"}
_TABLE = {False: "table", True: "list of tables"}
# A role of Sphinx around a name: ":class:`~module.Name`".
_ROLE = re.compile(r":\w+:`~?([\w.]+)`")
_WIDTH = 100


@dataclass(frozen=True)
class Key:
    """One key of a recipe.

    :param name: dotted; ``[]`` stands for each entry of a list of tables.
    :param values: what it may be, and its default, in words.
    :param meaning: empty where the name says it.
    """

    name: str
    values: str
    meaning: str

    def to_text(self) -> str:
        """The key on a line, its meaning below."""
        indent = " " * 4
        below = textwrap.wrap(self.meaning, _WIDTH, initial_indent=indent, subsequent_indent=indent)
        return "\n".join([f"{self.name}  ({self.values})", *below])


def recipe_keys(below: str = "") -> list[Key]:
    """The keys of a recipe, in the order of its tables; those of like tables stand once.

    :param below: only this key and those of its table (``tagger``, ``translator.training``).
    :raises RecipeError: there is no such key.
    """
    found = list(_keys(Recipe, "", below.replace("[]", ""), {}))
    if not found:
        tables = [field.name for field in dataclasses.fields(Recipe) if field.name != "name"]
        raise RecipeError(f"{quoted(below)}: no key of a recipe; its tables are {listed(tables)}")
    return found


def _keys(cls: type[Any], prefix: str, below: str, shown: dict[Any, str]) -> Iterator[Key]:
    """The keys of a table that lie below one.

    :param shown: tables whose keys stand there already, and where.
    """
    meanings, hints = _meanings(cls), typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        name, hint = prefix + field.name, _required(hints[field.name])
        wanted = f"{name.replace('[]', '')}.".startswith(f"{below}." if below else "")
        meaning = meanings.get(field.name, "")
        table, many = _table(hint)
        if table is None:
            if wanted and name != "name":  # which is that of the file
                yield Key(name, f"{_words(hint)}; {_default(field)}", meaning)
            continue
        name += "[]" * many
        if wanted and table in shown:
            same = f"Its keys are those of {shown[table]}."
            yield Key(name, _TABLE[many], f"{meaning or _summary(table)} {same}")
            continue
        if wanted:
            shown[table] = name
            yield Key(name, _TABLE[many], meaning or _summary(table))
        yield from _keys(table, f"{name}.", below, shown)


def _required(hint: Any) -> Any:
    """``X`` of ``X | None``."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is types.UnionType else hint


def _table(hint: Any) -> tuple[type[Any] | None, bool]:
    """The dataclass of a table or of a list of tables, and whether it is a list."""
    many = typing.get_origin(hint) is tuple
    table = typing.get_args(hint)[0] if many else hint
    return (typing.cast(type[Any], table) if dataclasses.is_dataclass(table) else None), many


def _words(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " | ".join(json.dumps(choice) for choice in arguments)
    if origin is tuple:
        return f"list of {_words(arguments[0])}"
    if origin is Mapping:
        return f"table of {_words(arguments[1])}"
    return _NOUNS[hint]


def _default(field: Any) -> str:
    if field.default is None:
        return "may be left out"
    if field.default is not dataclasses.MISSING:
        return f"default {json.dumps(field.default, ensure_ascii=False)}"
    return "must be given" if field.default_factory is dataclasses.MISSING else "default {}"


def _meanings(cls: type[Any]) -> dict[str, str]:
    found = {}
    for names, meaning in _PARAM.findall(inspect.getdoc(cls) or ""):
        found.update(dict.fromkeys(names.split(", "), _plain(meaning)))
    return found


def _summary(cls: type[Any]) -> str:
    return _plain((inspect.getdoc(cls) or "").partition("\n\n")[0])


def _plain(text: str) -> str:
    return " ".join(_ROLE.sub(r"\1", text).split()).replace("``", "`")
