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
CORPUS = Corpus((ONE, TWO), (TWO,), (ONE,), documents={"train": 3}, orphans={"train": 1}, comments={"dev": 4})


def test_counts_by_hand() -> None:
    train = corpus_statistics(CORPUS).splits["train"]
    assert (train.sentences, train.tokens, train.documents, train.orphans) == (2, 6, 3, 1)
    assert train.entities == {"LOC": 1, "PER": 1}
    assert list(train.tags.items()) == [("O", 3), ("S-LOC", 1), ("B-PER", 1), ("E-PER", 1)]
    assert corpus_statistics(CORPUS).unique == 2


def test_the_table_the_example_and_the_warnings() -> None:
    text = corpus_statistics(CORPUS).to_text()
    table, _, rest = text.partition("\n\n")
    assert table.splitlines() == [
        "                                train          dev         test",
        "sentences                           2            1            1",
        "document separators                 3            0            0",
        "both (as Table 1 counts)            5            1            1",
        "tokens                              6            1            5",
        "longest sentence                    5            1            5",
        "entities                            2            0            2",
        "  LOC                               1            0            1",
        "  PER                               1            0            1",
        "different tags                      4            1            4",
        "  O                                 3            1            2",
        "  S-LOC                             1            0            1",
        "  B-PER                             1            0            1",
        "  E-PER                             1            0            1",
        "I- read as a beginning              1            0            0",
        "numbers                             0            0            0",
        "without an entity          1 (50.0 %)  1 (100.0 %)            0",
        "comments passed over                0            4            0",
        "sentences also in train             0  1 (100.0 %)  1 (100.0 %)",
        "sentences also in dev      1 (50.0 %)            0            0",
        "sentences also in test     1 (50.0 %)            0            0",
        "2 different sentences",
    ]
    assert rest.splitlines()[:7] == [
        "First sentence with an entity (train:1), tags in BIOES (S: a single token; B, I, E: begin, inside "
        "and end of a longer name):",
        "  Ada    B-PER",
        "  Byron  E-PER",
        "  war    O",
        "  in     O",
        "  Bath   S-LOC",
        "Warning: dev: found one sentence (tokens: 1); expected a split of many; has the file lost the empty "
        "lines between sentences, or is it not whole?",
    ]


def test_json_is_plain_and_complete() -> None:
    found = corpus_statistics(CORPUS)
    read = json.loads(json.dumps(found.to_json()))
    assert read["splits"]["test"]["tags"] == {"O": 2, "S-LOC": 1, "B-PER": 1, "E-PER": 1}
    assert list(read["splits"]) == ["train", "dev", "test"]
    assert read["splits"]["train"]["also_in"] == {"dev": 1, "test": 1}
    assert read["splits"]["dev"]["comments"] == 4
    assert read["example"] == {
        "split": "train", "sentence": 1, "tokens": list(ONE.tokens), "tags": list(ONE.tags),
    }  # fmt: skip
    assert read["warnings"] == list(found.warnings)


def test_of_a_long_sentence_the_part_with_the_entity_is_shown() -> None:
    tokens = tuple(f"w{place}" for place in range(1238))
    late = Sentence(tokens, tuple("S-LOC" if place == 1200 else "O" for place in range(1238)))
    lines = corpus_statistics(Corpus((TWO, late), (), ())).to_text().split("\n\n")[1].splitlines()
    assert lines[0].startswith(
        "First sentence with an entity (train:2, 40 of its 1,238 tokens), tags in BIOES ("
    )
    shown = [line.split() for line in lines[1:41]]
    assert [token for token, _ in shown] == list(tokens[1190:1230])
    assert [token for token, tag in shown if tag != "O"] == ["w1200"]


def test_without_an_entity_there_is_no_example() -> None:
    found = corpus_statistics(Corpus((TWO,), (TWO,), (TWO,)))
    assert found.example is None
    assert "\nNo sentence has an entity.\n" in found.to_text()


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


TEXTS = st.lists(st.sampled_from(["a", "7", "b 1,5", "b c", "2-3 x"]), max_size=5)


@given(st.tuples(TEXTS, TEXTS, TEXTS))
def test_numbers_and_sentences_in_two_splits_by_hand(splits: tuple[list[str], ...]) -> None:
    made = [tuple(Sentence(tuple(t.split()), ("O",) * len(t.split())) for t in texts) for texts in splits]
    names = ("train", "dev", "test")
    found = corpus_statistics(Corpus(*made)).splits
    for name, texts in zip(names, splits, strict=True):
        assert found[name].numbers == sum(text.count(n) for text in texts for n in ("7", "1,5", "2-3"))
        assert found[name].without_entity == len(texts)
        others = {other: whole for other, whole in zip(names, splits, strict=True) if other != name}
        assert found[name].also_in == {o: len([t for t in texts if t in w]) for o, w in others.items()}
