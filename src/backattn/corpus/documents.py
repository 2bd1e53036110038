"""New text to tag: the documents of an input, and the places of their tokens."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from backattn.common.errors import CorpusError
from backattn.common.safe_text import quoted
from backattn.common.text_lines import BYTE_ORDER_MARK
from backattn.corpus.labelled import LONGEST_SENTENCE, LONGEST_TOKEN
from backattn.corpus.raw_text import tokenise
from backattn.recipe import Unit

Tokens = tuple[str, ...]
# Characters that would end a line or a column of the output, and NUL.
_NOT_IN_TOKENS = {"\t": "a tab", "\n": "a line feed", "\r": "a carriage return", "\0": "a NUL character"}


class TokenisedSentence(NamedTuple):
    """The tokens of a sentence, and where each begins and ends in its document's text."""

    tokens: Tokens
    places: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Document:
    """A unit of input: a line of text or of tokens, a JSON object, or a sentence in columns.

    :param text: the text without its line end; ``text[start:end]`` is the token for each of the places.
    :param sentences: none for a blank line.
    :param separator: the line separates documents (``-DOCSTART-``) and is nothing to tag.
    """

    text: str
    sentences: tuple[TokenisedSentence, ...] = ()
    separator: bool = False


def joined(tokens: Sequence[str], unit: Unit) -> Document:
    """Make a document of tokens without a text: words joined by blanks, or characters joined by nothing."""
    between = "" if unit == "character" else " "
    places, place = [], 0
    for token in tokens:
        places.append((place, place + len(token)))
        place += len(token) + len(between)
    return Document(between.join(tokens), (TokenisedSentence(tuple(tokens), tuple(places)),))


def found_in(text: str, tokens: Sequence[str], where: str) -> TokenisedSentence:
    """Find the places of tokens in their text, one after the other.

    :param where: file and line, for messages.
    :raises CorpusError: the text does not hold them in this order, or holds more than them and blanks.
    """
    places, between, place = [], [], 0
    for number, token in enumerate(tokens, 1):
        begin = text.find(token, place)
        if begin < 0:
            raise CorpusError(
                f"{where}: found no {quoted(token)}, token {number:,}, behind the tokens before it in the "
                "text; expected the tokens of this text, in their order; mend them, or leave out text or "
                "tokens"
            )
        between.append(text[place:begin])
        place = begin + len(token)
        places.append((begin, place))
    for rest in (*between, text[place:]):
        if rest.strip() and tokenise(rest, "", "character"):  # no name in it would be found
            raise CorpusError(
                f"{where}: found {quoted(rest)} in no token, expected tokens of all the text; mend them, or "
                "leave out text or tokens"
            )
    return TokenisedSentence(tuple(tokens), tuple(places))


def check_tokens(tokens: Sequence[str], where: str) -> None:
    """Check the tokens of a sentence.

    :param where: file and line, for messages.
    :raises CorpusError: there are too many; or a token is blank, too long, or has a character that ends lines
        or columns, or a byte order mark.
    """
    if len(tokens) > LONGEST_SENTENCE:
        raise CorpusError(
            f"{where}: found a sentence of more than {LONGEST_SENTENCE:,} tokens; expected a line, an empty "
            "line or a full stop after each sentence; put them in"
        )
    longest = max(map(len, tokens), default=0)
    if longest > LONGEST_TOKEN:
        raise CorpusError(
            f"{where}: found a token of {longest:,} characters, expected at most {LONGEST_TOKEN:,}; mend it"
        )
    for token in tokens:
        if not token.strip(" \t"):
            raise CorpusError(f"{where}: found {quoted(token)} as a token, expected some text; mend the line")
        # It is invisible, and makes another token of the same word; mostly it comes from joining files.
        if BYTE_ORDER_MARK in token:
            raise CorpusError(
                f"{where}: found a byte order mark (U+FEFF), expected it at the head of the file alone; take "
                "it out"
            )
        for character, name in _NOT_IN_TOKENS.items():
            if character in token:
                raise CorpusError(f"{where}: found {name} in the token {quoted(token)}; take it out")


def check_characters(tokens: Iterable[str], unit: Unit, where: str) -> None:
    """Refuse tokens of several letters if the unit is a character.

    :param where: file and line, for messages.
    :raises CorpusError: a token has several letters.
    """
    for token in tokens:
        if unit == "character" and sum(map(str.isalpha, token)) > 1:
            raise CorpusError(f"{where}: found {quoted(token)} as a token, expected one character; split it")
