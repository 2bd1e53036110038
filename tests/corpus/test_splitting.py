"""One file in three parts: nothing lost, nothing on two sides, the shares that were asked for."""

from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backattn.corpus import Sentence
from backattn.corpus.formats import parse_column_file
from backattn.corpus.splitting import split_sentences, to_columns
from backattn.recipe import ColumnFormat


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


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\t\0\ufeff"), min_size=1)


@given(st.lists(st.lists(words.filter(lambda w: w.strip(" ") and w != "-DOCSTART-"), min_size=1), min_size=1))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_part_is_read_back_as_it_was(tmp_path: Path, drawn: list[list[str]]) -> None:
    """Any token of a corpus: one that looks like a comment, with blanks inside, of invisible characters."""
    sentences = [Sentence(tuple(tokens), ("S-A-B", *["O"] * (len(tokens) - 1))) for tokens in drawn]
    path = tmp_path / "x.tsv"
    path.write_text(to_columns(sentences), "utf-8", newline="")
    found = parse_column_file(path, ColumnFormat(scheme="BIOES", separator="tab"))
    assert list(found.sentences) == sentences
