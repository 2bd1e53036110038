"""fastText's binary format: against a plain reading of a small file, and what is refused before it costs."""

import struct
import tracemalloc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backattn.common.errors import CorpusError, MissingError
from backattn.embeddings.fasttext import FastText
from backattn.embeddings.fasttext_binary import FastTextBinary, ngram_hashes, open_fasttext
from examples import examples

BUCKETS, SHORTEST, LONGEST = 7, 2, 3
VOCABULARY = ("haus", "Öl", "0000", "caf\u00e9", "</s>", "漢")
TOKENS = st.text("abHaus01é漢Öl", min_size=1, max_size=6)


@dataclass(frozen=True)
class Model:
    """A file, part by part; ``header`` replaces numbers of it by name."""

    words: tuple[str, ...] = VOCABULARY
    width: int = 3
    header: Mapping[str, int] = field(default_factory=dict)
    rows: Mapping[tuple[int, int], float] = field(default_factory=dict)
    keep: int | None = None

    @property
    def matrix(self) -> np.ndarray:
        made = np.random.default_rng(4).normal(size=(len(self.words) + BUCKETS, self.width))
        for place, value in self.rows.items():
            made[place] = value
        return made.astype("<f4")

    def bytes(self) -> bytes:
        matrix, count = self.matrix, len(self.words)
        numbers = {
            "magic": 793712314, "version": 12, "width": self.width, "window": 5, "epochs": 5, "min": 1,
            "negatives": 5, "wordgrams": 1, "loss": 2, "model": 2, "buckets": BUCKETS, "shortest": SHORTEST,
            "longest": LONGEST, "rate": 100, "entries": count, "words": count, "labels": 0, "tokens": 99,
            "pruned": -1, "quantised": 0, "m": matrix.shape[0], "n": matrix.shape[1], **self.header,
        }  # fmt: skip
        values = list(numbers.values())
        parts = [struct.pack("<14id3i2q", *values[:14], 1e-4, *values[14:19])]
        parts += [word.encode() + b"\0" + struct.pack("<qb", 3, 0) for word in self.words]
        parts += [struct.pack("<b2q", *values[19:]), matrix.tobytes()]
        parts += [struct.pack("<b2q", 0, count, self.width), bytes(4 * count * self.width)]
        return b"".join(parts)[: self.keep]

    def write(self, folder: Path) -> Path:
        path = folder / "toy.bin"
        path.write_bytes(self.bytes())
        return path


def grams(token: str) -> Iterator[str]:
    """All n-grams of <token>, character by character; the two marks alone are none."""
    text = f"<{token}>"
    for start in range(len(text)):
        for length in range(SHORTEST, LONGEST + 1):
            if start + length <= len(text):
                yield text[start : start + length]


def fnv(text: str) -> int:
    """FNV-1a with signed bytes, in numpy's 32 bits."""
    hashed = np.uint32(2166136261)
    with np.errstate(over="ignore"):
        for byte in np.frombuffer(text.encode(), np.int8):
            hashed = (hashed ^ byte.astype(np.int32).view(np.uint32)) * np.uint32(16777619)
    return int(hashed)


def expected(token: str, model: Model = Model()) -> np.ndarray:
    """The rule in plain words: of the first spelling that the file has, else of the token's own n-grams."""
    zeros = "".join("0" if character.isdecimal() else character for character in token)
    known = [one for one in (token, token.lower(), zeros, zeros.lower()) if one in model.words]
    word = known[0] if known else token
    own = [model.words.index(word)] if known else []
    found = [] if word == "</s>" else [len(model.words) + fnv(gram) % BUCKETS for gram in grams(word)]
    return model.matrix[[*own, *found]].astype(np.float64).mean(0)


def test_hashes_are_fastTexts() -> None:
    """The published values of FNV-1a, and of signed bytes: "<" and ">" stand around the word."""
    assert list(ngram_hashes(b"a", 3, 3)) == [fnv("<a>")]
    assert [fnv(text) for text in ("", "a", "foobar")] == [0x811C9DC5, 0xE40C292C, 0xBF9CF968]
    assert list(ngram_hashes("漢é".encode(), 1, 2)) == [fnv(gram) for gram in ("<漢", "漢", "漢é", "é", "é>")]
    assert list(ngram_hashes(b"a", 4, 6)) == []


@given(tokens=st.lists(TOKENS | st.sampled_from([*VOCABULARY, "HAUS", "1987", "Haus"]), min_size=1))
@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_token_as_a_plain_reading_has_it(tmp_path: Path, tokens: list[str]) -> None:
    found = open_fasttext(Model().write(tmp_path))
    assert isinstance(found, FastTextBinary)
    assert (found.width, found.opened) == (3, "binary")
    (one, other) = found.embed([tuple(tokens), tuple(reversed(tokens))])
    np.testing.assert_allclose(one, np.stack([expected(token) for token in tokens]), atol=1e-6)
    np.testing.assert_array_equal(other, one[::-1])
    assert one.dtype == np.float32


def test_a_word_without_ngrams_gets_zeros(tmp_path: Path) -> None:
    path = Model(header={"shortest": 50, "longest": 60}).write(tmp_path)
    (found,) = FastTextBinary(path).embed([("unknown", "Öl")])
    assert not found[0].any()
    np.testing.assert_array_equal(found[1], Model().matrix[1])


def test_accents_of_their_own_are_found_as_one_with_their_letter(tmp_path: Path) -> None:
    (found,) = FastTextBinary(Model().write(tmp_path)).embed([("cafe\u0301", "caf\u00e9")])
    np.testing.assert_array_equal(found[0], found[1])


def test_the_first_bytes_tell_the_formats_apart(tmp_path: Path) -> None:
    text = tmp_path / "toy.bin"
    text.write_text("1 2\nHaus 1 2\n")
    assert isinstance(open_fasttext(text), FastText)
    with pytest.raises(MissingError, match=r"not there; fetch a \.vec or \.bin file"):
        open_fasttext(tmp_path / "none.bin")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 13}, "version 13 of fastText's binary format, expected 11 or 12"),
        ({"width": 0}, "its header has width 0, which cannot be"),
        ({"width": -3}, "its header has width -3"),
        ({"width": 2**31 - 1}, "its header has width 2147483647"),
        ({"words": -1}, "its header has words -1"),
        ({"words": 2**31 - 1, "entries": 2**31 - 1}, "its header has words 2147483647"),
        ({"entries": 5}, "its header has entries 5"),
        ({"words": 30, "entries": 30}, "promises 30 words, but there are"),
        ({"buckets": 0}, "its header has buckets 0"),
        ({"buckets": -7}, "its header has buckets -7"),
        ({"buckets": 2**31 - 1}, "its header has buckets 2147483647"),
        ({"longest": 2**30}, "its header has longest n-gram 1073741824"),
        ({"shortest": -1}, "its header has shortest n-gram -1"),
        ({"buckets": 6}, r"rows of shape \(13, 3\), expected \(12, 3\) by its header"),
        ({"m": -13}, r"rows of shape \(-13, 3\)"),
        ({"n": 2**40}, r"rows of shape \(13, 1099511627776\)"),
        ({"labels": 2}, "a fastText classifier, expected a model of word vectors"),
        ({"model": 3}, "a fastText classifier"),
        ({"pruned": 4}, r"a quantised fastText model \(\.ftz\)"),
        ({"quantised": 1}, "a quantised fastText model"),
    ],
)
def test_a_header_that_cannot_be_is_refused(tmp_path: Path, changes: dict[str, int], message: str) -> None:
    path = Model(header=changes).write(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(CorpusError, match=message) as caught:
            open_fasttext(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"{path}: a")


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path: Path) -> None:
    model = Model()
    rows = len(model.bytes()) - 17 - 4 * len(VOCABULARY) * 3  # what follows them is not read
    for keep in range(4, rows, 3):
        with pytest.raises(CorpusError, match="a damaged fastText model: "):
            open_fasttext(replace(model, keep=keep).write(tmp_path))
    open_fasttext(replace(model, keep=rows).write(tmp_path))


def test_words_longer_than_a_block_are_refused_without_reading_on(tmp_path: Path) -> None:
    path = Model(words=("a" * (1 << 17), "b")).write(tmp_path)
    with pytest.raises(CorpusError, match="promises 2 words, but there are 0"):
        open_fasttext(path)
    long = ("a" * 60_000, *(f"w{number}" * 300 for number in range(2000)))  # across blocks
    found = FastTextBinary(Model(words=long).write(tmp_path))
    (rows,) = found.embed([(long[-1],)])
    np.testing.assert_allclose(rows[0], expected(long[-1], Model(words=long)), atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_refused_with_its_word(tmp_path: Path, value: float) -> None:
    path = Model(rows={(0, 1): value}).write(tmp_path)
    (fine,) = FastTextBinary(path).embed([("Öl",)])
    assert np.isfinite(fine).all()
    with pytest.raises(CorpusError, match=r"a number of the vector of 'Haus' is not finite; fetch or train"):
        FastTextBinary(path).embed([("Haus",)])


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = Model().write(tmp_path)
    found = FastTextBinary(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CorpusError, match="it was cut short while it was read"):
        found.embed([("Haus", "Öl", "x")])


def test_a_long_token_costs_no_more_rows_than_there_are(tmp_path: Path) -> None:
    (found,) = FastTextBinary(Model().write(tmp_path)).embed([("ab" * 1_500,)])
    np.testing.assert_allclose(found[0], expected("ab" * 1_500), atol=1e-5)
