"""Types of a recipe's values: ranges of numbers and patterns of texts.

Each field of a table names one of these types; two keys of one name may have different ranges.
"""

from typing import Annotated

from msgspec import Meta, Struct

_DIGEST = "[0-9A-Fa-f]{64}"

# Upper ends are far above what anybody trains, and below what a machine's memory or a C integer holds.
Positive = Annotated[int, Meta(ge=1, le=1_000_000_000)]
# Epochs; sentences of a batch.
Medium = Annotated[int, Meta(ge=1, le=100_000)]
# Rows of a table that is held in memory.
Large = Annotated[int, Meta(ge=1, le=10_000_000)]
# Hypotheses of a beam, neighbours of a word.
Small = Annotated[int, Meta(ge=1, le=1000)]
# Numbers of a vector or of LSTM states: a weight matrix has the square of them.
Width = Annotated[int, Meta(ge=1, le=8192)]
OptionalWidth = Annotated[int, Meta(ge=0, le=8192)]
Natural = Annotated[int, Meta(ge=0)]
PositiveNumber = Annotated[float, Meta(gt=0)]
NaturalNumber = Annotated[float, Meta(ge=0)]
# A fraction, such as a dropout.
Share = Annotated[float, Meta(ge=0, lt=1)]
# Characters of an n-gram of a word.
NgramLength = Annotated[int, Meta(ge=1, le=100)]
# An F1 as the paper prints it.
Percent = Annotated[float, Meta(ge=0, le=100)]
# A column from 0, or -1 for none.
OptionalColumn = Annotated[int, Meta(ge=-1)]
Digest = Annotated[str, Meta(pattern=rf"^{_DIGEST}\Z")]
OptionalDigest = Annotated[str, Meta(pattern=rf"^({_DIGEST})?\Z")]
# An ending that is taken off a word.
Ending = Annotated[str, Meta(min_length=1, max_length=20)]
# A language code is part of file names (dict.<source>.txt) and of fairseq's own command line.
Language = Annotated[str, Meta(pattern=r"^[A-Za-z]{2,8}([_-][A-Za-z0-9]{1,8}){0,3}\Z")]
OptionalLanguage = Annotated[str, Meta(pattern=r"^([A-Za-z]{2,8}([_-][A-Za-z0-9]{1,8}){0,3})?\Z")]
# Name in `backattn report` of a model whose BiLSTM states are not concatenated with T.
PaperModel = Annotated[
    str, Meta(pattern=r"^(((fastText|CharLM|BERT)\+)*|(BAN|Random) Embedding\+)BiLSTM\+CRF\Z")
]
# Descriptions for messages, in place of a pattern or range.
IN_WORDS = {
    Percent: "an F1 in percent",
    OptionalColumn: "a column from 0, or -1 for none",
    Digest: "a digest of 64 hexadecimal digits",
    OptionalDigest: "a digest of 64 hexadecimal digits",
    Language: "a language code such as de or zh_CN",
    OptionalLanguage: "a language code such as de or zh_CN",
    Ending: "an ending of 1 to 20 characters",
    PaperModel: "a name such as BiLSTM+CRF, CharLM+BiLSTM+CRF or BERT+BiLSTM+CRF",
}


class Table(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of a recipe's tables: immutable, and unknown keys are refused."""


def one_of(table: Table, *keys: str) -> None:
    """Require that exactly one of these keys has a value.

    :raises ValueError: none or several have one.
    """
    if sum(bool(getattr(table, key)) for key in keys) != 1:
        raise ValueError(f"give exactly one of {' and '.join(keys)}")
