"""Words, characters and tags by number."""

import pytest

from backattn.corpus import Sentence
from backattn.tagger.vocabulary import TaggerVocabulary, build_vocabulary, singletons

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
    assert TaggerVocabulary.from_json(vocabulary.to_json()) == vocabulary
