"""Align entities that are given by character offsets with the tokens of their text.

Offsets that cut a token, lie outside of the text or overlap are refused. On request, the longest of
overlapping entities is kept, and the others are counted.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from backattn.common.safe_text import plain, quoted
from backattn.corpus import Sentence
from backattn.corpus.labelled import LONGEST_TOKEN, unfit
from backattn.corpus.raw_text import RawToken, split_sentences, tokenise
from backattn.corpus.spans import Span, from_spans
from backattn.corpus.tags import is_type

Overlap = Literal["refuse", "longest"]


class TextSpan(NamedTuple):
    """An entity: the characters ``start`` up to, not including, ``end``, of one type."""

    start: int
    end: int
    type: str


class SpanError(ValueError):
    """A span does not fit its text: the message names the span, what was expected and what to do."""


@dataclass(frozen=True)
class Aligned:
    """The sentences of a text.

    :param dropped: number of spans that overlapped a longer one.
    """

    sentences: tuple[Sentence, ...]
    dropped: int = 0


def align_text(text: str, spans: Sequence[TextSpan], language: str, overlap: Overlap = "refuse") -> Aligned:
    """Split a text into sentences and tokens, and tag them; no sentence ends inside an entity.

    :raises SpanError: a span does not fit the text, cuts a token, or overlaps another.
    """
    kept = resolve(text, spans, overlap)
    begins = [span.start for span in kept]
    sentences = [
        align_tokens(
            text,
            [RawToken(token, begin + start, end + start) for token, begin, end in tokens],
            kept[bisect.bisect_left(begins, start) : bisect.bisect_left(begins, stop)],
        )
        for start, stop in _whole_sentences(text, kept, language)
        if (tokens := tokenise(text[start:stop], language))
    ]
    if sum(sentence.tags.count("O") < len(sentence) for sentence in sentences) == 0 and kept:
        raise SpanError(f"the span {_shown(text, kept[0])} has no token; mend its offsets")
    return Aligned(tuple(sentences), len(spans) - len(kept))


def align_tokens(text: str, tokens: Sequence[RawToken], spans: Sequence[TextSpan]) -> Sentence:
    """Tag the tokens of a sentence with the entities in it, which do not overlap.

    :raises SpanError: a span cuts a token or has none, or a token is too long or has an illegal character.
    """
    for token in tokens:
        if len(token.token) > LONGEST_TOKEN or (problem := unfit(token.token)):
            what = (
                f"{problem} in"
                if len(token.token) <= LONGEST_TOKEN
                else f"{len(token.token):,} characters in"
            )
            raise SpanError(f"{what} the token {quoted(token.token)}; mend the text")
    begins, ends = [token.start for token in tokens], [token.end for token in tokens]
    found = []
    for span in spans:
        first, last = bisect.bisect_right(ends, span.start), bisect.bisect_left(begins, span.end) - 1
        if first > last:
            raise SpanError(f"the span {_shown(text, span)} has no token; mend its offsets")
        for token in (tokens[first], tokens[last]):
            if token.start < span.start or token.end > span.end:
                raise SpanError(
                    f"the span {_shown(text, span)} cuts the token {quoted(token.token)} "
                    f"({token.start}-{token.end}); expected whole tokens; mend its offsets, or add a blank"
                )
        found.append(Span(first, last + 1, span.type))
    return Sentence(tuple(token.token for token in tokens), from_spans(found, len(tokens)))


def resolve(text: str, spans: Sequence[TextSpan], overlap: Overlap) -> list[TextSpan]:
    """Order the spans of a text, and refuse or drop overlapping ones.

    :param overlap: refuse spans that overlap, or keep the longest; of equally long ones, the first.
    :raises SpanError: a span lies outside of the text, has no type, or overlaps another.
    """
    for span in spans:
        check_span(text, span)
    kept: list[TextSpan] = []
    for span in sorted(spans, key=lambda span: (span.start - span.end, span.start)):
        place = bisect.bisect(kept, span)
        near = [*kept[max(0, place - 1) : place], *kept[place : place + 1]]
        other = next((one for one in near if one.start < span.end and span.start < one.end), None)
        if other is None:
            kept.insert(place, span)
        elif overlap == "refuse":
            raise SpanError(
                f"the span {_shown(text, span)} overlaps {_shown(text, other)}; expected one entity at a "
                "place; take one out, or say --overlap longest to `backattn convert`"
            )
    return kept


def check_span(text: str, span: TextSpan) -> None:
    """Check that a span lies in a text and has a type.

    :raises SpanError: it does not.
    """
    start, end, kind = span
    if not 0 <= start < end <= len(text):
        raise SpanError(
            f"the span {start}-{end} ({plain(kind)}); expected offsets from 0 to {len(text)}, the length of "
            "the text in characters, and the start before the end; mend its offsets"
        )
    if not is_type(kind) or any("\ud800" <= character <= "\udfff" for character in kind):
        raise SpanError(f"the type {quoted(kind)}; expected a name without blanks; mend it")


def parse_spans(value: Any) -> list[TextSpan]:
    """Read spans from a JSON value: a list of tables with ``start``, ``end`` and ``label``, or of such lists.

    :raises SpanError: the value is not of this form.
    """
    if not isinstance(value, list):
        raise SpanError(f"{quoted(value)} as spans; expected a list; mend the line")
    return [_parse_span(item) for item in value]


def _parse_span(item: Any) -> TextSpan:
    parts = [item.get(key) for key in ("start", "end", "label")] if isinstance(item, dict) else item
    match parts:
        case [int(start), int(end), str(kind)] if not isinstance(start, bool) and not isinstance(end, bool):
            return TextSpan(start, end, kind)
    raise SpanError(
        f"the span {quoted(item)}; expected a table with start, end (whole numbers) and label (a text), or a "
        "list of the three; mend it"
    )


def _whole_sentences(text: str, spans: Sequence[TextSpan], language: str) -> list[tuple[int, int]]:
    """Find the places of the sentences; join two if an entity crosses the border between them."""
    places: list[tuple[int, int]] = []
    ends = iter(sorted(spans, key=lambda span: span.end))
    reach, following = 0, next(ends, None)
    for start, stop in split_sentences(text, language):
        while following is not None and following.start < start:
            reach, following = max(reach, following.end), next(ends, None)
        if places and reach > start:
            places[-1] = (places[-1][0], stop)
        else:
            places.append((start, stop))
    return places


def _shown(text: str, span: TextSpan) -> str:
    return f"{span.start}-{span.end} {quoted(text[span.start : span.end])} ({plain(span.type)})"
