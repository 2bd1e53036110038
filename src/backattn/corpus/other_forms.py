"""Recognise, by their beginning, files of other forms where a column file is expected.

This module does not convert such files. No legal line of a column file matches its patterns.
"""

import os
import re
from pathlib import Path

from backattn.common.json_files import parse
from backattn.common.text_lines import packed_form

# Most characters of a first line that is parsed.
_LONGEST_LINE = 1 << 24
_JSON_OVER_LINES = re.compile(r'\s*(\[\s*)?\{[ \t\r]*\n\s*"(?:[^"\\\n]|\\.)*"\s*:')
# T1 <tab> PER 0 8 <tab> Ana Ruiz
_BRAT = re.compile(r"\s*T\d+\t\S+ \d+ \d+(;\d+ \d+)*\t")
_CONVERT = "run `backattn convert FILE OUT`, which makes a column file of it"


def other_form(text: str) -> str:
    """Say which other form a text has, and what to do; empty if it may be a column file."""
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
    """Say which binary form a file has, and what to do; empty if it may be text.

    :param data: its first bytes; of a small file all.
    """
    if data.startswith(b"PAR1") and (data.endswith(b"PAR1") or b"\0" in data):
        return f"a Parquet file; {_CONVERT}"
    return packed_form(path, data)


def of_brat(path: Path) -> str:
    """Say that a file or a folder is of BRAT, and what to do; empty if it is not."""
    # For a name that is too long, os.path says that there is no such file; Path raises an error.
    if any(path.glob("*.ann")) if os.path.isdir(path) else os.path.isfile(path.with_suffix(".ann")):
        return f"text of BRAT, with its entities in .ann files; {_CONVERT.replace('FILE', 'FOLDER')}"
    return ""


def _json(line: str) -> object:
    """Parse a line of JSON; None for any other line."""
    if line[:1] not in ("{", "[") or len(line) > _LONGEST_LINE:
        return None
    try:
        return parse(line)
    except ValueError:
        return None


def _of_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)
