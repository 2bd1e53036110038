"""The embedded sample: the same everywhere, readable by the project's own reader, and a fair task."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from backattn.corpus import Corpus, Sentence
from backattn.corpus.formats import read_column_file, read_corpus
from backattn.corpus.spans import spans
from backattn.corpus.statistics_warnings import corpus_warnings, sample_warnings
from backattn.demo.frames import Clause
from backattn.demo.sample import ENGLISH, GERMAN, PARALLEL, write_sample
from backattn.demo.words import EVENTS, NATIONALITIES, NATIONALS, ORGANISATIONS, PLACES, SURNAMES
from backattn.recipe import ColumnFormat, load_recipe

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("cache") / "sample" / "data").folder


def sentences(folder: Path, name: str) -> list[Sentence]:
    return read_column_file(folder / name, ColumnFormat())


def pairs(folder: Path, split: str) -> list[list[str]]:
    lines = (folder / f"parallel.{split}.tsv").read_text("utf-8").splitlines()
    return [line.split("\t") for line in lines]


def name_words(found: list[Sentence]) -> Counter[str]:
    return Counter(t for s in found for span in spans(s.tags) for t in s.tokens[span.start : span.end])


def words(found: list[Sentence]) -> set[str]:
    return {token for sentence in found for token in sentence.tokens}


def test_nothing_about_it_is_unusual(folder: Path) -> None:
    corpus = Corpus(*(tuple(sentences(folder, f"german.{split}")) for split in ("train", "dev", "test")))
    assert corpus_warnings(corpus) == ()
    assert sample_warnings(corpus, [10, 50]) == ()


def test_the_same_bytes_in_another_process(folder: Path, tmp_path: Path) -> None:
    code = "import sys, pathlib, backattn.demo.sample as s; s.write_sample(pathlib.Path(sys.argv[1]))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment)
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in tmp_path.iterdir())
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes()


def test_another_seed_is_another_world(folder: Path, tmp_path: Path) -> None:
    write_sample(tmp_path, seed=2)
    assert (folder / "german.test").read_bytes() != (tmp_path / "german.test").read_bytes()


def test_the_files_hold_what_is_said_of_them(folder: Path) -> None:
    for language, counts in (("german", GERMAN), ("english", ENGLISH)):
        for split, count in counts.items():
            assert len(sentences(folder, f"{language}.{split}")) == count
    for split, count in PARALLEL.items():
        found = pairs(folder, split)
        assert len(found) == count
        assert all(len(pair) == 2 and all(pair) for pair in found)


def test_the_recipe_reads_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKATTN_CACHE", str(folder.parents[1]))
    recipe = load_recipe(str(ROOT / "pipelines" / "sample.toml"))
    corpus = read_corpus(recipe.corpus)
    assert {name: len(split) for name, split in corpus.splits()} == GERMAN
    assert len(corpus.unique) == sum(GERMAN.values())


def test_nothing_that_is_tested_is_trained_on(folder: Path) -> None:
    german = {split: {" ".join(s.tokens) for s in sentences(folder, f"german.{split}")} for split in GERMAN}
    parallel = {split: {pair[0] for pair in pairs(folder, split)} for split in PARALLEL}
    written = {text.replace(" ,", ",").replace(" .", ".").replace(" ?", "?").replace(" :", ":")
               for texts in german.values() for text in texts}  # fmt: skip
    everything = [*german.values(), *parallel.values(), written]
    for number, some in enumerate(everything):
        for others in everything[number + 1 :]:
            assert not some & others
    english = [{" ".join(s.tokens) for s in sentences(folder, f"english.{split}")} for split in ENGLISH]
    assert sum(map(len, english)) == len(set().union(*english)) == sum(ENGLISH.values())


def test_most_names_of_the_test_set_are_known_to_english_alone(folder: Path) -> None:
    tested = name_words(sentences(folder, "german.test"))
    in_training = words(sentences(folder, "german.train"))
    unknown = sum(count for word, count in tested.items() if word not in in_training)
    assert unknown / tested.total() > 0.6
    text = " ".join(german for german, _ in pairs(folder, "train"))
    parallel = set(text.replace(",", "").replace(".", "").split())
    assert sum(count for word, count in tested.items() if word in parallel) / tested.total() > 0.97
    english = name_words(sentences(folder, "english.test"))
    taught = words(sentences(folder, "english.train"))
    assert sum(count for word, count in english.items() if word in taught) / english.total() > 0.97


def test_every_kind_of_name_is_there_and_some_are_names_of_two_kinds(folder: Path) -> None:
    for split in GERMAN:
        kinds = Counter(span.type for s in sentences(folder, f"german.{split}") for span in spans(s.tags))
        assert set(kinds) == {"PER", "LOC", "ORG", "MISC"}
        assert min(kinds.values()) >= 20
    tags: dict[str, set[str]] = {}
    for sentence in sentences(folder, "english.train"):
        for token, tag in zip(sentence.tokens, sentence.tags, strict=True):
            tags.setdefault(token, set()).add(tag.partition("-")[2])
    assert {"PER", "LOC"} <= tags["London"]
    assert {"PER", "ORG"} <= tags["Hartmann"]
    for kind in (SURNAMES, PLACES, ORGANISATIONS, [*EVENTS, *NATIONALITIES, *NATIONALS]):
        assert len({item.german for item in kind}) == len(kind) > 100


def test_german_and_english_differ_in_length_and_order(folder: Path) -> None:
    found = pairs(folder, "train")
    longer = sum(len(german.split()) != len(english.split()) for german, english in found)
    assert longer / len(found) > 0.4
    assert len({len(german.split()) for german, _ in found}) > 12


def test_the_german_verb_stands_second_first_or_last() -> None:
    parting = Clause("human", "ruft", "heute {h:human/acc}", "an-", "calls {h} today")
    assert parting.main() == "{s:human/nom} ruft heute {h:human/acc} an"
    assert parting.inverted() == "ruft {s:human/nom} heute {h:human/acc} an"
    assert parting.subordinate() == "{s:human/nom} heute {h:human/acc} anruft"
    assert Clause("org", "hat", "alles", "verkauft", "").subordinate() == "{s:org/nom} alles verkauft hat"


def test_the_text_is_well_formed(folder: Path) -> None:
    for split in PARALLEL:
        for side in (side for pair in pairs(folder, split) for side in pair):
            assert "{" not in side
            assert "  " not in side
            assert side[0].isupper()
            assert side[-1] in ".?"
            assert " bei dem " not in side
            assert " a a" not in side
