"""Format tagged documents: columns, JSON lines, one line for each entity, or text with marked entities."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from backattn.common.safe_text import printable
from backattn.corpus.documents import Document
from backattn.corpus.tags import OUTSIDE, OutputScheme, from_bioes
from backattn.tagger.prediction import Prediction

Output = Literal["columns", "jsonl", "spans", "color"]
OUTPUTS = get_args(Output)
OUTPUT_SCHEMES = get_args(OutputScheme)

# ANSI codes of cyan, yellow, green, magenta, blue and red; types take them in turn.
_COLOURS = (36, 33, 32, 35, 34, 31)
# Digits of a score.
_DIGITS = 6


class TextEntity(NamedTuple):
    """An entity of a document: ``document.text[start:end]``, its type, and its probability."""

    start: int
    end: int
    type: str
    score: float


@dataclass(frozen=True)
class TaggedDocument:
    """A document with what was found in each of its sentences."""

    document: Document
    predictions: tuple[Prediction, ...]

    @property
    def entities(self) -> Iterator[TextEntity]:
        """The entities with their places in the text, in order."""
        for sentence, prediction in zip(self.document.sentences, self.predictions, strict=True):
            for span, score in prediction.entities:
                start, end = sentence.places[span.start][0], sentence.places[span.end - 1][1]
                yield TextEntity(start, end, span.type, round(score, _DIGITS))


def columns(tagged: TaggedDocument, scheme: OutputScheme = "BIOES") -> str:
    """Format tokens and tags in two columns, with an empty line after each sentence and for a blank line."""
    document = tagged.document
    if document.separator:
        return f"{document.text.split()[0]}\t{OUTSIDE}\n\n"
    lines = []
    for sentence, prediction in zip(document.sentences, tagged.predictions, strict=True):
        tags = from_bioes(prediction.tags, scheme)
        lines += [f"{token}\t{tag}\n" for token, tag in zip(sentence.tokens, tags, strict=True)]
        lines.append("\n")
    return "".join(lines) or "\n"


def json_line(tagged: TaggedDocument) -> str:
    """Format one JSON object: the text, its tokens, and its entities with their places in the text."""
    document = tagged.document
    value = {
        "text": document.text,
        "tokens": [token for sentence in document.sentences for token in sentence.tokens],
        "entities": [
            {**entity._asdict(), "text": document.text[entity.start : entity.end]}
            for entity in tagged.entities
        ],
    }
    return json.dumps(value, ensure_ascii=False) + "\n"


def spans(tagged: TaggedDocument, number: int) -> str:
    """Format a line for each entity: number of the document, start, end, type, score, and text, escaped."""
    text = tagged.document.text
    return "".join(
        f"{number}\t{e.start}\t{e.end}\t{printable(e.type)}\t{e.score}\t{printable(text[e.start : e.end])}\n"
        for e in tagged.entities
    )


def marked(tagged: TaggedDocument, types: Sequence[str], *, ansi: bool) -> str:
    """Format the text with its entities in brackets, as in ``[Ana Ruiz PER] vive``; everything is escaped.

    :param types: all types that may occur; their order decides their colours.
    :param ansi: put the brackets in colours, for a terminal.
    """
    text, place, parts = tagged.document.text, 0, []
    for start, end, kind, _ in tagged.entities:
        entity = f"[{_shown(text[start:end])} {printable(kind)}]"
        if ansi:
            entity = f"\x1b[1;{_COLOURS[types.index(kind) % len(_COLOURS)]}m{entity}\x1b[0m"
        parts += [_shown(text[place:start]), entity]
        place = end
    return "".join([*parts, _shown(text[place:]), "\n"])


def _shown(text: str) -> str:
    return printable(text, keep="\n\t")
