"""One file in three parts: nothing lost, nothing on two sides, the shares that were asked for."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from backattn.corpus import Sentence
from backattn.corpus.splitting import split_lines, split_sentences


def sentence(word: str) -> Sentence:
    return Sentence((word, "x"), ("S-PER", "O"))


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3)), min_size=1, max_size=80),
    st.sampled_from([(80, 10, 10), (98, 1, 1), (34, 33, 33)]),
)
@settings(max_examples=30, deadline=None)
def test_each_sentence_is_in_one_part_and_its_equals_too(
    drawn: list[tuple[int, int]], percents: tuple[int, int, int]
) -> None:
    sentences = [sentence(str(word)) for word, _ in drawn]
    documents = [number // 3 for number in range(len(drawn))]
    found = split_sentences(sentences, documents, percents)
    assert split_sentences(sentences, documents, percents) == found
    parts = list(found.splits.values())
    assert Counter(s.key for part in parts for s in part) == Counter(s.key for s in sentences)
    keys = [{s.key for s in part} for part in parts]
    assert len(set().union(*keys)) == sum(map(len, keys))
    for part in parts:  # in the order of the file
        places = iter(sentences)
        assert all(s in places for s in part)


def test_the_shares_are_those_asked_for() -> None:
    found = split_sentences([sentence(str(n)) for n in range(1000)], [0] * 1000, (80, 10, 10))
    assert {name: len(part) for name, part in found.splits.items()} == {"train": 800, "dev": 100, "test": 100}
    assert not found.by_documents


def test_documents_stay_whole_unless_equal_sentences_bind_them() -> None:
    documents = [n // 5 for n in range(500)]
    apart = [sentence(str(n)) for n in range(500)]
    found = split_sentences(apart, documents, (80, 10, 10))
    of = {s.key: document for s, document in zip(apart, documents, strict=True)}
    sides = [{of[s.key] for s in part} for part in found.splits.values()]
    assert found.by_documents
    assert sum(map(len, sides)) == 100
    assert {name: len(part) for name, part in found.splits.items()} == {"train": 400, "dev": 50, "test": 50}
    # Each document begins alike: by documents, all would be one group.
    bound = [sentence("EFE") if n % 5 == 0 else s for n, s in enumerate(apart)]
    found = split_sentences(bound, documents, (80, 10, 10))
    assert not found.by_documents
    assert sum(sentence("EFE") in part for part in found.splits.values()) == 1


LINES = st.lists(st.text("ab\u2028\r #\t", max_size=4), max_size=12)


@given(LINES, st.data())
def test_the_lines_of_the_parts_are_those_of_the_file(drawn: list[str], data: st.DataObject) -> None:
    """Each line is once in one part, in its order; all before the end of a sentence goes where that goes."""
    lines = [f"{number}{line}\n" for number, line in enumerate(drawn)]
    ends = sorted(data.draw(st.lists(st.integers(1, max(1, len(lines))), max_size=6)))
    part_of = [data.draw(st.integers(0, 2)) for _ in ends]
    texts = split_lines(lines, ends, part_of)
    of_line = [
        next((part for end, part in zip(ends, part_of, strict=True) if number < end), None)
        for number in range(len(lines))
    ]
    for part, text in enumerate(texts):
        assert text == "".join(line for line, own in zip(lines, of_line, strict=True) if own == part)


def test_sentences_of_one_line_stay_together() -> None:
    sentences = [sentence(str(n)) for n in range(300)]
    ends = [n // 3 + 1 for n in range(300)]
    found = split_sentences(sentences, [0] * 300, (80, 10, 10), ends)
    assert len({(end, part) for end, part in zip(ends, found.part_of, strict=True)}) == 100
