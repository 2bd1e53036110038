"""Make sentences of rows of tokens and tags; their scheme is the first one that all tags fit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backattn.common.errors import CorpusError
from backattn.common.safe_text import quoted
from backattn.conversion.source import Options, Source
from backattn.corpus import Sentence
from backattn.corpus.jsonl import json_lines
from backattn.corpus.labelled import LONGEST_TOKEN, unfit
from backattn.corpus.tags import TagError, to_bioes
from backattn.recipe import Scheme

# The first of these that all tags of a file fit is its scheme. IOB1 comes last: any I- may begin an entity
# there.
SCHEMES: tuple[Scheme, ...] = ("IOB2", "BIOES", "BILOU", "BMES", "BMEWO", "IOB1")


class TokenRows:
    """Collects rows of tokens and tags, and converts them at the end."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._rows: list[tuple[str, list[str], list[str]]] = []

    def add(self, where: str, tokens: Any, tags: Any, names: Sequence[str] = ()) -> None:
        """Add a row; one without tokens is left out.

        :param names: the tags that numbers stand for, if the file has them; else the options name them.
        :raises CorpusError: tokens and tags are not lists of equal length, or a token or tag is not legal.
        """
        if not isinstance(tokens, list) or not isinstance(tags, list) or len(tokens) != len(tags):
            raise CorpusError(
                f"{where}: found tokens {quoted(tokens)} and tags {quoted(tags)}, expected two lists of "
                "equal length; mend the row"
            )
        for token in tokens:
            if (
                not isinstance(token, str)
                or not token.strip(" ")
                or len(token) > LONGEST_TOKEN
                or unfit(token)
            ):
                raise CorpusError(
                    f"{where}: found the token {quoted(token)}, expected text without line ends"
                )
        spelled = [self._spelled(where, tag, names or self._options.names) for tag in tags]
        if tokens:
            self._rows.append((where, tokens, spelled))

    def _spelled(self, where: str, tag: Any, names: Sequence[str]) -> str:
        if isinstance(tag, str):
            return tag
        if type(tag) is int and 0 <= tag < len(names):
            return names[tag]
        expected = f"a text or a number from 0 to {len(names) - 1}" if names else "a text"
        advice = "name the tags of the numbers in their order: --names O,B-PER,I-PER"
        if isinstance(tag, list | dict):
            advice = "write one tag for each token instead of spans"
        raise CorpusError(f"{where}: found the tag {quoted(tag)}, expected {expected}; {advice}")

    @property
    def source(self) -> Source:
        """The sentences, read by the first scheme that all tags fit.

        :raises CorpusError: they fit none; names the row that does not fit the first scheme.
        """
        problem: CorpusError | None = None
        for scheme in SCHEMES:
            try:
                return Source([_sentence(*row, scheme) for row in self._rows], form=f"tags in {scheme}")
            except CorpusError as error:
                problem = problem or error
        assert problem is not None
        raise problem


def _sentence(where: str, tokens: list[str], tags: list[str], scheme: Scheme) -> Sentence:
    try:
        return Sentence(tuple(tokens), to_bioes(tags, scheme))
    except TagError as error:
        raise CorpusError(
            f"{where}: found {error.found}, expected {error.expected} (or tags of "
            f"{', '.join(SCHEMES[1:])} in the whole file); mend it"
        ) from None


def read_token_lines(path: Path, options: Options, fields: tuple[str, str]) -> Source:
    """Read JSON lines of tokens and tags.

    :param fields: the names of both lists.
    :raises CorpusError: a line does not have them; names file and line.
    """
    rows = TokenRows(options)
    for number, row in json_lines(path):
        rows.add(f"{path}:{number}", row.get(fields[0]), row.get(fields[1]))
    return rows.source
