"""Write a recipe as TOML. What comes from outside is quoted, so that it stays a value."""

from collections.abc import Mapping, Sequence

# A value of a recipe that is written.
Value = str | bool | int | float | Sequence[str]
_ESCAPED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def to_toml(about: str, tables: Mapping[str, Mapping[str, Value]], comments: Mapping[str, str]) -> str:
    """The text of a recipe.

    :param about: the comment in its first line.
    :param tables: name of a table -> its keys and values, in the order of the file.
    :param comments: dotted key -> comment behind it; name of a table -> comment above its keys. These, the
        names and ``about`` are the program's own words: nothing quotes them.
    """
    lines = [f"# {about}"]
    for name, table in tables.items():
        lines += ["", f"[{name}]"]
        if name in comments:
            lines.append(f"# {comments[name]}")
        for key, value in table.items():
            comment = comments.get(f"{name}.{key}")
            lines.append(f"{key} = {_written(value)}{f' # {comment}' if comment else ''}")
    return "\n".join(lines) + "\n"


def _written(value: Value) -> str:
    if isinstance(value, str):
        return f'"{"".join(map(_character, value))}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return f"[{', '.join(map(_written, value))}]"


def _character(character: str) -> str:
    """A character of a TOML string; escaped where a reader could not see it, or TOML does not allow it."""
    if character in _ESCAPED:
        return _ESCAPED[character]
    return character if character.isprintable() else f"\\U{ord(character):08x}"
