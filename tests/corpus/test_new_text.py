"""New text: what is a file of lines, what one of columns, and what is refused because it is the other."""

import io
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backattn.corpus.new_text import Tokens, read_columns, read_lines
from backattn.errors import CorpusError
from backattn.recipe import ColumnFormat, Unit

WORDS = st.text("abcäßO-.", min_size=1, max_size=4)
SENTENCES = st.lists(st.lists(WORDS, min_size=1, max_size=5).map(tuple), min_size=1, max_size=8)
TAGS = ("O", "B-PER", "I-PER", "S-LOCderiv", "E-PER.NAM", "M-x")


def form(**settings: object) -> ColumnFormat:
    return ColumnFormat(**{"token": 0, "tag": -1, "scheme": "BIOES", **settings})  # type: ignore[arg-type]


def columns(text: str, unit: Unit = "word", **settings: object) -> list[Tokens]:
    return list(read_columns(io.StringIO(text), unit, "text", form(**settings)))


def lines(text: str, unit: Unit = "word") -> list[Tokens]:
    return list(read_lines(io.StringIO(text), unit, "text"))


def in_columns(sentences: Sequence[Tokens], between: str) -> str:
    """As a corpus has them: token, another column, tag."""
    rows = [
        [f"{token}{between}x{between}{TAGS[place % len(TAGS)]}\n" for place, token in enumerate(sentence)]
        for sentence in sentences
    ]
    return "".join("".join(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("settings", "text", "expected"),
    [
        # As the corpus was read: a tab is a blank among others, or the only border.
        ({}, "Anna NE\tB-PER\nsingt VB O\n", [("Anna", "singt")]),
        ({}, "Anna\nsingt\n", [("Anna", "singt")]),
        ({}, "Anna\t-\nsingt\t-\n", [("Anna", "singt")]),  # no tags, and tabs say that they are columns
        ({"separator": "tab"}, "New York\tO\nis\tO\n\nx\tO\n", [("New York", "is"), ("x",)]),
        ({"token": 1}, "1 Anna O\n2 singt O\n", [("Anna", "singt")]),
        ({"token": 1}, "Anna\nsingt\n", [("Anna", "singt")]),
        # The digit goes, whatever stands before it; one character alone is no digit of another.
        ({"segmentation_digit": True}, "Berlin0 O\n101 O\n7 O\n", [("Berlin", "10", "7")]),
    ],
)
def test_columns_are_read_as_those_of_the_corpus(settings: dict, text: str, expected: list) -> None:
    assert columns(text, **settings) == expected


@pytest.mark.parametrize(
    ("settings", "text", "message"),
    [
        ({}, "Anna singt in Ulm .\nBen auch .\n", r"text:1: found 5 columns, expected a tag in column -1, or "
         r"tabs between; is it a file of a sentence a line\? Then leave out --format columns"),
        ({"separator": "tab"}, "Anna singt\n", "text:1: found 2 columns, expected a tag in column -1"),
        ({"tag": 3}, "Anna singt\n", "text:1: found 2 columns, expected a tag in column 3"),
        ({}, "Anna B-PER\nsingt\n", "text:2: found 1 column, expected 2 as in the lines before"),
        ({}, "Anna\n\nBen x O\n", "text:3: found 3 columns, expected 1 as in the lines before"),
        ({"token": 2}, "Anna\tO\n", "text:1: found 2 columns, expected the token in column 2"),
    ],
)  # fmt: skip
def test_what_are_no_columns_of_the_corpus_is_refused(settings: dict, text: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        columns(text, **settings)


@pytest.mark.parametrize(
    ("unit", "text", "message"),
    [
        ("word", "Anna B-PER\nsingt O\n", r"text:2: all 2 lines end in a tag, .* say --format columns"),
        (
            "word",
            "Anna NE S-PER\nund O\nBen NE O\n\nund x O\nso x O\n",
            "text:6: every line so far ends in a ",
        ),
        ("word", "a\nb\n\nc\nd\ne\n", "text:6: every line so far is one token, some lines are empty"),
        ("character", "安\n娜\n唱\n\n歌\n了\n", "text:6: every line so far is one token"),
        ("character", "安 B-PER\n娜 I-PER\n", "text:2: all 2 lines end in a tag"),
        ("word", "Anna singt\nBen\tO\n", "text:2: found a tab"),
    ],
)
def test_columns_are_not_read_as_lines(unit: Unit, text: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        lines(text, unit)


def test_text_that_looks_a_little_like_columns_is_read() -> None:
    assert lines("Blutgruppe O\n") == [("Blutgruppe", "O")]
    assert lines("Ulm\nBonn\nKiel\nHof\nEssen\nMainz\n") == [
        (w,) for w in ["Ulm", "Bonn", "Kiel", "Hof", "Essen", "Mainz"]
    ]
    assert len(lines("Blutgruppe O\n\nO\nVitamin B-12\nEnde .\nBlutgruppe O\nBlutgruppe O\n")) == 6


@given(SENTENCES, st.sampled_from([" ", "\t"]))
def test_columns_of_a_corpus_are_read_and_never_as_lines(sentences: list[Tokens], between: str) -> None:
    text = in_columns(sentences, between)
    assert columns(text) == sentences
    if between == "\t" or sum(map(len, sentences)) > 1:
        with pytest.raises(CorpusError, match="file of columns"):
            lines(text)


@given(SENTENCES)
def test_lines_are_never_read_as_columns(sentences: list[Tokens]) -> None:
    """But for sentences of one token each, which are a file of one column, or end in a tag."""
    text = "".join(" ".join(sentence) + "\n" for sentence in sentences)
    if any(len(s) > 1 and s[-1] not in TAGS and s[-1][:2] != "B-" for s in sentences):
        with pytest.raises(CorpusError, match="leave out --format columns"):
            columns(text)
