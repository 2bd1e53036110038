"""Read JSON lines: a sentence a line, as tokens with tags, or as text with the offsets of its entities."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from backattn.common.errors import CorpusError
from backattn.common.safe_text import error_text, listed, quoted
from backattn.common.strict_json import parse_strictly
from backattn.corpus import Sentence
from backattn.corpus.labelled import LabelledFile, SentenceMaker, check_labels, check_sentences
from backattn.corpus.labelled_lines import labelled_lines, whole_digest
from backattn.corpus.text_spans import SpanError, align_text, parse_spans
from backattn.recipe import JsonlFormat


def parse_jsonl(path: Path, format: JsonlFormat) -> LabelledFile:
    """Read a file of JSON lines, which may be packed by gzip (``.gz``).

    :raises MissingError: there is no such file.
    :raises CorpusError: it does not fit the format; names file and line.
    :raises RecipeError: the format's keys contradict each other.
    """
    check_labels(path, format)
    maker = SentenceMaker(path, format)
    sentences = tuple(_sentences(maker, format, json_lines(path)))
    check_sentences(path, sentences)
    return LabelledFile(sentences, orphans=maker.orphans, sha256=whole_digest(path), ends=tuple(maker.ends))


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the tables of a file of JSON lines with their line numbers; empty lines are skipped.

    :raises MissingError: there is no such file.
    :raises CorpusError: a line is no JSON table; names file and line.
    """
    for number, line in labelled_lines(path, "JSON lines"):
        if not line.strip():
            continue
        try:
            value = parse_strictly(line)
        except ValueError as error:
            raise CorpusError(
                f"{path}:{number}: found {error_text(error)}, expected one JSON table a line; mend the line"
            ) from None
        if not isinstance(value, dict):
            raise CorpusError(
                f"{path}:{number}: found {quoted(value)}, expected a JSON table on each line; mend the line"
            )
        yield number, value


def _sentences(
    maker: SentenceMaker, format: JsonlFormat, lines: Iterable[tuple[int, dict[str, Any]]]
) -> Iterator[Sentence]:
    for number, row in lines:
        if format.text:
            yield from _of_text(maker, format, row, number)
        else:
            yield _of_tokens(maker, format, row, number)


def _of_tokens(maker: SentenceMaker, format: JsonlFormat, row: dict[str, Any], number: int) -> Sentence:
    tokens = _list(maker, row, format.tokens, "tokens", number)
    tags = _list(maker, row, format.tags, "tags", number)
    if not tokens or len(tokens) != len(tags):
        raise maker.error(
            number, f"{len(tokens)} tokens and {len(tags)} tags", "as many of both, at least one",
            "mend the line",
        )  # fmt: skip
    for token in tokens:
        if not isinstance(token, str):
            raise maker.error(number, f"the token {quoted(token)}", "text", "mend the line")
    spelled = [_spelled(maker, format, tag, number) for tag in tags]
    checked = [maker.foreign_token(token, number) for token in tokens]
    return maker.sentence(checked, spelled, [number] * len(checked))


def _spelled(maker: SentenceMaker, format: JsonlFormat, tag: Any, number: int) -> str:
    """Return a tag as text; look a number up in the format's names."""
    if isinstance(tag, str) and not format.names:
        return tag
    if type(tag) is int and format.names:
        if 0 <= tag < len(format.names):
            return format.names[tag]
        raise maker.error(
            number, f"the tag {quoted(tag)}", f"a number from 0 to {len(format.names) - 1}",
            "mend the line, or the format's names in the recipe",
        )  # fmt: skip
    if type(tag) is int:
        advice = 'give the format the tags in their order in the recipe: names = ["O", "B-PER", ...]'
        raise maker.error(number, f"the tag {quoted(tag)}", "text", advice)
    expected = "a number that the format's names spell" if format.names else "text"
    advice = "mend the line, or take names out of the recipe's format" if format.names else "mend the line"
    raise maker.error(number, f"the tag {quoted(tag)}", expected, advice)


def _of_text(
    maker: SentenceMaker, format: JsonlFormat, row: dict[str, Any], number: int
) -> Iterator[Sentence]:
    text = _field(maker, row, format.text, "text", number)
    if not isinstance(text, str):
        raise maker.error(number, f"{format.text} = {quoted(text)}", "text", "mend the line")
    value = _field(maker, row, format.spans, "spans", number)
    try:
        aligned = align_text(text, parse_spans(value), format.language)
    except SpanError as error:
        raise CorpusError(f"{maker.path}:{number}: found {error}") from None
    for sentence in aligned.sentences:
        yield maker.finished(sentence.tokens, sentence.tags, [number] * len(sentence))


def _list(maker: SentenceMaker, row: dict[str, Any], name: str, key: str, number: int) -> list[Any]:
    value = _field(maker, row, name, key, number)
    if not isinstance(value, list):
        raise maker.error(number, f"{name} = {quoted(value)}", "a list", "mend the line")
    return value


def _field(maker: SentenceMaker, row: dict[str, Any], name: str, key: str, number: int) -> Any:
    if name not in row:
        raise maker.error(
            number, f"the fields {listed(list(row)) or 'none'}", quoted(name),
            f"mend the line, or name its field in the recipe's format ({key}; text and spans for raw text)",
        )  # fmt: skip
    return row[name]
