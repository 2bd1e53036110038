"""Guess the kind of a file from its content, for `backattn convert` without ``--from``."""

import os
import re
from pathlib import Path
from typing import Literal, get_args

from backattn.common.errors import CorpusError, MissingError
from backattn.common.regular_files import open_regular
from backattn.common.safe_text import listed
from backattn.common.strict_json import parse_strictly
from backattn.conversion.source import first
from backattn.conversion.tables import TAGS, TOKENS
from backattn.corpus.jsonl import json_lines

Kind = Literal[
    "brat",
    "doccano",
    "prodigy",
    "label-studio",
    "docbin",
    "parquet",
    "datasets",
    "columns",
    "conllu",
    "jsonl",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
_HEAD = 1 << 16
# The first bytes of zlib's output.
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
# The beginning of a list of objects; a bracket alone may be a token of a column file.
_OBJECTS = re.compile(r"\s*\[\s*\{\s*\"")
# A comment of CoNLL-U, or the first token or range of its first sentence.
_CONLLU = re.compile(r"(?:#[^\n]*\n)*1(?:-[0-9]+)?\t[^\t\n]+\t")


def guess_kind(path: Path) -> Kind:
    """Detect the kind of a file or folder.

    :raises MissingError: it cannot be read.
    :raises CorpusError: it looks like none of the kinds.
    """
    if path.is_dir():
        return _guess_folder(path)
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise MissingError(f"{path}: cannot be read ({error.strerror}); name a file or a folder") from None
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(_ZLIB):
        return "docbin"
    if path.suffix == ".ann" or (path.suffix == ".txt" and os.path.lexists(path.with_suffix(".ann"))):
        return "brat"
    text = head.decode("utf-8", "replace").removeprefix("\ufeff")
    begin = text.lstrip()[:1]
    if path.suffix == ".gz":
        return "jsonl" if ".json" in path.name else "conllu" if ".conllu" in path.name else "columns"
    if (begin == "[" and path.suffix == ".json") or _OBJECTS.match(text):
        return "label-studio"
    if begin == "{":
        return _guess_json(path)
    return "conllu" if _CONLLU.match(text.replace("\r\n", "\n").lstrip("\n")) else "columns"


def _guess_folder(path: Path) -> Kind:
    with os.scandir(path) as entries:
        names = {entry.name for entry in entries}
    if "state.json" in names:
        return "datasets"
    if "dataset_dict.json" in names:
        try:
            with open_regular(path / "dataset_dict.json") as file:
                splits = parse_strictly(file.read(_HEAD).decode("utf-8"))["splits"]
        except (OSError, ValueError, KeyError, TypeError):
            splits = []
        known = listed([str(split) for split in splits]) if isinstance(splits, list) else ""
        raise CorpusError(
            f"{path}: holds several data sets ({known or 'none'}); name the folder of one of them"
        )
    if any(name.endswith(".ann") for name in names):
        return "brat"
    raise CorpusError(
        f"{path}: a folder without .ann files (BRAT) and without state.json (a saved data set); name a file "
        "or such a folder"
    )


def _guess_json(path: Path) -> Kind:
    """Detect the kind of JSON lines by the fields of the first line."""
    _, row = next(json_lines(path), (0, {}))
    if first(row, TOKENS) and first(row, TAGS):
        return "jsonl"
    if "spans" in row or "_task_hash" in row:
        return "prodigy"
    if first(row, ("text", "data")) and first(row, ("label", "labels", "entities")):
        return "doccano"
    raise CorpusError(
        f"{path}:1: found the fields {listed(list(row)) or 'none'}, which are of no known form; say which it "
        f"is: --from {' | '.join(KINDS)}"
    )
