"""Read BRAT: a folder of texts (``.txt``), each with its entities in a file of the same name (``.ann``)."""

import os
import re
from pathlib import Path

from backattn.common.atomic_files import is_own_file
from backattn.common.errors import CorpusError, MissingError
from backattn.common.safe_text import plain, quoted
from backattn.conversion.source import Options, Source, read_text
from backattn.corpus.labelled import MOST_BYTES
from backattn.corpus.text_spans import SpanError, TextSpan, check_span

# T1 <tab> PER 0 8 <tab> Ana Ruiz; several places are separated by semicolons.
_ENTITY = re.compile(r"T[^\t]*\t(\S+) ([0-9]{1,12} [0-9]{1,12}(?:;[0-9]{1,12} [0-9]{1,12})*)(?:\t(.*))?")
# Relations, events, attributes, normalisations and notes: they are about entities.
_OTHERS = "REAMN#*"


def read_brat(path: Path, options: Options) -> Source:
    """Read a folder of BRAT, in the order of its file names, or a single text.

    :raises MissingError: there is no text, or a text or its ``.ann`` is missing.
    :raises CorpusError: an annotation does not fit its text; names file and line.
    """
    source = Source()
    size = 0
    for text_path in _texts(path):
        for part in (text_path, text_path.with_suffix(".ann")):
            if not is_own_file(part):
                raise MissingError(
                    f"{part}: expected a file there (not a link), since BRAT has a .txt and an .ann for each "
                    "text; put it there, or remove the other one"
                )
        text = read_text(text_path, "a text of BRAT").removesuffix("\ufeff")
        size += len(text)
        if size > MOST_BYTES:
            raise CorpusError(f"{path}: found more than {MOST_BYTES:,} characters; convert it in parts")
        spans = _annotations(text_path.with_suffix(".ann"), text, options, source)
        source.add_text(str(text_path), text, spans, options)
    return source


def _texts(path: Path) -> list[Path]:
    """Return the ``.txt`` files of a folder; for a file, the one that it belongs to."""
    if not path.is_dir():
        return [path.with_suffix(".txt")]
    with os.scandir(path) as entries:
        names = {entry.name for entry in entries if entry.name.endswith((".txt", ".ann"))}
    texts = sorted({path / f"{name.rpartition('.')[0]}.txt" for name in names})
    if not texts:
        raise MissingError(f"{path}: found no .txt and .ann in it; name a folder of BRAT")
    return texts


def _annotations(path: Path, text: str, options: Options, source: Source) -> list[TextSpan]:
    spans = []
    for number, line in enumerate(read_text(path, "annotations of BRAT").split("\n"), 1):
        line = line.removesuffix("\r").removeprefix("\ufeff")
        if not line.strip() or line[0] in _OTHERS:
            continue
        found = _ENTITY.fullmatch(line)
        if not found:
            raise CorpusError(
                f"{path}:{number}: found {quoted(line)}, expected an entity like T1<tab>PER 0 8<tab>Ana "
                "Ruiz; mend the line"
            )
        kind, places, shown = found.groups()
        ends = [place.split(" ") for place in places.split(";")]
        parts = [TextSpan(int(start), int(end), kind) for start, end in ends]
        try:
            for part in parts:
                check_span(text, part)
        except SpanError as error:
            raise CorpusError(f"{path}:{number}: found {error}") from None
        _check_shown(f"{path}:{number}", [text[part.start : part.end] for part in parts], shown)
        parts = _joined(text, parts)
        if len(parts) > 1 and options.overlap == "refuse":
            raise CorpusError(
                f"{path}:{number}: found the discontinuous entity {places} ({plain(kind)}), expected one "
                "place; mend the line, or say --overlap longest, which keeps the longest part"
            )
        source.overlapping += len(parts) - 1
        spans.append(max(parts, key=lambda part: part.end - part.start))
    return spans


def _joined(text: str, parts: list[TextSpan]) -> list[TextSpan]:
    """Join parts with only blanks between them: BRAT splits an entity at the end of a line."""
    joined = parts[:1]
    for part in parts[1:]:
        last = joined[-1]
        if last.end <= part.start and not text[last.end : part.start].strip():
            joined[-1] = TextSpan(last.start, part.end, part.type)
        else:
            joined.append(part)
    return joined


def _check_shown(where: str, found: list[str], shown: str | None) -> None:
    """Check the text at the offsets against the text that BRAT writes beside them."""
    if shown is not None and "".join("".join(found).split()) != "".join(shown.split()):
        raise CorpusError(
            f"{where}: found {quoted(' '.join(found))} at its offsets, expected {quoted(shown)} as the line "
            "says; put the text there exactly as it was annotated (line ends count)"
        )
