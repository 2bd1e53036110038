"""Check the texts, tokens and options that a Python program passes, as those of a file are checked."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from backattn.common.errors import CorpusError, RecipeError
from backattn.common.safe_text import quoted
from backattn.corpus.documents import Tokens, check_tokens
from backattn.corpus.input_raw import check_text

_EXPECTED = "expected a str (a text), a list of str (texts), or a list of lists of str (tokens)"
_SHA256 = re.compile("[0-9a-f]{64}")


def given_texts(value: Any) -> list[str] | None:
    """Check a list of texts; return None for a list of lists, which are tokens.

    :raises CorpusError: it is neither, or a text cannot be written as UTF-8.
    """
    kinds = {isinstance(one, str) for one in _listed(value, _EXPECTED)}
    if kinds != {True}:
        if len(kinds) > 1:
            raise CorpusError(f"found str and other values in one list, {_EXPECTED}; tag them one by one")
        return None
    for number, text in enumerate(value, 1):
        check_text(text, f"text {number:,}")
    return [*value]


def given_tokens(value: Any, *, empty: bool = False) -> list[Tokens]:
    """Check the sentences of a list of lists of tokens.

    :param empty: whether a sentence may have no token.
    :raises CorpusError: the value is something else, or a token is not legal.
    """
    expected = "expected a list of lists of str, each the tokens of a sentence"
    found = []
    for number, sentence in enumerate(_listed(value, expected), 1):
        where = f"sentence {number:,}"
        for token in _listed(sentence, f"{expected} ({where})"):
            if not isinstance(token, str):
                raise CorpusError(f"{where}: found {quoted(token)} as a token, {expected}")
            check_text(token, where)
        check_tokens(sentence, where)
        if not (sentence or empty):
            raise CorpusError(f"{where}: found no token, expected at least one; leave it out")
        found.append(tuple(sentence))
    return found


def _listed(value: Any, expected: str) -> Sequence[Any]:
    """Require a list or a tuple; the characters of a str would be read as its items."""
    if not isinstance(value, list | tuple):
        raise CorpusError(f"found {quoted(value)} of type {type(value).__name__}, {expected}")
    return value


def named_digests(values: Any) -> frozenset[str]:
    """Check the sha256 of models that may be opened; return them in lower case.

    :raises RecipeError: the value is not a list of sha256 digests.
    """
    listed: Iterable[Any] = (
        [values] if isinstance(values, str) or not isinstance(values, Iterable) else values
    )
    digests = [value.lower() if isinstance(value, str) else value for value in listed]
    for value in digests:
        if not (isinstance(value, str) and _SHA256.fullmatch(value)):
            raise RecipeError(
                f"trust_sha256: found {quoted(value)}, expected a list of sha256, each 64 hexadecimal digits"
            )
    return frozenset(digests)


def check_switches(**switches: object) -> None:
    """Require truth values: ``trust="no"`` would count as true.

    :raises RecipeError: a value is not True or False.
    """
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise RecipeError(f"{name}: found {quoted(value)}, expected True or False")
