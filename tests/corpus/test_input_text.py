"""New text that is tokenised: what is lines, what is columns, and what is refused because it is the other."""

import io
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backattn.common.errors import CorpusError
from backattn.corpus.documents import Document, Tokens
from backattn.corpus.input_text import InputForm, read_columns, read_tokens
from backattn.recipe import ColumnFormat, Unit

# As German and Chinese have them: words that look like tags, one letter among them.
WORDS = st.sampled_from(["E-Mail", "S-Bahn", "O", "I-Tüpfel", "a", "BB", "ß-", "-", "B-"])
SENTENCES = st.lists(st.lists(WORDS, min_size=1, max_size=5).map(tuple), min_size=1, max_size=8)
TYPES = ("PER", "LOCderiv", "PER.NAM")
TAGS = ("B-PER", "O", "I-PER", "S-LOCderiv", "E-PER.NAM", "M-PER")


def form(unit: Unit, **settings: object) -> InputForm:
    format = ColumnFormat(**{"token": 0, "tag": -1, "scheme": "BIOES", **settings})  # type: ignore[arg-type]
    return InputForm("text", unit, format, TYPES)


def tokens_of(documents: Iterable[Document]) -> list[Tokens]:
    """The tokens of all sentences, each in its place in the text."""
    found = []
    for document in documents:
        for sentence in document.sentences:
            assert tuple(document.text[start:end] for start, end in sentence.places) == sentence.tokens
            found.append(sentence.tokens)
    return found


def columns(text: str, unit: Unit = "word", **settings: object) -> list[Tokens]:
    return tokens_of(read_columns(io.BytesIO(text.encode()), form(unit, **settings)))


def lines(text: str, unit: Unit = "word", **settings: object) -> list[Tokens]:
    return tokens_of(read_tokens(io.BytesIO(text.encode()), form(unit, **settings)))


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
        ({"separator": "tab"}, "New York\nis\n", [("New York", "is")]),
        ({"separator": "tab"}, "New York\tO\nis\tO\n\nx\tO\n", [("New York", "is"), ("x",)]),
        ({"token": 1}, "1 Anna O\n2 singt O\n", [("Anna", "singt")]),
        # New text has no tags, or something in their place; where the token is its only column, that is it.
        ({}, "Anna\nsingt\n", [("Anna", "singt")]),
        ({}, "Anna NE\nsingt _\n", [("Anna", "singt")]),
        ({}, "Anna\t-\n", [("Anna",)]),
        ({}, "Anna B-PER\n", [("Anna",)]),
        ({"token": 1}, "Anna\nsingt\n", [("Anna", "singt")]),
        # The digit goes, whatever stands before it; one character alone is no digit of another.
        ({"segmentation_digit": True}, "Berlin0 O\n101 O\n7 O\n", [("Berlin", "10", "7")]),
    ],
)
def test_columns_are_read_as_those_of_the_corpus(settings: dict, text: str, expected: list) -> None:
    assert columns(text, **settings) == expected


def test_a_character_may_have_several_code_points() -> None:
    """A corpus has them: emoji, and what was one before somebody decoded it wrongly."""
    assert columns("安 O\n\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER} O\n", "character") == [
        ("安", "\N{REPLACEMENT CHARACTER}" * 2)
    ]
    with pytest.raises(CorpusError, match="text:2: found '安娜', expected one character in column 0"):
        columns("唱 O\n安娜 O\n", "character")
    assert columns("安娜 O\n唱 O\n", "character", split_characters=True) == [("安", "娜", "唱")]


@pytest.mark.parametrize(
    ("settings", "text", "message"),
    [
        ({}, "Anna singt in Ulm .\nBen auch .\n", r"text:2: found 3 columns, expected 5 as in the lines "
         r"before; .* Is it a file of a sentence a line\? Then say --input tokens, or text"),
        ({}, "Anna singt in Ulm .\n", "text:1: found one line of 5 words, expected a token a line"),
        ({"separator": "tab"}, "Anna singt\n", "text:1: every line has spaces, expected tabs between"),
        ({"separator": "tab"}, "a b\n" * 7, "text:5: every line has spaces, expected tabs between columns"),
        ({}, "Anna B-PER\nsingt\n", "text:2: found 1 column, expected 2 as in the lines before"),
        ({}, "Anna\n\nBen x O\n", "text:3: found 3 columns, expected 1 as in the lines before"),
        ({"token": 2}, "Anna\tO\n", "text:1: found 2 columns, expected the token in column 2"),
        ({"token": 1}, "Anna\tB-PER\nRuiz\tE-PER\n", "text:2: the column that would be read as tokens, 1"),
        ({"token": 1}, "so\tO\n" * 9, "text:5: the column that would be read as tokens, 1, holds tags"),
    ],
)  # fmt: skip
def test_what_are_no_columns_of_the_corpus_is_refused(settings: dict, text: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        columns(text, **settings)


@pytest.mark.parametrize(
    ("unit", "text", "message"),
    [
        ("word", "Anna B-PER\nsingt O\n", r"text:2: every line has a tag, .* say --input columns"),
        (
            "word",
            "# news\nAnna NE O\nund O\nBen NE O\n\nund x O\nso x O\n",
            "text:7: 5 lines in a row have a tag",
        ),
        ("word", "-DOCSTART- X O\n\nAnna NE S-PER\n", "text:3: every line has a tag"),
        ("word", "a\nb\n\nc\nd\ne\n", "text:6: every line so far is one token, some lines are empty"),
        ("character", "安\n娜\n唱\n\n歌\n了\n", "text:6: every line so far is one token"),
        ("character", "安 B-PER\n娜 I-PER\n", "text:2: every line has a tag"),
        ("word", "Anna singt\nBen\tO\n", "text:2: found a tab"),
    ],
)
def test_columns_are_not_read_as_lines(unit: Unit, text: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        lines(text, unit)


def test_the_corpus_says_where_a_tag_stands() -> None:
    text = "1 Anna B-PER _\n2 singt O _\n"
    assert len(lines(text)) == 2
    with pytest.raises(CorpusError, match="text:2: every line has a tag"):
        lines(text, tag=2)


@pytest.mark.parametrize(
    "text",
    [
        "Blutgruppe O\nAnna hat Blutgruppe O\n",
        "Bitte per E-Mail\nNimm die S-Bahn\n" * 5,
        "Ulm\nBonn\nKiel\nHof\nEssen\nMainz\n",  # a list of names
        "Blutgruppe O\n\nO\nVitamin B-12\nEnde .\n",
        "",
        "\n\n",
    ],
)
def test_text_that_looks_a_little_like_columns_is_read(text: str) -> None:
    assert lines(text) == [tuple(line.split()) for line in text.splitlines() if line]


@given(SENTENCES, st.sampled_from([" ", "\t"]))
def test_columns_of_a_corpus_are_read_and_never_as_lines(sentences: list[Tokens], between: str) -> None:
    text = in_columns(sentences, between)
    assert columns(text) == sentences
    with pytest.raises(CorpusError, match="file of columns"):
        lines(text)


@given(SENTENCES)
def test_lines_are_read_and_seldom_as_columns(sentences: list[Tokens]) -> None:
    """Where all sentences are equally long, nobody can know: whoever says that they are columns is right."""
    text = "".join(" ".join(sentence) + "\n" for sentence in sentences)
    if sum(sentence[-1] == "O" and len(sentence) > 1 for sentence in sentences) < 5:
        assert lines(text) == sentences
    if len({len(sentence) for sentence in sentences}) > 1:
        with pytest.raises(CorpusError, match="say --input tokens, or text"):
            columns(text)
