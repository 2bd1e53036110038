"""Table 1: counted by hand, and against a plain recount of random sentences."""

import json
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from seqeval.scheme import IOBES, Entities

from backattn.corpus import Corpus, Sentence
from backattn.corpus.spans import Span, from_spans
from backattn.corpus.statistics import corpus_statistics

ONE = Sentence(("Ada", "Byron", "war", "in", "Bath"), ("B-PER", "E-PER", "O", "O", "S-LOC"))
TWO = Sentence(("Nein",), ("O",))
CORPUS = Corpus((ONE, TWO), (TWO,), (ONE,), documents={"train": 3}, orphans={"train": 1})


def test_counts_by_hand() -> None:
    train = corpus_statistics(CORPUS).splits["train"]
    assert (train.sentences, train.tokens, train.documents, train.orphans) == (2, 6, 3, 1)
    assert train.entities == {"LOC": 1, "PER": 1}
    assert list(train.tags.items()) == [("O", 3), ("S-LOC", 1), ("B-PER", 1), ("E-PER", 1)]
    assert corpus_statistics(CORPUS).unique == 2


def test_the_table() -> None:
    assert corpus_statistics(CORPUS).to_text().splitlines() == [
        "                          train    dev   test",
        "sentences                     2      1      1",
        "document separators           3      0      0",
        "both (as Table 1 counts)      5      1      1",
        "tokens                        6      1      5",
        "longest sentence              5      1      5",
        "entities                      2      0      2",
        "  LOC                         1      0      1",
        "  PER                         1      0      1",
        "different tags                4      1      4",
        "  O                           3      1      2",
        "  S-LOC                       1      0      1",
        "  B-PER                       1      0      1",
        "  E-PER                       1      0      1",
        "I- read as a beginning        1      0      0",
        "sentences also in train       0      1      1",
        "2 different sentences",
    ]


def test_json_is_plain_and_complete() -> None:
    read = json.loads(json.dumps(corpus_statistics(CORPUS).to_json()))
    assert read["splits"]["test"]["tags"] == {"O": 2, "S-LOC": 1, "B-PER": 1, "E-PER": 1}
    assert list(read["splits"]) == ["train", "dev", "test"]


@st.composite
def tagged(draw: st.DrawFn) -> Sentence:
    length = draw(st.integers(1, 8))
    cuts = sorted(draw(st.sets(st.integers(0, length), max_size=4)))
    kinds = draw(st.lists(st.sampled_from(["", "A", "B"]), min_size=len(cuts), max_size=len(cuts)))
    bounds = zip(cuts, cuts[1:], kinds, strict=False)
    entities = [Span(start, end, kind) for start, end, kind in bounds if kind]
    return Sentence(tuple("w" * length), from_spans(entities, length))


@given(st.lists(tagged(), max_size=6))
def test_entities_are_those_of_seqeval(sentences: list[Sentence]) -> None:
    counted = corpus_statistics(Corpus(tuple(sentences), (), ())).splits["train"]
    found = Entities([list(sentence.tags) for sentence in sentences], IOBES).entities if sentences else []
    assert counted.entities == Counter(entity.tag for row in found for entity in row)
    assert sum(counted.tags.values()) == counted.tokens == sum(map(len, sentences))
