"""Describe every key of a recipe: type, default, and meaning, from the docstring of its table."""

import difflib
import inspect
import json
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec.structs import FieldInfo, fields

from backattn.common.errors import RecipeError
from backattn.common.safe_text import listed, quoted
from backattn.recipe.constraints import IN_WORDS, Table
from backattn.recipe.schema import Recipe

# ":param a, b: meaning", up to the next field of the docstring.
_PARAM = re.compile(r":param ([\w, ]+): (.*?)(?=\n\s*:\w+|\Z)", re.S)
_NOUNS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
_TABLE = {False: "table", True: "list of tables"}
# A role of Sphinx around a name: ":class:`~module.Name`".
_ROLE = re.compile(r":\w+:`~?([\w.]+)`")
_WIDTH = 100


@dataclass(frozen=True)
class Key:
    """One key of a recipe.

    :param name: dotted name; ``[]`` follows the name of a list of tables.
    :param values: description of its type and default.
    :param meaning: description of the key; may be empty.
    """

    name: str
    values: str
    meaning: str

    def to_text(self) -> str:
        """Format the key on one line, with its meaning below."""
        indent = " " * 4
        below = textwrap.wrap(
            self.meaning, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
        )
        return "\n".join([f"{self.name}  ({self.values})", *below])


def recipe_keys(below: str = "") -> list[Key]:
    """List the keys of a recipe, in the order of its tables; keys of equal tables are listed once.

    :param below: list only this key and those of its table (``tagger``, ``translator.training``).
    :raises RecipeError: there is no such key.
    """
    found = list(_keys(Recipe, "", below.replace("[]", ""), {}))
    if not found:
        tables = [name for name in fields_of(Recipe) if name != "name"]
        near = difflib.get_close_matches(below, [key.name for key in recipe_keys()] + tables, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise RecipeError(f"{quoted(below)}: no such key; {meant}the tables of a recipe are {listed(tables)}")
    return found


def fields_of(hint: Any, value: Any = None) -> dict[str, Any]:
    """Return the keys of a table and their types; of a table with kinds, those of the kind in ``value``.

    :param hint: a class of the recipe, or a union of such classes.
    """
    kinds = kinds_of(hint)
    chosen = kinds.get(str(value.get("kind"))) if isinstance(value, Mapping) else None
    if chosen is None and len(kinds) > 1:
        return {"kind": Literal[tuple(kinds)]}
    cls = chosen or _table(_required(hint))
    if cls is None:
        return {}
    kind: dict[str, Any] = {"kind": Literal[tuple(kinds)]} if kinds else {}
    return kind | {field.name: field.type for field in fields(cls)}


def kinds_of(hint: Any) -> dict[str, type[Table]]:
    """Return the classes of a table with kinds, by kind; empty for a table without kinds."""
    classes = [hint] if inspect.isclass(hint) else typing.get_args(_required(hint))
    tables = [cls for cls in classes if inspect.isclass(cls) and issubclass(cls, Table)]
    return {str(cls.__struct_config__.tag): cls for cls in tables if cls.__struct_config__.tag is not None}


def type_at(hint: Any, table: Any, steps: Sequence[str]) -> Any:
    """Return the type of a place in a recipe.

    :param hint: type of the table.
    :param table: its value, which says the kinds of tables.
    :param steps: keys and indices of list entries; ``...`` for any key.
    """
    for step in steps:
        hint = _required(hint)
        if _table(hint) is not None or kinds_of(hint):
            known = fields_of(hint, table)
            hint, table = known.get(step), table.get(step) if isinstance(table, Mapping) else None
        elif step.isdigit():
            hint = typing.get_args(_bare(hint))[0]
            table = table[int(step)] if isinstance(table, list | tuple) else None
        else:
            hint, table = typing.get_args(_bare(hint))[1], None
    return hint


def in_words(hint: Any) -> str:
    """Describe the values of a type for a message."""
    hint = _required(hint)
    if hint in IN_WORDS:
        return IN_WORDS[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        meta = arguments[1]
        if meta.min_length:
            return in_words(arguments[0]).replace("a list", "a non-empty list", 1)
        return in_words(arguments[0]) + _bounds(meta)
    if origin is Literal:
        return " | ".join(json.dumps(choice) for choice in arguments)
    if kinds_of(hint) or _table(hint) is not None:
        return "a table"
    if origin in (types.UnionType, typing.Union):
        return " or ".join(map(in_words, arguments))
    if origin is tuple:
        return "a list of tables" if _table(arguments[0]) else f"a list, each entry {in_words(arguments[0])}"
    if origin is Mapping:
        return f"a table, each value {in_words(arguments[1])}"
    return _NOUNS[hint]


def _bounds(meta: msgspec.Meta) -> str:
    if meta.ge is None:
        return f" above {meta.gt:g}" if meta.gt is not None else ""
    if meta.lt is not None:
        return f" from {meta.ge:g} to below {meta.lt:g}"
    return f" from {meta.ge:g} to {meta.le:,}" if meta.le is not None else f" of at least {meta.ge:g}"


def _keys(cls: type[Table], prefix: str, below: str, shown: dict[Any, str]) -> Iterator[Key]:
    """Yield the keys of a table that lie below a key.

    :param shown: tables whose keys were listed already -> where.
    """
    meanings = _meanings(cls)
    for field in fields(cls):
        name, hint = prefix + field.name, _required(field.type)
        wanted = f"{name.replace('[]', '')}.".startswith(f"{below}." if below else "")
        meaning = meanings.get(field.name, "")
        kinds, many = kinds_of(hint), typing.get_origin(_bare(hint)) is tuple
        table = _table(typing.get_args(_bare(hint))[0] if many else hint)
        if table is None and not kinds:
            if wanted and name != "name":  # which is the name of the file
                yield Key(name, f"{in_words(hint)}; {_default(field)}", meaning)
            continue
        name += "[]" * many
        if wanted and (table or hint) in shown:
            same = f"Its keys are those of {shown[table or hint]}."
            yield Key(name, _TABLE[many], f"{meaning or _summary(hint, table)} {same}")
            continue
        if wanted:
            shown[table or hint] = name
            yield Key(name, _TABLE[many], meaning or _summary(hint, table))
        if len(kinds) == 1 and f"{name}.kind.".replace("[]", "").startswith(f"{below}." if below else ""):
            (kind,) = map(json.dumps, kinds)
            yield Key(f"{name}.kind", f"{kind}; default {kind}", "")
        if len(kinds) > 1:
            default = field.default.__struct_config__.tag if isinstance(field.default, Table) else ""
            yield from _keys_of_kinds(kinds, f"{name}.", below, shown, default)
        elif table is not None:
            yield from _keys(table, f"{name}.", below, shown)


def _keys_of_kinds(
    kinds: Mapping[str, type[Table]], prefix: str, below: str, shown: dict[Any, str], default: Any
) -> Iterator[Key]:
    """Yield the keys of a table with several kinds, each once, with the kinds that have it.

    :param default: the default kind; empty for none.
    """
    if f"{prefix}kind.".startswith(f"{below}." if below else ""):
        choices = " | ".join(map(json.dumps, kinds))
        meaning = " ".join(f"{kind}: {_summary(cls, cls)}" for kind, cls in kinds.items())
        yield Key(
            f"{prefix}kind", f"{choices}; " + (f'default "{default}"' if default else "required"), meaning
        )
    known: dict[str, list[str]] = {}
    for kind, cls in kinds.items():
        for field in fields(cls):
            known.setdefault(field.name, []).append(kind)
    seen = set()
    for cls in kinds.values():
        for key in _keys(cls, prefix, below, shown):
            name = key.name.removeprefix(prefix).partition(".")[0].removesuffix("[]")
            if key.name not in seen:
                own = f"; kind {' or '.join(known[name])}" if len(known[name]) < len(kinds) else ""
                yield Key(key.name, key.values + own, key.meaning)
            seen.add(key.name)


def _bare(hint: Any) -> Any:
    """Return a type without its bounds."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def _required(hint: Any) -> Any:
    """Return ``X`` for ``X | None``."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        found = [one for one in typing.get_args(hint) if one is not types.NoneType]
        return found[0] if len(found) == 1 else hint
    return hint


def _table(hint: Any) -> type[Table] | None:
    """Return the class of a table without a choice of kinds; None for any other type."""
    return hint if inspect.isclass(hint) and issubclass(hint, Table) else None


def _default(field: FieldInfo) -> str:
    if field.default is None:
        return "optional"
    if field.default is not msgspec.NODEFAULT:
        return f"default {json.dumps(field.default, ensure_ascii=False)}"
    return "required" if field.default_factory is msgspec.NODEFAULT else "default {}"


def _meanings(cls: type[Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in reversed([base for base in cls.__mro__ if issubclass(base, Table)]):
        for names, meaning in _PARAM.findall(inspect.cleandoc(one.__doc__ or "")):
            found.update(dict.fromkeys(names.split(", "), _plain(meaning)))
    return found


def _summary(hint: Any, table: type[Table] | None) -> str:
    if table is None:
        return "The other keys depend on kind."
    return _plain((inspect.getdoc(table) or "").partition("\n\n")[0])


def _plain(text: str) -> str:
    return " ".join(_ROLE.sub(r"\1", text).split()).replace("``", "`")
