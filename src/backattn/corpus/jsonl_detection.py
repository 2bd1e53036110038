"""Find the fields of JSON lines: tokens and tags, or running text and its spans."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from msgspec import structs

from backattn.common.errors import CorpusError
from backattn.common.safe_text import listed, quoted
from backattn.corpus.column_roles import (
    Roles,
    Table,
    find_roles,
    labellings,
    refuse_other_spelling,
    role_notes,
)
from backattn.corpus.jsonl import json_lines
from backattn.recipe import JsonlFormat

# Most lines of a file in which fields are looked for, and characters after which no further line is read.
_HEAD = 2000
_ENOUGH = 1 << 22
# Characters that no text of a recipe can hold.
_NO_NAME = re.compile("[\0\ud800-\udfff]")
_OFFSETS = {"start", "end", "label"}

Row = dict[str, Any]


def jsonl_formats(paths: Sequence[Path], language: str) -> tuple[list[JsonlFormat], list[str]]:
    """Find the formats that the first lines allow, the likeliest first, and notes on uncertain choices.

    :param language: language of running text, by whose rules it is split; empty where it is not known.
    :raises CorpusError: no fields of tokens and tags, or of text and spans, are found.
    """
    rows = [row for path in paths for row in _first_rows(path)]
    if not rows:
        raise CorpusError(
            f"{paths[0]}:1: found no sentence, expected one on each line; put the whole file in place"
        )
    for fields in _groups(rows):
        table = Table(
            tuple(tuple(zip(*(map(str, row[name]) for name in fields), strict=True)) for row in rows),
            tuple(json.dumps(name, ensure_ascii=False) for name in fields),
        )
        if roles := find_roles(table):
            refuse_other_spelling(paths[0], table, roles)
            return _of_tokens(table, fields, roles)
    return [_of_text(paths[0], rows, language)], []


def _first_rows(path: Path) -> Iterator[Row]:
    size = 0
    for _, row in islice(json_lines(path), _HEAD):
        yield {name: value for name, value in row.items() if not _NO_NAME.search(name)}
        size += len(str(row))
        if size > _ENOUGH:
            return


def _of_tokens(table: Table, fields: Sequence[str], roles: Roles) -> tuple[list[JsonlFormat], list[str]]:
    base = JsonlFormat(tokens=fields[roles.token], tags=fields[roles.tag])
    formats = [structs.replace(base, **labels) for labels in labellings(table, roles)]
    return formats, list(role_notes(table, roles, "tokens", "tags"))


def _groups(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """Yield groups of fields that hold lists of texts of equal lengths on every line, the largest first."""
    found: defaultdict[tuple[int, ...], list[str]] = defaultdict(list)
    for name in rows[0]:
        values = [row.get(name) for row in rows]
        if all(isinstance(value, list) and all(isinstance(one, str) for one in value) for value in values):
            found[tuple(map(len, (value or () for value in values)))].append(name)
    groups = [tuple(names) for names in found.values() if len(names) > 1]
    return iter(sorted(groups, key=len, reverse=True))


def _of_text(path: Path, rows: Sequence[Row], language: str) -> JsonlFormat:
    """Find the format of lines with running text and spans.

    :raises CorpusError: there are no such fields, or the language is not known.
    """
    texts = [name for name in rows[0] if all(isinstance(row.get(name), str) for row in rows)]
    spans = [name for name in rows[0] if all(_are_spans(row.get(name)) for row in rows)]
    if not texts or not spans:
        numbers = [name for name, value in rows[0].items() if _are_numbers(value)]
        known = f" (the numbers of {quoted(numbers[0])} stand for tags that no line names)" if numbers else ""
        raise CorpusError(
            f"{path}:1: found the fields {listed(list(rows[0])) or 'none'}{known}, expected a list of tokens "
            "and one of tags as text such as B-PER, or text and a list of spans (start, end, label); write "
            "the recipe by hand (`backattn keys corpus.format`), or convert the file (`backattn convert`)"
        )
    if not language:
        raise CorpusError(
            f"{path}:1: found running text ({quoted(texts[0])}) with spans, which is split into tokens by "
            "the rules of its language; give --source with its code, as in --source de"
        )
    longest = max(texts, key=lambda name: sum(len(row[name]) for row in rows))
    return JsonlFormat(text=longest, spans=spans[0], language=language)


def _are_spans(value: Any) -> bool:
    return isinstance(value, list) and all(
        one.keys() >= _OFFSETS if isinstance(one, dict) else isinstance(one, list) and len(one) == 3
        for one in value
    )


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(one) is int for one in value)
