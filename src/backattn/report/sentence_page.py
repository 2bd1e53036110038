"""Write pages of sentences: entities and A of one sentence, and the list of sentences by category."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from backattn.corpus.spans import Span, predicted_spans
from backattn.report.error_kinds import RIGHT, pair
from backattn.report.inspection import Inspection
from backattn.report.markup import LIST_PAGE, REPORT_PAGE, render, script

END = "</s>"
_LEVELS = 10  # shades of a cell of A; style.css.j2 has a class for each
_LEAST = 0.005  # a smaller value is not written in its cell


@dataclass(frozen=True)
class Token:
    """A token of a line; the page highlights all tokens with the same number."""

    number: int
    text: str


@dataclass(frozen=True)
class Piece:
    """An entity with its tokens, or one token outside of entities.

    :param type: of the entity; empty outside.
    :param error: what is wrong with a predicted entity; empty if nothing is.
    """

    tokens: tuple[Token, ...]
    type: str = ""
    error: str = ""


@dataclass(frozen=True)
class Line:
    """A sentence as one line of text with its entities.

    :param side: ``r`` for source tokens (rows of A), ``c`` for English ones (columns).
    :param gap: printed between two tokens; empty for Chinese.
    :param missed: gold entities without a counterpart, each with its type.
    """

    name: str
    side: str
    gap: str
    pieces: tuple[Piece, ...]
    missed: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Section:
    """A category of the list.

    :param total: sentences of this category in the corpus.
    :param sentences: those shown, each with the errors of its predictions.
    """

    name: str
    title: str
    about: str
    total: int
    sentences: tuple[tuple[Inspection, tuple[int, ...]], ...]


@dataclass(frozen=True, eq=False)
class ListPage:
    """The contents of the list of sentences.

    :param runs: model and folder of each.
    :param report: whether there is a report to link to.
    """

    lang: str
    runs: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    report: bool


def sentence_page(
    inspection: Inspection, *, previous: str = "", following: str = "", listed: bool = False
) -> str:
    """Write the page of one sentence: its entities, then A.

    :param previous, following: files of the pages before and after it; empty where there is none.
    :param listed: whether the list of sentences links to it.
    """
    code = script("sentence.js.j2")
    return render(
        "sentence.html.j2",
        title=f"{inspection.lang}: {inspection.gap.join(inspection.sentence.tokens)}",
        heading=inspection.heading,
        remarks=inspection.remarks,
        lines=_lines(inspection),
        rows=_rows(inspection),
        columns=[*zip(inspection.english, map(_shown, inspection.english_tags), strict=True), (END, "")],
        transfer=inspection.transferred(),
        script=code,
        previous=previous,
        following=following,
        list_page=LIST_PAGE if listed else "",
    )


def list_page(shown: ListPage) -> str:
    """Write the list of sentences by category, with a filter by type that needs no script."""
    types = sorted(
        {name for section in shown.sections for one, _ in section.sentences for name in _types(one)}
    )
    number = {name: index for index, name in enumerate(types)}
    sections = [
        {
            "name": section.name,
            "title": section.title,
            "about": section.about,
            "total": section.total,
            "sentences": [
                {
                    "file": one.file_name,
                    "place": one.place,
                    "line": _line("", "r", one.gap, one.sentence.tokens, one.sentence.tags),
                    "errors": " → ".join(map(str, errors)),
                    "types": [number[name] for name in sorted(_types(one))],
                }
                for one, errors in section.sentences
            ],
        }
        for section in shown.sections
    ]
    return render(
        "sentences.html.j2",
        title=f"{shown.lang}: sentences",
        lang=shown.lang,
        runs=shown.runs,
        types=types,
        sections=sections,
        report=REPORT_PAGE if shown.report else "",
    )


def _lines(inspection: Inspection) -> list[Line]:
    tokens, gold = inspection.sentence.tokens, inspection.sentence.tags
    lines = [_line("Gold", "r", inspection.gap, tokens, gold)]
    for one in inspection.predictions:
        findings = pair(frozenset(predicted_spans(gold)), frozenset(predicted_spans(one.tags)))
        errors = {
            found.predicted: found.kind for found in findings if found.predicted and found.kind != RIGHT
        }
        missed = tuple(
            f"{inspection.gap.join(tokens[found.gold.start : found.gold.end])} ({found.gold.type})"
            for found in findings
            if found.gold and not found.predicted
        )
        line = _line(f"{one.model} ({one.run})", "r", inspection.gap, tokens, one.tags, errors)
        lines.append(replace(line, missed=missed))
    name = "English translation, with the English tagger's tags"
    lines.append(_line(name, "c", " ", inspection.english, inspection.english_tags))
    return lines


def _line(
    name: str, side: str, gap: str, tokens: Sequence[str], tags: Sequence[str],
    errors: dict[Span, str] | None = None,
) -> Line:  # fmt: skip
    numbered = [Token(number, text) for number, text in enumerate(tokens)]
    pieces, position = [], 0
    for span in predicted_spans(tags):
        pieces += [Piece((token,)) for token in numbered[position : span.start]]
        pieces.append(Piece(tuple(numbered[span.start : span.end]), span.type, (errors or {}).get(span, "")))
        position = span.end
    return Line(name, side, gap, (*pieces, *(Piece((token,)) for token in numbered[position:])))


def _rows(inspection: Inspection) -> list[dict[str, object]]:
    """Rows of A: token, gold tag, predicted tags that differ, and each cell's shade and text."""
    tokens, gold = inspection.sentence.tokens, inspection.sentence.tags
    heads = [
        (
            token,
            _shown(tag),
            list(dict.fromkeys(p.tags[i] for p in inspection.predictions if p.tags[i] != tag)),
        )
        for i, (token, tag) in enumerate(zip(tokens, gold, strict=True))
    ]
    return [
        {"token": token, "tag": tag, "wrong": wrong, "cells": [_cell(float(value)) for value in values]}
        for (token, tag, wrong), values in zip([*heads, (END, "", [])], inspection.attention, strict=True)
    ]


def _cell(value: float) -> tuple[int, str]:
    """Return shade and text of a cell; a foreign store may hold any number."""
    if not value >= _LEAST:
        return 0, ""
    text = f"{value:.2f}" if value < 1000 else "…"
    return min(_LEVELS, max(1, round(_LEVELS * min(value, 1.0)))), text.removeprefix("0")


def _shown(tag: str) -> str:
    return "" if tag == "O" else tag


def _types(inspection: Inspection) -> set[str]:
    tags = [inspection.sentence.tags, *(one.tags for one in inspection.predictions)]
    return {span.type for row in tags for span in predicted_spans(row)}
