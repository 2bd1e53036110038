"""Raw text and JSON lines: whatever stands in them, a token's place slices it out of its document."""

import io
import json
import sys
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backattn.common.errors import CorpusError, MissingError
from backattn.corpus.documents import Document
from backattn.corpus.input_raw import TextSplitter, read_json, read_text
from backattn.corpus.input_text import InputForm
from backattn.recipe import ColumnFormat, Unit
from bounds import bounded
from examples import examples

PIECES = (
    st.sampled_from(["Ana", " ", "\t", "e\u0301", "👩‍🚀", "👍🏽", "🇪🇸", "क्ष", "می‌خواهم", "\u200d", "\ufeff"])
    | st.sampled_from(
        [
            "\u200b",
            "\u2028",
            "\x0b",
            "\x85",
            "\u00a0",
            ". ",
            "¿",
            "...",
            "&amp;",
            "<b>",
            "王五",
            "。",
            "l'eau",
            "Sr. ",
        ]
    )
    | st.sampled_from(["\x1b[31m", "\U000e0041"])
)
LETTERS = st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"])
LINES = st.lists(PIECES | st.text(LETTERS, max_size=5), max_size=10).map("".join)
# Neither columns nor JSON: a guess at the form is not what is tried here.
TEXTS = st.lists(LINES.map(lambda line: f"« {line}"), min_size=1, max_size=6)
LANGUAGES = st.sampled_from(["es", "de", "zh", "xx"])


def form(unit: Unit = "word") -> InputForm:
    return InputForm("text", unit, ColumnFormat(), ("PER",))


def check_places(document: Document) -> None:
    end = 0
    for sentence in document.sentences:
        assert sentence.tokens
        for token, (begin, after) in zip(sentence.tokens, sentence.places, strict=True):
            assert document.text[begin:after] == token != ""
            assert begin >= end
            end = after
            assert not set(token) & set("\t\n\r\0 ")


@settings(max_examples=examples(150))
@given(lines=TEXTS, end=st.sampled_from(["\n", "\r\n"]), language=LANGUAGES, split=st.booleans())
def test_places_slice_every_line(lines: list[str], end: str, language: str, split: bool) -> None:
    """The line's end, whichever it is, is no part of its text."""
    splitter = TextSplitter(language, "word", split=split)
    data = end.join(lines).encode()
    documents = list(read_text(io.BytesIO(data), form(), splitter))
    assert [document.text for document in documents] == lines
    for document in documents:
        check_places(document)
        assert len(document.sentences) <= 1 or split


@settings(max_examples=examples(150))
@given(lines=TEXTS, end=st.sampled_from(["\n", "\r\n", "\n\n"]), ascii=st.booleans(), split=st.booleans())
def test_places_slice_the_text_of_an_object(lines: list[str], end: str, ascii: bool, split: bool) -> None:
    """Line ends inside are characters of the text; a token never goes over one."""
    text = end.join(lines)
    data = (json.dumps({"text": text}, ensure_ascii=ascii) + "\n").encode()
    (document,) = read_json(io.BytesIO(data), form(), lambda: TextSplitter("es", "word", split=split))
    assert document.text == text
    check_places(document)
    told = (
        json.dumps({"text": text, "tokens": [t for s in document.sentences for t in s.tokens]}) + "\n"
    ).encode()
    (again,) = read_json(io.BytesIO(told), form(), lambda: TextSplitter("es", "word"))
    places = [place for sentence in document.sentences for place in sentence.places]
    assert [place for sentence in again.sentences for place in sentence.places] == places


@settings(max_examples=examples(50))
@given(
    tokens=st.lists(
        LINES.filter(lambda t: t.strip(" \t") and "\t" not in t and "\ufeff" not in t), min_size=1
    )
)
def test_places_slice_tokens_without_their_text(tokens: list[str]) -> None:
    data = (json.dumps({"tokens": tokens}) + "\n").encode()
    (document,) = read_json(io.BytesIO(data), form(), lambda: pytest.fail("nothing is to be split"))
    (sentence,) = document.sentences
    assert list(sentence.tokens) == tokens == [document.text[begin:end] for begin, end in sentence.places]
    assert document.text == " ".join(tokens)


@pytest.mark.parametrize(("text", "tokens", "message"), [
    ("Ana vive en Lugo", ["Ana", "vive", "Lugo"], "found ' en ' in no token, expected tokens of all"),
    ("Anabel vive", ["Ana", "vive"], "found 'bel ' in no token"),
    ("Ana vive.", ["Ana", "vive"], r"found '\.' in no token"),
    ("Ana", [], "found 'Ana' in no token"),
    ("Ana vive", ["vive", "Ana"], "found no 'Ana', token 2"),
    ("Ana vive", ["Ana", "vive", "aquí"], "found no 'aquí', token 3"),
])  # fmt: skip
def test_tokens_are_all_of_their_text(text: str, tokens: list[str], message: str) -> None:
    """Names in the rest would be lost in silence. spaCy, create_from_words_and_text, refuses the same."""
    data = (json.dumps({"text": text, "tokens": tokens}) + "\n").encode()
    with pytest.raises(CorpusError, match=f"text:1: {message}"):
        list(read_json(io.BytesIO(data), form(), lambda: pytest.fail("nothing is to be split")))


def test_characters_are_tokens_where_the_corpus_has_characters() -> None:
    splitter = TextSplitter("zh", "character")
    (document,) = read_text(io.BytesIO("王五 住在A城。".encode()), form("character"), splitter)
    assert document.sentences[0].tokens == tuple("王五住在A城。")
    check_places(document)
    objects = io.BytesIO(b'{"tokens": ["a", "bc"]}')
    with pytest.raises(CorpusError, match="text:1: found 'bc' as a token, expected one character"):
        list(read_json(objects, form("character"), lambda: splitter))


def test_one_long_line_takes_bounded_time_and_memory() -> None:
    splitter = TextSplitter("es", "word")
    line = ("Ana Ruiz vive en Lugo, o no. " * 3_000).encode()
    with bounded(10, 512):
        (document,) = read_text(io.BytesIO(line), form(), splitter)
    assert len(document.sentences) == 3_000


def test_an_object_that_is_huge_takes_bounded_memory() -> None:
    """A megabyte of empty lists is twenty-five in Python."""
    line = b'{"tokens": [' + b"[]," * 400_000 + b"[]]}\n"
    with bounded(10, 128), pytest.raises(CorpusError, match=r"text:1: found \[\[\], .* as tokens, expected"):
        list(read_json(io.BytesIO(line), form(), lambda: pytest.fail("nothing is to be split")))


def test_a_tokenizer_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)  # type: ignore[arg-type]  # as Python says: not to be found
    with pytest.raises(
        MissingError, match=r"--tokenizer spacy: spaCy is not installed; install backattn\[spacy\]"
    ):
        TextSplitter("es", "word", "spacy")
    monkeypatch.setitem(sys.modules, "sacremoses", None)  # type: ignore[arg-type]
    with pytest.raises(
        MissingError, match=r"split into words by sacremoses, which is not installed; .*--input tokens"
    ):
        TextSplitter("hu", "word")  # a language whose rules no test has read yet
    assert TextSplitter("zh", "character").sentences("王五", "text:1")[0].tokens == ("王", "五")


def test_spacy_splits_words_by_its_own_rules() -> None:
    pytest.importorskip("spacy")
    splitter = TextSplitter("es", "word", "spacy")
    (sentence,) = splitter.sentences("  Ana\tRuiz, 3.º  D.E.A.", "text:1")
    spacy: ModuleType = sys.modules["spacy"]
    theirs = [t for t in spacy.blank("es")("Ana\tRuiz, 3.º  D.E.A.") if not t.is_space]
    assert list(sentence.tokens) == [token.text for token in theirs]
    (document,) = read_text(io.BytesIO("Hola 👩‍🚀,\tCafe\u0301!".encode()), form(), splitter)
    check_places(document)
