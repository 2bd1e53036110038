"""The files that the tables of a recipe name, with their keys."""

from collections.abc import Iterator
from typing import Any

import msgspec

_FILE_KEYS = frozenset({"path", "english_path", "links_path"})


def file_keys(table: Any, key: str) -> Iterator[tuple[str, str]]:
    """Iterate over the dotted key and the path of each file that a table and the tables in it name.

    :param key: of the table, such as ``translator.training``.
    """
    if isinstance(table, msgspec.Struct):
        for name in table.__struct_fields__:
            value = getattr(table, name)
            if name in _FILE_KEYS and value:
                yield f"{key}.{name}", value
            else:
                yield from file_keys(value, f"{key}.{name}")
    elif isinstance(table, tuple):
        for number, value in enumerate(table):
            yield from file_keys(value, f"{key}[{number}]")
