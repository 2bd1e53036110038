"""Under which forms a token is looked up, in a tagger's vocabulary and in files of word vectors."""

import re
from collections.abc import Iterator


def spellings(token: str) -> Iterator[str]:
    """The forms under which a token is looked up, best first: as it is, in lower case, digits as 0."""
    yield token
    yield token.lower()
    yield digits_to_zero(token)
    yield digits_to_zero(token.lower())


def digits_to_zero(token: str) -> str:
    """Write every digit as 0, so that a year or a score is one word and not ten thousand rare ones."""
    return re.sub(r"\d", "0", token)
