"""Raw text: the tokens of a text slice it exactly and are those of Moses; sentences end where they should."""

import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sacremoses import MosesTokenizer

from backattn.corpus.raw_text import split_sentences, tokenise, unit_of
from bounds import bounded
from examples import examples

LANGUAGES = ("es", "de", "fr", "fi", "zh", "xx", "zh_CN")
BLANKS = " \t\r\n\x0b\u00a0\u2028\u200b\ufeff\0"
PIECES = st.sampled_from(
    [*BLANKS, "\r\n", "e\u0301", "👩‍🚀", "👍🏽", "❤️", "🇪🇸", "...", "DOTMULTI", "THISISPROTECTED000", "&amp;",
     "l'eau", "U.S.A.", "3,50", "@-@", "Ana", "नमस्ते", "\u200d", "\ud800", "a.b", "''", "København."]
)  # fmt: skip
TEXTS = st.lists(PIECES | st.text(max_size=4), max_size=12).map("".join)


@given(text=TEXTS, language=st.sampled_from(LANGUAGES))
@example(text="a..DOTMULTI", language="es")
@settings(max_examples=examples(300))
def test_tokens_are_slices_of_the_text(text: str, language: str) -> None:
    tokens = tokenise(text, language)
    place = 0
    for token, start, end in tokens:
        assert text[start:end] == token
        assert token.strip(BLANKS) == token != ""
        assert start >= place
        assert not text[place:start].strip(BLANKS + "".join(map(chr, [*range(32), *range(127, 160)]))).split()
        place = end
    if unit_of(language) == "character":
        assert all(len(token) == 1 for token, _, _ in tokens)


@given(text=TEXTS, language=st.sampled_from(LANGUAGES))
@settings(max_examples=examples(200))
def test_sentences_hold_every_token_once(text: str, language: str) -> None:
    """No sentence begins or ends in a blank, and outside of them there is nothing but blanks."""
    whole = [c for c in text if tokenise(c, "zh")]
    places = split_sentences(text, language)
    assert [c for start, end in places for c in text[start:end] if tokenise(c, "zh")] == whole
    assert all(start < end for start, end in places)
    assert places == sorted(places)
    for start, end in places:
        assert tokenise(text[start], "zh")
        assert tokenise(text[end - 1], "zh")


@pytest.mark.parametrize("text", [
    "Ana Ruiz vive en Lugo, ¿no? Sí, dijo el Sr. García.",
    "L'eau coûte 3,50 € (ou plus) à l'U.E. d'hier...",
    "Die Straße in Baden-Württemberg kostet 1.000,5 %.",
])  # fmt: skip
@pytest.mark.parametrize("language", ["es", "de", "fr"])
def test_words_are_those_of_moses(text: str, language: str) -> None:
    words = MosesTokenizer(language).tokenize(text, escape=False)
    assert [token for token, _, _ in tokenise(text, language)] == words


def test_a_name_loses_its_full_stop() -> None:
    assert [token for token, _, _ in tokenise("Hun bor i København.", "da")] == [
        "Hun", "bor", "i", "København", ".",
    ]  # fmt: skip


def test_letters_keep_their_marks_and_emoji_stay_whole() -> None:
    text = "Cafe\u0301 👩‍🚀👍🏽 ❤️!"
    assert [token for token, _, _ in tokenise(text, "fr")] == ["Cafe\u0301", "👩‍🚀", "👍🏽", "❤️", "!"]
    # A letter that has no form of one character.
    assert [token for token, _, _ in tokenise("Jo\u0323\u0301ba, lo\u0323", "yo")] == [
        "Jo\u0323\u0301ba",
        ",",
        "lo\u0323",
    ]


LETTERS = st.text("aZéüøåñřßØÅ", min_size=1, max_size=4) | st.sampled_from(
    ["München", "Nguyễn", "Йошкар", "."]
)


@given(text=st.lists(LETTERS | st.sampled_from([*" -.'’/", ", "]), max_size=8).map("".join))
@example(text="Décio aus München.")
@example(text="Herr André-Müller, É.-U. l'été")
@settings(max_examples=examples(100))
def test_letters_and_their_marks_may_stand_apart(text: str) -> None:
    """Decomposed text (NFD) has the words of composed text (NFC), as its characters spell them."""
    composed = [unicodedata.normalize("NFD", token) for token, _, _ in tokenise(text, "de")]
    assert [token for token, _, _ in tokenise(unicodedata.normalize("NFD", text), "de")] == composed


@pytest.mark.parametrize("text", ["e\u0301" * 40_000, "e\u0301a." * 20_000, "Mu\u0308nchen," * 8_000])
def test_a_long_word_of_letters_and_marks_takes_time_by_its_length(text: str) -> None:
    with bounded(10, 512):
        assert tokenise(text, "de") == [(text, 0, len(text))]


def test_chinese_is_split_into_characters() -> None:
    assert tokenise("我 爱\tA1", "zh_CN") == [("我", 0, 1), ("爱", 2, 3), ("A", 4, 5), ("1", 5, 6)]
    assert tokenise("ab", "es", "character") == [("a", 0, 1), ("b", 1, 2)]


@pytest.mark.parametrize(("text", "language", "sentences"), [
    ("Ana vive aquí. Luis no.", "es", ["Ana vive aquí.", "Luis no."]),
    ("El Sr. García y J. Ruiz.  ¡Hola! ¿Qué?", "es", ["El Sr. García y J. Ruiz.", "¡Hola!", "¿Qué?"]),
    ("In the U.S. Army. He left", "en", ["In the U.S. Army.", "He left"]),
    ("cost ca. three. «So?» 3 men", "en", ["cost ca. three.", "«So?»", "3 men"]),
    ("Ana\r\n\r\n Luis \n", "es", ["Ana", "Luis"]),
    ("Ana\rLuis\r", "es", ["Ana", "Luis"]),
    ("Ana\u2028Ruiz\x0bvive\x85aquí", "es", ["Ana\u2028Ruiz\x0bvive\x85aquí"]),
    ("我爱北京。你呢？“好！”他说", "zh", ["我爱北京。", "你呢？", "“好！”", "他说"]),
    (" \n ", "es", []),
])  # fmt: skip
def test_sentences_end_at_their_marks(text: str, language: str, sentences: list[str]) -> None:
    assert [text[start:end] for start, end in split_sentences(text, language)] == sentences


@pytest.mark.parametrize(
    "text", ["a" * 300_000, "." * 300_000, "a.b," * 80_000, "'" * 100_000, "! " * 20_000]
)
def test_strange_text_takes_no_time(text: str) -> None:
    begin = time.monotonic()
    assert "".join(token for token, _, _ in tokenise(text, "es")) == "".join(text.split())
    split_sentences(text, "es")
    assert time.monotonic() - begin < 10
