"""Read exports of annotation tools in JSON: doccano, Prodigy, Label Studio."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from backattn.common.errors import CorpusError
from backattn.common.safe_text import error_text, listed, plain, quoted
from backattn.common.strict_json import parse_strictly
from backattn.conversion.source import Options, Source, check_text, first, read_text
from backattn.corpus.jsonl import json_lines
from backattn.corpus.raw_text import RawToken, tokenise
from backattn.corpus.text_spans import SpanError, TextSpan, align_tokens, parse_spans, resolve

_DOCCANO_SPANS = ("entities", "label", "labels")
_TEXTS = ("text", "data")


def read_doccano(path: Path, options: Options) -> Source:
    """Read a JSON lines export of doccano: text with ``label`` lists, or with ``entities``.

    :raises CorpusError: a line is not of this form, or a span does not fit; names file and line.
    """
    source = Source()
    for number, row in json_lines(path):
        where = f"{path}:{number}"
        text = _text(where, row, _TEXTS)
        name = _doccano_spans(where, row)
        spans = row.get(name)
        if name == "entities" and isinstance(spans, list):
            spans = [_renamed(span, start="start_offset", end="end_offset") for span in spans]
        if not name:
            raise CorpusError(f"{where}: found {_fields(row)}, expected label or entities beside the text")
        source.add_text(where, text, _spans(where, spans), options)
    return source


def _doccano_spans(where: str, row: Mapping[str, Any]) -> str:
    """Return the name of the field of the spans: the one that is not empty, else the first that is there."""
    filled = [name for name in _DOCCANO_SPANS if row.get(name)]
    if len(filled) > 1:
        raise CorpusError(
            f"{where}: found spans in {' and in '.join(filled)}, expected one such field; take the others out"
        )
    return filled[0] if filled else first(row, _DOCCANO_SPANS)


def read_prodigy(path: Path, options: Options) -> Source:
    """Read JSON lines of Prodigy: text with ``spans``, and perhaps its own ``tokens``.

    Only accepted texts are read. A line without ``answer`` counts as accepted.

    :raises CorpusError: a line is not of this form, or a span does not fit; names file and line.
    """
    source = Source()
    for number, row in json_lines(path):
        where = f"{path}:{number}"
        if row.get("answer", "accept") != "accept":
            source.rejected += 1
            continue
        text = _text(where, row, ("text",))
        spans = _spans(where, row.get("spans", []))
        if "tokens" not in row:
            source.add_text(where, text, spans, options)
            continue
        check_text(where, text, spans)
        tokens = _tokens(where, text, row["tokens"])
        try:
            kept = resolve(text, spans, options.overlap)
            if tokens:
                source.sentences.append(align_tokens(text, tokens, kept))
        except SpanError as error:
            raise CorpusError(f"{where}: found {error}") from None
        source.overlapping += len(spans) - len(kept)
    return source


def _tokens(where: str, text: str, value: Any) -> list[RawToken]:
    """Return Prodigy's tokens without those that consist of blanks."""
    tokens, place = [], 0
    for item in value if isinstance(value, list) else [value]:
        match item:
            case {"start": int(start), "end": int(end)} if (
                not isinstance(start, bool)
                and not isinstance(end, bool)
                and place <= start < end <= len(text)
            ):
                _check_blank(where, text, place, start)
                place = end
            case _:
                raise CorpusError(
                    f"{where}: found the token {quoted(item)}, expected a table with start and end (whole "
                    "numbers), after the token before; mend the line"
                )
        if item.get("text", text[start:end]) != text[start:end]:
            raise CorpusError(
                f"{where}: found {quoted(text[start:end])} at {start}-{end}, expected the token "
                f"{quoted(item['text'])}; mend the line"
            )
        if text[start:end].strip():
            tokens.append(RawToken(text[start:end], start, end))
    _check_blank(where, text, place, len(text))
    return tokens


def _check_blank(where: str, text: str, start: int, end: int) -> None:
    """Check that there is no text between two tokens."""
    if tokenise(text[start:end], "", "character"):
        raise CorpusError(
            f"{where}: found {quoted(text[start:end])} at {start}-{end} in no token, expected tokens of all "
            "the text; mend the line, or take its tokens out"
        )


def read_label_studio(path: Path, options: Options) -> Source:
    """Read a JSON or JSON-MIN export of Label Studio.

    Its offsets may count UTF-16 units, as browsers do: the words of the span, which it repeats, decide.

    :raises CorpusError: a task is not of this form, has several annotations, or a span does not fit; names
        file and task.
    """
    try:
        tasks = parse_strictly(read_text(path, "an export of Label Studio").removeprefix("\ufeff"))
    except ValueError as error:
        raise CorpusError(f"{path}: found {error_text(error)}, expected JSON; export it again") from None
    source, left_out = Source(), Counter[str]()
    for number, task in enumerate(tasks if isinstance(tasks, list) else [tasks], 1):
        where = f"{path}: task {number}"
        if not isinstance(task, dict):
            raise CorpusError(f"{where}: found {quoted(task)}, expected a table; export it as JSON")
        for text, results in _annotated(where, task, source):
            spans = [span for result in results for span in _studio_span(where, text, result, left_out)]
            source.add_text(where, text, spans, options)
    if left_out:
        source.form = f"without {left_out.total():,} results that are no spans ({listed(sorted(left_out))})"
    return source


def _annotated(where: str, task: dict[str, Any], source: Source) -> Iterator[tuple[str, list[Any]]]:
    """Yield the text of a task and its results, if it was annotated."""
    if "annotations" not in task:  # JSON-MIN
        fields = [name for name, value in task.items() if _holds_spans(value)]
        if len(fields) > 1:
            raise CorpusError(
                f"{where}: found spans in {listed(fields)}, expected one such field; export it as JSON, one "
                "control at a time"
            )
        results = _list(where, task.get(fields[0] if fields else "label", []))
        text = _text(where, task, ("text",))
        _refuse_other_texts(where, task, results)
        yield text, results
        return
    done = [
        annotation
        for annotation in _list(where, task["annotations"])
        if isinstance(annotation, dict) and not annotation.get("was_cancelled")
    ]
    if not done:
        source.rejected += 1
        return
    if len(done) > 1:
        raise CorpusError(
            f"{where}: found {len(done)} annotations, expected one; keep one of them in Label Studio (the "
            "ground truth), and export again"
        )
    data = task.get("data")
    texts = {k: v for k, v in data.items() if isinstance(v, str)} if isinstance(data, dict) else {}
    if "text" not in texts and len(texts) != 1:
        raise CorpusError(f"{where}: found data = {quoted(data)}, expected a text in it; export it as JSON")
    results = _list(where, done[0].get("result", []))
    name = "text" if "text" in texts else next(iter(texts))
    if len(texts) > 1:
        _check_one_text(where, name, texts, results)
    yield texts[name], results


def _refuse_other_texts(where: str, task: Mapping[str, Any], results: list[Any]) -> None:
    """Refuse spans that may belong to another text of the task than ``text``: JSON-MIN does not say to which.

    :raises CorpusError: another text has the words of a span at the span's offsets.
    """
    others = {name: value for name, value in task.items() if name != "text" and isinstance(value, str)}
    for result in results:
        match result:
            case {"start": int(start), "end": int(end), "text": str(shown)} if shown:
                for name, other in others.items():
                    if shown == other[max(0, start) : end] or _in_utf_16(other, start, end, shown):
                        raise CorpusError(
                            f"{where}: found {quoted(shown)} at {start}-{end} in {quoted(name)}, expected "
                            "spans of 'text' alone; JSON-MIN does not say of which text a span is: export it "
                            "as JSON"
                        )


def _check_one_text(where: str, name: str, texts: Mapping[str, str], results: list[Any]) -> None:
    """Check that all spans of a task with several texts belong to the text that is read.

    :raises CorpusError: a span names another text, or gives neither the name nor its words.
    """
    for result in results:
        if not isinstance(result, dict) or result.get("type", "labels") != "labels":
            continue
        value, target = result.get("value"), result.get("to_name", name)
        if target != name and target in texts:
            raise CorpusError(
                f"{where}: found a span of {quoted(target)} beside the text {quoted(name)}, expected spans "
                f"of one text; export each text as a task of its own, named {plain(name)}"
            )
        # to_name names a tag of the labelling configuration, not always the key of the text.
        named = "to_name" in result and target == name
        if isinstance(value, dict) and not named and not isinstance(value.get("text"), str):
            raise CorpusError(
                f"{where}: found several texts, and a span that does not say to which it belongs, expected "
                "to_name or text in it; export it again"
            )


def _holds_spans(value: Any) -> bool:
    """Return whether a field of JSON-MIN is a list of spans."""
    return isinstance(value, list) and any(
        isinstance(item, dict) and ("labels" in item or {"start", "end"} <= item.keys()) for item in value
    )


def _studio_span(where: str, text: str, result: Any, left_out: Counter[str]) -> Iterator[TextSpan]:
    """Yield the span of a result; count a result that is no span (a choice, a relation) in ``left_out``."""
    value = result.get("value", result) if isinstance(result, dict) else result
    kind = result.get("type", "labels") if isinstance(result, dict) else "labels"
    if kind != "labels":
        if str(kind).endswith("labels") and isinstance(value, dict) and {"start", "end"} <= value.keys():
            raise CorpusError(
                f"{where}: found a span of the type {quoted(kind)}, expected labels of plain text; label it "
                "by Labels and Text in Label Studio, and export again"
            )
        left_out[str(kind)] += 1
        return
    match value:
        case {"start": int(start), "end": int(end), "labels": [str(kind)]} if not isinstance(
            start, bool
        ) and not isinstance(end, bool):
            span = TextSpan(start, end, kind)
        case {"labels": [_, _, *_] as kinds}:
            raise CorpusError(f"{where}: found a span with the labels {quoted(kinds)}, expected one; mend it")
        case [int(), int(), str()]:
            raise CorpusError(
                f"{where}: found {quoted(value)}, a span of doccano; write an object on each line (JSON "
                "lines), and say --from doccano"
            )
        case _:
            raise CorpusError(
                f"{where}: found {quoted(value)}, expected a span with start, end (whole numbers) and "
                "labels; export as JSON"
            )
    shown = value.get("text")
    if isinstance(shown, str) and text[max(start, 0) : end] != shown:
        if not _in_utf_16(text, start, end, shown):
            raise CorpusError(
                f"{where}: found {quoted(text[max(start, 0) : end])} at {start}-{end}, expected "
                f"{quoted(shown)} as the export says; export it again"
            )
        units = text.encode("utf-16-le", "surrogatepass")
        begin = len(units[: 2 * start].decode("utf-16-le", "replace"))
        span = TextSpan(begin, begin + len(shown), kind)
    yield span


def _in_utf_16(text: str, start: int, end: int, shown: str) -> bool:
    """Return whether a text has the words ``shown`` at offsets that count UTF-16 units."""
    units = text.encode("utf-16-le", "surrogatepass")
    return start >= 0 and units[2 * start : 2 * end] == shown.encode("utf-16-le", "surrogatepass")


def _renamed(span: Any, **names: str) -> Any:
    """Rename fields of a span to our names."""
    if not isinstance(span, dict):
        return span
    return {**span, **{ours: span[theirs] for ours, theirs in names.items() if theirs in span}}


def _text(where: str, row: Mapping[str, Any], names: Iterable[str]) -> str:
    text = row.get(first(row, names))
    if not isinstance(text, str):
        raise CorpusError(f"{where}: found {_fields(row)}, expected a text ({' or '.join(names)}); mend it")
    return text


def _spans(where: str, value: Any) -> list[TextSpan]:
    try:
        return parse_spans(value)
    except SpanError as error:
        raise CorpusError(f"{where}: found {error}") from None


def _list(where: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise CorpusError(f"{where}: found {quoted(value)}, expected a list; export it again")
    return value


def _fields(row: Mapping[str, Any]) -> str:
    return f"the fields {listed(list(row)) or 'none'}"
