"""Options, results and checks that the readers of all kinds of files share."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from backattn.common.errors import BackattnError, CorpusError, MissingError, RecipeError
from backattn.common.regular_files import read_regular
from backattn.common.safe_text import listed, plain, quoted
from backattn.corpus import Sentence
from backattn.corpus.labelled import MOST_BYTES
from backattn.corpus.tags import OUTSIDE
from backattn.corpus.text_spans import Overlap, SpanError, TextSpan, align_text

# Characters of an entity type.
LONGEST_TYPE = 1000


@dataclass(frozen=True)
class Options:
    """How to read a file.

    :param language: language code of raw text; empty if the user gave none.
    :param overlap: what to do with spans that overlap.
    :param names: the tags that numbers stand for, from 0.
    """

    language: str = ""
    overlap: Overlap = "refuse"
    names: tuple[str, ...] = ()


def make_options(language: str, overlap: Overlap, names: str) -> Options:
    """Check the options of a command line and build :class:`Options`.

    :param names: tags, separated by commas.
    :raises RecipeError: the language is no language code, or a tag is there twice.
    """
    if language and not re.fullmatch("[A-Za-z]{2,8}([_-][A-Za-z0-9]{1,8}){0,3}", language):
        raise RecipeError(f"--source {plain(language)}: expected a language code such as de or zh_CN")
    tags = tuple(name.strip() for name in names.split(",")) if names else ()
    if twice := sorted({tag for tag in tags if tags.count(tag) > 1}):
        raise RecipeError(
            f"--names: found {listed(twice)} more than once, expected each tag once, in the order of the "
            "numbers; mend the list"
        )
    return Options(language, overlap, tags)


@dataclass
class Source:
    """The sentences of a file, and counts of what was left out.

    :param overlapping: number of spans, or parts of discontinuous ones, left out for a longer one.
    :param rejected: number of texts that the annotator has rejected or skipped.
    :param form: what was detected about the form of the file, for the user.
    """

    sentences: list[Sentence] = field(default_factory=list)
    overlapping: int = 0
    rejected: int = 0
    form: str = ""

    def add_text(self, where: str, text: str, spans: Sequence[TextSpan], options: Options) -> None:
        """Add the sentences of a text.

        :param where: the file and the line or number of the text, for messages.
        :raises CorpusError: a span does not fit the text.
        :raises RecipeError: the language is not known.
        """
        check_text(where, text, spans)
        if not options.language:
            raise RecipeError(
                f"{where}: found running text, which is split into tokens by the rules of its language; "
                "name it: --source XX (a code such as de)"
            )
        try:
            aligned = align_text(text, spans, options.language, options.overlap)
        except SpanError as error:
            raise CorpusError(f"{where}: found {error}") from None
        self.sentences += aligned.sentences
        self.overlapping += aligned.dropped


def check_text(where: str, text: str, spans: Iterable[TextSpan]) -> None:
    """Check a text for NUL characters, and the types of its spans.

    :raises CorpusError: it has one, or a type is not a name; names the place.
    """
    if "\0" in text:
        place = text.index("\0")
        raise CorpusError(f"{where}: found a NUL character at {place}, expected text; take it out")
    for span in spans:
        check_type(where, span.type)


def check_type(where: str, kind: str) -> None:
    """Check that a type is not ``O``, which stands for no entity, and not longer than any name.

    :raises CorpusError: it is either; names the place.
    """
    if kind == OUTSIDE:
        raise CorpusError(
            f"{where}: found an entity of the type O, which stands for no entity, expected another name; "
            "rename it, or take the entity out"
        )
    if len(kind) > LONGEST_TYPE:
        raise CorpusError(
            f"{where}: found a type of {len(kind):,} characters ({quoted(kind)}), expected at most "
            f"{LONGEST_TYPE:,}; rename it"
        )


def need(package: str, error: ModuleNotFoundError) -> NoReturn:
    """Raise the error for a library that is not installed.

    :raises BackattnError: names the extra that brings it.
    """
    raise BackattnError(
        f"this kind of file is read by the package {package}, which is not installed (no module named "
        f"{error.name}): pip install 'backattn[convert]'"
    ) from None


def read_bytes(path: Path, what: str) -> bytes:
    """Read all bytes of a file.

    :raises MissingError: it cannot be read, or is larger than any corpus.
    """
    try:
        return read_regular(path, MOST_BYTES)
    except OSError as error:
        raise MissingError(f"{path}: cannot be read ({error.strerror}); put {what} there") from None


def read_text(path: Path, what: str) -> str:
    """Read the text of a file in UTF-8. Line ends stay as they are, since offsets count them.

    :raises MissingError: it cannot be read.
    :raises CorpusError: it is not UTF-8.
    """
    try:
        return read_bytes(path, what).decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{path}: byte {error.start + 1:,} is not UTF-8; convert the file (offsets count characters)"
        ) from None


def first(items: Iterable[str], known: Iterable[str]) -> str:
    """Return the first of the known names that is among the items; empty if none is."""
    there = set(items)
    return next((name for name in known if name in there), "")
