"""Recognise files of other forms where a column file is expected, by what they begin with.

Nothing here reads such a file. Each pattern is one that no legal line of a column file has.
"""

import os
import re
from pathlib import Path

from backattn.common.json_files import parse
from backattn.common.text_lines import packed_form

# Characters of a first line that is looked at.
_LONGEST_LINE = 1 << 24
_JSON_OVER_LINES = re.compile(r'\s*(\[\s*)?\{[ \t\r]*\n\s*"(?:[^"\\\n]|\\.)*"\s*:')
# T1 <tab> PER 0 8 <tab> Ana Ruiz
_BRAT = re.compile(r"\s*T\d+\t\S+ \d+ \d+(;\d+ \d+)*\t")
_CONVERT = "run `backattn convert FILE OUT`, which makes a column file of it"


def other_form(text: str) -> str:
    """What a text is that is no column file, and what to do; empty for any other text."""
    first = re.search(r"\S.*", text)
    line = first.group() if first else ""
    if isinstance(_json(line), dict):
        return f'JSON lines; set corpus.format.kind = "jsonl" in the recipe, or {_CONVERT}'
    # A whole list of objects, or its first line with the first of them.
    first_object = _json(line.rstrip(",\r ") + "]") if line.startswith("[") else None
    if _of_objects(_json(line)) or _of_objects(first_object) or _JSON_OVER_LINES.match(text):
        return f"JSON; {_CONVERT}"
    if _BRAT.match(text):
        return f"BRAT annotations; {_CONVERT.replace('FILE', 'FOLDER')}"
    return ""


def other_binary(path: Path, data: bytes) -> str:
    """What a file of no text is, and what to do, by its first bytes; empty for any other."""
    if data.startswith(b"PAR1") and data.endswith(b"PAR1"):
        return f"a Parquet file; {_CONVERT}"
    return packed_form(path, data)


def of_brat(path: Path) -> str:
    """What a text or a folder of BRAT is, and what to do; empty for any other."""
    # os.path, unlike Path, takes a name that is too long for one of no file.
    if any(path.glob("*.ann")) if os.path.isdir(path) else os.path.isfile(path.with_suffix(".ann")):
        return f"text of BRAT, with its entities in .ann files; {_CONVERT.replace('FILE', 'FOLDER')}"
    return ""


def _json(line: str) -> object:
    """The value of a line of JSON; None for any other."""
    if line[:1] not in ("{", "[") or len(line) > _LONGEST_LINE:
        return None
    try:
        return parse(line)
    except ValueError:
        return None


def _of_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)
