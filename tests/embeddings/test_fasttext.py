"""fastText vectors: every line of a small file against a plain reading of it; what is refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backattn.common.errors import CorpusError, MissingError
from backattn.embeddings import fasttext
from backattn.embeddings.fasttext import FastText
from examples import examples

WORDS = st.text("abAB01é漢\u00a0", min_size=1, max_size=4)


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "toy.vec"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def looked_up(path: Path, token: str) -> list[float]:
    """The rule in plain words, from the whole file: the first spelling that a line has, of its first line."""
    lines = [line.split(" ") for line in path.read_text("utf-8").removesuffix("\n").split("\n")[1:]]
    zeros = "".join("0" if character.isdecimal() else character for character in token)
    for spelling in (token, token.lower(), zeros, zeros.lower()):
        for word, *numbers in lines:
            if word == spelling:
                return [float(number) for number in numbers if number]
    return [0.0, 0.0]


def test_a_token_goes_by_its_best_spelling_and_an_unknown_one_gets_zeros(tmp_path: Path) -> None:
    path = write(tmp_path, "4 2\nHaus 1 2\nhaus 3 4 \n0000 5 6\nÖl 7 -8e-1\n")
    (found, again) = FastText(path).embed([("Haus", "HAUS", "1987", "Öl", "öl"), ("haus",)])
    expected = [[1, 2], [3, 4], [5, 6], [7, -0.8], [0, 0]]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))
    np.testing.assert_array_equal(again, [[3, 4]])
    assert found.dtype == np.float32
    assert FastText(path).width == 2


@given(
    words=st.lists(WORDS, min_size=1, max_size=12),
    sentences=st.lists(st.lists(WORDS, min_size=1), max_size=4),
)
@settings(max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_token_as_a_plain_reading_of_the_file_has_it(
    tmp_path: Path, words: list[str], sentences: list[list[str]]
) -> None:
    lines = [f"{word} {number}.5 {-number} " for number, word in enumerate(words)]
    path = write(tmp_path, "\n".join([f"{len(words)} 2", *lines, ""]))
    texts = [tuple(tokens) for tokens in sentences]
    for found, tokens in zip(FastText(path).embed(texts), texts, strict=True):
        assert found.tolist() == [looked_up(path, token) for token in tokens]


def test_empty_lines_at_the_end_are_no_vectors(tmp_path: Path) -> None:
    (found,) = FastText(write(tmp_path, "2 2\na 1 2\nb 3 4\n\n  \n")).embed([("b", "a")])
    assert found.tolist() == [[3, 4], [1, 2]]


def test_accents_of_their_own_are_found_as_one_with_their_letter(tmp_path: Path) -> None:
    """Files of vectors are NFC; a corpus need not be. A form of its own comes first."""
    path = write(tmp_path, "3 2\ncaf\u00e9 1 2\nCafe\u0301 3 4\ncaf\u00c9 5 6\n")
    (found,) = FastText(path).embed([("cafe\u0301", "CAFE\u0301", "Cafe\u0301", "caf\u00e9", "cafe")])
    assert found.tolist() == [[1, 2], [1, 2], [3, 4], [1, 2], [0, 0]]


def test_words_of_one_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fasttext, "hash", lambda word: len(word) % 2, raising=False)
    path = write(tmp_path, "5 1\na 1\nbb 2\nc 3\na 9\ndd 4\n")
    (found,) = FastText(path).embed([("a", "bb", "c", "dd", "e", "ff")])
    assert found[:, 0].tolist() == [1, 2, 3, 4, 0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected the number and the width of the vectors"),
        ("a 1 2\n", "line 1: expected the number and the width"),
        ("1 -2\na 1 2\n", "line 1: expected the number and the width"),
        ("0 2\n", "line 1: expected the number and the width"),
        (b"\x1f\x8b\x08\x00" * 50, "takes fastText's text or binary format, unpacked"),
        ("3 2\na 1 2\nb 1 2\n", "line 1 promises 3 vectors, but 2 follow; fetch it again"),
        ("1 2\na 1 2\nb 1 2\n", "line 1 promises 1 vectors, but 2 follow; fetch it again"),
        ("2 999999999999\na 1 2\nb 1 2\n", "which the file is too small for"),
        ("2 2\nb 1 2\na 1\n", "line 3: expected 2 numbers, found 1"),
        ("2 2\nb 1 2\na 1 2 3\n", "line 3: expected 2 numbers, found 3"),
        ("2 2\na 1 x\nb 1 2\n", "line 2: expected a word and 2 numbers"),
        ("2 2\na\t1\t2\nb\t1\t2\n", "line 2: expected a word and its numbers with spaces between"),
        ("2 2\na 1 2\n\nb 1 2\n", "line 3: expected a word and its numbers with spaces between"),
        ("2 2\na 1 nan\nb 1 2\n", "line 2: a number is not finite"),
        ("2 2\na 1 1e99\nb 1 2\n", "line 2: a number is not finite"),
    ],
)
def test_what_is_not_fasttext_text_is_refused_with_its_line(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(CorpusError) as caught:
        FastText(path).embed([("a", "b")])
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.vec", tmp_path):
        with pytest.raises(MissingError, match=r"not there; fetch a \.vec or \.bin file"):
            FastText(path)
