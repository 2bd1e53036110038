"""Texts and tokens that a Python program gives: told apart, and checked like those of a file."""

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
    """The texts of a list of str; None where it is a list of lists.

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
    """The sentences of a list of lists of tokens.

    :param empty: whether a sentence may have no token.
    :raises CorpusError: it is something else, or one of its tokens is not legal.
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
    """Refuse a str, whose characters would be read as its items, and what is no sequence of known length."""
    if not isinstance(value, list | tuple):
        raise CorpusError(f"found {quoted(value)} of type {type(value).__name__}, {expected}")
    return value


def named_digests(values: Any) -> frozenset[str]:
    """The sha256 of models that may be opened, in lower case.

    :raises RecipeError: it is no list of the digits of such digests.
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
    """Refuse what is no truth value: ``trust="no"`` would trust.

    :raises RecipeError: one is something else.
    """
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise RecipeError(f"{name}: found {quoted(value)}, expected True or False")
