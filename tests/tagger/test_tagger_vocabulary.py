"""Words, characters and tags by number, and the reader of given vectors."""

from pathlib import Path

import numpy as np
import pytest

from backattn.corpus import Sentence
from backattn.errors import CorpusError, MissingError
from backattn.tagger.vocabulary import Vocabulary, build_vocabulary, singletons
from backattn.tagger.word_vectors import read_word_vectors

SAMPLE = (
    Sentence(("Haus", "am", "See"), ("O", "O", "S-LOC")),
    Sentence(("am", "7.", "im", "Jahr", "1999"), ("O", "O", "O", "O", "O")),
    Sentence(("Jahr", "1987", "haus"), ("B-PER", "E-PER", "O")),
)


def test_tags_are_complete_for_every_type():
    tags = build_vocabulary(SAMPLE).tags
    assert tags == ("O", "B-LOC", "I-LOC", "E-LOC", "S-LOC", "B-PER", "I-PER", "E-PER", "S-PER")


@pytest.mark.parametrize(
    ("token", "known_as"),
    [("Haus", "Haus"), ("haus", "haus"), ("HAUS", "haus"), ("2024", "0000"), ("1.", "0."), ("Am", "am")],
)
def test_a_token_goes_by_its_best_spelling(token, known_as):
    vocabulary = build_vocabulary(SAMPLE)
    assert vocabulary.words[vocabulary.word(token) - 1] == known_as


def test_other_tokens_are_unknown():
    vocabulary = build_vocabulary(SAMPLE)
    assert [vocabulary.word(token) for token in ("Boot", "20245", "")] == [0, 0, 0]
    assert vocabulary.spell("Süd") == [vocabulary.spell("S")[0], 1, 1]
    assert 0 not in vocabulary.spell("Haus 1 ü")
    with pytest.raises(KeyError):
        vocabulary.tag("S-ORG")


def test_singletons_are_counted_as_looked_up():
    vocabulary = build_vocabulary(SAMPLE)
    once = {
        word
        for word, rare in zip(("", *vocabulary.words), singletons(vocabulary, SAMPLE), strict=True)
        if rare
    }
    assert once == {"Haus", "See", "0.", "im", "haus"}  # the years are one word, seen twice


def test_round_trip_through_json():
    vocabulary = build_vocabulary(SAMPLE)
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary


class TestWordVectors:
    def write(self, folder: Path, text: str) -> Path:
        path = folder / "cc.xx.vec"
        path.write_text(text, encoding="utf-8")
        return path

    def test_reads_only_what_is_wanted(self, tmp_path):
        path = self.write(tmp_path, "4 2\nin 1 2\nÖl 3 4 \nnot read\u00a0x y\nhaus -5e-1 6\n")
        words, vectors = read_word_vectors(path, {"haus", "Öl", "absent"})
        assert words == ("Öl", "haus")
        assert vectors.dtype == np.float32
        assert vectors.tolist() == [[3, 4], [-0.5, 6]]

    def test_nothing_found_keeps_the_width(self, tmp_path):
        words, vectors = read_word_vectors(self.write(tmp_path, "1 3\na 1 2 3\n"), {"b"})
        assert words == ()
        assert vectors.shape == (0, 3)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a 1 2\n", "line 1: expected the number and the width"),
            ("", "line 1: expected the number and the width"),
            ("2 2\na 1 2\nb 1\n", "line 3: expected 2 numbers, found 1"),
            ("1 2\nb 1 x\n", "line 2: expected a word and 2 numbers"),
            ("1 2\nb 1 nan\n", "line 2: a number is not finite"),
            ("3 2\na 1 2\nb 1 2\n", "line 1 promises 3 vectors, but 2 follow"),
        ],
    )
    def test_refuses_with_file_and_line(self, tmp_path, text, message):
        path = self.write(tmp_path, text)
        with pytest.raises(CorpusError, match=message) as caught:
            read_word_vectors(path, {"a", "b"})
        assert str(caught.value).startswith(str(path))

    def test_says_how_to_get_a_missing_file(self, tmp_path):
        with pytest.raises(MissingError, match=r"no word vectors; fetch a \.vec file"):
            read_word_vectors(tmp_path / "none.vec", {"a"})
