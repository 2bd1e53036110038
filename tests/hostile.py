"""What must hold for any bytes at all: the properties that the fuzzer and hypothesis both check."""

import copy
import json
import re
from collections.abc import Callable
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from backattn.common.errors import BackattnError
from backattn.corpus.formats import parse_column_file
from backattn.corpus.labelled import LabelledFile
from backattn.corpus.tags import check_bioes
from backattn.recipe import ColumnFormat, Recipe, as_json, from_json, load_english, load_recipe

LONGEST_MESSAGE = 600
PLAIN = ColumnFormat(scheme="BIOES", separator="tab")
# The prefixes of each scheme.
LETTERS = {
    "IOB1": "IB", "IOB2": "BI", "BIO": "BI", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES",
    "BMEWO": "BMEW", "IO": "I",
}  # fmt: skip


def answer(call: Callable[[], Any], name: str) -> Any:
    """The value of a call, or None for an error that a user can read: short, on one line, with the name."""
    try:
        return call()
    except BackattnError as error:
        message = str(error)
        assert message.isprintable(), f"not one line: {message!r}"
        assert len(message) <= LONGEST_MESSAGE, f"{len(message)} characters: {message!r}"
        assert name in message, f"does not name {name}: {message!r}"
        return None


def check_column_file(path: Path, data: bytes, format: ColumnFormat) -> LabelledFile | None:
    """Read bytes as a column file; what is read obeys, counted and written again by other code."""
    path.write_bytes(data)
    found: LabelledFile | None = answer(lambda: parse_column_file(path, format), path.name)
    if found is None:
        return None
    tokens = [token for sentence in found.sentences for token in sentence.tokens]
    assert all(token.strip(" \t") for token in tokens)
    for sentence in found.sentences:
        check_bioes(sentence.tags)
        assert len(sentence.key) == 32
    counted = count_token_lines(data.decode(format.encoding), format)
    assert (len(tokens), found.comments) == counted
    blocks = ("\n".join(map("\t".join, zip(s.tokens, s.tags, strict=True))) for s in found.sentences)
    again = "\ufeff" + "\n\n".join(blocks)
    path.write_bytes(again.encode("utf-8"))
    assert parse_column_file(path, PLAIN).sentences == found.sentences
    return found


def count_token_lines(text: str, format: ColumnFormat) -> tuple[int, int]:
    """How many lines of a text that was read hold a token, and how many are comments, by regular expressions
    and by looking at the whole text first."""
    text = re.sub("\r(?=\n|\\Z)", "", text.removeprefix("\ufeff"))
    gap = "\t" if format.separator == "tab" else "[ \t]+"
    blank = "[ \t]*"
    if format.docstart:
        name = re.escape(format.docstart)
        if not re.search(gap, format.docstart):
            blank += f"|(.*({gap}))?{name}(({gap}).*)?"
        if not re.search("[ \t]", format.docstart):
            blank += f"|[ \t]*{name}([ \t].*)?"
    lines = [re.sub("^[ \t]*|[ \t]*$", "", line) if gap != "\t" else line for line in text.split("\n")]
    raw = text.split("\n")
    skipped = [bool(re.fullmatch(blank, line, re.DOTALL)) for line in lines]
    starts = [bool(format.comment) and line.startswith(format.comment) for line in raw]
    cells = [re.split(gap, line) for line in lines]
    sure = [row for row, skip, start in zip(cells, skipped, starts, strict=True) if not skip and not start]
    types = {row[format.tag] for row in sure if -len(row) <= format.tag < len(row)}
    tokens = comments = 0
    head = True
    for row, skip, start in zip(cells, skipped, starts, strict=True):
        if skip:
            head = True
        elif start and ((head and len(row) == 1) or not _is_token_row(row, sure, types, format)):
            comments += 1
        else:
            tokens, head = tokens + 1, False
    return tokens, comments


def _is_token_row(row: list[str], sure: list[list[str]], types: set[str], format: ColumnFormat) -> bool:
    """Whether a line that could be a comment has the columns of the others, and a tag."""
    if sure and len(row) != len(sure[0]):
        return False
    if not all(-len(row) <= place < len(row) for place in (format.token, format.tag)):
        return False
    tag = row[format.tag]
    if format.token % len(row) == format.tag % len(row):
        return False
    letters = LETTERS[format.scheme]
    if tag == "O":
        return True
    if format.type:
        return tag in tuple(letters)
    if format.scheme == "IO":
        return tag in types
    return tag[:1] in tuple(letters) and tag[1:2] == "-" and tag[2:].split() == [tag[2:]]


def check_recipe_file(
    path: Path, data: bytes, overrides: tuple[str, ...] = (), name: str = ""
) -> Recipe | None:
    """Read bytes as a recipe; a recipe that is taken survives its own JSON."""
    path.write_bytes(data)
    found: Recipe | None = answer(lambda: load_recipe(str(path), overrides), name or path.name)
    if found is not None:
        assert found.name == "." or re.fullmatch(r"[^/\0]+", found.name)
        assert found.name not in (".", "..")
        assert from_json(json.loads(json.dumps(as_json(found))), "again") == found
        json.dumps(as_json(found), ensure_ascii=False, allow_nan=False).encode("utf-8")
    return found


def check_english_file(path: Path, data: bytes) -> None:
    """The same for the English tagger's part alone."""
    path.write_bytes(data)
    found = answer(lambda: load_english(str(path)), path.name)
    if found is not None:
        json.dumps(as_json(found), ensure_ascii=False, allow_nan=False).encode("utf-8")


def check_recipe_json(value: dict[str, Any]) -> None:
    """The same for the JSON of a run folder."""
    found: Recipe | None = answer(lambda: from_json(value, "run/recipe.json"), "run/recipe.json")
    if found is not None:
        assert from_json(json.loads(json.dumps(as_json(found))), "again") == found


# Any JSON value, and what Python takes for one.
JSON_VALUES = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5)
    | st.lists(st.integers(-1, 3), max_size=3) | st.dictionaries(st.text(max_size=3), st.booleans())
)  # fmt: skip


def with_odd_value(tree: Any, data: st.DataObject, value: Any) -> Any:
    """A copy of a JSON tree in which one value is removed, or replaced."""
    tree = copy.deepcopy(tree)
    *parents, last = data.draw(st.sampled_from([way for way in places(tree) if way]))
    part = reduce(getitem, parents, tree)
    if data.draw(st.booleans()):
        del part[last]
    else:
        part[last] = value
    return tree


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value of a JSON tree; of a list, to its first two."""
    items = list(value.items()) if isinstance(value, dict) else []
    if isinstance(value, list):
        items = list(enumerate(value[:2]))
    return [path, *(way for key, item in items for way in places(item, (*path, key)))]
