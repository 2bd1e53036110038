"""Normalised forms of a token, for look-up in a tagger's vocabulary and in files of word vectors."""

import re
from collections.abc import Iterator


def normalised_forms(token: str) -> Iterator[str]:
    """Yield the forms to look a token up by, best first: unchanged, lower case, digits as 0, both."""
    yield token
    yield token.lower()
    yield digits_to_zero(token)
    yield digits_to_zero(token.lower())


def digits_to_zero(token: str) -> str:
    """Replace every digit by 0, so that all years are one word instead of thousands of rare ones."""
    return re.sub(r"\d", "0", token)
