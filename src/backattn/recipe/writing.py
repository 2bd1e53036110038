"""Write a recipe as TOML. Values from outside are quoted, so that they stay values."""

from collections.abc import Mapping, Sequence

# A value that can be written to a recipe.
Value = str | bool | int | float | Sequence[str]
_ESCAPED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def to_toml(about: str, tables: Mapping[str, Mapping[str, Value]], comments: Mapping[str, str]) -> str:
    """Format a recipe as TOML.

    :param about: the comment in its first line.
    :param tables: name of a table -> its keys and values, in the order of the file.
    :param comments: dotted key -> comment behind it; name of a table -> comment above its keys. These, the
        names and ``about`` are the program's own words, and are not quoted.
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
    """Escape a character of a TOML string if it is invisible or TOML does not allow it."""
    if character in _ESCAPED:
        return _ESCAPED[character]
    return character if character.isprintable() else f"\\U{ord(character):08x}"
