"""Tables of JSON values by dotted keys, and where two of them differ."""

from collections.abc import Iterator, Mapping
from typing import Any


def flatten(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of all that tables hold."""
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from flatten(item, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted key, old and new value of each difference; None stands for a key that is not there."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}):
            yield from differences(old.get(name), new.get(name), f"{key}.{name}" if key else str(name))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from differences(one, other, f"{key}[{number}]")
    elif old != new:
        yield key, old, new
