"""Pieces of raw text and the tokens that they spell, against a reading character by character."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backattn.common.writing import join_unspaced
from backattn.training.translator.vocabulary import train_vocabulary
from backattn.translation.detokenised import RawTextTokenizer, SideVocabulary, align_pieces, overlaps
from backattn.translation.sentencepieces import SentencePieceModel
from backattn.translation.tokenisation import detokenise
from examples import examples
from tiny_marian import CHINESE
from tiny_translator import TEXT


@pytest.fixture(scope="module")
def german(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceModel:
    path = tmp_path_factory.mktemp("german") / "model"
    train_vocabulary(TEXT, path, 150)
    return SentencePieceModel.load(path)


@pytest.fixture(scope="module")
def chinese(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceModel:
    path = tmp_path_factory.mktemp("chinese") / "model"
    train_vocabulary(CHINESE, path, 60)
    return SentencePieceModel.load(path)


def tokenizer_of(source: SentencePieceModel, target: SentencePieceModel, language: str) -> RawTextTokenizer:
    def side(vocabulary: SentencePieceModel, text: tuple[str, ...]) -> SideVocabulary:
        known = sorted({piece for line in text for piece in vocabulary.pieces(line)})
        return SideVocabulary(
            vocabulary, {piece: number for number, piece in enumerate(["<unk>", *known])}, 0
        )

    text = CHINESE if language == "zh" else TEXT
    return RawTextTokenizer(side(source, text), side(target, TEXT), language)


@given(st.lists(st.integers(0, 4)), st.lists(st.integers(0, 9)))
def test_who_spells_what_equals_a_reading_character_by_character(tokens: list[int], cuts: list[int]) -> None:
    """``cuts``: lengths of pieces as far as the text goes; one more piece takes the rest."""
    owner_of = [token for token, length in enumerate(tokens) for _ in range(length)]
    pieces: list[int] = []
    for length in cuts:
        pieces.append(min(length, len(owner_of) - sum(pieces)))
    pieces.append(len(owner_of) - sum(pieces))
    found = overlaps(pieces, tokens)
    start = 0
    for length, owners in zip(pieces, found, strict=True):
        spelled = owner_of[start : start + max(length, 1)]  # of an empty one, where the next character is
        filled = list(dict.fromkeys(spelled))
        assert list(owners) == filled
        start += length


@settings(max_examples=examples(200))
@given(
    tokens=st.lists(
        st.text("abrhein 日ﬁ½\u200b\u0301'\",.▁-", min_size=1, max_size=8), min_size=1, max_size=6
    )
)
def test_every_piece_has_a_token_and_every_token_its_text(
    german: SentencePieceModel, tokens: list[str]
) -> None:
    found = align_pieces(detokenise(tokens, "de"), tokens, german)
    text = "".join(piece.replace("▁", "") for _, piece in found)
    alone = [german.pieces(token) for token in tokens]
    each = ["" if own == ["<unk>"] else "".join(own).replace("▁", "") for own in alone]
    assert text == "".join(each)
    assert all(owners for owners, _ in found) or not text
    assert [min(owners) for owners, _ in found] == sorted(min(owners) for owners, _ in found)
    for number, spelled in enumerate(each):
        mine = "".join(piece.replace("▁", "") for owners, piece in found if number in owners)
        assert spelled in mine
    assert not any(own for own in each) or {n for owners, _ in found for n in owners} >= {
        number for number, spelled in enumerate(each) if spelled
    }


def test_german_is_written_with_spaces_and_cut_as_a_whole(german: SentencePieceModel) -> None:
    tokens = ("am", "Rhein", ",", "an", "der", "Elbe", "!")
    text = "am Rhein, an der Elbe!"
    found = align_pieces(detokenise(tokens, "de"), tokens, german)
    assert [piece for _, piece in found] == german.pieces(text)
    assert [owners for owners, piece in found if piece in (",", "!")] == [(2,), (6,)]


def test_a_chinese_piece_spells_several_characters(
    chinese: SentencePieceModel, german: SentencePieceModel
) -> None:
    tokens = tuple("我们去不来梅")
    (segment,) = tokenizer_of(chinese, german, "zh").encode_source(tokens, 100)
    pieces = chinese.pieces("我们去不来梅")
    assert len(segment.pieces) == len(pieces) < len(tokens)
    assert segment.token_index[pieces.index("不来梅")] == (3, 4, 5)


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_tokens_that_share_a_piece_are_in_one_segment(
    chinese: SentencePieceModel, german: SentencePieceModel, limit: int
) -> None:
    tokenizer, tokens = tokenizer_of(chinese, german, "zh"), tuple("我们住在北京,他在不来梅工作。")
    (whole,) = tokenizer.encode_source(tokens, 1000)
    parts = tokenizer.encode_source(tokens, limit)
    assert [piece for part in parts for piece in part.pieces] == list(whole.pieces)
    assert [owner for part in parts for owner in part.token_index] == list(whole.token_index)
    assert max(len(part.pieces) for part in parts) <= limit


def test_what_normalisation_leaves_nothing_of_is_an_unknown_piece(german: SentencePieceModel) -> None:
    (segment,) = tokenizer_of(german, german, "de").encode_source(("\u200b", "\u200b"), 100)
    assert (segment.pieces, segment.token_index) == ((0,), ((0, 1),))


def test_english_is_read_in_moses_words(german: SentencePieceModel) -> None:
    text = "the old man, Anna, lives in Bremen"
    pieces = german.pieces(text)
    side = SideVocabulary(
        german, {piece: number for number, piece in enumerate(["<unk>", *sorted(set(pieces))])}, 0
    )
    words = RawTextTokenizer(side, side, "de").decode([side.piece_to_id(piece) for piece in pieces])
    assert words.texts == tuple(text.replace(",", " ,").split())
    assert all(isinstance(owner, tuple) and len(owner) == 1 for owner in words.word_index)


def test_a_piece_of_two_words_belongs_to_both_and_a_last_space_to_none(german: SentencePieceModel) -> None:
    names = ["▁it's", ",", "<unk>", "▁", "▁end."]
    target = SideVocabulary(german, {name: number for number, name in enumerate(names)}, 2)
    words = RawTextTokenizer(target, target, "de").decode([0, 1, 3, 2, 4, 3])
    assert words.texts == ("it", "'s", ",", "<unk>", "end", ".")
    assert words.word_index == ((0, 1), (2,), (3,), (3,), (4, 5), 6)


def test_a_word_with_an_unknown_piece_stays_one_word(german: SentencePieceModel) -> None:
    """The whole of it is to become a source token."""
    target = SideVocabulary(german, {"▁M": 0, "<unk>": 1, "ller": 2, "▁lives": 3, ",": 4}, 1)
    words = RawTextTokenizer(target, target, "de").decode([0, 1, 2, 4, 3, 1])
    assert words.texts == ("M<unk>ller", ",", "lives<unk>")
    assert words.word_index == ((0,), (0,), (0,), (1,), (2,), (2,))


@pytest.mark.parametrize(
    "language",
    ["zh", "zh_CN", "zh-Hant", "ja_JP", "th", "zho", "cmn", "cmn_Hans", "ZHO-CN", "yue", "jpn", "tha"],
)
def test_some_languages_are_written_without_spaces(german: SentencePieceModel, language: str) -> None:
    text = tokenizer_of(german, german, language)._text
    assert text(("2", "0", "去", "北")) == "20去北"  # a corpus of characters
    assert (
        text(("去", "San", "Remo", "3", "kg", "2019", "08", "，", "5", "%")) == "去San Remo 3 kg 2019 08，5%"
    )


@pytest.mark.parametrize("language", ["de", "deu", "ger", "de-AT", "ko", "kor"])
def test_other_languages_have_a_space_between_all_words(german: SentencePieceModel, language: str) -> None:
    assert tokenizer_of(german, german, language)._text(("a", "b", "San", "Remo", "!")) == "a b San Remo!"


@pytest.mark.parametrize("code", ["fr", "fra", "fre_FR", "fr-CA"])
def test_a_language_is_known_by_all_of_its_codes(code: str) -> None:
    """In French, Moses joins what follows an apostrophe; a code that it does not know is read as English."""
    assert detokenise(["l'", "île", "est", "là", "!"], code) == "l'île est là !"


@given(st.lists(st.text("a9é中の〇ไขー한ि,", min_size=1, max_size=3), min_size=1, max_size=8))
def test_no_other_text_than_the_tokens_and_blanks_between_words(tokens: list[str]) -> None:
    """A blank stands where two words of scripts with blanks meet, one of them of several characters."""
    spaced = set("a9é한ि")
    expected = tokens[0]
    for left, right in itertools.pairwise(tokens):
        words = {left[-1], right[0]} <= spaced and len(left + right) > 2
        expected += f" {right}" if words else right
    assert join_unspaced(tokens) == expected


def test_what_is_given_has_a_piece_for_each_token(german: SentencePieceModel) -> None:
    """Also where normalisation leaves nothing of one: a column of A without any would be no number."""
    words, pieces = tokenizer_of(german, german, "de").encode_target(
        ("\u200b", "Anna", "\u200b", "lives", "▁")
    )
    assert len(words.word_index) == len(pieces)
    assert {owner for owners in words.word_index for owner in owners} == set(range(5))  # type: ignore[union-attr]
    assert [owners[0] for owners in words.word_index] == sorted(owners[0] for owners in words.word_index)  # type: ignore[index]


def test_nothing_written_is_no_word(german: SentencePieceModel) -> None:
    words = tokenizer_of(german, german, "de").decode([])
    assert (words.texts, words.word_index) == ((), ())
