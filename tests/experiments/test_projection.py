"""Zero-shot projection: spans by their properties and by hand, then the command on real stores."""

import itertools
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import users_folder
from backattn.common.errors import CorpusError, MissingError, RecipeError
from backattn.corpus.formats import read_corpus
from backattn.corpus.spans import Span, from_spans, spans
from backattn.english import EnglishReading
from backattn.experiments.projection import project, project_spans
from backattn.features.pipeline import load_translator
from backattn.features.plan import make_plan
from backattn.recipe import load_recipe
from backattn.store import writer
from backattn.store.layout import decode_lines
from backattn.store.reader import StoreReader
from backattn.translation import Translation
from fakes import FakeEnglishTagger
from users_folder import make_home, run


def eye(size: int) -> np.ndarray:
    return np.eye(size, dtype=np.float32)


@st.composite
def entities(draw: st.DrawFn, size: int = 9) -> list[Span]:
    borders = sorted(draw(st.sets(st.integers(0, size), max_size=6)))
    return [Span(a, b, draw(st.sampled_from("XY"))) for a, b in itertools.pairwise(borders)]


@given(entities())
def test_the_identity_keeps_every_entity(found: list[Span]) -> None:
    assert project_spans(eye(9), found) == found


@given(st.permutations(range(9)), st.integers(0, 8))
def test_a_word_goes_where_it_looked(order: list[int], word: int) -> None:
    assert project_spans(eye(9)[order], [Span(word, word + 1, "X")]) == [
        Span(order.index(word), order.index(word) + 1, "X")
    ]


def by_trying_all(votes: Sequence[int]) -> tuple[int, int]:
    """Of all intervals between votes without two places in a row that have none, the one with most votes."""
    best = (0, 0, 0)
    for start, last in itertools.combinations_with_replacement(sorted(set(votes)), 2):
        inside = set(range(start, last + 1))
        if all({place, place + 1} & set(votes) for place in range(start, last)):
            best = max(best, (sum(vote in inside for vote in votes), -start, last + 1))
    return -best[1], best[2]


@given(st.lists(st.integers(0, 11), min_size=1, max_size=9))
def test_the_stretch_with_the_most_votes_is_the_entity(votes: list[int]) -> None:
    found = project_spans(eye(12)[:, votes], [Span(0, len(votes), "X")])
    assert found == [Span(*by_trying_all(votes), "X")]


@given(st.integers(0, 2**32), entities())
def test_any_attention_gives_legal_tags(seed: int, found: list[Span]) -> None:
    attention = np.random.default_rng(seed).random((6, 9), np.float32)
    projected = project_spans(attention, found)
    assert spans(from_spans(projected, 6)) == tuple(projected)
    assert len(projected) <= len(found)
    if found:  # the first one always has its place
        assert found[0].type in {span.type for span in projected}


def test_by_hand() -> None:
    #            Banco de la Nación Juan
    votes = [3, 0, 4, 0]  # National Bank Juan 's
    attention = eye(5)[:, votes]
    assert project_spans(attention, [Span(0, 2, "ORG")]) == [Span(0, 1, "ORG")]  # two stretches, the first
    near = eye(5)[:, [2, 0, 4]]
    both = [Span(0, 2, "ORG"), Span(2, 3, "PER")]
    assert project_spans(near, both) == [Span(0, 3, "ORG"), Span(4, 5, "PER")]  # "de" is bridged
    twice = eye(5)[:, [0, 0]]
    assert project_spans(twice, [Span(0, 1, "LOC"), Span(1, 2, "PER")]) == [Span(0, 1, "LOC")]
    word = np.repeat(eye(2), 3, 0) / 3  # of three characters each
    assert project_spans(word, [Span(1, 2, "LOC")]) == [Span(3, 6, "LOC")]


def test_nothing_to_project() -> None:
    assert project_spans(np.zeros((3, 0), np.float32), []) == []
    assert project_spans(eye(3), []) == []


TABLES = """
[corpus.groups]
NE = ".NAM"
[projection]
types = { PER = "PER.NAM", MISC = "" }
"""
# Dev: one right, one missed. Test: one right, one too many, and a sentence without a translation.
CORPUS = {
    "train": "Anna B-PER.NAM\nsingt O\n",
    "dev": "Anna B-PER.NAM\nWeber I-PER.NAM\nsingt O\n\nben B-PER.NOM\n",
    "test": "Carl B-PER.NAM\nsah O\nNichts O\n7 O\n\nmute O\n",
}


class Copier:
    """Says the sentence backwards and knows where each word came from; the word "mute" alone is nothing."""

    opened = "made up"

    def translate(self, sentences: Sequence[tuple[str, ...]]) -> list[Translation]:
        return [self._one(tokens) for tokens in sentences]

    def _one(self, tokens: tuple[str, ...]) -> Translation:
        if tokens == ("mute",):
            return Translation((), np.ones((2, 1), np.float32) / 2)
        order = [*range(len(tokens) - 1, -1, -1), len(tokens)]
        return Translation(tokens[::-1], eye(len(tokens) + 1)[:, order])


class Capitals(FakeEnglishTagger):
    """Neighbours in capitals are a person; a number is MISC."""

    def read(self, sentences: Sequence[tuple[str, ...]]) -> list[EnglishReading]:
        return [EnglishReading(self._states(tokens), self._tags(tokens)) for tokens in sentences]

    def _tags(self, tokens: tuple[str, ...]) -> tuple[str, ...]:
        found = []
        for capital, group in itertools.groupby(enumerate(tokens), key=lambda item: item[1][0].isupper()):
            places = [place for place, _ in group]
            if capital:
                found.append(Span(places[0], places[-1] + 1, "PER"))
        found += [Span(i, i + 1, "MISC") for i, token in enumerate(tokens) if token.isdecimal()]
        return from_spans(sorted(found), len(tokens))


build_stores = partial(users_folder.build_stores, translator=Copier, tagger=Capitals)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_home(tmp_path, monkeypatch, TABLES, corpus=CORPUS)


def test_the_command_scores_and_writes_predictions(home: Path) -> None:
    build_stores()
    status, out, err = run("project", "toy", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    dev, test = found["dev"], found["test"]
    assert [dev["overall"][key] for key in ("tp", "fp", "fn")] == [1, 0, 1]
    assert [test["overall"][key] for key in ("tp", "fp", "fn")] == [1, 1, 0]
    assert dev["groups"]["NE"]["f1"] == 1
    assert (test["english_entities"], test["placed"]) == (2, 2)  # the number is left out by the recipe
    assert "projected:translator" in test["signature"]
    folder = Path(found["folder"])
    assert folder.parent == Path("cache/toy/projection")
    assert (folder / "predictions.dev.tsv").read_text() == (
        "Anna\tB-PER.NAM\tB-PER.NAM\nWeber\tE-PER.NAM\tE-PER.NAM\nsingt\tO\tO\n\nben\tS-PER.NOM\tO\n"
    )
    assert (folder / "predictions.test.tsv").read_text() == (
        "Carl\tS-PER.NAM\tS-PER.NAM\nsah\tO\tO\nNichts\tO\tS-PER.NAM\n7\tO\tO\n\nmute\tO\tO\n"
    )
    text = run("project", "toy")[1]
    assert "test  all                0.500   1.000   0.667      1" in text
    assert run("project", "toy", "--json")[1] == out


def test_the_diagonal_in_the_place_of_a(home: Path) -> None:
    """The copier turns the sentence round, so the diagonal finds the wrong words."""
    build_stores("transfer.attention=diagonal")
    status, out, _ = run("project", "toy", "--json", "--set", "transfer.attention=diagonal")
    assert status == 0
    assert json.loads(out)["dev"]["overall"]["tp"] == 0
    assert "projected:diagonal" in json.loads(out)["dev"]["signature"]


class Doubtful(Copier):
    """Says the sentence as it is; all look at the first word, the first a little at the second."""

    def _one(self, tokens: tuple[str, ...]) -> Translation:
        attention = np.zeros((len(tokens) + 1, len(tokens) + 1), np.float32)
        attention[0] = 1
        attention[:2, 0] = (0.6, 0.4) if len(tokens) > 1 else (1, 0)
        return Translation(tokens, attention)


def test_what_an_english_word_looked_at_most_does_not_depend_on_rows(home: Path) -> None:
    """Rows that sum to 1 would let the little that the second word has outweigh the first's share."""
    scores = []
    for normalise in ("none", "source"):
        change = f"transfer.normalise={normalise}"
        users_folder.build_stores(change, translator=Doubtful, tagger=Capitals)
        found = json.loads(run("project", "toy", "--json", "--set", change)[1])
        scores.append([found[split]["overall"] for split in ("dev", "test")])
    assert scores[0] == scores[1]
    assert scores[0][1]["tp"] == 1


LINKS = (
    "transfer.attention=links",
    'transfer.links={ path = "pairs", links_path = "links", separator = "|||" }',
)


def test_an_aligners_links_in_the_place_of_a(home: Path) -> None:
    """They say what the copier knows of itself: the same scores, the same T."""
    build_stores()
    expected = json.loads(run("project", "toy", "--json")[1])
    status, pairs, err = run("pairs", "toy")
    assert (status, err) == (0, "")
    assert pairs == (
        "Anna singt ||| singt Anna\nAnna Weber singt ||| singt Weber Anna\nben ||| ben\n"
        "Carl sah Nichts 7 ||| 7 Nichts sah Carl\n"  # the sentence without a translation has no line
    )
    (home / "data/pairs").write_text(pairs)
    sizes = [len(line.split("|||")[0].split()) for line in pairs.splitlines()]
    lines = [" ".join(f"{j}-{m - 1 - j}" for j in range(m)) for m in sizes]
    (home / "data/links").write_text("\n".join(lines) + "\n")

    options = [option for override in LINKS for option in ("--set", override)]
    assert run("check", "toy", *options)[0] == 1
    build_stores(*LINKS)
    found = json.loads(run("project", "toy", "--json", *options)[1])
    assert found.pop("folder") != expected.pop("folder")
    for split in ("dev", "test"):
        assert found[split].pop("signature") != expected[split].pop("signature")
    assert found == expected
    stores = [StoreReader(path) for path in sorted((home / "cache/toy/transfer").glob("*.h5"))]
    assert len(stores) == 2
    for key in stores[0]:
        assert np.array_equal(stores[0][key]["vectors"], stores[1][key]["vectors"])

    # "singt Weber" was never linked: nobody has a vote for the person.
    (home / "data/links").write_text("\n".join(["0-1", "2-0", *lines[2:]]) + "\n")
    assert run("check", "toy", *options)[0] == 1  # other links, another store
    build_stores(*LINKS)
    dev = json.loads(run("project", "toy", "--json", *options)[1])["dev"]
    assert (dev["english_entities"], dev["placed"], dev["overall"]["tp"]) == (1, 0, 0)


def test_links_that_do_not_hold_a_sentence_are_named(home: Path) -> None:
    options = [option for override in LINKS for option in ("--set", override)]
    status, _, err = run("pairs", "toy")
    assert (status, "run `backattn features toy` (with the same --set), then pairs" in err) == (1, True)
    status, _, err = run("check", "toy", *options)
    assert (status, "`backattn pairs toy` prints the pairs for the aligner" in err) == (2, True)
    (home / "data/pairs").write_text("Anna singt ||| singt Anna\n")
    (home / "data/links").write_text("0-1 1-0\n")
    with pytest.raises(
        MissingError, match=r"pairs: no such pair: 'Carl sah Nichts 7' and its present"
    ) as caught:
        build_stores(*LINKS)
    assert "have an aligner link what `backattn pairs` prints now" in str(caught.value)
    (home / "data/links").write_text("0-2\n")
    with pytest.raises(
        CorpusError, match=r"links:1: .* expected 0 to 1; mend the link, or transfer\.links\.f"
    ):
        build_stores(*LINKS)
    status, _, err = run("check", "toy", "--set", "transfer.attention=links")
    assert status == 2
    assert "transfer.attention: 'links' needs a table [transfer.links]; write one" in err


def test_without_a_translation_the_english_tags_are_those_of_the_source(home: Path) -> None:
    copy = ("translator.kind=copy", "transfer.dtype=float32")
    recipe = load_recipe("toy", copy)
    build_stores(*copy, translator=lambda: load_translator(recipe, "cpu"))
    corpus = read_corpus(recipe.corpus)
    plan = make_plan(recipe, corpus)
    assert plan.translation.models == {}
    translations, transfers = StoreReader(plan.translation.path), StoreReader(plan.transfer.path)
    for sentence in plan.transfer.sentences:
        (reading,) = Capitals().read([sentence.tokens])
        assert np.array_equal(transfers[sentence.key]["vectors"], reading.states)
        assert decode_lines(transfers[sentence.key]["english_tags"]) == reading.tags
        assert decode_lines(translations[sentence.key]["english"]) == sentence.tokens
    options = [option for override in copy for option in ("--set", override)]
    dev = json.loads(run("project", "toy", "--json", *options)[1])["dev"]
    assert [dev["overall"][key] for key in ("tp", "fp", "fn")] == [1, 0, 1]
    status, out, _ = run("inspect", "toy", "dev:1", *options)
    assert (status, "Anna" in out) == (0, True)
    with pytest.raises(RecipeError, match=r'translator\.kind: "copy" has no attention'):
        load_translator(recipe, "cpu").align([(("a",), ("b",))])


def test_without_stores_it_says_what_makes_them(home: Path) -> None:
    status, out, err = run("project", "toy")
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert "run `backattn features toy` (with the same --set), then project" in err
    build_stores()
    with (home / "data/toy.train").open("a") as file:
        file.write("\nneu O\n")
    assert run("project", "toy")[0] == 0  # dev and test are there
    with (home / "data/toy.test").open("a") as file:
        file.write("\nneu O\n")
    assert run("project", "toy")[0] == 1


def test_a_translation_store_made_anew_in_other_words_is_noticed(home: Path) -> None:
    build_stores()
    next((home / "cache/toy/translation").glob("*.h5")).unlink()

    class Longer(Copier):
        def _one(self, tokens: tuple[str, ...]) -> Translation:
            return Translation((*tokens, "too"), np.ones((len(tokens) + 1, len(tokens) + 2), np.float32))

    users_folder.build_stores(translator=Longer, tagger=Capitals)
    assert run("check", "toy")[0] == 0
    for command in (["project", "toy"], ["inspect", "toy", "dev:1"]):
        status, _, err = run(*command)
        assert status == 1
        assert "was made from other translations than those in" in err
        assert "delete it, then run `backattn features toy`" in err


def test_a_damaged_store_is_refused(home: Path) -> None:
    build_stores()
    store = next((home / "cache/toy/transfer").glob("*.h5"))
    store.write_bytes(store.read_bytes()[:2000])
    status, _, err = run("project", "toy")
    assert status == 2
    assert "delete it, then `backattn features` makes it anew" in err


@pytest.mark.parametrize("kind", ["translation", "transfer"])
def test_a_damaged_number_is_never_scored(home: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BIG", 1)  # no array is verified on opening, as in a store of gigabytes
    build_stores()
    path = next((home / f"cache/toy/{kind}").glob("*.h5"))
    array = {"translation": "attention", "transfer": "vectors"}[kind]
    data = bytearray(path.read_bytes())
    data[data.index(StoreReader(path)._raw(array).tobytes())] ^= 1
    path.write_bytes(data)
    StoreReader(path)
    status, _, err = run("project", "toy")
    assert status == 2
    assert f"{array} differs from its digest" in err


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ('{ PER = "PER.NAM" }', "finds MISC, which keeps its name, as it is not listed; expected one of"),
        ('{ PER = "PERSON", MISC = "" }', "finds PER, which would be PERSON; expected one of the corpus'"),
        (
            "{}",
            "finds PER, which keeps its name, as it is not listed; expected one of the corpus' types for it",
        ),
    ],
)
def test_a_type_that_the_corpus_does_not_know_is_refused(home: Path, types: str, message: str) -> None:
    build_stores()
    recipe = load_recipe("toy", [f"projection.types={types}"])
    with pytest.raises(RecipeError, match=r"toy: projection\.types: ") as caught:
        project(recipe, read_corpus(recipe.corpus))
    assert message in str(caught.value)


def test_a_type_that_is_not_listed_keeps_its_name(home: Path) -> None:
    build_stores()
    named = 'corpus.format.types={ "PER.NAM" = "PER", "PER.NOM" = "PER.NOM" }'
    found = []
    for types in ('{ MISC = "" }', '{ MISC = "", PER = "PER" }'):
        recipe = load_recipe("toy", [f"projection.types={types}", named])
        found.append(project(recipe, read_corpus(recipe.corpus)).to_json())
    assert found[0] == found[1]
    assert found[0]["test"]["english_entities"] > 0
