"""Types of a recipe's values: which range a number has, and which form a text.

Each field of a recipe's tables names one of these, so that a range belongs to its table and not to a name.
"""

from typing import Annotated

from msgspec import Meta, Struct

_DIGEST = "[0-9A-Fa-f]{64}"

Positive = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]
PositiveNumber = Annotated[float, Meta(gt=0)]
NaturalNumber = Annotated[float, Meta(ge=0)]
# A share of one, as a dropout.
Share = Annotated[float, Meta(ge=0, lt=1)]
# An F1 as the paper prints it.
Percent = Annotated[float, Meta(ge=0, le=100)]
# A column from 0, or -1 for none.
OptionalColumn = Annotated[int, Meta(ge=-1)]
Digest = Annotated[str, Meta(pattern=rf"^{_DIGEST}\Z")]
OptionalDigest = Annotated[str, Meta(pattern=rf"^({_DIGEST})?\Z")]
# A language code is part of file names (dict.<source>.txt) and of fairseq's own command line.
Language = Annotated[str, Meta(pattern=r"^[A-Za-z]{2,8}([_-][A-Za-z0-9]{1,8}){0,3}\Z")]
# A row of the paper's tables, as `backattn report` names models.
PaperModel = Annotated[str, Meta(pattern=r"^(((fastText|CharLM|BERT)\+)*BiLSTM\+CRF)?\Z")]
# What a person reads in place of a pattern.
IN_WORDS = {
    Percent: "an F1 in percent",
    OptionalColumn: "a column from 0, or -1 for none",
    Digest: "a digest of 64 hexadecimal digits",
    OptionalDigest: "a digest of 64 hexadecimal digits",
    Language: "a language code, as de or zh_CN",
    PaperModel: "a base as CharLM+BiLSTM+CRF, or BERT or nothing in place of CharLM",
}


class Table(Struct, frozen=True, forbid_unknown_fields=True):
    """A table of a recipe: an immutable value whose keys are all known."""


def one_of(table: Table, *keys: str) -> None:
    """:raises ValueError: not exactly one of these keys has a value."""
    if sum(bool(getattr(table, key)) for key in keys) != 1:
        raise ValueError(f"give exactly one of {' and '.join(keys)}")
