"""Parse JSON of unknown origin, and refuse what Python's parser would accept."""

from typing import Any, NoReturn

from backattn.common.json_files import parse
from backattn.common.safe_text import quoted


def parse_strictly(text: str) -> Any:
    """Parse one JSON value.

    :raises ValueError: it is not JSON, nested too deep, has a key twice (the parser would take the last), a
        number that is not finite, or an integer of thousands of digits.
    """
    return parse(text, object_pairs_hook=_table, parse_constant=_not_finite, parse_float=_finite)


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in pairs:
        if name in table:
            raise ValueError(f"the key {quoted(name)} twice")
        table[name] = value
    return table


def _not_finite(name: str) -> NoReturn:
    raise ValueError(f"the number {name}")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"the number {quoted(text)}, which is too large")
    return number
