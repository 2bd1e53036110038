"""Translation by a dictionary, against matching by brute force."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backattn.common.errors import MissingError, RecipeError

pytest.importorskip("sacremoses")

from backattn.translation import dictionary
from backattn.translation.dictionary import DictionaryTranslator
from backattn.translation.tokenisation import split_words

GLOSSES = {"a": ("one",), "ab": ("two", "words"), "bca": ("three",), "zzzz": ("never",)}


def brute_force(text: str) -> list[tuple[str, int]]:
    """English words and the length of what each stands for: at every place, every headword is tried."""
    said: list[tuple[str, int]] = []
    while text:
        found = max((word for word in GLOSSES if text.startswith(word)), key=len, default="")
        english = GLOSSES[found] if found else (text[0],)
        said += [(word, len(found or text[0])) for word in english]
        text = text[len(found or text[0]) :]
    return said


@given(st.text("abc。é", min_size=0, max_size=12))
def test_the_longest_headword_from_the_left_is_said(text: str) -> None:
    glosses = {**GLOSSES, "b": ("b",), "c": ("c",)}  # so that no letters stand together as one word
    (translation,) = DictionaryTranslator(glosses).translate([tuple(text)])
    expected = brute_force(text)
    assert translation.english == tuple(word.replace("。", ".") for word, _ in expected)
    assert translation.attention.shape == (len(text) + 1, len(expected) + 1)
    assert np.allclose(translation.attention.sum(0), 1)  # eq. 2: each English word looks at its own
    for column, (_, length) in enumerate(expected):
        looked = np.nonzero(translation.attention[:, column])[0]
        assert len(looked) == length == looked[-1] - looked[0] + 1


@given(st.lists(st.text(st.characters(exclude_categories=["Zs", "Zl", "Zp", "Cc"]), min_size=1, max_size=3)))
def test_any_tokens_give_whole_tokens_and_columns_that_sum_to_one(tokens: list[str]) -> None:
    (translation,) = DictionaryTranslator(GLOSSES).translate([tuple(tokens)])
    assert all(word and word.split() == [word] for word in translation.english)
    assert np.allclose(translation.attention.sum(0), 1)
    assert (translation.attention[:-1].sum(1) > 0).all()  # no token is left out


@given(st.text("ab cXY Iit's-.,5", min_size=1))
def test_glosses_are_split_as_moses_splits(text: str) -> None:
    assert dictionary._gloss_words(text) == tuple(split_words(text.removeprefix("to "), "en"))


def test_by_hand() -> None:
    translator = DictionaryTranslator({"北京": ("Beijing",), "开心": ("feel", "happy")})
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
    translator = DictionaryTranslator.load(str(tmp_path / "cedict.u8"))
    sentences = [tuple(text) for text in ("王赵小米", "趙開心", "开心个")]
    english = [translation.english for translation in translator.translate(sentences)]
    assert english == [
        ("king", "or", "monarch", "Zhao", "Xiaomi"), ("Zhao", "feel", "happy"), ("feel", "happy", "个")
    ]  # fmt: skip
    with pytest.raises(MissingError, match=r"none\.u8: cannot be read .*; put CC-CEDICT \(https:.* there"):
        DictionaryTranslator.load(str(tmp_path / "none.u8"))
