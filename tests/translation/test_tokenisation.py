"""Tokens and pieces: nothing lost, the same on every machine, damaged files named."""

import itertools
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backattn.common.errors import MissingError, ModelError
from backattn.training.translator.vocabulary import train_vocabulary
from backattn.translation.sentencepieces import SentencePieceModel
from backattn.translation.tokenisation import BpeCodes, detokenise, tokenise
from bounds import bounded
from tiny_translator import TEXT


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vocabulary") / "joint.model"
    train_vocabulary(TEXT, path, 90)
    return path


def test_training_is_deterministic_and_writes_one_file(model: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.model"
    train_vocabulary(iter(TEXT), again, 90)
    assert again.read_bytes() == model.read_bytes()
    assert list(tmp_path.iterdir()) == [again]


def test_names_that_both_sides_write_alike_are_alike(model: Path) -> None:
    vocabulary = SentencePieceModel.load(model)
    pieces = [piece for token in ("Anna", "Weber") for piece in vocabulary.pieces(token)]
    assert vocabulary.words(pieces).texts == ("Anna", "Weber")


def test_every_chinese_character_has_a_piece(tmp_path: Path) -> None:
    lines = [" ".join(chr(0x4E00 + 7 * i + k) for k in range(9)) for i in range(300)]
    train_vocabulary([*lines, *TEXT], tmp_path / "zh.model", 4000)
    vocabulary = SentencePieceModel.load(tmp_path / "zh.model")
    tokens = {token for line in lines for token in line.split()}
    alphabet = {piece.strip("▁") for token in tokens for piece in vocabulary.pieces(token)}
    assert len(tokens & alphabet) > 0.99 * len(tokens)


@given(token=st.text(min_size=1, max_size=8))
def test_every_token_has_pieces(model: Path, token: str) -> None:
    """Whatever the token, a first piece starts a word; normalisation may leave nothing, never no piece."""
    pieces = SentencePieceModel.load(model).pieces(token)
    assert pieces == ["<unk>"] or pieces[0].startswith("▁")


@pytest.mark.parametrize("token", ["\u200b", " ", "\t"])
def test_a_token_that_normalisation_empties_is_unknown(model: Path, token: str) -> None:
    assert SentencePieceModel.load(model).pieces(token) == ["<unk>"]


def test_pieces_are_a_copy(model: Path) -> None:
    vocabulary = SentencePieceModel.load(model)
    vocabulary.pieces("Bremen").clear()
    assert vocabulary.pieces("Bremen")


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"joint\.model: no sentencepiece model.*translator train"):
        SentencePieceModel.load(tmp_path / "joint.model")


@pytest.mark.parametrize("content", [b"", b"no model", b"\x0a\x00" * 40])
def test_a_damaged_model_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "joint.model"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"joint\.model: not a sentencepiece model"):
        SentencePieceModel.load(path)


@pytest.mark.parametrize(("lines", "size"), [([], 90), (TEXT, 10)])
def test_impossible_training_says_why(tmp_path: Path, lines: list[str], size: int) -> None:
    with pytest.raises(ModelError, match=rf"no vocabulary of {size} pieces") as caught:
        train_vocabulary(lines, tmp_path / "joint.model", size)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "joint.model").exists()


@pytest.mark.parametrize(
    ("text", "language", "unit", "tokens"),
    [
        ("Sie sagt: \"Ja & nein\", z.B. in Köln.", "de", "word",
         ["Sie", "sagt", ":", '"', "Ja", "&", "nein", '"', ",", "z.B.", "in", "Köln", "."]),
        ("It's Anna's.", "en", "word", ["It", "'s", "Anna", "'s", "."]),
        ("李明 在\u3000北京 A1", "zh", "character", ["李", "明", "在", "北", "京", "A", "1"]),
        ("  ", "es", "word", []),
    ],
)  # fmt: skip
def test_tokenise(text: str, language: str, unit: str, tokens: list[str]) -> None:
    assert tokenise(text, language, unit) == tokens  # type: ignore[arg-type]


def test_detokenise_undoes_the_english_words() -> None:
    text = "Anna's brother (42) lives in Bremen, doesn't he?"
    assert detokenise(tokenise(text, "en", "word")) == text
    assert detokenise([]) == ""


def bpe_by_brute_force(word: str, codes: list[tuple[str, str]]) -> list[str]:
    """Apply the merges one after the other, each wherever it fits, as the codes were learned."""
    symbols = [*word[:-1], word[-1] + "</w>"]
    while True:
        ranked = [
            (codes.index(pair), place)
            for place, pair in enumerate(itertools.pairwise(symbols))
            if pair in codes
        ]
        if not ranked:
            break
        best = min(ranked)[0]
        place = 0
        while place < len(symbols) - 1:
            if (symbols[place], symbols[place + 1]) == codes[best]:
                symbols[place : place + 2] = ["".join(codes[best])]
            place += 1
    return [f"{s}@@" for s in symbols[:-1]] + [symbols[-1].removesuffix("</w>")]


@given(st.text("ab", min_size=1, max_size=9), st.integers(0, 50))
def test_bpe_equals_brute_force(word: str, seed: int) -> None:
    chance = random.Random(seed)
    symbols = ["a", "b", "a</w>", "b</w>"]
    codes: list[tuple[str, str]] = []
    for _ in range(6):
        pair = (chance.choice([s for s in symbols if "<" not in s]), chance.choice(symbols))
        if pair not in codes:
            codes.append(pair)
            symbols.append("".join(pair))
    assert BpeCodes(codes, "de").pieces(word) == bpe_by_brute_force(word, codes)


def test_bpe_cuts_and_escapes_as_moses_does_and_words_undo_it() -> None:
    codes = BpeCodes([("o", "k</w>"), ("@", "-"), ("@-", "@</w>")], "de")
    assert codes.pieces("ok-ok") == ["ok", "@-@", "ok"]
    assert "".join(codes.pieces("&")).replace("@@", "") == "&amp;"
    assert codes.words(["ok", "@-@", "ok", "&@@", "apos;@@", "s", "&amp;"]).texts == ("ok-ok", "'s", "&")
    assert codes.pieces("\x00") == ["<unk>"]


def test_bpe_files_are_checked(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="bpecodes: no BPE codes"):
        BpeCodes.load(tmp_path / "bpecodes", "de")
    (tmp_path / "bpecodes").write_text(json.dumps({"no": "codes"}), encoding="utf-8")
    with pytest.raises(ModelError, match="bpecodes: expected lines of two symbols and a count"):
        BpeCodes.load(tmp_path / "bpecodes", "de")


def test_long_tokens_are_not_kept(model: Path) -> None:
    """A cache is bounded by its number of tokens; what is no word would make gigabytes of it."""
    for tokenizer in (SentencePieceModel.load(model), BpeCodes([("a", "b")], "de")):
        for number in range(30):
            token = f"{'ab' * 50}{number}"
            assert tokenizer.pieces(token) == tokenizer.pieces(token) != []
        tokenizer.pieces("ab" * 50)
        assert tokenizer._encode.cache_info().currsize == 1


def merged_by_hand(word: str, codes: list[tuple[str, str]]) -> list[str]:
    """BPE as it is published: the best pair of the word is merged from left to right, until there is none."""
    symbols = [*word[:-1], word[-1] + "</w>"]
    ranks = {pair: rank for rank, pair in enumerate(codes)}
    while pairs := [pair for pair in itertools.pairwise(symbols) if pair in ranks]:
        best = min(pairs, key=ranks.__getitem__)
        place = 0
        while place < len(symbols) - 1:
            if (symbols[place], symbols[place + 1]) == best:
                symbols[place : place + 2] = ["".join(best)]
            place += 1
    return symbols


SYMBOLS = st.sampled_from(["a", "b", "ab", "ba", "aa", "aba", "abab", "a</w>", "b</w>", "ab</w>"])


@given(st.text("ab", min_size=1, max_size=20), st.lists(st.tuples(SYMBOLS, SYMBOLS), max_size=12))
def test_the_merges_of_a_word_are_those_of_bpe(word: str, codes: list[tuple[str, str]]) -> None:
    expected = merged_by_hand(word, codes)
    found = BpeCodes(codes, "de")._cut(word)
    assert found == [*(symbol + "@@" for symbol in expected[:-1]), expected[-1].removesuffix("</w>")]


def test_a_long_token_is_cut_in_little_time() -> None:
    generator = random.Random(1)
    letters = "abcdefgh0123"
    codes = [(a, b) for a in letters for b in letters]
    codes += [(a + b, c) for a in letters for b in letters for c in letters]
    token = "".join(generator.choices(letters, k=20_000))
    with bounded():
        pieces = BpeCodes(codes, "de").pieces(token)
    assert "".join(piece.removesuffix("@@") for piece in pieces) == token
