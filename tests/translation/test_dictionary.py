"""Translation by a dictionary, against matching by brute force."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backattn.common.errors import CorpusError, MissingError, RecipeError

pytest.importorskip("sacremoses")

from backattn.recipe import DictionaryRecipe
from backattn.translation import dictionary
from backattn.translation.dictionary import DictionaryTranslator
from backattn.translation.tokenisation import split_words

GLOSSES = {"甲": ("one",), "甲乙": ("two", "words"), "乙丙甲": ("three",), "丁丁丁丁": ("never",)}


def brute_force(text: str) -> list[tuple[str, int, bool]]:
    """English words, the length of what each stands for, and whether that is a headword.

    At every place, every headword is tried.
    """
    said: list[tuple[str, int, bool]] = []
    while text:
        found = max((word for word in GLOSSES if text.startswith(word)), key=len, default="")
        english = GLOSSES[found] if found else (text[0],)
        said += [(word, len(found or text[0]), bool(found)) for word in english]
        text = text[len(found or text[0]) :]
    return said


@given(st.text("甲乙丙。", min_size=0, max_size=12))
def test_the_longest_headword_from_the_left_is_said(text: str) -> None:
    (translation,) = DictionaryTranslator(GLOSSES, "zh").translate([tuple(text)])
    expected = brute_force(text)
    assert translation.english == tuple(word.replace("。", ".") for word, *_ in expected)
    assert translation.unknown == sum(length for _, length, known in expected if not known)
    assert translation.attention.shape == (len(text) + 1, len(expected) + 1)
    assert np.allclose(translation.attention.sum(0), 1)  # eq. 2: each English word looks at its own
    for column, (_, length, _) in enumerate(expected):
        looked = np.nonzero(translation.attention[:, column])[0]
        assert len(looked) == length == looked[-1] - looked[0] + 1


WORDS = ["ny", "Ny", "NY", "by", "om", "i"]


@given(st.lists(st.sampled_from(WORDS), max_size=7))
def test_words_are_looked_up_whole_as_they_are_and_then_in_lower_case(tokens: list[str]) -> None:
    glosses = {"ny": ("new",), "Ny": ("Newton",), "ny by": ("new", "town"), "yb": ("no",), "om i by": ("so",)}
    expected: list[str] = []
    unknown, rest = 0, list(tokens)
    while rest:
        for count in (3, 2, 1):
            text = " ".join(rest[:count])
            found = glosses.get(text, glosses.get(text.lower()))
            if found and count <= len(rest):
                break
        else:
            found, unknown = (rest[0],), unknown + 1
        expected += found
        del rest[:count]
    (translation,) = DictionaryTranslator(glosses, "da").translate([tuple(tokens)])
    assert (translation.english, translation.unknown) == (tuple(expected), unknown)


@given(
    st.lists(
        st.sampled_from(["hus", "husene", "HUSET", "Husets", "ene", "by", "byens", "NyE", "x"]), max_size=6
    )
)
def test_endings_are_taken_off_words_without_an_entry(tokens: list[str]) -> None:
    """As if the dictionary had the inflected forms as lines of their own, but for its own headwords."""
    headwords = {
        "hus": ("house",),
        "by": ("town",),
        "ny by": ("new", "town"),
        "byens": ("city's",),
        "ny": ("new",),
    }
    endings = ("ets", "et", "ene", "s", "en", "E")
    lines = dict(headwords)
    for form in ("husene", "huset", "husets"):
        lines[form] = ("house",)
    lines |= {"nye": ("new",), "ny byens": ("new", "town")}
    (expected,) = DictionaryTranslator(lines, "da").translate([tuple(tokens)])
    (found,) = DictionaryTranslator(headwords, "da", endings).translate([tuple(tokens)])
    assert (found.english, found.unknown) == (expected.english, expected.unknown)
    assert np.array_equal(found.attention, expected.attention)


def test_a_text_with_blanks_by_hand() -> None:
    """No words are glued, and none is found in the middle of others."""
    glosses = {"lunedì": ("Monday",), "San Remo": ("Sanremo",), "sindaco": ("mayor",), "asi": ("no",)}
    tokens = ("Lunedì", "il", "SINDACO", "di", "San", "Remo", "ha", "2", "case", ".")
    (translation,) = DictionaryTranslator(glosses, "it").translate([tokens])
    assert translation.english == ("Monday", "il", "mayor", "di", "Sanremo", "ha", "2", "case", ".")
    assert translation.unknown == 6
    assert np.array_equal(translation.attention[4:6, 4], [0.5, 0.5])


def test_words_of_other_scripts_stay_words_within_chinese() -> None:
    glosses = {"月": ("month",), "恤": ("pity",), "T恤": ("T-shirt",), "New York": ("NYC",), "P": ("no",)}
    sentences = [("看", "New", "York", "Times", "2010", "12", "月"), tuple("iPX买T恤AT恤café")]
    first, second = DictionaryTranslator(glosses, "zho").translate(sentences)
    assert first.english == ("看", "NYC", "Times", "2010", "12", "month")
    assert second.english == ("iPX", "买", "T-shirt", "AT", "pity", "café")
    assert (first.unknown, second.unknown) == (4, 10)


@given(st.lists(st.text(st.characters(exclude_categories=["Zs", "Zl", "Zp", "Cc"]), min_size=1, max_size=3)))
def test_any_tokens_give_whole_tokens_and_columns_that_sum_to_one(tokens: list[str]) -> None:
    (translation,) = DictionaryTranslator(GLOSSES, "zh").translate([tuple(tokens)])
    assert all(word and word.split() == [word] for word in translation.english)
    assert np.allclose(translation.attention.sum(0), 1)
    assert (translation.attention[:-1].sum(1) > 0).all()  # no token is left out


@given(st.text("ab cXY Iit's-.,5", min_size=1))
def test_glosses_are_split_as_moses_splits(text: str) -> None:
    assert dictionary._gloss_words(text) == tuple(split_words(text.removeprefix("to "), "en"))


def test_by_hand() -> None:
    translator = DictionaryTranslator({"北京": ("Beijing",), "开心": ("feel", "happy")}, "zh")
    (one, two) = translator.translate([("我", "在", "北", "京"), ("开", "心", "i", "P", "8", "，", "。")])
    assert one.english == ("我", "在", "Beijing")
    expected = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0.5, 0], [0, 0, 0.5, 0], [0, 0, 0, 1]]
    assert np.array_equal(one.attention, np.array(expected, np.float32))
    assert two.english == ("feel", "happy", "iP8", ",", ".")
    assert np.array_equal(two.attention[:, 0], two.attention[:, 1])
    # A headword ends where a token ends: words that are tokens already are matched whole.
    assert translator.translate([("在北", "京")])[0].english == ("在北", "京")
    with pytest.raises(RecipeError, match=r'translator\.kind: "dictionary" has no attention'):
        translator.align([(("a",), ("b",))])


def test_a_dictionary_is_read_with_both_scripts_and_without_surnames(tmp_path: Path) -> None:
    lines = [
        "王 王 [Wang2] /surname Wang/",
        "王 王 [wang2] /king or monarch/best or strongest of its type/",
        "趙 赵 [Zhao4] /surname Zhao/",
        "開心 开心 [kai1 xin1] /to feel happy; to rejoice/to have a great time/",
        "小米 小米 [Xiao3 mi3] /Xiaomi, Chinese electronics company (founded in 2010 [sic])/",
        "個 个 [ge4] /variant of 個|个[ge4]/",
    ]
    (tmp_path / "cedict.u8").write_text("\n".join(lines), encoding="utf-8")
    translator = DictionaryTranslator.load(
        DictionaryRecipe(dictionary=str(tmp_path / "cedict.u8"), source="zh")
    )
    sentences = [tuple(text) for text in ("王赵小米", "趙開心", "开心个")]
    english = [translation.english for translation in translator.translate(sentences)]
    assert english == [
        ("king", "or", "monarch", "Zhao", "Xiaomi"), ("Zhao", "feel", "happy"), ("feel", "happy", "个")
    ]  # fmt: skip
    with pytest.raises(MissingError, match=r"none\.u8: cannot be read .*; put CC-CEDICT \(https:.* there"):
        DictionaryTranslator.load(DictionaryRecipe(dictionary=str(tmp_path / "none.u8"), source="zh"))


def test_a_dictionary_of_two_columns(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    path.write_text("\ufeffby\tto town\n\nNew  York\tNew York\r\n#hashtag\ttag\ntom\t\n", encoding="utf-8")
    (translation,) = DictionaryTranslator.load(DictionaryRecipe(dictionary=str(path), source="da")).translate(
        [("by", "new", "New", "York", "#hashtag", "tom")]
    )
    assert translation.english == ("town", "new", "New", "York", "tag", "tom")
    assert translation.unknown == 2
    for line, message in (
        (
            "by town",
            "is no entry of a dictionary; expected .* or a headword, a tab and its English translation",
        ),
        ("by\tn\ttown", "found 3 columns, expected two: a headword, a tab"),
        ("\ttown", "found 2 columns and no headword, expected two"),
    ):
        path.write_text(f"a\tb\n{line}\n", encoding="utf-8")
        with pytest.raises(CorpusError, match=rf"words\.tsv:2: .*{message}"):
            DictionaryTranslator.load(DictionaryRecipe(dictionary=str(path), source="da"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "deu-eng.dict.dz",
            r"packed by gzip \(a dictionary of dictd\), expected text; convert it to lines of a",
        ),
        ("words.tsv", r"packed by gzip, expected text; give it a name that ends in \.gz, or unpack it"),
    ],
)
def test_a_packed_dictionary_is_named_as_one(tmp_path: Path, name: str, message: str) -> None:
    """dictd's files are gzip with an extra field; the first bytes are those of any."""
    (tmp_path / name).write_bytes(gzip.compress(b"by\ttown\n"))
    with pytest.raises(CorpusError, match=rf"{re.escape(name)}: is {message}"):
        DictionaryTranslator.load(DictionaryRecipe(dictionary=str(tmp_path / name), source="da"))
    (tmp_path / "words.gz").write_bytes(gzip.compress(b"by\ttown\n"))
    translator = DictionaryTranslator.load(
        DictionaryRecipe(dictionary=str(tmp_path / "words.gz"), source="da")
    )
    assert translator.translate([("by",)])[0].english == ("town",)
